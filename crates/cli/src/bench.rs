//! `bourse bench`: what the parts can bear, measured on this machine.

mod child;
mod crowd;
mod cycles;
mod figures;
mod fleet;
mod ground;
mod hosts;
mod nodes;
mod overlay;
mod published;
mod push;
mod scheduler_log;
mod shop;
mod stack;
mod story;
mod task;
mod workerdrop;
mod workers;

use clap::Subcommand;

/// The benches, and the processes that they start.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure a scheduler with many workers: memory, push, durable cycles, restart.
    Workers(workers::Arguments),
    /// Measure a task that computes nothing, from its match to its end, with blocks of a second.
    Task(task::Arguments),
    /// Replay the public runs of 2018 in ten minutes: 311 workers, 170 orders, nodes that lose and double.
    Workerdrop(workerdrop::Arguments),
    /// The workers of a bench: links without machines behind them. Started by the bench itself.
    #[command(hide = true, override_usage = "bourse bench crowd [OPTIONS]")]
    Crowd(crowd::Arguments),
    /// Workers of a replay, several in one process. Started by the bench itself.
    #[command(hide = true, override_usage = "bourse bench hosts [OPTIONS]")]
    Hosts(hosts::Arguments),
    /// The scheduler of the cycles, on a chain whose answers about tasks are prepared. Started by the bench itself.
    #[command(hide = true, override_usage = "bourse bench scheduler [OPTIONS]")]
    Scheduler(cycles::Arguments),
}

/// Does it.
pub(crate) async fn execute(command: Command) -> eyre::Result<()> {
    match command {
        Command::Workers(arguments) => Box::pin(workers::execute(arguments)).await,
        Command::Task(arguments) => Box::pin(task::execute(arguments)).await,
        Command::Workerdrop(arguments) => Box::pin(workerdrop::execute(arguments)).await,
        Command::Hosts(arguments) => Box::pin(hosts::execute(arguments)).await,
        Command::Crowd(arguments) => Box::pin(crowd::execute(arguments)).await,
        Command::Scheduler(arguments) => Box::pin(cycles::execute(arguments)).await,
    }
}
