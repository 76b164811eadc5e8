//! The same script of calls on this chain and on anvil gives the same answers.
//!
//! What must differ is listed here with the reason; everything else is compared as it is.

use crate::support::{Anvil, CHAIN_ID, Probe, Refused, Served, Token, address, body, code, config, key, serve, sign};
use alloy::consensus::{TxEip1559, TxEip2930, TxLegacy};
use alloy::eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_sol_types::{SolCall, SolConstructor, SolEvent};
use bourse_devchain::{Chain, Clock, Config, ServerConfig};
use serde_json::{Value, json};

/// Members of blocks that differ.
const BLOCK: &[(&str, &str)] = &[
    ("hash", "follows from the members below"),
    ("parentHash", "anvil's genesis block has the root of an empty state although it has accounts"),
    ("mixHash", "anvil's randomness is random, ours follows from the parent"),
    ("size", "anvil leaves the empty list of withdrawals out"),
    (
        "stateRoot",
        "anvil has the block hash contract of EIP-2935 and keeps slots that were set back to zero; ours is checked in roots.rs",
    ),
];
/// Members of receipts that differ.
const RECEIPT: &[(&str, &str)] = &[
    ("blockHash", "see the hash of blocks"),
    ("blobGasPrice", "anvil shows one for transactions without blobs, geth and this chain do not"),
    ("blockTimestamp", "anvil adds it to receipts, geth and this chain only to logs"),
];
/// Members of transactions and logs that differ.
const PLACE: &[(&str, &str)] = &[("blockHash", "see the hash of blocks")];
/// Nothing differs.
const SAME: &[(&str, &str)] = &[];

/// Codes that differ: ours, anvil's, and why.
const CODES: &[(i64, i64, &str)] = &[
    (-32000, -32003, "geth refuses transactions with its general code, anvil with EIP-1474's"),
    (-32000, -32603, "geth reports a halt in the EVM with its general code, anvil as an internal error"),
    (-32000, -32602, "geth treats an unknown block as a failed request, anvil as a bad parameter"),
    (-32000, -32000, ""),
];

const GENESIS: u64 = 1_900_000_000;

/// Both nodes, asked the same.
struct Pair {
    ours: Served,
    anvil: Anvil,
    now: u64,
    differences: Vec<String>,
}

impl Pair {
    fn start() -> Self {
        let clock = Clock::virtual_at(GENESIS);
        // Anvil gives its first block the base fee of the genesis block; with this one EIP-1559 gives the same.
        let chain = Chain::open(Config { clock, genesis_base_fee: 1_142_857_142, ..config() }).unwrap();
        let ours = serve(chain, ServerConfig { test_methods: true, ..ServerConfig::default() });
        let anvil = Anvil::start(&["--timestamp", &GENESIS.to_string()]);
        Self { ours, anvil, now: GENESIS, differences: Vec::new() }
    }

    async fn ask(&self, method: &str, params: &Value) -> (Result<Value, Refused>, Result<Value, Refused>) {
        let ours = self.ours.rpc.try_call(method, params.clone());
        (ours.await, self.anvil.rpc.try_call(method, params.clone()).await)
    }

    fn note(&mut self, what: &str, ours: &impl std::fmt::Debug, anvil: &impl std::fmt::Debug) {
        self.differences.push(format!("{what}\n  ours  {ours:?}\n  anvil {anvil:?}"));
    }

    /// Both give the same result, but for the listed members.
    async fn same(&mut self, method: &str, params: Value, differing: &[(&str, &str)]) -> Value {
        let (ours, anvil) = self.ask(method, &params).await;
        let (ours, mut left) = match ours {
            Ok(result) => (Ok(without(result.clone(), differing)), result),
            Err(error) => (Err(error), Value::Null),
        };
        let anvil = anvil.map(|result| without(result, differing));
        match (&ours, &anvil) {
            (Ok(ours), Ok(anvil)) => {
                let mut found = Vec::new();
                compare("", ours, anvil, &mut found);
                if !found.is_empty() {
                    self.differences.push(format!("{method} {params}\n{}", found.join("\n")));
                }
            }
            _ => self.note(&format!("{method} {params}"), &ours, &anvil),
        }
        left.take()
    }

