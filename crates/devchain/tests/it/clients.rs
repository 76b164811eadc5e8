//! An alloy provider in process behaves as one over HTTP; random requests always get an answer.

use crate::support::{Probe, address, code, config, key, serve};
use alloy::network::TransactionBuilder;
use alloy::providers::{Provider, ProviderBuilder};
use alloy::rpc::types::{Filter, TransactionRequest};
use alloy_primitives::U256;
use alloy_sol_types::{SolCall, SolEvent};
use bourse_devchain::{Chain, ServerConfig};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Deploys, sends, waits, reads and catches a revert, as any role of a program would.
async fn use_provider(provider: impl Provider) {
    assert_eq!(provider.get_chain_id().await.unwrap(), 31_337);
    let create = TransactionRequest::default().with_deploy_code(code("Probe"));
    let receipt = provider.send_transaction(create).await.unwrap().get_receipt().await.unwrap();
    let probe = receipt.contract_address.unwrap();
    let set = Probe::setCall { number: U256::from(77) };
    let request = TransactionRequest::default().with_to(probe).with_input(set.abi_encode());
    let receipt = provider.send_transaction(request).await.unwrap().with_required_confirmations(1);
    let receipt = receipt.get_receipt().await.unwrap();
    assert!(receipt.status());
    let read = TransactionRequest::default().with_to(probe).with_input(Probe::valueCall {}.abi_encode());
    assert_eq!(U256::from_be_slice(&provider.call(read).await.unwrap()), U256::from(77));
    let filter = Filter::new().address(probe).event_signature(Probe::Plain::SIGNATURE_HASH).from_block(0);
    let logs = provider.get_logs(&filter).await.unwrap();
    assert_eq!(logs.len(), 1);
    assert_eq!(logs[0].log_decode::<Probe::Plain>().unwrap().inner.number, U256::from(77));
    let failing = Probe::failCustomCall { number: U256::from(4) };
    let request = TransactionRequest::default().with_to(probe).with_input(failing.abi_encode());
    let error = provider.call(request).await.unwrap_err();
    let refused = error.as_error_resp().unwrap().as_decoded_interface_error::<Probe::ProbeErrors>().unwrap();
    assert!(matches!(refused, Probe::ProbeErrors::Refused(refused) if refused.number == U256::from(4)));
    let block = provider.get_block(receipt.block_number.unwrap().into()).full().await.unwrap().unwrap();
    assert_eq!(block.header.hash, receipt.block_hash.unwrap());
    assert_eq!(provider.get_transaction_count(address(0)).await.unwrap(), 2);
    let fees = provider.estimate_eip1559_fees().await.unwrap();
    assert!(fees.max_fee_per_gas > 0);
}

#[tokio::test]
async fn a_provider_in_process() {
    let chain = Chain::open(config()).unwrap();
    use_provider(ProviderBuilder::new().wallet(key(0)).connect_client(chain.rpc_client())).await;
}

#[tokio::test]
async fn a_provider_over_http() {
    let served = serve(Chain::open(config()).unwrap(), ServerConfig::default());
    let url = served.rpc.url.parse().unwrap();
    use_provider(ProviderBuilder::new().wallet(key(0)).connect_http(url)).await;
}

#[test]
fn a_chain_answers_without_a_runtime() {
    let chain = Chain::open(config()).unwrap();
    let answer = futures_util::FutureExt::now_or_never(
        chain.handle(json!({ "jsonrpc": "2.0", "id": 1, "method": "evm_mine", "params": [] })),
    );
    assert_eq!(answer.unwrap()["result"], "0x0");
}

