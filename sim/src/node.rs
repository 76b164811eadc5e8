//! A node as a role sees it: late, behind, forgetful, lying, expensive.

use crate::{
    chain::{Ground, number},
    chance::Chance,
    life::Life,
    tally::{Fault, Tally},
};
use alloy::{
    rpc::{
        client::RpcClient,
        json_rpc::{RequestPacket, ResponsePacket},
    },
    transports::{TransportError, TransportErrorKind, TransportFut},
};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tower::Service;

/// How bad the nodes are: parts of 10,000 per question.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mood {
    pub(crate) error: u32,
    pub(crate) timeout: u32,
    pub(crate) lost: u32,
    pub(crate) delayed: u32,
    pub(crate) doubled: u32,
    pub(crate) reply_lost: u32,
    pub(crate) events_missing: u32,
    pub(crate) events_doubled: u32,
    /// How often the head jumps back for one answer.
    pub(crate) head_back: u32,
}

/// What all nodes share.
#[derive(Debug)]
pub(crate) struct Earth {
    pub(crate) ground: Ground,
    pub(crate) chance: Chance,
    pub(crate) tally: Tally,
    pub(crate) state: Mutex<State>,
}

/// What changes.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) mood: Mood,
    /// The base fee is shown times this.
    pub(crate) spike: u64,
    /// How many blocks behind each node is.
    pub(crate) lag: Vec<u64>,
    /// Transactions that a node holds back: the block from which they go on.
    pub(crate) held: Vec<(u64, Value)>,
}

impl Earth {
    pub(crate) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands on what was held back.
    pub(crate) fn release(&self) {
        let height = self.ground.height();
        let due: Vec<Value> = {
            let mut state = self.state();
            let (due, held) = std::mem::take(&mut state.held).into_iter().partition(|(at, _)| *at <= height);
            state.held = held;
            let due: Vec<(u64, Value)> = due;
            due.into_iter().map(|(_, request)| request).collect()
        };
        for request in due {
            self.ground.handle(request);
        }
    }
}

/// A node, for one life of one role.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) earth: Arc<Earth>,
    pub(crate) index: usize,
    pub(crate) life: Life,
    /// Without faults, for those who only look.
    pub(crate) honest: bool,
}

impl Node {
    pub(crate) fn client(self) -> RpcClient {
        RpcClient::new(self, true)
    }

