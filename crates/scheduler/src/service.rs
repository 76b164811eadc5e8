//! The scheduler's loop: wakes on events, reads the chain, does what the rules say.

use crate::{
    Config, Error, check,
    http::{self, Query},
    link::{Door, Event},
    pool::{Facts, Heard, Pool},
    store::{Remembered, Store},
};
use bourse_chain::{
    Hub, PrivateKeySigner, SendError, Sender,
    alloy::{primitives::eip191_hash_message, rpc::types::Filter, signers::SignerSync, sol_types::SolEvent},
    follower::{Cursor, Follower, News},
};
use bourse_protocol::{
    Address, U256,
    abi::IHub,
    consensus,
    deal::{Deal, ResultLink, TaskStatus},
    ids::{self, TaskId},
    link::{Assignment, ToWorker},
    replicate::{Cause, CauseCode, Status},
    task::{Step, Vote},
};
use bourse_service::{CancellationToken, http as edge};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tracing::{info, warn};

/// Messages of workers that may wait; more make their connections wait.
const EVENTS: usize = 1024;
/// A refused transaction is tried again after this time, in seconds.
const RETRY: u64 = 3;
/// The most tasks that one deal may put on the table at once.
const MAX_BAG: u64 = 10_000;

/// The scheduler of one pool.
pub struct Service {
    config: Config,
    hub: Hub,
    key: PrivateKeySigner,
    pool: Pool,
    follower: Follower,
    cursor: Cursor,
    sender: Sender,
    http: reqwest::Client,
    jobs: JoinSet<Done>,
    /// Tasks to look at.
    dirty: BTreeSet<TaskId>,
    /// Tasks that are being read from the chain.
    reading: BTreeSet<TaskId>,
    /// Transactions and checks under way or to be retried: not before the given second.
    waiting: BTreeMap<String, u64>,
    /// Tasks that found no worker: looked at again when one is free.
    starved: BTreeSet<TaskId>,
    following: bool,
    looked_at: u64,
}

/// What a job that ran beside the loop brings back.
enum Done {
    News(Result<Option<News>, bourse_chain::Error>),
    Opened(Vec<(Remembered, u64, String)>, News),
    OpenFailed(bourse_chain::Error),
    Facts(TaskId, Result<Facts, bourse_chain::Error>),
    Sent(TaskId, String, Result<(), SendError>),
    Checked(TaskId, Address, ResultLink, Result<(), check::Error>),
    Score(Address, Result<U256, bourse_chain::Error>),
}

impl Service {
    /// Opens the store and checks that pool, key and chain belong together.
    pub async fn open(
        config: Config,
        key: PrivateKeySigner,
        hub: Hub,
    ) -> Result<(Self, bourse_chain::SenderLoop), Error> {
        let pool = hub.workerpool(config.workerpool).await?.ok_or(Error::UnknownPool(config.workerpool))?;
        if pool.owner != key.address() {
            let (workerpool, owner) = (config.workerpool, pool.owner);
            return Err(Error::NotTheOwner { workerpool, owner, key: key.address() });
        }
        let owner = format!("chain {} hub {} pool {}", hub.client.chain_id().await?, hub.address, config.workerpool);
        let store = Store::open(&config.dir.join("scheduler.db"), &owner)?;
        let cursor = store.cursor()?.unwrap_or_else(|| Cursor::starting_at(config.start_block));
        let (sender, lane) = Sender::open(hub.client.clone(), key.clone(), store.journal.clone(), config.gas).await?;
        let mut service = Self {
            follower: Follower::new(hub.client.clone(), filter(&hub)),
            pool: Pool::new(store, config.clock.clone()),
            http: edge::client(Duration::from_secs(60)),
            jobs: JoinSet::new(),
            dirty: BTreeSet::new(),
            reading: BTreeSet::new(),
            waiting: BTreeMap::new(),
            starved: BTreeSet::new(),
            following: false,
            looked_at: config.clock.seconds(),
            config,
            hub,
            key,
            cursor,
            sender,
        };
        service.resume().await?;
        Ok((service, lane))
    }

    /// Puts the remembered tasks back on the table.
    async fn resume(&mut self) -> Result<(), Error> {
        for task in self.pool.store.open_tasks()? {
            let (period, app_type) = describe(&self.hub, &task.deal).await?;
            self.dirty.insert(task.task);
            self.pool.open(task, period, app_type);
        }
        if !self.dirty.is_empty() {
            info!(tasks = self.dirty.len(), "going on with open tasks");
        }
        Ok(())
    }

