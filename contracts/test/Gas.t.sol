// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Market} from "./base/Market.sol";
import {PenaltyRule} from "../src/types/Views.sol";
import {RequestOrder, AppOrder, DatasetOrder, WorkerpoolOrder} from "../src/types/Orders.sol";
import {AppOrderOperation, RequestOrderOperation, OrderOperation} from "../src/types/Orders.sol";

/// A contract that stores what it is told.
contract StoringClient {
    mapping(bytes32 => bytes) public results;

    function receiveResult(bytes32 taskid, bytes calldata result) external {
        results[taskid] = result;
    }
}

/// What each transaction costs, in the scenarios of the published measurements: prices 1, 2 and 10 RLC, stake 30 %, pool share 1 %,
/// signatures of 65 bytes, params of 12 characters, a result of 84 bytes, category S. "Steady": everybody has money already, nobody
/// anything locked. Needs `--isolate`, so that every call is a transaction of its own.
contract GasTest is Market {
    bytes32 internal constant DIGEST = keccak256("result");

    function note(string memory name) internal {
        vm.snapshotValue("gas", name, vm.lastCallGas().gasTotalUsed);
    }

    /// The same for a step that belongs to a total.
    function step(string memory scenario, string memory name) internal returns (uint256 used) {
        used = vm.lastCallGas().gasTotalUsed;
        vm.snapshotValue("gas", string.concat(scenario, " ", name), used);
    }

    function total(string memory scenario, uint256 sum) internal {
        vm.snapshotValue("gas", string.concat(scenario, " total"), sum);
    }

    /// From match to finalize with `n` workers who agree.
    function run(string memory scenario, uint256 trust, uint256 n, bool withDataset) internal {
        Orders memory o = orders(trust);
        if (!withDataset) noDataset(o);
        sign(o);
        if (!withDataset) o.dataset.sign = "";
        bytes32 dealid = send(o);
        uint256 sum = step(scenario, "matchOrders");
        bytes32 taskid = hub.initialize(dealid, 0);
        sum += step(scenario, "initialize");
        for (uint256 i = 0; i < n; ++i) {
            contribute(workers[i], taskid, DIGEST);
            sum += step(scenario, string.concat("contribute ", vm.toString(i + 1)));
        }
        for (uint256 i = 0; i < n; ++i) {
            reveal(workers[i], taskid, DIGEST);
            sum += step(scenario, string.concat("reveal ", vm.toString(i + 1)));
        }
        finalize(taskid);
        sum += step(scenario, "finalize");
        total(scenario, sum);
    }

    function test_one_worker() public {
        run("1 worker, dataset", 1, 1, true);
    }

    function test_one_worker_without_dataset() public {
        run("1 worker, no dataset", 1, 1, false);
    }

    function test_three_workers() public {
        run("3 workers, dataset", 8, 3, true);
    }

    function test_ten_workers() public {
        run("10 workers, dataset", 1024, 10, true);
    }

    function test_contribute_and_finalize() public {
        string memory scenario = "contributeAndFinalize";
        bytes32 dealid = makeDeal(1);
        uint256 sum = step(scenario, "matchOrders");
        bytes32 taskid = hub.initialize(dealid, 0);
        sum += step(scenario, "initialize");
        bytes memory authorization = authorize(workers[0], taskid, address(0));
        vm.prank(workers[0]);
        hub.contributeAndFinalize(taskid, DIGEST, RESULTS, "", address(0), "", authorization);
        sum += step(scenario, "contributeAndFinalize");
        total(scenario, sum);
    }

    function test_creations() public {
        apps.createApp(appOwner, "my app", "DOCKER", "registry.hub.docker.com/iexechub/vanityeth:1.1.1", DIGEST, "");
        note("createApp");
        datasets.createDataset(datasetOwner, "my dataset", "/ipfs/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWP_84", DIGEST);
        note("createDataset");
        pools.createWorkerpool(poolOwner, "my workerpool");
        note("createWorkerpool");
        hub.createCategory("XXL", "{}", 100000);
        note("createCategory");
    }

    function test_deposits() public {
        deploy(PenaltyRule.FIXED_50, 0);
        rlc.approveAndCall(address(hub), 100e9, "");
        note("deposit by approveAndCall, first ever");
        rlc.approveAndCall(address(hub), 100e9, "");
        note("deposit by approveAndCall, again");
        rlc.approve(address(hub), 100e9);
        note("approve");
        hub.deposit(100e9);
        note("deposit");
        hub.withdraw(50e9);
        note("withdraw");
    }

    function test_presigned() public {
        Orders memory o = orders(1);
        vm.prank(appOwner);
        hub.manageAppOrder(AppOrderOperation(o.app, OrderOperation.SIGN, ""));
        note("manageAppOrder SIGN");
        vm.prank(requester);
        hub.manageRequestOrder(RequestOrderOperation(o.request, OrderOperation.SIGN, ""));
        note("manageRequestOrder SIGN");
        vm.prank(appOwner);
        hub.manageAppOrder(AppOrderOperation(o.app, OrderOperation.CLOSE, ""));
        note("manageAppOrder CLOSE");
    }

    function test_bag_and_claims() public {
        Orders memory o = orders(1);
        volume(o, 10);
        sign(o);
        bytes32 dealid = send(o);
        note("bag of 10: matchOrders");
        bytes32[] memory deals = new bytes32[](10);
        uint256[] memory idxs = new uint256[](10);
        for (uint256 i = 0; i < 10; ++i) {
            (deals[i], idxs[i]) = (dealid, i);
        }
        hub.initializeArray(deals, idxs);
        note("bag of 10: initializeArray");
        bytes32 taskid = keccak256(abi.encodePacked(dealid, uint256(0)));
        bytes32 contributed = start(4);
        contribute(workers[0], contributed, DIGEST);
        vm.warp(block.timestamp + 10 * T);
        hub.claim(taskid);
        note("claim, first ever");
        hub.claim(keccak256(abi.encodePacked(dealid, uint256(1))));
        note("claim, next");
        hub.claim(contributed);
        note("claim, 1 contributor");
        bytes32[] memory ids = new bytes32[](3);
        for (uint256 i = 0; i < 3; ++i) {
            ids[i] = keccak256(abi.encodePacked(dealid, 2 + i));
        }
        hub.claimArray(ids);
        note("claimArray of 3");
    }

    function test_sponsor() public {
        Orders memory o = orders(1);
        sign(o);
        vm.prank(appOwner);
        hub.sponsorMatchOrders(o.app, o.dataset, o.pool, o.request);
        note("sponsorMatchOrders");
    }

    function test_callback() public {
        string memory scenario = "callback to a storing client";
        Orders memory o = orders(1);
        o.request.callback = address(new StoringClient());
        sign(o);
        bytes32 dealid = send(o);
        uint256 sum = step(scenario, "matchOrders");
        bytes32 taskid = hub.initialize(dealid, 0);
        sum += step(scenario, "initialize");
        bytes memory data = "<result>";
        contribute(workers[0], taskid, keccak256(data));
        sum += step(scenario, "contribute");
        reveal(workers[0], taskid, keccak256(data));
        sum += step(scenario, "reveal");
        vm.prank(poolOwner);
        hub.finalize(taskid, RESULTS, data);
        sum += step(scenario, "finalize");
        total(scenario, sum);
    }

    function test_reopen() public {
        bytes32 taskid = start(1);
        contribute(workers[0], taskid, DIGEST);
        vm.warp(hub.viewTask(taskid).revealDeadline);
        vm.prank(poolOwner);
        hub.reopen(taskid);
        note("reopen, 1 rejected");
        contribute(workers[1], taskid, DIGEST);
        reveal(workers[1], taskid, DIGEST);
        finalize(taskid);
        note("finalize, 1 proved and 1 rejected");
    }
}
