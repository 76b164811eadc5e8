//! Several nodes as one: bad ones are left aside, good ones are used, and what cannot be read is an error.

use super::{
    World,
    faults::{Faults, Node, client, impatient},
};
use bourse_chain::{Client, Error, Settings, health::Why, keys};
use bourse_protocol::{Address, U256};
use serde_json::json;
use std::time::Duration;

fn rich() -> Address {
    keys::test_key(0).address()
}

fn ether() -> U256 {
    U256::from(10).pow(U256::from(20))
}

/// Why a node is left aside, after a look at all.
async fn why(client: &Client, node: usize) -> Option<Why> {
    client.probe().await[node].reason.clone()
}

#[tokio::test]
async fn a_silent_node_is_left_aside_and_taken_back() {
    let world = World::new();
    let (a, b) = (Node::of(&world.chain), Node::of(&world.chain));
    let client = client(&[&a, &b], impatient());
    a.spoil(Faults { silent: true, ..Default::default() });
    assert_eq!(client.balance(rich()).await.unwrap(), ether());
    assert_eq!(client.status()[0].reason, Some(Why::Silent));
    assert!(client.status()[0].last_error.as_ref().unwrap().contains("no answer within"));
    a.heal();
    client.balance(rich()).await.unwrap();
    a.asked();
    client.balance(rich()).await.unwrap();
    assert!(a.asked().contains(&"eth_getBalance".to_owned()), "the first node is preferred again");
}

