//! Which tasks to read from the chain next. Pure.
//!
//! Something happened to some; all the others are compared with the chain now and then. Only so many are read at a time,
//! and comparisons only at a certain rate: ten thousand that are due must keep waiting neither the one that has just been
//! bought nor, after a restart, the workers that log in.

use bourse_protocol::ids::TaskId;
use std::collections::{BTreeSet, VecDeque};

/// Tasks that are read at a time.
const READS: usize = 64;
/// After so many tasks that something happened to, one that is only due gets its turn.
const SHARE: u32 = 8;

/// What is only due is read so many times a second at most,
const RATE: u64 = 1_000;
/// and at so much less while a crowd of workers logs in,
const SLOWER: u64 = 8;
/// which is more than so many at a time.
const CROWD: usize = 20;

/// Tasks to look at, each once.
#[derive(Debug)]
pub(crate) struct Agenda {
    /// Something happened to them.
    urgent: Line,
    /// They are due for a comparison.
    routine: Line,
    /// They are being read now.
    reading: BTreeSet<TaskId>,
    /// Of these, those that must be read once more, since something has happened meanwhile.
    again: BTreeSet<TaskId>,
    /// Urgent ones in a row.
    row: u32,
    /// Comparisons that may begin now.
    allowance: u64,
}

/// First come, first served; each member stands in it once.
#[derive(Debug, Default)]
struct Line {
    order: VecDeque<TaskId>,
    members: BTreeSet<TaskId>,
}

impl Line {
    fn push(&mut self, task: TaskId) {
        if self.members.insert(task) {
            self.order.push_back(task);
        }
    }

    /// Members that have left stay in the order until their turn.
    fn pop(&mut self) -> Option<TaskId> {
        loop {
            let task = self.order.pop_front()?;
            if self.members.remove(&task) {
                return Some(task);
            }
        }
    }
}

impl Default for Agenda {
    fn default() -> Self {
        let (urgent, routine, reading, again) = Default::default();
        Self { urgent, routine, reading, again, row: 0, allowance: READS as u64 }
    }
}

impl Agenda {
    /// So much time has passed, in milliseconds, in which so many workers have logged in.
    pub(crate) fn pass(&mut self, millis: u64, arrived: usize) {
        let rate = if arrived > CROWD { RATE / SLOWER } else { RATE };
        self.allowance = self.allowance.saturating_add(millis.saturating_mul(rate) / 1000).min(RATE);
    }

    /// Whether something may be read now that is only due.
    pub(crate) fn affords(&mut self) -> bool {
        let affords = self.allowance > 0;
        self.allowance = self.allowance.saturating_sub(1);
        affords
    }

    /// Something happened to a task.
    pub(crate) fn add(&mut self, task: TaskId) {
        match self.reading.contains(&task) {
            true => drop(self.again.insert(task)),
            false => {
                self.routine.members.remove(&task);
                self.urgent.push(task);
            }
        }
    }

    /// Something happened to tasks.
    pub(crate) fn add_all(&mut self, tasks: impl IntoIterator<Item = TaskId>) {
        tasks.into_iter().for_each(|task| self.add(task));
    }

    /// Tasks are due for a comparison. What is being read of one may be old: it is read once more.
    pub(crate) fn revisit(&mut self, tasks: impl IntoIterator<Item = TaskId>) {
        for task in tasks {
            if self.reading.contains(&task) {
                self.again.insert(task);
            } else if !self.urgent.members.contains(&task) {
                self.routine.push(task);
            }
        }
    }

    /// The next to read, unless enough are being read; say [`Self::done`] of each.
    pub(crate) fn next(&mut self) -> Option<TaskId> {
        if self.reading.len() >= READS {
            return None;
        }
        let turn = self.row >= SHARE;
        let task = match turn.then(|| self.next_routine()).flatten() {
            Some(task) => {
                self.row = 0;
                task
            }
            None => match self.urgent.pop() {
                Some(task) => {
                    self.row += 1;
                    task
                }
                None => self.next_routine()?,
            },
        };
        self.reading.insert(task);
        Some(task)
    }

