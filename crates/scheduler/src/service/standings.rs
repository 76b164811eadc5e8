//! Whose standing is read when. Pure.

use super::STANDINGS;
use bourse_protocol::Address;
use std::collections::{BTreeSet, VecDeque};

/// First come, first read; one reading of each at a time, so that none overtakes another.
#[derive(Debug, Default)]
pub(super) struct Standings {
    line: VecDeque<Address>,
    /// Those in line.
    waiting: BTreeSet<Address>,
    reading: BTreeSet<Address>,
    /// Those of whom it could not be read.
    failed: BTreeSet<Address>,
}

impl Standings {
    /// The standing of these is to be read.
    pub(super) fn add(&mut self, workers: impl IntoIterator<Item = Address>) {
        for worker in workers {
            if self.waiting.insert(worker) {
                self.line.push_back(worker);
            }
        }
    }

    /// Who is read next, if there is room for one more.
    pub(super) fn next(&mut self) -> Option<Address> {
        if self.reading.len() >= STANDINGS {
            return None;
        }
        let place = self.line.iter().position(|worker| !self.reading.contains(worker))?;
        let worker = self.line.remove(place)?;
        self.waiting.remove(&worker);
        self.reading.insert(worker);
        Some(worker)
    }

    /// One was read, or could not be.
    pub(super) fn done(&mut self, worker: Address, read: bool) {
        self.reading.remove(&worker);
        if !read {
            self.failed.insert(worker);
        }
    }

    /// Those who could not be read are to be read again.
    pub(super) fn try_again(&mut self) {
        let failed = std::mem::take(&mut self.failed);
        self.add(failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(n: u8) -> Address {
        Address::with_last_byte(n)
    }

    #[test]
    fn each_is_read_in_turn_and_never_twice_at_a_time() {
        let mut standings = Standings::default();
        standings.add([who(2), who(1), who(2)]);
        assert_eq!(standings.next(), Some(who(2)));
        standings.add([who(2)]);
        assert_eq!(standings.next(), Some(who(1)));
        assert_eq!(standings.next(), None, "the first is still being read");
        standings.done(who(2), true);
        assert_eq!((standings.next(), standings.next()), (Some(who(2)), None));
    }

    #[test]
    fn what_could_not_be_read_is_tried_again_when_told() {
        let mut standings = Standings::default();
        standings.add([who(1)]);
        standings.next();
        standings.done(who(1), false);
        assert_eq!(standings.next(), None);
        standings.try_again();
        assert_eq!(standings.next(), Some(who(1)));
    }

    #[test]
    fn so_many_are_read_at_a_time() {
        let mut standings = Standings::default();
        standings.add((0..100).map(who));
        let read: Vec<_> = std::iter::from_fn(|| standings.next()).collect();
        assert_eq!(read.len(), STANDINGS);
        standings.done(read[0], true);
        assert_eq!(standings.next(), Some(who(STANDINGS as u8)));
    }
}
