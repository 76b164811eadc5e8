//! Which tasks wait to be opened or for workers, and who gets them.

use super::{Pool, Replicate, may_try_again};
use bourse_protocol::{Address, ids::TaskId};

/// A worker that failed at a task without a contribution may be given the same task again after this time, in seconds.
pub(super) const AGAIN: u64 = 30;
/// Waiting tasks that one free slot is offered to at once; all of them are, once a second.
const OFFERS: usize = 64;
/// Tasks that are opened ahead of the workers who are free: each stakes gas, and its openings stand before other transactions.
pub(super) const OPENED_AHEAD: usize = 64;

impl Pool {
    /// Who gets the task next: connected, with a free slot, able, not on it, and not after a failure a moment ago.
    pub(crate) fn candidate(&self, id: TaskId) -> Option<Address> {
        let (entry, now) = (self.tasks.get(&id)?, self.now());
        let a_moment_ago = |r: &Replicate| now < r.since().saturating_add(AGAIN);
        let again = |r: &Replicate| may_try_again(r.status()) && !a_moment_ago(r);
        let taken = |worker| {
            entry.replicates.iter().any(|r| r.worker == worker && !again(r))
                || entry.votes.iter().any(|v| v.worker == worker)
        };
        self.crew.candidate(&entry.need, taken)
    }

    /// A task found no worker. Says whether it did not wait before.
    pub(crate) fn wait(&mut self, id: TaskId) -> bool {
        self.tasks.get(&id).is_some_and(|entry| self.waiting.push(entry.deal.requester, id))
    }

    /// A task waits for no worker any more.
    pub(crate) fn wait_no_more(&mut self, id: TaskId) {
        if let Some(entry) = self.tasks.get(&id) {
            self.waiting.remove(entry.deal.requester, id);
        }
    }

    /// The next of the waiting tasks that somebody idle can do, fair between requesters.
    pub(crate) fn next_waiting(&self) -> Option<TaskId> {
        if self.waiting.is_empty() || !self.crew.has_idle() {
            return None;
        }
        self.waiting.order(OFFERS).into_iter().find(|id| self.candidate(*id).is_some())
    }

    /// Every waiting task that somebody idle could do just now, fair between requesters.
    pub(crate) fn all_that_fit(&self) -> Vec<TaskId> {
        match self.waiting.is_empty() || !self.crew.has_idle() {
            true => vec![],
            false => {
                let all = self.waiting.order(self.waiting.len());
                all.into_iter().filter(|id| self.candidate(*id).is_some()).collect()
            }
        }
    }

    /// A task is to be opened.
    pub(crate) fn want_opened(&mut self, id: TaskId) {
        if let Some(entry) = self.tasks.get(&id) {
            self.unopened.push(entry.deal.requester, id);
        }
    }

    /// A task needs no opening any more.
    pub(crate) fn want_opened_no_more(&mut self, id: TaskId) {
        if let Some(entry) = self.tasks.get(&id) {
            self.unopened.take(entry.deal.requester, id);
        }
    }

    /// The next task to open, fair between requesters, while so many openings are under way. One whose workers are not in
    /// sight can wait: a deal of thousands would keep every other transaction of the pool waiting. What a requester's open
    /// tasks wait for holds back its own alone: nobody here may ever be able to run them.
    pub(crate) fn next_to_open(&self, under_way: usize) -> Option<TaskId> {
        let idle = |id| self.tasks.get(&id).map_or(0, |entry| self.crew.idle_count(entry.need.stake));
        self.unopened.first(|requester, id| {
            let ahead = under_way.saturating_add(self.waiting.of(requester));
            ahead < idle(id).saturating_add(OPENED_AHEAD)
        })
    }

    /// Tells a worker, whose deposit was read, if that is why it gets nothing.
    pub(crate) fn say_if_poor(&mut self, worker: Address) {
        let waiting = self.waiting.order(OFFERS);
        let needs = waiting.iter().filter_map(|id| self.tasks.get(id)).map(|entry| &entry.need);
        let needs: Vec<_> = needs.filter(|need| !self.crew.can_stake(worker, need.stake)).collect();
        if !needs.is_empty() {
            self.crew.say_no_work(worker, &needs);
        }
    }

    /// Tells an idle worker why it gets nothing.
    pub(crate) fn say_no_work(&mut self, worker: Address) {
        let waiting = self.waiting.order(OFFERS);
        let needs: Vec<_> = waiting.iter().filter_map(|id| self.tasks.get(id)).map(|e| &e.need).collect();
        self.crew.say_no_work(worker, &needs);
    }

    /// Tasks that wait for a worker.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
