//! Chain, contracts, and everybody but the worker: what happens before a worker is asked, and after.

use crate::store::Store;
use bourse_chain::{
    Client, GasPolicy, Hub, PrivateKeySigner, Receipt, Sender,
    alloy::sol_types::{SolCall, SolValue},
    deploy::{self, Deployment},
    keys::{self, sign_order, test_key},
    sender,
};
use bourse_devchain::{Chain, Config};
use bourse_protocol::{
    Address, B256, Bytes, U256,
    abi::{IHub, IRegistry, IRlc},
    api::Match,
    deal::ResultLink,
    ids::{self, DealId, ResultDigest, TaskId},
    ipfs::{Cid, Multiaddr},
    link::Assignment,
    money::Nrlc,
    orders::{AppOrder, DatasetOrder, Order, RequestOrder, WorkerpoolOrder},
};
use bourse_service::{CancellationToken, journal::Journal};
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinSet;

/// Price of the pool per task; workers stake 30 % of it.
pub(crate) const POOL_PRICE: Nrlc = Nrlc(U256::from_limbs([10_000_000_000, 0, 0, 0]));
/// What every worker deposits, unless a test says otherwise.
pub(crate) const DEPOSIT: Nrlc = Nrlc(U256::from_limbs([100_000_000_000, 0, 0, 0]));

/// Index of the pool owner's key.
pub(crate) const OWNER: u32 = 1;
const REQUESTER: u32 = 2;
/// Index of the first worker's key.
pub(crate) const WORKER: u32 = 3;

/// A market on a chain of its own.
pub(crate) struct Market {
    pub(crate) chain: Chain,
    pub(crate) hub: Hub,
    pub(crate) deployment: Deployment,
    pub(crate) workerpool: Address,
    senders: Vec<Sender>,
    counter: AtomicU64,
    _loops: JoinSet<()>,
}

bourse_chain::alloy::sol_types::sol! {
    #![sol(alloy_sol_types = bourse_chain::alloy::sol_types)]

    /// Of the registries, whose entries are ERC-721 tokens.
    function transferFrom(address from, address to, uint256 token) external;
}

/// What is to be computed.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) app: Address,
    pub(crate) dataset: Address,
    pub(crate) params: String,
    pub(crate) callback: Address,
    pub(crate) trust: u64,
    pub(crate) category: u64,
    pub(crate) price: Nrlc,
}

impl Request {
    pub(crate) fn of(app: Address) -> Self {
        let (dataset, callback) = (Address::ZERO, Address::ZERO);
        Self { app, dataset, params: String::new(), callback, trust: 1, category: 0, price: POOL_PRICE }
    }
}

impl Market {
    pub(crate) async fn open() -> Self {
        let ether = U256::from(10).pow(U256::from(21));
        let genesis = (0..8).map(|n| (test_key(n).address(), ether)).collect();
        let chain = Chain::open(Config { genesis, ..Config::default() }).unwrap();
        let client = Client::in_process(chain.rpc_client());
        let (mut senders, mut loops) = (Vec::new(), JoinSet::new());
        for n in 0..8 {
            let journal = Journal::in_memory(&[sender::SCHEMA]).unwrap();
            let (sender, lane) =
                Sender::open(client.clone(), test_key(n), journal, GasPolicy::default()).await.unwrap();
            loops.spawn(lane.run(CancellationToken::new()));
            senders.push(sender);
        }
        let deployment = deploy::deploy(&client, &senders[0], deploy::Options::default(), |_| ()).await.unwrap();
        let hub = Hub::new(client, deployment.hub);
        let mut market = Self {
            chain,
            hub,
            deployment,
            workerpool: Address::ZERO,
            senders,
            counter: AtomicU64::new(0),
            _loops: loops,
        };
        market.fund().await;
        market.workerpool = market.create_workerpool().await;
        market
    }

    async fn fund(&self) {
        let approve = IRlc::approveCall { spender: self.hub.address, value: U256::MAX };
        self.send(0, self.deployment.rlc, &approve).await;
        for (account, amount) in [(OWNER, Nrlc::rlc(100_000)), (REQUESTER, Nrlc::rlc(100_000)), (WORKER, DEPOSIT)] {
            self.deposit(test_key(account).address(), amount).await;
        }
    }

