//! The chain under the simulation: devchain on a thread of its own that has no runtime, so that it works inline and the
//! simulation's time stands still while it does.

use bourse_chain::alloy::primitives::{Address, U256};
use bourse_devchain::{Chain, Clock, Config};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};
use tokio::time::Instant;

/// Seconds since the epoch at which every run begins.
pub(crate) const BEGINNING: u64 = 1_800_000_000;

type Job = (Value, u64, mpsc::SyncSender<Value>);

/// The chain. Every answer is that of this moment.
#[derive(Debug)]
pub(crate) struct Ground {
    jobs: Mutex<Option<mpsc::SyncSender<Job>>>,
    /// What was asked since the chain changed last, and the answers: many roles ask the same of one block.
    known: Mutex<BTreeMap<String, Value>>,
    thread: Option<JoinHandle<()>>,
    origin: Instant,
}

impl Ground {
    /// A new chain that mines when told.
    pub(crate) fn new(genesis: Vec<(Address, U256)>) -> Self {
        let (jobs, inbox) = mpsc::sync_channel::<Job>(0);
        let thread = std::thread::spawn(move || {
            let clock = Clock::virtual_at(BEGINNING);
            let config = Config { genesis, clock: clock.clone(), ..Config::default() };
            let chain = Chain::open(config).expect("a chain in memory opens");
            let mut now = 0;
            while let Ok((request, at, reply)) = inbox.recv() {
                clock.advance(Duration::from_millis(at - now));
                now = at;
                let answer = futures_util::FutureExt::now_or_never(chain.handle(request));
                // Whoever asked waits for it.
                let _ = reply.send(answer.expect("without a runtime the chain works inline"));
            }
        });
        Self { jobs: Mutex::new(Some(jobs)), known: Mutex::default(), thread: Some(thread), origin: Instant::now() }
    }

    /// Milliseconds since the beginning.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Answers a JSON-RPC request.
    pub(crate) fn handle(&self, request: Value) -> Value {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_question(&request) {
            known().clear();
            return self.ask(request);
        }
        let question = format!("{}{}", request["method"], request["params"]);
        let id = request["id"].clone();
        if let Some(mut answer) = known().get(&question).cloned() {
            answer["id"] = id;
            return answer;
        }
        let answer = self.ask(request);
        known().insert(question, answer.clone());
        answer
    }

    fn ask(&self, request: Value) -> Value {
        let (reply, answer) = mpsc::sync_channel(1);
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = jobs.as_ref().is_some_and(|jobs| jobs.send((request, self.now(), reply)).is_ok());
        assert!(sent, "the chain's thread lives as long as the chain");
        answer.recv().expect("the chain answers")
    }

    /// Calls a method.
    pub(crate) fn rpc(&self, method: &str, params: Value) -> Value {
        let answer = self.handle(json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }));
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// The number of the newest block.
    pub(crate) fn height(&self) -> u64 {
        number(&self.rpc("eth_blockNumber", json!([])))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        *self.jobs.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Whether the answer is the same until the chain changes. What looks at the clock is not: an estimate runs in the block
/// that would be made now.
fn is_question(request: &Value) -> bool {
    let of_the_present = request["params"].as_array().is_some_and(|p| p.iter().any(|p| p == "pending"));
    let asks = [
        "eth_call",
        "eth_getBlockByNumber",
        "eth_getBlockByHash",
        "eth_getBlockReceipts",
        "eth_getLogs",
        "eth_getBalance",
        "eth_getTransactionCount",
        "eth_getTransactionReceipt",
        "eth_blockNumber",
        "eth_chainId",
        "eth_maxPriorityFeePerGas",
    ];
    asks.iter().any(|asks| request["method"] == *asks) && !of_the_present
}

/// A JSON-RPC quantity.
pub(crate) fn number(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_default().trim_start_matches("0x");
    u64::from_str_radix(text, 16).unwrap_or_default()
}
