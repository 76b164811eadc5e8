//! `bourse chain`: the embedded chain alone, and the contracts on any chain.

use crate::{
    args::{DataDir, Gas},
    chain_status,
    contracts::{self, Contracts},
    failure,
    funds::{self, Bill},
    keyring::Keyring,
    network, output, services, shutdown,
};
use bourse_chain::{
    Client, PrivateKeySigner,
    deploy::{self, Options},
    keys, sender,
};
use bourse_protocol::reward::Penalty;
use bourse_service::{CancellationToken, journal::Journal};
use clap::{ArgAction, Args, Subcommand, ValueEnum};
use eyre::WrapErr;
use serde::Serialize;
use std::path::{Path, PathBuf};
use tokio::task::JoinSet;

/// What to do with a chain.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the embedded chain, and nothing else, until Ctrl-C.
    Run(RunArguments),
    /// Put token, hub, registries and categories on any chain, once.
    Deploy(DeployArguments),
    /// Show how the nodes of a chain do, and which of them are used.
    Status(chain_status::Arguments),
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
    #[arg(long, conflicts_with = "path")]
    memory: bool,
}

/// What to put there, and where.
#[derive(Debug, Args)]
pub(crate) struct DeployArguments {
    /// The Ethereum node; may be given several times, the preferred first.
    #[arg(long, value_name = "URL", required = true, action = ArgAction::Append, value_delimiter = ',')]
    rpc_url: Vec<String>,
    /// The key that pays, and owns hub and registries then: a file with 64 hex digits.
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    #[command(flatten)]
    data_dir: DataDir,
    /// What a wrong answer costs in reputation [default: fifty].
    #[arg(long, value_name = "RULE")]
    penalty: Option<Rule>,
    /// How long what the owner changes must have been announced, in seconds; 0: changes act at once [default: 604800].
    #[arg(long, value_name = "SECONDS")]
    delay: Option<u64>,
    /// Spend without asking, also on a chain that is not for tests.
    #[arg(long)]
    yes: bool,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gas: Gas,
}

/// The rules for what a wrong answer costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Rule {
    /// Fifty points, not below zero.
    Fifty,
    /// One third of the score, as in the published contracts.
    Third,
}

impl Rule {
    fn of(penalty: Penalty) -> Self {
        match penalty {
            Penalty::Fifty => Self::Fifty,
            Penalty::Third => Self::Third,
        }
    }

    fn penalty(self) -> Penalty {
        match self {
            Self::Fifty => Penalty::Fifty,
            Self::Third => Penalty::Third,
        }
    }
}

/// Does it.
pub(crate) async fn execute(command: Command) -> eyre::Result<()> {
    match command {
        Command::Run(arguments) => run(arguments).await,
        Command::Deploy(arguments) => deploy(arguments).await,
        Command::Status(arguments) => chain_status::execute(arguments).await,
    }
}

async fn run(arguments: RunArguments) -> eyre::Result<()> {
    let mut signals = JoinSet::new();
    let stop = shutdown::on_signal(&mut signals);
    let folder = (!arguments.memory).then(|| arguments.data_dir.path().join("chain"));
    let chain = services::open_chain(folder, &arguments.embedded, &Keyring::test(7))?;
    let server = services::bind_chain(&chain, arguments.port, &arguments.embedded)?;
    output::say(&format!("chain 31337 answers at http://{0} and ws://{0}; Ctrl-C stops it", server.local_addr()));
    server.run(stop).await;
    Ok(())
}

async fn deploy(arguments: DeployArguments) -> eyre::Result<()> {
    let mut signals = JoinSet::new();
    let stop = shutdown::on_signal(&mut signals);
    let dir = arguments.data_dir.path();
    let key = keys::read(&arguments.key_file)?;
    let client = Client::connect(&arguments.rpc_url.join(","))?;
    services::make_folder(&dir)?;
    let journal = Journal::open(&dir.join("setup.db"), &[sender::SCHEMA])?;
    let (contracts, is_new) = tokio::select! {
        there = find_or_put(&arguments, &client, &dir, &key, &journal, &stop) => there?,
        full = services::no_room(&dir) => return Err(full),
        () = stop.cancelled() => return Err(failure::interrupted(format!(
            "stopped in the middle; what was sent is on chain, and known in {}: the same command goes on",
            dir.display()
        ))),
    };
    show(&arguments, &client, &dir, contracts, is_new).await
}

