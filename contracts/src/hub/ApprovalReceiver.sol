// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Escrow} from "./Escrow.sol";
import {IApprovalReceiver} from "../interfaces/IEscrow.sol";
import {IMatching} from "../interfaces/IMatching.sol";

/// @title Deposit, and match, by one transaction to the RLC token
abstract contract ApprovalReceiver is IApprovalReceiver, Escrow {
    /// This code, for running one of its own calls in the hub's context.
    address private immutable _self = address(this);

    /// @inheritdoc IApprovalReceiver
    function receiveApproval(address sender, uint256 amount, address token, bytes calldata data)
        external
        returns (bool)
    {
        require(token == _token, "wrong-token");
        _pull(token, sender, sender, amount);
        if (data.length != 0) _runMatch(sender, data);
        return true;
    }

    /// Runs `data`, a call of matchOrders in which `sender` is the requester.
    function _runMatch(address sender, bytes calldata data) private {
        bytes4 selector = bytes4(data[:4]);
        if (selector != IMatching.matchOrders.selector) revert UnsupportedOperation(selector);
        if (_requester(data[4:]) != sender) revert CallerIsNotTheRequester();
        (bool ok, bytes memory answer) = _self.delegatecall(data);
        if (ok) return;
        if (answer.length == 0) revert OperationFailed();
        assembly ("memory-safe") {
            revert(add(answer, 0x20), mload(answer))
        }
    }

    /// The requester in the arguments of matchOrders: the fourth one is the request order, whose seventh word it is.
    function _requester(bytes calldata arguments) private pure returns (address) {
        uint256 order = uint256(bytes32(arguments[96:128]));
        require(order < arguments.length);
        return abi.decode(arguments[order + 192:order + 224], (address));
    }
}
