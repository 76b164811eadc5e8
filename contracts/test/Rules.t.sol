// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Market} from "./base/Market.sol";
import {IWork} from "../src/interfaces/IWork.sol";
import {IHubEvents} from "../src/interfaces/IHubEvents.sol";
import {Task, TaskStatus, Contribution, PenaltyRule} from "../src/types/Views.sol";
import {Reputation} from "../src/libraries/Reputation.sol";
import {Workerpool} from "../src/registry/Workerpool.sol";

/// The rules of consensus, reward, score and kitty, against a second statement of them on random rounds.
contract RulesTest is Market {
    /// One round, as the published formulas tell it.
    struct Round {
        uint256 trust;
        uint256 total;
        uint256[3] groups;
        bool won;
    }

    function digest(uint256 answer) internal pure returns (bytes32) {
        return keccak256(abi.encode("answer", answer));
    }

    // ---- score

    function test_weights() public pure {
        uint256[9] memory scores = [uint256(0), 11, 12, 14, 15, 17, 30, 300, type(uint64).max];
        uint256[8] memory weights = [uint256(2), 2, 3, 3, 4, 4, 9, 99];
        for (uint256 i = 0; i < 8; ++i) {
            eq(Reputation.weight(scores[i]), weights[i], "weight");
        }
        uint256[6] memory ws = [uint256(0), 1, 2, 3, 4, 99];
        uint256[6] memory logs = [uint256(0), 0, 1, 1, 2, 6];
        for (uint256 i = 0; i < 6; ++i) {
            eq(Reputation.rewardWeight(ws[i]), logs[i], "log");
        }
    }

    function test_penalties() public pure {
        uint256[6] memory thirds = [uint256(10), 6, 4, 2, 1, 0];
        for (uint256 i = 0; i < 5; ++i) {
            eq(Reputation.penalize(PenaltyRule.TWO_THIRDS, thirds[i]), thirds[i + 1], "two thirds");
        }
        uint256[2][5] memory fixeds = [[uint256(0), 0], [uint256(30), 0], [uint256(50), 0], [uint256(51), 1], [uint256(60), 10]];
        for (uint256 i = 0; i < 5; ++i) {
            eq(Reputation.penalize(PenaltyRule.FIXED_50, fixeds[i][0]), fixeds[i][1], "fixed");
        }
    }

    function testFuzz_log(uint256 w) public pure {
        uint256 log = Reputation.rewardWeight(w);
        if (w == 0) return eq(log, 0, "zero");
        check(w >> log == 1, "floor of the logarithm");
    }

    // ---- consensus

    /// Random votes of workers with random scores: after each, the chain and the incremental formula agree.
    function testFuzz_consensus(uint256 seed) public {
        Round memory r;
        r.trust = bound(seed, 0, 1000);
        bytes32 taskid = start(r.trust);
        if (r.trust == 0) r.trust = 1;
        r.total = 1;
        for (uint256 i = 0; i < WORKERS && !r.won; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            uint64 s = uint64(seed % 4 == 0 ? (seed >> 8) % 100 : 0);
            score(workers[i], s);
            uint256 answer = (seed >> 16) % 5 == 0 ? 1 : (seed >> 16) % 11 == 0 ? 2 : 0;
            contribute(workers[i], taskid, digest(answer));
            uint256 w = s / 3 > 3 ? s / 3 - 1 : 2;
            uint256 g = r.groups[answer];
            uint256 delta = (g == 0 ? 1 : g) * w - g;
            r.groups[answer] += delta;
            r.total += delta;
            r.won = r.groups[answer] * r.trust > r.total * (r.trust - 1);
            Task memory t = hub.viewTask(taskid);
            check((t.status == TaskStatus.REVEALING) == r.won, "consensus");
            if (r.won) eq(t.consensusValue, resultHash(taskid, digest(answer)), "value");
            eq(t.contributors.length, i + 1, "contributors");
            eq(t.contributors[i], workers[i], "in order");
            Contribution memory c = hub.viewContribution(taskid, workers[i]);
            eq(c.resultHash, resultHash(taskid, digest(answer)), "hash");
            eq(c.weight, Reputation.rewardWeight(w), "weight");
        }
    }

    // ---- money

    /// Random honest, lying and silent workers, prices and pool share: each ends with exactly what the formulas give it.
    function testFuzz_settlement(uint256 seed) public {
        uint256 price = bound(seed >> 8, 0, 1e14);
        uint256 ratio = (seed >> 60) % 101;
        vm.prank(poolOwner);
        Workerpool(pool).changePolicy((seed >> 70) % 60, ratio);
        Orders memory o = orders(16);
        o.pool.workerpoolprice = o.request.workerpoolmaxprice = price;
        sign(o);
        fund(requester, price);
        fund(poolOwner, price);
        bytes32 taskid = hub.initialize(send(o), 0);
        uint256 stake = price * ((seed >> 70) % 60) / 100;
        uint256[] memory before = new uint256[](WORKERS);
        uint256 n;
        while (n < WORKERS && hub.viewTask(taskid).status == TaskStatus.ACTIVE) {
            fund(workers[n], stake);
            score(workers[n], uint64((seed >> (8 * n)) % 40));
            before[n] = hub.balanceOf(workers[n]);
            contribute(workers[n], taskid, digest(n == 0 ? 1 : 0));
            ++n;
        }
        if (hub.viewTask(taskid).status != TaskStatus.REVEALING) return;
        settle(taskid, seed, n, before, price, stake, ratio);
    }

    function settle(
        bytes32 taskid,
        uint256 seed,
        uint256 n,
        uint256[] memory before,
        uint256 price,
        uint256 stake,
        uint256 ratio
    ) internal {
        bool firstWon = hub.viewTask(taskid).consensusValue == resultHash(taskid, digest(1));
        uint256 totalLog;
        uint256 pot = price;
        bool[] memory paid = new bool[](n);
        uint256[] memory scores = new uint256[](n);
        bool someone;
        for (uint256 i = 0; i < n; ++i) {
            scores[i] = hub.viewScore(workers[i]);
            bool winner = (i == 0) == firstWon;
            if (winner && (!someone || (seed >> i) % 4 != 0)) {
                reveal(workers[i], taskid, digest(i == 0 ? 1 : 0));
                (paid[i], someone) = (true, true);
                totalLog += hub.viewContribution(taskid, workers[i]).weight;
            } else {
                pot += stake;
            }
        }
        vm.warp(hub.viewTask(taskid).revealDeadline);
        uint256 poolBefore = hub.balanceOf(poolOwner);
        finalize(taskid);
        uint256 rest = pot;
        for (uint256 i = 0; i < n; ++i) {
            uint256 share;
            uint256 scoreAfter = scores[i] > 50 ? scores[i] - 50 : 0;
            if (paid[i]) {
                share = (pot * (100 - ratio) / 100) * hub.viewContribution(taskid, workers[i]).weight / totalLog;
                scoreAfter = n > 1 ? scores[i] + 1 : scores[i];
            }
            rest -= share;
            eq(hub.balanceOf(workers[i]), paid[i] ? before[i] + share : before[i] - stake, "worker");
            eq(hub.frozenOf(workers[i]), 0, "unlocked");
            eq(hub.viewScore(workers[i]), scoreAfter, "score");
        }
        eq(hub.balanceOf(poolOwner), poolBefore + price * 30 / 100 + rest, "pool owner");
        eq(hub.balanceOf(address(hub)), 0, "nothing left");
    }

    /// The kitty gives a tenth, at least 1 RLC, at most all.
    function testFuzz_kitty(uint64 price) public {
        price = uint64(bound(price, 0, 1e13));
        Orders memory o = orders(1);
        o.pool.workerpoolprice = o.request.workerpoolmaxprice = price;
        sign(o);
        fund(requester, price);
        fund(poolOwner, price);
        bytes32 lost = hub.initialize(send(o), 0);
        vm.warp(hub.viewTask(lost).finalDeadline);
        hub.claim(lost);
        uint256 kitty = uint256(price) * 30 / 100;
        eq(hub.frozenOf(hub.kitty_address()), kitty, "fed");
        bytes32 taskid = start(1);
        contribute(workers[0], taskid, digest(0));
        reveal(workers[0], taskid, digest(0));
        uint256 before = hub.balanceOf(poolOwner);
        finalize(taskid);
        uint256 prize = kitty / 10 > 1e9 ? kitty / 10 : 1e9;
        if (prize > kitty) prize = kitty;
        eq(hub.balanceOf(poolOwner), before + 3e9 + 0.1e9 + prize, "prize");
        eq(hub.frozenOf(hub.kitty_address()), kitty - prize, "rest");
        eq(hub.balanceOf(address(hub)), kitty - prize, "held");
    }

    // ---- limits

    /// A task with as many contributors as it may have still ends within a block, in every way.
    function test_a_full_task_can_be_reopened_finalized_and_claimed() public {
        uint256 limit = hub.contributor_limit();
        for (uint256 way = 0; way < 2; ++way) {
            bytes32 taskid = start(1 << 40);
            for (uint256 i = 0; i < limit; ++i) {
                address worker = vm.addr(uint256(keccak256(abi.encode("crowd", i))));
                fund(worker, STAKE);
                contribute(worker, taskid, digest(i % 16));
            }
            oneTooMany(taskid, limit);
            vm.warp(hub.viewTask(taskid).finalDeadline);
            uint256 before = gasleft();
            hub.claim(taskid);
            check(before - gasleft() < 1_500_000, "claim fits in a block");
        }
    }

    /// The limit is the last thing that is looked at: other refusals keep their reasons.
    function oneTooMany(bytes32 taskid, uint256 limit) internal {
        bytes memory auth = authorize(workers[0], taskid, address(0));
        bytes memory more = abi.encodeCall(IWork.contribute, (taskid, 0, 0, address(0), "", auth));
        bytes memory reason = abi.encodeWithSelector(IHubEvents.TooManyContributors.selector, limit);
        reverts(workers[0], address(hub), more, reason, "one too many");
        reverts(stranger, address(hub), more, "", "one too many and not authorized");
        bytes memory unsigned = abi.encodeCall(IWork.contribute, (taskid, 0, 0, address(0), "", ""));
        reverts(workers[0], address(hub), unsigned, text("invalid-signature-format"), "one too many and unsigned");
        auth = authorize(stranger, taskid, address(0));
        bytes memory poor = abi.encodeCall(IWork.contribute, (taskid, 0, 0, address(0), "", auth));
        reason = text("IexecEscrow: Transfer amount exceeds balance");
        reverts(stranger, address(hub), poor, reason, "one too many and too poor");
    }

    /// The last place of a task decides it: all others wrong, each with an answer of its own.
    function test_a_full_task_can_be_finalized() public {
        uint256 limit = hub.contributor_limit();
        bytes32 taskid = start(3);
        score(workers[0], 3000);
        for (uint256 i = 1; i < limit; ++i) {
            address worker = vm.addr(uint256(keccak256(abi.encode("crowd", i))));
            fund(worker, STAKE);
            contribute(worker, taskid, digest(i));
        }
        check(hub.viewTask(taskid).status == TaskStatus.ACTIVE, "open");
        uint256 before = gasleft();
        contribute(workers[0], taskid, digest(0));
        check(before - gasleft() < 500_000, "the last contribution fits");
        check(hub.viewTask(taskid).status == TaskStatus.REVEALING, "999 * 3 > 1062 * 2");
        reveal(workers[0], taskid, digest(0));
        before = gasleft();
        finalize(taskid);
        check(before - gasleft() < 1_500_000, "finalize fits in a block");
        eq(hub.balanceOf(workers[0]), RICH + (10e9 + 31 * STAKE) * 99 / 100, "all to the one");
        eq(hub.balanceOf(address(hub)), 0, "nothing left");
    }

    /// After a reopening the same answer counts afresh, and its rejected voices do not come back.
    function test_reopen_starts_the_group_anew() public {
        bytes32 taskid = start(4);
        contribute(workers[0], taskid, digest(0));
        contribute(workers[1], taskid, digest(0));
        vm.warp(hub.viewTask(taskid).revealDeadline);
        vm.prank(poolOwner);
        hub.reopen(taskid);
        contribute(workers[2], taskid, digest(0));
        check(hub.viewTask(taskid).status == TaskStatus.ACTIVE, "one voice is not enough");
        contribute(workers[3], taskid, digest(0));
        Task memory t = hub.viewTask(taskid);
        check(t.status == TaskStatus.REVEALING, "two are");
        eq(t.winnerCounter, 2, "winners");
        bytes memory late = abi.encodeCall(IWork.reveal, (taskid, digest(0)));
        reverts(workers[0], address(hub), late, "", "rejected workers cannot reveal");
        reveal(workers[2], taskid, digest(0));
        reveal(workers[3], taskid, digest(0));
        finalize(taskid);
        eq(hub.balanceOf(workers[0]), RICH - STAKE, "rejected");
        eq(hub.balanceOf(workers[2]), RICH + (10e9 + 2 * STAKE) * 99 / 100 / 2, "paid");
        eq(hub.balanceOf(address(hub)), 0, "nothing left");
    }
}
