//! The worker's end of the WebSocket: connect, log in, report, listen, connect again.
//!
//! Nothing here decides anything. What cannot be delivered is dropped: after each login everything that still holds is
//! said again, from the journal. The scheduler may be hostile: sizes, rates and waits are bounded.

use crate::{Error, context::Services, store::Store};
use bourse_chain::{PrivateKeySigner, alloy::signers::SignerSync};
use bourse_protocol::{
    Address, B256,
    ids::TaskId,
    link::{self, Capabilities, ToScheduler, ToWorker},
    replicate::Status,
};
use futures_util::{SinkExt, StreamExt};
use rand::Rng;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    time::{interval, sleep, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};
use tokio_util::sync::CancellationToken;
use url::Url;

/// Each step of connecting and logging in, and each message sent, must end within this time.
const STEP: Duration = Duration::from_secs(10);
/// First and longest pause between two connections; each is shortened by up to half, so that not all come at once.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// So many messages without meaning end a connection.
const MAX_NONSENSE: u32 = 16;
/// Ended replicates that are said again after a login.
const ENDED_AGAIN: u32 = 64;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Who logs in, and where.
pub(crate) struct Identity {
    pub(crate) chain_id: u64,
    pub(crate) hub: Address,
    pub(crate) workerpool: Address,
    pub(crate) name: String,
    pub(crate) key: PrivateKeySigner,
    pub(crate) capabilities: Capabilities,
}

/// The loop that keeps the worker connected.
pub(crate) struct Link {
    pub(crate) url: Url,
    pub(crate) identity: Identity,
    pub(crate) store: Store,
    /// Reports to deliver.
    pub(crate) reports: mpsc::Receiver<ToScheduler>,
    /// Messages for the worker.
    pub(crate) inbox: mpsc::Sender<ToWorker>,
    /// What the latest login brought.
    pub(crate) services: watch::Sender<Option<Services>>,
    /// Replicates of an earlier life, until the scheduler has heard that they go on.
    pub(crate) recovering: BTreeSet<TaskId>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("cannot connect")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the scheduler does not answer in time")]
    Silent,
    #[error("the connection broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the scheduler closed the connection")]
    Closed,
    #[error("the scheduler refuses this worker: {0}")]
    Refused(String),
    #[error("this is not the scheduler of pool {expected}: {found}; check the scheduler's URL and the pool's address")]
    Stranger { expected: Address, found: String },
    #[error("the scheduler sends what makes no sense")]
    Nonsense,
    #[error("the scheduler sends faster than a worker can act")]
    Flood,
    #[error(transparent)]
    Journal(#[from] bourse_service::journal::Error),
}

/// The WebSocket address of a scheduler given as `ws://host:port` (or `http://…`).
pub(crate) fn address(scheduler_url: &str) -> Result<Url, Error> {
    let bad = || Error::SchedulerUrl { url: scheduler_url.into() };
    let text = match scheduler_url.strip_prefix("http://") {
        Some(rest) => format!("ws://{rest}"),
        None => scheduler_url.to_owned(),
    };
    let mut url: Url = text.parse().map_err(|_| bad())?;
    if url.scheme() != "ws" || !url.has_host() {
        return Err(bad());
    }
    url.set_path(link::PATH);
    Ok(url)
}

impl Link {
    /// Runs until `shutdown`; an error of the journal ends it earlier.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut pause = PAUSES.0;
        loop {
            let mut linked = false;
            let lost = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                lost = Box::pin(self.session(&mut linked)) => lost.err().unwrap_or(Lost::Closed),
            };
            if let Lost::Journal(error) = lost {
                return Err(error.into());
            }
            pause = if linked { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
            let wait = pause.mul_f64(rand::rng().random_range(0.5..1.0));
            let cause = std::error::Error::source(&lost).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(url = %self.url, error = %lost, cause, seconds = wait.as_secs_f32(), "not linked; trying again");
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = self.drop_reports_for(wait) => {}
            }
        }
    }

    /// While nobody listens, reports fall away: the next login says what holds then.
    async fn drop_reports_for(&mut self, wait: Duration) {
        let wait = sleep(wait);
        tokio::pin!(wait);
        loop {
            tokio::select! {
                () = &mut wait => return,
                Some(_) = self.reports.recv() => {}
            }
        }
    }

    /// One connection from start to end. Replicates that report meanwhile are not held up by a slow login.
    async fn session(&mut self, linked: &mut bool) -> Result<(), Lost> {
        let mut socket = {
            let opening = open(&self.url, &self.identity);
            tokio::pin!(opening);
            loop {
                tokio::select! {
                    opened = &mut opening => break opened?,
                    Some(_) = self.reports.recv() => {}
                }
            }
        };
        *linked = true;
        self.services.send_replace(Some(socket.1.clone()));
        tracing::info!(url = %self.url, worker = %self.identity.key.address(), "linked to the scheduler");
        while self.reports.try_recv().is_ok() {}
        self.say_again(&mut socket.0).await?;
        self.talk(&mut socket.0).await
    }

    /// Where every replicate stands.
    async fn say_again(&mut self, socket: &mut Socket) -> Result<(), Lost> {
        for record in self.store.ended(ENDED_AGAIN)?.into_iter().chain(self.store.open()?) {
            let task = record.task();
            if self.recovering.contains(&task) {
                send(socket, &ToScheduler::Report { task, status: Status::Recovering, cause: None }).await?;
            }
            send(socket, &ToScheduler::Report { task, status: record.status, cause: record.cause }).await?;
            if let Some(link) = record.link {
                send(socket, &ToScheduler::Uploaded { task, link }).await?;
            }
        }
        self.recovering.clear();
        Ok(())
    }

    async fn talk(&mut self, socket: &mut Socket) -> Result<(), Lost> {
        let mut heartbeat = interval(Duration::from_secs(link::HEARTBEAT_SECONDS));
        let (mut heard, mut nonsense) = (Instant::now(), 0);
        loop {
            tokio::select! {
                Some(report) = self.reports.recv() => send(socket, &report).await?,
                _ = heartbeat.tick() => {
                    if heard.elapsed() > Duration::from_secs(link::LOST_SECONDS) {
                        return Err(Lost::Silent);
                    }
                    send(socket, &ToScheduler::Alive).await?;
                }
                message = receive(socket) => {
                    heard = Instant::now();
                    match message? {
                        Some(message) => self.forward(message)?,
                        None => nonsense += 1,
                    }
                    if nonsense > MAX_NONSENSE {
                        return Err(Lost::Nonsense);
                    }
                }
            }
        }
    }

    fn forward(&self, message: ToWorker) -> Result<(), Lost> {
        match message {
            ToWorker::Alive | ToWorker::Challenge { .. } => Ok(()),
            ToWorker::Refused { reason } => Err(Lost::Refused(reason)),
            ToWorker::Welcome { gateway_url, upload_url, upload_token } => {
                self.services.send_replace(Some(Services { gateway_url, upload_url, upload_token }));
                Ok(())
            }
            message @ (ToWorker::Assign(_)
            | ToWorker::Reveal { .. }
            | ToWorker::Upload { .. }
            | ToWorker::Abort { .. }
            | ToWorker::Complete { .. }) => self.inbox.try_send(message).map_err(|_| Lost::Flood),
        }
    }
}

