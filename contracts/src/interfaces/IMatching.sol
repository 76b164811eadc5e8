// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AppOrder, DatasetOrder, WorkerpoolOrder, RequestOrder} from "../types/Orders.sol";

/// @title Four orders become a deal
interface IMatching {
    /// @notice Makes a deal of four matching orders; anyone may call, the requester pays.
    /// @dev Refusals are the strings `iExecV5-matchOrders-0x00` … `0x60`, checked in that order.
    /// @return dealid keccak256(request order hash, tasks of it sold before)
    function matchOrders(
        AppOrder calldata apporder,
        DatasetOrder calldata datasetorder,
        WorkerpoolOrder calldata workerpoolorder,
        RequestOrder calldata requestorder
    ) external returns (bytes32 dealid);

    /// @notice The same, paid by the caller.
    function sponsorMatchOrders(
        AppOrder calldata apporder,
        DatasetOrder calldata datasetorder,
        WorkerpoolOrder calldata workerpoolorder,
        RequestOrder calldata requestorder
    ) external returns (bytes32 dealid);
}
