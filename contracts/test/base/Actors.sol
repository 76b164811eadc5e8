// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// A group that admits one address for purpose 4.
contract Group {
    address private immutable _member;

    constructor(address member) {
        _member = member;
    }

    function keyHasPurpose(bytes32 key, uint256 purpose) external view returns (bool) {
        return key == bytes32(uint256(uint160(_member))) && purpose == 4;
    }
}

/// A group that always reverts.
contract BrokenGroup {
    function keyHasPurpose(bytes32, uint256) external pure returns (bool) {
        revert("broken");
    }
}

/// A wallet by contract: vouches for one hash, and sends what it is told.
contract Wallet {
    bytes32 public approved;

    function approve(bytes32 hash) external {
        approved = hash;
    }

    function isValidSignature(bytes32 hash, bytes calldata) external view returns (bytes4) {
        require(approved != bytes32(uint256(1)), "locked");
        return hash == approved ? this.isValidSignature.selector : bytes4(0xffffffff);
    }

    function run(address target, bytes calldata data) external returns (bytes memory) {
        (bool ok, bytes memory answer) = target.call(data);
        require(ok, "failed");
        return answer;
    }
}

/// Something with an owner that no registry knows.
contract Impostor {
    address public immutable owner;

    constructor(address owner_) {
        owner = owner_;
    }
}

/// A callback that burns all gas it gets.
contract Burner {
    function receiveResult(bytes32, bytes calldata) external pure {
        while (true) {}
    }
}

/// A callback that answers with as much memory as its gas can pay.
contract Bomb {
    function receiveResult(bytes32, bytes calldata) external pure {
        assembly {
            revert(0, 150000)
        }
    }
}

/// A callback that records what it got and how much gas, and tries to get in again.
contract Receiver {
    bytes32 public taskid;
    bytes public result;
    uint256 public gasGiven;
    bool public reentered;
    bytes private _again;

    function tryAgain(bytes calldata call) external {
        _again = call;
    }

    function receiveResult(bytes32 id, bytes calldata data) external {
        gasGiven = gasleft();
        (taskid, result) = (id, data);
        if (_again.length != 0) (reentered,) = msg.sender.call(_again);
    }
}

/// A token whose transfers answer what they are told.
contract FakeToken {
    bool public answer;

    function set(bool answer_) external {
        answer = answer_;
    }

    function transferFrom(address, address, uint256) external view returns (bool) {
        return answer;
    }

    function transfer(address, uint256) external view returns (bool) {
        return answer;
    }

    function balanceOf(address) external pure returns (uint256) {
        return type(uint256).max;
    }
}

/// The spender of SRLC's approveAndCall.
contract Spender {
    bool public answer = true;
    bytes public seen;

    function set(bool answer_) external {
        answer = answer_;
    }

    function receiveApproval(address sender, uint256 amount, address token, bytes calldata data)
        external
        returns (bool)
    {
        seen = abi.encode(sender, amount, token, data);
        return answer;
    }
}

/// A spender of the first days: answers nothing.
contract QuietSpender {
    uint256 public called;

    function receiveApproval(address, uint256 amount, address, bytes calldata) external {
        called = amount;
    }
}

/// Receives ERC-721 tokens, or not.
contract TokenHolder {
    bytes4 private immutable _answer;

    constructor(bytes4 answer) {
        _answer = answer;
    }

    function onERC721Received(address, address, uint256, bytes calldata) external view returns (bytes4) {
        require(_answer != 0xdeadbeef, "no thanks");
        return _answer;
    }
}
