//! The JSON-RPC entry: envelopes, batches and the table of methods.
//!
//! Every request gets an answer with a result or an error code, whatever the bytes were. The test methods answer only
//! callers that have [`Access::TestMethods`].

mod blocks;
mod call;
mod control;
pub(crate) mod error;
mod fees;
mod logs;
pub(crate) mod params;
pub(crate) mod render;
mod reorg;
mod send;
mod state;

use crate::chain::Chain;
use alloy::rpc::json_rpc::ErrorPayload;
use alloy_primitives::{Bytes, keccak256};
use error::RpcError;
use params::Params;
use serde::Serialize;
use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};

/// Most requests in one batch.
const MAX_BATCH: usize = 1000;
/// Most bytes of answers to one batch before the rest of it is refused.
const MAX_BATCH_ANSWER: usize = 25 << 20;

/// JSON, written once: a result goes from what it is made of straight into its text.
pub(crate) type Text = Box<RawValue>;

/// Anything as JSON.
pub(crate) fn text(value: &(impl Serialize + ?Sized)) -> Text {
    to_raw_value(value).expect("everything that is answered has a text")
}

/// `null`.
pub(crate) fn nothing() -> Text {
    RawValue::NULL.to_owned()
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everything that a public node offers.
    Public,
    /// Also change balances, time and history.
    TestMethods,
}

impl Chain {
    /// Answers a JSON-RPC request or batch, test methods included.
    pub async fn handle(&self, request: Value) -> Value {
        let answer = self.answer(request, Access::TestMethods).await;
        serde_json::from_str(answer.get()).expect("answers are JSON")
    }

    /// Runs one method, test methods included.
    pub async fn run(&self, method: &str, params: Value) -> Result<Box<RawValue>, ErrorPayload> {
        let params = Params::new(Some(params));
        let ran = match params {
            Ok(params) => self.dispatch(method, params, Access::TestMethods).await,
            Err(error) => Err(error),
        };
        ran.map_err(ErrorPayload::from)
    }

    /// Answers the bytes of a request or batch.
    pub(crate) async fn answer_bytes(&self, request: &[u8], access: Access) -> Text {
        match serde_json::from_slice(request) {
            Ok(request) => self.answer(request, access).await,
            Err(error) => refusal(Value::Null, &RpcError::parse(error)),
        }
    }

    pub(crate) async fn answer(&self, request: Value, access: Access) -> Text {
        match request {
            Value::Array(requests) => self.answer_batch(requests, access).await,
            request => self.answer_one(request, access).await,
        }
    }

    async fn answer_batch(&self, requests: Vec<Value>, access: Access) -> Text {
        if requests.is_empty() {
            return refusal(Value::Null, &RpcError::request("empty batch"));
        }
        if requests.len() > MAX_BATCH {
            let reason = format!("a batch has at most {MAX_BATCH} requests, this one has {}", requests.len());
            return refusal(Value::Null, &RpcError::request(reason));
        }
        let mut answers = Vec::with_capacity(requests.len());
        let mut size = 0;
        for request in requests {
            let answer = if size > MAX_BATCH_ANSWER {
                let error = RpcError::limit("the answers to this batch are too large: send smaller batches");
                refusal(id_of(&request), &error)
            } else {
                self.answer_one(request, access).await
            };
            size += answer.get().len();
            answers.push(answer);
        }
        text(&answers)
    }

    async fn answer_one(&self, request: Value, access: Access) -> Text {
        let id = id_of(&request);
        match Call::read(request) {
            Ok(Call { method, params }) => match self.dispatch(&method, params, access).await {
                Ok(result) => success(&id, &result),
                Err(error) => refusal(id, &error),
            },
            Err(error) => refusal(id, &error),
        }
    }

