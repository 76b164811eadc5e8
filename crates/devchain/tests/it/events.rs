//! Who listens hears everything once: subscriptions and filters, through reorganisations.

use crate::support::{Probe, ask, body, config, deploy, key, mined, must, serve, sign};
use alloy::consensus::TxEip1559;
use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::{SolCall, SolEvent};
use bourse_devchain::{Chain, ServerConfig};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

fn set(nonce: u64, probe: Address, number: u64) -> Bytes {
    sign(body(nonce, probe, Probe::setCall { number: U256::from(number) }.abi_encode()), &key(0))
}

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(address: std::net::SocketAddr) -> Self {
        Self(connect_async(format!("ws://{address}")).await.unwrap().0)
    }

    async fn next(&mut self) -> Value {
        let message = tokio::time::timeout(Duration::from_secs(20), self.0.next()).await;
        serde_json::from_str(message.expect("a message comes").unwrap().unwrap().to_text().unwrap()).unwrap()
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        self.0.send(Message::text(request.to_string())).await.unwrap();
        self.next().await
    }

    /// The next notification: subscription and result.
    async fn news(&mut self) -> (Value, Value) {
        let mut message = self.next().await;
        assert_eq!(message["method"], "eth_subscription", "{message}");
        (message["params"]["subscription"].take(), message["params"]["result"].take())
    }
}

#[tokio::test]
async fn subscribers_hear_heads_logs_and_transactions_and_what_a_reorganisation_removes() {
    let chain = Chain::open(config()).unwrap();
    let probe = deploy(&chain, "Probe", 0, 0).await;
    let served = serve(chain.clone(), ServerConfig::default());
    let mut heads = Socket::open(served.address).await;
    let mut logs = Socket::open(served.address).await;
    let mut pending = Socket::open(served.address).await;
    let heads_id = heads.ask("eth_subscribe", json!(["newHeads"])).await["result"].clone();
    let logs_id = logs
        .ask("eth_subscribe", json!(["logs", { "address": probe, "topics": [Probe::Plain::SIGNATURE_HASH] }]))
        .await["result"]
        .clone();
    let pending_id = pending.ask("eth_subscribe", json!(["newPendingTransactions"])).await["result"].clone();

    let first = mined(&chain, &set(1, probe, 11)).await;
    let second = mined(&chain, &set(2, probe, 22)).await;
    for receipt in [&first, &second] {
        let (id, head) = heads.news().await;
        assert_eq!((&id, &head["hash"]), (&heads_id, &receipt["blockHash"]));
        let (id, log) = logs.news().await;
        assert_eq!((&id, &log), (&logs_id, &receipt["logs"][0]));
        let (id, hash) = pending.news().await;
        assert_eq!((&id, &hash), (&pending_id, &receipt["transactionHash"]));
    }

    let kept = set(1, probe, 11);
    must(&chain, "anvil_reorg", json!([2, [[kept, 1]]])).await;
    let mut removed = Vec::new();
    for _ in 0..2 {
        removed.push(logs.news().await.1);
    }
    // The newest goes first.
    for (log, receipt) in removed.iter().zip([&second, &first]) {
        assert_eq!(log["removed"], true);
        assert_eq!(log["blockHash"], receipt["blockHash"]);
    }
    let (_, added) = logs.news().await;
    assert_eq!((&added["removed"], &added["blockNumber"]), (&json!(false), &second["blockNumber"]));
    assert_eq!(added["transactionHash"], first["transactionHash"]);
    assert_ne!(added["blockHash"], second["blockHash"]);
    for number in [&first["blockNumber"], &second["blockNumber"]] {
        let (_, head) = heads.news().await;
        assert_eq!(head["number"], *number);
        assert_ne!(head["hash"], first["blockHash"]);
    }

    assert_eq!(heads.ask("eth_unsubscribe", json!([heads_id])).await["result"], true);
    assert_eq!(heads.ask("eth_unsubscribe", json!([heads_id])).await["result"], false);
    must(&chain, "evm_mine", json!([])).await;
    assert_eq!(heads.ask("eth_chainId", json!([])).await["result"], "0x7a69");
    assert_eq!(heads.ask("eth_subscribe", json!(["weather"])).await["error"]["code"], -32602);
}

