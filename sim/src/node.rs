//! A node as a role sees it: late, behind, forgetful, lying.

use crate::{
    chain::{Ground, number, raw, value},
    chance::Chance,
    life::Life,
    tally::{Fault, Tally},
};
use alloy::{
    rpc::{
        client::RpcClient,
        json_rpc::{RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest},
    },
    transports::{TransportError, TransportErrorKind, TransportFut},
};
use serde_json::{Value, json, value::RawValue};
use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tower::Service;

/// How transactions are handed over.
const BROADCAST: &str = "eth_sendRawTransaction";

/// The base fee that a spike ends with, in wei: that of the first block.
pub(crate) const BASE_FEE: u64 = 1_000_000_000;

/// By so many seconds the time of a block is forged.
const A_DAY: u64 = 86_400;

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
    /// How often the newest block is shown with a time to come.
    pub(crate) time_forged: u32,
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
    /// The base fee of the next block, in wei, where it is not what the chain makes of the block before.
    pub(crate) base_fee: Option<u64>,
    /// How many blocks behind each node is.
    pub(crate) lag: Vec<u64>,
    /// Transactions that a node holds back: the block from which they go on.
    pub(crate) held: Vec<(u64, String)>,
}

impl Earth {
    pub(crate) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a block at the base fee of this time; what offers less goes on waiting.
    pub(crate) fn mine(&self) {
        self.release();
        let fee = self.state().base_fee;
        if let Some(fee) = fee {
            self.ground.rpc("anvil_setNextBlockBaseFeePerGas", json!([fee]));
        }
        self.ground.rpc("evm_mine", json!([]));
    }