    /// Serves workers and people, and works, until `shutdown`.
    pub async fn run(mut self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
        let (events, mut inbox) = mpsc::channel(EVENTS);
        let (queries, mut questions) = mpsc::channel(EVENTS);
        let chain_id = self.hub.client.chain_id().await?;
        let door = Door { workerpool: self.config.workerpool, hub: self.hub.address, chain_id, events };
        let mut server = JoinSet::new();
        server.spawn(edge::serve(listener, http::router(door, queries), shutdown.clone()));
        let mut tick = tokio::time::interval(self.hub.client.poll_interval().min(Duration::from_secs(1)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut full_pass = tokio::time::interval(self.config.full_pass);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = tick.tick() => self.tick()?,
                _ = full_pass.tick() => self.dirty.extend(self.pool.open_tasks()),
                Some(event) = inbox.recv() => self.hear(event)?,
                Some(query) = questions.recv() => self.answer(query),
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => self.take(done)?,
                    // A bug must not be survived by half.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                Some(ended) = server.join_next() => {
                    ended.map_err(std::io::Error::other)??;
                    break;
                }
            }
            self.look();
        }
        while server.join_next().await.is_some() {}
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Error> {
        let now = self.pool.now();
        if now != self.looked_at {
            self.dirty.extend(self.pool.due(self.looked_at, now));
            self.dirty.extend(self.pool.give_up_lost()?);
            let due: Vec<_> = self.waiting.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
            for id in due {
                self.waiting.remove(&id);
                self.dirty.extend(id.split(':').nth(1).and_then(|task| task.parse::<TaskId>().ok()));
            }
            self.looked_at = now;
        }
        if !self.following {
            self.following = true;
            let (follower, cursor) = (self.follower.clone(), self.cursor.clone());
            self.jobs.spawn(async move { Done::News(follower.poll(&cursor).await) });
        }
        Ok(())
    }

    /// Starts reading the tasks that something happened to.
    fn look(&mut self) {
        let ready: Vec<_> = self.dirty.difference(&self.reading).copied().collect();
        for id in ready {
            self.dirty.remove(&id);
            if self.pool.entry(id).is_some() {
                self.reading.insert(id);
                let hub = self.hub.clone();
                self.jobs.spawn(async move { Done::Facts(id, facts(&hub, id).await) });
            }
        }
    }

    fn take(&mut self, done: Done) -> Result<(), Error> {
        match done {
            Done::News(Ok(Some(news))) => self.discover(news),
            Done::News(Ok(None)) => self.following = false,
            Done::News(Err(error)) | Done::OpenFailed(error) => {
                self.following = false;
                warn!(%error, "cannot follow the chain; trying again");
            }
            Done::Opened(tasks, news) => self.opened(tasks, news)?,
            Done::Facts(id, Ok(facts)) => {
                self.reading.remove(&id);
                let steps = self.pool.absorb(id, facts)?;
                self.perform(id, steps)?;
            }
            Done::Facts(id, Err(error)) => {
                self.reading.remove(&id);
                warn!(task = %id, %error, "cannot read the task; trying again");
                self.waiting.insert(format!("read:{id}"), self.pool.now() + 1);
            }
            Done::Sent(id, name, result) => {
                if let Err(error) = result {
                    warn!(task = %id, %error, "transaction");
                }
                self.waiting.insert(name, self.pool.now() + RETRY);
                self.dirty.insert(id);
            }
            Done::Checked(id, worker, link, result) => self.checked(id, worker, link, result)?,
            Done::Score(worker, Ok(score)) => self.pool.set_score(worker, score),
            Done::Score(worker, Err(error)) => warn!(%worker, %error, "cannot read a score"),
        }
        Ok(())
    }

    /// Notes which tasks the news is about, and reads new deals.
    fn discover(&mut self, news: News) {
        self.pool.saw_block(news.head.timestamp);
        if news.reorg {
            self.dirty.extend(self.pool.open_tasks());
        }
        let mut deals = Vec::new();
        for log in &news.logs {
            let (topics, data) = (log.topics(), log.inner.data.clone());
            if topics.first() == Some(&IHub::SchedulerNotice::SIGNATURE_HASH) {
                let notice = IHub::SchedulerNotice::decode_log_data(&data);
                let ours = notice.ok().filter(|n| n.workerpool == self.config.workerpool);
                deals.extend(ours.map(|n| ids::DealId(n.dealid)));
            } else if let Some(task) = topics.get(1) {
                self.dirty.insert(TaskId(*task));
            }
        }
        let hub = self.hub.clone();
        self.jobs.spawn(async move {
            match read_deals(&hub, deals).await {
                Ok(tasks) => Done::Opened(tasks, news),
                Err(error) => Done::OpenFailed(error),
            }
        });
    }

