//! What was acknowledged survives restarts, kills and full disks; folders that do not fit are refused.

use crate::support::{Probe, Rpc, address, body, config, deploy, key, mined, must, number, serve, sign, tools};
use alloy::consensus::TxEip1559;
use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall;
use bourse_devchain::{Chain, Config, Error, ServerConfig};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn on_disk(folder: &Path) -> Config {
    Config { data_dir: Some(folder.join("chain")), ..config() }
}

fn payment(nonce: u64, from: u32) -> alloy_primitives::Bytes {
    sign(TxEip1559 { value: U256::from(nonce + 1), ..body(nonce, address(1), vec![]) }, &key(from))
}

/// Answers that must not change by a restart.
async fn portrait(chain: &Chain, probe: Address) -> Vec<Value> {
    let head = number(&must(chain, "eth_blockNumber", json!([])).await);
    let mut answers = Vec::new();
    for at in (0..=head).map(|at| format!("{at:#x}")) {
        answers.push(must(chain, "eth_getBlockByNumber", json!([at, true])).await);
        answers.push(must(chain, "eth_getBlockReceipts", json!([at])).await);
        answers.push(must(chain, "eth_getBalance", json!([address(1), at])).await);
        answers.push(must(chain, "eth_getStorageAt", json!([probe, "0x0", at])).await);
    }
    answers.push(must(chain, "eth_getLogs", json!([{ "fromBlock": "earliest" }])).await);
    answers.push(must(chain, "eth_getCode", json!([probe])).await);
    answers.push(must(chain, "eth_getProof", json!([probe, ["0x0"]])).await);
    answers.push(must(chain, "txpool_content", json!([])).await);
    answers
}

#[tokio::test]
async fn no_two_distinct_chains_begin_alike() {
    let clock = bourse_devchain::Clock::virtual_at(1_700_000_000);
    let first = |chain: Chain| async move {
        let block = must(&chain, "eth_getBlockByNumber", json!(["0x0", false])).await;
        block["hash"].clone()
    };
    let open = || Chain::open(Config { clock: clock.clone(), distinct: true, ..config() }).unwrap();
    assert_ne!(first(open()).await, first(open()).await, "made in the same second with the same accounts");
}

#[tokio::test]
async fn a_copy_is_the_same_and_goes_its_own_way() {
    let chain = Chain::open(config()).unwrap();
    let probe = deploy(&chain, "Probe", 0, 0).await;
    let call = |value: u64| Probe::setCall { number: U256::from(value) }.abi_encode();
    mined(&chain, &sign(body(1, probe, call(5)), &key(0))).await;
    let copy = Chain::open(Config { copy_of: Some(chain.clone()), ..config() }).unwrap();
    assert_eq!(portrait(&copy, probe).await, portrait(&chain, probe).await);
    for (chain, value) in [(&copy, 6), (&chain, 7)] {
        mined(chain, &sign(body(2, probe, call(value)), &key(0))).await;
        let stored = must(chain, "eth_getStorageAt", json!([probe, "0x0"])).await;
        assert_eq!(number(&stored), value);
    }
}

#[tokio::test]
async fn a_reopened_chain_is_the_same_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let chain = Chain::open(on_disk(folder.path())).unwrap();
    let probe = deploy(&chain, "Probe", 0, 0).await;
    for nonce in 1..6 {
        mined(&chain, &sign(body(nonce, probe, Probe::setCall { number: U256::from(nonce) }.abi_encode()), &key(0)))
            .await;
    }
    must(&chain, "anvil_setBalance", json!([Address::repeat_byte(9), "0x5"])).await;
    must(&chain, "anvil_reorg", json!([2, []])).await;
    must(&chain, "evm_increaseTime", json!([1000])).await;
    // A gap keeps this one waiting.
    must(&chain, "eth_sendRawTransaction", json!([payment(6, 0)])).await;
    let before = portrait(&chain, probe).await;
    let hash_before = must(&chain, "eth_getBlockByNumber", json!(["latest", false])).await["timestamp"].clone();
    drop(chain);

    let chain = Chain::open(on_disk(folder.path())).unwrap();
    assert_eq!(portrait(&chain, probe).await, before);
    let hashed = Probe::hashOfCall { number: U256::from(3) }.abi_encode();
    let request = json!({ "to": probe, "data": alloy_primitives::Bytes::from(hashed) });
    let block = must(&chain, "eth_getBlockByNumber", json!(["0x3", false])).await;
    assert_eq!(must(&chain, "eth_call", json!([request])).await, block["hash"]);
    // What reorganisations and old states need is there too, and the waiting transaction gets its turn.
    must(&chain, "anvil_rollback", json!([1])).await;
    for nonce in 4..6 {
        mined(&chain, &payment(nonce, 0)).await;
    }
    assert_eq!(must(&chain, "txpool_status", json!([])).await["queued"], "0x0");
    assert_eq!(must(&chain, "eth_getTransactionCount", json!([address(0)])).await, "0x7");
    let later = must(&chain, "eth_getBlockByNumber", json!(["latest", false])).await["timestamp"].clone();
    assert!(number(&later) >= number(&hash_before) + 900, "the offset of the clock is kept");
}

