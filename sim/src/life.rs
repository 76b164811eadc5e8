//! One life of a role, from its start to its crash: nothing that it does after the crash has any effect.

use crate::{
    chance::Chance,
    tally::{Fault, Tally},
};
use bourse_chain::alloy::{primitives::hex, sol_types::SolCall};
use bourse_protocol::abi::IHub;
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
    /// It ends for good at its first reveal.
    ends_at_reveal: bool,
    over: AtomicBool,
    ended: Notify,
    /// In parts of 10,000 per commit.
    disk_full: u32,
    chance: Chance,
    tally: Tally,
}

impl Life {
    /// Ends at point `crash_at`, if it gets there.
    pub(crate) fn new(crash_at: Option<u64>, disk_full: u32, chance: Chance, tally: Tally) -> Self {
        let (alive, points, over) = (AtomicBool::new(true), AtomicU64::new(0), AtomicBool::new(false));
        let (ended, ends_at_reveal) = (Notify::new(), false);
        let inner = Inner { alive, points, crash_at, ends_at_reveal, over, ended, disk_full, chance, tally };
        Self { inner: Arc::new(inner) }
    }

    /// The same before it begins, but it ends for good when it would send its first reveal.
    pub(crate) fn ending_at_reveal(self) -> Self {
        let inner = Arc::into_inner(self.inner).expect("it has not begun");
        Self { inner: Arc::new(Inner { ends_at_reveal: true, ..inner }) }
    }

    /// A transaction is about to be handed over. `false`: its sender is dead.
    pub(crate) fn sends(&self, raw: &str) -> bool {
        if self.inner.ends_at_reveal && raw.contains(&hex::encode(IHub::revealCall::SELECTOR)) {
            self.inner.over.store(true, Ordering::SeqCst);
            self.end();
        }
        self.inner.alive.load(Ordering::SeqCst)
    }

    /// Whether no other life follows.
    pub(crate) fn is_over(&self) -> bool {
        self.inner.over.load(Ordering::SeqCst)
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
