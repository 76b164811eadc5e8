//! The built binary as its users see it: exit codes, words, files, and what is on chain afterwards.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests")]

mod anvil;
mod apps;
mod bench;
mod chain_status;
mod crashes;
mod demo;
mod deploy;
mod disk;
mod faults;
mod layers;
mod network;
mod process;
mod refusals;
mod replay;
mod roles;
mod run;
mod up;
mod waits;
