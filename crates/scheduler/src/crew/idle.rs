//! The workers with a free slot, found by what each can do and put at stake. Pure.
//!
//! Tasks ask a machine for little: an app type, an enclave, a graphics processor. How many processors and how much memory
//! and disk it has is asked once, by the pool's floor. So workers stand in lines by what tasks ask, and not by what each
//! announces, which no two machines share: the search passes a few lines, however many machines there are and however
//! different they are.

use super::{Floor, Need};
use bourse_protocol::{Address, link::Capabilities, money::Nrlc};
use std::collections::{BTreeMap, BTreeSet};

/// Who is served first: the fewest failures in a row, then who has waited longest.
pub(super) type Rank = (u32, u64);

/// What members of a line can do: how many of the stakes that tasks here put down each could, then whether it has an
/// enclave and a graphics processor.
type Skill = (usize, bool, bool);

/// Where a worker stands: in a line of each app type that it runs, with its skill and rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    app_types: BTreeSet<String>,
    skill: Skill,
    rank: Rank,
}

/// The index.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// Machines below it stand nowhere.
    floor: Floor,
    /// By app type. Who cannot do what is needed is not looked at, however many come.
    lines: BTreeMap<String, BTreeMap<Skill, BTreeSet<(Rank, Address)>>>,
    /// Everybody, by how many of the stakes each can put down.
    reaches: BTreeMap<usize, BTreeSet<Address>>,
    /// The stakes that tasks here have put down, in order. They follow from the pool's own prices, so there are few.
    stakes: Vec<Nrlc>,
}

impl Idle {
    /// Nobody yet, and no machine below `floor` ever.
    pub(super) fn above(floor: Floor) -> Self {
        Self { floor, ..Self::default() }
    }

    pub(super) fn floor(&self) -> &Floor {
        &self.floor
    }

    /// The seat of who has so much left to put at stake, with this machine and rank; none below the floor.
    pub(super) fn place(&self, left: Nrlc, machine: &Capabilities, rank: Rank) -> Option<Seat> {
        let app_types = machine.app_types.iter().cloned().collect();
        let skill = (self.reach(left), !machine.tee.is_empty(), machine.gpus > 0);
        self.floor.lacks(machine).is_none().then_some(Seat { app_types, skill, rank })
    }

    /// How many of the stakes an amount is enough for.
    fn reach(&self, amount: Nrlc) -> usize {
        self.stakes.partition_point(|stake| *stake <= amount)
    }

    /// Tasks here put down this stake. Returns those who must be seated anew, as lines are others now: none if it was known.
    pub(super) fn expect(&mut self, stake: Nrlc) -> Vec<Address> {
        let Err(place) = self.stakes.binary_search(&stake) else { return vec![] };
        self.stakes.insert(place, stake);
        self.lines.clear();
        std::mem::take(&mut self.reaches).into_values().flatten().collect()
    }

    /// The dearest stake of the tasks here.
    pub(super) fn dearest(&self) -> Option<Nrlc> {
        self.stakes.last().copied()
    }

    pub(super) fn seat(&mut self, seat: Seat, worker: Address) {
        let Seat { app_types, skill, rank } = seat;
        self.reaches.entry(skill.0).or_default().insert(worker);
        for app_type in app_types {
            self.lines.entry(app_type).or_default().entry(skill).or_default().insert((rank, worker));
        }
    }

    pub(super) fn unseat(&mut self, seat: &Seat, worker: Address) {
        take(&mut self.reaches, &seat.skill.0, &worker);
        for app_type in &seat.app_types {
            let Some(lines) = self.lines.get_mut(app_type) else { continue };
            take(lines, &seat.skill, &(seat.rank, worker));
            if lines.is_empty() {
                self.lines.remove(app_type);
            }
        }
    }

    /// Who comes first of those that can do what is needed, whose stake is one of a task here, and are not `taken`.
    pub(super) fn first(&self, need: &Need, taken: impl Fn(Address) -> bool) -> Option<Address> {
        let rich_enough = self.lines.get(&need.app_type)?.range((self.reach(need.stake), false, false)..);
        let fit = rich_enough.filter(|((_, tee, gpu), _)| need.tee <= *tee && need.gpu <= *gpu);
        let first = fit.filter_map(|(_, members)| members.iter().find(|(_, worker)| !taken(*worker)));
        first.min().map(|(_, worker)| *worker)
    }

    /// How many can put down a stake that is one of a task here.
    pub(super) fn count(&self, stake: Nrlc) -> usize {
        self.reaches.range(self.reach(stake)..).map(|(_, members)| members.len()).sum()
    }

    /// Those who cannot put down the dearest stake.
    pub(super) fn poor(&self) -> impl Iterator<Item = Address> {
        self.reaches.range(..self.stakes.len()).flat_map(|(_, members)| members).copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reaches.is_empty()
    }

    /// How many lines a search passes at most.
    #[cfg(test)]
    pub(super) fn longest_search(&self) -> usize {
        self.lines.values().map(BTreeMap::len).max().unwrap_or(0)
    }
}

/// Takes a member out of a set, which goes with its last one.
fn take<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: &K, member: &V) {
    let Some(members) = sets.get_mut(key) else { return };
    members.remove(member);
    if members.is_empty() {
        sets.remove(key);
    }
}
