// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Vm} from "./Vm.sol";

/// What every test starts from: the cheatcodes and assertions that say what differed.
abstract contract Test {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    /// forge runs what carries this mark as tests.
    bool public IS_TEST = true;

    /// The present time. After `vm.warp` in the same function `block.timestamp` is stale: the optimizer takes it for constant.
    function time() internal view returns (uint256) {
        return vm.getBlockTimestamp();
    }

    error Differs(string what, uint256 got, uint256 want);
    error DiffersBytes32(string what, bytes32 got, bytes32 want);
    error DiffersAddress(string what, address got, address want);
    error DiffersBytes(string what, bytes got, bytes want);
    error Untrue(string what);

    function check(bool condition, string memory what) internal pure {
        if (!condition) revert Untrue(what);
    }

    function eq(uint256 got, uint256 want, string memory what) internal pure {
        if (got != want) revert Differs(what, got, want);
    }

    function eq(bytes32 got, bytes32 want, string memory what) internal pure {
        if (got != want) revert DiffersBytes32(what, got, want);
    }

    function eq(address got, address want, string memory what) internal pure {
        if (got != want) revert DiffersAddress(what, got, want);
    }

    function eq(bytes memory got, bytes memory want, string memory what) internal pure {
        if (keccak256(got) != keccak256(want)) revert DiffersBytes(what, got, want);
    }

    function eq(string memory got, string memory want, string memory what) internal pure {
        eq(bytes(got), bytes(want), what);
    }

    /// `x` folded into low..high, both included.
    function bound(uint256 x, uint256 low, uint256 high) internal pure returns (uint256) {
        uint256 span = high - low;
        return span == type(uint256).max ? x : low + x % (span + 1);
    }

    /// Fails unless `data`, sent to `target` by `sender`, reverts with exactly `reason` (empty: without data).
    function reverts(address sender, address target, bytes memory data, bytes memory reason, string memory what) internal {
        vm.prank(sender);
        (bool ok, bytes memory answer) = target.call(data);
        check(!ok, string.concat(what, ": did not revert"));
        eq(answer, reason, what);
    }

    /// The revert data of `require(false, text)`.
    function text(string memory reason) internal pure returns (bytes memory) {
        return abi.encodeWithSignature("Error(string)", reason);
    }

    function panic(uint256 code) internal pure returns (bytes memory) {
        return abi.encodeWithSignature("Panic(uint256)", code);
    }
}
