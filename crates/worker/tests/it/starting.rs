//! A worker that could not work does not start, and says why.

use crate::{market::WORKER, world::World};
use bourse_chain::{Client, Hub, Settings, alloy::rpc::client::RpcClient, clock::Wrong, keys::test_key};
use bourse_devchain::{Chain, Config};
use bourse_protocol::Address;
use bourse_service::{clock::Clock, journal};
use bourse_worker::{Error, Service, wasm};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named() {
    let mut world = World::open().await;
    let good = world.config.clone();

    world.config.workerpool = Address::repeat_byte(1);
    let error = world.service().await.unwrap_err();
    assert!(matches!(error, Error::UnknownPool { .. }), "{error}");

    for url in ["", "127.0.0.1:1", "ftp://127.0.0.1", "wss://127.0.0.1", "ws://"] {
        world.config = bourse_worker::Config { scheduler_url: url.into(), ..good.clone() };
        let error = world.service().await.unwrap_err();
        assert!(error.to_string().contains("write ws://host:port"), "{url}: {error}");
    }

    world.config = bourse_worker::Config { min_cpus: u32::MAX, ..good.clone() };
    let error = world.service().await.unwrap_err();
    assert!(matches!(error, Error::TooFewCpus { needed: u32::MAX, .. }), "{error}");

    world.config = good;
    let chain = world.market.chain.rpc_client();
    let _: () = chain.request("anvil_setBalance", (test_key(WORKER).address(), "0x1")).await.unwrap();
    let error = world.service().await.unwrap_err();
    assert!(error.to_string().contains("has 1 wei and one task may take"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_behind_the_chain_is_named() {
    let world = World::open().await;
    let chain = Chain::open(Config { chain_id: 1_337, ..Config::default() }).unwrap();
    let rpc = chain.rpc_client();
    let _: serde_json::Value = rpc.request("evm_increaseTime", (120,)).await.unwrap();
    let _: serde_json::Value = rpc.request("evm_mine", ()).await.unwrap();
    let hub = Hub::new(Client::in_process(rpc), Address::repeat_byte(9));
    let opened = Service::open(world.config.clone(), test_key(WORKER), hub, wasm::Engine::new().unwrap()).await;
    let error = opened.unwrap_err();
    assert!(matches!(error, Error::Clock(Wrong::Behind { seconds: 61..=180 })), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ahead_of_blocks_that_are_made_now_is_named() {
    let world = World::open().await;
    let chain = Chain::open(Config { chain_id: 1_337, ..Config::default() }).unwrap();
    let mine = async |rpc: RpcClient| {
        let _: serde_json::Value = rpc.request("evm_mine", ()).await.unwrap();
    };
    mine(chain.rpc_client()).await;
    let mut miner = tokio::task::JoinSet::new();
    let rpc = chain.rpc_client();
    miner.spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            mine(rpc.clone()).await;
        }
    });
    let settings = Settings { depth: Some(1), ..Settings::embedded() };
    let client = Client::new(vec![("test".into(), chain.rpc_client())], settings);
    let hub = Hub::new(client, Address::repeat_byte(9));
    let clock = Clock::virtual_at(Clock::Wall.seconds() + 600);
    let config = bourse_worker::Config { clock, ..world.config.clone() };
    let error = Service::open(config, test_key(WORKER), hub, wasm::Engine::new().unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Clock(Wrong::Ahead { seconds: 540..=660 })), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_deposit_is_told_to_make_one() {
    let world = World::open().await;
    let key = test_key(WORKER + 4);
    let opened = Service::open(world.config.clone(), key, world.market.hub.clone(), wasm::Engine::new().unwrap()).await;
    let error = opened.unwrap_err();
    assert!(matches!(error, Error::NoDeposit { .. }), "{error}");
    assert!(error.to_string().ends_with("asks for 30 % of a task's price as stake: deposit RLC first"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_serves_one_worker_on_one_chain() {
    let world = World::open().await;
    let first = world.service().await.unwrap();
    let second = world.service().await.unwrap_err();
    assert!(matches!(second, Error::Journal(journal::Error::InUse { .. })), "{second}");
    drop(first);
    let engine = wasm::Engine::new().unwrap();
    let other = Service::open(world.config.clone(), test_key(WORKER + 1), world.market.hub.clone(), engine).await;
    let other = other.unwrap_err();
    assert!(matches!(other, Error::Journal(journal::Error::OtherOwner { .. })), "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_of_unknown_tasks_are_removed() {
    let world = World::open().await;
    let unknown = world.config.dir.join("tasks/0x1234");
    std::fs::create_dir_all(unknown.join("out")).unwrap();
    std::os::unix::fs::symlink(world.path("elsewhere"), world.config.dir.join("tasks/link")).unwrap();
    std::fs::create_dir(world.path("elsewhere")).unwrap();
    world.service().await.unwrap();
    assert_eq!(std::fs::read_dir(world.config.dir.join("tasks")).unwrap().count(), 0);
    assert!(world.path("elsewhere").exists(), "links are removed, not followed");
}
