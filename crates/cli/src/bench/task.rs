//! `bourse bench task`: how long a task takes whose computing takes no time, with blocks of one second.

use super::{
    figures::percentile,
    shop::{Shop, Terms},
    stack::{self, Stack},
    story::{self, Story},
    workers,
};
use crate::{output, ready, shutdown};
use bourse_chain::{Hub, keys};
use bourse_protocol::{U256, consensus, deal::TaskStatus, ids::TaskId};
use clap::Args;
use eyre::{OptionExt, WrapErr};
use serde_json::json;
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::sleep};

/// The period T of the category, in seconds: nothing of it is needed.
const PERIOD: u64 = 60;
/// A task that has not ended by then will not.
const PATIENCE: Duration = Duration::from_secs(600);
/// From one moment to the next.
const STEPS: [&str; 5] = ["initialize", "contribute", "consensus", "reveal", "finalize"];

/// What to measure.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// How many tasks are bought, one after another.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    tasks: u64,
    /// How hard the answer is checked: 1 one worker, 5 three that agree, 16 four. There are as many workers.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    trust: u64,
    /// How many blocks must lie above one that counts.
    #[arg(long, value_name = "BLOCKS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=16))]
    depth: u64,
    /// Fail if a task takes so many seconds or more from the block of its match to that of its finalize.
    #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Keep the processes' files in this folder, which must be new [default: a temporary one beside the data directory].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// One JSON document on stdout instead of a table.
    #[arg(long)]
    json: bool,
}

/// One task.
struct Measured {
    task: TaskId,
    story: Story,
    /// In seconds: from its match in a block to its end, as the buyer saw both.
    wall: f64,
}

impl Measured {
    fn seconds(&self) -> f64 {
        self.story.seconds().unwrap_or(f64::INFINITY)
    }

    /// Where the time went, then all of it by blocks and by the wall.
    fn numbers(&self) -> [f64; 7] {
        let [a, b, c, d, e] = self.story.steps();
        [a, b, c, d, e, self.seconds(), self.wall]
    }
}

/// Measures and shows it.
pub(crate) async fn execute(arguments: Arguments) -> eyre::Result<()> {
    let mut signals = JoinSet::new();
    let stop = shutdown::on_signal(&mut signals);
    let (folder, _kept) = workers::folder(arguments.data_dir.clone())?;
    let mut stack = Stack::new(folder)?;
    let measured = tokio::select! {
        measured = measure(&arguments, &mut stack) => measured,
        () = stop.cancelled() => Err(crate::failure::interrupted("stopped before everything was measured")),
    };
    stack.stop().await;
    let measured = measured?;
    match arguments.json {
        true => output::json(&report(&arguments, &measured)),
        false => output::data(table(&measured).trim_end()),
    }
    let slow: Vec<_> = measured.iter().filter(|m| m.seconds() >= arguments.limit as f64).collect();
    match slow.first() {
        None => Ok(()),
        Some(first) => Err(eyre::eyre!(
            "{} of {} tasks took {} s or more from match to finalize: see the steps, for example of {}",
            slow.len(),
            measured.len(),
            arguments.limit,
            first.task
        )),
    }
}

async fn measure(arguments: &Arguments, stack: &mut Stack) -> eyre::Result<Vec<Measured>> {
    let crew = consensus::fresh_workers_needed(U256::from(arguments.trust));
    let tell = |text: &str| output::say(&format!("  {text}"));
    tell(&format!("starting a chain with a block every second, a scheduler and {crew} workers"));
    let network = stack.open(crew).await?;
    let (hub, dir, depth) = (stack::hub(&network)?, stack.network_dir(), arguments.depth.to_string());
    let mut lanes = JoinSet::new();
    let terms = Terms { trust: arguments.trust, period: PERIOD, tasks: arguments.tasks };
    let shop = Shop::open(stack, &network, &hub, terms, &mut lanes).await?;
    stack.start_scheduler(&dir, &["--depth", &depth]).await?;
    for n in 0..network.keys.workers.len() {
        start_worker(stack, &network.keys.workers[n].signer()?, n, &depth)?;
    }
    ready::workers(&stack.scheduler_url(), crew as usize).await?;
    let from = hub.client.head().await?.number;
    let mut bought = Vec::new();
    for n in 1..=arguments.tasks {
        let task = shop.buy().await?;
        let wall = finished(&hub, task, stack).await?;
        tell(&format!("task {n} of {}: {wall:.1} s", arguments.tasks));
        bought.push((task, wall));
    }
    let mut stories = story::since(&hub, from).await?;
    let told = |(task, wall)| Some(Measured { task, story: stories.remove(&task)?, wall });
    bought.into_iter().map(told).collect::<Option<_>>().ok_or_eyre("the chain does not know what was bought")
}

