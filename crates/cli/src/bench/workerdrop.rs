//! `bourse bench workerdrop`: the public runs of 2018, replayed with real processes in ten minutes.
//!
//! A day becomes ten minutes: 144 times as fast. About 170 orders of three replicates, 395 s of computing for each (2.74 s
//! here), 311 workers, a restart of the scheduler at 08:10, a node that is out of step from six to twelve o'clock, events
//! twice, transactions lost. `bourse-sim --workerdrop` replays the same day with all of its seconds.

use super::{
    figures::percentile,
    hosts,
    nodes::{Faults, Nodes},
    published,
    shop::{Shop, Terms},
    stack::{self, Stack},
    story::{self, Story},
    workers,
};
use crate::{failure, output, ready, shutdown};
use bourse_chain::Hub;
use bourse_protocol::{Address, ids::TaskId, money::Nrlc};
use clap::Args;
use eyre::WrapErr;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

/// So many times as fast as in 2018.
const FACTOR: f64 = 144.0;
/// A day, in seconds.
const DAY: f64 = 86_400.0;
/// Computing of a replicate, in seconds of 2018.
const COMPUTING: f64 = 395.0;
/// Orders of a day.
const ORDERS: f64 = 170.0;
/// Orders come until an hour before midnight.
const SEASON: f64 = 23.0 / 24.0;
/// The scheduler is restarted at 08:10.
const RESTART: f64 = (8.0 * 60.0 + 10.0) / (24.0 * 60.0);
/// The third node is out of step from six to twelve.
const STRAY: Range<f64> = 0.25..0.5;
/// By so many blocks of a second: a quarter of an hour of 2018.
const BEHIND: u64 = 7;
/// The period T of the category: an hour of 2018, in seconds.
const PERIOD: u64 = 25;
/// Three workers that agree.
const TRUST: u64 = 5;
/// Blocks that an order waits for: opening, contributing, revealing and finalizing follow each other.
const BLOCKS: f64 = 4.0;
/// Workers of one process.
const HOSTED: usize = 65;
/// How long all workers may take to log in, on a machine that is busy with other things.
const LOGINS: Duration = Duration::from_secs(300);
/// An order has ended so long after its purchase, in seconds: ten periods, the claim, and blocks.
const OVER: u64 = 10 * PERIOD + 60;
/// What is neither computing nor waiting for blocks is less than this part of the mean order time, in percent. What the nodes'
/// faults cost is in it.
const OVERHEAD: f64 = 5.0;
/// How often it is looked what is due, who is there, and what is told.
const TICK: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_secs(1);
const TELL: Duration = Duration::from_secs(15);

/// What to replay.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Into how many minutes the day is pressed. The computing of a replicate takes 2.74 s in any case.
    #[arg(long, value_name = "M", default_value = "10", value_parser = minutes)]
    minutes: f64,
    /// How many orders are bought [default: 17 per minute].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    orders: Option<u64>,
    /// How many workers there are, each with its own key, stake and journal.
    #[arg(long, value_name = "N", default_value_t = 311, value_parser = clap::value_parser!(u32).range(3..=2_000))]
    workers: u32,
    /// Keep the processes' files in this folder, which must be new [default: a temporary one beside the data directory].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Only show the overhead: exit code 0 though it is 5 % of the mean order time or more. All orders must be finalised in
    /// any case.
    #[arg(long)]
    no_limits: bool,
    /// One JSON document on stdout instead of a table.
    #[arg(long)]
    json: bool,
}

/// From half a minute to a day.
fn minutes(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is not a number such as 1.5"))?;
    if (0.5..=1_440.0).contains(&value) { Ok(value) } else { Err("choose between 0.5 and 1440".into()) }
}

impl Arguments {
    fn orders(&self) -> u64 {
        self.orders.unwrap_or((self.minutes * ORDERS * FACTOR / (DAY / 60.0)).round() as u64).max(1)
    }

    /// So much of the day.
    fn part(&self, of: f64) -> Duration {
        Duration::from_secs_f64(self.minutes * 60.0 * of)
    }
}

/// Replays and shows it.
pub(crate) async fn execute(arguments: Arguments) -> eyre::Result<()> {
    let mut signals = JoinSet::new();
    let stop = shutdown::on_signal(&mut signals);
    let (folder, _kept) = workers::folder(arguments.data_dir.clone())?;
    let mut stack = Stack::new(folder)?;
    let replayed = tokio::select! {
        replayed = replay(&arguments, &mut stack) => replayed,
        () = stop.cancelled() => Err(failure::interrupted("stopped in the middle of the replay")),
    };
    stack.stop().await;
    let outcome = replayed?;
    match arguments.json {
        true => output::json(&outcome.json(&arguments)),
        false => output::data(&outcome.text()),
    }
    outcome.judge(arguments.no_limits)
}

