//! The market on a chain with the real contracts.

#![expect(clippy::unwrap_used, reason = "tests: a failed step is a failed test")]

mod book;
mod follow;
mod gateway;
mod matching;
mod support;
