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
    fn then_the_95th_percentile_of_the_latest() {
        let (mut runs, app) = (Runs::default(), Address::ZERO);
        (1..=1000).for_each(|n| runs.finished(app, 1000 + n));
        // Of 1801 to 2000, 95 % are at most 1990.
        assert_eq!(runs.patience(app, 9999), 1991);
        assert_eq!(runs.patience(app, 300), 300, "never longer than the period");
    }
}
