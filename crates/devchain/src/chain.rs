//! The running chain: opening it, and the queue in front of its one writer.
//!
//! Requests that change something put a job in the queue. Whoever gets the writer runs all jobs that wait and
//! commits them together, so that many small transactions share one write to the disk. There is no task of its own
//! to start or stop, and under tokio's paused clock time does not pass while a job runs.

use crate::block::Block;
use crate::builder::empty_header;
use crate::clock::Alarm;
use crate::config::{Config, Mining};
use crate::error::Error;
use crate::pool::{Change, Pool};
use crate::published::{Published, Shared, Time};
use crate::rpc::error::RpcError;
use crate::state::{Account, Key, Value, World};
use crate::state_root::StateTries;
use crate::store::{Commit, Loaded, Settings, Store, StoreError};
use crate::writer::Writer;
use alloy::consensus::{EMPTY_OMMER_ROOT_HASH, Header};
use alloy_primitives::Bytes;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, Semaphore, oneshot};
use tokio::task::JoinError;

/// Most jobs that share a commit.
const MAX_BATCH: usize = 512;
/// Most calls that run at once, so that they leave a thread to the rest of the process.
const MAX_CALLS: usize = 4;

/// A handle to the running chain, cheap to clone. The chain stops when the last one is dropped; what it has
/// acknowledged is on disk at any time.
#[derive(Clone)]
pub struct Chain(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    /// Limits the calls that run at once.
    pub(crate) calls: Arc<Semaphore>,
    entrance: Arc<Entrance>,
    ticker: Ticker,
    inline: bool,
}

/// The queue and the writer behind it.
struct Entrance {
    queue: Mutex<VecDeque<Job>>,
    writer: Arc<AsyncMutex<Writer>>,
    inline: bool,
}

/// Does its work, then is told whether it was stored.
type Job = Box<dyn FnOnce(&mut Writer) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<(), RpcError>) + Send>;

impl std::fmt::Debug for Chain {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head = self.0.shared.head();
        write!(formatter, "Chain {{ id: {}, head: {} }}", self.0.shared.chain_id, head.number())
    }
}

impl Chain {
    /// Opens the chain in the configured folder, or makes a new one there or in memory.
    ///
    /// # Errors
    ///
    /// The folder cannot be used, is in use, belongs to another chain id or is damaged; a setting makes no sense.
    pub fn open(config: Config) -> Result<Self, Error> {
        if config.block_gas_limit < 1_000_000 {
            return Err(Error::Config("the block gas limit must be at least 1,000,000"));
        }
        crate::evm::remember_signers();
        let store = match &config.copy_of {
            Some(chain) => chain.0.shared.store.copy()?,
            None => Store::open(config.data_dir.as_deref(), config.chain_id)?,
        };
        let broken = |error: StoreError| match &config.data_dir {
            Some(folder) => Error::from_store(&folder.join("chain.sqlite"), error),
            None => Error::Memory(error.into()),
        };
        let loaded = match store.load(config.history).map_err(broken)? {
            Some(loaded) => loaded,
            None => create(&store, &config).map_err(broken)?,
        };
        let Loaded { world, head, settings, state_root, waiting } = loaded;
        let mut tries = StateTries::of(&world);
        if tries.root() != state_root {
            return Err(broken(crate::codec::DecodeError::new("state", "its root does not match").into()));
        }
        let (mut pool, mut published_pool) = (Pool::default(), Pool::default());
        for change in waiting.into_iter().map(Change::Added) {
            pool.apply(&change);
            published_pool.apply(&change);
        }
        let Settings { time_offset, generation, last_version, .. } = settings;
        let time = Time { offset: time_offset, generation, ..Time::default() };
        let published = Published::new(head, world.version(), published_pool, time);
        let shared = Arc::new(Shared::new(&config, store, Arc::new(RwLock::new(world)), published));
        let writer = Writer::new(shared.clone(), &config, tries, pool, last_version);
        Self::start(shared, writer, &config)
    }

    fn start(shared: Arc<Shared>, writer: Writer, config: &Config) -> Result<Self, Error> {
        let (queue, writer, inline) = (Mutex::default(), Arc::new(AsyncMutex::new(writer)), config.inline);
        let entrance = Arc::new(Entrance { queue, writer, inline });
        let ticker = Ticker::new(shared.clone(), entrance.clone());
        let calls = Arc::new(Semaphore::new(MAX_CALLS));
        let chain = Self(Arc::new(Inner { shared, calls, entrance, ticker, inline }));
        match config.mining {
            Mining::OnDemand => {}
            Mining::Interval(every) if every.is_zero() => {
                return Err(Error::Config("the mining interval must not be zero"));
            }
            Mining::Interval(every) => chain.mine_every(Some(every)).map_err(Error::Thread)?,
        }
        Ok(chain)
    }

    /// Starts, changes or (with `None`) stops mining on an interval.
    pub(crate) fn mine_every(&self, interval: Option<Duration>) -> std::io::Result<()> {
        self.0.ticker.set(interval)
    }

    /// Runs a job on the writer and answers once what it did is stored.
    pub(crate) async fn change<T, F>(&self, job: F) -> Result<T, RpcError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Writer) -> Result<T, RpcError> + Send + 'static,
    {
        let (sender, mut receiver) = oneshot::channel();
        self.0.entrance.push(Box::new(move |writer| {
            let result = job(writer);
            // The one who asked may have gone away.
            Box::new(move |stored| drop(sender.send(result.and_then(|value| stored.map(|()| value)))))
        }));
        loop {
            let writer = self.0.entrance.writer.clone();
            tokio::select! {
                biased;
                answer = &mut receiver => return answer.unwrap_or_else(|_| Err(RpcError::internal("the writer failed"))),
                writer = writer.lock_owned() => self.0.entrance.run(writer).await,
            }
        }
    }

    /// Runs blocking work beside the async tasks, or right here where there is no beside.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RpcError> {
        beside(self.0.inline, work).await.map_err(RpcError::internal)
    }

    /// Waits until no change is in the making.
    pub(crate) async fn settle(&self) {
        drop(self.0.entrance.writer.lock().await);
    }
}

