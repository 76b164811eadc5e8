//! How a run ended, and what came of it.

use bourse_protocol::replicate::EXITED;
use std::{fmt, time::Duration};

/// How a run ended. All of them are facts about the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The app ended by itself. A code other than 0 is its way to say that it failed.
    Exited {
        /// Exit code.
        code: i32,
    },
    /// The app did what a module cannot: divided by zero, left its memory, reached `unreachable`, nested too deep.
    Trapped {
        /// What it did.
        reason: String,
    },
    /// The app burned all its fuel.
    OutOfFuel {
        /// Fuel it had.
        limit: u64,
    },
    /// The app asked for more memory than it may have.
    OutOfMemory {
        /// Bytes it may have.
        limit: usize,
    },
    /// The app took too long.
    TimedOut {
        /// Time it had.
        limit: Duration,
    },
    /// The app wrote too much.
    OutputTooLarge {
        /// Which limit it reached, in words.
        limit: String,
    },
    /// What should be the app is not a WASI preview 1 command.
    InvalidModule {
        /// What is wrong with it.
        reason: String,
    },
    /// Whoever started the run stopped it.
    Cancelled,
}

impl Outcome {
    /// Whether the app ended by itself with code 0.
    pub fn is_success(&self) -> bool {
        *self == Self::Exited { code: 0 }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "{EXITED}{code}"),
            Self::Trapped { reason } => write!(f, "app trapped: {reason}"),
            Self::OutOfFuel { limit } => write!(f, "app used up its {limit} units of fuel"),
            Self::OutOfMemory { limit } => write!(f, "app asked for more than its {} MiB of memory", limit >> 20),
            Self::TimedOut { limit } => write!(f, "app did not end within {} s", limit.as_secs_f64()),
            Self::OutputTooLarge { limit } => write!(f, "app wrote more than the limit of {limit}"),
            Self::InvalidModule { reason } => write!(f, "app is not a WASI preview 1 command: {reason}"),
            Self::Cancelled => f.write_str("app was stopped"),
        }
    }
}

/// What the app printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Console {
    /// The first bytes, up to the limit.
    pub bytes: Vec<u8>,
    /// Bytes that came after, and were dropped.
    pub dropped: u64,
}

impl Console {
    pub(super) fn append(&mut self, bytes: &[u8], limit: usize) {
        let keep = bytes.len().min(limit.saturating_sub(self.bytes.len()));
        self.bytes.extend_from_slice(&bytes[..keep]);
        self.dropped += (bytes.len() - keep) as u64;
    }

    /// The text, with anything that is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Standard output.
    pub stdout: Console,
    /// Standard error.
    pub stderr: Console,
    /// Fuel burned. After a time-out or a cancellation: what the module had accounted for when it last called out.
    pub fuel_used: u64,
    /// Seconds from the call to the end, compiling included.
    pub seconds: f64,
}
