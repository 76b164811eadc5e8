//! Starting each service with what it needs.

use crate::{failure, keyring::Keyring, waits};
use bourse_chain::{GasPolicy, Hub, PrivateKeySigner};
use bourse_devchain as devchain;
use bourse_protocol::{Address, U256};
use bourse_service::{CancellationToken, http};
use clap::Args;
use eyre::WrapErr;
use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinSet};

/// Ether that each role of the embedded chain is born with: 10,000, in wei.
const GENESIS_ETHER: u128 = 10_000 * 10u128.pow(18);
/// What a start writes in all, and as much again, in bytes.
const ROOM: usize = 10_000_000;
/// With less room than this, in bytes, something that must be written soon cannot be.
const LEAST_ROOM: u64 = 256 * 1024;
/// How often it is looked whether there is room.
const ROOM_LOOK: Duration = Duration::from_millis(500);
/// How long services may take to stop.
const STOP: Duration = Duration::from_secs(5);
/// How often a scheduler compares all open tasks with the chain.
const FULL_PASS: Duration = Duration::from_secs(15);

/// How the embedded chain is run.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Embedded {
    /// Make a block every so many seconds instead of one per transaction.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) block_time: Option<u64>,
    /// Answer evm_* and anvil_* test methods over HTTP and WebSocket: anyone on this machine can then change the chain.
    #[arg(long)]
    pub(crate) test_methods: bool,
}

/// Everything that runs, by name. When one ends with an error, the network ends with it.
pub(crate) type Jobs = JoinSet<(&'static str, eyre::Result<()>)>;

/// What runs, in the order in which it stops.
pub(crate) struct Services {
    /// Workers, scheduler and market.
    pub(crate) roles: Jobs,
    /// Stops them.
    pub(crate) stop_roles: CancellationToken,
    /// The store and the chain's port, which the roles need to the end.
    pub(crate) base: Jobs,
    /// Stops those.
    pub(crate) stop_base: CancellationToken,
}

impl Services {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        let (stop_roles, stop_base) = (CancellationToken::new(), CancellationToken::new());
        Self { roles: Jobs::new(), stop_roles, base: Jobs::new(), stop_base }
    }

    /// Waits until `stop`, or until a service fails.
    pub(crate) async fn run_until(&mut self, stop: &CancellationToken) -> eyre::Result<()> {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            failed = self.failure() => Err(failed),
        }
    }

    /// Ends when a service ends that should not have.
    pub(crate) async fn failure(&mut self) -> eyre::Report {
        tokio::select! {
            failed = first_end(&mut self.roles) => failed,
            failed = first_end(&mut self.base) => failed,
        }
    }

    /// Stops workers, scheduler and market.
    pub(crate) async fn stop_roles(&mut self) {
        self.stop_roles.cancel();
        drain(&mut self.roles).await;
    }

    /// Stops everything.
    pub(crate) async fn stop(&mut self) {
        self.stop_roles().await;
        self.stop_base.cancel();
        drain(&mut self.base).await;
    }
}

/// Ends when a job ends.
async fn first_end(jobs: &mut Jobs) -> eyre::Report {
    match jobs.join_next().await {
        Some(Ok((name, Err(error)))) => error.wrap_err(format!("the {name} stopped")),
        Some(Ok((name, Ok(())))) => eyre::eyre!("the {name} stopped by itself"),
        Some(Err(error)) => eyre::Report::new(error).wrap_err("a service crashed"),
        None => std::future::pending().await,
    }
}

/// Waits for jobs that were told to stop. What does not stop in time is dropped with the process; its journal is whole
/// at any moment.
async fn drain(jobs: &mut Jobs) {
    let all = async { while jobs.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP, all).await;
}

/// 127.0.0.1 with a port.
pub(crate) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Opens the embedded chain, whose first block gives ether to the roles.
pub(crate) fn open_chain(
    folder: Option<PathBuf>,
    embedded: &Embedded,
    keyring: &Keyring,
) -> eyre::Result<devchain::Chain> {
    let roles = keyring.roles().into_iter().map(|(_, key)| key.address());
    let genesis = roles.chain([keyring.admin.address()]).map(|a| (a, U256::from(GENESIS_ETHER))).collect();
    let mining = match embedded.block_time {
        Some(seconds) => devchain::Mining::Interval(Duration::from_secs(seconds)),
        None => devchain::Mining::OnDemand,
    };
    let config = devchain::Config { data_dir: folder, mining, genesis, distinct: true, ..Default::default() };
    devchain::Chain::open(config).wrap_err("cannot start the embedded chain")
}

/// Listens for the chain's JSON-RPC.
pub(crate) fn bind_chain(chain: &devchain::Chain, port: u16, embedded: &Embedded) -> eyre::Result<devchain::Server> {
    let config = devchain::ServerConfig { test_methods: embedded.test_methods, ..Default::default() };
    devchain::Server::bind(chain.clone(), local(port), config).wrap_err("cannot serve the embedded chain")
}

/// Listens for a service.
pub(crate) async fn bind(what: &'static str, port: u16) -> eyre::Result<(TcpListener, String)> {
    let listener = http::bind(what, local(port)).await?;
    let url = format!("http://{}", listener.local_addr().wrap_err("a listening port has no address")?);
    Ok((listener, url))
}

