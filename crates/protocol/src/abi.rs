//! The contracts as clients call them: structs, functions, events and errors of the hub, the RLC token, the
//! registries and the assets. Source: poco.md §3, §5, §11, §13, §14. Field order is ABI order.

alloy_sol_types::sol! {
    #[derive(Debug, PartialEq, Eq)]
    struct AppOrder {
        address app; uint256 appprice; uint256 volume; bytes32 tag;
        address datasetrestrict; address workerpoolrestrict; address requesterrestrict;
        bytes32 salt; bytes sign;
    }

    #[derive(Debug, PartialEq, Eq)]
    struct DatasetOrder {
        address dataset; uint256 datasetprice; uint256 volume; bytes32 tag;
        address apprestrict; address workerpoolrestrict; address requesterrestrict;
        bytes32 salt; bytes sign;
    }

    #[derive(Debug, PartialEq, Eq)]
    struct WorkerpoolOrder {
        address workerpool; uint256 workerpoolprice; uint256 volume; bytes32 tag; uint256 category; uint256 trust;
        address apprestrict; address datasetrestrict; address requesterrestrict;
        bytes32 salt; bytes sign;
    }

    #[derive(Debug, PartialEq, Eq)]
    struct RequestOrder {
        address app; uint256 appmaxprice; address dataset; uint256 datasetmaxprice;
        address workerpool; uint256 workerpoolmaxprice; address requester; uint256 volume; bytes32 tag;
        uint256 category; uint256 trust; address beneficiary; address callback; string params;
        bytes32 salt; bytes sign;
    }

    /// Operation 0 signs beforehand, 1 closes.
    #[derive(Debug, PartialEq, Eq)]
    struct RequestOrderOperation { RequestOrder order; uint8 operation; bytes sign; }

    #[derive(Debug, PartialEq, Eq)]
    struct Account { uint256 stake; uint256 locked; }
    #[derive(Debug, PartialEq, Eq)]
    struct Category { string name; string description; uint256 workClockTimeRef; }
    #[derive(Debug, PartialEq, Eq)]
    struct Resource { address pointer; address owner; uint256 price; }

    #[derive(Debug, PartialEq, Eq)]
    struct Deal {
        Resource app; Resource dataset; Resource workerpool; uint256 trust; uint256 category; bytes32 tag;
        address requester; address beneficiary; address callback; string params; uint256 startTime;
        uint256 botFirst; uint256 botSize; uint256 workerStake; uint256 schedulerRewardRatio; address sponsor;
    }

    #[derive(Debug, PartialEq, Eq)]
    struct Task {
        uint8 status; bytes32 dealid; uint256 idx; uint256 timeref; uint256 contributionDeadline;
        uint256 revealDeadline; uint256 finalDeadline; bytes32 consensusValue; uint256 revealCounter;
        uint256 winnerCounter; address[] contributors; bytes32 resultDigest; bytes results;
        uint256 resultsTimestamp; bytes resultsCallback;
    }

    #[derive(Debug, PartialEq, Eq)]
    struct Contribution {
        uint8 status; bytes32 resultHash; bytes32 resultSeal; address enclaveChallenge; uint256 weight;
    }

    #[derive(Debug, PartialEq, Eq)]
    struct Domain { string name; string version; uint256 chainId; address verifyingContract; }

    #[derive(Debug, PartialEq, Eq)]
    interface IHub {
        function configure(address token, string name, string symbol, uint8 decimals, address appregistry, address datasetregistry, address workerpoolregistry, address v3hub) external;
        function createCategory(string name, string description, uint256 workClockTimeRef) external returns (uint256);
        function owner() external view returns (address);
        function transferOwnership(address newOwner) external;
        function domain() external view returns (Domain);

        function deposit(uint256 amount) external returns (bool);
        function depositFor(uint256 amount, address target) external returns (bool);
        function depositForArray(uint256[] amounts, address[] targets) external returns (bool);
        function withdraw(uint256 amount) external returns (bool);
        function transfer(address to, uint256 amount) external returns (bool);
        function balanceOf(address account) external view returns (uint256);
        function frozenOf(address account) external view returns (uint256);
        function totalSupply() external view returns (uint256);

        function matchOrders(AppOrder app, DatasetOrder dataset, WorkerpoolOrder workerpool, RequestOrder request) external returns (bytes32);
        function manageRequestOrder(RequestOrderOperation operation) external;
        function computeDealVolume(AppOrder app, DatasetOrder dataset, WorkerpoolOrder workerpool, RequestOrder request) external view returns (uint256);
        function verifySignature(address account, bytes32 hash, bytes signature) external view returns (bool);
        function verifyPresignatureOrSignature(address account, bytes32 hash, bytes signature) external view returns (bool);

        function initialize(bytes32 dealid, uint256 idx) external returns (bytes32);
        function initializeArray(bytes32[] dealids, uint256[] idxs) external returns (bool);
        function contribute(bytes32 taskid, bytes32 resultHash, bytes32 resultSeal, address enclaveChallenge, bytes enclaveSign, bytes authorizationSign) external;
        function contributeAndFinalize(bytes32 taskid, bytes32 resultDigest, bytes results, bytes resultsCallback, address enclaveChallenge, bytes enclaveSign, bytes authorizationSign) external;
        function reveal(bytes32 taskid, bytes32 resultDigest) external;
        function reopen(bytes32 taskid) external;
        function finalize(bytes32 taskid, bytes results, bytes resultsCallback) external;
        function claim(bytes32 taskid) external;
        function claimArray(bytes32[] taskids) external returns (bool);
        function initializeAndClaimArray(bytes32[] dealids, uint256[] idxs) external returns (bool);

        function token() external view returns (address);
        function appregistry() external view returns (address);
        function datasetregistry() external view returns (address);
        function workerpoolregistry() external view returns (address);
        function viewDeal(bytes32 dealid) external view returns (Deal);
        function viewTask(bytes32 taskid) external view returns (Task);
        function viewContribution(bytes32 taskid, address worker) external view returns (Contribution);
        function viewConsumed(bytes32 orderHash) external view returns (uint256);
        function viewPresigned(bytes32 orderHash) external view returns (address);
        function viewScore(address worker) external view returns (uint256);
        function viewAccount(address account) external view returns (Account);
        function viewCategory(uint256 catid) external view returns (Category);
        function countCategory() external view returns (uint256);
        function teebroker() external view returns (address);

        event Transfer(address indexed from, address indexed to, uint256 value);
        event Lock(address owner, uint256 amount);
        event Unlock(address owner, uint256 amount);
        event Reward(address owner, uint256 amount, bytes32 ref);
        event Seize(address owner, uint256 amount, bytes32 ref);
        event SchedulerNotice(address indexed workerpool, bytes32 dealid);
        event OrdersMatched(bytes32 dealid, bytes32 appHash, bytes32 datasetHash, bytes32 workerpoolHash, bytes32 requestHash, uint256 volume);
        event TaskInitialize(bytes32 indexed taskid, address indexed workerpool);
        event TaskContribute(bytes32 indexed taskid, address indexed worker, bytes32 hash);
        event TaskConsensus(bytes32 indexed taskid, bytes32 consensus);
        event TaskReveal(bytes32 indexed taskid, address indexed worker, bytes32 digest);
        event TaskReopen(bytes32 indexed taskid);
        event TaskFinalize(bytes32 indexed taskid, bytes results);
        event TaskClaimed(bytes32 indexed taskid);
        event AccurateContribution(address indexed worker, bytes32 indexed taskid);
        event FaultyContribution(address indexed worker, bytes32 indexed taskid);
        event ClosedAppOrder(bytes32 appHash);
        event ClosedDatasetOrder(bytes32 datasetHash);
        event ClosedWorkerpoolOrder(bytes32 workerpoolHash);
        event ClosedRequestOrder(bytes32 requestHash);
        event CreateCategory(uint256 catid, string name, string description, uint256 workClockTimeRef);
    }

    #[derive(Debug, PartialEq, Eq)]
    interface IRlc {
        function balanceOf(address account) external view returns (uint256);
        function transfer(address to, uint256 value) external returns (bool);
        function approve(address spender, uint256 value) external returns (bool);
        function approveAndCall(address spender, uint256 value, bytes data) external returns (bool);
        function symbol() external view returns (string);
    }

    #[derive(Debug, PartialEq, Eq)]
    interface IRegistry {
        event Transfer(address indexed from, address indexed to, uint256 indexed tokenId);
        function isRegistered(address entry) external view returns (bool);
        function ownerOf(uint256 tokenId) external view returns (address);
        function createApp(address owner, string name, string kind, bytes multiaddr, bytes32 checksum, bytes mrenclave) external returns (address);
        function predictApp(address owner, string name, string kind, bytes multiaddr, bytes32 checksum, bytes mrenclave) external view returns (address);
        function createDataset(address owner, string name, bytes multiaddr, bytes32 checksum) external returns (address);
        function predictDataset(address owner, string name, bytes multiaddr, bytes32 checksum) external view returns (address);
        function createWorkerpool(address owner, string description) external returns (address);
        function predictWorkerpool(address owner, string description) external view returns (address);
    }

    #[derive(Debug, PartialEq, Eq)]
    interface IAsset {
        function owner() external view returns (address);
        function m_appName() external view returns (string);
        function m_appType() external view returns (string);
        function m_appMultiaddr() external view returns (bytes);
        function m_appChecksum() external view returns (bytes32);
        function m_datasetName() external view returns (string);
        function m_datasetMultiaddr() external view returns (bytes);
        function m_datasetChecksum() external view returns (bytes32);
        function m_workerpoolDescription() external view returns (string);
        function m_workerStakeRatioPolicy() external view returns (uint256);
        function m_schedulerRewardRatioPolicy() external view returns (uint256);
        function changePolicy(uint256 workerStakeRatio, uint256 schedulerRewardRatio) external;
    }
}
