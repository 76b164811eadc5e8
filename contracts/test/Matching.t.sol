// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Market} from "./base/Market.sol";
import {Group, BrokenGroup, Wallet, Impostor} from "./base/Actors.sol";
import {Vm} from "./base/Vm.sol";
import {IHubEvents} from "../src/interfaces/IHubEvents.sol";
import {IMatching} from "../src/interfaces/IMatching.sol";
import {Deal} from "../src/types/Views.sol";
import {AppRegistry} from "../src/registry/AppRegistry.sol";
import {DatasetRegistry} from "../src/registry/DatasetRegistry.sol";
import {WorkerpoolRegistry} from "../src/registry/WorkerpoolRegistry.sol";
import {Workerpool} from "../src/registry/Workerpool.sol";

/// When four orders match, when they do not and with which reason, and what a match leaves behind.
contract MatchingTest is Market {
    function call(Orders memory o) internal pure returns (bytes memory) {
        return abi.encodeCall(IMatching.matchOrders, (o.app, o.dataset, o.pool, o.request));
    }

    function refused(Orders memory o, string memory code) internal {
        reverts(stranger, address(hub), call(o), text(string.concat("iExecV5-matchOrders-", code)), code);
    }

    // ---- reasons

    /// Everything is wrong at first; each step repairs what the reason names, and the next reason in the published order shows.
    function test_reasons_come_in_the_published_order() public {
        Orders memory o = orders(5);
        o.pool.category = 9;
        o.request.category = 8;
        o.request.trust = 6;
        o.app.appprice = APP_PRICE + 1;
        o.dataset.datasetprice = DATASET_PRICE + 1;
        o.pool.workerpoolprice = POOL_PRICE + 1;
        o.request.tag = bytes32(uint256(0x101));
        o.request.app = address(1);
        o.request.dataset = address(1);
        o.request.workerpool = address(1);
        o.app.datasetrestrict = o.app.workerpoolrestrict = o.app.requesterrestrict = address(1);
        o.dataset.apprestrict = o.dataset.workerpoolrestrict = o.dataset.requesterrestrict = address(1);
        o.pool.apprestrict = o.pool.datasetrestrict = o.pool.requesterrestrict = address(1);
        o.app.app = address(new Impostor(appOwner));
        o.dataset.dataset = address(new Impostor(datasetOwner));
        o.pool.workerpool = address(new Impostor(poolOwner));
        bytes memory bad = signature(uint256(keccak256("nobody")), keccak256("nothing"));
        o.app.sign = o.dataset.sign = o.pool.sign = o.request.sign = bad;
        o.request.volume = 0;

        refused(o, "0x00");
        o.request.category = 9;
        refused(o, "0x01");
        o.pool.category = o.request.category = CATEGORY;
        refused(o, "0x02");
        o.request.trust = 5;
        refused(o, "0x03");
        o.app.appprice = APP_PRICE;
        refused(o, "0x04");
        o.dataset.datasetprice = DATASET_PRICE;
        refused(o, "0x05");
        o.pool.workerpoolprice = POOL_PRICE;
        refused(o, "0x06");
        o.pool.tag = bytes32(uint256(0x101));
        refused(o, "0x07");
        o.app.tag = bytes32(uint256(1));
        refused(o, "0x10");
        o.request.app = o.app.app;
        refused(o, "0x11");
        o.request.dataset = o.dataset.dataset;
        refused(o, "0x12");
        o.request.workerpool = o.pool.workerpool;
        refused(o, "0x13");
        o.app.datasetrestrict = o.dataset.dataset;
        refused(o, "0x14");
        o.app.workerpoolrestrict = o.pool.workerpool;
        refused(o, "0x15");
        o.app.requesterrestrict = requester;
        refused(o, "0x16");
        o.dataset.apprestrict = o.app.app;
        refused(o, "0x17");
        o.dataset.workerpoolrestrict = o.pool.workerpool;
        refused(o, "0x18");
        o.dataset.requesterrestrict = requester;
        refused(o, "0x19");
        o.pool.apprestrict = o.app.app;
        refused(o, "0x1a");
        o.pool.datasetrestrict = o.dataset.dataset;
        refused(o, "0x1b");
        o.pool.requesterrestrict = requester;
        refused(o, "0x20");
        o.app.app = o.request.app = app;
        o.dataset.apprestrict = o.pool.apprestrict = app;
        refused(o, "0x21");
        o.app.datasetrestrict = o.pool.datasetrestrict = o.dataset.dataset;
        o.app.sign = signature(appKey, appHash(o));
        refused(o, "0x30");
        o.dataset.dataset = o.request.dataset = dataset;
        o.app.datasetrestrict = o.pool.datasetrestrict = dataset;
        o.app.sign = signature(appKey, appHash(o));
        refused(o, "0x31");
        o.dataset.sign = signature(datasetKey, datasetHash(o));
        refused(o, "0x40");
        o.pool.workerpool = o.request.workerpool = pool;
        o.app.workerpoolrestrict = o.dataset.workerpoolrestrict = pool;
        o.app.sign = signature(appKey, appHash(o));
        o.dataset.sign = signature(datasetKey, datasetHash(o));
        refused(o, "0x41");
        o.pool.sign = signature(poolKey, poolHash(o));
        refused(o, "0x50");
        o.request.sign = signature(requesterKey, requestHash(o));
        refused(o, "0x60");
        o.request.volume = 1;
        sign(o);
        send(o);
    }

    function test_an_asset_without_code_reverts_without_data() public {
        Orders memory o = orders(1);
        o.app.app = o.request.app = address(77);
        sign(o);
        reverts(stranger, address(hub), call(o), "", "no code");
    }

    function test_a_missing_signature_is_a_format_error() public {
        Orders memory o = orders(1);
        reverts(stranger, address(hub), call(o), text("invalid-signature-format"), "unsigned");
    }

    function test_requester_zero_is_refused() public {
        Orders memory o = orders(1);
        o.request.requester = address(0);
        sign(o);
        o.request.sign = new bytes(65);
        bytes memory sponsored =
            abi.encodeCall(IMatching.sponsorMatchOrders, (o.app, o.dataset, o.pool, o.request));
        reverts(appOwner, address(hub), sponsored, text("iExecV5-matchOrders-0x50"), "zero requester");
    }

    function test_payer_and_pool_owner_must_have_the_money() public {
        Orders memory o = orders(1);
        sign(o);
        vm.prank(requester);
        hub.withdraw(RICH - 13e9 + 1);
        bytes memory reason = text("IexecEscrow: Transfer amount exceeds balance");
        reverts(stranger, address(hub), call(o), reason, "payer");
        fund(requester, 1);
        vm.prank(poolOwner);
        hub.withdraw(RICH - 3e9 + 1);
        reverts(stranger, address(hub), call(o), reason, "pool owner");
        fund(poolOwner, 1);
        send(o);
    }

    function test_prices_beyond_all_numbers_overflow() public {
        Orders memory o = orders(1);
        o.pool.workerpoolprice = o.request.workerpoolmaxprice = type(uint256).max / 2;
        sign(o);
        reverts(stranger, address(hub), call(o), panic(0x11), "stake of a worker");
        o = orders(1);
        o.app.appprice = o.request.appmaxprice = type(uint256).max;
        sign(o);
        reverts(stranger, address(hub), call(o), panic(0x11), "sum of the prices");
    }

    function test_numbers_too_wide_are_refused_with_their_name() public {
        Orders memory o = orders(uint256(type(uint64).max) + 1);
        sign(o);
        reverts(stranger, address(hub), call(o), fits("trust", uint256(type(uint64).max) + 1), "trust");

        o = orders(1);
        volume(o, uint256(type(uint64).max) + 1);
        (o.app.appprice, o.dataset.datasetprice, o.pool.workerpoolprice) = (0, 0, 0);
        sign(o);
        reverts(stranger, address(hub), call(o), fits("volume", uint256(type(uint64).max) + 1), "volume");
        volume(o, type(uint96).max);
        sign(o);
        reverts(stranger, address(hub), call(o), fits("volume", type(uint96).max), "order volume");

        uint256 category = hub.createCategory("age", "", uint256(type(uint32).max) + 1);
        o = orders(1);
        o.pool.category = o.request.category = category;
        sign(o);
        bytes memory reason = fits("workClockTimeRef", uint256(type(uint32).max) + 1);
        reverts(stranger, address(hub), call(o), reason, "T");
    }

    /// The second deal of a request goes on where the first ended; the number of its last task must fit as well.
    function test_a_task_number_too_wide_is_refused_at_the_match() public {
        Orders memory o = orders(1);
        (o.app.appprice, o.dataset.datasetprice, o.pool.workerpoolprice) = (0, 0, 0);
        volume(o, type(uint64).max);
        o.request.volume = 1 << 70;
        sign(o);
        bytes32 first = send(o);
        eq(hub.viewTask(hub.initialize(first, type(uint64).max - 1)).idx, type(uint64).max - 1, "last of the first deal");
        o.app.salt = o.dataset.salt = o.pool.salt = keccak256("more");
        sign(o);
        reverts(stranger, address(hub), call(o), fits("volume", 2 * uint256(type(uint64).max)), "second deal");
        o.app.volume = 1;
        sign(o);
        reverts(stranger, address(hub), call(o), fits("volume", uint256(type(uint64).max) + 1), "one task more");
    }

    function fits(string memory field, uint256 value) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IHubEvents.DoesNotFit.selector, field, value);
    }

    function test_a_category_of_no_time_exists() public {
        uint256 category = hub.createCategory("now", "", 0);
        Orders memory o = orders(1);
        o.pool.category = o.request.category = category;
        sign(o);
        bytes32 taskid = hub.initialize(send(o), 0);
        hub.claim(taskid);
    }

    // ---- restrictions and approvals

    function test_a_group_admits_its_members() public {
        Orders memory o = orders(1);
        o.app.requesterrestrict = address(new Group(requester));
        o.dataset.workerpoolrestrict = address(new Group(pool));
        o.request.workerpool = address(new Group(pool));
        sign(o);
        send(o);
        o = orders(1);
        o.app.requesterrestrict = address(new Group(stranger));
        sign(o);
        refused(o, "0x15");
        o.app.requesterrestrict = address(new BrokenGroup());
        sign(o);
        refused(o, "0x15");
    }

    function test_without_dataset_its_restrictions_still_count() public {
        Orders memory o = orders(1);
        noDataset(o);
        o.app.datasetrestrict = dataset;
        sign(o);
        refused(o, "0x13");
        o.app.datasetrestrict = address(0);
        o.dataset.requesterrestrict = stranger;
        sign(o);
        refused(o, "0x18");
        o.dataset.requesterrestrict = address(0);
        o.dataset.datasetprice = 0;
        sign(o);
        Deal memory d = hub.viewDeal(send(o));
        eq(d.dataset.pointer, address(0), "dataset");
        eq(d.dataset.price, 0, "price");
    }

    function test_a_contract_approves_by_erc1271() public {
        Wallet wallet = new Wallet();
        fund(address(wallet), RICH);
        Orders memory o = orders(1);
        o.request.requester = address(wallet);
        sign(o);
        o.request.sign = "whatever";
        refused(o, "0x50");
        wallet.approve(bytes32(uint256(1)));
        refused(o, "0x50");
        wallet.approve(requestHash(o));
        send(o);
    }

    function test_short_signatures_are_accepted_and_high_s_is_not() public {
        Orders memory o = orders(1);
        sign(o);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(requesterKey, requestHash(o));
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        o.request.sign = abi.encodePacked(r, bytes32(order - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        refused(o, "0x50");
        o.request.sign = abi.encodePacked(r, s, uint8(v - 27));
        refused(o, "0x50");
        o.request.sign = abi.encodePacked(r, bytes32(uint256(s) | (uint256(v - 27) << 255)));
        send(o);
    }

    function test_assets_of_an_older_registry_are_accepted() public {
        AppRegistry newApps = new AppRegistry(address(this));
        DatasetRegistry newDatasets = new DatasetRegistry(address(this));
        WorkerpoolRegistry newPools = new WorkerpoolRegistry(address(this));
        hub.changeRegistries(address(newApps), address(newDatasets), address(newPools));
        Orders memory o = orders(1);
        sign(o);
        refused(o, "0x20");
        newApps.initialize(address(apps));
        refused(o, "0x30");
        newDatasets.initialize(address(datasets));
        refused(o, "0x40");
        newPools.initialize(address(pools));
        vm.prank(poolOwner);
        Workerpool(pool).changePolicy(40, 2);
        Deal memory d = hub.viewDeal(send(o));
        eq(d.app.owner, appOwner, "app owner");
        eq(d.workerpool.owner, poolOwner, "pool owner");
        eq(d.workerStake, 4e9, "stake");
        eq(d.schedulerRewardRatio, 2, "ratio");
    }

    // ---- what a match leaves

    function test_volumes_are_consumed_and_a_second_match_goes_on() public {
        Orders memory o = orders(1);
        (o.app.volume, o.dataset.volume, o.pool.volume, o.request.volume) = (10, 3, 7, 5);
        sign(o);
        eq(hub.computeDealVolume(o.app, o.dataset, o.pool, o.request), 3, "least");
        bytes32 first = send(o);
        eq(first, keccak256(abi.encodePacked(requestHash(o), uint256(0))), "first id");
        eq(hub.viewDeal(first).botSize, 3, "size");
        eq(hub.viewConsumed(appHash(o)), 3, "app");
        eq(hub.viewConsumed(datasetHash(o)), 3, "dataset");
        eq(hub.viewConsumed(poolHash(o)), 3, "pool");
        eq(hub.viewConsumed(requestHash(o)), 3, "request");
        refused(o, "0x60");
        o.dataset.salt = keccak256("another");
        sign(o);
        bytes32 second = send(o);
        eq(second, keccak256(abi.encodePacked(requestHash(o), uint256(3))), "second id");
        eq(hub.viewDeal(second).botFirst, 3, "first index");
        eq(hub.viewDeal(second).botSize, 2, "rest of the request");
        reverts(stranger, address(hub), abi.encodeWithSignature("initialize(bytes32,uint256)", second, 2), "", "low");
        reverts(stranger, address(hub), abi.encodeWithSignature("initialize(bytes32,uint256)", second, 5), "", "high");
        eq(hub.viewTask(hub.initialize(second, 4)).idx, 4, "index");
        eq(hub.frozenOf(requester), 5 * 13e9, "locked for five tasks");
        eq(hub.frozenOf(poolOwner), 5 * 3e9, "stake for five tasks");
    }

    function test_events_of_a_match_in_order() public {
        Orders memory o = orders(1);
        sign(o);
        vm.recordLogs();
        vm.prank(appOwner);
        bytes32 dealid = hub.sponsorMatchOrders(o.app, o.dataset, o.pool, o.request);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        bytes32[7] memory topics = [
            keccak256("Transfer(address,address,uint256)"),
            keccak256("Lock(address,uint256)"),
            keccak256("Transfer(address,address,uint256)"),
            keccak256("Lock(address,uint256)"),
            0x692ad61076dceddd0f1a861f737553dd61fc8501cf4190d29c4e90af6607f765,
            0xd811b592ed0899225773e8933d8df64bd0b62761a9d7aad4ed5b22735f4610a4,
            0x81eec3d5401bb1693dbef61f0800bc16602905d6677d691c1262d6f08456e9a0
        ];
        eq(logs.length, topics.length, "events");
        for (uint256 i = 0; i < topics.length; ++i) {
            eq(logs[i].topics[0], topics[i], "topic");
            eq(logs[i].emitter, address(hub), "emitter");
        }
        eq(logs[1].data, abi.encode(appOwner, 13e9), "lock of the payer");
        eq(logs[3].data, abi.encode(poolOwner, 3e9), "lock of the pool owner");
        eq(logs[4].topics[1], bytes32(uint256(uint160(pool))), "notice");
        eq(
            logs[5].data,
            abi.encode(dealid, appHash(o), datasetHash(o), poolHash(o), requestHash(o), uint256(1)),
            "orders matched"
        );
        eq(logs[6].data, abi.encode(dealid, appOwner), "sponsor");
    }

    function test_params_larger_than_a_contract_are_kept_too() public {
        Orders memory o = orders(1);
        bytes memory params = new bytes(25_000);
        for (uint256 i = 0; i < params.length; i += 100) {
            params[i] = bytes1(uint8(i / 100));
        }
        o.request.params = string(params);
        sign(o);
        bytes32 dealid = send(o);
        eq(hub.viewDeal(dealid).params, o.request.params, "params");
        eq(hub.viewTask(hub.initialize(dealid, 0)).dealid, dealid, "deal of the task");
    }

    function test_a_change_of_policy_does_not_touch_deals() public {
        bytes32 dealid = makeDeal(1);
        vm.prank(poolOwner);
        Workerpool(pool).changePolicy(100, 50);
        eq(hub.viewDeal(dealid).workerStake, STAKE, "old deal");
        eq(hub.viewDeal(makeDeal(1)).workerStake, POOL_PRICE, "new deal");
    }

    /// Any price and volume: the deal says what the orders said, and exactly that is locked.
    function testFuzz_match(uint96 a, uint96 d, uint96 w, uint16 size, bytes32 tag, uint64 trust) public {
        a = uint96(bound(a, 0, 1e15));
        d = uint96(bound(d, 0, 1e15));
        w = uint96(bound(w, 0, 1e15));
        size = uint16(bound(size, 1, 9));
        tag = tag & ~bytes32(uint256(1));
        Orders memory o = orders(trust);
        (o.app.appprice, o.dataset.datasetprice, o.pool.workerpoolprice) = (a, d, w);
        (o.request.appmaxprice, o.request.datasetmaxprice, o.request.workerpoolmaxprice) = (a, d, w);
        o.request.tag = o.pool.tag = tag;
        volume(o, size);
        sign(o);
        uint256 cost = (uint256(a) + d + w) * size;
        uint256 stake = uint256(w) * 30 / 100 * size;
        fund(requester, cost);
        fund(poolOwner, stake);
        Deal memory deal = hub.viewDeal(send(o));
        eq(hub.frozenOf(requester), cost, "payer");
        eq(hub.frozenOf(poolOwner), stake, "pool owner");
        eq(hub.balanceOf(address(hub)), cost + stake, "held");
        eq(deal.app.price, a, "app price");
        eq(deal.dataset.price, d, "dataset price");
        eq(deal.workerpool.price, w, "pool price");
        eq(deal.trust, trust > 1 ? trust : 1, "trust");
        eq(deal.tag, tag, "tag");
        eq(deal.botSize, size, "size");
        eq(deal.workerStake, uint256(w) * 30 / 100, "worker stake");
    }
}
