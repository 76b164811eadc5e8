//! ERC-20 transfers per second, beside anvil in instant mode.
//!
//! Both nodes get the same signed transactions from the same HTTP client, and every one is confirmed by its receipt. The
//! embedded chain writes to a folder on disk. The bench fails under three times anvil's rate.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench talks to its reader and may stop at any error")]

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "the bench needs a part of it")]
mod support;

use alloy::consensus::TxEip1559;
use alloy::primitives::TxKind;
use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::{SolCall, SolConstructor};
use bourse_devchain::{Chain, Config, ServerConfig};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Instant;
use support::{Anvil, Rpc, Token, address, body, code, config, key, serve, sign};
use tokio::task::JoinSet;

/// Senders that work at the same time, each waiting for a receipt before its next transfer.
const SENDERS: u32 = 8;
const TRANSFERS: u64 = 250;
const FACTOR: f64 = 3.0;

struct Work {
    setup: Vec<Bytes>,
    /// One list of transfers per sender.
    transfers: Vec<Vec<Bytes>>,
}

fn work() -> Work {
    let deployer = key(9);
    let mut creation = code("Token").to_vec();
    creation.extend(Token::constructorCall { supply: U256::from(1u128 << 100) }.abi_encode());
    let token = deployer.address().create(0);
    let mut setup = vec![sign(TxEip1559 { gas_limit: 3_000_000, ..body(0, TxKind::Create, creation) }, &deployer)];
    for index in 0..SENDERS {
        let give = Token::transferCall { to: address(index), value: U256::from(1u64 << 40) };
        setup.push(sign(body(u64::from(index) + 1, token, give.abi_encode()), &deployer));
    }
    let transfers = (0..SENDERS).map(|index| transfers(index, token)).collect();
    Work { setup, transfers }
}

/// Half of the receivers are new to the token, half have received before.
fn transfers(index: u32, token: Address) -> Vec<Bytes> {
    let sender = key(index);
    let one = |nonce: u64| {
        let receiver = U256::from((u64::from(index) << 32) | (nonce / 2 + 1));
        let call = Token::transferCall { to: Address::from_word(receiver.into()), value: U256::from(nonce + 1) };
        sign(TxEip1559 { gas_limit: 100_000, ..body(nonce, token, call.abi_encode()) }, &sender)
    };
    (0..TRANSFERS).map(one).collect()
}

/// Sends a signed transaction and waits for its receipt.
async fn confirm(rpc: &Rpc, raw: &Bytes) -> Value {
    let hash = rpc.call("eth_sendRawTransaction", json!([raw])).await;
    rpc.receipt(&hash).await
}

/// Transfers per second.
async fn measure(rpc: &Rpc, work: &Work) -> f64 {
    for raw in &work.setup {
        assert_eq!(confirm(rpc, raw).await["status"], "0x1");
    }
    let start = Instant::now();
    let mut senders = JoinSet::new();
    for list in work.transfers.clone() {
        let rpc = Rpc::new(rpc.url.clone());
        senders.spawn(async move {
            for raw in &list {
                let receipt = confirm(&rpc, raw).await;
                assert_eq!(receipt["status"], "0x1");
                assert_eq!(receipt["logs"].as_array().unwrap().len(), 1);
            }
        });
    }
    senders.join_all().await;
    (u64::from(SENDERS) * TRANSFERS) as f64 / start.elapsed().as_secs_f64()
}

/// Peak resident memory of this process, where the system tells it.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "unknown".to_owned(), |memory| memory.trim().to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let work = work();
    let folder = tempfile::tempdir().unwrap();
    let ours = {
        let chain = Chain::open(Config { data_dir: Some(folder.path().into()), ..config() }).unwrap();
        let served = serve(chain, ServerConfig::default());
        measure(&served.rpc, &work).await
    };
    let memory = peak_memory();
    let theirs = measure(&Anvil::start(&[]).rpc, &work).await;
    let ratio = ours / theirs;
    println!("ERC-20 transfers per second, {SENDERS} senders, {TRANSFERS} transfers each, every receipt read");
    println!("  devchain, on disk    {ours:8.0}");
    println!("  its peak memory      {memory:>8}  (chain and client in one process)");
    println!("  anvil, instant mode  {theirs:8.0}");
    println!("  ratio                {ratio:8.1}  (at least {FACTOR} wanted)");
    if ratio < FACTOR { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
