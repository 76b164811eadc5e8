//! A requester who buys tasks of an app that does nothing, at the pool's real price, with orders of its own.

use super::stack::Stack;
use crate::{
    asset,
    network_file::NetworkFile,
    publish::{self, Asset},
};
use bourse_chain::{
    GasPolicy, Hub, PrivateKeySigner, Sender, alloy::sol_types::Eip712Domain, deploy, keys::sign_order, sender::SCHEMA,
};
use bourse_protocol::{
    Address, B256, Bytes, U256,
    abi::{IHub, IRlc},
    api::Match,
    ids::{DealId, TaskId},
    money::Nrlc,
    orders::{AppOrder, DatasetOrder, Order, RequestOrder, WorkerpoolOrder},
    params::Params,
};
use bourse_service::{CancellationToken, journal::Journal};
use eyre::WrapErr;
use tokio::task::JoinSet;

/// The app: `nothing.wat`.
const APP: &[u8] = include_bytes!("nothing.wasm");
/// What a task costs, in RLC: what a task of 2018 cost.
pub(super) const PRICE: u64 = 10;

/// What is bought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) trust: u64,
    /// The period T of the category: contributions in 7 T, reveals in 2 T, everything over after 10 T, in seconds.
    pub(super) period: u64,
    /// How many tasks will be bought at most.
    pub(super) tasks: u64,
}

/// Somebody with money and a list of orders that fit each other. Clones buy from the same purse.
#[derive(Clone)]
pub(super) struct Shop {
    hub: Hub,
    domain: Eip712Domain,
    admin: PrivateKeySigner,
    pool_owner: PrivateKeySigner,
    requester: Sender,
    key: PrivateKeySigner,
    app: Address,
    workerpool: Address,
    category: U256,
    trust: U256,
}

impl Shop {
    /// Publishes the app, makes a category, deposits. What sends runs in `lanes`.
    pub(super) async fn open(
        stack: &Stack,
        network: &NetworkFile,
        hub: &Hub,
        terms: Terms,
        lanes: &mut JoinSet<()>,
    ) -> eyre::Result<Self> {
        let (admin, key) = (network.keys.admin.signer()?, network.keys.requester.signer()?);
        let journal = Journal::open(&stack.place("buyer.db"), &[SCHEMA])?;
        let mut senders = Vec::new();
        for key in [&admin, &key] {
            let opened = Sender::open(hub.client.clone(), key.clone(), journal.clone(), GasPolicy::default());
            let (sender, lane) = opened.await?;
            lanes.spawn(lane.as_guest().run(CancellationToken::new()));
            senders.push(sender);
        }
        let [owner, requester] = <[Sender; 2]>::try_from(senders).expect("two keys give two senders");
        let contracts = deploy::find(&hub.client, hub.address).await?;
        let cid = asset::store(network, &stack.network_dir(), APP.to_vec()).await?;
        let app = Asset { name: "nothing".into(), cid, checksum: publish::sha256(APP) };
        let category = hub.view(&IHub::countCategoryCall {}).await?;
        let create = IHub::createCategoryCall {
            name: "bench".into(),
            description: "{}".into(),
            workClockTimeRef: U256::from(terms.period),
        };
        let (app, made, deposited) = tokio::join!(
            publish::app(hub, &contracts, &owner, app),
            owner.send("category", hub.address, &create),
            deposit(hub, network.rlc, (&owner, &requester), Nrlc::rlc(PRICE * terms.tasks)),
        );
        made.wrap_err("cannot make a category")?;
        deposited?;
        Ok(Self {
            hub: hub.clone(),
            domain: hub.domain().await?,
            admin,
            pool_owner: network.keys.workerpool_owner.signer()?,
            requester,
            key,
            app: app?,
            workerpool: network.workerpool,
            category,
            trust: U256::from(terms.trust),
        })
    }

    /// Buys a task; returns when its deal is in a block.
    pub(super) async fn buy(&self) -> eyre::Result<TaskId> {
        let (call, deal) = self.orders();
        self.requester.send(&format!("match:{deal}"), self.hub.address, &call).await.wrap_err("cannot buy a task")?;
        Ok(TaskId::of(deal, U256::ZERO))
    }

    fn orders(&self) -> (IHub::matchOrdersCall, DealId) {
        let (one, price, salt) =
            (U256::from(1), Nrlc::rlc(PRICE).0, B256::from(*PrivateKeySigner::random().to_bytes()));
        let app = AppOrder { app: self.app, volume: one, salt, ..Default::default() };
        let app = sign_order(app, &self.admin, &self.domain);
        let pool = WorkerpoolOrder {
            workerpool: self.workerpool,
            workerpoolprice: price,
            volume: one,
            category: self.category,
            trust: self.trust,
            salt,
            ..Default::default()
        };
        let pool = sign_order(pool, &self.pool_owner, &self.domain);
        let request = RequestOrder {
            app: self.app,
            workerpool: self.workerpool,
            workerpoolmaxprice: price,
            requester: self.key.address(),
            beneficiary: self.key.address(),
            volume: one,
            category: self.category,
            trust: self.trust,
            params: Params::default().write(),
            salt,
            ..Default::default()
        };
        let request = sign_order(request, &self.key, &self.domain);
        let deal = DealId::of(request.hash(&self.domain), U256::ZERO);
        let orders = Match { app, dataset: DatasetOrder::default(), workerpool: pool, request };
        ((&orders).into(), deal)
    }
}

/// Gives the requester what it lacks, and has it deposit so much in all.
async fn deposit(hub: &Hub, rlc: Address, (owner, requester): (&Sender, &Sender), wanted: Nrlc) -> eyre::Result<()> {
    let stake = hub.account(requester.address()).await?.stake;
    let value = wanted.saturating_sub(stake).0;
    if value.is_zero() {
        return Ok(());
    }
    let gift = IRlc::transferCall { to: requester.address(), value };
    owner.send("gift", rlc, &gift).await.wrap_err("cannot give RLC to the requester")?;
    let call = IRlc::approveAndCallCall { spender: hub.address, value, data: Bytes::new() };
    requester.send("deposit", rlc, &call).await.wrap_err("cannot deposit RLC")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_module_of_the_app_is_what_its_text_says() {
        let built = wat::parse_str(include_str!("nothing.wat")).unwrap();
        assert_eq!(built, super::APP, "write the module anew from nothing.wat");
    }
}
