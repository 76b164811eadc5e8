//! How fast a worker may talk, and how fast people may ask: a bucket of tokens that refills with time.

use std::time::Duration;

/// Messages at once.
const BURST: u64 = 512;
/// Messages per second, for ever. An honest worker sends about a dozen for each task, of which there may be some each second.
/// As many questions over HTTP cost the loop some hundredths of its time.
const RATE: u64 = 200;

/// Tokens of one connection, of one address or of all who ask, in thousandths.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: u64,
    refilled: u64,
    /// It holds and gains so many times the usual.
    size: u64,
}

impl Bucket {
    /// An empty bucket has a token again after this time.
    pub(crate) const REFILL: Duration = Duration::from_millis(1000 / RATE);

    /// A full one, at `now` in milliseconds.
    pub(crate) fn full(now: u64) -> Self {
        Self::large(1, now)
    }

    /// A full one of so many times the usual size.
    pub(crate) fn large(size: u64, now: u64) -> Self {
        Self { tokens: size * BURST * 1000, refilled: now, size }
    }

    /// Whether it is full by now: then it tells nothing.
    pub(crate) fn is_full(&self, now: u64) -> bool {
        self.after(now) == self.size * BURST * 1000
    }

    fn after(&self, now: u64) -> u64 {
        let gained = now.saturating_sub(self.refilled).saturating_mul(RATE * self.size);
        self.tokens.saturating_add(gained).min(self.size * BURST * 1000)
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: u64) -> bool {
        self.tokens = self.after(now);
        self.refilled = now.max(self.refilled);
        match self.tokens.checked_sub(1000) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_does_not() {
        let mut bucket = Bucket::full(0);
        assert!((0..BURST).all(|_| bucket.take(0)));
        assert!(!bucket.take(0));
        assert!(bucket.take(1000 / RATE));
        assert!(!bucket.take(1000 / RATE));
        assert_eq!((0..10_000).filter(|_| bucket.take(1_000_000)).count() as u64, BURST);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_away() {
        let mut bucket = Bucket::full(10_000);
        (0..BURST).for_each(|_| assert!(bucket.take(10_000)));
        assert!(!bucket.take(5_000) && !bucket.take(10_000));
    }
}
