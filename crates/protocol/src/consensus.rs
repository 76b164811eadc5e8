//! When the chain believes an answer: weights by reputation, groups by answer, a threshold by trust.
//! Source: poco.md §8. 256-bit arithmetic, as on chain.

use alloy_primitives::{B256, U256};
use std::collections::BTreeMap;

/// A contribution counts for `W = max(⌊score / 3⌋, 3) − 1`.
pub fn weight(score: U256) -> U256 {
    (score / U256::from(3)).max(U256::from(3)) - U256::from(1)
}

/// The share of the reward goes by ⌊log₂ W⌋, at least 1.
pub fn reward_weight(score: U256) -> u64 {
    weight(score).log2() as u64
}

/// The votes on one task since it was initialised or last reopened.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Votes {
    groups: BTreeMap<B256, U256>,
}

impl Votes {
    /// Counts a vote for `hash`. Saturates where the chain would revert: past 2²⁵⁶ every trust is met.
    pub fn add(&mut self, hash: B256, weight: U256) {
        let group = self.groups.entry(hash).or_insert(U256::from(1));
        *group = group.saturating_mul(weight);
    }

    /// Forgets a group, as `reopen` does.
    pub fn remove(&mut self, hash: B256) {
        self.groups.remove(&hash);
    }

    /// The product of the weights that voted for `hash`; 0 when nobody did.
    pub fn group(&self, hash: B256) -> U256 {
        self.groups.get(&hash).copied().unwrap_or_default()
    }

    /// One more than the sum of all groups.
    pub fn total(&self) -> U256 {
        self.groups.values().fold(U256::from(1), |sum, g| sum.saturating_add(*g))
    }

    /// Whether the group of `hash` carries the task at this trust. A trust of 0 counts as 1.
    pub fn reached(&self, hash: B256, trust: U256) -> bool {
        carries(self.group(hash), self.total(), trust)
    }

    /// Whether one more worker is needed, if everybody in `pending` (by weight) joins the strongest group.
    pub fn needs_more(&self, pending: impl IntoIterator<Item = U256>, trust: U256) -> bool {
        let lead = self.groups.values().copied().max().unwrap_or_default();
        let joined = pending.into_iter().fold(lead, |g, w| g.max(U256::from(1)).saturating_mul(w));
        !carries(joined, self.total().saturating_sub(lead).saturating_add(joined), trust)
    }
}

/// `group · trust > total · (trust − 1)`, in 512 bits so that no value can wrap.
fn carries(group: U256, total: U256, trust: U256) -> bool {
    let trust = trust.max(U256::from(1));
    let left = group.widening_mul::<256, 4, 512, 8>(trust);
    let right = total.widening_mul::<256, 4, 512, 8>(trust - U256::from(1));
    left > right
}

/// How many workers without reputation must agree when nobody dissents: the least n ≥ 1 with 2ⁿ ≥ trust.
pub fn fresh_workers_needed(trust: U256) -> u32 {
    workers_needed_against(trust, 0)
}

/// How many agreeing workers without reputation `trust` needs beside `liars` that each stand alone for one forged answer.
pub fn workers_needed_against(trust: U256, liars: u32) -> u32 {
    let mut votes = Votes::default();
    for liar in 0..liars {
        votes.add(B256::from(U256::from(liar + 1)), weight(U256::ZERO));
    }
    let honest = B256::ZERO;
    (1..=256)
        .find(|_| {
            votes.add(honest, weight(U256::ZERO));
            votes.reached(honest, trust)
        })
        .unwrap_or(256)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: B256 = B256::repeat_byte(0xa);
    const B: B256 = B256::repeat_byte(0xb);

    fn n(value: u64) -> U256 {
        U256::from(value)
    }

    #[test]
    fn weights_follow_the_score() {
        for (score, w) in [(0, 2), (11, 2), (12, 3), (14, 3), (15, 4), (17, 4), (30, 9), (300, 99)] {
            assert_eq!(weight(n(score)), n(w), "score {score}");
        }
        for (score, w) in [(0, 1), (12, 1), (15, 2), (30, 3), (300, 6)] {
            assert_eq!(reward_weight(n(score)), w, "score {score}");
        }
    }

    #[test]
    fn trust_decides_how_many_must_agree() {
        for (trust, workers) in [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4), (16, 4), (1024, 10)] {
            assert_eq!(fresh_workers_needed(n(trust)), workers, "trust {trust}");
        }
        assert_eq!(workers_needed_against(n(5), 1), 4);
    }

    #[test]
    fn a_dissenter_raises_the_bar() {
        let mut votes = Votes::default();
        let mut vote = |hash, group, total, reached| {
            votes.add(hash, n(2));
            assert_eq!((votes.group(hash), votes.total()), (n(group), n(total)));
            assert_eq!(votes.reached(hash, n(5)), reached);
        };
        vote(A, 2, 3, false);
        vote(A, 4, 5, false);
        vote(B, 2, 7, false);
        vote(A, 8, 11, false);
        vote(A, 16, 19, true);
    }

    #[test]
    fn exactly_the_workers_that_are_missing_are_asked_for() {
        let fresh = |k: usize| std::iter::repeat_n(n(2), k);
        let mut votes = Votes::default();
        assert!(votes.needs_more(fresh(2), n(5)));
        assert!(!votes.needs_more(fresh(3), n(5)));
        votes.add(A, n(2));
        votes.add(B, n(2));
        assert!(votes.needs_more(fresh(2), n(5)));
        assert!(!votes.needs_more(fresh(3), n(5)));
        votes.remove(B);
        assert!(!votes.needs_more(fresh(2), n(5)));
    }

    #[test]
    fn huge_weights_do_not_wrap() {
        let mut votes = Votes::default();
        votes.add(A, U256::MAX);
        votes.add(A, U256::MAX);
        assert!(votes.reached(A, n(1)));
        assert!(!votes.reached(B, U256::MAX));
    }
}
