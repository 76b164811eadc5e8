//! The command line.

use crate::{asset, bench, chain_command, demo, network_file, role_commands, run, task, up};
use bourse_chain::{Client, GasPolicy};
use bourse_protocol::Address;
use bourse_worker::wasm::Limits;
use clap::{ArgAction, Args, Parser, Subcommand};
use std::path::PathBuf;

/// A decentralized marketplace for computing, in one binary.
#[derive(Debug, Parser)]
#[command(name = "bourse", version, propagate_version = true, arg_required_else_help = true, max_term_width = 80)]
pub(crate) struct Arguments {
    /// Say more on stderr: -v what the services do, -vv everything.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the whole market at work: buy a computation, have it checked, see everybody paid.
    Demo(demo::Arguments),
    /// Run a network that stays up until Ctrl-C, and continues when it is started again.
    Up(up::Arguments),
    /// Buy a computation on a running network, wait for it, and download the result.
    Run(run::Arguments),
    /// Look after tasks that were bought.
    #[command(subcommand)]
    Task(task::Command),
    /// Apps that others may run for a price.
    #[command(subcommand)]
    App(asset::AppCommand),
    /// Datasets that others may compute on for a price.
    #[command(subcommand)]
    Dataset(asset::DatasetCommand),
    /// The embedded chain alone.
    #[command(subcommand)]
    Chain(chain_command::Command),
    /// Run a pool's scheduler as a process of its own.
    Scheduler(role_commands::SchedulerArguments),
    /// Run a worker as a process of its own.
    Worker(role_commands::WorkerArguments),
    /// Measure what the parts can bear on this machine.
    #[command(subcommand)]
    Bench(bench::Command),
}

impl Command {
    /// Does it.
    pub(crate) async fn execute(self) -> eyre::Result<()> {
        match self {
            Self::Demo(arguments) => Box::pin(demo::execute(arguments)).await,
            Self::Up(arguments) => Box::pin(up::execute(arguments)).await,
            Self::Run(arguments) => run::execute(arguments).await,
            Self::Task(command) => task::execute(command).await,
            Self::App(command) => asset::app(command).await,
            Self::Dataset(command) => asset::dataset(command).await,
            Self::Chain(command) => chain_command::execute(command).await,
            Self::Scheduler(arguments) => role_commands::scheduler(arguments).await,
            Self::Worker(arguments) => role_commands::worker(arguments).await,
            Self::Bench(command) => bench::execute(command).await,
        }
    }
}

/// Where a network keeps its files.
#[derive(Clone, Debug, Args)]
pub(crate) struct DataDir {
    /// The network's folder [default: $XDG_DATA_HOME/bourse].
    #[arg(long = "data-dir", value_name = "DIR")]
    path: Option<PathBuf>,
}

impl DataDir {
    /// The folder, as an absolute path where that can be said.
    pub(crate) fn path(&self) -> PathBuf {
        absolute(self.path.clone().unwrap_or_else(network_file::default_data_dir))
    }
}

/// A path that stays the same whatever the current folder is, where that can be said.
pub(crate) fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// Which chain a network runs on: the embedded one, or any Ethereum node.
#[derive(Clone, Debug, Args)]
pub(crate) struct Node {
    /// Use this Ethereum node instead of the embedded chain; may be given several times, the preferred first.
    #[arg(long, value_name = "URL", requires = "key_file", action = ArgAction::Append, value_delimiter = ',')]
    rpc_url: Vec<String>,
    /// The key that deploys and funds on that node: a file with 64 hex digits.
    #[arg(long, value_name = "FILE", requires = "rpc_url")]
    pub(crate) key_file: Option<PathBuf>,
    /// The hub that is deployed there already.
    #[arg(long, value_name = "ADDRESS", requires = "rpc_url")]
    pub(crate) hub: Option<Address>,
    /// Spend without asking, also on a chain that is not for tests.
    #[arg(long, requires = "rpc_url")]
    pub(crate) yes: bool,
}

impl Node {
    /// The nodes, with commas between them, as the chain client wants them.
    pub(crate) fn rpc_url(&self) -> Option<String> {
        (!self.rpc_url.is_empty()).then(|| self.rpc_url.join(","))
    }
}

/// What one run of an app may burn.
#[derive(Clone, Debug, Args)]
pub(crate) struct Fuel {
    /// Fuel for one run of an app, roughly instructions. All workers of a pool need the same, or their answers differ.
    #[arg(long = "fuel", value_name = "UNITS", default_value_t = Limits::default().fuel)]
    pub(crate) units: u64,
}

/// What reorgs may take back.
#[derive(Clone, Debug, Args)]
pub(crate) struct Depth {
    /// How many blocks must lie above one that counts [default: 0 on development chains, 1 elsewhere].
    #[arg(long = "depth", value_name = "BLOCKS", value_parser = clap::value_parser!(u64).range(..=64))]
    blocks: Option<u64>,
}

impl Depth {
    /// A client that was not used yet, with that depth.
    pub(crate) fn of(&self, client: Client) -> Client {
        match self.blocks {
            Some(blocks) => client.with_depth(blocks),
            None => client,
        }
    }
}

/// What transactions may cost.
#[derive(Clone, Debug, Args)]
pub(crate) struct Gas {
    /// The network's gas price is multiplied by this.
    #[arg(long, value_name = "FACTOR", env = "IEXEC_GAS_PRICE_MULTIPLIER", default_value = "1.3", value_parser = factor)]
    gas_price_multiplier: u32,
    /// Never pay more than this, in wei per gas.
    #[arg(long, value_name = "WEI", env = "IEXEC_GAS_PRICE_CAP", default_value_t = GasPolicy::default().cap)]
    gas_price_cap: u128,
}

impl Gas {
    /// As the chain client wants it.
    pub(crate) fn policy(&self) -> GasPolicy {
        GasPolicy { multiplier_percent: self.gas_price_multiplier, cap: self.gas_price_cap }
    }
}

/// A factor such as 1.3, in percent.
fn factor(text: &str) -> Result<u32, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is not a number such as 1.3"))?;
    let percent = (value * 100.0).round();
    if (1.0..=100_000.0).contains(&percent) { Ok(percent as u32) } else { Err("choose between 0.01 and 1000".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_fits_a_narrow_terminal() {
        fn check(command: &mut clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            for line in command.render_long_help().to_string().lines() {
                assert!(line.chars().count() <= 80, "{path}: {line}");
            }
            command.get_subcommands_mut().for_each(|c| check(c, &path));
        }
        let mut command = Arguments::command();
        command.build();
        check(&mut command, "");
    }

    #[test]
    fn factors_are_percent() {
        assert_eq!(factor("1.3"), Ok(130));
        assert!(factor("x").is_err() && factor("-1").is_err() && factor("NaN").is_err());
    }
}