#[tokio::test]
async fn filters_hear_the_same_by_polling() {
    let chain = Chain::open(config()).unwrap();
    let probe = deploy(&chain, "Probe", 0, 0).await;
    let logs = must(&chain, "eth_newFilter", json!([{ "address": probe }])).await;
    let blocks = must(&chain, "eth_newBlockFilter", json!([])).await;
    let pending = must(&chain, "eth_newPendingTransactionFilter", json!([])).await;
    let receipt = mined(&chain, &set(1, probe, 5)).await;
    let changes = |filter: Value| {
        let chain = chain.clone();
        async move { must(&chain, "eth_getFilterChanges", json!([filter])).await }
    };
    assert_eq!(changes(logs.clone()).await, json!([receipt["logs"][0]]));
    assert_eq!(changes(logs.clone()).await, json!([]));
    assert_eq!(changes(blocks.clone()).await, json!([receipt["blockHash"]]));
    assert_eq!(changes(pending.clone()).await, json!([receipt["transactionHash"]]));
    must(&chain, "anvil_reorg", json!([1, []])).await;
    let removed = changes(logs.clone()).await;
    assert_eq!((removed.as_array().unwrap().len(), &removed[0]["removed"]), (1, &json!(true)));
    assert_eq!(must(&chain, "eth_getFilterLogs", json!([logs])).await, json!([]));
    assert_eq!(changes(blocks).await.as_array().unwrap().len(), 1);
    assert_eq!(must(&chain, "eth_uninstallFilter", json!([logs])).await, true);
    assert_eq!(must(&chain, "eth_uninstallFilter", json!([logs])).await, false);
    assert_eq!(ask(&chain, "eth_getFilterChanges", json!([logs])).await.unwrap_err().message, "filter not found");
    for _ in 0..998 {
        must(&chain, "eth_newBlockFilter", json!([])).await;
    }
    assert_eq!(ask(&chain, "eth_newBlockFilter", json!([])).await.unwrap_err().code, -32005);
}

#[tokio::test]
async fn logs_are_found_by_block_hash_and_bounded() {
    let chain = Chain::open(config()).unwrap();
    let probe = deploy(&chain, "Probe", 0, 0).await;
    let receipt = mined(&chain, &set(1, probe, 5)).await;
    let found = must(&chain, "eth_getLogs", json!([{ "blockHash": receipt["blockHash"] }])).await;
    assert_eq!(found, receipt["logs"]);
    let unknown = json!([{ "blockHash": alloy_primitives::B256::repeat_byte(1) }]);
    assert_eq!(ask(&chain, "eth_getLogs", unknown).await.unwrap_err().code, -32000);
    let both = json!([{ "blockHash": receipt["blockHash"], "fromBlock": "0x1" }]);
    assert_eq!(ask(&chain, "eth_getLogs", both).await.unwrap_err().code, -32602);
    let backwards = json!([{ "fromBlock": "0x2", "toBlock": "0x1" }]);
    assert_eq!(ask(&chain, "eth_getLogs", backwards).await.unwrap_err().code, -32602);
    // Emits empty logs while it has more than 100,000 gas: JUMPDEST, LOG0(0, 0), PUSH0, PUSH3 100000, GAS, GT, PUSH0, JUMPI.
    let looping = hex::decode("5b5f5fa0620186a05a115f57").unwrap();
    must(&chain, "anvil_setCode", json!([Address::repeat_byte(0x66), Bytes::from(looping)])).await;
    for nonce in 2..4 {
        let many = TxEip1559 { gas_limit: 16_000_000, ..body(nonce, Address::repeat_byte(0x66), vec![]) };
        assert_eq!(mined(&chain, &sign(many, &key(0))).await["status"], "0x1");
    }
    let refused = ask(&chain, "eth_getLogs", json!([{ "fromBlock": "0x1" }])).await.unwrap_err();
    assert_eq!(refused.code, -32005);
    assert!(refused.message.contains("more than 20000 results: try blocks 1 to"), "{}", refused.message);
}
