//! One WebSocket connection: requests, and the subscriptions that end with it.
//!
//! A client that does not keep up with its subscriptions is disconnected rather than sent a stream with holes.

use super::Desk;
use crate::filters::{Topic, changed_logs};
use crate::published::Event;
use crate::rpc::error::RpcError;
use crate::rpc::params::Params;
use crate::rpc::{Text, refusal, render, success, text};
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json, value::RawValue};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};

/// Most requests of one connection that run at once.
const MAX_RUNNING: usize = 32;
/// Most subscriptions of one connection.
const MAX_SUBSCRIPTIONS: usize = 128;
/// How long a client may take to accept one message.
const SEND_LIMIT: Duration = Duration::from_secs(30);

static LAST_SUBSCRIPTION: AtomicU64 = AtomicU64::new(0);

struct Connection {
    desk: Arc<Desk>,
    socket: WebSocket,
    running: FuturesUnordered<BoxFuture<'static, Text>>,
    subscriptions: BTreeMap<String, Arc<Topic>>,
    /// Listening since the first subscription.
    events: Option<broadcast::Receiver<Event>>,
}

/// Why a connection ends.
enum End {
    Gone,
    Close(u16, &'static str),
}

pub(super) async fn serve(desk: Arc<Desk>, socket: WebSocket) {
    let (running, subscriptions) = (FuturesUnordered::new(), BTreeMap::new());
    let mut connection = Connection { desk, socket, running, subscriptions, events: None };
    loop {
        match connection.turn().await {
            Ok(()) => {}
            Err(End::Gone) => return,
            Err(End::Close(code, reason)) => {
                let frame = CloseFrame { code, reason: reason.into() };
                // The client may be gone already.
                let _ = connection.send(Message::Close(Some(frame))).await;
                return;
            }
        }
    }
}

impl Connection {
    async fn turn(&mut self) -> Result<(), End> {
        let shutdown = self.desk.shutdown.clone();
        let room = self.running.len() < MAX_RUNNING;
        tokio::select! {
            () = shutdown.cancelled() => Err(End::Close(close_code::AWAY, "the chain stops")),
            Some(answer) = self.running.next() => self.reply(&answer).await,
            event = next_event(&mut self.events) => self.notify(event).await,
            message = self.socket.recv(), if room => match message {
                Some(Ok(message)) => self.receive(message).await,
                Some(Err(_)) | None => Err(End::Gone),
            },
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match tokio::time::timeout(SEND_LIMIT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }

    async fn reply(&mut self, answer: &RawValue) -> Result<(), End> {
        self.send(Message::Text(answer.get().into())).await
    }

    async fn receive(&mut self, message: Message) -> Result<(), End> {
        let bytes = match message {
            Message::Text(text) => text.into(),
            Message::Binary(bytes) => bytes,
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Close(_) => return Err(End::Gone),
        };
        let request: Value = match serde_json::from_slice(&bytes) {
            Ok(request) => request,
            Err(error) => return self.reply(&refusal(Value::Null, &RpcError::parse(error))).await,
        };
        match request.get("method").and_then(Value::as_str) {
            Some("eth_subscribe") => {
                let answer = answer(&request, |params| self.subscribe(params));
                self.reply(&answer).await
            }
            Some("eth_unsubscribe") => {
                let answer = answer(&request, |params| self.unsubscribe(params));
                self.reply(&answer).await
            }
            _ => {
                let desk = self.desk.clone();
                let run = async move { desk.chain.answer(request, desk.access()).await };
                self.running.push(Box::pin(run));
                Ok(())
            }
        }
    }

    fn subscribe(&mut self, mut params: Params) -> Result<Text, RpcError> {
        if self.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return Err(RpcError::limit(format!("at most {MAX_SUBSCRIPTIONS} subscriptions on one connection")));
        }
        let topic = Topic::read(&mut params)?;
        self.events.get_or_insert_with(|| self.desk.chain.0.shared.events.subscribe());
        let id = format!("{:#034x}", LAST_SUBSCRIPTION.fetch_add(1, Ordering::Relaxed) + 1);
        self.subscriptions.insert(id.clone(), topic);
        Ok(text(&id))
    }

    fn unsubscribe(&mut self, mut params: Params) -> Result<Text, RpcError> {
        let id: String = params.get(0, "subscription")?;
        let known = self.subscriptions.remove(&id).is_some();
        if self.subscriptions.is_empty() {
            self.events = None;
        }
        Ok(text(&known))
    }

    async fn notify(&mut self, event: Result<Event, RecvError>) -> Result<(), End> {
        let event = match event {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => {
                return Err(End::Close(close_code::POLICY, "too slow: subscribe again and read what was missed"));
            }
            Err(RecvError::Closed) => return Err(End::Gone),
        };
        let mut messages = Vec::new();
        for (id, topic) in &self.subscriptions {
            let message = |result| {
                let params = json!({ "subscription": id, "result": result });
                text(&json!({ "jsonrpc": "2.0", "method": "eth_subscription", "params": params }))
            };
            messages.extend(news(topic, &event).into_iter().map(message));
        }
        for message in messages {
            self.reply(&message).await?;
        }
        Ok(())
    }
}

/// Waits for an event, forever while there is no subscription.
async fn next_event(events: &mut Option<broadcast::Receiver<Event>>) -> Result<Event, RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// What a subscriber hears of an event.
fn news(topic: &Topic, event: &Event) -> Vec<Value> {
    match (topic, event) {
        (Topic::Blocks, Event::Blocks { added, .. }) => added.iter().map(|block| render::head(block)).collect(),
        (Topic::Logs(filter), Event::Blocks { removed, added }) => {
            changed_logs(filter, removed, added).into_iter().map(|log| json!(log)).collect()
        }
        (Topic::Pending, Event::Pending(transactions)) => {
            transactions.iter().map(|transaction| json!(transaction.hash)).collect()
        }
        (Topic::Blocks | Topic::Logs(_), Event::Pending(_)) | (Topic::Pending, Event::Blocks { .. }) => Vec::new(),
    }
}

/// Answers a request about subscriptions.
fn answer(request: &Value, run: impl FnOnce(Params) -> Result<Text, RpcError>) -> Text {
    let id = request.get("id").cloned().unwrap_or_default();
    match Params::new(request.get("params").cloned()).and_then(run) {
        Ok(result) => success(&id, &result),
        Err(error) => refusal(id, &error),
    }
}
