//! The market on the chain: contracts, accounts, assets, and the requesters who buy.

use crate::{
    chance::Chance,
    tally::{Fault, Tally},
};
use bourse_chain::{
    Client, GasPolicy, Hub, PrivateKeySigner, Receipt, SendError, Sender,
    alloy::{
        primitives::keccak256,
        sol_types::{SolCall, SolValue},
    },
    deploy, sender,
};
use bourse_protocol::{
    Address, B256, Bytes, U256,
    abi::{IHub, IRegistry, IRlc},
    deal::TaskStatus,
    ids::{DealId, OrderHash, TaskId},
    ipfs::Multiaddr,
    money::Nrlc,
    orders::{AppOrder, DatasetOrder, Order, RequestOrder, TAG_GPU, WorkerpoolOrder},
};
use bourse_service::{CancellationToken, journal::Journal};
use futures_util::future::join;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::sleep};

/// Accounts: the admin, the pool's owner, the requesters, then the workers.
pub(crate) const OWNER: u32 = 1;
pub(crate) const REQUESTERS: std::ops::Range<u32> = 2..5;
pub(crate) const FIRST_WORKER: u32 = 5;
/// What every account has in the hub.
pub(crate) const DEPOSIT: u64 = 100_000;

/// The key of an account. All runs have the same: each is made once.
pub(crate) fn key(n: u32) -> PrivateKeySigner {
    static KEYS: Mutex<BTreeMap<u32, PrivateKeySigner>> = Mutex::new(BTreeMap::new());
    let make = || {
        let bytes = keccak256([b"bourse simulation".as_slice(), &n.to_be_bytes()].concat());
        PrivateKeySigner::from_bytes(&bytes).expect("a hash is a key")
    };
    KEYS.lock().unwrap_or_else(PoisonError::into_inner).entry(n).or_insert_with(make).clone()
}

/// What is special about a bag of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing.
    Usual,
    /// Their results are pushed to a contract.
    Pushed,
    /// No worker can do them: they are to be refunded.
    FitsNobody,
}

/// A bag of tasks that somebody wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) size: u64,
    pub(crate) trust: u64,
    pub(crate) kind: Kind,
}

/// A task that was bought.
#[derive(Clone, Debug)]
pub(crate) struct Bought {
    pub(crate) task: TaskId,
    pub(crate) deal: DealId,
    pub(crate) index: U256,
    pub(crate) trust: u64,
    pub(crate) kind: Kind,
    pub(crate) final_deadline: u64,
}

/// Where everything is on the chain.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Places {
    pub(crate) hub: Address,
    pub(crate) rlc: Address,
    pub(crate) workerpool: Address,
    app: Address,
    category: U256,
    /// The period T of the category, in seconds.
    pub(crate) period: u64,
    /// Workers that have a deposit.
    pub(crate) workers: u32,
}

/// The market.
pub(crate) struct Market {
    pub(crate) hub: Hub,
    pub(crate) places: Places,
    senders: Vec<Sender>,
    /// By how much one of two that race is late.
    delays: Chance,
    counter: AtomicU64,
    _loops: JoinSet<()>,
}

impl Market {
    /// A market where everything is already.
    pub(crate) async fn open(client: Client, places: Places, delays: Chance) -> Self {
        let (mut senders, mut loops) = (Vec::new(), JoinSet::new());
        for n in 0..REQUESTERS.end {
            let journal = Journal::in_memory(&[sender::SCHEMA]).expect("memory is there");
            let opened = Sender::open(client.clone(), key(n), journal, GasPolicy::default()).await;
            let (sender, lane) = opened.expect("the chain answers");
            loops.spawn(async move { lane.run(CancellationToken::new()).await });
            senders.push(sender);
        }
        let hub = Hub::new(client, places.hub);
        Self { hub, places, senders, delays, counter: AtomicU64::new(0), _loops: loops }
    }

    /// Deploys and funds on a chain that mines on demand; says where everything is.
    pub(crate) async fn found(client: Client, workers: u32, period: u64) -> Places {
        let nothing = Places { workers, period, ..Places::default() };
        let mut market = Self::open(client.clone(), nothing, Chance::new(0)).await;
        let deployed = deploy::deploy(&client, &market.senders[0], deploy::Options::default(), |_| ()).await;
        let deployment = deployed.expect("the contracts deploy");
        market.hub = Hub::new(client, deployment.hub);
        market.furnish(&deployment).await;
        market.places
    }