    /// Runs one method.
    async fn dispatch(&self, method: &str, params: Params, access: Access) -> Result<Text, RpcError> {
        if control::is_test_method(method) {
            return match access {
                Access::TestMethods => self.control(method, params).await.map(|done| text(&done)),
                Access::Public => Err(RpcError::new(
                    -32601,
                    format!("the method {method} is a test method: start the server with test methods to use it"),
                )),
            };
        }
        match method {
            "eth_sendRawTransaction" | "eth_sendTransaction" => self.send(method, params, access).await,
            "eth_call" | "eth_estimateGas" | "eth_createAccessList" => self.call(method, params).await,
            "eth_getBalance" | "eth_getCode" | "eth_getStorageAt" | "eth_getTransactionCount" | "eth_getProof" => {
                self.state(method, params).await
            }
            "eth_getLogs"
            | "eth_newFilter"
            | "eth_newBlockFilter"
            | "eth_newPendingTransactionFilter"
            | "eth_getFilterChanges"
            | "eth_getFilterLogs"
            | "eth_uninstallFilter" => self.logs(method, params).await,
            "eth_gasPrice" | "eth_maxPriorityFeePerGas" | "eth_feeHistory" | "eth_blobBaseFee" => {
                self.fees(method, params).await
            }
            "eth_subscribe" | "eth_unsubscribe" => {
                Err(RpcError::new(-32601, "subscriptions need a WebSocket, and a request of their own"))
            }
            _ if method.starts_with("txpool_") => self.pool(method).map(|pool| text(&pool)),
            _ if method.starts_with("eth_") => self.blocks(method, params).await,
            _ => self.about(method, params),
        }
    }

    /// Methods about the node itself.
    fn about(&self, method: &str, mut params: Params) -> Result<Text, RpcError> {
        Ok(match method {
            "web3_clientVersion" => text(concat!("devchain/v", env!("CARGO_PKG_VERSION"))),
            "web3_sha3" => text(&keccak256(params.get::<Bytes>(0, "data")?)),
            "net_version" => text(&self.0.shared.chain_id.to_string()),
            "net_listening" => text(&true),
            "net_peerCount" => text("0x0"),
            _ => return Err(RpcError::method(method)),
        })
    }
}

/// The method and parameters of a request.
struct Call {
    method: String,
    params: Params,
}

impl Call {
    fn read(request: Value) -> Result<Self, RpcError> {
        let Value::Object(mut request) = request else { return Err(RpcError::request("expected an object")) };
        if request.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return Err(RpcError::request("\"jsonrpc\" must be \"2.0\""));
        }
        check_id(&request)?;
        let Some(Value::String(method)) = request.remove("method") else {
            return Err(RpcError::request("\"method\" must be a string"));
        };
        Ok(Self { method, params: Params::new(request.remove("params"))? })
    }
}

/// A request without an id is a notification, which nothing here takes.
fn check_id(request: &Map<String, Value>) -> Result<(), RpcError> {
    match request.get("id") {
        Some(Value::String(_) | Value::Number(_) | Value::Null) => Ok(()),
        Some(_) => Err(RpcError::request("\"id\" must be a string, a number or null")),
        None => Err(RpcError::request("\"id\" is missing: notifications are not taken")),
    }
}

/// The id to answer with: the request's own if it can be one.
fn id_of(request: &Value) -> Value {
    match request.get("id") {
        Some(id @ (Value::String(_) | Value::Number(_))) => id.clone(),
        _ => Value::Null,
    }
}

/// An answer as JSON-RPC wants it.
#[derive(Serialize)]
struct Answer<'a> {
    jsonrpc: &'static str,
    id: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
}

/// An answer with a result.
pub(crate) fn success(id: &Value, result: &RawValue) -> Text {
    text(&Answer { jsonrpc: "2.0", id, result: Some(result), error: None })
}

/// An answer that says no.
pub(crate) fn refusal(id: Value, error: &RpcError) -> Text {
    text(&Answer { jsonrpc: "2.0", id: &id, result: None, error: Some(error.to_json()) })
}
