//! The workers' link: login, then a session of numbered messages. One task per connection; a slow or hostile worker
//! hurts only itself: size, rate, queue and the time of every step are bounded.

mod notary;
mod websocket;

use crate::{bucket::Bucket, crew::Admission};
use bourse_chain::{PrivateKeySigner, keys};
use bourse_protocol::{
    Address, B256,
    ids::TaskId,
    link::{
        self, Assignment, Capabilities, Frame, Greeting, Heard, Knock, Login, Resume, Session, ToScheduler, ToWorker,
    },
    signature,
};
use bourse_service::{
    clock::Clock,
    wire::{Broken, Wire},
};
use notary::{Notary, Signed};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tracing::debug;
pub(crate) use websocket::upgrade;

/// Messages that may wait for one worker's connection; one more and it is closed.
pub(crate) const QUEUE: usize = 256;
/// Each step of a login, and each message that is sent, must end within this time.
const STEP: Duration = Duration::from_secs(10);
/// Logins that may be under way at once: a whole pool comes back when its scheduler was away, and whoever is asked to come
/// again later waits longer than the login takes.
const LOGINS: usize = 16_384;
/// Who comes while so many log in is asked to wait this long, in seconds.
const BUSY: u64 = 2;
/// Who sent nonsense is asked to stay away this long, in seconds.
const OFFENDED: u64 = 30;
/// A connection that is silent for so long is dead: heartbeats come much more often.
const SILENCE: Duration = Duration::from_secs(link::LOST_SECONDS);

/// What the connections tell the pool.
#[derive(Debug)]
pub(crate) enum Event {
    /// A worker wants in, which has the assignments of the tasks that it holds.
    Joined { worker: Address, login: Box<Applicant>, holds: Vec<TaskId>, answer: oneshot::Sender<Admission> },
    /// A worker said something.
    Said { worker: Address, connection: u64, message: ToScheduler },
    /// A connection ended; the session may go on over another one.
    Left { worker: Address, connection: u64, session: Option<Session<ToWorker>> },
}

/// A worker whose signature was good.
#[derive(Debug)]
pub(crate) struct Applicant {
    pub(crate) name: String,
    pub(crate) capabilities: Capabilities,
    pub(crate) version: u32,
    pub(crate) resume: Option<Resume>,
    /// It takes no more work.
    pub(crate) draining: bool,
    /// The connection's number, and the session's name if it starts one.
    pub(crate) connection: u64,
    /// Seconds since the epoch of the last sign of life on this connection.
    pub(crate) last_alive: Arc<AtomicU64>,
}

/// The way to one worker.
pub(crate) type Outbox = mpsc::Sender<ToWorker>;

/// What every connection needs. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    inner: Arc<Inner>,
}

struct Inner {
    workerpool: Address,
    hub: Address,
    chain_id: u64,
    clock: Clock,
    /// The pool owner's, which lets workers contribute.
    key: PrivateKeySigner,
    /// Tells the pool's scheduler from others, with the same key.
    notary: Notary,
    events: mpsc::Sender<Event>,
    /// Nonces derive from it and from the number of the connection: nobody else can foretell them.
    secret: B256,
    connections: AtomicU64,
    logins: Semaphore,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("workerpool", &self.inner.workerpool).finish_non_exhaustive()
    }
}

/// Why a connection ends before or during a session.
enum End {
    /// Gone, without more to say.
    Gone,
    /// Told why.
    Told(Greeting),
}

impl From<Broken> for End {
    fn from(_: Broken) -> Self {
        Self::Gone
    }
}

impl Door {
    /// Within a runtime, which is where challenges are signed.
    pub(crate) fn new(
        (workerpool, hub, chain_id): (Address, Address, u64),
        clock: Clock,
        key: PrivateKeySigner,
        secret: B256,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let (connections, logins) = (AtomicU64::new(0), Semaphore::new(LOGINS));
        let notary = Notary::new(key.clone());
        let inner = Inner { workerpool, hub, chain_id, clock, key, notary, events, secret, connections, logins };
        Self { inner: Arc::new(inner) }
    }

