//! One life of a role, from its start to its crash: nothing that it does after the crash has any effect.

use crate::{
    chance::Chance,
    tally::{Fault, Tally},
};
use bourse_service::journal::{Moment, NoRoom};
use std::{
    panic::panic_any,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::sync::Notify;

/// What a role panics with when it crashes in the middle of a write.
pub(crate) struct Crash;

/// A life. Every point at which it can end is numbered: before and after each commit, each question to a node, and each
/// transaction that is handed over.
#[derive(Clone)]
pub(crate) struct Life {
    inner: Arc<Inner>,
}

struct Inner {
    alive: AtomicBool,
    points: AtomicU64,
    crash_at: Option<u64>,
    ended: Notify,
    /// In parts of 10,000 per commit.
    disk_full: u32,
    chance: Chance,
    tally: Tally,
}

impl Life {
    /// Ends at point `crash_at`, if it gets there.
    pub(crate) fn new(crash_at: Option<u64>, disk_full: u32, chance: Chance, tally: Tally) -> Self {
        let (alive, points) = (AtomicBool::new(true), AtomicU64::new(0));
        Self { inner: Arc::new(Inner { alive, points, crash_at, ended: Notify::new(), disk_full, chance, tally }) }
    }

    /// Ends it now.
    pub(crate) fn end(&self) {
        self.inner.alive.store(false, Ordering::SeqCst);
        self.inner.ended.notify_one();
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) {
        self.inner.ended.notified().await;
    }

    /// Passes one point. `false`: it is dead.
    pub(crate) fn passes(&self) -> bool {
        let point = self.inner.points.fetch_add(1, Ordering::SeqCst);
        if self.inner.crash_at == Some(point) && self.inner.alive.load(Ordering::SeqCst) {
            self.end();
        }
        self.inner.alive.load(Ordering::SeqCst)
    }

    /// Looks on at a write.
    pub(crate) fn witness(&self, moment: Moment) -> Result<(), NoRoom> {
        if !self.passes() {
            panic_any(Crash);
        }
        if moment == Moment::BeforeCommit && self.inner.chance.hits(self.inner.disk_full) {
            self.inner.tally.count(Fault::DiskFull);
            return Err(NoRoom);
        }
        Ok(())
    }
}
