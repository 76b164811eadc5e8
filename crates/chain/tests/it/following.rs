//! Every log of the chain that counts, at least once.

use super::{
    Lane, World,
    faults::{Faults, Node, client, impatient},
    journal,
};
use bourse_chain::{
    Client, GasPolicy, Settings,
    alloy::{rpc::types::Filter, sol_types::SolEvent},
    artifacts::Contract,
    follower::{Cursor, Follower, News, Progress},
    keys,
};
use bourse_protocol::{
    Address, U256,
    abi::{IHub, IRlc},
};
use serde_json::json;

async fn transfers(follower: &Follower, cursor: &mut Cursor) -> (Vec<U256>, bool) {
    let (mut values, mut reorg) = (Vec::new(), false);
    while let Some(news) = follower.poll(cursor).await.unwrap() {
        let value = |log: &bourse_chain::alloy::rpc::types::Log| {
            IHub::Transfer::decode_log_data(&log.inner.data).unwrap().value
        };
        values.extend(news.logs.iter().map(value));
        reorg |= news.reorg;
        *cursor = news.cursor;
    }
    (values, reorg)
}

#[tokio::test]
async fn a_reorg_is_noticed_and_what_replaced_it_is_read() {
    let (world, journal) = (World::new(), journal());
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let rlc = lane.sender.create("token", Contract::Rlc.creation_code()).await.unwrap().created.unwrap();
    let follower =
        Follower::new(world.client.clone(), Filter::new().address(rlc).event_signature(IHub::Transfer::SIGNATURE_HASH));
    let mut cursor = Cursor::starting_at(2);
    let give = |value: u64| IRlc::transferCall { to: Address::with_last_byte(7), value: U256::from(value) };
    for value in 1..=3 {
        lane.sender.send(&format!("give {value}"), rlc, &give(value)).await.unwrap();
    }
    assert_eq!(transfers(&follower, &mut cursor).await, ([1, 2, 3].map(U256::from).to_vec(), false));
    assert_eq!(transfers(&follower, &mut cursor).await, (vec![], false));
    lane.close().await;
    // Two blocks are replaced by empty ones, and another transfer comes.
    world.rpc("anvil_reorg", json!([2, []])).await;
    let lane = Lane::open(&world.client, keys::test_key(0), &super::journal(), GasPolicy::default()).await;
    lane.sender.send("give 9", rlc, &give(9)).await.unwrap();
    let (values, reorg) = transfers(&follower, &mut cursor).await;
    assert!(reorg && values.ends_with(&[U256::from(9)]), "{values:?}");
    assert!(!values.contains(&U256::from(2)), "{values:?}");
    lane.close().await;
}

#[tokio::test]
async fn a_cursor_survives_being_written_down() {
    let world = World::new();
    world.rpc("anvil_mine", json!(["0x5"])).await;
    let follower = Follower::new(world.client.clone(), Filter::new());
    let news = follower.poll(&Cursor::starting_at(0)).await.unwrap().unwrap();
    let text = serde_json::to_string(&news.cursor).unwrap();
    let cursor: Cursor = serde_json::from_str(&text).unwrap();
    assert_eq!((cursor.next(), follower.poll(&cursor).await.unwrap().is_none()), (6, true));
}

/// A token, and the follower of its transfers.
struct Token {
    address: Address,
    lane: Lane,
    given: u64,
}

impl Token {
    async fn new(world: &World) -> Self {
        let lane = Lane::open(&world.client, keys::test_key(0), &journal(), GasPolicy::default()).await;
        let receipt = lane.sender.create("token", Contract::Rlc.creation_code()).await.unwrap();
        Self { address: receipt.created.unwrap(), lane, given: 0 }
    }

    /// Transfers 1, then 2, then 3 …
    async fn give(&mut self) -> u64 {
        self.given += 1;
        let call = IRlc::transferCall { to: Address::with_last_byte(7), value: U256::from(self.given) };
        self.lane.sender.send(&format!("give {}", self.given), self.address, &call).await.unwrap().block
    }

    /// From the block after the token's.
    fn follow(&self, client: &Client) -> (Follower, Cursor) {
        let filter = Filter::new().address(self.address).event_signature(IHub::Transfer::SIGNATURE_HASH);
        (Follower::new(client.clone(), filter), Cursor::starting_at(2))
    }
}

