//! One name, one transaction, whatever happens in between.

use super::{
    Lane, World,
    faults::{Faults, Node, client, impatient},
    journal,
};
use bourse_chain::{GasPolicy, Receipt, SendError, SenderStatus, Settings, Waiting, keys};
use bourse_protocol::{Address, B256, U256, abi::IRlc};
use bourse_service::journal::Journal;
use serde_json::json;
use std::time::Duration;
use tokio::task::JoinSet;

pub(super) fn someone() -> Address {
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
    assert!(matches!(error, SendError::OutOfGas(_) | SendError::Chain { .. }), "{error}");
    lane.close().await;
}

#[tokio::test]
async fn a_wallet_that_cannot_pay_is_known_until_it_can() {
    let (world, journal) = (World::new(), journal());
    let wallet = keys::test_key(0).address();
    world.rpc("anvil_setBalance", json!([wallet, "0x5"])).await;
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let error = lane.sender.pay("gift", someone(), U256::ZERO).await.unwrap_err();
    assert!(matches!(error, SendError::OutOfGas(_)), "{error}");
    let status = until(&lane, |s| s.out_of_gas.is_some()).await;
    assert!(status.needs_help() && status.obstacle().unwrap().contains("send ether to it"), "{status:?}");
    world.rpc("anvil_setBalance", json!([wallet, "0x8ac7230489e80000"])).await;
    world.rpc("evm_mine", json!([])).await;
    lane.sender.pay("gift", someone(), U256::ZERO).await.unwrap();
    assert_eq!(until(&lane, |s| s.out_of_gas.is_none()).await.obstacle(), None);
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
    let waiting = lane.sender.status().waiting;
    assert_eq!(waiting, Some(Waiting::OverCap { network: 2_000_000_000, cap: 1_900_000_000 }));
    assert_eq!(world.client.nonce(keys::test_key(0).address()).await.unwrap(), 0);
    // Empty blocks let the base fee fall by an eighth each.
    world.rpc("anvil_mine", json!(["0x3"])).await;
    let receipt = paying.await.unwrap();
    assert!(receipt.fee <= U256::from(receipt.gas_used) * U256::from(policy.cap));
    lane.close().await;
}

/// A payment that goes on beside the test.
pub(super) fn paying(lane: &Lane, id: &str) -> JoinSet<Result<Receipt, SendError>> {
    let (sender, id, mut jobs) = (lane.sender.clone(), id.to_owned(), JoinSet::new());
    jobs.spawn(async move { sender.pay(&id, someone(), U256::from(5)).await });
    jobs
}

pub(super) async fn outcome(jobs: &mut JoinSet<Result<Receipt, SendError>>) -> Result<Receipt, SendError> {
    jobs.join_next().await.unwrap().unwrap()
}

/// Waits until the sender says so.
pub(super) async fn until(lane: &Lane, ready: impl Fn(&SenderStatus) -> bool) -> SenderStatus {
    lane.sender.watch().wait_for(ready).await.unwrap().clone()
}

