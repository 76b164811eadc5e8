// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// Shows what a contract sees and does, for comparing nodes.
contract Probe {
    uint256 public value;
    mapping(uint256 => uint256) public slots;

    event Plain(uint256 number);
    event Indexed(uint256 indexed number, address indexed who, bytes32 indexed tag, bytes data);

    error Refused(uint256 number, string reason);

    receive() external payable {}

    function set(uint256 number) external payable {
        value = number;
        emit Plain(number);
    }

    function fill(uint256 from, uint256 count) external {
        for (uint256 i = from; i < from + count; i++) slots[i] = i + 1;
        emit Indexed(count, msg.sender, keccak256(abi.encode(from)), abi.encode(from, count));
    }

    function clear(uint256 from, uint256 count) external {
        for (uint256 i = from; i < from + count; i++) slots[i] = 0;
    }

    function failText() external pure {
        require(false, "no such luck");
    }

    function failCustom(uint256 number) external pure {
        revert Refused(number, "custom");
    }

    function failPanic(uint256 divisor) external pure returns (uint256) {
        return 1 / divisor;
    }

    function failSilently() external pure {
        assembly {
            revert(0, 0)
        }
    }

    function spin() external view returns (uint256 sum) {
        while (gasleft() > 0) sum += 1;
    }

    /// Needs more gas than it uses: the inner call gets 63 of 64 parts of the rest.
    function nested(uint256 depth) external returns (uint256) {
        if (depth == 0) return gasleft();
        return this.nested(depth - 1);
    }

    function env() external view returns (uint256, uint256, uint256, uint256, address, uint256, address, uint256) {
        return (
            block.number,
            block.timestamp,
            block.basefee,
            block.gaslimit,
            block.coinbase,
            block.chainid,
            msg.sender,
            tx.gasprice
        );
    }

    function hashOf(uint256 number) external view returns (bytes32) {
        return blockhash(number);
    }

    function randomness() external view returns (uint256) {
        return block.prevrandao;
    }

    function spawn() external returns (address child) {
        child = address(new Child());
    }

    function pay(address payable to) external payable {
        to.transfer(msg.value);
    }
}

/// Is gone in the transaction that makes it.
contract Child {
    constructor() {
        selfdestruct(payable(msg.sender));
    }
}