/// A worker as a process of its own, with its key in a file.
fn start_worker(stack: &mut Stack, key: &bourse_chain::PrivateKeySigner, n: usize, depth: &str) -> eyre::Result<()> {
    let file = stack.place(&format!("worker-{}.key", n + 1));
    std::fs::write(&file, keys::private_hex(key)).wrap_err_with(|| format!("cannot write {}", file.display()))?;
    let path = |path: PathBuf| path.display().to_string();
    let (network, dir) = (path(stack.network_dir()), path(stack.place(&format!("worker-{}", n + 1))));
    let (file, name, url) = (path(file), format!("worker {}", n + 1), stack.scheduler_url());
    let line = ["worker", "--network", &network, "--data-dir", &dir, "--key-file", &file, "--name", &name];
    let line = [&line[..], &["--scheduler-url", &url, "--min-cpus", "1", "--depth", depth]].concat();
    stack.start_workers(&line.iter().map(ToString::to_string).collect::<Vec<_>>())
}

/// Waits for a task's end, and says how long that took, in seconds.
async fn finished(hub: &Hub, task: TaskId, stack: &mut Stack) -> eyre::Result<f64> {
    let began = Instant::now();
    loop {
        match hub.task(task).await?.status {
            TaskStatus::Completed => return Ok(began.elapsed().as_secs_f64()),
            TaskStatus::Failed => return Err(eyre::eyre!("task {task} was not finalised: its price was refunded")),
            TaskStatus::Unset | TaskStatus::Active | TaskStatus::Revealing => {}
        }
        stack.check()?;
        if began.elapsed() > PATIENCE {
            return Err(eyre::eyre!("task {task} has not ended after {PATIENCE:?}"));
        }
        sleep(hub.client.poll_interval()).await;
    }
}

/// So many hundredths of the tasks are not above it, for each number.
fn percentiles(measured: &[Measured], percent: usize) -> [f64; 7] {
    let numbers: Vec<_> = measured.iter().map(Measured::numbers).collect();
    std::array::from_fn(|n| percentile(&mut numbers.iter().map(|row| row[n]).collect::<Vec<_>>(), percent))
}

fn table(measured: &[Measured]) -> String {
    let head = ["seconds since the step before"].into_iter().chain(STEPS).chain(["match to finalize", "wall"]);
    let mut rows = vec![head.map(String::from).collect::<Vec<_>>()];
    let mut add = |name: String, numbers: [f64; 7]| {
        let (wall, blocks) = numbers.split_last().expect("there are seven");
        let cells = blocks.iter().map(|n| format!("{n:.0}")).chain([format!("{wall:.1}")]);
        rows.push(std::iter::once(name).chain(cells).collect());
    };
    measured.iter().enumerate().for_each(|(n, m)| add(format!("task {}", n + 1), m.numbers()));
    add("median".into(), percentiles(measured, 50));
    add("p95".into(), percentiles(measured, 95));
    output::table(&rows)
}

fn report(arguments: &Arguments, measured: &[Measured]) -> serde_json::Value {
    let named = |numbers: [f64; 7]| {
        let [initialize, contribute, consensus, reveal, finalize, seconds, wall] = numbers;
        json!({
            "steps": {
                "initialize": initialize, "contribute": contribute, "consensus": consensus,
                "reveal": reveal, "finalize": finalize,
            },
            "seconds": seconds,
            "wallSeconds": wall,
        })
    };
    let tasks = measured.iter().map(|m| {
        let mut one = named(m.numbers());
        one["task"] = json!(m.task);
        one
    });
    json!({
        "ok": measured.iter().all(|m| m.seconds() < arguments.limit as f64),
        "limitSeconds": arguments.limit,
        "trust": arguments.trust,
        "depth": arguments.depth,
        "blockSeconds": 1,
        "tasks": tasks.collect::<Vec<_>>(),
        "median": named(percentiles(measured, 50)),
        "p95": named(percentiles(measured, 95)),
    })
}
