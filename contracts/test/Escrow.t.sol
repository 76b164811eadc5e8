// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Market} from "./base/Market.sol";
import {FakeToken, Spender, QuietSpender} from "./base/Actors.sol";
import {Vm} from "./base/Vm.sol";
import {IHubEvents} from "../src/interfaces/IHubEvents.sol";
import {IEscrow, IApprovalReceiver, IStakedToken} from "../src/interfaces/IEscrow.sol";
import {IMatching} from "../src/interfaces/IMatching.sol";
import {RLC} from "../src/token/RLC.sol";
import {PenaltyRule} from "../src/types/Views.sol";

/// RLC in and out, and SRLC from hand to hand.
contract EscrowTest is Market {
    address internal alice = address(0xA11CE);
    address internal bob = address(0xB0B);

    function give(address account, uint256 amount) internal {
        rlc.transfer(account, amount);
        vm.prank(account);
        rlc.approve(address(hub), amount);
    }

    // ---- deposits

    function test_deposit_and_withdraw() public {
        give(alice, 100);
        vm.recordLogs();
        vm.prank(alice);
        check(hub.deposit(100), "deposit");
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 2, "RLC's and the hub's transfer");
        eq(logs[1].emitter, address(hub), "the hub last");
        eq(logs[1].topics[1], bytes32(0), "from nobody");
        eq(hub.balanceOf(alice), 100, "SRLC");
        eq(rlc.balanceOf(alice), 0, "RLC");
        vm.prank(alice);
        check(hub.withdraw(40), "withdraw");
        vm.prank(alice);
        check(hub.withdrawTo(60, bob), "withdrawTo");
        eq(hub.balanceOf(alice), 0, "all out");
        eq(rlc.balanceOf(alice), 40, "own RLC");
        eq(rlc.balanceOf(bob), 60, "RLC of another");
    }

    function test_deposit_for_others() public {
        give(alice, 100);
        vm.prank(alice);
        hub.depositFor(30, bob);
        uint256[] memory amounts = new uint256[](2);
        address[] memory targets = new address[](2);
        (amounts[0], amounts[1], targets[0], targets[1]) = (50, 20, alice, bob);
        vm.prank(alice);
        hub.depositForArray(amounts, targets);
        eq(hub.balanceOf(alice), 50, "alice");
        eq(hub.balanceOf(bob), 50, "bob");
        bytes memory data = abi.encodeCall(IEscrow.depositForArray, (amounts, new address[](1)));
        reverts(alice, address(hub), data, text("invalid-array-length"), "lengths");
        give(alice, 1);
        data = abi.encodeCall(IEscrow.depositFor, (1, address(0)));
        reverts(alice, address(hub), data, text("ERC20: mint to the zero address"), "zero");
    }

    function test_withdraw_more_than_free_reverts_without_data() public {
        reverts(alice, address(hub), abi.encodeCall(IEscrow.withdraw, (1)), "", "withdraw");
        reverts(alice, address(hub), abi.encodeCall(IEscrow.withdrawTo, (1, bob)), "", "withdrawTo");
        makeDeal(1);
        reverts(requester, address(hub), abi.encodeCall(IEscrow.withdraw, (RICH - 13e9 + 1)), "", "locked");
        vm.prank(requester);
        hub.withdraw(RICH - 13e9);
    }

    function test_a_token_that_answers_false_and_one_with_endless_supply() public {
        FakeToken fake = new FakeToken();
        deployWith(address(fake));
        bytes memory data = abi.encodeCall(IEscrow.deposit, (1));
        reverts(alice, address(hub), data, text("failed-transferFrom"), "false");
        fake.set(true);
        hub.deposit(type(uint96).max);
        bytes memory reason =
            abi.encodeWithSelector(IHubEvents.DoesNotFit.selector, "totalSupply", uint256(type(uint96).max) + 1);
        reverts(alice, address(hub), data, reason, "supply");
        fake.set(false);
        hub.withdraw(1);
        eq(hub.totalSupply(), type(uint96).max - 1, "the answer of transfer is ignored");
    }

    function deployWith(address token) private {
        deploy(PenaltyRule.FIXED_50, 0);
        // Slot 0 holds the token and, above it, the supply.
        vm.store(address(hub), 0, bytes32(uint256(uint160(token))));
        eq(hub.token(), token, "token");
    }

    function test_recover_credits_what_was_sent_by_mistake() public {
        rlc.transfer(address(hub), 77);
        bytes memory data = abi.encodeCall(IEscrow.recover, ());
        reverts(stranger, address(hub), data, text("Ownable: caller is not the owner"), "stranger");
        eq(hub.recover(), 77, "delta");
        eq(hub.balanceOf(address(this)), 77, "owner");
        eq(hub.recover(), 0, "nothing more");
    }

    // ---- approveAndCall of RLC

    function test_approve_and_call_deposits() public {
        rlc.transfer(alice, 100);
        vm.prank(alice);
        rlc.approveAndCall(address(hub), 100, "");
        eq(hub.balanceOf(alice), 100, "SRLC");
        eq(rlc.allowance(alice, address(hub)), 0, "no allowance is left");
    }

    function test_approve_and_call_matches() public {
        vm.prank(requester);
        hub.withdraw(RICH);
        Orders memory o = orders(1);
        sign(o);
        bytes memory data = abi.encodeCall(IMatching.matchOrders, (o.app, o.dataset, o.pool, o.request));
        vm.prank(requester);
        rlc.approveAndCall(address(hub), 13e9, data);
        eq(hub.frozenOf(requester), 13e9, "locked");
        eq(hub.viewConsumed(requestHash(o)), 1, "matched");
    }

    function test_approve_and_call_refusals() public {
        Orders memory o = orders(1);
        sign(o);
        bytes memory data = abi.encodeCall(IMatching.matchOrders, (o.app, o.dataset, o.pool, o.request));
        rlc.transfer(alice, 1);
        refuse(alice, data, abi.encodeWithSelector(IHubEvents.CallerIsNotTheRequester.selector), "requester");
        refuse(requester, hex"112233", "", "three bytes");
        bytes memory other = abi.encodeCall(IMatching.sponsorMatchOrders, (o.app, o.dataset, o.pool, o.request));
        bytes4 selector = IMatching.sponsorMatchOrders.selector;
        bytes memory reason = abi.encodeWithSelector(IHubEvents.UnsupportedOperation.selector, selector);
        refuse(requester, other, reason, "another call");
        refuse(requester, abi.encodePacked(IMatching.matchOrders.selector), "", "no orders");
        o.request.category = 3;
        data = abi.encodeCall(IMatching.matchOrders, (o.app, o.dataset, o.pool, o.request));
        refuse(requester, data, text("iExecV5-matchOrders-0x00"), "bubbled up");
        o = orders(1);
        o.app.app = o.request.app = address(77);
        sign(o);
        data = abi.encodeCall(IMatching.matchOrders, (o.app, o.dataset, o.pool, o.request));
        refuse(requester, data, abi.encodeWithSelector(IHubEvents.OperationFailed.selector), "without data");
        bytes memory direct = abi.encodeCall(IApprovalReceiver.receiveApproval, (alice, 1, address(hub), ""));
        reverts(alice, address(hub), direct, text("wrong-token"), "token");
    }

    function refuse(address sender, bytes memory data, bytes memory reason, string memory what) internal {
        bytes memory call = abi.encodeCall(RLC.approveAndCall, (address(hub), 0, data));
        reverts(sender, address(rlc), call, reason, what);
    }

    // ---- SRLC

    function test_transfer_and_allowance() public {
        fund(alice, 100);
        vm.prank(alice);
        check(hub.transfer(bob, 30), "transfer");
        vm.prank(alice);
        check(hub.approve(bob, 50), "approve");
        vm.prank(alice);
        hub.increaseAllowance(bob, 10);
        vm.prank(alice);
        hub.decreaseAllowance(bob, 20);
        eq(hub.allowance(alice, bob), 40, "allowance");
        vm.prank(bob);
        check(hub.transferFrom(alice, stranger, 40), "transferFrom");
        eq(hub.allowance(alice, bob), 0, "used");
        eq(hub.balanceOf(alice), 30, "alice");
        eq(hub.balanceOf(bob), 30, "bob");
        eq(hub.balanceOf(stranger), 40, "stranger");
    }

    function test_transfer_from_emits_the_transfer_first() public {
        fund(alice, 10);
        vm.prank(alice);
        hub.approve(bob, 10);
        vm.recordLogs();
        vm.prank(bob);
        hub.transferFrom(alice, stranger, 4);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        eq(logs.length, 2, "two events");
        eq(logs[0].topics[0], IHubEvents.Transfer.selector, "transfer");
        eq(logs[1].topics[0], IHubEvents.Approval.selector, "approval");
        eq(logs[1].data, abi.encode(uint256(6)), "what is left");
    }

    function test_token_refusals() public {
        fund(alice, 10);
        bytes memory zero = text("ERC20: transfer to the zero address");
        reverts(alice, address(hub), abi.encodeCall(IStakedToken.transfer, (address(0), 1)), zero, "to zero");
        reverts(alice, address(hub), abi.encodeCall(IStakedToken.transfer, (bob, 11)), "", "too much");
        reverts(bob, address(hub), abi.encodeCall(IStakedToken.transferFrom, (alice, bob, 1)), "", "no allowance");
        vm.prank(alice);
        hub.approve(bob, type(uint256).max);
        reverts(bob, address(hub), abi.encodeCall(IStakedToken.transferFrom, (alice, bob, 11)), "", "no balance");
        vm.prank(bob);
        hub.transferFrom(alice, bob, 1);
        eq(hub.allowance(alice, bob), type(uint256).max - 1, "not even endless allowances stay");
        bytes memory approveZero = abi.encodeCall(IStakedToken.approve, (address(0), 1));
        reverts(alice, address(hub), approveZero, text("ERC20: approve to the zero address"), "approve zero");
        bytes memory fromZero = abi.encodeCall(IStakedToken.transfer, (bob, 0));
        reverts(address(0), address(hub), fromZero, text("ERC20: transfer from the zero address"), "from zero");
        bytes memory down = abi.encodeCall(IStakedToken.decreaseAllowance, (stranger, 1));
        reverts(alice, address(hub), down, "", "below zero");
        bytes memory up = abi.encodeCall(IStakedToken.increaseAllowance, (bob, 2));
        reverts(alice, address(hub), up, "", "above the maximum");
    }

    function test_approve_and_call_of_srlc() public {
        Spender spender = new Spender();
        fund(alice, 10);
        vm.prank(alice);
        check(hub.approveAndCall(address(spender), 7, "hi"), "called");
        eq(spender.seen(), abi.encode(alice, uint256(7), address(hub), bytes("hi")), "arguments");
        spender.set(false);
        bytes memory data = abi.encodeCall(IStakedToken.approveAndCall, (address(spender), 7, ""));
        reverts(alice, address(hub), data, text("approval-refused"), "refused");
    }

    function test_srlc_sent_to_the_hub_counts_beside_what_is_locked() public {
        fund(alice, 10);
        vm.prank(alice);
        hub.transfer(address(hub), 10);
        makeDeal(1);
        eq(hub.balanceOf(address(hub)), 10 + 16e9, "balance");
        eq(hub.viewAccount(address(hub)).stake, 10 + 16e9, "account");
    }

    function test_metadata() public view {
        eq(hub.name(), "Staked RLC", "name");
        eq(hub.symbol(), "SRLC", "symbol");
        eq(hub.decimals(), 9, "decimals");
        eq(rlc.decimals(), 9, "RLC's decimals");
        eq(rlc.totalSupply(), 87_000_000e9, "RLC's supply");
    }

    function testFuzz_money_is_conserved(uint96 a, uint96 b, uint96 c) public {
        uint256 supply = rlc.balanceOf(address(this));
        a = uint96(bound(a, 0, supply));
        b = uint96(bound(b, 0, a));
        c = uint96(bound(c, 0, b));
        uint256 before = hub.totalSupply();
        give(alice, a);
        vm.startPrank(alice);
        hub.deposit(a);
        hub.transfer(bob, b);
        vm.stopPrank();
        vm.prank(bob);
        hub.withdraw(c);
        eq(hub.balanceOf(alice), a - b, "alice");
        eq(hub.balanceOf(bob), b - c, "bob");
        eq(hub.totalSupply(), before + a - c, "supply");
        eq(rlc.balanceOf(address(hub)), before + a - c, "RLC held");
    }

    function testFuzz_allowance(uint256 first, uint256 more, uint256 less) public {
        more = bound(more, 0, type(uint256).max - first);
        less = bound(less, 0, first + more);
        vm.startPrank(alice);
        hub.approve(bob, first);
        hub.increaseAllowance(bob, more);
        hub.decreaseAllowance(bob, less);
        vm.stopPrank();
        eq(hub.allowance(alice, bob), first + more - less, "allowance");
    }

    // ---- RLC itself

    function test_rlc_refusals() public {
        bytes memory data = abi.encodeCall(RLC.transfer, (bob, 1));
        bytes memory reason = abi.encodeWithSelector(RLC.ERC20InsufficientBalance.selector, alice, 0, 1);
        reverts(alice, address(rlc), data, reason, "balance");
        data = abi.encodeCall(RLC.transferFrom, (address(this), bob, 1));
        reason = abi.encodeWithSelector(RLC.ERC20InsufficientAllowance.selector, alice, 0, 1);
        reverts(alice, address(rlc), data, reason, "allowance");
        data = abi.encodeCall(RLC.approveAndCall, (bob, 1, ""));
        reverts(alice, address(rlc), data, "", "a spender that is no contract");
    }

    /// As the published token does: a spender needs no answer, and the zero address is an address.
    function test_rlc_asks_no_more_than_the_published_token() public {
        QuietSpender quiet = new QuietSpender();
        vm.prank(alice);
        rlc.approveAndCall(address(quiet), 5, "x");
        eq(quiet.called(), 5, "told");
        eq(rlc.allowance(alice, address(quiet)), 5, "approved");
        check(rlc.transfer(address(0), 3), "to zero");
        eq(rlc.balanceOf(address(0)), 3, "kept there");
        fund(alice, 4);
        vm.prank(alice);
        check(hub.withdrawTo(4, address(0)), "out to zero");
        eq(rlc.balanceOf(address(0)), 7, "kept there");
    }

    function testFuzz_rlc_moves(uint256 a, uint256 b) public {
        uint256 all = rlc.totalSupply() - rlc.balanceOf(address(hub));
        a = bound(a, 0, all);
        b = bound(b, 0, a);
        rlc.transfer(alice, a);
        vm.prank(alice);
        rlc.approve(bob, a);
        vm.prank(bob);
        rlc.transferFrom(alice, bob, b);
        eq(rlc.balanceOf(alice), a - b, "alice");
        eq(rlc.balanceOf(bob), b, "bob");
        eq(rlc.allowance(alice, bob), a - b, "allowance");
    }

    function testFuzz_rlc_transfer_to_oneself_changes_nothing(uint256 a) public {
        a = bound(a, 0, 1e15);
        rlc.transfer(alice, 1e15);
        vm.prank(alice);
        rlc.transfer(alice, a);
        eq(rlc.balanceOf(alice), 1e15, "same");
        fund(bob, 1e15);
        vm.prank(bob);
        hub.transfer(bob, a);
        eq(hub.balanceOf(bob), 1e15, "same SRLC");
    }

    // ---- any amounts, any people

    /// Neither zero, nor a contract, nor anybody who has money already.
    function newcomer(address who) internal view returns (bool) {
        return who > address(0xffff) && who.code.length == 0 && hub.balanceOf(who) == 0 && rlc.balanceOf(who) == 0;
    }

    function testFuzz_deposits_for_others_and_withdrawals_to_others(address to, uint96[3] memory parts, uint96 out) public {
        vm.assume(newcomer(to) && to != alice);
        uint256[] memory amounts = new uint256[](3);
        address[] memory targets = new address[](3);
        uint256 sum;
        for (uint256 i = 0; i < 3; ++i) {
            amounts[i] = bound(parts[i], 0, 1e15);
            targets[i] = i == 1 ? alice : to;
            sum += amounts[i];
        }
        uint256 supply = hub.totalSupply();
        give(alice, sum + amounts[0]);
        vm.startPrank(alice);
        check(hub.depositForArray(amounts, targets), "array");
        check(hub.depositFor(amounts[0], to), "one");
        vm.stopPrank();
        eq(hub.balanceOf(to), 2 * amounts[0] + amounts[2], "target");
        eq(hub.balanceOf(alice), amounts[1], "sender");
        eq(hub.totalSupply(), supply + sum + amounts[0], "supply");
        uint256 have = hub.balanceOf(to);
        bytes memory tooMuch = abi.encodeCall(IEscrow.withdrawTo, (have + 1, bob));
        reverts(to, address(hub), tooMuch, "", "more than there is");
        out = uint96(bound(out, 0, have));
        vm.prank(to);
        check(hub.withdrawTo(out, bob), "out");
        eq(hub.balanceOf(to), have - out, "rest");
        eq(rlc.balanceOf(bob), out, "paid");
        eq(rlc.balanceOf(address(hub)), hub.totalSupply(), "backed");
    }

    function testFuzz_arrays_of_different_length_are_refused(uint8 a, uint8 b) public {
        (a, b) = (a % 5, b % 5);
        if (a == b) ++b;
        bytes memory data = abi.encodeCall(IEscrow.depositForArray, (new uint256[](a), new address[](b)));
        reverts(alice, address(hub), data, text("invalid-array-length"), "lengths");
    }

    function testFuzz_recover(uint96 mistake, uint96 more, address who) public {
        vm.assume(who != address(this));
        mistake = uint96(bound(mistake, 0, 1e15));
        more = uint96(bound(more, 0, 1e15));
        fund(alice, more);
        rlc.transfer(address(hub), mistake);
        bytes memory call = abi.encodeCall(IEscrow.recover, ());
        reverts(who, address(hub), call, text("Ownable: caller is not the owner"), "a stranger");
        uint256 before = hub.balanceOf(address(this));
        eq(hub.recover(), mistake, "exactly the difference");
        eq(hub.balanceOf(address(this)), before + mistake, "to the owner");
        eq(rlc.balanceOf(address(hub)), hub.totalSupply(), "nothing is left over");
    }

    /// RLC's one transaction to approve and deposit: the amount arrives, and nothing can be taken that was not approved.
    function testFuzz_approve_and_call(uint96 amount, uint96 again, address token) public {
        amount = uint96(bound(amount, 0, 1e15));
        rlc.transfer(alice, amount);
        vm.prank(alice);
        rlc.approveAndCall(address(hub), amount, "");
        eq(hub.balanceOf(alice), amount, "deposited");
        eq(rlc.allowance(alice, address(hub)), 0, "used up");
        bytes memory direct = abi.encodeCall(IApprovalReceiver.receiveApproval, (alice, again, token, ""));
        if (token != address(rlc)) reverts(bob, address(hub), direct, text("wrong-token"), "another token");
        if (again == 0) return;
        direct = abi.encodeCall(IApprovalReceiver.receiveApproval, (alice, again, address(rlc), ""));
        bytes memory reason = abi.encodeWithSelector(RLC.ERC20InsufficientAllowance.selector, hub, 0, again);
        reverts(bob, address(hub), direct, reason, "nothing more is approved");
    }

    /// Data of the one transaction that is not a match of the sender's own request is refused, whatever it is.
    function testFuzz_approve_and_call_runs_nothing_but_matches(bytes memory data) public {
        vm.assume(data.length > 0);
        bytes memory call = abi.encodeCall(RLC.approveAndCall, (address(hub), 0, data));
        if (data.length < 4) return reverts(alice, address(rlc), call, "", "no selector");
        vm.assume(bytes4(data) != IMatching.matchOrders.selector);
        bytes memory reason = abi.encodeWithSelector(IHubEvents.UnsupportedOperation.selector, bytes4(data));
        reverts(alice, address(rlc), call, reason, "another call");
        data = bytes.concat(IMatching.matchOrders.selector, data);
        vm.prank(alice);
        (bool ok,) = address(rlc).call(abi.encodeCall(RLC.approveAndCall, (address(hub), 0, data)));
        check(!ok, "orders that are none");
    }

    function testFuzz_transfer_from(uint96 have, uint256 allowed, uint96 amount, address spender) public {
        vm.assume(spender != address(0));
        have = uint96(bound(have, 0, 1e15));
        allowed = allowed % 3 == 0 ? bound(allowed, 0, 2e15) : allowed;
        amount = uint96(bound(amount, 0, 2e15));
        fund(alice, have);
        vm.prank(alice);
        check(hub.approve(spender, allowed), "approve");
        bytes memory call = abi.encodeCall(IStakedToken.transferFrom, (alice, bob, amount));
        if (amount > have || amount > allowed) return reverts(spender, address(hub), call, "", "too much");
        vm.prank(spender);
        check(hub.transferFrom(alice, bob, amount), "transfer");
        eq(hub.balanceOf(alice), have - amount, "alice");
        eq(hub.balanceOf(bob), amount, "bob");
        eq(hub.allowance(alice, spender), allowed - amount, "what is left");
    }

    function testFuzz_approve_and_call_of_srlc(uint256 amount, bytes memory data, bool answer) public {
        Spender spender = new Spender();
        spender.set(answer);
        bytes memory call = abi.encodeCall(IStakedToken.approveAndCall, (address(spender), amount, data));
        if (!answer) {
            reverts(alice, address(hub), call, text("approval-refused"), "refused");
            eq(hub.allowance(alice, address(spender)), 0, "undone");
            return;
        }
        vm.prank(alice);
        check(hub.approveAndCall(address(spender), amount, data), "called");
        eq(spender.seen(), abi.encode(alice, amount, address(hub), data), "arguments");
        eq(hub.allowance(alice, address(spender)), amount, "allowance");
    }

    function test_names_of_rlc() public view {
        eq(rlc.name(), "iExec Network Token", "name");
        eq(rlc.symbol(), "RLC", "symbol");
        eq(rlc.decimals(), 9, "decimals");
    }

    /// Whatever moves, the tokens are called the same and there are as many.
    function testFuzz_names_and_supply_stay(uint96 amount, address to) public {
        vm.assume(to != address(0));
        amount = uint96(bound(amount, 0, 1e15));
        rlc.transfer(to, amount);
        fund(alice, amount);
        test_names_of_rlc();
        test_metadata();
        eq(hub.token(), address(rlc), "token");
    }
}