    /// Serves one connection to its end.
    pub async fn serve(&self, mut wire: impl Wire, knock: Knock) {
        let Ok(permit) = self.inner.logins.try_acquire() else {
            let reason = "many workers log in just now: come again in a moment".into();
            let _ = say(&mut wire, &Greeting::Busy { reason, retry_seconds: BUSY }).await;
            return;
        };
        match self.log_in(&mut wire, knock).await {
            Ok((worker, applicant, holds)) => {
                drop(permit);
                self.admit(wire, worker, applicant, holds).await;
            }
            Err(End::Told(greeting)) => drop(say(&mut wire, &greeting).await),
            Err(End::Gone) => {}
        }
    }

    /// Challenges and checks.
    async fn log_in(&self, wire: &mut impl Wire, knock: Knock) -> Result<(Address, Applicant, Vec<TaskId>), End> {
        let Inner { workerpool, hub, chain_id, .. } = *self.inner;
        let connection = self.inner.connections.fetch_add(1, Ordering::Relaxed);
        let nonce = self.nonce(connection);
        let (oldest_version, version) = (link::OLDEST_VERSION, link::VERSION);
        let challenge = link::challenge(chain_id, hub, workerpool, nonce, knock);
        let Signed { signature, proof } = self.inner.notary.sign(challenge).await.ok_or(End::Gone)?;
        say(wire, &Greeting::Challenge { oldest_version, version, nonce, workerpool, hub, chain_id, signature, proof })
            .await?;
        let login: Login = match timeout(STEP, hear(wire)).await.map_err(|_| End::Gone)?? {
            Ok(login) => login,
            Err(error) => return Err(refusal(format!("not understood: {error}: log in first"))),
        };
        if !(link::OLDEST_VERSION..=link::VERSION).contains(&login.version) {
            let spoken = format!("{} to {}", link::OLDEST_VERSION, link::VERSION);
            let text =
                format!("this pool speaks versions {spoken} and the worker {}: update the older one", login.version);
            return Err(refusal(text));
        }
        let message = link::login_message(chain_id, hub, workerpool, nonce, login.address);
        if login.holds.len() > link::MAX_HELD {
            let (held, most) = (login.holds.len(), link::MAX_HELD);
            return Err(refusal(format!("the worker names {held} tasks and {most} are allowed: update the worker")));
        }
        if !signature::signed_message(login.address, message, &login.signature) {
            return Err(refusal(format!("the signature is not that of {}: check the worker's key", login.address)));
        }
        let applicant = Applicant {
            name: plain(&login.name),
            capabilities: login.capabilities,
            version: login.version,
            resume: login.resume,
            draining: login.draining,
            connection: self.session(connection),
            last_alive: Arc::new(AtomicU64::new(self.inner.clock.seconds())),
        };
        Ok((login.address, applicant, login.holds))
    }

    async fn admit(&self, mut wire: impl Wire, worker: Address, applicant: Applicant, holds: Vec<TaskId>) {
        let (connection, last_alive) = (applicant.connection, applicant.last_alive.clone());
        let (answer, admission) = oneshot::channel();
        let joined = Event::Joined { worker, login: Box::new(applicant), holds, answer };
        let admission = async {
            self.inner.events.send(joined).await.ok()?;
            admission.await.ok()
        };
        let Ok(admission) = timeout(STEP, admission).await else {
            let reason = "this pool has much to do just now: come again in a moment".into();
            return drop(say(&mut wire, &Greeting::Busy { reason, retry_seconds: BUSY }).await);
        };
        match admission {
            Some(Admission::Out(greeting)) => drop(say(&mut wire, &greeting).await),
            Some(Admission::In { welcome, session, missed, mut inbox }) => {
                let mut talk = Talk { door: self, wire, worker, connection, session, last_alive };
                let kept = match talk.begin(&Greeting::Welcome(welcome), missed, &mut inbox).await {
                    Said::More => talk.run(&mut inbox).await,
                    Said::Last => true,
                    Said::Deaf => false,
                };
                let session = kept.then(|| keep(talk.session, &mut inbox)).flatten();
                let _ = self.inner.events.send(Event::Left { worker, connection, session }).await;
            }
            // The pool is stopping: nobody needs to know.
            None => {}
        }
    }

