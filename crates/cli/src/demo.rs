//! `bourse demo`: the whole market at work, once, for somebody who has never seen it.

use crate::{
    args::{Gas, Node, absolute},
    buy::{self, Buyer, Outcome, Purchase, Waiting, Wish},
    failure,
    keyring::worker_name,
    network::{self, Here, Network, Plan},
    network_file, observer, output,
    publish::POOL_TRUST,
    report::{self, GasLine, Line, Pricing, Report, Stage},
    run::too_few,
    services::{self, Embedded},
    shutdown,
};
use bourse_chain::Hub;
use bourse_market::client::Client as Market;
use bourse_protocol::{Address, B256, U256, abi::IHub::IHubEvents, api::TaskView, consensus, money::Nrlc};
use bourse_service::CancellationToken;
use bourse_worker::wasm::Limits;
use clap::Args;
use eyre::WrapErr;
use observer::Seen;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinSet};

/// Strike of the option that is priced, in dollars.
const STRIKE: u32 = 450;

/// How to show it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Let one worker forge its result.
    #[arg(long)]
    liar: bool,
    /// How many workers, the liar included [default: as many as the trust needs].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: Option<u32>,
    /// How hard the answer is checked: 1 one worker, 5 three that agree, 16 four, 1024 ten.
    #[arg(long, value_name = "N", default_value_t = 5)]
    trust: u64,
    /// How many paths the simulation draws.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000_000))]
    paths: u64,
    /// One JSON document on stdout, talk on stderr.
    #[arg(long)]
    json: bool,
    /// Keep everything in this folder [default: a temporary one; only the result is kept, in $XDG_DATA_HOME/bourse].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    gas: Gas,
}

impl Arguments {
    /// How many workers there are, or a refusal that says how many the trust needs.
    fn crew(&self) -> eyre::Result<u32> {
        if self.trust > POOL_TRUST {
            return Err(failure::refused(format!(
                "trust {} is more than the {POOL_TRUST} that this demonstration's pool offers: lower --trust",
                self.trust
            )));
        }
        let liars = u32::from(self.liar);
        let needed = consensus::workers_needed_against(U256::from(self.trust), liars) + liars;
        let crew = self.workers.unwrap_or(needed);
        if crew < needed {
            let honest = needed - liars;
            return Err(failure::refused(match self.liar {
                true => format!(
                    "trust {} beside a liar needs {honest} workers that agree, {needed} in all, and --workers is {crew}: raise it, or lower --trust",
                    self.trust
                ),
                false => too_few(self.trust, needed, crew as usize),
            }));
        }
        Ok(crew)
    }
}

/// Shows it.
pub(crate) async fn execute(arguments: Arguments) -> eyre::Result<()> {
    let started = Instant::now();
    let crew = arguments.crew()?;
    let mut signals = JoinSet::new();
    let stop = shutdown::on_signal(&mut signals);
    // On the embedded chain nothing but the result is kept; elsewhere keys that hold money must survive a crash.
    let remote = arguments.node.rpc_url().is_some();
    let given = arguments.data_dir.clone().map(absolute);
    let temporary = match (&given, remote) {
        (None, false) => {
            Some(tempfile::Builder::new().prefix("bourse-demo-").tempdir().wrap_err("no temporary folder")?)
        }
        _ => None,
    };
    let data_dir = match &temporary {
        Some(folder) => folder.path().to_owned(),
        None => given.clone().unwrap_or_else(|| network_file::default_data_dir().join("demo")),
    };
    let results = given.unwrap_or_else(network_file::default_data_dir).join("demo-results");
    let plan = Plan {
        data_dir,
        node: arguments.node.clone(),
        embedded: Embedded::default(),
        port: 0,
        workers: crew,
        liar: arguments.liar,
        here: Here::All,
        fuel: Limits::default().fuel,
        gas: arguments.gas.policy(),
    };
    output::say(
        "A market for computing starts up:\na chain, a market, a store, a pool with its scheduler, and workers",
    );
    let (network, mut watch) = Network::start(plan, &network::tell, &stop).await?;
    let shown = tokio::select! {
        shown = show(&arguments, &network, started, &results) => shown,
        () = stop.cancelled() => Err(failure::interrupted("stopped in the middle; what was bought is gone with this demonstration's chain")),
        failed = watch.failure() => Err(failed),
    };
    if remote {
        output::say("\nTaking back what is left over");
    }
    let stopped = network.stop(watch).await;
    let report = shown?;
    match arguments.json {
        true => output::json(&report),
        false => output::data(&report::text(&report)),
    }
    stopped
}

