// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Matching} from "./Matching.sol";
import {Settlement} from "./Settlement.sol";
import {ApprovalReceiver} from "./ApprovalReceiver.sol";
import {IWork} from "../interfaces/IWork.sol";
import {Implementation} from "../libraries/Implementation.sol";
import {Records} from "../libraries/Records.sol";
import {PenaltyRule} from "../types/Views.sol";

/// @title First part of the hub's implementation: all that every task needs
/// @notice Runs behind HubProxy. Calls it does not know go on to the second part, whose address is fixed in its code.
contract HubCore is Matching, Settlement, ApprovalReceiver {
    /// The second part.
    address public immutable extension;

    constructor(PenaltyRule rule, address extension_) Settlement(rule) {
        if (extension_.code.length == 0) revert NotAContract(extension_);
        extension = extension_;
    }

    /// @inheritdoc IWork
    function contributor_limit() external pure returns (uint256) {
        return CONTRIBUTOR_LIMIT;
    }

    /// @inheritdoc IWork
    function pendingRecord() external view returns (bytes memory) {
        return Records.pending();
    }

    fallback() external payable {
        Implementation.forward(extension);
    }

    receive() external payable {
        Implementation.forward(extension);
    }
}
