//! Many workers in one process: each with its own key, its own login and its own connection, but with no machine, no
//! journal and no chain behind it. Login and WebSocket are the worker's own, numbers and heartbeats the protocol's.
//!
//! What it sees it says on stdout, one JSON document per line. It ends when its stdin does.

use super::fleet;
use crate::{failure, output};
use bourse_chain::{PrivateKeySigner, alloy::primitives::keccak256};
use bourse_protocol::{
    Address, B256,
    ids::TaskId,
    link::{self, Assignment, Backoff, Frame, Heard, Session, ToScheduler, ToWorker},
    replicate::Status,
};
use bourse_service::{
    clock::Clock,
    wire::{Broken, Wire},
};
use bourse_worker::{Identity, NotLoggedIn, WebSocket, log_in};
use clap::Args;
use eyre::WrapErr;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, interval_at, sleep},
};

/// How often the crowd says what it sees.
const TELL: Duration = Duration::from_millis(50);
/// Files that a process needs besides its connections.
const SPARE_FILES: u64 = 100;
/// Contributions that may wait to be written.
const CONTRIBUTIONS: usize = 1024;
/// Bytes of a contribution: the task and the worker.
pub(crate) const CONTRIBUTION: usize = 32 + 20;

/// Who the crowd works for.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Where the scheduler listens.
    #[arg(long)]
    pub(crate) scheduler_url: String,
    /// Its pool.
    #[arg(long)]
    pub(crate) workerpool: Address,
    /// The pool's hub.
    #[arg(long)]
    pub(crate) hub: Address,
    /// The hub's chain.
    #[arg(long)]
    pub(crate) chain_id: u64,
    /// How many.
    #[arg(long)]
    pub(crate) workers: u32,
    /// Where contributions are taken; without, workers begin with their tasks and never end.
    #[arg(long)]
    pub(crate) contribute_to: Option<SocketAddr>,
}

impl Arguments {
    /// As a command line.
    pub(crate) fn line(&self) -> Vec<String> {
        let mut line: Vec<String> = ["bench", "crowd"].map(String::from).into();
        let mut add = |name: &str, value: String| line.extend([format!("--{name}"), value]);
        add("scheduler-url", self.scheduler_url.clone());
        add("workerpool", self.workerpool.to_string());
        add("hub", self.hub.to_string());
        add("chain-id", self.chain_id.to_string());
        add("workers", self.workers.to_string());
        if let Some(address) = self.contribute_to {
            add("contribute-to", address.to_string());
        }
        line
    }
}

/// What the crowd says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Microseconds since the epoch.
    pub(crate) at: u64,
    /// Workers that are logged in now.
    pub(crate) linked: u64,
    /// Tasks that were heard to be completed, since the start.
    pub(crate) completed: u64,
    /// Heartbeats that were sent, since the start.
    pub(crate) heartbeats: u64,
    /// Logins that did not succeed, since the start.
    pub(crate) refused: u64,
    /// Why the last of them did not.
    pub(crate) refusal: Option<String>,
    /// Connections that ended, since the start.
    pub(crate) broken: u64,
    /// What was assigned since the last time: the task, and when its worker had it, in microseconds since the epoch. Not
    /// with contributions, where only the end counts.
    pub(crate) assigned: Vec<(TaskId, u64)>,
}

/// What all workers share.
struct Crowd {
    arguments: Arguments,
    network: WebSocket,
    linked: AtomicU64,
    completed: AtomicU64,
    heartbeats: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
    refusal: Mutex<Option<String>>,
    assigned: Mutex<Vec<(TaskId, u64)>>,
    contributions: Option<mpsc::Sender<Contribution>>,
}

/// A contribution, and who waits until it stands.
struct Contribution {
    task: B256,
    worker: Address,
    stands: oneshot::Sender<()>,
}

