// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Asset} from "./Asset.sol";
import {IWorkerpool} from "../interfaces/IAssets.sol";
import {IWorkerpoolRegistry} from "../interfaces/IRegistry.sol";
import {Clone} from "../libraries/Clone.sol";

/// @title A workerpool
/// @notice Field: description. The policies are kept beside the owner in the registry, where a match finds all three in one slot.
contract Workerpool is IWorkerpool, Asset {
    function m_workerpoolDescription() external view returns (string memory) {
        return string(Clone.field(0));
    }

    /// @inheritdoc IWorkerpool
    function m_workerStakeRatioPolicy() public view returns (uint256 ratio) {
        (, ratio,) = IWorkerpoolRegistry(registry).lookup(address(this));
    }

    /// @inheritdoc IWorkerpool
    function m_schedulerRewardRatioPolicy() public view returns (uint256 ratio) {
        (,, ratio) = IWorkerpoolRegistry(registry).lookup(address(this));
    }

    /// @inheritdoc IWorkerpool
    function changePolicy(uint256 newWorkerStakeRatioPolicy, uint256 newSchedulerRewardRatioPolicy) external onlyOwner {
        require(newSchedulerRewardRatioPolicy <= 100);
        emit PolicyUpdate(
            m_workerStakeRatioPolicy(),
            newWorkerStakeRatioPolicy,
            m_schedulerRewardRatioPolicy(),
            newSchedulerRewardRatioPolicy
        );
        IWorkerpoolRegistry(registry).setPolicy(newWorkerStakeRatioPolicy, newSchedulerRewardRatioPolicy);
    }
}
