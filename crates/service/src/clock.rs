//! Time, injected: the wall's in production, a test's own in tests. The only place that asks the system.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Says what time it is.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's clock.
    #[default]
    Wall,
    /// Milliseconds since the epoch, moved by whoever holds a clone.
    Virtual(Arc<AtomicU64>),
    /// The time of tokio's runtime, which a simulation pauses: so many milliseconds since the epoch at that instant.
    Runtime(tokio::time::Instant, u64),
}

impl Clock {
    /// A clock that stands at `seconds` since the epoch until it is moved.
    pub fn virtual_at(seconds: u64) -> Self {
        Self::Virtual(Arc::new(AtomicU64::new(seconds.saturating_mul(1000))))
    }

    /// Moves a virtual clock; the others go by themselves.
    pub fn advance(&self, by: Duration) {
        match self {
            Self::Wall | Self::Runtime(..) => {}
            Self::Virtual(millis) => {
                millis.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
            }
        }
    }

    /// Milliseconds since the epoch.
    pub fn millis(&self) -> u64 {
        match self {
            #[expect(clippy::disallowed_methods, reason = "this is the clock")]
            Self::Wall => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }
            Self::Virtual(millis) => millis.load(Ordering::SeqCst),
            Self::Runtime(origin, millis) => {
                millis.saturating_add(u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX))
            }
        }
    }

    /// Microseconds since the epoch, for measurements; a virtual clock knows milliseconds only.
    pub fn micros(&self) -> u64 {
        match self {
            #[expect(clippy::disallowed_methods, reason = "this is the clock")]
            Self::Wall => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
            }
            Self::Virtual(_) | Self::Runtime(..) => self.millis().saturating_mul(1000),
        }
    }

    /// Whole seconds since the epoch: the chain's unit.
    pub fn seconds(&self) -> u64 {
        self.millis() / 1000
    }
}

/// Seconds since the epoch as ISO 8601 in UTC, with milliseconds, such as `2026-11-20T09:57:30.605Z`.
pub fn iso8601(millis: u64) -> String {
    let (days, rest) = (millis / 86_400_000, millis % 86_400_000);
    let (y, m, d) = civil(days);
    let (h, min, s, ms) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60, rest % 1000);
    format!("{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}.{ms:03}Z")
}

/// The Gregorian date of a day since 1970-01-01, counting years from March so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_clock_moves_only_when_told() {
        let clock = Clock::virtual_at(100);
        let seen = clock.clone();
        clock.advance(Duration::from_millis(2500));
        assert_eq!((seen.seconds(), seen.millis()), (102, 102_500));
    }

    #[test]
    fn dates_are_written_as_iso_8601() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_795_168_650, "2026-11-20T09:57:30.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso8601(seconds * 1000), text);
        }
    }
}
