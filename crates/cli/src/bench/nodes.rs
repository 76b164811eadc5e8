//! Three nodes of one chain as the roles of a replay see them: they forget transactions, say events twice, and the third
//! may fall behind. Behind them is the embedded chain, which does none of that.
//!
//! What goes wrong is counted, and goes wrong every so many times: a replay needs no luck to have seen it.

use crate::services;
use axum::{Json, Router, extract, http::StatusCode, routing::post};
use bourse_chain::alloy::primitives::{B256, hex, keccak256};
use bourse_service::{CancellationToken, http};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// How many there are.
const NODES: usize = 3;
/// The one that may fall behind.
const STRAY: usize = 2;
/// One transaction in so many is lost.
const LOST: u64 = 50;
/// One answer with events in so many says one twice.
const DOUBLED: u64 = 10;
/// All nodes forget a transaction that is sent again within this time: it was one broadcast.
const BROADCAST: Duration = Duration::from_secs(3);
/// How long the chain may take.
const ANSWER: Duration = Duration::from_secs(10);

/// What went wrong so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Faults {
    pub(super) transactions_lost: u64,
    pub(super) events_doubled: u64,
    /// Answers of a node that was behind.
    pub(super) answers_behind: u64,
}

/// What all nodes share.
struct Earth {
    chain: String,
    http: reqwest::Client,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    faults: Faults,
    /// How many blocks the stray node is behind.
    lag: u64,
    /// When each transaction was first seen, and whether it was lost then.
    sent: BTreeMap<B256, (Instant, bool)>,
    answers_with_events: u64,
}

/// The nodes.
pub(super) struct Nodes {
    earth: Arc<Earth>,
    urls: String,
    _servers: JoinSet<()>,
}

impl Nodes {
    /// Starts them before the chain at this URL.
    pub(super) async fn start(chain: &str) -> eyre::Result<Self> {
        let http = http::client(ANSWER);
        let earth = Arc::new(Earth { chain: chain.to_owned(), http, state: Mutex::default() });
        let (mut servers, mut urls) = (JoinSet::new(), Vec::new());
        for index in 0..NODES {
            let (listener, url) = services::bind("a node", 0).await?;
            let router = Router::new().route("/", post(answer)).with_state((earth.clone(), index));
            servers.spawn(async move {
                // A node that ends is one that does not answer: the roles say so.
                let _ = http::serve(listener, router, CancellationToken::new()).await;
            });
            urls.push(url);
        }
        Ok(Self { earth, urls: urls.join(","), _servers: servers })
    }

    /// Their addresses, with commas between them.
    pub(super) fn urls(&self) -> String {
        self.urls.clone()
    }

    /// From now on the third node is so many blocks behind.
    pub(super) fn stray(&self, blocks: u64) {
        self.earth.state().lag = blocks;
    }

    /// What went wrong so far.
    pub(super) fn faults(&self) -> Faults {
        self.earth.state().faults
    }
}

type Place = (Arc<Earth>, usize);

async fn answer(
    extract::State((earth, index)): extract::State<Place>,
    Json(request): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    let failed = |_| StatusCode::BAD_GATEWAY;
    let Value::Array(requests) = &request else {
        return Ok(Json(earth.one(index, &request).await.map_err(failed)?));
    };
    let mut answers = Vec::new();
    for request in requests {
        answers.push(earth.one(index, request).await.map_err(failed)?);
    }
    Ok(Json(Value::Array(answers)))
}

impl Earth {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, request: &Value) -> reqwest::Result<Value> {
        self.http.post(&self.chain).json(request).send().await?.json().await
    }

    async fn one(&self, index: usize, request: &Value) -> reqwest::Result<Value> {
        if request["method"] == "eth_sendRawTransaction" {
            let hash = hash_of(request);
            let lost = self.state().loses(hash, Instant::now());
            return match lost {
                true => Ok(reply(request, json!(hash))),
                false => self.ask(request).await,
            };
        }
        let lag = if index == STRAY { self.state().lag } else { 0 };
        let mut answer = match lag {
            0 => self.ask(request).await?,
            lag => self.behind(request, lag).await?,
        };
        if request["method"] == "eth_getLogs" {
            self.state().repeat_event(&mut answer);
        }
        Ok(answer)
    }

    /// What a node answers whose newest block is so many behind: what is newer does not exist for it.
    async fn behind(&self, request: &Value, lag: u64) -> reqwest::Result<Value> {
        self.state().faults.answers_behind += 1;
        let height = self.ask(&json!({ "jsonrpc": "2.0", "id": 0, "method": "eth_blockNumber", "params": [] })).await?;
        let head = number(&height["result"]).saturating_sub(lag);
        match older(request, head) {
            Ok(request) => Ok(without_newer(&request, self.ask(&request).await?, head)),
            Err(known) => Ok(reply(request, known)),
        }
    }
}