#[tokio::test]
async fn a_folder_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let chain = Chain::open(on_disk(folder.path())).unwrap();
    let error = Chain::open(on_disk(folder.path())).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert!(error.to_string().contains("another process is using it"));
    drop(chain);
    Chain::open(on_disk(folder.path())).unwrap();
}

#[tokio::test]
async fn a_folder_of_another_chain_id_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(Chain::open(on_disk(folder.path())).unwrap());
    let error = Chain::open(Config { chain_id: 5, ..on_disk(folder.path()) }).unwrap_err();
    assert!(matches!(error, Error::ChainId { found: 31_337, expected: 5, .. }), "{error}");
    Chain::open(on_disk(folder.path())).unwrap();
}

#[tokio::test]
async fn a_damaged_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let chain = Chain::open(on_disk(folder.path())).unwrap();
    mined(&chain, &payment(0, 0)).await;
    drop(chain);
    let file = folder.path().join("chain/chain.sqlite");
    // A balance changed behind the chain's back does not match the state root.
    let tampered = rusqlite::Connection::open(&file).unwrap();
    tampered.execute("DELETE FROM accounts WHERE address = ?", [address(3).as_slice()]).unwrap();
    drop(tampered);
    let error = Chain::open(on_disk(folder.path())).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("its root does not match"), "{error}");

    std::fs::write(&file, b"this is not a database, however long it may go on and on and on").unwrap();
    let error = Chain::open(on_disk(folder.path())).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[test]
fn a_folder_that_is_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("chain"), b"").unwrap();
    let error = Chain::open(on_disk(folder.path())).unwrap_err();
    assert!(matches!(error, Error::Folder { .. }), "{error}");
}

const FOLDER: &str = "DEVCHAIN_TEST_FOLDER";

/// Not a test: the other tests run this as a process of its own and kill it.
#[tokio::test]
#[ignore = "a process that other tests start"]
async fn child_process() {
    let folder = std::env::var_os(FOLDER).expect("the parent test names a folder");
    let chain = Chain::open(on_disk(Path::new(&folder))).unwrap();
    let served = serve(chain, ServerConfig { test_methods: true, ..ServerConfig::default() });
    println!("\nSERVING {}", served.address);
    std::future::pending::<()>().await;
}

/// A chain in another process.
struct Process {
    child: Child,
    rpc: Rpc,
}

