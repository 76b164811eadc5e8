//! What workers say: what is believed of it, and what it leads to.

use super::{Heard, Pool, Replicate, Vote, before_contributed, before_revealed};
use bourse_protocol::{
    Address,
    api::StatusChange,
    deal::{ContributionStatus, ResultLink},
    ids::TaskId,
    link::ToScheduler,
    replicate::Status,
};

/// What a worker says of a cause is cut at so many bytes.
pub(super) const MAX_EVIDENCE: usize = 1_024;
/// A replicate that has changed so often since it was assigned says nothing more by itself: an honest one changes about twenty
/// times. When one that has changed so often in all is assigned again, only the beginnings of its attempts are kept: there
/// is one every [`AGAIN`](super::waiting::AGAIN) seconds at most, until the deadline for contributions.
pub(super) const MAX_CHANGES: usize = 512;

impl Pool {
    /// Takes in what a worker said.
    pub(crate) fn hear(&mut self, worker: Address, message: ToScheduler) -> Heard {
        match message {
            ToScheduler::Draining => {
                self.crew.drain(worker);
                Heard::Draining
            }
            // What it says of others' tasks leads to nothing: it would cost a look at the chain each time.
            ToScheduler::Report { task, .. } | ToScheduler::Uploaded { task, .. } if !self.takes_part(task, worker) => {
                Heard::Nothing
            }
            ToScheduler::Report { task, status, cause } => {
                let cause = cause.map(|cause| cause.shortened(MAX_EVIDENCE));
                let known = self.status_of(task, worker) == Some(status);
                if self.believable(task, worker, status) {
                    self.record(task, worker, status, cause, self.now());
                }
                match status.may_still_contribute() {
                    true if known => Heard::Known(task),
                    true => Heard::Progress(task),
                    false => Heard::Free(task),
                }
            }
            ToScheduler::Uploaded { task, link } => {
                let wanted = self.tasks.get(&task).is_some_and(|e| {
                    let proved = |v: &Vote| v.worker == worker && v.status == ContributionStatus::Proved;
                    e.result.is_none() && e.votes.iter().any(proved)
                });
                if wanted { Heard::Result(task, link) } else { Heard::Progress(task) }
            }
        }
    }

    fn takes_part(&self, task: TaskId, worker: Address) -> bool {
        self.tasks.get(&task).is_some_and(|entry| entry.workers().any(|w| w == worker))
    }

    /// Where a worker's part in a task stands.
    fn status_of(&self, task: TaskId, worker: Address) -> Option<Status> {
        Some(self.tasks.get(&task)?.replicate_of(worker)?.status())
    }

    /// What only the chain can say, or what contradicts an end, is not taken from a worker.
    fn believable(&self, task: TaskId, worker: Address, status: Status) -> bool {
        use Status::*;
        let Some(entry) = self.tasks.get(&task) else { return false };
        let replicate = entry.replicate_of(worker);
        if replicate.is_some_and(|r| r.attempt().len() >= MAX_CHANGES) {
            return false;
        }
        let known = replicate.map(Replicate::status);
        let on_chain = entry.votes.iter().any(|v| v.worker == worker);
        match status {
            Contributed | Revealed | Completed | WorkerLost | ResultUploaded | Created | ResultUploadRequested => false,
            CantContributeSinceContributionAlreadySet => known.is_some_and(|s| !s.is_final() && before_revealed(s)),
            // Whoever has voted goes on where it was, too.
            Recovering => known.is_some_and(|s| !s.is_final()),
            OutOfGas if on_chain => known.is_some_and(|s| matches!(s, Contributed | Revealing)),
            _ if on_chain => !before_contributed(status) && known.is_none_or(|s| !s.is_final()),
            _ => known.is_some_and(|s| !s.is_final()),
        }
    }

    /// Whether a result of the task is looked for.
    pub(crate) fn lacks_result(&self, id: TaskId) -> bool {
        self.digest(id).is_some() && self.tasks.get(&id).is_some_and(|e| e.result.is_none() && e.ended.is_none())
    }

    /// Whether what a worker says it has stored is being checked.
    pub(crate) fn is_checked(&self, id: TaskId, worker: Address) -> bool {
        let replicate = self.tasks.get(&id).and_then(|e| e.replicate_of(worker));
        replicate.is_some_and(|r| r.checked)
    }

    /// Notes that what a worker says it has stored is being checked. Says whether that is to be done, and was not so before.
    pub(crate) fn begin_check(&mut self, id: TaskId, worker: Address) -> bool {
        let lacks_result = self.lacks_result(id);
        match self.replicate_mut(id, worker) {
            Some(r) if lacks_result && !r.checked => r.checked = true,
            _ => return false,
        }
        true
    }

    /// The check has come to an end.
    pub(crate) fn end_check(&mut self, id: TaskId, worker: Address) {
        if let Some(r) = self.replicate_mut(id, worker) {
            r.checked = false;
        }
    }

    fn replicate_mut(&mut self, id: TaskId, worker: Address) -> Option<&mut Replicate> {
        self.tasks.get_mut(&id)?.replicates.iter_mut().find(|r| r.worker == worker)
    }

    /// Notes a checked result, unless there is one or the task has ended.
    pub(crate) fn uploaded(&mut self, id: TaskId, worker: Address, link: ResultLink) {
        let change = StatusChange { date: self.now(), status: Status::ResultUploaded, cause: None };
        let Some(entry) = self.tasks.get_mut(&id).filter(|e| e.result.is_none() && e.ended.is_none()) else { return };
        self.store.result(id, worker, &link, change.clone());
        entry.result = Some(link);
        if let Some(r) = entry.replicates.iter_mut().find(|r| r.worker == worker) {
            r.history.push(change);
        }
    }
}
