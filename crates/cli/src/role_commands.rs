//! `bourse scheduler` and `bourse worker`: one role as a process of its own, on a network that runs elsewhere.

use crate::{
    args::{DataDir, Depth, Fuel, Gas},
    network_file::NetworkFile,
    output,
    run::need,
    services::{self, Jobs, SchedulerPlan, WorkerPlan},
    shutdown,
};
use bourse_chain::{Hub, keys};
use bourse_protocol::Address;
use bourse_scheduler::Floor;
use bourse_service::CancellationToken;
use clap::{ArgAction, Args};
use std::{path::PathBuf, time::Duration};
use tokio::task::JoinSet;

/// How to run a scheduler.
#[derive(Debug, Args)]
pub(crate) struct SchedulerArguments {
    /// The data directory of the network, whose network.json is read.
    #[arg(long, value_name = "DIR")]
    network: PathBuf,
    #[command(flatten)]
    data_dir: DataDir,
    /// The pool owner's key: a file with 64 hex digits [default: the key in network.json].
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The port on 127.0.0.1 for workers and people; 0 takes any free one.
    #[arg(long, default_value_t = 7442)]
    port: u16,
    /// The first block that can hold a deal of the pool.
    #[arg(long, default_value_t = 0)]
    start_block: u64,
    /// A wallet that may work for the pool; may be given several times [default: everybody].
    #[arg(long, value_name = "ADDRESS", action = ArgAction::Append, value_delimiter = ',')]
    allow: Vec<Address>,
    #[command(flatten)]
    floor: LeastMachine,
    #[command(flatten)]
    depth: Depth,
    #[command(flatten)]
    gas: Gas,
}

/// The least machine that gets work.
#[derive(Debug, Args)]
struct LeastMachine {
    /// Workers with fewer processors get no work.
    #[arg(long, value_name = "N", default_value_t = 0)]
    least_cpus: u32,
    /// Workers with less memory get no work, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    least_memory: u64,
    /// Workers with less room on the disk get no work, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    least_disk: u64,
}

impl LeastMachine {
    fn floor(&self) -> Floor {
        Floor { cpus: self.least_cpus, memory_mib: self.least_memory, disk_mib: self.least_disk }
    }
}

/// How to run a worker.
#[derive(Debug, Args)]
pub(crate) struct WorkerArguments {
    /// The data directory of the network, whose network.json is read.
    #[arg(long, value_name = "DIR")]
    network: PathBuf,
    #[command(flatten)]
    data_dir: DataDir,
    /// This worker's key: a file with 64 hex digits. One wallet serves one worker.
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// Where the scheduler listens [default: schedulerUrl of network.json].
    #[arg(long, value_name = "URL")]
    scheduler_url: Option<String>,
    /// What the worker is called.
    #[arg(long, env = "IEXEC_WORKER_NAME", default_value = "worker")]
    name: String,
    /// A machine with fewer processors is refused.
    #[arg(long, default_value_t = 2, value_name = "N")]
    min_cpus: u32,
    #[command(flatten)]
    fuel: Fuel,
    #[command(flatten)]
    depth: Depth,
    #[command(flatten)]
    gas: Gas,
}

/// Runs a scheduler until Ctrl-C.
pub(crate) async fn scheduler(arguments: SchedulerArguments) -> eyre::Result<()> {
    let mut signals = JoinSet::new();
    let stop = shutdown::on_signal(&mut signals);
    let Some((network, client)) = NetworkFile::awaited(&arguments.network, &stop).await? else { return Ok(()) };
    let key = match &arguments.key_file {
        Some(path) => keys::read(path)?,
        None => network.keys.workerpool_owner.signer()?,
    };
    let (listener, url) = services::bind("the scheduler", arguments.port).await?;
    let plan = SchedulerPlan {
        workerpool: network.workerpool,
        dir: arguments.data_dir.path(),
        start_block: arguments.start_block,
        allowed: (!arguments.allow.is_empty()).then(|| arguments.allow.iter().copied().collect()),
        floor: arguments.floor.floor(),
        store_url: need(&network.ipfs_gateway_url, "result store")?.to_owned(),
        upload_token: services::secret(&arguments.network.join("upload.token"))?,
        gas: arguments.gas.policy(),
    };
    let hub = Hub::new(arguments.depth.of(client), network.hub);
    let mut jobs = Jobs::new();
    services::scheduler(&mut jobs, plan, key, hub, listener, stop.clone()).await?;
    output::say(&format!("scheduler of pool {} listens at {url}; Ctrl-C stops it", network.workerpool));
    wait(jobs, stop).await
}

/// Runs a worker until Ctrl-C, or until SIGTERM and the end of what it has begun.
pub(crate) async fn worker(arguments: WorkerArguments) -> eyre::Result<()> {
    let mut signals = JoinSet::new();
    let (drain, stop) = shutdown::draining_on_signal(&mut signals);
    // While it waits for its node it has begun nothing, and a wish to finish first stops it at once.
    let Some((network, client)) = NetworkFile::awaited(&arguments.network, &drain).await? else { return Ok(()) };
    let key = keys::read(&arguments.key_file)?;
    let scheduler_url = match arguments.scheduler_url {
        Some(url) => url,
        None => need(&network.scheduler_url, "scheduler; name one with --scheduler-url")?.to_owned(),
    };
    let plan = WorkerPlan {
        name: arguments.name,
        scheduler_url,
        workerpool: network.workerpool,
        dir: arguments.data_dir.path(),
        gas: arguments.gas.policy(),
        forge: false,
        fuel: arguments.fuel.units,
        min_cpus: arguments.min_cpus,
        at_least: Duration::ZERO,
    };
    let hub = Hub::new(arguments.depth.of(client), network.hub);
    let engine = bourse_worker::wasm::Engine::new()?;
    let mut jobs = Jobs::new();
    output::say(&format!(
        "worker {} works for pool {}; Ctrl-C stops it, SIGTERM lets it finish first",
        key.address(),
        network.workerpool
    ));
    services::worker(&mut jobs, plan, key, hub, engine, drain, stop.clone()).await?;
    wait(jobs, stop).await
}

/// Until the stop is asked for, or a part fails.
pub(crate) async fn wait(mut jobs: Jobs, stop: CancellationToken) -> eyre::Result<()> {
    let mut outcome = Ok(());
    while let Some(ended) = jobs.join_next().await {
        let (name, result) = ended?;
        if let Err(error) = result {
            outcome = Err(error.wrap_err(format!("the {name} stopped")));
        }
        stop.cancel();
    }
    outcome
}
