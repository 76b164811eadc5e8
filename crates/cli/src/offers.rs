//! What a network offers from its first start on: the example app and dataset, and its pool.
//!
//! The pool's order is for as many tasks as the owner's deposit covers at once. When it is used up there is a new one.

use crate::{assets, failure, keyring::Keyring, publish};
use bourse_chain::{Hub, PrivateKeySigner, Sender, alloy::sol_types::Eip712Domain, deploy::Deployment};
use bourse_market::client::Client as Market;
use bourse_protocol::{Address, U256, money::Nrlc};
use bourse_results::Store;
use bourse_service::CancellationToken;
use eyre::WrapErr;
use std::time::Duration;

/// How often it is looked whether the pool has an open order.
const LOOK: Duration = Duration::from_secs(2);

/// Where the example and the pool are registered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registered {
    pub(crate) app: Address,
    pub(crate) dataset: Address,
    pub(crate) workerpool: Address,
}

/// Stores and registers the example, and registers the pool.
pub(crate) async fn register(
    hub: &Hub,
    deployment: &Deployment,
    (admin, owner): (&Sender, &Sender),
    store: &Store,
) -> eyre::Result<Registered> {
    let keep = |name: &str, content| -> eyre::Result<publish::Asset> {
        let cid = store.add(content).wrap_err_with(|| format!("cannot store {name}"))?.cid;
        Ok(publish::Asset { name: name.to_owned(), cid, checksum: publish::sha256(content) })
    };
    let module = keep(assets::APP_NAME, assets::APP)?;
    let prices = keep(assets::DATASET_NAME, assets::DATASET)?;
    let (app, dataset, workerpool) = tokio::try_join!(
        publish::app(hub, deployment, admin, module),
        publish::dataset(hub, deployment, admin, prices),
        publish::workerpool(hub, deployment, owner, "bourse"),
    )?;
    Ok(Registered { app, dataset, workerpool })
}

/// Offers the example and the pool, where they are not offered yet.
pub(crate) async fn publish(registered: &Registered, pool: &Pool, keyring: &Keyring) -> eyre::Result<()> {
    let (market, domain, admin) = (&pool.market, &pool.domain, &keyring.admin);
    let app = publish::app_order(registered.app, Nrlc::rlc(publish::APP_PRICE));
    publish::offer(market, admin, app, domain).await?;
    let dataset = publish::dataset_order(registered.dataset, Nrlc::rlc(publish::DATASET_PRICE));
    publish::offer(market, admin, dataset, domain).await?;
    match pool.offer().await? {
        Offered::Open => Ok(()),
        Offered::TooPoor(stake) => Err(failure::refused(format!(
            "the pool owner {} has {stake} RLC in the hub and one task locks {} RLC: deposit more",
            pool.key.address(),
            pool_stake()
        ))),
    }
}

/// A pool that is to have an open order at any time.
pub(crate) struct Pool {
    pub(crate) hub: Hub,
    pub(crate) market: Market,
    pub(crate) key: PrivateKeySigner,
    pub(crate) workerpool: Address,
    pub(crate) domain: Eip712Domain,
}

/// Whether a pool is offered.
enum Offered {
    Open,
    /// The owner's free deposit does not cover one task.
    TooPoor(Nrlc),
}

impl Pool {
    /// Offers the pool unless it is offered already.
    async fn offer(&self) -> eyre::Result<Offered> {
        let order = publish::workerpool_order(self.workerpool, 1);
        if publish::is_offered(&self.market, &self.key, &order).await? {
            return Ok(Offered::Open);
        }
        let stake = self.hub.account(self.key.address()).await?.stake;
        let volume = affordable(stake);
        if volume == 0 {
            return Ok(Offered::TooPoor(stake));
        }
        publish::offer(&self.market, &self.key, publish::workerpool_order(self.workerpool, volume), &self.domain)
            .await?;
        Ok(Offered::Open)
    }

    /// Publishes a new order whenever the last one is used up, until `stop`.
    pub(crate) async fn keep_offered(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            match self.offer().await {
                Ok(Offered::Open) => {}
                Ok(Offered::TooPoor(stake)) => {
                    tracing::info!(%stake, "the pool is not offered: its deposit is locked in open tasks");
                }
                Err(error) => tracing::warn!("cannot offer the pool now: {error:#}"),
            }
        }
    }
}

/// What the pool owner locks per task.
fn pool_stake() -> Nrlc {
    let percent = U256::from(bourse_protocol::reward::POOL_STAKE_PERCENT);
    Nrlc::rlc(publish::POOL_PRICE).percent(percent).expect("small amounts do not overflow")
}

/// How many tasks a deposit covers.
fn affordable(stake: Nrlc) -> u64 {
    (stake.0 / pool_stake().0).saturating_to()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deposit_covers_whole_tasks() {
        assert_eq!(affordable(Nrlc::rlc(2)), 0);
        assert_eq!(affordable(Nrlc::rlc(3)), 1);
        assert_eq!(affordable(Nrlc::rlc(1000)), 333);
    }
}
