//! When blocks are made, what time they show, and how far back one can look.

use crate::support::{Probe, address, ask, body, config, deploy, key, mined, must, number, sign};
use alloy::consensus::TxEip1559;
use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::SolCall;
use bourse_devchain::{Chain, Clock, Config, Mining};
use serde_json::{Value, json};
use std::time::Duration;

const START: u64 = 1_800_000_000;

fn payment(nonce: u64) -> Bytes {
    sign(TxEip1559 { value: U256::from(1), ..body(nonce, address(1), vec![]) }, &key(0))
}

fn call(to: Address, call: &impl SolCall) -> Value {
    json!({ "from": address(0), "to": to, "data": Bytes::from(call.abi_encode()) })
}

async fn timestamp(chain: &Chain) -> u64 {
    number(&must(chain, "eth_getBlockByNumber", json!(["latest", false])).await["timestamp"])
}

async fn height(chain: &Chain) -> u64 {
    number(&must(chain, "eth_blockNumber", json!([])).await)
}

#[tokio::test]
async fn blocks_share_a_timestamp_and_never_run_ahead_of_the_clock() {
    let clock = Clock::virtual_at(START);
    let chain = Chain::open(Config { clock: clock.clone(), ..config() }).unwrap();
    for nonce in 0..5 {
        mined(&chain, &payment(nonce)).await;
        assert_eq!(timestamp(&chain).await, START);
    }
    clock.advance(Duration::from_secs(7));
    mined(&chain, &payment(5)).await;
    assert_eq!(timestamp(&chain).await, START + 7);
    clock.set(START);
    mined(&chain, &payment(6)).await;
    assert_eq!(timestamp(&chain).await, START + 7, "time never goes back from block to block");
}

#[tokio::test]
async fn time_methods_move_the_offset_from_the_clock() {
    let clock = Clock::virtual_at(START);
    let chain = Chain::open(Config { clock: clock.clone(), ..config() }).unwrap();
    assert_eq!(must(&chain, "evm_increaseTime", json!([100])).await, 100);
    must(&chain, "evm_mine", json!([])).await;
    assert_eq!(timestamp(&chain).await, START + 100);
    must(&chain, "evm_setNextBlockTimestamp", json!([START + 500])).await;
    let pending = must(&chain, "eth_getBlockByNumber", json!(["pending", false])).await;
    assert_eq!(number(&pending["timestamp"]), START + 500);
    must(&chain, "evm_mine", json!([])).await;
    clock.advance(Duration::from_secs(3));
    must(&chain, "evm_mine", json!([])).await;
    assert_eq!(timestamp(&chain).await, START + 503);
    must(&chain, "anvil_mine", json!([3, 60])).await;
    assert_eq!(timestamp(&chain).await, START + 503 + 120);
    let snapshot = must(&chain, "evm_snapshot", json!([])).await;
    must(&chain, "evm_increaseTime", json!([1_000_000])).await;
    must(&chain, "evm_mine", json!([])).await;
    assert_eq!(must(&chain, "evm_revert", json!([snapshot])).await, true);
    must(&chain, "evm_mine", json!([])).await;
    assert_eq!(timestamp(&chain).await, START + 503 + 120);
    assert_eq!(ask(&chain, "evm_setNextBlockTimestamp", json!([START])).await.unwrap_err().code, -32602);
}

#[tokio::test]
async fn an_interval_mines_what_waits_when_the_clock_says_so() {
    let clock = Clock::virtual_at(START);
    let mining = Mining::Interval(Duration::from_secs(2));
    let chain = Chain::open(Config { clock: clock.clone(), mining, ..config() }).unwrap();
    let mut heads = tokio::time::interval(Duration::from_millis(1));
    let hash = must(&chain, "eth_sendRawTransaction", json!([payment(0)])).await;
    assert!(must(&chain, "eth_getTransactionReceipt", json!([hash])).await.is_null());
    for expected in 1..4 {
        assert_eq!(height(&chain).await, expected - 1);
        // The ticker sets its next date after it has mined: a late one only needs another second.
        while height(&chain).await < expected {
            clock.advance(Duration::from_secs(1));
            for _ in 0..50 {
                heads.tick().await;
                if height(&chain).await >= expected {
                    break;
                }
            }
        }
    }
    assert_eq!(must(&chain, "eth_getTransactionReceipt", json!([hash])).await["blockNumber"], "0x1");
    must(&chain, "evm_setIntervalMining", json!([0])).await;
    let stopped = height(&chain).await;
    clock.advance(Duration::from_secs(100));
    heads.tick().await;
    assert!(height(&chain).await <= stopped + 1);
}

