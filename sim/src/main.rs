//! The whole market under seeds: the real scheduler, workers, chain client and contracts on the embedded chain with a
//! virtual clock, faults of every kind, invariants after every block. Same seed, same trace.

mod beginning;
mod chain;
mod chance;
mod judge;
mod life;
mod machine;
mod market;
mod node;
mod pipe;
#[path = "../../crates/cli/src/bench/published.rs"]
mod published;
mod roles;
mod tally;
mod workerdrop;
mod world;

use beginning::Beginning;
use bourse_service::defect::{Defect, plant};
use clap::Parser;
use judge::Verdict;
use std::{collections::BTreeMap, io::Write, process::ExitCode, sync::Mutex, time::Instant};
use tally::Fault;
use world::Plan;

/// Many small allocations by a few threads: a fifth of the processor time with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Hashes that are remembered, 128 bytes each.
const HASHES: usize = 1 << 13;

/// Runs many small markets, each with the faults that its seed says.
#[derive(Clone, Debug, Parser)]
#[command(version)]
struct Options {
    /// How many seeds to run.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run only this one, and show what happens in it.
    #[arg(long)]
    seed: Option<u64>,
    /// Tasks that are bought in each run.
    #[arg(long, default_value_t = 100)]
    tasks: u64,
    /// Threads; the number of processors if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Plant each of the known defects in turn: every one must be noticed within the seeds.
    #[arg(long)]
    defects: bool,
    /// Run the seeds again that once found something.
    #[arg(long)]
    kept: bool,
    /// Replay both public runs of 2018 in one, and print their table beside ours.
    #[arg(long)]
    workerdrop: bool,
    /// So many of the seeds are run twice: both runs must leave the same trace.
    #[arg(long, default_value_t = 1)]
    twice: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    // A cache of hashes that fits beside everything else; one that is made already is as good.
    let _ = bourse_chain::alloy::primitives::utils::init_keccak_cache(HASHES);
    silence_crashes();
    if let Some(seed) = options.seed {
        return show(seed, &options);
    }
    if options.workerdrop {
        return workerdrop::replay(options.from);
    }
    match options.defects {
        true => defects(&options),
        false => many(&options),
    }
}

/// Seeds that once found something: `seed tasks what`.
const KEPT: &str = include_str!("../kept.txt");

fn kept() -> Vec<Plan> {
    let number = |word: Option<&str>| word.and_then(|w| w.parse().ok()).expect("kept.txt: seed tasks what");
    let plan = |line: &str| {
        let mut words = line.split_whitespace();
        Plan::of(number(words.next()), number(words.next()))
    };
    KEPT.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(plan).collect()
}

fn plans(options: &Options) -> Vec<Plan> {
    match options.kept {
        true => kept(),
        false => (options.from..options.from + options.seeds).map(|seed| Plan::of(seed, options.tasks)).collect(),
    }
}

/// Crashes that the simulation causes are not worth a message.
fn silence_crashes() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<life::Crash>() {
            usual(info);
        }
    }));
}

#[expect(clippy::print_stdout, reason = "this is the command line")]
fn show(seed: u64, options: &Options) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).without_time().with_writer(std::io::stderr).init();
    let plan = Plan::of(seed, options.tasks);
    println!("{plan:?}");
    let verdict = world::run(plan);
    println!("{verdict:#?}");
    ExitCode::from(u8::from(!verdict.violations.is_empty()))
}

/// Runs worlds on all processors; stops when `enough` says so of one.
fn run_all(
    plans: Vec<Plan>,
    options: &Options,
    defect: Option<Defect>,
    enough: impl Fn(&Verdict) -> bool + Sync,
) -> Vec<Verdict> {
    // Before any defect is planted.
    plans.iter().for_each(|plan| drop(Beginning::of(plan)));
    let jobs = options.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    let queue = Mutex::new(plans.into_iter());
    let verdicts = Mutex::new(Vec::new());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                plant(defect);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let Some(plan) = queue.lock().expect("no thread panics while holding it").next() else { return };
                    // A defect is noticed by what the judge says, not by a world that breaks down.
                    let verdict = if defect.is_some() { world::run(plan) } else { judged(plan) };
                    if enough(&verdict) {
                        stop.store(true, std::sync::atomic::Ordering::Relaxed);
                    }
                    verdicts.lock().expect("no thread panics while holding it").push(verdict);
                }
            });
        }
    });
    let mut verdicts = verdicts.into_inner().expect("no thread panicked");
    verdicts.sort_by_key(|v| v.seed);
    verdicts
}

