//! Nodes with faults that tests switch on and off: a chain behind a transport that spoils questions and answers.

use alloy::{
    rpc::{
        client::RpcClient,
        json_rpc::{RequestPacket, ResponsePacket},
    },
    transports::{TransportError, TransportErrorKind, TransportFut},
};
use bourse_chain::{Client, Settings, alloy};
use bourse_devchain::Chain;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use tower::Service;

/// What a node does wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// It never answers.
    pub(crate) silent: bool,
    /// Its newest block is so many behind.
    pub(crate) lag: u64,
    /// It announces so many blocks more than it has.
    pub(crate) boast: u64,
    /// It says that it is on this chain.
    pub(crate) chain_id: Option<u64>,
    /// It knows no base fees.
    pub(crate) legacy: bool,
    /// It suggests this price, where it knows no base fees.
    pub(crate) gas_price: Option<u64>,
    /// What it says of its own version.
    pub(crate) version: Option<&'static str>,
    /// It refuses these methods with a code and words.
    pub(crate) refuse: BTreeMap<&'static str, (i64, &'static str)>,
    /// It refuses ranges of logs longer than this.
    pub(crate) longest_range: Option<u64>,
    /// It gives so many logs of a range at most, and does not say that there are more.
    pub(crate) most_logs: Option<usize>,
    /// It has forgotten all logs.
    pub(crate) no_logs: bool,
    /// The times of its blocks are so many seconds later than they are.
    pub(crate) later: u64,
    /// Its blocks with all their transactions cannot be read.
    pub(crate) no_full_blocks: bool,
    /// Gas that it says any call takes.
    pub(crate) gas: Option<u64>,
    /// Its receipts are of a block that cannot be.
    pub(crate) far_receipts: bool,
    /// It takes transactions and forgets them.
    pub(crate) swallows: bool,
}

