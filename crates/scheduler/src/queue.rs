//! Tasks that wait for a worker, fair between requesters. Pure.

use bourse_protocol::{Address, ids::TaskId};
use std::collections::BTreeMap;

/// The tasks that found no worker: first come, first served within a requester; between requesters, who has the fewest
/// workers at work comes first, then who was served longest ago.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// By requester, in the order of their coming.
    waiting: BTreeMap<Address, BTreeMap<u64, TaskId>>,
    /// Each with its place.
    members: BTreeMap<TaskId, u64>,
    /// Replicates at work, by requester.
    running: BTreeMap<Address, u32>,
    served: BTreeMap<Address, u64>,
    turn: u64,
    places: u64,
}

impl Queue {
    /// A task waits. Says whether it did not before.
    pub(crate) fn push(&mut self, requester: Address, task: TaskId) -> bool {
        if self.members.contains_key(&task) {
            return false;
        }
        self.places += 1;
        self.members.insert(task, self.places);
        self.waiting.entry(requester).or_default().insert(self.places, task);
        true
    }

    /// A task waits no more.
    pub(crate) fn remove(&mut self, requester: Address, task: TaskId) {
        if let Some(place) = self.members.remove(&task)
            && let Some(tasks) = self.waiting.get_mut(&requester)
        {
            tasks.remove(&place);
            if tasks.is_empty() {
                self.waiting.remove(&requester);
                if !self.running.contains_key(&requester) {
                    self.served.remove(&requester);
                }
            }
        }
    }

    /// A worker began or ended with a task of this requester.
    pub(crate) fn running(&mut self, requester: Address, more: bool) {
        let count = self.running.entry(requester).or_default();
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        if more {
            self.serve(requester);
        } else if *count == 0 {
            self.running.remove(&requester);
            if !self.waiting.contains_key(&requester) {
                self.served.remove(&requester);
            }
        }
    }

    /// A task has had its turn.
    pub(crate) fn take(&mut self, requester: Address, task: TaskId) {
        if self.members.contains_key(&task) {
            self.serve(requester);
            self.remove(requester, task);
        }
    }

    fn serve(&mut self, requester: Address) {
        self.turn += 1;
        self.served.insert(requester, self.turn);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// How many tasks of one requester wait.
    pub(crate) fn of(&self, requester: Address) -> usize {
        self.waiting.get(&requester).map_or(0, BTreeMap::len)
    }

    /// The task to serve now, of the requesters whose oldest passes.
    pub(crate) fn first(&self, passes: impl Fn(Address, TaskId) -> bool) -> Option<TaskId> {
        let oldest = self.waiting.iter().filter_map(|(requester, tasks)| Some((*requester, *tasks.values().next()?)));
        let next =
            oldest.filter(|(requester, task)| passes(*requester, *task)).min_by_key(|(r, _)| (self.rank(*r), *r));
        next.map(|(_, task)| task)
    }

    /// Who has the fewest workers at work comes first, then who was served longest ago.
    fn rank(&self, requester: Address) -> (u32, u64) {
        (self.running.get(&requester).copied().unwrap_or(0), self.served.get(&requester).copied().unwrap_or(0))
    }

    /// The tasks in the order in which they should be served now, at most `limit`: one of each requester in turn.
    pub(crate) fn order(&self, limit: usize) -> Vec<TaskId> {
        let mut requesters: Vec<_> = self.waiting.iter().map(|(r, tasks)| (self.rank(*r), *r, tasks)).collect();
        requesters.sort_by_key(|(rank, requester, _)| (*rank, *requester));
        let mut tasks: Vec<_> = requesters.into_iter().map(|(.., tasks)| tasks.values().copied()).collect();
        let mut order = Vec::with_capacity(limit.min(self.len()));
        while order.len() < limit.min(self.len()) {
            order.extend(tasks.iter_mut().filter_map(Iterator::next));
        }
        order.truncate(limit);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourse_protocol::B256;

    fn task(n: u8) -> TaskId {
        TaskId(B256::with_last_byte(n))
    }

    fn who(n: u8) -> Address {
        Address::with_last_byte(n)
    }

    #[test]
    fn one_with_many_tasks_does_not_keep_another_waiting() {
        let mut queue = Queue::default();
        for n in 0..100 {
            assert!(queue.push(who(1), task(n)));
        }
        assert!(!queue.push(who(1), task(0)));
        queue.push(who(2), task(200));
        assert_eq!(queue.order(3), [task(0), task(200), task(1)]);
        assert_eq!((queue.first(|_, _| true), queue.of(who(1)), queue.of(who(3))), (Some(task(0)), 100, 0));
        assert_eq!(queue.first(|requester, _| requester != who(1)), Some(task(200)));
        queue.running(who(1), true);
        assert_eq!(queue.order(2), [task(200), task(0)], "who has nothing at work comes first");
        queue.running(who(2), true);
        assert_eq!(queue.order(1), [task(0)], "then who was served longest ago");
        queue.remove(who(1), task(0));
        queue.running(who(1), false);
        assert_eq!(queue.order(2), [task(1), task(200)]);
        assert_eq!(queue.len(), 100);
    }

    #[test]
    fn nothing_is_left_of_those_who_have_gone() {
        let mut queue = Queue::default();
        queue.push(who(1), task(1));
        queue.running(who(1), true);
        queue.remove(who(1), task(1));
        queue.running(who(1), false);
        queue.push(who(2), task(2));
        queue.take(who(2), task(2));
        queue.take(who(3), task(3));
        assert!(queue.is_empty() && queue.running.is_empty() && queue.served.is_empty() && queue.waiting.is_empty());
    }
}