/// Sets the stage, plays the day, looks back.
async fn replay(arguments: &Arguments, stack: &mut Stack) -> eyre::Result<Outcome> {
    let tell = |text: &str| output::say(&format!("  {text}"));
    tell(&format!("starting a chain with a block every second, and funding {} workers", arguments.workers));
    let network = stack.open(arguments.workers).await?;
    let hub = stack::hub(&network)?;
    let mut lanes = JoinSet::new();
    let terms = Terms { trust: TRUST, period: PERIOD, tasks: arguments.orders() };
    let shop = Shop::open(stack, &network, &hub, terms, &mut lanes).await?;
    let nodes = Nodes::start(&network.rpc_url).await?;
    let roles = stack.detour(&network, nodes.urls())?;
    stack.start_scheduler(&roles, &[]).await?;
    let processes = start_workers(arguments, stack, &roles)?;
    tell(&format!("starting the workers, in {processes} processes"));
    await_links(stack, arguments.workers).await?;
    let wallets: Vec<Address> = network.keys.workers.iter().map(|key| key.address).collect();
    let before = money(&hub, &wallets).await?;
    let from = hub.client.head().await?.number;
    let mut day = Day {
        arguments,
        stack,
        hub: &hub,
        shop,
        nodes,
        roles,
        from,
        began: Instant::now(),
        purchases: JoinSet::new(),
        ordered: 0,
        bought: BTreeMap::new(),
        stories: BTreeMap::new(),
        links: 0,
        restarted: None,
    };
    day.play().await?;
    let (bought, stories, links) = (day.bought, day.stories, day.links);
    let (faults, down) = (day.nodes.faults(), day.restarted);
    let earned = money(&hub, &wallets).await?.saturating_sub(before);
    Ok(Outcome { bought: bought.into_keys().collect(), stories, links, processes, earned, faults, down })
}

/// Starts the processes with the workers; returns how many there are.
fn start_workers(arguments: &Arguments, stack: &mut Stack, roles: &std::path::Path) -> eyre::Result<usize> {
    let all = arguments.workers as usize;
    for first in (0..all).step_by(HOSTED) {
        let hosts = hosts::Arguments {
            network: roles.to_owned(),
            scheduler_url: stack.scheduler_url(),
            dir: stack.place("workers"),
            first,
            workers: HOSTED.min(all - first),
            at_least: (COMPUTING / FACTOR * 1000.0).round() as u64,
        };
        stack.start_workers(&hosts.line())?;
    }
    Ok(all.div_ceil(HOSTED))
}

/// Waits until everybody is at their post.
async fn await_links(stack: &mut Stack, workers: u32) -> eyre::Result<()> {
    let (began, url) = (Instant::now(), stack.scheduler_url());
    loop {
        stack.check()?;
        let there = ready::connected_workers(&url).await?;
        if there >= workers as usize {
            return Ok(());
        }
        if began.elapsed() > LOGINS {
            return Err(eyre::eyre!("{there} of {workers} workers were logged in after {LOGINS:?}"));
        }
        sleep(LOOK).await;
    }
}

/// What these accounts have in the hub, free and locked.
async fn money(hub: &Hub, accounts: &[Address]) -> eyre::Result<Nrlc> {
    let mut all = Nrlc::ZERO;
    for account in accounts {
        let account = hub.account(*account).await?;
        all = all.checked_add(account.stake).and_then(|all| all.checked_add(account.locked)).unwrap_or(all);
    }
    Ok(all)
}

/// The day, while it is played.
struct Day<'a> {
    arguments: &'a Arguments,
    stack: &'a mut Stack,
    hub: &'a Hub,
    shop: Shop,
    nodes: Nodes,
    /// The folder whose network file the roles read.
    roles: PathBuf,
    from: u64,
    began: Instant,
    purchases: JoinSet<eyre::Result<TaskId>>,
    ordered: u64,
    /// When each was.
    bought: BTreeMap<TaskId, Instant>,
    stories: BTreeMap<TaskId, Story>,
    /// The most workers that were connected at once.
    links: usize,
    /// How long the scheduler was down, once it was.
    restarted: Option<Duration>,
}