#[tokio::test]
async fn a_wall_clock_interval_mines_too() {
    let chain = Chain::open(Config { mining: Mining::Interval(Duration::from_millis(20)), ..config() }).unwrap();
    let started = std::time::Instant::now();
    while height(&chain).await < 3 {
        assert!(started.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(Chain::open(Config { mining: Mining::Interval(Duration::ZERO), ..config() }).is_err());
}

#[tokio::test(start_paused = true)]
async fn paused_time_does_not_pass_while_a_block_is_made() {
    let chain = Chain::open(config()).unwrap();
    let started = tokio::time::Instant::now();
    for nonce in 0..20 {
        let raw = payment(nonce);
        let receipt = tokio::time::timeout(Duration::from_millis(1), mined(&chain, &raw)).await;
        assert!(receipt.is_ok(), "the timeout does not fire");
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn old_states_can_be_read_for_the_promised_depth() {
    let chain = Chain::open(Config { history: 256, ..config() }).unwrap();
    let probe = deploy(&chain, "Probe", 0, 0).await;
    for nonce in 1..40 {
        mined(&chain, &sign(body(nonce, probe, Probe::setCall { number: U256::from(nonce) }.abi_encode()), &key(0)))
            .await;
    }
    for at in 2..40u64 {
        let seen = must(&chain, "eth_call", json!([call(probe, &Probe::valueCall {}), format!("{at:#x}")])).await;
        assert_eq!(number(&seen), at - 1);
    }
    must(&chain, "anvil_mine", json!([256 + 10])).await;
    let refused = ask(&chain, "eth_call", json!([call(probe, &Probe::valueCall {}), "0x5"])).await.unwrap_err();
    assert!(refused.message.contains("state of block 5 is not available"), "{}", refused.message);
    let at = height(&chain).await - 256;
    must(&chain, "eth_getBalance", json!([address(0), format!("{at:#x}")])).await;
    let refused = ask(&chain, "anvil_reorg", json!([300, []])).await.unwrap_err();
    assert!(refused.message.contains("is not available"), "{}", refused.message);
    must(&chain, "anvil_reorg", json!([200, []])).await;
    // Old blocks stay readable, only their states are gone.
    assert_eq!(
        must(&chain, "eth_getBlockByNumber", json!(["0x5", false])).await["transactions"][0].as_str().map(str::len),
        Some(66)
    );
}

#[tokio::test]
async fn snapshots_bring_back_everything_and_work_once() {
    let chain = Chain::open(config()).unwrap();
    let probe = deploy(&chain, "Probe", 0, 0).await;
    let first = must(&chain, "evm_snapshot", json!([])).await;
    must(&chain, "anvil_setStorageAt", json!([probe, "0x0", alloy_primitives::B256::with_last_byte(5)])).await;
    let second = must(&chain, "evm_snapshot", json!([])).await;
    mined(&chain, &sign(body(1, probe, Probe::setCall { number: U256::from(8) }.abi_encode()), &key(0))).await;
    let value = || async { number(&must(&chain, "eth_call", json!([call(probe, &Probe::valueCall {})])).await) };
    assert_eq!(value().await, 8);
    assert_eq!(must(&chain, "evm_revert", json!([second])).await, true);
    assert_eq!(value().await, 5);
    assert_eq!(must(&chain, "evm_revert", json!([second])).await, false);
    assert_eq!(must(&chain, "evm_revert", json!([first])).await, true);
    assert_eq!(value().await, 0);
    assert_eq!(height(&chain).await, 1);
    assert_eq!(must(&chain, "evm_revert", json!([99])).await, false);
}

#[tokio::test]
async fn a_replaced_block_has_another_hash_even_when_it_is_empty() {
    let clock = Clock::virtual_at(START);
    let chain = Chain::open(Config { clock, ..config() }).unwrap();
    must(&chain, "anvil_mine", json!([3])).await;
    let hash = || async { must(&chain, "eth_getBlockByNumber", json!(["latest", false])).await["hash"].clone() };
    let before = hash().await;
    must(&chain, "anvil_reorg", json!([1, []])).await;
    assert_ne!(hash().await, before);
    assert!(must(&chain, "eth_getBlockByHash", json!([before, false])).await.is_null());
    assert_eq!(height(&chain).await, 3);
}

#[tokio::test]
async fn the_same_history_gives_the_same_chain() {
    let mut hashes = Vec::new();
    for _ in 0..2 {
        let chain = Chain::open(Config { clock: Clock::virtual_at(START), ..config() }).unwrap();
        let probe = deploy(&chain, "Probe", 0, 0).await;
        mined(&chain, &sign(body(1, probe, Probe::setCall { number: U256::from(8) }.abi_encode()), &key(0))).await;
        must(&chain, "anvil_reorg", json!([1, []])).await;
        hashes.push(must(&chain, "eth_getBlockByNumber", json!(["latest", false])).await["hash"].clone());
    }
    assert_eq!(hashes[0], hashes[1]);
}

#[tokio::test]
async fn heavy_calls_do_not_stop_mining() {
    let chain = Chain::open(config()).unwrap();
    let probe = deploy(&chain, "Probe", 0, 0).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let chain = chain.clone();
        calls.spawn(
            async move { ask(&chain, "eth_call", json!([call(probe, &Probe::spinCall {})])).await.unwrap_err() },
        );
    }
    for nonce in 1..30 {
        mined(&chain, &payment(nonce)).await;
    }
    for refused in calls.join_all().await {
        assert_eq!(refused.message, "out of gas");
    }
}

#[tokio::test]
async fn many_senders_share_blocks_commits_and_order() {
    let chain = Chain::open(config()).unwrap();
    let mut senders = tokio::task::JoinSet::new();
    for index in 0..8u32 {
        let chain = chain.clone();
        senders.spawn(async move {
            for nonce in 0..25 {
                let raw = sign(TxEip1559 { value: U256::from(1), ..body(nonce, address(9), vec![]) }, &key(index));
                assert_eq!(mined(&chain, &raw).await["status"], "0x1");
            }
        });
    }
    senders.join_all().await;
    let start = U256::from(10_000) * U256::from(10).pow(U256::from(18));
    let balance: U256 = serde_json::from_value(must(&chain, "eth_getBalance", json!([address(9)])).await).unwrap();
    assert_eq!(balance, start + U256::from(200));
}
