//! The worker's end against a scheduler that the test plays, on tokio's paused clock.

use super::*;
use bourse_chain::{Client, Hub, keys::test_key};
use bourse_protocol::{U256, ids::DealId, link::Assignment};
use bourse_service::journal::Journal;
use tokio::task::JoinSet;

/// One end of a connection within the test.
struct Pipe {
    out: mpsc::UnboundedSender<String>,
    into: mpsc::UnboundedReceiver<String>,
    knock: Knock,
}

impl Wire for Pipe {
    async fn send(&mut self, text: String) -> Result<(), Broken> {
        self.out.send(text).map_err(|_| Broken::Closed)
    }

    async fn receive(&mut self) -> Result<Option<String>, Broken> {
        self.into.recv().await.map(Some).ok_or(Broken::Closed)
    }
}

impl Pipe {
    async fn say(&mut self, message: &impl Serialize) {
        self.send(serde_json::to_string(message).unwrap()).await.unwrap();
    }

    async fn hear<T: DeserializeOwned>(&mut self) -> T {
        serde_json::from_str(&self.receive().await.unwrap().unwrap()).unwrap()
    }
}

/// The way to the scheduler.
struct Network(mpsc::UnboundedSender<Pipe>);

impl Dial for Network {
    type Wire = Pipe;

    async fn dial(&mut self, knock: Knock) -> Result<Pipe, Broken> {
        let ((out, their_into), (their_out, into)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        self.0.send(Pipe { out: their_out, into: their_into, knock }).map_err(|_| Broken::Closed)?;
        Ok(Pipe { out, into, knock })
    }
}

const HUB: Address = Address::repeat_byte(1);
const POOL: Address = Address::repeat_byte(2);
const OWNER: u32 = 1;

fn identity() -> Identity {
    let (name, key, capabilities) = ("test".into(), test_key(3), Capabilities::default());
    Identity { chain_id: 1, hub: HUB, workerpool: POOL, name, key, capabilities }
}

fn challenge_of(oldest_version: u32, version: u32, knock: Knock) -> Greeting {
    let nonce = B256::repeat_byte(9);
    let beside = B256::repeat_byte(8);
    let (root, mut proofs) = link::challenge_tree(&[link::challenge(1, HUB, POOL, nonce, knock), beside]);
    let text = link::challenge_message(root);
    let signature = test_key(OWNER).sign_message(&text).as_bytes().into();
    let (workerpool, hub, chain_id, proof) = (POOL, HUB, 1, proofs.swap_remove(0));
    Greeting::Challenge { oldest_version, version, nonce, workerpool, hub, chain_id, signature, proof }
}

/// The pool's, who is known: there is no chain to ask.
fn owner() -> Owner {
    let nowhere = Client::connect("http://127.0.0.1:1").unwrap();
    Owner::new(Hub::new(nowhere, HUB), POOL, test_key(OWNER).address())
}

/// A link at work, and who it talks to.
struct Rig {
    arriving: mpsc::UnboundedReceiver<Pipe>,
    reports: mpsc::Sender<ToScheduler>,
    _inbox: mpsc::Receiver<ToWorker>,
    _running: JoinSet<()>,
}

impl Rig {
    /// Over this journal, whose open replicates are of an earlier life.
    fn over(store: &Store) -> Self {
        let (reports, outgoing) = mpsc::channel(64);
        let (incoming, inbox) = mpsc::channel(64);
        let (dialled, arriving) = mpsc::unbounded_channel();
        let recovering = store.open().unwrap().iter().map(|record| record.task()).collect();
        let link = Link::new((identity(), owner()), store.clone(), outgoing, incoming, Arc::default(), recovering);
        let mut running = JoinSet::new();
        running.spawn(async move { link.run(Network(dialled), CancellationToken::new()).await.unwrap() });
        Self { arriving, reports, _inbox: inbox, _running: running }
    }

    /// Takes the next connection and lets the worker in, to a new session.
    async fn admit(&mut self) -> (Login, Talk) {
        let mut wire = self.arriving.recv().await.unwrap();
        wire.say(&challenge_of(link::OLDEST_VERSION, link::VERSION, wire.knock)).await;
        let login: Login = wire.hear().await;
        let welcome = Welcome {
            version: link::VERSION,
            session: 7,
            resumed: false,
            received: 0,
            reconnect: Backoff::default(),
            gateway_url: String::new(),
            upload_url: String::new(),
            upload_token: String::new(),
        };
        wire.say(&Greeting::Welcome(welcome)).await;
        (login, Talk { wire, session: Session::default() })
    }
}

/// The scheduler's end of a session.
struct Talk {
    wire: Pipe,
    session: Session<ToWorker>,
}

impl Talk {
    /// The next message, or `None` for a sign of life. Acknowledges as a scheduler does.
    async fn hear(&mut self) -> Option<ToScheduler> {
        let frame: Frame<ToScheduler> = self.wire.hear().await;
        let alive = frame.message.is_none();
        let heard = self.session.hear(frame);
        if alive || self.session.owes() {
            let beat = self.session.beat();
            self.wire.say(&beat).await;
        }
        match heard {
            Heard::New(message) => Some(message),
            Heard::Nothing => None,
            Heard::Gap | Heard::Nonsense => panic!("{heard:?}"),
        }
    }

