//! The contracts of a network: remembered in its folder, found on its chain, or put there.
//!
//! What is remembered is checked on the chain before it is used. A deployment that was interrupted goes on.

use crate::{failure, waits};
use bourse_chain::{
    Client, GasPolicy, PrivateKeySigner, Sender,
    deploy::{self, Deployment, Options},
};
use bourse_protocol::Address;
use bourse_service::{CancellationToken, journal::Journal};
use eyre::WrapErr;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tokio::task::JoinSet;

/// What is remembered of a network's contracts from one start to the next: `deployment.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Contracts {
    /// Where they are.
    pub(crate) deployment: Deployment,
    /// The first block that can hold an event of theirs.
    pub(crate) start_block: u64,
}

/// Where the contracts of a folder are remembered.
pub(crate) fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("deployment.json")
}

/// What was written into a folder, as it is there now.
fn remembered(path: &Path) -> eyre::Result<Option<Contracts>> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .wrap_err_with(|| format!("{} is damaged: restore it, or choose another --data-dir", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).wrap_err_with(|| format!("cannot read {}", path.display())),
    }
}

/// The contracts that a folder remembers, once the chain has confirmed them; `wanted` is the hub that somebody named.
pub(crate) async fn known(
    client: &Client,
    data_dir: &Path,
    wanted: Option<Address>,
) -> eyre::Result<Option<Contracts>> {
    let path = file(data_dir);
    let Some(memory) = remembered(&path)? else { return Ok(None) };
    let found = deploy::find(client, memory.deployment.hub).await.wrap_err_with(|| {
        format!("{} names contracts that this chain does not have: choose another --data-dir", path.display())
    })?;
    if found != memory.deployment || wanted.is_some_and(|hub| hub != found.hub) {
        return Err(failure::refused(format!(
            "{} belongs to hub {} on chain {}: choose another --data-dir",
            data_dir.display(),
            memory.deployment.hub,
            memory.deployment.chain_id
        )));
    }
    Ok(Some(memory))
}

/// Remembers the contracts of a hub that is on the chain already.
pub(crate) async fn adopt(client: &Client, data_dir: &Path, hub: Address) -> eyre::Result<Contracts> {
    let start_block = client.head().await?.number;
    let deployment = deploy::find(client, hub).await?;
    remember(data_dir, Contracts { deployment, start_block })
}

/// Puts new contracts on the chain. `journal` is the folder's: steps that were done before are not done again.
pub(crate) async fn put(
    client: &Client,
    data_dir: &Path,
    wallet: (&PrivateKeySigner, GasPolicy),
    options: Options,
    journal: &Journal,
    tell: &dyn Fn(&str),
) -> eyre::Result<Contracts> {
    let (key, gas) = wallet;
    let (sender, lane) = Sender::open(client.clone(), key.clone(), journal.clone(), gas).await?;
    let (stop, mut lanes) = (CancellationToken::new(), JoinSet::new());
    let status = lane.watch();
    lanes.spawn(async move { waits::transactions("the transactions of the deployment", status).await });
    lanes.spawn(lane.as_guest().run(stop.clone()));
    let deployed = async {
        let deployment = deploy::deploy(client, &sender, options, |step| tell(step)).await?;
        Ok::<_, deploy::Error>((deployment, deploy::first_block(&sender).await?))
    };
    let deployed = deployed.await;
    stop.cancel();
    while lanes.join_next().await.is_some() {}
    let (deployment, start_block) = deployed?;
    // What the journal remembers could have been lost by the chain.
    let found = deploy::find(client, deployment.hub).await?;
    if found != deployment {
        return Err(eyre::eyre!("hub {} does not hold what was put into it: choose another --data-dir", found.hub));
    }
    remember(data_dir, Contracts { deployment, start_block })
}

/// Writes the file, whole or not at all.
fn remember(data_dir: &Path, contracts: Contracts) -> eyre::Result<Contracts> {
    let path = file(data_dir);
    let draft = path.with_extension("new");
    let text = serde_json::to_vec_pretty(&contracts).expect("contracts serialise");
    let write = || {
        std::fs::write(&draft, text)?;
        std::fs::File::open(&draft)?.sync_all()?;
        std::fs::rename(&draft, &path)
    };
    write().wrap_err_with(|| format!("cannot write {}", path.display()))?;
    Ok(contracts)
}
