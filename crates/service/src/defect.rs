//! Defects that are planted on purpose, so that the simulation can show that it notices them.
//!
//! Only the simulation's build knows them (feature `defects`): in the product every question is answered "no" at
//! compile time.

/// One of the mistakes that systems of this kind have made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// What a node says of a block's logs is believed, though a filter may forget one of several.
    FilterTrusted,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::FilterTrusted];
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
