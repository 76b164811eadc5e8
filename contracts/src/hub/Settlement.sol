// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Tasks} from "./Tasks.sol";
import {IWork} from "../interfaces/IWork.sol";
import {IResultReceiver} from "../interfaces/External.sol";
import {DealRecord} from "../libraries/DealRecord.sol";
import {Records} from "../libraries/Records.sol";
import {Reputation} from "../libraries/Reputation.sol";
import {PenaltyRule} from "../types/Views.sol";

/// @title The end of a task: who is paid, who loses what, who gets money back
abstract contract Settlement is Tasks {
    using DealRecord for bytes;

    /// @inheritdoc IWork
    PenaltyRule public immutable penaltyRule;

    /// A contributor as the settlement needs it.
    struct Member {
        address worker;
        bool proved;
        uint256 rewardWeight;
    }

    constructor(PenaltyRule rule) {
        penaltyRule = rule;
    }

    /// @inheritdoc IWork
    function reopen(bytes32 taskid) external {
        TaskState storage task = _tasks[taskid];
        address record = task.deal;
        Progress memory progress = task.progress;
        require(record != address(0) && progress.phase == Phase.REVEALING);
        require(progress.revealDeadline <= block.timestamp && progress.proved == 0);
        bytes memory deal = Records.read(_largeRecords, record);
        require(deal.workerpoolOwner() == msg.sender && deal.finalDeadline() > block.timestamp);

        address worker = progress.last;
        while (worker != address(0)) {
            ContributionState storage c = task.contributions[worker];
            if (c.group + 1 == progress.winner) c.standing = Standing.REJECTED;
            worker = c.previous;
        }
        progress.phase = Phase.ACTIVE;
        progress.winner = 0;
        progress.revealDeadline = 0;
        task.progress = progress;
        emit TaskReopen(taskid);
    }

    /// @inheritdoc IWork
    function finalize(bytes32 taskid, bytes calldata results, bytes calldata resultsCallback) external {
        TaskState storage task = _tasks[taskid];
        address record = task.deal;
        Progress memory progress = task.progress;
        require(record != address(0) && progress.phase == Phase.REVEALING && progress.proved != 0);
        bytes memory deal = Records.read(_largeRecords, record);
        require(deal.workerpoolOwner() == msg.sender && deal.finalDeadline() > block.timestamp);
        (Member[] memory members, bool complete) = _members(task, progress);
        require(complete || progress.revealDeadline <= block.timestamp);
        address callback = deal.callback();
        if (callback != address(0) || resultsCallback.length != 0) {
            require(keccak256(resultsCallback) == task.groups[progress.winner - 1]);
        }

        task.progress.phase = Phase.COMPLETED;
        _keepResults(taskid, results, resultsCallback);
        uint256 paid = _settleDeal(deal, taskid) + _settleMembers(deal, taskid, members);
        _vault.held -= uint96(paid);
        emit TaskFinalize(taskid, results);
        if (callback != address(0)) _push(callback, taskid, resultsCallback);
    }

    /// @inheritdoc IWork
    function contributeAndFinalize(
        bytes32 taskid,
        bytes32 resultDigest,
        bytes calldata results,
        bytes calldata resultsCallback,
        address enclaveChallenge,
        bytes calldata enclaveSign,
        bytes calldata authorizationSign
    ) external {
        TaskState storage task = _tasks[taskid];
        (Progress memory progress, bytes memory deal) = _openTask(task);
        require(progress.contributors == 0 && deal.trust() == 1);
        address callback = deal.callback();
        if (callback != address(0) || resultsCallback.length != 0) {
            require(keccak256(resultsCallback) == resultDigest);
        }
        bytes32 resultHash = keccak256(abi.encodePacked(taskid, resultDigest));
        bytes32 resultSeal = keccak256(abi.encodePacked(msg.sender, taskid, resultDigest));
        _checkEnclave(deal, taskid, resultHash, resultSeal, enclaveChallenge, enclaveSign, authorizationSign);

        _recordSingle(task, deal, resultDigest, resultSeal, enclaveChallenge);
        _keepResults(taskid, results, resultsCallback);
        uint256 paid = _settleDeal(deal, taskid);
        uint256 pool = deal.workerpoolPrice();
        uint256 share = pool * (100 - deal.schedulerRewardRatio()) / 100;
        _reward(msg.sender, share, taskid);
        _reward(deal.workerpoolOwner(), pool - share, taskid);
        _vault.held -= uint96(paid + pool);

        emit TaskContribute(taskid, msg.sender, resultHash);
        emit TaskConsensus(taskid, resultHash);
        emit TaskReveal(taskid, msg.sender, resultDigest);
        emit TaskFinalize(taskid, results);
        if (callback != address(0)) _push(callback, taskid, resultsCallback);
    }

    /// @inheritdoc IWork
    function claim(bytes32 taskid) public {
        TaskState storage task = _tasks[taskid];
        address record = task.deal;
        Progress memory progress = task.progress;
        require(record != address(0) && (progress.phase == Phase.ACTIVE || progress.phase == Phase.REVEALING));
        bytes memory deal = Records.read(_largeRecords, record);
        require(deal.finalDeadline() <= block.timestamp);
        task.progress.phase = Phase.FAILED;

        uint256 paid = deal.price();
        _unlock(deal.sponsor(), paid);
        _feedKitty(deal.workerpoolOwner(), deal.poolStake(), taskid);
        (Member[] memory members,) = _members(task, progress);
        uint256 stake = deal.workerStake();
        for (uint256 i = 0; i < members.length; ++i) {
            _unlock(members[i].worker, stake);
        }
        _vault.held -= uint96(paid + stake * members.length);
        emit TaskClaimed(taskid);
    }

    /// @inheritdoc IWork
    function claimArray(bytes32[] calldata taskids) external returns (bool) {
        for (uint256 i = 0; i < taskids.length; ++i) {
            claim(taskids[i]);
        }
        return true;
    }

    /// @inheritdoc IWork
    function initializeAndClaimArray(bytes32[] calldata dealids, uint256[] calldata idxs) external returns (bool) {
        require(dealids.length == idxs.length);
        for (uint256 i = 0; i < dealids.length; ++i) {
            claim(initialize(dealids[i], idxs[i]));
        }
        return true;
    }

    // ---- parts

    /// The contributors in the order they came, and whether every valid member of the winning group has revealed.
    function _members(TaskState storage task, Progress memory progress)
        private
        view
        returns (Member[] memory members, bool complete)
    {
        members = new Member[](progress.contributors);
        complete = true;
        address worker = progress.last;
        for (uint256 i = members.length; i > 0;) {
            ContributionState storage c = task.contributions[worker];
            Member memory member = members[--i];
            member.worker = worker;
            member.proved = progress.proved & (1 << i) != 0;
            member.rewardWeight = Reputation.rewardWeight(c.weight);
            if (!member.proved && c.standing == Standing.VALID && c.group + 1 == progress.winner) complete = false;
            worker = c.previous;
        }
    }

    /// What every completed task pays: the payer's price, app and dataset owner, the pool's stake back, the kitty's prize.
    /// Returns what left the hub; the price of the pool is still to be shared out.
    function _settleDeal(bytes memory deal, bytes32 taskid) private returns (uint256 paid) {
        _seize(deal.sponsor(), deal.price(), taskid);
        uint256 amount = deal.appPrice();
        if (amount > 0) _reward(deal.appOwner(), amount, taskid);
        paid = amount;
        amount = deal.datasetPrice();
        if (amount > 0) _reward(deal.datasetOwner(), amount, taskid);
        paid += amount;
        address poolOwner = deal.workerpoolOwner();
        amount = deal.poolStake();
        _unlock(poolOwner, amount);
        paid += amount;
        uint256 kitty = _vault.kitty;
        if (kitty > 0) {
            amount = _max(kitty * KITTY_PERCENT / 100, KITTY_MIN);
            if (amount > kitty) amount = kitty;
            _vault.kitty = uint96(kitty - amount);
            emit Seize(KITTY, amount, taskid);
            _reward(poolOwner, amount, taskid);
            paid += amount;
        }
    }

    /// Pays the winners by weight, takes the stakes of all others and adds them to the pot. Returns what left the hub.
    function _settleMembers(bytes memory deal, bytes32 taskid, Member[] memory members) private returns (uint256 paid) {
        uint256 stake = deal.workerStake();
        uint256 totalWeight;
        uint256 losers;
        for (uint256 i = 0; i < members.length; ++i) {
            if (members[i].proved) totalWeight += members[i].rewardWeight;
            else ++losers;
        }
        uint256 pot = deal.workerpoolPrice() + losers * stake;
        uint256 workersPot = pot * (100 - deal.schedulerRewardRatio()) / 100;
        uint256 rest = pot;
        for (uint256 i = 0; i < members.length; ++i) {
            address worker = members[i].worker;
            if (members[i].proved) {
                uint256 share = workersPot * members[i].rewardWeight / totalWeight;
                rest -= share;
                _unlock(worker, stake);
                _reward(worker, share, taskid);
                if (members.length > 1) {
                    _accounts[worker].score += 1;
                    emit AccurateContribution(worker, taskid);
                }
            } else {
                _seize(worker, stake, taskid);
                _accounts[worker].score = uint64(Reputation.penalize(penaltyRule, _accounts[worker].score));
                emit FaultyContribution(worker, taskid);
            }
        }
        _reward(deal.workerpoolOwner(), rest, taskid);
        return pot + stake * (members.length - losers);
    }

    /// The pool's stake of a failed task goes to the kitty; it stays with the hub.
    function _feedKitty(address poolOwner, uint256 amount, bytes32 taskid) private {
        _seize(poolOwner, amount, taskid);
        unchecked {
            _vault.kitty += uint96(amount);
        }
        emit Reward(KITTY, amount, taskid);
        emit Lock(KITTY, amount);
    }

    /// A task with the one contribution that also completed it. Its weight is 0.
    function _recordSingle(
        TaskState storage task,
        bytes memory deal,
        bytes32 resultDigest,
        bytes32 resultSeal,
        address enclave
    ) private {
        task.progress = Progress({
            last: msg.sender,
            phase: Phase.COMPLETED,
            contributors: 1,
            winner: 1,
            revealDeadline: uint40(block.timestamp + REVEAL_RATIO * deal.timeRef()),
            proved: 1
        });
        task.groups[0] = resultDigest;
        ContributionState storage c = task.contributions[msg.sender];
        c.standing = Standing.VALID;
        c.seal = resultSeal;
        if (enclave != address(0)) c.enclave = enclave;
    }

    /// Record of a result: 0x00, length of `results` in four bytes, `results`, `resultsCallback`.
    function _keepResults(bytes32 taskid, bytes calldata results, bytes calldata resultsCallback) private {
        if (results.length + resultsCallback.length == 0) return;
        bytes memory data = abi.encodePacked(bytes1(0), uint32(results.length), results, resultsCallback);
        Records.write(_largeRecords, taskid, data);
    }

    /// Pushes the result (ERC-1154). Whether it succeeds is the receiver's affair; that it gets its gas is ours, and its answer is
    /// not copied.
    function _push(address callback, bytes32 taskid, bytes calldata resultsCallback) private {
        uint256 limit = _callbackGas;
        bytes memory data = abi.encodeCall(IResultReceiver.receiveResult, (taskid, resultsCallback));
        // A call passes on at most 63/64 of what is left; opening the account costs 2,600.
        uint256 needed = limit + limit / 63 + 5000;
        if (gasleft() < needed) revert CallbackNeedsMoreGas(gasleft(), needed);
        assembly ("memory-safe") {
            pop(call(limit, callback, 0, add(data, 0x20), mload(data), 0, 0))
        }
    }
}