/// Connects and logs in.
async fn open(url: &Url, identity: &Identity) -> Result<(Socket, Services), Lost> {
    let limits = WebSocketConfig::default()
        .max_message_size(Some(link::MAX_MESSAGE))
        .max_frame_size(Some(link::MAX_MESSAGE))
        .max_write_buffer_size(4 * link::MAX_MESSAGE);
    let connecting = timeout(STEP, connect_async_with_config(url.as_str(), Some(limits), true)).await;
    let (mut socket, _) = connecting.map_err(|_| Lost::Silent)?.map_err(|e| Lost::Connect(e.into()))?;
    let nonce = challenge(identity, login_step(&mut socket).await?)?;
    let address = identity.key.address();
    let text = link::login_message(identity.chain_id, identity.hub, identity.workerpool, nonce, address);
    let signature = identity.key.sign_message_sync(text.as_bytes()).map_err(|e| Lost::Broken(e.into()))?;
    let login = ToScheduler::Login {
        version: link::VERSION,
        address,
        name: identity.name.clone(),
        signature: signature.as_bytes().to_vec().into(),
        capabilities: identity.capabilities.clone(),
    };
    send(&mut socket, &login).await?;
    match login_step(&mut socket).await? {
        ToWorker::Welcome { gateway_url, upload_url, upload_token } => {
            Ok((socket, Services { gateway_url, upload_url, upload_token }))
        }
        ToWorker::Refused { reason } => Err(Lost::Refused(printable(&reason))),
        _ => Err(Lost::Nonsense),
    }
}

/// The nonce to sign, if the challenge is that of the pool this worker works for.
fn challenge(identity: &Identity, message: ToWorker) -> Result<B256, Lost> {
    let stranger = |found: String| Lost::Stranger { expected: identity.workerpool, found };
    match message {
        ToWorker::Challenge { version, .. } if version != link::VERSION => {
            Err(stranger(format!("it speaks version {version} and this worker {}", link::VERSION)))
        }
        ToWorker::Challenge { nonce, workerpool, hub, chain_id, .. } => {
            match (workerpool, hub, chain_id) == (identity.workerpool, identity.hub, identity.chain_id) {
                true => Ok(nonce),
                false => Err(stranger(format!("it runs pool {workerpool} of hub {hub} on chain {chain_id}"))),
            }
        }
        ToWorker::Refused { reason } => Err(Lost::Refused(printable(&reason))),
        _ => Err(Lost::Nonsense),
    }
}

async fn login_step(socket: &mut Socket) -> Result<ToWorker, Lost> {
    timeout(STEP, receive(socket)).await.map_err(|_| Lost::Silent)??.ok_or(Lost::Nonsense)
}

async fn send(socket: &mut Socket, message: &ToScheduler) -> Result<(), Lost> {
    let text = serde_json::to_string(message).expect("messages always serialise");
    let sent = timeout(STEP, socket.send(Message::text(text))).await.map_err(|_| Lost::Silent)?;
    sent.map_err(|e| Lost::Broken(e.into()))
}

/// The next message; `None` if it makes no sense. Dropping the future loses nothing.
async fn receive(socket: &mut Socket) -> Result<Option<ToWorker>, Lost> {
    loop {
        match socket.next().await {
            None | Some(Ok(Message::Close(_))) => return Err(Lost::Closed),
            Some(Err(error)) => return Err(Lost::Broken(error.into())),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Text(text))) => {
                let message = serde_json::from_str(text.as_str());
                if let Err(error) = &message {
                    tracing::warn!(%error, "a message of the scheduler makes no sense");
                }
                return Ok(message.ok());
            }
            Some(Ok(Message::Binary(_) | Message::Frame(_))) => return Ok(None),
        }
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}
