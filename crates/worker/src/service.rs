//! The worker's own loop: takes assignments on, passes wishes to the replicates they are about.

use crate::{
    Config, Error, checks,
    compute::APP_TYPE,
    context::Context,
    fetch::Fetcher,
    folder::Folders,
    link::{self, Identity, Link},
    replicate::Replicate,
    store::{self, Record, Store},
    wasm,
};
use bourse_chain::{Hub, PrivateKeySigner, Sender, SenderLoop, sender};
use bourse_protocol::{
    Address,
    ids::TaskId,
    link::{Assignment, Capabilities, ToScheduler, ToWorker},
    replicate::{Cause, CauseCode, Status},
};
use bourse_service::{CancellationToken, journal::Journal};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::{JoinError, JoinSet},
};

/// Messages that wait to be delivered or acted on.
const QUEUE: usize = 64;
/// Replicates that are not over: a worker that contributed waits for the others without a slot, but not for thousands.
const MAX_OPEN: usize = 256;
/// The longest time that a result takes to be stored once the node is there.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);

/// A worker, ready to run.
pub struct Service {
    context: Arc<Context>,
    lane: SenderLoop,
    link: Link,
    inbox: mpsc::Receiver<ToWorker>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("worker::Service").field("wallet", &self.context.wallet).finish_non_exhaustive()
    }
}

impl Service {
    /// Opens the worker's folder and checks that it can work: the chain answers, the pool exists, there is a deposit,
    /// there is ether for gas. Replicates that an earlier life left open go on when it runs.
    pub async fn open(config: Config, key: PrivateKeySigner, hub: Hub, engine: wasm::Engine) -> Result<Self, Error> {
        let url = link::address(&config.scheduler_url)?;
        let wallet = key.address();
        let journal = Journal::open(&config.dir.join("worker.db"), &[sender::SCHEMA, store::SCHEMA])?;
        let chain_id = hub.client.chain_id().await?;
        journal.belongs_to(&format!("chain {chain_id} hub {} worker {wallet}", hub.address))?;
        let store = Store::new(journal.clone());
        store.forget_before(config.clock.seconds())?;
        let open: BTreeSet<TaskId> = store.open()?.iter().map(Record::task).collect();
        checks::at_start(&hub, wallet, config.workerpool, &config.gas, !open.is_empty()).await?;

        let folder = |source| Error::Folder { path: config.dir.clone(), source };
        let folders = Folders::open(config.dir.join("tasks")).map_err(folder)?;
        folders.remove_unknown(&open.iter().map(ToString::to_string).collect()).map_err(folder)?;
        let files = Fetcher::open(config.dir.join("cache"), config.cache_limit, config.private_urls).map_err(folder)?;
        let (sender, lane) = Sender::open(hub.client.clone(), key.clone(), journal, config.gas).await?;
        let (reports, outgoing) = mpsc::channel(QUEUE);
        let (incoming, inbox) = mpsc::channel(QUEUE);
        let (services, known_services) = watch::channel(None);
        let identity = Identity {
            chain_id,
            hub: hub.address,
            workerpool: config.workerpool,
            name: config.name.clone(),
            key,
            capabilities: capabilities(config.slots),
        };
        let link = Link {
            url,
            identity,
            store: store.clone(),
            reports: outgoing,
            inbox: incoming,
            services,
            recovering: open,
        };
        let http = bourse_service::http::client(HTTP_TIMEOUT);
        let services = known_services;
        let context = Context { config, hub, wallet, sender, store, folders, files, http, engine, reports, services };
        Ok(Self { context: Arc::new(context), lane, link, inbox })
    }

    /// The wallet.
    pub fn address(&self) -> Address {
        self.context.wallet
    }

    /// Works until `shutdown`, or until the worker's own store fails. Replicates that are open then go on at the next start.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        // Whatever ends the loop ends everything below it.
        let stop = shutdown.child_token();
        let mut roots = JoinSet::new();
        let (lane, link, token) = (self.lane, self.link, stop.clone());
        roots.spawn(async move {
            lane.run(token).await;
            Ok(())
        });
        let token = stop.clone();
        roots.spawn(async move { link.run(token).await });
        let mut desk = Desk { context: self.context, stop: stop.clone(), bells: BTreeMap::new(), work: JoinSet::new() };
        let worked = desk.run(self.inbox, &mut roots).await;
        stop.cancel();
        let mut result = worked;
        while let Some(ended) = desk.work.join_next().await {
            result = result.and(unpacked(ended).map(drop));
        }
        while let Some(ended) = roots.join_next().await {
            result = result.and(unpacked(ended));
        }
        result
    }
}

/// Where messages arrive and replicates are started.
struct Desk {
    context: Arc<Context>,
    stop: CancellationToken,
    bells: BTreeMap<TaskId, Arc<Notify>>,
    work: JoinSet<Result<TaskId, Error>>,
}

