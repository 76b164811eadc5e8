//! `bourse`: the one binary. It knows every role, and is the only place that prints.
//!
//! Words go to stderr, data to stdout. Exit codes are in [`failure::Code`].

mod args;
mod asset;
mod assets;
mod bench;
mod buy;
mod chain_command;
mod chain_status;
mod contracts;
mod demo;
mod failure;
mod funds;
mod keyring;
mod names;
mod network;
mod network_file;
mod observer;
mod offers;
mod output;
mod publish;
mod ready;
mod report;
mod role_commands;
mod run;
mod services;
mod shutdown;
mod task;
mod turn;
mod up;
mod waits;

use clap::Parser;
use std::process::ExitCode;

/// Hashes that are remembered, 128 bytes each: the usual number takes 16 MiB.
const HASHES: usize = 1 << 13;

fn main() -> ExitCode {
    // One that is made already is as good.
    let _ = bourse_chain::alloy::primitives::utils::init_keccak_cache(HASHES);
    let arguments = args::Arguments::parse();
    output::start_log(arguments.verbose);
    allow_many_files();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::report(&eyre::Report::new(error).wrap_err("cannot start the runtime")),
    };
    let outcome = runtime.block_on(arguments.command.execute());
    // What still runs after an error must not keep the process alive.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

/// As many open files as the system grants: else some hundred idle connections to one port would leave none for the rest.
fn allow_many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What is refused stays as it was.
    let _ = setrlimit(Resource::Nofile, limit);
}
