//! Runs a workerpool: from deal to finalised task.
//!
//! Holds no truth of its own: deals, tasks and votes come from the chain, and with an empty store it rebuilds from
//! there. Events only wake it; what to do is decided by [`bourse_protocol::task::steps`] from one view of the task.

mod agenda;
mod bags;
mod bucket;
mod check;
mod crew;
mod http;
mod link;
mod pool;
mod queue;
mod reads;
mod runs;
mod service;
mod store;

pub use check::{Error as ResultError, Results};
pub use crew::Floor;
pub use link::Door;
pub use service::Service;

use bourse_chain::GasPolicy;
use bourse_protocol::{Address, B256, link::Backoff};
use bourse_service::{clock::Clock, journal};
use std::{collections::BTreeSet, path::PathBuf, time::Duration};

/// The steps of the store's schema, for who opens the journal beforehand.
pub const SCHEMA: &[&str] = store::SCHEMA;

/// How a pool is run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The pool's contract. Its owner's key runs it.
    pub workerpool: Address,
    /// The store's folder.
    pub dir: PathBuf,
    /// The first block that can hold a deal of this pool.
    pub start_block: u64,
    /// What workers are told: where apps and datasets are read.
    pub gateway_url: String,
    /// What workers are told: where results are written.
    pub upload_url: String,
    /// What workers are told: the token for writing results.
    pub upload_token: String,
    /// What may be paid for gas.
    pub gas: GasPolicy,
    /// What time it is.
    pub clock: Clock,
    /// All open tasks are compared with the chain this often, whatever the events say.
    pub full_pass: Duration,
    /// Wallets that may work for the pool; everybody if there is no list.
    pub allowed: Option<BTreeSet<Address>>,
    /// The least machine that gets work.
    pub floor: Floor,
    /// Tasks of one deal that are on the table at once; the others follow as these end.
    pub bag: u64,
    /// How workers reconnect.
    pub reconnect: Backoff,
    /// Bytes that nobody can guess, fresh at each start: the challenges of logins derive from them.
    pub secret: B256,
}

impl Config {
    /// The usual ways of a pool: open to everybody, with wall time.
    pub fn new(workerpool: Address, dir: PathBuf) -> Self {
        Self {
            workerpool,
            dir,
            start_block: 0,
            gateway_url: String::new(),
            upload_url: String::new(),
            upload_token: String::new(),
            gas: GasPolicy::default(),
            clock: Clock::Wall,
            full_pass: Duration::from_secs(30),
            allowed: None,
            floor: Floor::default(),
            bag: 10_000,
            reconnect: Backoff::default(),
            secret: link::secret(),
        }
    }
}

/// Why a scheduler stops or does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] journal::Error),
    /// The chain cannot be read at the start.
    #[error("the scheduler cannot start")]
    Chain(#[from] bourse_chain::Error),
    /// The clock is wrong.
    #[error(transparent)]
    Clock(#[from] bourse_chain::clock::Wrong),
    /// There is no such pool.
    #[error("no workerpool {0} is registered on this chain: check the address, or create the pool first")]
    UnknownPool(Address),
    /// The key is another's.
    #[error("workerpool {workerpool} belongs to {owner}, and the key given is that of {key}: use the owner's key")]
    NotTheOwner {
        /// The pool.
        workerpool: Address,
        /// Whose it is.
        owner: Address,
        /// Whose key was given.
        key: Address,
    },
    /// The socket failed.
    #[error("the scheduler's port failed")]
    Serve(#[from] std::io::Error),
}
