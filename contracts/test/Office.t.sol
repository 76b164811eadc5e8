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
}