/// Waits until the chain is so.
pub(super) async fn eventually(what: &str, ready: impl AsyncFn() -> bool) {
    for _ in 0..2_000 {
        if ready().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

pub(super) fn attempts(journal: &Journal) -> Vec<B256> {
    let read = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    journal
        .read(|c| c.prepare("SELECT hash FROM chain_attempt ORDER BY rowid")?.query_map([], read)?.collect())
        .map(|all: Vec<String>| all.iter().map(|hash| hash.parse().unwrap()).collect())
        .unwrap()
}

/// Settings where only the test's clock goes on: a node that takes long is no fault.
pub(super) fn patient() -> Settings {
    Settings { timeout: Duration::from_secs(1_000_000), ..Settings::embedded() }
}

#[tokio::test]
async fn a_price_that_cannot_be_read_is_unknown_and_waits() {
    let (world, journal) = (World::new(), journal());
    let node = Node::of(&world.chain);
    let client = client(&[&node], Settings::embedded());
    let lane = Lane::open(&client, keys::test_key(0), &journal, GasPolicy::default()).await;
    node.spoil(Faults {
        refuse: [("eth_maxPriorityFeePerGas", (-32603, "internal error"))].into(),
        ..Default::default()
    });
    let mut jobs = paying(&lane, "gift");
    let status = until(&lane, |s| s.waiting.is_some()).await;
    assert!(
        matches!(&status.waiting, Some(Waiting::PriceUnknown { error }) if error.contains("internal")),
        "{status:?}"
    );
    assert_eq!((status.open, status.sent), (1, 0));
    assert_eq!(world.client.nonce(keys::test_key(0).address()).await.unwrap(), 0);
    node.heal();
    outcome(&mut jobs).await.unwrap();
    assert_eq!(until(&lane, |s| s.open == 0).await.waiting, None);
    lane.close().await;
}

#[tokio::test]
async fn a_silent_chain_is_waited_for_visibly() {
    let (world, journal) = (World::new(), journal());
    let node = Node::of(&world.chain);
    let client = client(&[&node], impatient());
    let lane = Lane::open(&client, keys::test_key(0), &journal, GasPolicy::default()).await;
    node.spoil(Faults { silent: true, ..Default::default() });
    let mut jobs = paying(&lane, "gift");
    let status = until(&lane, |s| s.waiting.is_some()).await;
    assert!(matches!(status.waiting, Some(Waiting::Unreachable { .. })), "{status:?}");
    node.heal();
    outcome(&mut jobs).await.unwrap();
    lane.close().await;
}

#[tokio::test]
async fn a_chain_without_base_fees_gets_transactions_of_the_first_type() {
    let (world, journal) = (World::new(), journal());
    let node = Node::of(&world.chain);
    let client = client(&[&node], Settings::embedded());
    let legacy = |gas_price| Faults { legacy: true, gas_price: Some(gas_price), ..Default::default() };
    node.spoil(legacy(30_000_000_000));
    let lane = Lane::open(&client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let mut jobs = paying(&lane, "gift");
    let waiting = until(&lane, |s| s.waiting.is_some()).await.waiting;
    assert_eq!(waiting, Some(Waiting::OverCap { network: 30_000_000_000, cap: 22_000_000_000 }));
    node.spoil(legacy(10_000_000_000));
    // The price is read anew with every block.
    world.rpc("evm_mine", json!([])).await;
    let receipt = outcome(&mut jobs).await.unwrap();
    let sent = world.rpc("eth_getTransactionByHash", json!([receipt.hash])).await;
    assert_eq!((&sent["type"], &sent["gasPrice"]), (&json!("0x0"), &json!(format!("{:#x}", 13_000_000_000u64))));
    lane.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_waits_too_long_gets_a_higher_fee_up_to_the_cap() {
    let (world, journal) = (World::new(), journal());
    world.rpc("evm_setAutomine", json!([false])).await;
    let client = client(&[&Node::of(&world.chain)], patient());
    let policy = GasPolicy { multiplier_percent: 130, cap: 3_300_000_000 };
    let lane = Lane::open(&client, keys::test_key(0), &journal, policy).await;
    let mut jobs = paying(&lane, "gift");
    let started = tokio::time::Instant::now();
    let status = until(&lane, |s| matches!(s.waiting, Some(Waiting::AtCap { .. }))).await;
    assert_eq!((status.sent, attempts(&journal).len()), (1, 3), "bumped twice, then the cap");
    let words = status.waiting.unwrap().to_string();
    assert!(words.contains("a transaction waits though it offers") && words.contains("3300000000"), "{words}");
    assert!(started.elapsed() >= Duration::from_secs(90), "{:?}", started.elapsed());
    world.rpc("evm_mine", json!([])).await;
    let receipt = outcome(&mut jobs).await.unwrap();
    assert!(receipt.fee <= U256::from(receipt.gas_used) * U256::from(policy.cap));
    assert_eq!(world.client.balance(someone()).await.unwrap(), U256::from(5));
    lane.close().await;
}

/// A payment that no node keeps, from a wallet that can pay for its first price and for no higher one.
async fn poor(world: &World, node: &Node, journal: &Journal) -> (Lane, JoinSet<Result<Receipt, SendError>>) {
    world.rpc("anvil_setBalance", json!([keys::test_key(0).address(), format!("{:#x}", 80_000_000_000_000u64)])).await;
    node.spoil(Faults { swallows: true, ..Default::default() });
    let client = client(&[node], Settings { tag: Some(0), ..patient() });
    let policy = GasPolicy { multiplier_percent: 130, cap: 3_300_000_000 };
    let lane = Lane::open(&client, keys::test_key(0), journal, policy).await;
    let jobs = paying(&lane, "gift");
    until(&lane, |s| s.sent == 1).await;
    (lane, jobs)
}

#[tokio::test(start_paused = true)]
async fn a_fee_that_the_wallet_cannot_pay_is_not_offered() {
    let (world, journal) = (World::new(), journal());
    let node = Node::of(&world.chain);
    let (lane, mut jobs) = poor(&world, &node, &journal).await;
    let status = until(&lane, |s| s.out_of_gas.is_some() || matches!(s.waiting, Some(Waiting::AtCap { .. }))).await;
    assert!(status.needs_help() && status.obstacle().unwrap().contains("send ether to it"), "{status:?}");
    assert_eq!(attempts(&journal).len(), 1);
    world.rpc("anvil_setBalance", json!([keys::test_key(0).address(), "0x8ac7230489e80000"])).await;
    world.rpc("evm_mine", json!([])).await;
    assert_eq!(until(&lane, |s| s.out_of_gas.is_none()).await.obstacle(), None);
    eventually("a higher fee", async || attempts(&journal).len() == 2).await;
    node.heal();
    outcome(&mut jobs).await.unwrap();
    lane.close().await;
}

#[tokio::test]
async fn who_cannot_pay_the_multiple_of_the_price_offers_what_it_can_down_to_the_price() {
    for (ether, is_enough) in [(66_000_000_000_000u64, true), (50_000_000_000_000, false)] {
        let (world, journal) = (World::new(), journal());
        let wallet = keys::test_key(0).address();
        world.rpc("anvil_setBalance", json!([wallet, format!("{ether:#x}")])).await;
        let client = client(&[&Node::of(&world.chain)], Settings { tag: Some(0), ..Settings::embedded() });
        assert_eq!(client.price().await.unwrap().network(), 2_000_000_000);
        let lane = Lane::open(&client, keys::test_key(0), &journal, GasPolicy::default()).await;
        match (outcome(&mut paying(&lane, "gift")).await, is_enough) {
            (Ok(_), true) => assert_eq!(lane.sender.status().out_of_gas, None),
            (Err(SendError::OutOfGas(why)), false) => assert_eq!(why.have, U256::from(ether)),
            (ended, _) => panic!("with {ether} wei: {ended:?}"),
        }
        lane.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_wallet_cannot_pay_the_last_fee_the_earlier_ones_are_handed_in_again() {
    let (world, journal) = (World::new(), journal());
    let node = Node::of(&world.chain);
    let (lane, jobs) = poor(&world, &node, &journal).await;
    // It cannot be read that the wallet cannot pay more.
    let refuse = [("eth_getBalance", (-32603, "internal error"))].into();
    node.spoil(Faults { swallows: true, refuse, ..Default::default() });
    world.rpc("evm_mine", json!([])).await;
    until(&lane, |s| matches!(s.waiting, Some(Waiting::AtCap { .. }))).await;
    assert_eq!(attempts(&journal).len(), 3, "bumped twice, then the cap");
    lane.close().await;
    drop(jobs);
    node.heal();
    world.rpc("evm_setAutomine", json!([false])).await;
    let client = client(&[&node], Settings { tag: Some(0), ..patient() });
    let lane = Lane::open(&client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let mut jobs = paying(&lane, "gift");
    let pending = async || world.client.pending_nonce(keys::test_key(0).address()).await.unwrap();
    eventually("handed in again", async || pending().await == 1).await;
    world.rpc("evm_mine", json!([])).await;
    assert_eq!(outcome(&mut jobs).await.unwrap().hash, attempts(&journal)[0]);
    lane.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_nodes_forget_is_handed_in_again_while_running() {
    let (world, journal) = (World::new(), journal());
    let node = Node::of(&world.chain);
    node.spoil(Faults { swallows: true, ..Default::default() });
    let lane = Lane::open(&client(&[&node], patient()), keys::test_key(0), &journal, GasPolicy::default()).await;
    let mut jobs = paying(&lane, "gift");
    until(&lane, |s| s.sent == 1).await;
    let hash = attempts(&journal)[0];
    node.heal();
    assert_eq!(outcome(&mut jobs).await.unwrap().hash, hash);
    lane.close().await;
}

#[tokio::test]
async fn what_the_node_has_lost_is_handed_in_again_when_a_block_comes_without_it() {
    let (world, journal) = (World::new(), journal());
    world.rpc("evm_setAutomine", json!([false])).await;
    let node = Node::of(&world.chain);
    node.spoil(Faults { swallows: true, ..Default::default() });
    let client = client(&[&node], Settings::embedded());
    let lane = Lane::open(&client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let mut jobs: Vec<_> = ["one", "two"].map(|id| paying(&lane, id)).into();
    let started = std::time::Instant::now();
    until(&lane, |s| s.sent == 2).await;
    node.heal();
    world.rpc("evm_mine", json!([])).await;
    let pending = async || world.client.pending_nonce(keys::test_key(0).address()).await.unwrap();
    eventually("handed in again", async || pending().await == 2).await;
    node.asked();
    world.rpc("evm_mine", json!([])).await;
    for job in &mut jobs {
        assert!(outcome(job).await.unwrap().block <= 2);
    }
    // Long before it is handed in again whatever the node knows.
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert!(!node.asked().contains(&"eth_getTransactionByHash".to_owned()), "what is in a block is not asked for");
    lane.close().await;
}

#[tokio::test]
async fn what_a_reorg_throws_out_comes_back() {
    let (world, journal) = (World::new(), journal());
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let before = lane.sender.pay("gift", someone(), U256::from(5)).await.unwrap();
    // Two empty blocks take the place of the one with the payment.
    world.rpc("evm_mine", json!([])).await;
    world.rpc("anvil_reorg", json!([2, []])).await;
    assert_eq!(world.client.balance(someone()).await.unwrap(), U256::ZERO);
    eventually("paid again", async || world.client.balance(someone()).await.unwrap() == U256::from(5)).await;
    let after = lane.sender.pay("gift", someone(), U256::from(5)).await.unwrap();
    assert_eq!((after.hash, world.client.nonce(keys::test_key(0).address()).await.unwrap()), (before.hash, 1));
    assert!(after.block > before.block);
    lane.close().await;
}

#[tokio::test]
async fn a_reorg_while_the_process_is_down_is_noticed_at_the_next_start() {
    let (world, journal) = (World::new(), journal());
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    lane.sender.pay("gift", someone(), U256::from(5)).await.unwrap();
    lane.close().await;
    world.rpc("anvil_reorg", json!([1, []])).await;
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    eventually("paid again", async || world.client.balance(someone()).await.unwrap() == U256::from(5)).await;
    lane.close().await;
}

/// A payment that lies so deep that it is no longer watched, and its lane.
async fn buried(world: &World, client: &bourse_chain::Client, journal: &Journal) -> (Lane, Receipt) {
    let lane = Lane::open(client, keys::test_key(0), journal, GasPolicy::default()).await;
    let receipt = lane.sender.pay("gift", someone(), U256::from(5)).await.unwrap();
    world.rpc("anvil_mine", json!(["0x5a"])).await;
    let watched =
        |c: &rusqlite::Connection| c.query_row("SELECT count(*) FROM chain_mined", [], |r| r.get::<_, u64>(0));
    eventually("buried", async || journal.read(watched).unwrap() == 0).await;
    (lane, receipt)
}

#[tokio::test]
async fn what_a_reorg_takes_away_from_deep_down_is_sent_anew_when_it_is_asked_for_again() {
    let (world, journal) = (World::new(), journal());
    let (lane, before) = buried(&world, &world.client, &journal).await;
    world.rpc("anvil_mine", json!(["0xa"])).await;
    assert_eq!(world.client.head().await.unwrap().number, before.block + 100);
    world.rpc("anvil_reorg", json!([101, []])).await;
    assert_eq!(world.client.balance(someone()).await.unwrap(), U256::ZERO);
    // Somebody else comes first on the new branch: the nonce of old is not free any more.
    lane.sender.pay("other", Address::with_last_byte(0x43), U256::from(1)).await.unwrap();
    let after = lane.sender.pay("gift", someone(), U256::from(5)).await.unwrap();
    assert_eq!(world.client.balance(someone()).await.unwrap(), U256::from(5));
    assert!(after.block > before.block && after.hash != before.hash, "{after:?}");
    let again = lane.sender.pay("gift", someone(), U256::from(5)).await.unwrap();
    assert_eq!((again, world.client.balance(someone()).await.unwrap()), (after, U256::from(5)));
    lane.close().await;
}

#[tokio::test]
async fn what_a_node_has_kept_of_a_branch_that_is_left_is_not_paid_beside_what_is_sent_again() {
    let (world, journal) = (World::new(), journal());
    let (lane, before) = buried(&world, &world.client, &journal).await;
    let raw: String = world.rpc("eth_getRawTransactionByHash", json!([before.hash])).await.as_str().unwrap().into();
    world.rpc("evm_setAutomine", json!([false])).await;
    world.rpc("anvil_reorg", json!([91, []])).await;
    let mut jobs = paying(&lane, "gift");
    until(&lane, |s| s.sent == 1).await;
    // Wherever the node has it from: it is the same.
    let again =
        world.chain.handle(json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [raw] }));
    drop(again.await);
    world.rpc("evm_mine", json!([])).await;
    assert_eq!(outcome(&mut jobs).await.unwrap().hash, before.hash);
    assert_eq!(world.client.balance(someone()).await.unwrap(), U256::from(5));
    assert_eq!(world.client.nonce(keys::test_key(0).address()).await.unwrap(), 1);
    lane.close().await;
}

#[tokio::test]
async fn what_lies_deep_costs_one_read_when_it_is_asked_for_again() {
    let (world, journal) = (World::new(), journal());
    let node = Node::of(&world.chain);
    let (lane, before) = buried(&world, &client(&[&node], Settings::embedded()), &journal).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    node.asked();
    assert_eq!(lane.sender.pay("gift", someone(), U256::from(5)).await.unwrap(), before);
    assert_eq!(node.asked(), ["eth_getBlockByNumber", "eth_getBlockByNumber"], "the newest block, and its own");
    lane.close().await;
}

#[tokio::test]
async fn what_lies_deep_in_another_block_after_a_reorg_is_not_sent_again() {
    let (world, journal) = (World::new(), journal());
    let (lane, before) = buried(&world, &world.client, &journal).await;
    let raw: String = world.rpc("eth_getRawTransactionByHash", json!([before.hash])).await.as_str().unwrap().into();
    world.rpc("anvil_reorg", json!([91, []])).await;
    world.rpc("eth_sendRawTransaction", json!([raw])).await;
    let after = lane.sender.pay("gift", someone(), U256::from(5)).await.unwrap();
    assert_eq!((after.hash, world.client.balance(someone()).await.unwrap()), (before.hash, U256::from(5)));
    assert!(after.block > before.block, "it is where it is now");
    lane.close().await;
}

#[tokio::test]
async fn a_node_that_lags_or_errs_is_no_reason_to_pay_twice_what_lies_deep() {
    let (world, journal) = (World::new(), journal());
    let node = Node::of(&world.chain);
    let (lane, before) = buried(&world, &client(&[&node], Settings::embedded()), &journal).await;
    let paid = async || {
        let wallet = keys::test_key(0).address();
        (world.client.balance(someone()).await.unwrap(), world.client.nonce(wallet).await.unwrap())
    };
    node.spoil(Faults { lag: 91, ..Default::default() });
    let mut jobs = paying(&lane, "gift");
    until(&lane, |s| s.open == 1).await;
    assert_eq!(paid().await, (U256::from(5), 1), "what was signed of old is all that is handed in");
    // Another branch, but it cannot be read whether the payment is on it.
    world.rpc("anvil_reorg", json!([91, []])).await;
    assert_eq!(paid().await, (U256::ZERO, 0));
    let errs = (-32603, "internal error");
    node.spoil(Faults { refuse: [("eth_getTransactionReceipt", errs)].into(), ..Default::default() });
    until(&lane, |s| matches!(s.waiting, Some(Waiting::Unreachable { .. }))).await;
    assert_eq!(paid().await, (U256::from(5), 1));
    node.heal();
    assert_eq!(outcome(&mut jobs).await.unwrap().hash, before.hash);
    assert_eq!(paid().await, (U256::from(5), 1));
    lane.close().await;
}

#[tokio::test]
async fn an_outcome_counts_when_it_is_deep_enough() {
    let (world, journal) = (World::new(), journal());
    let client = client(&[&Node::of(&world.chain)], Settings { depth: Some(2), ..Settings::embedded() });
    let lane = Lane::open(&client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let mut jobs = paying(&lane, "gift");
    eventually("paid", async || world.client.balance(someone()).await.unwrap() == U256::from(5)).await;
    world.rpc("evm_mine", json!([])).await;
    // The block goes away before it counts; the payment does not.
    world.rpc("anvil_reorg", json!([2, []])).await;
    eventually("paid again", async || world.client.balance(someone()).await.unwrap() == U256::from(5)).await;
    assert!(jobs.try_join_next().is_none());
    world.rpc("anvil_mine", json!(["0x2"])).await;
    let receipt = outcome(&mut jobs).await.unwrap();
    assert!(receipt.block + 2 <= world.client.head().await.unwrap().number);
    lane.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_nonce_that_nobody_uses_is_filled() {
    let (world, journal) = (World::new(), journal());
    let client = client(&[&Node::of(&world.chain)], patient());
    world.rpc("evm_setAutomine", json!([false])).await;
    let lane = Lane::open(&client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let (first, second) = (paying(&lane, "first"), paying(&lane, "second"));
    until(&lane, |s| s.sent == 2).await;
    lane.close().await;
    drop((first, second));
    // The first is lost, here and in the node.
    world.rpc("anvil_dropTransaction", json!([attempts(&journal)[0]])).await;
    journal.write(|t| t.execute("DELETE FROM chain_intent WHERE nonce = 0", [])).unwrap();
    world.rpc("evm_setAutomine", json!([true])).await;
    let lane = Lane::open(&client, keys::test_key(0), &journal, GasPolicy::default()).await;
    until(&lane, |s| s.open == 1).await;
    until(&lane, |s| s.open == 0).await;
    assert_eq!(world.client.nonce(keys::test_key(0).address()).await.unwrap(), 2);
    assert_eq!(world.client.balance(someone()).await.unwrap(), U256::from(5));
    lane.close().await;
}

#[tokio::test]
async fn numbers_beyond_all_bounds_end_nothing() {
    for depth in [0, 1] {
        let world = World::new();
        let node = Node::of(&world.chain);
        let client = client(&[&node], Settings { depth: Some(depth), ..Settings::embedded() });
        let lane = Lane::open(&client, keys::test_key(0), &journal(), GasPolicy::default()).await;
        node.spoil(Faults { gas: Some(u64::MAX), ..Faults::default() });
        let error = lane.sender.pay("dear", someone(), U256::from(5)).await.unwrap_err();
        assert!(matches!(error, SendError::OutOfGas(_)), "{error}");
        node.spoil(Faults { far_receipts: true, ..Faults::default() });
        let mut jobs = paying(&lane, "gift");
        until(&lane, |s| matches!(s.waiting, Some(Waiting::Unreachable { .. }))).await;
        node.heal();
        world.rpc("evm_mine", json!([])).await;
        world.rpc("evm_mine", json!([])).await;
        outcome(&mut jobs).await.unwrap();
        lane.close().await;
    }
}

#[tokio::test]
async fn while_no_block_comes_only_the_newest_block_is_asked_for() {
    let (world, journal) = (World::new(), journal());
    world.rpc("evm_setAutomine", json!([false])).await;
    let node = Node::of(&world.chain);
    let lane =
        Lane::open(&client(&[&node], Settings::embedded()), keys::test_key(0), &journal, GasPolicy::default()).await;
    let mut jobs: Vec<_> = ["one", "two", "three"].map(|id| paying(&lane, id)).into();
    until(&lane, |s| s.sent == 3).await;
    node.asked();
    let mut asked = Vec::new();
    eventually("ten rounds", async || {
        tokio::task::yield_now().await;
        node.rounds() >= 10
    })
    .await;
    asked.extend(node.asked());
    asked.dedup();
    assert_eq!(asked, ["eth_getBlockByNumber"]);
    world.rpc("evm_mine", json!([])).await;
    for job in &mut jobs {
        outcome(job).await.unwrap();
    }
    let asked = node.asked();
    let count = |method: &str| asked.iter().filter(|m| *m == method).count();
    assert_eq!((count("eth_getTransactionCount"), count("eth_getTransactionReceipt")), (1, 3), "{asked:?}");
    lane.close().await;
}

#[tokio::test]
async fn the_gas_that_calls_used_is_remembered() {
    let (world, journal) = (World::new(), journal());
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let code = bourse_chain::artifacts::Contract::Rlc.creation_code();
    let rlc = lane.sender.create("token", code).await.unwrap().created.unwrap();
    assert_eq!(lane.sender.gas_used::<IRlc::transferCall>(rlc).unwrap(), None);
    let call = IRlc::transferCall { to: someone(), value: U256::from(1) };
    let receipt = lane.sender.send("give", rlc, &call).await.unwrap();
    assert_eq!(lane.sender.gas_used::<IRlc::transferCall>(rlc).unwrap(), Some(receipt.gas_used));
    lane.close().await;
}

#[tokio::test]
async fn where_nobody_has_worked_yet_a_task_takes_the_gas_that_was_measured() {
    use bourse_chain::{Hub, WorkGas, deploy};
    let (world, journal) = (World::new(), journal());
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let there = deploy::deploy(&world.client, &lane.sender, Default::default(), |_| {}).await.unwrap();
    let hub = Hub::new(world.client.clone(), there.hub);
    assert_eq!(hub.work_gas(None).await.unwrap(), WorkGas::MEASURED);
    assert_eq!(hub.work_gas(Some(&lane.sender)).await.unwrap(), WorkGas::MEASURED);
    // Views of one decision are of one block, also those of the hub.
    let view = hub.at(world.client.head().await.unwrap());
    world.rpc("anvil_reorg", json!([1, []])).await;
    assert!(view.period(U256::ZERO).await.is_err() && hub.period(U256::ZERO).await.is_ok());
    lane.close().await;
}
