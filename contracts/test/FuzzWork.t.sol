// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Market} from "./base/Market.sol";
import {IHubEvents} from "../src/interfaces/IHubEvents.sol";
import {IMatching} from "../src/interfaces/IMatching.sol";
import {IWork} from "../src/interfaces/IWork.sol";
import {Account, Contribution, Deal, Task, TaskStatus, ContributionStatus} from "../src/types/Views.sol";
import {Workerpool} from "../src/registry/Workerpool.sol";

/// Deals and tasks with random numbers, people and times: each call does what its rule says, or refuses and leaves all as it was.
contract FuzzWorkTest is Market {
    bytes32 internal constant DIGEST = keccak256("result");

    // ---- deals

    /// Whoever sends the sponsored match pays, and the requester keeps what it has.
    function testFuzz_anybody_may_sponsor(uint256 key, uint64 price, uint8 size) public {
        address payer = vm.addr(bound(key, 1, type(uint128).max));
        price = uint64(bound(price, 0, 1e12));
        size = uint8(bound(size, 1, 5));
        Orders memory o = orders(1);
        volume(o, size);
        o.pool.workerpoolprice = o.request.workerpoolmaxprice = price;
        sign(o);
        uint256 cost = (APP_PRICE + DATASET_PRICE + price) * size;
        bytes memory call = abi.encodeCall(IMatching.sponsorMatchOrders, (o.app, o.dataset, o.pool, o.request));
        bytes memory poor = text("IexecEscrow: Transfer amount exceeds balance");
        reverts(payer, address(hub), call, poor, "a sponsor without money");
        fund(payer, cost);
        fund(poolOwner, uint256(price) * size);
        vm.prank(payer);
        bytes32 dealid = hub.sponsorMatchOrders(o.app, o.dataset, o.pool, o.request);
        eq(hub.viewDeal(dealid).sponsor, payer, "sponsor");
        eq(hub.frozenOf(payer), cost, "locked");
        eq(hub.viewAccount(payer).stake, 0, "all of it");
        eq(hub.viewAccount(requester).stake, RICH, "the requester pays nothing");
        bytes32 taskid = hub.initialize(dealid, size - 1);
        vm.warp(hub.viewTask(taskid).finalDeadline);
        hub.claim(taskid);
        eq(hub.balanceOf(payer), cost / size, "and gets the money back");
    }

    /// The least that any of the orders has left; a dataset counts only where there is one.
    function testFuzz_deal_volume(uint64[4] memory volumes, uint64 taken, bool without) public {
        Orders memory o = orders(1);
        (o.app.appprice, o.dataset.datasetprice, o.pool.workerpoolprice) = (0, 0, 0);
        (o.app.volume, o.dataset.volume) = (volumes[0], volumes[1]);
        (o.pool.volume, o.request.volume) = (volumes[2], volumes[3]);
        if (without) noDataset(o);
        uint256 least = volumes[0] < volumes[2] ? volumes[0] : volumes[2];
        if (volumes[3] < least) least = volumes[3];
        if (!without && volumes[1] < least) least = volumes[1];
        eq(hub.computeDealVolume(o.app, o.dataset, o.pool, o.request), least, "before, and without signatures");
        taken = uint64(bound(taken, 0, least));
        if (taken == 0) return;
        // Another pool's order takes some of the other orders first.
        (uint256 size, bytes32 salt) = (o.pool.volume, o.pool.salt);
        (o.pool.volume, o.pool.salt) = (taken, keccak256("other"));
        sign(o);
        send(o);
        eq(hub.viewConsumed(appHash(o)), taken, "taken from the app's order");
        eq(hub.viewConsumed(requestHash(o)), taken, "taken from the request");
        (o.pool.volume, o.pool.salt) = (size, salt);
        uint256 left = volumes[0] - taken < size ? volumes[0] - taken : size;
        if (volumes[3] - taken < left) left = volumes[3] - taken;
        if (!without && volumes[1] - taken < left) left = volumes[1] - taken;
        eq(hub.computeDealVolume(o.app, o.dataset, o.pool, o.request), left, "after");
    }

    /// The flat views tell what the structs tell.
    function testFuzz_flat_views_agree_with_the_structs(uint256 seed) public {
        Orders memory o = orders(seed % 20);
        o.request.beneficiary = address(uint160(seed >> 8));
        o.request.callback = (seed >> 4) % 2 == 0 ? address(0) : address(uint160(seed >> 16));
        o.request.params = vm.toString(seed);
        o.app.tag = o.pool.tag = o.request.tag = bytes32(seed & ~uint256(1));
        if ((seed >> 5) % 2 == 0) noDataset(o);
        sign(o);
        bytes32 dealid = send(o);
        bytes32 taskid = hub.initialize(dealid, 0);
        contribute(workers[seed % WORKERS], taskid, DIGEST);
        sameDeal(dealid);
        sameTask(taskid, workers[seed % WORKERS]);
        address[3] memory people = [requester, poolOwner, workers[seed % WORKERS]];
        for (uint256 i = 0; i < 3; ++i) {
            Account memory a = hub.viewAccount(people[i]);
            (uint256 stake, uint256 locked) = hub.viewAccountABILegacy(people[i]);
            eq(stake, a.stake, "stake");
            eq(locked, a.locked, "locked");
            eq(stake, hub.balanceOf(people[i]), "balance");
            eq(locked, hub.frozenOf(people[i]), "frozen");
        }
    }

    function test_flat_views() public {
        Orders memory o = orders(3);
        sign(o);
        bytes32 dealid = send(o);
        bytes32 taskid = hub.initialize(dealid, 0);
        sameDeal(dealid);
        contribute(workers[0], taskid, DIGEST);
        contribute(workers[1], taskid, DIGEST);
        reveal(workers[0], taskid, DIGEST);
        reveal(workers[1], taskid, DIGEST);
        finalize(taskid);
        sameTask(taskid, workers[0]);
        (uint256 stake, uint256 locked) = hub.viewAccountABILegacy(requester);
        eq(stake, RICH - 13e9, "stake");
        eq(locked, 0, "locked");
        sameDeal(bytes32(uint256(5)));
        sameTask(bytes32(uint256(5)), stranger);
    }

    function sameDeal(bytes32 dealid) internal view {
        Deal memory d = hub.viewDeal(dealid);
        bytes memory first = abi.encode(d.app, d.dataset, d.workerpool);
        eq(raw(abi.encodeCall(hub.viewDealABILegacy_pt1, (dealid))), first, "parties");
        bytes memory second = abi.encode(d.trust, d.tag, d.requester, d.beneficiary, d.callback, d.params);
        eq(raw(abi.encodeCall(hub.viewDealABILegacy_pt2, (dealid))), second, "terms");
        bytes memory config =
            abi.encode(d.category, d.startTime, d.botFirst, d.botSize, d.workerStake, d.schedulerRewardRatio);
        eq(raw(abi.encodeCall(hub.viewConfigABILegacy, (dealid))), config, "config");
    }

    function sameTask(bytes32 taskid, address worker) internal view {
        Task memory t = hub.viewTask(taskid);
        bytes memory head = abi.encode(
            t.status, t.dealid, t.idx, t.timeref, t.contributionDeadline, t.revealDeadline, t.finalDeadline
        );
        bytes memory flat = raw(abi.encodeCall(hub.viewTaskABILegacy, (taskid)));
        eq(flat, flatTask(t), "task");
        check(flat.length > head.length, "all of it");
        Contribution memory c = hub.viewContribution(taskid, worker);
        bytes memory contribution = abi.encode(c.status, c.resultHash, c.resultSeal, c.enclaveChallenge);
        eq(raw(abi.encodeCall(hub.viewContributionABILegacy, (taskid, worker))), contribution, "contribution");
    }

    function flatTask(Task memory t) internal pure returns (bytes memory) {
        return abi.encode(
            t.status,
            t.dealid,
            t.idx,
            t.timeref,
            t.contributionDeadline,
            t.revealDeadline,
            t.finalDeadline,
            t.consensusValue,
            t.revealCounter,
            t.winnerCounter,
            t.contributors,
            t.results
        );
    }

    /// The answer of a view, undecoded.
    function raw(bytes memory call) internal view returns (bytes memory answer) {
        bool ok;
        (ok, answer) = address(hub).staticcall(call);
        check(ok, "view");
    }

    // ---- start

    /// A deal of `size` tasks, the first `skip` numbers of whose request belong to another deal.
    function bag(uint256 skip, uint256 size) internal returns (bytes32 dealid) {
        Orders memory o = orders(1);
        (o.app.appprice, o.dataset.datasetprice, o.pool.workerpoolprice) = (0, 0, 0);
        noDataset(o);
        o.app.volume = type(uint64).max;
        o.request.volume = skip + size;
        o.pool.volume = skip;
        sign(o);
        if (skip > 0) send(o);
        (o.pool.volume, o.pool.salt) = (size, keccak256("rest"));
        sign(o);
        dealid = send(o);
    }

    function testFuzz_initialize(uint64 skip, uint64 size, uint256 idx, address who) public {
        skip = uint64(bound(skip, 0, 1 << 40));
        size = uint64(bound(size, 1, 1 << 40));
        bytes32 dealid = bag(skip, size);
        if (idx % 4 != 0) idx = bound(idx, 0, uint256(skip) + size + 1);
        bytes memory call = abi.encodeCall(IWork.initialize, (dealid, idx));
        if (idx < skip || idx >= uint256(skip) + size) return reverts(who, address(hub), call, "", "not in the deal");
        vm.prank(who);
        bytes32 taskid = hub.initialize(dealid, idx);
        eq(taskid, keccak256(abi.encodePacked(dealid, idx)), "id");
        Task memory t = hub.viewTask(taskid);
        check(t.status == TaskStatus.ACTIVE, "active");
        eq(t.dealid, dealid, "deal");
        eq(t.idx, idx, "index");
        eq(t.contributionDeadline, block.timestamp + 7 * T, "7 T");
        eq(t.finalDeadline, block.timestamp + 10 * T, "10 T");
        reverts(who, address(hub), call, "", "twice");
    }

    function indices(bytes32 dealid, uint256 first, uint256 count)
        internal
        pure
        returns (bytes32[] memory deals, uint256[] memory idxs, bytes32[] memory tasks)
    {
        (deals, idxs, tasks) = (new bytes32[](count), new uint256[](count), new bytes32[](count));
        for (uint256 i = 0; i < count; ++i) {
            (deals[i], idxs[i]) = (dealid, first + i);
            tasks[i] = keccak256(abi.encodePacked(dealid, first + i));
        }
    }

    function test_initialize_array() public {
        bytes32 dealid = bag(0, 5);
        (bytes32[] memory deals, uint256[] memory idxs, bytes32[] memory tasks) = indices(dealid, 1, 3);
        check(hub.initializeArray(deals, idxs), "answer");
        for (uint256 i = 0; i < 3; ++i) {
            eq(hub.viewTask(tasks[i]).idx, i + 1, "started");
        }
        bytes memory lopsided = abi.encodeCall(IWork.initializeArray, (deals, new uint256[](2)));
        reverts(stranger, address(hub), lopsided, "", "lengths");
        (deals, idxs, tasks) = indices(dealid, 3, 3);
        bytes memory overlapping = abi.encodeCall(IWork.initializeArray, (deals, idxs));
        reverts(stranger, address(hub), overlapping, "", "one is started, one is beyond the deal");
        check(hub.viewTask(tasks[1]).status == TaskStatus.UNSET, "all or none");
    }

    /// All tasks of the list or none.
    function testFuzz_arrays(uint256 size, uint256 first, uint256 count, uint256 wait) public {
        size = bound(size, 1, 8);
        first = bound(first, 0, size);
        count = bound(count, 0, size + 1);
        wait = bound(wait, 10 * T - 1, 10 * T + 1);
        bytes32 dealid = bag(0, size);
        (bytes32[] memory deals, uint256[] memory idxs, bytes32[] memory tasks) = indices(dealid, first, count);
        bytes memory starting = abi.encodeCall(IWork.initializeArray, (deals, idxs));
        bytes memory both = abi.encodeCall(IWork.initializeAndClaimArray, (deals, idxs));
        bytes memory claiming = abi.encodeCall(IWork.claimArray, (tasks));
        bool fits = first + count <= size;
        vm.warp(block.timestamp + wait);
        bool late = wait >= 10 * T;
        if (!(fits && (late || count == 0))) reverts(stranger, address(hub), both, "", "too early or too many");
        if (!fits) return reverts(stranger, address(hub), starting, "", "too many");
        if (first % 2 == 0) {
            check(hub.initializeArray(deals, idxs), "started");
            if (!late && count > 0) return reverts(stranger, address(hub), claiming, "", "too early");
            check(hub.claimArray(tasks), "claimed");
        } else {
            if (!late && count > 0) return;
            check(hub.initializeAndClaimArray(deals, idxs), "started and claimed");
        }
        for (uint256 i = 0; i < count; ++i) {
            check(hub.viewTask(tasks[i]).status == TaskStatus.FAILED, "failed");
        }
        if (count > 0) reverts(stranger, address(hub), claiming, "", "twice");
    }

    // ---- the end of a task

    /// A task of trust 2^n·2 − 1 or so, on which `count` fresh workers agree and which is in consensus exactly then.
    function agreed(uint256 count) internal returns (bytes32 taskid) {
        taskid = start(uint256(1) << count);
        for (uint256 i = 0; i < count; ++i) {
            contribute(workers[i], taskid, DIGEST);
        }
        check(hub.viewTask(taskid).status == TaskStatus.REVEALING, "consensus");
    }

    /// At any time, by anybody, with any number of reveals: a task is reopened when the rule says so and never else.
    function testFuzz_reopen(uint256 when, uint256 count, uint256 reveals, uint256 who, uint256 pause) public {
        count = bound(count, 1, 6);
        reveals = reveals % 3 == 0 ? bound(reveals >> 8, 1, count) : 0;
        address sender = [poolOwner, poolOwner, poolOwner, requester, workers[0], stranger][who % 6];
        // Sometimes the consensus comes so late that both deadlines are near.
        bytes32 taskid = start(uint256(1) << count);
        vm.warp(time() + bound(pause, 0, 7 * T - 1));
        for (uint256 i = 0; i < count; ++i) {
            contribute(workers[i], taskid, DIGEST);
        }
        for (uint256 i = 0; i < reveals; ++i) {
            reveal(workers[i], taskid, DIGEST);
        }
        Task memory t = hub.viewTask(taskid);
        uint256[8] memory times = [
            t.revealDeadline - 1,
            t.revealDeadline,
            t.revealDeadline + 1,
            t.finalDeadline - 1,
            t.finalDeadline,
            t.finalDeadline + 1,
            time(),
            bound(when >> 8, time(), t.finalDeadline + T)
        ];
        uint256 now_ = times[when % 8];
        vm.warp(now_);
        bool may = sender == poolOwner && reveals == 0 && now_ >= t.revealDeadline && now_ < t.finalDeadline;
        uint256 held = hub.balanceOf(address(hub));
        if (!may) {
            reverts(sender, address(hub), abi.encodeCall(IWork.reopen, (taskid)), "", "reopened against the rule");
            eq(abi.encode(hub.viewTask(taskid)), abi.encode(t), "unchanged");
            return;
        }
        vm.prank(sender);
        hub.reopen(taskid);
        Task memory after_ = hub.viewTask(taskid);
        check(after_.status == TaskStatus.ACTIVE, "active");
        eq(after_.consensusValue, bytes32(0), "no consensus");
        eq(after_.winnerCounter, 0, "no winners");
        eq(after_.revealDeadline, 0, "nothing to reveal");
        eq(after_.contributors.length, count, "they stay in the list");
        for (uint256 i = 0; i < count; ++i) {
            check(hub.viewContribution(taskid, workers[i]).status == ContributionStatus.REJECTED, "rejected");
            eq(hub.frozenOf(workers[i]), STAKE, "still locked");
        }
        eq(hub.balanceOf(address(hub)), held, "no money moves");
        reverts(sender, address(hub), abi.encodeCall(IWork.reopen, (taskid)), "", "twice");
    }

    /// At any time and in any state: a claim gives everybody back what the task locked, but for the pool owner, or it refuses.
    function testFuzz_claim(uint256 when, uint256 count, uint256 reveals, uint64 price, uint8 stake, address who) public {
        price = uint64(bound(price, 0, 1e12));
        stake = uint8(bound(stake, 0, 100));
        count = bound(count, 0, 6);
        reveals = bound(reveals, 0, count);
        vm.prank(poolOwner);
        Workerpool(pool).changePolicy(stake, 1);
        Orders memory o = orders(64);
        o.pool.workerpoolprice = o.request.workerpoolmaxprice = price;
        sign(o);
        fund(requester, price);
        fund(poolOwner, price);
        for (uint256 i = 0; i < count; ++i) {
            fund(workers[i], price);
        }
        uint256[3] memory before =
            [hub.balanceOf(requester), hub.balanceOf(poolOwner), hub.balanceOf(workers[0])];
        bytes32 taskid = hub.initialize(send(o), 0);
        for (uint256 i = 0; i < count; ++i) {
            contribute(workers[i], taskid, DIGEST);
        }
        if (hub.viewTask(taskid).status == TaskStatus.REVEALING) {
            for (uint256 i = 0; i < reveals; ++i) {
                reveal(workers[i], taskid, DIGEST);
            }
        }
        uint256 deadline = hub.viewTask(taskid).finalDeadline;
        uint256 now_ = [deadline - 1, deadline, deadline + 1, bound(when >> 8, time(), deadline + 365 days)][when % 4];
        vm.warp(now_);
        bytes memory call = abi.encodeCall(IWork.claim, (taskid));
        if (now_ < deadline) return reverts(who, address(hub), call, "", "too early");
        vm.prank(who);
        hub.claim(taskid);
        check(hub.viewTask(taskid).status == TaskStatus.FAILED, "failed");
        uint256 lost = uint256(price) * 30 / 100;
        eq(hub.balanceOf(requester), before[0], "requester");
        eq(hub.balanceOf(poolOwner), before[1] - lost, "pool owner");
        eq(hub.balanceOf(workers[0]), before[2], "worker");
        eq(hub.frozenOf(hub.kitty_address()), lost, "kitty");
        eq(hub.balanceOf(address(hub)), lost, "nothing else is held");
        for (uint256 i = 0; i < count; ++i) {
            eq(hub.frozenOf(workers[i]), 0, "unlocked");
            eq(hub.viewScore(workers[i]), 0, "no score");
        }
        reverts(who, address(hub), call, "", "twice");
    }

    /// One worker does it all: paid by the published formula, without stake and without score.
    function testFuzz_contribute_and_finalize(uint64 price, uint8 ratio, uint64 score_, bytes memory results, bytes32 x)
        public
    {
        price = uint64(bound(price, 0, 1e12));
        ratio = uint8(bound(ratio, 0, 100));
        vm.prank(poolOwner);
        Workerpool(pool).changePolicy(30, ratio);
        score(workers[0], score_);
        Orders memory o = orders(uint256(x) % 2);
        o.pool.workerpoolprice = o.request.workerpoolmaxprice = price;
        sign(o);
        fund(requester, price);
        fund(poolOwner, price);
        uint256[2] memory before = [hub.balanceOf(workers[0]), hub.balanceOf(poolOwner)];
        bytes32 taskid = hub.initialize(send(o), 0);
        bytes memory authorization = authorize(workers[0], taskid, address(0));
        vm.prank(workers[0]);
        hub.contributeAndFinalize(taskid, x, results, "", address(0), "", authorization);
        uint256 share = uint256(price) * (100 - ratio) / 100;
        eq(hub.balanceOf(workers[0]), before[0] + share, "worker");
        eq(hub.balanceOf(poolOwner), before[1] + price - share, "pool owner");
        eq(hub.balanceOf(address(hub)), 0, "nothing left");
        eq(hub.viewScore(workers[0]), score_, "no score");
        Task memory t = hub.viewTask(taskid);
        check(t.status == TaskStatus.COMPLETED, "completed");
        eq(t.resultDigest, x, "digest");
        eq(t.consensusValue, resultHash(taskid, x), "consensus");
        eq(t.results, results, "results");
        Contribution memory c = hub.viewContribution(taskid, workers[0]);
        check(c.status == ContributionStatus.PROVED, "proved");
        eq(c.resultSeal, resultSeal(workers[0], taskid, x), "seal");
    }

    /// A winner reveals once, in time, with its own digest.
    function testFuzz_reveal(uint256 when, uint256 count, bytes32 other) public {
        count = bound(count, 1, 6);
        bytes32 taskid = agreed(count);
        uint256 deadline = hub.viewTask(taskid).revealDeadline;
        uint256 now_ = [deadline - 1, deadline, deadline + 1, bound(when >> 8, time(), deadline + T)][when % 4];
        vm.warp(now_);
        bytes memory wrong = abi.encodeCall(IWork.reveal, (taskid, other));
        if (other != DIGEST) reverts(workers[0], address(hub), wrong, "", "another digest");
        bytes memory right = abi.encodeCall(IWork.reveal, (taskid, DIGEST));
        if (now_ >= deadline) return reverts(workers[0], address(hub), right, "", "too late");
        for (uint256 i = 0; i < count; ++i) {
            reveal(workers[i], taskid, DIGEST);
            eq(hub.viewTask(taskid).revealCounter, i + 1, "counted");
            reverts(workers[i], address(hub), right, "", "twice");
        }
        eq(hub.viewTask(taskid).resultDigest, DIGEST, "digest");
        reverts(stranger, address(hub), right, "", "a stranger");
    }
}
