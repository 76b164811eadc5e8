//! A whole network in one process: chain, contracts, market, result store, scheduler, workers.

use crate::{
    args::Node,
    contracts::{self, Contracts},
    failure,
    funds::{self, Amounts, Bill, Treasury},
    keyring::{Keyring, worker_name},
    network_file::NetworkFile,
    offers::{self, Registered},
    output, ready,
    services::{self, Embedded, Services},
};
use bourse_chain::{
    Client, GasPolicy, Hub, Sender,
    deploy::{self, Deployment},
    keys,
};
use bourse_market::client::Client as Market;
use bourse_protocol::{Address, U256};
use bourse_results::Store;
use bourse_service::{CancellationToken, clock::Clock, journal::Journal};
use eyre::WrapErr;
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

/// What to start, and how.
pub(crate) struct Plan {
    /// The network's folder.
    pub(crate) data_dir: PathBuf,
    /// Another chain than the embedded one.
    pub(crate) node: Node,
    /// How the embedded chain is run.
    pub(crate) embedded: Embedded,
    /// The first of the ports: chain, market, scheduler, store. 0 takes any free ones.
    pub(crate) port: u16,
    /// How many workers.
    pub(crate) workers: u32,
    /// Whether the first worker lies.
    pub(crate) liar: bool,
    /// Which parts of the pool run in this process.
    pub(crate) here: Here,
    /// What one run may burn, if not the default.
    pub(crate) fuel: u64,
    /// What gas may cost.
    pub(crate) gas: GasPolicy,
}

/// Which parts of the pool run in this process. The others are processes of their own; everybody is funded either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Here {
    /// Scheduler and workers.
    All,
    /// The scheduler alone.
    Scheduler,
    /// Neither.
    Nothing,
}

/// A running network.
pub(crate) struct Network {
    /// The hub.
    pub(crate) hub: Hub,
    /// All contracts.
    pub(crate) deployment: Deployment,
    /// Who is who.
    pub(crate) keyring: Keyring,
    /// What clients need.
    pub(crate) file: NetworkFile,
    /// The example app and dataset, and the pool.
    pub(crate) registered: Registered,
    /// Senders of setup transactions.
    pub(crate) treasury: Treasury,
    /// How long each part of the start took.
    pub(crate) started: Vec<(&'static str, f64)>,
    /// The newest block when this process came to the chain.
    pub(crate) first_block: u64,
    /// The block after which everything is in place.
    pub(crate) ready_block: u64,
    /// The requester's sender.
    pub(crate) requester: Sender,
    data_dir: PathBuf,
    remote: bool,
}

impl Network {
    /// Starts everything, unless `stop` comes first. `tell` hears in plain words what happens.
    pub(crate) async fn start(
        plan: Plan,
        tell: &dyn Fn(&str),
        stop: &CancellationToken,
    ) -> eyre::Result<(Self, Services)> {
        services::make_folder(&plan.data_dir)?;
        services::check_room(&plan.data_dir)?;
        // Whoever holds this journal runs the network of this folder; only then its file may be touched.
        let journal = Journal::open(&plan.data_dir.join("setup.db"), &[bourse_chain::sender::SCHEMA])?;
        NetworkFile::remove(&plan.data_dir);
        let mut start = Start::new(plan, journal, tell)?;
        let data_dir = start.plan.data_dir.clone();
        let assembled = tokio::select! {
            assembled = Box::pin(start.assemble()) => assembled,
            full = services::no_room(&data_dir) => Err(full),
            () = stop.cancelled() => Err(failure::interrupted(format!(
                "stopped before the network was ready; what was sent is on chain, and known in {}: start again to go on",
                data_dir.display()
            ))),
        };
        match assembled {
            Ok(network) => Ok((network, start.services)),
            Err(error) => Err(start.undo(error).await),
        }
    }

    /// Stops everything, in the reverse order of the start. On a chain that is not ours what is left over goes back.
    pub(crate) async fn stop(mut self, mut services: Services) -> eyre::Result<()> {
        NetworkFile::remove(&self.data_dir);
        services.stop_roles().await;
        let swept = match self.remote {
            true => self.treasury.sweep(&self.keyring).await,
            false => Ok(()),
        };
        self.treasury.close().await;
        services.stop().await;
        swept
    }
}

/// A network that is being put together.
struct Start<'a> {
    plan: Plan,
    keyring: Keyring,
    journal: Journal,
    tell: &'a dyn Fn(&str),
    /// From when on roles may have funds.
    treasury: Option<Treasury>,
    services: Services,
    watch: Stopwatch,
}

