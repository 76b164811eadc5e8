// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Escrow} from "./Escrow.sol";
import {IWork} from "../interfaces/IWork.sol";
import {DealRecord} from "../libraries/DealRecord.sol";
import {Records} from "../libraries/Records.sol";
import {Signatures} from "../libraries/Signatures.sol";
import {Reputation} from "../libraries/Reputation.sol";

/// @title From the start of a task to its consensus and the reveals
abstract contract Tasks is IWork, Escrow {
    using DealRecord for bytes;

    // ---- start

    /// @inheritdoc IWork
    function initialize(bytes32 dealid, uint256 idx) public returns (bytes32 taskid) {
        address record = Records.addressOf(dealid);
        bytes memory deal = Records.read(_largeRecords, record);
        require(deal.length != 0 && idx >= deal.botFirst() && idx - deal.botFirst() < deal.botSize());
        taskid = keccak256(abi.encodePacked(dealid, idx));
        TaskState storage task = _tasks[taskid];
        require(task.deal == address(0));
        task.deal = record;
        task.index = uint64(idx);
        emit TaskInitialize(taskid, deal.workerpool());
    }

    /// @inheritdoc IWork
    function initializeArray(bytes32[] calldata dealids, uint256[] calldata idxs) external returns (bool) {
        require(dealids.length == idxs.length);
        for (uint256 i = 0; i < dealids.length; ++i) {
            initialize(dealids[i], idxs[i]);
        }
        return true;
    }

    // ---- contribution

    /// @inheritdoc IWork
    function contribute(
        bytes32 taskid,
        bytes32 resultHash,
        bytes32 resultSeal,
        address enclaveChallenge,
        bytes calldata enclaveSign,
        bytes calldata authorizationSign
    ) external {
        TaskState storage task = _tasks[taskid];
        (Progress memory progress, bytes memory deal) = _openTask(task);
        require(task.contributions[msg.sender].standing == Standing.NONE);
        _checkEnclave(deal, taskid, resultHash, resultSeal, enclaveChallenge, enclaveSign, authorizationSign);
        _lock(msg.sender, deal.workerStake());
        // Last of all checks: what the protocol refuses is refused with the protocol's reason.
        if (progress.contributors >= CONTRIBUTOR_LIMIT) revert TooManyContributors(CONTRIBUTOR_LIMIT);

        uint256 weight = Reputation.weight(_accounts[msg.sender].score);
        emit TaskContribute(taskid, msg.sender, resultHash);

        (uint256 group, bool agreed) = _count(task, progress.last, resultHash, weight, deal.trust());
        ContributionState storage c = task.contributions[msg.sender];
        c.previous = progress.last;
        c.standing = Standing.VALID;
        c.group = uint8(group);
        c.position = progress.contributors;
        c.weight = uint64(weight);
        c.seal = resultSeal;
        if (enclaveChallenge != address(0)) c.enclave = enclaveChallenge;

        progress.last = msg.sender;
        progress.contributors += 1;
        if (agreed) {
            progress.phase = Phase.REVEALING;
            progress.winner = uint8(group + 1);
            progress.revealDeadline = uint40(block.timestamp + REVEAL_RATIO * deal.timeRef());
            emit TaskConsensus(taskid, resultHash);
        }
        task.progress = progress;
    }

    /// The progress and the deal of a task that still takes contributions.
    function _openTask(TaskState storage task) internal view returns (Progress memory progress, bytes memory deal) {
        address record = task.deal;
        progress = task.progress;
        require(record != address(0) && progress.phase == Phase.ACTIVE);
        deal = Records.read(_largeRecords, record);
        require(deal.contributionDeadline() > block.timestamp);
    }

    /// The caller must be authorized for the task, and where an enclave is named, by it too.
    function _checkEnclave(
        bytes memory deal,
        bytes32 taskid,
        bytes32 resultHash,
        bytes32 resultSeal,
        address enclave,
        bytes calldata enclaveSign,
        bytes calldata authorizationSign
    ) internal view {
        require(enclave != address(0) || !deal.needsEnclave());
        address authority = deal.workerpoolOwner();
        if (enclave != address(0) && _teeBroker != address(0)) authority = _teeBroker;
        bytes32 message = keccak256(abi.encodePacked(msg.sender, taskid, enclave));
        require(Signatures.check(authority, Signatures.personal(message), authorizationSign));
        if (enclave != address(0)) {
            message = keccak256(abi.encodePacked(resultHash, resultSeal));
            require(Signatures.check(enclave, Signatures.personal(message), enclaveSign));
        }
    }

    /// Adds a contribution of `weight` for `resultHash` to the votes: the weight of a group is the product of its valid members',
    /// the total is 1 + the sum of the groups. Returns its group (recorded if it is new) and whether that group has won.
    function _count(TaskState storage task, address last, bytes32 resultHash, uint256 weight, uint256 trust)
        private
        returns (uint256 group, bool agreed)
    {
        uint256[CONTRIBUTOR_LIMIT] memory groups;
        uint256 size;
        while (last != address(0)) {
            ContributionState storage c = task.contributions[last];
            uint256 g = c.group;
            if (g >= size) size = g + 1;
            if (c.standing == Standing.VALID) groups[g] = _max(groups[g], 1) * c.weight;
            last = c.previous;
        }
        while (group < size && task.groups[group] != resultHash) ++group;
        if (group == size) {
            task.groups[group] = resultHash;
            ++size;
        }
        groups[group] = _max(groups[group], 1) * weight;
        uint256 total = 1;
        for (uint256 g = 0; g < size; ++g) {
            total += groups[g];
        }
        agreed = groups[group] * trust > total * (trust - 1);
    }

    // ---- reveal

    /// @inheritdoc IWork
    function reveal(bytes32 taskid, bytes32 resultDigest) external {
        TaskState storage task = _tasks[taskid];
        Progress memory progress = task.progress;
        require(progress.phase == Phase.REVEALING && progress.revealDeadline > block.timestamp);
        ContributionState storage c = task.contributions[msg.sender];
        uint256 group = c.group;
        uint32 bit = uint32(1 << c.position);
        require(c.standing == Standing.VALID && group + 1 == progress.winner && progress.proved & bit == 0);
        require(c.seal == keccak256(abi.encodePacked(msg.sender, taskid, resultDigest)));
        if (progress.proved == 0) {
            require(task.groups[group] == keccak256(abi.encodePacked(taskid, resultDigest)));
            task.groups[group] = resultDigest;
        } else {
            require(task.groups[group] == resultDigest);
        }
        task.progress.proved = progress.proved | bit;
        emit TaskReveal(taskid, msg.sender, resultDigest);
    }

    function _max(uint256 x, uint256 y) internal pure returns (uint256) {
        return x > y ? x : y;
    }
}
