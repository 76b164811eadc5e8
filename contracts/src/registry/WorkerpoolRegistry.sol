// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Registry} from "./Registry.sol";
import {Workerpool} from "./Workerpool.sol";
import {IWorkerpoolRegistry} from "../interfaces/IRegistry.sol";

/// @title The registry of workerpools, which also keeps their policies
contract WorkerpoolRegistry is IWorkerpoolRegistry, Registry {
    uint40 private constant DEFAULT_STAKE_RATIO = 30;
    uint8 private constant DEFAULT_REWARD_RATIO = 1;

    /// The stake of a worker, in percent of the pool's price, has 40 bits.
    error StakeRatioTooHigh(uint256 ratio, uint256 limit);

    constructor(address owner_)
        Registry(owner_, address(new Workerpool()), "iExec Workerpool Registry (V5)", "iExecWorkerpoolV5")
    {}

    /// @inheritdoc IWorkerpoolRegistry
    function createWorkerpool(address workerpoolOwner, string calldata workerpoolDescription)
        external
        returns (address workerpool)
    {
        workerpool = _create(workerpoolOwner, _metadata(workerpoolDescription));
        _setPolicy(workerpool, DEFAULT_STAKE_RATIO, DEFAULT_REWARD_RATIO);
    }

    /// @inheritdoc IWorkerpoolRegistry
    function predictWorkerpool(address workerpoolOwner, string calldata workerpoolDescription)
        external
        view
        returns (address)
    {
        return _predict(workerpoolOwner, _metadata(workerpoolDescription));
    }

    /// @inheritdoc IWorkerpoolRegistry
    function lookup(address workerpool) external view returns (address, uint256, uint256) {
        Token storage token = _tokens[uint160(workerpool)];
        return (token.owner, token.workerStakeRatio, token.schedulerRewardRatio);
    }

    /// @inheritdoc IWorkerpoolRegistry
    function setPolicy(uint256 workerStakeRatio, uint256 schedulerRewardRatio) external {
        ownerOf(uint160(msg.sender));
        if (workerStakeRatio > type(uint40).max) revert StakeRatioTooHigh(workerStakeRatio, type(uint40).max);
        _setPolicy(msg.sender, uint40(workerStakeRatio), uint8(schedulerRewardRatio));
    }

    function _setPolicy(address workerpool, uint40 workerStakeRatio, uint8 schedulerRewardRatio) private {
        Token storage token = _tokens[uint160(workerpool)];
        token.workerStakeRatio = workerStakeRatio;
        token.schedulerRewardRatio = schedulerRewardRatio;
    }

    function _metadata(string calldata workerpoolDescription) private pure returns (bytes[] memory fields) {
        fields = new bytes[](1);
        fields[0] = bytes(workerpoolDescription);
    }
}
