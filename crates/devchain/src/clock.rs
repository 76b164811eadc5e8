//! Where the chain gets the time from: the computer, or a test that advances it by hand.
//!
//! This is the only module of the crate that reads the wall clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A source of time, cheap to clone; every clone of a virtual clock shows the same time.
///
/// The default is the wall clock.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    Wall,
    Virtual(Arc<Virtual>),
}

#[derive(Debug, Default)]
struct Virtual {
    milliseconds: AtomicU64,
    sleepers: Mutex<Vec<Weak<Alarm>>>,
}

impl Clock {
    /// The time of the computer.
    pub const fn wall() -> Self {
        Self(Source::Wall)
    }

    /// A clock that stands still at `seconds` after the Unix epoch until it is told otherwise.
    pub fn virtual_at(seconds: u64) -> Self {
        let milliseconds = AtomicU64::new(seconds.saturating_mul(1000));
        Self(Source::Virtual(Arc::new(Virtual { milliseconds, sleepers: Mutex::default() })))
    }

    /// Seconds since the Unix epoch, rounded down.
    pub fn now(&self) -> u64 {
        self.now_milliseconds() / 1000
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_milliseconds(&self) -> u64 {
        match &self.0 {
            Source::Wall => wall_milliseconds(),
            Source::Virtual(clock) => clock.milliseconds.load(Ordering::SeqCst),
        }
    }

    /// Moves a virtual clock forward. A wall clock is not ours to move: the call is logged and ignored.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.change(|now| now.saturating_add(by));
    }

    /// Sets a virtual clock to `seconds` after the Unix epoch. Ignored, with a log line, on the wall clock.
    pub fn set(&self, seconds: u64) {
        self.change(|_| seconds.saturating_mul(1000));
    }

    fn change(&self, step: impl Fn(u64) -> u64) {
        let Source::Virtual(clock) = &self.0 else {
            tracing::warn!("the wall clock cannot be moved: use Clock::virtual_at");
            return;
        };
        let _ = clock.milliseconds.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| Some(step(now)));
        let mut sleepers = clock.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        sleepers.retain(|alarm| {
            alarm.upgrade().is_some_and(|alarm| {
                alarm.ring();
                true
            })
        });
    }

    /// Blocks the calling thread until this clock shows `until` or the alarm rings for another reason.
    pub(crate) fn sleep_until(&self, until: u64, alarm: &Arc<Alarm>) {
        match &self.0 {
            Source::Wall => {
                let left = until.saturating_sub(wall_milliseconds()).min(3_600_000);
                alarm.wait(Some(Duration::from_millis(left)));
            }
            Source::Virtual(clock) => {
                {
                    let mut sleepers = clock.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
                    if !sleepers.iter().any(|known| known.ptr_eq(&Arc::downgrade(alarm))) {
                        sleepers.push(Arc::downgrade(alarm));
                    }
                }
                if self.now_milliseconds() < until {
                    alarm.wait(None);
                }
            }
        }
    }
}

/// Wakes one sleeping thread. A ring before the sleep is remembered.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Alarm {
    pub(crate) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn wait(&self, at_most: Option<Duration>) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rung = match at_most {
            Some(limit) => {
                let waited = self.changed.wait_timeout_while(rung, limit, |rung| !*rung);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.changed.wait_while(rung, |rung| !*rung).unwrap_or_else(PoisonError::into_inner),
        };
        *rung = false;
    }
}

#[expect(clippy::disallowed_methods, reason = "this module is the clock that the ban points to")]
fn wall_milliseconds() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_virtual_clock_move_together() {
        let clock = Clock::virtual_at(1_000);
        let twin = clock.clone();
        clock.advance(Duration::from_millis(2_500));
        assert_eq!(twin.now(), 1_002);
        twin.set(5);
        assert_eq!(clock.now(), 5);
    }

    #[test]
    fn a_sleeper_wakes_when_the_virtual_clock_moves() {
        let clock = Clock::virtual_at(10);
        let alarm = Arc::new(Alarm::default());
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                while clock.now() < 12 {
                    clock.sleep_until(12_000, &alarm);
                }
            });
            clock.advance(Duration::from_secs(1));
            clock.advance(Duration::from_secs(1));
            sleeper.join().expect("the sleeper returns");
        });
    }
}