    fn opened(&mut self, tasks: Vec<(Remembered, u64, String)>, news: News) -> Result<(), Error> {
        let rows: Vec<_> = tasks.iter().map(|(t, _, _)| (t.task, &t.deal, t.index)).collect();
        self.pool.store.advance(&news.cursor, &rows)?;
        self.cursor = news.cursor;
        self.following = false;
        for (task, period, app_type) in tasks {
            // One that was opened before keeps what is known of it, also when it has ended.
            let known = self.pool.store.task(task.task)?;
            if known.as_ref().is_some_and(|k| k.stages.is_empty()) {
                info!(task = %task.task, deal = %task.deal.id, trust = %task.deal.trust, "bought");
                self.dirty.insert(task.task);
                self.pool.open(task, period, app_type);
            }
        }
        Ok(())
    }

    fn hear(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Joined { worker, name, capabilities, connection, outbox } => {
                let welcome = ToWorker::Welcome {
                    gateway_url: self.config.gateway_url.clone(),
                    upload_url: self.config.upload_url.clone(),
                    upload_token: self.config.upload_token.clone(),
                };
                info!(%worker, name, "worker logged in");
                match self.pool.join(worker, name, capabilities, (connection, outbox.clone())) {
                    Ok(()) => self.welcome(worker, welcome),
                    Err(reason) => drop(outbox.try_send(ToWorker::Refused { reason })),
                }
            }
            Event::Said { worker, connection, message } if self.pool.is_current(worker, connection) => {
                match self.pool.hear(worker, message)? {
                    Heard::Sign => {}
                    Heard::Progress(task) => drop(self.dirty.insert(task)),
                    Heard::Free(task) => {
                        self.dirty.insert(task);
                        self.dirty.append(&mut self.starved);
                    }
                    Heard::Result(task, link) => self.check(task, worker, link),
                }
            }
            Event::Left { worker, connection } if self.pool.is_current(worker, connection) => {
                info!(%worker, "worker disconnected");
                self.pool.leave(worker);
                self.dirty.extend(self.pool.part_of(worker));
            }
            Event::Said { .. } | Event::Left { .. } => {}
        }
        Ok(())
    }

    /// Tells a worker that came (back) all that still holds for it. New work may now find a hand.
    fn welcome(&mut self, worker: Address, welcome: ToWorker) {
        self.pool.tell(worker, welcome);
        for task in self.pool.assigned(worker) {
            self.assign(task, worker);
        }
        let hub = self.hub.clone();
        self.jobs.spawn(async move { Done::Score(worker, hub.score(worker).await) });
        self.dirty.append(&mut self.starved);
        self.dirty.extend(self.pool.part_of(worker));
    }

    fn perform(&mut self, id: TaskId, steps: Vec<Step>) -> Result<(), Error> {
        let now = self.pool.now();
        let ended = self.pool.entry(id).is_some_and(|_| steps.iter().all(|s| matches!(s, Step::End(..))));
        for step in steps {
            match step {
                Step::Initialize => self.transact(id, format!("initialize:{id}"), Tx::Initialize),
                Step::AddWorker => self.add_workers(id)?,
                Step::Reveal(worker) => self.pool.tell(worker, ToWorker::Reveal { task: id }),
                Step::Upload(worker) => {
                    if !self.pool.is_asked(id, worker) {
                        self.pool.record(id, worker, Status::ResultUploadRequested, None, now)?;
                    }
                    self.pool.tell(worker, ToWorker::Upload { task: id });
                }
                Step::Finalize(link) => self.transact(id, format!("finalize:{id}"), Tx::Finalize(link)),
                Step::Reopen => {
                    let round = self.pool.view(id).map_or(0, |v| v.date_status_list.len());
                    self.transact(id, format!("reopen:{id}:{round}"), Tx::Reopen);
                }
                Step::Claim => self.transact(id, format!("claim:{id}"), Tx::Claim),
                Step::Abort(worker, cause) => {
                    let status = match cause.code {
                        CauseCode::ContributionTimeout => Status::AbortedOnContributionTimeout,
                        _ => Status::AbortedOnConsensusReached,
                    };
                    self.pool.record(id, worker, status, Some(cause.clone()), now)?;
                    self.pool.tell(worker, ToWorker::Abort { task: id, cause });
                }
                Step::End(worker, status) => {
                    self.pool.record(id, worker, status, None, now)?;
                    self.pool.tell(worker, ToWorker::Complete { task: id });
                    let hub = self.hub.clone();
                    self.jobs.spawn(async move { Done::Score(worker, hub.score(worker).await) });
                }
            }
        }
        let over =
            self.pool.view(id).is_some_and(|v| matches!(v.chain_status, TaskStatus::Completed | TaskStatus::Failed));
        if ended && over {
            self.pool.close(id);
        }
        Ok(())
    }

    /// Gives the task to as many workers as it still needs and there are.
    fn add_workers(&mut self, id: TaskId) -> Result<(), Error> {
        while self.pool.steps(id)?.contains(&Step::AddWorker) {
            let Some(worker) = self.pool.candidate(id) else {
                if self.starved.insert(id) {
                    info!(task = %id, "waiting for a worker");
                }
                return Ok(());
            };
            self.pool.record(id, worker, Status::Created, None, self.pool.now())?;
            info!(task = %id, %worker, "assigned");
            self.assign(id, worker);
        }
        Ok(())
    }

    fn assign(&mut self, task: TaskId, worker: Address) {
        let Some(entry) = self.pool.entry(task) else { return };
        let (deal, index) = (entry.deal.id, entry.index);
        let message = ids::authorization(worker, task, Address::ZERO);
        let signature = self.key.sign_hash_sync(&eip191_hash_message(message)).expect("a local key signs every hash");
        let authorization = signature.as_bytes().into();
        let assignment = Assignment { task, deal, index, authorization, enclave_challenge: Address::ZERO };
        self.pool.tell(worker, ToWorker::Assign(assignment));
    }

    /// Sends a transaction beside the loop, once at a time and not too often.
    fn transact(&mut self, id: TaskId, name: String, tx: Tx) {
        let Some(entry) = self.pool.entry(id) else { return };
        if self.waiting.contains_key(&name) {
            return;
        }
        self.waiting.insert(name.clone(), u64::MAX);
        let (sender, hub, deal, index) = (self.sender.clone(), self.hub.clone(), entry.deal.id, entry.index);
        self.jobs.spawn(async move {
            let result = send(&sender, &hub, &name, (deal, index, id), tx).await;
            Done::Sent(id, name, result)
        });
    }

    /// Compares an uploaded result with what was agreed on, beside the loop.
    fn check(&mut self, task: TaskId, worker: Address, link: ResultLink) {
        let Some(agreed) = self.pool.digest(task) else { return };
        let name = format!("check:{task}:{worker}");
        if self.waiting.insert(name, u64::MAX).is_some() {
            return;
        }
        let (http, gateway) = (self.http.clone(), self.config.gateway_url.clone());
        self.jobs.spawn(async move {
            let result = check::result(&http, &gateway, &link, agreed).await;
            Done::Checked(task, worker, link, result)
        });
    }

    fn checked(
        &mut self,
        id: TaskId,
        worker: Address,
        link: ResultLink,
        result: Result<(), check::Error>,
    ) -> Result<(), Error> {
        self.waiting.remove(&format!("check:{id}:{worker}"));
        self.dirty.insert(id);
        match result {
            Ok(()) => self.pool.uploaded(id, worker, link)?,
            Err(error) => {
                warn!(task = %id, %worker, %error, "the uploaded result is not accepted");
                let cause = Cause::new(CauseCode::ResultUploadFailed, error.to_string());
                let now = self.pool.now();
                self.pool.record(id, worker, Status::ResultUploadFailed, Some(cause), now)?;
            }
        }
        Ok(())
    }

    fn answer(&self, query: Query) {
        // Whoever asked may have gone.
        match query {
            Query::Task(id, reply) => drop(reply.send(self.pool.view(id).or_else(|| self.ended(id)))),
            Query::Tasks(reply) => {
                let recent = self.pool.store.recent(100).unwrap_or_default();
                let view = |t: Remembered| self.pool.view(t.task).or_else(|| self.ended(t.task));
                drop(reply.send(recent.into_iter().filter_map(view).collect()));
            }
            Query::Workers(reply) => drop(reply.send(self.pool.workers())),
        }
    }

    /// A task that is off the table, from memory.
    fn ended(&self, id: TaskId) -> Option<bourse_protocol::api::TaskView> {
        use bourse_protocol::{api::TaskView, deal::ContributionStatus, task::Stage};
        let task = self.pool.store.task(id).ok().flatten()?;
        let stage = task.stages.last().map_or(Stage::Received, |s| s.status);
        let part = |(worker, history): &(Address, Vec<_>)| {
            self.pool.replicate_view(*worker, history, ContributionStatus::Unset)
        };
        Some(TaskView {
            chain_task_id: id,
            deal_id: task.deal.id,
            index: task.index,
            current_status: stage,
            chain_status: if stage == Stage::Completed { TaskStatus::Completed } else { TaskStatus::Failed },
            cause: None,
            contribution_deadline: 0,
            final_deadline: 0,
            result: task.result,
            replicates: task.replicates.iter().map(part).collect(),
            date_status_list: task.stages,
        })
    }
}

