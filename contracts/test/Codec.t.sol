// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Test} from "./base/Test.sol";
import {DealRecord, DealTerms} from "../src/libraries/DealRecord.sol";
import {Records, IRecordSource} from "../src/libraries/Records.sol";
import {Clone} from "../src/libraries/Clone.sol";
import {Implementation} from "../src/libraries/Implementation.sol";

/// Makes records as the hub does.
contract Shelf is IRecordSource {
    mapping(address => bytes) private _large;

    function pendingRecord() external view returns (bytes memory) {
        return Records.pending();
    }

    function put(bytes memory data) external returns (bytes memory) {
        Records.setPending(data);
        return Records.pending();
    }

    function write(bytes32 key, bytes memory data) external returns (address record) {
        Records.write(_large, key, data);
        return Records.addressOf(key);
    }

    function read(address record) external view returns (bytes memory) {
        return Records.read(_large, record);
    }
}

/// The code behind clones: gives pieces of the clone's code.
contract Reader {
    function field(uint256 index) external view returns (bytes memory) {
        return Clone.field(index);
    }

    function codeAt(uint256 offset, uint256 length) external view returns (bytes memory) {
        return Clone.codeAt(offset, length);
    }
}

/// Answers with its arguments, or reverts with them.
contract Echo {
    function echo(bytes calldata data, bool fails) external payable returns (bytes memory) {
        if (!fails) return data;
        assembly {
            calldatacopy(0, data.offset, data.length)
            revert(0, data.length)
        }
    }
}

contract Forwarder {
    address private immutable _target;

    constructor(address target) {
        _target = target;
    }

    fallback() external payable {
        Implementation.forward(_target);
    }
}