impl State {
    /// Whether the nodes forget this transaction.
    fn loses(&mut self, hash: B256, now: Instant) -> bool {
        let next = self.sent.len() as u64 + 1;
        let (seen, lost) = *self.sent.entry(hash).or_insert((now, next % LOST == LOST / 5));
        if lost && seen == now {
            self.faults.transactions_lost += 1;
        }
        lost && now.saturating_duration_since(seen) < BROADCAST
    }

    fn repeat_event(&mut self, answer: &mut Value) {
        let events = answer.get_mut("result").and_then(Value::as_array_mut).filter(|events| !events.is_empty());
        let Some(events) = events else { return };
        self.answers_with_events += 1;
        if self.answers_with_events.is_multiple_of(DOUBLED) {
            let first = events[0].clone();
            events.insert(0, first);
            self.faults.events_doubled += 1;
        }
    }
}

fn reply(request: &Value, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": request["id"], "result": result })
}

/// The hash of the transaction that is sent.
fn hash_of(request: &Value) -> B256 {
    hex::decode(request["params"][0].as_str().unwrap_or_default()).map(keccak256).unwrap_or_default()
}

/// The same question where `head` is the newest block, or the answer if that is known already.
fn older(request: &Value, head: u64) -> Result<Value, Value> {
    let head_as_text = json!(format!("{head:#x}"));
    let method = request["method"].as_str().unwrap_or_default();
    if method == "eth_blockNumber" {
        return Err(head_as_text);
    }
    if method == "eth_getBlockByNumber" && is_newer(&request["params"][0], head) {
        return Err(Value::Null);
    }
    let mut request = request.clone();
    if let Some(params) = request["params"].as_array_mut() {
        let newest = params.iter_mut().filter(|p| **p == "latest" || **p == "pending");
        newest.for_each(|p| *p = head_as_text.clone());
    }
    Ok(request)
}

/// An answer without what is newer than `head`.
fn without_newer(request: &Value, mut answer: Value, head: u64) -> Value {
    match request["method"].as_str().unwrap_or_default() {
        "eth_getTransactionReceipt" if is_newer(&answer["result"]["blockNumber"], head) => {
            answer["result"] = Value::Null;
        }
        "eth_getBlockByHash" if is_newer(&answer["result"]["number"], head) => answer["result"] = Value::Null,
        "eth_getLogs" => {
            if let Some(logs) = answer["result"].as_array_mut() {
                logs.retain(|log| !is_newer(&log["blockNumber"], head));
            }
        }
        _ => {}
    }
    answer
}

/// Whether this is the number of a block after `head`. Tags and hashes are none.
fn is_newer(block: &Value, head: u64) -> bool {
    block.as_str().is_some_and(|text| text.starts_with("0x") && text.len() <= 18) && number(block) > head
}

fn number(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_default();
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_transaction_gets_through_when_it_is_sent_again() {
        let (mut state, now) = (State::default(), Instant::now());
        let hashes: Vec<B256> = (0..2 * LOST).map(|n| keccak256(n.to_be_bytes())).collect();
        let lost: Vec<B256> = hashes.into_iter().filter(|hash| state.loses(*hash, now)).collect();
        assert_eq!((lost.len() as u64, state.faults.transactions_lost), (2, 2));
        assert!(state.loses(lost[0], now + BROADCAST / 2), "another node got the same broadcast");
        assert!(!state.loses(lost[0], now + BROADCAST));
        assert_eq!(state.faults.transactions_lost, 2);
    }

    #[test]
    fn a_node_that_is_behind_knows_nothing_newer() {
        let request = |method: &str, first: Value| json!({ "id": 1, "method": method, "params": [first] });
        assert_eq!(older(&request("eth_blockNumber", json!(null)), 10), Err(json!("0xa")));
        assert_eq!(older(&request("eth_getBlockByNumber", json!("0xb")), 10), Err(Value::Null));
        let latest = older(&request("eth_getBlockByNumber", json!("latest")), 10).unwrap();
        assert_eq!(latest["params"][0], "0xa");
        let logs = json!({ "result": [{ "blockNumber": "0xa" }, { "blockNumber": "0xb" }] });
        let logs = without_newer(&request("eth_getLogs", json!({})), logs, 10);
        assert_eq!(logs["result"], json!([{ "blockNumber": "0xa" }]));
        let receipt = without_newer(
            &request("eth_getTransactionReceipt", json!(null)),
            json!({ "result": { "blockNumber": "0xb" } }),
            10,
        );
        assert_eq!(receipt["result"], Value::Null);
    }

    #[test]
    fn now_and_then_an_event_comes_twice() {
        let (mut state, mut doubled) = (State::default(), 0);
        for _ in 0..DOUBLED {
            let mut answer = json!({ "result": [{ "n": 1 }, { "n": 2 }] });
            state.repeat_event(&mut answer);
            doubled += answer["result"].as_array().unwrap().len() - 2;
        }
        assert_eq!((doubled, state.faults.events_doubled), (1, 1));
        let mut none = json!({ "result": [] });
        state.repeat_event(&mut none);
        assert_eq!((none, state.answers_with_events), (json!({ "result": [] }), DOUBLED));
    }
}
