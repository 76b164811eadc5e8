// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title A registry of assets: an enumerable ERC-721 whose token id is the asset's address
interface IRegistry {
    event Transfer(address indexed from, address indexed to, uint256 indexed tokenId);
    event Approval(address indexed owner, address indexed approved, uint256 indexed tokenId);
    event ApprovalForAll(address indexed owner, address indexed operator, bool approved);
    event OwnershipTransferred(address indexed previousOwner, address indexed newOwner);

    error OwnableInvalidOwner(address owner);
    error ERC721InvalidOwner(address owner);
    error ERC721NonexistentToken(uint256 tokenId);
    error ERC721IncorrectOwner(address sender, uint256 tokenId, address owner);
    error ERC721InvalidSender(address sender);
    error ERC721InvalidReceiver(address receiver);
    error ERC721InsufficientApproval(address operator, uint256 tokenId);
    error ERC721InvalidApprover(address approver);
    error ERC721InvalidOperator(address operator);
    error ERC721OutOfBoundsIndex(address owner, uint256 index);
    /// The metadata of an asset must fit the code of its contract.
    error MetadataTooLong(uint256 length, uint256 limit);

    // Registry
    /// @notice Once, by the owner: assets of `previous` (or zero) count as registered here.
    function initialize(address previous) external;
    function initialized() external view returns (bool);
    function previous() external view returns (address);
    /// @notice Whether the asset was created here or is registered in `previous`.
    function isRegistered(address entry) external view returns (bool);
    /// @notice The contract that holds the code of all assets.
    function master() external view returns (address);
    /// @notice The code of an asset up to its metadata.
    function proxyCode() external view returns (bytes memory);
    function proxyCodeHash() external view returns (bytes32);
    function setBaseURI(string calldata baseURI) external;
    function baseURI() external view returns (string memory);
    /// @notice Always reverts: names are not registered on chain.
    function setName(address ens, string calldata name) external;
    function owner() external view returns (address);
    function transferOwnership(address newOwner) external;
    function renounceOwnership() external;

    // ERC-721 Enumerable
    function supportsInterface(bytes4 interfaceId) external view returns (bool);
    function name() external view returns (string memory);
    function symbol() external view returns (string memory);
    function tokenURI(uint256 tokenId) external view returns (string memory);
    function balanceOf(address account) external view returns (uint256);
    function ownerOf(uint256 tokenId) external view returns (address);
    function approve(address to, uint256 tokenId) external;
    function getApproved(uint256 tokenId) external view returns (address);
    function setApprovalForAll(address operator, bool approved) external;
    function isApprovedForAll(address account, address operator) external view returns (bool);
    function transferFrom(address from, address to, uint256 tokenId) external;
    function safeTransferFrom(address from, address to, uint256 tokenId) external;
    function safeTransferFrom(address from, address to, uint256 tokenId, bytes calldata data) external;
    function totalSupply() external view returns (uint256);
    function tokenByIndex(uint256 index) external view returns (uint256);
    function tokenOfOwnerByIndex(address account, uint256 index) external view returns (uint256);
}

interface IAppRegistry is IRegistry {
    /// @notice Creates an app for `appOwner`; anyone may. The same arguments twice revert with "Create2: Failed on deploy".
    function createApp(
        address appOwner,
        string calldata appName,
        string calldata appType,
        bytes calldata appMultiaddr,
        bytes32 appChecksum,
        bytes calldata appMREnclave
    ) external returns (address app);
    /// @notice The address `createApp` gives for the same arguments.
    function predictApp(
        address appOwner,
        string calldata appName,
        string calldata appType,
        bytes calldata appMultiaddr,
        bytes32 appChecksum,
        bytes calldata appMREnclave
    ) external view returns (address app);
}

interface IDatasetRegistry is IRegistry {
    function createDataset(
        address datasetOwner,
        string calldata datasetName,
        bytes calldata datasetMultiaddr,
        bytes32 datasetChecksum
    ) external returns (address dataset);
    function predictDataset(
        address datasetOwner,
        string calldata datasetName,
        bytes calldata datasetMultiaddr,
        bytes32 datasetChecksum
    ) external view returns (address dataset);
}

interface IWorkerpoolRegistry is IRegistry {
    function createWorkerpool(address workerpoolOwner, string calldata workerpoolDescription)
        external
        returns (address workerpool);
    function predictWorkerpool(address workerpoolOwner, string calldata workerpoolDescription)
        external
        view
        returns (address workerpool);
    /// @notice Owner and policies of a pool created here, all zero for any other address.
    function lookup(address workerpool)
        external
        view
        returns (address poolOwner, uint256 workerStakeRatio, uint256 schedulerRewardRatio);
    /// @notice Stores the policies of the calling workerpool; only a workerpool created here may call.
    function setPolicy(uint256 workerStakeRatio, uint256 schedulerRewardRatio) external;
}
