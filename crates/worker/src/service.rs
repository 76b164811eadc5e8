//! The worker's own loop: takes assignments on, passes wishes to the replicates they are about.

use crate::{
    Config, Error, checks,
    context::{Board, Context},
    link::{self, Dial, Identity, Link},
    machine::{self, Machine, Sandbox, StandIn},
    replicate::Replicate,
    store::{self, Record, Store},
    wasm,
};
use bourse_chain::{Hub, PrivateKeySigner, Sender, SenderLoop, SenderStatus, sender};
use bourse_protocol::{
    Address,
    deal::ResultLink,
    ids::TaskId,
    link::{Assignment, Capabilities, ToScheduler, ToWorker},
    replicate::{Cause, CauseCode, Status},
};
use bourse_service::{
    CancellationToken,
    defect::{Defect, planted},
    journal::{self, Journal},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::{JoinError, JoinSet},
    time::{Instant, sleep},
};

/// The steps of the journal's schema.
pub const SCHEMA: &[&str] = &[sender::SCHEMA, store::SCHEMA];
/// A worker that has finished waits so long at most for its last reports to be delivered.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Reports that wait to be delivered.
const QUEUE: usize = 64;
/// Messages that wait to be acted on: a scheduler may have something to say about every open replicate at once.
const INBOX: usize = 2 * MAX_OPEN;
/// Replicates that are not over: a worker that contributed waits for the others without a slot, but not for thousands.
const MAX_OPEN: usize = 256;

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
        link::WebSocket::to(&config.scheduler_url)?;
        let journal = Journal::open(&config.dir.join("worker.db"), SCHEMA)?;
        Self::assemble(config, key, hub, journal, |config, open| {
            Ok(Machine::Sandbox(Box::new(Sandbox::open(config, engine, open)?)))
        })
        .await
    }

    /// The same with a journal (of schema [`SCHEMA`]) that is open, and a machine that is not this computer.
    pub async fn over(
        config: Config,
        key: PrivateKeySigner,
        hub: Hub,
        journal: Journal,
        machine: Arc<dyn StandIn>,
    ) -> Result<Self, Error> {
        Self::assemble(config, key, hub, journal, |_, _| Ok(Machine::StandIn(machine))).await
    }

    async fn assemble(
        config: Config,
        key: PrivateKeySigner,
        hub: Hub,
        journal: Journal,
        machine: impl FnOnce(&Config, &BTreeSet<TaskId>) -> Result<Machine, Error>,
    ) -> Result<Self, Error> {
        let wallet = key.address();
        let chain_id = hub.client.chain_id().await?;
        journal.belongs_to(&format!("{} hub {} worker {wallet}", hub.client.identity().await?, hub.address))?;
        let store = Store::new(journal.clone());
        store.forget_before(config.clock.seconds())?;
        let open: BTreeSet<TaskId> = store.open()?.iter().map(Record::task).collect();
        let owner = checks::at_start(&hub, wallet, &config, !open.is_empty()).await?;
        let machine = machine(&config, &open)?;
        let (sender, lane) = Sender::open(hub.client.clone(), key.clone(), journal, config.gas).await?;
        let (reports, outgoing) = mpsc::channel(QUEUE);
        let (incoming, inbox) = mpsc::channel(INBOX);
        let services = Arc::new(Board::default());
        let identity = Identity {
            chain_id,
            hub: hub.address,
            workerpool: config.workerpool,
            name: config.name.clone(),
            key,
            capabilities: capabilities(&config, machine.app_types()),
        };
        let link = Link::new((identity, owner), store.clone(), outgoing, incoming, services.clone(), open);
        let purse = checks::Purse::default();
        let context = Context { config, hub, wallet, sender, store, machine, purse, reports, services };
        Ok(Self { context: Arc::new(context), lane, link, inbox })
    }

    /// The wallet.
    pub fn address(&self) -> Address {
        self.context.wallet
    }

    /// Tells what its transactions are waiting for.
    pub fn sending(&self) -> watch::Receiver<SenderStatus> {
        self.lane.watch()
    }

    /// Works until `shutdown`, or until the worker's own store fails. Replicates that are open then go on at the next start.
    /// With `drain` it takes no new work, finishes what it has, and ends.
    pub async fn run(self, drain: CancellationToken, shutdown: CancellationToken) -> Result<(), Error> {
        let network = link::WebSocket::to(&self.context.config.scheduler_url)?;
        self.run_over(network, drain, shutdown).await
    }

    /// The same over another network.
    pub async fn run_over(
        self,
        network: impl Dial,
        drain: CancellationToken,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        // Whatever ends the loop ends everything below it.
        let stop = shutdown.child_token();
        let mut roots = JoinSet::new();
        let (lane, link, token) = (self.lane, self.link, stop.clone());
        roots.spawn(async move { lane.work(token).await.map_err(Into::into) });
        let token = stop.clone();
        roots.spawn(async move { link.run(network, token).await });
        let bells = BTreeMap::new();
        let mut desk = Desk { context: self.context, drain, stop: stop.clone(), bells, work: JoinSet::new() };
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
    /// No new work is taken.
    drain: CancellationToken,
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
        let open = if planted(Defect::RestartForgets) { vec![] } else { self.context.store.open()? };
        for record in open {
            tracing::info!(task = %record.task(), status = %record.status, "going on where an earlier run stopped");
            self.start(record.task());
        }
        let mut draining = false;
        loop {
            if draining && self.work.is_empty() {
                tracing::info!("everything is finished");
                self.say_the_last().await;
                return Ok(());
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                () = self.drain.cancelled(), if !draining => {
                    draining = true;
                    tracing::info!(open = self.work.len(), "taking no more work; finishing what is begun");
                    // An error means that the link has ended, and the worker with it.
                    let _ = self.context.reports.send(ToScheduler::Draining).await;
                }
                Some(message) = inbox.recv() => self.handle(message).await?,
                Some(ended) = self.work.join_next() => self.put_away(ended).await?,
                Some(ended) = roots.join_next() => unpacked(ended)?,
            }
        }
    }

    /// Gives the link time to deliver what was said last.
    async fn say_the_last(&self) {
        let reports = &self.context.reports;
        let deadline = Instant::now() + LAST_WORDS;
        while reports.capacity() < reports.max_capacity() && Instant::now() < deadline {
            sleep(LAST_WORDS / 100).await;
        }
        // The last one may be between the queue and the socket.
        sleep(LAST_WORDS / 20).await;
    }

    fn start(&mut self, task: TaskId) {
        let bell = Arc::new(Notify::new());
        self.bells.insert(task, bell.clone());
        let replicate = Replicate::new(self.context.clone(), task, bell, self.stop.clone());
        self.work.spawn(replicate.run());
    }

    async fn put_away(&mut self, ended: Result<Result<TaskId, Error>, JoinError>) -> Result<(), Error> {
        self.bells.remove(&unpacked(ended)?);
        let now = self.context.now();
        self.note(|store| store.forget_before(now)).await.map(drop)
    }

    fn ring(&self, task: TaskId) {
        if let Some(bell) = self.bells.get(&task) {
            bell.notify_one();
        }
    }

    async fn handle(&mut self, message: ToWorker) -> Result<(), Error> {
        match message {
            ToWorker::Assign(assignment) => self.assign(assignment).await?,
            ToWorker::GoOn { task } => self.go_on(task).await?,
            ToWorker::Reveal { task } | ToWorker::Complete { task } => self.ring(task),
            ToWorker::Upload { task } => self.upload(task).await?,
            ToWorker::Abort { task, cause } => {
                if self.open(task)?.is_some() {
                    tracing::info!(%task, %cause, "the scheduler wants no contribution any more");
                    self.note(|store| store.set_aborted(task, &cause)).await?;
                    self.ring(task);
                }
            }
            ToWorker::NoWork { reason } => tracing::info!(reason, "no work for this worker now"),
            ToWorker::Bye { .. } => {}
        }
        Ok(())
    }

    /// Writes to the journal, once there is room; `None` if the worker stops first.
    async fn note<T>(&self, write: impl Fn(&Store) -> Result<T, journal::Error>) -> Result<Option<T>, Error> {
        Ok(self.context.note(&self.stop, write).await?)
    }

    fn open(&self, task: TaskId) -> Result<Option<Record>, Error> {
        Ok(self.context.store.get(task)?.filter(|record| !record.ended))
    }

    async fn upload(&self, task: TaskId) -> Result<(), Error> {
        match self.context.store.get(task)? {
            // A scheduler that has lost its store asks again, where a reorg took the end of the task away: the result lies there.
            Some(Record { ended: true, link: Some(link), .. }) => self.uploaded(task, &link).await,
            Some(record) if record.link.is_some() => self.repeat(&record).await,
            Some(record) if record.answer.is_some() && !record.ended => {
                self.note(|store| store.set_upload_wanted(task, true)).await?;
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
            self.put_away(ended).await?;
        }
        let taken = match known {
            Some(_) => self.note(|store| store.reopen(&assignment)).await?,
            None => self.note(|store| store.take(&assignment).map(drop)).await?,
        };
        if taken.is_some() {
            self.start(task);
        }
        Ok(())
    }

    /// One that is at work is at work. It may have ended while the worker logged in, and the scheduler have heard nothing of it.
    async fn go_on(&self, task: TaskId) -> Result<(), Error> {
        match self.context.store.get(task)? {
            Some(record) if record.ended => self.repeat(&record).await,
            Some(_) => {}
            None => {
                let cause = Cause::new(CauseCode::TaskDescriptionInvalid, "this worker was not assigned the task");
                self.refuse(task, cause).await;
            }
        }
        Ok(())
    }

    /// What was said before, for a scheduler that did not hear it.
    async fn repeat(&self, record: &Record) {
        let task = record.task();
        self.context.report(task, record.status, record.cause.clone()).await;
        if let Some(link) = &record.link {
            self.uploaded(task, link).await;
        }
    }

    /// Says where a result lies.
    async fn uploaded(&self, task: TaskId, link: &ResultLink) {
        // An error means that the link has ended, and the worker with it.
        let _ = self.context.reports.send(ToScheduler::Uploaded { task, link: link.clone() }).await;
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
            () if self.drain.is_cancelled() => "this worker finishes what it has and stops".to_owned(),
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

/// Whether an ended replicate may be asked for again: it sent nothing, and more time or another state of the chain may help.
fn may_start_again(record: &Record) -> bool {
    use Status::*;
    let may_help = match record.status {
        AbortedOnConsensusReached
        | AbortedOnContributionTimeout
        | CantContributeSinceTaskNotActive
        | CantContributeSinceAfterDeadline
        | CantContributeSinceStakeTooLow
        | ContributeFailed => true,
        Failed => record.cause.as_ref().is_some_and(|cause| {
            use CauseCode::*;
            matches!(
                cause.code,
                AbortedByWorker
                    | AppDownloadFailed
                    | DatasetDownloadFailed
                    | OutOfGas
                    | StakeTooLow
                    | TaskNotActive
                    // A disk that was full, or failed.
                    | Unknown
            )
        }),
        _ => false,
    };
    record.ended && !record.contribution_out && may_help
}

fn unpacked<T>(ended: Result<Result<T, Error>, JoinError>) -> Result<T, Error> {
    ended.map_err(|e| Error::Crashed(e.to_string()))?
}

/// What this machine offers.
fn capabilities(config: &Config, app_types: Vec<String>) -> Capabilities {
    Capabilities {
        cpus: machine::cpus(),
        memory_mib: machine::memory_mib(),
        disk_mib: machine::disk_mib(&config.dir),
        slots: config.slots,
        gpus: 0,
        tee: vec![],
        app_types,
        platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    }
}
