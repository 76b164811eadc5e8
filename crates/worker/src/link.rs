//! The worker's end of the link: connect, log in, exchange numbered messages, connect again.
//!
//! Nothing here decides anything. A broken connection loses nothing: the session goes on over the next one. When either
//! side has forgotten the session, everything that still holds is said again, from the journal. The scheduler may be
//! hostile: sizes, rates and waits are bounded.

mod websocket;

use crate::{
    Error,
    context::{Board, Services},
    owner::Owner,
    store::{Record, Store},
};
use bourse_chain::PrivateKeySigner;
use bourse_protocol::{
    Address, B256, Bytes,
    ids::TaskId,
    link::{
        self, Backoff, Capabilities, Frame, Greeting, Heard, Knock, Login, Resume, Session, ToScheduler, ToWorker,
        Welcome,
    },
    replicate::Status,
};
use bourse_service::wire::{Broken, Wire};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeSet, VecDeque},
    future::Future,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, interval_at, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
pub use websocket::{Socket, WebSocket};

/// Each step of connecting and logging in, and each message sent, must end within this time.
const STEP: Duration = Duration::from_secs(10);
/// So many messages without meaning end a connection.
const MAX_NONSENSE: u32 = 16;
/// Ended replicates that are said again when a session begins.
const ENDED_AGAIN: u32 = 64;
/// Messages that may be on their way without an acknowledgement: far below what ends a session, far above what the scheduler
/// acknowledges at once. The others wait.
const ON_THE_WAY: usize = link::MAX_UNACKNOWLEDGED / 4;
/// When so many wait the scheduler acknowledges nothing: its session is over. All open replicates said again are less.
const MAX_WAITING: usize = 4_096;
/// No scheduler makes a worker wait longer, in seconds.
const LONGEST_WAIT: u64 = 600;

/// The way to the scheduler.
pub trait Dial: Send + 'static {
    /// A connection.
    type Wire: Wire;

    /// Connects, with what the scheduler is told on the way.
    fn dial(&mut self, knock: Knock) -> impl Future<Output = Result<Self::Wire, Broken>> + Send;
}

/// Who logs in, and where.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The chain of the hub.
    pub chain_id: u64,
    /// The hub.
    pub hub: Address,
    /// The pool. Its scheduler must say that it is the one.
    pub workerpool: Address,
    /// A name for people.
    pub name: String,
    /// The worker's wallet.
    pub key: PrivateKeySigner,
    /// What the machine can do.
    pub capabilities: Capabilities,
}

/// A login that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotLoggedIn {
    /// Why, in words.
    pub reason: String,
    /// When the scheduler wants to see this worker again, in seconds; 0 if it did not say.
    pub retry_seconds: u64,
}

/// Connects and logs in, to a new session: the beginning of a link with no worker behind it, such as those of a bench. With
/// no chain behind it either, whoever answers is taken for the pool's scheduler. `holds`: see [`Login::holds`].
pub async fn log_in<D: Dial>(
    network: &mut D,
    identity: &Identity,
    holds: Vec<TaskId>,
) -> Result<(D::Wire, Welcome), NotLoggedIn> {
    let last = Last { resume: None, draining: false, holds };
    Box::pin(open(network, identity, None, last)).await.map_err(|lost| {
        let source = std::error::Error::source(&lost).map(|source| format!(": {source}")).unwrap_or_default();
        NotLoggedIn { reason: format!("{lost}{source}"), retry_seconds: lost.retry_seconds() }
    })
}

/// What a worker says of the connections before.
struct Last {
    /// The session that they left.
    resume: Option<Resume>,
    draining: bool,
    /// Tasks that it has from them.
    holds: Vec<TaskId>,
}

