//! A scheduler, played by the test: it lets workers in and hands their messages over.

use crate::{market::OWNER, store::TOKEN};
use axum::{
    Router,
    extract::{
        Query, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::Response,
    routing::get,
};
use bourse_chain::{PrivateKeySigner, keys::test_key};
use bourse_protocol::{
    Address, B256,
    ids::TaskId,
    link::{self, Backoff, Frame, Greeting, Knock, Login, Session, ToScheduler, ToWorker, Welcome},
    replicate::{Cause, Status},
    signature,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

/// A test that waits longer for a message has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The session that a worker may resume, and its name.
type Kept = Arc<Mutex<Option<(u64, Session<ToWorker>)>>>;

/// What the test sends down the socket.
enum Down {
    Message(ToWorker),
    Text(String),
    Binary(Vec<u8>),
    Hang,
}

#[derive(Clone)]
struct Door {
    /// Signs the challenges.
    key: PrivateKeySigner,
    /// Its chain, its hub and its pool.
    place: (u64, Address, Address),
    welcome: Welcome,
    /// The session that a worker may resume; a pool that forgets begins a new one each time.
    session: Kept,
    up: mpsc::UnboundedSender<Heard>,
    down: Arc<Mutex<mpsc::UnboundedReceiver<Down>>>,
}

/// What arrives at the scheduler.
#[derive(Debug)]
pub(crate) enum Heard {
    Connected,
    Login {
        worker: Address,
        valid: bool,
    },
    Message(ToScheduler),
    /// A sign of life without a message.
    Beat,
    Gone,
}

pub(crate) struct Pool {
    pub(crate) url: String,
    heard: mpsc::UnboundedReceiver<Heard>,
    down: mpsc::UnboundedSender<Down>,
    session: Kept,
    _server: JoinSet<()>,
}

impl Pool {
    pub(crate) async fn open(chain_id: u64, hub: Address, workerpool: Address, store_url: &str) -> Self {
        Self::of_owner(&test_key(OWNER), chain_id, hub, workerpool, store_url).await
    }

    /// The same, that signs its challenges with this key.
    pub(crate) async fn of_owner(
        key: &PrivateKeySigner,
        chain_id: u64,
        hub: Address,
        workerpool: Address,
        store_url: &str,
    ) -> Self {
        let welcome = Welcome {
            version: link::VERSION,
            session: 0,
            resumed: false,
            received: 0,
            reconnect: Backoff::default(),
            gateway_url: store_url.to_owned(),
            upload_url: store_url.to_owned(),
            upload_token: TOKEN.into(),
        };
        let (up, heard) = mpsc::unbounded_channel();
        let (down, messages) = mpsc::unbounded_channel();
        let (down_end, session) = (Arc::new(Mutex::new(messages)), Arc::new(Mutex::new(None)));
        let (key, place) = (key.clone(), (chain_id, hub, workerpool));
        let door = Door { key, place, welcome, session: session.clone(), up, down: down_end };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        let router = Router::new().route(link::PATH, get(upgrade)).with_state(door);
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, heard, down, session, _server: server }
    }

    pub(crate) fn send(&self, message: &ToWorker) {
        assert!(self.down.send(Down::Message(message.clone())).is_ok());
    }

    /// Forgets the session, as a scheduler does that restarts.
    pub(crate) async fn forget(&self) {
        self.hang_up();
        *self.session.lock().await = None;
    }

    pub(crate) fn send_text(&self, text: String) {
        assert!(self.down.send(Down::Text(text)).is_ok());
    }

    pub(crate) fn send_binary(&self, bytes: Vec<u8>) {
        assert!(self.down.send(Down::Binary(bytes)).is_ok());
    }

    /// Ends the connection.
    pub(crate) fn hang_up(&self) {
        assert!(self.down.send(Down::Hang).is_ok());
    }

    pub(crate) async fn hear(&mut self) -> Heard {
        tokio::time::timeout(PATIENCE, self.heard.recv()).await.expect("nothing heard in time").unwrap()
    }

    /// Waits for a login with a good signature.
    pub(crate) async fn logged_in(&mut self) -> Address {
        loop {
            match self.hear().await {
                Heard::Login { worker, valid: true } => return worker,
                Heard::Login { valid: false, .. } => panic!("the login is badly signed"),
                Heard::Connected | Heard::Message(_) | Heard::Beat | Heard::Gone => {}
            }
        }
    }

    /// The next report about `task`.
    pub(crate) async fn report(&mut self, task: TaskId) -> (Status, Option<Cause>) {
        loop {
            if let Heard::Message(ToScheduler::Report { task: about, status, cause }) = self.hear().await
                && about == task
            {
                return (status, cause);
            }
        }
    }

    /// Everything that is reported about `task` until `status`, which is included.
    pub(crate) async fn until(&mut self, task: TaskId, status: Status) -> Vec<Status> {
        let mut seen = Vec::new();
        loop {
            let (next, cause) = self.report(task).await;
            seen.push(next);
            if next == status {
                return seen;
            }
            assert!(!next.is_final(), "waited for {status}, got {next}: {cause:?} after {seen:?}");
        }
    }

    /// The link of the result, once it is uploaded.
    pub(crate) async fn uploaded(&mut self, task: TaskId) -> bourse_protocol::deal::ResultLink {
        loop {
            if let Heard::Message(ToScheduler::Uploaded { task: about, link }) = self.hear().await
                && about == task
            {
                return link;
            }
        }
    }
}

async fn upgrade(State(door): State<Door>, Query(knock): Query<Knock>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(move |socket| async move {
        let _ = door.up.send(Heard::Connected);
        let _ = serve(socket, knock, &door).await;
        let _ = door.up.send(Heard::Gone);
    })
}

/// Ends when the connection does.
async fn serve(mut socket: WebSocket, knock: Knock, door: &Door) -> Option<()> {
    let (nonce, (chain_id, hub, workerpool)) = (B256::repeat_byte(9), door.place);
    let text = link::challenge_message(link::challenge(chain_id, hub, workerpool, nonce, knock));
    let signature = door.key.sign_message(&text).as_bytes().into();
    let (oldest_version, version) = (link::OLDEST_VERSION, link::VERSION);
    let proof = vec![];
    let challenge = Greeting::Challenge { oldest_version, version, nonce, workerpool, hub, chain_id, signature, proof };
    say(&mut socket, &challenge).await?;
    let Login { address, signature: sign, resume, .. } = listen(&mut socket).await?;
    let message = link::login_message(chain_id, hub, workerpool, nonce, address);
    let valid = signature::signed_message(address, message, &sign);
    let mut kept = door.session.lock().await;
    let resumed = resume.zip(kept.as_mut()).filter(|(resume, (name, _))| resume.session == *name);
    let missed = resumed.and_then(|(resume, (_, session))| session.resume(resume.received).ok());
    if missed.is_none() {
        *kept = Some((rand_name(), Session::default()));
    }
    let (name, session) = kept.as_mut()?;
    let (session_name, received, resumed) = (*name, session.received(), missed.is_some());
    let welcome = Welcome { session: session_name, received, resumed, ..door.welcome.clone() };
    say(&mut socket, &Greeting::Welcome(welcome)).await?;
    for frame in missed.unwrap_or_default() {
        say(&mut socket, &frame).await?;
    }
    door.up.send(Heard::Login { worker: address, valid }).ok()?;
    let mut down = door.down.lock().await;
    loop {
        tokio::select! {
            frame = listen::<Frame<ToScheduler>>(&mut socket) => {
                let frame = frame?;
                let beat = frame.message.is_none();
                match session.hear(frame) {
                    link::Heard::New(message) => door.up.send(Heard::Message(message)).ok()?,
                    link::Heard::Nothing => {}
                    link::Heard::Gap | link::Heard::Nonsense => return None,
                }
                if beat {
                    door.up.send(Heard::Beat).ok()?;
                }
                if beat || session.owes() {
                    say(&mut socket, &session.beat()).await?;
                }
            }
            Some(message) = down.recv() => match message {
                Down::Message(message) => {
                    // A worker that acknowledges nothing has lost its session.
                    let frame = session.say(message).ok()?;
                    say(&mut socket, &frame).await?;
                }
                Down::Text(text) => socket.send(Message::Text(text.into())).await.ok()?,
                Down::Binary(bytes) => socket.send(Message::Binary(bytes.into())).await.ok()?,
                Down::Hang => return None,
            }
        }
    }
}

/// Never the same twice.
fn rand_name() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

async fn say(socket: &mut WebSocket, message: &impl serde::Serialize) -> Option<()> {
    socket.send(Message::Text(serde_json::to_string(message).unwrap().into())).await.ok()
}

async fn listen<T: serde::de::DeserializeOwned>(socket: &mut WebSocket) -> Option<T> {
    loop {
        match socket.recv().await?.ok()? {
            Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
            Message::Close(_) => return None,
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}
