//! Getting apps, datasets and input files onto the disk: streamed, limited, checked, and kept for the next task.
//!
//! A download that breaks off, or that a restart ends, goes on at the byte where it was, if its content is known beforehand.
//!
//! Invariants: a file appears under its name only when its bytes have passed every check and are safely on disk; no download
//! takes the room that the worker itself needs.

use crate::machine;
use bourse_protocol::{B256, ipfs};
use part::Part;
use reqwest::{StatusCode, header};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, SystemTime},
};
use url::Url;

mod part;
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
    /// This worker's disk has no room for it now.
    #[error("{what} does not fit on this worker's disk: {reason}")]
    NoRoom {
        /// Link or URL.
        what: String,
        /// What is lacking.
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
    fn link(&self) -> String {
        match self {
            Self::Ipfs(cid) => cid.link(),
            Self::Http(url) => url.to_string(),
        }
    }

    /// For people.
    fn name(&self) -> String {
        self.link().chars().take(200).collect()
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

    /// The name of what is received of it, in part: of this source alone, as another may send slowly, or anything.
    fn part(&self, key: &str) -> String {
        let both = format!("{key} {}", self.source.link());
        format!("{:x}", B256::new(Sha256::digest(both).into()))
    }
}

/// A file that is received, of known content. It stays for the next try.
const PART: &str = "part";
/// A file that is received, of content that nobody has promised: worth nothing to the next try.
const LOOSE: &str = ".tmp";

/// Downloads, with a cache on disk.
#[derive(Debug)]
pub(crate) struct Fetcher {
    http: reqwest::Client,
    folder: PathBuf,
    /// Bytes that the cache may hold, with what was received in part.
    limit: u64,
    /// Bytes of the disk that downloads leave free.
    reserve: u64,
    /// Whether URLs may lead into private networks.
    private_urls: bool,
    /// Parts that are being received: by one task at a time, the others find the file in the cache.
    receiving: Mutex<BTreeMap<String, Weak<Turn>>>,
}

type Turn = tokio::sync::Mutex<()>;

impl Fetcher {
    /// A cache in `folder` of `limit` bytes, emptied of what an earlier life left and nobody can go on with.
    pub(crate) fn open(folder: PathBuf, limit: u64, reserve: u64, private_urls: bool) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.as_os_str().as_encoded_bytes().ends_with(LOOSE.as_bytes()) {
                std::fs::remove_file(path)?;
            }
        }
        let http = bourse_service::http::client(IDLE);
        let reserve = machine::capacity(&folder).map_or(reserve, |all| reserve.min(all / 20));
        let fetcher = Self { http, folder, limit, reserve, private_urls, receiving: Mutex::default() };
        fetcher.make_room(0)?;
        Ok(fetcher)
    }

    /// Puts the file at `target`, from the cache or through `gateway`. The two share their bytes: `target` is only read.
    /// Returns its size.
    pub(crate) async fn fetch(&self, gateway: Option<&str>, wanted: &Wanted, target: &Path) -> Result<u64, Error> {
        self.bring(gateway, wanted, target).await?;
        std::fs::metadata(target).map(|file| file.len()).map_err(|e| disk(target, e))
    }

    async fn bring(&self, gateway: Option<&str>, wanted: &Wanted, target: &Path) -> Result<(), Error> {
        let Some(key) = wanted.key() else {
            let loose = tempfile::Builder::new().suffix(LOOSE).tempfile_in(&self.folder);
            let loose = loose.map_err(|e| disk(&self.folder, e))?.into_temp_path();
            self.download(gateway, wanted, &loose).await?;
            return loose.persist(target).map_err(|e| disk(target, e.error));
        };
        let name = wanted.part(&key);
        let turn = self.turn(&name);
        let _turn = turn.lock().await;
        if self.link(&key, target)? {
            return Ok(());
        }
        // What downloads left that nobody waited for counts too.
        self.make_room(0).map_err(|e| disk(&self.folder, e))?;
        let part = self.folder.join(format!("{name}.{PART}"));
        let fetched = match self.download(gateway, wanted, &part).await {
            Ok(size) => self.settle(&key, size, &part, target),
            Err(error) => Err(error),
        };
        match &fetched {
            Ok(()) | Err(Error::Temporary { .. } | Error::Absent { .. }) => {}
            Err(Error::NoRoom { .. } | Error::Unwanted { .. } | Error::WrongChecksum { .. } | Error::Disk { .. }) => {
                let _ = std::fs::remove_file(&part);
            }
        }
        fetched
    }

    fn turn(&self, part: &str) -> Arc<Turn> {
        let mut receiving = self.receiving();
        receiving.retain(|_, turn| turn.strong_count() > 0);
        let known = receiving.get(part).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let turn = Arc::new(Turn::default());
            receiving.insert(part.to_owned(), Arc::downgrade(&turn));
            turn
        })
    }

    fn receiving(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Weak<Turn>>> {
        self.receiving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, key: &str, target: &Path) -> Result<bool, Error> {
        let linked = unless_gone(std::fs::hard_link(self.folder.join(key), target));
        linked.map(|linked| linked.is_some()).map_err(|e| disk(target, e))
    }

    fn settle(&self, key: &str, size: u64, part: &Path, target: &Path) -> Result<(), Error> {
        let disk = |error| disk(target, error);
        if size > self.limit {
            return std::fs::rename(part, target).map_err(disk);
        }
        self.make_room(size).map_err(disk)?;
        std::fs::hard_link(part, target).map_err(disk)?;
        std::fs::rename(part, self.folder.join(key)).map_err(disk)
    }

    /// Forgets the oldest files until `size` more bytes fit; of what was received in part, half of the room is kept at most.
    /// What is being received is not counted.
    fn make_room(&self, size: u64) -> io::Result<()> {
        self.forget(|_| true, |_| self.limit.saturating_sub(size))
    }

    /// Makes so much room on the disk, if forgetting can: what a task works with takes its room in any case.
    fn free(&self, bytes: u64) -> io::Result<()> {
        self.forget(|file| file.nlink() == 1, |all| all.checked_sub(bytes).unwrap_or(all))
    }

    /// Forgets the oldest of some files until so many bytes of all that they have are left.
    fn forget(&self, some: impl Fn(&Metadata) -> bool, left: impl Fn(u64) -> u64) -> io::Result<()> {
        // Held to the end: nobody may begin with a part that is about to be forgotten.
        let receiving = self.receiving();
        let is_busy = |path: &Path| {
            let name = path.file_stem().and_then(|stem| stem.to_str());
            name.and_then(|name| receiving.get(name)).is_some_and(|turn| turn.strong_count() > 0)
        };
        let (mut files, mut parts) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let path = entry.path();
            // Another task may have renamed it meanwhile.
            let Some(metadata) = unless_gone(entry.metadata())?.filter(&some) else { continue };
            let kind = match path.extension() {
                None => &mut files,
                Some(extension) if extension == PART && !is_busy(&path) => &mut parts,
                Some(_) => continue,
            };
            kind.push((metadata.modified()?, metadata.len(), path));
        }
        forget_oldest(&mut parts, self.limit / 2)?;
        files.append(&mut parts);
        let all = files.iter().map(|(_, size, _)| size).sum();
        forget_oldest(&mut files, left(all))
    }

    /// Receives what `part` lacks. What is judged has come from one server whole, or is right.
    async fn download(&self, gateway: Option<&str>, wanted: &Wanted, part: &Path) -> Result<u64, Error> {
        let what = wanted.source.name();
        loop {
            let ipfs = matches!(wanted.source, Source::Ipfs(_));
            let mut received = Part::open(part, wanted.limit, ipfs).await.map_err(|e| disk(part, e))?;
            let began_with = received.size();
            let mut ends = true;
            if began_with == 0 || check_content(&what, wanted, &received).is_err() {
                ends = self.receive(&what, gateway, wanted, &mut received).await?;
            }
            received.sync().await.map_err(|e| disk(part, e))?;
            let Err(error) = check_content(&what, wanted, &received) else { return Ok(received.size()) };
            std::fs::remove_file(part).map_err(|e| disk(part, e))?;
            match began_with == 0 || received.began_anew() {
                true if ends => return Err(error),
                true => return Err(temporary(&what, "the server does not say where its answer ends")),
                // Its beginning may be another server's, or what a crash of the machine left of it.
                false => {}
            }
        }
    }

    /// Returns whether the server said where its answer ends: if not, a broken connection looks like an end.
    async fn receive(
        &self,
        what: &str,
        gateway: Option<&str>,
        wanted: &Wanted,
        part: &mut Part,
    ) -> Result<bool, Error> {
        let request = match &wanted.source {
            Source::Ipfs(cid) => {
                let gateway = gateway.ok_or_else(|| temporary(what, "the scheduler has named no gateway yet"))?;
                self.http.get(format!("{}{}", gateway.trim_end_matches('/'), cid.link()))
            }
            Source::Http(url) if self.private_urls => self.http.get(url.clone()),
            Source::Http(url) => public::client(url).await?.get(url.clone()),
        };
        let request = match part.size() {
            0 => request,
            from => request.header(header::RANGE, format!("bytes={from}-")),
        };
        let response = tokio::time::timeout(IDLE, request.timeout(TOTAL).send()).await;
        let mut response =
            response.map_err(|_| temporary(what, "no answer in time"))?.map_err(|e| temporary(what, &plain(e)))?;
        let goes_on = response.status() == StatusCode::PARTIAL_CONTENT && part.size() > 0;
        if goes_on && !begins_at(&response, part.size()) || response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            part.begin_anew().await.map_err(|e| disk(part.path(), e))?;
            return Err(temporary(what, "the server does not go on where the download broke off"));
        }
        if !goes_on {
            check_status(what, response.status())?;
            part.begin_anew().await.map_err(|e| disk(part.path(), e))?;
        }
        let fits = |more: u64, part: &Part| match part.size().saturating_add(more) <= wanted.limit {
            true => self.check_room(what, more),
            false => Err(too_large(what, wanted.limit)),
        };
        response.content_length().map_or(Ok(()), |length| fits(length, part))?;
        let ends = response.content_length().is_some() || response.headers().contains_key(header::TRANSFER_ENCODING);
        loop {
            let chunk = tokio::time::timeout(IDLE, response.chunk()).await;
            let chunk = chunk.map_err(|_| temporary(what, "the server went silent"))?;
            let Some(chunk) = chunk.map_err(|e| temporary(what, &plain(e)))? else { return Ok(ends) };
            fits(chunk.len() as u64, part)?;
            part.push(&chunk).await.map_err(|e| disk(part.path(), e))?;
        }
    }

    /// Whether so many bytes more leave the disk its reserve. What was kept for later tasks makes room for them.
    fn check_room(&self, what: &str, more: u64) -> Result<(), Error> {
        let needed = self.reserve.saturating_add(more);
        let lacking = || needed.saturating_sub(machine::room(&self.folder).unwrap_or(u64::MAX));
        match lacking() {
            0 => return Ok(()),
            bytes => self.free(bytes).map_err(|e| disk(&self.folder, e))?,
        }
        match lacking() {
            0 => Ok(()),
            _ => {
                let reason = format!("less than {} MiB would be left", self.reserve >> 20);
                Err(Error::NoRoom { what: what.into(), reason })
            }
        }
    }
}

