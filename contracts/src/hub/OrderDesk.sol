// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {OrderChecks} from "./OrderChecks.sol";
import {IHubEvents} from "../interfaces/IHubEvents.sol";
import {IOrderBook} from "../interfaces/IOrderBook.sol";
import {IAsset} from "../interfaces/IAssets.sol";
import {
    AppOrder,
    DatasetOrder,
    WorkerpoolOrder,
    RequestOrder,
    AppOrderOperation,
    DatasetOrderOperation,
    WorkerpoolOrderOperation,
    RequestOrderOperation,
    OrderOperation
} from "../types/Orders.sol";
import {DealRecord} from "../libraries/DealRecord.sol";
import {OrderHash} from "../libraries/OrderHash.sol";
import {Records} from "../libraries/Records.sol";
import {Signatures} from "../libraries/Signatures.sol";

/// @title Orders outside a match: approved on chain, closed, announced, checked
abstract contract OrderDesk is IOrderBook, OrderChecks, IHubEvents {
    using DealRecord for bytes;

    // ---- approve and close

    /// @inheritdoc IOrderBook
    function manageAppOrder(AppOrderOperation calldata op) external {
        bytes32 structHash = OrderHash.hashApp(op.order);
        bytes32 operationHash =
            OrderHash.hashOperation(OrderHash.APP_OPERATION_TYPEHASH, structHash, op.operation);
        address owner = IAsset(op.order.app).owner();
        bytes32 orderHash = _manage(owner, structHash, operationHash, op.operation, op.order.volume, op.sign);
        if (op.operation == OrderOperation.SIGN) emit SignedAppOrder(orderHash);
        else emit ClosedAppOrder(orderHash);
    }

    /// @inheritdoc IOrderBook
    function manageDatasetOrder(DatasetOrderOperation calldata op) external {
        bytes32 structHash = OrderHash.hashDataset(op.order);
        bytes32 operationHash =
            OrderHash.hashOperation(OrderHash.DATASET_OPERATION_TYPEHASH, structHash, op.operation);
        address owner = IAsset(op.order.dataset).owner();
        bytes32 orderHash = _manage(owner, structHash, operationHash, op.operation, op.order.volume, op.sign);
        if (op.operation == OrderOperation.SIGN) emit SignedDatasetOrder(orderHash);
        else emit ClosedDatasetOrder(orderHash);
    }

    /// @inheritdoc IOrderBook
    function manageWorkerpoolOrder(WorkerpoolOrderOperation calldata op) external {
        bytes32 structHash = OrderHash.hashWorkerpool(op.order);
        bytes32 operationHash =
            OrderHash.hashOperation(OrderHash.WORKERPOOL_OPERATION_TYPEHASH, structHash, op.operation);
        address owner = IAsset(op.order.workerpool).owner();
        bytes32 orderHash = _manage(owner, structHash, operationHash, op.operation, op.order.volume, op.sign);
        if (op.operation == OrderOperation.SIGN) emit SignedWorkerpoolOrder(orderHash);
        else emit ClosedWorkerpoolOrder(orderHash);
    }

    /// @inheritdoc IOrderBook
    function manageRequestOrder(RequestOrderOperation calldata op) external {
        bytes32 structHash = OrderHash.hashRequest(op.order);
        bytes32 operationHash =
            OrderHash.hashOperation(OrderHash.REQUEST_OPERATION_TYPEHASH, structHash, op.operation);
        bytes32 orderHash =
            _manage(op.order.requester, structHash, operationHash, op.operation, op.order.volume, op.sign);
        if (op.operation == OrderOperation.SIGN) emit SignedRequestOrder(orderHash);
        else emit ClosedRequestOrder(orderHash);
    }

    function _manage(
        address owner,
        bytes32 structHash,
        bytes32 operationHash,
        OrderOperation operation,
        uint256 volume,
        bytes calldata sign
    ) private returns (bytes32 orderHash) {
        bytes32 separator = OrderHash.domainSeparator();
        require(
            msg.sender == owner || Signatures.check(owner, OrderHash.typed(separator, operationHash), sign),
            "invalid-sender-or-signature"
        );
        orderHash = OrderHash.typed(separator, structHash);
        if (operation == OrderOperation.SIGN) {
            _orders[orderHash].signer = owner;
        } else if (volume < type(uint96).max) {
            _orders[orderHash].consumed = uint96(volume);
        } else {
            _orders[orderHash].consumed = type(uint96).max;
            _hugeConsumed[orderHash] = volume;
        }
    }

    // ---- announce

    /// @inheritdoc IOrderBook
    function broadcastAppOrder(AppOrder calldata order) external {
        emit BroadcastAppOrder(order);
    }

    /// @inheritdoc IOrderBook
    function broadcastDatasetOrder(DatasetOrder calldata order) external {
        emit BroadcastDatasetOrder(order);
    }

    /// @inheritdoc IOrderBook
    function broadcastWorkerpoolOrder(WorkerpoolOrder calldata order) external {
        emit BroadcastWorkerpoolOrder(order);
    }

    /// @inheritdoc IOrderBook
    function broadcastRequestOrder(RequestOrder calldata order) external {
        emit BroadcastRequestOrder(order);
    }

    // ---- check

    /// @inheritdoc IOrderBook
    function computeDealVolume(
        AppOrder calldata a,
        DatasetOrder calldata d,
        WorkerpoolOrder calldata w,
        RequestOrder calldata r
    ) external view returns (uint256 volume) {
        bytes32 separator = OrderHash.domainSeparator();
        volume = a.volume - _consumed(OrderHash.typed(separator, OrderHash.hashApp(a)));
        if (d.dataset != address(0)) {
            volume = _min(volume, d.volume - _consumed(OrderHash.typed(separator, OrderHash.hashDataset(d))));
        }
        volume = _min(volume, w.volume - _consumed(OrderHash.typed(separator, OrderHash.hashWorkerpool(w))));
        volume = _min(volume, r.volume - _consumed(OrderHash.typed(separator, OrderHash.hashRequest(r))));
    }

    /// @inheritdoc IOrderBook
    function assertDatasetDealCompatibility(DatasetOrder calldata d, bytes32 dealid) external view {
        bytes32 orderHash = OrderHash.typed(OrderHash.domainSeparator(), OrderHash.hashDataset(d));
        _compatible(_consumed(orderHash) < d.volume, "Dataset order is revoked or fully consumed");
        _compatible(
            _approved(IAsset(d.dataset).owner(), orderHash, d.sign), "Invalid dataset order signature"
        );
        bytes memory deal = Records.read(_largeRecords, Records.addressOf(dealid));
        _compatible(deal.length != 0, "Deal not found");
        _compatible(!deal.hasDataset(), "Deal already has a dataset");
        _compatible(_admits(d.apprestrict, deal.app()), "App restriction not satisfied");
        _compatible(_admits(d.workerpoolrestrict, deal.workerpool()), "Workerpool restriction not satisfied");
        _compatible(_admits(d.requesterrestrict, deal.requester()), "Requester restriction not satisfied");
        _compatible(d.tag & DATASET_TAG_MASK & ~deal.tag() == 0, "Tag compatibility not satisfied");
    }

    /// @inheritdoc IOrderBook
    function verifySignature(address account, bytes32 hash, bytes calldata sign) external view returns (bool) {
        return Signatures.check(account, hash, sign);
    }

    /// @inheritdoc IOrderBook
    function verifyPresignature(address account, bytes32 hash) external view returns (bool) {
        return _presigned(account, hash);
    }

    /// @inheritdoc IOrderBook
    function verifyPresignatureOrSignature(address account, bytes32 hash, bytes calldata sign)
        external
        view
        returns (bool)
    {
        return _approved(account, hash, sign);
    }

    function _compatible(bool condition, string memory reason) private pure {
        if (!condition) revert IncompatibleDatasetOrder(reason);
    }

    function _min(uint256 x, uint256 y) private pure returns (uint256) {
        return x < y ? x : y;
    }
}