impl Day<'_> {
    async fn play(&mut self) -> eyre::Result<()> {
        self.began = Instant::now();
        output::say(&format!(
            "  {} orders in {} minutes, {} s of computing for each replicate",
            self.arguments.orders(),
            self.arguments.minutes,
            (COMPUTING / FACTOR * 100.0).round() / 100.0
        ));
        let (mut tick, mut look, mut tell) = (interval(TICK), interval(LOOK), interval(TELL));
        for every in [&mut tick, &mut look, &mut tell] {
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        tell.tick().await;
        loop {
            tokio::select! {
                biased;
                Some(bought) = self.purchases.join_next() => drop(self.bought.insert(bought??, Instant::now())),
                _ = tick.tick() => self.act().await?,
                _ = look.tick() => if self.look().await? { return Ok(()) },
                _ = tell.tick() => self.tell(),
            }
        }
    }

    /// Does what is due.
    async fn act(&mut self) -> eyre::Result<()> {
        let (now, orders) = (self.began.elapsed(), self.arguments.orders());
        let due = |n: u64| self.arguments.part(SEASON * n as f64 / orders as f64);
        while self.ordered < orders && due(self.ordered) <= now {
            self.ordered += 1;
            let shop = self.shop.clone();
            self.purchases.spawn(async move { shop.buy().await });
        }
        let stray = self.arguments.part(STRAY.start)..self.arguments.part(STRAY.end);
        self.nodes.stray(if stray.contains(&now) { BEHIND } else { 0 });
        if self.restarted.is_none() && now >= self.arguments.part(RESTART) {
            output::say(&format!("  {:>4.0} s  kill -9 of the scheduler, and its restart", now.as_secs_f64()));
            self.stack.kill_scheduler().await?;
            self.stack.start_scheduler(&self.roles, &[]).await?;
            self.restarted = Some(self.began.elapsed() - now);
        }
        Ok(())
    }

    /// Looks at everybody and at the chain; says whether everything is over.
    async fn look(&mut self) -> eyre::Result<bool> {
        self.stack.check()?;
        let links = ready::connected_workers(&self.stack.scheduler_url()).await?;
        self.links = self.links.max(links);
        self.stories = story::since(self.hub, self.from).await.wrap_err("cannot look at the chain")?;
        let ended = |(task, bought): (&TaskId, &Instant)| {
            self.stories.get(task).is_some_and(Story::ended) || bought.elapsed() > Duration::from_secs(OVER)
        };
        let everything_bought = self.bought.len() as u64 == self.arguments.orders();
        Ok(everything_bought && self.restarted.is_some() && self.bought.iter().all(ended))
    }

    fn tell(&self) {
        let paid = self.stories.values().filter(|story| story.finalized.is_some()).count();
        let Faults { transactions_lost, events_doubled, .. } = self.nodes.faults();
        output::say(&format!(
            "  {:>4.0} s  {} orders bought, {paid} finalised; {} links; {transactions_lost} transactions lost, {events_doubled} events doubled",
            self.began.elapsed().as_secs_f64(),
            self.bought.len(),
            self.links,
        ));
    }
}

/// What came of it.
struct Outcome {
    bought: BTreeSet<TaskId>,
    stories: BTreeMap<TaskId, Story>,
    links: usize,
    processes: usize,
    earned: Nrlc,
    faults: Faults,
    down: Option<Duration>,
}

impl Outcome {
    fn not_finalised(&self) -> Vec<TaskId> {
        let paid = |task: &TaskId| self.stories.get(task).is_some_and(|story| story.finalized.is_some());
        self.bought.iter().copied().filter(|task| !paid(task)).collect()
    }

    /// An error that names what missed its target.
    fn judge(&self, no_limits: bool) -> eyre::Result<()> {
        let open = self.not_finalised();
        if let Some(first) = open.first() {
            return Err(eyre::eyre!(
                "{} of {} orders were not finalised, for example {first}: run it with --data-dir to keep the logs",
                open.len(),
                self.bought.len()
            ));
        }
        match overhead(mean(&self.orders())) {
            too_much if too_much >= OVERHEAD && !no_limits => Err(eyre::eyre!(
                "target missed: {too_much:.1} % of the mean order time are neither computing nor waiting for {BLOCKS} blocks, instead of under {OVERHEAD} %"
            )),
            _ => Ok(()),
        }
    }

    /// Something about each order that was paid, in seconds.
    fn each(&self, of: impl Fn(&Story) -> Option<f64>) -> Vec<f64> {
        self.stories.values().filter(|story| story.finalized.is_some()).filter_map(of).collect()
    }

    fn orders(&self) -> Vec<f64> {
        self.each(Story::seconds)
    }

    fn executions(&self) -> Vec<f64> {
        self.each(|story| Some(story.agreed?.saturating_sub(story.opened?) as f64))
    }

