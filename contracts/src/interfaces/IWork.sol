// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {PenaltyRule} from "../types/Views.sol";

/// @title The life of a task
/// @notice "Before" a deadline is strict, "at or after" is not. Every guard reverts without data unless said otherwise.
interface IWork {
    /// @notice Starts task `idx` of a deal; anyone may, once, also after its deadlines.
    function initialize(bytes32 dealid, uint256 idx) external returns (bytes32 taskid);

    /// @notice `initialize` for several tasks, all or none.
    function initializeArray(bytes32[] calldata dealids, uint256[] calldata idxs) external returns (bool);

    /// @notice A worker commits to a result it does not show yet, and locks its stake.
    /// @param resultHash keccak256(taskid, digest)
    /// @param resultSeal keccak256(worker, taskid, digest)
    /// @param enclaveChallenge key of the enclave, or zero
    /// @param authorizationSign the pool owner's (or TEE broker's) personal signature of keccak256(worker, taskid, enclaveChallenge)
    function contribute(
        bytes32 taskid,
        bytes32 resultHash,
        bytes32 resultSeal,
        address enclaveChallenge,
        bytes calldata enclaveSign,
        bytes calldata authorizationSign
    ) external;

    /// @notice Everything in one call, for a deal of trust 1 and a task without contributions. No stake, no score.
    function contributeAndFinalize(
        bytes32 taskid,
        bytes32 resultDigest,
        bytes calldata results,
        bytes calldata resultsCallback,
        address enclaveChallenge,
        bytes calldata enclaveSign,
        bytes calldata authorizationSign
    ) external;

    /// @notice After consensus and before the reveal deadline a winner shows the digest it committed to.
    function reveal(bytes32 taskid, bytes32 resultDigest) external;

    /// @notice The pool owner discards a consensus of which nobody revealed in time; its stakes stay locked until the task ends.
    function reopen(bytes32 taskid) external;

    /// @notice The pool owner closes the task: winners are paid, the others lose their stakes.
    /// @param resultsCallback what the deal's callback receives; its keccak256 must be the digest
    function finalize(bytes32 taskid, bytes calldata results, bytes calldata resultsCallback) external;

    /// @notice At or after the final deadline anyone ends an unfinished task: all stakes and the price go back, the pool's stake goes to the kitty.
    function claim(bytes32 taskid) external;

    /// @notice `claim` for several tasks, all or none.
    function claimArray(bytes32[] calldata taskids) external returns (bool);

    /// @notice `initialize` and `claim` for tasks that never started, all or none.
    function initializeAndClaimArray(bytes32[] calldata dealids, uint256[] calldata idxs) external returns (bool);

    /// @notice The rule fixed when the implementation was deployed.
    function penaltyRule() external view returns (PenaltyRule);

    /// @notice The most contributions one task takes.
    function contributor_limit() external view returns (uint256);

    /// @notice Bytes a record contract is asking for while the hub creates it; empty at any other time.
    function pendingRecord() external view returns (bytes memory);
}
