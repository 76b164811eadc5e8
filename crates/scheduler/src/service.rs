//! The scheduler's loop: wakes on events, reads the chain, does what the rules say.

mod checks;
mod deals;
mod queries;
mod standings;
mod transactions;
mod workers;

use crate::{
    Config, Error,
    agenda::Agenda,
    bags::Bags,
    check::{self, Gateway, Results},
    crew::Crew,
    http::{self, Query},
    link::{Door, Event},
    pool::{Facts, Pool},
    reads::{self, Bag, Standing},
    store::{self, Remembered, Store, Terms},
};
use bourse_chain::{
    Head, Hub, NodeStatus, PrivateKeySigner, SendError, Sender,
    follower::{Cursor, Follower, News},
};
use bourse_protocol::{
    Address,
    deal::ResultLink,
    ids::{DealId, TaskId},
    link::{LOST_SECONDS, ToWorker},
    replicate::{Cause, CauseCode, Status},
    task::Step,
};
use bourse_service::{
    CancellationToken,
    defect::{Defect, planted},
    http as edge,
    journal::{self, Journal},
};
use queries::Desk;
use standings::Standings;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tracing::{error, info, warn};
use transactions::{Attempt, Tx, openings};

/// Messages of workers that may wait; more make their connections wait.
const EVENTS: usize = 1024;
/// A refused transaction is tried again after this time, in seconds.
const RETRY: u64 = 3;
/// Tasks that are read at one block.
const TOGETHER: usize = 16;
/// Workers whose standing is read at a time.
const STANDINGS: usize = 16;
/// Workers without the stake of some task whose standing is read again in a periodic pass, besides those who deposit.
const POOR: usize = 16;
/// Tasks of earlier lives, the newest, that say how long runs take and how workers do.
const LESSONS: u32 = 500;
/// Messages of workers, and results of jobs, that share one commit.
const BATCH: usize = 512;
/// From one commit to the next at least, where there is much to write: what shares a commit shares pages of the store, and one
/// that comes alone does not wait.
const BETWEEN_COMMITS: Duration = Duration::from_millis(8);
/// So long a full disk is left alone before the next try.
const WHILE_FULL: Duration = Duration::from_secs(1);

/// The scheduler of one pool.
pub struct Service {
    config: Config,
    hub: Hub,
    pool: Pool,
    follower: Follower,
    cursor: Cursor,
    sender: Sender,
    results: Arc<dyn Results>,
    door: Door,
    inbox: mpsc::Receiver<Event>,
    jobs: JoinSet<Done>,
    /// Tasks to read from the chain.
    agenda: Agenda,
    /// The block at which a task was read last: what it showed is true until a later block has news of it.
    read_at: BTreeMap<TaskId, Head>,
    /// Tasks that are read whatever the blocks say: a worker may have seen more, or they are due for a comparison.
    doubted: BTreeSet<TaskId>,
    /// Deals of which more tasks wait than are on the table, and those of them that are being read.
    bags: (Bags, BTreeSet<DealId>),
    /// The block up to which all news was taken in, while there is no more.
    taken: Option<Head>,
    /// Counts the news that a deal may have come or gone with.
    upheavals: u64,
    /// Deals that may not be part of the chain any more.
    suspects: BTreeSet<DealId>,
    /// Workers whose standing is to be read, or is being read.
    standings: Standings,
    /// The block from which deposits are looked for.
    deposits_from: Option<u64>,
    /// Transactions under way or to be retried: not before the given second.
    waiting: BTreeMap<String, u64>,
    /// Transactions that were mined and failed, and how often: the next try is another transaction.
    failed: BTreeMap<TaskId, BTreeMap<String, u32>>,
    /// The disk is full: said once.
    full: bool,
    /// What is told to people.
    desk: Desk,
    /// When the next commit may be.
    commit_from: Instant,
    following: bool,
    looked_at: u64,
    /// When the last tick was, in milliseconds.
    ticked_at: u64,
    /// Workers that logged in since then.
    arrived: usize,
}

/// What a job that ran beside the loop brings back.
enum Done {
    News(Result<Option<News>, bourse_chain::Error>),
    Opened(Vec<Bag>, Box<News>, Option<u64>),
    OpenFailed(bourse_chain::Error),
    Back(Vec<(Remembered, Terms)>, Vec<Remembered>),
    Stands(u64, DealId, Result<bool, bourse_chain::Error>),
    More(DealId, Result<Option<Box<Bag>>, bourse_chain::Error>),
    Facts(Head, Vec<reads::Read>),
    NoFacts(Vec<TaskId>, bourse_chain::Error),
    Sent(TaskId, Attempt, Result<(), SendError>),
    Unread(TaskId, Attempt, check::Error),
    Checked(TaskId, Address, ResultLink, Result<(), check::Error>),
    Standing(Address, Result<Standing, bourse_chain::Error>),
    Deposits(Result<reads::Deposits, bourse_chain::Error>),
    Looked(Vec<NodeStatus>, u64),
    Listed(Instant, Result<Vec<Remembered>, journal::Error>),
}

