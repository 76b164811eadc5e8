//! When one of two processes on a key has to stop. Pure: time is that of blocks, in seconds, and given.
//!
//! Both see the other's tag in its transactions. The one with the larger tag stops, or, where the other one is always faster
//! and so sees nothing of it, the one that always comes too late: nothing of its own gets into blocks meanwhile. They need not
//! send at the same time: who has something to send looks what its wallet has sent since it last had.
//!
//! What waited in the node before this process first looked, or is in a block soon after, is no sign that another one lives:
//! if its store was deleted, it is what its own former life has sent, under another tag. Who lives sends more, later.

use std::collections::BTreeMap;

/// Transactions of another process that the one with the larger tag sees until it stops.
const ENOUGH: usize = 2;
/// So many until the one with the smaller tag stops, with one more
const ALWAYS: usize = 6;
/// so much later: the other one has to stop, and what it had sent before that is in blocks by then.
const LATER: u64 = 60;
/// What a former life has sent is in blocks so long after the first look, or the node that was asked shows that it waits.
/// Shorter than [`LATER`]: also if it has just begun, who has to stop has time to do so first.
const SETTLED: u64 = 30;
/// What is older does not count: a service may move from one machine to another and back.
const COUNTS: u64 = 3_600;
/// Nonces that are looked at at once, of those that were used since the last look: as many as either rule needs.
pub(super) const LOOKED_AT: usize = ALWAYS + 1;

/// What others sent from our key.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    start: Option<Start>,
    /// When another process used a nonce, by its tag.
    used: BTreeMap<(u8, u64), u64>,
}

/// When this process first looked.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// The wallet's next nonce, with all that waited in the node.
    nonce: u64,
    /// The later of the newest block's time and this machine's.
    time: u64,
}

/// A transaction of another process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stranger {
    pub(super) tag: u8,
    pub(super) nonce: u64,
    /// When its block was made.
    pub(super) time: u64,
}

impl Strangers {
    /// Begins to count, anew if it had: `pending` is the wallet's next nonce after all that waits in the node, `now` the later
    /// of the newest block's time, which may lag, and this machine's.
    pub(super) fn begin(&mut self, pending: u64, now: u64) {
        *self = Self { start: Some(Start { nonce: pending, time: now }), used: BTreeMap::new() };
    }

    /// Whether it counts yet.
    pub(super) fn has_begun(&self) -> bool {
        self.start.is_some()
    }

    /// What the later of both times is now: a node may have lied of that of the start.
    pub(super) fn mend_start(&mut self, now: u64) {
        self.start.iter_mut().for_each(|start| start.time = start.time.min(now));
    }

    /// A transaction of ours is in a block: a process with a larger tag sees it.
    pub(super) fn got_through(&mut self, ours: u8) {
        self.used.retain(|(tag, _), _| *tag <= ours);
    }

    /// A gas limit would have this tag but for its check: what seemed to have it is other software's.
    pub(super) fn discard(&mut self, tag: u8) {
        self.used.retain(|(seen, _), _| *seen != tag);
    }

    /// Whether what used `nonce` in a block of this time, and is not ours, may have been sent before this process began.
    pub(super) fn is_former(&self, nonce: u64, time: u64) -> bool {
        self.start.is_none_or(|start| nonce < start.nonce || time < start.time.saturating_add(SETTLED))
    }

