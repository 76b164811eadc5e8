//! The workers with a free slot, found by what each can do and put at stake. Pure.

use super::Need;
use bourse_protocol::{Address, link::Capabilities, money::Nrlc};
use std::collections::{BTreeMap, BTreeSet};

/// Who is served first: the fewest failures in a row, then who has waited longest.
pub(super) type Rank = (u32, u64);

/// Workers that can do the same: how many of the stakes that tasks here put down each could, and the machine. Who cannot
/// is not looked at, however many come.
pub(super) type Class = (usize, Capabilities);

/// The index.
#[derive(Debug, Default)]
pub(super) struct Idle {
    classes: BTreeMap<Class, BTreeSet<(Rank, Address)>>,
    /// The stakes that tasks here have put down, in order. They follow from the pool's own prices, so there are few.
    stakes: Vec<Nrlc>,
    /// How many workers can put down so many of the stakes.
    reaches: BTreeMap<usize, usize>,
}

impl Idle {
    /// The class of who has so much left to put at stake, with this machine.
    pub(super) fn class(&self, left: Nrlc, machine: &Capabilities) -> Class {
        (self.reach(left), machine.clone())
    }

    /// How many of the stakes an amount is enough for.
    fn reach(&self, amount: Nrlc) -> usize {
        self.stakes.partition_point(|stake| *stake <= amount)
    }

    /// Tasks here put down this stake. Returns those who must be seated anew, as classes are others now: none if it was known.
    pub(super) fn expect(&mut self, stake: Nrlc) -> Vec<(Rank, Address)> {
        let Err(place) = self.stakes.binary_search(&stake) else { return vec![] };
        self.stakes.insert(place, stake);
        self.reaches.clear();
        std::mem::take(&mut self.classes).into_values().flatten().collect()
    }

    /// The dearest stake of the tasks here.
    pub(super) fn dearest(&self) -> Option<Nrlc> {
        self.stakes.last().copied()
    }

    pub(super) fn seat(&mut self, class: Class, rank: Rank, worker: Address) {
        *self.reaches.entry(class.0).or_default() += 1;
        self.classes.entry(class).or_default().insert((rank, worker));
    }

    pub(super) fn unseat(&mut self, class: &Class, rank: Rank, worker: Address) {
        let Some(members) = self.classes.get_mut(class) else { return };
        if members.remove(&(rank, worker)) {
            self.reaches.entry(class.0).and_modify(|count| *count = count.saturating_sub(1));
        }
        if members.is_empty() {
            self.classes.remove(class);
        }
    }

    /// Who comes first of those that can do what is needed, whose stake is one of a task here, and are not `taken`.
    pub(super) fn first(&self, need: &Need, taken: impl Fn(Address) -> bool) -> Option<Address> {
        let rich_enough = self.classes.range((self.reach(need.stake), Capabilities::default())..);
        let fit = rich_enough.filter(|((_, machine), _)| need.lacks(machine).is_none());
        let first = fit.filter_map(|(_, members)| members.iter().find(|(_, worker)| !taken(*worker)));
        first.min().map(|(_, worker)| *worker)
    }

    /// How many can put down a stake that is one of a task here.
    pub(super) fn count(&self, stake: Nrlc) -> usize {
        self.reaches.range(self.reach(stake)..).map(|(_, count)| count).sum()
    }

    /// Those who cannot put down the dearest stake.
    pub(super) fn poor(&self) -> impl Iterator<Item = Address> {
        let poor = self.classes.iter().take_while(|((reach, _), _)| *reach < self.stakes.len());
        poor.flat_map(|(_, members)| members.iter().map(|(_, worker)| *worker))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }
}