impl Service {
    /// Opens the store and checks that pool, key and chain belong together.
    pub async fn open(
        config: Config,
        key: PrivateKeySigner,
        hub: Hub,
    ) -> Result<(Self, bourse_chain::SenderLoop), Error> {
        let journal = Journal::open(&config.dir.join("scheduler.db"), store::SCHEMA)?;
        let results = Gateway { http: edge::client(check::IDLE), url: config.gateway_url.clone() };
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
        if let Some(wrong) = bourse_chain::clock::wrong(&hub.client, &config.clock).await? {
            return Err(wrong.into());
        }
        let chain_id = hub.client.chain_id().await?;
        let owner = format!("{} hub {} pool {}", hub.client.identity().await?, hub.address, config.workerpool);
        let store = Store::new(journal, &owner)?;
        let bags = Bags::new(store.bags()?);
        let desk = Desk::new(store.journal.reader()?);
        let cursor = store.cursor()?.unwrap_or_else(|| Cursor::starting_at(config.start_block));
        let (sender, lane) = Sender::open(hub.client.clone(), key.clone(), store.journal.clone(), config.gas).await?;
        let (events, inbox) = mpsc::channel(EVENTS);
        let place = (config.workerpool, hub.address, chain_id);
        let crew = Crew::of(config.allowed.clone(), config.floor);
        // What is remembered has the chain's dates, which may be ahead of the clock.
        let mut pool = Pool::new(store, config.clock.clone(), crew);
        pool.saw_block(hub.client.head().await?.timestamp);
        let service = Self {
            follower: Follower::new(hub.client.clone(), reads::filter(&hub)),
            pool,
            results,
            door: Door::new(place, config.clock.clone(), key, config.secret, events),
            inbox,
            jobs: JoinSet::new(),
            agenda: Agenda::default(),
            read_at: BTreeMap::new(),
            doubted: BTreeSet::new(),
            bags: (bags, BTreeSet::new()),
            taken: None,
            upheavals: 0,
            suspects: BTreeSet::new(),
            standings: Standings::default(),
            deposits_from: None,
            waiting: BTreeMap::new(),
            failed: BTreeMap::new(),
            full: false,
            desk,
            commit_from: Instant::now(),
            following: false,
            looked_at: config.clock.seconds(),
            ticked_at: config.clock.millis(),
            arrived: 0,
            config,
            hub,
            cursor,
            sender,
        };
        Ok((service, lane))
    }

    /// The way in for workers.
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// Puts the remembered tasks back on the table, without a look at the chain: nobody is served before.
    fn resume(&mut self) -> Result<(), Error> {
        let lately = beside_others(|| store::recent(&self.pool.store.journal, LESSONS))?;
        self.pool.learn(&lately);
        let remembered = beside_others(|| self.pool.store.open_tasks())?;
        let open = remembered.iter().filter(|task| !task.has_ended()).count();
        if open > 0 {
            info!(tasks = open, "going on with open tasks");
        }
        self.bring_back(remembered);
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
        self.resume()?;
        let mut tick = tokio::time::interval(self.hub.client.poll_interval().min(Duration::from_secs(1)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut full_pass = tokio::time::interval(self.config.full_pass);
        full_pass.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // A stop comes first, then what comes seldom. The others cannot be kept waiting: see below.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = sleep_until(self.commit_from), if self.pool.has_notes() => {}
                _ = tick.tick() => self.tick(),
                _ = full_pass.tick() => self.compare_all(),
                Some(query) = questions.recv() => self.answer(query),
                Some(done) = self.jobs.join_next() => self.finish(done)?,
                Some(event) = self.inbox.recv() => self.hear(event),
            }
            self.take_what_is_there()?;
            self.hand_out();
            self.open_tasks();
            if !self.pool.has_notes() || Instant::now() >= self.commit_from {
                self.flush()?;
            }
            self.look();
        }
        self.flush()
    }

    /// What is there already shares the commit; what makes room comes before what fills it.
    fn take_what_is_there(&mut self) -> Result<(), Error> {
        for _ in 0..BATCH {
            let Some(done) = self.jobs.try_join_next() else { break };
            self.finish(done)?;
        }
        for _ in 0..BATCH {
            let Ok(event) = self.inbox.try_recv() else { break };
            self.hear(event);
        }
        Ok(())
    }

