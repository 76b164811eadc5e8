// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title RLC in, SRLC (staked RLC) in the books, RLC out; amounts in nRLC
interface IEscrow {
    /// @notice Pulls `amount` RLC (approved before) and credits it to the caller.
    function deposit(uint256 amount) external returns (bool);
    /// @notice Pulls from the caller, credits `target`.
    function depositFor(uint256 amount, address target) external returns (bool);
    function depositForArray(uint256[] calldata amounts, address[] calldata targets) external returns (bool);
    /// @notice Pays free SRLC out as RLC. Reverts without data when the balance is too low.
    function withdraw(uint256 amount) external returns (bool);
    function withdrawTo(uint256 amount, address target) external returns (bool);
    /// @notice Credits RLC that was sent to the hub by plain transfer to the hub's owner. Owner only.
    function recover() external returns (uint256 delta);
}

/// @title The same by one transaction to the token
interface IApprovalReceiver {
    /// @notice Called by RLC's `approveAndCall`: deposits for `sender`, then runs the `matchOrders` call in `data`, if any.
    /// @dev Another call in `data` reverts with `UnsupportedOperation`, another requester with `CallerIsNotTheRequester`; a match that
    /// fails without data reverts with `OperationFailed`.
    function receiveApproval(address sender, uint256 amount, address token, bytes calldata data) external returns (bool);
}

/// @title The ERC-20 face of free SRLC
interface IStakedToken {
    function name() external view returns (string memory);
    function symbol() external view returns (string memory);
    function decimals() external view returns (uint8);
    function totalSupply() external view returns (uint256);
    /// @notice Free SRLC of an account; for the hub itself all that is locked.
    function balanceOf(address account) external view returns (uint256);
    function allowance(address account, address spender) external view returns (uint256);
    function transfer(address recipient, uint256 amount) external returns (bool);
    function transferFrom(address sender, address recipient, uint256 amount) external returns (bool);
    function approve(address spender, uint256 value) external returns (bool);
    function increaseAllowance(address spender, uint256 addedValue) external returns (bool);
    function decreaseAllowance(address spender, uint256 subtractedValue) external returns (bool);
    /// @notice Approves, then calls `receiveApproval` of the spender, which must answer true.
    function approveAndCall(address spender, uint256 value, bytes calldata extraData) external returns (bool);
}
