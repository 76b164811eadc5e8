//! Sending: one sender per key, and everything on disk before it is broadcast.
//!
//! An intent has a name. The same name is never sent twice, also after a crash: the second asker gets the outcome of
//! the first. Outcomes are read from the chain, and as long as their block may still go away they are watched: a
//! transaction that a reorg threw out is handed in again. What lies deeper is looked up when its name is asked for again,
//! and followed again if it is gone. A refusal by estimation spends nothing and is forgotten, so
//! that the same name can be tried again when things have changed.

mod lane;
mod store;
mod strangers;
mod tag;

use crate::{
    PrivateKeySigner,
    client::{Client, Error},
    gas::{AtCap, GasPolicy, OverCap},
    revert::Revert,
};
use alloy::{
    primitives::{Address, B256, Bytes, U256},
    rpc::types::Log,
    sol_types::SolCall,
};
use bourse_service::journal::{self, Journal};
pub use lane::SenderLoop;
use serde::{Deserialize, Serialize};
use store::Intent;
pub use store::SCHEMA;
use tokio::sync::{mpsc, oneshot, watch};

/// How many sends may wait at once; more block their callers.
const QUEUE: usize = 256;

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
    #[error(transparent)]
    OutOfGas(OutOfGas),
    /// The node refuses the transaction. Nothing was sent.
    #[error("{id} was not accepted")]
    Chain {
        /// The intent.
        id: String,
        /// Why.
        source: Error,
    },
    /// Somebody else sends from the same key.
    #[error(transparent)]
    KeyInUse(KeyInUse),
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

/// Two senders use one key. Nonces are taken by one and missed by the other, so one of them must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[error(
    "wallet {wallet} is used by another process too ({evidence}): stop one of them; every process needs a key of its own"
)]
pub struct KeyInUse {
    /// The wallet.
    pub wallet: Address,
    /// How it was noticed.
    pub evidence: String,
}

/// Why what was asked for is not on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "camelCase")]
pub enum Waiting {
    /// Gas costs more than the cap. Goes on by itself when it gets cheaper.
    OverCap {
        /// The network's price, in wei per gas.
        network: u128,
        /// The cap.
        cap: u128,
    },
    /// What was sent offers so much already that the next higher price, as nodes want it, passes the cap. Goes into a block
    /// when gas gets cheaper.
    AtCap {
        /// What it offers, in wei per gas.
        offered: u128,
        /// The least that nodes would take instead.
        next: u128,
        /// The cap.
        cap: u128,
    },
    /// The price of gas cannot be read: it is not known whether it is under the cap.
    PriceUnknown {
        /// Why, in words.
        error: String,
    },
    /// The chain cannot be read.
    Unreachable {
        /// Why, in words.
        error: String,
    },
    /// Transactions that are on their way may take all the ether there is.
    Ether {
        /// What the next transaction may take, in wei.
        needed: U256,
        /// What is not spoken for.
        free: U256,
    },
    /// Transactions of the wallet that are not ours waited in the node before this process began: of an earlier life whose
    /// store is gone, or of another process. Goes on by itself when they are in blocks, and replaces them if blocks do not
    /// take them for five minutes.
    Foreign {
        /// How many.
        count: u64,
    },
    /// The nodes do not take a transaction.
    NotTaken {
        /// Why, in their words.
        error: String,
    },
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OverCap { network, cap } => OverCap { network: *network, cap: *cap }.fmt(f),
            Self::AtCap { offered, next, cap } => AtCap { offered: *offered, next: *next, cap: *cap }.fmt(f),
            Self::PriceUnknown { error } => write!(f, "the price of gas cannot be read: waiting ({error})"),
            Self::Unreachable { error } => write!(f, "the chain cannot be read: waiting ({error})"),
            Self::Ether { needed, free } => {
                write!(
                    f,
                    "the next transaction may take {needed} wei and {free} wei are free: waiting for those on their way"
                )
            }
            Self::Foreign { count } => {
                write!(
                    f,
                    "{count} transactions that this store does not know wait in the node since before the start: waiting until they are in blocks"
                )
            }
            Self::NotTaken { error } => write!(f, "the nodes do not take the transaction: trying again ({error})"),
        }
    }
}

/// The wallet could not pay for the last transaction that was asked for, or for a higher fee of one that waits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("wallet {wallet} has {have} wei and {id} needs up to {needed} wei for gas: send ether to it")]
#[serde(rename_all = "camelCase")]
pub struct OutOfGas {
    /// The intent.
    pub id: String,
    /// Who pays.
    pub wallet: Address,
    /// What it needs.
    pub needed: U256,
    /// What there is.
    pub have: U256,
}

/// What a sender is doing, for people and for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Intents without an outcome.
    pub open: usize,
    /// Of these, those that were sent and are in no block that counts.
    pub sent: usize,
    /// Why the others wait, if they must.
    pub waiting: Option<Waiting>,
    /// The wallet cannot pay: for the last transaction that was asked for, or for a higher fee of one that waits. Until one
    /// can be paid.
    pub out_of_gas: Option<OutOfGas>,
    /// The sender has stopped for good.
    pub stopped: Option<KeyInUse>,
}

impl Status {
    /// What keeps the sender from sending, in words.
    pub fn obstacle(&self) -> Option<String> {
        let stopped = self.stopped.as_ref().map(ToString::to_string);
        let waiting = || self.waiting.as_ref().map(ToString::to_string);
        stopped.or_else(waiting).or_else(|| self.out_of_gas.as_ref().map(ToString::to_string))
    }

    /// Whether somebody must do something before anything can be sent: it does not pass by itself.
    pub fn needs_help(&self) -> bool {
        self.stopped.is_some() || self.out_of_gas.is_some() || matches!(self.waiting, Some(Waiting::Ether { .. }))
    }
}

/// How many intents of a wallet in a journal have no outcome yet.
pub fn open_intents(journal: &Journal, wallet: Address) -> Result<u64, journal::Error> {
    store::open_count(journal, wallet)
}

/// Whether a journal knows anything that a wallet has sent or was to send.
pub fn has_intents(journal: &Journal, wallet: Address) -> Result<bool, journal::Error> {
    store::any(journal, wallet)
}

/// The way to send from one key. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sender {
    address: Address,
    journal: Journal,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
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
        let (commands, inbox) = mpsc::channel(QUEUE);
        let (publish, status) = watch::channel(Status::default());
        let sender = Self { address: key.address(), journal: journal.clone(), commands, status };
        Ok((sender, SenderLoop::open(client, key, journal, policy, inbox, publish).await?))
    }

    /// The wallet.
    pub fn address(&self) -> Address {
        self.address
    }

    /// What the sender is doing now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Tells of every change of the status.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Why the loop has ended by itself, if it has. Nothing is sent any more; the process should stop.
    pub fn key_in_use(&self) -> Option<KeyInUse> {
        self.status.borrow().stopped.clone()
    }

    /// Gas that this wallet's store has seen a call of `C` at `to` use of late; `None` if there was none.
    pub fn gas_used<C: SolCall>(&self, to: Address) -> Result<Option<u64>, journal::Error> {
        store::gas_of(&self.journal, to, C::SELECTOR)
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
        if self.commands.send(Command { intent, reply }).await.is_err() {
            return Err(self.stopped(id));
        }
        match outcome.await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.stopped(id)),
        }
    }

    fn stopped(&self, id: String) -> SendError {
        match self.status.borrow().stopped.clone() {
            Some(reason) => SendError::KeyInUse(reason),
            None => SendError::Stopped { id },
        }
    }
}