/// Measures the parts of a start.
struct Stopwatch {
    last: Instant,
    parts: Vec<(&'static str, f64)>,
}

impl Stopwatch {
    fn lap(&mut self, what: &'static str) {
        self.parts.push((what, self.last.elapsed().as_secs_f64()));
        self.last = Instant::now();
    }
}

/// The way to a chain, in this process and for others.
struct Way {
    client: Client,
    rpc_url: String,
    ws_url: Option<String>,
}

impl<'a> Start<'a> {
    fn new(plan: Plan, journal: Journal, tell: &'a dyn Fn(&str)) -> eyre::Result<Self> {
        let keyring = match &plan.node.key_file {
            Some(path) => Keyring::own(keys::read(path)?, &plan.data_dir, plan.workers)?,
            None => Keyring::test(plan.workers),
        };
        let watch = Stopwatch { last: Instant::now(), parts: Vec::new() };
        Ok(Self { plan, keyring, journal, tell, treasury: None, services: Services::new(), watch })
    }

    fn remote(&self) -> bool {
        self.plan.node.rpc_url().is_some()
    }

    /// Ends a start that failed. On a chain that is not ours what the roles got goes back.
    async fn undo(mut self, error: eyre::Report) -> eyre::Report {
        self.services.stop_roles().await;
        let remote = self.remote();
        let mut swept = Ok(());
        if let Some(mut treasury) = self.treasury.take() {
            if remote {
                output::say("taking back what the roles got; Ctrl-C again leaves it with them until the next stop");
                swept = treasury.sweep(&self.keyring).await;
            }
            treasury.close().await;
        }
        self.services.stop().await;
        match swept {
            Ok(()) => error,
            Err(kept) => error.wrap_err(kept),
        }
    }

    async fn assemble(&mut self) -> eyre::Result<Network> {
        let ports = Ports::bind(&self.plan).await?;
        let way = self.connect().await?;
        let first_block = way.client.head().await?.number;
        self.watch.lap("chain");
        let contracts = self.contracts_and_funds(&way.client).await?;
        let hub = Hub::new(way.client.clone(), contracts.deployment.hub);
        let store = self.store(ports.store.0)?;
        self.market(&hub, contracts.start_block, ports.market.0).await?;
        self.watch.lap("market and store");
        let registered = Box::pin(self.publish(&hub, &contracts.deployment, &store, &ports.market.1)).await?;
        self.watch.lap("publishing");
        (self.tell)(&format!("market      {}", ports.market.1));
        let scheduler_url = match ports.scheduler {
            Some((listener, url)) => {
                let place = (registered.workerpool, contracts.start_block, ports.store.1.as_str());
                self.pool(&hub, place, listener, &url).await?;
                Some(url)
            }
            None => None,
        };
        self.watch.lap("scheduler and workers");
        let file = NetworkFile {
            chain_id: contracts.deployment.chain_id,
            rpc_url: way.rpc_url,
            ws_url: way.ws_url,
            hub: contracts.deployment.hub,
            rlc: contracts.deployment.rlc,
            workerpool: registered.workerpool,
            market_url: Some(ports.market.1),
            sms_url: None,
            ipfs_gateway_url: Some(ports.store.1.clone()),
            ipfs_node_url: Some(ports.store.1),
            compass_url: None,
            scheduler_url,
            dashboard_url: None,
            keys: self.keyring.file(),
        };
        self.finish(hub, contracts.deployment, registered, file, first_block).await
    }

    /// Waits until everything answers, and hands over.
    async fn finish(
        &mut self,
        hub: Hub,
        deployment: Deployment,
        registered: Registered,
        file: NetworkFile,
        first_block: u64,
    ) -> eyre::Result<Network> {
        let workers = if self.plan.here == Here::All { self.keyring.workers.len() } else { 0 };
        ready::everything(&file, workers).await?;
        let ready_block = hub.client.head().await?.number;
        let key = self.keyring.requester.clone();
        let treasury = self.treasury()?;
        treasury.rest().await;
        let requester = treasury.sender(&key).await?;
        let treasury = self.treasury.take().ok_or_else(no_treasury)?;
        Ok(Network {
            hub,
            deployment,
            keyring: self.keyring.clone(),
            file,
            registered,
            treasury,
            started: std::mem::take(&mut self.watch.parts),
            first_block,
            ready_block,
            requester,
            data_dir: self.plan.data_dir.clone(),
            remote: self.remote(),
        })
    }

