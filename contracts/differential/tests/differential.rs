//! Our contracts against the published ones. Needs `tools/install`, and says so when it has not run.
//!
//! The command `cargo run --release -p bourse-differential -- --seeds 1000` does the same at length. Counts are left in
//! `tmp/differential.txt` of the target folder.

use bourse_differential::bench::Bench;
use bourse_differential::coverage::Coverage;
use bourse_differential::deploy::Rule;
use bourse_differential::run::{Failure, STEPS, Trace, World};
use bourse_protocol::reward::Penalty;

/// Enough for everything that is required to happen; see `Coverage::missing`.
const SEEDS: u64 = 300;

fn world(bench: Result<Bench, bourse_differential::artifacts::Error>, penalty: Penalty) -> World {
    let bench = bench.unwrap_or_else(|error| panic!("{error}"));
    World::make(bench, penalty).unwrap_or_else(|difference| panic!("{difference}"))
}

/// For whoever wants to know how often everything occurred: ./test says where.
fn report(coverage: &Coverage) {
    let events = coverage.emitted.len();
    let functions = coverage.returned.len();
    let refusals = coverage.reasons.len();
    let steps: u64 = coverage.aims.values().map(|[published, _]| published).sum();
    let head =
        format!("{SEEDS} lives, {steps} steps: {functions} functions, {events} events, {refusals} reasons of refusals");
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/differential.txt");
    std::fs::write(path, format!("{head}\n\n{coverage}")).expect("the target folder can be written");
}

fn live(world: &World, seed: u64) -> Result<Coverage, Box<Trace>> {
    world.live(seed, STEPS)
}

#[test]
fn ours_do_what_the_published_contracts_do() {
    let world = world(Bench::paired(), Penalty::Third);
    let mut coverage = world.coverage.clone();
    coverage.add(&world.corners(Bench::unconfigured().unwrap()).unwrap_or_else(|difference| panic!("{difference}")));
    for seed in 1..=SEEDS {
        coverage.add(&live(&world, seed).unwrap_or_else(|trace| panic!("{trace}")));
    }
    report(&coverage);
    for side in 0..2 {
        assert_eq!(coverage.missing(side), Vec::<String>::new(), "side {side}");
    }
    assert_eq!(coverage.unused(), Vec::<String>::new());
}

#[test]
fn the_penalty_of_fifty_follows_the_rust_rules() {
    let world = world(Bench::alone(Rule::Fifty), Penalty::Fifty);
    let mut coverage = Coverage::default();
    for seed in 1..=SEEDS / 2 {
        coverage.add(&live(&world, seed).unwrap_or_else(|trace| panic!("{trace}")));
    }
    assert!(coverage.judged["finalize"] > 50, "{:?}", coverage.judged);
}

#[test]
fn another_penalty_than_the_published_one_is_noticed_and_shrunk() {
    let world = world(Bench::paired_with(Rule::Fifty), Penalty::Fifty);
    let trace = (1..=SEEDS).find_map(|seed| live(&world, seed).err()).expect("the penalties differ");
    assert!(matches!(trace.failure, Failure::Differ(_)), "{trace}");
    let steps = world.shrink(&trace);
    assert!(steps.len() < trace.steps.len(), "nothing could be left out of {} steps", steps.len());
    assert!(world.replay(&steps).is_some(), "what is left fails no more");
}

#[test]
fn a_wrong_rust_rule_is_noticed() {
    let world = world(Bench::alone(Rule::Fifty), Penalty::Third);
    let trace = (1..=SEEDS).find_map(|seed| live(&world, seed).err()).expect("the penalties differ");
    assert!(matches!(trace.failure, Failure::Unruly(_)), "{trace}");
}
