//! Others send from the same key: another process of ours, a command, other software, or a former life of this one.

use super::{
    Lane, World,
    faults::{Faults, Node, client},
    journal,
    sending::{attempts, eventually, outcome, patient, paying, someone, until},
};
use bourse_chain::{Client, GasPolicy, Receipt, SendError, Settings, Waiting, keys};
use bourse_protocol::{Bytes, U256};
use bourse_service::journal::Journal;
use serde_json::json;
use std::time::Duration;

/// The signed bytes of what a store has sent, in order.
fn signed_bytes(journal: &Journal) -> Vec<Bytes> {
    let read = |row: &rusqlite::Row<'_>| row.get::<_, Vec<u8>>(0).map(Bytes::from);
    journal.read(|c| c.prepare("SELECT raw FROM chain_attempt ORDER BY rowid")?.query_map([], read)?.collect()).unwrap()
}

/// A life that sends three and ends before they are in a block.
async fn send_three_and_end(client: &Client, journal: &Journal) {
    let lane = Lane::open(client, keys::test_key(0), journal, GasPolicy::default()).await;
    let _waiting: Vec<_> = ["one", "two", "three"].map(|id| paying(&lane, id)).into();
    until(&lane, |s| s.sent == 3).await;
    lane.close().await;
}

/// A transaction from the wallet that is none of ours.
async fn foreign(world: &World, nonce: u64) {
    let from = keys::test_key(0).address();
    world.rpc("anvil_impersonateAccount", json!([from])).await;
    let request =
        json!([{ "from": from, "to": someone(), "value": "0x7", "nonce": format!("{nonce:#x}"), "gas": "0x5208" }]);
    world.rpc("eth_sendTransaction", request).await;
}

#[tokio::test]
async fn an_intent_whose_nonce_somebody_took_is_sent_again() {
    let (world, journal) = (World::new(), journal());
    world.rpc("evm_setAutomine", json!([false])).await;
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let mut jobs = paying(&lane, "gift");
    until(&lane, |s| s.sent == 1).await;
    world.rpc("anvil_dropTransaction", json!([attempts(&journal)[0]])).await;
    world.rpc("evm_setAutomine", json!([true])).await;
    foreign(&world, 0).await;
    outcome(&mut jobs).await.unwrap();
    assert_eq!(world.client.balance(someone()).await.unwrap(), U256::from(7 + 5));
    assert_eq!((world.client.nonce(keys::test_key(0).address()).await.unwrap(), lane.sender.key_in_use()), (2, None));
    lane.close().await;
}

/// A store whose senders have this tag.
async fn tagged(client: &Client, tag: u8) -> Journal {
    let journal = journal();
    let lane = Lane::open(client, keys::test_key(0), &journal, GasPolicy::default()).await;
    // Nothing has happened, so the first look makes the tables.
    lane.close().await;
    let make = "CREATE TABLE IF NOT EXISTS chain_tag (id INTEGER PRIMARY KEY CHECK (id = 0), tag INTEGER NOT NULL)";
    journal.write(|t| t.execute_batch(make)).unwrap();
    journal.write(|t| t.execute("INSERT OR REPLACE INTO chain_tag VALUES (0, ?1)", [tag])).unwrap();
    journal
}

/// Two senders on one key that take the same nonces: the first has its transactions in the node first.
async fn two_on_one_key(first: u8, second: u8, each: u64) -> (World, [Lane; 2], Vec<Result<Receipt, SendError>>) {
    let world = World::new();
    let client = client(&[&Node::of(&world.chain)], Settings { tag: None, ..Settings::embedded() });
    let (one, other) = (tagged(&client, first).await, tagged(&client, second).await);
    let a = Lane::open(&client, keys::test_key(0), &one, GasPolicy::default()).await;
    let b = Lane::open(&client, keys::test_key(0), &other, GasPolicy::default()).await;
    // Both have looked at the start, when nothing waited in the node.
    for (lane, id) in [(&a, "a"), (&b, "b")] {
        lane.sender.pay(id, someone(), U256::from(5)).await.unwrap();
    }
    a_minute_later(&world).await;
    let outcomes = both_send(&world, [&a, &b], each, "first").await;
    (world, [a, b], outcomes)
}

/// The next block is made a minute later.
async fn a_minute_later(world: &World) {
    world.rpc("evm_increaseTime", json!([61])).await;
}

