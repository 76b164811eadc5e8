//! The chain from outside: as its clients use it, beside anvil, across restarts and kills.
#![expect(clippy::unwrap_used, reason = "a test stops where something is not as it must be")]

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod crosscheck;
mod events;
mod mining;
mod restart;
mod roots;
mod server;
