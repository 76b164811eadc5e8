// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// The smallest ERC-20 that the transfer bench needs.
contract Token {
    mapping(address => uint256) public balanceOf;
    uint256 public immutable totalSupply;

    event Transfer(address indexed from, address indexed to, uint256 value);

    error Short(address holder, uint256 balance, uint256 wanted);

    constructor(uint256 supply) {
        totalSupply = supply;
        balanceOf[msg.sender] = supply;
        emit Transfer(address(0), msg.sender, supply);
    }

    function transfer(address to, uint256 value) external returns (bool) {
        uint256 balance = balanceOf[msg.sender];
        if (balance < value) revert Short(msg.sender, balance, value);
        unchecked {
            balanceOf[msg.sender] = balance - value;
            balanceOf[to] += value;
        }
        emit Transfer(msg.sender, to, value);
        return true;
    }
}
