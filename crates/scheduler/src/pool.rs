//! The pool's table: tasks, replicates and workers in memory, each change in the store first. No I/O but the store.

use crate::{
    link::Outbox,
    store::{Remembered, Store, current},
};
use bourse_protocol::{
    Address, U256,
    api::{ReplicateView, StageChange, StatusChange, TaskView, WorkerView},
    consensus,
    deal::{ChainTask, ContributionStatus, Deal, ResultLink, TaskStatus},
    ids::{ResultDigest, TaskId},
    link::{Capabilities, LOST_SECONDS, ToScheduler, ToWorker},
    replicate::{Cause, CauseCode, Status},
    task::{self, Part, Stage, Step, View, Vote},
};
use bourse_service::{clock::Clock, journal::Error};
use std::collections::{BTreeMap, BTreeSet};
use tracing::{info, warn};

/// A worker that was asked for its result and is silent for this long is not asked again, in seconds.
const UPLOAD_LEASE: u64 = 60;

pub(crate) struct Pool {
    pub(crate) store: Store,
    clock: Clock,
    /// The time of the newest block. Ahead of our clock, it is the one that counts: deadlines are the chain's.
    chain_time: u64,
    tasks: BTreeMap<TaskId, Entry>,
    workers: BTreeMap<Address, Worker>,
    /// Counts up whenever a worker becomes idle: who has waited longest is served first.
    turn: u64,
}

/// An open task.
pub(crate) struct Entry {
    pub(crate) deal: Deal,
    pub(crate) index: U256,
    /// The category's T, in seconds.
    pub(crate) period: u64,
    /// What kind of app it is.
    pub(crate) app_type: String,
    chain: ChainTask,
    votes: Vec<Vote>,
    replicates: Vec<Replicate>,
    result: Option<ResultLink>,
    stages: Vec<StageChange>,
}

struct Replicate {
    worker: Address,
    weight: U256,
    history: Vec<StatusChange>,
}

struct Worker {
    name: String,
    capabilities: Capabilities,
    session: Option<(u64, Outbox)>,
    last_alive: u64,
    idle_since: u64,
    weight: U256,
}

/// What the chain says of a task at one moment.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) task: ChainTask,
    pub(crate) votes: Vec<Vote>,
}

/// What a worker's message means for the pool.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    /// That it lives.
    Sign,
    /// Something about a task changed.
    Progress(TaskId),
    /// The same, and the worker can take more work.
    Free(TaskId),
    /// A result that is to be checked.
    Result(TaskId, ResultLink),
}

impl Replicate {
    fn status(&self) -> Status {
        current(&self.history)
    }

    fn since(&self) -> u64 {
        self.history.last().map_or(0, |c| c.date)
    }
}