    async fn furnish(&mut self, deployment: &deploy::Deployment) {
        let approve = IRlc::approveCall { spender: self.hub.address, value: U256::MAX };
        self.must(0, deployment.rlc, &approve).await;
        let accounts: Vec<Address> = (OWNER..FIRST_WORKER + self.places.workers).map(|n| key(n).address()).collect();
        let amounts = vec![Nrlc::rlc(DEPOSIT).0; accounts.len()];
        self.must(0, self.hub.address, &IHub::depositForArrayCall { amounts, targets: accounts }).await;
        let (name, description) = ("sim".into(), String::new());
        let category = IHub::createCategoryCall { name, description, workClockTimeRef: U256::from(self.places.period) };
        self.must(0, self.hub.address, &category).await;
        let count = self.hub.view(&IHub::countCategoryCall {}).await.expect("the hub answers");
        self.places =
            Places { hub: deployment.hub, rlc: deployment.rlc, category: count - U256::from(1), ..self.places };
        let owner = key(OWNER).address();
        let pool = IRegistry::createWorkerpoolCall { owner, description: "pool".into() };
        self.places.workerpool = created(&self.must(OWNER, deployment.workerpool_registry, &pool).await);
        let app = IRegistry::createAppCall {
            owner: key(0).address(),
            name: "app".into(),
            kind: "WASM".into(),
            multiaddr: Multiaddr::Other("nowhere".into()).encode().into(),
            checksum: B256::ZERO,
            mrenclave: Bytes::new(),
        };
        self.places.app = created(&self.must(0, deployment.app_registry, &app).await);
    }

    /// Buys a bag of tasks of a kind; none when the requester thought better of it in time.
    pub(crate) async fn buy(&self, wish: Wish, chance: &Chance, tally: &Tally, upset: u32) -> Vec<Bought> {
        let Wish { size, trust, kind } = wish;
        let n = REQUESTERS.start + chance.within(0..=u64::from(REQUESTERS.end - REQUESTERS.start - 1)) as u32;
        let (orders, deal) = self.orders(n, wish).await;
        let matched = if chance.hits(upset) {
            self.matched_while_closing(n, &orders, tally).await
        } else if chance.hits(upset) {
            self.matched_while_withdrawing(n, &orders, tally).await
        } else {
            self.in_time(0, &orders).await
        };
        if !matched {
            return vec![];
        }
        let deal_read = self.hub.deal(deal).await.expect("the hub answers");
        // A purchase that a reorg has taken away already is read again by the judge.
        let final_deadline = deal_read.map_or(0, |deal| deal.final_deadline(self.places.period));
        let bought = |i: u64| Bought {
            task: TaskId::of(deal, U256::from(i)),
            deal,
            index: U256::from(i),
            trust,
            kind,
            final_deadline,
        };
        match kind {
            Kind::Usual => {}
            Kind::Pushed => tally.count(Fault::Callback),
            Kind::FitsNobody => tally.count(Fault::FitsNobody),
        }
        (0..size).map(bought).collect()
    }

    /// The requester closes its order while it is matched. Whether the match was first.
    async fn matched_while_closing(&self, n: u32, orders: &IHub::matchOrdersCall, tally: &Tally) -> bool {
        let order = orders.request.clone();
        let operation = bourse_protocol::abi::RequestOrderOperation { order, operation: 1, sign: Bytes::new() };
        let close = IHub::manageRequestOrderCall { operation };
        let (_, matched) = self.race(self.must(n, self.hub.address, &close), self.in_time(0, orders)).await;
        tally.count(if matched { Fault::ClosedTooLate } else { Fault::OrderClosed });
        matched
    }

    /// The requester withdraws all it has while its order is matched. Whether the match was first.
    async fn matched_while_withdrawing(&self, n: u32, orders: &IHub::matchOrdersCall, tally: &Tally) -> bool {
        let account = self.hub.account(key(n).address()).await.expect("the hub answers");
        let amount = account.stake.0;
        let withdrawal = IHub::withdrawCall { amount };
        let (withdrawn, matched) = self.race(self.in_time(n, &withdrawal), self.in_time(0, orders)).await;
        match (withdrawn, matched) {
            (true, false) => tally.count(Fault::Withdrawal),
            (false, true) => tally.count(Fault::WithdrawnTooLate),
            // A reorg or a refund has changed what is there meanwhile.
            (true, true) | (false, false) => {}
        }
        if withdrawn {
            self.must(0, self.hub.address, &IHub::depositForCall { amount, target: key(n).address() }).await;
        }
        matched
    }

