//! The pool's table: tasks and replicates in memory, each change noted in the store. No I/O but the store's flush.

mod hear;
mod replicate;
mod show;
mod waiting;

use crate::{
    crew::{Crew, Need},
    queue::Queue,
    runs::Runs,
    store::{Remembered, Store},
};
use bourse_protocol::{
    Address, U256,
    api::{StageChange, StatusChange},
    deal::{ChainTask, Deal, ResultLink, TaskStatus},
    ids::{DealId, ResultDigest, TaskId},
    link::ToWorker,
    replicate::{Cause, CauseCode, Status},
    task::{self, Part, Sending, Stage, Step, UPLOAD_LEASE, View, Vote},
};
use bourse_service::{
    clock::Clock,
    defect::{Defect, planted},
    journal::Error,
};
use hear::{MAX_CHANGES, MAX_EVIDENCE};
use replicate::{Lesson, Replicate, before_contributed, before_revealed, judgement, lessons, may_try_again};
use std::collections::{BTreeMap, BTreeSet};
use tracing::info;

/// Blocks above the end of a task after which it is taken off the table: as long as a sender watches its transactions.
const BURIED: u64 = 64;

pub(crate) struct Pool {
    pub(crate) store: Store,
    pub(crate) crew: Crew,
    clock: Clock,
    /// The time of the newest block. Ahead of our clock, it is the one that counts: deadlines are the chain's.
    chain_time: u64,
    /// By how much it was ahead when that block was seen, in seconds: a development chain's time may be moved.
    ahead: u64,
    tasks: BTreeMap<TaskId, Entry>,
    /// Open tasks by worker.
    parts: BTreeMap<Address, BTreeSet<TaskId>>,
    waiting: Queue,
    /// Tasks that are to be opened on the chain as soon as it makes sense.
    unopened: Queue,
    runs: Runs,
    /// What is said to workers once everything it rests on is on disk.
    outgoing: Vec<(Address, ToWorker)>,
}

/// An open task, or one whose end may still go away with its block.
pub(crate) struct Entry {
    pub(crate) deal: Deal,
    pub(crate) index: U256,
    /// The category's T, in seconds.
    pub(crate) period: u64,
    need: Need,
    chain: ChainTask,
    votes: Vec<Vote>,
    replicates: Vec<Replicate>,
    result: Option<ResultLink>,
    stages: Vec<StageChange>,
    /// The block at which it was first seen to have ended.
    ended: Option<u64>,
    /// What is on its way to the chain about it, or in a block of which the effects were not read.
    sending: Option<Sending>,
    /// Why the transaction that its stage waits for did not get into a block, when last tried.
    trouble: Option<Cause>,
}

impl Entry {
    fn stage(&self) -> Stage {
        self.stages.last().map_or(Stage::Received, |s| s.status)
    }

    /// What is in a block is news only until its effects were read: it ends the phase of reveals.
    fn forget_what_is_read(&mut self) {
        if self.chain.status != TaskStatus::Revealing {
            self.sending.take_if(|sending| matches!(sending, Sending::Finalized | Sending::Reopened));
        }
    }

    /// Everybody who took part.
    fn workers(&self) -> impl Iterator<Item = Address> {
        self.votes.iter().map(|vote| vote.worker).chain(self.replicates.iter().map(|replicate| replicate.worker))
    }

    fn replicate_of(&self, worker: Address) -> Option<&Replicate> {
        self.replicates.iter().find(|r| r.worker == worker)
    }

    /// Whether it had ended so long before a block that its end stays.
    fn is_buried(&self, block: u64) -> bool {
        self.ended.is_some_and(|ended| ended + BURIED <= block)
    }
}

/// What the chain says of a task at one moment.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) task: ChainTask,
    pub(crate) votes: Vec<Vote>,
    /// The block at which this was read.
    pub(crate) block: u64,
}

/// What a worker's message means for the pool.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    /// That it takes no more work.
    Draining,
    /// Nothing: it has no part in the task.
    Nothing,
    /// Something about a task changed.
    Progress(TaskId),
    /// Nothing that was not known of a task.
    Known(TaskId),
    /// Something changed or may have, and the worker can take more work.
    Free(TaskId),
    /// A result that is to be checked.
    Result(TaskId, ResultLink),
}

