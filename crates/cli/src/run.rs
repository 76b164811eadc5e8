//! `bourse run`: buy a computation on a running network and download the result.

use crate::{
    args::{DataDir, Gas},
    buy::{self, Buyer, Outcome, Purchase, Waiting, Wish},
    failure,
    names::{self, Kind},
    network_file::NetworkFile,
    output, ready, shutdown,
    turn::Turn,
};
use bourse_chain::{Hub, PrivateKeySigner, Sender, deploy, keys};
use bourse_market::client::Client as Market;
use bourse_protocol::{U256, api::TaskView, consensus, money::Nrlc, replicate::Status, task::Stage};
use bourse_service::CancellationToken;
use clap::Args;
use eyre::WrapErr;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Instant,
};
use tokio::task::JoinSet;

/// What to buy.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The app: its address or its registered name.
    #[arg(long)]
    app: String,
    /// The dataset: its address or its registered name.
    #[arg(long)]
    dataset: Option<String>,
    /// The app's arguments, as one command line.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    args: String,
    /// How hard the answer is checked: 1 one worker, 5 three that agree, 16 four, 1024 ten.
    #[arg(long, default_value_t = 1)]
    trust: u64,
    /// The category of work, which sets the time: 0 XS (5 minutes) to 4 XL (10 hours).
    #[arg(long, default_value_t = 0)]
    category: u64,
    /// The most that it may cost in all, in RLC.
    #[arg(long, value_name = "RLC")]
    max_price: Option<Nrlc>,
    /// Buy at most once under this key: repeating the command never pays twice.
    #[arg(long, value_name = "KEY")]
    once: Option<String>,
    /// Where the result goes [default: TASK.result in this folder, TASK being its id].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Pay with this key instead of the network's requester: a file with 64 hex digits.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    gas: Gas,
}

/// A service that this command needs and the network does not have.
pub(crate) fn need<'a>(url: &'a Option<String>, what: &str) -> eyre::Result<&'a str> {
    url.as_deref().ok_or_else(|| failure::refused(format!("this network has no {what}: start one that has")))
}

/// Buys, waits, downloads.
pub(crate) async fn execute(arguments: Arguments) -> eyre::Result<()> {
    let mut signals = JoinSet::new();
    let stop = shutdown::on_signal(&mut signals);
    let data_dir = arguments.data_dir.path();
    let (network, client) = NetworkFile::running(&data_dir).await?;
    let key = match &arguments.key_file {
        Some(path) => keys::read(path)?,
        None => network.keys.requester.signer()?,
    };
    let started = Instant::now();
    let hub = Hub::new(client, network.hub);
    let buying = async {
        let turn = Turn::take(&hub, &key, &data_dir, &arguments.gas).await?;
        let bought = purchase(&arguments, &network, &hub, &key, &turn.sender).await;
        turn.end().await;
        bought
    };
    let purchase = tokio::select! {
        bought = buying => bought?,
        () = stop.cancelled() => return Err(failure::interrupted(
            "stopped: nothing was bought, or the purchase stands on chain; `bourse task list` shows it",
        )),
    };
    finish(&arguments, &network, &hub, &purchase, started, &stop).await
}

async fn purchase(
    arguments: &Arguments,
    network: &NetworkFile,
    hub: &Hub,
    key: &PrivateKeySigner,
    sender: &Sender,
) -> eyre::Result<Purchase> {
    let market = Market::new(need(&network.market_url, "market")?, network.chain_id);
    let contracts = deploy::find(&hub.client, hub.address).await?;
    let app = names::resolve(hub, contracts.app_registry, Kind::App, &arguments.app).await?;
    let dataset = match &arguments.dataset {
        Some(name) => Some(names::resolve(hub, contracts.dataset_registry, Kind::Dataset, name).await?),
        None => None,
    };
    if let Some(scheduler) = &network.scheduler_url {
        check_workers(scheduler, arguments.trust).await?;
    }
    let wish = Wish {
        app,
        dataset,
        args: arguments.args.clone(),
        trust: arguments.trust,
        category: arguments.category,
        max_price: arguments.max_price,
        once: arguments.once.clone(),
    };
    let buyer = Buyer { hub, rlc: network.rlc, market: &market, key, sender };
    let orders = buyer.prepare(&wish).await?;
    let purchase = buyer.buy(&orders).await?;
    output::say(&format!("bought task {} for {} RLC", purchase.task, purchase.price));
    Ok(purchase)
}

/// Refuses a trust for which there are not enough workers.
pub(crate) async fn check_workers(scheduler: &str, trust: u64) -> eyre::Result<()> {
    let needed = consensus::fresh_workers_needed(U256::from(trust));
    let there = ready::connected_workers(scheduler).await?;
    if there < needed as usize {
        return Err(failure::refused(too_few(trust, needed, there)));
    }
    Ok(())
}

