//! Both public runs of 2018 in one, replayed: what was published beside what we do. Source: middleware.md §10.1.

use crate::{
    judge::{OrderTimes, Verdict},
    published,
    tally::Fault,
    world::{self, Plan},
};
use bourse_protocol::money::Nrlc;
use std::{process::ExitCode, time::Instant};

/// Blocks that an order waits for: opening, contributing, revealing and finalizing follow each other, and the scheduler acts
/// on the purchase and on the reveals when one more block lies above them.
const BLOCKS: u64 = 6;
/// The part of an order's time that may be neither computing nor waiting for a block, in percent.
const OVERHEAD: f64 = 5.0;

/// Replays and prints.
#[expect(clippy::print_stdout, reason = "this is the command line")]
pub(crate) fn replay(seed: u64) -> ExitCode {
    let plan = Plan::workerdrop(seed);
    let (began, cpu) = (Instant::now(), crate::cpu_seconds());
    let computing = *plan.speed.start() as f64 / 1000.0;
    let waiting = (BLOCKS * plan.block) as f64;
    let verdict = world::run(plan);
    let mean = |of: fn(&OrderTimes) -> u64| {
        verdict.orders.iter().map(of).sum::<u64>() as f64 / verdict.orders.len().max(1) as f64
    };
    let (order, execution) = (mean(|o| o.paid - o.bought), mean(|o| o.agreed - o.opened));
    let overhead = (order - computing - waiting).max(0.0) / order.max(1.0) * 100.0;
    let open = verdict.tasks - verdict.paid;
    let ours = [
        format!("{}", verdict.connected),
        format!("{}", verdict.paid),
        format!("{}", Nrlc(verdict.earned)),
        "–".into(),
        "–".into(),
        format!("{order:.1}"),
        format!("{execution:.1}"),
        format!("{computing:.1}"),
        format!("{open}"),
    ];
    println!("{}", published::table(&published::rows(ours)));
    println!(
        "neither computing nor waiting for {BLOCKS} blocks: {overhead:.1} % of an order's time (limit {OVERHEAD} %)"
    );
    let faults = [Fault::EventsDoubled, Fault::TransactionLost, Fault::SchedulerCrash, Fault::NodeLags];
    let count = |f: &Fault| format!("{f:?} {}", verdict.faults.get(f).copied().unwrap_or(0));
    println!("faults: {}", faults.iter().map(count).collect::<Vec<_>>().join(", "));
    println!(
        "24 h in {:.0} s, {:.0} CPU seconds, {} blocks",
        began.elapsed().as_secs_f64(),
        crate::cpu_seconds() - cpu,
        verdict.blocks
    );
    let Verdict { violations, .. } = &verdict;
    violations.iter().for_each(|violation| println!("{violation}"));
    ExitCode::from(u8::from(!violations.is_empty() || open > 0 || overhead >= OVERHEAD))
}
