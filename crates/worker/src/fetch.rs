//! Getting apps, datasets and input files onto the disk: streamed, limited, checked, and kept for the next task.
//!
//! Invariant: a file appears under its name only when its bytes have passed every check and are safely on disk.

use bourse_protocol::{B256, ipfs};
use sha2::{Digest, Sha256};
use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::io::AsyncWriteExt;
use url::Url;

mod public;

/// A server that says nothing for so long is given up.
const IDLE: Duration = Duration::from_secs(30);
/// No download takes longer, however steadily it drips.
const TOTAL: Duration = Duration::from_secs(6 * 3600);

/// Why a file is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nobody or nothing answered properly. Later may be better.
    #[error("{what} could not be read: {reason}")]
    Temporary {
        /// Link or URL.
        what: String,
        /// What happened.
        reason: String,
    },
    /// The server has no such file.
    #[error("{what} is not there: {reason}")]
    Absent {
        /// Link or URL.
        what: String,
        /// The server's status.
        reason: String,
    },
    /// This worker does not fetch such a file.
    #[error("{what} is not fetched by this worker: {reason}")]
    Unwanted {
        /// Link or URL.
        what: String,
        /// Its rule.
        reason: String,
    },
    /// The bytes are not those that were promised on chain. Every machine sees the same.
    #[error("{what} has checksum {found}, and {expected} stands on chain: publish it again")]
    WrongChecksum {
        /// Link or URL.
        what: String,
        /// As on chain.
        expected: B256,
        /// As received.
        found: B256,
    },
    /// The disk did not take it.
    #[error("write {path}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Where a file is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Through the gateway, and checked to be that content.
    Ipfs(ipfs::Cid),
    /// Directly.
    Http(Url),
}

impl Source {
    fn name(&self) -> String {
        match self {
            Self::Ipfs(cid) => cid.link(),
            Self::Http(url) => url.to_string().chars().take(200).collect(),
        }
    }
}

/// A file that is needed.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Where it lies.
    pub(crate) source: Source,
    /// Its sha2-256, if it is known.
    pub(crate) checksum: Option<B256>,
    /// The most bytes that are taken.
    pub(crate) limit: u64,
}

impl Wanted {
    /// The name in the cache of a file whose content is known beforehand.
    fn key(&self) -> Option<String> {
        match (&self.source, self.checksum) {
            (_, Some(checksum)) => Some(format!("{checksum:x}")),
            (Source::Ipfs(cid), None) => Some(cid.to_string()),
            (Source::Http(_), None) => None,
        }
    }
}

/// Downloads, with a cache on disk.
#[derive(Debug)]
pub(crate) struct Fetcher {
    http: reqwest::Client,
    folder: PathBuf,
    /// Bytes that the cache may hold.
    limit: u64,
    /// Whether URLs may lead into private networks.
    private_urls: bool,
    counter: AtomicU64,
}

