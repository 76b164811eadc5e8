//! What every replicate of a worker shares, and how a replicate says where it stands.

use crate::{Config, Error, checks::Purse, machine::Machine, store::Store};
use bourse_chain::{Hub, Sender};
use bourse_protocol::{
    Address,
    failure::Failure,
    ids::TaskId,
    link::ToScheduler,
    replicate::{Cause, CauseCode, Status},
};
use bourse_service::{CancellationToken, journal};
use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};

/// So long a full disk is left alone before the next try.
const WHILE_FULL: Duration = Duration::from_secs(1);

/// What the scheduler said at login: where to read, where to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Services {
    /// Base URL of an IPFS gateway.
    pub(crate) gateway_url: String,
    /// Base URL of an IPFS node.
    pub(crate) upload_url: String,
    /// For uploads.
    pub(crate) upload_token: String,
}

/// Where the link writes what the scheduler said at its latest login, and replicates read it. Readers that wait are woken in
/// the order in which they came, which a watch channel does not promise.
#[derive(Debug, Default)]
pub(crate) struct Board {
    services: Mutex<Option<Services>>,
    written: Notify,
}

impl Board {
    pub(crate) fn write(&self, services: Services) {
        *self.services.lock().unwrap_or_else(PoisonError::into_inner) = Some(services);
        self.written.notify_waiters();
    }

    /// What was written last, if anything.
    pub(crate) fn latest(&self) -> Option<Services> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same; waits for the first.
    pub(crate) async fn read(&self) -> Services {
        loop {
            let written = self.written.notified();
            match self.latest() {
                Some(services) => return services,
                None => written.await,
            }
        }
    }
}

/// What every replicate shares.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) hub: Hub,
    pub(crate) wallet: Address,
    pub(crate) sender: Sender,
    pub(crate) store: Store,
    pub(crate) machine: Machine,
    pub(crate) purse: Purse,
    pub(crate) reports: mpsc::Sender<ToScheduler>,
    /// Nothing before the first login.
    pub(crate) services: Arc<Board>,
}

/// Why a step did not get where it wanted.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Every honest machine fails in the same way: the failure is the result.
    Alike(Status, Failure),
    /// This machine failed: another one may do better.
    Here(Status, Cause),
    /// The chain could not be read. Later may be better.
    Chain(bourse_chain::Error),
    /// The step is not wanted any more.
    Cancelled,
    /// The worker cannot go on.
    Stop(Error),
}

impl From<bourse_chain::Error> for Trouble {
    fn from(error: bourse_chain::Error) -> Self {
        Self::Chain(error)
    }
}

impl From<journal::Error> for Trouble {
    fn from(error: journal::Error) -> Self {
        Self::Stop(error.into())
    }
}

impl Trouble {
    /// A disk that does not do its part.
    pub(crate) fn disk(path: &Path, error: &io::Error) -> Self {
        let text = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "no room left on the worker's disk: free some space or move its data directory".to_owned()
            }
            _ => format!("the worker's disk fails at {}: {error}", path.display()),
        };
        Self::Here(Status::Failed, Cause::new(CauseCode::Unknown, text))
    }
}

impl Context {
    /// Seconds since the epoch.
    pub(crate) fn now(&self) -> u64 {
        self.config.clock.seconds()
    }

    /// Writes to the journal. A full disk is waited for: what is to be noted goes before a reveal, and whoever ends loses the
    /// stake. `None` if `stop` comes first.
    pub(crate) async fn note<T>(
        &self,
        stop: &CancellationToken,
        write: impl Fn(&Store) -> Result<T, journal::Error>,
    ) -> Result<Option<T>, journal::Error> {
        let mut said = false;
        loop {
            match write(&self.store) {
                Err(full @ journal::Error::DiskFull { .. }) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::error!(worker = %self.wallet, error = %full, "the worker waits for room on the disk");
                    }
                }
                other => return other.map(Some),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(None),
                () = sleep(WHILE_FULL) => {}
            }
        }
    }

    /// Notes where a replicate stands, then tells the scheduler if it listens. A `stop` leaves it unsaid.
    pub(crate) async fn say(
        &self,
        stop: &CancellationToken,
        task: TaskId,
        status: Status,
        cause: Option<Cause>,
    ) -> Result<(), Trouble> {
        let noted = self.note(stop, |store| store.set_status(task, status, cause.as_ref())).await?;
        noted.ok_or(Trouble::Cancelled)?;
        self.report(task, status, cause).await;
        Ok(())
    }

    /// Tells the scheduler without noting it. The link drops what it cannot deliver: a login says everything again.
    pub(crate) async fn report(&self, task: TaskId, status: Status, cause: Option<Cause>) {
        match &cause {
            Some(cause) => tracing::info!(%task, worker = %self.wallet, %status, %cause, "replicate"),
            None => tracing::info!(%task, worker = %self.wallet, %status, "replicate"),
        }
        // An error means that the link has ended, and the worker with it.
        let _ = self.reports.send(ToScheduler::Report { task, status, cause }).await;
    }

    /// Keeps the chain's answer at hand for reports.
    pub(crate) fn unreachable(error: &bourse_chain::Error) -> Cause {
        Cause::new(CauseCode::ChainUnreachable, error.to_string())
    }
}