impl Desk {
    async fn run(
        &mut self,
        mut inbox: mpsc::Receiver<ToWorker>,
        roots: &mut JoinSet<Result<(), Error>>,
    ) -> Result<(), Error> {
        for record in self.context.store.open()? {
            tracing::info!(task = %record.task(), status = %record.status, "going on where an earlier run stopped");
            self.start(record.task());
        }
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                Some(message) = inbox.recv() => self.handle(message).await?,
                Some(ended) = self.work.join_next() => self.put_away(ended)?,
                Some(ended) = roots.join_next() => unpacked(ended)?,
            }
        }
    }

    fn start(&mut self, task: TaskId) {
        let bell = Arc::new(Notify::new());
        self.bells.insert(task, bell.clone());
        let replicate = Replicate::new(self.context.clone(), task, bell, self.stop.clone());
        self.work.spawn(replicate.run());
    }

    fn put_away(&mut self, ended: Result<Result<TaskId, Error>, JoinError>) -> Result<(), Error> {
        self.bells.remove(&unpacked(ended)?);
        Ok(self.context.store.forget_before(self.context.now())?)
    }

    fn ring(&self, task: TaskId) {
        if let Some(bell) = self.bells.get(&task) {
            bell.notify_one();
        }
    }

    async fn handle(&mut self, message: ToWorker) -> Result<(), Error> {
        match message {
            ToWorker::Assign(assignment) => self.assign(assignment).await?,
            ToWorker::Reveal { task } | ToWorker::Complete { task } => self.ring(task),
            ToWorker::Upload { task } => self.upload(task).await?,
            ToWorker::Abort { task, cause } => {
                if self.open(task)?.is_some() {
                    tracing::info!(%task, %cause, "the scheduler wants no contribution any more");
                    self.context.store.set_aborted(task, &cause)?;
                    self.ring(task);
                }
            }
            ToWorker::Challenge { .. } | ToWorker::Welcome { .. } | ToWorker::Refused { .. } | ToWorker::Alive => {}
        }
        Ok(())
    }

    fn open(&self, task: TaskId) -> Result<Option<Record>, Error> {
        Ok(self.context.store.get(task)?.filter(|record| !record.ended))
    }

    async fn upload(&self, task: TaskId) -> Result<(), Error> {
        match self.open(task)? {
            Some(record) if record.link.is_some() => self.repeat(&record).await,
            Some(record) if record.answer.is_some() => {
                self.context.store.set_upload_wanted(task, true)?;
                self.ring(task);
            }
            _ => {
                let cause = Cause::new(CauseCode::ResultUploadFailed, "this worker has no result of the task");
                self.context.report(task, Status::ResultUploadRequestFailed, Some(cause)).await;
            }
        }
        Ok(())
    }

    async fn assign(&mut self, assignment: Assignment) -> Result<(), Error> {
        let task = assignment.task;
        if task != TaskId::of(assignment.deal, assignment.index) {
            let text = "the task is not that of the deal and the index";
            self.refuse(task, Cause::new(CauseCode::TaskDescriptionInvalid, text)).await;
            return Ok(());
        }
        let known = self.context.store.get(task)?;
        if let Some(record) = known.as_ref().filter(|record| !may_start_again(record)) {
            self.repeat(record).await;
            return Ok(());
        }
        if let Some(cause) = self.no_room()? {
            self.refuse(task, cause).await;
            return Ok(());
        }
        // A replicate that ended a moment ago may still be clearing its folder.
        while self.bells.contains_key(&task)
            && let Some(ended) = self.work.join_next().await
        {
            self.put_away(ended)?;
        }
        match known {
            Some(_) => self.context.store.reopen(&assignment)?,
            None => drop(self.context.store.take(&assignment)?),
        }
        self.start(task);
        Ok(())
    }

    /// What was said before, for a scheduler that did not hear it.
    async fn repeat(&self, record: &Record) {
        let task = record.task();
        self.context.report(task, record.status, record.cause.clone()).await;
        if let Some(link) = &record.link {
            // An error means that the link has ended, and the worker with it.
            let _ = self.context.reports.send(ToScheduler::Uploaded { task, link: link.clone() }).await;
        }
    }

    async fn refuse(&self, task: TaskId, cause: Cause) {
        self.context.report(task, Status::Failed, Some(cause)).await;
    }

    /// Why no more work is taken now.
    fn no_room(&self) -> Result<Option<Cause>, Error> {
        let open = self.context.store.open()?;
        let busy = open.iter().filter(|record| record.is_computing()).count();
        let slots = self.context.config.slots as usize;
        let text = match () {
            () if busy >= slots => {
                format!("this worker computes {busy} of at most {slots} tasks: assign it when one is done")
            }
            () if open.len() >= MAX_OPEN => {
                format!("{} tasks of this worker have not ended: the limit is {MAX_OPEN}", open.len())
            }
            () => return Ok(None),
        };
        Ok(Some(Cause::new(CauseCode::AbortedByWorker, text)))
    }
}

/// Whether an ended replicate may be asked for again: it lost a race, and sent nothing.
fn may_start_again(record: &Record) -> bool {
    let lost_a_race = matches!(
        record.status,
        Status::AbortedOnConsensusReached
            | Status::CantContributeSinceTaskNotActive
            | Status::CantContributeSinceStakeTooLow
    );
    record.ended && !record.contribution_out && lost_a_race
}

fn unpacked<T>(ended: Result<Result<T, Error>, JoinError>) -> Result<T, Error> {
    ended.map_err(|e| Error::Crashed(e.to_string()))?
}

/// What this machine offers.
fn capabilities(slots: u32) -> Capabilities {
    Capabilities {
        cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_mib: memory_mib(),
        slots,
        app_types: vec![APP_TYPE.into()],
        platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    }
}

/// Memory of the machine in MiB, where the system says it; 0 elsewhere.
fn memory_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).map_or(0, |kib| kib / 1024)
}
