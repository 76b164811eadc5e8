//! A failure that every honest machine sees alike is a result like another: workers vote on it, are paid for it, and
//! the requester learns at once what is wrong instead of waiting for a refund. Source: middleware.md §4.6, §4.8.
//!
//! Invariant: the bytes depend on the deal alone, never on the machine: no path, no time, no address of memory.

use crate::{
    computed::OUTPUT_FOLDER,
    replicate::{Cause, CauseCode},
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Name of the file in [`OUTPUT_FOLDER`] that takes the place of the result.
pub const FILE_NAME: &str = "error.json";
/// Longest message, in characters; what an app or an asset's owner wrote may be part of it.
pub const MAX_MESSAGE: usize = 500;
/// Largest `error.json`, in bytes.
pub const MAX_FILE: usize = 8 * 1024;

/// What went wrong, alike on every machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// What kind.
    #[serde(rename = "error")]
    code: CauseCode,
    /// For people.
    message: String,
}

impl Failure {
    /// A failure in its canonical form: control characters become spaces, a long message is cut.
    pub fn new(code: CauseCode, message: impl AsRef<str>) -> Self {
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        Self { code, message: message.as_ref().chars().take(MAX_MESSAGE).map(printable).collect() }
    }

    /// The bytes of `error.json`: what workers vote on.
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings always serialise")
    }

    /// Reads a downloaded result; `None` if it is not the canonical form of a failure.
    pub fn read(result: &[u8]) -> Option<Self> {
        if result.len() > MAX_FILE {
            return None;
        }
        let failure: Self = serde_json::from_slice(result).ok()?;
        (failure.write() == result).then_some(failure)
    }

    /// The `computed.json` that names `error.json` as the result.
    pub fn computed_json() -> Vec<u8> {
        format!(r#"{{"deterministic-output-path":"{OUTPUT_FOLDER}/{FILE_NAME}"}}"#).into_bytes()
    }

    /// What kind.
    pub fn code(&self) -> CauseCode {
        self.code
    }

    /// The same as a cause in reports.
    pub fn cause(&self) -> Cause {
        Cause::new(self.code, &self.message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::computed::{Plan, parse};

    #[test]
    fn the_bytes_are_fixed() {
        let failure = Failure::new(CauseCode::AppBadChecksum, "checksum\nis\u{7} wrong");
        assert_eq!(failure.write(), br#"{"error":"APP_BAD_CHECKSUM","message":"checksum is  wrong"}"#);
        assert_eq!(Failure::read(&failure.write()), Some(failure));
    }

    #[test]
    fn other_results_are_no_failures() {
        for text in [
            r#"{"price":1}"#,
            r#"{"error":"OOPS","message":"x"}"#,
            r#"{ "error":"UNKNOWN","message":"x"}"#,
            r#"{"error":"UNKNOWN","message":"x","more":1}"#,
            "",
        ] {
            assert_eq!(Failure::read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn long_messages_stay_readable() {
        let failure = Failure::new(CauseCode::AppComputeFailed, "\u{1f600}\"".repeat(MAX_MESSAGE));
        assert!(failure.write().len() <= MAX_FILE);
        assert_eq!(Failure::read(&failure.write()), Some(failure));
    }

    #[test]
    fn its_computed_json_names_the_file() {
        let Ok(Plan::Output(path)) = parse(&Failure::computed_json()) else { panic!("not a path") };
        assert_eq!(path.to_string(), "/iexec_out/error.json");
    }
}
