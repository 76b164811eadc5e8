//! The scheduler's loop: wakes on events, reads the chain, does what the rules say.

use crate::{
    Config, Error,
    agenda::Agenda,
    bags::Bags,
    check::{self, Gateway, Results},
    crew::{Admission, Crew, Need},
    http::{self, Metrics, Query},
    link::{Applicant, Door, Event},
    pool::{Facts, Heard, Pool},
    reads::{self, Bag, Terms},
    store::{self, Remembered, Store},
};
use bourse_chain::{
    Head, Hub, PrivateKeySigner, SendError, Sender,
    alloy::sol_types::SolEvent,
    follower::{Cursor, Follower, News},
};
use bourse_protocol::{
    Address, Bytes, U256,
    abi::IHub,
    deal::{ResultLink, TaskStatus},
    ids::{DealId, TaskId},
    link::{Assignment, LOST_SECONDS, ToWorker, Welcome},
    replicate::{Cause, CauseCode, Status},
    task::{Sending, Step},
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
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tracing::{error, info, warn};

/// Messages of workers that may wait; more make their connections wait.
const EVENTS: usize = 1024;
/// A refused transaction is tried again after this time, in seconds.
const RETRY: u64 = 3;
/// Tasks that are read at one block.
const TOGETHER: usize = 16;
/// Scores that are read at a time.
const SCORES: usize = 16;
/// Tasks of earlier lives, the newest, that say how long runs take and how workers do.
const LESSONS: u32 = 500;
/// Messages of workers, and results of jobs, that share one commit.
const BATCH: usize = 512;
/// From one commit to the next at least, where there is much to write: what shares a commit shares pages of the store, and one
/// that comes alone does not wait.
const BETWEEN_COMMITS: Duration = Duration::from_millis(8);
/// More logins between two ticks are a crowd.
const CROWD: usize = 20;
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
    /// The block at which a task was read last: what it showed is still true there.
    read_at: BTreeMap<TaskId, Head>,
    /// Tasks of which a worker may have seen more than that.
    doubted: BTreeSet<TaskId>,
    /// Deals of which more tasks wait than are on the table, and those of them that are being read.
    bags: (Bags, BTreeSet<DealId>),
    /// The block up to which all news was taken in, while there is no more.
    taken: Option<Head>,
    /// Counts the news that a deal may have come or gone with.
    upheavals: u64,
    /// Deals that may not be part of the chain any more.
    suspects: BTreeSet<DealId>,
    /// Workers whose score is to be read, and how many are being read.
    scores: (BTreeSet<Address>, usize),
    /// Transactions and checks under way or to be retried: not before the given second.
    waiting: BTreeMap<String, u64>,
    /// Transactions that were mined and failed, and how often: the next try is another transaction.
    failed: BTreeMap<TaskId, BTreeMap<String, u32>>,
    /// The disk is full: said once.
    full: bool,
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
    Back(Vec<(Remembered, Terms)>),
    Stands(u64, DealId, Result<bool, bourse_chain::Error>),
    More(DealId, Result<Option<Box<Bag>>, bourse_chain::Error>),
    Facts(Head, Vec<reads::Read>),
    NoFacts(Vec<TaskId>, bourse_chain::Error),
    Sent(TaskId, String, Result<(), SendError>),
    Checked(TaskId, Address, ResultLink, Result<(), check::Error>),
    Score(Address, Result<U256, bourse_chain::Error>),
    Answered,
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
        let bags = Bags::new(store.bags()?);
        let cursor = store.cursor()?.unwrap_or_else(|| Cursor::starting_at(config.start_block));
        let (sender, lane) = Sender::open(hub.client.clone(), key.clone(), store.journal.clone(), config.gas).await?;
        let (events, inbox) = mpsc::channel(EVENTS);
        let place = (config.workerpool, hub.address, chain_id);
        let crew = Crew::of(config.allowed.clone());
        let service = Self {
            follower: Follower::new(hub.client.clone(), reads::filter(&hub)),
            pool: Pool::new(store, config.clock.clone(), crew),
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
            scores: (BTreeSet::new(), 0),
            waiting: BTreeMap::new(),
            failed: BTreeMap::new(),
            full: false,
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

    /// Puts the remembered tasks back on the table. Meanwhile workers are let in: their logins take longer than this.
    async fn resume(&mut self) -> Result<(), Error> {
        let lately = beside_others(|| self.pool.store.recent(LESSONS))?;
        self.pool.learn(&lately);
        let remembered = beside_others(|| self.pool.store.open_tasks())?;
        let mut open = 0_usize;
        for (task, terms) in reads::all_terms(&self.hub, remembered).await {
            self.agenda.revisit([task.task]);
            open += usize::from(!task.has_ended());
            self.put_on_table(task, &terms);
        }
        if open > 0 {
            info!(tasks = open, "going on with open tasks");
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
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            resumed = self.resume() => resumed?,
        }
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
        // While a crowd logs in, what is only due is read at an eighth of its pace.
        let crowd = std::mem::take(&mut self.arrived) > CROWD;
        self.agenda.pass(millis.saturating_sub(before) / if crowd { 8 } else { 1 });
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
            self.pool.crew.wake(now);
            let due: Vec<_> = self.waiting.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
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
    }

    /// Starts reading tasks that something happened to or that are due, and scores.
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
        while self.scores.1 < SCORES
            && !self.scores.0.is_empty()
            && self.agenda.affords()
            && let Some(worker) = self.scores.0.pop_first()
        {
            self.scores.1 += 1;
            let hub = self.hub.clone();
            self.jobs.spawn(async move { Done::Score(worker, hub.score(worker).await) });
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
            Done::Back(tasks) => self.put_back(tasks),
            Done::Stands(upheavals, deal, stands) => self.hold_against_chain(upheavals, deal, stands),
            Done::More(deal, bag) => self.more(deal, bag)?,
            Done::Facts(head, read) => read.into_iter().for_each(|(id, facts)| self.absorb(id, head, facts)),
            Done::NoFacts(ids, error) => {
                warn!(tasks = ids.len(), %error, "cannot read the chain; trying again");
                ids.into_iter().for_each(|id| self.read_again(id));
            }
            Done::Sent(id, name, result) => {
                if let Err(error) = result {
                    if matches!(error, SendError::Failed { .. }) {
                        *self.failed.entry(id).or_default().entry(name.clone()).or_default() += 1;
                    }
                    if matches!(error, SendError::Refused { .. }) {
                        self.suspects.extend(self.pool.unopened_deal(id));
                    }
                    warn!(task = %id, %error, "transaction");
                }
                self.waiting.insert(name, self.pool.now() + RETRY);
                self.pool.sends(id, None);
                self.agenda.add(id);
            }
            Done::Checked(id, worker, link, result) => self.checked(id, worker, link, result),
            Done::Answered => {}
            Done::Score(worker, score) => {
                self.scores.1 -= 1;
                match score {
                    Ok(score) => self.pool.crew.set_score(worker, score),
                    Err(error) => warn!(%worker, %error, "cannot read a score"),
                }
            }
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

    /// Notes which tasks the news is about, and reads new deals.
    fn discover(&mut self, news: News) {
        if news.reorg {
            self.pool.chain_went_back();
        }
        self.pool.saw_block(news.head.timestamp);
        if planted(Defect::CursorFirst) {
            self.pool.store.advance(&news.cursor);
        }
        match news.reorg {
            true => {
                self.agenda.revisit(self.pool.all_tasks());
                self.suspects.extend(self.pool.all_tasks().into_iter().filter_map(|id| self.pool.unopened_deal(id)));
            }
            false => self.agenda.revisit(self.pool.buried(news.head.number)),
        }
        if news.latest.number > news.head.number {
            // Work may begin before the opening of its task is buried: it costs nothing, and without that block no
            // contribution stands.
            self.agenda.revisit(openings(&self.waiting));
        }
        let mut deals = Vec::new();
        for log in &news.logs {
            let (topics, data) = (log.topics(), log.inner.data.clone());
            if topics.first() == Some(&IHub::SchedulerNotice::SIGNATURE_HASH) {
                let notice = IHub::SchedulerNotice::decode_log_data(&data);
                let ours = notice.ok().filter(|n| n.workerpool == self.config.workerpool);
                deals.extend(ours.map(|n| DealId(n.dealid)));
            } else if let Some(task) = topics.get(1) {
                self.agenda.add(TaskId(*task));
            }
        }
        if news.reorg || !deals.is_empty() {
            self.upheavals += 1;
        }
        // At the block that the news is of: a node that has not seen it yet shows no deal, and that is no answer.
        let hub = self.hub.at(news.head);
        let most = self.config.bag;
        self.jobs.spawn(async move {
            match reads::news(&hub, deals, most, &news).await {
                Ok((bags, since)) => Done::Opened(bags, Box::new(news), since),
                Err(error) => Done::OpenFailed(error),
            }
        });
    }

    /// `since`: what ended at this second or later may not have ended any more.
    fn opened(&mut self, bags: Vec<Bag>, news: News, since: Option<u64>) -> Result<(), Error> {
        for bag in bags {
            self.take_bag(bag)?;
        }
        if let Some(since) = since {
            self.doubt_endings(since)?;
        }
        self.taken = (news.left == 0).then_some(news.head);
        self.pool.store.advance(&news.cursor);
        self.cursor = news.cursor;
        self.following = false;
        if news.left > 0 {
            self.follow();
        }
        Ok(())
    }

    /// A reorg went deeper than tasks are watched after their end: those that ended since come back on the table.
    fn doubt_endings(&mut self, since: u64) -> Result<(), Error> {
        // An end that is not written yet would not be found.
        self.flush()?;
        let tasks = self.pool.store.ended_since(since)?;
        if tasks.is_empty() {
            return Ok(());
        }
        warn!(tasks = tasks.len(), "a deep reorganisation of the chain: looking again at tasks that had ended");
        tasks.iter().for_each(|task| self.pool.store.reopened(task.task));
        let hub = self.hub.clone();
        self.jobs.spawn(async move { Done::Back(reads::all_terms(&hub, tasks).await) });
        Ok(())
    }

    fn put_back(&mut self, tasks: Vec<(Remembered, Terms)>) {
        for (task, terms) in tasks {
            self.agenda.add(task.task);
            self.put_on_table(task, &terms);
        }
    }

    fn put_on_table(&mut self, task: Remembered, terms: &Terms) {
        let need = Need::new(terms.app_type.clone(), task.deal.tag, self.config.floor);
        self.pool.open(task, terms.period, need);
    }

    /// Asks whether suspected deals are still part of the chain: a reorg takes a deal away with its block.
    fn question_suspects(&mut self) {
        let Some(head) = self.taken.filter(|_| !self.suspects.is_empty()) else { return };
        let upheavals = self.upheavals;
        for deal in std::mem::take(&mut self.suspects) {
            let hub = self.hub.at(head);
            let stands = async move { hub.deal(deal).await.map(|found| found.is_some()) };
            self.jobs.spawn(async move { Done::Stands(upheavals, deal, stands.await) });
        }
    }

    /// Takes the tasks of a deal off the table that is not on the chain any more. At the block up to which all news was
    /// taken in this is certain, and if the deal comes again it is announced again.
    fn hold_against_chain(&mut self, upheavals: u64, deal: DealId, stands: Result<bool, bourse_chain::Error>) {
        match stands {
            Ok(true) => {}
            Ok(false) if self.upheavals == upheavals => {
                warn!(%deal, "the deal is not part of the chain any more: its tasks are taken off the table");
                if self.bags.0.set(deal, None) {
                    self.pool.store.taken(deal, None);
                }
                for task in self.pool.drop_deal(deal) {
                    self.read_at.remove(&task);
                    self.failed.remove(&task);
                }
            }
            Ok(false) | Err(_) => drop(self.suspects.insert(deal)),
        }
    }

    fn more(&mut self, deal: DealId, bag: Result<Option<Box<Bag>>, bourse_chain::Error>) -> Result<(), Error> {
        self.bags.1.remove(&deal);
        match bag {
            Ok(Some(bag)) => self.take_bag(*bag),
            // A reorg took the deal away, or the node has not seen it yet.
            Ok(None) => Ok(()),
            Err(error) => {
                warn!(%deal, %error, "cannot read the deal; trying again");
                Ok(())
            }
        }
    }

    /// Puts tasks of a deal on the table, and notes how far the deal was taken.
    fn take_bag(&mut self, bag: Bag) -> Result<(), Error> {
        let Bag { deal, window, terms } = bag;
        let mut fresh = Vec::new();
        for (id, index) in window.tasks {
            // One that was opened before keeps what is known of it, also when it has ended.
            let store = &self.pool.store;
            let is_new =
                || Ok::<_, Error>(store.forgets(id) || store.task(id)?.is_none_or(|known| known.stages.is_empty()));
            if self.pool.entry(id).is_none() && is_new()? {
                fresh.push((id, index));
            }
        }
        self.pool.store.take(&deal, &fresh);
        if self.bags.0.set(deal.id, window.next) {
            self.pool.store.taken(deal.id, window.next);
        }
        for (task, index) in fresh {
            info!(%task, deal = %deal.id, trust = %deal.trust, "bought");
            self.agenda.add(task);
            let deal = deal.clone();
            let task = Remembered { task, deal, index, result: None, stages: vec![], replicates: vec![] };
            self.put_on_table(task, &terms);
        }
        Ok(())
    }

    /// Starts reading more of the deals of which there is room for more.
    fn take_more(&mut self) {
        if self.bags.0.is_empty() {
            return;
        }
        for (deal, next, room) in self.bags.0.room(&self.pool.open_by_deal(), self.config.bag) {
            if self.bags.1.insert(deal) {
                let hub = self.hub.clone();
                self.jobs.spawn(async move {
                    let bag = reads::bag(&hub, deal, next, room).await;
                    Done::More(deal, bag.map(|bag| bag.map(Box::new)))
                });
            }
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Joined { worker, login, answer } => self.join(worker, *login, answer),
            Event::Said { worker, connection, message } if self.pool.crew.is_current(worker, connection) => {
                match self.pool.hear(worker, message) {
                    Heard::Draining => {}
                    Heard::Progress(task) => self.agenda.add(task),
                    // When thousands come back and say where they are, nobody is to wait for the chain because of it.
                    Heard::Known(task) => self.agenda.revisit([task]),
                    Heard::Free(task) => {
                        // It may have seen on the chain what we have not.
                        self.doubted.insert(task);
                        self.agenda.add(task);
                        self.hand_out();
                        self.pool.say_no_work(worker);
                    }
                    Heard::Result(task, link) => self.check(task, worker, link),
                }
            }
            Event::Left { worker, connection, session } => {
                if self.pool.crew.leave(worker, connection, session) {
                    info!(%worker, "worker disconnected");
                    self.agenda.add_all(self.pool.part_of(worker));
                }
            }
            Event::Said { .. } => {}
        }
    }

    fn join(&mut self, worker: Address, mut login: Applicant, answer: oneshot::Sender<Admission>) {
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
        let (connection, holds) = (login.connection, std::mem::take(&mut login.holds));
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
        self.arrived += 1;
        if answer.is_closed() {
            // Its connection did not wait so long: no work goes there.
            self.pool.crew.leave(worker, connection, None);
            return;
        }
        match resumed {
            true => self.agenda.add_all(self.pool.part_of(worker)),
            false => self.begin(worker, &holds),
        }
        // Last: then its connection says the welcome and all this in one go.
        if answer.send(admission).is_err() {
            self.pool.crew.leave(worker, connection, None);
            self.agenda.add_all(self.pool.part_of(worker));
        }
    }

    /// Tells a worker that begins a session all that still holds for it, but for what it needs to have signed of the tasks
    /// that it holds. New work may now find a hand.
    fn begin(&mut self, worker: Address, holds: &[TaskId]) {
        for task in self.pool.assigned(worker) {
            match holds.contains(&task) {
                true => self.pool.tell(worker, ToWorker::GoOn { task }),
                false => self.assign(task, worker),
            }
        }
        self.scores.0.insert(worker);
        self.agenda.revisit(self.pool.part_of(worker));
        self.hand_out();
        self.pool.say_no_work(worker);
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
                Step::Upload(worker) => {
                    if !self.pool.is_asked(id, worker) {
                        self.pool.record(id, worker, Status::ResultUploadRequested, None, now);
                    }
                    self.pool.tell(worker, ToWorker::Upload { task: id });
                }
                Step::Finalize(link) => self.transact(id, format!("finalize:{id}"), Tx::Finalize(link)),
                Step::Reopen if planted(Defect::NoReopen) => {}
                Step::Reopen => {
                    let round = self.pool.stages(id);
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
                    self.scores.0.insert(worker);
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

    fn assign(&mut self, task: TaskId, worker: Address) {
        let Some(entry) = self.pool.entry(task) else { return };
        let (deal, index) = (entry.deal.id, entry.index);
        // The connection signs it.
        let authorization = Bytes::new();
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
        self.pool.sends(id, tx.sending());
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
        self.agenda.add(id);
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

    /// Answers once the nodes were looked at, beside the loop.
    fn tell_metrics(&mut self, reply: oneshot::Sender<Metrics>) {
        let (known, connected) = self.pool.crew.count();
        let metrics = Metrics {
            ok: true,
            obstacles: vec![],
            disk_full: self.full,
            open_tasks: self.pool.open_tasks().len(),
            waiting_tasks: self.pool.waiting(),
            connected_workers: connected,
            known_workers: known,
            newest_block: self.cursor.next().checked_sub(1),
            blocks_left: None,
            nodes: vec![],
            sender: self.sender.status(),
        };
        let client = self.hub.client.clone();
        self.jobs.spawn(async move {
            let nodes = client.probe().await;
            let depth = client.depth().await.unwrap_or_default();
            let _ = reply.send(Metrics { nodes, ..metrics }.judged(depth));
            Done::Answered
        });
    }

    fn answer(&mut self, query: Query) {
        // Whoever asked may have gone.
        match query {
            Query::Task(id, reply) => drop(reply.send(self.pool.show(id))),
            Query::Tasks(reply) => {
                let recent = self.pool.store.recent(100).unwrap_or_default();
                drop(reply.send(recent.into_iter().map(|task| self.pool.show_remembered(task)).collect()));
            }
            Query::Workers(reply) => drop(reply.send(self.pool.show_workers())),
            Query::Metrics(reply) => self.tell_metrics(reply),
        }
    }
}

/// The tasks whose opening is on its way, of everything that is waited for.
fn openings(waiting: &BTreeMap<String, u64>) -> impl Iterator<Item = TaskId> {
    let named =
        waiting.range("initialize:".to_owned()..).map_while(|(name, at)| Some((name.strip_prefix("initialize:")?, at)));
    named.filter(|(_, at)| **at == u64::MAX).filter_map(|(task, _)| task.parse().ok())
}

/// What the scheduler sends.
enum Tx {
    Initialize,
    Finalize(ResultLink),
    Reopen,
    Claim,
}

impl Tx {
    /// As people see it.
    fn sending(&self) -> Option<Sending> {
        match self {
            Self::Initialize => Some(Sending::Initialize),
            Self::Finalize(_) => Some(Sending::Finalize),
            Self::Reopen | Self::Claim => None,
        }
    }
}

async fn send(
    sender: &Sender,
    hub: &Hub,
    name: &str,
    (deal, index, task): (DealId, U256, TaskId),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_openings_that_are_on_their_way_are_looked_for_in_the_newest_block() {
        let task = |byte| TaskId(bourse_protocol::B256::repeat_byte(byte));
        let waiting = [("initialize", 1, u64::MAX), ("initialize", 2, 100), ("finalize", 3, u64::MAX)]
            .map(|(what, byte, at)| (format!("{what}:{}", task(byte)), at));
        assert_eq!(openings(&waiting.into()).collect::<Vec<_>>(), [task(1)]);
    }
}
