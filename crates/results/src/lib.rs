//! Keeps results, apps and datasets by the name of their content, and gives them to whoever asks: an IPFS gateway and
//! the `add` call of an IPFS node, over plain files.
//!
//! What it does not do: speak to other IPFS nodes, build directories, delete. Invariant: what leaves the store hashes to
//! the name that was asked for, and what [`Upload::finish`] has named survives a crash.

mod http;
mod store;

pub use http::{Config, router};
pub use store::{Content, Error, Store, Upload};
