//! `cargo run --release -p bourse-differential -- --seeds 300`

#![expect(clippy::print_stdout, reason = "a tool says what it found")]

use bourse_differential::bench::Bench;
use bourse_differential::coverage::Coverage;
use bourse_differential::deploy::Rule;
use bourse_differential::run::{STEPS, Trace, World};
use bourse_protocol::reward::Penalty;
use clap::Parser;
use std::process::ExitCode;

/// Drives our contracts and the published ones with the same random life cycles and compares them.
#[derive(Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Only this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Steps of each life.
    #[arg(long, default_value_t = STEPS)]
    steps: usize,
    /// Go on after a failure.
    #[arg(long)]
    keep_going: bool,
    /// Print no counts.
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let paired = match Bench::paired() {
        Ok(bench) => bench,
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut failed = 0;
    let mut coverage = Coverage::default();
    match World::make(paired, Penalty::Third) {
        Ok(world) => {
            coverage.add(&world.coverage);
            match Bench::unconfigured().map(|bench| world.corners(bench)) {
                Ok(Ok(seen)) => coverage.add(&seen),
                Ok(Err(difference)) => {
                    println!("{difference}");
                    failed += 1;
                }
                Err(error) => println!("{error}"),
            }
            failed += lives(&world, &arguments, &mut coverage);
        }
        Err(difference) => {
            println!("while the world is made: {difference}");
            return ExitCode::FAILURE;
        }
    }
    if let Ok(bench) = Bench::alone(Rule::Fifty)
        && let Ok(world) = World::make(bench, Penalty::Fifty)
    {
        failed += lives(&world, &arguments, &mut Coverage::default());
    } else {
        println!("the world with the penalty of 50 cannot be made");
        failed += 1;
    }
    if !arguments.quiet {
        print!("{coverage}");
    }
    let one = arguments.seed.is_some();
    for (side, name) in ["published", "ours"].into_iter().enumerate() {
        for missing in coverage.missing(side).iter().filter(|_| !one) {
            println!("{name}: {missing}");
            failed += 1;
        }
    }
    for unused in coverage.unused().iter().filter(|_| !one) {
        println!("{unused}");
        failed += 1;
    }
    println!("failures: {failed}");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn lives(world: &World, arguments: &Arguments, coverage: &mut Coverage) -> usize {
    let seeds = match arguments.seed {
        Some(seed) => seed..seed + 1,
        None => arguments.from..arguments.from + arguments.seeds,
    };
    let mut failed = 0;
    for seed in seeds {
        match world.live(seed, arguments.steps) {
            Ok(seen) => coverage.add(&seen),
            Err(trace) => {
                failed += 1;
                print_trace(world, &trace);
                if !arguments.keep_going {
                    break;
                }
            }
        }
    }
    failed
}

fn print_trace(world: &World, trace: &Trace) {
    println!("{trace}");
    let steps = world.shrink(trace);
    println!("  {} of {} steps are enough:", steps.len(), trace.steps.len());
    for step in steps {
        let call = &step.call;
        println!("    at {} {:?}: {} -> {} {}", step.at, step.aim, call.from, call.to, call.data);
    }
}
