//! A whole market as processes of this program, as an operator would start them: chain, market and store in one
//! (`bourse up`), the scheduler in another, workers in others. All end with the bench.

use super::{child::Child, push::free_port};
use crate::{network_file::NetworkFile, services};
use bourse_chain::{Client, Hub};
use eyre::{OptionExt, WrapErr};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a process may take to be ready, on a machine that is busy with other things.
const START: Duration = Duration::from_secs(180);

/// The processes.
pub(super) struct Stack {
    folder: PathBuf,
    port: u16,
    network: Option<Child>,
    scheduler: Option<Child>,
    workers: Vec<Child>,
    lives: u32,
}

impl Stack {
    /// Nothing runs yet. Everything will be written below `folder`.
    pub(super) fn new(folder: PathBuf) -> eyre::Result<Self> {
        Ok(Self { folder, port: free_port()?, network: None, scheduler: None, workers: vec![], lives: 0 })
    }

    /// Chain, market and store, with funds for so many workers and a block every second. Says where everything is.
    pub(super) async fn open(&mut self, workers: u32) -> eyre::Result<NetworkFile> {
        let (dir, workers) = (self.network_dir(), workers.to_string());
        let path = dir.display().to_string();
        let line = ["up", "--data-dir", &path, "--port", "0", "--no-scheduler", "--workers", &workers];
        let line = [&line[..], &["--block-time", "1"]].concat();
        let child = Child::start("network", &owned(&line), self.folder.join("network.log"), "error")?;
        self.network.insert(child).says("ready: ", START).await?;
        NetworkFile::read(&dir)
    }

    /// The folder of chain, market and store.
    pub(super) fn network_dir(&self) -> PathBuf {
        self.folder.join("network")
    }

    /// Tells the roles to reach the chain another way: writes a network file of their own, and says in which folder.
    pub(super) fn detour(&self, network: &NetworkFile, rpc_url: String) -> eyre::Result<PathBuf> {
        let dir = self.folder.join("roles");
        services::make_folder(&dir)?;
        NetworkFile { rpc_url, ws_url: None, ..network.clone() }.write(&dir)?;
        let (from, to) = (self.network_dir().join("upload.token"), dir.join("upload.token"));
        fs::copy(&from, &to).wrap_err_with(|| format!("cannot copy {}", from.display()))?;
        Ok(dir)
    }

    /// Where the scheduler listens.
    pub(super) fn scheduler_url(&self) -> String {
        format!("http://{}", services::local(self.port))
    }

    /// `bourse scheduler`, on the network whose file is in `network`; returns when it listens.
    pub(super) async fn start_scheduler(&mut self, network: &Path, more: &[&str]) -> eyre::Result<()> {
        self.lives += 1;
        let log = self.folder.join(format!("scheduler-{}.log", self.lives));
        let (network, port) = (network.display().to_string(), self.port.to_string());
        let dir = self.folder.join("scheduler").display().to_string();
        let line = ["scheduler", "--network", &network, "--data-dir", &dir, "--port", &port];
        let child = Child::start("scheduler", &owned(&[&line[..], more].concat()), log, "error")?;
        self.scheduler.insert(child).says("listens at ", START).await?;
        Ok(())
    }

    /// `kill -9` of the scheduler.
    pub(super) async fn kill_scheduler(&mut self) -> eyre::Result<()> {
        self.scheduler.take().ok_or_eyre("the scheduler does not run")?.terminate().await
    }

    /// One more process with workers.
    pub(super) fn start_workers(&mut self, line: &[String]) -> eyre::Result<()> {
        let log = self.folder.join(format!("workers-{}.log", self.workers.len() + 1));
        self.workers.push(Child::start("workers' process", line, log, "error")?);
        Ok(())
    }

    /// Where something of a name lies that is not this stack's own.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// An error if a process has ended that should not have.
    pub(super) fn check(&mut self) -> eyre::Result<()> {
        let children = self.network.iter_mut().chain(&mut self.scheduler).chain(&mut self.workers);
        children.into_iter().try_for_each(Child::check)
    }

    /// Ends everything: the folder is nobody's afterwards.
    pub(super) async fn stop(mut self) {
        let children = self.workers.iter_mut().chain(&mut self.scheduler).chain(&mut self.network);
        for child in children {
            // One that has ended already cannot be stopped.
            let _ = child.terminate().await;
        }
    }
}

/// The hub, seen directly and not as the roles see it.
pub(super) fn hub(network: &NetworkFile) -> eyre::Result<Hub> {
    Ok(Hub::new(Client::connect(&network.rpc_url)?, network.hub))
}

fn owned(line: &[&str]) -> Vec<String> {
    line.iter().map(ToString::to_string).collect()
}