    /// Gives an account RLC in the hub.
    pub(crate) async fn deposit(&self, target: Address, amount: Nrlc) {
        self.send(0, self.hub.address, &IHub::depositForCall { amount: amount.0, target }).await;
    }

    async fn create_workerpool(&self) -> Address {
        let owner = test_key(OWNER).address();
        let call = IRegistry::createWorkerpoolCall { owner, description: "pool".into() };
        let receipt = self.send(OWNER, self.deployment.workerpool_registry, &call).await;
        created(&receipt)
    }

    /// Gives the pool to another owner.
    pub(crate) async fn sell_workerpool(&self, to: Address) {
        let from = test_key(OWNER).address();
        let token = U256::from_be_slice(self.workerpool.as_slice());
        let call = transferFromCall { from, to, token };
        self.send(OWNER, self.deployment.workerpool_registry, &call).await;
    }

    /// Another category with a period of its own, in seconds.
    pub(crate) async fn create_category(&self, period: u64) -> u64 {
        let work_clock_time_ref = U256::from(period);
        let call = IHub::createCategoryCall {
            name: "test".into(),
            description: String::new(),
            workClockTimeRef: work_clock_time_ref,
        };
        self.send(0, self.hub.address, &call).await;
        let count = self.hub.view(&IHub::countCategoryCall {}).await.unwrap();
        count.to::<u64>() - 1
    }

    /// Publishes an app whose module is put into the store.
    pub(crate) async fn app(&self, store: &Store, module: &[u8]) -> Address {
        self.app_with(&store.put(module), sha256(module), "WASM").await
    }

    pub(crate) async fn app_with(&self, cid: &Cid, checksum: B256, kind: &str) -> Address {
        let call = IRegistry::createAppCall {
            owner: test_key(0).address(),
            name: format!("app-{}", self.next()),
            kind: kind.into(),
            multiaddr: Multiaddr::Ipfs(*cid).encode().into(),
            checksum,
            mrenclave: Bytes::new(),
        };
        created(&self.send(0, self.deployment.app_registry, &call).await)
    }

    /// Publishes a dataset.
    pub(crate) async fn dataset(&self, cid: &Cid, checksum: B256) -> Address {
        let call = IRegistry::createDatasetCall {
            owner: test_key(0).address(),
            name: format!("dataset-{}", self.next()),
            multiaddr: Multiaddr::Ipfs(*cid).encode().into(),
            checksum,
        };
        created(&self.send(0, self.deployment.dataset_registry, &call).await)
    }

    /// Buys a computation and opens its task.
    pub(crate) async fn buy(&self, request: Request) -> Assignment {
        let domain = self.hub.domain().await.unwrap();
        let one = U256::from(1);
        let (category, trust) = (U256::from(request.category), U256::from(request.trust));
        let salt = B256::from(U256::from(self.next()));
        let app = AppOrder { app: request.app, volume: one, salt, ..Default::default() };
        let dataset = DatasetOrder { dataset: request.dataset, volume: one, salt, ..Default::default() };
        let pool = WorkerpoolOrder {
            workerpool: self.workerpool,
            workerpoolprice: request.price.0,
            volume: one,
            category,
            trust,
            salt,
            ..Default::default()
        };
        let wish = RequestOrder {
            app: request.app,
            dataset: request.dataset,
            workerpool: self.workerpool,
            workerpoolmaxprice: request.price.0,
            requester: test_key(REQUESTER).address(),
            volume: one,
            category,
            trust,
            params: request.params,
            callback: request.callback,
            salt,
            ..Default::default()
        };
        let app = sign_order(app, &test_key(0), &domain);
        let dataset = match request.dataset {
            Address::ZERO => dataset,
            _ => sign_order(dataset, &test_key(0), &domain),
        };
        let pool = sign_order(pool, &test_key(OWNER), &domain);
        let wish = sign_order(wish, &test_key(REQUESTER), &domain);
        let deal = DealId::of(wish.hash(&domain), U256::ZERO);
        let call = IHub::matchOrdersCall::from(&Match { app, dataset, workerpool: pool, request: wish });
        self.send(REQUESTER, self.hub.address, &call).await;
        self.send(OWNER, self.hub.address, &IHub::initializeCall { dealid: deal.0, idx: U256::ZERO }).await;
        self.assignment(deal, WORKER)
    }