/// What the scheduler sends.
enum Tx {
    Initialize,
    Finalize(ResultLink),
    Reopen,
    Claim,
}

async fn send(
    sender: &Sender,
    hub: &Hub,
    name: &str,
    (deal, index, task): (ids::DealId, U256, TaskId),
    tx: Tx,
) -> Result<(), SendError> {
    let (dealid, idx, taskid) = (deal.0, index, task.0);
    let to = hub.address;
    match tx {
        Tx::Initialize => sender.send(name, to, &IHub::initializeCall { dealid, idx }).await?,
        Tx::Finalize(link) => {
            let call = IHub::finalizeCall { taskid, results: link.write(), resultsCallback: Default::default() };
            sender.send(name, to, &call).await?
        }
        Tx::Reopen => sender.send(name, to, &IHub::reopenCall { taskid }).await?,
        Tx::Claim => match hub.task(task).await.map(|t| t.status) {
            Ok(TaskStatus::Unset) => {
                let call = IHub::initializeAndClaimArrayCall { dealids: vec![dealid], idxs: vec![idx] };
                sender.send(name, to, &call).await?
            }
            Ok(_) => sender.send(name, to, &IHub::claimCall { taskid }).await?,
            Err(source) => return Err(SendError::Chain { id: name.into(), source }),
        },
    };
    Ok(())
}

