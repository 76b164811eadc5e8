// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {HubStorage} from "./HubStorage.sol";
import {IViews} from "../interfaces/IViews.sol";
import {IApp, IDataset, IWorkerpool} from "../interfaces/IAssets.sol";
import {DealRecord} from "../libraries/DealRecord.sol";
import {OrderHash} from "../libraries/OrderHash.sol";
import {Records} from "../libraries/Records.sol";
import {Reputation} from "../libraries/Reputation.sol";
import {
    Account,
    Category,
    Contribution,
    ContributionStatus,
    Deal,
    Resource,
    Task,
    TaskStatus,
    AppInfo,
    DatasetInfo,
    WorkerpoolInfo
} from "../types/Views.sol";

/// @title The compact state, unfolded into the published structs
abstract contract Views is IViews, HubStorage {
    using DealRecord for bytes;

    // ---- deals and tasks

    /// @inheritdoc IViews
    function viewDeal(bytes32 dealid) public view returns (Deal memory deal) {
        bytes memory r = Records.read(_largeRecords, Records.addressOf(dealid));
        if (r.length == 0) return deal;
        deal.app = Resource(r.app(), r.appOwner(), r.appPrice());
        deal.dataset = Resource(r.dataset(), r.datasetOwner(), r.datasetPrice());
        deal.workerpool = Resource(r.workerpool(), r.workerpoolOwner(), r.workerpoolPrice());
        deal.trust = r.trust();
        deal.category = r.category();
        deal.tag = r.tag();
        deal.requester = r.requester();
        deal.beneficiary = r.beneficiary();
        deal.callback = r.callback();
        deal.params = r.params();
        deal.startTime = r.startTime();
        deal.botFirst = r.botFirst();
        deal.botSize = r.botSize();
        deal.workerStake = r.workerStake();
        deal.schedulerRewardRatio = r.schedulerRewardRatio();
        deal.sponsor = r.sponsor();
    }

    /// @inheritdoc IViews
    function viewTask(bytes32 taskid) public view returns (Task memory view_) {
        TaskState storage task = _tasks[taskid];
        if (task.deal == address(0)) return view_;
        bytes memory deal = Records.read(_largeRecords, task.deal);
        Progress memory progress = task.progress;
        view_.status = TaskStatus(uint8(progress.phase) + 1);
        view_.dealid = deal.id();
        view_.idx = task.index;
        view_.timeref = deal.timeRef();
        view_.contributionDeadline = deal.contributionDeadline();
        view_.revealDeadline = progress.revealDeadline;
        view_.finalDeadline = deal.finalDeadline();
        _viewContributors(task, progress, view_);
        if (progress.winner != 0) {
            bytes32 known = task.groups[progress.winner - 1];
            if (progress.proved != 0) view_.resultDigest = known;
            view_.consensusValue =
                progress.proved == 0 ? known : keccak256(abi.encodePacked(taskid, known));
        }
        (view_.results, view_.resultsCallback) = _results(taskid);
    }

    function _viewContributors(TaskState storage task, Progress memory progress, Task memory view_) private view {
        view_.contributors = new address[](progress.contributors);
        address worker = progress.last;
        for (uint256 i = progress.contributors; i > 0;) {
            view_.contributors[--i] = worker;
            ContributionState storage c = task.contributions[worker];
            if (progress.proved & (1 << i) != 0) ++view_.revealCounter;
            if (c.standing == Standing.VALID && c.group + 1 == progress.winner) ++view_.winnerCounter;
            worker = c.previous;
        }
    }

    /// Splits the record that finalize left.
    function _results(bytes32 taskid) private view returns (bytes memory results, bytes memory resultsCallback) {
        bytes memory data = Records.read(_largeRecords, Records.addressOf(taskid));
        if (data.length == 0) return (results, resultsCallback);
        uint256 length = data.field(1, 4);
        return (DealRecord.slice(data, 5, length), DealRecord.slice(data, 5 + length, data.length - 5 - length));
    }

    /// @inheritdoc IViews
    function viewContribution(bytes32 taskid, address worker) public view returns (Contribution memory view_) {
        TaskState storage task = _tasks[taskid];
        ContributionState storage c = task.contributions[worker];
        if (c.standing == Standing.NONE) return view_;
        Progress memory progress = task.progress;
        bool proved = progress.proved & (1 << c.position) != 0;
        if (c.standing == Standing.REJECTED) view_.status = ContributionStatus.REJECTED;
        else view_.status = proved ? ContributionStatus.PROVED : ContributionStatus.CONTRIBUTED;
        bytes32 known = task.groups[c.group];
        bool isDigest = progress.proved != 0 && c.group + 1 == progress.winner;
        view_.resultHash = isDigest ? keccak256(abi.encodePacked(taskid, known)) : known;
        view_.resultSeal = c.seal;
        view_.enclaveChallenge = c.enclave;
        view_.weight = Reputation.rewardWeight(c.weight);
    }

    /// @inheritdoc IViews
    function resultFor(bytes32 taskid) external view returns (bytes memory resultsCallback) {
        TaskState storage task = _tasks[taskid];
        require(task.deal != address(0) && task.progress.phase == Phase.COMPLETED, "task-pending");
        (, resultsCallback) = _results(taskid);
    }

    // ---- orders, accounts, categories

    /// @inheritdoc IViews
    function viewConsumed(bytes32 orderHash) external view returns (uint256) {
        return _consumed(orderHash);
    }

    /// @inheritdoc IViews
    function viewPresigned(bytes32 orderHash) external view returns (address) {
        return _orders[orderHash].signer;
    }

    /// @inheritdoc IViews
    function viewScore(address worker) external view returns (uint256) {
        return _accounts[worker].score;
    }

    /// @inheritdoc IViews
    function viewAccount(address account) public view returns (Account memory) {
        uint256 stake = _accounts[account].free;
        if (account == address(this)) stake += _vault.held;
        return Account({stake: stake, locked: frozenOf(account)});
    }

    /// @inheritdoc IViews
    function frozenOf(address account) public view returns (uint256) {
        return account == KITTY ? _vault.kitty : _accounts[account].locked;
    }

    /// @inheritdoc IViews
    function viewCategory(uint256 id) external view returns (Category memory) {
        require(id < _categories.length);
        return _category(id);
    }

    function _category(uint256 id) internal view returns (Category memory) {
        CategoryState storage c = _categories[id];
        return Category({name: c.name, description: c.description, workClockTimeRef: _timeRefs[id]});
    }

    /// @inheritdoc IViews
    function countCategory() external view returns (uint256) {
        return _categories.length;
    }

    // ---- assets

    /// @inheritdoc IViews
    function viewApp(address app) external view returns (AppInfo memory) {
        IApp a = IApp(app);
        return AppInfo(
            a.owner(), a.m_appName(), a.m_appType(), a.m_appMultiaddr(), a.m_appChecksum(), a.m_appMREnclave()
        );
    }

    /// @inheritdoc IViews
    function viewDataset(address dataset) external view returns (DatasetInfo memory) {
        IDataset d = IDataset(dataset);
        return DatasetInfo(d.owner(), d.m_datasetName(), d.m_datasetMultiaddr(), d.m_datasetChecksum());
    }

    /// @inheritdoc IViews
    function viewWorkerpool(address workerpool) external view returns (WorkerpoolInfo memory) {
        IWorkerpool w = IWorkerpool(workerpool);
        return WorkerpoolInfo(
            w.owner(), w.m_workerpoolDescription(), w.m_workerStakeRatioPolicy(), w.m_schedulerRewardRatioPolicy()
        );
    }

    // ---- configuration

    function token() external view returns (address) {
        return _token;
    }

    function appregistry() external view returns (address) {
        return _appRegistry;
    }

    function datasetregistry() external view returns (address) {
        return _datasetRegistry;
    }

    function workerpoolregistry() external view returns (address) {
        return _workerpoolRegistry;
    }

    function teebroker() external view returns (address) {
        return _teeBroker;
    }

    function callbackgas() external view returns (uint256) {
        return _callbackGas;
    }

    function eip712domain_separator() external view returns (bytes32) {
        return _configured ? OrderHash.domainSeparator() : bytes32(0);
    }

    // ---- constants

    function contribution_deadline_ratio() external pure returns (uint256) {
        return DealRecord.CONTRIBUTION_RATIO;
    }

    function reveal_deadline_ratio() external pure returns (uint256) {
        return REVEAL_RATIO;
    }

    function final_deadline_ratio() external pure returns (uint256) {
        return DealRecord.FINAL_RATIO;
    }

    function workerpool_stake_ratio() external pure returns (uint256) {
        return DealRecord.POOL_STAKE_PERCENT;
    }

    function kitty_ratio() external pure returns (uint256) {
        return KITTY_PERCENT;
    }

    function kitty_min() external pure returns (uint256) {
        return KITTY_MIN;
    }

    function kitty_address() external pure returns (address) {
        return KITTY;
    }

    function groupmember_purpose() external pure returns (uint256) {
        return GROUPMEMBER_PURPOSE;
    }
}
