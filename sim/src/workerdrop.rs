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
/// So many workers must be at work at once.
const AT_ONCE: usize = 250;
/// What must have happened: a node out of step, events twice, transactions lost, the restart.
const FAULTS: [Fault; 4] = [Fault::NodeAstray, Fault::EventsDoubled, Fault::TransactionLost, Fault::SchedulerCrash];

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
    let times = |fault: &Fault| verdict.faults.get(fault).copied().unwrap_or(0);
    let count = |fault: &Fault| format!("{fault:?} {}", times(fault));
    println!("faults: {}", FAULTS.iter().map(count).collect::<Vec<_>>().join(", "));
    println!(
        "24 h in {:.0} s, {:.0} CPU seconds, {} blocks",
        began.elapsed().as_secs_f64(),
        crate::cpu_seconds() - cpu,
        verdict.blocks
    );
    let Verdict { violations, .. } = &verdict;
    violations.iter().for_each(|violation| println!("{violation}"));
    let missing: Vec<&Fault> = FAULTS.iter().filter(|fault| times(fault) == 0).collect();
    if !missing.is_empty() {
        println!("never met: {missing:?}");
    }
    let few = verdict.connected < AT_ONCE;
    if few {
        println!("only {} workers were connected at once, {AT_ONCE} are wanted", verdict.connected);
    }
    let failed = !violations.is_empty() || open > 0 || overhead >= OVERHEAD || few || !missing.is_empty();
    ExitCode::from(u8::from(failed))
}
