// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// What a record asks of its creator.
interface IRecordSource {
    function pendingRecord() external view returns (bytes memory);
}

/// @title A contract whose code is data
/// @notice Its creation code is always the same, so its address follows from creator and salt alone; the bytes come from the creator.
contract Record {
    constructor() {
        bytes memory data = IRecordSource(msg.sender).pendingRecord();
        assembly ("memory-safe") {
            return(add(data, 0x20), mload(data))
        }
    }
}

/// @title Write-once data kept as contract code
/// @notice 200 gas per byte and one cold access to read, where storage takes 690 and one per word. The key (a deal or task id)
/// alone gives the address, so no pointer is stored. What exceeds a contract's size goes to ordinary storage.
/// @dev Data must start with a zero byte (STOP), so that nobody can run it, and can be written once per key.
library Records {
    /// EIP-170.
    uint256 internal constant MAX_CODE = 24576;
    /// Transient slots of the bytes under way: the length here, the words after it.
    uint256 private constant PENDING = uint256(keccak256("bourse.records.pending"));

    /// The address that holds the record of `key` made by this contract.
    function addressOf(bytes32 key) internal view returns (address) {
        return address(
            uint160(
                uint256(keccak256(abi.encodePacked(hex"ff", address(this), key, keccak256(type(Record).creationCode))))
            )
        );
    }

    function write(mapping(address => bytes) storage large, bytes32 key, bytes memory data) internal {
        if (data.length > MAX_CODE) {
            large[addressOf(key)] = data;
        } else {
            setPending(data);
            new Record{salt: key}();
            setPending("");
        }
    }

    /// Empty when nothing was written.
    function read(mapping(address => bytes) storage large, address record) internal view returns (bytes memory data) {
        data = record.code;
        if (data.length == 0) data = large[record];
    }

    /// Puts bytes where `pending` finds them, for this transaction at most.
    function setPending(bytes memory data) internal {
        uint256 base = PENDING;
        assembly ("memory-safe") {
            let size := mload(data)
            tstore(base, size)
            let from := add(data, 0x20)
            let slot := add(base, 1)
            for { let end := add(from, size) } lt(from, end) {
                from := add(from, 0x20)
                slot := add(slot, 1)
            } { tstore(slot, mload(from)) }
        }
    }

    function pending() internal view returns (bytes memory data) {
        uint256 base = PENDING;
        uint256 size;
        assembly ("memory-safe") {
            size := tload(base)
        }
        data = new bytes(size);
        assembly ("memory-safe") {
            let to := add(data, 0x20)
            let slot := add(base, 1)
            for { let end := add(to, size) } lt(to, end) {
                to := add(to, 0x20)
                slot := add(slot, 1)
            } { mstore(to, tload(slot)) }
        }
    }
}
