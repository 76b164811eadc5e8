//! The scheduler's loop: wakes on events, reads the chain, does what the rules say.

use crate::{
    Config, Error,
    check::{self, Gateway, Results},
    crew::{Admission, Crew, Need},
    http::{self, Query},
    link::{Applicant, Door, Event},
    pool::{Facts, Heard, Pool},
    store::{self, Remembered, Store},
};
use bourse_chain::{
    Head, Header, Hub, PrivateKeySigner, SendError, Sender,
    alloy::{primitives::eip191_hash_message, rpc::types::Filter, signers::SignerSync, sol_types::SolEvent},
    follower::{Cursor, Follower, News},
};
use bourse_protocol::{
    Address, U256,
    abi::IHub,
    consensus,
    deal::{Deal, ResultLink, TaskStatus},
    ids::{self, TaskId},
    link::{Assignment, ToWorker, Welcome},
    replicate::{Cause, CauseCode, Status},
    task::{Step, Vote},
};
use bourse_service::{
    CancellationToken,
    defect::{Defect, planted},
    http as edge,
    journal::{self, Journal},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tracing::{error, info, warn};

/// Messages of workers that may wait; more make their connections wait.
const EVENTS: usize = 1024;
/// A refused transaction is tried again after this time, in seconds.
const RETRY: u64 = 3;
/// The most tasks that one deal may put on the table at once.
const MAX_BAG: u64 = 10_000;
/// Messages of workers that share one commit.
const BATCH: usize = 512;

/// The scheduler of one pool.
pub struct Service {
    config: Config,
    hub: Hub,
    key: PrivateKeySigner,
    pool: Pool,
    follower: Follower,
    cursor: Cursor,
    sender: Sender,
    results: Arc<dyn Results>,
    door: Door,
    inbox: mpsc::Receiver<Event>,
    jobs: JoinSet<Done>,
    /// Tasks to look at.
    dirty: BTreeSet<TaskId>,
    /// Tasks that are being read from the chain.
    reading: BTreeSet<TaskId>,
    /// The block at which a task was read last: what it showed is still true there.
    read_at: BTreeMap<TaskId, Head>,
    /// Transactions and checks under way or to be retried: not before the given second.
    waiting: BTreeMap<String, u64>,
    /// Transactions that were mined and failed, and how often: the next try is another transaction.
    failed: BTreeMap<TaskId, BTreeMap<String, u32>>,
    /// The disk is full: said once.
    full: bool,
    following: bool,
    looked_at: u64,
}

/// What a job that ran beside the loop brings back.
enum Done {
    News(Result<Option<News>, bourse_chain::Error>),
    Opened(Vec<Found>, News),
    OpenFailed(bourse_chain::Error),
    Facts(TaskId, Result<(Head, Option<Facts>), bourse_chain::Error>),
    Sent(TaskId, String, Result<(), SendError>),
    Checked(TaskId, Address, ResultLink, Result<(), check::Error>),
    Score(Address, Result<U256, bourse_chain::Error>),
}

/// A task of a deal, and what is needed to work on it.
struct Found {
    task: Remembered,
    period: u64,
    app_type: String,
}

impl Service {
    /// Opens the store and checks that pool, key and chain belong together.
    pub async fn open(
        config: Config,
        key: PrivateKeySigner,
        hub: Hub,
    ) -> Result<(Self, bourse_chain::SenderLoop), Error> {
        let journal = Journal::open(&config.dir.join("scheduler.db"), store::SCHEMA)?;
        let results = Gateway { http: edge::client(Duration::from_secs(60)), url: config.gateway_url.clone() };
        Self::over(config, key, hub, journal, Arc::new(results)).await
    }

    /// The same with a journal (of schema [`crate::SCHEMA`]) that is open, and results from anywhere.
    pub async fn over(
        config: Config,
        key: PrivateKeySigner,
        hub: Hub,
        journal: Journal,
        results: Arc<dyn Results>,
    ) -> Result<(Self, bourse_chain::SenderLoop), Error> {
        let pool = hub.workerpool(config.workerpool).await?.ok_or(Error::UnknownPool(config.workerpool))?;
        if pool.owner != key.address() {
            let (workerpool, owner) = (config.workerpool, pool.owner);
            return Err(Error::NotTheOwner { workerpool, owner, key: key.address() });
        }
        let chain_id = hub.client.chain_id().await?;
        let owner = format!("{} hub {} pool {}", hub.client.identity().await?, hub.address, config.workerpool);
        let store = Store::new(journal, &owner)?;
        let cursor = store.cursor()?.unwrap_or_else(|| Cursor::starting_at(config.start_block));
        let (sender, lane) = Sender::open(hub.client.clone(), key.clone(), store.journal.clone(), config.gas).await?;
        let (events, inbox) = mpsc::channel(EVENTS);
        let place = (config.workerpool, hub.address, chain_id);
        let crew = Crew::of(config.allowed.clone());
        let mut service = Self {
            follower: Follower::new(hub.client.clone(), filter(&hub)),
            pool: Pool::new(store, config.clock.clone(), crew),
            results,
            door: Door::new(place, config.clock.clone(), config.secret, events),
            inbox,
            jobs: JoinSet::new(),
            dirty: BTreeSet::new(),
            reading: BTreeSet::new(),
            read_at: BTreeMap::new(),
            waiting: BTreeMap::new(),
            failed: BTreeMap::new(),
            full: false,
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

    /// The way in for workers.
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// Puts the remembered tasks back on the table.
    async fn resume(&mut self) -> Result<(), Error> {
        let mut known = BTreeMap::new();
        for task in self.pool.store.open_tasks()? {
            let terms = (task.deal.app.pointer, task.deal.category);
            let (period, app_type) = match known.get(&terms) {
                Some(found) => found,
                None => known.entry(terms).or_insert(describe(&self.hub, &task.deal).await?),
            };
            let need = Need::new(app_type.clone(), task.deal.tag, self.config.floor);
            self.dirty.insert(task.task);
            self.pool.open(task, *period, need);
        }
        if !self.dirty.is_empty() {
            info!(tasks = self.dirty.len(), "going on with open tasks");
        }
        Ok(())
    }

    /// Serves workers and people over HTTP, and works, until `shutdown`.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
        let (queries, questions) = mpsc::channel(EVENTS);
        let router = http::router(self.door(), queries);
        let stop = shutdown.child_token();
        let mut server = JoinSet::new();
        server.spawn(edge::serve(listener, router, stop.clone()));
        let worked = tokio::select! {
            biased;
            worked = Box::pin(self.serve(questions, shutdown)) => worked,
            Some(ended) = server.join_next() => ended.map_err(std::io::Error::other)?.map_err(Into::into),
        };
        stop.cancel();
        while server.join_next().await.is_some() {}
        worked
    }

    /// Works without a port until `shutdown`: workers come through [`Self::door`].
    pub async fn work(self, shutdown: CancellationToken) -> Result<(), Error> {
        let (_queries, questions) = mpsc::channel(1);
        self.serve(questions, shutdown).await
    }

    async fn serve(mut self, mut questions: mpsc::Receiver<Query>, shutdown: CancellationToken) -> Result<(), Error> {
        let mut tick = tokio::time::interval(self.hub.client.poll_interval().min(Duration::from_secs(1)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut full_pass = tokio::time::interval(self.config.full_pass);
        full_pass.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // In this order: what makes room comes before what fills it, and a stop before both.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => self.take(done)?,
                    // A bug must not be survived by half.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                _ = tick.tick() => self.tick(),
                _ = full_pass.tick() => self.dirty.extend(self.pool.open_tasks()),
                Some(query) = questions.recv() => self.answer(query),
                Some(event) = self.inbox.recv() => self.hear(event),
            }
            // What is there already shares the commit.
            for _ in 0..BATCH {
                match self.inbox.try_recv() {
                    Ok(event) => self.hear(event),
                    Err(_) => break,
                }
            }
            self.hand_out();
            self.flush()?;
            self.look();
        }
        self.flush()
    }

    /// Writes what is new, then says it. A full disk is waited for: nothing is said that is not on disk.
    fn flush(&mut self) -> Result<(), Error> {
        match self.pool.flush() {
            Ok(()) => self.full = false,
            Err(full @ journal::Error::DiskFull { .. }) => {
                if !std::mem::replace(&mut self.full, true) {
                    error!(error = %full, "the pool waits for room on the disk");
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Gives free workers to the tasks that wait, fair between requesters.
    fn hand_out(&mut self) {
        while let Some(id) = self.pool.next_waiting() {
            self.pool.wait_no_more(id);
            self.add_workers(id);
        }
    }

    fn tick(&mut self) {
        let now = self.pool.now();
        if now != self.looked_at {
            self.dirty.extend(self.pool.due(self.looked_at, now));
            self.dirty.extend(self.pool.give_up_lost());
            self.pool.crew.wake(now);
            let due: Vec<_> = self.waiting.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
            for id in due {
                self.waiting.remove(&id);
                self.dirty.extend(id.split(':').nth(1).and_then(|task| task.parse::<TaskId>().ok()));
            }
            self.looked_at = now;
        }
        self.follow();
    }

    fn follow(&mut self) {
        if !self.following {
            self.following = true;
            let (follower, cursor) = (self.follower.clone(), self.cursor.clone());
            self.jobs.spawn(async move { Done::News(follower.poll(&cursor).await) });
        }
    }

    /// Starts reading the tasks that something happened to.
    fn look(&mut self) {
        let ready: Vec<_> = self.dirty.difference(&self.reading).copied().collect();
        for id in ready {
            self.dirty.remove(&id);
            if self.pool.entry(id).is_some() {
                self.reading.insert(id);
                let (hub, known) = (self.hub.clone(), self.read_at.get(&id).copied());
                self.jobs.spawn(async move { Done::Facts(id, facts(&hub, id, known).await) });
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
            Done::Facts(id, Ok((head, facts))) => {
                self.reading.remove(&id);
                self.read_at.insert(id, head);
                let steps = match facts {
                    Some(facts) => self.pool.absorb(id, facts),
                    None => self.pool.decide(id),
                };
                self.perform(id, steps);
                if self.pool.is_buried(id, head.number) {
                    self.pool.close(id);
                    self.failed.remove(&id);
                }
                if self.pool.entry(id).is_none() {
                    self.read_at.remove(&id);
                }
            }
            Done::Facts(id, Err(error)) => {
                self.reading.remove(&id);
                warn!(task = %id, %error, "cannot read the task; trying again");
                self.waiting.insert(format!("read:{id}"), self.pool.now() + 1);
            }
            Done::Sent(id, name, result) => {
                if let Err(error) = result {
                    if matches!(error, SendError::Failed { .. }) {
                        *self.failed.entry(id).or_default().entry(name.clone()).or_default() += 1;
                    }
                    warn!(task = %id, %error, "transaction");
                }
                self.waiting.insert(name, self.pool.now() + RETRY);
                self.dirty.insert(id);
            }
            Done::Checked(id, worker, link, result) => self.checked(id, worker, link, result),
            Done::Score(worker, Ok(score)) => self.pool.crew.set_score(worker, score),
            Done::Score(worker, Err(error)) => warn!(%worker, %error, "cannot read a score"),
        }
        Ok(())
    }

    /// Notes which tasks the news is about, and reads new deals.
    fn discover(&mut self, news: News) {
        self.pool.saw_block(news.head.timestamp);
        if planted(Defect::CursorFirst) {
            self.pool.store.advance(&news.cursor, &[]);
        }
        match news.reorg {
            true => self.dirty.extend(self.pool.all_tasks()),
            false => self.dirty.extend(self.pool.buried(news.head.number)),
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
        // At the block that the news is of: a node that has not seen it yet shows no deal, and that is no answer.
        let hub = self.hub.at(news.head);
        self.jobs.spawn(async move {
            match read_deals(&hub, deals).await {
                Ok(tasks) => Done::Opened(tasks, news),
                Err(error) => Done::OpenFailed(error),
            }
        });
    }

    fn opened(&mut self, found: Vec<Found>, news: News) -> Result<(), Error> {
        let mut fresh = Vec::new();
        for found in found {
            // One that was opened before keeps what is known of it, also when it has ended.
            let id = found.task.task;
            if self.pool.entry(id).is_none() && self.pool.store.task(id)?.is_none_or(|known| known.stages.is_empty()) {
                fresh.push(found);
            }
        }
        let rows: Vec<_> = fresh.iter().map(|f| (f.task.task, &f.task.deal, f.task.index)).collect();
        self.pool.store.advance(&news.cursor, &rows);
        self.cursor = news.cursor;
        self.following = false;
        if news.left > 0 {
            self.follow();
        }
        for Found { task, period, app_type } in fresh {
            info!(task = %task.task, deal = %task.deal.id, trust = %task.deal.trust, "bought");
            self.dirty.insert(task.task);
            let need = Need::new(app_type, task.deal.tag, self.config.floor);
            self.pool.open(task, period, need);
        }
        Ok(())
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Joined { worker, login, answer } => self.join(worker, *login, answer),
            Event::Said { worker, connection, message } if self.pool.crew.is_current(worker, connection) => {
                match self.pool.hear(worker, message) {
                    Heard::Draining => {}
                    Heard::Progress(task) => drop(self.dirty.insert(task)),
                    Heard::Free(task) => {
                        self.dirty.insert(task);
                        self.hand_out();
                        self.pool.say_no_work(worker);
                    }
                    Heard::Result(task, link) => self.check(task, worker, link),
                }
            }
            Event::Left { worker, connection, session } => {
                if self.pool.crew.leave(worker, connection, session) {
                    info!(%worker, "worker disconnected");
                    self.dirty.extend(self.pool.part_of(worker));
                }
            }
            Event::Said { .. } => {}
        }
    }

    fn join(&mut self, worker: Address, login: Applicant, answer: oneshot::Sender<Admission>) {
        let welcome = Welcome {
            version: login.version,
            session: 0,
            resumed: false,
            received: 0,
            reconnect: self.config.reconnect,
            gateway_url: self.config.gateway_url.clone(),
            upload_url: self.config.upload_url.clone(),
            upload_token: self.config.upload_token.clone(),
        };
        let name = login.name.clone();
        let admission = self.pool.crew.join(worker, login, welcome, self.pool.here());
        let resumed = match &admission {
            Admission::In { welcome, .. } => welcome.resumed,
            Admission::Out(greeting) => {
                info!(%worker, name, ?greeting, "worker not let in");
                // The connection may have ended.
                return drop(answer.send(admission));
            }
        };
        info!(%worker, name, resumed, "worker logged in");
        // If the connection has ended, it says so itself.
        let _ = answer.send(admission);
        match resumed {
            true => self.dirty.extend(self.pool.part_of(worker)),
            false => self.begin(worker),
        }
    }

    /// Tells a worker that begins a session all that still holds for it. New work may now find a hand.
    fn begin(&mut self, worker: Address) {
        for task in self.pool.assigned(worker) {
            self.assign(task, worker);
        }
        let hub = self.hub.clone();
        self.jobs.spawn(async move { Done::Score(worker, hub.score(worker).await) });
        self.dirty.extend(self.pool.part_of(worker));
        self.hand_out();
        self.pool.say_no_work(worker);
    }

    fn perform(&mut self, id: TaskId, steps: Vec<Step>) {
        let now = self.pool.now();
        if !steps.contains(&Step::AddWorker) {
            self.pool.wait_no_more(id);
        }
        for step in steps {
            match step {
                Step::Initialize => self.transact(id, format!("initialize:{id}"), Tx::Initialize),
                Step::AddWorker => self.add_workers(id),
                Step::Reveal(worker) => self.pool.tell(worker, ToWorker::Reveal { task: id }),
                Step::Upload(worker) => {
                    if !self.pool.is_asked(id, worker) {
                        self.pool.record(id, worker, Status::ResultUploadRequested, None, now);
                    }
                    self.pool.tell(worker, ToWorker::Upload { task: id });
                }
                Step::Finalize(link) => self.transact(id, format!("finalize:{id}"), Tx::Finalize(link)),
                Step::Reopen if planted(Defect::NoReopen) => {}
                Step::Reopen => {
                    let round = self.pool.view(id).map_or(0, |v| v.date_status_list.len());
                    self.transact(id, format!("reopen:{id}:{round}"), Tx::Reopen);
                }
                Step::Claim if planted(Defect::NoClaim) => {}
                Step::Claim => self.transact(id, format!("claim:{id}"), Tx::Claim),
                Step::Abort(worker, cause) => {
                    let status = match cause.code {
                        CauseCode::ContributionTimeout => Status::AbortedOnContributionTimeout,
                        _ => Status::AbortedOnConsensusReached,
                    };
                    self.pool.record(id, worker, status, Some(cause.clone()), now);
                    self.pool.tell(worker, ToWorker::Abort { task: id, cause });
                }
                Step::End(worker, status, cause) => {
                    self.pool.record(id, worker, status, cause, now);
                    self.pool.tell(worker, ToWorker::Complete { task: id });
                    let hub = self.hub.clone();
                    self.jobs.spawn(async move { Done::Score(worker, hub.score(worker).await) });
                }
            }
        }
    }

    /// Gives the task to as many workers as it still needs and there are.
    fn add_workers(&mut self, id: TaskId) {
        while self.pool.steps(id).contains(&Step::AddWorker) {
            let Some(worker) = self.pool.candidate(id) else {
                if self.pool.wait(id) {
                    info!(task = %id, waiting = self.pool.waiting(), "waiting for a worker");
                }
                return;
            };
            self.pool.record(id, worker, Status::Created, None, self.pool.now());
            info!(task = %id, %worker, "assigned");
            self.assign(id, worker);
        }
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
        // What was mined and failed has its outcome for good, though the chain may take the same call now.
        let transaction = match self.failed.get(&id).and_then(|of| of.get(&name)) {
            Some(failures) => format!("{name}:again-{failures}"),
            None => name.clone(),
        };
        let (sender, hub, deal, index) = (self.sender.clone(), self.hub.clone(), entry.deal.id, entry.index);
        self.jobs.spawn(async move {
            let result = send(&sender, &hub, &transaction, (deal, index, id), tx).await;
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
        let results = self.results.clone();
        self.jobs.spawn(async move {
            let result = check::result(&*results, &link, agreed).await;
            Done::Checked(task, worker, link, result)
        });
    }

    fn checked(&mut self, id: TaskId, worker: Address, link: ResultLink, result: Result<(), check::Error>) {
        self.waiting.remove(&format!("check:{id}:{worker}"));
        self.dirty.insert(id);
        match result {
            Ok(()) => self.pool.uploaded(id, worker, link),
            Err(error) => {
                warn!(task = %id, %worker, %error, "the uploaded result is not accepted");
                let cause = Cause::new(CauseCode::ResultUploadFailed, error.to_string());
                let now = self.pool.now();
                self.pool.record(id, worker, Status::ResultUploadFailed, Some(cause), now);
            }
        }
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
        use bourse_protocol::{api::TaskView, deal::ContributionStatus, outlook::Outlook, task::Stage};
        let task = self.pool.store.task(id).ok().flatten()?;
        let stage = task.stages.last().map_or(Stage::Received, |s| s.status);
        let nothing = |next: &str| Outlook { next: next.into(), by: None };
        let part = |(worker, history): &(Address, Vec<_>)| {
            let outlook = nothing("nothing: the task has ended");
            self.pool.replicate_view(*worker, history, ContributionStatus::Unset, outlook)
        };
        let outlook = nothing(match stage {
            Stage::Completed => "nothing: the result can be downloaded",
            _ => "nothing: the price is back with who paid it",
        });
        Some(TaskView {
            chain_task_id: id,
            deal_id: task.deal.id,
            index: task.index,
            current_status: stage,
            chain_status: if stage == Stage::Completed { TaskStatus::Completed } else { TaskStatus::Failed },
            outlook,
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

/// Everything about a task that a decision rests on, and the block that shows it; nothing anew where it is the `known` one.
async fn facts(hub: &Hub, id: TaskId, known: Option<Head>) -> Result<(Head, Option<Facts>), bourse_chain::Error> {
    // All of it at one block: a decision never mixes two.
    let header = hub.client.recent_header().await?;
    let head = header.head;
    let nothing_new = |known: Head| known.hash == head.hash || follows_in_silence(&header, known, id);
    if known.is_some_and(nothing_new) {
        return Ok((head, None));
    }
    let hub = hub.at(head);
    let task = hub.task(id).await?;
    // Weights count until the workers agree.
    let weighed = task.status == TaskStatus::Active;
    let mut votes = Vec::with_capacity(task.contributors.len());
    for worker in &task.contributors {
        let contribution = hub.contribution(id, *worker).await?;
        // The score may have moved since; the contribution itself says within which bounds it was.
        let (least, greatest) = contribution.weight_range();
        let weight = match weighed {
            true => consensus::weight(hub.score(*worker).await?).clamp(least, greatest),
            false => least,
        };
        votes.push(Vote { worker: *worker, status: contribution.status, hash: contribution.result_hash, weight });
    }
    Ok((head, Some(Facts { task, votes, block: head.number })))
}

/// Whether a block comes right after one that is known, and has nothing about the task: every change of a task is told by
/// an event with its name.
fn follows_in_silence(header: &Header, known: Head, id: TaskId) -> bool {
    header.head.parent == known.hash && header.is_silent_about(id.0)
}

/// The tasks of deals, with what is needed to work on them.
async fn read_deals(hub: &Hub, deals: Vec<ids::DealId>) -> Result<Vec<Found>, bourse_chain::Error> {
    let mut tasks = Vec::new();
    for id in deals {
        // A deal that a reorg took away is not there any more.
        let Some(deal) = hub.deal(id).await? else { continue };
        let (period, app_type) = describe(hub, &deal).await?;
        let size: u64 = deal.bot_size.saturating_to::<u64>().min(MAX_BAG);
        for n in 0..size {
            let index = deal.bot_first.saturating_add(U256::from(n));
            let task = TaskId::of(deal.id, index);
            let task = Remembered { task, deal: deal.clone(), index, result: None, stages: vec![], replicates: vec![] };
            tasks.push(Found { task, period, app_type: app_type.clone() });
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
