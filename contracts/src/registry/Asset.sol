// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAsset} from "../interfaces/IAssets.sol";
import {IRegistry} from "../interfaces/IRegistry.sol";

/// @title What apps, datasets and workerpools have in common
/// @notice An asset is a clone of a master that its registry created; its metadata are part of its code and never change.
abstract contract Asset is IAsset {
    /// @inheritdoc IAsset
    address public immutable registry;

    constructor() {
        registry = msg.sender;
    }

    /// @inheritdoc IAsset
    function owner() public view returns (address) {
        return IRegistry(registry).ownerOf(uint256(uint160(address(this))));
    }

    modifier onlyOwner() {
        require(msg.sender == owner(), "caller is not the owner");
        _;
    }

    /// @inheritdoc IAsset
    function setName(address, string calldata) external view onlyOwner {
        revert("Operation not supported on this chain");
    }
}
