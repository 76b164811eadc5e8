// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IRegistry} from "../interfaces/IRegistry.sol";
import {IERC721Receiver} from "../interfaces/External.sol";

/// @title ERC-721 with enumeration, for tokens whose ids are addresses and that are never burnt
/// @notice One slot holds everything about a token: its owner, its place among the owner's tokens, and 48 bits for the registry.
abstract contract EnumerableToken is IRegistry {
    struct Token {
        address owner;
        uint48 place;
        uint40 workerStakeRatio;
        uint8 schedulerRewardRatio;
    }

    mapping(uint256 tokenId => Token) internal _tokens;
    address[] private _all;
    mapping(address owner => address[]) private _owned;
    mapping(uint256 tokenId => address) private _approvals;
    mapping(address owner => mapping(address operator => bool)) private _operators;
    string private _base;

    // ---- views

    function balanceOf(address account) external view returns (uint256) {
        if (account == address(0)) revert ERC721InvalidOwner(account);
        return _owned[account].length;
    }

    function ownerOf(uint256 tokenId) public view returns (address holder) {
        holder = _tokens[tokenId].owner;
        if (holder == address(0)) revert ERC721NonexistentToken(tokenId);
    }

    function totalSupply() external view returns (uint256) {
        return _all.length;
    }

    function tokenByIndex(uint256 index) external view returns (uint256) {
        if (index >= _all.length) revert ERC721OutOfBoundsIndex(address(0), index);
        return uint160(_all[index]);
    }

    function tokenOfOwnerByIndex(address account, uint256 index) external view returns (uint256) {
        if (index >= _owned[account].length) revert ERC721OutOfBoundsIndex(account, index);
        return uint160(_owned[account][index]);
    }

    function baseURI() external view returns (string memory) {
        return _base;
    }

    function tokenURI(uint256 tokenId) external view returns (string memory) {
        ownerOf(tokenId);
        return bytes(_base).length == 0 ? "" : string.concat(_base, _decimal(tokenId));
    }

    function supportsInterface(bytes4 interfaceId) external pure returns (bool) {
        // ERC-165, ERC-721, its metadata, its enumeration.
        return interfaceId == 0x01ffc9a7 || interfaceId == 0x80ac58cd || interfaceId == 0x5b5e139f
            || interfaceId == 0x780e9d63;
    }

    // ---- approvals

    function approve(address to, uint256 tokenId) external {
        address holder = ownerOf(tokenId);
        if (msg.sender != holder && !_operators[holder][msg.sender]) revert ERC721InvalidApprover(msg.sender);
        _approvals[tokenId] = to;
        emit Approval(holder, to, tokenId);
    }

    function getApproved(uint256 tokenId) external view returns (address) {
        ownerOf(tokenId);
        return _approvals[tokenId];
    }

    function setApprovalForAll(address operator, bool approved) external {
        if (operator == address(0)) revert ERC721InvalidOperator(operator);
        _operators[msg.sender][operator] = approved;
        emit ApprovalForAll(msg.sender, operator, approved);
    }

    function isApprovedForAll(address account, address operator) external view returns (bool) {
        return _operators[account][operator];
    }

    // ---- transfers

    function transferFrom(address from, address to, uint256 tokenId) public {
        if (to == address(0)) revert ERC721InvalidReceiver(to);
        address holder = _tokens[tokenId].owner;
        _checkAuthorized(holder, tokenId);
        if (holder != from) revert ERC721IncorrectOwner(from, tokenId, holder);
        delete _approvals[tokenId];
        _removeFrom(from, tokenId);
        _addTo(to, tokenId);
        emit Transfer(from, to, tokenId);
    }

    function safeTransferFrom(address from, address to, uint256 tokenId) external {
        safeTransferFrom(from, to, tokenId, "");
    }

    function safeTransferFrom(address from, address to, uint256 tokenId, bytes memory data) public {
        transferFrom(from, to, tokenId);
        if (to.code.length == 0) return;
        try IERC721Receiver(to).onERC721Received(msg.sender, from, tokenId, data) returns (bytes4 answer) {
            if (answer != IERC721Receiver.onERC721Received.selector) revert ERC721InvalidReceiver(to);
        } catch (bytes memory reason) {
            if (reason.length == 0) revert ERC721InvalidReceiver(to);
            assembly ("memory-safe") {
                revert(add(reason, 0x20), mload(reason))
            }
        }
    }

    function _checkAuthorized(address holder, uint256 tokenId) private view {
        if (holder == address(0)) revert ERC721NonexistentToken(tokenId);
        bool authorized =
            msg.sender == holder || _operators[holder][msg.sender] || _approvals[tokenId] == msg.sender;
        if (!authorized) revert ERC721InsufficientApproval(msg.sender, tokenId);
    }

    // ---- bookkeeping

    function _mint(address to, address asset) internal {
        if (to == address(0)) revert ERC721InvalidReceiver(to);
        _all.push(asset);
        _addTo(to, uint160(asset));
        emit Transfer(address(0), to, uint160(asset));
    }

    function _setBase(string calldata base) internal {
        _base = base;
    }

    function _addTo(address to, uint256 tokenId) private {
        Token storage token = _tokens[tokenId];
        token.owner = to;
        token.place = uint48(_owned[to].length);
        _owned[to].push(address(uint160(tokenId)));
    }

    /// Fills the gap with the owner's last token.
    function _removeFrom(address from, uint256 tokenId) private {
        address[] storage owned = _owned[from];
        uint48 place = _tokens[tokenId].place;
        address moved = owned[owned.length - 1];
        owned[place] = moved;
        _tokens[uint160(moved)].place = place;
        owned.pop();
    }

    function _decimal(uint256 value) private pure returns (string memory) {
        uint256 digits = 1;
        for (uint256 rest = value; rest > 9; rest /= 10) {
            ++digits;
        }
        bytes memory text = new bytes(digits);
        while (digits > 0) {
            text[--digits] = bytes1(uint8(48 + value % 10));
            value /= 10;
        }
        return string(text);
    }
}