impl Pool {
    pub(crate) fn new(store: Store, clock: Clock, crew: Crew) -> Self {
        Self {
            store,
            crew,
            clock,
            chain_time: 0,
            ahead: 0,
            tasks: BTreeMap::new(),
            parts: BTreeMap::new(),
            waiting: Queue::default(),
            unopened: Queue::default(),
            runs: Runs::default(),
            outgoing: vec![],
        }
    }

    /// Writes what is new, then says what was to be said.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.store.flush()?;
        for (worker, message) in std::mem::take(&mut self.outgoing) {
            self.crew.tell(worker, message);
        }
        Ok(())
    }

    /// Learns from what is remembered of tasks: how long runs of their apps take, and how their workers did.
    pub(crate) fn learn(&mut self, tasks: &[Remembered]) {
        let mut lessons: Vec<_> = tasks.iter().flat_map(lessons).collect();
        lessons.sort_by_key(|lesson| lesson.date);
        let here = self.here();
        for Lesson { date, worker, ran, did_well } in lessons {
            self.crew.remember(worker, here);
            if let Some((app, seconds)) = ran {
                self.runs.finished(app, seconds);
            }
            match did_well {
                Some(true) => self.crew.praise(worker),
                Some(false) => self.crew.blame(worker, date),
                None => {}
            }
        }
        self.crew.wake(self.now());
    }

    /// Whether a flush has something to write.
    pub(crate) fn has_notes(&self) -> bool {
        self.store.has_notes()
    }

    /// A message for a worker, after the next flush.
    pub(crate) fn tell(&mut self, worker: Address, message: ToWorker) {
        self.outgoing.push((worker, message));
    }

    /// Seconds since the epoch.
    pub(crate) fn now(&self) -> u64 {
        self.here().saturating_add(self.ahead).max(self.chain_time)
    }

    /// Seconds since the epoch on this machine's clock: what signs of life are measured by.
    pub(crate) fn here(&self) -> u64 {
        self.clock.seconds()
    }

    /// A block of this time was seen.
    pub(crate) fn saw_block(&mut self, timestamp: u64) {
        // Not the latest of all: a node may say anything once, and the next block tells.
        let before = self.now();
        self.chain_time = timestamp;
        self.ahead = timestamp.saturating_sub(self.here());
        let now = self.now();
        if now < before {
            self.tasks.values_mut().flat_map(|e| &mut e.replicates).for_each(|r| r.time_is(now));
        }
    }

    /// Whether a moment of a task has passed.
    pub(crate) fn is_past(&self, id: TaskId, moment: impl Fn(&ChainTask) -> u64) -> bool {
        self.tasks.get(&id).is_some_and(|entry| self.now() >= moment(&entry.chain))
    }

    /// Whether a worker was asked for its result and may still bring it.
    pub(crate) fn is_asked(&self, id: TaskId, worker: Address) -> bool {
        let shown = |s| matches!(s, Status::ResultUploadRequested | Status::ResultUploading);
        let asked = |r: &Replicate| shown(r.status()) && r.upload(self.now()).asked.is_some();
        self.tasks.get(&id).and_then(|e| e.replicate_of(worker)).is_some_and(asked)
    }

    /// Puts a task on the table, as remembered or new.
    pub(crate) fn open(&mut self, task: Remembered, period: u64, need: Need) {
        if self.tasks.contains_key(&task.task) {
            return;
        }
        let chain = ChainTask {
            id: task.task,
            status: TaskStatus::Unset,
            contribution_deadline: task.deal.contribution_deadline(period),
            reveal_deadline: 0,
            final_deadline: task.deal.final_deadline(period),
            consensus: Default::default(),
            revealed: 0,
            winners: 0,
            contributors: vec![],
            digest: ResultDigest::default(),
            results: Default::default(),
        };
        let now = self.now();
        let replicate = |(worker, history)| Replicate::remembered(worker, self.crew.weight(worker), history, now);
        let entry = Entry {
            deal: task.deal,
            index: task.index,
            period,
            need,
            chain,
            votes: vec![],
            replicates: task.replicates.into_iter().map(replicate).collect(),
            result: task.result,
            stages: task.stages,
            ended: None,
            sending: None,
            trouble: None,
        };
        self.crew.expect_stake(entry.need.stake);
        let here = self.here();
        for replicate in &entry.replicates {
            self.parts.entry(replicate.worker).or_default().insert(task.task);
            self.crew.remember(replicate.worker, here);
            if replicate.is_pending() {
                self.crew.load(replicate.worker, entry.need.stake);
                self.waiting.running(entry.deal.requester, true);
            }
        }
        self.tasks.insert(task.task, entry);
    }

    pub(crate) fn entry(&self, task: TaskId) -> Option<&Entry> {
        self.tasks.get(&task)
    }

    /// Everything on the table.
    pub(crate) fn all_tasks(&self) -> BTreeSet<TaskId> {
        self.tasks.keys().copied().collect()
    }

    /// Tasks that have not ended, as far as is known.
    pub(crate) fn open_tasks(&self) -> BTreeSet<TaskId> {
        self.tasks.iter().filter(|(_, e)| e.ended.is_none()).map(|(id, _)| *id).collect()
    }

    /// How many open tasks each deal has on the table.
    pub(crate) fn open_by_deal(&self) -> BTreeMap<DealId, u64> {
        let mut open = BTreeMap::new();
        for entry in self.tasks.values().filter(|e| e.ended.is_none()) {
            *open.entry(entry.deal.id).or_default() += 1;
        }
        open
    }

    /// Tasks that ended so long before this block that they can be looked at for the last time.
    pub(crate) fn buried(&self, block: u64) -> Vec<TaskId> {
        self.tasks.iter().filter(|(_, e)| e.is_buried(block)).map(|(id, _)| *id).collect()
    }

    /// Whether a task had ended so long before a block that its end stays.
    pub(crate) fn is_buried(&self, id: TaskId, block: u64) -> bool {
        self.tasks.get(&id).is_some_and(|e| e.is_buried(block))
    }

    /// Tasks of which a deadline lies between two moments.
    pub(crate) fn due(&self, after: u64, until: u64) -> Vec<TaskId> {
        let passes = |at: u64| after < at && at <= until;
        let due = |e: &Entry| {
            let c = &e.chain;
            let lease =
                |r: &Replicate| passes(r.began().saturating_add(e.period)) || r.upload(after).ends().any(passes);
            [c.contribution_deadline, c.reveal_deadline, c.final_deadline].into_iter().any(passes)
                || self.replaced(e).into_iter().any(passes)
                || e.replicates.iter().any(lease)
        };
        self.tasks.iter().filter(|(_, e)| e.ended.is_none() && due(e)).map(|(id, _)| *id).collect()
    }

    /// Takes in what the chain says, and says what to do.
    pub(crate) fn absorb(&mut self, id: TaskId, facts: Facts) -> Vec<Step> {
        let Some(entry) = self.tasks.get_mut(&id) else { return vec![] };
        let deadlines = (entry.chain.contribution_deadline, entry.chain.final_deadline);
        entry.chain = facts.task;
        if entry.chain.status == TaskStatus::Unset {
            (entry.chain.contribution_deadline, entry.chain.final_deadline) = deadlines;
        }
        entry.votes = facts.votes;
        entry.forget_what_is_read();
        let had_ended = entry.ended.is_some();
        entry.ended = match entry.chain.status {
            TaskStatus::Completed | TaskStatus::Failed => entry.ended.or(Some(facts.block)),
            TaskStatus::Unset | TaskStatus::Active | TaskStatus::Revealing => None,
        };
        if entry.ended.is_some() && !had_ended {
            // What it had at stake is free again, or gone, and the score is another.
            entry.workers().for_each(|worker| self.crew.doubt(worker, facts.block));
        }
        self.decide(id)
    }

    /// Holds what the chain shows of a task against what the workers say. Says what to do.
    pub(crate) fn decide(&mut self, id: TaskId) -> Vec<Step> {
        let now = self.now();
        self.catch_up(id, now);
        self.expire(id, now);
        self.steps(id)
    }

    /// What to do about a task, from what is known now.
    pub(crate) fn steps(&mut self, id: TaskId) -> Vec<Step> {
        let now = self.now();
        let Some(entry) = self.tasks.get(&id) else { return vec![] };
        let parts = self.parts(entry, now);
        let view = look(entry, now, &parts);
        let stage = task::stage(&view).after(entry.stages.last().map(|s| s.status), entry.sending);
        let (steps, cause) = (task::steps(&view), task::cause(stage, &view));
        self.enter(id, stage, cause, now);
        steps
    }

    fn parts(&self, entry: &Entry, now: u64) -> Vec<Part> {
        let part = |(r, replaced): (&Replicate, u64)| Part {
            worker: r.worker,
            status: r.status(),
            weight: r.weight,
            connected: self.crew.is_here(r.worker),
            late: now >= replaced && !planted(Defect::SilentKept),
            upload: r.upload(now),
        };
        entry.replicates.iter().zip(self.replaced(entry)).map(part).collect()
    }

    /// When each replicate of a task is replaced unless it has contributed.
    fn replaced(&self, entry: &Entry) -> Vec<u64> {
        let replicates: Vec<_> = entry.replicates.iter().map(|r| (r.began(), r.is_pending())).collect();
        self.runs.replaced(entry.deal.app.pointer, entry.period, &replicates)
    }

    /// Where a task stands.
    pub(crate) fn stage(&self, id: TaskId) -> Stage {
        self.tasks.get(&id).map_or(Stage::Received, Entry::stage)
    }

    /// A transaction that was tried for a task at this stage did not get into a block.
    pub(crate) fn troubled(&mut self, id: TaskId, at: Stage, cause: Cause) {
        // Where the task has gone on meanwhile it does not wait for that transaction.
        if let Some(entry) = self.tasks.get_mut(&id).filter(|entry| entry.stage() == at) {
            entry.trouble = Some(cause.shortened(MAX_EVIDENCE));
        }
    }

    /// A transaction about a task is on its way, or in a block, or is not any more.
    pub(crate) fn sends(&mut self, id: TaskId, sending: Option<Sending>) {
        if let Some(entry) = self.tasks.get_mut(&id) {
            entry.sending = sending;
            entry.forget_what_is_read();
            self.steps(id);
        }
    }

    fn enter(&mut self, id: TaskId, stage: Stage, cause: Option<Cause>, now: u64) {
        let Some(entry) = self.tasks.get_mut(&id) else { return };
        let before = entry.stages.last();
        if before.is_some_and(|s| s.status == stage) {
            return;
        }
        info!(task = %id, %stage, "task");
        // What the pool knows of its own transactions says more than what the chain lacks, and a refund has the cause of what
        // it came from.
        let known = before.filter(|_| stage == Stage::Failed).and_then(|s| s.cause.clone()).or(entry.trouble.take());
        let change = StageChange { date: now, status: stage, cause: cause.map(|cause| known.unwrap_or(cause)) };
        self.store.stage(id, change.clone());
        entry.stages.push(change);
    }

    /// What stands on chain counts, whatever the workers said or the store forgot.
    fn catch_up(&mut self, id: TaskId, now: u64) {
        let Some(entry) = self.tasks.get(&id) else { return };
        let mut missed = Vec::new();
        let parts = self.parts(entry, now);
        let view = look(entry, now, &parts);
        for vote in &entry.votes {
            let replicate = entry.replicate_of(vote.worker);
            let last = replicate.and_then(|r| r.history.last());
            if last.is_some_and(|last| task::outcome(&view, vote.worker) == Some((last.status, last.cause.clone()))) {
                // How the task went for it stands there already: the vote is older.
                continue;
            }
            let unknown = Replicate::new(vote.worker, vote.weight, vec![]);
            let reached = replicate.unwrap_or(&unknown).reached(vote.status, self.crew.is_here(vote.worker));
            missed.extend(reached.into_iter().map(|status| (vote.worker, status)));
        }
        missed.into_iter().for_each(|(worker, status)| self.record(id, worker, status, None, now));
    }

    /// Ends leases: a silent replicate is given up after T, an upload after [`UPLOAD_LEASE`].
    fn expire(&mut self, id: TaskId, now: u64) {
        let Some(entry) = self.tasks.get(&id) else { return };
        let mut expired = Vec::new();
        for r in &entry.replicates {
            if r.is_pending() && now >= r.began().saturating_add(entry.period) {
                let cause = Cause::new(CauseCode::WorkerLost, format!("no contribution within {} s", entry.period));
                expired.push((r.worker, Status::WorkerLost, cause));
            } else if entry.result.is_none() && !r.status().is_final() && r.upload(now).is_over(now) {
                let cause = Cause::new(CauseCode::ResultUploadFailed, format!("no result within {UPLOAD_LEASE} s"));
                expired.push((r.worker, Status::ResultUploadFailed, cause));
            }
        }
        expired.retain(|(_, status, _)| *status != Status::WorkerLost || !planted(Defect::SilentKept));
        expired.into_iter().for_each(|(worker, status, cause)| self.record(id, worker, status, Some(cause), now));
    }

    /// Notes a replicate's status. The same status twice is one.
    pub(crate) fn record(&mut self, id: TaskId, worker: Address, status: Status, cause: Option<Cause>, now: u64) {
        let Some(entry) = self.tasks.get_mut(&id) else { return };
        let known = entry.replicates.iter_mut().find(|r| r.worker == worker);
        if known.as_ref().is_some_and(|r| r.status() == status && r.history.last().is_some_and(|c| c.cause == cause)) {
            return;
        }
        let change = StatusChange { date: now, status, cause };
        self.store.status(id, worker, change.clone());
        let (mut before, mut voted, stake) = (false, false, entry.need.stake);
        let after = match known {
            Some(replicate) => {
                (before, voted) = (replicate.is_pending(), replicate.has_voted());
                if status == Status::Created && replicate.history.len() >= MAX_CHANGES {
                    self.store.afresh(id, worker);
                    replicate.history.retain(|c| c.status == Status::Created);
                }
                replicate.history.push(change);
                if status == Status::Contributed && before {
                    self.runs.finished(entry.deal.app.pointer, now.saturating_sub(replicate.began()));
                }
                replicate.is_pending()
            }
            None => {
                let replicate = Replicate::new(worker, self.crew.weight(worker), vec![change]);
                let busy = replicate.is_pending();
                entry.replicates.push(replicate);
                self.parts.entry(worker).or_default().insert(id);
                busy
            }
        };
        if before != after && !(before && planted(Defect::SlotKept)) {
            self.waiting.running(entry.deal.requester, after);
            match after {
                true => self.crew.load(worker, stake),
                false => self.crew.unload(worker, stake, status == Status::Contributed),
            }
        }
        match judgement(status, voted) {
            Some(true) => self.crew.praise(worker),
            Some(false) => self.crew.blame(worker, now),
            None => {}
        }
    }

    /// Replicates that a worker still has work for: what to tell it again when it comes back.
    pub(crate) fn assigned(&self, worker: Address) -> Vec<TaskId> {
        let theirs = |id: &TaskId| {
            let entry = self.tasks.get(id);
            entry.is_some_and(|e| e.replicates.iter().any(|r| r.worker == worker && r.is_pending()))
        };
        self.part_of(worker).into_iter().filter(theirs).collect()
    }

    /// The place in a task's history at which its vote was to be reopened last: each time is another one.
    pub(crate) fn reopening(&self, id: TaskId) -> usize {
        let last = |entry: &Entry| entry.stages.iter().rposition(|s| s.status == Stage::Reopening);
        self.tasks.get(&id).and_then(last).map_or(0, |at| at + 1)
    }

    /// Who has been given a task and is expected to contribute.
    pub(crate) fn at_work(&self, id: TaskId) -> Vec<Address> {
        let replicates = self.tasks.get(&id).into_iter().flat_map(|e| &e.replicates);
        replicates.filter(|r| r.is_pending()).map(|r| r.worker).collect()
    }

    pub(crate) fn is_open(&self, id: TaskId) -> bool {
        self.tasks.get(&id).is_some_and(|e| e.ended.is_none())
    }

    /// Tasks on the table that a worker takes part in, in whatever state.
    pub(crate) fn part_of(&self, worker: Address) -> Vec<TaskId> {
        self.parts.get(&worker).map(|tasks| tasks.iter().copied().collect()).unwrap_or_default()
    }

    /// The digest that was agreed on, once it is revealed.
    pub(crate) fn digest(&self, task: TaskId) -> Option<ResultDigest> {
        let digest = self.tasks.get(&task)?.chain.digest;
        (digest != ResultDigest::default()).then_some(digest)
    }

    /// The deal of a task that is not open on the chain, as far as is known.
    pub(crate) fn unopened_deal(&self, id: TaskId) -> Option<DealId> {
        self.tasks.get(&id).filter(|e| e.chain.status == TaskStatus::Unset).map(|e| e.deal.id)
    }

    /// Forgets the tasks of a deal that is not part of the chain. Says which.
    pub(crate) fn drop_deal(&mut self, deal: DealId) -> Vec<TaskId> {
        let tasks: Vec<_> = self.tasks.iter().filter(|(_, e)| e.deal.id == deal).map(|(id, _)| *id).collect();
        for id in &tasks {
            self.abort_all(*id);
            let took_part: Vec<_> = self.tasks.get(id).into_iter().flat_map(Entry::workers).collect();
            took_part.into_iter().for_each(|worker| self.crew.doubt(worker, 0));
            self.remove(*id);
            self.store.forget(*id);
        }
        tasks
    }

    fn abort_all(&mut self, task: TaskId) {
        for worker in self.at_work(task) {
            let cause = Cause::new(CauseCode::TaskNotActive, "its deal is not part of the chain any more");
            self.tell(worker, ToWorker::Abort { task, cause });
        }
    }

    /// Takes an ended task off the table.
    pub(crate) fn close(&mut self, id: TaskId) {
        if self.remove(id) {
            self.store.ended(id);
        }
    }

    fn remove(&mut self, id: TaskId) -> bool {
        let Some(entry) = self.tasks.remove(&id) else { return false };
        self.waiting.remove(entry.deal.requester, id);
        self.unopened.remove(entry.deal.requester, id);
        for replicate in &entry.replicates {
            let tasks = self.parts.entry(replicate.worker).or_default();
            tasks.remove(&id);
            if tasks.is_empty() {
                self.parts.remove(&replicate.worker);
            }
            if replicate.is_pending() {
                self.crew.unload(replicate.worker, entry.need.stake, false);
                self.waiting.running(entry.deal.requester, false);
            }
        }
        true
    }

    /// Marks what is expected of workers of whom nothing was heard for too long. Returns the tasks concerned.
    pub(crate) fn give_up_lost(&mut self) -> Vec<TaskId> {
        if planted(Defect::SilentKept) {
            return vec![];
        }
        let (now, here) = (self.now(), self.here());
        let mut touched = Vec::new();
        let (tasks, parts) = (&self.tasks, &self.parts);
        let lost = self.crew.lost(here, |worker| !counted_on(tasks, parts, worker).is_empty());
        for (worker, last) in lost {
            for task in counted_on(&self.tasks, &self.parts, worker) {
                let evidence = format!("nothing heard for {} s", here.saturating_sub(last));
                self.record(task, worker, Status::WorkerLost, Some(Cause::new(CauseCode::WorkerLost, evidence)), now);
                touched.push(task);
            }
        }
        touched
    }
}

/// Tasks that have not ended in which a worker would be missed.
fn counted_on(
    tasks: &BTreeMap<TaskId, Entry>,
    parts: &BTreeMap<Address, BTreeSet<TaskId>>,
    worker: Address,
) -> Vec<TaskId> {
    let missed = |id: &TaskId| {
        let open = tasks.get(id).filter(|entry| entry.ended.is_none());
        open.is_some_and(|e| e.replicates.iter().any(|r| r.worker == worker && r.is_counted_on()))
    };
    parts.get(&worker).into_iter().flatten().copied().filter(missed).collect()
}

fn look<'a>(entry: &'a Entry, now: u64, parts: &'a [Part]) -> View<'a> {
    View { now, trust: entry.deal.trust, task: &entry.chain, votes: &entry.votes, parts, result: entry.result.as_ref() }
}

#[cfg(test)]
mod tests;
