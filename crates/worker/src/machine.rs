//! What runs apps and keeps results: the sandbox on this computer, or a stand-in where a simulation is the computer.

use crate::{Config, Error, context::Services, fetch::Fetcher, folder::Folders, store::Answer, upload, wasm};
use bourse_protocol::{
    deal::ResultLink,
    ids::{ResultDigest, TaskId},
    replicate::Cause,
};
use futures_util::future::BoxFuture;
use std::{
    collections::BTreeSet,
    fmt::Debug,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// The longest time that a result takes to be stored once the node is there.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs apps and stores their results without this computer's disk, processors and network.
pub trait StandIn: Debug + Send + Sync {
    /// The app types that it runs.
    fn app_types(&self) -> Vec<String>;

    /// The result of a task; it is kept until [`Self::forget`].
    fn compute(&self, task: TaskId) -> BoxFuture<'static, Result<Vec<u8>, Cause>>;

    /// Stores the result of a task where everybody finds it.
    fn store(&self, task: TaskId, digest: ResultDigest) -> BoxFuture<'static, Result<ResultLink, String>>;

    /// The result of this task is not needed any more.
    fn forget(&self, task: TaskId);
}

/// What a worker computes with.
#[derive(Debug)]
pub(crate) enum Machine {
    /// This computer.
    Sandbox(Box<Sandbox>),
    /// Another one.
    StandIn(Arc<dyn StandIn>),
}

/// This computer, behind walls.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) folders: Folders,
    pub(crate) files: Fetcher,
    pub(crate) http: reqwest::Client,
    pub(crate) engine: wasm::Engine,
}

impl Sandbox {
    /// Opens the worker's folders. Those of tasks that are not in `open` are removed.
    pub(crate) fn open(config: &Config, engine: wasm::Engine, open: &BTreeSet<TaskId>) -> Result<Self, Error> {
        let folder = |source: io::Error| Error::Folder { path: config.dir.clone(), source };
        let folders = Folders::open(config.dir.join("tasks")).map_err(folder)?;
        folders.remove_unknown(&open.iter().map(ToString::to_string).collect()).map_err(folder)?;
        let files =
            Fetcher::open(config.dir.join("cache"), config.cache_limit, config.disk_reserve, config.private_urls);
        let files = files.map_err(folder)?;
        Ok(Self { folders, files, http: bourse_service::http::client(HTTP_TIMEOUT), engine })
    }
}

impl Machine {
    /// The app types that it runs.
    pub(crate) fn app_types(&self) -> Vec<String> {
        match self {
            Self::Sandbox(_) => vec![crate::compute::APP_TYPE.into()],
            Self::StandIn(machine) => machine.app_types(),
        }
    }

    /// Stores an answer, once.
    pub(crate) async fn store(
        &self,
        task: TaskId,
        answer: &Answer,
        services: &Services,
    ) -> Result<ResultLink, upload::Error> {
        match self {
            Self::Sandbox(sandbox) => {
                let file = sandbox.folders.of(task).path().join(&answer.file);
                let (url, token) = (&services.upload_url, &services.upload_token);
                let cid = upload::upload(&sandbox.http, url, token, &file, answer.digest).await?;
                Ok(ResultLink::ipfs(cid.link()))
            }
            Self::StandIn(machine) => {
                let url = || "(elsewhere)".to_owned();
                let stored = machine.store(task, answer.digest).await;
                stored.map_err(|reason| upload::Error::Store { url: url(), reason })
            }
        }
    }

    /// Removes what belongs to a task.
    pub(crate) fn forget(&self, task: TaskId) -> Result<(), (PathBuf, io::Error)> {
        match self {
            Self::Sandbox(sandbox) => {
                let folder = sandbox.folders.of(task);
                folder.remove().map_err(|error| (folder.path().to_owned(), error))
            }
            Self::StandIn(machine) => {
                machine.forget(task);
                Ok(())
            }
        }
    }
}

/// Logical CPUs.
pub(crate) fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

/// Memory of the machine in MiB, where the system says it; 0 elsewhere.
pub(crate) fn memory_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).map_or(0, |kib| kib / 1024)
}

/// Free room on the disk of `folder` in MiB, where the system says it; 0 elsewhere.
pub(crate) fn disk_mib(folder: &Path) -> u64 {
    room(folder).unwrap_or(0) / (1024 * 1024)
}

/// The same in bytes.
pub(crate) fn room(folder: &Path) -> Option<u64> {
    rustix::fs::statvfs(folder).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The size of that disk in bytes.
pub(crate) fn capacity(folder: &Path) -> Option<u64> {
    rustix::fs::statvfs(folder).ok().map(|disk| disk.f_blocks.saturating_mul(disk.f_frsize))
}
