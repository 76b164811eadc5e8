//! A scheduler, played by the test: it lets workers in and hands their messages over.

use crate::store::TOKEN;
use axum::{
    Router,
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::Response,
    routing::get,
};
use bourse_protocol::{
    Address, B256,
    ids::TaskId,
    link::{self, ToScheduler, ToWorker},
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

/// What the test sends down the socket.
enum Down {
    Text(String),
    Binary(Vec<u8>),
    Hang,
}

#[derive(Clone)]
struct Door {
    challenge: Arc<dyn Fn() -> ToWorker + Send + Sync>,
    welcome: ToWorker,
    up: mpsc::UnboundedSender<Heard>,
    down: Arc<Mutex<mpsc::UnboundedReceiver<Down>>>,
}

/// What arrives at the scheduler.
#[derive(Debug)]
pub(crate) enum Heard {
    Connected,
    Login { worker: Address, valid: bool },
    Message(ToScheduler),
    Gone,
}

pub(crate) struct Pool {
    pub(crate) url: String,
    heard: mpsc::UnboundedReceiver<Heard>,
    down: mpsc::UnboundedSender<Down>,
    _server: JoinSet<()>,
}

impl Pool {
    pub(crate) async fn open(chain_id: u64, hub: Address, workerpool: Address, store_url: &str) -> Self {
        let challenge = move || ToWorker::Challenge {
            version: link::VERSION,
            nonce: B256::repeat_byte(9),
            workerpool,
            hub,
            chain_id,
        };
        let welcome = ToWorker::Welcome {
            gateway_url: store_url.to_owned(),
            upload_url: store_url.to_owned(),
            upload_token: TOKEN.into(),
        };
        let (up, heard) = mpsc::unbounded_channel();
        let (down, messages) = mpsc::unbounded_channel();
        let door = Door { challenge: Arc::new(challenge), welcome, up, down: Arc::new(Mutex::new(messages)) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        let router = Router::new().route(link::PATH, get(upgrade)).with_state(door);
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, heard, down, _server: server }
    }

    pub(crate) fn send(&self, message: &ToWorker) {
        self.send_text(serde_json::to_string(message).unwrap());
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
                Heard::Connected | Heard::Message(_) | Heard::Gone => {}
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

async fn upgrade(State(door): State<Door>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(move |socket| async move {
        let _ = door.up.send(Heard::Connected);
        let _ = serve(socket, &door).await;
        let _ = door.up.send(Heard::Gone);
    })
}

/// Ends when the connection does.
async fn serve(mut socket: WebSocket, door: &Door) -> Option<()> {
    let challenge = (door.challenge)();
    say(&mut socket, &challenge).await?;
    let ToScheduler::Login { address, signature: sign, .. } = listen(&mut socket).await? else { return None };
    let ToWorker::Challenge { nonce, workerpool, hub, chain_id, .. } = challenge else { return None };
    let message = link::login_message(chain_id, hub, workerpool, nonce, address);
    let valid = signature::signed_message(address, message, &sign);
    say(&mut socket, &door.welcome).await?;
    door.up.send(Heard::Login { worker: address, valid }).ok()?;
    let mut down = door.down.lock().await;
    loop {
        tokio::select! {
            message = listen(&mut socket) => door.up.send(Heard::Message(message?)).ok()?,
            Some(message) = down.recv() => match message {
                Down::Text(text) => socket.send(Message::Text(text.into())).await.ok()?,
                Down::Binary(bytes) => socket.send(Message::Binary(bytes.into())).await.ok()?,
                Down::Hang => return None,
            }
        }
    }
}

async fn say(socket: &mut WebSocket, message: &ToWorker) -> Option<()> {
    socket.send(Message::Text(serde_json::to_string(message).unwrap().into())).await.ok()
}

async fn listen(socket: &mut WebSocket) -> Option<ToScheduler> {
    loop {
        match socket.recv().await?.ok()? {
            Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
            Message::Close(_) => return None,
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}
