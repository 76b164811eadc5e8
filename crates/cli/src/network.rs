//! A whole network in one process: chain, contracts, market, result store, scheduler, workers.

use crate::{
    args::Node,
    assets, failure,
    funds::{self, Amounts, Treasury},
    keyring::{Keyring, worker_name},
    network_file::NetworkFile,
    output, publish,
    services::{self, Embedded, Jobs},
};
use bourse_chain::{
    Client, GasPolicy, Hub, Sender,
    deploy::{self, Deployment},
    keys,
};
use bourse_market::client::Client as Market;
use bourse_protocol::{Address, U256, ipfs::Cid, money::Nrlc};
use bourse_results::Store;
use bourse_service::{CancellationToken, clock::Clock, journal::Journal};
use eyre::WrapErr;
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
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
    /// The example app.
    pub(crate) app: Address,
    /// The example dataset.
    pub(crate) dataset: Address,
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

/// What runs, in the order in which it stops.
pub(crate) struct Services {
    jobs: Jobs,
    /// Workers, scheduler and market.
    roles: CancellationToken,
    /// The store and the chain's ports.
    base: CancellationToken,
}

/// What is remembered of a network from one start to the next.
#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    deployment: Deployment,
    start_block: u64,
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
        let mut watch = Stopwatch { last: Instant::now(), parts: Vec::new() };
        let (roles, base) = (CancellationToken::new(), CancellationToken::new());
        let mut services = Services { jobs: Jobs::new(), roles, base };
        let data_dir = plan.data_dir.clone();
        let assembled = tokio::select! {
            assembled = Self::assemble(plan, journal, tell, &mut watch, &mut services) => assembled,
            () = stop.cancelled() => Err(failure::interrupted(format!(
                "stopped before the network was ready; what was sent is on chain, and known in {}: start again to go on",
                data_dir.display()
            ))),
        };
        match assembled {
            Ok(network) => Ok((Self { started: watch.parts, ..network }, services)),
            Err(error) => {
                services.stop().await;
                Err(error)
            }
        }
    }

    async fn assemble(
        plan: Plan,
        journal: Journal,
        tell: &dyn Fn(&str),
        watch: &mut Stopwatch,
        services: &mut Services,
    ) -> eyre::Result<Self> {
        let remote = plan.node.rpc_url.is_some();
        let ports = Ports::bind(&plan).await?;
        let keyring = match &plan.node.key_file {
            Some(path) => Keyring::own(keys::read(path)?, &plan.data_dir, plan.workers)?,
            None => Keyring::test(plan.workers),
        };
        let (client, rpc_url, ws_url) = connect(&plan, &keyring, services).await?;
        let first_block = client.head().await?.number;
        watch.lap("chain");
        tell(&match &plan.node.rpc_url {
            Some(_) => format!("chain       {} at {}", client.chain_id().await?, client.node()),
            None => format!("chain       embedded, at {rpc_url}"),
        });

        let chain_id = client.chain_id().await?;
        let amounts = amounts(&plan, &client, &keyring).await?;
        journal.belongs_to(&format!("chain {chain_id}"))?;
        let memory = contracts(&plan, &client, &keyring, &journal).await?;
        let deployment = memory.deployment;
        let hub = Hub::new(client.clone(), deployment.hub);
        watch.lap("contracts");
        tell(&format!("contracts   hub {}", deployment.hub));

        let mut treasury = Treasury::new(client.clone(), deployment.clone(), journal, plan.gas);
        let admin = treasury.sender(&keyring.admin).await?;
        treasury.fund(&keyring, &amounts, &admin).await?;
        watch.lap("funds");

        let token = services::secret(&plan.data_dir.join("upload.token"))?;
        let store = Store::open(plan.data_dir.join("results")).wrap_err("cannot open the result store")?;
        let store_config = bourse_results::Config { upload_token: Some(token.clone()), ..Default::default() };
        let router = bourse_results::router(store.clone(), store_config);
        let (base, listener) = (services.base.clone(), ports.store.0);
        services.jobs.spawn(async move {
            ("result store", bourse_service::http::serve(listener, router, base).await.map_err(Into::into))
        });

        let market_config = bourse_market::Config {
            start_block: memory.start_block,
            poll: client.poll_interval(),
            ..bourse_market::Config::new(plan.data_dir.join("market"))
        };
        let market = bourse_market::Service::open(market_config, hub.clone()).await?;
        let (stop, listener) = (services.roles.clone(), ports.market.0);
        services.jobs.spawn(async move { ("market", market.run(listener, stop).await.map_err(Into::into)) });
        watch.lap("market and store");

        let published = publish_all(&hub, &deployment, &mut treasury, &keyring, &store, &ports.market.1).await?;
        watch.lap("publishing");
        tell(&format!("market      {}", ports.market.1));

        let mut scheduler_url = None;
        if let Some((listener, url)) = ports.scheduler {
            let scheduler = services::SchedulerPlan {
                workerpool: published.workerpool,
                dir: plan.data_dir.join("scheduler"),
                start_block: memory.start_block,
                store_url: ports.store.1.clone(),
                upload_token: token,
                gas: plan.gas,
            };
            let (key, stop) = (keyring.workerpool_owner.clone(), services.roles.clone());
            services::scheduler(&mut services.jobs, scheduler, key, hub.clone(), listener, stop).await?;
            tell(&format!("workerpool  {}, scheduler at {url}", published.workerpool));
            if plan.here == Here::All {
                start_workers(&plan, &keyring, &hub, published.workerpool, &url, services).await?;
            }
            scheduler_url = Some(url);
        }
        watch.lap("scheduler and workers");

        let file = NetworkFile {
            chain_id,
            rpc_url,
            ws_url,
            hub: deployment.hub,
            rlc: deployment.rlc,
            workerpool: published.workerpool,
            market_url: Some(ports.market.1),
            sms_url: None,
            ipfs_gateway_url: Some(ports.store.1.clone()),
            ipfs_node_url: Some(ports.store.1),
            compass_url: None,
            scheduler_url,
            dashboard_url: None,
            keys: keyring.file(),
        };
        let workers = if plan.here == Here::All { keyring.workers.len() } else { 0 };
        await_answers(&file, workers).await?;
        let ready_block = client.head().await?.number;
        let Published { app, dataset, .. } = published;
        let requester = treasury.sender(&keyring.requester).await?;
        let data_dir = plan.data_dir;
        let started = Vec::new();
        Ok(Self {
            hub,
            deployment,
            keyring,
            file,
            app,
            dataset,
            treasury,
            started,
            first_block,
            ready_block,
            requester,
            data_dir,
            remote,
        })
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

impl Services {
    /// Waits until `stop`, or until a service fails.
    pub(crate) async fn run_until(&mut self, stop: &CancellationToken) -> eyre::Result<()> {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            failed = self.failure() => Err(failed),
        }
    }

    /// Ends when a service ends that should not have.
    pub(crate) async fn failure(&mut self) -> eyre::Report {
        match self.jobs.join_next().await {
            Some(Ok((name, Err(error)))) => error.wrap_err(format!("the {name} stopped")),
            Some(Ok((name, Ok(())))) => eyre::eyre!("the {name} stopped by itself"),
            Some(Err(error)) => eyre::Report::new(error).wrap_err("a service crashed"),
            None => std::future::pending().await,
        }
    }

    async fn stop_roles(&mut self) {
        self.roles.cancel();
        // The store and the chain's port go on: they have their own token, so not all jobs end here.
        let deadline = tokio::time::sleep(Duration::from_secs(5));
        tokio::pin!(deadline);
        let base_jobs = 2;
        while self.jobs.len() > base_jobs {
            tokio::select! {
                _ = self.jobs.join_next() => {}
                () = &mut deadline => return,
            }
        }
    }

    async fn stop(&mut self) {
        self.roles.cancel();
        self.base.cancel();
        let all = async { while self.jobs.join_next().await.is_some() {} };
        // What does not stop by then is dropped with the process; its journal is whole at any moment.
        let _ = tokio::time::timeout(Duration::from_secs(5), all).await;
    }
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

/// The chain: the embedded one, served on its port, or a node.
async fn connect(
    plan: &Plan,
    keyring: &Keyring,
    services: &mut Services,
) -> eyre::Result<(Client, String, Option<String>)> {
    if let Some(url) = &plan.node.rpc_url {
        return Ok((Client::connect(url)?, url.clone(), None));
    }
    let chain = services::open_chain(Some(plan.data_dir.join("chain")), &plan.embedded, keyring)?;
    let server = services::bind_chain(&chain, plan.port, &plan.embedded)?;
    let address = server.local_addr();
    let base = services.base.clone();
    services.jobs.spawn(async move {
        server.run(base).await;
        ("embedded chain", Ok(()))
    });
    let client = Client::in_process(chain.rpc_client());
    Ok((client, format!("http://{address}"), Some(format!("ws://{address}"))))
}

/// What the roles get. On a chain that is not ours it is shown, and checked, before anything is sent.
async fn amounts(plan: &Plan, client: &Client, keyring: &Keyring) -> eyre::Result<Amounts> {
    if plan.node.rpc_url.is_none() {
        return Ok(Amounts::embedded());
    }
    let amounts = Amounts::frugal(&plan.gas, client.gas_price().await?);
    let roles = keyring.roles().len();
    let total = amounts.total(roles);
    let (chain_id, wallet) = (client.chain_id().await?, keyring.admin.address());
    funds::confirm(chain_id, client.node(), wallet, total, roles, plan.node.yes)?;
    let rlc = match plan.node.hub {
        Some(hub) => Some(deploy::find(client, hub).await?.rlc),
        None => None,
    };
    funds::check_wallet(client, wallet, rlc, total).await?;
    Ok(amounts)
}

/// The contracts: those remembered, those named, or new ones.
async fn contracts(plan: &Plan, client: &Client, keyring: &Keyring, journal: &Journal) -> eyre::Result<Memory> {
    let path = plan.data_dir.join("deployment.json");
    if let Some(memory) = remembered(&path)? {
        let found = deploy::find(client, memory.deployment.hub).await.wrap_err_with(|| {
            format!("{} names contracts that this chain does not have: choose another --data-dir", path.display())
        })?;
        let wanted = plan.node.hub.unwrap_or(found.hub);
        if found != memory.deployment || wanted != found.hub {
            return Err(failure::refused(format!(
                "{} belongs to hub {} on chain {}: choose another --data-dir",
                plan.data_dir.display(),
                memory.deployment.hub,
                memory.deployment.chain_id
            )));
        }
        return Ok(memory);
    }
    let start_block = client.head().await?.number;
    let deployment = match plan.node.hub {
        Some(hub) => deploy::find(client, hub).await?,
        None => {
            let (sender, lane) = Sender::open(client.clone(), keyring.admin.clone(), journal.clone(), plan.gas).await?;
            let stop = CancellationToken::new();
            let mut lanes = tokio::task::JoinSet::new();
            lanes.spawn(lane.run(stop.clone()));
            let options = deploy::Options::default();
            let deployed = deploy::deploy(client, &sender, options, |step| tracing::info!(step, "deploying")).await;
            stop.cancel();
            while lanes.join_next().await.is_some() {}
            deployed?
        }
    };
    let memory = Memory { deployment, start_block };
    remember(&path, &memory)?;
    Ok(memory)
}

fn remembered(path: &Path) -> eyre::Result<Option<Memory>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .wrap_err_with(|| format!("{} is damaged: restore it, or choose another --data-dir", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).wrap_err_with(|| format!("cannot read {}", path.display())),
    }
}