impl Process {
    fn start(folder: &Path, wrapper: &[&str]) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut words = wrapper.to_vec();
        words.push(program.to_str().unwrap());
        let child = Command::new(words[0])
            .args(&words[1..])
            .args(["restart::child_process", "--exact", "--ignored", "--nocapture"])
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the process says where it serves").unwrap();
            if let Some(address) = line.strip_prefix("SERVING ") {
                break address.to_owned();
            }
        };
        Self { child, rpc: Rpc::new(format!("http://{address}")) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<(Value, Value)> = Vec::new();
    let mut nonces = [0u64; 4];
    for round in 0..4 {
        let process = Process::start(folder.path(), &[]);
        for (hash, receipt) in &acknowledged {
            assert_eq!(process.rpc.call("eth_getTransactionReceipt", json!([hash])).await, *receipt);
        }
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let mut clients = tokio::task::JoinSet::new();
        for (index, first) in nonces.into_iter().enumerate() {
            let (rpc, sender) = (process.rpc.clone(), sender.clone());
            clients.spawn(async move {
                for nonce in first.. {
                    let hash = rpc.call("eth_sendRawTransaction", json!([payment(nonce, index as u32 + 2)])).await;
                    let receipt = rpc.call("eth_getTransactionReceipt", json!([hash])).await;
                    assert!(!receipt.is_null(), "an acknowledged transaction is mined");
                    sender.send((index, nonce, hash, receipt)).unwrap();
                }
            });
        }
        drop(sender);
        // The kill falls somewhere into the work of four clients.
        let wanted = 20 + 17 * round;
        for _ in 0..wanted {
            let (index, nonce, hash, receipt) = receiver.recv().await.unwrap();
            nonces[index] = nonce + 1;
            acknowledged.push((hash, receipt));
        }
        drop(process);
        while clients.join_next().await.is_some() {}
        while let Some((index, nonce, hash, receipt)) = receiver.recv().await {
            nonces[index] = nonce + 1;
            acknowledged.push((hash, receipt));
        }
        // A transaction may have been stored without the answer getting out.
        let chain = Chain::open(on_disk(folder.path())).unwrap();
        for (index, nonce) in nonces.iter_mut().enumerate() {
            let stored = number(&must(&chain, "eth_getTransactionCount", json!([address(index as u32 + 2)])).await);
            assert!(stored == *nonce || stored == *nonce + 1, "stored {stored}, acknowledged {nonce}");
            *nonce = stored;
        }
    }
}

/// Mounts a small file system for one process; needs user namespaces or root.
const SMALL_DISK: &str = "mount -t tmpfs -o size=400k none \"$DEVCHAIN_TEST_FOLDER\" && \"$@\"";

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(
        folder.path(),
        &["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK, "sh"],
    );
    let rpc = &process.rpc;
    let mut nonce = 0;
    let refused = loop {
        let input = vec![1u8; 4000];
        let raw = sign(TxEip1559 { gas_limit: 200_000, ..body(nonce, address(1), input) }, &key(0));
        match rpc.try_call("eth_sendRawTransaction", json!([raw])).await {
            Ok(hash) => assert!(!rpc.call("eth_getTransactionReceipt", json!([hash])).await.is_null()),
            Err(refused) => break refused,
        }
        nonce += 1;
        assert!(nonce < 500, "the disk fills up");
    };
    assert_eq!(refused.code, -32000, "{refused:?}");
    assert!(refused.message.contains("disk is full"), "{refused:?}");
    // Nothing runs ahead of the disk.
    assert_eq!(number(&rpc.call("eth_blockNumber", json!([])).await), nonce);
    assert_eq!(number(&rpc.call("eth_getTransactionCount", json!([address(0), "pending"])).await), nonce);
    assert!(rpc.call("eth_getLogs", json!([{ "fromBlock": "earliest" }])).await.is_array());
    // With room again it goes on where it was.
    let grown = Command::new("nsenter")
        .args(["--user", "--mount", "--target", &process.child.id().to_string()])
        .args(["mount", "-o", "remount,size=4m"])
        .arg(folder.path())
        .status();
    assert!(grown.unwrap().success(), "the disk grows");
    let raw = sign(body(nonce, address(1), vec![]), &key(0));
    let hash = rpc.call("eth_sendRawTransaction", json!([raw])).await;
    assert_eq!(rpc.call("eth_getTransactionReceipt", json!([hash])).await["status"], "0x1");
}

#[tokio::test]
async fn committed_contracts_are_what_solc_makes() {
    let folder = tempfile::tempdir().unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contracts");
    assert!(tools().join("bin/solc").exists(), "the compiler of the test contracts is missing: run tools/install");
    let built = Command::new(sources.join("build")).arg(folder.path()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    for name in ["Token.hex", "Probe.hex"] {
        let [committed, made] = [sources.join(name), folder.path().join(name)].map(|file| std::fs::read(file).unwrap());
        assert!(committed == made, "{name} is stale: run tests/contracts/build");
    }
}
