//! A node as one role sees it: the embedded chain behind a door that the test holds.

use alloy::{
    rpc::{
        client::RpcClient,
        json_rpc::{RequestPacket, ResponsePacket},
    },
    transports::{TransportError, TransportErrorKind, TransportFut},
};
use bourse_chain::{
    Client, Hub, Settings,
    alloy::{
        consensus::{Transaction, TxEnvelope},
        eips::eip2718::Decodable2718,
        sol_types::SolCall,
    },
};
use bourse_devchain::Chain;
use bourse_protocol::{Address, Bytes, abi::IHub};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};
use tokio::sync::watch;
use tower::Service;

/// Code that refuses every call.
const REVERT: &str = "0x60006000fd";

/// What becomes of one kind of call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Treat {
    /// It passes.
    #[default]
    Passes,
    /// The transaction is held back until this changes.
    Held,
    /// Asked for its gas, the node says that the contract refuses.
    Refused,
    /// The hub refuses everything in the block that takes the transaction.
    Reverts,
}

/// How the node treats its role.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manners {
    /// Nothing is answered until this changes.
    pub(crate) silent: bool,
    /// Asked for a category, it says that it has lost that part of its state.
    pub(crate) forgetful: bool,
    /// Asked for a task, it does not answer until this changes.
    pub(crate) slow: bool,
    pub(crate) initialize: Treat,
    pub(crate) contribute: Treat,
    pub(crate) reveal: Treat,
    pub(crate) reopen: Treat,
    pub(crate) finalize: Treat,
    pub(crate) claim: Treat,
}

impl Manners {
    fn towards(&self, selector: [u8; 4]) -> Treat {
        match selector {
            IHub::initializeCall::SELECTOR => self.initialize,
            IHub::contributeCall::SELECTOR => self.contribute,
            IHub::revealCall::SELECTOR => self.reveal,
            IHub::reopenCall::SELECTOR => self.reopen,
            IHub::finalizeCall::SELECTOR => self.finalize,
            IHub::claimCall::SELECTOR | IHub::initializeAndClaimArrayCall::SELECTOR => self.claim,
            _ => Treat::Passes,
        }
    }
}

/// The node. Clones are the same node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    chain: Chain,
    hub: Address,
    manners: Arc<watch::Sender<Manners>>,
    tries: Arc<AtomicU64>,
    forgot: Arc<AtomicU64>,
}

impl Node {
    pub(crate) fn new(chain: Chain, hub: Address) -> Self {
        Self { chain, hub, manners: Arc::default(), tries: Arc::default(), forgot: Arc::default() }
    }

    /// The hub over this node.
    pub(crate) fn hub(&self) -> Hub {
        let client = Client::new(vec![("test".into(), RpcClient::new(self.clone(), true))], Settings::embedded());
        Hub::new(client, self.hub)
    }

    /// From now on.
    pub(crate) fn behave(&self, change: impl FnOnce(&mut Manners)) {
        self.manners.send_modify(change);
    }

    /// How often it was asked for a balance or for the gas of a call.
    pub(crate) fn tries(&self) -> u64 {
        self.tries.load(Ordering::SeqCst)
    }

    /// How often it has said that it has lost a part of its state.
    pub(crate) fn forgot(&self) -> u64 {
        self.forgot.load(Ordering::SeqCst)
    }

    async fn until(&self, good: impl Fn(&Manners) -> bool) {
        let known = self.manners.subscribe().wait_for(|manners| good(manners)).await.map(|_| ());
        known.expect("the node itself holds the other end");
    }

    async fn answer(&self, request: Value) -> Value {
        self.until(|manners| !manners.silent).await;
        let (method, called) = (request["method"].as_str().unwrap_or_default(), called(&request));
        let treat = || called.map_or(Treat::Passes, |selector| self.manners.borrow().towards(selector));
        match (method, treat()) {
            ("eth_estimateGas", Treat::Refused) => refusal(&request),
            ("eth_call", _) if called == Some(IHub::viewCategoryCall::SELECTOR) && self.manners.borrow().forgetful => {
                self.forgot.fetch_add(1, Ordering::SeqCst);
                let error = json!({ "code": -32000, "message": "missing trie node" });
                json!({ "jsonrpc": "2.0", "id": request["id"], "error": error })
            }
            ("eth_call", _) if called == Some(IHub::viewTaskCall::SELECTOR) => {
                self.until(|manners| !manners.slow).await;
                self.chain.handle(request).await
            }
            ("eth_sendRawTransaction", Treat::Held) => {
                self.until(|manners| called.is_none_or(|selector| manners.towards(selector) != Treat::Held)).await;
                self.chain.handle(request).await
            }
            ("eth_sendRawTransaction", Treat::Reverts) => self.under_a_broken_hub(request).await,
            (method, _) => {
                let tries = matches!(method, "eth_getBalance" | "eth_estimateGas");
                self.tries.fetch_add(u64::from(tries), Ordering::SeqCst);
                self.chain.handle(request).await
            }
        }
    }

    async fn under_a_broken_hub(&self, request: Value) -> Value {
        let code = rpc(&self.chain, "eth_getCode", json!([self.hub, "latest"])).await;
        rpc(&self.chain, "anvil_setCode", json!([self.hub, REVERT])).await;
        let answer = self.chain.handle(request).await;
        rpc(&self.chain, "anvil_setCode", json!([self.hub, code])).await;
        answer
    }
}

/// Calls a method of the chain itself.
pub(crate) async fn rpc(chain: &Chain, method: &str, params: Value) -> Value {
    let answer = chain.handle(json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })).await;
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    answer["result"].clone()
}

/// The function that a request calls, estimates or sends.
fn called(request: &Value) -> Option<[u8; 4]> {
    let argument = &request["params"][0];
    let bytes = |value: &Value| value.as_str()?.parse::<Bytes>().ok();
    let input = match request["method"].as_str()? {
        "eth_call" | "eth_estimateGas" => bytes(&argument["input"]).or_else(|| bytes(&argument["data"]))?,
        "eth_sendRawTransaction" => {
            TxEnvelope::decode_2718(&mut bytes(argument)?.as_ref()).expect("a signed transaction").input().clone()
        }
        _ => return None,
    };
    input.get(..4)?.try_into().ok()
}

fn refusal(request: &Value) -> Value {
    let error = json!({ "code": 3, "message": "execution reverted", "data": "0x" });
    json!({ "jsonrpc": "2.0", "id": request["id"], "error": error })
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
            let text = node.answer(request).await.to_string();
            serde_json::from_str(&text).map_err(|error| TransportError::deser_err(error, text))
        })
    }
}
