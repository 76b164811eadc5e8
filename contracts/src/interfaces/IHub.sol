// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IHubEvents} from "./IHubEvents.sol";
import {IMatching} from "./IMatching.sol";
import {IWork} from "./IWork.sol";
import {IEscrow, IApprovalReceiver, IStakedToken} from "./IEscrow.sol";
import {IOrderBook} from "./IOrderBook.sol";
import {IOffice} from "./IOffice.sol";
import {IViews, ILegacyViews} from "./IViews.sol";

/// @title The whole interface of the hub, as clients see it at the proxy's address
interface IHub is IHubEvents, IMatching, IWork, IEscrow, IApprovalReceiver, IStakedToken, IOrderBook, IOffice, IViews, ILegacyViews {}
