//! What the tests and the bench share: funded keys, signed transactions, a JSON-RPC client, and both kinds of node.

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::network::TxSignerSync;
use alloy::signers::local::coins_bip39::English;
use alloy::signers::local::{MnemonicBuilder, PrivateKeySigner};
use alloy_primitives::{Address, Bytes, TxKind, U256, utils::parse_ether};
use alloy_sol_types::sol;
use bourse_devchain::{Chain, Config, Server, ServerConfig};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

sol! {
    #[derive(Debug)]
    contract Token {
        event Transfer(address indexed from, address indexed to, uint256 value);
        error Short(address holder, uint256 balance, uint256 wanted);
        constructor(uint256 supply);
        function balanceOf(address) external view returns (uint256);
        function transfer(address to, uint256 value) external returns (bool);
    }

    #[derive(Debug)]
    contract Probe {
        event Plain(uint256 number);
        event Indexed(uint256 indexed number, address indexed who, bytes32 indexed tag, bytes data);
        error Refused(uint256 number, string reason);
        function value() external view returns (uint256);
        function slots(uint256) external view returns (uint256);
        function set(uint256 number) external payable;
        function fill(uint256 from, uint256 count) external;
        function clear(uint256 from, uint256 count) external;
        function failText() external pure;
        function failCustom(uint256 number) external pure;
        function failPanic(uint256 divisor) external pure returns (uint256);
        function failSilently() external pure;
        function spin() external view returns (uint256 sum);
        function nested(uint256 depth) external returns (uint256);
        function env() external view
            returns (uint256, uint256, uint256, uint256, address, uint256, address, uint256);
        function hashOf(uint256 number) external view returns (bytes32);
        function randomness() external view returns (uint256);
        function spawn() external returns (address child);
        function pay(address to) external payable;
    }
}

pub(crate) const CHAIN_ID: u64 = 31_337;
pub(crate) const GAS_LIMIT: u64 = 36_000_000;
const PHRASE: &str = "test test test test test test test test test test test junk";

/// The `index`-th account of the public test mnemonic.
pub(crate) fn key(index: u32) -> PrivateKeySigner {
    MnemonicBuilder::<English>::default().phrase(PHRASE).index(index).unwrap().build().unwrap()
}

pub(crate) fn address(index: u32) -> Address {
    key(index).address()
}

/// Creation code of a contract in `tests/contracts`.
pub(crate) fn code(name: &str) -> Bytes {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/contracts").join(name).with_extension("hex");
    hex::decode(std::fs::read_to_string(file).unwrap().trim()).unwrap().into()
}

/// A chain like anvil's: ten accounts with 10,000 ether each.
pub(crate) fn config() -> Config {
    let balance = parse_ether("10000").unwrap();
    let genesis = (0..10).map(|index| (address(index), balance)).collect();
    Config { genesis, ..Config::default() }
}

/// A transaction with generous fees.
pub(crate) fn body(nonce: u64, to: impl Into<TxKind>, input: impl Into<Bytes>) -> TxEip1559 {
    TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: 1_000_000,
        max_fee_per_gas: 20_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to: to.into(),
        input: input.into(),
        ..TxEip1559::default()
    }
}

pub(crate) fn sign<T>(mut body: T, key: &PrivateKeySigner) -> Bytes
where
    T: SignableTransaction<alloy_primitives::Signature>,
    TxEnvelope: From<alloy::consensus::Signed<T>>,
{
    let signature = key.sign_transaction_sync(&mut body).unwrap();
    TxEnvelope::from(body.into_signed(signature)).encoded_2718().into()
}

/// The error object of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refused {
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Value,
}

/// A JSON-RPC client over HTTP.
#[derive(Clone)]
pub(crate) struct Rpc {
    client: reqwest::Client,
    pub(crate) url: String,
}

impl Rpc {
    pub(crate) fn new(url: String) -> Self {
        // Fails when another test was first, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().tcp_nodelay(true).build().unwrap();
        Self { client, url }
    }

