// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What every asset answers
interface IAsset {
    /// @notice The holder of the asset's token in its registry.
    function owner() external view returns (address);
    function registry() external view returns (address);
    /// @notice Always reverts: names are not registered on chain.
    function setName(address ens, string calldata name) external;
}

interface IApp is IAsset {
    function m_appName() external view returns (string memory);
    function m_appType() external view returns (string memory);
    function m_appMultiaddr() external view returns (bytes memory);
    function m_appChecksum() external view returns (bytes32);
    function m_appMREnclave() external view returns (bytes memory);
}

interface IDataset is IAsset {
    function m_datasetName() external view returns (string memory);
    function m_datasetMultiaddr() external view returns (bytes memory);
    function m_datasetChecksum() external view returns (bytes32);
}

interface IWorkerpool is IAsset {
    event PolicyUpdate(
        uint256 oldWorkerStakeRatioPolicy,
        uint256 newWorkerStakeRatioPolicy,
        uint256 oldSchedulerRewardRatioPolicy,
        uint256 newSchedulerRewardRatioPolicy
    );

    function m_workerpoolDescription() external view returns (string memory);
    /// @notice Percent of the pool's price that each worker locks per task.
    function m_workerStakeRatioPolicy() external view returns (uint256);
    /// @notice Percent of the reward that the pool owner keeps.
    function m_schedulerRewardRatioPolicy() external view returns (uint256);
    /// @notice Owner only; holds for deals made afterwards.
    function changePolicy(uint256 newWorkerStakeRatioPolicy, uint256 newSchedulerRewardRatioPolicy) external;
}