    fn next_routine(&mut self) -> Option<TaskId> {
        (!self.routine.members.is_empty() && self.affords()).then(|| self.routine.pop()).flatten()
    }

    /// A task was read, or there was no need.
    pub(crate) fn done(&mut self, task: TaskId) {
        self.reading.remove(&task);
        if self.again.remove(&task) {
            self.add(task);
        }
    }

    /// Whether nothing is to be read and nothing is being read.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.urgent.members.is_empty() && self.routine.members.is_empty() && self.reading.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourse_protocol::B256;

    fn task(n: u32) -> TaskId {
        TaskId(B256::left_padding_from(&n.to_be_bytes()))
    }

    #[test]
    fn what_happened_comes_before_what_is_due_which_gets_its_turn() {
        let mut agenda = Agenda::default();
        agenda.revisit((0..3).map(task));
        (10..30).for_each(|n| agenda.add(task(n)));
        let order: Vec<_> = std::iter::from_fn(|| agenda.next()).collect();
        assert_eq!(order[..8], (10..18).map(task).collect::<Vec<_>>());
        assert_eq!((order[8], order[17]), (task(0), task(1)));
        assert_eq!(order.len(), 23, "each once");
        assert_eq!(order.last(), Some(&task(2)));
    }

    #[test]
    fn only_so_many_are_read_at_a_time() {
        let mut agenda = Agenda::default();
        agenda.revisit((0..1000).map(task));
        let first: Vec<_> = std::iter::from_fn(|| agenda.next()).collect();
        assert_eq!(first.len(), READS);
        agenda.add(task(2000));
        agenda.done(first[0]);
        assert_eq!(agenda.next(), Some(task(2000)), "the new one does not wait for the others");
        assert_eq!(agenda.next(), None);
    }

    #[test]
    fn comparisons_are_spread_over_time_and_what_happens_is_not() {
        let mut agenda = Agenda::default();
        agenda.revisit((0..2 * RATE as u32).map(task));
        let read = |agenda: &mut Agenda| std::iter::from_fn(|| agenda.next().inspect(|t| agenda.done(*t))).count();
        assert_eq!(read(&mut agenda), READS, "at the start");
        agenda.add(task(10_000));
        assert_eq!(read(&mut agenda), 1);
        agenda.pass(20, CROWD);
        assert_eq!(read(&mut agenda), 20);
        agenda.pass(80, CROWD + 1);
        assert_eq!(read(&mut agenda), 10, "a crowd comes first");
        agenda.pass(3_600_000, 0);
        assert_eq!(read(&mut agenda), RATE as usize, "what was not used is not saved up");
    }

    #[test]
    fn what_happens_while_a_task_is_read_is_read_after_that() {
        let mut agenda = Agenda::default();
        agenda.add(task(1));
        agenda.add(task(1));
        assert_eq!(agenda.next(), Some(task(1)));
        agenda.add(task(1));
        agenda.revisit([task(1)]);
        assert_eq!(agenda.next(), None, "not twice at a time");
        agenda.done(task(1));
        assert_eq!(agenda.next(), Some(task(1)));
        agenda.done(task(1));
        assert!(agenda.next().is_none() && agenda.is_idle());
    }

    #[test]
    fn what_a_reorg_may_have_changed_is_read_again_though_it_is_being_read() {
        let mut agenda = Agenda::default();
        agenda.add(task(1));
        assert_eq!(agenda.next(), Some(task(1)));
        agenda.revisit([task(1)]);
        agenda.done(task(1));
        assert_eq!(agenda.next(), Some(task(1)));
    }

    #[test]
    fn a_task_that_was_due_and_to_which_something_happens_is_read_once() {
        let mut agenda = Agenda::default();
        agenda.revisit([task(1), task(2)]);
        agenda.add(task(2));
        let order: Vec<_> = std::iter::from_fn(|| agenda.next()).collect();
        assert_eq!(order, [task(2), task(1)]);
    }
}
