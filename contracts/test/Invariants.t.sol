// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Market} from "./base/Market.sol";
import {Test} from "./base/Test.sol";
import {IHub} from "../src/interfaces/IHub.sol";
import {IWork} from "../src/interfaces/IWork.sol";
import {Task, TaskStatus, Deal, ContributionStatus} from "../src/types/Views.sol";
import {Workerpool} from "../src/registry/Workerpool.sol";
import {RequestOrderOperation, OrderOperation} from "../src/types/Orders.sol";

/// A callback that tries to be paid again.
contract Intruder {
    uint256 public called;
    uint256 public gotIn;

    function receiveResult(bytes32 taskid, bytes calldata data) external {
        ++called;
        bytes[3] memory calls = [
            abi.encodeCall(IWork.claim, (taskid)),
            abi.encodeCall(IWork.finalize, (taskid, "", data)),
            abi.encodeCall(IWork.reopen, (taskid))
        ];
        for (uint256 i = 0; i < 3; ++i) {
            (bool ok,) = msg.sender.call(calls[i]);
            if (ok) ++gotIn;
        }
    }
}

/// Many actors who do anything at any time. What must succeed or fail by the rules is checked on the spot; sums are checked by the
/// invariants below.
contract Crowd is Market {
    bytes32[] public deals;
    bytes32[] public tasks;
    mapping(bytes32 => uint256) public started;
    mapping(bytes32 => bool) public finished;
    mapping(bytes32 => uint256) public closedOf;
    mapping(bytes32 => uint256) public taken;
    bytes32[] public datasetOrders;
    address[] public actors;
    mapping(string => uint256) public done;
    /// What `viewTask` said of a task when it ended.
    mapping(bytes32 => bytes32) public asItEnded;
    /// Calls about a finished task that were accepted, and lone workers whose score changed: there must be none.
    uint256 public acceptedAfterTheEnd;
    uint256 public loneWorkersWithScore;
    Intruder public intruder;

    function setUp() public override {
        super.setUp();
        actors = [appOwner, datasetOwner, poolOwner, requester, stranger, address(this)];
        for (uint256 i = 0; i < WORKERS; ++i) {
            actors.push(workers[i]);
        }
        intruder = new Intruder();
    }

    function actorCount() external view returns (uint256) {
        return actors.length;
    }

    function dealCount() external view returns (uint256) {
        return deals.length;
    }

    function taskCount() external view returns (uint256) {
        return tasks.length;
    }

    function orderCount() external view returns (uint256) {
        return datasetOrders.length;
    }

    function theHub() external view returns (IHub) {
        return hub;
    }

    function rlcHeld() external view returns (uint256) {
        return rlc.balanceOf(address(hub));
    }

    // ---- money

    function doDeposit(uint256 who, uint96 amount) external {
        fund(actors[who % actors.length], bound(amount, 0, 1e12));
        ++done["deposit"];
    }

    function doWithdraw(uint256 who, uint96 amount) external {
        address a = actors[who % actors.length];
        uint256 free = hub.balanceOf(a);
        vm.prank(a);
        hub.withdraw(bound(amount, 0, free / 4));
        ++done["withdraw"];
    }

    function doTransfer(uint256 from, uint256 to, uint96 amount) external {
        address a = actors[from % actors.length];
        uint256 free = hub.balanceOf(a);
        vm.prank(a);
        hub.transfer(actors[to % actors.length], bound(amount, 0, free / 4));
        ++done["transfer"];
    }

    function doSendRlcByMistake(uint96 amount) external {
        rlc.transfer(address(hub), bound(amount, 0, 1e9));
        if (amount % 3 == 0) hub.recover();
        ++done["mistake"];
    }

    function doDepositByOtherWays(uint256 who, uint96 amount) external {
        address a = actors[who % actors.length];
        uint256 part = bound(amount, 0, 1e11);
        uint256[] memory amounts = new uint256[](2);
        address[] memory targets = new address[](2);
        (amounts[0], amounts[1], targets[0], targets[1]) = (part, part / 2, a, stranger);
        rlc.approve(address(hub), part + part / 2);
        hub.depositForArray(amounts, targets);
        rlc.transfer(a, part);
        vm.prank(a);
        rlc.approveAndCall(address(hub), part, "");
        vm.prank(a);
        hub.withdrawTo(part / 3, requester);
        ++done["other deposits"];
    }

    function doAllow(uint256 from, uint256 to, uint96 amount) external {
        (address a, address b) = (actors[from % actors.length], actors[to % actors.length]);
        uint256 part = bound(amount, 0, hub.balanceOf(a) / 4);
        vm.startPrank(a);
        hub.approve(b, part);
        hub.increaseAllowance(b, 5);
        hub.decreaseAllowance(b, 3);
        vm.stopPrank();
        vm.prank(b);
        hub.transferFrom(a, actors[(to >> 8) % actors.length], part);
        ++done["allow"];
    }

    function doOffice(uint256 seed) external {
        if (seed % 2 == 0) hub.setTeeBroker(seed % 4 == 0 ? address(0) : stranger);
        else hub.setCallbackGas(bound(seed >> 8, 50_000, 300_000));
        ++done["office"];
    }

    function doChangePolicy(uint8 stake, uint8 reward) external {
        vm.prank(poolOwner);
        Workerpool(pool).changePolicy(stake % 101, reward % 101);
        ++done["policy"];
    }

    // ---- deals

    function doMatch(uint256 seed) external {
        Orders memory o = orders(seed % 3 == 0 ? 1 : seed % 9);
        uint256 size = 1 + (seed >> 8) % 3;
        volume(o, size);
        if ((seed >> 16) % 3 == 0) noDataset(o);
        if ((seed >> 20) % 4 == 0) (o.app.appprice, o.pool.workerpoolprice) = (0, (seed >> 24) % 1e10);
        if ((seed >> 28) % 3 == 0) o.request.callback = address(intruder);
        sign(o);
        if (o.dataset.dataset == address(0)) o.dataset.sign = "";
        if ((seed >> 32) % 4 == 0) {
            o.request.sign = "";
            vm.prank(requester);
            hub.manageRequestOrder(RequestOrderOperation(o.request, OrderOperation.SIGN, ""));
        }
        bytes32 dealid;
        if ((seed >> 60) % 4 == 0) {
            vm.prank(stranger);
            try hub.sponsorMatchOrders(o.app, o.dataset, o.pool, o.request) returns (bytes32 id) {
                dealid = id;
            } catch {
                return;
            }
        } else {
            try hub.matchOrders(o.app, o.dataset, o.pool, o.request) returns (bytes32 id) {
                dealid = id;
            } catch {
                return;
            }
        }
        deals.push(dealid);
        if (o.dataset.dataset != address(0)) {
            datasetOrders.push(datasetHash(o));
            taken[datasetHash(o)] = size;
        }
        if ((seed >> 36) % 4 == 0) {
            vm.prank(requester);
            hub.manageRequestOrder(RequestOrderOperation(o.request, OrderOperation.CLOSE, ""));
        }
        (bool again,) = address(hub).call(abi.encodeCall(hub.matchOrders, (o.app, o.dataset, o.pool, o.request)));
        check(!again, "an exhausted request matched again");
        ++done["match"];
    }

    function doInitialize(uint256 seed) external {
        if (deals.length == 0) return;
        bytes32 dealid = young(deals, seed);
        Deal memory d = hub.viewDeal(dealid);
        if (started[dealid] == d.botSize) return;
        bytes32 taskid = hub.initialize(dealid, d.botFirst + started[dealid]++);
        tasks.push(taskid);
        ++done["initialize"];
    }

    function doInitializeArray(uint256 seed) external {
        if (deals.length == 0) return;
        bytes32 dealid = young(deals, seed);
        Deal memory d = hub.viewDeal(dealid);
        uint256 left = d.botSize - started[dealid];
        if (left == 0) return;
        (bytes32[] memory dealids, uint256[] memory idxs) = (new bytes32[](left), new uint256[](left));
        for (uint256 i = 0; i < left; ++i) {
            (dealids[i], idxs[i]) = (dealid, d.botFirst + started[dealid] + i);
        }
        bool ending = time() >= d.startTime + 10 * T;
        if (ending) hub.initializeAndClaimArray(dealids, idxs);
        else hub.initializeArray(dealids, idxs);
        for (uint256 i = 0; i < left; ++i) {
            bytes32 taskid = keccak256(abi.encodePacked(dealid, idxs[i]));
            tasks.push(taskid);
            if (ending) end(taskid);
        }
        started[dealid] = d.botSize;
        ++done[ending ? "initializeAndClaimArray" : "initializeArray"];
    }

    // ---- tasks

    /// The digest of an answer: of bytes that can be pushed to a callback.
    function digestOf(uint256 answer) internal pure returns (bytes32) {
        return keccak256(abi.encode(answer));
    }

    function end(bytes32 taskid) internal {
        finished[taskid] = true;
        asItEnded[taskid] = keccak256(abi.encode(hub.viewTask(taskid)));
    }

    function pick(uint256 seed) internal view returns (bytes32) {
        return young(tasks, seed);
    }

    /// One of the list; the last three more often, as they still have something to do.
    function young(bytes32[] storage list, uint256 seed) private view returns (bytes32) {
        uint256 n = list.length;
        return list[seed % 5 == 0 ? (seed >> 8) % n : n - 1 - (seed >> 8) % (n < 3 ? n : 3)];
    }

    function doContribute(uint256 seed) external {
        if (tasks.length == 0) return;
        bytes32 taskid = pick(seed);
        address worker = workers[(seed >> 32) % WORKERS];
        bytes32 answer = digestOf((seed >> 64) % 4 == 0 ? 2 : 1);
        bytes memory auth = authorize(worker, taskid, address(0));
        bytes memory data = abi.encodeCall(
            IWork.contribute,
            (taskid, resultHash(taskid, answer), resultSeal(worker, taskid, answer), address(0), "", auth)
        );
        if (tryCall(worker, taskid, data)) ++done["contribute"];
    }

    function doContributeAndFinalize(uint256 seed) external {
        if (tasks.length == 0) return;
        bytes32 taskid = pick(seed);
        address worker = workers[(seed >> 32) % WORKERS];
        uint256 score_ = hub.viewScore(worker);
        bytes memory auth = authorize(worker, taskid, address(0));
        bytes memory data =
            abi.encodeCall(IWork.contributeAndFinalize, (taskid, digestOf(1), "r", abi.encode(1), address(0), "", auth));
        if (!tryCall(worker, taskid, data)) return;
        end(taskid);
        if (hub.viewScore(worker) != score_) ++loneWorkersWithScore;
        ++done["contributeAndFinalize"];
    }

    function doReveal(uint256 seed) external {
        if (tasks.length == 0) return;
        bytes32 taskid = pick(seed);
        address[] memory cs = hub.viewTask(taskid).contributors;
        if (cs.length == 0) return;
        address worker = cs[(seed >> 32) % cs.length];
        bytes32 answer = digestOf((seed >> 64) % 8 == 0 ? 2 : 1);
        if (tryCall(worker, taskid, abi.encodeCall(IWork.reveal, (taskid, answer)))) ++done["reveal"];
    }

    function doFinalize(uint256 seed) external {
        if (tasks.length == 0) return;
        bytes32 taskid = pick(seed);
        Task memory t = hub.viewTask(taskid);
        address[] memory cs = t.contributors;
        uint256 score_ = cs.length == 1 ? hub.viewScore(cs[0]) : 0;
        bytes memory pushed = abi.encode(t.resultDigest == digestOf(2) ? 2 : 1);
        if (!tryCall(poolOwner, taskid, abi.encodeCall(IWork.finalize, (taskid, "result", pushed)))) return;
        end(taskid);
        if (cs.length == 1 && hub.viewScore(cs[0]) != score_) ++loneWorkersWithScore;
        ++done["finalize"];
    }

    function doReopen(uint256 seed) external {
        if (tasks.length == 0) return;
        bytes32 taskid = pick(seed);
        if (tryCall(poolOwner, taskid, abi.encodeCall(IWork.reopen, (taskid)))) ++done["reopen"];
    }

    function doClaim(uint256 seed) external {
        if (tasks.length == 0) return;
        bytes32 taskid = pick(seed);
        bytes memory data = abi.encodeCall(IWork.claim, (taskid));
        if ((seed >> 64) % 2 == 0) {
            bytes32[] memory list = new bytes32[](1);
            list[0] = taskid;
            data = abi.encodeCall(IWork.claimArray, (list));
        }
        if (!tryCall(actors[(seed >> 32) % actors.length], taskid, data)) return;
        end(taskid);
        ++done["claim"];
    }

    function doWait(uint256 seed) external {
        uint256 most = seed % 8 == 0 ? 11 * T : seed % 8 < 3 ? 2 * T : 60;
        vm.warp(time() + bound(seed >> 8, 0, most));
        ++done["wait"];
    }

    /// Sends a call about a task; a finished task must refuse every call and stay as it is.
    function tryCall(address sender, bytes32 taskid, bytes memory data) internal returns (bool ok) {
        vm.prank(sender);
        (ok,) = address(hub).call(data);
        if (ok && finished[taskid]) ++acceptedAfterTheEnd;
    }
}

