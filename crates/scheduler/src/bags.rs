//! Deals with more tasks than are put on the table at once, and how far each was taken. Pure.

use bourse_protocol::{
    U256,
    deal::Deal,
    ids::{DealId, TaskId},
};
use std::collections::BTreeMap;

/// Deals of which more tasks wait, with the number of the first of these within the deal.
#[derive(Debug, Default)]
pub(crate) struct Bags {
    next: BTreeMap<DealId, U256>,
}

/// Tasks of a deal that come on the table together.
#[derive(Debug, PartialEq)]
pub(crate) struct Window {
    /// With their numbers on the chain.
    pub(crate) tasks: Vec<(TaskId, U256)>,
    /// The number within the deal of the first that stays behind, if any does.
    pub(crate) next: Option<U256>,
}

impl Window {
    /// At most `room` tasks of a deal, from number `from` within it.
    pub(crate) fn of(deal: &Deal, from: U256, room: u64) -> Self {
        let until = from.saturating_add(U256::from(room)).min(deal.bot_size);
        let mut tasks = Vec::new();
        let mut number = from;
        while number < until {
            let index = deal.bot_first.saturating_add(number);
            tasks.push((TaskId::of(deal.id, index), index));
            number += U256::from(1);
        }
        Self { tasks, next: (until < deal.bot_size).then_some(until) }
    }
}

impl Bags {
    /// As remembered.
    pub(crate) fn new(next: BTreeMap<DealId, U256>) -> Self {
        Self { next }
    }

    /// A deal was taken so far. Says whether that is news.
    pub(crate) fn set(&mut self, deal: DealId, next: Option<U256>) -> bool {
        let known = match next {
            Some(next) => self.next.insert(deal, next),
            None => self.next.remove(&deal),
        };
        known != next
    }

    /// Whether every task of every deal is on the table.
    pub(crate) fn is_empty(&self) -> bool {
        self.next.is_empty()
    }

    /// Deals of which more can be taken, from where, and how many: a deal has at most `most` open tasks on the table.
    pub(crate) fn room(&self, open: &BTreeMap<DealId, u64>, most: u64) -> Vec<(DealId, U256, u64)> {
        let room = |deal: &DealId| most.saturating_sub(open.get(deal).copied().unwrap_or_default());
        self.next.iter().map(|(deal, next)| (*deal, *next, room(deal))).filter(|(_, _, room)| *room > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::deal;

    #[test]
    fn a_deal_is_taken_window_by_window_to_its_last_task() {
        let big = Deal { bot_first: U256::from(100), bot_size: U256::from(7), ..deal() };
        let (mut bags, mut taken, mut next) = (Bags::default(), vec![], Some(U256::ZERO));
        while let Some(from) = next {
            let window = Window::of(&big, from, 3);
            assert!(window.tasks.len() <= 3);
            taken.extend(window.tasks.iter().map(|(_, index)| index.to::<u64>()));
            next = window.next;
            bags.set(big.id, next);
        }
        assert_eq!(taken, (100..107).collect::<Vec<_>>());
        assert!(bags.is_empty());
    }

    #[test]
    fn more_is_taken_as_soon_as_tasks_have_ended() {
        let mut bags = Bags::default();
        let id = deal().id;
        bags.set(id, Some(U256::from(10)));
        assert_eq!(bags.room(&[(id, 10)].into(), 10), []);
        assert_eq!(bags.room(&[(id, 8)].into(), 10), [(id, U256::from(10), 2)]);
        assert_eq!(bags.room(&BTreeMap::new(), 10), [(id, U256::from(10), 10)]);
    }
}
