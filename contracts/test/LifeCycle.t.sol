// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Market} from "./base/Market.sol";
import {Task, TaskStatus, Contribution, ContributionStatus, PenaltyRule, Deal} from "../src/types/Views.sol";

/// The life of a task from match to payment, refund or penalty.
contract LifeCycleTest is Market {
    bytes32 internal constant DIGEST = keccak256("result");
    bytes32 internal constant WRONG = keccak256("forged");

    function stake(address account) internal view returns (uint256) {
        return hub.balanceOf(account);
    }

    function test_one_worker_is_paid_and_everything_is_unlocked() public {
        bytes32 taskid = start(1);
        eq(hub.frozenOf(requester), 13e9, "requester locked");
        eq(hub.frozenOf(poolOwner), 3e9, "pool locked");
        contribute(workers[0], taskid, DIGEST);
        eq(hub.frozenOf(workers[0]), STAKE, "worker locked");
        eq(hub.balanceOf(address(hub)), 19e9, "held by the hub");
        reveal(workers[0], taskid, DIGEST);
        finalize(taskid);

        eq(stake(requester), RICH - 13e9, "requester");
        eq(stake(appOwner), RICH + 1e9, "app owner");
        eq(stake(datasetOwner), RICH + 2e9, "dataset owner");
        eq(stake(workers[0]), RICH + 9.9e9, "worker");
        eq(stake(poolOwner), RICH + 0.1e9, "pool owner");
        eq(hub.balanceOf(address(hub)), 0, "nothing left");
        eq(hub.viewScore(workers[0]), 0, "a lone worker gains no score");
        Task memory t = hub.viewTask(taskid);
        check(t.status == TaskStatus.COMPLETED, "completed");
        eq(t.results, RESULTS, "results");
        eq(t.resultDigest, DIGEST, "digest");
        eq(t.consensusValue, resultHash(taskid, DIGEST), "consensus");
        eq(t.revealCounter, 1, "reveals");
        eq(t.winnerCounter, 1, "winners");
        eq(t.contributors.length, 1, "contributors");
        eq(t.contributors[0], workers[0], "contributor");
        Contribution memory c = hub.viewContribution(taskid, workers[0]);
        check(c.status == ContributionStatus.PROVED, "proved");
        eq(c.resultHash, resultHash(taskid, DIGEST), "hash");
        eq(c.resultSeal, resultSeal(workers[0], taskid, DIGEST), "seal");
        eq(c.weight, 1, "weight");
    }

    function test_three_workers_share_and_gain_score() public {
        bytes32 taskid = start(8);
        for (uint256 i = 0; i < 3; ++i) {
            check(hub.viewTask(taskid).status == TaskStatus.ACTIVE, "still open");
            contribute(workers[i], taskid, DIGEST);
        }
        check(hub.viewTask(taskid).status == TaskStatus.REVEALING, "consensus");
        for (uint256 i = 0; i < 3; ++i) {
            reveal(workers[i], taskid, DIGEST);
        }
        finalize(taskid);
        for (uint256 i = 0; i < 3; ++i) {
            eq(stake(workers[i]), RICH + 3.3e9, "worker");
            eq(hub.viewScore(workers[i]), 1, "score");
        }
        eq(stake(poolOwner), RICH + 0.1e9, "pool owner");
    }

    /// One liar, first, against honest workers. At trust 5 and a fresh liar three do not suffice (8·5 < 11·4), four do. The trust must
    /// exceed the liar's weight, or it wins alone.
    function liarLosesStake(uint64 before, uint256 afterwards, uint256 trust) internal {
        address liar = workers[9];
        score(liar, before);
        bytes32 taskid = start(trust);
        uint256 weight = before < 12 ? 2 : before / 3 - 1;
        contribute(liar, taskid, WRONG);
        uint256 honest;
        uint256 group;
        while (hub.viewTask(taskid).status == TaskStatus.ACTIVE) {
            contribute(workers[honest++], taskid, DIGEST);
            group = group == 0 ? 2 : group * 2;
            check(
                (group * trust > (1 + group + weight) * (trust - 1)) == (hub.viewTask(taskid).status == TaskStatus.REVEALING), "rule"
            );
        }
        for (uint256 i = 0; i < honest; ++i) {
            reveal(workers[i], taskid, DIGEST);
        }
        finalize(taskid);
        eq(stake(liar), RICH - STAKE, "liar lost its stake");
        eq(hub.frozenOf(liar), 0, "nothing stays locked");
        eq(hub.viewScore(liar), afterwards, "score");
        uint256 share = (13e9 * 99 / 100) / honest;
        for (uint256 i = 0; i < honest; ++i) {
            eq(stake(workers[i]), RICH + share, "honest");
            eq(hub.viewScore(workers[i]), 1, "honest score");
        }
        eq(stake(poolOwner), RICH + 13e9 - share * honest, "pool owner has the rest");
        check(hub.viewContribution(taskid, liar).status == ContributionStatus.CONTRIBUTED, "stays contributed");
    }

    function test_liar_with_score_60_falls_to_10() public {
        liarLosesStake(60, 10, 20);
    }

    function test_liar_with_score_30_falls_to_0() public {
        liarLosesStake(30, 0, 10);
    }

    function test_fresh_liar_has_no_score_to_lose() public {
        liarLosesStake(0, 0, 5);
    }

    function test_other_rule_takes_a_third() public {
        deploy(PenaltyRule.TWO_THIRDS, 0);
        openMarket();
        liarLosesStake(10, 6, 5);
    }

    function test_unrevealed_contribution_is_penalised() public {
        bytes32 taskid = start(4);
        contribute(workers[0], taskid, DIGEST);
        contribute(workers[1], taskid, DIGEST);
        reveal(workers[0], taskid, DIGEST);
        vm.warp(hub.viewTask(taskid).revealDeadline);
        finalize(taskid);
        eq(stake(workers[0]), RICH + 12.87e9, "revealed: (10 + 3) * 99 %");
        eq(stake(workers[1]), RICH - STAKE, "unrevealed");
        eq(hub.viewScore(workers[0]), 1, "score");
    }

    function test_reopen_rejects_and_the_task_can_still_complete() public {
        bytes32 taskid = start(1);
        contribute(workers[0], taskid, DIGEST);
        vm.warp(hub.viewTask(taskid).revealDeadline);
        vm.prank(poolOwner);
        hub.reopen(taskid);
        check(hub.viewContribution(taskid, workers[0]).status == ContributionStatus.REJECTED, "rejected");
        Task memory t = hub.viewTask(taskid);
        check(t.status == TaskStatus.ACTIVE, "active");
        eq(t.consensusValue, bytes32(0), "no consensus");
        eq(t.winnerCounter, 0, "no winners");
        contribute(workers[1], taskid, DIGEST);
        reveal(workers[1], taskid, DIGEST);
        finalize(taskid);
        eq(stake(workers[0]), RICH - STAKE, "rejected stake is seized");
        eq(stake(workers[1]), RICH + 12.87e9, "paid");
        eq(hub.viewScore(workers[1]), 1, "two contributors: score");
    }

    function test_claim_refunds_everybody_and_feeds_the_kitty() public {
        bytes32 taskid = start(4);
        contribute(workers[0], taskid, DIGEST);
        vm.warp(hub.viewTask(taskid).finalDeadline);
        vm.prank(stranger);
        hub.claim(taskid);
        eq(stake(requester), RICH, "requester");
        eq(stake(workers[0]), RICH, "worker");
        eq(stake(poolOwner), RICH - 3e9, "pool owner");
        eq(hub.frozenOf(hub.kitty_address()), 3e9, "kitty");
        eq(hub.balanceOf(address(hub)), 3e9, "held");
        check(hub.viewTask(taskid).status == TaskStatus.FAILED, "failed");

        taskid = start(1);
        contribute(workers[0], taskid, DIGEST);
        reveal(workers[0], taskid, DIGEST);
        finalize(taskid);
        eq(stake(poolOwner), RICH - 3e9 + 0.1e9 + 1e9, "the kitty pays at least 1 RLC");
    }

    function test_claim_array_and_initialize_and_claim_array() public {
        Orders memory o = orders(1);
        volume(o, 3);
        sign(o);
        bytes32 dealid = send(o);
        bytes32[] memory ids = new bytes32[](1);
        ids[0] = hub.initialize(dealid, 1);
        vm.warp(block.timestamp + 10 * T);
        check(hub.claimArray(ids), "claimed");
        bytes32[] memory deals = new bytes32[](2);
        uint256[] memory idxs = new uint256[](2);
        (deals[0], deals[1], idxs[1]) = (dealid, dealid, 2);
        check(hub.initializeAndClaimArray(deals, idxs), "claimed");
        eq(stake(requester), RICH, "all refunded");
        eq(hub.frozenOf(requester), 0, "nothing locked");
    }

    function test_contribute_and_finalize() public {
        bytes32 taskid = start(1);
        bytes memory authorization = authorize(workers[0], taskid, address(0));
        vm.prank(workers[0]);
        hub.contributeAndFinalize(taskid, DIGEST, RESULTS, "", address(0), "", authorization);
        eq(stake(workers[0]), RICH + 9.9e9, "worker");
        eq(stake(poolOwner), RICH + 0.1e9, "pool");
        eq(hub.balanceOf(address(hub)), 0, "nothing left");
        Task memory t = hub.viewTask(taskid);
        check(t.status == TaskStatus.COMPLETED, "completed");
        eq(t.resultDigest, DIGEST, "digest");
        eq(t.revealDeadline, block.timestamp + 2 * T, "reveal deadline");
        eq(hub.viewContribution(taskid, workers[0]).weight, 0, "no weight");
    }

    function test_view_deal_gives_what_was_matched() public {
        Orders memory o = orders(5);
        o.pool.tag = bytes32(uint256(0x1f1));
        o.app.tag = bytes32(uint256(1));
        o.request.tag = bytes32(uint256(0x100));
        o.dataset.tag = bytes32(uint256(0x0f));
        o.request.callback = stranger;
        o.request.beneficiary = address(6);
        sign(o);
        bytes32 dealid = send(o);
        Deal memory d = hub.viewDeal(dealid);
        eq(d.app.pointer, app, "app");
        eq(d.app.owner, appOwner, "app owner");
        eq(d.app.price, APP_PRICE, "app price");
        eq(d.dataset.pointer, dataset, "dataset");
        eq(d.dataset.owner, datasetOwner, "dataset owner");
        eq(d.dataset.price, DATASET_PRICE, "dataset price");
        eq(d.workerpool.pointer, pool, "pool");
        eq(d.workerpool.owner, poolOwner, "pool owner");
        eq(d.workerpool.price, POOL_PRICE, "pool price");
        eq(d.trust, 5, "trust");
        eq(d.category, CATEGORY, "category");
        eq(d.tag, bytes32(uint256(0x101)), "tag");
        eq(d.requester, requester, "requester");
        eq(d.beneficiary, address(6), "beneficiary");
        eq(d.callback, stranger, "callback");
        eq(d.params, "<parameters>", "params");
        eq(d.startTime, block.timestamp, "start");
        eq(d.botFirst, 0, "first");
        eq(d.botSize, 1, "size");
        eq(d.workerStake, STAKE, "stake");
        eq(d.schedulerRewardRatio, 1, "ratio");
        eq(d.sponsor, requester, "sponsor");
    }

    function test_sponsor_pays() public {
        Orders memory o = orders(1);
        sign(o);
        vm.prank(appOwner);
        bytes32 dealid = hub.sponsorMatchOrders(o.app, o.dataset, o.pool, o.request);
        eq(hub.viewDeal(dealid).sponsor, appOwner, "sponsor");
        eq(hub.frozenOf(appOwner), 13e9, "locked");
        eq(hub.frozenOf(requester), 0, "requester");
    }

    /// Though the requester has as much locked for another deal: the sponsor's money pays, in both ways to complete a task.
    function test_a_sponsored_task_is_paid_by_its_sponsor() public {
        makeDeal(1);
        for (uint256 way = 0; way < 2; ++way) {
            Orders memory o = orders(1);
            sign(o);
            vm.prank(datasetOwner);
            bytes32 taskid = hub.initialize(hub.sponsorMatchOrders(o.app, o.dataset, o.pool, o.request), 0);
            eq(hub.frozenOf(datasetOwner), 13e9, "locked");
            if (way == 0) {
                contribute(workers[0], taskid, DIGEST);
                reveal(workers[0], taskid, DIGEST);
                finalize(taskid);
            } else {
                bytes memory authorization = authorize(workers[0], taskid, address(0));
                vm.prank(workers[0]);
                hub.contributeAndFinalize(taskid, DIGEST, RESULTS, "", address(0), "", authorization);
            }
            eq(hub.frozenOf(datasetOwner), 0, "the sponsor has paid");
            eq(hub.frozenOf(requester), 13e9, "the requester's other deal is not touched");
        }
        eq(stake(datasetOwner), RICH - 2 * 13e9 + 2 * 2e9, "twice, and got the dataset's price twice");
    }
}
