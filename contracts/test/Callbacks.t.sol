// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Market} from "./base/Market.sol";
import {Burner, Bomb, Receiver} from "./base/Actors.sol";
import {IWork} from "../src/interfaces/IWork.sol";
import {IViews} from "../src/interfaces/IViews.sol";
import {IHubEvents} from "../src/interfaces/IHubEvents.sol";
import {Task, TaskStatus, Contribution} from "../src/types/Views.sol";

/// Results that are pushed to a contract, results of any size, enclaves and their broker.
contract CallbacksTest is Market {
    bytes internal constant DATA = "pushed";
    bytes32 internal constant DIGEST = keccak256("result");

    function startFor(address callback, bytes32 tag) internal returns (bytes32 taskid) {
        Orders memory o = orders(1);
        o.request.callback = callback;
        o.request.tag = o.pool.tag = o.app.tag = tag;
        sign(o);
        return hub.initialize(send(o), 0);
    }

    /// A task for `callback`, revealed.
    function revealed(address callback) internal returns (bytes32 taskid) {
        taskid = startFor(callback, 0);
        contribute(workers[0], taskid, keccak256(DATA));
        reveal(workers[0], taskid, keccak256(DATA));
    }

    function finalizeCall(bytes32 taskid, bytes memory data) internal pure returns (bytes memory) {
        return abi.encodeCall(IWork.finalize, (taskid, RESULTS, data));
    }

    // ---- callbacks

    function test_the_result_is_pushed_with_its_gas() public {
        Receiver receiver = new Receiver();
        bytes32 taskid = revealed(address(receiver));
        reverts(poolOwner, address(hub), finalizeCall(taskid, "other"), "", "not the digest's data");
        reverts(poolOwner, address(hub), finalizeCall(taskid, ""), "", "nothing");
        bytes memory pending = abi.encodeCall(IViews.resultFor, (taskid));
        reverts(stranger, address(hub), pending, text("task-pending"), "pending");
        vm.prank(poolOwner);
        hub.finalize(taskid, RESULTS, DATA);
        eq(receiver.taskid(), taskid, "task");
        eq(receiver.result(), DATA, "data");
        check(receiver.gasGiven() > 199_000 && receiver.gasGiven() <= 200_000, "gas");
        eq(hub.resultFor(taskid), DATA, "pulled");
        eq(hub.viewTask(taskid).resultsCallback, DATA, "viewed");
    }

    function test_without_callback_data_must_be_empty_or_the_digests() public {
        bytes32 taskid = revealed(address(0));
        reverts(poolOwner, address(hub), finalizeCall(taskid, "other"), "", "other");
        vm.prank(poolOwner);
        hub.finalize(taskid, RESULTS, DATA);
        eq(hub.resultFor(taskid), DATA, "kept");
    }

    function test_a_callback_cannot_stop_the_payment() public {
        address[4] memory callbacks = [address(new Burner()), address(new Bomb()), address(77), address(rlc)];
        for (uint256 i = 0; i < 4; ++i) {
            bytes32 taskid = revealed(callbacks[i]);
            uint256 before = gasleft();
            vm.prank(poolOwner);
            hub.finalize(taskid, RESULTS, DATA);
            check(before - gasleft() < 500_000, "the cost is bounded");
            check(hub.viewTask(taskid).status == TaskStatus.COMPLETED, "completed");
        }
    }

    function test_a_callback_cannot_be_starved() public {
        Receiver receiver = new Receiver();
        bytes32 taskid = revealed(address(receiver));
        bool refused;
        for (uint256 gas_ = 200_000; !refused; gas_ += 10_000) {
            vm.prank(poolOwner);
            (bool ok, bytes memory answer) = address(hub).call{gas: gas_}(finalizeCall(taskid, DATA));
            check(!ok, "too little gas");
            refused = bytes4(answer) == IHubEvents.CallbackNeedsMoreGas.selector;
        }
        check(hub.viewTask(taskid).status == TaskStatus.REVEALING, "nothing happened");
        eq(receiver.gasGiven(), 0, "not called");
    }

    /// With any gas, either the whole call fails or the callback had its 200,000.
    function testFuzz_a_callback_has_its_gas_or_nothing_happens(uint256 gas_) public {
        Receiver receiver = new Receiver();
        bytes32 taskid = revealed(address(receiver));
        gas_ = bound(gas_, 100_000, 500_000);
        vm.prank(poolOwner);
        (bool ok,) = address(hub).call{gas: gas_}(finalizeCall(taskid, DATA));
        if (ok) check(receiver.gasGiven() > 199_000, "full gas");
        else check(hub.viewTask(taskid).status == TaskStatus.REVEALING, "undone");
    }

    function test_a_callback_finds_the_task_finished() public {
        Receiver receiver = new Receiver();
        bytes32 taskid = revealed(address(receiver));
        receiver.tryAgain(abi.encodeCall(IWork.claim, (taskid)));
        vm.prank(poolOwner);
        hub.finalize(taskid, RESULTS, DATA);
        check(!receiver.reentered(), "claim from the callback");
        eq(receiver.result(), DATA, "it ran");
    }

    function test_contribute_and_finalize_pushes_too() public {
        Receiver receiver = new Receiver();
        bytes32 taskid = startFor(address(receiver), 0);
        bytes memory authorization = authorize(workers[0], taskid, address(0));
        bytes memory call = abi.encodeCall(
            IWork.contributeAndFinalize, (taskid, keccak256("x"), RESULTS, DATA, address(0), "", authorization)
        );
        reverts(workers[0], address(hub), call, "", "not the digest's data");
        vm.prank(workers[0]);
        hub.contributeAndFinalize(taskid, keccak256(DATA), RESULTS, DATA, address(0), "", authorization);
        eq(receiver.result(), DATA, "pushed");
    }

    // ---- results

    function testFuzz_results_are_kept(bytes memory results, bytes memory data) public {
        bytes32 taskid = startFor(address(0), 0);
        contribute(workers[0], taskid, keccak256(data));
        reveal(workers[0], taskid, keccak256(data));
        vm.prank(poolOwner);
        hub.finalize(taskid, results, data);
        Task memory t = hub.viewTask(taskid);
        eq(t.results, results, "results");
        eq(t.resultsCallback, data, "callback data");
        eq(hub.resultFor(taskid), data, "resultFor");
    }

    function test_results_larger_than_a_contract_are_kept_too() public {
        uint256[3] memory sizes = [uint256(24576 - 5 - 6), 24576 - 5 - 5, 30_000];
        for (uint256 i = 0; i < 3; ++i) {
            bytes32 taskid = revealed(address(0));
            bytes memory results = new bytes(sizes[i]);
            results[sizes[i] - 1] = 0x77;
            vm.prank(poolOwner);
            hub.finalize(taskid, results, DATA);
            Task memory t = hub.viewTask(taskid);
            eq(t.results, results, "results");
            eq(t.resultsCallback, DATA, "callback data");
        }
    }

    function test_nothing_is_kept_of_nothing() public {
        bytes32 taskid = startFor(address(0), 0);
        contribute(workers[0], taskid, DIGEST);
        reveal(workers[0], taskid, DIGEST);
        vm.prank(poolOwner);
        hub.finalize(taskid, "", "");
        eq(hub.viewTask(taskid).results, "", "results");
        eq(hub.resultFor(taskid), "", "callback");
        eq(hub.pendingRecord().length, 0, "nothing pending");
    }

    // ---- enclaves

    function contributeCall(bytes32 taskid, address enclave, bytes memory enclaveSign, bytes memory authorization)
        internal
        view
        returns (bytes memory)
    {
        bytes32 hash = resultHash(taskid, DIGEST);
        bytes32 seal = resultSeal(workers[0], taskid, DIGEST);
        return abi.encodeCall(IWork.contribute, (taskid, hash, seal, enclave, enclaveSign, authorization));
    }

    function test_a_tee_task_needs_an_enclave_that_signs() public {
        uint256 key = 0xE7C1A7E;
        address enclave = vm.addr(key);
        bytes32 taskid = startFor(address(0), bytes32(uint256(1)));
        bytes memory without = authorize(workers[0], taskid, address(0));
        reverts(workers[0], address(hub), contributeCall(taskid, address(0), "", without), "", "no enclave");
        bytes memory auth = authorize(workers[0], taskid, enclave);
        bytes32 message =
            keccak256(abi.encodePacked(resultHash(taskid, DIGEST), resultSeal(workers[0], taskid, DIGEST)));
        bytes memory wrong = personal(poolKey, message);
        reverts(workers[0], address(hub), contributeCall(taskid, enclave, wrong, auth), "", "another key");
        bytes memory proof = personal(key, message);
        reverts(workers[0], address(hub), contributeCall(taskid, enclave, proof, without), "", "authorized for none");
        vm.prank(workers[0]);
        (bool ok,) = address(hub).call(contributeCall(taskid, enclave, proof, auth));
        check(ok, "contributes");
        Contribution memory c = hub.viewContribution(taskid, workers[0]);
        eq(c.enclaveChallenge, enclave, "kept");
        (,,, address legacy) = hub.viewContributionABILegacy(taskid, workers[0]);
        eq(legacy, enclave, "legacy view");
    }

    function test_the_broker_authorizes_enclaves_in_place_of_the_pool_owner() public {
        uint256 brokerKey = 0xB0B;
        hub.setTeeBroker(vm.addr(brokerKey));
        uint256 key = 0xE7C1A7E;
        address enclave = vm.addr(key);
        bytes32 taskid = startFor(address(0), bytes32(uint256(1)));
        bytes memory proof = personal(
            key, keccak256(abi.encodePacked(resultHash(taskid, DIGEST), resultSeal(workers[0], taskid, DIGEST)))
        );
        bytes memory byOwner = authorize(workers[0], taskid, enclave);
        reverts(workers[0], address(hub), contributeCall(taskid, enclave, proof, byOwner), "", "pool owner");
        bytes memory byBroker =
            personal(brokerKey, keccak256(abi.encodePacked(workers[0], taskid, enclave)));
        vm.prank(workers[0]);
        (bool ok,) = address(hub).call(contributeCall(taskid, enclave, proof, byBroker));
        check(ok, "broker");
        taskid = start(1);
        contribute(workers[0], taskid, DIGEST);
    }

    function test_contribute_and_finalize_with_an_enclave() public {
        uint256 key = 0xE7C1A7E;
        address enclave = vm.addr(key);
        bytes32 taskid = startFor(address(0), bytes32(uint256(1)));
        bytes memory auth = authorize(workers[0], taskid, enclave);
        bytes memory proof = personal(
            key, keccak256(abi.encodePacked(resultHash(taskid, DIGEST), resultSeal(workers[0], taskid, DIGEST)))
        );
        bytes memory none = abi.encodeCall(
            IWork.contributeAndFinalize,
            (taskid, DIGEST, RESULTS, "", address(0), "", authorize(workers[0], taskid, address(0)))
        );
        reverts(workers[0], address(hub), none, "", "no enclave");
        vm.prank(workers[0]);
        hub.contributeAndFinalize(taskid, DIGEST, RESULTS, "", enclave, proof, auth);
        eq(hub.viewContribution(taskid, workers[0]).enclaveChallenge, enclave, "kept");
    }

    function test_contribute_and_finalize_guards() public {
        bytes32 two = start(2);
        bytes memory call = single(two);
        reverts(workers[0], address(hub), call, "", "trust 2");
        bytes32 taskid = start(1);
        reverts(workers[1], address(hub), single(taskid), "", "authorization of another");
        uint256 deadline = hub.viewTask(taskid).contributionDeadline;
        vm.warp(deadline);
        reverts(workers[0], address(hub), single(taskid), "", "at the deadline");
        vm.warp(deadline + 1);
        reverts(workers[0], address(hub), single(taskid), "", "after the deadline");
        vm.warp(deadline - 1);
        (bool ok,) = callAs(workers[0], single(taskid));
        check(ok, "before the deadline");
        reverts(workers[0], address(hub), single(taskid), "", "twice");
        taskid = start(1);
        contribute(workers[1], taskid, DIGEST);
        reverts(workers[0], address(hub), single(taskid), "", "somebody contributed");
    }

    function single(bytes32 taskid) internal view returns (bytes memory) {
        bytes memory auth = authorize(workers[0], taskid, address(0));
        return abi.encodeCall(IWork.contributeAndFinalize, (taskid, DIGEST, RESULTS, "", address(0), "", auth));
    }

    function callAs(address sender, bytes memory data) internal returns (bool, bytes memory) {
        vm.prank(sender);
        return address(hub).call(data);
    }
}