#[tokio::test]
async fn blocks_that_were_read_lately_tell_whether_anything_happened_since_and_others_do_not() {
    let world = World::new();
    let mut token = Token::new(&world).await;
    // The token's sender reads blocks too.
    let client = Client::new(vec![("another".into(), world.chain.rpc_client())], Settings::embedded());
    let topic = IHub::Transfer::SIGNATURE_HASH;
    let mine = async |count: u64| {
        for _ in 0..count {
            world.rpc("anvil_mine", json!(["0x1"])).await;
            client.header().await.unwrap();
        }
    };
    let known = client.header().await.unwrap().head;
    mine(4).await;
    let now = client.header().await.unwrap();
    assert!(client.shows_nothing_new(&now, known, topic) && client.shows_nothing_new(&now, now.head, topic));
    world.rpc("anvil_mine", json!(["0x2"])).await;
    let now = client.header().await.unwrap();
    assert!(!client.shows_nothing_new(&now, known, topic), "nobody has read the block between");
    client.header_at((now.head.number - 1).into()).await.unwrap();
    assert!(client.shows_nothing_new(&now, known, topic));
    token.give().await;
    let given = client.header().await.unwrap();
    assert!(!client.shows_nothing_new(&given, now.head, topic));
    assert!(
        client.shows_nothing_new(&given, now.head, IHub::TaskReveal::SIGNATURE_HASH),
        "that is about something else"
    );
    mine(1).await;
    let after = client.header().await.unwrap();
    assert!(!client.shows_nothing_new(&after, now.head, topic) && client.shows_nothing_new(&after, given.head, topic));
    mine(9).await;
    let much_later = client.header().await.unwrap();
    assert!(!client.shows_nothing_new(&much_later, given.head, topic), "too long ago");
    token.lane.close().await;
    world.rpc("anvil_reorg", json!([1, []])).await;
    let replaced = client.header().await.unwrap();
    assert!(!client.shows_nothing_new(&replaced, much_later.head, topic), "that block is gone");
}

fn values(news: &News) -> Vec<u64> {
    let value =
        |log: &bourse_chain::alloy::rpc::types::Log| IHub::Transfer::decode_log_data(&log.inner.data).unwrap().value;
    news.logs.iter().map(|log| value(log).to()).collect()
}

#[tokio::test]
async fn blocks_are_delivered_when_they_are_deep_enough() {
    let world = World::new();
    let mut token = Token::new(&world).await;
    let (follower, cursor) = token.follow(&world.client);
    let follower = follower.with_depth(2);
    let block = token.give().await;
    assert!(follower.poll(&cursor).await.unwrap().is_none());
    world.rpc("evm_mine", json!([])).await;
    assert!(follower.poll(&cursor).await.unwrap().is_none());
    world.rpc("evm_mine", json!([])).await;
    let news = follower.poll(&cursor).await.unwrap().unwrap();
    assert_eq!((values(&news), news.head.number, news.latest.number), (vec![1], block, block + 2));
    token.lane.close().await;
}

#[tokio::test]
async fn logs_that_a_node_has_forgotten_are_found_in_receipts() {
    let world = World::new();
    let mut token = Token::new(&world).await;
    let node = Node::of(&world.chain);
    let (follower, cursor) = token.follow(&client(&[&node], Settings::embedded()));
    token.give().await;
    node.spoil(Faults { no_logs: true, ..Default::default() });
    let news = follower.poll(&cursor).await.unwrap().unwrap();
    assert_eq!(values(&news), [1]);
    token.lane.close().await;
}

#[tokio::test]
async fn blocks_that_cannot_matter_cost_one_question() {
    let world = World::new();
    let token = Token::new(&world).await;
    token.lane.close().await;
    let token =
        Token { lane: Lane::open(&world.client, keys::test_key(0), &journal(), GasPolicy::default()).await, ..token };
    let node = Node::of(&world.chain);
    let (follower, mut cursor) = token.follow(&client(&[&node], Settings::embedded()));
    for _ in 0..5 {
        world.rpc("evm_mine", json!([])).await;
        node.asked();
        cursor = follower.poll(&cursor).await.unwrap().unwrap().cursor;
        assert_eq!(node.asked(), ["eth_getBlockByNumber"]);
        assert!(follower.poll(&cursor).await.unwrap().is_none());
        assert_eq!(node.asked(), ["eth_getBlockByNumber"]);
    }
    token.lane.close().await;
}

#[tokio::test]
async fn what_a_filter_forgets_is_found_also_after_an_outage_of_hours() {
    let world = World::new();
    let mut token = Token::new(&world).await;
    for _ in 0..3 {
        token.give().await;
        world.rpc("anvil_mine", json!(["0x64"])).await;
    }
    let node = Node::of(&world.chain);
    node.spoil(Faults { no_logs: true, ..Default::default() });
    let (follower, mut cursor) = token.follow(&client(&[&node], Settings::embedded()));
    let mut seen = Vec::new();
    while let Some(news) = follower.poll(&cursor).await.unwrap() {
        seen.extend(values(&news));
        cursor = news.cursor;
    }
    assert_eq!(seen, [1, 2, 3]);
    token.lane.close().await;
}

/// A token with transfers in old blocks, and what is read of them over these nodes.
async fn read_old(world: &World, nodes: &[&Node]) -> Vec<u64> {
    let mut token = Token::new(world).await;
    for _ in 0..4 {
        token.give().await;
        world.rpc("anvil_mine", json!(["0xc8"])).await;
    }
    world.rpc("anvil_mine", json!(["0x200"])).await;
    let (follower, mut cursor) = token.follow(&client(nodes, impatient()));
    let mut seen = Vec::new();
    while let Some(news) = follower.poll(&cursor).await.unwrap() {
        seen.extend(values(&news));
        cursor = news.cursor;
    }
    token.lane.close().await;
    seen
}

