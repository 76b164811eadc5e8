// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {HubStorage} from "./HubStorage.sol";
import {IERC20} from "../interfaces/External.sol";
import {IHubEvents} from "../interfaces/IHubEvents.sol";

/// @title How money moves inside the hub
/// @notice Locked money leaves the account's free balance and belongs to the hub until it is unlocked (back), or seized and rewarded
/// (to others). `Vault.held` is what the hub holds that way. A call that moves several amounts changes it once: the functions here
/// that say so leave it to their caller.
abstract contract Escrow is HubStorage, IHubEvents {
    /// Moves `amount` from free to locked.
    function _lock(address account, uint256 amount) internal {
        require(account != address(0), "IexecEscrow: Transfer from empty address");
        AccountState storage a = _accounts[account];
        uint256 free = a.free;
        require(amount <= free, "IexecEscrow: Transfer amount exceeds balance");
        unchecked {
            a.free = uint96(free - amount);
            a.locked += uint96(amount);
            _vault.held += uint96(amount);
        }
        emit Transfer(account, address(this), amount);
        emit Lock(account, amount);
    }

    /// Moves `amount` from locked to free. The caller lowers `held`.
    function _unlock(address account, uint256 amount) internal {
        AccountState storage a = _accounts[account];
        a.locked -= uint96(amount);
        unchecked {
            a.free += uint96(amount);
        }
        emit Transfer(address(this), account, amount);
        emit Unlock(account, amount);
    }

    /// Takes `amount` of locked money away; it stays with the hub.
    function _seize(address account, uint256 amount, bytes32 taskid) internal {
        _accounts[account].locked -= uint96(amount);
        emit Seize(account, amount, taskid);
    }

    /// Pays `amount` of the hub's money out. The caller lowers `held`.
    function _reward(address account, uint256 amount, bytes32 taskid) internal {
        unchecked {
            _accounts[account].free += uint96(amount);
        }
        emit Transfer(address(this), account, amount);
        emit Reward(account, amount, taskid);
    }

    /// Takes RLC of `from` (who has approved it) and credits it to `target`.
    function _pull(address token, address from, address target, uint256 amount) internal {
        require(IERC20(token).transferFrom(from, address(this), amount), "failed-transferFrom");
        _mint(target, amount);
    }

    /// Adds new SRLC to an account.
    function _mint(address account, uint256 amount) internal {
        require(account != address(0), "ERC20: mint to the zero address");
        uint256 supply = _totalSupply + amount;
        if (supply > type(uint96).max) revert DoesNotFit("totalSupply", supply);
        _totalSupply = uint96(supply);
        unchecked {
            _accounts[account].free += uint96(amount);
        }
        emit Transfer(address(0), account, amount);
    }

    /// Removes free SRLC of an account; reverts without data when there is too little.
    function _burn(address account, uint256 amount) internal {
        uint256 free = _accounts[account].free;
        require(amount <= free);
        unchecked {
            _accounts[account].free = uint96(free - amount);
            _totalSupply -= uint96(amount);
        }
        emit Transfer(account, address(0), amount);
    }
}
