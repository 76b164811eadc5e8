// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {HubStorage} from "./HubStorage.sol";
import {IHubEvents} from "../interfaces/IHubEvents.sol";
import {IOffice} from "../interfaces/IOffice.sol";
import {EIP712Domain} from "../types/Orders.sol";
import {Implementation} from "../libraries/Implementation.sol";
import {OrderHash} from "../libraries/OrderHash.sol";

/// @title What the hub's owner may do, and how long it must be announced before
abstract contract Office is IOffice, HubStorage, IHubEvents {
    uint256 private constant DEFAULT_CALLBACK_GAS = 200_000;
    /// An announcement lapses, so that the owner cannot collect a stock of changes ready to be made.
    uint256 private constant WINDOW = 14 days;

    /// @inheritdoc IOffice
    uint256 public immutable changeDelay;

    constructor(uint256 delay) {
        require(delay <= 365 days, "delay above a year");
        changeDelay = delay;
    }

    /// Consumes the announcement of this very call; with no delay none is needed.
    modifier announced() {
        if (changeDelay != 0) _useChange(keccak256(msg.data));
        _;
    }

    // ---- once

    /// @inheritdoc IOffice
    function configure(
        address token,
        string calldata name,
        string calldata symbol,
        uint8 decimals,
        address appRegistryAddress,
        address datasetRegistryAddress,
        address workerpoolRegistryAddress,
        address
    ) external onlyOwner {
        require(!_configured, "already-configured");
        _configured = true;
        _token = token;
        _name = name;
        _symbol = symbol;
        _decimals = decimals;
        _appRegistry = appRegistryAddress;
        _datasetRegistry = datasetRegistryAddress;
        _workerpoolRegistry = workerpoolRegistryAddress;
        _callbackGas = DEFAULT_CALLBACK_GAS;
    }

    // ---- at any time

    /// @inheritdoc IOffice
    function createCategory(string calldata name, string calldata description, uint256 workClockTimeRef)
        external
        onlyOwner
        returns (uint256 catid)
    {
        catid = _categories.length;
        _categories.push(CategoryState({name: name, description: description}));
        _timeRefs[catid] = workClockTimeRef;
        emit CreateCategory(catid, name, description, workClockTimeRef);
    }

    /// @inheritdoc IOffice
    function updateDomainSeparator() external view {
        require(_configured, "not-configured");
    }

    /// @inheritdoc IOffice
    function importScore(address) external pure {
        revert();
    }

    // ---- after announcement

    /// @inheritdoc IOffice
    function setTeeBroker(address teebroker) external onlyOwner announced {
        _teeBroker = teebroker;
    }

    /// @inheritdoc IOffice
    function setCallbackGas(uint256 callbackgas) external onlyOwner announced {
        _callbackGas = callbackgas;
    }

    /// @inheritdoc IOffice
    function changeRegistries(address appRegistry, address datasetRegistry, address workerpoolRegistry)
        external
        onlyOwner
        announced
    {
        _appRegistry = appRegistry;
        _datasetRegistry = datasetRegistry;
        _workerpoolRegistry = workerpoolRegistry;
    }

    /// @inheritdoc IOffice
    function upgradeTo(address target) external onlyOwner announced {
        if (target.code.length == 0) revert NotAContract(target);
        Implementation.set(target);
        emit Upgraded(target);
    }

    /// @inheritdoc IOffice
    function transferOwnership(address newOwner) external {
        if (msg.sender != _owner) revert NotContractOwner(msg.sender, _owner);
        _giveOwnership(newOwner);
    }

    /// @inheritdoc IOffice
    function renounceOwnership() external onlyOwner {
        _giveOwnership(address(0));
    }

    function _giveOwnership(address newOwner) private announced {
        emit OwnershipTransferred(_owner, newOwner);
        _owner = newOwner;
    }

    // ---- announcements

    /// @inheritdoc IOffice
    function proposeChange(bytes calldata call) external onlyOwner returns (bytes32 id) {
        id = keccak256(call);
        uint256 readyAt = block.timestamp + changeDelay;
        _changes[id] = readyAt;
        emit ChangeProposed(id, call, readyAt, readyAt + WINDOW);
    }

    /// @inheritdoc IOffice
    function cancelChange(bytes32 id) external onlyOwner {
        if (_changes[id] == 0) revert ChangeNotProposed(id);
        delete _changes[id];
        emit ChangeCancelled(id);
    }

    /// @inheritdoc IOffice
    function changeReadyAt(bytes32 id) external view returns (uint256) {
        return _changes[id];
    }

    /// @inheritdoc IOffice
    function changeWindow() external pure returns (uint256) {
        return WINDOW;
    }

    function _useChange(bytes32 id) private {
        uint256 readyAt = _changes[id];
        if (readyAt == 0) revert ChangeNotProposed(id);
        if (block.timestamp < readyAt || block.timestamp >= readyAt + WINDOW) {
            revert ChangeNotInWindow(id, readyAt, readyAt + WINDOW);
        }
        delete _changes[id];
        emit ChangeExecuted(id);
    }

    // ---- views

    /// @inheritdoc IOffice
    function owner() external view returns (address) {
        return _owner;
    }

    /// @inheritdoc IOffice
    function implementation() external view returns (address) {
        return Implementation.get();
    }

    /// @inheritdoc IOffice
    function domain() external view returns (EIP712Domain memory) {
        return EIP712Domain({
            name: OrderHash.DOMAIN_NAME,
            version: OrderHash.DOMAIN_VERSION,
            chainId: block.chainid,
            verifyingContract: address(this)
        });
    }

    /// @inheritdoc IOffice
    function supportsInterface(bytes4 interfaceId) external pure returns (bool) {
        // ERC-165 and ERC-173.
        return interfaceId == 0x01ffc9a7 || interfaceId == 0x7f5828d0;
    }
}