#[tokio::test]
async fn an_old_log_that_one_node_leaves_out_is_found_with_another() {
    for bad in 0..2 {
        let world = World::new();
        let nodes = [Node::of(&world.chain), Node::of(&world.chain)];
        nodes[bad].spoil(Faults { no_logs: true, ..Default::default() });
        assert_eq!(read_old(&world, &[&nodes[0], &nodes[1]]).await, [1, 2, 3, 4], "node {bad} has forgotten all");
    }
}

#[tokio::test]
async fn old_logs_that_a_node_cuts_off_without_a_word_are_found() {
    for most in 1..=3 {
        let world = World::new();
        let node = Node::of(&world.chain);
        node.spoil(Faults { most_logs: Some(most), ..Default::default() });
        assert_eq!(read_old(&world, &[&node]).await, [1, 2, 3, 4], "{most} at most");
    }
}

#[tokio::test]
async fn a_node_that_refuses_long_ranges_is_asked_for_shorter_ones() {
    let world = World::new();
    let mut token = Token::new(&world).await;
    for _ in 0..3 {
        token.give().await;
        world.rpc("anvil_mine", json!(["0x258"])).await;
    }
    let node = Node::of(&world.chain);
    node.spoil(Faults { longest_range: Some(100), ..Default::default() });
    let (follower, mut cursor) = token.follow(&client(&[&node], Settings::embedded()));
    let mut seen = Vec::new();
    while let Some(news) = follower.poll(&cursor).await.unwrap() {
        seen.extend(values(&news));
        cursor = news.cursor;
    }
    assert_eq!(seen, [1, 2, 3]);
    let ranges = node.asked().iter().filter(|m| *m == "eth_getLogs").count();
    assert!((39..90).contains(&ranges), "{ranges} questions for 1,300 blocks, each range and its halves");
    token.lane.close().await;
}

#[tokio::test]
async fn catching_up_with_a_hundred_thousand_blocks_says_what_is_left() {
    let world = World::new();
    let mut token = Token::new(&world).await;
    token.give().await;
    for _ in 0..10 {
        world.rpc("anvil_mine", json!(["0x2710"])).await;
    }
    token.give().await;
    let (follower, mut cursor) = token.follow(&world.client);
    let (mut seen, mut left, progress) = (Vec::new(), vec![], world.client.progress());
    while let Some(news) = follower.poll(&cursor).await.unwrap() {
        seen.extend(values(&news));
        let told = (news.left >= 1_000).then_some(Progress { block: news.head.number, left: news.left });
        assert_eq!(*progress.borrow(), told);
        left.push(news.left);
        cursor = news.cursor;
    }
    assert_eq!(seen, [1, 2]);
    assert!(left.len() >= 50 && left.is_sorted_by(|a, b| a > b) && left.last() == Some(&0), "{left:?}");
    assert!(serde_json::to_string(&cursor).unwrap().len() < 20_000, "a cursor stays small");
    token.lane.close().await;
}

#[tokio::test]
async fn a_reorg_deeper_than_the_memory_is_read_again_from_before_it() {
    let world = World::new();
    let mut token = Token::new(&world).await;
    let (follower, mut cursor) = token.follow(&world.client);
    token.give().await;
    let keep = token.give().await;
    for _ in 0..200 {
        world.rpc("evm_mine", json!([])).await;
        cursor = follower.poll(&cursor).await.unwrap().unwrap().cursor;
    }
    token.lane.close().await;
    world.rpc("anvil_reorg", json!([150, []])).await;
    let news = follower.poll(&cursor).await.unwrap().unwrap();
    assert!(news.reorg && news.resync && news.removed.len() > 64, "{} removed", news.removed.len());
    assert!(news.from > keep && news.from <= keep + 51, "what came before stands: from {}", news.from);
    assert!(news.removed.is_sorted_by(|a, b| a.0 > b.0), "the newest first");
}

#[tokio::test]
async fn a_node_that_is_behind_is_no_reorg_but_a_chain_that_was_set_back_is_one() {
    let world = World::new();
    let mut token = Token::new(&world).await;
    let node = Node::of(&world.chain);
    let (follower, mut cursor) = token.follow(&client(&[&node], Settings::embedded()));
    for _ in 0..4 {
        token.give().await;
        cursor = follower.poll(&cursor).await.unwrap().unwrap().cursor;
    }
    node.spoil(Faults { lag: 2, ..Default::default() });
    assert!(follower.poll(&cursor).await.unwrap().is_none());
    node.heal();
    assert!(follower.poll(&cursor).await.unwrap().is_none());
    token.lane.close().await;
    world.rpc("anvil_rollback", json!([2])).await;
    assert!(follower.poll(&cursor).await.unwrap().is_none(), "it cannot be told from a lag yet");
    world.rpc("anvil_mine", json!(["0x3", "0x64"])).await;
    let news = follower.poll(&cursor).await.unwrap().unwrap();
    assert!(news.reorg && !news.resync, "{news:?}");
    assert_eq!((news.removed.len(), news.head.number), (2, news.latest.number));
}
