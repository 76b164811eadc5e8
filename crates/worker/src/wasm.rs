//! The sandbox of an untrusted WebAssembly app: a WASI preview 1 command with two folders and nothing else.
//!
//! The app reads `/iexec_in`, writes `/iexec_out`, prints, and ends. It has no network, no other file, no other process.
//! Time, memory, instructions, files and output are limited before it starts, and reaching a limit is an [`Outcome`],
//! never an [`Error`]: an error is this machine's fault and says nothing about the app.
//!
//! Workers compare results, so nothing that differs between machines reaches the app: its random numbers follow from
//! `IEXEC_TASK_ID`, its clocks from [`Job::started_at`] and its own calls (reading a clock moves it by a microsecond,
//! sleeping moves it without waiting). Not fixed: the order in which a folder lists its files, the times and inode
//! numbers of files, and the bits of a NaN across processor architectures (canonical NaNs would make floating point
//! four times slower).
//!
//! What cannot be interrupted is compiling. The caller's wait is limited, and modules that would take too much are refused
//! beforehand, but the thread goes on to its end, and a module that is not in memory yet waits: one is compiled at a time.

mod compile;
mod complexity;
mod guest;
mod outcome;
pub mod output;
mod run;

pub use outcome::{Console, Outcome, Report};

use bytes::Bytes;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How often a running module gives way, so that a wall limit or a cancellation takes hold within it.
const TICK: Duration = Duration::from_millis(10);

/// What one run may use. A run that reaches a limit ends with the [`Outcome`] of that name.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Time to run, and before that as much to compile; waiting for another module to be compiled does not count.
    /// What fits differs between machines: the deal's category decides.
    pub wall: Duration,
    /// Instructions, roughly: the same module on the same input always burns the same.
    pub fuel: u64,
    /// Linear memory.
    pub memory_bytes: usize,
    /// Bytes written to files in all, and bytes of all files at the end.
    pub output_bytes: u64,
    /// Files and folders created in all.
    pub output_files: u32,
    /// Bytes kept of stdout, and as many of stderr. What comes after is counted and dropped: not an end of the run.
    pub console_bytes: usize,
    /// Size of the module itself.
    pub module_bytes: usize,
}

impl Default for Limits {
    /// Fits a category of 300 s: as much fuel as the option pricing example burns in six minutes (8·10⁹ a second on one core of
    /// a server of 2024), 512 MiB of memory, 256 MiB of output.
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(300),
            fuel: 3_000_000_000_000,
            memory_bytes: 512 << 20,
            output_bytes: 256 << 20,
            output_files: 4_096,
            console_bytes: 64 << 10,
            module_bytes: 32 << 20,
        }
    }
}

/// One run of an app.
#[derive(Clone, Debug)]
pub struct Job {
    /// The module, binary. The caller has checked it against the checksum on chain.
    pub module: Bytes,
    /// Arguments, beginning with the name of the app.
    pub args: Vec<String>,
    /// Environment. `IEXEC_TASK_ID` seeds the random numbers that the app asks the system for.
    pub env: BTreeMap<String, String>,
    /// What the app's clock shows at its start, in Unix seconds: something all workers agree on, such as the deal's start.
    pub started_at: u64,
    /// Seen as `/iexec_in`, read only.
    pub input_dir: PathBuf,
    /// Seen as `/iexec_out`. Must exist; nobody else writes to it meanwhile.
    pub output_dir: PathBuf,
}

/// Why this machine could not run an app. The app is not to blame; another machine, or a retry, may do better.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts say it")]
pub enum Error {
    #[error("open folder {path} for the app")]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("read what the app wrote to {path}")]
    Output { path: PathBuf, source: std::io::Error },
    #[error("write the app's output: the worker's disk is full; free some space or move its data directory")]
    DiskFull,
    #[error("start the WebAssembly engine: {0}")]
    Engine(String),
    #[error("finish the run: its thread died ({0})")]
    Thread(String),
}

/// Compiles and runs modules. One per process, cheap to clone: clones share compiled modules.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
    compiler: compile::Compiler,
    linker: wasmtime::Linker<guest::Guest>,
}

impl Engine {
    /// An engine with an empty cache.
    pub fn new() -> Result<Self, Error> {
        let fault = |error: wasmtime::Error| Error::Engine(error.to_string());
        let compiler = compile::Compiler::new().map_err(fault)?;
        let linker = guest::linker(compiler.engine()).map_err(fault)?;
        Ok(Self(Arc::new(Shared { compiler, linker })))
    }

    /// Runs `job` to its end, or to the first limit it reaches, on a thread of its own.
    ///
    /// Dropping the future, like cancelling, stops the module within a few milliseconds.
    pub async fn run(&self, job: Job, limits: Limits, cancel: CancellationToken) -> Result<Report, Error> {
        let interrupt = Interrupt { engine: self.0.compiler.engine().clone(), token: cancel.child_token() };
        let (shared, token) = (self.0.clone(), interrupt.token.clone());
        let runtime = tokio::runtime::Handle::current();
        let mut thread = tokio::task::spawn_blocking(move || runtime.block_on(run::run(&shared, job, limits, token)));
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                ended = &mut thread => return ended.map_err(|error| Error::Thread(error.to_string()))?,
                _ = tick.tick() => interrupt.engine.increment_epoch(),
            }
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("wasm::Engine")
    }
}

/// Stops the run when its caller is gone: the epoch makes the module give way, the token makes it the last time.
struct Interrupt {
    engine: wasmtime::Engine,
    token: CancellationToken,
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.token.cancel();
        self.engine.increment_epoch();
    }
}