    /// Both refuse, with the same or a listed code and both messages holding `word`.
    async fn refused(&mut self, method: &str, params: Value, word: &str) {
        let (ours, anvil) = self.ask(method, &params).await;
        let (Err(ours), Err(anvil)) = (&ours, &anvil) else {
            return self.note(&format!("{method} {params} is refused ({word})"), &ours, &anvil);
        };
        let codes = ours.code == anvil.code || CODES.iter().any(|(a, b, _)| (*a, *b) == (ours.code, anvil.code));
        let words = [&ours.message, &anvil.message].iter().all(|message| message.to_lowercase().contains(word));
        if !codes || !words || ours.data != anvil.data {
            self.note(&format!("{method} {params} is refused ({word})"), ours, anvil);
        }
    }

    /// Mines a transaction at the same moment on both and compares everything about it.
    async fn mine(&mut self, raw: &Bytes) -> Value {
        self.now += 10;
        self.same("evm_setNextBlockTimestamp", json!([self.now]), SAME).await;
        let hash = self.same("eth_sendRawTransaction", json!([raw]), SAME).await;
        self.ours.rpc.receipt(&hash).await;
        self.anvil.rpc.receipt(&hash).await;
        // Anvil's pool lets go of a mined transaction after its block is visible, and answers from the pool first.
        self.anvil.rpc.until("eth_getTransactionByHash", json!([hash]), |found| !found["blockNumber"].is_null()).await;
        let receipt = self.same("eth_getTransactionReceipt", json!([hash]), RECEIPT).await;
        self.same("eth_getTransactionByHash", json!([hash]), PLACE).await;
        self.same("eth_getRawTransactionByHash", json!([hash]), SAME).await;
        self.same("eth_getBlockByNumber", json!(["latest", false]), BLOCK).await;
        self.same("eth_getBlockReceipts", json!(["latest"]), RECEIPT).await;
        receipt
    }

    /// Fails with everything that differed.
    fn verdict(self) {
        assert!(self.differences.is_empty(), "\n{}", self.differences.join("\n"));
    }
}

