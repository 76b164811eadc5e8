// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {PenaltyRule} from "../types/Views.sol";

/// @title What a score is worth and how it moves
library Reputation {
    uint256 private constant DIVISOR = 3;
    uint256 private constant FIXED_PENALTY = 50;

    /// Consensus weight of a worker: 2 below score 12, then score/3 − 1.
    function weight(uint256 score) internal pure returns (uint256) {
        uint256 third = score / DIVISOR;
        return (third > DIVISOR ? third : DIVISOR) - 1;
    }

    /// Reward weight of a consensus weight: the floor of its binary logarithm, 0 for 0.
    function rewardWeight(uint256 w) internal pure returns (uint256 log) {
        while (w > 1) {
            w >>= 1;
            ++log;
        }
    }

    /// The score after a wrong or unrevealed contribution.
    function penalize(PenaltyRule rule, uint256 score) internal pure returns (uint256) {
        if (rule == PenaltyRule.TWO_THIRDS) return score * (DIVISOR - 1) / DIVISOR;
        return score > FIXED_PENALTY ? score - FIXED_PENALTY : 0;
    }
}