/// The loop that keeps the worker connected.
pub(crate) struct Link {
    identity: Identity,
    /// Who signs what the pool's scheduler says of itself.
    owner: Owner,
    store: Store,
    /// Reports to deliver.
    reports: mpsc::Receiver<ToScheduler>,
    /// Messages for the worker.
    inbox: mpsc::Sender<ToWorker>,
    /// What the latest login brought.
    services: Arc<Board>,
    /// Replicates of an earlier life, until the scheduler is told that they go on.
    recovering: BTreeSet<TaskId>,
    /// The session and its name, from the first login to the moment when either side forgets it.
    session: Option<(u64, Session<ToScheduler>)>,
    /// What the session still has to say, in this order.
    waiting: VecDeque<ToScheduler>,
    /// The worker takes no more work.
    draining: bool,
    reconnect: Backoff,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("cannot connect")]
    Connect(#[source] Broken),
    #[error("the scheduler does not answer in time")]
    Silent,
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("a message of the scheduler is missing")]
    Gap,
    #[error("the scheduler is busy: {reason}")]
    Busy { reason: String, retry_seconds: u64 },
    #[error("the scheduler refuses this worker: {reason}")]
    Refused { reason: String, retry_seconds: u64 },
    #[error("this is not the scheduler of pool {expected}: {found}; check the scheduler's URL and the pool's address")]
    Stranger { expected: Address, found: String },
    #[error(
        "what answers is not signed by {owner}, who owns pool {workerpool}, and so is not its scheduler: check the scheduler's URL with the pool's operator"
    )]
    Impostor { workerpool: Address, owner: Address },
    #[error("cannot read who owns the pool")]
    Chain(#[from] bourse_chain::Error),
    #[error("the scheduler sends what makes no sense")]
    Nonsense,
    #[error("the scheduler sends faster than a worker can act")]
    Flood,
    #[error("the scheduler acknowledges nothing")]
    Deaf,
    #[error(transparent)]
    Journal(#[from] bourse_service::journal::Error),
}

impl Lost {
    /// When the scheduler wants to see this worker again, in seconds.
    fn retry_seconds(&self) -> u64 {
        match self {
            Self::Busy { retry_seconds, .. } | Self::Refused { retry_seconds, .. } => *retry_seconds,
            Self::Connect(_)
            | Self::Silent
            | Self::Broken(_)
            | Self::Gap
            | Self::Stranger { .. }
            | Self::Impostor { .. }
            | Self::Chain(_)
            | Self::Nonsense
            | Self::Flood
            | Self::Deaf
            | Self::Journal(_) => 0,
        }
    }

    /// Whether the session can go on over another connection.
    fn keeps_session(&self) -> bool {
        match self {
            // What an impostor does is nothing that the pool's scheduler did.
            Self::Connect(_)
            | Self::Silent
            | Self::Broken(_)
            | Self::Gap
            | Self::Busy { .. }
            | Self::Impostor { .. }
            | Self::Chain(_) => true,
            Self::Refused { .. }
            | Self::Stranger { .. }
            | Self::Nonsense
            | Self::Flood
            | Self::Deaf
            | Self::Journal(_) => false,
        }
    }
}

impl Link {
    pub(crate) fn new(
        (identity, owner): (Identity, Owner),
        store: Store,
        reports: mpsc::Receiver<ToScheduler>,
        inbox: mpsc::Sender<ToWorker>,
        services: Arc<Board>,
        recovering: BTreeSet<TaskId>,
    ) -> Self {
        let (session, waiting, draining, reconnect) = (None, VecDeque::new(), false, Backoff::default());
        Self { identity, owner, store, reports, inbox, services, recovering, session, waiting, draining, reconnect }
    }

    /// Runs until `shutdown`; an error of the journal ends it earlier.
    pub(crate) async fn run(mut self, mut network: impl Dial, shutdown: CancellationToken) -> Result<(), Error> {
        let mut attempt = 0;
        loop {
            let mut linked = false;
            let lost = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                lost = Box::pin(self.connection(&mut network, &mut linked)) => lost.err().unwrap_or(Broken::Closed.into()),
            };
            if let Lost::Journal(error) = lost {
                return Err(error.into());
            }
            if !lost.keeps_session() {
                self.forget_session();
            }
            attempt = if linked { 0 } else { attempt + 1 };
            let wait = self.pause(attempt, lost.retry_seconds());
            let cause = std::error::Error::source(&lost).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(error = %lost, cause, seconds = wait.as_secs_f32(), "not linked; trying again");
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = self.keep_reports_for(wait) => {}
            }
        }
    }

    /// What the scheduler asked for, spread, or the usual steps.
    fn pause(&self, attempt: u32, retry_seconds: u64) -> Duration {
        let asked = retry_seconds.min(LONGEST_WAIT) * 1000;
        let wallet = self.identity.key.address();
        let spread = Backoff { first_millis: asked, longest_millis: asked };
        let asked = if asked > 0 { asked / 2 + spread.pause_millis(attempt, wallet) } else { 0 };
        Duration::from_millis(asked.max(self.reconnect.pause_millis(attempt, wallet)))
    }

    /// While nobody listens, reports wait for the session to go on.
    async fn keep_reports_for(&mut self, wait: Duration) {
        let wait = sleep(wait);
        tokio::pin!(wait);
        loop {
            tokio::select! {
                biased;
                () = &mut wait => return,
                Some(report) = self.reports.recv() => {
                    if self.keep(report).is_err() {
                        self.forget_session();
                    }
                }
            }
        }
    }

    /// Puts a report where the session says it. Without one it falls away: the next login says what holds then.
    fn keep(&mut self, report: ToScheduler) -> Result<(), Lost> {
        self.draining |= report == ToScheduler::Draining;
        match self.session {
            None => Ok(()),
            Some(_) if self.waiting.len() >= MAX_WAITING => Err(Lost::Deaf),
            Some(_) => {
                self.waiting.push_back(report);
                Ok(())
            }
        }
    }

    fn forget_session(&mut self) {
        self.session = None;
        self.waiting.clear();
    }

    /// One connection from start to end. Replicates that report meanwhile are not held up by a slow login.
    async fn connection(&mut self, network: &mut impl Dial, linked: &mut bool) -> Result<(), Lost> {
        let resume = self.session.as_ref().map(|(session, s)| Resume { session: *session, received: s.received() });
        let holds = self.store.open()?.iter().map(Record::task).take(link::MAX_HELD).collect();
        let last = Last { resume, draining: self.draining, holds };
        let (opened, meanwhile) = {
            let (opening, mut meanwhile) = (open(network, &self.identity, Some(&mut self.owner), last), vec![]);
            tokio::pin!(opening);
            loop {
                tokio::select! {
                    biased;
                    opened = &mut opening => break (opened, meanwhile),
                    Some(report) = self.reports.recv() => meanwhile.push(report),
                }
            }
        };
        meanwhile.into_iter().try_for_each(|report| self.keep(report))?;
        let (mut wire, welcome) = opened?;
        *linked = true;
        self.reconnect = sane(welcome.reconnect);
        let services = Services {
            gateway_url: welcome.gateway_url,
            upload_url: welcome.upload_url,
            upload_token: welcome.upload_token,
        };
        self.services.write(services);
        let resumed = welcome.resumed && self.session.as_ref().is_some_and(|(name, _)| *name == welcome.session);
        tracing::info!(worker = %self.identity.key.address(), resumed, "linked to the scheduler");
        match resumed {
            true => self.say_missed(&mut wire, welcome.received).await?,
            false => self.begin(welcome.session)?,
        }
        self.talk(&mut wire).await
    }

    async fn say_missed(&mut self, wire: &mut impl Wire, received: u64) -> Result<(), Lost> {
        let Some((_, session)) = &mut self.session else { return Ok(()) };
        for frame in session.resume(received).map_err(|_| Lost::Nonsense)? {
            send(wire, &frame).await?;
        }
        Ok(())
    }

    /// A new session: where every replicate stands is to be said.
    fn begin(&mut self, name: u64) -> Result<(), Lost> {
        // What they say of replicates is in the journal.
        while let Ok(report) = self.reports.try_recv() {
            self.draining |= report == ToScheduler::Draining;
        }
        self.forget_session();
        self.session = Some((name, Session::default()));
        // It may have begun after the login.
        self.waiting.extend(self.draining.then_some(ToScheduler::Draining));
        let records: Vec<_> = self.store.ended(ENDED_AGAIN)?.into_iter().chain(self.store.open()?).collect();
        self.recovering.retain(|task| records.iter().any(|record| record.task() == *task));
        for record in records {
            let task = record.task();
            if self.recovering.contains(&task) {
                self.waiting.push_back(ToScheduler::Report { task, status: Status::Recovering, cause: None });
            }
            self.waiting.push_back(ToScheduler::Report { task, status: record.status, cause: record.cause });
            self.waiting.extend(record.link.map(|link| ToScheduler::Uploaded { task, link }));
        }
        Ok(())
    }

    /// Says what waits, as far as the scheduler has acknowledged what was said before.
    async fn say_waiting(&mut self, wire: &mut impl Wire) -> Result<(), Lost> {
        while let Some((_, session)) = &mut self.session
            && session.waiting() < ON_THE_WAY
            && let Some(message) = self.waiting.pop_front()
        {
            if let ToScheduler::Report { task, status: Status::Recovering, .. } = &message {
                self.recovering.remove(task);
            }
            let frame = session.say(message).map_err(|_| Lost::Deaf)?;
            send(wire, &frame).await?;
        }
        Ok(())
    }

    async fn talk(&mut self, wire: &mut impl Wire) -> Result<(), Lost> {
        let first = Duration::from_millis(link::first_heartbeat_millis(self.identity.key.address()));
        let mut heartbeat = interval_at(Instant::now() + first, Duration::from_secs(link::HEARTBEAT_SECONDS));
        let (mut heard, mut nonsense) = (Instant::now(), 0);
        loop {
            self.say_waiting(wire).await?;
            tokio::select! {
                biased;
                _ = heartbeat.tick() => {
                    if heard.elapsed() > Duration::from_secs(link::LOST_SECONDS) {
                        return Err(Lost::Silent);
                    }
                    self.beat(wire).await?;
                }
                text = wire.receive() => {
                    heard = Instant::now();
                    match parse(text?) {
                        Some(frame) => self.hear(wire, frame).await?,
                        None => nonsense += 1,
                    }
                    if nonsense > MAX_NONSENSE {
                        return Err(Lost::Nonsense);
                    }
                }
                Some(report) = self.reports.recv() => self.keep(report)?,
            }
        }
    }

    async fn beat(&mut self, wire: &mut impl Wire) -> Result<(), Lost> {
        let Some((_, session)) = &mut self.session else { return Ok(()) };
        let frame = session.beat();
        send(wire, &frame).await
    }

    async fn hear(&mut self, wire: &mut impl Wire, frame: Frame<ToWorker>) -> Result<(), Lost> {
        let Some((_, session)) = &mut self.session else { return Ok(()) };
        match session.hear(frame) {
            Heard::New(ToWorker::Bye { reason, retry_seconds }) => {
                return Err(Lost::Refused { reason: printable(&reason), retry_seconds });
            }
            Heard::New(message) => self.inbox.try_send(message).map_err(|_| Lost::Flood)?,
            Heard::Nothing => {}
            Heard::Gap => return Err(Lost::Gap),
            Heard::Nonsense => return Err(Lost::Nonsense),
        }
        match self.session.as_ref().is_some_and(|(_, session)| session.owes()) {
            true => self.beat(wire).await,
            false => Ok(()),
        }
    }
}