/// All methods, so that random parameters reach each of them.
const METHODS: &[&str] = &[
    "eth_call",
    "eth_estimateGas",
    "eth_createAccessList",
    "eth_sendRawTransaction",
    "eth_sendTransaction",
    "eth_getBalance",
    "eth_getCode",
    "eth_getStorageAt",
    "eth_getTransactionCount",
    "eth_getProof",
    "eth_getLogs",
    "eth_newFilter",
    "eth_getFilterChanges",
    "eth_getFilterLogs",
    "eth_uninstallFilter",
    "eth_feeHistory",
    "eth_getBlockByNumber",
    "eth_getBlockByHash",
    "eth_getBlockReceipts",
    "eth_getTransactionByHash",
    "eth_getTransactionReceipt",
    "eth_getTransactionByBlockNumberAndIndex",
    "eth_getUncleCountByBlockNumber",
    "web3_sha3",
    "txpool_status",
    "eth_subscribe",
    "evm_snapshot",
    "evm_revert",
    "evm_increaseTime",
    "evm_setNextBlockTimestamp",
    "evm_mine",
    "evm_setAutomine",
    "anvil_setBalance",
    "anvil_setNonce",
    "anvil_setCode",
    "anvil_setStorageAt",
    "anvil_mine",
    "anvil_reorg",
    "anvil_rollback",
    "anvil_dropTransaction",
    "anvil_setNextBlockBaseFeePerGas",
    "anvil_impersonateAccount",
];

fn leaf() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        json!("latest"),
        json!("pending"),
        json!("earliest"),
        json!("0x"),
        json!("0x0"),
        json!("0x1"),
        json!("0x5"),
        json!("0xffffffffffffffff"),
        json!(format!("0x{}", "ff".repeat(32))),
        json!(format!("0x{}", "11".repeat(20))),
        json!(address(0)),
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!({}),
        json!([]),
        json!({ "from": address(0), "to": address(1), "value": "0x1" }),
        json!({ "from": address(0), "data": "0x60015f5260205ff3" }),
        json!({ "fromBlock": "0x0", "topics": [null, []] }),
        json!({ "blockHash": format!("0x{}", "22".repeat(32)) }),
        json!({ "timestamp": u64::MAX }),
        json!({ "data": "0xef0100" }),
        json!({ "gas": "0xffffffffffffffff", "gasPrice": "0xffffffffffffffffffffffffffffffff" }),
    ]);
    prop_oneof![4 => words, 1 => ".{0,20}".prop_map(Value::from), 1 => any::<u64>().prop_map(|n| json!(format!("{n:#x}")))]
}

fn tree() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z]{1,9}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

fn request() -> impl Strategy<Value = Value> {
    let known = (prop::sample::select(METHODS), prop::collection::vec(tree(), 0..4))
        .prop_map(|(method, params)| json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }))
        .boxed();
    prop_oneof![8 => known.clone(), 1 => tree(), 1 => prop::collection::vec(known, 0..3).prop_map(Value::from)]
}

fn is_answer(answer: &Value) -> bool {
    let code = answer["error"]["code"].is_i64() && answer["error"]["message"].is_string();
    answer["jsonrpc"] == "2.0" && (code || answer.get("result").is_some())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_gets_an_answer(requests in prop::collection::vec(request(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let chain = Chain::open(config()).unwrap();
        for request in requests {
            let answer = runtime.block_on(chain.handle(request.clone()));
            let fine = match &answer {
                Value::Array(answers) => answers.iter().all(is_answer),
                answer => is_answer(answer),
            };
            prop_assert!(fine, "{request} gave {answer}");
            let internal = answer["error"]["code"] == -32603;
            prop_assert!(!internal, "{request} gave {answer}");
        }
        // Whatever happened, it still works.
        let head = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["latest", true] });
        prop_assert!(runtime.block_on(chain.handle(head))["result"].is_object());
    }
}

#[tokio::test]
async fn any_bytes_get_an_answer() {
    let served = serve(Chain::open(config()).unwrap(), ServerConfig { test_methods: true, ..ServerConfig::default() });
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed);
    let valid = json!([{ "jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["latest", true] }])
        .to_string();
    for round in 0..400 {
        let mut bytes = valid.clone().into_bytes();
        for _ in 0..round % 7 {
            let at = rand::Rng::random_range(&mut random, 0..bytes.len());
            bytes[at] = rand::Rng::random(&mut random);
        }
        bytes.truncate(rand::Rng::random_range(&mut random, 0..=bytes.len()));
        let (status, text) = served.rpc.post(bytes.clone()).await;
        assert_eq!(status, 200, "{bytes:?}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let fine = answer.as_array().map_or_else(|| is_answer(&answer), |answers| answers.iter().all(is_answer));
        assert!(fine, "{bytes:?} gave {text}");
    }
}
