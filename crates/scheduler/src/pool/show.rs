//! The pool as shown to people.

use super::{Entry, Pool, Replicate, look};
use crate::{
    crew::Worker,
    store::{Remembered, current},
};
use bourse_protocol::{
    Address,
    api::{ReplicateView, StatusChange, TaskView, WorkerView},
    deal::{ContributionStatus, TaskStatus},
    ids::TaskId,
    outlook::{self, Leases, Outlook},
    replicate::{Cause, Phase, Status},
    task::Stage,
};

impl Pool {
    /// A task, if it is known. One that cannot be read from the store is not.
    pub(crate) fn show(&self, id: TaskId) -> Option<TaskView> {
        match self.tasks.get(&id) {
            Some(entry) => Some(self.view(id, entry)),
            None => self.store.task(id).ok().flatten().map(|task| self.view_remembered(task)),
        }
    }

    /// A remembered task, as it is now if it is on the table.
    pub(crate) fn show_remembered(&self, task: Remembered) -> TaskView {
        match self.tasks.get(&task.task) {
            Some(entry) => self.view(task.task, entry),
            None => self.view_remembered(task),
        }
    }

    /// The workers.
    pub(crate) fn show_workers(&self) -> Vec<WorkerView> {
        let view = |(address, w, connected, last_alive): (Address, &Worker, bool, u64)| WorkerView {
            wallet_address: address,
            name: w.name.clone(),
            connected,
            last_alive,
            capabilities: w.capabilities.clone(),
            tasks: self.part_of(address).into_iter().filter(|id| self.is_open(*id)).collect(),
        };
        self.crew.all().map(view).collect()
    }

    fn view(&self, id: TaskId, entry: &Entry) -> TaskView {
        let (now, parts) = (self.now(), self.parts(entry, self.now()));
        let replicate = |(r, replaced): (&Replicate, u64)| {
            let vote = entry.votes.iter().find(|v| v.worker == r.worker);
            let leases = Leases {
                contribution: replaced,
                upload: r.upload(now).ends().max().unwrap_or(entry.chain.final_deadline),
            };
            let contribution = vote.map_or(ContributionStatus::Unset, |v| v.status);
            let outlook = outlook::of_replicate(expected(r.status(), contribution), &entry.chain, leases);
            self.replicate_view(r.worker, &r.history, contribution, outlook)
        };
        let stage = entry.stage();
        TaskView {
            chain_task_id: id,
            deal_id: entry.deal.id,
            index: entry.index,
            current_status: stage,
            meaning: stage.meaning().into(),
            chain_status: entry.chain.status,
            date_status_list: entry.stages.clone(),
            outlook: outlook::of_task(stage, &look(entry, now, &parts)),
            cause: obstacle(entry),
            contribution_deadline: entry.chain.contribution_deadline,
            final_deadline: entry.chain.final_deadline,
            result: entry.result.clone(),
            replicates: entry.replicates.iter().zip(self.replaced(entry)).map(replicate).collect(),
        }
    }

    /// A task that is off the table: it has ended, or it is not known yet what its work needs.
    fn view_remembered(&self, task: Remembered) -> TaskView {
        let ended = task.has_ended();
        let stage = task.stages.last().map_or(Stage::Received, |s| s.status);
        let paid = stage == Stage::Completed;
        let replicate = |(worker, history): &(Address, Vec<_>)| {
            let outlook = if ended { outlook::of_ended_replicate(current(history)) } else { outlook::of_unread() };
            self.replicate_view(*worker, history, ContributionStatus::Unset, outlook)
        };
        TaskView {
            chain_task_id: task.task,
            deal_id: task.deal.id,
            index: task.index,
            current_status: stage,
            meaning: stage.meaning().into(),
            chain_status: match stage {
                _ if paid => TaskStatus::Completed,
                _ if ended => TaskStatus::Failed,
                Stage::Received | Stage::Initializing => TaskStatus::Unset,
                _ => TaskStatus::Active,
            },
            outlook: if ended { outlook::of_ended(paid) } else { outlook::of_unread() },
            cause: task.stages.last().and_then(|s| s.cause.clone()),
            contribution_deadline: 0,
            final_deadline: 0,
            result: task.result,
            replicates: task.replicates.iter().map(replicate).collect(),
            date_status_list: task.stages,
        }
    }

    fn replicate_view(
        &self,
        worker: Address,
        history: &[StatusChange],
        contribution: ContributionStatus,
        outlook: Outlook,
    ) -> ReplicateView {
        let status = current(history);
        let attempts = history.iter().filter(|c| c.status == Status::Created).count();
        ReplicateView {
            wallet_address: worker,
            worker_name: self.crew.name(worker),
            current_status: status,
            meaning: status.meaning().into(),
            app_exit_code: history.iter().rev().find_map(|c| c.cause.as_ref()?.exit_code()),
            phase: history.iter().rev().find_map(|c| c.status.phase()).unwrap_or(Phase::Assigned),
            outcome: status.outcome(),
            attempt: u32::try_from(attempts).unwrap_or(u32::MAX),
            outlook,
            cause: history.last().and_then(|c| c.cause.clone()),
            contribution,
            status_update_list: history.to_vec(),
        }
    }
}

/// The status that says what is waited for: of a worker that has voted, the next step of its vote, wherever it is.
fn expected(status: Status, contribution: ContributionStatus) -> Status {
    match (status, contribution) {
        (Status::WorkerLost | Status::Recovering, ContributionStatus::Contributed) => Status::Contributed,
        (Status::WorkerLost | Status::Recovering, ContributionStatus::Proved) => Status::Revealed,
        (status, _) => status,
    }
}

/// Why the task does not go on just now: its transaction does not get through, it has run out of time, or it lacks workers.
fn obstacle(entry: &Entry) -> Option<Cause> {
    let known = entry.trouble.as_ref().or(entry.stages.last().and_then(|s| s.cause.as_ref()));
    if known.is_some() {
        return known.cloned();
    }
    let waiting = entry.chain.status == TaskStatus::Active && !entry.replicates.iter().any(Replicate::is_pending);
    let failed = entry.replicates.iter().rev().find_map(|r| r.history.last()?.cause.clone());
    waiting.then_some(failed).flatten()
}
