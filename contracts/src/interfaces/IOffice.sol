// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EIP712Domain} from "../types/Orders.sol";

/// @title What the hub's owner may do
/// @notice Calls marked *delayed* change something about other people's money. With a delay they must be announced: the owner sends
/// `proposeChange(calldata)`, waits `changeDelay()` seconds, then sends that very call to the hub within `changeWindow()` seconds.
/// With delay 0 they act at once.
interface IOffice {
    /// @notice Once, by the owner, before first use. `v3_iexecHub` is ignored: scores are never imported.
    function configure(
        address token,
        string calldata name,
        string calldata symbol,
        uint8 decimals,
        address appRegistryAddress,
        address datasetRegistryAddress,
        address workerpoolRegistryAddress,
        address v3_iexecHub
    ) external;
    /// @notice The EIP-712 domain, computed live.
    function domain() external view returns (EIP712Domain memory);
    /// @notice Does nothing: the separator follows the chain id by itself. Reverts with "not-configured" before `configure`.
    function updateDomainSeparator() external;
    /// @notice Always reverts: there is no older hub to import from.
    function importScore(address worker) external;
    /// @notice Appends a category; owner only, not delayed.
    function createCategory(string calldata name, string calldata description, uint256 workClockTimeRef)
        external
        returns (uint256 catid);

    /// @notice Owner, delayed.
    function setTeeBroker(address teebroker) external;
    /// @notice Owner, delayed.
    function setCallbackGas(uint256 callbackgas) external;
    /// @notice Owner, delayed.
    function changeRegistries(address appRegistry, address datasetRegistry, address workerpoolRegistry) external;
    /// @notice Owner, delayed. Replaces the code of the hub.
    function upgradeTo(address implementation) external;
    /// @notice Owner, delayed.
    function transferOwnership(address newOwner) external;
    /// @notice Owner, delayed. Nobody owns the hub afterwards.
    function renounceOwnership() external;

    /// @notice Announces a delayed call; owner only. Announcing again restarts the clock.
    /// @return id keccak256(call)
    function proposeChange(bytes calldata call) external returns (bytes32 id);
    /// @notice Withdraws an announcement; owner only.
    function cancelChange(bytes32 id) external;
    /// @notice When an announced change may be made (unix seconds), 0 if it is not announced.
    function changeReadyAt(bytes32 id) external view returns (uint256);
    /// @notice Seconds between announcement and change.
    function changeDelay() external view returns (uint256);
    /// @notice Seconds during which an announced change may be made.
    function changeWindow() external view returns (uint256);

    function owner() external view returns (address);
    /// @notice The code behind the hub's address.
    function implementation() external view returns (address);
    function supportsInterface(bytes4 interfaceId) external view returns (bool);
}
