//! How commands fail: one error in words on stderr, and an exit code that scripts can rely on.

use crate::output;
use std::{fmt, process::ExitCode};

/// Exit codes. 2 is clap's, for arguments that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Something outside failed: a node, a disk, a port.
    Failed = 1,
    /// The command cannot be done as asked; nothing was sent.
    Refused = 3,
    /// The computation ended without a good result.
    Computation = 4,
    /// Stopped by Ctrl-C; what was sent stays sent.
    Interrupted = 130,
}

/// An error that has an exit code of its own.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// What was asked cannot be done; nothing was sent. The text names the thing, the reason and the next step.
pub(crate) fn refused(text: impl Into<String>) -> eyre::Report {
    Failure { code: Code::Refused, text: text.into() }.into()
}

/// The computation ended without a good result.
pub(crate) fn computation(text: impl Into<String>) -> eyre::Report {
    Failure { code: Code::Computation, text: text.into() }.into()
}

/// Stopped by the user.
pub(crate) fn interrupted(text: impl Into<String>) -> eyre::Report {
    Failure { code: Code::Interrupted, text: text.into() }.into()
}

/// Prints an error with its causes, and gives its exit code.
pub(crate) fn report(error: &eyre::Report) -> ExitCode {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    output::say(&format!("error: {}", joined(&causes)));
    let code = error.chain().find_map(|e| e.downcast_ref::<Failure>()).map_or(Code::Failed, |f| f.code);
    ExitCode::from(code as u8)
}

/// The causes in one line, without what a wrapper says again.
fn joined(causes: &[String]) -> String {
    let mut text = String::new();
    for cause in causes.iter().filter(|c| !c.is_empty()) {
        match text.as_str() {
            "" => text.push_str(cause),
            t if t.contains(cause.as_str()) => {}
            _ => text = format!("{text}: {cause}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_each_other_once() {
        let causes = ["cannot start", "disk full", "disk full"].map(String::from);
        assert_eq!(joined(&causes), "cannot start: disk full");
    }
}