/// What to say when a trust needs more workers than there are.
pub(crate) fn too_few(trust: u64, needed: u32, there: usize) -> String {
    format!(
        "trust {trust} needs {needed} workers that agree and there are {there}: start {} more, or lower --trust",
        needed as usize - there
    )
}

async fn finish(
    arguments: &Arguments,
    network: &NetworkFile,
    hub: &Hub,
    purchase: &Purchase,
    started: Instant,
    stop: &CancellationToken,
) -> eyre::Result<()> {
    let gateway = need(&network.ipfs_gateway_url, "result store")?;
    let mut narrator = Narrator::default();
    let waiting = buy::await_result(hub, purchase.task, gateway, network.scheduler_url.as_deref(), &mut narrator);
    let outcome = tokio::select! {
        outcome = waiting => outcome?,
        () = stop.cancelled() => return Err(failure::interrupted(format!(
            "stopped waiting; the computation goes on: `bourse task result {}` fetches what comes of it",
            purchase.task
        ))),
    };
    let path = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.result", purchase.task)));
    deliver(&outcome, &path, purchase, started, arguments.json)
}

/// Saves a result and says what it is.
pub(crate) fn deliver(
    outcome: &Outcome,
    path: &Path,
    purchase: &Purchase,
    started: Instant,
    as_json: bool,
) -> eyre::Result<()> {
    if let Some(failed) = outcome.failure() {
        return Err(failure::computation(format!(
            "the computation failed, and all workers agree on it: {failed}; task {} was paid for the work done",
            purchase.task
        )));
    }
    std::fs::write(path, &outcome.content).wrap_err_with(|| {
        format!("cannot save the result to {}: it stays at {}", path.display(), outcome.link.location)
    })?;
    let seconds = started.elapsed().as_secs_f64();
    if as_json {
        output::json(&json!({
            "ok": true,
            "task": purchase.task,
            "deal": purchase.deal,
            "price": purchase.price,
            "resultFile": path,
            "location": outcome.link.location,
            "digest": outcome.digest,
            "seconds": seconds,
        }));
    } else {
        output::say(&format!("result checked against the chain after {seconds:.1} s; saved to"));
        output::data(&path.display().to_string());
    }
    Ok(())
}

/// Says what changes while a task is waited for.
#[derive(Default)]
pub(crate) struct Narrator {
    said: BTreeMap<String, Status>,
    stage: Option<Stage>,
    obstacle: Option<String>,
    /// Of the pool.
    obstacles: BTreeSet<String>,
    unreachable: bool,
}

impl Waiting for Narrator {
    fn unreachable(&mut self, error: &bourse_chain::Error) {
        if !std::mem::replace(&mut self.unreachable, true) {
            output::say(&format!("  {error}; waiting for it: Ctrl-C stops waiting, not the computation"));
        }
    }

    fn obstacles(&mut self, of_the_pool: BTreeMap<String, String>) {
        for (what, words) in &of_the_pool {
            if !self.obstacles.contains(what) {
                output::say(&format!("  the pool: {words}"));
            }
        }
        if of_the_pool.is_empty() && !self.obstacles.is_empty() {
            output::say("  the pool: goes on");
        }
        self.obstacles = of_the_pool.into_keys().collect();
    }

    fn progress(&mut self, task: &TaskView) {
        self.unreachable = false;
        if self.stage.replace(task.current_status) != Some(task.current_status) {
            output::say(&format!("  task: {}", task.current_status));
        }
        for r in &task.replicates {
            let name = if r.worker_name.is_empty() { r.wallet_address.to_string() } else { r.worker_name.clone() };
            if self.said.insert(name.clone(), r.current_status) != Some(r.current_status) {
                let cause = r.cause.as_ref().map(|c| format!(" ({c})")).unwrap_or_default();
                output::say(&format!("  {name}: {}{cause}", r.current_status.meaning()));
            }
        }
        let obstacle = task.cause.as_ref().map(ToString::to_string);
        if obstacle.is_some() && obstacle != self.obstacle {
            let why = obstacle.as_deref().unwrap_or_default();
            let refund = bourse_service::clock::iso8601(task.final_deadline.saturating_mul(1000));
            output::say(&match task.current_status {
                Stage::Initialized | Stage::Running => {
                    format!("  nobody is working on it: {why}; a refund is due at {refund} if no other worker comes")
                }
                Stage::Completed | Stage::Failed => format!("  {why}"),
                _ => format!("  it is held up: {why}; a refund is due at {refund} if it does not go on"),
            });
        }
        self.obstacle = obstacle;
    }
}