    /// The chain: the embedded one, served on its port, or a node.
    async fn connect(&mut self) -> eyre::Result<Way> {
        let plan = &self.plan;
        let way = match &plan.node.rpc_url() {
            Some(url) => Way { client: Client::connect(url)?, rpc_url: url.clone(), ws_url: None },
            None => {
                let chain = services::open_chain(Some(plan.data_dir.join("chain")), &plan.embedded, &self.keyring)?;
                let server = services::bind_chain(&chain, plan.port, &plan.embedded)?;
                let (address, stop) = (server.local_addr(), self.services.stop_base.clone());
                self.services.base.spawn(async move {
                    server.run(stop).await;
                    ("embedded chain", Ok(()))
                });
                let client = Client::in_process(chain.rpc_client());
                Way { client, rpc_url: format!("http://{address}"), ws_url: Some(format!("ws://{address}")) }
            }
        };
        (self.tell)(&match &self.plan.node.rpc_url() {
            Some(_) => format!("chain       {} at {}", way.client.chain_id().await?, way.client.node()),
            None => format!("chain       embedded, at {}", way.rpc_url),
        });
        Ok(way)
    }

    /// The contracts, found or put there, and what the roles need. On a chain that is not ours what that costs is said,
    /// and checked, before anything is sent.
    async fn contracts_and_funds(&mut self, client: &Client) -> eyre::Result<Contracts> {
        let (dir, node) = (&self.plan.data_dir, &self.plan.node);
        let known = contracts::known(client, dir, node.hub).await?;
        let there = match (&known, node.hub) {
            (Some(known), _) => Some(known.deployment.clone()),
            (None, Some(hub)) => Some(deploy::find(client, hub).await?),
            (None, None) => None,
        };
        let amounts = match self.remote() {
            true => Amounts::frugal(&self.plan.gas, client.gas_price().await?),
            false => Amounts::embedded(),
        };
        let needs = funds::needs(client, there.as_ref(), &self.keyring, &amounts).await?;
        let wallet = self.keyring.admin.address();
        if self.remote() {
            let gas = match there {
                Some(_) => U256::ZERO,
                None => funds::gas_cost(&self.plan.gas, client.gas_price().await?, deploy::GAS),
            };
            let bill = Bill::of(&needs, gas);
            bill.confirm(client.chain_id().await?, client.node(), wallet, node.yes)?;
            bill.check(client, wallet, there.map(|d| d.rlc)).await?;
        }
        self.journal.belongs_to(&client.identity().await?)?;
        let contracts = match (known, node.hub) {
            (Some(known), _) => known,
            (None, Some(hub)) => contracts::adopt(client, dir, hub).await?,
            (None, None) => {
                let options = deploy::Options::default();
                let tell = |step: &str| tracing::info!(step, "deploying");
                contracts::put(client, dir, (&self.keyring.admin, self.plan.gas), options, &self.journal, &tell).await?
            }
        };
        self.watch.lap("contracts");
        (self.tell)(&format!("contracts   hub {}", contracts.deployment.hub));
        let treasury = Treasury::new(client.clone(), contracts.deployment.clone(), self.journal.clone(), self.plan.gas);
        let treasury = self.treasury.insert(treasury);
        let admin = treasury.sender(&self.keyring.admin).await?;
        treasury.fund(needs, &admin).await?;
        self.watch.lap("funds");
        Ok(contracts)
    }

    fn store(&mut self, listener: TcpListener) -> eyre::Result<Store> {
        let upload_token = services::secret(&self.plan.data_dir.join("upload.token"))?;
        let store = Store::open(self.plan.data_dir.join("results")).wrap_err("cannot open the result store")?;
        let config = bourse_results::Config { upload_token: Some(upload_token), ..Default::default() };
        let router = bourse_results::router(store.clone(), config);
        let stop = self.services.stop_base.clone();
        self.services.base.spawn(async move {
            ("result store", bourse_service::http::serve(listener, router, stop).await.map_err(Into::into))
        });
        Ok(store)
    }

    async fn market(&mut self, hub: &Hub, start_block: u64, listener: TcpListener) -> eyre::Result<()> {
        let config = bourse_market::Config {
            start_block,
            poll: hub.client.poll_interval(),
            ..bourse_market::Config::new(self.plan.data_dir.join("market"))
        };
        let market = bourse_market::Service::open(config, hub.clone()).await?;
        let stop = self.services.stop_roles.clone();
        self.services.roles.spawn(async move { ("market", market.run(listener, stop).await.map_err(Into::into)) });
        Ok(())
    }

