// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC1271} from "../interfaces/External.sol";

/// @title Who signed what
library Signatures {
    /// Above half the curve order a signature has a twin; only the lower one counts.
    uint256 private constant MAX_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    /// True when `account` vouches for `hash`: a contract by ERC-1271, a key by ECDSA. Never for the zero address.
    function check(address account, bytes32 hash, bytes calldata sign) internal view returns (bool) {
        if (account.code.length != 0) return _checkContract(account, hash, sign);
        address signer = _recover(hash, sign);
        return signer != address(0) && signer == account;
    }

    /// The digest that wallets sign for a 32-byte personal message (EIP-191).
    function personal(bytes32 message) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked("\x19Ethereum Signed Message:\n32", message));
    }

    function _checkContract(address account, bytes32 hash, bytes calldata sign) private view returns (bool) {
        (bool ok, bytes memory answer) = account.staticcall(abi.encodeCall(IERC1271.isValidSignature, (hash, sign)));
        return ok && answer.length >= 32 && bytes32(answer) == bytes32(IERC1271.isValidSignature.selector);
    }

    /// Zero when the signature is malleable or recovers nothing.
    function _recover(bytes32 hash, bytes calldata sign) private pure returns (address) {
        bytes32 r;
        bytes32 s;
        uint8 v;
        if (sign.length == 65) {
            (r, s, v) = (bytes32(sign[:32]), bytes32(sign[32:64]), uint8(sign[64]));
        } else if (sign.length == 64) {
            (r, s) = (bytes32(sign[:32]), bytes32(sign[32:]));
            v = 27 + uint8(uint256(s) >> 255);
            s &= bytes32(type(uint256).max >> 1);
        } else {
            revert("invalid-signature-format");
        }
        if (uint256(s) > MAX_S) return address(0);
        return ecrecover(hash, v, r, s);
    }
}
