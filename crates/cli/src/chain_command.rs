//! `bourse chain`: the embedded chain alone.

use crate::{args::DataDir, keyring::Keyring, output, services, shutdown};
use clap::{Args, Subcommand};
use tokio::task::JoinSet;

/// What to do with a chain.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the embedded chain, and nothing else, until Ctrl-C.
    Run(RunArguments),
}

/// How to run it.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    embedded: services::Embedded,
    /// The port on 127.0.0.1; 0 takes any free one.
    #[arg(long, default_value_t = 8545)]
    port: u16,
    /// Keep everything in memory.
    #[arg(long, conflicts_with = "data_dir")]
    memory: bool,
}

/// Does it.
pub(crate) async fn execute(command: Command) -> eyre::Result<()> {
    let Command::Run(arguments) = command;
    let mut signals = JoinSet::new();
    let stop = shutdown::on_signal(&mut signals);
    let folder = (!arguments.memory).then(|| arguments.data_dir.path().join("chain"));
    let chain = services::open_chain(folder, &arguments.embedded, &Keyring::test(7))?;
    let server = services::bind_chain(&chain, arguments.port, &arguments.embedded)?;
    output::say(&format!("chain 31337 answers at http://{0} and ws://{0}; Ctrl-C stops it", server.local_addr()));
    server.run(stop).await;
    Ok(())
}