impl Pool {
    pub(crate) fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock, chain_time: 0, tasks: BTreeMap::new(), workers: BTreeMap::new(), turn: 0 }
    }

    /// Seconds since the epoch.
    pub(crate) fn now(&self) -> u64 {
        self.clock.seconds().max(self.chain_time)
    }

    /// A block of this time was seen.
    pub(crate) fn saw_block(&mut self, timestamp: u64) {
        self.chain_time = self.chain_time.max(timestamp);
    }

    /// Whether a worker was asked for its result and may still bring it.
    pub(crate) fn is_asked(&self, id: TaskId, worker: Address) -> bool {
        let asked = |s| matches!(s, Status::ResultUploadRequested | Status::ResultUploading);
        self.tasks.get(&id).is_some_and(|e| e.replicates.iter().any(|r| r.worker == worker && asked(r.status())))
    }

    /// Puts a task on the table, as remembered or new.
    pub(crate) fn open(&mut self, task: Remembered, period: u64, app_type: String) {
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
        let replicate = |(worker, history)| Replicate { worker, weight: consensus::weight(U256::ZERO), history };
        let entry = Entry {
            deal: task.deal,
            index: task.index,
            period,
            app_type,
            chain,
            votes: vec![],
            replicates: task.replicates.into_iter().map(replicate).collect(),
            result: task.result,
            stages: task.stages,
        };
        self.tasks.entry(task.task).or_insert(entry);
    }

    pub(crate) fn entry(&self, task: TaskId) -> Option<&Entry> {
        self.tasks.get(&task)
    }

    pub(crate) fn open_tasks(&self) -> BTreeSet<TaskId> {
        self.tasks.keys().copied().collect()
    }

    /// Tasks of which a deadline lies between two moments.
    pub(crate) fn due(&self, after: u64, until: u64) -> Vec<TaskId> {
        let passes = |at: u64| after < at && at <= until;
        let due = |e: &Entry| {
            let c = &e.chain;
            let lease = |r: &Replicate| passes(r.since() + e.period) || passes(r.since() + UPLOAD_LEASE);
            [c.contribution_deadline, c.reveal_deadline, c.final_deadline].into_iter().any(passes)
                || e.replicates.iter().any(lease)
        };
        self.tasks.iter().filter(|(_, e)| due(e)).map(|(id, _)| *id).collect()
    }

    /// Takes in what the chain says, and says what to do.
    pub(crate) fn absorb(&mut self, id: TaskId, facts: Facts) -> Result<Vec<Step>, Error> {
        let now = self.now();
        let Some(entry) = self.tasks.get_mut(&id) else { return Ok(vec![]) };
        let deadlines = (entry.chain.contribution_deadline, entry.chain.final_deadline);
        entry.chain = facts.task;
        if entry.chain.status == TaskStatus::Unset {
            (entry.chain.contribution_deadline, entry.chain.final_deadline) = deadlines;
        }
        entry.votes = facts.votes;
        self.catch_up(id, now)?;
        self.expire(id, now)?;
        self.steps(id)
    }

    /// What to do about a task, from what is known now.
    pub(crate) fn steps(&mut self, id: TaskId) -> Result<Vec<Step>, Error> {
        let now = self.now();
        let Some(entry) = self.tasks.get(&id) else { return Ok(vec![]) };
        let parts = self.parts(entry);
        let view = View {
            now,
            trust: entry.deal.trust,
            task: &entry.chain,
            votes: &entry.votes,
            parts: &parts,
            result: entry.result.as_ref(),
        };
        let (steps, stage) = (task::steps(&view), task::stage(&view));
        self.enter(id, stage, now)?;
        Ok(steps)
    }

    fn parts(&self, entry: &Entry) -> Vec<Part> {
        let part = |r: &Replicate| Part {
            worker: r.worker,
            status: r.status(),
            weight: r.weight,
            connected: self.outbox(r.worker).is_some(),
        };
        entry.replicates.iter().map(part).collect()
    }

    fn enter(&mut self, id: TaskId, stage: Stage, now: u64) -> Result<(), Error> {
        let Some(entry) = self.tasks.get_mut(&id) else { return Ok(()) };
        if entry.stages.last().is_some_and(|s| s.status == stage) {
            return Ok(());
        }
        info!(task = %id, %stage, "task");
        let change = StageChange { date: now, status: stage };
        self.store.stage(id, &change, matches!(stage, Stage::Completed | Stage::Failed))?;
        entry.stages.push(change);
        Ok(())
    }

    /// What stands on chain counts, whatever the workers said or the store forgot.
    fn catch_up(&mut self, id: TaskId, now: u64) -> Result<(), Error> {
        let Some(entry) = self.tasks.get(&id) else { return Ok(()) };
        let mut missed = Vec::new();
        for vote in &entry.votes {
            let known = entry.replicates.iter().find(|r| r.worker == vote.worker).map(Replicate::status);
            let reached = match vote.status {
                ContributionStatus::Contributed if known.is_none_or(before_contributed) => Status::Contributed,
                ContributionStatus::Proved if known.is_none_or(before_revealed) => Status::Revealed,
                _ => continue,
            };
            missed.push((vote.worker, reached));
        }
        missed.into_iter().try_for_each(|(worker, status)| self.record(id, worker, status, None, now))
    }

    /// Ends leases: a silent replicate is given up after T, a silent upload after [`UPLOAD_LEASE`].
    fn expire(&mut self, id: TaskId, now: u64) -> Result<(), Error> {
        let Some(entry) = self.tasks.get(&id) else { return Ok(()) };
        let mut expired = Vec::new();
        for r in &entry.replicates {
            let (first, status) = (r.history.first().map_or(now, |c| c.date), r.status());
            let uploading = matches!(status, Status::ResultUploadRequested | Status::ResultUploading);
            if status.may_still_contribute() && now >= first.saturating_add(entry.period) {
                let cause = Cause::new(CauseCode::WorkerLost, format!("no contribution within {} s", entry.period));
                expired.push((r.worker, Status::WorkerLost, cause));
            } else if uploading && now >= r.since() + UPLOAD_LEASE {
                let cause = Cause::new(CauseCode::ResultUploadFailed, format!("no result within {UPLOAD_LEASE} s"));
                expired.push((r.worker, Status::ResultUploadFailed, cause));
            }
        }
        expired.into_iter().try_for_each(|(worker, status, cause)| self.record(id, worker, status, Some(cause), now))
    }

    /// Notes a replicate's status, in the store first. The same status twice is one.
    pub(crate) fn record(
        &mut self,
        id: TaskId,
        worker: Address,
        status: Status,
        cause: Option<Cause>,
        now: u64,
    ) -> Result<(), Error> {
        let weight = self.workers.get(&worker).map_or_else(|| consensus::weight(U256::ZERO), |w| w.weight);
        let Some(entry) = self.tasks.get_mut(&id) else { return Ok(()) };
        let known = entry.replicates.iter_mut().find(|r| r.worker == worker);
        if known.as_ref().is_some_and(|r| r.status() == status && r.history.last().is_some_and(|c| c.cause == cause)) {
            return Ok(());
        }
        let change = StatusChange { date: now, status, cause };
        self.store.status(id, worker, &change)?;
        match known {
            Some(replicate) => replicate.history.push(change),
            None => entry.replicates.push(Replicate { worker, weight, history: vec![change] }),
        }
        Ok(())
    }

    /// Who gets the task next: connected, with a free slot, able, not on it before; among those, who waited longest.
    pub(crate) fn candidate(&self, id: TaskId) -> Option<Address> {
        let entry = self.tasks.get(&id)?;
        let fit = |(address, worker): &(&Address, &Worker)| {
            worker.session.is_some()
                && worker.capabilities.app_types.contains(&entry.app_type)
                && self.load(**address) < worker.capabilities.slots
                && entry.replicates.iter().all(|r| r.worker != **address)
                && entry.votes.iter().all(|v| v.worker != **address)
        };
        self.workers.iter().filter(fit).min_by_key(|(_, w)| w.idle_since).map(|(address, _)| *address)
    }

    fn load(&self, worker: Address) -> u32 {
        let busy = |e: &&Entry| e.replicates.iter().any(|r| r.worker == worker && r.status().may_still_contribute());
        u32::try_from(self.tasks.values().filter(busy).count()).unwrap_or(u32::MAX)
    }

    /// A message for a worker. What cannot be delivered now is said again when the worker comes back.
    pub(crate) fn tell(&mut self, worker: Address, message: ToWorker) {
        let Some(outbox) = self.outbox(worker) else { return };
        if outbox.try_send(message).is_err() {
            warn!(%worker, "closing: the worker does not read its messages");
            self.workers.entry(worker).and_modify(|w| w.session = None);
        }
    }

    fn outbox(&self, worker: Address) -> Option<&Outbox> {
        self.workers.get(&worker)?.session.as_ref().map(|(_, outbox)| outbox)
    }

    /// A worker logged in. Refused while the same wallet has a live connection.
    pub(crate) fn join(
        &mut self,
        worker: Address,
        name: String,
        capabilities: Capabilities,
        session: (u64, Outbox),
    ) -> Result<(), String> {
        let now = self.now();
        self.turn += 1;
        let entry = self.workers.entry(worker).or_insert_with(|| Worker {
            name: String::new(),
            capabilities: Capabilities::default(),
            session: None,
            last_alive: 0,
            idle_since: 0,
            weight: consensus::weight(U256::ZERO),
        });
        let alive = entry.session.as_ref().is_some_and(|(_, outbox)| !outbox.is_closed());
        if alive && now < entry.last_alive + LOST_SECONDS {
            return Err(format!(
                "wallet {worker} is connected already: a wallet serves one worker at a time; stop the other one or use another key"
            ));
        }
        *entry = Worker {
            name,
            capabilities,
            session: Some(session),
            last_alive: now,
            idle_since: self.turn,
            weight: entry.weight,
        };
        Ok(())
    }

    /// Whether this connection is the worker's present one.
    pub(crate) fn is_current(&self, worker: Address, connection: u64) -> bool {
        self.workers.get(&worker).and_then(|w| w.session.as_ref()).is_some_and(|(c, _)| *c == connection)
    }

    pub(crate) fn leave(&mut self, worker: Address) {
        self.workers.entry(worker).and_modify(|w| w.session = None);
    }

    pub(crate) fn set_score(&mut self, worker: Address, score: U256) {
        self.workers.entry(worker).and_modify(|w| w.weight = consensus::weight(score));
    }

    /// Replicates that a worker still has work for: what to tell it again when it comes back.
    pub(crate) fn assigned(&self, worker: Address) -> Vec<TaskId> {
        let theirs = |e: &Entry| e.replicates.iter().any(|r| r.worker == worker && r.status().may_still_contribute());
        self.tasks.iter().filter(|(_, e)| theirs(e)).map(|(id, _)| *id).collect()
    }

    /// Open tasks that a worker takes part in, in whatever state.
    pub(crate) fn part_of(&self, worker: Address) -> Vec<TaskId> {
        let theirs =
            |e: &Entry| e.replicates.iter().any(|r| r.worker == worker) || e.votes.iter().any(|v| v.worker == worker);
        self.tasks.iter().filter(|(_, e)| theirs(e)).map(|(id, _)| *id).collect()
    }

    /// Takes in what a worker said.
    pub(crate) fn hear(&mut self, worker: Address, message: ToScheduler) -> Result<Heard, Error> {
        let now = self.now();
        self.workers.entry(worker).and_modify(|w| w.last_alive = now);
        match message {
            ToScheduler::Login { .. } => Ok(Heard::Sign),
            ToScheduler::Alive => {
                self.tell(worker, ToWorker::Alive);
                Ok(Heard::Sign)
            }
            ToScheduler::Report { task, status, cause } => {
                if self.believable(task, worker, status) {
                    self.record(task, worker, status, cause, now)?;
                }
                if status.may_still_contribute() {
                    return Ok(Heard::Progress(task));
                }
                self.turn += 1;
                self.workers.entry(worker).and_modify(|w| w.idle_since = self.turn);
                Ok(Heard::Free(task))
            }
            ToScheduler::Uploaded { task, link } => {
                let wanted = self.tasks.get(&task).is_some_and(|e| {
                    let proved = |v: &Vote| v.worker == worker && v.status == ContributionStatus::Proved;
                    e.result.is_none() && e.votes.iter().any(proved)
                });
                Ok(if wanted { Heard::Result(task, link) } else { Heard::Progress(task) })
            }
        }
    }

    /// The digest that was agreed on, once it is revealed.
    pub(crate) fn digest(&self, task: TaskId) -> Option<ResultDigest> {
        let digest = self.tasks.get(&task)?.chain.digest;
        (digest != ResultDigest::default()).then_some(digest)
    }

    /// What only the chain can say, or what contradicts an end, is not taken from a worker.
    fn believable(&self, task: TaskId, worker: Address, status: Status) -> bool {
        use Status::*;
        let Some(entry) = self.tasks.get(&task) else { return false };
        let known = entry.replicates.iter().find(|r| r.worker == worker).map(Replicate::status);
        let on_chain = entry.votes.iter().any(|v| v.worker == worker);
        match status {
            Contributed | Revealed | Completed | WorkerLost | ResultUploaded | Created | ResultUploadRequested => false,
            _ if on_chain => !before_contributed(status) && known.is_none_or(|s| !s.is_final()),
            _ => known.is_some_and(|s| !s.is_final()),
        }
    }

    /// Notes a checked result.
    pub(crate) fn uploaded(&mut self, id: TaskId, worker: Address, link: ResultLink) -> Result<(), Error> {
        let change = StatusChange { date: self.now(), status: Status::ResultUploaded, cause: None };
        let Some(entry) = self.tasks.get_mut(&id) else { return Ok(()) };
        self.store.result(id, worker, &link, &change)?;
        entry.result = Some(link);
        if let Some(r) = entry.replicates.iter_mut().find(|r| r.worker == worker) {
            r.history.push(change);
        }
        Ok(())
    }

    /// Takes an ended task off the table.
    pub(crate) fn close(&mut self, id: TaskId) {
        self.tasks.remove(&id);
    }

    /// Marks what is assigned to workers of whom nothing was heard for too long. Returns the tasks concerned.
    pub(crate) fn give_up_lost(&mut self) -> Result<Vec<TaskId>, Error> {
        let now = self.now();
        let lost = |w: &Worker| now >= w.last_alive + LOST_SECONDS;
        let lost: Vec<_> = self.workers.iter().filter(|(_, w)| lost(w)).map(|(a, w)| (*a, w.last_alive)).collect();
        let mut touched = Vec::new();
        for (worker, last) in lost {
            self.leave(worker);
            for task in self.assigned(worker) {
                let evidence = format!("nothing heard for {} s", now - last);
                let cause = Cause::new(CauseCode::WorkerLost, evidence);
                self.record(task, worker, Status::WorkerLost, Some(cause), now)?;
                touched.push(task);
            }
        }
        Ok(touched)
    }

    /// A task as shown to people, if it is on the table.
    pub(crate) fn view(&self, id: TaskId) -> Option<TaskView> {
        let entry = self.tasks.get(&id)?;
        let stage = entry.stages.last().map_or(Stage::Received, |s| s.status);
        let replicate = |r: &Replicate| {
            let vote = entry.votes.iter().find(|v| v.worker == r.worker);
            self.replicate_view(r.worker, &r.history, vote.map_or(ContributionStatus::Unset, |v| v.status))
        };
        Some(TaskView {
            chain_task_id: id,
            deal_id: entry.deal.id,
            index: entry.index,
            current_status: stage,
            chain_status: entry.chain.status,
            date_status_list: entry.stages.clone(),
            cause: self.obstacle(entry),
            contribution_deadline: entry.chain.contribution_deadline,
            final_deadline: entry.chain.final_deadline,
            result: entry.result.clone(),
            replicates: entry.replicates.iter().map(replicate).collect(),
        })
    }

    /// Why the task does not go on just now, if it lacks workers.
    fn obstacle(&self, entry: &Entry) -> Option<Cause> {
        let waiting = entry.chain.status == TaskStatus::Active
            && !entry.replicates.iter().any(|r| r.status().may_still_contribute());
        let failed = entry.replicates.iter().rev().find_map(|r| r.history.last()?.cause.clone());
        waiting.then_some(failed).flatten()
    }

    /// A replicate as shown to people.
    pub(crate) fn replicate_view(
        &self,
        worker: Address,
        history: &[StatusChange],
        contribution: ContributionStatus,
    ) -> ReplicateView {
        ReplicateView {
            wallet_address: worker,
            worker_name: self.workers.get(&worker).map(|w| w.name.clone()).unwrap_or_default(),
            current_status: current(history),
            cause: history.last().and_then(|c| c.cause.clone()),
            contribution,
            status_update_list: history.to_vec(),
        }
    }

    /// The workers as shown to people.
    pub(crate) fn workers(&self) -> Vec<WorkerView> {
        let view = |(address, w): (&Address, &Worker)| WorkerView {
            wallet_address: *address,
            name: w.name.clone(),
            connected: w.session.is_some(),
            last_alive: w.last_alive,
            capabilities: w.capabilities.clone(),
            tasks: self.part_of(*address),
        };
        self.workers.iter().map(view).collect()
    }
}

fn before_contributed(status: Status) -> bool {
    use Status::*;
    status.may_still_contribute()
        || matches!(
            status,
            WorkerLost
                | ContributeFailed
                | OutOfGas
                | Failed
                | CantContributeSinceStakeTooLow
                | CantContributeSinceTaskNotActive
                | CantContributeSinceAfterDeadline
                | CantContributeSinceContributionAlreadySet
                | AbortedOnConsensusReached
                | AbortedOnContributionTimeout
        )
}

fn before_revealed(status: Status) -> bool {
    use Status::*;
    before_contributed(status) || matches!(status, Contributed | Revealing | CantReveal | RevealFailed | RevealTimeout)
}
