// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Market} from "./base/Market.sol";
import {Vm} from "./base/Vm.sol";
import {IHub} from "../src/interfaces/IHub.sol";
import {IHubEvents} from "../src/interfaces/IHubEvents.sol";
import {IOffice} from "../src/interfaces/IOffice.sol";
import {IViews, ILegacyViews} from "../src/interfaces/IViews.sol";
import {EIP712Domain} from "../src/types/Orders.sol";
import {Category, PenaltyRule} from "../src/types/Views.sol";
import {HubCore} from "../src/hub/HubCore.sol";
import {HubExtension} from "../src/hub/HubExtension.sol";
import {HubProxy} from "../src/hub/HubProxy.sol";

/// What the owner may do, at once or after announcement, and what nobody may.
contract OfficeTest is Market {
    bytes internal constant NOT_OWNER = "Ownable: caller is not the owner";
    uint256 internal constant DELAY = 7 days;

    /// The six calls that change something about other people's money.
    function delayed() internal view returns (bytes[6] memory) {
        return [
            abi.encodeCall(IOffice.setTeeBroker, (stranger)),
            abi.encodeCall(IOffice.setCallbackGas, (123)),
            abi.encodeCall(IOffice.changeRegistries, (address(1), address(2), address(3))),
            abi.encodeCall(IOffice.upgradeTo, (hub.implementation())),
            abi.encodeCall(IOffice.renounceOwnership, ()),
            abi.encodeCall(IOffice.transferOwnership, (stranger))
        ];
    }

    function withDelay() internal {
        deploy(PenaltyRule.FIXED_50, DELAY);
    }

    // ---- delay 0

    function test_without_delay_the_calls_act_at_once() public {
        eq(hub.changeDelay(), 0, "delay");
        hub.setTeeBroker(stranger);
        eq(hub.teebroker(), stranger, "broker");
        hub.setCallbackGas(123);
        eq(hub.callbackgas(), 123, "callback gas");
        hub.changeRegistries(address(1), address(2), address(3));
        eq(hub.appregistry(), address(1), "apps");
        eq(hub.datasetregistry(), address(2), "datasets");
        eq(hub.workerpoolregistry(), address(3), "pools");
        vm.recordLogs();
        hub.transferOwnership(stranger);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs[0].topics[0], IHubEvents.OwnershipTransferred.selector, "event");
        eq(logs[0].topics[1], bytes32(uint256(uint160(address(this)))), "from");
        eq(logs[0].topics[2], bytes32(uint256(uint160(stranger))), "to");
        eq(hub.owner(), stranger, "owner");
        vm.prank(stranger);
        hub.renounceOwnership();
        eq(hub.owner(), address(0), "nobody");
        reverts(stranger, address(hub), abi.encodeCall(IOffice.setCallbackGas, (1)), text(string(NOT_OWNER)), "over");
    }

    function test_strangers_may_do_nothing() public {
        bytes[6] memory calls = delayed();
        for (uint256 i = 0; i < 5; ++i) {
            reverts(stranger, address(hub), calls[i], text(string(NOT_OWNER)), "delayed call");
        }
        bytes memory reason =
            abi.encodeWithSelector(IHubEvents.NotContractOwner.selector, stranger, address(this));
        reverts(stranger, address(hub), calls[5], reason, "transferOwnership");
        bytes[4] memory others = [
            abi.encodeCall(IOffice.createCategory, ("", "", 1)),
            abi.encodeCall(IOffice.proposeChange, ("")),
            abi.encodeCall(IOffice.cancelChange, (bytes32(0))),
            abi.encodeCall(
                IOffice.configure, (address(0), "", "", 0, address(0), address(0), address(0), address(0))
            )
        ];
        for (uint256 i = 0; i < 4; ++i) {
            reverts(stranger, address(hub), others[i], text(string(NOT_OWNER)), "owner's call");
        }
    }

    // ---- with delay

    function test_with_delay_nothing_happens_without_announcement() public {
        withDelay();
        bytes[6] memory calls = delayed();
        for (uint256 i = 0; i < 6; ++i) {
            bytes memory reason =
                abi.encodeWithSelector(IHubEvents.ChangeNotProposed.selector, keccak256(calls[i]));
            reverts(address(this), address(hub), calls[i], reason, "not announced");
        }
        eq(hub.teebroker(), address(0), "unchanged");
    }

    function test_an_announced_change_waits_and_lapses() public {
        withDelay();
        bytes[6] memory calls = delayed();
        for (uint256 i = 0; i < 6; ++i) {
            bytes32 id = keccak256(calls[i]);
            vm.recordLogs();
            eq(hub.proposeChange(calls[i]), id, "id");
            Vm.Log[] memory logs = vm.getRecordedLogs();
            uint256 ready = time() + DELAY;
            uint256 end = ready + hub.changeWindow();
            eq(logs[0].topics[0], IHubEvents.ChangeProposed.selector, "announced");
            eq(logs[0].data, abi.encode(calls[i], ready, end), "call and times");
            eq(hub.changeReadyAt(id), ready, "ready at");
            bytes memory reason =
                abi.encodeWithSelector(IHubEvents.ChangeNotInWindow.selector, id, ready, end);
            vm.warp(ready - 1);
            reverts(address(this), address(hub), calls[i], reason, "a second early");
            vm.warp(end);
            reverts(address(this), address(hub), calls[i], reason, "lapsed");
            vm.warp(i % 2 == 0 ? ready : end - 1);
            vm.recordLogs();
            (bool ok,) = address(hub).call(calls[i]);
            check(ok, "acts");
            eq(vm.getRecordedLogs()[0].topics[0], IHubEvents.ChangeExecuted.selector, "executed");
            if (i == 4) break;
            eq(hub.changeReadyAt(id), 0, "used");
            reason = abi.encodeWithSelector(IHubEvents.ChangeNotProposed.selector, id);
            reverts(address(this), address(hub), calls[i], reason, "twice");
        }
        eq(hub.teebroker(), stranger, "broker");
        eq(hub.callbackgas(), 123, "gas");
        eq(hub.appregistry(), address(1), "registries");
        eq(hub.owner(), address(0), "renounced");
    }

    function test_ownership_moves_after_the_delay() public {
        withDelay();
        bytes memory call = delayed()[5];
        hub.proposeChange(call);
        vm.warp(block.timestamp + DELAY);
        hub.transferOwnership(stranger);
        eq(hub.owner(), stranger, "owner");
    }

    function test_a_cancelled_change_cannot_be_made() public {
        withDelay();
        bytes memory call = delayed()[0];
        bytes32 id = hub.proposeChange(call);
        hub.cancelChange(id);
        vm.warp(block.timestamp + DELAY);
        bytes memory reason = abi.encodeWithSelector(IHubEvents.ChangeNotProposed.selector, id);
        reverts(address(this), address(hub), call, reason, "cancelled");
        reverts(address(this), address(hub), abi.encodeCall(IOffice.cancelChange, (id)), reason, "cancel twice");
    }

    function test_an_announcement_is_for_its_very_arguments() public {
        withDelay();
        hub.proposeChange(abi.encodeCall(IOffice.setCallbackGas, (5)));
        vm.warp(block.timestamp + DELAY);
        bytes memory other = abi.encodeCall(IOffice.setCallbackGas, (6));
        bytes memory reason = abi.encodeWithSelector(IHubEvents.ChangeNotProposed.selector, keccak256(other));
        reverts(address(this), address(hub), other, reason, "another number");
        hub.setCallbackGas(5);
    }

    // ---- code

    function test_the_code_can_be_replaced_and_the_state_stays() public {
        fund(stranger, 5);
        HubExtension extension = new HubExtension(DELAY, viewsOf(hub.implementation()));
        HubCore core = new HubCore(PenaltyRule.TWO_THIRDS, address(extension));
        bytes memory none = abi.encodeCall(IOffice.upgradeTo, (address(5)));
        bytes memory reason = abi.encodeWithSelector(IHubEvents.NotAContract.selector, address(5));
        reverts(address(this), address(hub), none, reason, "no code");
        hub.upgradeTo(address(core));
        eq(hub.implementation(), address(core), "implementation");
        check(hub.penaltyRule() == PenaltyRule.TWO_THIRDS, "rule");
        eq(hub.changeDelay(), DELAY, "delay");
        eq(hub.balanceOf(stranger), 5, "state");
    }

    function viewsOf(address core) internal view returns (address) {
        return HubExtension(payable(HubCore(payable(core)).extension())).views();
    }

    function test_constructors_refuse_nonsense() public {
        vm.expectRevert(abi.encodeWithSelector(IHubEvents.NotAContract.selector, address(5)));
        new HubCore(PenaltyRule.FIXED_50, address(5));
        vm.expectRevert(abi.encodeWithSelector(IHubEvents.NotAContract.selector, address(5)));
        new HubExtension(0, address(5));
        vm.expectRevert(text("delay above a year"));
        new HubExtension(365 days + 1, address(rlc));
        vm.expectRevert(text("implementation or owner missing"));
        new HubProxy(address(5), address(this));
        vm.expectRevert(text("implementation or owner missing"));
        new HubProxy(address(rlc), address(0));
    }

    function test_unknown_calls_and_ether_are_refused() public {
        vm.deal(stranger, 10);
        reverts(stranger, address(hub), hex"12345678", text("fallback-disabled"), "unknown");
        reverts(stranger, address(hub), "", text("fallback-disabled"), "empty");
        vm.prank(stranger);
        (bool ok, bytes memory answer) = address(hub).call{value: 1}("");
        check(!ok, "ether");
        eq(answer, text("fallback-disabled"), "ether");
        vm.prank(stranger);
        (ok, answer) = address(hub).call{value: 1}(abi.encodeCall(IOffice.owner, ()));
        check(!ok && answer.length == 0, "ether with a known call");
    }

    // ---- configuration and categories

    function test_configure_once() public {
        bytes memory data = abi.encodeCall(
            IOffice.configure, (address(1), "", "", 0, address(0), address(0), address(0), address(0))
        );
        reverts(address(this), address(hub), data, text("already-configured"), "twice");
        IHub fresh = IHub(address(new HubProxy(hub.implementation(), address(this))));
        bytes memory update = abi.encodeCall(IOffice.updateDomainSeparator, ());
        reverts(stranger, address(fresh), update, text("not-configured"), "not configured");
        eq(fresh.eip712domain_separator(), bytes32(0), "no separator");
        fresh.configure(address(rlc), "n", "s", 7, address(1), address(2), address(3), address(4));
        fresh.updateDomainSeparator();
        eq(fresh.callbackgas(), 200_000, "callback gas");
        eq(fresh.decimals(), 7, "decimals");
        eq(fresh.eip712domain_separator(), hashing.domain(address(fresh)), "separator");
    }

    function test_the_domain_follows_the_chain() public {
        EIP712Domain memory d = hub.domain();
        eq(d.name, "iExecODB", "name");
        eq(d.version, "5.0.0", "version");
        eq(d.chainId, block.chainid, "chain");
        eq(d.verifyingContract, address(hub), "contract");
        bytes32 before = hub.eip712domain_separator();
        vm.chainId(99);
        check(hub.eip712domain_separator() != before, "changes with the chain");
        eq(hub.eip712domain_separator(), hashing.domain(address(hub)), "separator");
    }

    function test_categories() public {
        eq(hub.countCategory(), 5, "count");
        vm.recordLogs();
        eq(hub.createCategory("name", "description", 42), 5, "id");
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs[0].topics[0], 0x62bf08360c9d561749c54eaf4f8bf8cb6c8b6f4f40607bcec39a8172e714d25c, "event");
        eq(logs[0].data, abi.encode(uint256(5), "name", "description", uint256(42)), "data");
        Category memory c = hub.viewCategory(5);
        eq(c.name, "name", "name");
        eq(c.description, "description", "description");
        eq(c.workClockTimeRef, 42, "T");
        (string memory name, string memory description, uint256 t) = hub.viewCategoryABILegacy(5);
        eq(string.concat(name, description), "namedescription", "legacy");
        eq(t, 42, "legacy T");
        reverts(stranger, address(hub), abi.encodeCall(IViews.viewCategory, (6)), "", "out of range");
        bytes memory legacy = abi.encodeCall(ILegacyViews.viewCategoryABILegacy, (6));
        reverts(stranger, address(hub), legacy, panic(0x32), "out of range, legacy");
    }

    function testFuzz_category(string memory name, string memory description, uint256 t) public {
        uint256 id = hub.createCategory(name, description, t);
        Category memory c = hub.viewCategory(id);
        eq(c.name, name, "name");
        eq(c.description, description, "description");
        eq(c.workClockTimeRef, t, "T");
    }

    function test_scores_are_not_imported() public {
        reverts(stranger, address(hub), abi.encodeCall(IOffice.importScore, (stranger)), "", "import");
    }

    function test_constants() public view {
        eq(hub.contribution_deadline_ratio(), 7, "contribution");
        eq(hub.reveal_deadline_ratio(), 2, "reveal");
        eq(hub.final_deadline_ratio(), 10, "final");
        eq(hub.workerpool_stake_ratio(), 30, "stake");
        eq(hub.kitty_ratio(), 10, "kitty");
        eq(hub.kitty_min(), 1e9, "kitty min");
        eq(hub.kitty_address(), 0x99c2268479b93fDe36232351229815DF80837e23, "kitty");
        eq(uint160(uint256(keccak256("iExecKitty")) >> 96) - 1, uint160(hub.kitty_address()), "kitty's derivation");
        eq(hub.groupmember_purpose(), 4, "purpose");
        eq(hub.contributor_limit(), 32, "contributors");
        check(hub.supportsInterface(0x01ffc9a7) && hub.supportsInterface(0x7f5828d0), "interfaces");
        check(!hub.supportsInterface(0xffffffff), "not everything");
        check(hub.penaltyRule() == PenaltyRule.FIXED_50, "rule");
    }

    // ---- any numbers, any time

    /// Announced at any time, sent at any time: the call acts inside the window, once, and never else.
    function testFuzz_a_change_acts_in_its_window_only(uint256 which, uint32 delay, uint256 when, address who, uint256 x)
        public
    {
        delay = uint32(bound(delay, 1, 365 days));
        deploy(PenaltyRule.FIXED_50, delay);
        eq(hub.changeDelay(), delay, "delay");
        bytes[6] memory calls = [
            abi.encodeCall(IOffice.setTeeBroker, (who)),
            abi.encodeCall(IOffice.setCallbackGas, (x)),
            abi.encodeCall(IOffice.changeRegistries, (who, stranger, address(uint160(x)))),
            abi.encodeCall(IOffice.upgradeTo, (address(new HubCore(PenaltyRule.TWO_THIRDS, extensionOf(hub.implementation()))))),
            abi.encodeCall(IOffice.renounceOwnership, ()),
            abi.encodeCall(IOffice.transferOwnership, (who))
        ];
        bytes memory call = calls[which % 6];
        bytes32 id = hub.proposeChange(call);
        uint256 ready = time() + delay;
        uint256 end = ready + hub.changeWindow();
        eq(hub.changeReadyAt(id), ready, "ready");
        uint256 now_ =
            [ready - 1, ready, ready + 1, end - 1, end, end + 1, bound(when >> 8, time(), end + delay)][when % 7];
        vm.warp(now_);
        if (now_ < ready || now_ >= end) {
            bytes memory reason = abi.encodeWithSelector(IHubEvents.ChangeNotInWindow.selector, id, ready, end);
            return reverts(address(this), address(hub), call, reason, "outside the window");
        }
        act(call);
        eq(hub.changeReadyAt(id), 0, "used");
        if (which % 6 == 0) eq(hub.teebroker(), who, "broker");
        if (which % 6 == 1) eq(hub.callbackgas(), x, "gas");
        if (which % 6 == 2) {
            eq(hub.appregistry(), who, "apps");
            eq(hub.datasetregistry(), stranger, "datasets");
            eq(hub.workerpoolregistry(), address(uint160(x)), "pools");
        }
        if (which % 6 == 3) check(hub.penaltyRule() == PenaltyRule.TWO_THIRDS, "code");
        if (which % 6 >= 4) eq(hub.owner(), which % 6 == 4 ? address(0) : who, "owner");
        else reverts(address(this), address(hub), call, abi.encodeWithSelector(IHubEvents.ChangeNotProposed.selector, id), "twice");
    }

    function extensionOf(address core) internal view returns (address) {
        return HubCore(payable(core)).extension();
    }

    function act(bytes memory call) internal {
        (bool ok,) = address(hub).call(call);
        check(ok, "acts");
    }

    /// Withdrawn or not yet made, an announcement changes nothing; announcing again starts the clock anew.
    function testFuzz_announcements(bytes memory call, uint32 pause) public {
        withDelay();
        bytes32 id = hub.proposeChange(call);
        eq(id, keccak256(call), "id");
        vm.warp(time() + pause);
        hub.proposeChange(call);
        eq(hub.changeReadyAt(id), time() + DELAY, "anew");
        reverts(stranger, address(hub), abi.encodeCall(IOffice.cancelChange, (id)), text(string(NOT_OWNER)), "stranger");
        hub.cancelChange(id);
        eq(hub.changeReadyAt(id), 0, "withdrawn");
        bytes memory reason = abi.encodeWithSelector(IHubEvents.ChangeNotProposed.selector, id);
        reverts(address(this), address(hub), abi.encodeCall(IOffice.cancelChange, (id)), reason, "nothing to withdraw");
    }

    /// With delay 0 the published calls act at once and hold what they were given.
    function testFuzz_without_delay_any_value_holds_at_once(address a, address b, address c, uint256 gas_) public {
        hub.setTeeBroker(a);
        eq(hub.teebroker(), a, "broker");
        hub.setCallbackGas(gas_);
        eq(hub.callbackgas(), gas_, "gas");
        hub.changeRegistries(a, b, c);
        eq(hub.appregistry(), a, "apps");
        eq(hub.datasetregistry(), b, "datasets");
        eq(hub.workerpoolregistry(), c, "pools");
        address core = hub.implementation();
        if (a.code.length == 0) {
            bytes memory none = abi.encodeWithSelector(IHubEvents.NotAContract.selector, a);
            reverts(address(this), address(hub), abi.encodeCall(IOffice.upgradeTo, (a)), none, "no code");
        }
        hub.upgradeTo(core);
        eq(hub.implementation(), core, "implementation");
        hub.transferOwnership(a);
        eq(hub.owner(), a, "owner");
        vm.prank(a);
        hub.renounceOwnership();
        eq(hub.owner(), address(0), "nobody");
    }

    /// Nobody but the owner can use the office, with whatever arguments.
    function testFuzz_strangers(address who, address a, uint256 n, bytes memory data) public {
        vm.assume(who != address(this));
        bytes memory reason = text(string(NOT_OWNER));
        bytes[10] memory calls = [
            abi.encodeCall(IOffice.setTeeBroker, (a)),
            abi.encodeCall(IOffice.setCallbackGas, (n)),
            abi.encodeCall(IOffice.changeRegistries, (a, a, a)),
            abi.encodeCall(IOffice.upgradeTo, (a)),
            abi.encodeCall(IOffice.renounceOwnership, ()),
            abi.encodeCall(IOffice.createCategory, ("", "", n)),
            abi.encodeCall(IOffice.proposeChange, (data)),
            abi.encodeCall(IOffice.cancelChange, (bytes32(n))),
            abi.encodeCall(IOffice.configure, (a, "", "", 9, a, a, a, a)),
            abi.encodeWithSignature("recover()")
        ];
        for (uint256 i = 0; i < 10; ++i) {
            reverts(who, address(hub), calls[i], reason, "a stranger");
        }
        reason = abi.encodeWithSelector(IHubEvents.NotContractOwner.selector, who, address(this));
        reverts(who, address(hub), abi.encodeCall(IOffice.transferOwnership, (a)), reason, "a stranger");
        reverts(who, address(hub), abi.encodeCall(IOffice.importScore, (a)), "", "nobody imports scores");
    }

    function testFuzz_configure(address[5] memory a, string memory name, string memory symbol, uint8 decimals) public {
        IHub fresh = IHub(address(new HubProxy(hub.implementation(), stranger)));
        vm.prank(stranger);
        fresh.configure(a[0], name, symbol, decimals, a[1], a[2], a[3], a[4]);
        eq(fresh.token(), a[0], "token");
        eq(fresh.name(), name, "name");
        eq(fresh.symbol(), symbol, "symbol");
        eq(fresh.decimals(), decimals, "decimals");
        eq(fresh.appregistry(), a[1], "apps");
        eq(fresh.datasetregistry(), a[2], "datasets");
        eq(fresh.workerpoolregistry(), a[3], "pools");
        eq(fresh.callbackgas(), 200_000, "callback gas");
        bytes memory again = abi.encodeCall(IOffice.configure, (a[0], "", "", 0, a[1], a[2], a[3], a[4]));
        reverts(stranger, address(fresh), again, text("already-configured"), "twice");
    }

    /// On every chain, and at whatever time, signatures belong to this chain and this hub.
    function testFuzz_the_domain_follows_the_chain(uint64 chain, address who) public {
        vm.chainId(chain);
        EIP712Domain memory d = hub.domain();
        eq(d.chainId, chain, "chain");
        eq(d.verifyingContract, address(hub), "contract");
        eq(hub.eip712domain_separator(), hashing.domain(address(hub)), "separator");
        vm.prank(who);
        hub.updateDomainSeparator();
        eq(hub.eip712domain_separator(), hashing.domain(address(hub)), "still");
    }

    function testFuzz_interfaces(bytes4 id) public view {
        bool known = id == 0x01ffc9a7 || id == 0x7f5828d0;
        check(hub.supportsInterface(id) == known, "ERC-165 and ERC-173, nothing else");
    }

    /// Constants are constants: whoever asks, whenever, and whatever the owner has set.
    function testFuzz_constants_stay(address who, uint40 when, uint256 gas_) public {
        hub.setCallbackGas(gas_);
        vm.warp(when);
        vm.startPrank(who);
        test_constants();
        eq(hub.pendingRecord().length, 0, "nothing pending");
        eq(hub.changeWindow(), 14 days, "window");
        vm.stopPrank();
    }

    function testFuzz_category_views(uint256 id, string memory name, uint256 t) public {
        uint256 last = hub.createCategory(name, "d", t);
        eq(hub.countCategory(), last + 1, "count");
        id = id % 3 == 0 ? id : last;
        if (id > last) {
            reverts(stranger, address(hub), abi.encodeCall(IViews.viewCategory, (id)), "", "out of range");
            bytes memory legacy = abi.encodeCall(ILegacyViews.viewCategoryABILegacy, (id));
            return reverts(stranger, address(hub), legacy, panic(0x32), "out of range, flat");
        }
        Category memory c = hub.viewCategory(id);
        (string memory n, string memory d, uint256 flat) = hub.viewCategoryABILegacy(id);
        eq(n, c.name, "name");
        eq(d, c.description, "description");
        eq(flat, c.workClockTimeRef, "T");
    }
}
