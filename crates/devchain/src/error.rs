//! Why a chain cannot be opened or served.

use crate::store::StoreError;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Why a chain cannot be opened or served; the text names the thing, the reason and the next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data folder cannot be created or written.
    #[error("use the chain folder {}: {source}; check that it is a writable folder", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the folder open.
    #[error("open the chain in {}: another process is using it; stop that one or choose another folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The folder belongs to a chain with another id.
    #[error(
        "open the chain in {}: it has chain id {found}, not {expected}; choose another folder or the right chain id",
        path.display()
    )]
    ChainId {
        /// The file.
        path: PathBuf,
        /// The id it was created with.
        found: u64,
        /// The id that was asked for.
        expected: u64,
    },
    /// Another release wrote the folder.
    #[error(
        "open the chain in {}: its layout is number {found}, this release reads {expected}; choose another folder",
        path.display()
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// Layout in the file.
        found: u64,
        /// Layout this release reads.
        expected: u64,
    },
    /// The files are damaged.
    #[error("open the chain in {}: the file is damaged ({reason}); restore a copy or choose another folder", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk refuses to read or write.
    #[error("open the chain in {}: {reason}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        reason: String,
    },
    /// The tables cannot be made in memory.
    #[error("create the chain in memory: {0}")]
    Memory(#[source] Opaque),
    /// A setting makes no sense.
    #[error("configure the chain: {0}")]
    Config(&'static str),
    /// The thread that mines on an interval cannot be started.
    #[error("start the mining thread: {0}")]
    Thread(#[source] io::Error),
    /// The server cannot listen.
    #[error("listen on {address}: {source}; choose another port or stop what uses it")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The server may only listen on the loopback interface.
    #[error("listen on {0}: this chain is for one computer; use 127.0.0.1")]
    NotLoopback(SocketAddr),
}

/// A cause that only explains itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Opaque(String);

impl From<StoreError> for Opaque {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

impl From<rusqlite::Error> for Opaque {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

impl Error {
    pub(crate) fn from_store(path: &Path, error: StoreError) -> Self {
        let path = path.to_path_buf();
        match error {
            StoreError::Full => Self::Disk { path, reason: error.to_string() },
            StoreError::Decode(error) => Self::Corrupt { path, reason: error.to_string() },
            StoreError::Sql(error) => match error.sqlite_error_code() {
                Some(code) if is_disk(code) => Self::Disk { path, reason: error.to_string() },
                _ => Self::Corrupt { path, reason: error.to_string() },
            },
        }
    }
}

/// Whether the disk, rather than what is on it, is at fault.
fn is_disk(code: rusqlite::ErrorCode) -> bool {
    use rusqlite::ErrorCode;
    matches!(
        code,
        ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::DiskFull
            | ErrorCode::OutOfMemory
    )
}
