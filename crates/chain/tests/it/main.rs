//! The chain client against the embedded chain: sending once, surviving restarts, noticing reorgs, deploying.
#![expect(clippy::unwrap_used, reason = "tests")]

mod deploying;
mod faults;
mod following;
mod gas;
mod nodes;
mod one_key;
mod sending;

use bourse_chain::{Client, GasPolicy, PrivateKeySigner, Sender, SenderLoop, keys, sender::SCHEMA};
use bourse_devchain::{Chain, Config};
use bourse_protocol::U256;
use bourse_service::{CancellationToken, journal::Journal};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// A chain that mines on demand, where the first test accounts have ether.
struct World {
    chain: Chain,
    client: Client,
}

impl World {
    fn new() -> Self {
        let ether = U256::from(10).pow(U256::from(20));
        let genesis = (0..4).map(|n| (keys::test_key(n).address(), ether)).collect();
        let chain = Chain::open(Config { genesis, ..Default::default() }).unwrap();
        let client = Client::in_process(chain.rpc_client());
        Self { chain, client }
    }

    /// Calls a method of the node; its result.
    async fn rpc(&self, method: &str, params: Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = self.chain.handle(request).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }
}

/// A sender that runs until it is dropped or stopped.
struct Lane {
    sender: Sender,
    stop: CancellationToken,
    jobs: JoinSet<()>,
}

impl Lane {
    async fn open(client: &Client, key: PrivateKeySigner, journal: &Journal, policy: GasPolicy) -> Self {
        Self::of(Sender::open(client.clone(), key, journal.clone(), policy).await.unwrap())
    }

    /// One of a command.
    async fn guest(client: &Client, key: PrivateKeySigner, journal: &Journal, policy: GasPolicy) -> Self {
        let (sender, lane) = Sender::open(client.clone(), key, journal.clone(), policy).await.unwrap();
        Self::of((sender, lane.as_guest()))
    }

    fn of((sender, lane): (Sender, SenderLoop)) -> Self {
        let (stop, mut jobs) = (CancellationToken::new(), JoinSet::new());
        jobs.spawn(lane.run(stop.clone()));
        Self { sender, stop, jobs }
    }

    async fn close(mut self) {
        self.stop.cancel();
        while self.jobs.join_next().await.is_some() {}
    }
}

fn journal() -> Journal {
    Journal::in_memory(&[SCHEMA]).unwrap()
}