    fn nonce(&self, connection: u64) -> B256 {
        self.derive(b"nonce", connection)
    }

    /// Unlikely to be that of another life of this scheduler.
    fn session(&self, connection: u64) -> u64 {
        u64::from_be_bytes(self.derive(b"session", connection)[..8].try_into().expect("eight bytes"))
    }

    fn derive(&self, what: &[u8], connection: u64) -> B256 {
        let mut hash = Sha256::new();
        hash.update(self.inner.secret);
        hash.update(what);
        hash.update(connection.to_be_bytes());
        B256::from_slice(&hash.finalize())
    }
}

/// What the pool still had to say goes on with the session. `None` if it is too much.
fn keep(mut session: Session<ToWorker>, inbox: &mut mpsc::Receiver<ToWorker>) -> Option<Session<ToWorker>> {
    inbox.close();
    while let Ok(message) = inbox.try_recv() {
        session.say(message).ok()?;
    }
    Some(session)
}

/// A connection of a worker that is logged in.
struct Talk<'a, W> {
    door: &'a Door,
    wire: W,
    worker: Address,
    connection: u64,
    session: Session<ToWorker>,
    last_alive: Arc<AtomicU64>,
}

impl<W: Wire> Talk<'_, W> {
    /// The welcome, what was missed, and what the pool has to say at once.
    async fn begin(
        &mut self,
        welcome: &Greeting,
        missed: Vec<Frame<ToWorker>>,
        inbox: &mut mpsc::Receiver<ToWorker>,
    ) -> Said {
        let mut texts = vec![text(welcome)];
        texts.extend(missed.into_iter().map(|frame| self.text(frame)));
        self.say(texts, None, inbox).await
    }

    /// A message as it is said. An assignment is authorised here, beside the pool's loop: signing takes longer than all else
    /// that is done for it, and the same signature comes out every time.
    fn text(&self, mut frame: Frame<ToWorker>) -> String {
        if let Some(ToWorker::Assign(assignment)) = &mut frame.message {
            let Assignment { task, enclave_challenge, .. } = *assignment;
            assignment.authorization = keys::authorize(&self.door.inner.key, self.worker, task, enclave_challenge);
        }
        text(&frame)
    }

    /// Says `texts`, a message, and all others that wait, in one go.
    async fn say(
        &mut self,
        mut texts: Vec<String>,
        first: Option<ToWorker>,
        inbox: &mut mpsc::Receiver<ToWorker>,
    ) -> Said {
        let (mut next, mut said) = (first.or_else(|| inbox.try_recv().ok()), Said::More);
        while let Some(message) = next {
            if matches!(message, ToWorker::Bye { .. }) {
                said = Said::Last;
            }
            let Ok(frame) = self.session.say(message) else {
                debug!(worker = %self.worker, "closing: the worker acknowledges nothing");
                return Said::Deaf;
            };
            texts.push(self.text(frame));
            next = if said == Said::More { inbox.try_recv().ok() } else { None };
        }
        match timeout(STEP, self.wire.send_all(texts)).await {
            Ok(Ok(())) => said,
            Ok(Err(_)) | Err(_) => Said::Last,
        }
    }

    /// Until the connection ends. Says whether the session can go on over another one.
    async fn run(&mut self, inbox: &mut mpsc::Receiver<ToWorker>) -> bool {
        // Not by the clock on the wall, which may be set back: the worker would wait until it is there again.
        let (mut bucket, began) = (Bucket::full(0), Instant::now());
        let millis = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        loop {
            tokio::select! {
                biased;
                message = inbox.recv() => {
                    let Some(message) = message else { return true };
                    match self.say(vec![], Some(message), inbox).await {
                        Said::More => {}
                        Said::Last => return true,
                        Said::Deaf => return false,
                    }
                }
                received = timeout(SILENCE, self.wire.receive()) => {
                    let Ok(Ok(text)) = received else { return true };
                    // Who talks too fast is listened to more slowly; the network holds it back.
                    while !bucket.take(millis()) {
                        sleep(Bucket::REFILL).await;
                    }
                    match self.take(text).await {
                        Ok(()) => {}
                        Err(Fault::Gap) => return true,
                        Err(Fault::Nonsense(reason)) => {
                            self.bye(&reason).await;
                            return false;
                        }
                    }
                }
            }
        }
    }

    async fn take(&mut self, text: Option<String>) -> Result<(), Fault> {
        let frame: Frame<ToScheduler> = parse(text.as_deref())
            .map_err(|error| Fault::Nonsense(format!("not understood: {error}: update the worker")))?;
        self.last_alive.store(self.door.inner.clock.seconds(), Ordering::Relaxed);
        let alive = frame.message.is_none();
        match self.session.hear(frame) {
            Heard::New(message) => {
                let (worker, connection) = (self.worker, self.connection);
                let said = Event::Said { worker, connection, message };
                self.door.inner.events.send(said).await.map_err(|_| Fault::Gap)?;
            }
            Heard::Nothing => {}
            Heard::Gap => return Err(Fault::Gap),
            Heard::Nonsense => return Err(Fault::Nonsense("numbers that nobody gave out".into())),
        }
        if alive || self.session.owes() {
            let frame = self.session.beat();
            say(&mut self.wire, &frame).await.map_err(|_| Fault::Gap)?;
        }
        Ok(())
    }

    async fn bye(&mut self, reason: &str) {
        debug!(worker = %self.worker, reason, "closing");
        let bye = ToWorker::Bye { reason: reason.into(), retry_seconds: OFFENDED };
        if let Ok(frame) = self.session.say(bye) {
            // Whoever sends nonsense may not hear this.
            let _ = say(&mut self.wire, &frame).await;
        }
    }
}

