//! Sending: one sender per key, and everything on disk before it is broadcast.
//!
//! An intent has a name. The same name is never sent twice, also after a crash: the second asker gets the outcome of
//! the first. Outcomes are read from the chain. A refusal by estimation spends nothing and is forgotten, so that the
//! same name can be tried again when things have changed.

mod store;

use crate::{
    client::{Client, Error},
    gas::{Fees, GasPolicy},
    revert::Revert,
};
use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718,
    network::TxSignerSync,
    primitives::{Address, B256, Bytes, TxKind, U256},
    rpc::types::{Log, TransactionReceipt},
    signers::local::PrivateKeySigner,
    sol_types::SolCall,
};
use bourse_service::journal::{self, Journal};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
pub use store::SCHEMA;
use store::{Attempt, Intent, Open};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How many sends may wait at once; more block their callers.
const QUEUE: usize = 256;
/// An unmined transaction is handed to the node again after this time.
const REBROADCAST: Duration = Duration::from_secs(10);
/// And gets a higher fee after this time.
const BUMP: Duration = Duration::from_secs(30);
/// So often a used nonce must be seen without a receipt before its transaction counts as lost: nodes show receipts late.
const LOST_AFTER: u32 = 10;
/// Room for what changes between estimation and execution: another's contribution can make ours the decisive one.
const GAS_MARGIN: u64 = 150_000;

/// A transaction that is in a block and succeeded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The transaction.
    pub hash: B256,
    /// Its block.
    pub block: u64,
    /// Gas that it used.
    pub gas_used: u64,
    /// What that cost, in wei.
    pub fee: U256,
    /// The contract that it created, if it did.
    pub created: Option<Address>,
    /// The events.
    pub logs: Vec<Log>,
}

/// Why a send has no receipt.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The chain would refuse it now. Nothing was sent; the same name may be tried again.
    #[error("the chain refuses {id}: {revert}")]
    Refused {
        /// The intent.
        id: String,
        /// The reason.
        revert: Revert,
    },
    /// It was mined and failed; gas was spent.
    #[error("{id} failed on chain: {revert}")]
    Failed {
        /// The intent.
        id: String,
        /// The reason.
        revert: Revert,
    },
    /// The wallet cannot pay for it. Nothing was sent.
    #[error("wallet {wallet} has {have} wei and {id} needs up to {needed} wei for gas: send ether to it")]
    OutOfGas {
        /// The intent.
        id: String,
        /// Who pays.
        wallet: Address,
        /// What it needs.
        needed: U256,
        /// What there is.
        have: U256,
    },
    /// The node refuses the transaction. Nothing was sent.
    #[error("{id} was not accepted")]
    Chain {
        /// The intent.
        id: String,
        /// Why.
        source: Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] journal::Error),
    /// The process is stopping. What was sent stays sent.
    #[error("stopped while {id} was on its way: it goes on after a restart")]
    Stopped {
        /// The intent.
        id: String,
    },
}

/// How many intents of a wallet in a journal have no outcome yet.
pub fn open_intents(journal: &Journal, wallet: Address) -> Result<u64, journal::Error> {
    store::open_count(journal, wallet)
}

/// The way to send from one key. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sender {
    address: Address,
    commands: mpsc::Sender<Command>,
}

#[derive(Debug)]
struct Command {
    intent: Intent,
    reply: Reply,
}

type Reply = oneshot::Sender<Result<Receipt, SendError>>;

impl Sender {
    /// A sender for `key` that keeps its intents in `journal`, whose schema must include [`SCHEMA`]. The loop must be
    /// run for anything to happen; intents of an earlier life go on with it.
    pub async fn open(
        client: Client,
        key: PrivateKeySigner,
        journal: Journal,
        policy: GasPolicy,
    ) -> Result<(Self, SenderLoop), Error> {
        let chain_id = client.chain_id().await?;
        let (commands, inbox) = mpsc::channel(QUEUE);
        let sender = Self { address: key.address(), commands };
        let lane = SenderLoop {
            client,
            key,
            journal,
            policy,
            chain_id,
            inbox,
            waiters: HashMap::new(),
            missing: HashMap::new(),
            tried: HashMap::new(),
        };
        Ok((sender, lane))
    }

    /// The wallet.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Sends a call under a name and waits for its outcome.
    pub async fn send<C: SolCall>(&self, id: &str, to: Address, call: &C) -> Result<Receipt, SendError> {
        self.submit(Intent { id: id.into(), to: Some(to), value: U256::ZERO, data: call.abi_encode().into() }).await
    }

    /// Creates a contract under a name.
    pub async fn create(&self, id: &str, code: Bytes) -> Result<Receipt, SendError> {
        self.submit(Intent { id: id.into(), to: None, value: U256::ZERO, data: code }).await
    }

    /// Sends ether, in wei.
    pub async fn pay(&self, id: &str, to: Address, wei: U256) -> Result<Receipt, SendError> {
        self.submit(Intent { id: id.into(), to: Some(to), value: wei, data: Bytes::new() }).await
    }

