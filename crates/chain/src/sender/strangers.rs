//! When one of two processes on a key has to stop. Pure: time is given.
//!
//! Both see the other's tag in its transactions. The one with the larger tag stops, or, where the other one is always faster
//! and so sees nothing of it, the one that always comes too late. They need not send at the same time: who has something to
//! send looks what its wallet has sent since it last had.
//!
//! What waited in the node before this process first looked is no sign that another one lives: if its store was deleted,
//! it is what its own former life has sent, under another tag. Who lives sends more, and that has higher nonces.

use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// Nonces that another process used until the one with the larger tag stops.
pub(super) const ENOUGH: usize = 2;
/// So many until the one with the smaller tag stops, with one more
const ALWAYS: usize = 6;
/// so much later: the other one has to stop, and what it had sent before that is in blocks by then.
const LATER: Duration = Duration::from_secs(60);
/// What was seen longer ago does not count: a service may move from one machine to another and back.
const COUNTS: Duration = Duration::from_secs(600);

/// What others sent from our key.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    /// The wallet's next nonce, with all that waited in the node, when this process first looked.
    start: Option<u64>,
    /// Nonces that another process used, and since when that is known.
    used: BTreeMap<u64, Instant>,
}

impl Strangers {
    /// Notes the wallet's next nonce after all that waits in the node, at the first look or soon after it.
    pub(super) fn begin(&mut self, pending: u64) {
        self.start = Some(pending);
    }

    /// That nonce; `None` before the first look.
    pub(super) fn start(&self) -> Option<u64> {
        self.start
    }

    /// Whether what used `nonce`, and is not ours, may have been in the node before this process began.
    pub(super) fn is_former(&self, nonce: u64) -> bool {
        self.start.is_none_or(|start| nonce < start)
    }

    /// A process with the tag `theirs` used `nonce`. Says whether the process with the tag `ours` has seen enough.
    pub(super) fn saw(&mut self, ours: u8, theirs: u8, nonce: u64, now: Instant) -> bool {
        if self.is_former(nonce) {
            return false;
        }
        self.used.retain(|_, since| now.duration_since(*since) < COUNTS);
        let (needed, older) = if ours < theirs { (ALWAYS, LATER) } else { (ENOUGH - 1, Duration::ZERO) };
        let before = self.used.values().filter(|since| now.duration_since(**since) >= older).count();
        if before >= needed && !self.used.contains_key(&nonce) {
            return true;
        }
        self.used.entry(nonce).or_insert(now);
        false
    }

    /// Counts anew, with another tag.
    pub(super) fn forget(&mut self) {
        self.used.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: u8 = 3;
    const LARGE: u8 = 9;

    fn begun(pending: u64) -> Strangers {
        Strangers { start: Some(pending), ..Strangers::default() }
    }

    #[test]
    fn what_was_there_at_the_start_makes_nobody_stop() {
        let (mut strangers, now) = (begun(10), Instant::now());
        for nonce in 0..10 {
            assert!(strangers.is_former(nonce) && !strangers.saw(LARGE, SMALL, nonce, now));
        }
        assert!(!strangers.saw(LARGE, SMALL, 10, now), "the first that came later");
        strangers.forget();
        assert!(!strangers.saw(LARGE, SMALL, 9, now) && !strangers.saw(LARGE, SMALL, 11, now), "counted anew");
        assert!(strangers.saw(LARGE, SMALL, 12, now));
        assert!(Strangers::default().is_former(0), "nothing is known before the first look");
    }

    #[test]
    fn the_larger_tag_and_an_equal_one_stop_at_the_second_nonce() {
        for ours in [LARGE, SMALL] {
            let (mut strangers, now) = (begun(0), Instant::now());
            assert!(!strangers.saw(ours, SMALL, 1, now));
            assert!(!strangers.saw(ours, SMALL, 1, now), "the same one again");
            assert!(strangers.saw(ours, SMALL, 2, now));
        }
    }

    #[test]
    fn the_smaller_tag_stops_only_where_the_other_one_goes_on() {
        let (mut strangers, now) = (begun(0), Instant::now());
        for nonce in 0..3 * ALWAYS as u64 {
            assert!(!strangers.saw(SMALL, LARGE, nonce, now), "{nonce}: the other one may stop yet");
        }
        let just_before = now + LATER - Duration::from_millis(1);
        assert!(!strangers.saw(SMALL, LARGE, 100, just_before));
        assert!(strangers.saw(SMALL, LARGE, 101, now + LATER));
    }

    #[test]
    fn few_nonces_and_old_ones_make_nobody_stop() {
        let (mut strangers, now) = (begun(0), Instant::now());
        for nonce in 1..ALWAYS as u64 {
            assert!(!strangers.saw(SMALL, LARGE, nonce, now));
        }
        assert!(!strangers.saw(SMALL, LARGE, 100, now + LATER), "one too few were seen before");
        assert!(!strangers.saw(LARGE, SMALL, 101, now + LATER + COUNTS), "all are long ago");
    }
}
