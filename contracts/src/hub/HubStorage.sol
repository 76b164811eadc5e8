// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Everything the hub stores, in one place
/// @notice Inherited first by the proxy and by all parts of the implementation, so that all agree on the layout. New variables go at
/// the end. Deals and results are not here: they are records (libraries/Records.sol).
abstract contract HubStorage {
    /// One slot. Amounts are nRLC; no sum exceeds the total supply, which is held below 2^96.
    struct AccountState {
        uint96 free;
        uint96 locked;
        uint64 score;
    }

    /// One slot per order hash: who approved it on chain and how many tasks were taken from it.
    struct OrderState {
        address signer;
        uint96 consumed;
    }

    enum Phase {
        ACTIVE,
        REVEALING,
        COMPLETED,
        FAILED
    }

    /// One slot: how far a task is. Zero while nobody has contributed.
    struct Progress {
        /// The newest contributor; from it the list runs back to the first.
        address last;
        Phase phase;
        uint8 contributors;
        /// 1 + number of the group that won, 0 while there is none.
        uint8 winner;
        uint40 revealDeadline;
        /// Bit `position` is set when that contributor has revealed.
        uint32 proved;
    }

    enum Standing {
        NONE,
        VALID,
        REJECTED
    }

    /// Two slots, and a third for an enclave.
    struct ContributionState {
        address previous;
        Standing standing;
        uint8 group;
        uint8 position;
        /// Consensus weight at the time of contribution.
        uint64 weight;
        bytes32 seal;
        address enclave;
    }

    /// A group is the contributors that committed to the same result hash.
    struct TaskState {
        /// Record of the deal; zero while the task is not initialized.
        address deal;
        uint64 index;
        Progress progress;
        mapping(address worker => ContributionState) contributions;
        /// The result hash of each group; for the winning group the digest, once somebody has revealed it.
        mapping(uint256 group => bytes32) groups;
    }

    /// One slot: SRLC that the hub holds for others, and the kitty's part of it.
    struct Vault {
        uint96 held;
        uint96 kitty;
    }

    struct CategoryState {
        string name;
        string description;
    }

    uint256 internal constant CONTRIBUTOR_LIMIT = 32;
    /// Time to reveal, in units of T.
    uint256 internal constant REVEAL_RATIO = 2;
    uint256 internal constant KITTY_PERCENT = 10;
    uint256 internal constant KITTY_MIN = 1e9;
    /// ERC-734 purpose of the members of a group.
    uint256 internal constant GROUPMEMBER_PURPOSE = 4;
    address internal constant KITTY = 0x99c2268479b93fDe36232351229815DF80837e23;

    address internal _token;
    uint96 internal _totalSupply;
    Vault internal _vault;
    address internal _owner;
    uint8 internal _decimals;
    bool internal _configured;
    address internal _appRegistry;
    address internal _datasetRegistry;
    address internal _workerpoolRegistry;
    address internal _teeBroker;
    uint256 internal _callbackGas;
    string internal _name;
    string internal _symbol;
    CategoryState[] internal _categories;
    /// T of a category, in seconds.
    mapping(uint256 category => uint256) internal _timeRefs;
    mapping(address => AccountState) internal _accounts;
    mapping(address => mapping(address spender => uint256)) internal _allowances;
    mapping(bytes32 orderHash => OrderState) internal _orders;
    /// Volume of closed orders that 96 bits do not hold; their `consumed` is at its maximum.
    mapping(bytes32 orderHash => uint256) internal _hugeConsumed;
    mapping(bytes32 taskid => TaskState) internal _tasks;
    /// Records above the size of a contract, by the address they would have.
    mapping(address => bytes) internal _largeRecords;
    /// When an announced change may be made.
    mapping(bytes32 id => uint256) internal _changes;

    /// How many tasks were taken from an order.
    function _consumed(bytes32 orderHash) internal view returns (uint256 consumed) {
        consumed = _orders[orderHash].consumed;
        if (consumed == type(uint96).max) consumed = _hugeConsumed[orderHash];
    }

    modifier onlyOwner() {
        require(msg.sender == _owner, "Ownable: caller is not the owner");
        _;
    }
}
