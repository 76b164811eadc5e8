//! The rules of the market, and its vocabulary: ids, money, orders, consensus, task and replicate states, messages.
//!
//! Pure: no I/O, no clock, no randomness, no async. Time is an argument. What the contracts enforce about money
//! and deadlines is stated here too, and tested against them on the same inputs.

pub mod abi;
pub mod api;
pub mod book;
pub mod computed;
pub mod consensus;
pub mod deal;
pub mod failure;
pub mod ids;
pub mod ipfs;
pub mod link;
pub mod money;
pub mod orders;
pub mod outlook;
pub mod params;
pub mod replicate;
pub mod reward;
pub mod signature;
pub mod task;

pub use alloy_primitives::{Address, B256, Bytes, U256};
