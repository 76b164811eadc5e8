//! Who gets what when a task ends. Source: poco.md §7.7, §9; the score rule is ours (−50) or the published one (⌊2s/3⌋).

use crate::money::Nrlc;
use alloy_primitives::{Address, U256};

/// Percent of the pool's price that the pool owner locks per task.
pub const POOL_STAKE_PERCENT: u64 = 30;
/// Percent of the kitty that one successful task pays out.
pub const KITTY_PERCENT: u64 = 10;
/// The least that a non-empty kitty pays out, in nRLC.
pub const KITTY_MIN: u64 = 1_000_000_000;

/// What a wrong or unrevealed contribution costs in reputation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Penalty {
    /// Fifty points, not below zero: the default.
    Fifty,
    /// One third of the score, rounded up: ⌊2s/3⌋ stays.
    Third,
}

impl Penalty {
    /// The score that is left.
    pub fn apply(self, score: U256) -> U256 {
        match self {
            Self::Fifty => score.saturating_sub(U256::from(50)),
            Self::Third => {
                // 2s/3 without 2s, which could pass 256 bits.
                let (third, rest) = (score / U256::from(3), score % U256::from(3));
                third * U256::from(2) + rest * U256::from(2) / U256::from(3)
            }
        }
    }
}

/// A contribution at the end of a task that completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The worker's wallet.
    pub worker: Address,
    /// Whether it revealed the winning answer.
    pub proved: bool,
    /// ⌊log₂⌋ of its consensus weight.
    pub reward_weight: u64,
}

/// How the pool's price and the seized stakes are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Parallel to the entries: the reward, zero for the losers.
    pub workers: Vec<Nrlc>,
    /// The pool owner's part with the rounding dust.
    pub scheduler: Nrlc,
}

/// Shares of a finalised task, or `None` when an amount passes 256 bits or nobody proved.
pub fn shares(pool_price: Nrlc, worker_stake: Nrlc, scheduler_percent: u64, entries: &[Entry]) -> Option<Shares> {
    let losers = entries.iter().filter(|e| !e.proved).count();
    let total = pool_price.checked_add(worker_stake.checked_mul(U256::from(losers))?)?;
    let for_workers = total.percent(U256::from(100u64.checked_sub(scheduler_percent)?))?;
    let weights: u64 = entries.iter().filter(|e| e.proved).map(|e| e.reward_weight).sum();
    if weights == 0 {
        return None;
    }
    let share = |e: &Entry| match e.proved {
        true => Some(Nrlc(for_workers.0.checked_mul(U256::from(e.reward_weight))? / U256::from(weights))),
        false => Some(Nrlc::ZERO),
    };
    let workers = entries.iter().map(share).collect::<Option<Vec<_>>>()?;
    let paid = workers.iter().try_fold(Nrlc::ZERO, |sum, s| sum.checked_add(*s))?;
    Some(Shares { workers, scheduler: total.checked_sub(paid)? })
}

/// A worker's score after a task that completed with `contributors` contributions.
pub fn score_after(score: U256, proved: bool, contributors: usize, penalty: Penalty) -> U256 {
    match (proved, contributors > 1) {
        (true, true) => score.saturating_add(U256::from(1)),
        (true, false) => score,
        (false, _) => penalty.apply(score),
    }
}

/// What a successful task takes out of the kitty: 10 %, at least 1 RLC, at most all.
pub fn kitty_payout(kitty: Nrlc) -> Nrlc {
    let part = Nrlc(kitty.0 / U256::from(100 / KITTY_PERCENT));
    part.max(Nrlc(U256::from(KITTY_MIN))).min(kitty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(proved: bool, reward_weight: u64) -> Entry {
        Entry { worker: Address::ZERO, proved, reward_weight }
    }

    fn nrlc(value: u64) -> Nrlc {
        Nrlc(U256::from(value))
    }

    #[test]
    fn one_worker_gets_the_price_less_the_pools_percent() {
        let s = shares(Nrlc::rlc(10), Nrlc::rlc(3), 1, &[entry(true, 1)]).unwrap();
        assert_eq!((s.workers[0], s.scheduler), (nrlc(9_900_000_000), nrlc(100_000_000)));
    }

    #[test]
    fn a_liars_stake_is_shared_among_the_others() {
        let entries = [entry(false, 1), entry(true, 1), entry(true, 1), entry(true, 1), entry(true, 1)];
        let s = shares(Nrlc::rlc(10), Nrlc::rlc(3), 1, &entries).unwrap();
        assert_eq!(s.workers[0], Nrlc::ZERO);
        assert_eq!(s.workers[1], nrlc(3_217_500_000));
        assert_eq!(s.scheduler, nrlc(130_000_000));
    }

    #[test]
    fn penalties_follow_the_two_rules() {
        for (score, fifty, third) in [(60, 10, 40), (30, 0, 20), (0, 0, 0), (10, 0, 6), (6, 0, 4), (1, 0, 0)] {
            assert_eq!(Penalty::Fifty.apply(U256::from(score)), U256::from(fifty));
            assert_eq!(Penalty::Third.apply(U256::from(score)), U256::from(third));
        }
        assert_eq!(Penalty::Third.apply(U256::MAX), U256::MAX / U256::from(3) * U256::from(2));
    }

    #[test]
    fn a_lone_worker_gains_no_score() {
        assert_eq!(score_after(U256::from(7), true, 1, Penalty::Fifty), U256::from(7));
        assert_eq!(score_after(U256::from(7), true, 2, Penalty::Fifty), U256::from(8));
    }

    #[test]
    fn the_kitty_pays_a_tenth_but_at_least_one_rlc() {
        for (kitty, take) in
            [(500_000_000, 500_000_000), (5_000_000_000, 1_000_000_000), (27_000_000_000, 2_700_000_000)]
        {
            assert_eq!(kitty_payout(nrlc(kitty)), nrlc(take));
        }
        assert_eq!(kitty_payout(Nrlc::ZERO), Nrlc::ZERO);
    }
}