/// What comes after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// The next one.
    More,
    /// Nothing: it was the last one, or the connection broke.
    Last,
    /// The worker acknowledges nothing: the session ends.
    Deaf,
}

/// Why a connection is closed from here.
enum Fault {
    /// Something is missing, or nobody listens any more: the session goes on over another connection.
    Gap,
    /// The worker is broken or hostile.
    Nonsense(String),
}

fn refusal(reason: String) -> End {
    End::Told(Greeting::Refused { reason, retry_seconds: OFFENDED })
}

async fn say(wire: &mut impl Wire, message: &impl Serialize) -> Result<(), Broken> {
    timeout(STEP, wire.send(text(message))).await.map_err(|_| Broken::Closed)?
}

fn text(message: &impl Serialize) -> String {
    serde_json::to_string(message).expect("messages serialise")
}

async fn hear<T: DeserializeOwned>(wire: &mut impl Wire) -> Result<Result<T, String>, Broken> {
    Ok(parse(wire.receive().await?.as_deref()))
}

fn parse<T: DeserializeOwned>(text: Option<&str>) -> Result<T, String> {
    let text = text.ok_or("a message that is not text")?;
    serde_json::from_str(text).map_err(|e| e.to_string())
}

/// A name that is safe to show: printable, short.
fn plain(name: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
    if name.trim().is_empty() { "worker".into() } else { name }
}