/// Buys, watches, waits, and sums up.
async fn show(arguments: &Arguments, network: &Network, started: Instant, results: &Path) -> eyre::Result<Report> {
    let hub = &network.hub;
    let cast = Cast::of(network, arguments.liar);
    cast.introduce(arguments);
    let before = cast.balances(hub).await?;
    let (events, mut seen) = mpsc::unbounded_channel();
    let mut watchers = JoinSet::new();
    let watching = CancellationToken::new();
    watchers.spawn(observer::watch(hub.clone(), network.ready_block + 1, events, watching.clone()));

    let market_url = network.file.market_url.as_deref().unwrap_or_default();
    let market = Market::new(market_url, network.file.chain_id);
    let wish = Wish {
        app: network.registered.app,
        dataset: Some(network.registered.dataset),
        args: format!("--strike {STRIKE} --maturity 1 --rate 0.01 --paths {}", arguments.paths),
        trust: arguments.trust,
        category: 0,
        max_price: None,
        once: None,
    };
    let key = &network.keyring.requester;
    let buyer = Buyer { hub, rlc: network.deployment.rlc, market: &market, key, sender: &network.requester };
    let (bought_at, purchase) = {
        let orders = buyer.prepare(&wish).await?;
        let at = Instant::now();
        (at, buyer.buy(&orders).await?)
    };
    let (gateway, scheduler) = (network.file.ipfs_gateway_url.as_deref(), network.file.scheduler_url.as_deref());
    let mut story = Story { cast: &cast, started, moments: Vec::new(), transactions: Vec::new() };
    let mut silent = Silent;
    let waiting = buy::await_result(hub, purchase.task, gateway.unwrap_or_default(), scheduler, &mut silent);
    tokio::pin!(waiting);
    let outcome = loop {
        tokio::select! {
            outcome = &mut waiting => break outcome?,
            Some(event) = seen.recv() => story.take(event),
        }
    };
    let ended = Instant::now();
    // The last events may still be on their way here.
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(500), seen.recv()).await {
        story.take(event);
        if story.finalized() {
            break;
        }
    }
    watching.cancel();
    while watchers.join_next().await.is_some() {}
    let after = cast.balances(hub).await?;
    sum_up(
        arguments,
        network,
        &story,
        Balances { before, after },
        &purchase,
        outcome,
        (started, bought_at, ended),
        results,
    )
    .await
}

/// Who takes part, with names.
struct Cast {
    names: Vec<(String, Address)>,
    liar: Option<Address>,
}

struct Balance {
    money: Nrlc,
    score: U256,
}

struct Balances {
    before: Vec<Balance>,
    after: Vec<Balance>,
}

impl Cast {
    fn of(network: &Network, liar: bool) -> Self {
        let k = &network.keyring;
        let mut names = vec![
            ("requester".to_owned(), k.requester.address()),
            ("author of app and dataset".to_owned(), k.admin.address()),
            ("pool owner".to_owned(), k.workerpool_owner.address()),
        ];
        names.extend(k.workers.iter().enumerate().map(|(n, w)| {
            let name = if liar && n == 0 { format!("{} (the liar)", worker_name(n)) } else { worker_name(n) };
            (name, w.address())
        }));
        Self { names, liar: liar.then(|| k.workers[0].address()) }
    }

    fn introduce(&self, arguments: &Arguments) {
        let workers = self.names.len() - 3;
        output::say(&format!(
            "\nA requester wants to know what the right to buy one Apple share\n\
             for {STRIKE} $ in a year is worth. She buys a computation: an app (1 RLC),\n\
             a dataset of prices (2 RLC), and a pool's machines (10 RLC).\n\
             She asks for trust {}: workers that do not know each other\n\
             must give the same answer. {workers} stand by.{}\n",
            arguments.trust,
            match self.liar {
                Some(_) =>
                    "\nWorker 1 is a liar: it computes nothing and forges an answer,\nbefore the others are done.",
                None => "",
            }
        ));
    }

