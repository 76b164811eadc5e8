// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {
    AppOrder,
    DatasetOrder,
    WorkerpoolOrder,
    RequestOrder,
    AppOrderOperation,
    DatasetOrderOperation,
    WorkerpoolOrderOperation,
    RequestOrderOperation
} from "../types/Orders.sol";

/// @title Orders outside a match: approved on chain, closed, announced, checked
interface IOrderBook {
    /// @notice Approves (SIGN) or closes (CLOSE, final) an order; by its owner, or by anyone with the owner's signature of the operation.
    function manageAppOrder(AppOrderOperation calldata apporderoperation) external;
    function manageDatasetOrder(DatasetOrderOperation calldata datasetorderoperation) external;
    function manageWorkerpoolOrder(WorkerpoolOrderOperation calldata workerpoolorderoperation) external;
    function manageRequestOrder(RequestOrderOperation calldata requestorderoperation) external;

    /// @notice Emits the order and does nothing else; not checked in any way.
    function broadcastAppOrder(AppOrder calldata apporder) external;
    function broadcastDatasetOrder(DatasetOrder calldata datasetorder) external;
    function broadcastWorkerpoolOrder(WorkerpoolOrder calldata workerpoolorder) external;
    function broadcastRequestOrder(RequestOrder calldata requestorder) external;

    /// @notice How many tasks these orders would still make together; validity and signatures are not looked at.
    function computeDealVolume(
        AppOrder calldata apporder,
        DatasetOrder calldata datasetorder,
        WorkerpoolOrder calldata workerpoolorder,
        RequestOrder calldata requestorder
    ) external view returns (uint256);

    /// @notice Reverts with `IncompatibleDatasetOrder` unless the order lets the deal (made without dataset) use its dataset.
    function assertDatasetDealCompatibility(DatasetOrder calldata datasetOrder, bytes32 dealid) external view;

    /// @notice Whether `account` signed `hash`: ERC-1271 for contracts, else 65 bytes r,s,v or 64 bytes (EIP-2098).
    /// @dev Another length reverts with "invalid-signature-format". Never true for the zero address.
    function verifySignature(address account, bytes32 hash, bytes calldata sign) external view returns (bool);
    function verifyPresignature(address account, bytes32 hash) external view returns (bool);
    function verifyPresignatureOrSignature(address account, bytes32 hash, bytes calldata sign) external view returns (bool);
}
