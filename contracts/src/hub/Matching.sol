// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Escrow} from "./Escrow.sol";
import {OrderChecks} from "./OrderChecks.sol";
import {IMatching} from "../interfaces/IMatching.sol";
import {IAsset, IWorkerpool} from "../interfaces/IAssets.sol";
import {IRegistry, IWorkerpoolRegistry} from "../interfaces/IRegistry.sol";
import {AppOrder, DatasetOrder, WorkerpoolOrder, RequestOrder} from "../types/Orders.sol";
import {OrderHash} from "../libraries/OrderHash.sol";
import {DealRecord, DealTerms} from "../libraries/DealRecord.sol";
import {Records} from "../libraries/Records.sol";

/// @title Four orders become a deal
abstract contract Matching is IMatching, Escrow, OrderChecks {
    /// The hashes of the four orders; zero for an absent dataset.
    struct OrderHashes {
        bytes32 app;
        bytes32 dataset;
        bytes32 workerpool;
        bytes32 request;
    }

    /// @inheritdoc IMatching
    function matchOrders(
        AppOrder calldata apporder,
        DatasetOrder calldata datasetorder,
        WorkerpoolOrder calldata workerpoolorder,
        RequestOrder calldata requestorder
    ) external returns (bytes32) {
        return _match(apporder, datasetorder, workerpoolorder, requestorder, requestorder.requester);
    }

    /// @inheritdoc IMatching
    function sponsorMatchOrders(
        AppOrder calldata apporder,
        DatasetOrder calldata datasetorder,
        WorkerpoolOrder calldata workerpoolorder,
        RequestOrder calldata requestorder
    ) external returns (bytes32 dealid) {
        dealid = _match(apporder, datasetorder, workerpoolorder, requestorder, msg.sender);
        emit DealSponsored(dealid, msg.sender);
    }

    /// The reasons are part of the protocol, and so is the order of the checks: the first that fails names itself.
    function _match(
        AppOrder calldata a,
        DatasetOrder calldata d,
        WorkerpoolOrder calldata w,
        RequestOrder calldata r,
        address payer
    ) private returns (bytes32 dealid) {
        DealTerms memory terms;
        terms.timeRef = _checkTerms(a, d, w, r);
        terms.tag = _checkTags(a, d, w, r);
        _checkParties(a, d, w, r);
        OrderHashes memory hashes = _checkApprovals(terms, a, d, w, r);
        _fill(terms, a, d, w, r, payer);
        _consume(terms, hashes, a, d, w, r);
        _lockPrices(terms, payer);
        dealid = terms.dealid;
        Records.write(_largeRecords, dealid, DealRecord.encode(terms));
        emit SchedulerNotice(w.workerpool, dealid);
        emit OrdersMatched(dealid, hashes.app, hashes.dataset, hashes.workerpool, hashes.request, terms.botSize);
    }

    function _checkTerms(
        AppOrder calldata a,
        DatasetOrder calldata d,
        WorkerpoolOrder calldata w,
        RequestOrder calldata r
    ) private view returns (uint256 timeRef) {
        _demand(r.category == w.category, "0x00");
        timeRef = _timeRefs[r.category];
        _demand(timeRef != 0 || r.category < _categories.length, "0x01");
        _demand(r.trust <= w.trust, "0x02");
        _demand(r.appmaxprice >= a.appprice, "0x03");
        _demand(r.datasetmaxprice >= d.datasetprice, "0x04");
        _demand(r.workerpoolmaxprice >= w.workerpoolprice, "0x05");
    }

    function _checkTags(
        AppOrder calldata a,
        DatasetOrder calldata d,
        WorkerpoolOrder calldata w,
        RequestOrder calldata r
    ) private pure returns (bytes32 tag) {
        tag = a.tag | (d.tag & DATASET_TAG_MASK) | r.tag;
        _demand(tag & ~w.tag == 0, "0x06");
        _demand((tag & ~a.tag) & bytes32(uint256(1)) == 0, "0x07");
    }

    function _checkParties(
        AppOrder calldata a,
        DatasetOrder calldata d,
        WorkerpoolOrder calldata w,
        RequestOrder calldata r
    ) private view {
        _demand(r.app == a.app, "0x10");
        _demand(r.dataset == d.dataset, "0x11");
        _demand(_admits(r.workerpool, w.workerpool), "0x12");
        _demand(_admits(a.datasetrestrict, d.dataset), "0x13");
        _demand(_admits(a.workerpoolrestrict, w.workerpool), "0x14");
        _demand(_admits(a.requesterrestrict, r.requester), "0x15");
        _demand(_admits(d.apprestrict, a.app), "0x16");
        _demand(_admits(d.workerpoolrestrict, w.workerpool), "0x17");
        _demand(_admits(d.requesterrestrict, r.requester), "0x18");
        _demand(_admits(w.apprestrict, a.app), "0x19");
        _demand(_admits(w.datasetrestrict, d.dataset), "0x1a");
        _demand(_admits(w.requesterrestrict, r.requester), "0x1b");
    }

    /// Registration and approval of each order; fills in owners and the pool's policies.
    function _checkApprovals(
        DealTerms memory terms,
        AppOrder calldata a,
        DatasetOrder calldata d,
        WorkerpoolOrder calldata w,
        RequestOrder calldata r
    ) private view returns (OrderHashes memory hashes) {
        bytes32 separator = OrderHash.domainSeparator();

        bool registered;
        (terms.appOwner, registered) = _assetOwner(_appRegistry, a.app);
        _demand(registered, "0x20");
        hashes.app = OrderHash.typed(separator, OrderHash.hashApp(a));
        _demand(_approved(terms.appOwner, hashes.app, a.sign), "0x21");

        if (d.dataset != address(0)) {
            (terms.datasetOwner, registered) = _assetOwner(_datasetRegistry, d.dataset);
            _demand(registered, "0x30");
            hashes.dataset = OrderHash.typed(separator, OrderHash.hashDataset(d));
            _demand(_approved(terms.datasetOwner, hashes.dataset, d.sign), "0x31");
        }

        registered = _readWorkerpool(terms, w.workerpool);
        _demand(registered, "0x40");
        hashes.workerpool = OrderHash.typed(separator, OrderHash.hashWorkerpool(w));
        _demand(_approved(terms.workerpoolOwner, hashes.workerpool, w.sign), "0x41");

        hashes.request = OrderHash.typed(separator, OrderHash.hashRequest(r));
        _demand(_approved(r.requester, hashes.request, r.sign), "0x50");
    }

    /// One call where the asset belongs to the registry itself; an older registry's asset is asked for its owner.
    function _assetOwner(address registry, address asset) private view returns (address owner, bool registered) {
        try IRegistry(registry).ownerOf(uint256(uint160(asset))) returns (address holder) {
            return (holder, true);
        } catch {
            return (IAsset(asset).owner(), IRegistry(registry).isRegistered(asset));
        }
    }

    /// The same for a workerpool, with its policies.
    function _readWorkerpool(DealTerms memory terms, address pool) private view returns (bool) {
        try IWorkerpoolRegistry(_workerpoolRegistry).lookup(pool) returns (address owner, uint256 stake, uint256 reward) {
            if (owner != address(0)) {
                (terms.workerpoolOwner, terms.workerStakeRatio, terms.schedulerRewardRatio) = (owner, stake, reward);
                return true;
            }
        } catch {}
        terms.workerpoolOwner = IAsset(pool).owner();
        if (!IRegistry(_workerpoolRegistry).isRegistered(pool)) return false;
        terms.workerStakeRatio = IWorkerpool(pool).m_workerStakeRatioPolicy();
        terms.schedulerRewardRatio = IWorkerpool(pool).m_schedulerRewardRatioPolicy();
        return true;
    }

    function _fill(
        DealTerms memory terms,
        AppOrder calldata a,
        DatasetOrder calldata d,
        WorkerpoolOrder calldata w,
        RequestOrder calldata r,
        address payer
    ) private view {
        terms.workerpool = w.workerpool;
        terms.workerpoolPrice = w.workerpoolprice;
        terms.app = a.app;
        terms.appPrice = a.appprice;
        if (d.dataset != address(0)) {
            terms.dataset = d.dataset;
            terms.datasetPrice = d.datasetprice;
        }
        terms.requester = r.requester;
        terms.beneficiary = r.beneficiary;
        terms.callback = r.callback;
        terms.sponsor = payer;
        terms.trust = r.trust > 1 ? r.trust : 1;
        terms.category = r.category;
        terms.startTime = block.timestamp;
        terms.params = r.params;
    }

    /// Takes the deal's volume, the least that any order has left, from all of them.
    function _consume(
        DealTerms memory terms,
        OrderHashes memory hashes,
        AppOrder calldata a,
        DatasetOrder calldata d,
        WorkerpoolOrder calldata w,
        RequestOrder calldata r
    ) private {
        uint256 appConsumed = _consumed(hashes.app);
        uint256 datasetConsumed;
        uint256 poolConsumed = _consumed(hashes.workerpool);
        uint256 first = _consumed(hashes.request);

        uint256 volume = _min(a.volume - appConsumed, w.volume - poolConsumed);
        volume = _min(volume, r.volume - first);
        if (d.dataset != address(0)) {
            datasetConsumed = _consumed(hashes.dataset);
            volume = _min(volume, d.volume - datasetConsumed);
        }
        _demand(volume > 0, "0x60");

        _setConsumed(hashes.app, appConsumed + volume);
        if (d.dataset != address(0)) _setConsumed(hashes.dataset, datasetConsumed + volume);
        _setConsumed(hashes.workerpool, poolConsumed + volume);
        _setConsumed(hashes.request, first + volume);

        terms.botFirst = first;
        terms.botSize = volume;
        terms.dealid = keccak256(abi.encodePacked(hashes.request, first));
    }

    function _setConsumed(bytes32 orderHash, uint256 consumed) private {
        if (consumed >= type(uint96).max) revert DoesNotFit("volume", consumed);
        _orders[orderHash].consumed = uint96(consumed);
    }

    function _lockPrices(DealTerms memory terms, address payer) private {
        // As published, a worker stake beyond 256 bits is an overflow before it is a lack of money.
        terms.workerpoolPrice * terms.workerStakeRatio;
        _lock(payer, (terms.appPrice + terms.datasetPrice + terms.workerpoolPrice) * terms.botSize);
        // The percentage first, so that what each task releases adds up exactly.
        uint256 stake = terms.workerpoolPrice * DealRecord.POOL_STAKE_PERCENT / 100;
        _lock(terms.workerpoolOwner, stake * terms.botSize);
    }

    /// Refuses with the reason that belongs to `code`.
    function _demand(bool condition, bytes4 code) private pure {
        if (!condition) revert(string(abi.encodePacked("iExecV5-matchOrders-", code)));
    }

    function _min(uint256 x, uint256 y) private pure returns (uint256) {
        return x < y ? x : y;
    }
}