/// Fresh bytes that nobody can guess.
pub(crate) fn secret() -> B256 {
    B256::from(rand::random::<[u8; 32]>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourse_chain::keys::test_key;
    use bourse_protocol::{link::Welcome, replicate::Status};
    use tokio::task::JoinSet;

    const HUB: Address = Address::repeat_byte(1);
    const POOL: Address = Address::repeat_byte(2);

    /// One end of a connection within the test.
    struct Pipe {
        out: mpsc::UnboundedSender<String>,
        into: mpsc::UnboundedReceiver<String>,
    }

    impl Wire for Pipe {
        async fn send(&mut self, text: String) -> Result<(), Broken> {
            self.out.send(text).map_err(|_| Broken::Closed)
        }

        async fn receive(&mut self) -> Result<Option<String>, Broken> {
            self.into.recv().await.map(Some).ok_or(Broken::Closed)
        }
    }

    /// A worker before a door, whose clock stands still, and what arrives behind it.
    struct Rig {
        wire: Pipe,
        events: mpsc::Receiver<Event>,
        _serving: JoinSet<()>,
    }

    impl Rig {
        fn open() -> Self {
            let ((out, their_into), (their_out, into)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
            let (sender, events) = mpsc::channel(1);
            let door = Door::new((POOL, HUB, 1), Clock::virtual_at(1_000), test_key(1), secret(), sender);
            let mut serving = JoinSet::new();
            let theirs = Pipe { out: their_out, into: their_into };
            serving.spawn(async move { door.serve(theirs, Knock::default()).await });
            Self { wire: Pipe { out, into }, events, _serving: serving }
        }

        /// Answers the challenge, in this vocabulary.
        async fn logs_in(&mut self, version: u32) {
            let Greeting::Challenge { nonce, .. } = hear(&mut self.wire).await.unwrap().unwrap() else {
                panic!("no challenge")
            };
            let key = test_key(3);
            let text = link::login_message(1, HUB, POOL, nonce, key.address());
            let signature = key.sign_message(&text).as_bytes().to_vec().into();
            let (name, capabilities) = ("w".into(), Capabilities::default());
            let login = Login {
                version,
                address: key.address(),
                name,
                signature,
                capabilities,
                resume: None,
                draining: false,
                holds: vec![],
            };
            say(&mut self.wire, &login).await.unwrap();
        }

        /// Lets the worker in. Whoever drops the inbox ends the connection.
        async fn is_admitted(&mut self) -> mpsc::Sender<ToWorker> {
            let Some(Event::Joined { answer, .. }) = self.events.recv().await else { panic!("nobody came") };
            let (outbox, inbox) = mpsc::channel(1);
            let welcome = Welcome {
                version: link::VERSION,
                session: 1,
                resumed: false,
                received: 0,
                reconnect: Default::default(),
                gateway_url: String::new(),
                upload_url: String::new(),
                upload_token: String::new(),
            };
            answer.send(Admission::In { welcome, session: Session::default(), missed: vec![], inbox }).unwrap();
            outbox
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_of_another_vocabulary_is_refused_and_the_reason_says_which() {
        for version in [link::OLDEST_VERSION - 1, link::VERSION + 1] {
            let mut rig = Rig::open();
            rig.logs_in(version).await;
            let Greeting::Refused { reason, .. } = hear(&mut rig.wire).await.unwrap().unwrap() else {
                panic!("let in")
            };
            let (oldest, newest) = (link::OLDEST_VERSION, link::VERSION);
            let spoken = format!("this pool speaks versions {oldest} to {newest} and the worker {version}");
            assert!(reason.starts_with(&spoken), "{reason}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_does_not_go_on_freezes_no_worker() {
        let mut rig = Rig::open();
        rig.logs_in(link::VERSION).await;
        let _outbox = rig.is_admitted().await;
        let mut session = Session::<ToScheduler>::default();
        for n in 0..2_000u64 {
            let task = TaskId(B256::from(bourse_protocol::U256::from(n)));
            let frame = session.say(ToScheduler::Report { task, status: Status::Running, cause: None }).unwrap();
            say(&mut rig.wire, &frame).await.unwrap();
            let Some(Event::Said { message, .. }) = rig.events.recv().await else { panic!("it left") };
            assert_eq!(Some(message), frame.message);
            while let Ok(text) = rig.wire.into.try_recv() {
                session.hear::<ToWorker>(parse(Some(&text)).unwrap_or(Frame { sent: 0, ack: 0, message: None }));
            }
        }
    }

    #[test]
    fn names_are_made_safe() {
        assert_eq!(plain("a\u{1b}[31mb\n"), "a[31mb");
        assert_eq!(plain(" \t"), "worker");
        assert_eq!(plain(&"x".repeat(100)).len(), 40);
    }
}
