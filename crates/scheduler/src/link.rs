//! The workers' WebSocket: login, then messages both ways. One task per connection; a slow worker hurts only itself.

use axum::{
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::Response,
};
use bourse_protocol::{
    Address, B256,
    link::{self, Capabilities, ToScheduler, ToWorker},
    signature,
};
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::debug;

/// Messages that may wait for one worker; one more and its connection is closed.
const QUEUE: usize = 256;
/// A login that takes longer is dropped.
const LOGIN: Duration = Duration::from_secs(10);

/// What the connections tell the pool.
#[derive(Debug)]
pub(crate) enum Event {
    /// A worker wants in; the pool answers over `outbox` with a welcome or a refusal.
    Joined { worker: Address, name: String, capabilities: Capabilities, connection: u64, outbox: Outbox },
    /// A worker said something.
    Said { worker: Address, connection: u64, message: ToScheduler },
    /// A connection ended.
    Left { worker: Address, connection: u64 },
}

/// The way to one worker.
pub(crate) type Outbox = mpsc::Sender<ToWorker>;

/// What every connection needs.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) workerpool: Address,
    pub(crate) hub: Address,
    pub(crate) chain_id: u64,
    pub(crate) events: mpsc::Sender<Event>,
}

/// The route of the link.
pub(crate) async fn upgrade(State(door): State<Door>, upgrade: WebSocketUpgrade) -> Response {
    let upgrade = upgrade.max_message_size(link::MAX_MESSAGE).max_frame_size(link::MAX_MESSAGE);
    upgrade.on_upgrade(move |socket| serve(socket, door))
}

async fn serve(mut socket: WebSocket, door: Door) {
    let login = tokio::time::timeout(LOGIN, log_in(&mut socket, &door)).await;
    let Ok(Some((worker, name, capabilities))) = login else { return };
    let connection = rand::random();
    let (outbox, inbox) = mpsc::channel(QUEUE);
    let joined = Event::Joined { worker, name, capabilities, connection, outbox };
    if door.events.send(joined).await.is_ok() {
        talk(&mut socket, &door, worker, connection, inbox).await;
        // The pool may be stopping: then nobody needs to know.
        let _ = door.events.send(Event::Left { worker, connection }).await;
    }
}

/// Challenges and checks; `None` if there is no worker behind this connection.
async fn log_in(socket: &mut WebSocket, door: &Door) -> Option<(Address, String, Capabilities)> {
    let Door { workerpool, hub, chain_id, .. } = *door;
    let nonce = B256::from(rand::random::<[u8; 32]>());
    send(socket, &ToWorker::Challenge { version: link::VERSION, nonce, workerpool, hub, chain_id }).await?;
    let refusal = match receive(socket).await? {
        Ok(ToScheduler::Login { version, .. }) if version != link::VERSION => {
            format!("this pool speaks version {} and the worker version {version}: update the older one", link::VERSION)
        }
        Ok(ToScheduler::Login { address, name, signature: sign, capabilities, .. }) => {
            let message = link::login_message(chain_id, hub, workerpool, nonce, address);
            if signature::signed_message(address, message, &sign) {
                return Some((address, plain(&name), capabilities));
            }
            format!("the signature is not that of {address}: check the worker's key")
        }
        Ok(_) => "log in first".into(),
        Err(error) => format!("not understood: {error}"),
    };
    send(socket, &ToWorker::Refused { reason: refusal }).await;
    None
}

async fn talk(
    socket: &mut WebSocket,
    door: &Door,
    worker: Address,
    connection: u64,
    mut inbox: mpsc::Receiver<ToWorker>,
) {
    loop {
        tokio::select! {
            message = inbox.recv() => {
                let Some(message) = message else { return };
                let last = matches!(message, ToWorker::Refused { .. });
                if send(socket, &message).await.is_none() || last {
                    return;
                }
            }
            received = receive(socket) => match received {
                None => return,
                Some(Ok(message)) => {
                    if door.events.send(Event::Said { worker, connection, message }).await.is_err() {
                        return;
                    }
                }
                Some(Err(error)) => {
                    debug!(%worker, %error, "closing: a message that is not understood");
                    send(socket, &ToWorker::Refused { reason: format!("not understood: {error}") }).await;
                    return;
                }
            }
        }
    }
}

/// `None` when the connection is gone.
async fn send(socket: &mut WebSocket, message: &ToWorker) -> Option<()> {
    let text = serde_json::to_string(message).expect("messages serialise");
    let sending = socket.send(Message::Text(text.into()));
    tokio::time::timeout(LOGIN, sending).await.ok()?.ok()
}

/// The next message; `None` when the connection is gone.
async fn receive(socket: &mut WebSocket) -> Option<Result<ToScheduler, serde_json::Error>> {
    loop {
        match socket.recv().await?.ok()? {
            Message::Text(text) => return Some(serde_json::from_str(&text)),
            Message::Binary(bytes) => return Some(serde_json::from_slice(&bytes)),
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(_) => return None,
        }
    }
}

/// A name that is safe to show: printable, short.
fn plain(name: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
    if name.trim().is_empty() { "worker".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_safe() {
        assert_eq!(plain("a\u{1b}[31mb\n"), "a[31mb");
        assert_eq!(plain(" \t"), "worker");
        assert_eq!(plain(&"x".repeat(100)).len(), 40);
    }
}
