//! `bourse up`: the network, staying up.

use crate::{
    args::{DataDir, Fuel, Gas, Node},
    network::{self, Here, Network, Plan},
    network_file, observer, output,
    services::Embedded,
    shutdown,
};
use bourse_protocol::abi::IHub::IHubEvents;
use clap::Args;
use tokio::{sync::mpsc, task::JoinSet};

/// How to run it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    node: Node,
    #[command(flatten)]
    embedded: Embedded,
    /// The first of four ports on 127.0.0.1: chain, market, scheduler, result store; 0 takes any free ones.
    #[arg(long, default_value_t = 7440)]
    port: u16,
    /// How many workers: their wallets are funded, and they run in this process unless told otherwise.
    #[arg(long, default_value_t = 3)]
    workers: u32,
    /// Run no workers in this process: `bourse worker` runs them elsewhere, with the keys in network.json.
    #[arg(long)]
    no_workers: bool,
    /// Run neither scheduler nor workers in this process: `bourse scheduler` and `bourse worker` run them elsewhere.
    #[arg(long)]
    no_scheduler: bool,
    #[command(flatten)]
    fuel: Fuel,
    #[command(flatten)]
    gas: Gas,
}

/// Runs until Ctrl-C.
pub(crate) async fn execute(arguments: Arguments) -> eyre::Result<()> {
    let mut signals = JoinSet::new();
    let stop = shutdown::on_signal(&mut signals);
    let data_dir = arguments.data_dir.path();
    let plan = Plan {
        data_dir: data_dir.clone(),
        node: arguments.node,
        embedded: arguments.embedded,
        port: arguments.port,
        workers: arguments.workers,
        liar: false,
        here: match (arguments.no_scheduler, arguments.no_workers) {
            (true, _) => Here::Nothing,
            (false, true) => Here::Scheduler,
            (false, false) => Here::All,
        },
        fuel: arguments.fuel.units,
        gas: arguments.gas.policy(),
    };
    output::say(&format!("starting a network in {}", data_dir.display()));
    let (network, mut services) = Network::start(plan, &network::tell, &stop).await?;
    let path = match network.file.write(&data_dir) {
        Ok(path) => path,
        Err(error) => {
            return Err(match network.stop(services).await {
                Ok(()) => error,
                Err(kept) => error.wrap_err(kept),
            });
        }
    };
    output::say(&format!(
        "ready: {}\nbuy a computation in another shell:\n  bourse run --data-dir {} \\\n    --app {} --dataset {} \\\n    --args '--strike 450 --maturity 1' --trust 5\nCtrl-C stops; the same command continues",
        path.display(),
        data_dir.display(),
        crate::assets::APP_NAME,
        crate::assets::DATASET_NAME,
    ));
    let mut narrators = JoinSet::new();
    let (events, seen) = mpsc::unbounded_channel();
    narrators.spawn(observer::watch(network.hub.clone(), network.first_block + 1, events, stop.clone()));
    narrators.spawn(narrate(seen));
    let end = services.run_until(&stop).await;
    stop.cancel();
    while narrators.join_next().await.is_some() {}
    output::say("stopping");
    let stopped = network.stop(services).await;
    output::say(&format!(
        "stopped; everything is in {} ({} is gone until the next start)",
        data_dir.display(),
        network_file::NAME
    ));
    end.and(stopped)
}

/// Says what becomes of tasks.
async fn narrate(mut seen: mpsc::UnboundedReceiver<observer::Seen>) {
    while let Some(seen) = seen.recv().await {
        match seen.event {
            IHubEvents::OrdersMatched(e) => output::say(&format!("deal {} was made: {} task(s)", e.dealid, e.volume)),
            IHubEvents::TaskFinalize(e) => output::say(&format!("task {} is finalised and paid", e.taskid)),
            IHubEvents::TaskClaimed(e) => {
                output::say(&format!("task {} ran out of time: its refund was claimed", e.taskid));
            }
            _ => {}
        }
    }
}
