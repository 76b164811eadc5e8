//! `bourse bench workers`: a scheduler with as many workers as one machine can play.

use super::{
    child::{Child, Crowd, machine_time},
    crowd, cycles,
    figures::{self, Figure, Target},
    push::{self, free_port},
};
use crate::{args, network_file, output, services, shutdown};
use clap::{Args, ValueEnum};
use eyre::WrapErr;
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{task::JoinSet, time::sleep};

/// Cycles are counted after this time: the first ones are all at once.
const WARM_UP: Duration = Duration::from_secs(3);
/// How long the scheduler of the cycles may take to be ready.
const START: Duration = Duration::from_secs(120);

/// What to measure.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// How many workers log in, each with its own key.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    workers: u32,
    /// Tasks that are bought per second while the push is measured.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    tasks_per_second: u64,
    /// How long the push and the cycles are measured.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Measure one part only.
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
    /// Keep the stores in this folder, which must be new; its disk is what "durable" means [default: a temporary one
    /// beside the data directory].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Only show what missed its target: exit code 0 all the same.
    #[arg(long)]
    no_limits: bool,
    /// One JSON document on stdout instead of a table.
    #[arg(long)]
    json: bool,
}

/// What is measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Logins, push, restart and memory.
    Push,
    /// Durable cycles.
    Cycles,
}

/// Measures everything and shows it.
pub(crate) async fn execute(arguments: Arguments) -> eyre::Result<()> {
    crowd::check_files(arguments.workers)?;
    let mut signals = JoinSet::new();
    let stop = shutdown::on_signal(&mut signals);
    let (folder, _kept) = folder(arguments.data_dir.clone())?;
    let figures = tokio::select! {
        figures = measure(&arguments, &folder) => figures?,
        () = stop.cancelled() => return Err(crate::failure::interrupted("stopped before everything was measured")),
    };
    let missed: Vec<_> = figures.iter().filter_map(Figure::missed).collect();
    match arguments.json {
        true => output::json(&json!({
            "ok": arguments.no_limits || missed.is_empty(),
            "met": missed.is_empty(),
            "cpus": std::thread::available_parallelism().map_or(1, usize::from),
            "workers": arguments.workers,
            "tasksPerSecond": arguments.tasks_per_second,
            "seconds": arguments.seconds,
            "figures": figures,
        })),
        false => output::data(figures::table(&figures).trim_end()),
    }
    match arguments.no_limits || missed.is_empty() {
        true => Ok(()),
        false => Err(eyre::eyre!("targets missed: {}", missed.join("; "))),
    }
}

async fn measure(arguments: &Arguments, folder: &Path) -> eyre::Result<Vec<Figure>> {
    let tell = |text: &str| output::say(&format!("  {text}"));
    let mut figures = Vec::new();
    if arguments.only != Some(Part::Cycles) {
        let plan = push::Plan {
            folder: folder.join("push"),
            workers: arguments.workers,
            tasks_per_second: arguments.tasks_per_second,
            seconds: arguments.seconds,
        };
        services::make_folder(&plan.folder)?;
        figures.extend(push::measure(&plan, &tell).await?);
    }
    if arguments.only != Some(Part::Push) {
        tell("counting durable cycles: assigned, contributed, completed");
        figures.extend(cycles_per_second(arguments, &folder.join("cycles")).await?);
    }
    Ok(figures)
}

/// The stores' folder, and what removes it at the end.
pub(super) fn folder(wanted: Option<PathBuf>) -> eyre::Result<(PathBuf, Option<tempfile::TempDir>)> {
    if let Some(path) = wanted.map(args::absolute) {
        if path.exists() {
            return Err(crate::failure::refused(format!(
                "{} exists already: a bench needs a folder of its own; choose another --data-dir",
                path.display()
            )));
        }
        services::make_folder(&path)?;
        return Ok((path, None));
    }
    let beside = network_file::default_data_dir();
    services::make_folder(&beside)?;
    let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(&beside);
    let folder = folder.wrap_err_with(|| format!("no temporary folder in {}", beside.display()))?;
    Ok((folder.path().to_owned(), Some(folder)))
}

/// How many replicates a second are assigned, contributed to and completed, all of it on disk before it is said.
async fn cycles_per_second(arguments: &Arguments, folder: &Path) -> eyre::Result<Vec<Figure>> {
    services::make_folder(folder)?;
    let path = folder.join("scheduler").display().to_string();
    let (port, open) = (free_port()?.to_string(), arguments.workers.to_string());
    let line = ["bench", "scheduler", "--dir", &path, "--port", &port, "--open", &open].map(String::from);
    let mut scheduler = Child::start("scheduler of the cycles", &line, folder.join("scheduler.log"), "error")?;
    let ready = tokio::time::timeout(START, scheduler.stdout()?.next_line()).await;
    let Ok(Ok(Some(ready))) = ready else {
        scheduler.check()?;
        return Err(eyre::eyre!("the scheduler of the cycles was not ready within {START:?}"));
    };
    let ready: cycles::Ready =
        serde_json::from_str(&ready).wrap_err("the scheduler of the cycles is not understood")?;
    let crowd = crowd::Arguments {
        scheduler_url: ready.scheduler_url,
        workerpool: ready.workerpool,
        hub: ready.hub,
        chain_id: ready.chain_id,
        workers: arguments.workers,
        contribute_to: Some(ready.contribute_to),
    };
    let mut crowd = Crowd::start(&crowd, folder)?;
    crowd.links(arguments.workers, START + Duration::from_millis(20) * arguments.workers).await?;
    scheduler.go().await?;
    sleep(WARM_UP).await;
    let times = || Ok::<_, eyre::Report>((scheduler.processor_time()?, crowd.processor_time()?, machine_time()?));
    let (first, before) = (crowd.news().seen.clone(), times()?);
    sleep(Duration::from_secs(arguments.seconds)).await;
    let (last, after) = (crowd.news().seen.clone(), times()?);
    scheduler.check()?;
    let (count, micros) = (last.completed - first.completed, last.at - first.at);
    let rate = count as f64 * 1e6 / micros.max(1) as f64;
    let (ours, crowds) = (after.0 - before.0, after.1 - before.1);
    let (used, all) = (after.2.0 - before.2.0, after.2.1 - before.2.1);
    let each = |seconds: f64| seconds * 1e6 / count.max(1) as f64;
    Ok(vec![
        Figure::told("cycles", "replicates assigned, contributed and completed", count as f64, ""),
        Figure::wanted("cycleRate", "durable cycles", rate, "per s", Target::AtLeast(3000.0)),
        Figure::told("cycleSchedulerTime", "processor time per cycle: scheduler and prepared node", each(ours), "µs"),
        Figure::told("cycleCrowdTime", "processor time per cycle: crowd", each(crowds), "µs"),
        Figure::told(
            "othersShare",
            "part of the processors that others used meanwhile",
            100.0 * (used - ours - crowds).max(0.0) / all.max(1e-9),
            "%",
        ),
        Figure::told("cycleWorkers", "workers linked at the end of the cycles", last.linked as f64, ""),
    ])
}