    /// Offers the example and the pool, and goes on offering the pool.
    async fn publish(
        &mut self,
        hub: &Hub,
        deployment: &Deployment,
        store: &Store,
        market_url: &str,
    ) -> eyre::Result<Registered> {
        let keyring = self.keyring.clone();
        let treasury = self.treasury()?;
        let (admin, owner) =
            (treasury.sender(&keyring.admin).await?, treasury.sender(&keyring.workerpool_owner).await?);
        let registered = offers::register(hub, deployment, (&admin, &owner), store).await?;
        let pool = offers::Pool {
            hub: hub.clone(),
            market: Market::new(market_url, deployment.chain_id),
            key: keyring.workerpool_owner.clone(),
            workerpool: registered.workerpool,
            domain: hub.domain().await?,
        };
        offers::publish(&registered, &pool, &keyring).await?;
        let stop = self.services.stop_roles.clone();
        self.services.roles.spawn(async move {
            pool.keep_offered(stop).await;
            ("pool's offer", Ok(()))
        });
        Ok(registered)
    }

    /// The pool's scheduler, and its workers if they run here.
    async fn pool(
        &mut self,
        hub: &Hub,
        (workerpool, start_block, store_url): (Address, u64, &str),
        listener: TcpListener,
        url: &str,
    ) -> eyre::Result<()> {
        let plan = services::SchedulerPlan {
            workerpool,
            dir: self.plan.data_dir.join("scheduler"),
            start_block,
            allowed: None,
            floor: Default::default(),
            store_url: store_url.to_owned(),
            upload_token: services::secret(&self.plan.data_dir.join("upload.token"))?,
            gas: self.plan.gas,
        };
        let (key, stop) = (self.keyring.workerpool_owner.clone(), self.services.stop_roles.clone());
        services::scheduler(&mut self.services.roles, plan, key, hub.clone(), listener, stop).await?;
        (self.tell)(&format!("workerpool  {workerpool},\n            scheduler at {url}"));
        match self.plan.here {
            Here::All => self.workers(hub, workerpool, url).await,
            Here::Scheduler | Here::Nothing => Ok(()),
        }
    }

    async fn workers(&mut self, hub: &Hub, workerpool: Address, scheduler_url: &str) -> eyre::Result<()> {
        if self.keyring.workers.is_empty() {
            return Ok(());
        }
        let engine = bourse_worker::wasm::Engine::new().wrap_err("cannot start the WebAssembly engine")?;
        for (n, key) in self.keyring.workers.iter().enumerate() {
            if self.plan.liar && n == 1 {
                // Who comes first is served first: so the liar is among the first to answer.
                ready::workers(scheduler_url, 1).await?;
            }
            let worker = services::WorkerPlan {
                name: worker_name(n),
                scheduler_url: scheduler_url.to_owned(),
                workerpool,
                dir: self.plan.data_dir.join(format!("worker-{}", n + 1)),
                gas: self.plan.gas,
                forge: self.plan.liar && n == 0,
                fuel: self.plan.fuel,
                // All of them share this machine.
                min_cpus: 1,
                at_least: Duration::ZERO,
            };
            let (key, drain, stop) = (key.clone(), CancellationToken::new(), self.services.stop_roles.clone());
            services::worker(&mut self.services.roles, worker, key, hub.clone(), engine.clone(), drain, stop).await?;
        }
        Ok(())
    }

    fn treasury(&mut self) -> eyre::Result<&mut Treasury> {
        self.treasury.as_mut().ok_or_else(no_treasury)
    }
}

fn no_treasury() -> eyre::Report {
    eyre::eyre!("the roles were not funded: this is a defect of bourse")
}

/// The ports, taken before anything else happens: a busy one is no reason to leave things half done.
struct Ports {
    market: (TcpListener, String),
    /// Where a scheduler runs elsewhere, it may have this port already.
    scheduler: Option<(TcpListener, String)>,
    store: (TcpListener, String),
}

impl Ports {
    async fn bind(plan: &Plan) -> eyre::Result<Self> {
        let port = |n: u16| if plan.port == 0 { 0 } else { plan.port.saturating_add(n) };
        Ok(Self {
            market: services::bind("the market", port(1)).await?,
            scheduler: match plan.here {
                Here::All | Here::Scheduler => Some(services::bind("the scheduler", port(2)).await?),
                Here::Nothing => None,
            },
            store: services::bind("the result store", port(3)).await?,
        })
    }
}

/// Says one line of progress.
pub(crate) fn tell(text: &str) {
    output::say(&format!("  {text}"));
}

/// The wall's time, in seconds since the epoch.
pub(crate) fn now() -> u64 {
    Clock::Wall.seconds()
}
