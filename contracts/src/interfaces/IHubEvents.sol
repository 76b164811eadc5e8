// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AppOrder, DatasetOrder, WorkerpoolOrder, RequestOrder} from "../types/Orders.sol";

/// @title Every event and error of the hub
/// @notice Guards of the task life cycle revert without data, as the protocol fixes it; the errors here are the named exceptions.
interface IHubEvents {
    // Money (nRLC). `ref` is a task id.
    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);
    event Lock(address owner, uint256 amount);
    event Unlock(address owner, uint256 amount);
    event Reward(address owner, uint256 amount, bytes32 ref);
    event Seize(address owner, uint256 amount, bytes32 ref);

    // Deals
    event SchedulerNotice(address indexed workerpool, bytes32 dealid);
    event OrdersMatched(
        bytes32 dealid, bytes32 appHash, bytes32 datasetHash, bytes32 workerpoolHash, bytes32 requestHash, uint256 volume
    );
    event DealSponsored(bytes32 dealId, address sponsor);

    // Tasks
    event TaskInitialize(bytes32 indexed taskid, address indexed workerpool);
    event TaskContribute(bytes32 indexed taskid, address indexed worker, bytes32 hash);
    event TaskConsensus(bytes32 indexed taskid, bytes32 consensus);
    event TaskReveal(bytes32 indexed taskid, address indexed worker, bytes32 digest);
    event TaskReopen(bytes32 indexed taskid);
    event TaskFinalize(bytes32 indexed taskid, bytes results);
    event TaskClaimed(bytes32 indexed taskid);
    event AccurateContribution(address indexed worker, bytes32 indexed taskid);
    event FaultyContribution(address indexed worker, bytes32 indexed taskid);

    // Orders
    event SignedAppOrder(bytes32 appHash);
    event SignedDatasetOrder(bytes32 datasetHash);
    event SignedWorkerpoolOrder(bytes32 workerpoolHash);
    event SignedRequestOrder(bytes32 requestHash);
    event ClosedAppOrder(bytes32 appHash);
    event ClosedDatasetOrder(bytes32 datasetHash);
    event ClosedWorkerpoolOrder(bytes32 workerpoolHash);
    event ClosedRequestOrder(bytes32 requestHash);
    event BroadcastAppOrder(AppOrder apporder);
    event BroadcastDatasetOrder(DatasetOrder datasetorder);
    event BroadcastWorkerpoolOrder(WorkerpoolOrder workerpoolorder);
    event BroadcastRequestOrder(RequestOrder requestorder);

    // Administration
    event CreateCategory(uint256 catid, string name, string description, uint256 workClockTimeRef);
    event OwnershipTransferred(address indexed previousOwner, address indexed newOwner);
    /// The code behind the hub's address was replaced (EIP-1967).
    event Upgraded(address indexed implementation);
    /// The owner announced `call` (calldata for the hub); it may be sent from `readyAt` until `expiresAt` (unix seconds).
    event ChangeProposed(bytes32 indexed id, bytes call, uint256 readyAt, uint256 expiresAt);
    event ChangeCancelled(bytes32 indexed id);
    event ChangeExecuted(bytes32 indexed id);

    // Published errors
    error IncompatibleDatasetOrder(string reason);
    error UnsupportedOperation(bytes4 selector);
    error OperationFailed();
    error CallerIsNotTheRequester();
    error NotContractOwner(address user, address contractOwner);

    // Errors of this implementation
    /// `value` is wider than the compact deal record stores `field`; raised by a match, before anything is kept.
    error DoesNotFit(string field, uint256 value);
    /// The task has as many contributions as one task may have.
    error TooManyContributors(uint256 limit);
    /// The caller of finalize left too little gas for the requester's callback.
    error CallbackNeedsMoreGas(uint256 available, uint256 needed);
    /// The change (keccak256 of its calldata) was not announced with `proposeChange`, or was cancelled or used.
    error ChangeNotProposed(bytes32 id);
    /// The announced change may not be made yet, or not any more.
    error ChangeNotInWindow(bytes32 id, uint256 readyAt, uint256 expiresAt);
    /// An implementation must be a contract.
    error NotAContract(address target);
}
