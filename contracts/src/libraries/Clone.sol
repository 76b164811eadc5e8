// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IRegistry} from "../interfaces/IRegistry.sol";

/// @title A minimal proxy (ERC-1167) with data behind its code
/// @notice The proxy never reaches the data; the code it runs reads them from the proxy's own code.
library Clone {
    /// Length of the proxy: where the data start.
    uint256 internal constant HEAD = 45;
    uint256 internal constant MAX_DATA = 24576 - HEAD;

    function head(address master) internal pure returns (bytes memory) {
        return abi.encodePacked(hex"363d3d373d3d3d363d73", master, hex"5af43d82803e903d91602b57fd5bf3");
    }

    /// Creation code that leaves the proxy and the data; the data must not exceed MAX_DATA.
    function creationCode(address master, bytes memory data) internal pure returns (bytes memory) {
        return abi.encodePacked(hex"61", uint16(HEAD + data.length), hex"80600a3d393df3", head(master), data);
    }

    /// Zero when there is a contract already.
    function create(bytes memory code, bytes32 salt) internal returns (address made) {
        assembly ("memory-safe") {
            made := create2(0, add(code, 0x20), mload(code), salt)
        }
    }

    function addressOf(bytes memory code, bytes32 salt) internal view returns (address) {
        return address(uint160(uint256(keccak256(abi.encodePacked(hex"ff", address(this), salt, keccak256(code))))));
    }

    /// Fields one behind the other, each with its length in two bytes before it.
    function pack(bytes[] memory fields) internal pure returns (bytes memory data) {
        for (uint256 i = 0; i < fields.length; ++i) {
            if (fields[i].length > MAX_DATA) revert IRegistry.MetadataTooLong(fields[i].length, MAX_DATA);
            data = abi.encodePacked(data, uint16(fields[i].length), fields[i]);
        }
        if (data.length > MAX_DATA) revert IRegistry.MetadataTooLong(data.length, MAX_DATA);
    }

    /// Field `index` of the running proxy's data.
    function field(uint256 index) internal view returns (bytes memory) {
        uint256 place = HEAD;
        for (; index > 0; --index) {
            place += 2 + _length(place);
        }
        return codeAt(place + 2, _length(place));
    }

    function _length(uint256 offset) private view returns (uint256) {
        return uint16(bytes2(codeAt(offset, 2)));
    }

    /// `length` bytes of the running contract's code; beyond its end they are zero.
    function codeAt(uint256 offset, uint256 length) internal view returns (bytes memory out) {
        out = new bytes(length);
        assembly ("memory-safe") {
            extcodecopy(address(), add(out, 0x20), offset, length)
        }
    }
}