async fn beside<T: Send + 'static>(inline: bool, work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    if inline || tokio::runtime::Handle::try_current().is_err() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}

/// A number that no other chain has.
fn mark(chain_id: u64) -> Bytes {
    Bytes::copy_from_slice(&RandomState::new().hash_one(chain_id).to_be_bytes())
}

impl Entrance {
    fn push(&self, job: Job) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(job);
    }

    fn take(&self) -> Vec<Job> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = queue.len().min(MAX_BATCH);
        queue.drain(..count).collect()
    }

    async fn run(&self, mut writer: OwnedMutexGuard<Writer>) {
        let jobs = self.take();
        match beside(self.inline, move || work(&mut writer, jobs)).await {
            Ok(()) => {}
            // The process is stopping: nothing was begun, and whoever asked learns it from the dropped answer.
            Err(error) if error.is_cancelled() => {}
            Err(error) => tracing::error!(%error, "the writer failed"),
        }
    }
}

/// Runs jobs, commits, and tells each of them how it went.
fn work(writer: &mut Writer, jobs: Vec<Job>) {
    if jobs.is_empty() {
        return;
    }
    let attempt = AssertUnwindSafe(|| {
        let answers: Vec<Answer> = jobs.into_iter().map(|job| job(writer)).collect();
        (writer.commit().map_err(RpcError::from), answers)
    });
    match catch_unwind(attempt) {
        Ok((stored, answers)) => answers.into_iter().for_each(|answer| answer(stored.clone())),
        Err(panic) => {
            // The jobs' askers learn it from their dropped answers.
            writer.roll_back();
            resume_unwind(panic);
        }
    }
}

/// Stores a genesis block.
fn create(store: &Store, config: &Config) -> Result<Loaded, StoreError> {
    let mut world = World::default();
    for (address, balance) in config.genesis.iter().filter(|(_, balance)| !balance.is_zero()) {
        let account = Account { balance: *balance, ..Account::default() };
        world.put(Key::Account(*address), Value::Account(Some(account)));
    }
    let state_root = StateTries::of(&world).root();
    let header = Header {
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: config.coinbase,
        state_root,
        gas_limit: config.block_gas_limit,
        timestamp: config.clock.now(),
        base_fee_per_gas: Some(config.genesis_base_fee),
        extra_data: if config.distinct { mark(config.chain_id) } else { Bytes::new() },
        ..empty_header()
    };
    let head = Arc::new(Block::new(header, Vec::new(), Vec::new(), 0));
    world.set_block_hash(0, head.hash);
    let accounts = world.accounts.iter();
    let values = accounts.map(|(address, account)| (Key::Account(*address), Value::Account(Some(*account)))).collect();
    store.commit(&Commit { added: std::slice::from_ref(&head), values, state_root, ..Commit::default() })?;
    Ok(Loaded { world, head, settings: Settings::default(), state_root, waiting: Vec::new() })
}

/// The thread that mines on an interval, from the first one on; it sleeps when there is none.
struct Ticker {
    state: Arc<TickerState>,
    shared: Arc<Shared>,
    entrance: Arc<Entrance>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct TickerState {
    /// Milliseconds; zero when mining on an interval is off.
    interval: AtomicU64,
    /// Counts changes of the interval.
    changes: AtomicU64,
    stopped: AtomicBool,
    alarm: Arc<Alarm>,
}

impl Ticker {
    fn new(shared: Arc<Shared>, entrance: Arc<Entrance>) -> Self {
        Self { state: Arc::default(), shared, entrance, thread: Mutex::default() }
    }

    fn set(&self, interval: Option<Duration>) -> std::io::Result<()> {
        let milliseconds =
            interval.map_or(0, |interval| u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1));
        self.state.interval.store(milliseconds, Ordering::SeqCst);
        self.state.changes.fetch_add(1, Ordering::SeqCst);
        self.state.alarm.ring();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() && interval.is_some() {
            let (state, shared, entrance) = (self.state.clone(), self.shared.clone(), self.entrance.clone());
            let builder = std::thread::Builder::new().name("devchain-ticker".into()).stack_size(512 << 10);
            *thread = Some(builder.spawn(move || tick(&state, &shared, &entrance))?);
        }
        Ok(())
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        self.state.alarm.ring();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn tick(state: &TickerState, shared: &Shared, entrance: &Entrance) {
    let mut changes = u64::MAX;
    let mut due = u64::MAX;
    while !state.stopped.load(Ordering::SeqCst) {
        let interval = state.interval.load(Ordering::SeqCst);
        let now = shared.clock.now_milliseconds();
        let latest = state.changes.load(Ordering::SeqCst);
        if latest != changes {
            changes = latest;
            due = if interval == 0 { u64::MAX } else { now.saturating_add(interval) };
        }
        if interval > 0 && now >= due {
            let mut writer = entrance.writer.blocking_lock();
            writer.mine_one();
            // A full disk is logged by the commit; the next tick tries again.
            let _ = writer.commit();
            due = now.saturating_add(interval);
        }
        shared.clock.sleep_until(due, &state.alarm);
    }
}
