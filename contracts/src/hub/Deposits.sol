// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Escrow} from "./Escrow.sol";
import {IEscrow} from "../interfaces/IEscrow.sol";
import {IERC20} from "../interfaces/External.sol";

/// @title RLC in and out
abstract contract Deposits is IEscrow, Escrow {
    /// @inheritdoc IEscrow
    function deposit(uint256 amount) external returns (bool) {
        _pull(_token, msg.sender, msg.sender, amount);
        return true;
    }

    /// @inheritdoc IEscrow
    function depositFor(uint256 amount, address target) external returns (bool) {
        _pull(_token, msg.sender, target, amount);
        return true;
    }

    /// @inheritdoc IEscrow
    function depositForArray(uint256[] calldata amounts, address[] calldata targets) external returns (bool) {
        require(amounts.length == targets.length, "invalid-array-length");
        for (uint256 i = 0; i < amounts.length; ++i) {
            _pull(_token, msg.sender, targets[i], amounts[i]);
        }
        return true;
    }

    /// @inheritdoc IEscrow
    function withdraw(uint256 amount) external returns (bool) {
        _pay(msg.sender, amount);
        return true;
    }

    /// @inheritdoc IEscrow
    function withdrawTo(uint256 amount, address target) external returns (bool) {
        _pay(target, amount);
        return true;
    }

    /// @inheritdoc IEscrow
    function recover() external onlyOwner returns (uint256 delta) {
        delta = IERC20(_token).balanceOf(address(this)) - _totalSupply;
        _mint(msg.sender, delta);
    }

    function _pay(address target, uint256 amount) private {
        _burn(msg.sender, amount);
        IERC20(_token).transfer(target, amount);
    }
}