    /// The next message.
    async fn message(&mut self) -> ToScheduler {
        loop {
            if let Some(message) = self.hear().await {
                return message;
            }
        }
    }
}

fn empty() -> Store {
    Store::new(Journal::in_memory(&[crate::store::SCHEMA]).unwrap())
}

/// A journal with so many replicates that have computed their answers.
fn with_open(count: u64) -> Store {
    let store = empty();
    for n in 0..count {
        let (deal, index) = (DealId::default(), U256::from(n));
        let (task, authorization) = (TaskId::of(deal, index), Default::default());
        store.take(&Assignment { task, deal, index, authorization, enclave_challenge: Address::ZERO }).unwrap();
        store.set_status(task, Status::Computed, None).unwrap();
    }
    store
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_open_replicates_are_all_said_again_after_a_restart() {
    let store = with_open(200);
    let mut rig = Rig::over(&store);
    let (login, mut talk) = rig.admit().await;
    let open: Vec<_> = store.open().unwrap().iter().map(|record| record.task()).collect();
    assert_eq!(login.holds, open, "they need not be assigned again");
    for record in store.open().unwrap() {
        for expected in [Status::Recovering, Status::Computed] {
            let said = talk.message().await;
            assert_eq!(said, ToScheduler::Report { task: record.task(), status: expected, cause: None });
        }
    }
    // What happens meanwhile comes after what was before it.
    let last = ToScheduler::Report { task: TaskId::default(), status: Status::Running, cause: None };
    rig.reports.send(last.clone()).await.unwrap();
    assert_eq!(talk.message().await, last);
    assert!(rig.arriving.try_recv().is_err(), "one connection was enough");
}

#[tokio::test(start_paused = true)]
async fn more_replicates_than_a_login_may_name_are_not_named() {
    let (login, _talk) = Rig::over(&with_open(link::MAX_HELD as u64 + 1)).admit().await;
    assert_eq!(login.holds.len(), link::MAX_HELD);
}

#[tokio::test(start_paused = true)]
async fn a_replicate_is_said_to_recover_once() {
    let store = with_open(1);
    let mut rig = Rig::over(&store);
    let said = |message| match message {
        ToScheduler::Report { status, .. } => status,
        other => panic!("{other:?}"),
    };
    let (_, mut talk) = rig.admit().await;
    assert_eq!([said(talk.message().await), said(talk.message().await)], [Status::Recovering, Status::Computed]);
    drop(talk);
    let (_, mut talk) = rig.admit().await;
    assert_eq!(said(talk.message().await), Status::Computed);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_drains_says_so_to_every_scheduler_that_forgot_it() {
    let mut rig = Rig::over(&empty());
    let (login, mut talk) = rig.admit().await;
    assert!(!login.draining);
    rig.reports.send(ToScheduler::Draining).await.unwrap();
    assert_eq!(talk.message().await, ToScheduler::Draining);
    for _ in 0..2 {
        drop(talk);
        let (login, next) = rig.admit().await;
        assert!(login.draining, "who is let in without it gets work at once");
        talk = next;
        assert_eq!(talk.message().await, ToScheduler::Draining);
    }
}

#[tokio::test(start_paused = true)]
async fn a_challenge_that_was_signed_for_another_connection_gets_no_answer() {
    let mut rig = Rig::over(&empty());
    let mut wire = rig.arriving.recv().await.unwrap();
    let overheard = challenge_of(link::OLDEST_VERSION, link::VERSION, wire.knock);
    wire.say(&overheard).await;
    let _: Login = wire.hear().await;
    drop(wire);
    for _ in 0..2 {
        let mut wire = rig.arriving.recv().await.unwrap();
        wire.say(&overheard).await;
        assert!(wire.receive().await.is_err(), "it answered");
    }
    rig.admit().await;
}

#[tokio::test(start_paused = true)]
async fn the_worker_says_every_ten_seconds_that_it_lives() {
    let mut rig = Rig::over(&empty());
    let (_, mut talk) = rig.admit().await;
    let began = Instant::now();
    let mut beats = Vec::new();
    while beats.len() < 5 {
        assert_eq!(talk.hear().await, None);
        beats.push(began.elapsed());
    }
    let (first, pause) =
        (Duration::from_millis(link::first_heartbeat_millis(identity().key.address())), beats[1] - beats[0]);
    assert!(beats[0] - first < Duration::from_millis(2), "{beats:?}");
    assert_eq!(pause, Duration::from_secs(10));
    assert!(beats.windows(2).all(|two| two[1] - two[0] == pause), "{beats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_of_another_vocabulary_is_refused_and_the_reason_says_which() {
    let (newer, older) = (link::VERSION + 1, link::OLDEST_VERSION - 1);
    for (oldest, newest) in [(newer, newer + 1), (0, older)] {
        let (dialled, mut arriving) = mpsc::unbounded_channel();
        let scheduler = async {
            let mut wire: Pipe = arriving.recv().await.unwrap();
            wire.say(&challenge_of(oldest, newest, wire.knock)).await;
            assert!(wire.receive().await.is_err(), "it answered");
        };
        let (mut network, identity) = (Network(dialled), identity());
        let (refused, ()) = tokio::join!(log_in(&mut network, &identity, vec![]), scheduler);
        let reason = refused.err().unwrap().reason;
        let spoken = format!(
            "it speaks versions {oldest} to {newest} and this worker {} to {}",
            link::OLDEST_VERSION,
            link::VERSION
        );
        assert!(reason.contains(&spoken), "{reason}");
    }
}
