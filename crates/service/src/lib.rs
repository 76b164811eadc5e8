//! What every long-lived role shares: the journal that survives crashes, the HTTP edge, the wire of a link, the clock.
//!
//! Knows no role and no chain. Invariant: what [`journal::Journal::write`] returned `Ok` for is on disk.

pub mod clock;
pub mod defect;
pub mod http;
pub mod journal;
pub mod wire;

pub use tokio_util::sync::CancellationToken;