/// Both send as many, the first one first, into one block.
async fn both_send(world: &World, [a, b]: [&Lane; 2], each: u64, name: &str) -> Vec<Result<Receipt, SendError>> {
    world.rpc("evm_setAutomine", json!([false])).await;
    let mut jobs: Vec<_> = (0..each).map(|n| paying(a, &format!("a {name} {n}"))).collect();
    until(a, |s| s.sent as u64 == each).await;
    jobs.extend((0..each).map(|n| paying(b, &format!("b {name} {n}"))));
    until(b, |s| s.sent as u64 == each).await;
    world.rpc("evm_mine", json!([])).await;
    world.rpc("evm_setAutomine", json!([true])).await;
    let mut outcomes = Vec::new();
    for job in &mut jobs {
        outcomes.push(outcome(job).await);
    }
    outcomes
}

#[tokio::test]
async fn of_two_processes_on_one_key_the_one_with_the_larger_tag_stops() {
    let (_world, [a, b], outcomes) = two_on_one_key(1, 2, 3).await;
    let wallet = keys::test_key(0).address().to_string();
    let (good, bad): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (3, 3));
    for error in bad.into_iter().map(Result::unwrap_err) {
        assert!(matches!(error, SendError::KeyInUse(_)) && error.to_string().contains(&wallet), "{error}");
    }
    assert!(a.sender.key_in_use().is_none() && b.sender.key_in_use().is_some());
    let later = b.sender.pay("later", someone(), U256::from(5)).await.unwrap_err();
    assert!(matches!(later, SendError::KeyInUse(_)), "{later}");
    a.sender.pay("later", someone(), U256::from(5)).await.unwrap();
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn of_two_processes_on_one_key_the_one_with_the_smaller_tag_sends_again_what_it_lost() {
    let (world, [a, b], outcomes) = two_on_one_key(2, 1, 5).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert!(b.sender.key_in_use().is_none());
    assert_eq!(world.client.balance(someone()).await.unwrap(), U256::from(12 * 5));
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn of_two_processes_on_one_key_the_one_that_always_comes_too_late_stops_too() {
    let (world, [a, b], _) = two_on_one_key(2, 1, 0).await;
    // What it wants to do is done before it comes to it: nothing of it gets into a block that the other one could see.
    let too_late = async |n: u64| {
        a.sender.pay(&format!("done {n}"), someone(), U256::from(5)).await.unwrap();
        let reverts = Bytes::from_static(&[0x60, 0, 0x60, 0, 0xfd]);
        b.sender.create(&format!("done {n}"), reverts).await.unwrap_err()
    };
    for n in 0..8 {
        // The other one may have stopped, and these may have been its last.
        let error = too_late(n).await;
        assert!(matches!(error, SendError::Refused { .. }), "{error}");
    }
    a_minute_later(&world).await;
    let error = too_late(8).await;
    assert!(matches!(error, SendError::KeyInUse(_)), "{error}");
    assert!(a.sender.key_in_use().is_none() && b.sender.key_in_use().is_some());
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn of_two_processes_that_send_one_after_the_other_one_stops_too() {
    let (_world, [a, b], _) = two_on_one_key(1, 2, 0).await;
    let pay = async |lane: &Lane, n: u64| {
        let paid = lane.sender.pay(&format!("gift {n}"), someone(), U256::from(1)).await;
        until(lane, |s| s.open == 0 || s.stopped.is_some()).await;
        paid
    };
    pay(&a, 0).await.unwrap();
    pay(&b, 0).await.unwrap();
    pay(&a, 1).await.unwrap();
    let error = pay(&b, 1).await.unwrap_err();
    assert!(matches!(error, SendError::KeyInUse(_)), "{error}");
    pay(&a, 2).await.unwrap();
    assert!(a.sender.key_in_use().is_none() && b.sender.key_in_use().is_some());
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn who_used_the_key_meanwhile_keeps_nothing_waiting_where_it_cannot_be_read() {
    let world = World::new();
    let node = Node::of(&world.chain);
    let client = client(&[&node], Settings::embedded());
    let lane = Lane::open(&client, keys::test_key(0), &journal(), GasPolicy::default()).await;
    lane.sender.pay("before", someone(), U256::from(5)).await.unwrap();
    a_minute_later(&world).await;
    foreign(&world, 1).await;
    node.spoil(Faults { no_full_blocks: true, ..Faults::default() });
    node.asked();
    lane.sender.pay("after", someone(), U256::from(5)).await.unwrap();
    assert!(node.asked().iter().any(|what| what == "a full block"), "it has looked");
    assert_eq!(world.client.balance(someone()).await.unwrap(), U256::from(5 + 7 + 5));
    lane.close().await;
}

#[tokio::test]
async fn an_intent_whose_nonce_was_taken_by_who_cannot_be_read_is_sent_again() {
    let (world, journal) = (World::new(), journal());
    let node = Node::of(&world.chain);
    world.rpc("evm_setAutomine", json!([false])).await;
    let lane =
        Lane::open(&client(&[&node], Settings::embedded()), keys::test_key(0), &journal, GasPolicy::default()).await;
    let mut jobs = paying(&lane, "gift");
    until(&lane, |s| s.sent == 1).await;
    world.rpc("anvil_dropTransaction", json!([attempts(&journal)[0]])).await;
    node.spoil(Faults { no_full_blocks: true, ..Faults::default() });
    world.rpc("evm_setAutomine", json!([true])).await;
    foreign(&world, 0).await;
    outcome(&mut jobs).await.unwrap();
    assert!(node.asked().iter().any(|what| what == "a full block"), "it has looked");
    assert_eq!(world.client.balance(someone()).await.unwrap(), U256::from(7 + 5));
    lane.close().await;
}

#[tokio::test]
async fn of_two_processes_that_chose_the_same_tag_one_stops_too() {
    let (world, [a, b], _) = two_on_one_key(1, 1, 0).await;
    let stopped = |lane: &Lane| lane.sender.key_in_use().is_some();
    for n in 0..8 {
        for (lane, wei) in [(&a, 3), (&b, 7)] {
            match lane.sender.pay(&format!("later {n}"), someone(), U256::from(wei)).await {
                Ok(_) | Err(SendError::KeyInUse(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        if n == 2 {
            assert!(!stopped(&a) && !stopped(&b), "what both have sent before they knew does not count");
            a_minute_later(&world).await;
        }
    }
    assert_ne!(stopped(&a), stopped(&b), "one of the two goes on");
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn what_a_former_life_has_sent_and_nodes_pass_on_late_makes_nobody_stop() {
    let world = World::new();
    let client = client(&[&Node::of(&world.chain)], Settings { tag: None, ..Settings::embedded() });
    let (former, deleted) = (tagged(&client, 1).await, tagged(&client, 2).await);
    world.rpc("evm_setAutomine", json!([false])).await;
    send_three_and_end(&client, &former).await;
    // The node that the new life asks does not know of them yet.
    for hash in attempts(&former) {
        world.rpc("anvil_dropTransaction", json!([hash])).await;
    }
    world.rpc("evm_setAutomine", json!([true])).await;
    let lane = Lane::open(&client, keys::test_key(0), &deleted, GasPolicy::default()).await;
    lane.sender.pay("begins", someone(), U256::from(5)).await.unwrap();
    for raw in signed_bytes(&former).into_iter().skip(1) {
        world.rpc("eth_sendRawTransaction", json!([raw])).await;
    }
    for n in 0..3 {
        lane.sender.pay(&format!("gift {n}"), someone(), U256::from(5)).await.unwrap();
    }
    assert_eq!(world.client.nonce(keys::test_key(0).address()).await.unwrap(), 3 + 3);
    assert_eq!(lane.sender.key_in_use(), None);
    lane.close().await;
}

#[tokio::test]
async fn a_command_may_use_the_key_of_a_service_and_another_command() {
    let world = World::new();
    let client = client(&[&Node::of(&world.chain)], Settings { tag: None, ..Settings::embedded() });
    let stores = [tagged(&client, 1).await, tagged(&client, 2).await, tagged(&client, 3).await];
    let lanes = [
        Lane::open(&client, keys::test_key(0), &stores[0], GasPolicy::default()).await,
        Lane::guest(&client, keys::test_key(0), &stores[1], GasPolicy::default()).await,
        Lane::guest(&client, keys::test_key(0), &stores[2], GasPolicy::default()).await,
    ];
    for n in 0..4 {
        for lane in &lanes {
            lane.sender.pay(&format!("gift {n}"), someone(), U256::from(1)).await.unwrap();
        }
    }
    // Also where they meet, again and again.
    for (a, b) in [(0, 1), (1, 0), (1, 2)] {
        a_minute_later(&world).await;
        let outcomes = both_send(&world, [&lanes[a], &lanes[b]], 4, &format!("{a} and {b}")).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    }
    // No two have signed the same bytes and taken one payment for both.
    assert_eq!(world.client.balance(someone()).await.unwrap(), U256::from(3 * 4 + 3 * 2 * 4 * 5));
    for lane in lanes {
        assert_eq!(lane.sender.key_in_use(), None);
        lane.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_the_node_at_the_start_is_of_a_former_life_and_is_waited_for() {
    let world = World::new();
    let node = Node::of(&world.chain);
    let client = client(&[&node], Settings { tag: None, ..patient() });
    let (former, deleted) = (tagged(&client, 1).await, tagged(&client, 2).await);
    world.rpc("evm_setAutomine", json!([false])).await;
    send_three_and_end(&client, &former).await;
    foreign(&world, 3).await;
    let lane = Lane::open(&client, keys::test_key(0), &deleted, GasPolicy::default()).await;
    let mut jobs = paying(&lane, "gift");
    let waits = Some(Waiting::Foreign { count: 4 });
    until(&lane, |s| s.waiting == waits).await;
    let early = tokio::time::timeout(Duration::from_secs(3_600), jobs.join_next()).await;
    assert!(early.is_err(), "{early:?}");
    node.asked();
    eventually("it looks again", async || node.rounds() >= 3).await;
    assert_eq!((lane.sender.status().waiting, lane.sender.key_in_use()), (waits, None));
    world.rpc("evm_setAutomine", json!([true])).await;
    world.rpc("evm_mine", json!([])).await;
    outcome(&mut jobs).await.unwrap();
    assert_eq!(world.client.balance(someone()).await.unwrap(), U256::from(3 * 5 + 7 + 5));
    assert_eq!(lane.sender.key_in_use(), None);
    lane.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_the_node_since_the_start_and_is_too_cheap_for_blocks_is_replaced() {
    let (world, journal) = (World::new(), journal());
    world.rpc("evm_setAutomine", json!([false])).await;
    for nonce in 0..2 {
        foreign(&world, nonce).await;
    }
    let lane =
        Lane::open(&client(&[&Node::of(&world.chain)], patient()), keys::test_key(0), &journal, GasPolicy::default())
            .await;
    let mut jobs = paying(&lane, "gift");
    until(&lane, |s| s.waiting == Some(Waiting::Foreign { count: 2 })).await;
    let dear_block = async || {
        world.rpc("anvil_setNextBlockBaseFeePerGas", json!(["0x174876e800"])).await;
        world.rpc("evm_mine", json!([])).await;
        tokio::time::sleep(Duration::from_secs(15)).await;
    };
    for _ in 0..19 {
        dear_block().await;
        assert_eq!(lane.sender.status().waiting, Some(Waiting::Foreign { count: 2 }));
    }
    for _ in 0..3 {
        dear_block().await;
    }
    // Over the cap it waits yet.
    let status = until(&lane, |s| matches!(s.waiting, Some(Waiting::OverCap { .. }))).await;
    assert_eq!(status.sent, 0);
    // Nodes take only what offers more than what is there, tips too.
    for _ in 0..20 {
        world.rpc("anvil_setNextBlockBaseFeePerGas", json!(["0x12a05f200"])).await;
        world.rpc("evm_mine", json!([])).await;
        tokio::time::sleep(Duration::from_secs(15)).await;
    }
    outcome(&mut jobs).await.unwrap();
    assert_eq!(
        world.client.balance(someone()).await.unwrap(),
        U256::from(5),
        "nothing of what was there is in a block"
    );
    assert_eq!(lane.sender.key_in_use(), None);
    lane.close().await;
}

#[tokio::test]
async fn what_comes_after_the_start_is_of_another_process_also_while_a_former_life_is_waited_for() {
    let world = World::new();
    let client = client(&[&Node::of(&world.chain)], Settings { tag: None, ..Settings::embedded() });
    let (one, other) = (tagged(&client, 1).await, tagged(&client, 2).await);
    world.rpc("evm_setAutomine", json!([false])).await;
    let a = Lane::open(&client, keys::test_key(0), &one, GasPolicy::default()).await;
    let mut jobs = vec![paying(&a, "a 0")];
    until(&a, |s| s.sent == 1).await;
    let b = Lane::open(&client, keys::test_key(0), &other, GasPolicy::default()).await;
    let mut late = paying(&b, "b");
    until(&b, |s| s.waiting == Some(Waiting::Foreign { count: 1 })).await;
    jobs.extend(["a 1", "a 2"].map(|id| paying(&a, id)));
    until(&a, |s| s.sent == 3).await;
    a_minute_later(&world).await;
    world.rpc("evm_mine", json!([])).await;
    let error = outcome(&mut late).await.unwrap_err();
    assert!(matches!(error, SendError::KeyInUse(_)), "{error}");
    for job in &mut jobs {
        outcome(job).await.unwrap();
    }
    assert!(a.sender.key_in_use().is_none() && b.sender.key_in_use().is_some());
    a.close().await;
    b.close().await;
}