    async fn submit(&self, intent: Intent) -> Result<Receipt, SendError> {
        let id = intent.id.clone();
        let (reply, outcome) = oneshot::channel();
        let stopped = || SendError::Stopped { id: id.clone() };
        self.commands.send(Command { intent, reply }).await.map_err(|_| stopped())?;
        outcome.await.unwrap_or_else(|_| Err(stopped()))
    }
}

/// What does the sending. One per key.
#[derive(Debug)]
pub struct SenderLoop {
    client: Client,
    key: PrivateKeySigner,
    journal: Journal,
    policy: GasPolicy,
    chain_id: u64,
    inbox: mpsc::Receiver<Command>,
    waiters: HashMap<String, Vec<Reply>>,
    /// How often an intent's nonce was seen used without a receipt.
    missing: HashMap<String, u32>,
    /// When an intent was last handed to the node, and first.
    tried: HashMap<String, (Instant, Instant)>,
}

impl SenderLoop {
    /// Runs until `shutdown`. What waits then goes on after a restart.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut pause = self.client.poll_interval();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                command = self.inbox.recv() => match command {
                    Some(command) => self.accept(command),
                    None => return,
                },
                () = tokio::time::sleep(pause), if self.busy() => {}
            }
            // Everything that waits in the inbox belongs to this round.
            while let Ok(command) = self.inbox.try_recv() {
                self.accept(command);
            }
            pause = match self.round().await {
                Ok(()) => self.client.poll_interval(),
                Err(error) => {
                    warn!(wallet = %self.key.address(), %error, "cannot reach the chain; transactions wait");
                    (pause * 2).min(Duration::from_secs(15))
                }
            };
        }
    }

    fn busy(&self) -> bool {
        !self.waiters.is_empty() || store::open_count(&self.journal, self.key.address()).unwrap_or(1) > 0
    }

    fn accept(&mut self, Command { intent, reply }: Command) {
        let id = intent.id.clone();
        match store::insert(&self.journal, self.key.address(), &intent) {
            Ok(None) => self.waiters.entry(id).or_default().push(reply),
            Ok(Some(outcome)) => drop(reply.send(outcome.into_result(&id))),
            Err(error) => drop(reply.send(Err(error.into()))),
        }
    }

    /// Looks after everything that is on its way, then sends what is not.
    async fn round(&mut self) -> Result<(), Error> {
        let rows = match store::load(&self.journal, self.key.address()) {
            Ok(rows) => rows,
            Err(error) => {
                warn!(%error, "cannot read the store; transactions wait");
                return Ok(());
            }
        };
        for Open { intent, sent } in rows {
            match sent {
                Some((nonce, attempts)) => self.follow(&intent, nonce, &attempts).await?,
                None => self.start(&intent).await?,
            }
        }
        Ok(())
    }

    async fn follow(&mut self, intent: &Intent, nonce: u64, attempts: &[Attempt]) -> Result<(), Error> {
        let used = self.client.nonce(self.key.address()).await? > nonce;
        for attempt in attempts {
            if let Some(receipt) = self.client.receipt(attempt.hash).await? {
                return self.settle(intent, receipt).await;
            }
        }
        if used {
            let seen = self.missing.entry(intent.id.clone()).or_default();
            *seen += 1;
            if *seen >= LOST_AFTER {
                warn!(id = %intent.id, nonce, "another transaction took this nonce: sending again");
                self.missing.remove(&intent.id);
                self.store(store::requeue(&self.journal, &intent.id));
            }
            return Ok(());
        }
        let now = Instant::now();
        let (last, first) = *self.tried.entry(intent.id.clone()).or_insert((now - REBROADCAST, now));
        if now - last >= REBROADCAST {
            self.tried.insert(intent.id.clone(), (now, first));
            if now - first >= BUMP {
                self.bump(intent, nonce, attempts).await?;
            }
            for attempt in attempts {
                self.broadcast(&intent.id, &attempt.raw).await?;
            }
        }
        Ok(())
    }

    /// Offers more for a transaction that waits too long, up to the cap.
    async fn bump(&mut self, intent: &Intent, nonce: u64, attempts: &[Attempt]) -> Result<(), Error> {
        let Some(last) = attempts.last() else { return Ok(()) };
        let (base, tip) = self.client.fees().await?;
        let Some(fees) = self.policy.replacement(last.fees, base, tip) else {
            info!(id = %intent.id, "waiting for gas to get cheaper: a higher fee would pass the cap");
            return Ok(());
        };
        let attempt = self.sign(intent, nonce, last.gas_limit, fees);
        info!(id = %intent.id, nonce, max_fee = fees.max_fee, "raising the fee of a transaction that waits");
        if self.store(store::add_attempt(&self.journal, &intent.id, &attempt)) {
            self.broadcast(&intent.id, &attempt.raw).await?;
        }
        Ok(())
    }

    async fn start(&mut self, intent: &Intent) -> Result<(), Error> {
        let wallet = self.key.address();
        let gas_limit = match self.client.estimate(wallet, intent.to, intent.data.clone()).await {
            Ok(gas) => gas + gas / 4 + if intent.data.is_empty() { 0 } else { GAS_MARGIN },
            Err(Error::Reverted(revert)) => {
                self.forget(&intent.id, |id| SendError::Refused { id, revert });
                return Ok(());
            }
            Err(error) if error.is_transient() => return Err(error),
            Err(source) => {
                self.forget(&intent.id, |id| SendError::Chain { id, source });
                return Ok(());
            }
        };
        let (base, tip) = self.client.fees().await?;
        let fees = match self.policy.fees(base, tip) {
            Ok(fees) => fees,
            Err(over) => {
                info!(id = %intent.id, "{over}");
                return Ok(());
            }
        };
        let have = self.client.balance(wallet).await?;
        let needed = U256::from(gas_limit) * U256::from(fees.max_fee) + intent.value;
        if have < needed {
            self.forget(&intent.id, |id| SendError::OutOfGas { id, wallet, needed, have });
            return Ok(());
        }
        let on_chain = self.client.nonce(wallet).await?;
        let Ok(nonce) = store::next_nonce(&self.journal, wallet, on_chain) else { return Ok(()) };
        let attempt = self.sign(intent, nonce, gas_limit, fees);
        if self.store(store::send(&self.journal, &intent.id, nonce, &attempt)) {
            let now = Instant::now();
            self.tried.insert(intent.id.clone(), (now, now));
            self.broadcast(&intent.id, &attempt.raw).await?;
            if let Some(receipt) = self.client.receipt(attempt.hash).await? {
                self.settle(intent, receipt).await?;
            }
        }
        Ok(())
    }

    /// Hands a transaction to the node. What the node says is not believed: the chain shows the outcome.
    async fn broadcast(&self, id: &str, raw: &[u8]) -> Result<(), Error> {
        match self.client.broadcast(raw).await {
            Ok(hash) => debug!(id, %hash, "sent"),
            Err(error @ Error::Unreachable { .. }) => return Err(error),
            Err(error) => debug!(id, %error, "the node did not take the transaction (again)"),
        }
        Ok(())
    }

    async fn settle(&mut self, intent: &Intent, receipt: TransactionReceipt) -> Result<(), Error> {
        let block = receipt.block_number.unwrap_or_default();
        let outcome = match (receipt.status(), intent.to) {
            (true, _) => store::Outcome::Done(Receipt {
                hash: receipt.transaction_hash,
                block,
                gas_used: receipt.gas_used,
                fee: U256::from(receipt.gas_used) * U256::from(receipt.effective_gas_price),
                created: receipt.contract_address,
                logs: receipt.logs().to_vec(),
            }),
            (false, Some(to)) => {
                store::Outcome::Failed(self.client.replay(self.key.address(), to, intent.data.clone(), block).await)
            }
            (false, None) => store::Outcome::Failed(Revert::default()),
        };
        if self.store(store::settle(&self.journal, &intent.id, &outcome)) {
            self.tried.remove(&intent.id);
            self.missing.remove(&intent.id);
            self.resolve(&intent.id, || outcome.clone().into_result(&intent.id));
        }
        Ok(())
    }

    fn sign(&self, intent: &Intent, nonce: u64, gas_limit: u64, fees: Fees) -> Attempt {
        let mut tx = TxEip1559 {
            chain_id: self.chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas: fees.max_fee,
            max_priority_fee_per_gas: fees.tip,
            to: intent.to.map_or(TxKind::Create, TxKind::Call),
            value: intent.value,
            access_list: Default::default(),
            input: intent.data.clone(),
        };
        let signature = self.key.sign_transaction_sync(&mut tx).expect("a local key signs every transaction");
        let signed = TxEnvelope::from(tx.into_signed(signature));
        Attempt { hash: *signed.tx_hash(), raw: signed.encoded_2718(), gas_limit, fees }
    }

    /// Drops an intent that was never sent, and tells why.
    fn forget(&mut self, id: &str, why: impl FnOnce(String) -> SendError) {
        if self.store(store::forget(&self.journal, id)) {
            let mut replies = self.waiters.remove(id).unwrap_or_default().into_iter();
            if let Some(first) = replies.next() {
                drop(first.send(Err(why(id.into()))));
            }
            replies.for_each(|r| drop(r.send(Err(SendError::Stopped { id: id.into() }))));
        }
    }

    fn resolve(&mut self, id: &str, outcome: impl Fn() -> Result<Receipt, SendError>) {
        for reply in self.waiters.remove(id).unwrap_or_default() {
            drop(reply.send(outcome()));
        }
    }

    fn store(&self, result: Result<(), journal::Error>) -> bool {
        if let Err(error) = &result {
            warn!(%error, "cannot write the store; the transaction waits");
        }
        result.is_ok()
    }
}
