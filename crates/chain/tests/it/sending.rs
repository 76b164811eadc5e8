//! One name, one transaction, whatever happens in between.

use super::{Lane, World, journal};
use bourse_chain::{GasPolicy, SendError, keys};
use bourse_protocol::{Address, U256, abi::IRlc};
use serde_json::json;
use std::time::Duration;

fn someone() -> Address {
    Address::with_last_byte(0x42)
}

#[tokio::test]
async fn the_same_name_is_sent_once() {
    let (world, journal) = (World::new(), journal());
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let first = lane.sender.pay("gift", someone(), U256::from(5)).await.unwrap();
    let again = lane.sender.pay("gift", someone(), U256::from(5)).await.unwrap();
    assert_eq!(first, again);
    lane.close().await;
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let after_restart = lane.sender.pay("gift", someone(), U256::from(5)).await.unwrap();
    assert_eq!((first.hash, world.client.balance(someone()).await.unwrap()), (after_restart.hash, U256::from(5)));
    lane.close().await;
}

#[tokio::test]
async fn many_at_once_get_nonces_of_their_own() {
    let (world, journal) = (World::new(), journal());
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let mut jobs = tokio::task::JoinSet::new();
    for n in 0..20 {
        let sender = lane.sender.clone();
        jobs.spawn(async move { sender.pay(&format!("gift {n}"), someone(), U256::from(1)).await.unwrap() });
    }
    while let Some(done) = jobs.join_next().await {
        done.unwrap();
    }
    assert_eq!(world.client.balance(someone()).await.unwrap(), U256::from(20));
    lane.close().await;
}

#[tokio::test]
async fn what_was_sent_before_a_crash_is_settled_after_it() {
    let (world, journal) = (World::new(), journal());
    world.rpc("evm_setAutomine", json!([false])).await;
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let sender = lane.sender.clone();
    let mut asking = tokio::task::JoinSet::new();
    asking.spawn(async move { sender.pay("gift", someone(), U256::from(5)).await });
    while world.rpc("eth_getTransactionCount", json!([keys::test_key(0).address(), "pending"])).await != "0x1" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    lane.close().await;
    assert!(matches!(asking.join_next().await.unwrap().unwrap(), Err(SendError::Stopped { .. })));
    world.rpc("evm_mine", json!([])).await;
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    lane.sender.pay("gift", someone(), U256::from(5)).await.unwrap();
    assert_eq!(world.client.balance(someone()).await.unwrap(), U256::from(5));
    assert_eq!(world.client.nonce(keys::test_key(0).address()).await.unwrap(), 1);
    lane.close().await;
}

#[tokio::test]
async fn a_transaction_that_the_node_forgot_is_handed_in_again() {
    let (world, journal) = (World::new(), journal());
    world.rpc("evm_setAutomine", json!([false])).await;
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let sender = lane.sender.clone();
    let mut asking = tokio::task::JoinSet::new();
    asking.spawn(async move { sender.pay("gift", someone(), U256::from(5)).await });
    while world.rpc("eth_getTransactionCount", json!([keys::test_key(0).address(), "pending"])).await != "0x1" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    lane.close().await;
    drop(asking);
    let hash: String = journal.read(|c| c.query_row("SELECT hash FROM chain_attempt", [], |r| r.get(0))).unwrap();
    world.rpc("anvil_dropTransaction", json!([hash])).await;
    world.rpc("evm_setAutomine", json!([true])).await;
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let receipt = lane.sender.pay("gift", someone(), U256::from(5)).await.unwrap();
    assert_eq!(receipt.hash.to_string(), hash);
    lane.close().await;
}

#[tokio::test]
async fn a_refusal_spends_nothing_and_may_be_tried_again() {
    let (world, journal) = (World::new(), journal());
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let code = bourse_chain::artifacts::Contract::Rlc.creation_code();
    let rlc = lane.sender.create("token", code).await.unwrap().created.unwrap();
    let other = Lane::open(&world.client, keys::test_key(1), &journal, GasPolicy::default()).await;
    let call = IRlc::transferCall { to: someone(), value: U256::from(1) };
    let refused = other.sender.send("pay", rlc, &call).await.unwrap_err();
    assert!(matches!(refused, SendError::Refused { .. }), "{refused}");
    assert_eq!(world.client.nonce(keys::test_key(1).address()).await.unwrap(), 0);
    let give = IRlc::transferCall { to: keys::test_key(1).address(), value: U256::from(1) };
    lane.sender.send("give", rlc, &give).await.unwrap();
    other.sender.send("pay", rlc, &call).await.unwrap();
    let held = world.client.call(rlc, &IRlc::balanceOfCall { account: someone() }).await.unwrap();
    assert_eq!(held, U256::from(1));
    lane.close().await;
    other.close().await;
}

#[tokio::test]
async fn an_empty_wallet_is_named() {
    let (world, journal) = (World::new(), journal());
    let lane = Lane::open(&world.client, keys::test_key(9), &journal, GasPolicy::default()).await;
    let error = lane.sender.pay("gift", someone(), U256::from(5)).await.unwrap_err();
    assert!(matches!(error, SendError::OutOfGas { .. } | SendError::Chain { .. }), "{error}");
    lane.close().await;
}

#[tokio::test]
async fn above_the_cap_it_waits_and_goes_on_by_itself() {
    let (world, journal) = (World::new(), journal());
    world.rpc("anvil_setNextBlockBaseFeePerGas", json!(["0x77359400"])).await;
    world.rpc("evm_mine", json!([])).await;
    let policy = GasPolicy { multiplier_percent: 130, cap: 1_900_000_000 };
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, policy).await;
    let sender = lane.sender.clone();
    let paying = sender.pay("gift", someone(), U256::from(5));
    tokio::pin!(paying);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut paying).await;
    assert!(early.is_err(), "paid above the cap: {early:?}");
    assert_eq!(world.client.nonce(keys::test_key(0).address()).await.unwrap(), 0);
    // Empty blocks let the base fee fall by an eighth each.
    world.rpc("anvil_mine", json!(["0x3"])).await;
    let receipt = paying.await.unwrap();
    assert!(receipt.fee <= U256::from(receipt.gas_used) * U256::from(policy.cap));
    lane.close().await;
}