impl Fetcher {
    /// A cache in `folder`, emptied of what an earlier life left unfinished.
    pub(crate) fn open(folder: PathBuf, limit: u64, private_urls: bool) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "part") {
                std::fs::remove_file(path)?;
            }
        }
        Ok(Self { http: bourse_service::http::client(IDLE), folder, limit, private_urls, counter: AtomicU64::new(0) })
    }

    /// Puts the file at `target`, from the cache or through `gateway`. The two share their bytes: `target` is only read.
    pub(crate) async fn fetch(&self, gateway: Option<&str>, wanted: &Wanted, target: &Path) -> Result<(), Error> {
        let key = wanted.key();
        if let Some(key) = &key
            && self.link(key, target)?
        {
            return Ok(());
        }
        let part = self.folder.join(format!("{}.part", self.counter.fetch_add(1, Ordering::Relaxed)));
        let fetched = match self.download(gateway, wanted, &part).await {
            Ok(size) => self.settle(key.as_deref(), size, &part, target),
            Err(error) => Err(error),
        };
        // Renamed if all went well.
        let _ = std::fs::remove_file(&part);
        fetched
    }

    fn link(&self, key: &str, target: &Path) -> Result<bool, Error> {
        match std::fs::hard_link(self.folder.join(key), target) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::Disk { path: target.to_owned(), source }),
        }
    }

    fn settle(&self, key: Option<&str>, size: u64, part: &Path, target: &Path) -> Result<(), Error> {
        let disk = |source| Error::Disk { path: target.to_owned(), source };
        match key.filter(|_| size <= self.limit) {
            None => std::fs::rename(part, target).map_err(disk),
            Some(key) => {
                self.make_room(size).map_err(disk)?;
                std::fs::hard_link(part, target).map_err(disk)?;
                std::fs::rename(part, self.folder.join(key)).map_err(disk)
            }
        }
    }

    /// Forgets the oldest files until `size` more bytes fit.
    fn make_room(&self, size: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let (path, metadata) = entry.and_then(|e| Ok((e.path(), e.metadata()?)))?;
            if path.extension().is_none() {
                files.push((metadata.modified()?, metadata.len(), path));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, freed, path) in files {
            if total.saturating_add(size) <= self.limit {
                break;
            }
            std::fs::remove_file(path)?;
            total -= freed;
        }
        Ok(())
    }

    async fn download(&self, gateway: Option<&str>, wanted: &Wanted, part: &Path) -> Result<u64, Error> {
        let what = wanted.source.name();
        let response = match &wanted.source {
            Source::Ipfs(cid) => {
                let gateway = gateway.ok_or_else(|| temporary(&what, "the scheduler has named no gateway yet"))?;
                self.http.get(format!("{}{}", gateway.trim_end_matches('/'), cid.link()))
            }
            Source::Http(url) if self.private_urls => self.http.get(url.clone()),
            Source::Http(url) => public::client(url).await?.get(url.clone()),
        };
        let response = response.timeout(TOTAL).send();
        let response = tokio::time::timeout(IDLE, response).await.map_err(|_| temporary(&what, "no answer in time"))?;
        let response = response.map_err(|e| temporary(&what, &plain(e)))?;
        check_status(&what, response.status())?;
        if response.content_length().is_some_and(|length| length > wanted.limit) {
            return Err(too_large(&what, wanted.limit));
        }
        self.receive(&what, response, wanted, part).await
    }

    async fn receive(
        &self,
        what: &str,
        mut response: reqwest::Response,
        wanted: &Wanted,
        part: &Path,
    ) -> Result<u64, Error> {
        let disk = |source| Error::Disk { path: part.to_owned(), source };
        let mut file = tokio::fs::File::create(part).await.map_err(disk)?;
        let (mut size, mut hash, mut tree) = (0u64, Sha256::new(), ipfs::Builder::default());
        loop {
            let chunk = tokio::time::timeout(IDLE, response.chunk()).await;
            let chunk = chunk.map_err(|_| temporary(what, "the server went silent"))?;
            let Some(chunk) = chunk.map_err(|e| temporary(what, &plain(e)))? else { break };
            size += chunk.len() as u64;
            if size > wanted.limit {
                return Err(too_large(what, wanted.limit));
            }
            hash.update(&chunk);
            tree.push(&chunk, &mut |_| ());
            file.write_all(&chunk).await.map_err(disk)?;
        }
        file.flush().await.map_err(disk)?;
        file.sync_all().await.map_err(disk)?;
        check_content(what, wanted, B256::new(hash.finalize().into()), tree.finish(&mut |_| ()).cid)?;
        Ok(size)
    }
}

fn check_status(what: &str, status: reqwest::StatusCode) -> Result<(), Error> {
    match status.as_u16() {
        200 => Ok(()),
        400..=499 if status != 408 && status != 429 => {
            Err(Error::Absent { what: what.into(), reason: format!("the server answers {status}") })
        }
        _ => Err(temporary(what, &format!("the server answers {status}"))),
    }
}

/// A gateway that gives other content than what it was asked for is broken: that says nothing about the file.
fn check_content(what: &str, wanted: &Wanted, found: B256, cid: ipfs::Cid) -> Result<(), Error> {
    match &wanted.source {
        Source::Ipfs(expected) if *expected != cid => {
            return Err(temporary(what, &format!("the gateway gave other content, {cid}")));
        }
        Source::Ipfs(_) | Source::Http(_) => {}
    }
    match wanted.checksum {
        Some(expected) if expected != found => Err(Error::WrongChecksum { what: what.into(), expected, found }),
        _ => Ok(()),
    }
}

fn temporary(what: &str, reason: &str) -> Error {
    Error::Temporary { what: what.into(), reason: reason.into() }
}

fn too_large(what: &str, limit: u64) -> Error {
    Error::Unwanted { what: what.into(), reason: format!("it is larger than {limit} bytes") }
}

/// The innermost cause, without the URL that the text around names.
fn plain(error: reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