/// Runs until stdin ends.
pub(crate) async fn execute(arguments: Arguments) -> eyre::Result<()> {
    check_files(arguments.workers)?;
    let mut jobs = JoinSet::new();
    let contributions = match arguments.contribute_to {
        Some(address) => Some(contribute_to(address, &mut jobs).await?),
        None => None,
    };
    let crowd = Arc::new(Crowd {
        network: WebSocket::to(&arguments.scheduler_url)?,
        linked: AtomicU64::new(0),
        completed: AtomicU64::new(0),
        heartbeats: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        broken: AtomicU64::new(0),
        refusal: Mutex::default(),
        assigned: Mutex::default(),
        contributions,
        arguments,
    });
    for n in 0..crowd.arguments.workers {
        let crowd = crowd.clone();
        jobs.spawn(async move { Member::new(n, crowd).live().await });
    }
    let mut stdin = tokio::io::stdin();
    let (mut tick, mut nothing) = (interval(TELL), [0; 64]);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => output::data(&serde_json::to_string(&crowd.seen()).expect("what is seen serialises")),
            read = stdin.read(&mut nothing) => if !read.is_ok_and(|bytes| bytes > 0) { return Ok(()) },
        }
    }
}

/// Each connection is a file: what the system refuses is said beforehand.
pub(crate) fn check_files(connections: u32) -> eyre::Result<()> {
    use rustix::process::{Resource, getrlimit};
    let needed = u64::from(connections) + SPARE_FILES;
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < needed => Err(failure::refused(format!(
            "this process may open {limit} files and {connections} connections need {needed}: raise the hard limit (ulimit -Hn), or choose fewer --workers"
        ))),
        Some(_) | None => Ok(()),
    }
}

/// The key of a worker of the bench.
fn key(n: u32) -> PrivateKeySigner {
    let bytes = keccak256([b"bourse bench worker".as_slice(), &n.to_be_bytes()].concat());
    PrivateKeySigner::from_bytes(&bytes).expect("a hash is a key")
}

impl Crowd {
    fn seen(&self) -> Seen {
        Seen {
            at: Clock::Wall.micros(),
            linked: self.linked.load(Ordering::Relaxed),
            completed: self.completed.load(Ordering::Relaxed),
            heartbeats: self.heartbeats.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            refusal: self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            broken: self.broken.load(Ordering::Relaxed),
            assigned: std::mem::take(&mut *self.assigned.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn count_refusal(&self, refusal: &NotLoggedIn) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal.reason.clone());
    }
}

/// A worker.
struct Member {
    crowd: Arc<Crowd>,
    identity: Identity,
    /// What it has begun and not ended.
    open: BTreeSet<TaskId>,
}

impl Member {
    fn new(n: u32, crowd: Arc<Crowd>) -> Self {
        let identity = Identity {
            chain_id: crowd.arguments.chain_id,
            hub: crowd.arguments.hub,
            workerpool: crowd.arguments.workerpool,
            name: format!("bench {n}"),
            key: key(n),
            capabilities: fleet::machine(n),
        };
        Self { crowd, identity, open: BTreeSet::new() }
    }

    /// Connects, and connects again with a worker's usual pauses, for ever.
    async fn live(mut self) {
        let (mut attempt, mut reconnect, mut network) = (0, Backoff::default(), self.crowd.network.clone());
        loop {
            let asked = match log_in(&mut network, &self.identity, self.open.iter().copied().collect()).await {
                Ok((mut wire, welcome)) => {
                    (attempt, reconnect) = (0, welcome.reconnect);
                    self.crowd.linked.fetch_add(1, Ordering::Relaxed);
                    // How it ended makes no difference: a session of the crowd has one connection.
                    let _ = self.talk(&mut wire).await;
                    self.crowd.linked.fetch_sub(1, Ordering::Relaxed);
                    self.crowd.broken.fetch_add(1, Ordering::Relaxed);
                    0
                }
                Err(refusal) => {
                    self.crowd.count_refusal(&refusal);
                    attempt += 1;
                    refusal.retry_seconds * 1000
                }
            };
            let wallet = self.identity.key.address();
            let spread = Backoff { first_millis: asked, longest_millis: asked };
            let asked = if asked > 0 { asked / 2 + spread.pause_millis(attempt, wallet) } else { 0 };
            sleep(Duration::from_millis(asked.max(reconnect.pause_millis(attempt, wallet)))).await;
        }
    }