/// The contracts of the folder, and whether they were put on the chain now.
async fn find_or_put(
    arguments: &DeployArguments,
    client: &Client,
    dir: &Path,
    key: &PrivateKeySigner,
    journal: &Journal,
    stop: &CancellationToken,
) -> eyre::Result<(Contracts, bool)> {
    if let Some(known) = contracts::known(client, dir, None).await? {
        check_options(arguments, client, dir, &known).await?;
        return Ok((known, false));
    }
    let policy = arguments.gas.policy();
    let gas = funds::gas_cost(&policy, client.gas_price().await?, deploy::GAS);
    let bill = Bill::of(&[], gas);
    bill.confirm(client.chain_id().await?, client.node(), key.address(), arguments.yes)?;
    journal.belongs_to(&client.identity().await?)?;
    // Who goes on has paid for a part of it.
    if !sender::has_intents(journal, key.address())? {
        bill.check(client, key.address(), None).await?;
    }
    if stop.is_cancelled() {
        return Err(failure::interrupted("stopped: nothing was sent"));
    }
    let wanted = Options {
        penalty: arguments.penalty.unwrap_or(Rule::Fifty).penalty(),
        owner_delay: arguments.delay.unwrap_or(Options::default().owner_delay),
    };
    let put = contracts::put(client, dir, (key, policy), wanted, journal, &|step| network::tell(step)).await?;
    Ok((put, true))
}

/// Refuses other options than those of the contracts that are there.
async fn check_options(
    arguments: &DeployArguments,
    client: &Client,
    dir: &Path,
    known: &Contracts,
) -> eyre::Result<()> {
    if arguments.penalty.is_none() && arguments.delay.is_none() {
        return Ok(());
    }
    let there = deploy::options(client, known.deployment.hub).await.wrap_err("the hub does not tell its options")?;
    let same = arguments.penalty.is_none_or(|rule| rule.penalty() == there.penalty)
        && arguments.delay.is_none_or(|delay| delay == there.owner_delay);
    match same {
        true => Ok(()),
        false => Err(failure::refused(format!(
            "hub {} in {} has penalty {} and a delay of {} s, which cannot be changed here: choose another --data-dir to deploy another hub",
            known.deployment.hub,
            dir.display(),
            Rule::of(there.penalty).to_possible_value().expect("every rule has a name").get_name(),
            there.owner_delay
        ))),
    }
}

/// Says where everything is.
async fn show(
    arguments: &DeployArguments,
    client: &Client,
    dir: &Path,
    contracts: Contracts,
    is_new: bool,
) -> eyre::Result<()> {
    let Contracts { deployment: d, start_block } = contracts;
    let options = deploy::options(client, d.hub).await.ok();
    let file = contracts::file(dir);
    output::say(&match is_new {
        true => format!("deployed; the addresses are in {}", file.display()),
        false => format!("found: {} names contracts that are on the chain; nothing was sent", file.display()),
    });
    if arguments.json {
        output::json(&serde_json::json!({
            "ok": true,
            "deployed": is_new,
            "file": file,
            "chainId": d.chain_id,
            "hub": d.hub,
            "rlc": d.rlc,
            "appRegistry": d.app_registry,
            "datasetRegistry": d.dataset_registry,
            "workerpoolRegistry": d.workerpool_registry,
            "startBlock": start_block,
            "penalty": options.map(|o| Rule::of(o.penalty)),
            "ownerDelay": options.map(|o| o.owner_delay),
        }));
        return Ok(());
    }
    let rows = [
        ("chain", d.chain_id.to_string()),
        ("hub", d.hub.to_string()),
        ("RLC", d.rlc.to_string()),
        ("app registry", d.app_registry.to_string()),
        ("dataset registry", d.dataset_registry.to_string()),
        ("workerpool registry", d.workerpool_registry.to_string()),
    ];
    let lines: Vec<String> = rows.iter().map(|(name, value)| format!("  {name:<21}{value}")).collect();
    output::data(&lines.join("\n"));
    Ok(())
}