    /// Notes what another process sent. Says whether the process with the tag `ours` has seen enough.
    pub(super) fn saw(&mut self, ours: u8, theirs: Stranger, now: u64) -> bool {
        if self.is_former(theirs.nonce, theirs.time) {
            return false;
        }
        self.used.insert((theirs.tag, theirs.nonce), theirs.time);
        self.used.retain(|_, time| now.abs_diff(*time) < COUNTS);
        let times: Vec<u64> =
            self.used.range((theirs.tag, 0)..=(theirs.tag, u64::MAX)).map(|(_, time)| *time).collect();
        match ours < theirs.tag {
            false => times.len() >= ENOUGH,
            true => {
                let newest = times.iter().max().copied().unwrap_or_default();
                times.iter().filter(|time| time.saturating_add(LATER) <= newest).count() >= ALWAYS
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: u8 = 3;
    const LARGE: u8 = 9;
    /// When the process that looks began.
    const BEGAN: u64 = 1_000;
    /// When it may count what it sees.
    const COUNTED: u64 = BEGAN + SETTLED;

    fn begun(pending: u64) -> Strangers {
        let mut strangers = Strangers::default();
        strangers.begin(pending, BEGAN);
        strangers
    }

    /// One process sees what the other one has just sent.
    fn saw(strangers: &mut Strangers, ours: u8, nonce: u64, time: u64) -> bool {
        let tag = if ours == SMALL { LARGE } else { SMALL };
        strangers.saw(ours, Stranger { tag, nonce, time }, time)
    }

    #[test]
    fn what_was_there_at_the_start_or_comes_soon_after_makes_nobody_stop() {
        let mut strangers = begun(10);
        for nonce in 0..10 {
            assert!(!saw(&mut strangers, LARGE, nonce, COUNTED), "it waited in the node");
        }
        for nonce in 10..20 {
            assert!(!saw(&mut strangers, LARGE, nonce, COUNTED - 1), "nodes may have passed it on late");
        }
        assert!(!saw(&mut strangers, LARGE, 20, COUNTED), "the first that counts");
        strangers.begin(21, COUNTED);
        assert!(!saw(&mut strangers, LARGE, 21, COUNTED + SETTLED), "counted anew");
        assert!(saw(&mut strangers, LARGE, 22, COUNTED + SETTLED));
        assert!(Strangers::default().is_former(u64::MAX, u64::MAX), "nothing is known before the first look");
    }

    #[test]
    fn the_larger_tag_and_an_equal_one_stop_at_the_second_nonce() {
        for ours in [LARGE, SMALL] {
            let mut strangers = begun(0);
            let theirs = |nonce| Stranger { tag: SMALL, nonce, time: COUNTED };
            assert!(!strangers.saw(ours, theirs(1), COUNTED));
            assert!(!strangers.saw(ours, theirs(1), COUNTED), "the same one again");
            assert!(strangers.saw(ours, theirs(2), COUNTED));
        }
    }

    #[test]
    fn two_others_are_not_one() {
        let mut strangers = begun(0);
        for (nonce, tag) in [(1, SMALL), (2, SMALL + 1), (3, SMALL + 2)] {
            assert!(!strangers.saw(LARGE, Stranger { tag, nonce, time: COUNTED }, COUNTED), "such as other software");
        }
    }

    #[test]
    fn the_smaller_tag_stops_only_where_the_other_one_goes_on() {
        let mut strangers = begun(0);
        for nonce in 0..3 * ALWAYS as u64 {
            assert!(!saw(&mut strangers, SMALL, nonce, COUNTED), "{nonce}: the other one may stop yet");
        }
        assert!(!saw(&mut strangers, SMALL, 100, COUNTED + LATER - 1));
        assert!(saw(&mut strangers, SMALL, 101, COUNTED + LATER));
    }

    #[test]
    fn the_smaller_tag_goes_on_where_its_own_get_into_blocks() {
        for (ours, seen, stops) in [(SMALL, ALWAYS as u64, false), (LARGE, 1, true)] {
            let mut strangers = begun(0);
            for nonce in 0..seen {
                assert!(!saw(&mut strangers, ours, nonce, COUNTED));
            }
            strangers.got_through(ours);
            assert_eq!(saw(&mut strangers, ours, 100, COUNTED + LATER), stops, "the other one sees them");
        }
    }

    #[test]
    fn a_tag_that_other_software_has_by_chance_does_not_count() {
        let mut strangers = begun(0);
        for nonce in 0..4 {
            assert!(!saw(&mut strangers, LARGE, nonce, COUNTED));
            strangers.discard(SMALL);
        }
    }

    #[test]
    fn few_nonces_make_the_smaller_tag_not_stop() {
        let mut strangers = begun(0);
        for nonce in 1..ALWAYS as u64 {
            assert!(!saw(&mut strangers, SMALL, nonce, COUNTED));
        }
        assert!(!saw(&mut strangers, SMALL, 100, COUNTED + LATER), "one too few were seen before");
    }

    #[test]
    fn what_was_sent_long_ago_makes_nobody_stop_however_late_it_is_seen() {
        let mut strangers = begun(0);
        let now = COUNTED + COUNTS;
        for nonce in 0..10 {
            assert!(!strangers.saw(LARGE, Stranger { tag: SMALL, nonce, time: COUNTED }, now));
        }
        assert!(!strangers.saw(LARGE, Stranger { tag: SMALL, nonce: 10, time: now }, now));
        assert!(strangers.saw(LARGE, Stranger { tag: SMALL, nonce: 11, time: now }, now));
    }

    #[test]
    fn a_start_at_a_time_that_was_forged_is_mended() {
        let mut strangers = Strangers::default();
        strangers.begin(0, u64::MAX);
        assert!(!saw(&mut strangers, LARGE, 0, COUNTED));
        strangers.mend_start(BEGAN);
        strangers.mend_start(COUNTED);
        assert!(!saw(&mut strangers, LARGE, 1, COUNTED));
        assert!(saw(&mut strangers, LARGE, 2, COUNTED));
    }
}