/// Lists the members that differ.
fn compare(path: &str, ours: &Value, anvil: &Value, found: &mut Vec<String>) {
    match (ours, anvil) {
        (Value::Object(left), Value::Object(right)) => {
            let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
            for name in names {
                let side =
                    |members: &serde_json::Map<String, Value>| members.get(name).cloned().unwrap_or("absent".into());
                compare(&format!("{path}.{name}"), &side(left), &side(right), found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                compare(&format!("{path}[{index}]"), left, right, found);
            }
        }
        _ if ours != anvil => found.push(format!("  {path}: ours {ours}, anvil {anvil}")),
        _ => {}
    }
}

/// Removes listed members, at any depth.
fn without(mut value: Value, names: &[(&str, &str)]) -> Value {
    match &mut value {
        Value::Array(values) => values.iter_mut().for_each(|value| *value = without(value.take(), names)),
        Value::Object(members) => {
            // A log inside a receipt keeps its timestamp.
            let is_log = members.contains_key("logIndex");
            members.retain(|name, _| {
                !names.iter().any(|(listed, _)| listed == name) || (is_log && name == "blockTimestamp")
            });
            members.values_mut().for_each(|value| *value = without(value.take(), names));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    value
}

fn contract(receipt: &Value) -> Address {
    serde_json::from_value(receipt["contractAddress"].clone()).unwrap()
}

fn call(to: Address, call: &impl SolCall) -> Value {
    json!({ "from": address(0), "to": to, "data": Bytes::from(call.abi_encode()) })
}

fn creation(code: Bytes, nonce: u64) -> TxEip1559 {
    TxEip1559 { gas_limit: 3_000_000, ..body(nonce, TxKind::Create, code) }
}

#[tokio::test]
async fn transactions_blocks_and_receipts() {
    let mut pair = Pair::start();
    let token = [code("Token").to_vec(), Token::constructorCall { supply: U256::from(1_000_000) }.abi_encode()];
    let token = contract(&pair.mine(&sign(creation(token.concat().into(), 0), &key(0))).await);
    let probe = contract(&pair.mine(&sign(creation(code("Probe"), 1), &key(0))).await);

    let transfer = Token::transferCall { to: address(1), value: U256::from(5) }.abi_encode();
    pair.mine(&sign(body(2, token, transfer.clone()), &key(0))).await;
    let too_much = Token::transferCall { to: address(1), value: U256::from(5_000_000) }.abi_encode();
    let receipt = pair.mine(&sign(body(3, token, too_much), &key(0))).await;
    assert_eq!(receipt["status"], "0x0");
    pair.mine(&sign(TxEip1559 { value: U256::from(7), ..body(4, address(5), vec![]) }, &key(0))).await;
    pair.mine(&sign(TxEip1559 { value: U256::from(7), ..body(5, Address::repeat_byte(0x42), vec![]) }, &key(0))).await;

    let gas_price = 3_000_000_000;
    let legacy = |chain_id, nonce| TxLegacy {
        chain_id,
        nonce,
        gas_price,
        gas_limit: 100_000,
        to: token.into(),
        input: transfer.clone().into(),
        ..TxLegacy::default()
    };
    pair.mine(&sign(legacy(Some(CHAIN_ID), 6), &key(0))).await;
    pair.mine(&sign(legacy(None, 7), &key(0))).await;
    let item = AccessListItem { address: token, storage_keys: vec![B256::ZERO, keccak256("x")] };
    let listed = TxEip2930 {
        chain_id: CHAIN_ID,
        nonce: 8,
        gas_price,
        gas_limit: 100_000,
        to: token.into(),
        value: U256::ZERO,
        access_list: AccessList(vec![item]),
        input: transfer.into(),
    };
    pair.mine(&sign(listed, &key(0))).await;

    let fill = Probe::fillCall { from: U256::from(3), count: U256::from(20) }.abi_encode();
    pair.mine(&sign(body(9, probe, fill), &key(0))).await;
    let clear = Probe::clearCall { from: U256::from(3), count: U256::from(15) }.abi_encode();
    pair.mine(&sign(body(10, probe, clear), &key(0))).await;
    pair.mine(&sign(body(11, probe, Probe::spawnCall {}.abi_encode()), &key(0))).await;
    let out_of_gas = TxEip1559 { gas_limit: 60_000, ..body(12, probe, Probe::spinCall {}.abi_encode()) };
    pair.mine(&sign(out_of_gas, &key(0))).await;
    let oversized = Bytes::from(hex::decode("6160015ff3").unwrap());
    let receipt = pair.mine(&sign(TxEip1559 { gas_limit: 9_000_000, ..creation(oversized, 13) }, &key(0))).await;
    assert_eq!(receipt["status"], "0x0", "code above the EIP-170 limit");

    for holder in [token, probe, address(0), address(1), Address::repeat_byte(0x42), Address::ZERO] {
        for block in ["latest", "0x3", "earliest"] {
            pair.same("eth_getBalance", json!([holder, block]), SAME).await;
            pair.same("eth_getCode", json!([holder, block]), SAME).await;
            pair.same("eth_getTransactionCount", json!([holder, block]), SAME).await;
        }
        pair.same("eth_getStorageAt", json!([holder, "0x0", "latest"]), SAME).await;
        let mut differing = vec![("accountProof", "see the state root")];
        if holder == probe {
            differing.extend([("storageHash", "anvil keeps zeroed slots"), ("proof", "anvil keeps zeroed slots")]);
        } else if holder != token {
            differing.push(("proof", "anvil proves an empty trie with an empty node, geth and this chain with none"));
        }
        let proof = json!([holder, [B256::ZERO, B256::with_last_byte(1)], "latest"]);
        pair.same("eth_getProof", proof, &differing).await;
    }
    for block in ["0x1", "0x5", "latest", "0x63"] {
        pair.same("eth_getBlockByNumber", json!([block, true]), &[BLOCK, PLACE].concat()).await;
        if block == "0x63" {
            // Of a block that does not exist anvil counts nothing and fails, geth and this chain answer null.
            continue;
        }
        pair.same("eth_getBlockTransactionCountByNumber", json!([block]), SAME).await;
        pair.same("eth_getUncleCountByBlockNumber", json!([block]), SAME).await;
        pair.same("eth_getTransactionByBlockNumberAndIndex", json!([block, "0x0"]), PLACE).await;
    }
    pair.same("eth_getTransactionByBlockNumberAndIndex", json!(["0x1", "0x7"]), SAME).await;
    pair.same("eth_getTransactionReceipt", json!([B256::repeat_byte(1)]), SAME).await;
    pair.same("eth_getTransactionByHash", json!([B256::repeat_byte(1)]), SAME).await;
    pair.same("eth_getBlockByHash", json!([B256::repeat_byte(1), false]), SAME).await;
    // Of older blocks anvil shows the base fee after the newest block as the next one.
    for range in [json!([3, "latest", [25, 75]]), json!(["0x400", "latest", [0, 50, 100]])] {
        // Block 1 follows the genesis block by another rule: see `Pair::start`.
        let genesis = if range[0] == "0x400" { &[("baseFeePerGas", "see the genesis block")] } else { SAME };
        pair.same("eth_feeHistory", range, genesis).await;
    }
    pair.same("eth_gasPrice", json!([]), SAME).await;
    pair.same("eth_maxPriorityFeePerGas", json!([]), SAME).await;
    pair.verdict();
}

#[tokio::test]
async fn logs_and_filters() {
    let mut pair = Pair::start();
    let probe = contract(&pair.mine(&sign(creation(code("Probe"), 0), &key(0))).await);
    let second = contract(&pair.mine(&sign(creation(code("Probe"), 1), &key(0))).await);
    let blocks = pair.ask("eth_newBlockFilter", &json!([])).await;
    let mut nonce = 2;
    for index in 0..4u64 {
        for to in [probe, second] {
            let fill = Probe::fillCall { from: U256::from(index), count: U256::from(index % 2) }.abi_encode();
            pair.mine(&sign(body(nonce, to, fill), &key(0))).await;
            let set = Probe::setCall { number: U256::from(index) }.abi_encode();
            pair.mine(&sign(body(nonce + 1, to, set), &key(0))).await;
            nonce += 2;
        }
    }
    let changes = pair.ask("eth_getFilterChanges", &json!([blocks.0.unwrap()])).await.0.unwrap();
    // Anvil's filters hear of a block after it is visible.
    let (wanted, theirs) = (changes.as_array().unwrap().len(), json!([blocks.1.unwrap()]));
    let mut heard = 0;
    while heard < wanted {
        let some = |found: &Value| !found.as_array().unwrap().is_empty();
        let found = pair.anvil.rpc.until("eth_getFilterChanges", theirs.clone(), some).await;
        heard += found.as_array().unwrap().len();
    }
    assert_eq!(heard, wanted);
    let indexed = Probe::Indexed::SIGNATURE_HASH;
    let plain = Probe::Plain::SIGNATURE_HASH;
    let zero = B256::ZERO;
    let who = address(0).into_word();
    for filter in [
        json!({ "fromBlock": "earliest" }),
        json!({ "fromBlock": "0x4", "toBlock": "0x8" }),
        json!({ "fromBlock": "0x4", "toBlock": "0x8", "address": probe }),
        json!({ "fromBlock": "0x0", "address": [probe, second], "topics": [plain] }),
        json!({ "fromBlock": "0x0", "topics": [[plain, indexed]] }),
        json!({ "fromBlock": "0x0", "topics": [null, zero] }),
        json!({ "fromBlock": "0x0", "topics": [indexed, null, who] }),
        json!({ "fromBlock": "0x0", "topics": [indexed, [zero, B256::with_last_byte(1)], [who, zero], []] }),
        json!({ "fromBlock": "0x0", "topics": [zero] }),
        json!({ "fromBlock": "0x0", "address": [] }),
        json!({ "fromBlock": "0x3", "toBlock": "0xffff" }),
        json!({}),
    ] {
        let found = pair.same("eth_getLogs", json!([filter]), PLACE).await;
        assert!(found.is_array());
    }
    pair.verdict();
}

#[tokio::test]
async fn calls_and_estimates() {
    let mut pair = Pair::start();
    let probe = contract(&pair.mine(&sign(creation(code("Probe"), 0), &key(0))).await);
    let set = Probe::setCall { number: U256::from(9) };
    pair.mine(&sign(body(1, probe, set.abi_encode()), &key(0))).await;

    pair.same("eth_call", json!([call(probe, &Probe::valueCall {}), "latest"]), SAME).await;
    pair.same("eth_call", json!([call(probe, &Probe::valueCall {}), "0x1"]), SAME).await;
    pair.same("eth_call", json!([call(probe, &Probe::envCall {}), "latest"]), SAME).await;
    pair.same("eth_call", json!([call(probe, &Probe::envCall {}), { "blockNumber": "0x1" }]), SAME).await;
    pair.same("eth_call", json!([{ "to": probe, "data": Bytes::from(Probe::envCall {}.abi_encode()) }]), SAME).await;
    pair.same("eth_call", json!([{ "to": address(4) }]), SAME).await;
    pair.same(
        "eth_call",
        json!([{ "from": probe, "to": probe, "data": Bytes::from(Probe::envCall {}.abi_encode()) }]),
        SAME,
    )
    .await;
    let hash_of = Probe::hashOfCall { number: U256::from(500) };
    pair.same("eth_call", json!([call(probe, &hash_of), "latest"]), SAME).await;
    let zero = B256::ZERO.to_string();
    let overrides = json!({ probe.to_string(): { "balance": "0x7", "stateDiff": { zero: B256::repeat_byte(2) } } });
    pair.same("eth_call", json!([call(probe, &Probe::valueCall {}), "latest", overrides]), SAME).await;
    let replaced = json!({ probe.to_string(): { "code": "0x60015f5260205ff3" } });
    pair.same("eth_call", json!([call(probe, &Probe::valueCall {}), "latest", replaced]), SAME).await;

    for failing in [
        call(probe, &Probe::failTextCall {}),
        call(probe, &Probe::failCustomCall { number: U256::from(3) }),
        call(probe, &Probe::failPanicCall { divisor: U256::ZERO }),
        call(probe, &Probe::failSilentlyCall {}),
    ] {
        pair.refused("eth_call", json!([failing, "latest"]), "execution reverted").await;
        pair.refused("eth_estimateGas", json!([failing]), "execution reverted").await;
    }
    let mut spin = call(probe, &Probe::spinCall {});
    spin["gas"] = json!("0x186a0");
    pair.refused("eth_call", json!([spin, "latest"]), "gas").await;
    pair.refused("eth_call", json!([{ "from": address(0), "data": "0xfe" }, "latest"]), "fe").await;
    let rich = json!({ "from": address(0), "to": probe, "value": "0xffffffffffffffffffffffff" });
    pair.refused("eth_call", json!([rich, "latest"]), "insufficient funds").await;
    pair.refused("eth_call", json!([call(probe, &Probe::valueCall {}), "0xffff"]), "block").await;
    pair.refused("eth_getBalance", json!([address(0), "0xffff"]), "block").await;

    pair.same("eth_estimateGas", json!([{ "from": address(0), "to": address(1), "value": "0x1" }]), SAME).await;
    // Anvil stops its search when it is close; ours is the least gas that works, so never more.
    for question in [
        call(probe, &set),
        call(probe, &Probe::fillCall { from: U256::ZERO, count: U256::from(30) }),
        call(probe, &Probe::nestedCall { depth: U256::from(12) }),
        json!({ "from": address(0), "data": code("Probe") }),
    ] {
        let (ours, anvil) = pair.ask("eth_estimateGas", &json!([question])).await;
        let (ours, anvil) = (crate::support::number(&ours.unwrap()), crate::support::number(&anvil.unwrap()));
        assert!(ours <= anvil && anvil - ours <= anvil / 20, "{question}: ours {ours}, anvil {anvil}");
    }
    let list = pair.same("eth_createAccessList", json!([call(probe, &set), "latest"]), SAME).await;
    assert_eq!(list["accessList"].as_array().unwrap().len(), 1);
    pair.verdict();
}

#[tokio::test]
async fn refused_transactions() {
    let mut pair = Pair::start();
    pair.mine(&sign(TxEip1559 { value: U256::from(1), ..body(0, address(1), vec![]) }, &key(0))).await;
    let next = |change: fn(TxEip1559) -> TxEip1559| json!([sign(change(body(1, address(1), vec![])), &key(0))]);
    for (raw, word) in [
        (next(|tx| TxEip1559 { nonce: 0, ..tx }), "nonce too low"),
        (next(|tx| TxEip1559 { value: U256::MAX >> 8, ..tx }), "insufficient funds"),
        (next(|tx| TxEip1559 { gas_limit: 20_000, ..tx }), "intrinsic gas too low"),
        (next(|tx| TxEip1559 { chain_id: 1, ..tx }), "chain id"),
        (
            next(|tx| TxEip1559 { max_fee_per_gas: 1_000_000, max_priority_fee_per_gas: 1, ..tx }),
            "max fee per gas less",
        ),
        (next(|tx| TxEip1559 { max_fee_per_gas: 5_000_000_000, max_priority_fee_per_gas: 6_000_000_000, ..tx }), "max"),
        (next(|tx| TxEip1559 { gas_limit: 40_000_000, ..tx }), "gas"),
    ] {
        pair.refused("eth_sendRawTransaction", raw, word).await;
    }
    pair.refused("eth_sendRawTransaction", json!(["0x1234"]), "").await;
    pair.refused("eth_sendRawTransaction", json!(["0x"]), "").await;
    pair.refused("eth_sendTransaction", json!([{ "from": Address::repeat_byte(9), "to": address(0) }]), "").await;

    // A gap waits; what fills it lets both be mined; a replacement must pay a tenth more.
    pair.same("evm_setAutomine", json!([false]), SAME).await;
    let late = TxEip1559 { value: U256::from(3), ..body(2, address(1), vec![]) };
    let hash = pair.same("eth_sendRawTransaction", json!([sign(late.clone(), &key(0))]), SAME).await;
    pair.same("eth_getTransactionByHash", json!([hash]), SAME).await;
    pair.same("eth_getTransactionReceipt", json!([hash]), SAME).await;
    pair.same("txpool_status", json!([]), SAME).await;
    pair.same("eth_getTransactionCount", json!([address(0), "pending"]), SAME).await;
    pair.refused("eth_sendRawTransaction", json!([sign(late.clone(), &key(0))]), "already").await;
    let cheap = TxEip1559 { value: U256::from(4), ..late.clone() };
    pair.refused("eth_sendRawTransaction", json!([sign(cheap, &key(0))]), "replacement transaction underpriced").await;
    let dear = TxEip1559 {
        value: U256::from(4),
        max_fee_per_gas: 23_000_000_000,
        max_priority_fee_per_gas: 2_000_000_000,
        ..late
    };
    pair.same("eth_sendRawTransaction", json!([sign(dear, &key(0))]), SAME).await;
    let filler = sign(TxEip1559 { value: U256::from(2), ..body(1, address(1), vec![]) }, &key(0));
    pair.same("eth_sendRawTransaction", json!([filler]), SAME).await;
    pair.same("txpool_status", json!([]), SAME).await;
    pair.same("eth_getTransactionCount", json!([address(0), "pending"]), SAME).await;
    pair.same("eth_getTransactionCount", json!([address(0), "latest"]), SAME).await;
    pair.same("eth_getBalance", json!([address(1), "pending"]), SAME).await;
    pair.same("evm_setNextBlockTimestamp", json!([GENESIS + 500]), SAME).await;
    pair.same("evm_mine", json!([]), SAME).await;
    pair.same("eth_getBlockByNumber", json!(["latest", true]), &[BLOCK, PLACE].concat()).await;
    pair.same("txpool_status", json!([]), SAME).await;
    pair.verdict();
}

#[tokio::test]
async fn test_methods() {
    let mut pair = Pair::start();
    let probe = contract(&pair.mine(&sign(creation(code("Probe"), 0), &key(0))).await);
    let stranger = Address::repeat_byte(0x77);
    pair.same("anvil_setBalance", json!([stranger, "0xde0b6b3a7640000"]), SAME).await;
    pair.same("anvil_setNonce", json!([stranger, "0x5"]), SAME).await;
    pair.same("anvil_setStorageAt", json!([probe, "0x0", B256::with_last_byte(9)]), SAME).await;
    pair.same("anvil_setCode", json!([Address::repeat_byte(0x55), "0x60015f5260205ff3"]), SAME).await;
    pair.same("eth_getBalance", json!([stranger, "latest"]), SAME).await;
    pair.same("eth_getTransactionCount", json!([stranger, "latest"]), SAME).await;
    pair.same("eth_getCode", json!([Address::repeat_byte(0x55), "latest"]), SAME).await;
    pair.same("eth_call", json!([call(probe, &Probe::valueCall {}), "latest"]), SAME).await;
    pair.same("anvil_impersonateAccount", json!([stranger]), SAME).await;
    let request =
        json!({ "from": stranger, "to": address(1), "value": "0x1", "gas": "0x5208", "gasPrice": "0x77359400" });
    let (ours, anvil) = pair.ask("eth_sendTransaction", &json!([request])).await;
    let (ours, anvil) = (ours.unwrap(), anvil.unwrap());
    let ours = pair.ours.rpc.receipt(&ours).await;
    let anvil = pair.anvil.rpc.receipt(&anvil).await;
    // Without a signature the hash is each node's own affair.
    let differing = [RECEIPT, &[("transactionHash", "anvil does not encode the signature into it")]].concat();
    assert_eq!(without(ours, &differing), without(anvil, &differing));
    pair.same("anvil_stopImpersonatingAccount", json!([stranger]), SAME).await;
    pair.refused("eth_sendTransaction", json!([request]), "").await;

    let snapshot = pair.same("evm_snapshot", json!([]), SAME).await;
    pair.mine(&sign(body(1, probe, Probe::setCall { number: U256::from(4) }.abi_encode()), &key(0))).await;
    pair.same("evm_snapshot", json!([]), SAME).await;
    pair.same("evm_revert", json!([snapshot]), SAME).await;
    pair.same("evm_revert", json!([snapshot]), SAME).await;
    pair.same("eth_blockNumber", json!([]), SAME).await;
    pair.same("eth_call", json!([call(probe, &Probe::valueCall {}), "latest"]), SAME).await;
    pair.same("eth_getTransactionCount", json!([address(0), "latest"]), SAME).await;

    pair.same("evm_setNextBlockTimestamp", json!([GENESIS + 1000]), SAME).await;
    pair.same("evm_mine", json!([]), SAME).await;
    pair.same("evm_mine", json!([{ "timestamp": GENESIS + 2000 }]), SAME).await;
    pair.same("anvil_setNextBlockBaseFeePerGas", json!(["0x3b9aca00"]), SAME).await;
    pair.same("evm_mine", json!([GENESIS + 3000]), SAME).await;
    pair.same("eth_getBlockByNumber", json!(["latest", false]), BLOCK).await;
    pair.refused("evm_setNextBlockTimestamp", json!([5]), "timestamp").await;
    pair.same("anvil_mine", json!(["0x3"]), SAME).await;
    pair.same("eth_blockNumber", json!([]), SAME).await;
    pair.same(
        "eth_getBlockByNumber",
        json!(["safe", false]),
        &[BLOCK, &[("baseFeePerGas", "see the genesis block")]].concat(),
    )
    .await;
    pair.same("anvil_getAutomine", json!([]), SAME).await;
    pair.verdict();
}

#[tokio::test]
async fn reorganisations() {
    let mut pair = Pair::start();
    for nonce in 0..5 {
        let transfer = TxEip1559 { value: U256::from(nonce + 1), ..body(nonce, address(1), vec![]) };
        pair.mine(&sign(transfer, &key(0))).await;
    }
    let kept = sign(TxEip1559 { value: U256::from(9), ..body(0, address(1), vec![]) }, &key(2));
    let again = sign(TxEip1559 { value: U256::from(3), ..body(2, address(1), vec![]) }, &key(0));
    pair.same("anvil_reorg", json!([3, [[kept, 0], [again, 2]]]), SAME).await;
    pair.same("eth_blockNumber", json!([]), SAME).await;
    // Anvil goes on from the base fee and time of the chain that it took back, this chain from those of the common block.
    let differing = [
        BLOCK,
        PLACE,
        &[
            ("baseFeePerGas", "see above"),
            ("timestamp", "see above"),
            ("blockTimestamp", "see above"),
            ("gasPrice", "fees"),
        ],
    ]
    .concat();
    for number in ["0x2", "0x3", "0x4", "0x5"] {
        pair.same("eth_getBlockByNumber", json!([number, true]), &differing).await;
    }
    for account in 0..3 {
        pair.same("eth_getTransactionCount", json!([address(account), "latest"]), SAME).await;
    }
    pair.same("eth_getBalance", json!([address(1), "latest"]), SAME).await;
    pair.refused("anvil_reorg", json!([100, []]), "depth").await;
    pair.refused("anvil_reorg", json!([2, [[kept, 2]]]), "block").await;
    pair.refused("anvil_reorg", json!([2, [["0x1234", 0]]]), "").await;
    let stranger = json!({ "from": Address::repeat_byte(0x12), "to": address(1) });
    pair.refused("anvil_reorg", json!([1, [[stranger, 0]]]), "").await;
    pair.same("anvil_reorg", json!([1, []]), SAME).await;
    pair.same("anvil_rollback", json!([2]), SAME).await;
    pair.same("eth_blockNumber", json!([]), SAME).await;
    pair.refused("anvil_rollback", json!([100]), "depth").await;
    pair.same("anvil_reorg", json!([3, []]), SAME).await;
    pair.same("eth_blockNumber", json!([]), SAME).await;
    pair.verdict();
}

#[tokio::test]
async fn small_questions() {
    let mut pair = Pair::start();
    for (method, params) in [
        ("eth_chainId", json!([])),
        ("eth_blockNumber", json!([])),
        ("eth_syncing", json!([])),
        ("net_version", json!([])),
        ("net_listening", json!([])),
        ("eth_coinbase", json!([])),
        ("eth_hashrate", json!([])),
        ("web3_sha3", json!(["0x68656c6c6f"])),
        ("eth_getUncleByBlockNumberAndIndex", json!(["0x0", "0x0"])),
        ("eth_getBlockTransactionCountByNumber", json!(["0x0"])),
    ] {
        pair.same(method, params, SAME).await;
    }
    pair.refused("eth_nothing", json!([]), "method").await;
    pair.refused("eth_getBalance", json!(["0x12"]), "").await;
    pair.refused("eth_getBalance", json!([]), "").await;
    pair.refused("eth_getBlockByNumber", json!(["soon", false]), "").await;
    pair.refused("eth_getBalance", json!({}), "").await;
    pair.verdict();
}
