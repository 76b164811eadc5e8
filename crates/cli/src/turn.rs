//! One command at a time sends from a wallet of a network; others of the same folder wait for their turn.
//!
//! Two that send from one key at the same time would take the same nonce. The turn lasts as long as transactions are sent:
//! who waits for a result lets others buy.

use crate::{args::Gas, network, output, waits};
use bourse_chain::{Hub, PrivateKeySigner, Sender};
use bourse_service::{CancellationToken, journal::Journal};
use eyre::WrapErr;
use std::{
    fs::{File, TryLockError},
    path::Path,
    time::Duration,
};
use tokio::task::JoinSet;

/// How often it is looked whether the turn has come.
const LOOK: Duration = Duration::from_millis(20);

/// A turn at sending from a wallet.
pub(crate) struct Turn {
    /// The way to send, with a journal of this command alone.
    pub(crate) sender: Sender,
    lanes: JoinSet<()>,
    end: CancellationToken,
    /// The system lets go of it when the process dies.
    _lock: File,
}

impl Turn {
    /// Waits for the turn.
    pub(crate) async fn take(hub: &Hub, key: &PrivateKeySigner, data_dir: &Path, gas: &Gas) -> eyre::Result<Self> {
        let folder = data_dir.join("runs");
        let name = format!("{}-{}.db", network::now(), std::process::id());
        let journal = Journal::open(&folder.join(name), &[bourse_chain::sender::SCHEMA])?;
        let lock = locked(&folder.join(format!("{}.lock", key.address()))).await?;
        let (sender, lane) = Sender::open(hub.client.clone(), key.clone(), journal, gas.policy()).await?;
        let (mut lanes, end) = (JoinSet::new(), CancellationToken::new());
        let status = lane.watch();
        lanes.spawn(async move { waits::transactions("your transactions", status).await });
        lanes.spawn(lane.as_guest().run(end.clone()));
        Ok(Self { sender, lanes, end, _lock: lock })
    }

    /// Lets the next one send.
    pub(crate) async fn end(mut self) {
        self.end.cancel();
        while self.lanes.join_next().await.is_some() {}
    }
}

async fn locked(path: &Path) -> eyre::Result<File> {
    let failed = || format!("cannot use {}", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(path).wrap_err_with(failed)?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut told, true) {
                    output::say("another command sends from the same wallet: waiting for its transactions");
                }
                tokio::time::sleep(LOOK).await;
            }
            Err(TryLockError::Error(error)) => return Err(error).wrap_err_with(failed),
        }
    }
}
