//! `network.json`: where everything of a running network is. Its appearance means that every URL in it answers.

use crate::{failure, output};
use bourse_chain::{Client, PrivateKeySigner, keys};
use bourse_protocol::Address;
use bourse_service::CancellationToken;
use eyre::WrapErr;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// A service that takes longer than this does not answer.
const ANSWER: Duration = Duration::from_secs(10);
/// A node that does not answer yet is asked again after this time.
const LOOK: Duration = Duration::from_secs(1);
/// The name of the file in a data directory.
pub(crate) const NAME: &str = "network.json";

/// A network as clients see it. A service that does not exist is `null`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetworkFile {
    pub(crate) chain_id: u64,
    pub(crate) rpc_url: String,
    pub(crate) ws_url: Option<String>,
    pub(crate) hub: Address,
    pub(crate) rlc: Address,
    pub(crate) workerpool: Address,
    pub(crate) market_url: Option<String>,
    pub(crate) sms_url: Option<String>,
    pub(crate) ipfs_gateway_url: Option<String>,
    pub(crate) ipfs_node_url: Option<String>,
    pub(crate) compass_url: Option<String>,
    pub(crate) scheduler_url: Option<String>,
    pub(crate) dashboard_url: Option<String>,
    pub(crate) keys: Keys,
}

/// The keys of the roles that this network runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Keys {
    pub(crate) admin: Key,
    pub(crate) workerpool_owner: Key,
    pub(crate) requester: Key,
    pub(crate) workers: Vec<Key>,
}

/// A wallet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Key {
    pub(crate) address: Address,
    pub(crate) private_key: String,
}

impl From<&PrivateKeySigner> for Key {
    fn from(key: &PrivateKeySigner) -> Self {
        Self { address: key.address(), private_key: keys::private_hex(key) }
    }
}

impl Key {
    /// The key as a signer.
    pub(crate) fn signer(&self) -> eyre::Result<PrivateKeySigner> {
        self.private_key.parse().wrap_err_with(|| format!("the private key of {} in {NAME} is damaged", self.address))
    }
}

impl NetworkFile {
    /// Reads the file of a data directory.
    pub(crate) fn read(data_dir: &Path) -> eyre::Result<Self> {
        let path = data_dir.join(NAME);
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => failure::refused(format!(
                "no network runs in {}: start one with `bourse up --data-dir {0}`",
                data_dir.display()
            )),
            _ => eyre::Report::new(error).wrap_err(format!("cannot read {}", path.display())),
        })?;
        serde_json::from_str(&text).wrap_err_with(|| format!("{} is damaged: start the network again", path.display()))
    }

    /// The network of a data directory, once it answers. A file that was left behind by a killed process is no network.
    pub(crate) async fn running(data_dir: &Path) -> eyre::Result<(Self, Client)> {
        let network = Self::read(data_dir)?;
        let client = Client::connect(&network.rpc_url)?;
        if !network.node_answers(&client, data_dir).await? {
            return Err(network.silent(data_dir, &network.rpc_url));
        }
        if let Some(market) = &network.market_url {
            let asked = bourse_service::http::client(ANSWER).get(format!("{market}/version")).send().await;
            if asked.is_err() {
                return Err(network.silent(data_dir, market));
            }
        }
        Ok((network, client))
    }

    /// The network of a data directory, and its node as soon as that answers: a role that starts before its node waits for
    /// it, and says so. `None` if the wait is cut short.
    pub(crate) async fn awaited(data_dir: &Path, stop: &CancellationToken) -> eyre::Result<Option<(Self, Client)>> {
        let mut said = false;
        loop {
            // It may come back elsewhere.
            let network = Self::read(data_dir)?;
            let client = Client::connect(&network.rpc_url)?;
            let answers = tokio::select! {
                () = stop.cancelled() => return Ok(None),
                answers = network.node_answers(&client, data_dir) => answers?,
            };
            if answers {
                return Ok(Some((network, client)));
            }
            if !std::mem::replace(&mut said, true) {
                output::say(&format!("{} does not answer: waiting for the node; Ctrl-C stops", network.rpc_url));
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(None),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Whether the node answers. One of another chain is an error.
    async fn node_answers(&self, client: &Client, data_dir: &Path) -> eyre::Result<bool> {
        match client.chain_id().await {
            Ok(id) if id == self.chain_id => Ok(true),
            Ok(id) => Err(failure::refused(format!(
                "{} is chain {id} now, and the network in {} is on chain {}: start it again",
                self.rpc_url,
                data_dir.display(),
                self.chain_id
            ))),
            Err(error) if error.is_transient() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn silent(&self, data_dir: &Path, url: &str) -> eyre::Report {
        // A network that is announced without a WebSocket is not on the embedded chain.
        let more = if self.ws_url.is_some() { "" } else { " and the --rpc-url and --key-file that it had" };
        let dir = data_dir.display();
        failure::refused(format!(
            "the network in {dir} is not running ({url} does not answer): start it with `bourse up --data-dir {dir}`{more}"
        ))
    }

    /// Writes the file: whole or not at all, for its owner only.
    pub(crate) fn write(&self, data_dir: &Path) -> eyre::Result<PathBuf> {
        let path = data_dir.join(NAME);
        let draft = data_dir.join("network.json.new");
        let text = serde_json::to_vec_pretty(self).expect("network files serialise");
        let write = || {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        write().wrap_err_with(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Takes the file away: the network no longer answers.
    pub(crate) fn remove(data_dir: &Path) {
        // Nothing to remove is as good as removed.
        let _ = fs::remove_file(data_dir.join(NAME));
    }
}

/// `$XDG_DATA_HOME/bourse`, or `~/.local/share/bourse`.
pub(crate) fn default_data_dir() -> PathBuf {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let home = || absolute("HOME").unwrap_or_else(|| PathBuf::from("/")).join(".local/share");
    absolute("XDG_DATA_HOME").unwrap_or_else(home).join("bourse")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_whole_private_and_has_the_promised_form() {
        let folder = tempfile::tempdir().unwrap();
        let key = Key::from(&keys::test_key(0));
        let network = NetworkFile {
            chain_id: 31337,
            rpc_url: "http://127.0.0.1:1".into(),
            ws_url: None,
            hub: Address::with_last_byte(1),
            rlc: Address::with_last_byte(2),
            workerpool: Address::with_last_byte(3),
            market_url: Some("http://127.0.0.1:2".into()),
            sms_url: None,
            ipfs_gateway_url: None,
            ipfs_node_url: None,
            compass_url: None,
            scheduler_url: None,
            dashboard_url: None,
            keys: Keys {
                admin: key.clone(),
                workerpool_owner: key.clone(),
                requester: key.clone(),
                workers: vec![key],
            },
        };
        let path = network.write(folder.path()).unwrap();
        assert_eq!(NetworkFile::read(folder.path()).unwrap(), network);
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert!(json["smsUrl"].is_null() && json["keys"]["workerpoolOwner"]["privateKey"].is_string(), "{json}");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        NetworkFile::remove(folder.path());
        assert!(NetworkFile::read(folder.path()).unwrap_err().to_string().contains("bourse up"));
    }
}
