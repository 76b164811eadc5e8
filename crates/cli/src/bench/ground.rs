//! What a bench stands on: the embedded chain with the contracts, an app, a pool, and a requester who buys bags of tasks.
//!
//! Everything is free of charge: the bench is about the scheduler, and nobody has to hold RLC for it.

use super::fleet::Demand;
use crate::{keyring::Keyring, publish, services};
use bourse_chain::{
    Client, GasPolicy, Hub, Sender,
    alloy::{primitives::keccak256, rpc::client::RpcClient},
    deploy::{self, Deployment},
    keys::sign_order,
    sender,
};
use bourse_devchain as devchain;
use bourse_protocol::{
    Address, B256, U256,
    abi::IHub,
    api::Match,
    ids::{DealId, TaskId},
    ipfs::Cid,
    orders::{AppOrder, DatasetOrder, Order, RequestOrder, WorkerpoolOrder},
};
use bourse_service::{CancellationToken, journal::Journal};
use std::path::PathBuf;
use tokio::task::JoinSet;

/// Tasks that one transaction opens: what fits into a block.
const OPENED_AT_ONCE: u64 = 150;

/// A chain with a pool on it.
pub(crate) struct Ground {
    pub(crate) chain: devchain::Chain,
    pub(crate) hub: Hub,
    pub(crate) deployment: Deployment,
    pub(crate) workerpool: Address,
    pub(crate) keyring: Keyring,
    /// Of modules, and of containers.
    apps: [Address; 2],
    requester: Sender,
    bought: u64,
    _lanes: JoinSet<()>,
}

/// A bag of tasks that was bought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bag {
    pub(crate) deal: DealId,
    pub(crate) size: u64,
}

impl Bag {
    /// Its tasks.
    pub(crate) fn tasks(self) -> impl Iterator<Item = TaskId> {
        (0..self.size).map(move |n| TaskId::of(self.deal, U256::from(n)))
    }
}

impl Ground {
    /// A new chain, in `folder` or in memory.
    pub(crate) async fn open(folder: Option<PathBuf>) -> eyre::Result<Self> {
        let keyring = Keyring::test(0);
        let chain = services::open_chain(folder, &services::Embedded::default(), &keyring)?;
        let client = Client::in_process(chain.rpc_client());
        let mut lanes = JoinSet::new();
        let mut senders = Vec::new();
        for key in [&keyring.admin, &keyring.workerpool_owner, &keyring.requester] {
            let journal = Journal::in_memory(&[sender::SCHEMA])?;
            let (sender, lane) = Sender::open(client.clone(), key.clone(), journal, GasPolicy::default()).await?;
            lanes.spawn(lane.run(CancellationToken::new()));
            senders.push(sender);
        }
        let [admin, owner, requester] = <[Sender; 3]>::try_from(senders).expect("three keys give three senders");
        let deployment = deploy::deploy(&client, &admin, deploy::Options::default(), |_| ()).await?;
        let hub = Hub::new(client, deployment.hub);
        let content = b"the app of a bench is never run";
        let asset = publish::Asset { name: "bench".into(), cid: Cid::of(content), checksum: publish::sha256(content) };
        let mut apps = [Address::ZERO; 2];
        for containers in [false, true] {
            let kind = Demand { containers, ..Demand::PLAIN }.app_type();
            let app = publish::app_of_type(kind, &hub, &deployment, &admin, asset.clone()).await?;
            apps[usize::from(containers)] = app;
        }
        let workerpool = publish::workerpool(&hub, &deployment, &owner, "bench").await?;
        Ok(Self { chain, hub, deployment, workerpool, keyring, apps, requester, bought: 0, _lanes: lanes })
    }

    /// The same pool, seen through another way to the chain.
    pub(crate) fn hub_over(&self, rpc: RpcClient) -> Hub {
        Hub::new(Client::in_process(rpc), self.hub.address)
    }

    /// Buys a bag of tasks with such needs that one worker each is enough for, with one transaction.
    pub(crate) async fn buy(&mut self, size: u64, demand: Demand) -> eyre::Result<Bag> {
        self.bought += 1;
        let salt = keccak256(self.bought.to_be_bytes());
        let (call, deal) = self.orders(size, demand, salt).await?;
        self.requester.send(&format!("bench:{salt}"), self.hub.address, &call).await?;
        Ok(Bag { deal, size })
    }

    async fn orders(&self, size: u64, demand: Demand, salt: B256) -> eyre::Result<(IHub::matchOrdersCall, DealId)> {
        let (domain, keys) = (self.hub.domain().await?, &self.keyring);
        let (volume, trust, tag) = (U256::from(size), U256::from(1), demand.tag());
        let app = self.apps[usize::from(demand.containers)];
        let offer = AppOrder { app, volume, tag, salt, ..Default::default() };
        let offer = sign_order(offer, &keys.admin, &domain);
        let pool = WorkerpoolOrder { workerpool: self.workerpool, volume, trust, tag, salt, ..Default::default() };
        let pool = sign_order(pool, &keys.workerpool_owner, &domain);
        let request = RequestOrder {
            app,
            workerpool: self.workerpool,
            requester: keys.requester.address(),
            volume,
            trust,
            tag,
            salt,
            ..Default::default()
        };
        let request = sign_order(request, &keys.requester, &domain);
        let deal = DealId::of(request.hash(&domain), U256::ZERO);
        let orders = Match { app: offer, dataset: DatasetOrder::default(), workerpool: pool, request };
        Ok(((&orders).into(), deal))
    }

    /// Opens all tasks of a bag, as anybody may: usually the scheduler does, one by one.
    pub(crate) async fn open_tasks(&self, bag: Bag) -> eyre::Result<()> {
        for first in (0..bag.size).step_by(OPENED_AT_ONCE as usize) {
            let idxs: Vec<U256> = (first..bag.size.min(first + OPENED_AT_ONCE)).map(U256::from).collect();
            let dealids = vec![bag.deal.0; idxs.len()];
            let call = IHub::initializeArrayCall { dealids, idxs };
            self.requester.send(&format!("open:{}:{first}", bag.deal), self.hub.address, &call).await?;
        }
        Ok(())
    }
}
