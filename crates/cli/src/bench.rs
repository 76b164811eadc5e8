//! `bourse bench`: what the parts can bear, measured on this machine.

mod child;
mod crowd;
mod cycles;
mod figures;
mod ground;
mod overlay;
mod push;
mod scheduler_log;
mod workers;

use clap::Subcommand;

/// The benches, and the processes that they start.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure a scheduler with many workers: memory, push, durable cycles, restart.
    Workers(workers::Arguments),
    /// The workers of a bench: links without machines behind them. Started by the bench itself.
    #[command(hide = true, override_usage = "bourse bench crowd [OPTIONS]")]
    Crowd(crowd::Arguments),
    /// The scheduler of the cycles, on a chain whose answers about tasks are prepared. Started by the bench itself.
    #[command(hide = true, override_usage = "bourse bench scheduler [OPTIONS]")]
    Scheduler(cycles::Arguments),
}

/// Does it.
pub(crate) async fn execute(command: Command) -> eyre::Result<()> {
    match command {
        Command::Workers(arguments) => Box::pin(workers::execute(arguments)).await,
        Command::Crowd(arguments) => Box::pin(crowd::execute(arguments)).await,
        Command::Scheduler(arguments) => Box::pin(cycles::execute(arguments)).await,
    }
}