/// Runs a world. One that ends in a panic is one that went wrong, and the others go on.
fn judged(plan: Plan) -> Verdict {
    let seed = plan.seed;
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world::run(plan)));
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let violations = vec![format!("a panic: {}", text.unwrap_or("of unknown kind"))];
        Verdict { seed, violations, ..Verdict::default() }
    })
}

#[expect(clippy::print_stdout, reason = "this is the command line")]
fn many(options: &Options) -> ExitCode {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let plans = plans(options);
    let again: Vec<Plan> = plans.iter().take(usize::try_from(options.twice).unwrap_or(usize::MAX)).cloned().collect();
    let verdicts = run_all(plans, options, None, |_| false);
    let sum = |count: fn(&Verdict) -> u64| verdicts.iter().map(count).sum::<u64>();
    let mut faults = BTreeMap::<Fault, u64>::new();
    for (fault, count) in verdicts.iter().flat_map(|v| &v.faults) {
        *faults.entry(*fault).or_default() += count;
    }
    let tasks = sum(|v| v.tasks);
    println!("seeds {}, blocks {}, tasks {tasks}", verdicts.len(), sum(|v| v.blocks));
    println!(
        "paid {}, refunded {} ({} claims while faults went on), wrong answers that had the weight {}",
        sum(|v| v.paid),
        sum(|v| v.refunded),
        sum(|v| v.claimed_in_faults),
        sum(|v| v.bought_wrong)
    );
    println!("faults:");
    let mut missing = false;
    for fault in Fault::ALL {
        let count = faults.get(&fault).copied().unwrap_or(0);
        missing |= count == 0;
        println!("  {:<20} {count}", format!("{fault:?}"));
    }
    let cpu = cpu_seconds() - cpu;
    println!(
        "{:.1} s, {cpu:.1} CPU seconds, {:.0} tasks per CPU second",
        began.elapsed().as_secs_f64(),
        tasks as f64 / cpu.max(0.01)
    );
    let bad: Vec<_> = verdicts.iter().filter(|v| !v.violations.is_empty()).collect();
    let traces: String = verdicts.iter().map(|v| v.trace.as_str()).collect();
    println!("trace {}", bourse_chain::alloy::primitives::keccak256(traces));
    let second = run_all(again, options, None, |_| false);
    let same = |v: &Verdict| verdicts.iter().any(|first| first.seed == v.seed && first.trace == v.trace);
    let different: Vec<u64> = second.iter().filter(|v| !same(v)).map(|v| v.seed).collect();
    println!("run twice: {} seeds, another trace: {different:?}", second.len());
    for verdict in &bad {
        println!("seed {}: {}", verdict.seed, verdict.violations.join("; "));
    }
    missing &= !options.kept;
    if missing {
        println!("a kind of fault was never met: run more seeds");
    }
    let idle = sum(|v| v.claimed_in_faults) == 0 && !options.kept;
    if idle {
        println!("nothing was claimed while faults went on: run more seeds");
    }
    // A broken pipe is nobody's concern here.
    let _ = std::io::stdout().flush();
    ExitCode::from(u8::from(missing || idle || !bad.is_empty() || !different.is_empty()))
}

#[expect(clippy::print_stdout, reason = "this is the command line")]
fn defects(options: &Options) -> ExitCode {
    let mut survivors = 0;
    for defect in Defect::ALL {
        let verdicts = run_all(plans(options), options, Some(defect), |v| !v.violations.is_empty());
        let caught = verdicts.iter().find(|v| !v.violations.is_empty());
        match caught {
            Some(verdict) => println!("{defect:?}: noticed by seed {}: {}", verdict.seed, verdict.violations[0]),
            None => {
                survivors += 1;
                println!("{defect:?}: NOT noticed within {} seeds", verdicts.len());
            }
        }
    }
    ExitCode::from(u8::from(survivors > 0))
}

/// Processor time of this process, in seconds.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