/// What a pool's scheduler needs to know.
pub(crate) struct SchedulerPlan {
    /// The pool.
    pub(crate) workerpool: Address,
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// The first block that can hold a deal of the pool.
    pub(crate) start_block: u64,
    /// Wallets that may work for the pool; everybody if there is no list.
    pub(crate) allowed: Option<BTreeSet<Address>>,
    /// The least machine that gets work.
    pub(crate) floor: bourse_scheduler::Floor,
    /// Where content is read and written.
    pub(crate) store_url: String,
    /// The token for writing.
    pub(crate) upload_token: String,
    /// What gas may cost.
    pub(crate) gas: GasPolicy,
}

/// Starts a scheduler.
pub(crate) async fn scheduler(
    jobs: &mut Jobs,
    plan: SchedulerPlan,
    key: PrivateKeySigner,
    hub: Hub,
    listener: TcpListener,
    stop: CancellationToken,
) -> eyre::Result<()> {
    let config = bourse_scheduler::Config {
        start_block: plan.start_block,
        allowed: plan.allowed,
        floor: plan.floor,
        gateway_url: plan.store_url.clone(),
        upload_url: plan.store_url,
        upload_token: plan.upload_token,
        gas: plan.gas,
        full_pass: FULL_PASS,
        ..bourse_scheduler::Config::new(plan.workerpool, plan.dir)
    };
    let progress = hub.client.progress();
    let (service, lane) = bourse_scheduler::Service::open(config, key, hub).await?;
    waits::tell(jobs, "the scheduler".into(), lane.watch(), Some(progress), stop.clone());
    let lane_stop = stop.clone();
    jobs.spawn(async move { ("scheduler's transactions", lane.work(lane_stop).await.map_err(Into::into)) });
    jobs.spawn(async move { ("scheduler", service.run(listener, stop).await.map_err(Into::into)) });
    Ok(())
}

/// What a worker needs to know.
pub(crate) struct WorkerPlan {
    /// Its name.
    pub(crate) name: String,
    /// Where its scheduler is, as `http://…` or `ws://…`.
    pub(crate) scheduler_url: String,
    /// The pool.
    pub(crate) workerpool: Address,
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// What gas may cost.
    pub(crate) gas: GasPolicy,
    /// Lie.
    pub(crate) forge: bool,
    /// What one run may burn.
    pub(crate) fuel: u64,
    /// A machine with fewer processors is refused.
    pub(crate) min_cpus: u32,
    /// A run takes so long at least.
    pub(crate) at_least: Duration,
}

/// Starts a worker.
pub(crate) async fn worker(
    jobs: &mut Jobs,
    plan: WorkerPlan,
    key: PrivateKeySigner,
    hub: Hub,
    engine: bourse_worker::wasm::Engine,
    drain: CancellationToken,
    stop: CancellationToken,
) -> eyre::Result<()> {
    let url = plan.scheduler_url.replacen("http", "ws", 1);
    let poll = hub.client.poll_interval();
    let config = bourse_worker::Config {
        gas: plan.gas,
        forge: plan.forge,
        min_cpus: plan.min_cpus,
        at_least: plan.at_least,
        poll,
        limits: bourse_worker::wasm::Limits { fuel: plan.fuel, ..Default::default() },
        ..bourse_worker::Config::new(&plan.name, url, plan.workerpool, plan.dir)
    };
    let service = bourse_worker::Service::open(config, key, hub, engine).await?;
    waits::tell(jobs, plan.name, service.sending(), None, stop.clone());
    jobs.spawn(async move { ("worker", service.run(drain, stop).await.map_err(Into::into)) });
    Ok(())
}

/// A secret of the network, kept in a file for its owner only; made where there is none.
pub(crate) fn secret(path: &Path) -> eyre::Result<String> {
    use std::{fs, io::Write, os::unix::fs::OpenOptionsExt};
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).wrap_err_with(|| format!("cannot read {}", path.display())),
    }
    let secret = PrivateKeySigner::random().to_bytes().to_string();
    let draft = path.with_extension("new");
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        writeln!(file, "{secret}")?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().wrap_err_with(|| format!("cannot write {}", path.display()))?;
    Ok(secret)
}

/// Makes a folder, or says what is wrong with it.
pub(crate) fn make_folder(path: &Path) -> eyre::Result<()> {
    std::fs::create_dir_all(path).map_err(|error| unusable(path, error))
}

/// Refuses a folder whose disk has no room for a start: what cannot be written waits for room, and nobody would say so.
pub(crate) fn check_room(path: &Path) -> eyre::Result<()> {
    let probe = path.join("room.probe");
    let written = std::fs::write(&probe, vec![0; ROOM]);
    // What is there for a moment only is no reason to fail.
    let _ = std::fs::remove_file(&probe);
    written.map_err(|error| unusable(path, error))
}

/// Ends when the disk of a folder is full. During a start nothing else would say so: what cannot be written waits for room.
pub(crate) async fn no_room(path: &Path) -> eyre::Report {
    loop {
        tokio::time::sleep(ROOM_LOOK).await;
        let room = rustix::fs::statvfs(path).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        if room.is_ok_and(|room| room < LEAST_ROOM) {
            return unusable(path, std::io::ErrorKind::StorageFull.into());
        }
    }
}

fn unusable(path: &Path, error: std::io::Error) -> eyre::Report {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => failure::refused(format!(
            "no room left on the disk of {}: free some space ({} MB at least), or choose another --data-dir",
            path.display(),
            ROOM / 1_000_000
        )),
        _ => eyre::Report::new(error).wrap_err(format!("cannot use {} as data directory", path.display())),
    }
}
