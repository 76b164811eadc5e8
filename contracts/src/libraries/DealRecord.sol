// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IHubEvents} from "../interfaces/IHubEvents.sol";

/// A deal before it is written. Money in nRLC per task, times in unix seconds.
struct DealTerms {
    bytes32 dealid;
    address workerpool;
    address workerpoolOwner;
    uint256 workerpoolPrice;
    address app;
    address appOwner;
    uint256 appPrice;
    address dataset;
    address datasetOwner;
    uint256 datasetPrice;
    address requester;
    address beneficiary;
    address callback;
    address sponsor;
    uint256 trust;
    uint256 category;
    bytes32 tag;
    uint256 startTime;
    uint256 timeRef;
    uint256 botFirst;
    uint256 botSize;
    uint256 workerStakeRatio;
    uint256 schedulerRewardRatio;
    string params;
}

/// @title The compact form of a deal
/// @notice Bytes, big-endian: 0x00, flags, the fixed fields below, then those optional ones that the flags announce (dataset, tag,
/// beneficiary, callback, sponsor), then the params. A field that is absent has its usual value: no dataset, tag 0, beneficiary =
/// requester, no callback, sponsor = requester. Accessors read in place; a caller must know that the record is not empty.
library DealRecord {
    // Deadlines in units of T, and the pool owner's stake in percent of the pool's price.
    uint256 internal constant CONTRIBUTION_RATIO = 7;
    uint256 internal constant FINAL_RATIO = 10;
    uint256 internal constant POOL_STAKE_PERCENT = 30;

    uint8 private constant HAS_DATASET = 1;
    uint8 private constant HAS_TAG = 2;
    uint8 private constant HAS_BENEFICIARY = 4;
    uint8 private constant HAS_CALLBACK = 8;
    uint8 private constant HAS_SPONSOR = 16;
    uint8 private constant NEEDS_ENCLAVE = 32;

    uint256 private constant FLAGS = 1;
    uint256 private constant ID = 2;
    uint256 private constant POOL = 34;
    uint256 private constant POOL_OWNER = 54;
    uint256 private constant POOL_PRICE = 74;
    uint256 private constant APP = 86;
    uint256 private constant APP_OWNER = 106;
    uint256 private constant APP_PRICE = 126;
    uint256 private constant REQUESTER = 138;
    uint256 private constant TRUST = 158;
    uint256 private constant CATEGORY = 166;
    uint256 private constant START = 170;
    uint256 private constant TIME_REF = 175;
    uint256 private constant FIRST = 179;
    uint256 private constant SIZE = 187;
    uint256 private constant STAKE_RATIO = 195;
    uint256 private constant REWARD_RATIO = 200;
    uint256 private constant OPTIONAL = 201;

    uint256 private constant DATASET_BYTES = 52;
    uint256 private constant TAG_BYTES = 32;
    uint256 private constant ADDRESS_BYTES = 20;

    // ---- writing

    /// Refuses what is wider than its field. Prices always fit: they were locked, and balances are 96 bits wide.
    function encode(DealTerms memory t) internal pure returns (bytes memory) {
        return bytes.concat(_parties(t), _numbers(t), _optional(t), bytes(t.params));
    }

    function _parties(DealTerms memory t) private pure returns (bytes memory) {
        bytes memory head = abi.encodePacked(bytes1(0), _flags(t), t.dealid);
        return abi.encodePacked(
            head,
            t.workerpool,
            t.workerpoolOwner,
            uint96(t.workerpoolPrice),
            t.app,
            t.appOwner,
            uint96(t.appPrice),
            t.requester
        );
    }

    function _numbers(DealTerms memory t) private pure returns (bytes memory) {
        _fit("trust", t.trust, type(uint64).max);
        _fit("category", t.category, type(uint32).max);
        _fit("workClockTimeRef", t.timeRef, type(uint32).max);
        // The number of the last task is the widest of all: with it, the first and the count fit.
        _fit("volume", t.botFirst + t.botSize, type(uint64).max);
        _fit("workerStakeRatio", t.workerStakeRatio, type(uint40).max);
        _fit("schedulerRewardRatio", t.schedulerRewardRatio, 100);
        bytes memory head = abi.encodePacked(uint64(t.trust), uint32(t.category), uint40(t.startTime), uint32(t.timeRef));
        return abi.encodePacked(
            head,
            uint64(t.botFirst),
            uint64(t.botSize),
            uint40(t.workerStakeRatio),
            uint8(t.schedulerRewardRatio)
        );
    }

    function _optional(DealTerms memory t) private pure returns (bytes memory out) {
        if (t.dataset != address(0)) out = abi.encodePacked(t.dataset, t.datasetOwner, uint96(t.datasetPrice));
        if (t.tag != 0) out = bytes.concat(out, t.tag);
        if (t.beneficiary != t.requester) out = abi.encodePacked(out, t.beneficiary);
        if (t.callback != address(0)) out = abi.encodePacked(out, t.callback);
        if (t.sponsor != t.requester) out = abi.encodePacked(out, t.sponsor);
    }

    function _flags(DealTerms memory t) private pure returns (uint8 flags) {
        if (t.dataset != address(0)) flags |= HAS_DATASET;
        if (t.tag != 0) flags |= HAS_TAG;
        if (t.beneficiary != t.requester) flags |= HAS_BENEFICIARY;
        if (t.callback != address(0)) flags |= HAS_CALLBACK;
        if (t.sponsor != t.requester) flags |= HAS_SPONSOR;
        if (uint256(t.tag) & 1 != 0) flags |= NEEDS_ENCLAVE;
    }

    function _fit(string memory what, uint256 value, uint256 limit) private pure {
        if (value > limit) revert IHubEvents.DoesNotFit(what, value);
    }

    // ---- reading

    function id(bytes memory r) internal pure returns (bytes32) {
        return bytes32(field(r, ID, 32));
    }

    function workerpool(bytes memory r) internal pure returns (address) {
        return address(uint160(field(r, POOL, 20)));
    }

    function workerpoolOwner(bytes memory r) internal pure returns (address) {
        return address(uint160(field(r, POOL_OWNER, 20)));
    }

    function workerpoolPrice(bytes memory r) internal pure returns (uint256) {
        return field(r, POOL_PRICE, 12);
    }

    function app(bytes memory r) internal pure returns (address) {
        return address(uint160(field(r, APP, 20)));
    }

    function appOwner(bytes memory r) internal pure returns (address) {
        return address(uint160(field(r, APP_OWNER, 20)));
    }

    function appPrice(bytes memory r) internal pure returns (uint256) {
        return field(r, APP_PRICE, 12);
    }

    function hasDataset(bytes memory r) internal pure returns (bool) {
        return _has(r, HAS_DATASET);
    }

    function dataset(bytes memory r) internal pure returns (address) {
        return hasDataset(r) ? address(uint160(field(r, OPTIONAL, 20))) : address(0);
    }

    function datasetOwner(bytes memory r) internal pure returns (address) {
        return hasDataset(r) ? address(uint160(field(r, OPTIONAL + 20, 20))) : address(0);
    }

    function datasetPrice(bytes memory r) internal pure returns (uint256) {
        return hasDataset(r) ? field(r, OPTIONAL + 40, 12) : 0;
    }

    function requester(bytes memory r) internal pure returns (address) {
        return address(uint160(field(r, REQUESTER, 20)));
    }

    function trust(bytes memory r) internal pure returns (uint256) {
        return field(r, TRUST, 8);
    }

    function category(bytes memory r) internal pure returns (uint256) {
        return field(r, CATEGORY, 4);
    }

    function startTime(bytes memory r) internal pure returns (uint256) {
        return field(r, START, 5);
    }

    /// T, in seconds.
    function timeRef(bytes memory r) internal pure returns (uint256) {
        return field(r, TIME_REF, 4);
    }

    function botFirst(bytes memory r) internal pure returns (uint256) {
        return field(r, FIRST, 8);
    }

    function botSize(bytes memory r) internal pure returns (uint256) {
        return field(r, SIZE, 8);
    }

    function schedulerRewardRatio(bytes memory r) internal pure returns (uint256) {
        return field(r, REWARD_RATIO, 1);
    }

    /// Whether every contribution must name an enclave: tag bit 0.
    function needsEnclave(bytes memory r) internal pure returns (bool) {
        return _has(r, NEEDS_ENCLAVE);
    }

    function tag(bytes memory r) internal pure returns (bytes32) {
        return _has(r, HAS_TAG) ? bytes32(field(r, _tagAt(r), 32)) : bytes32(0);
    }

    function beneficiary(bytes memory r) internal pure returns (address) {
        return _has(r, HAS_BENEFICIARY) ? address(uint160(field(r, _beneficiaryAt(r), 20))) : requester(r);
    }

    function callback(bytes memory r) internal pure returns (address) {
        return _has(r, HAS_CALLBACK) ? address(uint160(field(r, _callbackAt(r), 20))) : address(0);
    }

    /// Who pays.
    function sponsor(bytes memory r) internal pure returns (address) {
        return _has(r, HAS_SPONSOR) ? address(uint160(field(r, _sponsorAt(r), 20))) : requester(r);
    }

    function params(bytes memory r) internal pure returns (string memory) {
        uint256 from = _paramsAt(r);
        return string(slice(r, from, r.length - from));
    }

    // ---- derived

    /// What the payer has locked per task.
    function price(bytes memory r) internal pure returns (uint256) {
        return appPrice(r) + datasetPrice(r) + workerpoolPrice(r);
    }

    /// What the pool owner has locked per task.
    function poolStake(bytes memory r) internal pure returns (uint256) {
        return workerpoolPrice(r) * POOL_STAKE_PERCENT / 100;
    }

    /// What each worker locks per contribution.
    function workerStake(bytes memory r) internal pure returns (uint256) {
        return workerpoolPrice(r) * field(r, STAKE_RATIO, 5) / 100;
    }

    function contributionDeadline(bytes memory r) internal pure returns (uint256) {
        return startTime(r) + CONTRIBUTION_RATIO * timeRef(r);
    }

    function finalDeadline(bytes memory r) internal pure returns (uint256) {
        return startTime(r) + FINAL_RATIO * timeRef(r);
    }

    // ---- places

    function _tagAt(bytes memory r) private pure returns (uint256) {
        return OPTIONAL + (_has(r, HAS_DATASET) ? DATASET_BYTES : 0);
    }

    function _beneficiaryAt(bytes memory r) private pure returns (uint256) {
        return _tagAt(r) + (_has(r, HAS_TAG) ? TAG_BYTES : 0);
    }

    function _callbackAt(bytes memory r) private pure returns (uint256) {
        return _beneficiaryAt(r) + (_has(r, HAS_BENEFICIARY) ? ADDRESS_BYTES : 0);
    }

    function _sponsorAt(bytes memory r) private pure returns (uint256) {
        return _callbackAt(r) + (_has(r, HAS_CALLBACK) ? ADDRESS_BYTES : 0);
    }

    function _paramsAt(bytes memory r) private pure returns (uint256) {
        return _sponsorAt(r) + (_has(r, HAS_SPONSOR) ? ADDRESS_BYTES : 0);
    }

    function _has(bytes memory r, uint8 flag) private pure returns (bool) {
        return uint8(r[FLAGS]) & flag != 0;
    }

    /// The big-endian number of `size` bytes at `offset`. May read past the end: offsets come from this library only.
    function field(bytes memory r, uint256 offset, uint256 size) internal pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := shr(sub(256, mul(8, size)), mload(add(add(r, 0x20), offset)))
        }
    }

    /// A copy of `length` bytes at `offset`. May not read past the end: checked by the caller.
    function slice(bytes memory r, uint256 offset, uint256 length) internal pure returns (bytes memory out) {
        out = new bytes(length);
        assembly ("memory-safe") {
            mcopy(add(out, 0x20), add(add(r, 0x20), offset), length)
        }
    }
}
