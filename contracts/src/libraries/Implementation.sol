// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Where the hub's code is and how it is run
library Implementation {
    /// EIP-1967: keccak256("eip1967.proxy.implementation") − 1.
    bytes32 internal constant SLOT = 0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc;

    function get() internal view returns (address target) {
        assembly ("memory-safe") {
            target := sload(SLOT)
        }
    }

    function set(address target) internal {
        assembly ("memory-safe") {
            sstore(SLOT, target)
        }
    }

    /// Runs this call's data on `target` in the caller's context and ends the call with its answer.
    function forward(address target) internal {
        assembly ("memory-safe") {
            let data := mload(0x40)
            calldatacopy(data, 0, calldatasize())
            let ok := delegatecall(gas(), target, data, calldatasize(), 0, 0)
            returndatacopy(data, 0, returndatasize())
            if ok { return(data, returndatasize()) }
            revert(data, returndatasize())
        }
    }
}