/// Whether an answer holds the bytes from `start` on.
fn begins_at(response: &reqwest::Response, start: u64) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let first = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok());
    first == Some(start)
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
fn check_content(what: &str, wanted: &Wanted, received: &Part) -> Result<(), Error> {
    match &wanted.source {
        Source::Ipfs(expected) => match received.cid() {
            Some(cid) if cid != *expected => {
                return Err(temporary(what, &format!("the gateway gave other content, {cid}")));
            }
            Some(_) | None => {}
        },
        Source::Http(_) => {}
    }
    match (wanted.checksum, received.sha256()) {
        (Some(expected), found) if expected != found => {
            Err(Error::WrongChecksum { what: what.into(), expected, found })
        }
        _ => Ok(()),
    }
}

/// Removes the oldest files until all together have `limit` bytes at most.
fn forget_oldest(files: &mut Vec<(SystemTime, u64, PathBuf)>, limit: u64) -> io::Result<()> {
    files.sort();
    let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
    let mut kept = Vec::with_capacity(files.len());
    for (modified, size, path) in files.drain(..) {
        match total > limit {
            true => {
                unless_gone(std::fs::remove_file(path))?;
                total -= size;
            }
            false => kept.push((modified, size, path)),
        }
    }
    *files = kept;
    Ok(())
}

fn unless_gone<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn disk(path: &Path, source: io::Error) -> Error {
    Error::Disk { path: path.to_owned(), source }
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