    /// A session, to the end of its connection.
    async fn talk(&mut self, wire: &mut impl Wire) -> Result<(), Broken> {
        let mut session = Session::default();
        for task in self.open.clone() {
            report(wire, &mut session, task, Status::Running).await?;
        }
        let first = Duration::from_millis(link::first_heartbeat_millis(self.identity.key.address()));
        let mut heartbeat = interval_at(Instant::now() + first, Duration::from_secs(link::HEARTBEAT_SECONDS));
        loop {
            tokio::select! {
                biased;
                _ = heartbeat.tick() => {
                    self.crowd.heartbeats.fetch_add(1, Ordering::Relaxed);
                    send(wire, &session.beat()).await?;
                }
                text = wire.receive() => {
                    let frame: Option<Frame<ToWorker>> = text?.and_then(|text| serde_json::from_str(&text).ok());
                    match frame.map(|frame| session.hear(frame)) {
                        Some(Heard::New(message)) => self.act(wire, &mut session, message).await?,
                        Some(Heard::Nothing) => {}
                        Some(Heard::Gap | Heard::Nonsense) | None => return Err(Broken::Closed),
                    }
                    if session.owes() {
                        send(wire, &session.beat()).await?;
                    }
                }
            }
        }
    }

    async fn act(
        &mut self,
        wire: &mut impl Wire,
        session: &mut Session<ToScheduler>,
        message: ToWorker,
    ) -> Result<(), Broken> {
        match message {
            ToWorker::Assign(Assignment { task, .. }) | ToWorker::GoOn { task } => {
                let at = Clock::Wall.micros();
                let new = self.open.insert(task);
                match &self.crowd.contributions {
                    Some(chain) => {
                        let (stands, standing) = oneshot::channel();
                        let contribution = Contribution { task: task.0, worker: self.identity.key.address(), stands };
                        report(wire, session, task, Status::Contributing).await?;
                        chain.send(contribution).await.map_err(|_| Broken::Closed)?;
                        standing.await.map_err(|_| Broken::Closed)?;
                        report(wire, session, task, Status::Contributed).await
                    }
                    None => {
                        self.crowd.assigned.lock().unwrap_or_else(PoisonError::into_inner).push((task, at));
                        match new {
                            true => report(wire, session, task, Status::Running).await,
                            false => Ok(()),
                        }
                    }
                }
            }
            ToWorker::Complete { task } => {
                if self.open.remove(&task) {
                    self.crowd.completed.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }
            ToWorker::Abort { task, .. } => {
                self.open.remove(&task);
                Ok(())
            }
            ToWorker::Reveal { .. } | ToWorker::Upload { .. } | ToWorker::NoWork { .. } => Ok(()),
            ToWorker::Bye { .. } => Err(Broken::Closed),
        }
    }
}

async fn report(
    wire: &mut impl Wire,
    session: &mut Session<ToScheduler>,
    task: TaskId,
    status: Status,
) -> Result<(), Broken> {
    let said = session.say(ToScheduler::Report { task, status, cause: None });
    send(wire, &said.map_err(|_| Broken::Closed)?).await
}

async fn send(wire: &mut impl Wire, frame: &Frame<ToScheduler>) -> Result<(), Broken> {
    wire.send(serde_json::to_string(frame).expect("messages serialise")).await
}

/// The way to where contributions are taken: one connection for the whole crowd, as a node would be.
async fn contribute_to(address: SocketAddr, jobs: &mut JoinSet<()>) -> eyre::Result<mpsc::Sender<Contribution>> {
    let socket = TcpStream::connect(address).await.wrap_err("cannot reach the bench's chain")?;
    socket.set_nodelay(true)?;
    let (from, to) = socket.into_split();
    let (contributions, waiting) = mpsc::channel(CONTRIBUTIONS);
    let sent = Arc::new(Mutex::new(VecDeque::new()));
    jobs.spawn(write(waiting, to, sent.clone()));
    jobs.spawn(acknowledge(from, sent));
    Ok(contributions)
}

type Sent = Arc<Mutex<VecDeque<oneshot::Sender<()>>>>;

async fn write(mut waiting: mpsc::Receiver<Contribution>, mut to: OwnedWriteHalf, sent: Sent) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, CONTRIBUTIONS).await > 0 {
        let mut bytes = Vec::with_capacity(batch.len() * CONTRIBUTION);
        for Contribution { task, worker, stands } in batch.drain(..) {
            bytes.extend_from_slice(task.as_slice());
            bytes.extend_from_slice(worker.as_slice());
            sent.lock().unwrap_or_else(PoisonError::into_inner).push_back(stands);
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// One byte for each contribution that stands, in their order.
async fn acknowledge(mut from: OwnedReadHalf, sent: Sent) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        for stands in sent.lock().unwrap_or_else(PoisonError::into_inner).drain(..count) {
            // Its worker may have lost its connection.
            let _ = stands.send(());
        }
    }
}
