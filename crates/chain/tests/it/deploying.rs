//! The contracts come to a chain once, also when interrupted.

use super::{Lane, World, journal};
use bourse_chain::{
    GasPolicy, Hub,
    deploy::{self, Options},
    keys,
};
use bourse_protocol::{Address, U256, abi::IHub, reward::Penalty};
use serde_json::json;

#[tokio::test]
async fn a_second_run_finds_the_first() {
    let (world, journal) = (World::new(), journal());
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let first = deploy::deploy(&world.client, &lane.sender, Options::default(), |_| {}).await.unwrap();
    let head = world.client.head().await.unwrap();
    let second = deploy::deploy(&world.client, &lane.sender, Options::default(), |_| {}).await.unwrap();
    assert_eq!((&first, head), (&second, world.client.head().await.unwrap()));
    assert_eq!(deploy::find(&world.client, first.hub).await.unwrap(), first);
    let hub = Hub::new(world.client.clone(), first.hub);
    assert_eq!(hub.view(&IHub::countCategoryCall {}).await.unwrap(), U256::from(5));
    assert_eq!(hub.period(U256::ZERO).await.unwrap(), 300);
    assert_eq!(hub.view(&IHub::ownerCall {}).await.unwrap(), keys::test_key(0).address());
    lane.close().await;
}

#[tokio::test]
async fn an_interrupted_deployment_goes_on() {
    let (world, journal) = (World::new(), journal());
    for stop_at in [2usize, 5, 7] {
        let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
        let (stop, mut steps) = (lane.stop.clone(), 0);
        let interrupted = deploy::deploy(&world.client, &lane.sender, Options::default(), |_| {
            steps += 1;
            if steps == stop_at {
                stop.cancel();
            }
        });
        assert!(interrupted.await.is_err());
        lane.close().await;
    }
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let deployment = deploy::deploy(&world.client, &lane.sender, Options::default(), |_| {}).await.unwrap();
    let hub = Hub::new(world.client.clone(), deployment.hub);
    assert_eq!(hub.view(&IHub::countCategoryCall {}).await.unwrap(), U256::from(5));
    lane.close().await;
}

#[tokio::test]
async fn a_deployment_with_other_options_is_another_one() {
    let (world, journal) = (World::new(), journal());
    let lane = Lane::open(&world.client, keys::test_key(0), &journal, GasPolicy::default()).await;
    let mut hubs = Vec::new();
    let published = Options { penalty: Penalty::Third, owner_delay: 0 };
    for options in [Options::default(), published, Options::default()] {
        let hub = deploy::deploy(&world.client, &lane.sender, options, |_| {}).await.unwrap().hub;
        assert_eq!(deploy::options(&world.client, hub).await.unwrap(), options);
        hubs.push(hub);
    }
    assert_eq!(hubs[0], hubs[2]);
    assert_ne!(hubs[0], hubs[1]);
    lane.close().await;
}

#[tokio::test]
async fn the_gas_of_a_deployment_is_what_wallets_are_asked_for() {
    let world = World::new();
    let lane = Lane::open(&world.client, keys::test_key(0), &journal(), GasPolicy::default()).await;
    let before = world.client.head().await.unwrap().number;
    deploy::deploy(&world.client, &lane.sender, Options::default(), |_| {}).await.unwrap();
    lane.close().await;
    let head = world.client.head().await.unwrap().number;
    let mut gas = 0;
    for block in before + 1..=head {
        let block = world.rpc("eth_getBlockByNumber", json!([format!("{block:#x}"), false])).await;
        gas += u64::from_str_radix(&block["gasUsed"].as_str().unwrap()[2..], 16).unwrap();
    }
    assert!((deploy::GAS / 2..=deploy::GAS).contains(&gas), "it takes {gas} gas");
}

#[tokio::test]
async fn what_is_no_hub_is_said_to_be_none() {
    let world = World::new();
    let error = deploy::find(&world.client, Address::with_last_byte(1)).await.unwrap_err();
    assert!(matches!(error, deploy::Error::NotAHub(..)), "{error}");
}
