//! What was injected and what came of it, counted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// A kind of fault. A run that never meets one of them proves nothing about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Reorg,
    HeadGoesBack,
    TimeForged,
    NodeLags,
    RpcError,
    RpcTimeout,
    TransactionLost,
    TransactionDelayed,
    TransactionDoubled,
    ReplyLost,
    EventsMissing,
    EventsDoubled,
    FeeSpike,
    SchedulerCrash,
    DatabaseLost,
    WorkerCrash,
    WorkerVanishes,
    SlowWorker,
    DiskFull,
    MessageLost,
    MessageDoubled,
    MessageReordered,
    ConnectionCut,
    Liar,
    Collusion,
    OrderClosed,
    ClosedTooLate,
    Withdrawal,
    WithdrawnTooLate,
    UploadFails,
    UploadHangs,
    RevealerVanishes,
    /// A result that is to be pushed to a contract.
    Callback,
    /// A task that no worker can do.
    FitsNobody,
    /// A worker that tells the scheduler what is not so.
    LiesOnLink,
    /// Only in the replay of 2018.
    NodeAstray,
}

impl Fault {
    /// What the worlds of many seeds must meet.
    pub(crate) const ALL: [Self; 35] = [
        Self::Reorg,
        Self::HeadGoesBack,
        Self::TimeForged,
        Self::NodeLags,
        Self::RpcError,
        Self::RpcTimeout,
        Self::TransactionLost,
        Self::TransactionDelayed,
        Self::TransactionDoubled,
        Self::ReplyLost,
        Self::EventsMissing,
        Self::EventsDoubled,
        Self::FeeSpike,
        Self::SchedulerCrash,
        Self::DatabaseLost,
        Self::WorkerCrash,
        Self::WorkerVanishes,
        Self::SlowWorker,
        Self::DiskFull,
        Self::MessageLost,
        Self::MessageDoubled,
        Self::MessageReordered,
        Self::ConnectionCut,
        Self::Liar,
        Self::Collusion,
        Self::OrderClosed,
        Self::ClosedTooLate,
        Self::Withdrawal,
        Self::WithdrawnTooLate,
        Self::UploadFails,
        Self::UploadHangs,
        Self::RevealerVanishes,
        Self::Callback,
        Self::FitsNobody,
        Self::LiesOnLink,
    ];
}

/// Counts of one run, or of many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Mutex<BTreeMap<Fault, u64>>>);

impl Tally {
    pub(crate) fn count(&self, fault: Fault) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(fault).or_default() += 1;
    }

    /// How often any of these happened.
    pub(crate) fn sum(&self, faults: &[Fault]) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        faults.iter().filter_map(|fault| counts.get(fault)).sum()
    }

    pub(crate) fn counts(&self) -> BTreeMap<Fault, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
