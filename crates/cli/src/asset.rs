//! `bourse app publish` and `bourse dataset publish`: put something of one's own on a running network's market.
//!
//! The content goes to the network's store, a contract names it and its checksum, an order offers it. Every step may be
//! repeated: the same content under the same name is the same contract and the same order.

use crate::{
    args::{DataDir, Gas},
    network_file::NetworkFile,
    output,
    publish::{self, Asset},
    run::need,
    turn::Turn,
};
use bourse_chain::{Hub, PrivateKeySigner, Sender, deploy, deploy::Deployment, keys};
use bourse_market::client::Client as Market;
use bourse_protocol::{Address, B256, ipfs::Cid, money::Nrlc};
use clap::{Args, Subcommand};
use eyre::WrapErr;
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How long the store may take for a file.
const UPLOAD: Duration = Duration::from_secs(600);

/// What to do with apps.
#[derive(Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// Register a WASI module and offer it.
    Publish(AppArguments),
}

/// What to do with datasets.
#[derive(Debug, Subcommand)]
pub(crate) enum DatasetCommand {
    /// Register a file and offer it.
    Publish(DatasetArguments),
}

/// An app.
#[derive(Debug, Args)]
pub(crate) struct AppArguments {
    /// The WASI preview 1 module.
    #[arg(long, value_name = "FILE")]
    module: PathBuf,
    #[command(flatten)]
    terms: Terms,
}

/// A dataset.
#[derive(Debug, Args)]
pub(crate) struct DatasetArguments {
    /// The file.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// The sha256 that stands on chain [default: that of the file]. Workers refuse content with another one.
    #[arg(long, value_name = "SHA256")]
    checksum: Option<B256>,
    #[command(flatten)]
    terms: Terms,
}

/// What both have.
#[derive(Debug, Args)]
struct Terms {
    /// The name on chain. Anybody may use any name: whoever uses the asset by name relies on there being only one.
    #[arg(long)]
    name: String,
    /// The price per task, in RLC.
    #[arg(long, value_name = "RLC", default_value = "0")]
    price: Nrlc,
    /// The owner's key: a file with 64 hex digits [default: the network's admin].
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data_dir: DataDir,
    #[command(flatten)]
    gas: Gas,
}

/// What is published, before it has a place on chain.
enum Kind {
    App,
    Dataset,
}

/// `bourse app …`
pub(crate) async fn app(command: AppCommand) -> eyre::Result<()> {
    let AppCommand::Publish(arguments) = command;
    publish(Kind::App, &arguments.module, None, &arguments.terms).await
}

/// `bourse dataset …`
pub(crate) async fn dataset(command: DatasetCommand) -> eyre::Result<()> {
    let DatasetCommand::Publish(arguments) = command;
    publish(Kind::Dataset, &arguments.file, arguments.checksum, &arguments.terms).await
}

async fn publish(kind: Kind, path: &Path, checksum: Option<B256>, terms: &Terms) -> eyre::Result<()> {
    let content = std::fs::read(path).wrap_err_with(|| format!("cannot read {}", path.display()))?;
    let data_dir = terms.data_dir.path();
    let (network, client) = NetworkFile::running(&data_dir).await?;
    let key = match &terms.key_file {
        Some(path) => keys::read(path)?,
        None => network.keys.admin.signer()?,
    };
    let checksum = checksum.unwrap_or_else(|| publish::sha256(&content));
    let cid = store(&network, &data_dir, content).await?;
    let hub = Hub::new(client, network.hub);
    let contracts = deploy::find(&hub.client, hub.address).await?;
    let market = Market::new(need(&network.market_url, "market")?, network.chain_id);
    let turn = Turn::take(&hub, &key, &data_dir, &terms.gas).await?;
    let asset = Asset { name: terms.name.clone(), cid, checksum };
    let offer = Offer { hub: &hub, contracts: &contracts, market: &market, key: &key, sender: &turn.sender };
    let offered = offer.make(kind, asset, terms.price).await;
    turn.end().await;
    let address = offered?;
    match terms.json {
        true => output::json(&json!({
            "address": address, "name": terms.name, "location": cid.link(), "checksum": checksum, "price": terms.price,
        })),
        false => {
            output::say(&format!("{:?} is on the market for {} RLC per task, as", terms.name, terms.price));
            output::data(&address.to_string());
        }
    }
    Ok(())
}

/// Who offers, and where.
struct Offer<'a> {
    hub: &'a Hub,
    contracts: &'a Deployment,
    market: &'a Market,
    key: &'a PrivateKeySigner,
    sender: &'a Sender,
}

impl Offer<'_> {
    /// Registers and offers; returns the contract.
    async fn make(&self, kind: Kind, asset: Asset, price: Nrlc) -> eyre::Result<Address> {
        let domain = self.hub.domain().await?;
        match kind {
            Kind::App => {
                let address = publish::app(self.hub, self.contracts, self.sender, asset).await?;
                publish::offer(self.market, self.key, publish::app_order(address, price), &domain).await?;
                Ok(address)
            }
            Kind::Dataset => {
                let address = publish::dataset(self.hub, self.contracts, self.sender, asset).await?;
                publish::offer(self.market, self.key, publish::dataset_order(address, price), &domain).await?;
                Ok(address)
            }
        }
    }
}

/// Puts content into the network's store, and checks that it is there under its own name.
pub(crate) async fn store(network: &NetworkFile, data_dir: &Path, content: Vec<u8>) -> eyre::Result<Cid> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Added {
        hash: Cid,
    }
    let node = need(&network.ipfs_node_url, "store that takes files")?;
    let token = data_dir.join("upload.token");
    let token = std::fs::read_to_string(&token).wrap_err_with(|| format!("cannot read {}", token.display()))?;
    let cid = Cid::of(&content);
    let part = reqwest::multipart::Part::bytes(content);
    let request = bourse_service::http::client(UPLOAD)
        .post(format!("{node}/api/v0/add?pin=true"))
        .bearer_auth(token.trim())
        .multipart(reqwest::multipart::Form::new().part("file", part));
    let answer = request.send().await.and_then(reqwest::Response::error_for_status);
    let answer = answer.wrap_err_with(|| format!("the store at {node} did not take the file: try again"))?;
    let Added { hash } = answer.json().await.wrap_err("the store's answer is not understood")?;
    match hash == cid {
        true => Ok(cid),
        false => Err(eyre::eyre!("the store kept {hash} and was given {cid}: do not use it")),
    }
}
