// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Market} from "./base/Market.sol";
import {Group} from "./base/Actors.sol";
import {Vm} from "./base/Vm.sol";
import {IHubEvents} from "../src/interfaces/IHubEvents.sol";
import {IOrderBook} from "../src/interfaces/IOrderBook.sol";
import {OrderHash} from "../src/libraries/OrderHash.sol";
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
} from "../src/types/Orders.sol";

/// Orders approved on chain, closed, announced, checked against a deal.
contract OrdersTest is Market {
    bytes internal constant NOT_ALLOWED = "invalid-sender-or-signature";

    /// The four calls for one operation, with who may send them, their signing key, order hash and operation hash.
    function calls(Orders memory o, OrderOperation op, bytes[4] memory signs)
        internal
        pure
        returns (bytes[4] memory)
    {
        return [
            abi.encodeCall(IOrderBook.manageAppOrder, (AppOrderOperation(o.app, op, signs[0]))),
            abi.encodeCall(IOrderBook.manageDatasetOrder, (DatasetOrderOperation(o.dataset, op, signs[1]))),
            abi.encodeCall(IOrderBook.manageWorkerpoolOrder, (WorkerpoolOrderOperation(o.pool, op, signs[2]))),
            abi.encodeCall(IOrderBook.manageRequestOrder, (RequestOrderOperation(o.request, op, signs[3])))
        ];
    }

    function keys() internal view returns (uint256[4] memory) {
        return [appKey, datasetKey, poolKey, requesterKey];
    }

    function orderHashes(Orders memory o) internal view returns (bytes32[4] memory) {
        return [appHash(o), datasetHash(o), poolHash(o), requestHash(o)];
    }

    function operationSigns(Orders memory o, uint256 op) internal view returns (bytes[4] memory signs) {
        bytes32[4] memory structs =
            [hashing.app(o.app), hashing.dataset(o.dataset), hashing.workerpool(o.pool), hashing.request(o.request)];
        bytes32[4] memory types = [
            OrderHash.APP_OPERATION_TYPEHASH,
            OrderHash.DATASET_OPERATION_TYPEHASH,
            OrderHash.WORKERPOOL_OPERATION_TYPEHASH,
            OrderHash.REQUEST_OPERATION_TYPEHASH
        ];
        for (uint256 i = 0; i < 4; ++i) {
            bytes32 hash = keccak256(abi.encode(types[i], structs[i], op));
            signs[i] = signature(keys()[i], hashing.typed(address(hub), hash));
        }
    }

    function run(address sender, bytes memory data) internal returns (bytes32 topic, bytes memory event_) {
        vm.recordLogs();
        vm.prank(sender);
        (bool ok,) = address(hub).call(data);
        check(ok, "call failed");
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 1, "one event");
        return (logs[0].topics[0], logs[0].data);
    }

    function test_owners_approve_and_the_match_needs_no_signature() public {
        Orders memory o = orders(1);
        bytes[4] memory none;
        bytes[4] memory data = calls(o, OrderOperation.SIGN, none);
        bytes32[4] memory topics = [
            IHubEvents.SignedAppOrder.selector,
            IHubEvents.SignedDatasetOrder.selector,
            IHubEvents.SignedWorkerpoolOrder.selector,
            IHubEvents.SignedRequestOrder.selector
        ];
        for (uint256 i = 0; i < 4; ++i) {
            (bytes32 topic, bytes memory event_) = run(vm.addr(keys()[i]), data[i]);
            eq(topic, topics[i], "event");
            eq(event_, abi.encode(orderHashes(o)[i]), "hash");
            eq(hub.viewPresigned(orderHashes(o)[i]), vm.addr(keys()[i]), "signer");
            check(hub.verifyPresignature(vm.addr(keys()[i]), orderHashes(o)[i]), "verified");
            check(hub.verifyPresignatureOrSignature(vm.addr(keys()[i]), orderHashes(o)[i], ""), "either");
        }
        send(o);
    }

    function test_anyone_may_bring_the_owners_signature_of_the_operation() public {
        Orders memory o = orders(1);
        bytes[4] memory data = calls(o, OrderOperation.SIGN, operationSigns(o, 0));
        for (uint256 i = 0; i < 4; ++i) {
            run(stranger, data[i]);
        }
        data = calls(o, OrderOperation.CLOSE, operationSigns(o, 1));
        bytes32[4] memory topics = [
            IHubEvents.ClosedAppOrder.selector,
            IHubEvents.ClosedDatasetOrder.selector,
            IHubEvents.ClosedWorkerpoolOrder.selector,
            IHubEvents.ClosedRequestOrder.selector
        ];
        for (uint256 i = 0; i < 4; ++i) {
            (bytes32 topic, bytes memory event_) = run(stranger, data[i]);
            eq(topic, topics[i], "event");
            eq(event_, abi.encode(orderHashes(o)[i]), "hash");
            eq(hub.viewConsumed(orderHashes(o)[i]), 1, "all consumed");
        }
    }

    function test_strangers_may_not() public {
        Orders memory o = orders(1);
        bytes[4] memory none;
        bytes[4] memory data = calls(o, OrderOperation.SIGN, none);
        bytes[4] memory wrong = calls(o, OrderOperation.CLOSE, operationSigns(o, 0));
        for (uint256 i = 0; i < 4; ++i) {
            reverts(stranger, address(hub), data[i], text("invalid-signature-format"), "unsigned");
            reverts(stranger, address(hub), wrong[i], text(string(NOT_ALLOWED)), "signed another operation");
        }
    }

    function test_an_unknown_operation_reverts_without_data() public {
        Orders memory o = orders(1);
        bytes[4] memory none;
        bytes[4] memory data = calls(o, OrderOperation.CLOSE, none);
        for (uint256 i = 0; i < 4; ++i) {
            // The operation is the second word of the tuple: selector, offset of the tuple, offset of the order, operation.
            data[i][4 + 95] = bytes1(uint8(2));
            reverts(vm.addr(keys()[i]), address(hub), data[i], "", "operation 2");
        }
    }

    function test_each_closed_order_stops_the_match() public {
        for (uint256 i = 0; i < 4; ++i) {
            Orders memory o = orders(1);
            sign(o);
            bytes[4] memory none;
            run(vm.addr(keys()[i]), calls(o, OrderOperation.CLOSE, none)[i]);
            eq(hub.computeDealVolume(o.app, o.dataset, o.pool, o.request), 0, "nothing left");
            vm.expectRevert(text("iExecV5-matchOrders-0x60"));
            send(o);
        }
    }

    function test_an_order_of_endless_volume_can_be_closed() public {
        Orders memory o = orders(1);
        bytes[4] memory none;
        uint256[3] memory volumes = [type(uint256).max, type(uint96).max, uint256(type(uint96).max) - 1];
        for (uint256 i = 0; i < 3; ++i) {
            o.dataset.volume = volumes[i];
            run(datasetOwner, calls(o, OrderOperation.CLOSE, none)[1]);
            eq(hub.viewConsumed(datasetHash(o)), volumes[i], "consumed");
            sign(o);
            vm.expectRevert(text("iExecV5-matchOrders-0x60"));
            send(o);
        }
    }

    function test_approval_ends_when_the_asset_is_sold() public {
        Orders memory o = orders(1);
        sign(o);
        o.app.sign = "";
        bytes[4] memory none;
        run(appOwner, calls(o, OrderOperation.SIGN, none)[0]);
        vm.prank(appOwner);
        apps.transferFrom(appOwner, stranger, uint160(app));
        vm.expectRevert(text("invalid-signature-format"));
        send(o);
    }

    function test_broadcasts_repeat_the_order_and_check_nothing() public {
        Orders memory o = orders(1);
        vm.recordLogs();
        hub.broadcastAppOrder(o.app);
        hub.broadcastDatasetOrder(o.dataset);
        hub.broadcastWorkerpoolOrder(o.pool);
        hub.broadcastRequestOrder(o.request);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs[0].topics[0], IHubEvents.BroadcastAppOrder.selector, "app");
        eq(logs[0].data, abi.encode(o.app), "app order");
        eq(logs[1].topics[0], IHubEvents.BroadcastDatasetOrder.selector, "dataset");
        eq(logs[1].data, abi.encode(o.dataset), "dataset order");
        eq(logs[2].topics[0], IHubEvents.BroadcastWorkerpoolOrder.selector, "pool");
        eq(logs[2].data, abi.encode(o.pool), "pool order");
        eq(logs[3].topics[0], IHubEvents.BroadcastRequestOrder.selector, "request");
        eq(logs[3].data, abi.encode(o.request), "request order");
    }

    // ---- dataset orders against a deal

    function incompatible(Orders memory o, bytes32 dealid, string memory reason) internal {
        bytes memory data = abi.encodeCall(IOrderBook.assertDatasetDealCompatibility, (o.dataset, dealid));
        bytes memory want = abi.encodeWithSelector(IHubEvents.IncompatibleDatasetOrder.selector, reason);
        reverts(stranger, address(hub), data, want, reason);
    }

    function test_compatibility_reasons_come_in_order() public {
        Orders memory o = orders(1);
        o.pool.tag = o.app.tag = bytes32(uint256(3));
        noDataset(o);
        sign(o);
        bytes32 bare = send(o);
        bytes32 withDataset = makeDeal(1);

        Orders memory d = orders(1);
        d.dataset.volume = 0;
        d.dataset.tag = bytes32(uint256(0x10f));
        d.dataset.apprestrict = d.dataset.workerpoolrestrict = d.dataset.requesterrestrict = stranger;
        d.dataset.sign = signature(requesterKey, datasetHash(d));
        incompatible(d, bytes32(0), "Dataset order is revoked or fully consumed");
        d.dataset.volume = 1;
        d.dataset.sign = signature(requesterKey, datasetHash(d));
        incompatible(d, bytes32(0), "Invalid dataset order signature");
        d.dataset.sign = signature(datasetKey, datasetHash(d));
        incompatible(d, bytes32(0), "Deal not found");
        incompatible(d, withDataset, "Deal already has a dataset");
        incompatible(d, bare, "App restriction not satisfied");
        d.dataset.apprestrict = app;
        d.dataset.sign = signature(datasetKey, datasetHash(d));
        incompatible(d, bare, "Workerpool restriction not satisfied");
        d.dataset.workerpoolrestrict = address(new Group(pool));
        d.dataset.sign = signature(datasetKey, datasetHash(d));
        incompatible(d, bare, "Requester restriction not satisfied");
        d.dataset.requesterrestrict = requester;
        d.dataset.sign = signature(datasetKey, datasetHash(d));
        incompatible(d, bare, "Tag compatibility not satisfied");
        d.dataset.tag = bytes32(uint256(0x0f));
        d.dataset.sign = signature(datasetKey, datasetHash(d));
        hub.assertDatasetDealCompatibility(d.dataset, bare);
        d.dataset.sign = "";
        bytes memory data = abi.encodeCall(IOrderBook.assertDatasetDealCompatibility, (d.dataset, bare));
        reverts(stranger, address(hub), data, text("invalid-signature-format"), "unsigned");
    }

    // ---- signatures

    function test_verify_signature() public {
        bytes32 hash = keccak256("x");
        check(hub.verifySignature(appOwner, hash, signature(appKey, hash)), "own");
        check(!hub.verifySignature(stranger, hash, signature(appKey, hash)), "another's");
        check(!hub.verifySignature(address(0), hash, new bytes(65)), "nobody's");
        check(!hub.verifyPresignature(address(0), hash), "nobody presigned");
        check(!hub.verifyPresignatureOrSignature(address(0), hash, new bytes(64)), "nobody at all");
        bytes memory data = abi.encodeCall(IOrderBook.verifySignature, (appOwner, hash, new bytes(66)));
        reverts(stranger, address(hub), data, text("invalid-signature-format"), "66 bytes");
    }

    /// Whatever the bytes are, the zero address signed nothing.
    function testFuzz_nobody_signs_for_zero(bytes32 hash, bytes32 r, bytes32 s, uint8 v) public view {
        check(!hub.verifySignature(address(0), hash, abi.encodePacked(r, s, v)), "65");
        check(!hub.verifySignature(address(0), hash, abi.encodePacked(r, s)), "64");
    }

    function testFuzz_signatures(uint256 key, bytes32 hash, bytes32 other) public view {
        key = bound(key, 1, type(uint128).max);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, hash);
        address signer = vm.addr(key);
        bytes32 vs = bytes32(uint256(s) | (uint256(v - 27) << 255));
        check(hub.verifySignature(signer, hash, abi.encodePacked(r, s, v)), "65");
        check(hub.verifySignature(signer, hash, abi.encodePacked(r, vs)), "64");
        if (other != hash) check(!hub.verifySignature(signer, other, abi.encodePacked(r, s, v)), "another hash");
    }

    // ---- any order

    /// Approved or closed by its owner or with the owner's signature, whatever the order says; by nobody else.
    function testFuzz_manage(uint256 which, uint256 size, bytes32 salt, bool bySignature, bool close, uint256 key) public {
        which %= 4;
        Orders memory o = orders(1);
        volume(o, size);
        (o.app.salt, o.dataset.salt, o.pool.salt, o.request.salt) = (salt, salt, salt, salt);
        address owner = vm.addr(keys()[which]);
        bytes32 hash = orderHashes(o)[which];
        OrderOperation op = close ? OrderOperation.CLOSE : OrderOperation.SIGN;
        address other = vm.addr(bound(key, 1, type(uint128).max));
        bytes[4] memory forged;
        forged[which] = signature(bound(key, 1, type(uint128).max), hash);
        reverts(other, address(hub), calls(o, op, forged)[which], text(string(NOT_ALLOWED)), "somebody else");
        bytes[4] memory signs;
        if (bySignature) signs = operationSigns(o, close ? 1 : 0);
        (, bytes memory event_) = run(bySignature ? other : owner, calls(o, op, signs)[which]);
        eq(event_, abi.encode(hash), "event");
        check(!hub.verifyPresignature(other, hash), "not the other's");
        if (close) {
            eq(hub.viewConsumed(hash), size, "all consumed");
            eq(hub.viewPresigned(hash), address(0), "not approved");
            eq(hub.computeDealVolume(o.app, o.dataset, o.pool, o.request), 0, "nothing is left");
        } else {
            eq(hub.viewConsumed(hash), 0, "nothing consumed");
            eq(hub.viewPresigned(hash), owner, "approved");
            check(hub.verifyPresignature(owner, hash), "presigned");
            check(hub.verifyPresignatureOrSignature(owner, hash, ""), "with no signature at all");
        }
    }

    function testFuzz_verify_presignature_or_signature(uint256 key, bytes32 hash, bytes32 other) public view {
        key = bound(key, 1, type(uint128).max);
        address signer = vm.addr(key);
        check(hub.verifyPresignatureOrSignature(signer, hash, signature(key, hash)), "signed");
        check(!hub.verifyPresignature(signer, hash), "not on chain");
        if (other != hash) check(!hub.verifyPresignatureOrSignature(signer, other, signature(key, hash)), "another hash");
    }

    function testFuzz_broadcasts(
        AppOrder memory a,
        DatasetOrder memory d,
        WorkerpoolOrder memory w,
        RequestOrder memory r,
        address who
    ) public {
        vm.recordLogs();
        vm.startPrank(who);
        hub.broadcastAppOrder(a);
        hub.broadcastDatasetOrder(d);
        hub.broadcastWorkerpoolOrder(w);
        hub.broadcastRequestOrder(r);
        vm.stopPrank();
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 4, "four events and nothing else");
        eq(logs[0].data, abi.encode(a), "app order");
        eq(logs[1].data, abi.encode(d), "dataset order");
        eq(logs[2].data, abi.encode(w), "workerpool order");
        eq(logs[3].data, abi.encode(r), "request order");
    }

    /// A dataset order suits a deal when the deal has all its tags but those of the framework, and no order that is used up does.
    function testFuzz_compatibility(bytes32 dealTag, bytes32 datasetTag, uint256 size, uint256 seed) public {
        dealTag = dealTag & ~bytes32(uint256(1));
        Orders memory o = orders(1);
        o.pool.tag = o.request.tag = dealTag;
        noDataset(o);
        sign(o);
        bytes32 dealid = send(o);
        if (seed % 2 == 0) datasetTag = datasetTag & dealTag | bytes32(seed & 0xe);
        Orders memory d = orders(1);
        d.dataset.tag = datasetTag;
        d.dataset.volume = seed % 5 == 0 ? 0 : size;
        address[3] memory restrictions = [address(0), stranger, requester];
        d.dataset.requesterrestrict = restrictions[(seed >> 8) % 3];
        d.dataset.sign = signature(datasetKey, datasetHash(d));
        if (d.dataset.volume == 0) return incompatible(d, dealid, "Dataset order is revoked or fully consumed");
        if ((seed >> 8) % 3 == 1) return incompatible(d, dealid, "Requester restriction not satisfied");
        bool suits = datasetTag & ~bytes32(uint256(0xe)) & ~dealTag == 0;
        if (!suits) return incompatible(d, dealid, "Tag compatibility not satisfied");
        hub.assertDatasetDealCompatibility(d.dataset, dealid);
    }
}
