//! What a worker can put at stake, from what the hub said of its deposit and what it did since then. Pure.

use bourse_protocol::{U256, money::Nrlc};

/// The deposit of one worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deposit {
    /// What was free when the hub was asked last, less the stakes of contributions since then.
    free: Nrlc,
    /// The stakes of the replicates that it may still contribute to.
    pledged: Nrlc,
    /// When the hub was asked: a turn. `None` if it was not, or not since the worker gave something up.
    read: Option<u64>,
}

impl Deposit {
    /// Of one that comes for the first time: it gets nothing that needs a stake before its deposit is read.
    pub(super) const UNREAD: Self = Self { free: Nrlc::ZERO, pledged: Nrlc::ZERO, read: None };
    /// Of one that worked here before: believed until it is read.
    pub(super) const TRUSTED: Self = Self { free: Nrlc(U256::MAX), ..Self::UNREAD };

    /// What can be put at stake for one more task.
    pub(super) fn left(&self) -> Nrlc {
        Nrlc(self.free.0.saturating_sub(self.pledged.0))
    }

    /// When the hub was asked last, if what it said still counts.
    pub(super) fn read(&self) -> Option<u64> {
        self.read
    }

    /// The hub says in this turn that so much is free.
    pub(super) fn is_read(&mut self, free: Nrlc, turn: u64) {
        (self.free, self.read) = (free, Some(turn));
    }

    /// One more replicate may need this stake.
    pub(super) fn pledge(&mut self, stake: Nrlc) {
        self.pledged = Nrlc(self.pledged.0.saturating_add(stake.0));
    }

    /// A pledged stake was locked by a contribution.
    pub(super) fn lock(&mut self, stake: Nrlc) {
        self.release(stake);
        self.free = Nrlc(self.free.0.saturating_sub(stake.0));
    }

    /// A pledged stake was not used. There may have been nothing to lock: what was read counts no more.
    pub(super) fn give_up(&mut self, stake: Nrlc) {
        self.release(stake);
        (self.free, self.read) = (Nrlc::ZERO, None);
    }

    fn release(&mut self, stake: Nrlc) {
        self.pledged = Nrlc(self.pledged.0.saturating_sub(stake.0));
    }
}
