// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {HubStorage} from "./HubStorage.sol";
import {IERC734} from "../interfaces/External.sol";
import {Signatures} from "../libraries/Signatures.sol";

/// @title What a match and the order desk both ask about orders
abstract contract OrderChecks is HubStorage {
    /// Bits 1 to 3 name the TEE framework of a dataset order; a deal does not inherit them.
    bytes32 internal constant DATASET_TAG_MASK = ~bytes32(uint256(0x0e));

    /// Approved on chain, or signed. Reverts on a malformed signature, hence the order of the two.
    function _approved(address account, bytes32 orderHash, bytes calldata sign) internal view returns (bool) {
        return _presigned(account, orderHash) || Signatures.check(account, orderHash, sign);
    }

    function _presigned(address account, bytes32 orderHash) internal view returns (bool) {
        return account != address(0) && _orders[orderHash].signer == account;
    }

    /// Whether a restriction (nobody in particular, one address, or a group contract) admits `candidate`.
    function _admits(address restriction, address candidate) internal view returns (bool) {
        if (restriction == address(0) || restriction == candidate) return true;
        if (restriction.code.length == 0) return false;
        (bool ok, bytes memory answer) = restriction.staticcall(
            abi.encodeCall(IERC734.keyHasPurpose, (bytes32(uint256(uint160(candidate))), GROUPMEMBER_PURPOSE))
        );
        return ok && answer.length >= 32 && uint256(bytes32(answer)) == 1;
    }
}
