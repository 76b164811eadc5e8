//! Several workers in one process: each with its own key, stake, journal, folder and connection, and all of the worker's
//! own code. Only the time that their runs take is made up. Started by a bench; it ends when its stdin does.

use crate::{
    network_file::NetworkFile,
    role_commands::wait,
    services::{self, Jobs, WorkerPlan},
    shutdown,
};
use bourse_chain::{GasPolicy, Hub};
use bourse_service::CancellationToken;
use bourse_worker::wasm::{Engine, Limits};
use clap::Args;
use std::{path::PathBuf, time::Duration};
use tokio::{io::AsyncReadExt, task::JoinSet};

/// Who works where.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// The data directory of the network, whose network.json is read.
    #[arg(long)]
    pub(super) network: PathBuf,
    /// Where the scheduler listens.
    #[arg(long)]
    pub(super) scheduler_url: String,
    /// Below it each worker has its folder.
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// The first of the network's workers, from 0.
    #[arg(long)]
    pub(super) first: usize,
    /// How many of them.
    #[arg(long)]
    pub(super) workers: usize,
    /// A run takes so many milliseconds at least.
    #[arg(long)]
    pub(super) at_least: u64,
}

impl Arguments {
    /// As a command line.
    pub(super) fn line(&self) -> Vec<String> {
        let values = [
            ("--network", self.network.display().to_string()),
            ("--scheduler-url", self.scheduler_url.clone()),
            ("--dir", self.dir.display().to_string()),
            ("--first", self.first.to_string()),
            ("--workers", self.workers.to_string()),
            ("--at-least", self.at_least.to_string()),
        ];
        let values = values.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        ["bench", "hosts"].map(String::from).into_iter().chain(values).collect()
    }
}

/// Works until stdin ends, or a worker does.
pub(crate) async fn execute(arguments: Arguments) -> eyre::Result<()> {
    let mut signals = JoinSet::new();
    let stop = shutdown::on_signal(&mut signals);
    let (network, client) = NetworkFile::running(&arguments.network).await?;
    let (hub, engine) = (Hub::new(client, network.hub), Engine::new()?);
    let mut jobs = Jobs::new();
    let keys = network.keys.workers.iter().enumerate().skip(arguments.first).take(arguments.workers);
    for (n, key) in keys {
        let name = format!("worker {}", n + 1);
        let plan = WorkerPlan {
            name: name.clone(),
            scheduler_url: arguments.scheduler_url.clone(),
            workerpool: network.workerpool,
            dir: arguments.dir.join(name.replace(' ', "-")),
            gas: GasPolicy::default(),
            forge: false,
            fuel: Limits::default().fuel,
            // All of them share this machine.
            min_cpus: 1,
            at_least: Duration::from_millis(arguments.at_least),
        };
        let (key, drain, stop) = (key.signer()?, CancellationToken::new(), stop.clone());
        services::worker(&mut jobs, plan, key, hub.clone(), engine.clone(), drain, stop).await?;
    }
    let orphaned = stop.clone();
    signals.spawn(async move {
        let mut nothing = [0; 64];
        while tokio::io::stdin().read(&mut nothing).await.is_ok_and(|bytes| bytes > 0) {}
        orphaned.cancel();
    });
    wait(jobs, stop).await
}
