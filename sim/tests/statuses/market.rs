//! Chain and contracts, and what people do with them beside the roles: publish, buy, contribute from elsewhere, withdraw.

use crate::node::rpc;
use bourse_chain::{
    Client, GasPolicy, Hub, Receipt, Sender,
    alloy::sol_types::{SolCall, SolValue},
    deploy::{self, Deployment},
    keys::{authorize, sign_order, test_key},
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
    money::Nrlc,
    orders::{AppOrder, DatasetOrder, Order, RequestOrder, WorkerpoolOrder},
};
use bourse_service::{CancellationToken, journal::Journal};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinSet;

pub(crate) const OWNER: u32 = 1;
const REQUESTER: u32 = 2;
/// The worker that a test is about.
pub(crate) const WORKER: u32 = 3;
/// Another one.
pub(crate) const OTHER: u32 = 4;
const ACCOUNTS: u32 = 5;
/// The category's T, in seconds.
pub(crate) const PERIOD: u64 = 300;

pub(crate) struct Market {
    pub(crate) chain: Chain,
    pub(crate) hub: Hub,
    pub(crate) workerpool: Address,
    deployment: Deployment,
    category: U256,
    senders: Vec<Sender>,
    counter: AtomicU64,
    loops: JoinSet<()>,
}

/// What is to be computed.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) app: Address,
    pub(crate) dataset: Address,
    pub(crate) params: String,
    pub(crate) callback: Address,
    pub(crate) trust: u64,
}

impl Request {
    pub(crate) fn of(app: Address) -> Self {
        Self { app, dataset: Address::ZERO, params: String::new(), callback: Address::ZERO, trust: 1 }
    }
}

impl Market {
    pub(crate) async fn open() -> Self {
        let ether = U256::from(10).pow(U256::from(21));
        let genesis = (0..ACCOUNTS).map(|n| (test_key(n).address(), ether)).collect();
        let chain = Chain::open(Config { genesis, ..Config::default() }).unwrap();
        let client = Client::in_process(chain.rpc_client());
        let (mut senders, mut loops) = (Vec::new(), JoinSet::new());
        for n in 0..ACCOUNTS {
            let journal = Journal::in_memory(&[sender::SCHEMA]).unwrap();
            let (sender, lane) =
                Sender::open(client.clone(), test_key(n), journal, GasPolicy::default()).await.unwrap();
            loops.spawn(lane.run(CancellationToken::new()));
            senders.push(sender);
        }
        let deployment = deploy::deploy(&client, &senders[0], deploy::Options::default(), |_| ()).await.unwrap();
        let mut market = Self {
            hub: Hub::new(client, deployment.hub),
            chain,
            workerpool: Address::ZERO,
            deployment,
            category: U256::ZERO,
            senders,
            counter: AtomicU64::new(0),
            loops,
        };
        market.furnish().await;
        market
    }

    async fn furnish(&mut self) {
        let approve = IRlc::approveCall { spender: self.hub.address, value: U256::MAX };
        self.send(0, self.deployment.rlc, &approve).await;
        let targets: Vec<Address> = (OWNER..ACCOUNTS).map(|n| test_key(n).address()).collect();
        let amounts = vec![Nrlc::rlc(1_000).0; targets.len()];
        self.send(0, self.hub.address, &IHub::depositForArrayCall { amounts, targets }).await;
        let (name, description) = ("test".into(), String::new());
        let category = IHub::createCategoryCall { name, description, workClockTimeRef: U256::from(PERIOD) };
        self.send(0, self.hub.address, &category).await;
        self.category = self.hub.view(&IHub::countCategoryCall {}).await.unwrap() - U256::from(1);
        let pool = IRegistry::createWorkerpoolCall { owner: test_key(OWNER).address(), description: "pool".into() };
        self.workerpool = created(&self.send(OWNER, self.deployment.workerpool_registry, &pool).await);
    }

    /// Publishes an app that lies at `place`.
    pub(crate) async fn app(&self, place: Multiaddr, checksum: B256) -> Address {
        self.app_of("WASM", place, checksum).await
    }

    /// The same, of any type.
    pub(crate) async fn app_of(&self, kind: &str, place: Multiaddr, checksum: B256) -> Address {
        let call = IRegistry::createAppCall {
            owner: test_key(0).address(),
            name: format!("app-{}", self.next()),
            kind: kind.into(),
            multiaddr: place.encode().into(),
            checksum,
            mrenclave: Bytes::new(),
        };
        created(&self.send(0, self.deployment.app_registry, &call).await)
    }

    /// Publishes a dataset.
    pub(crate) async fn dataset(&self, cid: Cid, checksum: B256) -> Address {
        let call = IRegistry::createDatasetCall {
            owner: test_key(0).address(),
            name: format!("dataset-{}", self.next()),
            multiaddr: Multiaddr::Ipfs(cid).encode().into(),
            checksum,
        };
        created(&self.send(0, self.deployment.dataset_registry, &call).await)
    }