/// Everything about a task that a decision rests on.
async fn facts(hub: &Hub, id: TaskId) -> Result<Facts, bourse_chain::Error> {
    let task = hub.task(id).await?;
    let mut votes = Vec::with_capacity(task.contributors.len());
    for worker in &task.contributors {
        let contribution = hub.contribution(id, *worker).await?;
        votes.push(Vote {
            worker: *worker,
            status: contribution.status,
            hash: contribution.result_hash,
            weight: consensus::weight(hub.score(*worker).await?),
        });
    }
    Ok(Facts { task, votes })
}

/// The tasks of deals, with what is needed to work on them.
async fn read_deals(hub: &Hub, deals: Vec<ids::DealId>) -> Result<Vec<(Remembered, u64, String)>, bourse_chain::Error> {
    let mut tasks = Vec::new();
    for id in deals {
        // A deal that a reorg took away is not there any more.
        let Some(deal) = hub.deal(id).await? else { continue };
        let (period, app_type) = describe(hub, &deal).await?;
        let size: u64 = deal.bot_size.saturating_to::<u64>().min(MAX_BAG);
        for n in 0..size {
            let index = deal.bot_first.saturating_add(U256::from(n));
            let task = TaskId::of(deal.id, index);
            let remembered =
                Remembered { task, deal: deal.clone(), index, result: None, stages: vec![], replicates: vec![] };
            tasks.push((remembered, period, app_type.clone()));
        }
    }
    Ok(tasks)
}

/// The period of a deal's category, and the type of its app.
async fn describe(hub: &Hub, deal: &Deal) -> Result<(u64, String), bourse_chain::Error> {
    let app = hub.app(deal.app.pointer).await?;
    Ok((hub.period(deal.category).await?, app.map(|a| a.kind).unwrap_or_default()))
}

/// The events that can change what the scheduler does.
fn filter(hub: &Hub) -> Filter {
    Filter::new().address(hub.address).event_signature(vec![
        IHub::SchedulerNotice::SIGNATURE_HASH,
        IHub::TaskInitialize::SIGNATURE_HASH,
        IHub::TaskContribute::SIGNATURE_HASH,
        IHub::TaskConsensus::SIGNATURE_HASH,
        IHub::TaskReveal::SIGNATURE_HASH,
        IHub::TaskReopen::SIGNATURE_HASH,
        IHub::TaskFinalize::SIGNATURE_HASH,
        IHub::TaskClaimed::SIGNATURE_HASH,
    ])
}