/// A node of a chain. Clones are the same node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    chain: Chain,
    faults: Arc<Mutex<Faults>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Node {
    /// A node that does well.
    pub(crate) fn of(chain: &Chain) -> Self {
        Self { chain: chain.clone(), faults: Default::default(), asked: Default::default() }
    }

    /// From now on it has these faults and no others.
    pub(crate) fn spoil(&self, faults: Faults) {
        *self.faults.lock().unwrap() = faults;
    }

    /// From now on it does well.
    pub(crate) fn heal(&self) {
        self.spoil(Faults::default());
    }

    /// What was asked since this was last called.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// How often the newest block was asked for since [`Node::asked`].
    pub(crate) fn rounds(&self) -> usize {
        self.asked.lock().unwrap().iter().filter(|method| *method == "eth_getBlockByNumber").count()
    }

    async fn handle(&self, mut request: Value) -> Result<Value, TransportError> {
        let method = request["method"].as_str().unwrap_or_default().to_owned();
        let full = method == "eth_getBlockByNumber" && request["params"][1] == json!(true);
        self.asked.lock().unwrap().push(if full { "a full block".into() } else { method.clone() });
        let faults = self.faults.lock().unwrap().clone();
        if faults.silent {
            std::future::pending::<()>().await;
        }
        let refuse = |code: i64, message: &str| {
            Ok(json!({ "jsonrpc": "2.0", "id": request["id"], "error": { "code": code, "message": message } }))
        };
        let answer = |result: Value| Ok(json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }));
        if let Some((code, message)) = faults.refuse.get(method.as_str()) {
            return refuse(*code, message);
        }
        let head = number(&self.ask("eth_blockNumber", json!([])).await) - faults.lag;
        match method.as_str() {
            "eth_blockNumber" => return answer(json!(format!("{:#x}", head + faults.boast))),
            "eth_chainId" if faults.chain_id.is_some() => {
                return answer(json!(format!("{:#x}", faults.chain_id.unwrap())));
            }
            "web3_clientVersion" if faults.version.is_some() => return answer(json!(faults.version)),
            "eth_gasPrice" if faults.gas_price.is_some() => {
                return answer(json!(format!("{:#x}", faults.gas_price.unwrap())));
            }
            "eth_getLogs" if faults.no_logs => return answer(json!([])),
            "eth_getLogs" => {
                let filter = &request["params"][0];
                if let (Some(longest), true) = (faults.longest_range, filter["fromBlock"].is_string()) {
                    let length = number(&filter["toBlock"]) + 1 - number(&filter["fromBlock"]);
                    if length > longest {
                        return refuse(-32005, "query exceeds max block range");
                    }
                }
            }
            "eth_getBlockByNumber" if faults.no_full_blocks && full => {
                return answer(json!({ "transactions": "many" }));
            }
            "eth_estimateGas" if faults.gas.is_some() => return answer(json!(format!("{:#x}", faults.gas.unwrap()))),
            "eth_getTransactionReceipt" if faults.far_receipts => {
                let mut receipt = self.ask(&method, request["params"].clone()).await;
                if receipt.is_object() {
                    receipt["blockNumber"] = json!("0xffffffffffffffff");
                }
                return answer(receipt);
            }
            "eth_sendRawTransaction" if faults.swallows => {
                let raw: alloy::primitives::Bytes = serde_json::from_value(request["params"][0].clone()).unwrap();
                return answer(json!(alloy::primitives::keccak256(&raw)));
            }
            "eth_getTransactionReceipt" if faults.lag > 0 => {
                let receipt = self.ask(&method, request["params"].clone()).await;
                let visible = receipt.is_object() && number(&receipt["blockNumber"]) <= head;
                return answer(if visible { receipt } else { Value::Null });
            }
            _ => {}
        }
        if faults.lag > 0 {
            // What it does not have yet it cannot serve, by number or by hash.
            let params = request["params"].as_array().cloned().unwrap_or_default();
            for (index, param) in params.iter().enumerate() {
                if param == "latest" || param == "pending" {
                    request["params"][index] = json!(format!("{head:#x}"));
                }
                let by_hash = param.get("blockHash").filter(|_| method != "eth_getLogs");
                if let Some(hash) = by_hash {
                    let block = self.ask("eth_getBlockByHash", json!([hash, false])).await;
                    if number(&block["number"]) > head {
                        return Ok(json!({ "jsonrpc": "2.0", "id": request["id"],
                            "error": { "code": -32000, "message": "header not found" } }));
                    }
                }
                if method == "eth_getBlockByNumber" && index == 0 && param.is_string() && param != "latest" {
                    let wanted = u64::from_str_radix(param.as_str().unwrap().trim_start_matches("0x"), 16);
                    if wanted.is_ok_and(|wanted| wanted > head) {
                        return Ok(json!({ "jsonrpc": "2.0", "id": request["id"], "result": null }));
                    }
                }
            }
        }
        let of_range = method == "eth_getLogs" && request["params"][0]["fromBlock"].is_string();
        let mut answer = self.chain.handle(request).await;
        let spoiled = faults.legacy && method.starts_with("eth_getBlockBy");
        // Not by index: that would put a result beside an error.
        let mut result = answer.get_mut("result");
        if let Some(block) = result.as_mut().and_then(|r| r.as_object_mut()).filter(|_| spoiled) {
            block.remove("baseFeePerGas");
        }
        let is_block = faults.later > 0 && method.starts_with("eth_getBlockBy");
        if let Some(block) = result.as_mut().and_then(|r| r.as_object_mut()).filter(|_| is_block) {
            block["timestamp"] = json!(format!("{:#x}", number(&block["timestamp"]) + faults.later));
        }
        if let Some(logs) = result.and_then(Value::as_array_mut).filter(|_| of_range) {
            logs.truncate(faults.most_logs.unwrap_or(usize::MAX));
        }
        Ok(answer)
    }

    async fn ask(&self, method: &str, params: Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.chain.handle(request).await["result"].clone()
    }
}

fn number(hex: &Value) -> u64 {
    u64::from_str_radix(hex.as_str().unwrap_or("0x0").trim_start_matches("0x"), 16).unwrap()
}

/// Settings for tests: nodes are compared at every question, and nobody waits long.
pub(crate) fn impatient() -> Settings {
    let mut settings = Settings { timeout: Duration::from_millis(200), probe: Duration::ZERO, ..Settings::embedded() };
    settings.limits.retry_first = Duration::ZERO;
    settings.limits.retry_most = Duration::ZERO;
    settings
}

/// A client of nodes named `a`, `b`, …
pub(crate) fn client(nodes: &[&Node], settings: Settings) -> Client {
    let name = |n: usize| char::from(b'a' + u8::try_from(n).unwrap()).to_string();
    let rpc = |node: &Node| RpcClient::new(node.clone(), true);
    Client::new(nodes.iter().enumerate().map(|(n, node)| (name(n), rpc(node))).collect(), settings)
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
            let answer = node.handle(request).await?;
            let text = answer.to_string();
            serde_json::from_str(&text).map_err(|error| TransportError::deser_err(error, text))
        })
    }
}
