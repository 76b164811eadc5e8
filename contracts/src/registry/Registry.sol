// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EnumerableToken} from "./EnumerableToken.sol";
import {IRegistry} from "../interfaces/IRegistry.sol";
import {Clone} from "../libraries/Clone.sol";

/// @title A registry: creates assets and knows who owns them
/// @notice Its owner can set the URI of the tokens and, once, an older registry whose assets count too. It has no power over assets.
abstract contract Registry is EnumerableToken {
    address public owner;
    /// @inheritdoc IRegistry
    bool public initialized;
    /// @inheritdoc IRegistry
    address public previous;
    /// @inheritdoc IRegistry
    address public immutable master;
    string public name;
    string public symbol;

    constructor(address owner_, address master_, string memory name_, string memory symbol_) {
        if (owner_ == address(0)) revert OwnableInvalidOwner(owner_);
        master = master_;
        name = name_;
        symbol = symbol_;
        _setOwner(owner_);
    }

    modifier onlyOwner() {
        require(msg.sender == owner, "Ownable: caller is not the owner");
        _;
    }

    /// @inheritdoc IRegistry
    function initialize(address previous_) external onlyOwner {
        require(!initialized);
        initialized = true;
        previous = previous_;
    }

    /// @inheritdoc IRegistry
    function isRegistered(address entry) external view returns (bool) {
        if (_tokens[uint160(entry)].owner != address(0)) return true;
        return previous != address(0) && IRegistry(previous).isRegistered(entry);
    }

    /// @inheritdoc IRegistry
    function setBaseURI(string calldata baseURI_) external onlyOwner {
        _setBase(baseURI_);
    }

    /// @inheritdoc IRegistry
    function setName(address, string calldata) external view onlyOwner {
        revert("Operation not supported on this chain");
    }

    /// @inheritdoc IRegistry
    function proxyCode() public view returns (bytes memory) {
        return Clone.head(master);
    }

    /// @inheritdoc IRegistry
    function proxyCodeHash() external view returns (bytes32) {
        return keccak256(proxyCode());
    }

    function transferOwnership(address newOwner) external onlyOwner {
        if (newOwner == address(0)) revert OwnableInvalidOwner(newOwner);
        _setOwner(newOwner);
    }

    function renounceOwnership() external onlyOwner {
        _setOwner(address(0));
    }

    function _setOwner(address newOwner) private {
        emit OwnershipTransferred(owner, newOwner);
        owner = newOwner;
    }

    /// Creates the asset with this metadata for `assetOwner`. Owner and metadata give the address, so none exists twice.
    function _create(address assetOwner, bytes[] memory metadata) internal returns (address asset) {
        bytes memory code = Clone.creationCode(master, Clone.pack(metadata));
        // Asked first, because a creation that collides burns the gas it was given.
        bool free = Clone.addressOf(code, _salt(assetOwner)).code.length == 0;
        if (free) asset = Clone.create(code, _salt(assetOwner));
        require(asset != address(0), "Create2: Failed on deploy");
        _mint(assetOwner, asset);
    }

    function _predict(address assetOwner, bytes[] memory metadata) internal view returns (address) {
        return Clone.addressOf(Clone.creationCode(master, Clone.pack(metadata)), _salt(assetOwner));
    }

    function _salt(address assetOwner) private pure returns (bytes32) {
        return bytes32(uint256(uint160(assetOwner)));
    }
}