/// What a scheduler may ask for, within reason.
fn sane(backoff: Backoff) -> Backoff {
    let longest_millis = backoff.longest_millis.clamp(1_000, LONGEST_WAIT * 1000);
    Backoff { first_millis: backoff.first_millis.clamp(50, longest_millis), longest_millis }
}

/// Connects and logs in, if it is the scheduler of the pool's owner that answers.
async fn open<D: Dial>(
    network: &mut D,
    identity: &Identity,
    owner: Option<&mut Owner>,
    last: Last,
) -> Result<(D::Wire, Welcome), Lost> {
    let knock = Knock { nonce: B256::from(rand::random::<[u8; 32]>()) };
    let mut wire = timeout(STEP, network.dial(knock)).await.map_err(|_| Lost::Silent)?.map_err(Lost::Connect)?;
    let Challenge { version, nonce, signature, proof } = challenge(identity, greeting(&mut wire).await?)?;
    if let Some(owner) = owner {
        let Identity { chain_id, hub, workerpool, .. } = *identity;
        let challenge = link::challenge(chain_id, hub, workerpool, nonce, knock);
        let signed = match link::challenge_root(challenge, &proof) {
            Some(root) => owner.signed(&link::challenge_message(root), &signature).await?,
            None => false,
        };
        if !signed {
            return Err(Lost::Impostor { workerpool, owner: owner.address() });
        }
    }
    let address = identity.key.address();
    let text = link::login_message(identity.chain_id, identity.hub, identity.workerpool, nonce, address);
    let signature = identity.key.sign_message(&text);
    let login = Login {
        version,
        address,
        name: identity.name.clone(),
        signature: signature.as_bytes().to_vec().into(),
        capabilities: identity.capabilities.clone(),
        resume: last.resume,
        draining: last.draining,
        holds: last.holds,
    };
    send(&mut wire, &login).await?;
    match greeting(&mut wire).await? {
        Greeting::Welcome(welcome) => Ok((wire, welcome)),
        Greeting::Busy { reason, retry_seconds } => Err(Lost::Busy { reason: printable(&reason), retry_seconds }),
        Greeting::Refused { reason, retry_seconds } => Err(Lost::Refused { reason: printable(&reason), retry_seconds }),
        Greeting::Challenge { .. } => Err(Lost::Nonsense),
    }
}

