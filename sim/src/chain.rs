//! The chain under the simulation: devchain, which does all its work here and now, so that the simulation's time stands
//! still meanwhile.

use bourse_chain::alloy::primitives::{Address, U256};
use bourse_devchain::{Chain, Clock, Config};
use futures_util::FutureExt;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::unconstrained, time::Instant};

/// Seconds since the epoch at which every run begins.
pub(crate) const BEGINNING: u64 = 1_800_000_000;

/// The chain. Every answer is that of this moment.
#[derive(Debug)]
pub(crate) struct Ground {
    chain: Chain,
    clock: Clock,
    origin: Instant,
    /// Milliseconds since the beginning, as the chain's clock shows them.
    shown: AtomicU64,
    /// What was asked since the chain changed last, and the answers: many roles ask the same of one block.
    known: Mutex<BTreeMap<String, Value>>,
}

impl Ground {
    /// A new chain that mines when told.
    pub(crate) fn new(genesis: Vec<(Address, U256)>) -> Self {
        let clock = Clock::virtual_at(BEGINNING);
        let config = Config { genesis, clock: clock.clone(), inline: true, ..Config::default() };
        let chain = Chain::open(config).expect("a chain in memory opens");
        Self { chain, clock, origin: Instant::now(), shown: AtomicU64::new(0), known: Mutex::default() }
    }

    /// Milliseconds since the beginning.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a JSON-RPC request.
    pub(crate) fn handle(&self, request: Value) -> Value {
        if !is_question(&request) {
            self.known().clear();
            return self.ask(request);
        }
        let question = format!("{}{}", request["method"], request["params"]);
        let id = request["id"].clone();
        if let Some(mut answer) = self.known().get(&question).cloned() {
            answer["id"] = id;
            return answer;
        }
        let answer = self.ask(request);
        self.known().insert(question, answer.clone());
        answer
    }

    fn ask(&self, request: Value) -> Value {
        let now = self.now();
        self.clock.advance(Duration::from_millis(now - self.shown.swap(now, Ordering::Relaxed)));
        // Tokio would make a task that asks much wait for its turn.
        unconstrained(self.chain.handle(request)).now_or_never().expect("the chain works inline")
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

/// Whether the answer is the same until the chain changes. What runs in the block that would be made now is not: it looks at
/// the clock.
fn is_question(request: &Value) -> bool {
    const ASK: [&str; 11] = [
        "eth_blockNumber",
        "eth_call",
        "eth_chainId",
        "eth_getBalance",
        "eth_getBlockByHash",
        "eth_getBlockByNumber",
        "eth_getBlockReceipts",
        "eth_getLogs",
        "eth_getTransactionCount",
        "eth_getTransactionReceipt",
        "eth_maxPriorityFeePerGas",
    ];
    let pending = request["params"].as_array().is_some_and(|p| p.iter().any(|p| p == "pending"));
    ASK.iter().any(|method| request["method"] == *method) && !pending
}

/// A JSON-RPC quantity.
pub(crate) fn number(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_default().trim_start_matches("0x");
    u64::from_str_radix(text, 16).unwrap_or_default()
}