    fn rows(&self) -> Vec<[String; 4]> {
        let open = self.not_finalised().len();
        published::rows([
            self.links.to_string(),
            (self.bought.len() - open).to_string(),
            self.earned.to_string(),
            cpus().to_string(),
            format!("{:.0}", memory_gb()),
            format!("{:.1}", mean(&self.orders())),
            format!("{:.1}", mean(&self.executions())),
            format!("{:.1}", COMPUTING / FACTOR),
            open.to_string(),
        ])
    }

    fn text(&self) -> String {
        let mut orders = self.orders();
        let (average, median, p95) = (mean(&orders), percentile(&mut orders, 50), percentile(&mut orders, 95));
        let Faults { transactions_lost, events_doubled, answers_behind } = self.faults;
        [
            published::table(&self.rows()),
            format!("(ours: {FACTOR} times as fast, all on this one machine)"),
            format!("links at most: {}, from {} processes", self.links, self.processes),
            format!("order time: median {median:.1} s, 95 % {p95:.1} s, longest {:.1} s", percentile(&mut orders, 100)),
            format!(
                "neither computing nor waiting for {BLOCKS} blocks: {:.1} % of the mean order time, {:.1} % of the median",
                overhead(average),
                overhead(median)
            ),
            format!(
                "faults: {transactions_lost} transactions lost, {events_doubled} events doubled, {answers_behind} answers of a node {BEHIND} blocks behind, scheduler killed and back after {:.1} s",
                self.down.unwrap_or_default().as_secs_f64()
            ),
        ]
        .join("\n")
    }

    fn json(&self, arguments: &Arguments) -> serde_json::Value {
        let (mut orders, executions, open) = (self.orders(), self.executions(), self.not_finalised());
        let (average, median) = (mean(&orders), percentile(&mut orders, 50));
        let row = |[what, first, second, ours]: [String; 4]| json!({ "what": what, "firstRun": first, "secondRun": second, "bourse": ours });
        json!({
            "ok": self.judge(arguments.no_limits).is_ok(),
            "minutes": arguments.minutes,
            "factor": FACTOR,
            "workers": arguments.workers,
            "processes": self.processes,
            "table": self.rows().into_iter().map(row).collect::<Vec<_>>(),
            "linksAtMost": self.links,
            "ordersBought": self.bought.len(),
            "ordersFinalised": self.bought.len() - open.len(),
            "notFinalised": open,
            "rlcEarned": self.earned,
            "orderSeconds": {
                "mean": average, "median": median,
                "p95": percentile(&mut orders, 95), "longest": percentile(&mut orders, 100),
            },
            "executionSeconds": { "mean": mean(&executions) },
            "computingSeconds": COMPUTING / FACTOR,
            "blockSeconds": 1,
            "overheadLimitPercent": OVERHEAD,
            "overheadPercent": { "ofMean": overhead(average), "ofMedian": overhead(median) },
            "faults": self.faults,
            "schedulerRestarts": u8::from(self.down.is_some()),
            "schedulerDownSeconds": self.down.unwrap_or_default().as_secs_f64(),
        })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The part of an order's time that is neither computing nor waiting for blocks, in percent.
fn overhead(order: f64) -> f64 {
    (order - COMPUTING / FACTOR - BLOCKS).max(0.0) / order.max(1.0) * 100.0
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Memory of this machine, in GB; 0 where the system does not say it.
fn memory_gb() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"));
    total.and_then(|kib| kib.trim().parse::<f64>().ok()).map_or(0.0, |kib| kib * 1024.0 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_numbers_within_reason() {
        assert_eq!(minutes("1.5"), Ok(1.5));
        assert!(["x", "0", "-1", "NaN", "1e9"].iter().all(|text| minutes(text).is_err()));
    }

    #[test]
    fn orders_come_as_often_in_a_short_form() {
        let arguments =
            |minutes, orders| Arguments { minutes, orders, workers: 3, data_dir: None, no_limits: false, json: false };
        assert_eq!(arguments(10.0, None).orders(), 170);
        assert_eq!(arguments(1.0, None).orders(), 17);
        assert_eq!(arguments(1.0, Some(4)).orders(), 4);
        assert_eq!(arguments(10.0, None).part(RESTART).as_secs(), 204);
    }

    #[test]
    fn what_is_neither_computing_nor_blocks_is_overhead() {
        assert_eq!(overhead(6.0), 0.0);
        assert!((overhead(10.0) - 32.6).abs() < 0.1);
        assert_eq!((mean(&[1.0, 2.0]), mean(&[])), (1.5, 0.0));
    }
}