    pub(crate) async fn post(&self, body: Vec<u8>) -> (u16, String) {
        let request = self.client.post(&self.url).header("content-type", "application/json").body(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub(crate) async fn try_call(&self, method: &str, params: Value) -> Result<Value, Refused> {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let (_, text) = self.post(request.to_string().into_bytes()).await;
        result(serde_json::from_str(&text).unwrap())
    }

    pub(crate) async fn call(&self, method: &str, params: Value) -> Value {
        match self.try_call(method, params.clone()).await {
            Ok(result) => result,
            Err(refused) => panic!("{method} {params}: {refused:?}"),
        }
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn until(&self, method: &str, params: Value, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let answer = self.call(method, params.clone()).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{method} {params}: still {answer}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) async fn receipt(&self, hash: &Value) -> Value {
        self.until("eth_getTransactionReceipt", json!([hash]), |receipt| !receipt.is_null()).await
    }
}

/// Splits an answer into result and error.
pub(crate) fn result(mut answer: Value) -> Result<Value, Refused> {
    match answer.get_mut("error").map(Value::take) {
        Some(error) => Err(Refused {
            code: error["code"].as_i64().unwrap(),
            message: error["message"].as_str().unwrap().to_owned(),
            data: error["data"].clone(),
        }),
        None => Ok(answer["result"].take()),
    }
}

/// Asks a chain in this process.
pub(crate) async fn ask(chain: &Chain, method: &str, params: Value) -> Result<Value, Refused> {
    result(chain.handle(json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })).await)
}

/// Asks a chain in this process what it must answer.
pub(crate) async fn must(chain: &Chain, method: &str, params: Value) -> Value {
    match ask(chain, method, params.clone()).await {
        Ok(result) => result,
        Err(refused) => panic!("{method} {params}: {refused:?}"),
    }
}

/// Sends a signed transaction to a chain that mines on demand and returns the receipt.
pub(crate) async fn mined(chain: &Chain, raw: &Bytes) -> Value {
    let hash = must(chain, "eth_sendRawTransaction", json!([raw])).await;
    must(chain, "eth_getTransactionReceipt", json!([hash])).await
}

/// Deploys a contract with the key at `index` and returns its address.
pub(crate) async fn deploy(chain: &Chain, name: &str, index: u32, nonce: u64) -> Address {
    let create = TxEip1559 { gas_limit: 3_000_000, ..body(nonce, TxKind::Create, code(name)) };
    let receipt = mined(chain, &sign(create, &key(index))).await;
    assert_eq!(receipt["status"], "0x1", "{receipt}");
    serde_json::from_value(receipt["contractAddress"].clone()).unwrap()
}

pub(crate) fn number(value: &Value) -> u64 {
    serde_json::from_value::<U256>(value.clone()).unwrap().to()
}

/// A server in this process, stopped when dropped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) rpc: Rpc,
    stop: CancellationToken,
    _tasks: JoinSet<()>,
}

pub(crate) fn serve(chain: Chain, config: ServerConfig) -> Served {
    let server = Server::bind(chain, ([127, 0, 0, 1], 0).into(), config).unwrap();
    let address = server.local_addr();
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(server.run(stop.clone()));
    Served { address, rpc: Rpc::new(format!("http://{address}")), stop, _tasks: tasks }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A running anvil, killed when dropped.
pub(crate) struct Anvil {
    process: Child,
    pub(crate) rpc: Rpc,
}

impl Anvil {
    /// Starts anvil on a free port and waits until it listens.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let program = tools().join("bin/anvil");
        let mut process = Command::new(&program)
            .args(["--port", "0", "--gas-limit", &GAS_LIMIT.to_string(), "--disable-default-create2-deployer"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("anvil is needed as a peer and {} does not run ({error}): run tools/install", program.display())
            });
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("anvil says where it listens").unwrap();
            if let Some(address) = line.strip_prefix("Listening on ") {
                break address.trim().to_owned();
            }
        };
        // Anvil logs every request: a full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, rpc: Rpc::new(format!("http://{address}")) }
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The folder of the pinned npm tools.
pub(crate) fn tools() -> PathBuf {
    let chosen = std::env::var_os("BOURSE_TOOLS").map(PathBuf::from);
    chosen.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/bourse/tools"))
}