/// What a scheduler challenges with.
struct Challenge {
    /// The vocabulary to speak.
    version: u32,
    nonce: B256,
    signature: Bytes,
    proof: Vec<B256>,
}

/// The challenge, if it is that of the pool this worker works for.
fn challenge(identity: &Identity, greeting: Greeting) -> Result<Challenge, Lost> {
    let stranger = |found: String| Lost::Stranger { expected: identity.workerpool, found };
    match greeting {
        Greeting::Challenge { oldest_version, version, nonce, workerpool, hub, chain_id, signature, proof } => {
            if (workerpool, hub, chain_id) != (identity.workerpool, identity.hub, identity.chain_id) {
                return Err(stranger(format!("it runs pool {workerpool} of hub {hub} on chain {chain_id}")));
            }
            let version = link::common_version(oldest_version, version).ok_or_else(|| {
                let (oldest, newest) = (link::OLDEST_VERSION, link::VERSION);
                stranger(format!(
                    "it speaks versions {oldest_version} to {version} and this worker {oldest} to {newest}"
                ))
            })?;
            Ok(Challenge { version, nonce, signature, proof })
        }
        Greeting::Busy { reason, retry_seconds } => Err(Lost::Busy { reason: printable(&reason), retry_seconds }),
        Greeting::Refused { reason, retry_seconds } => Err(Lost::Refused { reason: printable(&reason), retry_seconds }),
        Greeting::Welcome(_) => Err(Lost::Nonsense),
    }
}

async fn greeting(wire: &mut impl Wire) -> Result<Greeting, Lost> {
    let text = timeout(STEP, wire.receive()).await.map_err(|_| Lost::Silent)??;
    parse(text).ok_or(Lost::Nonsense)
}

async fn send(wire: &mut impl Wire, message: &impl Serialize) -> Result<(), Lost> {
    let text = serde_json::to_string(message).expect("messages always serialise");
    Ok(timeout(STEP, wire.send(text)).await.map_err(|_| Lost::Silent)??)
}

/// The message, if it makes sense.
fn parse<T: DeserializeOwned>(text: Option<String>) -> Option<T> {
    let message = serde_json::from_str(&text?);
    if let Err(error) = &message {
        tracing::warn!(%error, "a message of the scheduler makes no sense");
    }
    message.ok()
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests;
