// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {HubStorage} from "./HubStorage.sol";
import {Implementation} from "../libraries/Implementation.sol";

/// @title The hub's address
/// @notice Holds all state and money; every call runs the code of the implementation. Owner and implementation are set by the
/// constructor, so nobody can step in between deployment and configuration.
contract HubProxy is HubStorage {
    event Upgraded(address indexed implementation);
    event OwnershipTransferred(address indexed previousOwner, address indexed newOwner);

    constructor(address implementation, address owner) {
        require(implementation.code.length != 0 && owner != address(0), "implementation or owner missing");
        Implementation.set(implementation);
        emit Upgraded(implementation);
        _owner = owner;
        emit OwnershipTransferred(address(0), owner);
    }

    fallback() external payable {
        Implementation.forward(Implementation.get());
    }

    receive() external payable {
        Implementation.forward(Implementation.get());
    }
}
