// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Deposits} from "./Deposits.sol";
import {Office} from "./Office.sol";
import {OrderDesk} from "./OrderDesk.sol";
import {StakedToken} from "./StakedToken.sol";
import {Implementation} from "../libraries/Implementation.sol";

/// @title Second part of the hub's implementation: deposits, the ERC-20 face, orders outside a match, administration
/// @notice Reached through HubCore, in the hub's context. Calls it does not know go on to the views.
contract HubExtension is Deposits, StakedToken, OrderDesk, Office {
    /// The last part.
    address public immutable views;

    constructor(uint256 delay, address views_) Office(delay) {
        if (views_.code.length == 0) revert NotAContract(views_);
        views = views_;
    }

    fallback() external payable {
        Implementation.forward(views);
    }

    receive() external payable {
        Implementation.forward(views);
    }
}
