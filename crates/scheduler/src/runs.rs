//! How long an app's runs take: the yardstick for when a silent worker is replaced. Pure.

use bourse_protocol::Address;
use std::collections::{BTreeMap, VecDeque};

/// Runs of an app that are remembered.
const REMEMBERED: usize = 200;
/// With fewer finished runs than this nothing is known.
const ENOUGH: usize = 5;
/// Apps that are remembered.
const APPS: usize = 1_000;

/// Finished runs of apps, in seconds from the assignment to the contribution on chain.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    apps: BTreeMap<Address, Known>,
}

/// Of one app.
#[derive(Debug, Default)]
struct Known {
    runs: VecDeque<u64>,
    /// What 95 % of them do not exceed, once they are enough: asked for far more often than it changes.
    slow: Option<u64>,
}

impl Known {
    fn add(&mut self, seconds: u64) {
        self.runs.push_back(seconds);
        let surplus = self.runs.len().saturating_sub(REMEMBERED);
        self.runs.drain(..surplus);
        self.slow = (self.runs.len() >= ENOUGH).then(|| {
            let mut sorted: Vec<_> = self.runs.iter().copied().collect();
            sorted.sort_unstable();
            // Nearest rank: the least value that 95 % of the runs do not exceed.
            sorted[(sorted.len() * 95).div_ceil(100) - 1]
        });
    }
}

impl Runs {
    /// A run of `app` has finished.
    pub(crate) fn finished(&mut self, app: Address, seconds: u64) {
        if self.apps.len() >= APPS && !self.apps.contains_key(&app) {
            self.apps.pop_first();
        }
        self.apps.entry(app).or_default().add(seconds);
    }

    /// When each of the replicates of a task, given by when it began and whether it may still contribute, is replaced, in
    /// seconds since the epoch: after [`Self::patience`], and after twice as long each time that it itself stands for one
    /// that is late and at work. So a run that is long for its app takes a few workers of the pool, and not all of them.
    pub(crate) fn replaced(&self, app: Address, period: u64, replicates: &[(u64, bool)]) -> Vec<u64> {
        let patience = self.patience(app, period);
        let mut order: Vec<_> = (0..replicates.len()).collect();
        order.sort_by_key(|n| replicates[*n].0);
        let mut at = vec![0; replicates.len()];
        // Of those at work: when it is late, and how many are late before it in its line.
        let mut late: Vec<(u64, u32)> = vec![];
        for n in order {
            let (began, at_work) = replicates[n];
            let stands_for = late.iter().filter(|(at, _)| *at <= began).map(|(_, line)| line + 1).max().unwrap_or(0);
            let longer = 2u64.saturating_pow(stands_for);
            at[n] = began.saturating_add(patience.saturating_mul(longer).min(period));
            if at_work {
                late.push((at[n], stands_for));
            }
        }
        at
    }

    /// After so many seconds without a contribution a replicate is replaced: the 95th percentile of the app's finished
    /// runs, and `period` (the category's T) while too few are known or if they took longer.
    pub(crate) fn patience(&self, app: Address, period: u64) -> u64 {
        let slow = self.apps.get(&app).and_then(|known| known.slow);
        // A second is the clock's grain.
        slow.map_or(period, |slow| (slow + 1).min(period))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_few_runs_the_period_counts() {
        let (mut runs, app) = (Runs::default(), Address::ZERO);
        (0..4).for_each(|_| runs.finished(app, 10));
        assert_eq!(runs.patience(app, 300), 300);
        runs.finished(app, 10);
        assert_eq!(runs.patience(app, 300), 11);
        assert_eq!(runs.patience(Address::repeat_byte(1), 300), 300, "another app");
    }

    #[test]
    fn a_run_that_is_long_for_its_app_does_not_take_the_whole_pool() {
        let (mut runs, app) = (Runs::default(), Address::ZERO);
        (0..5).for_each(|_| runs.finished(app, 3));
        let replaced = |replicates: &[(u64, bool)]| runs.replaced(app, 300, replicates);
        assert_eq!(replaced(&[(0, true), (0, true), (1, true)]), [4, 4, 5], "none stands for another");
        assert_eq!(replaced(&[(12, true), (4, true), (0, true)]), [28, 12, 4], "in whatever order they are known");
        assert_eq!(replaced(&[(0, false), (4, true)]), [4, 8], "one that has ended is no sign of a long run");
        let mut replicates = vec![(0, true)];
        while let Some(at) = replaced(&replicates).into_iter().max().filter(|at| *at < 300) {
            replicates.push((at, true));
        }
        assert_eq!(replicates.len(), 7, "{replicates:?}");
    }

    #[test]
    fn then_the_95th_percentile_of_the_latest() {
        let (mut runs, app) = (Runs::default(), Address::ZERO);
        (1..=1000).for_each(|n| runs.finished(app, 1000 + n));
        // Of 1801 to 2000, 95 % are at most 1990.
        assert_eq!(runs.patience(app, 9999), 1991);
        assert_eq!(runs.patience(app, 300), 300, "never longer than the period");
    }
}
