// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {
    Account, Category, Contribution, Deal, Task, AppInfo, DatasetInfo, WorkerpoolInfo
} from "../types/Views.sol";

/// @title Everything that can be read
/// @notice Unknown ids give zeroed structs.
interface IViews {
    function viewDeal(bytes32 id) external view returns (Deal memory);
    function viewTask(bytes32 id) external view returns (Task memory);
    function viewContribution(bytes32 id, address worker) external view returns (Contribution memory);
    /// @notice Tasks already taken from the order with this hash.
    function viewConsumed(bytes32 id) external view returns (uint256);
    /// @notice Who approved the order with this hash on chain.
    function viewPresigned(bytes32 id) external view returns (address);
    function viewScore(address worker) external view returns (uint256);
    function viewAccount(address account) external view returns (Account memory);
    function frozenOf(address account) external view returns (uint256);
    /// @notice Reverts without data when there is no such category.
    function viewCategory(uint256 id) external view returns (Category memory);
    function countCategory() external view returns (uint256);
    function viewApp(address app) external view returns (AppInfo memory);
    function viewDataset(address dataset) external view returns (DatasetInfo memory);
    function viewWorkerpool(address workerpool) external view returns (WorkerpoolInfo memory);
    /// @notice The callback bytes of a completed task (ERC-1154); reverts with "task-pending" before.
    function resultFor(bytes32 id) external view returns (bytes memory);

    function token() external view returns (address);
    function appregistry() external view returns (address);
    function datasetregistry() external view returns (address);
    function workerpoolregistry() external view returns (address);
    function teebroker() external view returns (address);
    function callbackgas() external view returns (uint256);
    function eip712domain_separator() external view returns (bytes32);

    function contribution_deadline_ratio() external view returns (uint256);
    function reveal_deadline_ratio() external view returns (uint256);
    function final_deadline_ratio() external view returns (uint256);
    function workerpool_stake_ratio() external view returns (uint256);
    function kitty_ratio() external view returns (uint256);
    function kitty_min() external view returns (uint256);
    function kitty_address() external view returns (address);
    function groupmember_purpose() external view returns (uint256);
}

/// @title The same for clients that cannot decode structs
interface ILegacyViews {
    function viewAccountABILegacy(address account) external view returns (uint256 stake, uint256 locked);
    function viewDealABILegacy_pt1(bytes32 id)
        external
        view
        returns (address, address, uint256, address, address, uint256, address, address, uint256);
    function viewDealABILegacy_pt2(bytes32 id)
        external
        view
        returns (uint256 trust, bytes32 tag, address requester, address beneficiary, address callback, string memory params);
    function viewConfigABILegacy(bytes32 id)
        external
        view
        returns (
            uint256 category,
            uint256 startTime,
            uint256 botFirst,
            uint256 botSize,
            uint256 workerStake,
            uint256 schedulerRewardRatio
        );
    function viewTaskABILegacy(bytes32 id)
        external
        view
        returns (
            uint8 status,
            bytes32 dealid,
            uint256 idx,
            uint256 timeref,
            uint256 contributionDeadline,
            uint256 revealDeadline,
            uint256 finalDeadline,
            bytes32 consensusValue,
            uint256 revealCounter,
            uint256 winnerCounter,
            address[] memory contributors,
            bytes memory results
        );
    function viewContributionABILegacy(bytes32 id, address worker)
        external
        view
        returns (uint8 status, bytes32 resultHash, bytes32 resultSeal, address enclaveChallenge);
    function viewCategoryABILegacy(uint256 id)
        external
        view
        returns (string memory name, string memory description, uint256 workClockTimeRef);
}