fn remember(path: &Path, memory: &Memory) -> eyre::Result<()> {
    let draft = path.with_extension("new");
    let text = serde_json::to_vec_pretty(memory).expect("memories serialise");
    let write = || {
        std::fs::write(&draft, text)?;
        std::fs::File::open(&draft)?.sync_all()?;
        std::fs::rename(&draft, path)
    };
    write().wrap_err_with(|| format!("cannot write {}", path.display()))
}

struct Published {
    app: Address,
    dataset: Address,
    workerpool: Address,
}

/// The example app and dataset, the pool, and an open order for each.
async fn publish_all(
    hub: &Hub,
    deployment: &Deployment,
    treasury: &mut Treasury,
    keyring: &Keyring,
    store: &Store,
    market_url: &str,
) -> eyre::Result<Published> {
    let admin = treasury.sender(&keyring.admin).await?;
    let owner = treasury.sender(&keyring.workerpool_owner).await?;
    let keep = |name: &str, content| -> eyre::Result<publish::Asset> {
        let cid = store.add(content).wrap_err_with(|| format!("cannot store {name}"))?.cid;
        Ok(publish::Asset { name: name.to_owned(), cid, checksum: publish::sha256(content) })
    };
    let module = keep(assets::APP_NAME, assets::APP)?;
    let prices = keep(assets::DATASET_NAME, assets::DATASET)?;
    let (app, dataset, workerpool) = tokio::try_join!(
        publish::app(hub, deployment, &admin, module),
        publish::dataset(hub, deployment, &admin, prices),
        publish::workerpool(hub, deployment, &owner, "bourse"),
    )?;
    let domain = hub.domain().await?;
    let market = Market::new(market_url, hub.client.chain_id().await?);
    let stake = hub.account(owner.address()).await?.stake;
    let volume = affordable(stake);
    if volume == 0 {
        return Err(failure::refused(format!(
            "the pool owner {} has {stake} RLC in the hub and one task locks {} RLC: deposit more",
            owner.address(),
            pool_stake()
        )));
    }
    let app_order = publish::app_order(app, Nrlc::rlc(publish::APP_PRICE));
    let app_order = publish::sign(app_order, &keyring.admin, &domain);
    let dataset_order = publish::dataset_order(dataset, Nrlc::rlc(publish::DATASET_PRICE));
    let dataset_order = publish::sign(dataset_order, &keyring.admin, &domain);
    let pool_order = publish::sign(publish::workerpool_order(workerpool, volume), &keyring.workerpool_owner, &domain);
    publish::offer(&market, &keyring.admin, &app_order, &domain).await?;
    publish::offer(&market, &keyring.admin, &dataset_order, &domain).await?;
    publish::offer(&market, &keyring.workerpool_owner, &pool_order, &domain).await?;
    Ok(Published { app, dataset, workerpool })
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

async fn start_workers(
    plan: &Plan,
    keyring: &Keyring,
    hub: &Hub,
    workerpool: Address,
    scheduler_url: &str,
    services: &mut Services,
) -> eyre::Result<()> {
    if keyring.workers.is_empty() {
        return Ok(());
    }
    let engine = bourse_worker::wasm::Engine::new().wrap_err("cannot start the WebAssembly engine")?;
    for (n, key) in keyring.workers.iter().enumerate() {
        if plan.liar && n == 1 {
            // Who comes first is served first: so the liar is among the first to answer.
            await_workers(scheduler_url, 1).await?;
        }
        let worker = services::WorkerPlan {
            name: worker_name(n),
            scheduler_url: scheduler_url.to_owned(),
            workerpool,
            dir: plan.data_dir.join(format!("worker-{}", n + 1)),
            gas: plan.gas,
            forge: plan.liar && n == 0,
            fuel: plan.fuel,
        };
        let (key, stop) = (key.clone(), services.roles.clone());
        services::worker(&mut services.jobs, worker, key, hub.clone(), engine.clone(), stop).await?;
    }
    Ok(())
}

/// Returns when every service answers and so many workers are at their post.
async fn await_answers(file: &NetworkFile, workers: usize) -> eyre::Result<()> {
    let http = bourse_service::http::client(Duration::from_secs(5));
    let chain = file.chain_id;
    for url in [
        file.market_url.as_ref().map(|u| format!("{u}/version")),
        file.scheduler_url.as_ref().map(|u| format!("{u}/version")),
        file.ipfs_gateway_url.as_ref().map(|u| format!("{u}/ipfs/{}", Cid::of(assets::DATASET))),
    ]
    .into_iter()
    .flatten()
    {
        http.get(&url)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .wrap_err("a service does not answer")?;
    }
    let answer = Client::connect(&file.rpc_url)?.chain_id().await?;
    if answer != chain {
        return Err(eyre::eyre!("{} is chain {answer}, not {chain}: another program answers there", file.rpc_url));
    }
    match &file.scheduler_url {
        Some(scheduler) => await_workers(scheduler, workers).await,
        None => Ok(()),
    }
}

/// Returns when so many workers are at their post.
async fn await_workers(scheduler: &str, count: usize) -> eyre::Result<()> {
    let patience = Instant::now() + Duration::from_secs(20);
    while connected_workers(scheduler).await? < count {
        if Instant::now() > patience {
            return Err(eyre::eyre!("not all workers reached their scheduler: run with -v to see why"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// How many workers a scheduler has.
pub(crate) async fn connected_workers(scheduler_url: &str) -> eyre::Result<usize> {
    #[derive(Deserialize)]
    struct Workers {
        workers: Vec<bourse_protocol::api::WorkerView>,
    }
    let http = bourse_service::http::client(Duration::from_secs(5));
    let answer = http.get(format!("{scheduler_url}/workers")).send().await.wrap_err("the scheduler does not answer")?;
    let workers: Workers = answer.json().await.wrap_err("the scheduler's answer is not understood")?;
    Ok(workers.workers.iter().filter(|w| w.connected).count())
}

/// Says one line of progress.
pub(crate) fn tell(text: &str) {
    output::say(&format!("  {text}"));
}

/// The wall's time, in seconds since the epoch.
pub(crate) fn now() -> u64 {
    Clock::Wall.seconds()
}
