// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {LegacyViews} from "./LegacyViews.sol";

/// @title Last part of the hub's implementation: all views of deals, tasks, accounts and settings
/// @notice Reached through HubExtension, in the hub's context. What it does not know, nobody knows.
contract HubViews is LegacyViews {
    fallback() external payable {
        revert("fallback-disabled");
    }

    receive() external payable {
        revert("fallback-disabled");
    }
}
