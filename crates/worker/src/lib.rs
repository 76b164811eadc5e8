//! Sells machine time: takes replicates from a pool's scheduler, runs apps, contributes, reveals, uploads.
//!
//! A worker has one wallet and one folder. It trusts nobody: apps run in a sandbox ([`wasm`]), downloads are checked
//! against the chain, the scheduler's messages are wishes, and the chain alone says what is owed. It never relies on the
//! scheduler where its stake is at risk: it sees by itself when to reveal.
//!
//! Invariant: what could cost money is in the journal before it is done; `kill -9` at any point is followed by going on.
//!
//! Not here: claiming refunds, and whatever needs the pool owner's key (scheduler).

mod checks;
mod compute;
mod context;
mod fetch;
mod folder;
mod link;
mod machine;
mod owner;
mod replicate;
mod service;
mod store;
mod task;
mod upload;
pub mod wasm;

pub use link::{Dial, Identity, NotLoggedIn, Socket, WebSocket, log_in};
pub use machine::StandIn;
pub use service::{SCHEMA, Service};

use bourse_chain::GasPolicy;
use bourse_protocol::{Address, U256};
use bourse_service::{clock::Clock, journal};
use std::{io, path::PathBuf, time::Duration};

/// How a worker works.
#[derive(Clone, Debug)]
pub struct Config {
    /// A name for people.
    pub name: String,
    /// Where the scheduler listens: `ws://host:port`.
    pub scheduler_url: String,
    /// The pool to work for. Its scheduler must say that it is the one.
    pub workerpool: Address,
    /// The worker's folder: journal, running tasks, downloads.
    pub dir: PathBuf,
    /// Tasks that are computed at once.
    pub slots: u32,
    /// A machine with fewer processors is refused.
    pub min_cpus: u32,
    /// What a run may use. Its time is the deal's category, not [`wasm::Limits::wall`]. All workers of a pool need the
    /// same limits, or a task that reaches one of them ends differently on each.
    pub limits: wasm::Limits,
    /// What transactions may cost.
    pub gas: GasPolicy,
    /// What one task may download as dataset and input files, all together, in bytes.
    pub download_limit: u64,
    /// Bytes of the disk that downloads leave free, a twentieth of a small one: journal and results need room when the stake
    /// is locked already.
    pub disk_reserve: u64,
    /// Downloads kept for later tasks, in bytes.
    pub cache_limit: u64,
    /// Whether datasets and input files may lie at URLs of private networks. The gateway may in any case.
    pub private_urls: bool,
    /// How often the chain is asked about tasks that wait for others.
    pub poll: Duration,
    /// The first try of an upload may take so long, and each further one twice as long as the one before: a result store
    /// that hangs must not hold a worker up, and a large result on a slow line must get through.
    pub upload_patience: Duration,
    /// A run takes so long at least: the rest is waited for. For replays of work that was harder than what they run.
    pub at_least: Duration,
    /// Lie: skip the run and contribute an answer of its own invention. For demonstrations of what becomes of liars.
    pub forge: bool,
    /// The time.
    pub clock: Clock,
}

impl Config {
    /// An honest worker with one slot.
    pub fn new(name: impl Into<String>, scheduler_url: impl Into<String>, workerpool: Address, dir: PathBuf) -> Self {
        Self {
            name: name.into(),
            scheduler_url: scheduler_url.into(),
            workerpool,
            dir,
            slots: 1,
            min_cpus: 2,
            limits: wasm::Limits::default(),
            gas: GasPolicy::default(),
            download_limit: 1 << 30,
            disk_reserve: 256 << 20,
            cache_limit: 2 << 30,
            private_urls: false,
            poll: Duration::from_secs(1),
            upload_patience: Duration::from_secs(60),
            at_least: Duration::ZERO,
            forge: false,
            clock: Clock::Wall,
        }
    }
}

/// Why a worker does not start, or stops.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The scheduler's address cannot be used.
    #[error("{url:?} is not the address of a scheduler: write ws://host:port")]
    SchedulerUrl {
        /// As given.
        url: String,
    },
    /// No such pool.
    #[error("workerpool {workerpool} is not registered with hub {hub}: check both addresses")]
    UnknownPool {
        /// As given.
        workerpool: Address,
        /// As given.
        hub: Address,
    },
    /// Nothing to stake.
    #[error(
        "worker {wallet} has no deposit and its pool asks for {percent} % of a task's price as stake: deposit RLC first"
    )]
    NoDeposit {
        /// The worker's wallet.
        wallet: Address,
        /// The pool's worker stake, in percent.
        percent: U256,
    },
    /// Nothing to pay transactions with.
    #[error("worker {wallet} has {have} wei and one task may take {needed} wei of gas: send ether to it")]
    NoGas {
        /// The worker's wallet.
        wallet: Address,
        /// Wei for contribute and reveal at the present price.
        needed: U256,
        /// Wei in the wallet.
        have: U256,
    },
    /// The machine is too small.
    #[error("this machine has {have} processors and a worker needs {needed}: use a larger one, or lower --min-cpus")]
    TooFewCpus {
        /// Processors that this process may use.
        have: u32,
        /// The configured minimum.
        needed: u32,
    },
    /// The clock is wrong.
    #[error(transparent)]
    Clock(#[from] bourse_chain::clock::Wrong),
    /// The worker's folder cannot be used.
    #[error("cannot use the worker's folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The worker's store failed.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The chain could not be read.
    #[error(transparent)]
    Chain(#[from] bourse_chain::Error),
    /// Another process sends from the worker's key.
    #[error(transparent)]
    KeyInUse(#[from] bourse_chain::KeyInUse),
    /// A defect of this program.
    #[error("the worker crashed: {0}; please report it, and start it again: it goes on where it was")]
    Crashed(String),
}
