// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Escrow} from "./Escrow.sol";
import {IStakedToken} from "../interfaces/IEscrow.sol";
import {IApproveAndCallReceiver} from "../interfaces/External.sol";

/// @title The ERC-20 face of free SRLC
abstract contract StakedToken is IStakedToken, Escrow {
    function name() external view returns (string memory) {
        return _name;
    }

    function symbol() external view returns (string memory) {
        return _symbol;
    }

    function decimals() external view returns (uint8) {
        return _decimals;
    }

    function totalSupply() external view returns (uint256) {
        return _totalSupply;
    }

    /// @inheritdoc IStakedToken
    function balanceOf(address account) external view returns (uint256 balance) {
        balance = _accounts[account].free;
        if (account == address(this)) balance += _vault.held;
    }

    function allowance(address account, address spender) external view returns (uint256) {
        return _allowances[account][spender];
    }

    function transfer(address recipient, uint256 amount) external returns (bool) {
        _transfer(msg.sender, recipient, amount);
        return true;
    }

    function transferFrom(address sender, address recipient, uint256 amount) external returns (bool) {
        _transfer(sender, recipient, amount);
        uint256 allowed = _allowances[sender][msg.sender];
        require(amount <= allowed);
        _approve(sender, msg.sender, allowed - amount);
        return true;
    }

    function approve(address spender, uint256 value) external returns (bool) {
        _approve(msg.sender, spender, value);
        return true;
    }

    function increaseAllowance(address spender, uint256 addedValue) external returns (bool) {
        uint256 allowed = _allowances[msg.sender][spender];
        unchecked {
            require(allowed + addedValue >= allowed);
            _approve(msg.sender, spender, allowed + addedValue);
        }
        return true;
    }

    function decreaseAllowance(address spender, uint256 subtractedValue) external returns (bool) {
        uint256 allowed = _allowances[msg.sender][spender];
        require(subtractedValue <= allowed);
        _approve(msg.sender, spender, allowed - subtractedValue);
        return true;
    }

    /// @inheritdoc IStakedToken
    function approveAndCall(address spender, uint256 value, bytes calldata extraData) external returns (bool) {
        _approve(msg.sender, spender, value);
        require(
            IApproveAndCallReceiver(spender).receiveApproval(msg.sender, value, address(this), extraData),
            "approval-refused"
        );
        return true;
    }

    function _transfer(address sender, address recipient, uint256 amount) private {
        require(sender != address(0), "ERC20: transfer from the zero address");
        require(recipient != address(0), "ERC20: transfer to the zero address");
        uint256 free = _accounts[sender].free;
        require(amount <= free);
        unchecked {
            _accounts[sender].free = uint96(free - amount);
            _accounts[recipient].free += uint96(amount);
        }
        emit Transfer(sender, recipient, amount);
    }

    function _approve(address account, address spender, uint256 value) private {
        require(account != address(0), "ERC20: approve from the zero address");
        require(spender != address(0), "ERC20: approve to the zero address");
        _allowances[account][spender] = value;
        emit Approval(account, spender, value);
    }
}