    /// What the scheduler would tell worker `n`.
    pub(crate) fn assignment(&self, deal: DealId, n: u32) -> Assignment {
        let task = TaskId::of(deal, U256::ZERO);
        let authorization = authorize(&test_key(OWNER), test_key(n).address(), task);
        Assignment { task, deal, index: U256::ZERO, authorization, enclave_challenge: Address::ZERO }
    }

    /// Contributes as another worker, played by the test.
    pub(crate) async fn contribute(&self, n: u32, task: TaskId, digest: ResultDigest) {
        let worker = test_key(n).address();
        self.deposit(worker, DEPOSIT).await;
        let call = IHub::contributeCall {
            taskid: task.0,
            resultHash: ids::result_hash(task, digest),
            resultSeal: ids::result_seal(worker, task, digest),
            enclaveChallenge: Address::ZERO,
            enclaveSign: Bytes::new(),
            authorizationSign: authorize(&test_key(OWNER), worker, task),
        };
        self.send(n, self.hub.address, &call).await;
    }

    pub(crate) async fn reveal(&self, n: u32, task: TaskId, digest: ResultDigest) {
        self.send(n, self.hub.address, &IHub::revealCall { taskid: task.0, resultDigest: digest.0 }).await;
    }

    /// Reopens a task whose winners did not reveal.
    pub(crate) async fn reopen(&self, task: TaskId) {
        self.send(OWNER, self.hub.address, &IHub::reopenCall { taskid: task.0 }).await;
    }

    /// Lets the chain's time pass.
    pub(crate) async fn wait(&self, seconds: u64) {
        let rpc = self.chain.rpc_client();
        let _: serde_json::Value = rpc.request("evm_increaseTime", (seconds,)).await.unwrap();
        let _: serde_json::Value = rpc.request_noparams("evm_mine").await.unwrap();
    }

    pub(crate) async fn finalize(&self, task: TaskId, link: &ResultLink) {
        self.finalize_with(task, link, &[]).await;
    }

    pub(crate) async fn finalize_with(&self, task: TaskId, link: &ResultLink, callback: &[u8]) -> Receipt {
        let callback = Bytes::copy_from_slice(callback);
        let call = IHub::finalizeCall { taskid: task.0, results: link.write(), resultsCallback: callback };
        self.send(OWNER, self.hub.address, &call).await
    }

    /// Sends as account `n` and panics on any refusal.
    pub(crate) async fn send<C: SolCall>(&self, n: u32, to: Address, call: &C) -> Receipt {
        let id = format!("test:{}", self.next());
        self.senders[n as usize].send(&id, to, call).await.unwrap_or_else(|e| panic!("{}: {e}", C::SIGNATURE))
    }

    /// How many transactions worker `n` has on chain.
    pub(crate) async fn transactions(&self, n: u32) -> u64 {
        self.hub.client.nonce(test_key(n).address()).await.unwrap()
    }

    fn next(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// The pool owner's signature that lets `worker` contribute.
pub(crate) fn authorize(key: &PrivateKeySigner, worker: Address, task: TaskId) -> Bytes {
    keys::authorize(key, worker, task, Address::ZERO)
}

/// The entry that a registry reports: the token of its ERC-721 `Transfer`.
fn created(receipt: &Receipt) -> Address {
    let topics = receipt.logs.iter().map(|log| log.topics()).find(|topics| topics.len() == 4).unwrap();
    Address::abi_decode(topics[3].as_slice()).unwrap()
}

pub(crate) fn sha256(bytes: &[u8]) -> B256 {
    B256::new(Sha256::digest(bytes).into())
}