    fn name(&self, address: Address) -> String {
        let known = self.names.iter().find(|(_, a)| *a == address);
        known.map_or_else(|| address.to_string(), |(name, _)| name.clone())
    }

    async fn balances(&self, hub: &Hub) -> eyre::Result<Vec<Balance>> {
        let mut all = Vec::new();
        for (_, address) in &self.names {
            let account = hub.account(*address).await?;
            let money = account.stake.checked_add(account.locked).unwrap_or(account.stake);
            all.push(Balance { money, score: hub.score(*address).await? });
        }
        Ok(all)
    }
}

/// What happened, as it happened.
struct Story<'a> {
    cast: &'a Cast,
    started: Instant,
    moments: Vec<(&'static str, Instant)>,
    transactions: Vec<B256>,
}

impl Story<'_> {
    fn take(&mut self, seen: Seen) {
        if self.transactions.last() != Some(&seen.transaction) {
            self.transactions.push(seen.transaction);
        }
        let who = |a: &Address| self.cast.name(*a);
        let short = |b: &B256| format!("{}…", &b.to_string()[..10]);
        let (moment, text) = match &seen.event {
            IHubEvents::OrdersMatched(_) => {
                ("match", "the four orders are a deal; the price is locked in the hub".to_owned())
            }
            IHubEvents::TaskInitialize(_) => {
                ("initialize", "the pool's scheduler opens the task and gives it to workers".into())
            }
            IHubEvents::TaskContribute(e) => {
                ("contribute", format!("{} commits to an answer, sealed as {}", who(&e.worker), short(&e.hash)))
            }
            IHubEvents::TaskConsensus(e) => {
                ("consensus", format!("enough weight is behind {}: consensus", short(&e.consensus)))
            }
            IHubEvents::TaskReveal(e) => {
                ("reveal", format!("{} shows its answer: {}", who(&e.worker), short(&e.digest)))
            }
            IHubEvents::TaskFinalize(_) => ("finalize", "the task is finalised; everybody is paid".into()),
            IHubEvents::FaultyContribution(e) => ("", format!("{} was wrong and loses its stake", who(&e.worker))),
            IHubEvents::Reward(e) => ("", format!("  + {} RLC to {}", Nrlc(e.amount), who(&e.owner))),
            _ => return,
        };
        output::say(&format!("{:>8.3} s  {text}", (seen.at - self.started).as_secs_f64()));
        if !moment.is_empty() {
            self.moments.push((moment, seen.at));
        }
    }

    fn finalized(&self) -> bool {
        self.moments.iter().any(|(m, _)| *m == "finalize")
    }

    fn first(&self, moment: &str) -> Option<Instant> {
        self.moments.iter().find(|(m, _)| *m == moment).map(|(_, at)| *at)
    }

    fn last(&self, moment: &str) -> Option<Instant> {
        self.moments.iter().rev().find(|(m, _)| *m == moment).map(|(_, at)| *at)
    }
}

/// Progress is told by the chain's events here.
struct Silent;

impl Waiting for Silent {
    fn progress(&mut self, _: &TaskView) {}

    fn obstacles(&mut self, _: BTreeMap<String, String>) {}

    fn unreachable(&mut self, _: &bourse_chain::Error) {}
}

/// The app's own result file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Priced {
    price: f64,
    standard_error: f64,
    spot: f64,
    volatility: f64,
    strike: f64,
    maturity: f64,
    rate: f64,
    paths: u64,
}

