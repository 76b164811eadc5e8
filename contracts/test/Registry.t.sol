// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Market} from "./base/Market.sol";
import {TokenHolder} from "./base/Actors.sol";
import {IRegistry, IAppRegistry, IDatasetRegistry, IWorkerpoolRegistry} from "../src/interfaces/IRegistry.sol";
import {IAsset, IApp, IDataset, IWorkerpool} from "../src/interfaces/IAssets.sol";
import {AppRegistry} from "../src/registry/AppRegistry.sol";
import {WorkerpoolRegistry} from "../src/registry/WorkerpoolRegistry.sol";
import {AppInfo, DatasetInfo, WorkerpoolInfo} from "../src/types/Views.sol";
import {Vm} from "./base/Vm.sol";

/// Assets: creation, prediction, metadata, policies; and the tokens that own them.
contract RegistryTest is Market {
    // ---- assets

    function test_an_app_has_its_metadata_and_its_predicted_address() public {
        address want = apps.predictApp(stranger, "name", "DOCKER", "multi", keccak256("sum"), "enclave");
        vm.recordLogs();
        address made = apps.createApp(stranger, "name", "DOCKER", "multi", keccak256("sum"), "enclave");
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(made, want, "predicted");
        eq(logs.length, 1, "one event");
        eq(logs[0].topics[0], keccak256("Transfer(address,address,uint256)"), "transfer");
        eq(logs[0].topics[3], bytes32(uint256(uint160(made))), "token id");
        AppInfo memory info = hub.viewApp(made);
        eq(info.owner, stranger, "owner");
        eq(info.m_appName, "name", "name");
        eq(info.m_appType, "DOCKER", "type");
        eq(info.m_appMultiaddr, "multi", "multiaddr");
        eq(info.m_appChecksum, keccak256("sum"), "checksum");
        eq(info.m_appMREnclave, "enclave", "mrenclave");
        eq(IAsset(made).registry(), address(apps), "registry");
        check(apps.isRegistered(made), "registered");
        bytes memory again =
            abi.encodeCall(IAppRegistry.createApp, (stranger, "name", "DOCKER", "multi", keccak256("sum"), "enclave"));
        reverts(stranger, address(apps), again, text("Create2: Failed on deploy"), "twice");
        again = abi.encodeCall(IAppRegistry.createApp, (address(0), "", "", "", 0, ""));
        bytes memory reason = abi.encodeWithSelector(IRegistry.ERC721InvalidReceiver.selector, address(0));
        reverts(stranger, address(apps), again, reason, "nobody's app");
    }

    function test_a_dataset_and_a_pool_have_theirs() public {
        address want = datasets.predictDataset(stranger, "data", "multi", keccak256("sum"));
        eq(datasets.createDataset(stranger, "data", "multi", keccak256("sum")), want, "dataset");
        DatasetInfo memory d = hub.viewDataset(want);
        eq(d.owner, stranger, "owner");
        eq(d.m_datasetName, "data", "name");
        eq(d.m_datasetMultiaddr, "multi", "multiaddr");
        eq(d.m_datasetChecksum, keccak256("sum"), "checksum");

        want = pools.predictWorkerpool(stranger, "pool");
        eq(pools.createWorkerpool(stranger, "pool"), want, "pool");
        WorkerpoolInfo memory w = hub.viewWorkerpool(want);
        eq(w.owner, stranger, "owner");
        eq(w.m_workerpoolDescription, "pool", "description");
        eq(w.m_workerStakeRatioPolicy, 30, "stake");
        eq(w.m_schedulerRewardRatioPolicy, 1, "reward");
        bytes memory again = abi.encodeCall(IDatasetRegistry.createDataset, (stranger, "data", "multi", keccak256("sum")));
        reverts(stranger, address(datasets), again, text("Create2: Failed on deploy"), "dataset twice");
        again = abi.encodeCall(IWorkerpoolRegistry.createWorkerpool, (stranger, "pool"));
        reverts(stranger, address(pools), again, text("Create2: Failed on deploy"), "pool twice");
    }

    function testFuzz_metadata(string memory a, string memory b, bytes memory c, bytes32 d, bytes memory e) public {
        address made = apps.predictApp(stranger, a, b, c, d, e);
        eq(apps.createApp(stranger, a, b, c, d, e), made, "predicted");
        eq(IApp(made).m_appName(), a, "name");
        eq(IApp(made).m_appType(), b, "type");
        eq(IApp(made).m_appMultiaddr(), c, "multiaddr");
        eq(IApp(made).m_appChecksum(), d, "checksum");
        eq(IApp(made).m_appMREnclave(), e, "mrenclave");
        eq(IApp(made).owner(), stranger, "owner");
        made = datasets.createDataset(stranger, a, c, d);
        eq(IDataset(made).m_datasetName(), a, "name");
        eq(IDataset(made).m_datasetMultiaddr(), c, "multiaddr");
        eq(IDataset(made).m_datasetChecksum(), d, "checksum");
        made = pools.createWorkerpool(stranger, b);
        eq(IWorkerpool(made).m_workerpoolDescription(), b, "description");
    }

    function test_metadata_up_to_the_size_of_a_contract() public {
        bytes memory largest = new bytes(24576 - 45 - 10 - 32);
        address made = apps.createApp(stranger, "", "", largest, 0, "");
        eq(made.code.length, 24576, "size");
        eq(IApp(made).m_appMultiaddr(), largest, "multiaddr");
        bytes memory data = abi.encodeCall(IAppRegistry.createApp, (stranger, "a", "", largest, 0, ""));
        bytes memory reason = abi.encodeWithSelector(IRegistry.MetadataTooLong.selector, 24576 - 45 + 1, 24576 - 45);
        reverts(stranger, address(apps), data, reason, "one byte more");
        data = abi.encodeCall(IAppRegistry.createApp, (stranger, "", "", new bytes(65536), 0, ""));
        reason = abi.encodeWithSelector(IRegistry.MetadataTooLong.selector, 65536, 24576 - 45);
        reverts(stranger, address(apps), data, reason, "a length beyond two bytes");
    }

    function test_policies_change_by_the_owner_only() public {
        IWorkerpool w = IWorkerpool(pool);
        bytes memory change = abi.encodeCall(IWorkerpool.changePolicy, (50, 101));
        reverts(stranger, pool, change, text("caller is not the owner"), "stranger");
        reverts(poolOwner, pool, change, "", "above 100 %");
        vm.recordLogs();
        vm.prank(poolOwner);
        w.changePolicy(50, 100);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs[0].topics[0], 0x61f37ef3a6d587ce2d6be79492e1fac570f2745787015db7ed95ad4397b05c1e, "event");
        eq(logs[0].data, abi.encode(30, 50, 1, 100), "old and new");
        eq(w.m_workerStakeRatioPolicy(), 50, "stake");
        eq(w.m_schedulerRewardRatioPolicy(), 100, "reward");
        change = abi.encodeCall(IWorkerpool.changePolicy, (uint256(type(uint40).max) + 1, 1));
        bytes memory reason = abi.encodeWithSelector(
            WorkerpoolRegistry.StakeRatioTooHigh.selector, uint256(type(uint40).max) + 1, type(uint40).max
        );
        reverts(poolOwner, pool, change, reason, "stake above 40 bits");
        bytes memory direct = abi.encodeCall(IWorkerpoolRegistry.setPolicy, (1, 1));
        reason = abi.encodeWithSelector(IRegistry.ERC721NonexistentToken.selector, uint160(stranger));
        reverts(stranger, address(pools), direct, reason, "only pools set their policy");
    }

    function testFuzz_policy(uint40 stake, uint8 reward) public {
        reward = uint8(bound(reward, 0, 100));
        vm.prank(poolOwner);
        IWorkerpool(pool).changePolicy(stake, reward);
        eq(IWorkerpool(pool).m_workerStakeRatioPolicy(), stake, "stake");
        eq(IWorkerpool(pool).m_schedulerRewardRatioPolicy(), reward, "reward");
        vm.prank(poolOwner);
        pools.transferFrom(poolOwner, stranger, uint160(pool));
        eq(IWorkerpool(pool).m_workerStakeRatioPolicy(), stake, "stays with the pool");
        eq(IWorkerpool(pool).owner(), stranger, "new owner");
    }

    function test_names_are_not_supported() public {
        bytes memory data = abi.encodeCall(IAsset.setName, (address(1), "x"));
        reverts(stranger, app, data, text("caller is not the owner"), "asset, stranger");
        reverts(appOwner, app, data, text("Operation not supported on this chain"), "asset");
        reverts(stranger, address(apps), data, text("Ownable: caller is not the owner"), "registry, stranger");
        reverts(address(this), address(apps), data, text("Operation not supported on this chain"), "registry");
    }

    // ---- registry

    function test_initialize_once_by_the_owner() public {
        AppRegistry fresh = new AppRegistry(address(this));
        check(!fresh.initialized(), "fresh");
        bytes memory data = abi.encodeCall(IRegistry.initialize, (address(apps)));
        reverts(stranger, address(fresh), data, text("Ownable: caller is not the owner"), "stranger");
        fresh.initialize(address(apps));
        check(fresh.initialized(), "initialized");
        eq(fresh.previous(), address(apps), "previous");
        check(fresh.isRegistered(app), "assets of the previous one");
        check(!fresh.isRegistered(stranger), "not everything");
        reverts(address(this), address(fresh), data, "", "twice");
    }

    function test_uri_and_names() public {
        eq(apps.name(), "iExec Application Registry (V5)", "name");
        eq(datasets.name(), "iExec Dataset Registry (V5)", "name");
        eq(pools.name(), "iExec Workerpool Registry (V5)", "name");
        eq(apps.symbol(), "iExecAppsV5", "symbol");
        eq(datasets.symbol(), "iExecDatasetsV5", "symbol");
        eq(pools.symbol(), "iExecWorkerpoolV5", "symbol");
        eq(apps.tokenURI(uint160(app)), "", "no base");
        bytes memory data = abi.encodeCall(IRegistry.setBaseURI, ("https://x/"));
        reverts(stranger, address(apps), data, text("Ownable: caller is not the owner"), "stranger");
        apps.setBaseURI("https://x/");
        eq(apps.baseURI(), "https://x/", "base");
        eq(apps.tokenURI(uint160(app)), string.concat("https://x/", vm.toString(uint256(uint160(app)))), "uri");
        data = abi.encodeCall(IRegistry.tokenURI, (5));
        reverts(stranger, address(apps), data, missing(5), "no token");
        eq(apps.proxyCodeHash(), keccak256(apps.proxyCode()), "code hash");
        bytes memory head = app.code;
        assembly {
            mstore(head, 45)
        }
        eq(head, apps.proxyCode(), "an asset starts with the proxy's code");
    }

    function test_ownership_of_a_registry() public {
        bytes memory data = abi.encodeCall(IRegistry.transferOwnership, (stranger));
        reverts(stranger, address(apps), data, text("Ownable: caller is not the owner"), "stranger");
        bytes memory zero = abi.encodeWithSelector(IRegistry.OwnableInvalidOwner.selector, address(0));
        reverts(address(this), address(apps), abi.encodeCall(IRegistry.transferOwnership, (address(0))), zero, "zero");
        apps.transferOwnership(stranger);
        eq(apps.owner(), stranger, "owner");
        data = abi.encodeCall(IRegistry.renounceOwnership, ());
        reverts(address(this), address(apps), data, text("Ownable: caller is not the owner"), "no longer");
        vm.prank(stranger);
        apps.renounceOwnership();
        eq(apps.owner(), address(0), "nobody");
    }

    // ---- tokens

    function missing(uint256 id) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IRegistry.ERC721NonexistentToken.selector, id);
    }

    function test_transfers_and_approvals() public {
        uint256 id = uint160(app);
        bytes memory take = abi.encodeWithSignature("transferFrom(address,address,uint256)", appOwner, stranger, id);
        bytes memory reason = abi.encodeWithSelector(IRegistry.ERC721InsufficientApproval.selector, stranger, id);
        reverts(stranger, address(apps), take, reason, "not approved");
        bytes memory approve = abi.encodeCall(IRegistry.approve, (stranger, id));
        reason = abi.encodeWithSelector(IRegistry.ERC721InvalidApprover.selector, stranger);
        reverts(stranger, address(apps), approve, reason, "approves itself");
        vm.prank(appOwner);
        apps.approve(stranger, id);
        eq(apps.getApproved(id), stranger, "approved");
        vm.prank(stranger);
        apps.transferFrom(appOwner, stranger, id);
        eq(apps.ownerOf(id), stranger, "moved");
        eq(apps.getApproved(id), address(0), "approval is used up");
        vm.prank(stranger);
        apps.setApprovalForAll(appOwner, true);
        check(apps.isApprovedForAll(stranger, appOwner), "operator");
        bytes memory wrong = abi.encodeWithSignature("transferFrom(address,address,uint256)", appOwner, stranger, id);
        reason = abi.encodeWithSelector(IRegistry.ERC721IncorrectOwner.selector, appOwner, id, stranger);
        reverts(appOwner, address(apps), wrong, reason, "wrong owner");
        vm.prank(appOwner);
        apps.safeTransferFrom(stranger, appOwner, id);
        eq(IApp(app).owner(), appOwner, "back");
        bytes memory zero = abi.encodeWithSignature("transferFrom(address,address,uint256)", appOwner, address(0), id);
        reason = abi.encodeWithSelector(IRegistry.ERC721InvalidReceiver.selector, address(0));
        reverts(appOwner, address(apps), zero, reason, "to zero");
        reverts(stranger, address(apps), abi.encodeCall(IRegistry.ownerOf, (9)), missing(9), "no such token");
        bytes memory none = abi.encodeWithSignature("transferFrom(address,address,uint256)", appOwner, stranger, 9);
        reverts(appOwner, address(apps), none, missing(9), "move nothing");
        reverts(appOwner, address(apps), abi.encodeCall(IRegistry.getApproved, (9)), missing(9), "approved nothing");
        reverts(appOwner, address(apps), abi.encodeCall(IRegistry.approve, (stranger, 9)), missing(9), "approve nothing");
        bytes memory operator = abi.encodeCall(IRegistry.setApprovalForAll, (address(0), true));
        reason = abi.encodeWithSelector(IRegistry.ERC721InvalidOperator.selector, address(0));
        reverts(appOwner, address(apps), operator, reason, "operator zero");
    }

    function test_safe_transfer_asks_contracts() public {
        uint256 id = uint160(app);
        address refuses = address(new TokenHolder(bytes4(0)));
        address reasons = address(new TokenHolder(0xdeadbeef));
        address accepts = address(new TokenHolder(0x150b7a02));
        bytes memory invalid = abi.encodeWithSelector(IRegistry.ERC721InvalidReceiver.selector, refuses);
        reverts(appOwner, address(apps), safe(refuses, id), invalid, "wrong answer");
        reverts(appOwner, address(apps), safe(reasons, id), text("no thanks"), "its reason");
        invalid = abi.encodeWithSelector(IRegistry.ERC721InvalidReceiver.selector, address(hub.token()));
        reverts(appOwner, address(apps), safe(address(rlc), id), invalid, "no answer");
        vm.prank(appOwner);
        apps.safeTransferFrom(appOwner, accepts, id, "data");
        eq(apps.ownerOf(id), accepts, "moved");
    }

    function safe(address to, uint256 id) internal view returns (bytes memory) {
        return abi.encodeWithSignature("safeTransferFrom(address,address,uint256)", appOwner, to, id);
    }

    /// Moves tokens around at random: every list stays complete and without doubles.
    function testFuzz_enumeration(uint256 seed) public {
        address[3] memory owners = [appOwner, stranger, requester];
        for (uint256 i = 0; i < 5; ++i) {
            apps.createApp(owners[i % 3], vm.toString(i), "", "", 0, "");
        }
        uint256 all = apps.totalSupply();
        for (uint256 i = 0; i < 12; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            uint256 id = apps.tokenByIndex(seed % all);
            address from = apps.ownerOf(id);
            vm.prank(from);
            apps.transferFrom(from, owners[(seed >> 8) % 3], id);
        }
        uint256 counted;
        for (uint256 i = 0; i < 3; ++i) {
            uint256 n = apps.balanceOf(owners[i]);
            for (uint256 j = 0; j < n; ++j) {
                eq(apps.ownerOf(apps.tokenOfOwnerByIndex(owners[i], j)), owners[i], "listed under its owner");
                for (uint256 k = 0; k < j; ++k) {
                    check(
                        apps.tokenOfOwnerByIndex(owners[i], j) != apps.tokenOfOwnerByIndex(owners[i], k), "no doubles"
                    );
                }
            }
            bytes memory reason = abi.encodeWithSelector(IRegistry.ERC721OutOfBoundsIndex.selector, owners[i], n);
            bytes memory data = abi.encodeCall(IRegistry.tokenOfOwnerByIndex, (owners[i], n));
            reverts(stranger, address(apps), data, reason, "beyond the end");
            counted += n;
        }
        eq(counted, all, "all are listed");
        bytes memory out = abi.encodeWithSelector(IRegistry.ERC721OutOfBoundsIndex.selector, address(0), all);
        reverts(stranger, address(apps), abi.encodeCall(IRegistry.tokenByIndex, (all)), out, "beyond all");
        out = abi.encodeWithSelector(IRegistry.ERC721InvalidOwner.selector, address(0));
        reverts(stranger, address(apps), abi.encodeCall(IRegistry.balanceOf, (address(0))), out, "of nobody");
    }

    function test_interfaces() public view {
        bytes4[4] memory yes = [bytes4(0x01ffc9a7), 0x80ac58cd, 0x5b5e139f, 0x780e9d63];
        for (uint256 i = 0; i < 4; ++i) {
            check(apps.supportsInterface(yes[i]), "supported");
        }
        check(!apps.supportsInterface(0xffffffff), "not everything");
    }
}
