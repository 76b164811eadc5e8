//! Defects that are planted on purpose, so that the simulation can show that it notices them.
//!
//! Only the simulation's build knows them (feature `defects`): in the product every question is answered "no" at
//! compile time.

/// One of the mistakes that systems of this kind have made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// A transaction that gets lost is not handed to the node again.
    NoRebroadcast,
    /// The cursor is saved before the tasks that were found below it.
    CursorBeforeTasks,
    /// What a node says of logs is believed, though the block's bloom says otherwise.
    FilterTrusted,
    /// The next nonce is what the chain shows, whatever is on its way.
    NonceReused,
    /// A worker that was asked for its result is waited for without end.
    UploadLeaseNeverEnds,
    /// Work of a worker that is gone is not given to another.
    SilentWorkersKept,
    /// Blocks that left the chain are not noticed.
    ReorgIgnored,
    /// After a reconnect nothing is said again.
    NoReplay,
    /// A task that cannot finish is left to others.
    NoClaim,
    /// A vote whose winners stay silent is not reopened.
    NoReopen,
    /// A worker reveals only when it is told to.
    RevealOnlyWhenTold,
    /// The cap on the gas price is passed when it takes long.
    CapPassed,
    /// A refusal by the node counts as the outcome.
    NodeBelieved,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::NoRebroadcast,
        Self::CursorBeforeTasks,
        Self::FilterTrusted,
        Self::NonceReused,
        Self::UploadLeaseNeverEnds,
        Self::SilentWorkersKept,
        Self::ReorgIgnored,
        Self::NoReplay,
        Self::NoClaim,
        Self::NoReopen,
        Self::RevealOnlyWhenTold,
        Self::CapPassed,
        Self::NodeBelieved,
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