/// Sums that hold after any sequence of calls.
contract InvariantsTest is Test {
    Crowd internal crowd;
    IHub internal hub;

    event Done(string kind, uint256 times);

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    function setUp() public {
        crowd = new Crowd();
        crowd.setUp();
        hub = crowd.theHub();
    }

    function targetContracts() public view returns (address[] memory list) {
        list = new address[](1);
        list[0] = address(crowd);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory list) {
        bytes4[] memory s = new bytes4[](24);
        (s[0], s[1], s[2], s[3]) =
            (Crowd.doDeposit.selector, Crowd.doWithdraw.selector, Crowd.doTransfer.selector, Crowd.doWait.selector);
        (s[4], s[5], s[6]) = (Crowd.doSendRlcByMistake.selector, Crowd.doChangePolicy.selector, Crowd.doClaim.selector);
        (s[7], s[8], s[9]) = (Crowd.doMatch.selector, Crowd.doInitialize.selector, Crowd.doInitialize.selector);
        (s[10], s[11]) = (Crowd.doContributeAndFinalize.selector, Crowd.doReopen.selector);
        (s[12], s[13], s[14], s[15]) =
            (Crowd.doContribute.selector, Crowd.doContribute.selector, Crowd.doContribute.selector, Crowd.doContribute.selector);
        (s[16], s[17]) = (Crowd.doReveal.selector, Crowd.doReveal.selector);
        (s[18], s[19]) = (Crowd.doFinalize.selector, Crowd.doFinalize.selector);
        (s[20], s[21], s[22]) = (Crowd.doDepositByOtherWays.selector, Crowd.doAllow.selector, Crowd.doOffice.selector);
        s[23] = Crowd.doInitializeArray.selector;
        list = new FuzzSelector[](1);
        list[0] = FuzzSelector(address(crowd), s);
    }

    function invariant_srlc_is_backed_by_rlc() public view {
        check(crowd.rlcHeld() >= hub.totalSupply(), "RLC held below the supply");
    }

    function invariant_balances_add_up_to_the_supply() public view {
        uint256 sum = hub.balanceOf(address(hub));
        for (uint256 i = 0; i < crowd.actorCount(); ++i) {
            sum += hub.balanceOf(crowd.actors(i));
        }
        eq(sum, hub.totalSupply(), "balances and supply");
    }

    function invariant_the_hub_holds_what_is_locked() public view {
        uint256 sum = hub.frozenOf(hub.kitty_address());
        for (uint256 i = 0; i < crowd.actorCount(); ++i) {
            sum += hub.frozenOf(crowd.actors(i));
        }
        eq(sum, hub.balanceOf(address(hub)), "locked and held");
    }

    /// What is locked is exactly what the open tasks and their contributors locked: nothing is released twice or forgotten.
    function invariant_every_lock_is_released_or_seized_once_per_task() public view {
        uint256 actors = crowd.actorCount();
        uint256[] memory locked = new uint256[](actors);
        for (uint256 i = 0; i < crowd.dealCount(); ++i) {
            Deal memory d = hub.viewDeal(crowd.deals(i));
            uint256 price = d.app.price + d.dataset.price + d.workerpool.price;
            locked[place(d.sponsor)] += price * d.botSize;
            locked[place(d.workerpool.owner)] += (d.workerpool.price * 30 / 100) * d.botSize;
        }
        for (uint256 i = 0; i < crowd.taskCount(); ++i) {
            bytes32 taskid = crowd.tasks(i);
            Task memory t = hub.viewTask(taskid);
            Deal memory d = hub.viewDeal(t.dealid);
            bool over = t.status == TaskStatus.COMPLETED || t.status == TaskStatus.FAILED;
            check(over == crowd.finished(taskid), "finished tasks stay finished, others open");
            if (over) {
                locked[place(d.sponsor)] -= d.app.price + d.dataset.price + d.workerpool.price;
                locked[place(d.workerpool.owner)] -= d.workerpool.price * 30 / 100;
            } else {
                for (uint256 j = 0; j < t.contributors.length; ++j) {
                    locked[place(t.contributors[j])] += d.workerStake;
                }
            }
        }
        for (uint256 i = 0; i < actors; ++i) {
            eq(hub.frozenOf(crowd.actors(i)), locked[i], "locked");
        }
    }

    function place(address account) internal view returns (uint256 i) {
        while (crowd.actors(i) != account) ++i;
    }

    /// No call about a task that has ended is accepted, not even from its own callback, and it stays as it ended.
    function invariant_a_finished_task_pays_never_again() public view {
        eq(crowd.acceptedAfterTheEnd(), 0, "calls accepted after the end");
        eq(crowd.intruder().gotIn(), 0, "calls accepted from a callback");
        for (uint256 i = 0; i < crowd.taskCount(); ++i) {
            bytes32 taskid = crowd.tasks(i);
            if (!crowd.finished(taskid)) continue;
            eq(keccak256(abi.encode(hub.viewTask(taskid))), crowd.asItEnded(taskid), "as it ended");
        }
    }

    function invariant_a_lone_worker_gains_no_score() public view {
        eq(crowd.loneWorkersWithScore(), 0, "lone workers with a new score");
    }

    function invariant_dataset_orders_are_consumed() public view {
        for (uint256 i = 0; i < crowd.orderCount(); ++i) {
            bytes32 hash = crowd.datasetOrders(i);
            eq(hub.viewConsumed(hash), crowd.taken(hash), "consumed");
        }
    }

    function invariant_counters_agree_with_contributions() public view {
        for (uint256 i = 0; i < crowd.taskCount(); ++i) {
            bytes32 taskid = crowd.tasks(i);
            Task memory t = hub.viewTask(taskid);
            uint256 proved;
            for (uint256 j = 0; j < t.contributors.length; ++j) {
                if (hub.viewContribution(taskid, t.contributors[j]).status == ContributionStatus.PROVED) ++proved;
            }
            eq(proved, t.revealCounter, "revealed");
            check(t.revealCounter <= t.winnerCounter, "only winners reveal");
            check((t.winnerCounter > 0) == (t.consensusValue != 0), "winners and consensus");
        }
    }

    function run(bytes memory data) private {
        (bool ok,) = address(crowd).call(data);
        check(ok, "a step of the crowd failed");
    }

    /// Not an invariant: shows that the random calls reach every kind of step.
    function test_the_crowd_does_everything() public {
        string[19] memory kinds = [
            "deposit", "withdraw", "transfer", "mistake", "policy", "match", "initialize", "contribute",
            "contributeAndFinalize", "reveal", "finalize", "reopen", "claim", "wait", "other deposits", "allow", "office",
            "initializeArray", "initializeAndClaimArray"
        ];
        uint256 seed = 1;
        for (uint256 i = 0; i < 3000; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            bytes4[] memory s = targetSelectors()[0].selectors;
            uint256 which = seed % s.length;
            // Arguments of the calls in the order of `targetSelectors`: 2 and 3 wide ones, narrow ones, and one wide seed.
            if (which < 2) run(abi.encodeWithSelector(s[which], seed >> 8, uint96(seed >> 40)));
            else if (which == 20) run(abi.encodeWithSelector(s[which], seed >> 8, uint96(seed >> 40)));
            else if (which == 2 || which == 21) run(abi.encodeWithSelector(s[which], seed >> 8, seed >> 16, uint96(seed >> 40)));
            else if (which == 4) run(abi.encodeWithSelector(s[which], uint96(seed >> 40)));
            else if (which == 5) run(abi.encodeWithSelector(s[which], uint8(seed >> 40), uint8(seed >> 48)));
            else run(abi.encodeWithSelector(s[which], seed >> 8));
        }
        for (uint256 i = 0; i < kinds.length; ++i) {
            emit Done(kinds[i], crowd.done(kinds[i]));
        }
        for (uint256 i = 0; i < kinds.length; ++i) {
            check(crowd.done(kinds[i]) > 0, kinds[i]);
        }
        check(crowd.intruder().called() > 0, "callbacks");
        invariant_every_lock_is_released_or_seized_once_per_task();
        invariant_a_finished_task_pays_never_again();
        invariant_a_lone_worker_gains_no_score();
        invariant_the_hub_holds_what_is_locked();
        invariant_balances_add_up_to_the_supply();
    }
}
