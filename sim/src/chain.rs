//! The chain under the simulation: devchain, which does all its work here and now, so that the simulation's time stands
//! still meanwhile.

use alloy::rpc::json_rpc::ResponsePayload;
use bourse_chain::alloy::primitives::{Address, U256, map::HashMap};
use bourse_devchain::{Chain, Clock, Config};
use futures_util::FutureExt;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
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
    /// Every transaction makes a block.
    on_demand: AtomicBool,
    /// What was asked since the chain changed last, and the answers: many roles ask the same of one block.
    known: Mutex<HashMap<String, ResponsePayload>>,
}

impl Ground {
    /// A new chain that makes a block of every transaction.
    pub(crate) fn new(genesis: Vec<(Address, U256)>) -> Self {
        Self::open(Config { genesis, ..Config::default() })
    }

    /// One that begins as a copy of another.
    pub(crate) fn like(other: &Self) -> Self {
        Self::open(Config { copy_of: Some(other.chain.clone()), ..Config::default() })
    }

    fn open(config: Config) -> Self {
        let clock = Clock::virtual_at(BEGINNING);
        let chain = Chain::open(Config { clock: clock.clone(), inline: true, ..config });
        let chain = chain.expect("a chain in memory opens");
        let (shown, on_demand) = (AtomicU64::new(0), AtomicBool::new(true));
        Self { chain, clock, origin: Instant::now(), shown, on_demand, known: Mutex::default() }
    }

    /// From now on blocks are made when told.
    pub(crate) fn mine_when_told(&self) {
        self.rpc("evm_setAutomine", json!([false]));
        self.on_demand.store(false, Ordering::Relaxed);
    }

    /// Milliseconds since the beginning.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, ResponsePayload>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a JSON-RPC request. `params` is JSON.
    pub(crate) fn answer(&self, method: &str, params: &str) -> ResponsePayload {
        if self.changes(method) {
            self.known().clear();
            return self.ask(method, params);
        }
        if !is_question(method, params) {
            return self.ask(method, params);
        }
        let question = [method, params].concat();
        if let Some(answer) = self.known().get(&question) {
            return answer.clone();
        }
        let answer = self.ask(method, params);
        self.known().insert(question, answer.clone());
        answer
    }

    /// Whether answers may be others after it. A transaction that waits for a block shows only in what is never kept.
    fn changes(&self, method: &str) -> bool {
        let sends = method == "eth_sendRawTransaction" && self.on_demand.load(Ordering::Relaxed);
        sends || method.starts_with("evm_") || method.starts_with("anvil_")
    }

    fn ask(&self, method: &str, params: &str) -> ResponsePayload {
        let now = self.now();
        self.clock.advance(Duration::from_millis(now - self.shown.swap(now, Ordering::Relaxed)));
        let params: Value = serde_json::from_str(params).expect("clients write JSON");
        // Tokio would make a task that asks much wait for its turn.
        let answer = unconstrained(self.chain.run(method, params)).now_or_never().expect("the chain works inline");
        answer.map_or_else(ResponsePayload::Failure, ResponsePayload::Success)
    }

    /// Calls a method.
    pub(crate) fn rpc(&self, method: &str, params: Value) -> Value {
        match self.answer(method, &params.to_string()) {
            ResponsePayload::Success(result) => value(&result),
            ResponsePayload::Failure(error) => panic!("{method}: {error}"),
        }
    }

    /// The number of the newest block.
    pub(crate) fn height(&self) -> u64 {
        number(&self.rpc("eth_blockNumber", json!([])))
    }
}

/// Whether the answer is the same until the chain changes. What runs in the block that would be made now is not: it looks at
/// the clock.
fn is_question(method: &str, params: &str) -> bool {
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
    ASK.contains(&method) && !params.contains("\"pending\"")
}

/// JSON as text.
pub(crate) fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).expect("JSON has a text")
}

/// JSON from text.
pub(crate) fn value(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).expect("raw values are JSON")
}

/// A JSON-RPC quantity.
pub(crate) fn number(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_default().trim_start_matches("0x");
    u64::from_str_radix(text, 16).unwrap_or_default()
}