    /// Buys a computation: four signed orders in one transaction.
    pub(crate) async fn buy(&self, request: Request) -> TaskId {
        let domain = self.hub.domain().await.unwrap();
        let (volume, trust, category) = (U256::from(1), U256::from(request.trust), self.category);
        let (price, salt) = (Nrlc::rlc(10).0, B256::from(U256::from(self.next())));
        let app = AppOrder { app: request.app, volume, salt, ..Default::default() };
        let app = sign_order(app, &test_key(0), &domain);
        let dataset = match request.dataset {
            Address::ZERO => DatasetOrder::default(),
            dataset => {
                let order = DatasetOrder { dataset, volume, salt, ..Default::default() };
                sign_order(order, &test_key(0), &domain)
            }
        };
        let pool = WorkerpoolOrder {
            workerpool: self.workerpool,
            workerpoolprice: price,
            volume,
            category,
            trust,
            salt,
            ..Default::default()
        };
        let pool = sign_order(pool, &test_key(OWNER), &domain);
        let wish = RequestOrder {
            app: request.app,
            dataset: request.dataset,
            workerpool: self.workerpool,
            workerpoolmaxprice: price,
            requester: test_key(REQUESTER).address(),
            volume,
            category,
            trust,
            params: request.params,
            callback: request.callback,
            salt,
            ..Default::default()
        };
        let wish = sign_order(wish, &test_key(REQUESTER), &domain);
        let deal = DealId::of(wish.hash(&domain), U256::ZERO);
        let orders = IHub::matchOrdersCall::from(&Match { app, dataset, workerpool: pool, request: wish });
        self.send(REQUESTER, self.hub.address, &orders).await;
        TaskId::of(deal, U256::ZERO)
    }

    /// Contributes as account `n` from elsewhere, sealed by account `sealed_by`.
    pub(crate) async fn contribute(&self, n: u32, task: TaskId, content: &[u8], sealed_by: u32) {
        let (worker, digest) = (test_key(n).address(), ResultDigest(sha256(content)));
        let authorization = authorize(&test_key(OWNER), worker, task, Address::ZERO);
        let call = IHub::contributeCall {
            taskid: task.0,
            resultHash: ids::result_hash(task, digest),
            resultSeal: ids::result_seal(test_key(sealed_by).address(), task, digest),
            enclaveChallenge: Address::ZERO,
            enclaveSign: Bytes::new(),
            authorizationSign: authorization,
        };
        self.send(n, self.hub.address, &call).await;
    }

    /// Contributes as account `n` and ends the task, in one transaction.
    pub(crate) async fn contribute_and_finalize(&self, n: u32, task: TaskId, content: &[u8]) {
        let worker = test_key(n).address();
        let call = IHub::contributeAndFinalizeCall {
            taskid: task.0,
            resultDigest: sha256(content),
            results: ResultLink::ipfs("/ipfs/x".into()).write(),
            resultsCallback: Bytes::new(),
            enclaveChallenge: Address::ZERO,
            enclaveSign: Bytes::new(),
            authorizationSign: authorize(&test_key(OWNER), worker, task, Address::ZERO),
        };
        self.send(n, self.hub.address, &call).await;
    }

    /// Takes all that account `n` has free out of the hub.
    pub(crate) async fn withdraw(&self, n: u32) {
        let amount = self.hub.account(test_key(n).address()).await.unwrap().stake.0;
        self.send(n, self.hub.address, &IHub::withdrawCall { amount }).await;
    }

    /// Puts so much more into the hub for account `n`.
    pub(crate) async fn deposit_for(&self, n: u32, amount: Nrlc) {
        let (amounts, targets) = (vec![amount.0], vec![test_key(n).address()]);
        self.send(0, self.hub.address, &IHub::depositForArrayCall { amounts, targets }).await;
    }

    /// Sets the ether of account `n`, in wei, and mines a block.
    pub(crate) async fn set_ether(&self, n: u32, wei: U256) {
        rpc(&self.chain, "anvil_setBalance", json!([test_key(n).address(), wei])).await;
        rpc(&self.chain, "evm_mine", json!([])).await;
    }

    /// Ether that a wallet needs before it takes a task, in wei, times `percent`.
    pub(crate) async fn ether_for_a_task(&self, percent: u64) -> U256 {
        let fees = GasPolicy::default().offer(self.hub.client.price().await.unwrap()).unwrap();
        self.hub.work_gas(None).await.unwrap().needed(fees) * U256::from(percent) / U256::from(100)
    }

    /// The number of the newest block.
    pub(crate) async fn height(&self) -> u64 {
        self.hub.client.head().await.unwrap().number
    }

    /// Mines empty blocks.
    pub(crate) async fn mine(&self, blocks: u64) {
        for _ in 0..blocks {
            rpc(&self.chain, "evm_mine", json!([])).await;
        }
    }

    /// Other blocks, empty ones, take the place of the newest.
    pub(crate) async fn reorganise(&self, blocks: u64) {
        rpc(&self.chain, "anvil_reorg", json!([blocks, []])).await;
    }

    /// From now on nobody here sends anything, or hands in again what a reorg threw out.
    pub(crate) async fn fall_silent(&mut self) {
        self.loops.shutdown().await;
    }

    /// Lets the chain's time pass.
    pub(crate) async fn pass(&self, seconds: u64) {
        rpc(&self.chain, "evm_increaseTime", json!([seconds])).await;
        rpc(&self.chain, "evm_mine", json!([])).await;
    }

    async fn send<C: SolCall>(&self, n: u32, to: Address, call: &C) -> Receipt {
        let id = format!("test:{}", self.next());
        self.senders[n as usize].send(&id, to, call).await.unwrap_or_else(|e| panic!("{}: {e}", C::SIGNATURE))
    }

    fn next(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::SeqCst) + 1
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> B256 {
    B256::new(Sha256::digest(bytes).into())
}

/// The entry that a registry reports: the token of its ERC-721 `Transfer`.
fn created(receipt: &Receipt) -> Address {
    let topics = receipt.logs.iter().map(|log| log.topics()).find(|topics| topics.len() == 4).unwrap();
    Address::abi_decode(topics[3].as_slice()).unwrap()
}
