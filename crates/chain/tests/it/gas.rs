//! What the calls for a task use, from what others used.

use super::World;
use bourse_chain::{
    Hub, WorkGas,
    alloy::{primitives::hex, sol_types::SolEvent},
    keys,
};
use bourse_protocol::{Address, B256, U256, abi::IHub};
use serde_json::json;

/// Code that goes round as often as the second word of its input says, and then tells of the event that the first word
/// names as the hub does: with the caller as the worker.
const HUB: &str = "0x6020355b8015601057600190036003565b5033600060003560006000a300";
/// Code that calls what comes in between with its own input.
const FORWARD: [&str; 2] = ["0x366000600037600060003660006000", "5af100"];

fn hub_address() -> Address {
    Address::with_last_byte(0x55)
}

fn contract_address() -> Address {
    Address::with_last_byte(0x56)
}

/// A chain with what tells of events as a hub does, and a contract that calls it.
async fn world() -> (World, Hub) {
    let world = World::new();
    world.rpc("anvil_setCode", json!([hub_address(), HUB])).await;
    let [before, after] = FORWARD;
    let forward = format!("{before}73{}{after}", hex::encode(hub_address()));
    world.rpc("anvil_setCode", json!([contract_address(), forward])).await;
    let hub = Hub::new(world.client.clone(), hub_address());
    (world, hub)
}

/// A transaction of a test account that makes the hub tell of an event: the gas that it used.
async fn tell(world: &World, account: u32, to: Address, event: B256, rounds: u64) -> u64 {
    let from = keys::test_key(account).address();
    world.rpc("anvil_impersonateAccount", json!([from])).await;
    let input = hex::encode_prefixed([event.0, U256::from(rounds).to_be_bytes()].concat());
    let request = json!([{ "from": from, "to": to, "input": input, "gas": "0x989680" }]);
    let hash = world.rpc("eth_sendTransaction", request).await;
    let receipt = world.rpc("eth_getTransactionReceipt", json!([hash])).await;
    assert_eq!((&receipt["status"], receipt["logs"].as_array().unwrap().len()), (&json!("0x1"), 1));
    u64::from_str_radix(&receipt["gasUsed"].as_str().unwrap()[2..], 16).unwrap()
}

#[tokio::test]
async fn a_task_takes_the_gas_that_those_used_who_called_the_hub_of_late() {
    let (world, hub) = world().await;
    let contribute = tell(&world, 0, hub_address(), IHub::TaskContribute::SIGNATURE_HASH, 6_000).await;
    let reveal = tell(&world, 0, hub_address(), IHub::TaskReveal::SIGNATURE_HASH, 3_000).await;
    assert!(contribute > WorkGas::MEASURED.contribute && reveal > WorkGas::MEASURED.reveal);
    assert_eq!(hub.work_gas(None).await.unwrap(), WorkGas { contribute, reveal });
    // What is newer counts.
    let reveal = tell(&world, 0, hub_address(), IHub::TaskReveal::SIGNATURE_HASH, 4_000).await;
    assert_eq!(hub.work_gas(None).await.unwrap(), WorkGas { contribute, reveal });
    // Never less than what was measured.
    tell(&world, 0, hub_address(), IHub::TaskReveal::SIGNATURE_HASH, 0).await;
    assert_eq!(hub.work_gas(None).await.unwrap(), WorkGas { contribute, ..WorkGas::MEASURED });
}

#[tokio::test]
async fn what_a_contract_burns_around_a_call_of_the_hub_does_not_count() {
    let (world, hub) = world().await;
    let event = IHub::TaskContribute::SIGNATURE_HASH;
    let burnt = tell(&world, 1, contract_address(), event, 100_000).await;
    assert!(burnt > 10 * WorkGas::MEASURED.contribute);
    assert_eq!(hub.work_gas(None).await.unwrap(), WorkGas::MEASURED);
    let contribute = tell(&world, 0, hub_address(), event, 6_000).await;
    for _ in 0..10 {
        tell(&world, 1, contract_address(), event, 100_000).await;
    }
    assert_eq!(hub.work_gas(None).await.unwrap().contribute, contribute);
}

#[tokio::test]
async fn one_worker_whose_calls_are_dear_does_not_move_what_a_task_takes() {
    let (world, hub) = world().await;
    let event = IHub::TaskContribute::SIGNATURE_HASH;
    let middle = tell(&world, 0, hub_address(), event, 6_000).await;
    for _ in 0..5 {
        tell(&world, 1, hub_address(), event, 100_000).await;
    }
    assert_eq!(hub.work_gas(None).await.unwrap().contribute, middle, "one of two");
    tell(&world, 2, hub_address(), event, 5_000).await;
    assert_eq!(hub.work_gas(None).await.unwrap().contribute, middle, "one of three");
}