    /// Does both at nearly the same time: either may be mined first, in one block too.
    async fn race<A, B>(&self, one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
        let late = || sleep(Duration::from_millis(self.delays.within(0..=6_000)));
        let (early, later) = (late(), late());
        let one = async {
            early.await;
            one.await
        };
        let other = async {
            later.await;
            other.await
        };
        join(one, other).await
    }

    /// Whether a call to the hub that may come too late was in time.
    async fn in_time<C: SolCall>(&self, n: u32, call: &C) -> bool {
        let id = format!("sim:{}", self.next());
        match self.senders[n as usize].send(&id, self.hub.address, call).await {
            Ok(_) => true,
            Err(SendError::Refused { .. } | SendError::Failed { .. }) => false,
            Err(error) => panic!("{}: {error}", C::SIGNATURE),
        }
    }

    async fn orders(&self, requester: u32, wish: Wish) -> (IHub::matchOrdersCall, DealId) {
        let domain = self.hub.domain().await.expect("the hub answers");
        let (volume, trust) = (U256::from(wish.size), U256::from(wish.trust));
        let salt = B256::from(U256::from(self.next()));
        // No worker here has a graphics processor.
        let tag = if wish.kind == Kind::FitsNobody { TAG_GPU } else { B256::ZERO };
        // There is no code at this address: what is pushed there is kept by the hub alone.
        let callback = if wish.kind == Kind::Pushed { Address::repeat_byte(0xca) } else { Address::ZERO };
        let Places { category, app, workerpool, .. } = self.places;
        let price = Nrlc::rlc(10).0;
        let with = |n: u32, hash: OrderHash| key(n).sign_hash(&hash.0).as_bytes().into();
        let app_order = AppOrder { app, volume, salt, ..Default::default() };
        let app_order = AppOrder { sign: with(0, app_order.hash(&domain)), ..app_order };
        let pool = WorkerpoolOrder {
            workerpool,
            workerpoolprice: price,
            volume,
            category,
            trust,
            tag,
            salt,
            ..Default::default()
        };
        let pool = WorkerpoolOrder { sign: with(OWNER, pool.hash(&domain)), ..pool };
        let wish = RequestOrder {
            app,
            workerpool,
            workerpoolmaxprice: price,
            requester: key(requester).address(),
            volume,
            category,
            trust,
            tag,
            callback,
            salt,
            ..Default::default()
        };
        let wish = RequestOrder { sign: with(requester, wish.hash(&domain)), ..wish };
        let deal = DealId::of(wish.hash(&domain), U256::ZERO);
        let call = IHub::matchOrdersCall {
            app: (&app_order).into(),
            dataset: (&DatasetOrder::default()).into(),
            workerpool: (&pool).into(),
            request: (&wish).into(),
        };
        (call, deal)
    }

    /// Claims a task as somebody who has nothing to do with it, initialising it first where nobody has.
    pub(crate) async fn claim(&self, bought: Bought) -> Result<Receipt, SendError> {
        let id = format!("claim:{}", self.next());
        let task = self.hub.task(bought.task).await.expect("the hub answers");
        if task.status == TaskStatus::Unset {
            let call = IHub::initializeAndClaimArrayCall { dealids: vec![bought.deal.0], idxs: vec![bought.index] };
            return self.senders[0].send(&id, self.hub.address, &call).await;
        }
        self.senders[0].send(&id, self.hub.address, &IHub::claimCall { taskid: bought.task.0 }).await
    }

    async fn must<C: SolCall>(&self, n: u32, to: Address, call: &C) -> Receipt {
        let id = format!("sim:{}", self.next());
        let sent = self.senders[n as usize].send(&id, to, call).await;
        sent.unwrap_or_else(|error| panic!("{}: {error}", C::SIGNATURE))
    }

    fn next(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// The entry that a registry reports: the token of its ERC-721 `Transfer`.
fn created(receipt: &Receipt) -> Address {
    let topics = receipt.logs.iter().map(|log| log.topics()).find(|topics| topics.len() == 4);
    Address::abi_decode(topics.expect("a registry reports what it made")[3].as_slice()).expect("an address")
}
