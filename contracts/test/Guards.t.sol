// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Market} from "./base/Market.sol";
import {IWork} from "../src/interfaces/IWork.sol";
import {TaskStatus} from "../src/types/Views.sol";

/// What the life cycle refuses: every deadline one second before, at and after; every role from a stranger.
contract GuardsTest is Market {
    bytes32 internal constant DIGEST = keccak256("result");

    function finalizeCall(bytes32 taskid) internal pure returns (bytes memory) {
        return abi.encodeCall(IWork.finalize, (taskid, RESULTS, ""));
    }

    function contributeCall(address worker, bytes32 taskid) internal view returns (bytes memory) {
        return abi.encodeCall(
            IWork.contribute,
            (
                taskid,
                resultHash(taskid, DIGEST),
                resultSeal(worker, taskid, DIGEST),
                address(0),
                "",
                authorize(worker, taskid, address(0))
            )
        );
    }

    function revealCall(bytes32 taskid) internal pure returns (bytes memory) {
        return abi.encodeCall(IWork.reveal, (taskid, DIGEST));
    }

    function test_initialize_only_tasks_of_the_deal_and_once() public {
        bytes32 dealid = makeDeal(1);
        reverts(stranger, address(hub), abi.encodeCall(IWork.initialize, (dealid, 1)), "", "index too high");
        reverts(stranger, address(hub), abi.encodeCall(IWork.initialize, (bytes32(0), 0)), "", "unknown deal");
        hub.initialize(dealid, 0);
        reverts(stranger, address(hub), abi.encodeCall(IWork.initialize, (dealid, 0)), "", "twice");
    }

    function test_contribute_before_the_deadline_only() public {
        bytes32 taskid = start(8);
        uint256 deadline = hub.viewTask(taskid).contributionDeadline;
        eq(deadline, block.timestamp + 7 * T, "7 T");
        vm.warp(deadline + 1);
        reverts(workers[0], address(hub), contributeCall(workers[0], taskid), "", "after");
        vm.warp(deadline);
        reverts(workers[0], address(hub), contributeCall(workers[0], taskid), "", "at");
        vm.warp(deadline - 1);
        contribute(workers[0], taskid, DIGEST);
    }

    function test_contribute_needs_the_own_authorization_and_happens_once() public {
        bytes32 taskid = start(8);
        reverts(stranger, address(hub), contributeCall(workers[0], taskid), "", "of another worker");
        contribute(workers[0], taskid, DIGEST);
        reverts(workers[0], address(hub), contributeCall(workers[0], taskid), "", "twice");
        bytes memory unsigned =
            abi.encodeCall(IWork.contribute, (taskid, bytes32(0), bytes32(0), address(0), "", ""));
        reverts(workers[1], address(hub), unsigned, text("invalid-signature-format"), "no signature");
    }

    function test_contribute_needs_the_stake() public {
        bytes32 taskid = start(8);
        vm.prank(workers[0]);
        hub.withdraw(RICH - STAKE + 1);
        reverts(
            workers[0],
            address(hub),
            contributeCall(workers[0], taskid),
            text("IexecEscrow: Transfer amount exceeds balance"),
            "stake"
        );
    }

    function test_reveal_before_the_deadline_only() public {
        bytes32 taskid = start(1);
        contribute(workers[0], taskid, DIGEST);
        uint256 deadline = hub.viewTask(taskid).revealDeadline;
        eq(deadline, block.timestamp + 2 * T, "2 T");
        vm.warp(deadline + 1);
        reverts(workers[0], address(hub), revealCall(taskid), "", "after");
        vm.warp(deadline);
        reverts(workers[0], address(hub), revealCall(taskid), "", "at");
        vm.warp(deadline - 1);
        reveal(workers[0], taskid, DIGEST);
        reverts(workers[0], address(hub), revealCall(taskid), "", "twice");
    }

    function test_reveal_only_by_winners_with_the_digest() public {
        bytes32 taskid = start(5);
        contribute(workers[9], taskid, keccak256("forged"));
        reverts(workers[9], address(hub), revealCall(taskid), "", "no consensus yet");
        for (uint256 i = 0; i < 4; ++i) {
            contribute(workers[i], taskid, DIGEST);
        }
        reverts(stranger, address(hub), revealCall(taskid), "", "stranger");
        reverts(workers[9], address(hub), revealCall(taskid), "", "loser");
        bytes memory forged = abi.encodeCall(IWork.reveal, (taskid, keccak256("forged")));
        reverts(workers[9], address(hub), forged, "", "loser with its own digest");
        reverts(workers[0], address(hub), forged, "", "winner with another digest");
        // The hash of the group is not a digest, neither before nor after the first reveal.
        bytes memory hash = abi.encodeCall(IWork.reveal, (taskid, resultHash(taskid, DIGEST)));
        reverts(workers[0], address(hub), hash, "", "winner with the hash");
        reveal(workers[1], taskid, DIGEST);
        reverts(workers[0], address(hub), hash, "", "winner with the hash, later");
        reverts(workers[9], address(hub), revealCall(taskid), "", "loser with the winners' digest");
        reveal(workers[0], taskid, DIGEST);
    }

    /// A seal for the winning digest does not make a wrong hash right.
    function test_reveal_needs_the_right_hash_not_only_the_right_seal() public {
        bytes32 taskid = start(5);
        bytes memory authorization = authorize(workers[9], taskid, address(0));
        vm.prank(workers[9]);
        hub.contribute(
            taskid, keccak256("x"), resultSeal(workers[9], taskid, DIGEST), address(0), "", authorization
        );
        for (uint256 i = 0; i < 4; ++i) {
            contribute(workers[i], taskid, DIGEST);
        }
        reverts(workers[9], address(hub), revealCall(taskid), "", "before others");
        reveal(workers[0], taskid, DIGEST);
        reverts(workers[9], address(hub), revealCall(taskid), "", "after others");
    }

    /// Who copies the hash of others knows no digest, and when they reveal it, its seal does not fit: it is not paid.
    function test_a_copied_answer_cannot_be_revealed() public {
        bytes32 taskid = start(4);
        bytes32[3] memory seals = [bytes32(0), resultSeal(workers[0], taskid, DIGEST), resultHash(taskid, DIGEST)];
        contribute(workers[0], taskid, DIGEST);
        bytes memory authorization = authorize(workers[1], taskid, address(0));
        uint256 state = vm.snapshotState();
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(workers[1]);
            hub.contribute(taskid, resultHash(taskid, DIGEST), seals[i], address(0), "", authorization);
            reverts(workers[1], address(hub), revealCall(taskid), "", "before the other");
            reveal(workers[0], taskid, DIGEST);
            reverts(workers[1], address(hub), revealCall(taskid), "", "after the other");
            vm.warp(hub.viewTask(taskid).revealDeadline);
            finalize(taskid);
            eq(hub.balanceOf(workers[1]), RICH - STAKE, "the copy costs its stake");
            vm.revertToState(state);
        }
    }

    function test_finalize_when_all_revealed_or_time_is_up() public {
        bytes32 taskid = start(4);
        contribute(workers[0], taskid, DIGEST);
        reverts(poolOwner, address(hub), finalizeCall(taskid), "", "no consensus");
        contribute(workers[1], taskid, DIGEST);
        uint256 deadline = hub.viewTask(taskid).revealDeadline;
        reverts(poolOwner, address(hub), finalizeCall(taskid), "", "nobody revealed");
        reveal(workers[0], taskid, DIGEST);
        vm.warp(deadline - 1);
        reverts(poolOwner, address(hub), finalizeCall(taskid), "", "one missing");
        vm.warp(deadline);
        reverts(stranger, address(hub), finalizeCall(taskid), "", "stranger");
        finalize(taskid);
        reverts(poolOwner, address(hub), finalizeCall(taskid), "", "twice");
        reverts(workers[1], address(hub), revealCall(taskid), "", "reveal after the end");
    }

    function test_finalize_not_when_nobody_revealed() public {
        bytes32 taskid = start(1);
        contribute(workers[0], taskid, DIGEST);
        vm.warp(hub.viewTask(taskid).revealDeadline + 1);
        reverts(poolOwner, address(hub), finalizeCall(taskid), "", "nobody");
    }

    function test_finalize_before_the_final_deadline_only() public {
        bytes32 taskid = start(1);
        contribute(workers[0], taskid, DIGEST);
        reveal(workers[0], taskid, DIGEST);
        uint256 deadline = hub.viewTask(taskid).finalDeadline;
        vm.warp(deadline + 1);
        reverts(poolOwner, address(hub), finalizeCall(taskid), "", "after");
        vm.warp(deadline);
        reverts(poolOwner, address(hub), finalizeCall(taskid), "", "at");
        vm.warp(deadline - 1);
        finalize(taskid);
    }

    function test_reopen_guards() public {
        bytes32 taskid = start(1);
        bytes memory call = abi.encodeCall(IWork.reopen, (taskid));
        reverts(poolOwner, address(hub), call, "", "active");
        contribute(workers[0], taskid, DIGEST);
        uint256 deadline = hub.viewTask(taskid).revealDeadline;
        vm.warp(deadline - 1);
        reverts(poolOwner, address(hub), call, "", "too early");
        vm.warp(deadline);
        reverts(stranger, address(hub), call, "", "stranger");
        uint256 fin = hub.viewTask(taskid).finalDeadline;
        vm.warp(fin + 1);
        reverts(poolOwner, address(hub), call, "", "after the end");
        vm.warp(fin);
        reverts(poolOwner, address(hub), call, "", "at the end");
        vm.warp(fin - 1);
        vm.prank(poolOwner);
        hub.reopen(taskid);
        check(hub.viewTask(taskid).status == TaskStatus.ACTIVE, "active");
        reverts(workers[0], address(hub), contributeCall(workers[0], taskid), "", "rejected worker");
    }

    function test_reopen_not_when_somebody_revealed() public {
        bytes32 taskid = start(4);
        contribute(workers[0], taskid, DIGEST);
        contribute(workers[1], taskid, DIGEST);
        reveal(workers[0], taskid, DIGEST);
        vm.warp(hub.viewTask(taskid).revealDeadline + 1);
        reverts(poolOwner, address(hub), abi.encodeCall(IWork.reopen, (taskid)), "", "revealed");
    }

    function test_claim_at_the_final_deadline_and_once() public {
        bytes32 dealid = makeDeal(1);
        bytes32 taskid = keccak256(abi.encodePacked(dealid, uint256(0)));
        bytes memory call = abi.encodeCall(IWork.claim, (taskid));
        reverts(stranger, address(hub), call, "", "not initialized");
        hub.initialize(dealid, 0);
        uint256 deadline = hub.viewTask(taskid).finalDeadline;
        eq(deadline, block.timestamp + 10 * T, "10 T");
        vm.warp(deadline - 1);
        reverts(stranger, address(hub), call, "", "before");
        vm.warp(deadline);
        hub.claim(taskid);
        reverts(stranger, address(hub), call, "", "twice");
    }

    function test_claim_after_the_final_deadline_of_a_revealing_task() public {
        bytes32 taskid = start(1);
        contribute(workers[0], taskid, DIGEST);
        reveal(workers[0], taskid, DIGEST);
        vm.warp(hub.viewTask(taskid).finalDeadline + 1);
        hub.claim(taskid);
        reverts(poolOwner, address(hub), finalizeCall(taskid), "", "finalize after claim");
        eq(hub.frozenOf(workers[0]), 0, "unlocked");
    }

    function test_claim_not_a_completed_task() public {
        bytes32 taskid = start(1);
        contribute(workers[0], taskid, DIGEST);
        reveal(workers[0], taskid, DIGEST);
        finalize(taskid);
        vm.warp(hub.viewTask(taskid).finalDeadline);
        reverts(stranger, address(hub), abi.encodeCall(IWork.claim, (taskid)), "", "completed");
    }
}
