//! A worker against the embedded chain with the real contracts, a scheduler and a store that the test plays.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod assignments;
mod crashes;
mod disk;
mod failures;
mod link;
mod market;
mod pool;
mod starting;
mod store;
mod world;