/// Every piece of assembly beside the same in plain Solidity.
contract CodecTest is Test {
    using DealRecord for bytes;

    Shelf internal shelf = new Shelf();

    // ---- deals

    function limited(DealTerms memory t) internal pure returns (DealTerms memory) {
        t.workerpoolPrice = uint96(t.workerpoolPrice);
        t.appPrice = uint96(t.appPrice);
        t.datasetPrice = t.dataset == address(0) ? 0 : uint96(t.datasetPrice);
        if (t.dataset == address(0)) t.datasetOwner = address(0);
        t.trust = uint64(t.trust);
        t.category = uint32(t.category);
        t.startTime = uint40(t.startTime);
        t.timeRef = uint32(t.timeRef);
        t.botFirst = uint64(t.botFirst);
        t.botSize = bound(t.botSize, 0, type(uint64).max - t.botFirst);
        t.workerStakeRatio = uint40(t.workerStakeRatio);
        t.schedulerRewardRatio = bound(t.schedulerRewardRatio, 0, 100);
        return t;
    }

    /// Every field comes back, whichever optional ones are there.
    function testFuzz_deal(DealTerms memory t, uint8 absent) public pure {
        if (absent & 1 != 0) t.dataset = address(0);
        if (absent & 2 != 0) t.tag = 0;
        if (absent & 4 != 0) t.beneficiary = t.requester;
        if (absent & 8 != 0) t.callback = address(0);
        if (absent & 16 != 0) t.sponsor = t.requester;
        t = limited(t);
        bytes memory r = DealRecord.encode(t);
        eq(bytes32(r[0]), bytes32(0), "cannot be run");
        eq(r.id(), t.dealid, "id");
        eq(r.workerpool(), t.workerpool, "pool");
        eq(r.workerpoolOwner(), t.workerpoolOwner, "pool owner");
        eq(r.workerpoolPrice(), t.workerpoolPrice, "pool price");
        eq(r.app(), t.app, "app");
        eq(r.appOwner(), t.appOwner, "app owner");
        eq(r.appPrice(), t.appPrice, "app price");
        eq(r.dataset(), t.dataset, "dataset");
        eq(r.datasetOwner(), t.datasetOwner, "dataset owner");
        eq(r.datasetPrice(), t.datasetPrice, "dataset price");
        eq(r.requester(), t.requester, "requester");
        eq(r.beneficiary(), t.beneficiary, "beneficiary");
        eq(r.callback(), t.callback, "callback");
        eq(r.sponsor(), t.sponsor, "sponsor");
        eq(r.trust(), t.trust, "trust");
        eq(r.category(), t.category, "category");
        eq(r.tag(), t.tag, "tag");
        check(r.needsEnclave() == (uint256(t.tag) & 1 == 1), "enclave");
        eq(r.startTime(), t.startTime, "start");
        eq(r.timeRef(), t.timeRef, "T");
        eq(r.botFirst(), t.botFirst, "first");
        eq(r.botSize(), t.botSize, "size");
        eq(r.schedulerRewardRatio(), t.schedulerRewardRatio, "ratio");
        eq(r.params(), t.params, "params");
        eq(r.price(), t.appPrice + t.datasetPrice + t.workerpoolPrice, "price");
        eq(r.poolStake(), t.workerpoolPrice * 30 / 100, "pool stake");
        eq(r.workerStake(), t.workerpoolPrice * t.workerStakeRatio / 100, "worker stake");
        eq(r.contributionDeadline(), t.startTime + 7 * t.timeRef, "contribution deadline");
        eq(r.finalDeadline(), t.startTime + 10 * t.timeRef, "final deadline");
    }

    function testFuzz_field(bytes memory data, uint256 offset, uint256 size) public pure {
        if (data.length == 0) return;
        size = bound(size, 1, data.length < 32 ? data.length : 32);
        offset = bound(offset, 0, data.length - size);
        uint256 want;
        for (uint256 i = 0; i < size; ++i) {
            want = (want << 8) | uint8(data[offset + i]);
        }
        eq(data.field(offset, size), want, "field");
    }

    function testFuzz_slice(bytes memory data, uint256 offset, uint256 length) public pure {
        offset = bound(offset, 0, data.length);
        length = bound(length, 0, data.length - offset);
        bytes memory want = new bytes(length);
        for (uint256 i = 0; i < length; ++i) {
            want[i] = data[offset + i];
        }
        eq(DealRecord.slice(data, offset, length), want, "slice");
    }

    // ---- records

    function testFuzz_pending(bytes memory first, bytes memory second) public {
        eq(shelf.put(first), first, "first");
        eq(shelf.put(second), second, "second");
        eq(shelf.pendingRecord(), second, "until it is overwritten");
        shelf.write(keccak256(first), hex"0001");
        eq(shelf.pendingRecord(), "", "or the record is made");
    }

    function testFuzz_record(bytes32 key, bytes memory data, bytes32 otherKey) public {
        data = bytes.concat(bytes1(0), data);
        address record = shelf.write(key, data);
        eq(record.code, data, "code");
        eq(shelf.read(record), data, "read");
        if (otherKey == key) return;
        address other = shelf.write(otherKey, bytes.concat(data, data));
        eq(shelf.read(other), bytes.concat(data, data), "another");
        eq(shelf.read(record), data, "unchanged");
    }

    function test_record_is_written_once() public {
        shelf.write(bytes32(uint256(1)), hex"0001");
        vm.expectRevert();
        shelf.write(bytes32(uint256(1)), hex"0002");
    }

    function test_records_of_all_sizes() public {
        uint256[5] memory sizes = [uint256(1), 32, 24575, 24576, 24577];
        for (uint256 i = 0; i < 5; ++i) {
            bytes memory data = new bytes(sizes[i]);
            if (sizes[i] > 1) data[sizes[i] - 1] = 0x55;
            address record = shelf.write(bytes32(i), data);
            eq(record.code.length, sizes[i] > 24576 ? 0 : sizes[i], "code");
            eq(shelf.read(record), data, "read");
        }
        eq(shelf.read(address(5)), "", "nothing written");
    }

    // ---- clones

    function testFuzz_clone(bytes memory a, bytes memory b, bytes memory c, bytes32 salt) public {
        bytes[] memory fields = new bytes[](3);
        (fields[0], fields[1], fields[2]) = (a, b, c);
        bytes memory data = Clone.pack(fields);
        address master = address(new Reader());
        bytes memory code = Clone.creationCode(master, data);
        address made = Clone.create(code, salt);
        eq(made, Clone.addressOf(code, salt), "address");
        eq(made.code, bytes.concat(Clone.head(master), data), "code");
        for (uint256 i = 0; i < 3; ++i) {
            eq(Reader(made).field(i), fields[i], "field");
        }
        eq(Clone.create(code, salt), address(0), "not twice");
    }

    function testFuzz_code_at(uint256 offset, uint256 length) public {
        Reader reader = new Reader();
        bytes memory code = address(reader).code;
        offset = bound(offset, 0, code.length);
        length = bound(length, 0, 2 * code.length);
        bytes memory want = new bytes(length);
        for (uint256 i = 0; i < length && offset + i < code.length; ++i) {
            want[i] = code[offset + i];
        }
        eq(reader.codeAt(offset, length), want, "zero beyond the end");
    }

    // ---- forwarding

    function testFuzz_forward(bytes memory data, bool fails) public {
        Echo echo = Echo(address(new Forwarder(address(new Echo()))));
        (bool ok, bytes memory answer) = address(echo).call(abi.encodeCall(Echo.echo, (data, fails)));
        check(ok != fails, "outcome");
        eq(answer, fails ? data : abi.encode(data), "answer");
    }

    function testFuzz_implementation_slot(address target) public {
        Implementation.set(target);
        eq(Implementation.get(), target, "read back");
        eq(vm.load(address(this), Implementation.SLOT), bytes32(uint256(uint160(target))), "at the standard place");
        eq(Implementation.SLOT, bytes32(uint256(keccak256("eip1967.proxy.implementation")) - 1), "EIP-1967");
    }
}
