//! Every log of the chain that counts, at least once.

use super::{Lane, World, journal};
use bourse_chain::{
    GasPolicy,
    alloy::{rpc::types::Filter, sol_types::SolEvent},
    artifacts::Contract,
    follower::{Cursor, Follower},
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
