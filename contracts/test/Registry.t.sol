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
        data = abi.encodeCall(IRegistry.setName, (address(1), "x"));
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

    // ---- every getter, and any values

    function test_getters() public view {
        check(apps.initialized() && datasets.initialized() && pools.initialized(), "initialized");
        eq(apps.previous(), address(0), "no older registry");
        eq(apps.totalSupply(), 1, "one app");
        eq(apps.tokenByIndex(0), uint160(app), "of all");
        eq(apps.tokenOfOwnerByIndex(appOwner, 0), uint160(app), "of its owner");
        eq(apps.balanceOf(appOwner), 1, "balance");
        check(apps.master().code.length > 0, "the master has the code");
        eq(apps.proxyCode().length, 45, "the head of a clone");
        (address owner, uint256 stake, uint256 reward) = pools.lookup(pool);
        eq(owner, poolOwner, "pool owner");
        eq(stake, 30, "stake");
        eq(reward, 1, "reward");
        (owner, stake, reward) = pools.lookup(app);
        check(owner == address(0) && stake == 0 && reward == 0, "not a pool");
        eq(IApp(app).m_appName(), "app", "name");
        eq(IApp(app).m_appType(), "WASM", "type");
        eq(IApp(app).m_appChecksum(), bytes32(uint256(1)), "checksum");
        eq(IApp(app).m_appMREnclave(), "", "mrenclave");
        eq(IDataset(dataset).m_datasetName(), "dataset", "name");
        eq(IDataset(dataset).m_datasetMultiaddr(), "/ipfs/dataset", "multiaddr");
        eq(IDataset(dataset).m_datasetChecksum(), bytes32(uint256(2)), "checksum");
    }

    function registries() internal view returns (IRegistry[3] memory) {
        return [IRegistry(address(apps)), IRegistry(address(datasets)), IRegistry(address(pools))];
    }

    function assets() internal view returns (address[3] memory) {
        return [app, dataset, pool];
    }

    /// What is predicted is created, for anybody and by anybody; the same again is refused; another owner has another address.
    function testFuzz_predictions(address owner, address by, string memory a, bytes memory b, bytes32 c) public {
        vm.assume(owner != address(0));
        address[3] memory want = [
            apps.predictApp(owner, a, a, b, c, b),
            datasets.predictDataset(owner, a, b, c),
            pools.predictWorkerpool(owner, a)
        ];
        vm.startPrank(by);
        eq(apps.createApp(owner, a, a, b, c, b), want[0], "app");
        eq(datasets.createDataset(owner, a, b, c), want[1], "dataset");
        eq(pools.createWorkerpool(owner, a), want[2], "pool");
        vm.stopPrank();
        bytes memory exists = text("Create2: Failed on deploy");
        reverts(by, address(apps), abi.encodeCall(IAppRegistry.createApp, (owner, a, a, b, c, b)), exists, "app");
        reverts(by, address(datasets), abi.encodeCall(IDatasetRegistry.createDataset, (owner, a, b, c)), exists, "dataset");
        reverts(by, address(pools), abi.encodeCall(IWorkerpoolRegistry.createWorkerpool, (owner, a)), exists, "pool");
        address another = address(uint160(owner) ^ 1);
        check(pools.predictWorkerpool(another, a) != want[2], "another owner, another address");
        for (uint256 i = 0; i < 3; ++i) {
            IRegistry registry = registries()[i];
            check(registry.isRegistered(want[i]), "registered");
            check(!registries()[(i + 1) % 3].isRegistered(want[i]), "nowhere else");
            eq(registry.ownerOf(uint160(want[i])), owner, "owner");
            eq(IAsset(want[i]).owner(), owner, "says the asset");
            eq(IAsset(want[i]).registry(), address(registry), "registry");
        }
        (address poolOwner_, uint256 stake, uint256 reward) = pools.lookup(want[2]);
        check(poolOwner_ == owner && stake == 30 && reward == 1, "policies");
    }

    /// Only the owner of a registry sets its URI, hands it over, gives it up, or initializes it.
    function testFuzz_strangers(address who, address a, string memory s) public {
        vm.assume(who != address(this) && who != appOwner && who != datasetOwner && who != poolOwner);
        bytes memory reason = text("Ownable: caller is not the owner");
        for (uint256 i = 0; i < 3; ++i) {
            address registry = address(registries()[i]);
            uint256 id = uint160(assets()[i]);
            address holder = IAsset(assets()[i]).owner();
            reverts(who, registry, abi.encodeCall(IRegistry.setBaseURI, (s)), reason, "uri");
            reverts(who, registry, abi.encodeCall(IRegistry.transferOwnership, (a)), reason, "hand over");
            reverts(who, registry, abi.encodeCall(IRegistry.renounceOwnership, ()), reason, "give up");
            reverts(who, registry, abi.encodeCall(IRegistry.initialize, (a)), reason, "initialize");
            reverts(who, registry, abi.encodeCall(IRegistry.setName, (a, s)), reason, "name");
            bytes memory asset = text("caller is not the owner");
            reverts(who, assets()[i], abi.encodeCall(IAsset.setName, (a, s)), asset, "name of an asset");
            bytes memory approver = abi.encodeWithSelector(IRegistry.ERC721InvalidApprover.selector, who);
            reverts(who, registry, abi.encodeCall(IRegistry.approve, (a, id)), approver, "approve");
            if (a == address(0)) continue;
            bytes memory insufficient = abi.encodeWithSelector(IRegistry.ERC721InsufficientApproval.selector, who, id);
            bytes memory take = abi.encodeCall(IRegistry.transferFrom, (holder, a, id));
            reverts(who, registry, take, insufficient, "take");
            take = abi.encodeWithSignature("safeTransferFrom(address,address,uint256)", holder, a, id);
            reverts(who, registry, take, insufficient, "take safely");
            take = abi.encodeWithSignature("safeTransferFrom(address,address,uint256,bytes)", holder, a, id, s);
            reverts(who, registry, take, insufficient, "take safely, with data");
        }
        reverts(who, pool, abi.encodeCall(IWorkerpool.changePolicy, (1, 1)), text("caller is not the owner"), "policy");
        bytes memory none = missing(uint160(who));
        reverts(who, address(pools), abi.encodeCall(IWorkerpoolRegistry.setPolicy, (1, 1)), none, "policy of no pool");
    }

    function testFuzz_the_owner_of_a_registry(string memory base, address next, address older) public {
        for (uint256 i = 0; i < 3; ++i) {
            IRegistry registry = registries()[i];
            uint256 id = uint160(assets()[i]);
            registry.setBaseURI(base);
            eq(registry.baseURI(), base, "base");
            eq(registry.tokenURI(id), bytes(base).length == 0 ? "" : string.concat(base, vm.toString(id)), "uri");
            reverts(address(this), address(registry), abi.encodeCall(IRegistry.initialize, (older)), "", "twice");
            bytes memory names = abi.encodeCall(IRegistry.setName, (older, base));
            reverts(address(this), address(registry), names, text("Operation not supported on this chain"), "names");
            if (next == address(0)) continue;
            registry.transferOwnership(next);
            eq(registry.owner(), next, "owner");
            vm.prank(next);
            registry.renounceOwnership();
            eq(registry.owner(), address(0), "nobody");
        }
    }

    function testFuzz_an_older_registry_counts_too(address owner, string memory name, address other) public {
        vm.assume(owner != address(0));
        WorkerpoolRegistry freshPools = new WorkerpoolRegistry(owner);
        check(!freshPools.initialized(), "fresh");
        vm.prank(owner);
        freshPools.initialize(address(pools));
        eq(freshPools.previous(), address(pools), "previous");
        address old = pools.createWorkerpool(owner, name);
        check(freshPools.isRegistered(old), "the older one's");
        check(freshPools.isRegistered(other) == pools.isRegistered(other), "and nothing else");
        (address found,,) = freshPools.lookup(old);
        eq(found, address(0), "its policies are in the older one");
    }

    function testFuzz_tokens_move_by_permission(address to, address operator, bytes memory data, uint256 way) public {
        vm.assume(to > address(0xffff) && to.code.length == 0 && operator != address(0) && operator != appOwner);
        uint256 id = uint160(app);
        vm.prank(appOwner);
        if (way % 2 == 0) apps.approve(operator, id);
        else apps.setApprovalForAll(operator, true);
        eq(apps.getApproved(id), way % 2 == 0 ? operator : address(0), "approved");
        check(apps.isApprovedForAll(appOwner, operator) == (way % 2 == 1), "operator");
        vm.prank(operator);
        if ((way >> 1) % 3 == 0) apps.transferFrom(appOwner, to, id);
        else if ((way >> 1) % 3 == 1) apps.safeTransferFrom(appOwner, to, id);
        else apps.safeTransferFrom(appOwner, to, id, data);
        eq(apps.ownerOf(id), to, "moved");
        eq(IApp(app).owner(), to, "says the app");
        eq(apps.getApproved(id), address(0), "used up");
        eq(hub.viewApp(app).owner, to, "says the hub");
        if (to == appOwner || operator == to) return;
        bytes memory again = abi.encodeCall(IRegistry.transferFrom, (to, appOwner, id));
        bytes memory reason = abi.encodeWithSelector(IRegistry.ERC721InsufficientApproval.selector, operator, id);
        reverts(operator, address(apps), again, reason, "not the new owner's operator");
    }

    function testFuzz_interfaces(bytes4 id) public view {
        bool known = id == 0x01ffc9a7 || id == 0x80ac58cd || id == 0x5b5e139f || id == 0x780e9d63;
        for (uint256 i = 0; i < 3; ++i) {
            check(registries()[i].supportsInterface(id) == known, "ERC-165, ERC-721 with metadata and enumeration");
        }
    }

    /// Names, masters and code are what they were, whatever was created.
    function testFuzz_names_and_code_stay(address owner, string memory name) public {
        vm.assume(owner != address(0));
        bytes32[3] memory hashes;
        for (uint256 i = 0; i < 3; ++i) {
            hashes[i] = registries()[i].proxyCodeHash();
        }
        apps.createApp(owner, name, "", "", 0, "");
        datasets.createDataset(owner, name, "", 0);
        address made = pools.createWorkerpool(owner, name);
        eq(hub.viewWorkerpool(made).m_workerpoolDescription, name, "description");
        eq(hub.viewDataset(dataset).owner, datasetOwner, "other assets are not touched");
        for (uint256 i = 0; i < 3; ++i) {
            IRegistry registry = registries()[i];
            eq(registry.proxyCodeHash(), hashes[i], "hash");
            eq(keccak256(registry.proxyCode()), hashes[i], "code");
            bytes memory head = abi.encodePacked(hex"363d3d373d3d3d363d73", registry.master(), hex"5af43d82803e903d91602b57fd5bf3");
            eq(registry.proxyCode(), head, "a clone of the master");
            check(registry.initialized() && registry.previous() == address(0), "settings");
            check(bytes(registry.name()).length > 0 && bytes(registry.symbol()).length > 0, "names");
        }
    }

    function testFuzz_only_pools_store_policies(uint40 stake, uint8 reward, address who) public {
        vm.assume(who != pool);
        vm.prank(pool);
        pools.setPolicy(stake, reward);
        (, uint256 s, uint256 r) = pools.lookup(pool);
        check(s == stake && r == reward, "stored");
        bytes memory call = abi.encodeCall(IWorkerpoolRegistry.setPolicy, (stake, reward));
        reverts(who, address(pools), call, missing(uint160(who)), "not a pool");
    }
}