#[expect(clippy::too_many_arguments, reason = "a summary takes what it sums up")]
async fn sum_up(
    arguments: &Arguments,
    network: &Network,
    story: &Story<'_>,
    balances: Balances,
    purchase: &Purchase,
    outcome: Outcome,
    (started, bought_at, ended): (Instant, Instant, Instant),
    results: &Path,
) -> eyre::Result<Report> {
    if let Some(failed) = outcome.failure() {
        return Err(failure::computation(format!("the computation failed, and all workers agree on it: {failed}")));
    }
    let priced: Priced =
        serde_json::from_slice(&outcome.content).wrap_err("the result is not that of the pricing app")?;
    let Priced { price, standard_error, spot, volatility, strike, maturity, rate, paths } = priced;
    let closed_form = report::black_scholes(spot, strike, maturity, rate, volatility);
    let gas = gas(&network.hub, &story.transactions).await?;
    Ok(Report {
        ok: true,
        task: purchase.task.to_string(),
        deal: purchase.deal.to_string(),
        trust: arguments.trust,
        pricing: Pricing { price, standard_error, closed_form, spot, strike, maturity, rate, volatility, paths },
        timeline: timeline(network, story, bought_at, ended),
        total_seconds: (ended - started).as_secs_f64(),
        accounts: lines(story.cast, &balances),
        total_gas: gas.iter().map(|g| g.gas).sum(),
        gas,
        result_file: save(results, purchase, &outcome)?,
        location: outcome.link.location,
        digest: outcome.digest.to_string(),
        peak_memory_bytes: peak_memory(),
    })
}

fn timeline(network: &Network, story: &Story<'_>, bought_at: Instant, ended: Instant) -> Vec<Stage> {
    let mut stages: Vec<Stage> = network
        .started
        .iter()
        .map(|(what, seconds)| Stage { stage: format!("start: {what}"), seconds: *seconds })
        .collect();
    let mut from = bought_at;
    for (stage, until) in [
        ("orders matched", story.first("match")),
        ("task opened", story.first("initialize")),
        ("first answer committed (download and compute)", story.first("contribute")),
        ("consensus", story.last("consensus")),
        ("answers revealed", story.last("reveal")),
        ("result uploaded, task finalised and paid", story.last("finalize")),
        ("result downloaded and checked", Some(ended)),
    ] {
        // What was seen out of order took no time of its own.
        let until = until.unwrap_or(from).max(from);
        stages.push(Stage { stage: stage.into(), seconds: (until - from).as_secs_f64() });
        from = until;
    }
    stages
}

fn lines(cast: &Cast, balances: &Balances) -> Vec<Line> {
    // The first three are no workers.
    let who = cast.names.iter().enumerate().map(|(n, (who, address))| (who, *address, n >= 3));
    who.zip(balances.before.iter().zip(&balances.after))
        .map(|((who, address, is_worker), (before, after))| Line {
            who: who.clone(),
            address,
            before: before.money,
            after: after.money,
            score_before: is_worker.then(|| report::score(before.score)),
            score_after: is_worker.then(|| report::score(after.score)),
            note: note(cast.liar == Some(address), is_worker, before, after).into(),
        })
        .collect()
}

fn note(is_liar: bool, is_worker: bool, before: &Balance, after: &Balance) -> &'static str {
    match (is_liar, after.money == before.money) {
        (true, _) if before.score.is_zero() => "its stake went to the others; a fresh liar has no score to lose",
        (true, _) => "its stake went to the others",
        (false, true) if is_worker => "was not needed",
        (false, _) => "",
    }
}

/// Gas by kind of call, in the order of the first.
async fn gas(hub: &Hub, transactions: &[B256]) -> eyre::Result<Vec<GasLine>> {
    let mut lines: Vec<GasLine> = Vec::new();
    let mut counted = BTreeMap::new();
    for hash in transactions {
        if counted.insert(*hash, ()).is_some() {
            continue;
        }
        let Some((call, _, gas)) = observer::gas_of(hub, *hash).await? else { continue };
        match lines.iter_mut().find(|l| l.call == call) {
            Some(line) => {
                line.count += 1;
                line.gas += gas;
            }
            None => lines.push(GasLine { call, count: 1, gas }),
        }
    }
    Ok(lines)
}

fn save(folder: &Path, purchase: &Purchase, outcome: &Outcome) -> eyre::Result<PathBuf> {
    services::make_folder(folder)?;
    let path = folder.join(format!("{}.json", purchase.task));
    std::fs::write(&path, &outcome.content)
        .wrap_err_with(|| format!("cannot save the result to {}", path.display()))?;
    Ok(path)
}

/// The largest memory of this process so far.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}