#[tokio::test]
async fn while_a_node_is_left_aside_it_is_not_asked_again_at_once() {
    let world = World::new();
    let (a, b) = (Node::of(&world.chain), Node::of(&world.chain));
    let client = client(&[&a, &b], Settings { timeout: Duration::from_millis(100), ..Settings::embedded() });
    a.spoil(Faults { silent: true, ..Default::default() });
    client.balance(rich()).await.unwrap();
    a.asked();
    for _ in 0..20 {
        client.balance(rich()).await.unwrap();
    }
    assert_eq!(a.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_lagging_node_is_left_aside_until_it_has_caught_up() {
    let world = World::new();
    world.rpc("anvil_mine", json!(["0x14"])).await;
    let (a, b) = (Node::of(&world.chain), Node::of(&world.chain));
    let client = client(&[&a, &b], impatient());
    a.spoil(Faults { lag: 10, ..Default::default() });
    assert_eq!(client.head().await.unwrap().number, 20);
    let status = client.status();
    assert_eq!((&status[0].reason, status[0].lag), (&Some(Why::Lags { by: 10 }), Some(10)));
    a.heal();
    assert_eq!(why(&client, 0).await, None);
}

#[tokio::test]
async fn a_block_of_a_time_to_come_is_believed_only_if_all_nodes_show_it() {
    let world = World::new();
    world.rpc("anvil_mine", json!(["0x5"])).await;
    let (a, b) = (Node::of(&world.chain), Node::of(&world.chain));
    let newest = world.client.head().await.unwrap();
    // Compared once, when both do well: what is said between two comparisons counts too.
    let client = client(&[&a, &b], Settings { probe: Duration::from_secs(1_000_000), ..impatient() });
    assert_eq!(client.head().await.unwrap(), newest);
    let later = || Faults { later: 86_400, ..Default::default() };
    a.spoil(later());
    assert_eq!(client.head().await.unwrap(), newest);
    assert_eq!(client.block(3.into()).await.unwrap(), world.client.block(3.into()).await.unwrap());
    b.spoil(later());
    let moved = client.head().await.unwrap();
    assert_eq!((moved.hash, moved.timestamp), (newest.hash, newest.timestamp + 86_400), "the clock is wrong");
    b.heal();
    // No comparison of a development chain says so.
    assert_eq!(why(&client, 0).await, None);
}

#[tokio::test]
async fn a_node_that_shows_a_time_to_come_is_left_aside() {
    let world = World::new();
    world.rpc("anvil_mine", json!(["0x1"])).await;
    let (a, b) = (Node::of(&world.chain), Node::of(&world.chain));
    let client = client(&[&a, &b], impatient());
    a.spoil(Faults { later: 86_400, chain_id: Some(5), ..Default::default() });
    b.spoil(Faults { chain_id: Some(5), ..Default::default() });
    let seen = why(&client, 0).await;
    assert!(matches!(seen, Some(Why::AheadOfClock { seconds: 86_000..=86_401 })), "{seen:?}");
    a.spoil(Faults { chain_id: Some(5), ..Default::default() });
    assert_eq!(why(&client, 0).await, None);
}

#[tokio::test]
async fn a_node_of_another_chain_is_never_used() {
    let world = World::new();
    let (a, b, c) = (Node::of(&world.chain), Node::of(&world.chain), Node::of(&world.chain));
    let client = client(&[&a, &b, &c], impatient());
    a.spoil(Faults { chain_id: Some(5), ..Default::default() });
    assert_eq!(client.chain_id().await.unwrap(), 31337);
    assert_eq!(why(&client, 0).await, Some(Why::OtherChain { found: 5, wanted: 31337 }));
    a.asked();
    client.balance(rich()).await.unwrap();
    assert!(!a.asked().contains(&"eth_getBalance".to_owned()));
}

#[tokio::test]
async fn a_node_that_lies_about_its_height_is_left_aside() {
    let world = World::new();
    let (a, b) = (Node::of(&world.chain), Node::of(&world.chain));
    let client = client(&[&a, &b], impatient());
    a.spoil(Faults { boast: 1000, ..Default::default() });
    client.head().await.unwrap();
    assert_eq!(why(&client, 0).await, Some(Why::LiesAboutHeight { claims: 1000, known: 0 }));
}

#[tokio::test]
async fn a_node_on_a_branch_of_its_own_is_outvoted() {
    let (world, fork) = (World::new(), World::new());
    world.rpc("anvil_mine", json!(["0x5"])).await;
    // The same chain id, other blocks, and more of them.
    fork.rpc("anvil_mine", json!(["0x7", "0x63"])).await;
    let (a, b, c) = (Node::of(&fork.chain), Node::of(&world.chain), Node::of(&world.chain));
    let client = client(&[&a, &b, &c], impatient());
    assert_eq!(client.head().await.unwrap(), world.client.head().await.unwrap());
    assert_eq!(why(&client, 0).await, Some(Why::Disagrees { at: 5 }));
}

#[tokio::test]
async fn where_no_node_answers_nothing_is_read() {
    let world = World::new();
    let (a, b) = (Node::of(&world.chain), Node::of(&world.chain));
    let client = client(&[&a, &b], impatient());
    a.spoil(Faults { silent: true, ..Default::default() });
    b.spoil(Faults { refuse: [("eth_getBalance", (-32603, "internal error"))].into(), ..Default::default() });
    let error = client.balance(rich()).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    a.spoil(Faults { boast: 9, ..Default::default() });
    b.spoil(Faults { boast: 9, ..Default::default() });
    let error = client.balance(rich()).await.unwrap_err();
    assert!(matches!(error, Error::NoGoodNode { count: 2, .. }) && error.is_transient(), "{error}");
    assert!(error.to_string().contains("a announces block 9 where 0 is known"), "{error}");
    a.heal();
    assert_eq!(client.balance(rich()).await.unwrap(), ether());
}

#[tokio::test]
async fn one_node_is_asked_nothing_but_the_questions() {
    let world = World::new();
    let node = Node::of(&world.chain);
    let client = client(&[&node], Settings::embedded());
    client.balance(rich()).await.unwrap();
    client.head().await.unwrap();
    assert_eq!(node.asked(), ["eth_getBalance", "eth_getBlockByNumber"]);
}

#[tokio::test]
async fn what_is_read_at_a_block_stays_the_same_whatever_comes_later() {
    let world = World::new();
    let before = world.client.at(world.client.head().await.unwrap());
    let poor = Address::with_last_byte(0x42);
    world.rpc("anvil_setBalance", json!([poor, "0x5"])).await;
    world.rpc("evm_mine", json!([])).await;
    assert_eq!(before.balance(poor).await.unwrap(), U256::ZERO);
    assert_eq!(world.client.balance(poor).await.unwrap(), U256::from(5));
    assert_eq!(before.head().await.unwrap().number, 0);
}

#[tokio::test]
async fn a_block_that_went_away_is_an_error_of_its_own() {
    let world = World::new();
    world.rpc("anvil_mine", json!(["0x3"])).await;
    let view = world.client.at(world.client.head().await.unwrap());
    view.balance(rich()).await.unwrap();
    world.rpc("anvil_reorg", json!([2, []])).await;
    let error = view.balance(rich()).await.unwrap_err();
    assert!(matches!(error, Error::BlockGone { number: 3, .. }) && error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_read_at_a_block_is_served_by_a_node_that_has_it() {
    let world = World::new();
    let (a, b) = (Node::of(&world.chain), Node::of(&world.chain));
    world.rpc("anvil_mine", json!(["0x3"])).await;
    let client = client(&[&a, &b], impatient());
    // Two blocks behind is not yet a lag, but this node does not have the newest block.
    a.spoil(Faults { lag: 2, ..Default::default() });
    let newest = world.client.head().await.unwrap();
    assert_eq!(client.at(newest).balance(rich()).await.unwrap(), ether());
    assert_eq!(why(&client, 0).await, None, "it is no fault not to have a block yet");
}

#[tokio::test]
async fn a_transaction_is_handed_to_every_node() {
    use super::{Lane, journal};
    let world = World::new();
    let (a, b) = (Node::of(&world.chain), Node::of(&world.chain));
    let client = client(&[&a, &b], impatient());
    // The preferred node loses what it is given.
    a.spoil(Faults { swallows: true, ..Default::default() });
    let lane = Lane::open(&client, keys::test_key(0), &journal(), Default::default()).await;
    lane.sender.pay("gift", Address::with_last_byte(0x42), U256::from(5)).await.unwrap();
    for node in [&a, &b] {
        assert!(node.asked().contains(&"eth_sendRawTransaction".to_owned()));
    }
    lane.close().await;
}

#[tokio::test]
async fn how_deep_a_block_must_lie_depends_on_the_chain() {
    let world = World::new();
    let node = Node::of(&world.chain);
    let ask = async |faults: Faults, depth: Option<u64>| {
        node.spoil(faults);
        client(&[&node], Settings { depth, ..Settings::embedded() }).depth().await.unwrap()
    };
    let elsewhere = Faults { version: Some("Geth/v1"), chain_id: Some(1), ..Default::default() };
    assert_eq!(ask(Faults::default(), None).await, 0, "our own chain");
    assert_eq!(ask(Faults { version: Some("anvil/v1"), ..Default::default() }, None).await, 0, "a development chain");
    assert_eq!(ask(elsewhere.clone(), None).await, 1);
    assert_eq!(ask(elsewhere, Some(3)).await, 3);
}

#[tokio::test]
async fn a_node_that_never_answers_keeps_no_transaction_waiting() {
    use super::{Lane, journal};
    let world = World::new();
    let (a, b) = (Node::of(&world.chain), Node::of(&world.chain));
    let client = client(&[&a, &b], Settings::embedded());
    a.spoil(Faults { silent: true, ..Default::default() });
    client.probe().await;
    let lane = Lane::open(&client, keys::test_key(0), &journal(), Default::default()).await;
    let started = std::time::Instant::now();
    for n in 0..10 {
        lane.sender.pay(&format!("gift {n}"), Address::with_last_byte(0x42), U256::from(5)).await.unwrap();
    }
    // One that was waited for each time would take half a minute.
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert!(a.asked().iter().filter(|method| *method == "eth_sendRawTransaction").count() >= 10, "it was told too");
    lane.close().await;
}
