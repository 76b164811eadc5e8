//! Defects that are planted on purpose, so that the simulation can show that it notices them.
//!
//! Only the simulation's build knows them (feature `defects`): in the product every question is answered "no" at
//! compile time.

/// One of the mistakes that systems of this kind have made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// What a node says of a block's logs is believed, though a filter may forget one of several.
    FilterTrusted,
    /// Blocks that went away are taken for read: what came of them is not undone.
    UndoMissing,
    /// The cursor is durable before what was read up to it.
    CursorFirst,
    /// A transaction is handed to the nodes once.
    NoRebroadcast,
    /// A price over the cap is paid.
    CapPassed,
    /// What was mined once is never looked at again, though its block may go away.
    MinedForGood,
    /// Who is silent keeps its replicates.
    SilentKept,
    /// A worker's slot is not given back when its replicate ends.
    SlotKept,
    /// A vote that nobody revealed is left alone.
    NoReopen,
    /// A task that cannot finish is left alone.
    NoClaim,
    /// A task is claimed only minutes after it can be.
    ClaimsLate,
    /// What is not finalized by its reveal deadline is not finalized any more.
    NoLateFinalize,
    /// A worker that restarts has forgotten what it had begun.
    RestartForgets,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::FilterTrusted,
        Self::UndoMissing,
        Self::CursorFirst,
        Self::NoRebroadcast,
        Self::CapPassed,
        Self::MinedForGood,
        Self::SilentKept,
        Self::SlotKept,
        Self::NoReopen,
        Self::NoClaim,
        Self::ClaimsLate,
        Self::NoLateFinalize,
        Self::RestartForgets,
    ];
}

#[cfg(feature = "defects")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Defect>> = const { std::cell::Cell::new(None) };
}

/// Plants a defect for this thread, or none.
#[cfg(feature = "defects")]
pub fn plant(defect: Option<Defect>) {
    PLANTED.set(defect);
}

/// Whether `defect` is planted.
#[cfg(feature = "defects")]
pub fn planted(defect: Defect) -> bool {
    PLANTED.get() == Some(defect)
}

/// Whether `defect` is planted: never.
#[cfg(not(feature = "defects"))]
#[inline(always)]
pub const fn planted(_: Defect) -> bool {
    false
}
