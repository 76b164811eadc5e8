// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Deployed} from "./Deployed.sol";
import {AppOrder, DatasetOrder, WorkerpoolOrder, RequestOrder} from "../../src/types/Orders.sol";
import {Hashing} from "./Hashing.sol";

/// A small market: one app, dataset and pool, their owners, a requester and workers, all with keys and money, and short words for
/// what they do.
abstract contract Market is Deployed {
    uint256 internal constant APP_PRICE = 1e9;
    uint256 internal constant DATASET_PRICE = 2e9;
    uint256 internal constant POOL_PRICE = 10e9;
    uint256 internal constant STAKE = 3e9;
    uint256 internal constant WORKERS = 12;
    uint256 internal constant RICH = 1000e9;

    uint256 internal appKey = uint256(keccak256("app owner"));
    uint256 internal datasetKey = uint256(keccak256("dataset owner"));
    uint256 internal poolKey = uint256(keccak256("pool owner"));
    uint256 internal requesterKey = uint256(keccak256("requester"));
    address internal appOwner = vm.addr(appKey);
    address internal datasetOwner = vm.addr(datasetKey);
    address internal poolOwner = vm.addr(poolKey);
    address internal requester = vm.addr(requesterKey);
    address internal stranger = vm.addr(uint256(keccak256("stranger")));
    address[] internal workers;

    address internal app;
    address internal dataset;
    address internal pool;
    Hashing internal hashing;
    uint256 private _salt;

    struct Orders {
        AppOrder app;
        DatasetOrder dataset;
        WorkerpoolOrder pool;
        RequestOrder request;
    }

    function setUp() public virtual override {
        super.setUp();
        hashing = new Hashing();
        openMarket();
    }

    function openMarket() internal {
        app = apps.createApp(appOwner, "app", "WASM", "/ipfs/app", bytes32(uint256(1)), "");
        dataset = datasets.createDataset(datasetOwner, "dataset", "/ipfs/dataset", bytes32(uint256(2)));
        pool = pools.createWorkerpool(poolOwner, "pool");
        fund(requester, RICH);
        fund(poolOwner, RICH);
        fund(appOwner, RICH);
        fund(datasetOwner, RICH);
        delete workers;
        for (uint256 i = 0; i < WORKERS; ++i) {
            workers.push(vm.addr(uint256(keccak256(abi.encode("worker", i)))));
            fund(workers[i], RICH);
        }
    }

    // ---- orders

    /// Unsigned orders that match: the app's price 1, the dataset's 2, the pool's 10 RLC, volume 1, no restriction.
    function orders(uint256 trust) internal returns (Orders memory o) {
        bytes32 salt = bytes32(++_salt);
        o.app.app = app;
        o.app.appprice = APP_PRICE;
        o.app.volume = 1;
        o.app.salt = salt;
        o.dataset.dataset = dataset;
        o.dataset.datasetprice = DATASET_PRICE;
        o.dataset.volume = 1;
        o.dataset.salt = salt;
        o.pool.workerpool = pool;
        o.pool.workerpoolprice = POOL_PRICE;
        o.pool.volume = 1;
        o.pool.category = CATEGORY;
        o.pool.trust = trust;
        o.pool.salt = salt;
        o.request.app = app;
        o.request.appmaxprice = APP_PRICE;
        o.request.dataset = dataset;
        o.request.datasetmaxprice = DATASET_PRICE;
        o.request.workerpoolmaxprice = POOL_PRICE;
        o.request.requester = requester;
        o.request.volume = 1;
        o.request.category = CATEGORY;
        o.request.trust = trust;
        o.request.beneficiary = requester;
        o.request.params = "<parameters>";
        o.request.salt = salt;
    }

    function noDataset(Orders memory o) internal pure {
        delete o.dataset;
        o.request.dataset = address(0);
        o.request.datasetmaxprice = 0;
    }

    function volume(Orders memory o, uint256 v) internal pure {
        (o.app.volume, o.dataset.volume, o.pool.volume, o.request.volume) = (v, v, v, v);
    }

    /// Signs all four with the keys of the market.
    function sign(Orders memory o) internal view {
        o.app.sign = signature(appKey, appHash(o));
        o.dataset.sign = signature(datasetKey, datasetHash(o));
        o.pool.sign = signature(poolKey, poolHash(o));
        o.request.sign = signature(requesterKey, requestHash(o));
    }

    function appHash(Orders memory o) internal view returns (bytes32) {
        return hashing.typed(address(hub), hashing.app(o.app));
    }

    function datasetHash(Orders memory o) internal view returns (bytes32) {
        return hashing.typed(address(hub), hashing.dataset(o.dataset));
    }

    function poolHash(Orders memory o) internal view returns (bytes32) {
        return hashing.typed(address(hub), hashing.workerpool(o.pool));
    }

    function requestHash(Orders memory o) internal view returns (bytes32) {
        return hashing.typed(address(hub), hashing.request(o.request));
    }

    function signature(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    // ---- steps

    function send(Orders memory o) internal returns (bytes32 dealid) {
        return hub.matchOrders(o.app, o.dataset, o.pool, o.request);
    }

    function makeDeal(uint256 trust) internal returns (bytes32) {
        Orders memory o = orders(trust);
        sign(o);
        return send(o);
    }

    /// A deal with one task, initialized.
    function start(uint256 trust) internal returns (bytes32 taskid) {
        return hub.initialize(makeDeal(trust), 0);
    }

    function authorize(address worker, bytes32 taskid, address enclave) internal view returns (bytes memory) {
        return personal(poolKey, keccak256(abi.encodePacked(worker, taskid, enclave)));
    }

    function personal(uint256 key, bytes32 message) internal pure returns (bytes memory) {
        return signature(key, keccak256(abi.encodePacked("\x19Ethereum Signed Message:\n32", message)));
    }

    function resultHash(bytes32 taskid, bytes32 digest) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(taskid, digest));
    }

    function resultSeal(address worker, bytes32 taskid, bytes32 digest) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(worker, taskid, digest));
    }

    function contribute(address worker, bytes32 taskid, bytes32 digest) internal {
        bytes memory authorization = authorize(worker, taskid, address(0));
        vm.prank(worker);
        hub.contribute(
            taskid, resultHash(taskid, digest), resultSeal(worker, taskid, digest), address(0), "", authorization
        );
    }

    function reveal(address worker, bytes32 taskid, bytes32 digest) internal {
        vm.prank(worker);
        hub.reveal(taskid, digest);
    }

    function finalize(bytes32 taskid) internal {
        vm.prank(poolOwner);
        hub.finalize(taskid, RESULTS, "");
    }

    /// The link of 84 bytes that a scheduler publishes.
    bytes internal constant RESULTS =
        '{"storage":"ipfs","location":"/ipfs/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWP_84"} ';

    function score(address worker, uint64 value) internal {
        // AccountState: free, locked, score. The slot of the map is in `forge inspect HubProxy storage`.
        bytes32 slot = keccak256(abi.encode(worker, ACCOUNTS_SLOT));
        uint256 word = uint256(vm.load(address(hub), slot));
        word = (word & type(uint192).max) | (uint256(value) << 192);
        vm.store(address(hub), slot, bytes32(word));
        eq(hub.viewScore(worker), value, "score set");
    }

    uint256 internal constant ACCOUNTS_SLOT = 12;
}