    async fn answer(self, request: Value) -> Result<Value, TransportError> {
        if self.honest {
            return Ok(self.earth.ground.handle(request));
        }
        self.point().await;
        if is_broadcast(&request) && !self.life.sends(request["params"][0].as_str().unwrap_or_default()) {
            std::future::pending::<()>().await;
        }
        let mood = self.earth.state().mood;
        tokio::time::sleep(Duration::from_millis(self.earth.chance.within(1..=30))).await;
        if self.strikes(mood.timeout, Fault::RpcTimeout) {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        if self.strikes(mood.error, Fault::RpcError) {
            return Err(TransportErrorKind::custom_str("connection refused"));
        }
        let answer = match &request {
            Value::Array(requests) => Value::Array(requests.iter().map(|r| self.one(r, mood)).collect()),
            single => self.one(single, mood),
        };
        self.point().await;
        if is_broadcast(&request) && self.strikes(mood.reply_lost, Fault::ReplyLost) {
            return Err(TransportErrorKind::custom_str("connection reset"));
        }
        Ok(answer)
    }

    /// A numbered point: a role that died here waits for ever.
    async fn point(&self) {
        if !self.life.passes() {
            std::future::pending::<()>().await;
        }
    }

    fn strikes(&self, chance: u32, fault: Fault) -> bool {
        let strikes = self.earth.chance.hits(chance);
        if strikes {
            self.earth.tally.count(fault);
        }
        strikes
    }

    fn one(&self, request: &Value, mood: Mood) -> Value {
        let method = request["method"].as_str().unwrap_or_default();
        if is_broadcast(request) {
            return self.broadcast(request, mood);
        }
        let mut lag = self.earth.state().lag.get(self.index).copied().unwrap_or(0);
        if method == "eth_blockNumber" || asks_latest_block(request) {
            lag += if self.strikes(mood.head_back, Fault::HeadGoesBack) { 2 } else { 0 };
        }
        let mut answer = match lag {
            0 => self.earth.ground.handle(request.clone()),
            lag => behind(&self.earth.ground, request, self.earth.ground.height().saturating_sub(lag)),
        };
        match method {
            "eth_getLogs" => self.spoil_logs(&mut answer, mood),
            "eth_getBlockByNumber" | "eth_getBlockByHash" => self.make_expensive(&mut answer),
            _ => {}
        }
        answer
    }

    fn broadcast(&self, request: &Value, mood: Mood) -> Value {
        if self.strikes(mood.lost, Fault::TransactionLost) {
            return accepted(request);
        }
        if self.strikes(mood.delayed, Fault::TransactionDelayed) {
            let until = self.earth.ground.height() + self.earth.chance.within(1..=4);
            self.earth.state().held.push((until, request.clone()));
            return accepted(request);
        }
        if self.strikes(mood.doubled, Fault::TransactionDoubled) {
            self.earth.ground.handle(request.clone());
        }
        self.earth.ground.handle(request.clone())
    }

    fn spoil_logs(&self, answer: &mut Value, mood: Mood) {
        let Some(logs) = answer.get_mut("result").and_then(Value::as_array_mut).filter(|logs| !logs.is_empty()) else {
            return;
        };
        if self.strikes(mood.events_missing, Fault::EventsMissing) {
            logs.pop();
        } else if self.strikes(mood.events_doubled, Fault::EventsDoubled) {
            let first = logs[0].clone();
            logs.insert(0, first);
        }
    }

    fn make_expensive(&self, answer: &mut Value) {
        let spike = self.earth.state().spike;
        if spike > 1
            && let Some(fee) = answer.pointer_mut("/result/baseFeePerGas")
        {
            *fee = json!(format!("{:#x}", number(fee).saturating_mul(spike)));
        }
    }
}

fn is_broadcast(request: &Value) -> bool {
    request["method"] == "eth_sendRawTransaction"
}

fn asks_latest_block(request: &Value) -> bool {
    request["method"] == "eth_getBlockByNumber" && request["params"][0] == "latest"
}

/// What a node says that has taken a transaction.
fn accepted(request: &Value) -> Value {
    let raw = request["params"][0].as_str().unwrap_or_default();
    let hash = bourse_chain::alloy::primitives::hex::decode(raw).map(bourse_chain::alloy::primitives::keccak256);
    json!({ "jsonrpc": "2.0", "id": request["id"], "result": hash.unwrap_or_default() })
}

/// The same question to a node whose newest block is `head`: what is newer does not exist for it.
fn behind(ground: &Ground, request: &Value, head: u64) -> Value {
    let reply = |result: Value| json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
    let method = request["method"].as_str().unwrap_or_default();
    if method == "eth_blockNumber" {
        return reply(json!(format!("{head:#x}")));
    }
    if method == "eth_getBlockByNumber" && is_quantity(&request["params"][0]) && number(&request["params"][0]) > head {
        return reply(Value::Null);
    }
    let mut request = request.clone();
    if let Some(params) = request["params"].as_array_mut() {
        let newest = params.iter_mut().filter(|p| **p == "latest" || **p == "pending");
        newest.for_each(|p| *p = json!(format!("{head:#x}")));
    }
    let mut answer = ground.handle(request);
    let too_new = |block: &Value| is_quantity(block) && number(block) > head;
    match method {
        "eth_getTransactionReceipt" if too_new(&answer["result"]["blockNumber"]) => answer["result"] = Value::Null,
        "eth_getBlockByHash" if too_new(&answer["result"]["number"]) => answer["result"] = Value::Null,
        "eth_getLogs" => {
            if let Some(logs) = answer["result"].as_array_mut() {
                logs.retain(|log| !too_new(&log["blockNumber"]));
            }
        }
        _ => {}
    }
    answer
}

fn is_quantity(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with("0x") && text.len() <= 18)
}

impl Service<RequestPacket> for Node {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        let node = self.clone();
        Box::pin(async move {
            let request: Value = serde_json::to_value(&request).map_err(TransportErrorKind::custom)?;
            let answer = node.answer(request).await?;
            let text = answer.to_string();
            serde_json::from_str(&text).map_err(|error| TransportError::deser_err(error, text))
        })
    }
}