    /// Hands on what was held back.
    fn release(&self) {
        let height = self.ground.height();
        let due: Vec<(u64, String)> = {
            let mut state = self.state();
            let (due, held) = std::mem::take(&mut state.held).into_iter().partition(|(at, _)| *at <= height);
            state.held = held;
            due
        };
        for (_, params) in due {
            self.ground.answer(BROADCAST, &params);
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

    async fn answer(self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        if self.honest {
            return Ok(each(packet, |request| self.earth.ground.answer(request.method(), params(request))));
        }
        self.point().await;
        let broadcast = packet.as_single().is_some_and(|request| is_broadcast(request.method()));
        if broadcast && !packet.as_single().is_some_and(|request| self.life.sends(params(request))) {
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
        let answer = each(packet, |request| self.one(request.method(), params(request), mood));
        self.point().await;
        if broadcast && self.strikes(mood.reply_lost, Fault::ReplyLost) {
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

    fn one(&self, method: &str, params: &str, mood: Mood) -> ResponsePayload {
        if is_broadcast(method) {
            return self.broadcast(method, params, mood);
        }
        let mut lag = self.earth.state().lag.get(self.index).copied().unwrap_or(0);
        if method == "eth_blockNumber" || asks_latest_block(method, params) {
            lag += if self.strikes(mood.head_back, Fault::HeadGoesBack) { 2 } else { 0 };
        }
        let answer = match lag {
            0 => self.earth.ground.answer(method, params),
            lag => behind(&self.earth.ground, method, params, self.earth.ground.height().saturating_sub(lag)),
        };
        match method {
            "eth_getLogs" => self.spoil_logs(answer, mood),
            _ if asks_latest_block(method, params) && self.strikes(mood.time_forged, Fault::TimeForged) => {
                changed(answer, |block| {
                    if let Some(time) = block.get_mut("timestamp") {
                        *time = json!(format!("{:#x}", number(time) + A_DAY));
                    }
                })
            }
            _ => answer,
        }
    }

    fn broadcast(&self, method: &str, params: &str, mood: Mood) -> ResponsePayload {
        if self.strikes(mood.lost, Fault::TransactionLost) {
            return accepted(params);
        }
        if self.strikes(mood.delayed, Fault::TransactionDelayed) {
            let until = self.earth.ground.height() + self.earth.chance.within(1..=4);
            self.earth.state().held.push((until, params.to_owned()));
            return accepted(params);
        }
        if self.strikes(mood.doubled, Fault::TransactionDoubled) {
            self.earth.ground.answer(method, params);
        }
        self.earth.ground.answer(method, params)
    }

    fn spoil_logs(&self, answer: ResponsePayload, mood: Mood) -> ResponsePayload {
        changed(answer, |result| {
            let Some(logs) = result.as_array_mut().filter(|logs| !logs.is_empty()) else { return };
            if self.strikes(mood.events_missing, Fault::EventsMissing) {
                logs.pop();
            } else if self.strikes(mood.events_doubled, Fault::EventsDoubled) {
                let first = logs[0].clone();
                logs.insert(0, first);
            }
        })
    }
}

/// Answers a request, or all of a batch.
fn each(packet: RequestPacket, answer: impl Fn(&SerializedRequest) -> ResponsePayload) -> ResponsePacket {
    let answer = |request: &SerializedRequest| Response { id: request.id().clone(), payload: answer(request) };
    match packet {
        RequestPacket::Single(request) => ResponsePacket::Single(answer(&request)),
        RequestPacket::Batch(requests) => ResponsePacket::Batch(requests.iter().map(answer).collect()),
    }
}

/// The parameters of a request, as JSON.
fn params(request: &SerializedRequest) -> &str {
    request.params().map_or("[]", RawValue::get)
}

fn is_broadcast(method: &str) -> bool {
    method == BROADCAST
}

fn asks_latest_block(method: &str, params: &str) -> bool {
    method == "eth_getBlockByNumber" && params.starts_with("[\"latest\"")
}

/// What a node says that has taken a transaction.
fn accepted(params: &str) -> ResponsePayload {
    let raw_transaction = params.trim_matches(['[', ']', '"']);
    let hash = bourse_chain::alloy::primitives::hex::decode(raw_transaction);
    let hash = hash.map(bourse_chain::alloy::primitives::keccak256).unwrap_or_default();
    ResponsePayload::Success(raw(&json!(hash)))
}

/// An answer with another result; an error stays what it is.
fn changed(answer: ResponsePayload, change: impl FnOnce(&mut Value)) -> ResponsePayload {
    match answer {
        ResponsePayload::Success(result) => {
            let mut result = value(&result);
            change(&mut result);
            ResponsePayload::Success(raw(&result))
        }
        failure @ ResponsePayload::Failure(_) => failure,
    }
}

/// The same question to a node whose newest block is `head`: what is newer does not exist for it.
fn behind(ground: &Ground, method: &str, params: &str, head: u64) -> ResponsePayload {
    let newest = json!(format!("{head:#x}"));
    if method == "eth_blockNumber" {
        return ResponsePayload::Success(raw(&newest));
    }
    let mut params: Value = serde_json::from_str(params).expect("clients write JSON");
    if method == "eth_getBlockByNumber" && is_quantity(&params[0]) && number(&params[0]) > head {
        return ResponsePayload::Success(raw(&Value::Null));
    }
    if let Some(params) = params.as_array_mut() {
        let latest = params.iter_mut().filter(|p| **p == "latest" || **p == "pending");
        latest.for_each(|p| *p = newest.clone());
    }
    let answer = ground.answer(method, &params.to_string());
    let too_new = |block: &Value| is_quantity(block) && number(block) > head;
    match method {
        "eth_getTransactionReceipt" | "eth_getBlockByHash" | "eth_getLogs" => changed(answer, |result| match result {
            Value::Array(logs) => logs.retain(|log| !too_new(&log["blockNumber"])),
            found if too_new(&found["blockNumber"]) || too_new(&found["number"]) => *found = Value::Null,
            _ => {}
        }),
        _ => answer,
    }
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
        Box::pin(node.answer(request))
    }
}