    fn finish(&mut self, done: Result<Done, JoinError>) -> Result<(), Error> {
        match done {
            Ok(done) => self.take(done),
            // A bug must not be survived by half.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Writes what is new, then says it. A full disk is waited for: nothing is said that is not on disk.
    fn flush(&mut self) -> Result<(), Error> {
        if !self.pool.has_notes() {
            return Ok(self.pool.flush()?);
        }
        let flushed = beside_others(|| self.pool.flush());
        self.commit_from = Instant::now() + if flushed.is_ok() { BETWEEN_COMMITS } else { WHILE_FULL };
        match flushed {
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
            self.add_workers(id);
        }
    }

    /// Opens tasks on the chain for which workers are free, and some more.
    fn open_tasks(&mut self) {
        let mut under_way = openings(&self.waiting).count();
        while let Some(id) = self.pool.next_to_open(under_way) {
            self.pool.want_opened_no_more(id);
            self.transact(id, format!("initialize:{id}"), Tx::Initialize);
            under_way += 1;
        }
    }

    fn tick(&mut self) {
        let now = self.pool.now();
        let millis = self.config.clock.millis();
        let before = std::mem::replace(&mut self.ticked_at, millis);
        self.agenda.pass(millis.saturating_sub(before), std::mem::take(&mut self.arrived));
        if now != self.looked_at {
            self.agenda.add_all(self.pool.due(self.looked_at, now));
            if millis.saturating_sub(before) > LOST_SECONDS * 1000 / 2 {
                warn!(
                    seconds = millis.saturating_sub(before) / 1000,
                    "this scheduler stood still, or its clock jumped"
                );
                self.pool.crew.forgive(self.pool.here());
            }
            self.agenda.add_all(self.pool.give_up_lost());
            self.standings.try_again();
            self.pool.crew.wake(now);
            // Where the chain's time fell, what waits was put off by a time that no block has.
            let fell = now < self.looked_at;
            let is_due = |at: u64| at <= now || (fell && at != u64::MAX);
            let due: Vec<_> = self.waiting.iter().filter(|(_, at)| is_due(**at)).map(|(id, _)| id.clone()).collect();
            for id in due {
                self.waiting.remove(&id);
                self.agenda.add_all(id.split(':').nth(1).and_then(|task| task.parse::<TaskId>().ok()));
            }
            self.take_more();
            self.question_suspects();
            self.pool.all_that_fit().into_iter().for_each(|id| self.add_workers(id));
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

    /// Compares all tasks with the chain, whatever events and blooms told of them.
    fn compare_all(&mut self) {
        for id in self.pool.open_tasks() {
            let newest = |taken: Head| self.read_at.get(&id).is_some_and(|read| read.number >= taken.number);
            if !self.taken.is_some_and(newest) {
                self.doubted.insert(id);
            }
            self.agenda.revisit([id]);
        }
        let (hub, from) = (self.hub.clone(), self.deposits_from);
        self.jobs.spawn(async move { Done::Deposits(reads::deposits(&hub, from).await) });
        self.pool.crew.poor(POOR).into_iter().for_each(|worker| self.standings.add_later(worker, 0));
    }

    /// Starts reading tasks that something happened to or that are due, and the standing of workers.
    fn look(&mut self) {
        let mut batch = Vec::new();
        while let Some(id) = self.agenda.next() {
            match self.pool.entry(id) {
                Some(_) => {
                    let doubted = self.doubted.remove(&id);
                    batch.push((id, self.read_at.get(&id).copied().filter(|_| !doubted)));
                }
                None => {
                    self.doubted.remove(&id);
                    self.agenda.done(id);
                }
            }
        }
        for tasks in batch.chunks(TOGETHER) {
            self.jobs.spawn(read_tasks(self.hub.clone(), tasks.to_vec()));
        }
        for (worker, block) in self.pool.crew.take_doubted() {
            self.read_standing(worker, block);
        }
        while let Some(worker) = self.standings.next(|| self.agenda.affords()) {
            let hub = self.hub.clone();
            self.jobs.spawn(async move { Done::Standing(worker, reads::standing(&hub, worker).await) });
        }
    }

    /// The standing of a worker is to be read as it is after a block: soon, if it gets less until then.
    fn read_standing(&mut self, worker: Address, block: u64) {
        match self.pool.crew.is_short(worker) {
            true => self.standings.add(worker, block),
            false => self.standings.add_later(worker, block),
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
            Done::Opened(bags, news, since) => self.opened(bags, *news, since)?,
            Done::Back(known, unknown) => self.put_back(known, unknown),
            Done::Stands(upheavals, deal, stands) => self.hold_against_chain(upheavals, deal, stands),
            Done::More(deal, bag) => self.more(deal, bag)?,
            Done::Facts(head, read) => read.into_iter().for_each(|(id, facts)| self.absorb(id, head, facts)),
            Done::NoFacts(ids, error) => {
                warn!(tasks = ids.len(), %error, "cannot read the chain; trying again");
                ids.into_iter().for_each(|id| self.read_again(id));
            }
            Done::Sent(id, attempt, Ok(())) => self.transacted(id, attempt.name, attempt.mined),
            Done::Sent(id, attempt, Err(error)) => self.not_sent(id, attempt, &error),
            Done::Unread(id, attempt, error) => {
                warn!(task = %id, %error, "what the contract is to get cannot be read; trying again");
                self.pool.troubled(id, attempt.at, Cause::new(CauseCode::Unknown, error.to_string()));
                self.transacted(id, attempt.name, None);
            }
            Done::Checked(id, worker, link, result) => self.checked(id, worker, link, result),
            Done::Looked(nodes, depth) => self.say_metrics(&nodes, depth),
            Done::Listed(since, recent) => self.say_tasks(since, recent),
            Done::Standing(worker, standing) => {
                let current = self.standings.done(worker, standing.as_ref().ok().map(|standing| standing.block));
                match standing {
                    Ok(_) if !current => {}
                    Ok(standing) => {
                        self.pool.crew.set_standing(worker, standing.score, standing.account);
                        self.pool.say_if_poor(worker);
                    }
                    Err(error) => warn!(%worker, %error, "cannot read a worker's standing; trying again"),
                }
            }
            Done::Deposits(Ok(deposits)) => {
                self.deposits_from = Some(deposits.next);
                let known = deposits.by.into_iter().filter(|worker| self.pool.crew.knows(*worker));
                known.for_each(|worker| self.standings.add(worker, 0));
            }
            Done::Deposits(Err(error)) => warn!(%error, "cannot read who deposited; trying again"),
        }
        Ok(())
    }

    fn absorb(&mut self, id: TaskId, head: Head, facts: Result<Option<Facts>, bourse_chain::Error>) {
        match facts {
            Ok(facts) => {
                self.agenda.done(id);
                let steps = match facts {
                    Some(facts) => {
                        self.read_at.insert(id, head);
                        self.pool.absorb(id, facts)
                    }
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
            Err(error) => {
                warn!(task = %id, %error, "cannot read the task; trying again");
                self.read_again(id);
            }
        }
    }

    fn read_again(&mut self, id: TaskId) {
        self.agenda.done(id);
        // It may have been in doubt.
        self.read_at.remove(&id);
        self.waiting.insert(format!("read:{id}"), self.pool.now() + 1);
    }

    fn perform(&mut self, id: TaskId, steps: Vec<Step>) {
        let now = self.pool.now();
        if !steps.contains(&Step::AddWorker) {
            self.pool.wait_no_more(id);
        }
        if !steps.contains(&Step::Initialize) {
            self.pool.want_opened_no_more(id);
        }
        for step in steps {
            match step {
                Step::Initialize if self.waiting.contains_key(&format!("initialize:{id}")) => {}
                Step::Initialize => self.pool.want_opened(id),
                Step::AddWorker => self.add_workers(id),
                Step::Reveal(worker) => self.pool.tell(worker, ToWorker::Reveal { task: id }),
                Step::Upload(worker) if self.pool.is_checked(id, worker) => {}
                Step::Upload(worker) => {
                    if !self.pool.is_asked(id, worker) {
                        self.pool.record(id, worker, Status::ResultUploadRequested, None, now);
                    }
                    self.pool.tell(worker, ToWorker::Upload { task: id });
                }
                Step::Finalize(_)
                    if planted(Defect::NoLateFinalize) && self.pool.is_past(id, |c| c.reveal_deadline) => {}
                Step::Finalize(link) => self.transact(id, format!("finalize:{id}"), Tx::Finalize(link)),
                Step::Reopen if planted(Defect::NoReopen) => {}
                Step::Reopen => {
                    let round = self.pool.reopening(id);
                    self.transact(id, format!("reopen:{id}:{round}"), Tx::Reopen);
                }
                Step::Claim if planted(Defect::NoClaim) => {}
                Step::Claim if planted(Defect::ClaimsLate) && !self.pool.is_past(id, |c| c.final_deadline + 300) => {}
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
        // Until then it has kept its place: begun tasks are finished before others are begun.
        self.pool.wait_no_more(id);
    }
}

/// Does what waits for the disk while the runtime's other tasks, such as the connections, go on on other threads.
fn beside_others<T>(wait: impl FnOnce() -> T) -> T {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

/// Reads tasks beside the loop.
async fn read_tasks(hub: Hub, tasks: Vec<(TaskId, Option<Head>)>) -> Done {
    let ids = tasks.iter().map(|(id, _)| *id).collect();
    match reads::tasks(&hub, tasks).await {
        Ok((head, read)) => Done::Facts(head, read),
        Err(error) => Done::NoFacts(ids, error),
    }
}
