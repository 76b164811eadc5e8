//! The WebAssembly sandbox against small hostile modules, and against the example app.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on says why")]

mod clock;
mod files;
mod limits;
mod option_pricing;
mod rig;
