// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20, IApprovalListener} from "../interfaces/External.sol";

/// @title RLC for chains that have none: a plain ERC-20 with nine decimals
/// @notice The whole supply, 87,000,000 RLC, belongs to the deployer at first. Nobody can mint or freeze. Moves what the published token
/// moves, to the zero address too; the supply says 87,000,000 nevertheless.
contract RLC is IERC20 {
    error ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed);
    error ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed);

    string public constant name = "iExec Network Token";
    string public constant symbol = "RLC";
    uint8 public constant decimals = 9;
    /// @inheritdoc IERC20
    uint256 public constant totalSupply = 87_000_000e9;

    /// In a struct, so that its place in storage is computed once where it is read and written.
    struct Amount {
        uint256 value;
    }

    mapping(address => Amount) private _balances;
    mapping(address => mapping(address spender => Amount)) private _allowances;

    constructor() {
        _balances[msg.sender].value = totalSupply;
        emit Transfer(address(0), msg.sender, totalSupply);
    }

    /// @inheritdoc IERC20
    function balanceOf(address account) external view returns (uint256) {
        return _balances[account].value;
    }

    /// @inheritdoc IERC20
    function allowance(address owner, address spender) external view returns (uint256) {
        return _allowances[owner][spender].value;
    }

    /// @inheritdoc IERC20
    function transfer(address to, uint256 value) external returns (bool) {
        _transfer(msg.sender, to, value);
        return true;
    }

    /// @inheritdoc IERC20
    function approve(address spender, uint256 value) external returns (bool) {
        _approve(spender, value);
        return true;
    }

    /// @inheritdoc IERC20
    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        Amount storage allowed = _allowances[from][msg.sender];
        uint256 limit = allowed.value;
        if (value > limit) revert ERC20InsufficientAllowance(msg.sender, limit, value);
        unchecked {
            allowed.value = limit - value;
        }
        _transfer(from, to, value);
        return true;
    }

    /// @notice Approves and tells the spender in the same transaction; the spender refuses by reverting, which undoes both.
    function approveAndCall(address spender, uint256 value, bytes calldata data) external {
        _approve(spender, value);
        IApprovalListener(spender).receiveApproval(msg.sender, value, address(this), data);
    }

    function _approve(address spender, uint256 value) private {
        _allowances[msg.sender][spender].value = value;
        emit Approval(msg.sender, spender, value);
    }

    function _transfer(address from, address to, uint256 value) private {
        Amount storage balance = _balances[from];
        uint256 held = balance.value;
        if (value > held) revert ERC20InsufficientBalance(from, held, value);
        unchecked {
            balance.value = held - value;
            _balances[to].value += value;
        }
        emit Transfer(from, to, value);
    }
}
