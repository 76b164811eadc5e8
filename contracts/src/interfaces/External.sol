// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

// The few functions that the contracts call on contracts of others.

interface IERC20 {
    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    function totalSupply() external view returns (uint256);
    function balanceOf(address account) external view returns (uint256);
    function allowance(address owner, address spender) external view returns (uint256);
    function transfer(address to, uint256 value) external returns (bool);
    function approve(address spender, uint256 value) external returns (bool);
    function transferFrom(address from, address to, uint256 value) external returns (bool);
}

/// The receiver of `approveAndCall`.
interface IApproveAndCallReceiver {
    function receiveApproval(address sender, uint256 amount, address token, bytes calldata data) external returns (bool);
}

/// The same as RLC's `approveAndCall` asks it: no answer is wanted, and old spenders give none.
interface IApprovalListener {
    function receiveApproval(address sender, uint256 amount, address token, bytes calldata data) external;
}

/// ERC-1271: a contract that vouches for signatures.
interface IERC1271 {
    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4);
}

/// ERC-734: a contract that knows the members of a group.
interface IERC734 {
    function keyHasPurpose(bytes32 key, uint256 purpose) external view returns (bool);
}

/// ERC-1154: the contract that a result is pushed to.
interface IResultReceiver {
    function receiveResult(bytes32 taskid, bytes calldata result) external;
}

interface IERC721Receiver {
    function onERC721Received(address operator, address from, uint256 tokenId, bytes calldata data)
        external
        returns (bytes4);
}
