// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Views} from "./Views.sol";
import {ILegacyViews} from "../interfaces/IViews.sol";
import {Account, Category, Contribution, Deal, Task} from "../types/Views.sol";

/// @title The views without structs
abstract contract LegacyViews is ILegacyViews, Views {
    /// @inheritdoc ILegacyViews
    function viewAccountABILegacy(address account) external view returns (uint256 stake, uint256 locked) {
        Account memory a = viewAccount(account);
        return (a.stake, a.locked);
    }

    /// @inheritdoc ILegacyViews
    function viewDealABILegacy_pt1(bytes32 dealid)
        external
        view
        returns (address, address, uint256, address, address, uint256, address, address, uint256)
    {
        Deal memory d = viewDeal(dealid);
        return (
            d.app.pointer,
            d.app.owner,
            d.app.price,
            d.dataset.pointer,
            d.dataset.owner,
            d.dataset.price,
            d.workerpool.pointer,
            d.workerpool.owner,
            d.workerpool.price
        );
    }

    /// @inheritdoc ILegacyViews
    function viewDealABILegacy_pt2(bytes32 dealid)
        external
        view
        returns (uint256, bytes32, address, address, address, string memory)
    {
        Deal memory d = viewDeal(dealid);
        return (d.trust, d.tag, d.requester, d.beneficiary, d.callback, d.params);
    }

    /// @inheritdoc ILegacyViews
    function viewConfigABILegacy(bytes32 dealid)
        external
        view
        returns (uint256, uint256, uint256, uint256, uint256, uint256)
    {
        Deal memory d = viewDeal(dealid);
        return (d.category, d.startTime, d.botFirst, d.botSize, d.workerStake, d.schedulerRewardRatio);
    }

    /// @inheritdoc ILegacyViews
    function viewTaskABILegacy(bytes32 taskid)
        external
        view
        returns (
            uint8,
            bytes32,
            uint256,
            uint256,
            uint256,
            uint256,
            uint256,
            bytes32,
            uint256,
            uint256,
            address[] memory,
            bytes memory
        )
    {
        Task memory t = viewTask(taskid);
        return (
            uint8(t.status),
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

    /// @inheritdoc ILegacyViews
    function viewContributionABILegacy(bytes32 taskid, address worker)
        external
        view
        returns (uint8, bytes32, bytes32, address)
    {
        Contribution memory c = viewContribution(taskid, worker);
        return (uint8(c.status), c.resultHash, c.resultSeal, c.enclaveChallenge);
    }

    /// @inheritdoc ILegacyViews
    function viewCategoryABILegacy(uint256 id) external view returns (string memory, string memory, uint256) {
        Category memory c = _category(id);
        return (c.name, c.description, c.workClockTimeRef);
    }
}
