// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Market} from "./base/Market.sol";
import {IWork} from "../src/interfaces/IWork.sol";
import {IOffice} from "../src/interfaces/IOffice.sol";
import {IHubEvents} from "../src/interfaces/IHubEvents.sol";
import {PenaltyRule} from "../src/types/Views.sol";

/// Every guard of time, in one table: each call one second before, at and one second after each deadline that it looks at.
contract DeadlinesTest is Market {
    bytes32 internal constant DIGEST = keccak256("result");

    /// A call, and whether it is accepted a second before, at, and a second after a deadline.
    struct Guard {
        string what;
        address sender;
        bytes call;
        uint256 deadline;
        bool[3] accepted;
        bytes refusal;
    }

    bool[3] internal untilThen = [true, false, false];
    bool[3] internal fromThen = [false, true, true];

    /// Tries the three seconds, each from the present state.
    function run(Guard memory g) internal {
        for (uint256 i = 0; i < 3; ++i) {
            uint256 state = vm.snapshotState();
            vm.warp(g.deadline - 1 + i);
            if (g.accepted[i]) {
                vm.prank(g.sender);
                (bool ok,) = address(hub).call(g.call);
                check(ok, string.concat(g.what, ": refused at deadline - 1 + ", vm.toString(i)));
            } else {
                reverts(g.sender, address(hub), g.call, g.refusal, string.concat(g.what, ", second ", vm.toString(i)));
            }
            check(vm.revertToState(state), "back");
        }
    }

    function contributeCall(bytes32 taskid) internal view returns (bytes memory) {
        bytes memory auth = authorize(workers[5], taskid, address(0));
        bytes32 seal = resultSeal(workers[5], taskid, DIGEST);
        return abi.encodeCall(IWork.contribute, (taskid, resultHash(taskid, DIGEST), seal, address(0), "", auth));
    }

    function singleCall(bytes32 taskid) internal view returns (bytes memory) {
        bytes memory auth = authorize(workers[5], taskid, address(0));
        return abi.encodeCall(IWork.contributeAndFinalize, (taskid, DIGEST, RESULTS, "", address(0), "", auth));
    }

    function finalizeCall(bytes32 taskid) internal pure returns (bytes memory) {
        return abi.encodeCall(IWork.finalize, (taskid, RESULTS, ""));
    }

    function list(bytes32 one) internal pure returns (bytes32[] memory many) {
        many = new bytes32[](1);
        many[0] = one;
    }

    function test_contribution_deadline() public {
        bytes32 taskid = start(1);
        uint256 deadline = hub.viewTask(taskid).contributionDeadline;
        eq(deadline, time() + 7 * T, "7 T");
        run(Guard("contribute", workers[5], contributeCall(taskid), deadline, untilThen, ""));
        run(Guard("contributeAndFinalize", workers[5], singleCall(taskid), deadline, untilThen, ""));
    }

    function test_reveal_deadline() public {
        bytes32 taskid = start(4);
        contribute(workers[0], taskid, DIGEST);
        vm.warp(time() + 77);
        contribute(workers[1], taskid, DIGEST);
        uint256 deadline = hub.viewTask(taskid).revealDeadline;
        eq(deadline, time() + 2 * T, "2 T after the consensus");
        bytes memory reveal_ = abi.encodeCall(IWork.reveal, (taskid, DIGEST));
        run(Guard("reveal", workers[1], reveal_, deadline, untilThen, ""));
        run(Guard("reopen", poolOwner, abi.encodeCall(IWork.reopen, (taskid)), deadline, fromThen, ""));
        run(Guard("finalize without reveal", poolOwner, finalizeCall(taskid), deadline, [false, false, false], ""));
        reveal(workers[0], taskid, DIGEST);
        run(Guard("finalize with one of two", poolOwner, finalizeCall(taskid), deadline, fromThen, ""));
        reveal(workers[1], taskid, DIGEST);
        run(Guard("finalize with all", poolOwner, finalizeCall(taskid), deadline, [true, true, true], ""));
    }

    function test_final_deadline() public {
        bytes32 dealid = makeDeal(1);
        bytes32 taskid = keccak256(abi.encodePacked(dealid, uint256(0)));
        uint256 deadline = time() + 10 * T;
        uint256[] memory zero = new uint256[](1);
        bytes memory never = abi.encodeCall(IWork.initializeAndClaimArray, (list(dealid), zero));
        run(Guard("initializeAndClaimArray", stranger, never, deadline, fromThen, ""));
        hub.initialize(dealid, 0);
        eq(hub.viewTask(taskid).finalDeadline, deadline, "10 T");
        run(Guard("claim, active", stranger, abi.encodeCall(IWork.claim, (taskid)), deadline, fromThen, ""));
        run(Guard("claimArray", stranger, abi.encodeCall(IWork.claimArray, (list(taskid))), deadline, fromThen, ""));
        contribute(workers[0], taskid, DIGEST);
        run(Guard("claim, revealing", stranger, abi.encodeCall(IWork.claim, (taskid)), deadline, fromThen, ""));
        run(Guard("reopen", poolOwner, abi.encodeCall(IWork.reopen, (taskid)), deadline, untilThen, ""));
        reveal(workers[0], taskid, DIGEST);
        run(Guard("finalize", poolOwner, finalizeCall(taskid), deadline, untilThen, ""));
    }

    /// Times do not stop the start of a task: this is how the money of one that never started is claimed.
    function test_a_task_starts_at_any_time() public {
        bytes32 dealid = makeDeal(1);
        bytes memory call = abi.encodeCall(IWork.initialize, (dealid, 0));
        run(Guard("initialize", stranger, call, time() + 7 * T, [true, true, true], ""));
        run(Guard("initialize", stranger, call, time() + 10 * T, [true, true, true], ""));
    }

    function test_announced_changes() public {
        deploy(PenaltyRule.FIXED_50, 3 days);
        bytes[6] memory calls = [
            abi.encodeCall(IOffice.setTeeBroker, (stranger)),
            abi.encodeCall(IOffice.setCallbackGas, (123)),
            abi.encodeCall(IOffice.changeRegistries, (address(1), address(2), address(3))),
            abi.encodeCall(IOffice.upgradeTo, (hub.implementation())),
            abi.encodeCall(IOffice.renounceOwnership, ()),
            abi.encodeCall(IOffice.transferOwnership, (stranger))
        ];
        for (uint256 i = 0; i < 6; ++i) {
            bytes32 id = hub.proposeChange(calls[i]);
            uint256 ready = time() + 3 days;
            uint256 end = ready + 14 days;
            bytes memory reason = abi.encodeWithSelector(IHubEvents.ChangeNotInWindow.selector, id, ready, end);
            run(Guard("announced, begin", address(this), calls[i], ready, fromThen, reason));
            run(Guard("announced, end", address(this), calls[i], end, untilThen, reason));
        }
    }
}
