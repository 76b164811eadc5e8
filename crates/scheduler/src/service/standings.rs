//! Whose standing is read when. Pure.

use super::STANDINGS;
use bourse_protocol::Address;
use std::collections::{BTreeMap, VecDeque};

/// First come, first read; one reading of each at a time, so that none overtakes another.
#[derive(Debug, Default)]
pub(super) struct Standings {
    /// Those who get less until they are read.
    soon: VecDeque<Address>,
    /// Those whose score may have moved.
    later: VecDeque<Address>,
    /// Everybody in a line, and the block after which the reading counts.
    waiting: BTreeMap<Address, Waiting>,
    reading: BTreeMap<Address, u64>,
    /// Those of whom it could not be read.
    failed: BTreeMap<Address, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    block: u64,
    soon: bool,
}

impl Standings {
    /// The standing of a worker is to be read, as it is after a block.
    pub(super) fn add(&mut self, worker: Address, block: u64) {
        let place = self.wish(worker, block);
        if !std::mem::replace(&mut place.soon, true) {
            self.soon.push_back(worker);
        }
    }

    /// The same, when there is nothing better to do.
    pub(super) fn add_later(&mut self, worker: Address, block: u64) {
        if !self.waiting.contains_key(&worker) {
            self.later.push_back(worker);
        }
        self.wish(worker, block);
    }

    fn wish(&mut self, worker: Address, block: u64) -> &mut Waiting {
        let place = self.waiting.entry(worker).or_default();
        place.block = place.block.max(block);
        place
    }

    /// Who is read next, if there is room for one more; of those who can wait only if that `affords` it.
    pub(super) fn next(&mut self, affords: impl FnOnce() -> bool) -> Option<Address> {
        if self.reading.len() >= STANDINGS {
            return None;
        }
        let worker = match self.first(true) {
            Some(worker) => worker,
            None => {
                let worker = self.first(false)?;
                if !affords() {
                    self.later.push_front(worker);
                    return None;
                }
                worker
            }
        };
        let block = self.waiting.remove(&worker).unwrap_or_default().block;
        self.reading.insert(worker, block);
        Some(worker)
    }

    /// Takes the first of a line who is not being read. Those of the later one who were read soon stay there until their turn.
    fn first(&mut self, soon: bool) -> Option<Address> {
        let line = if soon { &mut self.soon } else { &mut self.later };
        let mut passed = Vec::new();
        let first = loop {
            match line.pop_front() {
                Some(worker) if self.waiting.get(&worker).is_none_or(|place| place.soon != soon) => {}
                Some(worker) if self.reading.contains_key(&worker) => passed.push(worker),
                first => break first,
            }
        };
        passed.into_iter().rev().for_each(|worker| line.push_front(worker));
        first
    }

    /// One was read, as it was after a block, or could not be. Says whether that is late enough; if not, it is tried again.
    pub(super) fn done(&mut self, worker: Address, block: Option<u64>) -> bool {
        let after = self.reading.remove(&worker).unwrap_or_default();
        let good = block.is_some_and(|block| block >= after);
        if !good {
            self.failed.insert(worker, after);
        }
        good
    }

    /// Those who could not be read are to be read again.
    pub(super) fn try_again(&mut self) {
        for (worker, block) in std::mem::take(&mut self.failed) {
            self.add(worker, block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(n: u8) -> Address {
        Address::with_last_byte(n)
    }

    fn all(standings: &mut Standings) -> Vec<Address> {
        std::iter::from_fn(|| standings.next(|| true)).collect()
    }

    #[test]
    fn each_is_read_in_turn_and_never_twice_at_a_time() {
        let mut standings = Standings::default();
        [2, 1, 2].into_iter().for_each(|n| standings.add(who(n), 0));
        assert_eq!(standings.next(|| true), Some(who(2)));
        standings.add(who(2), 0);
        assert_eq!(all(&mut standings), [who(1)], "the first is still being read");
        standings.done(who(2), Some(1));
        assert_eq!(all(&mut standings), [who(2)]);
    }

    #[test]
    fn who_can_wait_waits_and_is_read_once() {
        let mut standings = Standings::default();
        [1, 2, 3].into_iter().for_each(|n| standings.add_later(who(n), 0));
        standings.add(who(2), 0);
        standings.add_later(who(2), 0);
        assert_eq!(standings.next(|| false), Some(who(2)));
        assert_eq!(standings.next(|| false), None);
        assert_eq!(all(&mut standings), [who(1), who(3)]);
    }

    #[test]
    fn nothing_is_asked_for_where_nobody_waits() {
        let mut standings = Standings::default();
        assert_eq!(standings.next(|| panic!("nobody can wait")), None);
    }

    #[test]
    fn what_could_not_be_read_or_is_too_old_is_tried_again_when_told() {
        let mut standings = Standings::default();
        for (read, good) in [(None, false), (Some(6), false), (Some(7), true)] {
            standings.add(who(1), 5);
            standings.add(who(1), 7);
            assert_eq!(all(&mut standings), [who(1)]);
            assert_eq!(standings.done(who(1), read), good);
            assert!(all(&mut standings).is_empty());
            standings.try_again();
            let again = if good { vec![] } else { vec![who(1)] };
            assert_eq!(all(&mut standings), again);
            standings.done(who(1), Some(9));
        }
    }

    #[test]
    fn so_many_are_read_at_a_time() {
        let mut standings = Standings::default();
        (0..100).for_each(|n| standings.add(who(n), 0));
        let read = all(&mut standings);
        assert_eq!(read.len(), STANDINGS);
        standings.done(read[0], Some(0));
        assert_eq!(all(&mut standings), [who(STANDINGS as u8)]);
    }
}
