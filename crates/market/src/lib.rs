//! The market: signed orders in a book, deals as they happen, over the REST gateway that clients know.
//!
//! Never holds keys or funds: what is lost here is re-posted. Invariant: an order is shown as open only while the chain,
//! as far as it was followed, would still let it match. [`Service::sync`] follows, [`Service::router`] answers;
//! [`Service::run`] does both. Programs talk to it through [`client::Client`].

mod auth;
pub mod client;
mod events;
mod fields;
mod http;
mod query;
mod reader;
mod shelf;
mod store;
mod sync;

pub use fields::BadQuery;

use bourse_chain::{Hub, follower::Follower};
use bourse_protocol::{book::Limits, orders};
use bourse_service::{CancellationToken, clock::Clock, journal};
use std::{io, path::PathBuf, sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// How the market runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where `market.db` lies.
    pub dir: PathBuf,
    /// Events before this block are none of ours: that of the hub's deployment.
    pub start_block: u64,
    /// How long to rest between looks at the chain.
    pub poll: Duration,
    /// What time it is, for publication dates and challenges.
    pub clock: Clock,
    /// How many open orders of one kind a wallet may have.
    pub max_open_orders: u32,
    /// How many open orders there may be in all.
    pub max_orders: usize,
}

impl Config {
    /// The usual settings, with the data in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            start_block: 0,
            poll: Duration::from_millis(250),
            clock: Clock::Wall,
            max_open_orders: 50,
            max_orders: 50_000,
        }
    }
}

/// What ends the market, or keeps it from starting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be used: nothing more can be promised, so the market stops.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The chain could not be asked.
    #[error("market cannot read the chain")]
    Chain(#[from] bourse_chain::Error),
    /// The listener broke.
    #[error("market cannot serve requests")]
    Serve(#[source] io::Error),
}

/// The market of one hub.
#[derive(Clone)]
pub struct Service {
    market: Arc<Market>,
}

/// What requests and the follower share.
pub(crate) struct Market {
    config: Config,
    chain_id: u64,
    domain: bourse_chain::alloy::sol_types::Eip712Domain,
    reader: reader::Reader,
    follower: Follower,
    shelf: shelf::Shelf,
    challenges: auth::Challenges,
    /// One look at the chain at a time.
    syncing: tokio::sync::Mutex<()>,
}

impl Service {
    /// Opens the book of `hub`. A folder with another hub's book is refused.
    pub async fn open(config: Config, hub: Hub) -> Result<Self, Error> {
        let chain_id = hub.client.chain_id().await?;
        let reader = reader::Reader::open(hub).await?;
        let hub = reader.hub.address;
        let owner = format!("{} hub {hub}", reader.hub.client.identity().await?);
        let store = store::Store::open(&config.dir, &owner)?;
        let limits = Limits { per_wallet: config.max_open_orders, in_all: config.max_orders };
        let market = Market {
            chain_id,
            domain: orders::domain(chain_id, hub),
            follower: Follower::new(reader.hub.client.clone(), events::filter(hub, &reader.registries)),
            reader,
            shelf: shelf::Shelf::open(store, limits)?,
            challenges: auth::Challenges::default(),
            syncing: tokio::sync::Mutex::default(),
            config,
        };
        Ok(Self { market: Arc::new(market) })
    }

    /// The REST gateway.
    pub fn router(&self) -> axum::Router {
        http::router(self.market.clone())
    }

    /// Catches up with the chain: afterwards the book agrees with the newest block that there was at the beginning.
    pub async fn sync(&self) -> Result<(), Error> {
        sync::sync(&self.market).await
    }

    /// Serves requests and follows the chain until `shutdown`, or until the store fails.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
        // Whichever side ends first ends the other.
        let both = shutdown.child_token();
        let stop = both.clone().drop_guard();
        let serving = async {
            let served = bourse_service::http::serve(listener, self.router(), both.clone()).await;
            both.cancel();
            served.map_err(Error::Serve)
        };
        let following = async {
            let followed = sync::follow(&self.market, &both).await;
            both.cancel();
            followed
        };
        let (served, followed) = tokio::join!(serving, following);
        drop(stop);
        followed.and(served)
    }
}
