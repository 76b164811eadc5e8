//! Files named by their content: `objects/<cid>`, written to `tmp/` first.

use bourse_protocol::ipfs::{Block, Builder, CHUNK, Cid, Root};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::NamedTempFile;

/// Why content is not stored or not given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody has stored it here.
    #[error("{0} is not in this store: ask whoever published it to upload it again")]
    NotFound(Cid),
    /// The file on disk is not what was stored. Adding the content again repairs it.
    #[error("the stored copy of {0} is damaged and is not given out: upload the content again to repair it")]
    Corrupt(Cid),
    /// More bytes than one upload may have.
    #[error("the upload is larger than {limit} bytes: split it or raise the store's limit")]
    TooLarge {
        /// Bytes that one upload may have.
        limit: u64,
    },
    /// No room for it. Nothing of it is left behind.
    #[error("the store's disk is full: free some space under {}", folder.display())]
    DiskFull {
        /// Folder of the store.
        folder: PathBuf,
    },
    /// The file system refuses.
    #[error("use the result store's file {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A content-addressed store in one folder. Cheap to clone. All calls block on the disk.
#[derive(Clone, Debug)]
pub struct Store(Arc<Folders>);

#[derive(Debug)]
struct Folders {
    root: PathBuf,
    objects: PathBuf,
    tmp: PathBuf,
}

impl Store {
    /// Opens the store in `folder`, making it if need be. What a crash left half-written is removed, so only one process
    /// at a time may use the folder.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let root = folder.into();
        let folders = Folders { objects: root.join("objects"), tmp: root.join("tmp"), root };
        for path in [&folders.objects, &folders.tmp] {
            fs::create_dir_all(path).map_err(|error| folders.fault(path, error))?;
        }
        folders.sync(&folders.root)?;
        let stale = fs::read_dir(&folders.tmp).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        for entry in stale.map_err(|error| folders.fault(&folders.tmp, error))? {
            fs::remove_file(entry.path()).map_err(|error| folders.fault(&entry.path(), error))?;
        }
        Ok(Self(Arc::new(folders)))
    }

    /// Stores `content` and names it.
    pub fn add(&self, content: &[u8]) -> Result<Root, Error> {
        let mut upload = self.upload(u64::MAX)?;
        upload.write(content)?;
        upload.finish()
    }

    /// Begins to store content that comes in pieces, of at most `limit` bytes in all.
    pub fn upload(&self, limit: u64) -> Result<Upload, Error> {
        let file = NamedTempFile::new_in(&self.0.tmp).map_err(|error| self.0.fault(&self.0.tmp, error))?;
        Ok(Upload { folders: self.0.clone(), file, builder: Builder::default(), size: 0, limit })
    }

    /// Size of stored content in bytes. Looks, but does not check: [`Store::get`] does.
    pub fn size(&self, cid: Cid) -> Result<u64, Error> {
        let path = self.0.object(cid);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(metadata.len()),
            Ok(_) => Err(Error::Corrupt(cid)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NotFound(cid)),
            Err(error) => Err(self.0.fault(&path, error)),
        }
    }

    /// Opens stored content after checking all of it against its name.
    pub fn get(&self, cid: Cid) -> Result<Content, Error> {
        self.size(cid)?;
        let path = self.0.object(cid);
        let mut content = match File::open(&path) {
            Ok(file) => Content {
                folders: self.0.clone(),
                cid,
                path,
                file,
                leaves: Vec::new(),
                next: 0,
                size: 0,
                skip: 0,
                left: 0,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::NotFound(cid)),
            Err(error) => return Err(self.0.fault(&path, error)),
        };
        content.check()?;
        Ok(content)
    }
}

impl Folders {
    fn object(&self, cid: Cid) -> PathBuf {
        self.objects.join(cid.to_string())
    }

    fn fault(&self, path: &Path, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull { folder: self.root.clone() },
            _ => Error::Io { path: path.to_owned(), source },
        }
    }

    /// Makes the names in a folder survive a crash.
    fn sync(&self, folder: &Path) -> Result<(), Error> {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| self.fault(folder, error))
    }
}

/// Content on its way into the store. Dropped before [`Upload::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    folders: Arc<Folders>,
    file: NamedTempFile,
    builder: Builder,
    size: u64,
    limit: u64,
}

impl Upload {
    /// Appends `bytes`.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.size = self.size.saturating_add(bytes.len() as u64);
        if self.size > self.limit {
            return Err(Error::TooLarge { limit: self.limit });
        }
        self.builder.push(bytes, &mut |_| ());
        self.file.write_all(bytes).map_err(|error| self.folders.fault(self.file.path(), error))
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Names the content and keeps it: when this returns, it is on disk. An older copy is replaced, which repairs a damaged one.
    pub fn finish(self) -> Result<Root, Error> {
        let root = self.builder.finish(&mut |_| ());
        self.file.as_file().sync_all().map_err(|error| self.folders.fault(self.file.path(), error))?;
        let target = self.folders.object(root.cid);
        self.file.persist(&target).map_err(|error| self.folders.fault(&target, error.error))?;
        self.folders.sync(&self.folders.objects)?;
        Ok(root)
    }
}

/// Stored content, checked as a whole; each chunk is checked once more as it is read.
#[derive(Debug)]
pub struct Content {
    folders: Arc<Folders>,
    cid: Cid,
    path: PathBuf,
    file: File,
    leaves: Vec<Cid>,
    next: usize,
    size: u64,
    /// Bytes of the next chunk that are not wanted.
    skip: usize,
    /// Bytes that are wanted still.
    left: u64,
}

impl Content {
    /// Bytes in all.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Only these bytes of it, as far as they are there.
    pub fn only(mut self, bytes: std::ops::Range<u64>) -> Result<Self, Error> {
        let end = bytes.end.min(self.size);
        let start = bytes.start.min(end);
        // Chunks begin at multiples of their size, and are checked as wholes.
        let (chunk, skip) = (start / CHUNK as u64, start % CHUNK as u64);
        let seek = self.file.seek(io::SeekFrom::Start(start - skip));
        seek.map_err(|error| self.folders.fault(&self.path, error))?;
        self.next = usize::try_from(chunk).unwrap_or(usize::MAX);
        (self.skip, self.left) = (skip as usize, end - start);
        Ok(self)
    }

    /// The next chunk, up to 256 KiB, or `None` at the end.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        let Some(leaf) = self.leaves.get(self.next).copied() else { return Ok(None) };
        let mut chunk = self.read_chunk()?;
        if Cid::of(&chunk) != leaf {
            return Err(Error::Corrupt(self.cid));
        }
        self.next += 1;
        chunk.drain(..std::mem::take(&mut self.skip));
        chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= chunk.len() as u64;
        Ok(Some(chunk))
    }

    /// All of it in memory.
    pub fn read_to_end(mut self) -> Result<Vec<u8>, Error> {
        let mut content = Vec::new();
        while let Some(chunk) = self.next_chunk()? {
            content.extend(chunk);
        }
        Ok(content)
    }

    fn check(&mut self) -> Result<(), Error> {
        let mut builder = Builder::default();
        let mut leaves = Vec::new();
        let mut keep_leaf = |block: Block| {
            if block.links.is_empty() {
                leaves.push(block.cid);
            }
        };
        loop {
            let chunk = self.read_chunk()?;
            if chunk.is_empty() {
                break;
            }
            builder.push(&chunk, &mut keep_leaf);
        }
        let root = builder.finish(&mut keep_leaf);
        if root.cid != self.cid {
            return Err(Error::Corrupt(self.cid));
        }
        self.file.rewind().map_err(|error| self.folders.fault(&self.path, error))?;
        (self.leaves, self.size, self.left) = (leaves, root.content_size, root.content_size);
        Ok(())
    }

    fn read_chunk(&self) -> Result<Vec<u8>, Error> {
        let mut chunk = Vec::new();
        let read = (&self.file).take(CHUNK as u64).read_to_end(&mut chunk);
        read.map_err(|error| self.folders.fault(&self.path, error))?;
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o";

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("results")).unwrap();
        (folder, store)
    }

    fn large() -> Vec<u8> {
        (0..CHUNK * 3 + 7).map(|i| (i ^ i >> 8 ^ i >> 16) as u8).collect()
    }

    fn files(store: &Store, folder: &str) -> usize {
        fs::read_dir(store.0.root.join(folder)).unwrap().count()
    }

    #[test]
    fn content_comes_back_by_its_name() {
        let (_folder, store) = store();
        for content in [&b""[..], b"hello world\n", &large()] {
            let root = store.add(content).unwrap();
            assert_eq!(root.cid, Cid::of(content));
            assert_eq!(store.size(root.cid).unwrap(), content.len() as u64);
            let stored = store.get(root.cid).unwrap();
            assert_eq!(stored.size(), content.len() as u64);
            assert!(stored.read_to_end().unwrap() == content);
        }
        assert_eq!(store.add(b"hello world\n").unwrap().cid.to_string(), HELLO);
        assert_eq!((files(&store, "objects"), files(&store, "tmp")), (3, 0), "the same content is kept once");
    }

    #[test]
    fn a_part_of_content_is_read_alone() {
        let (_folder, store) = store();
        let (large, chunk, all) = (large(), CHUNK as u64, large().len() as u64);
        let cid = store.add(&large).unwrap().cid;
        let ends = [0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk, all - 1, all, all + 1, u64::MAX];
        for (start, end) in ends.iter().flat_map(|start| ends.iter().map(|end| (*start, *end))) {
            let part = store.get(cid).unwrap().only(start..end).unwrap().read_to_end().unwrap();
            let wanted = large.get(start.min(all) as usize..end.min(all) as usize).unwrap_or_default();
            assert!(part == wanted, "{start}..{end}: {} bytes", part.len());
        }
    }

    #[test]
    fn content_outlives_the_store() {
        let (_folder, store) = store();
        let cid = store.add(&large()).unwrap().cid;
        let root = store.0.root.clone();
        drop(store);
        assert!(Store::open(root).unwrap().get(cid).unwrap().read_to_end().unwrap() == large());
    }

    #[test]
    fn an_upload_that_does_not_end_leaves_nothing() {
        let (_folder, store) = store();
        let mut upload = store.upload(u64::MAX).unwrap();
        upload.write(&large()).unwrap();
        assert_eq!(files(&store, "tmp"), 1);
        drop(upload);
        assert_eq!((files(&store, "objects"), files(&store, "tmp")), (0, 0));

        fs::write(store.0.tmp.join("of-a-crash"), "half").unwrap();
        let again = Store::open(store.0.root.clone()).unwrap();
        assert_eq!(files(&again, "tmp"), 0);
    }

    #[test]
    fn an_upload_over_its_limit_is_refused() {
        let (_folder, store) = store();
        let mut upload = store.upload(10).unwrap();
        upload.write(b"0123456789").unwrap();
        assert!(matches!(upload.write(b"x"), Err(Error::TooLarge { limit: 10 })));
        drop(upload);
        assert_eq!((files(&store, "objects"), files(&store, "tmp")), (0, 0));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let (_folder, store) = store();
        let cid: Cid = HELLO.parse().unwrap();
        assert!(matches!(store.size(cid), Err(Error::NotFound(_))));
        let error = store.get(cid).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{HELLO} is not in this store: ask whoever published it to upload it again")
        );
    }

    #[test]
    fn damaged_content_is_never_given_and_can_be_repaired() {
        let (_folder, store) = store();
        let cid = store.add(&large()).unwrap().cid;
        let path = store.0.object(cid);
        let mut flipped = large();
        flipped[CHUNK + 5] ^= 1;
        for damage in [&flipped[..], &large()[..CHUNK * 2], &[&large()[..], b"more"].concat(), b""] {
            fs::write(&path, damage).unwrap();
            assert!(matches!(store.get(cid), Err(Error::Corrupt(of)) if of == cid));
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(store.get(cid), Err(Error::Corrupt(_))));
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(matches!(store.get(cid), Err(Error::Corrupt(_))));

        store.add(&large()).unwrap();
        assert!(store.get(cid).unwrap().read_to_end().unwrap() == large());
    }

    #[test]
    fn content_damaged_while_it_is_read_ends_in_an_error() {
        let (_folder, store) = store();
        let cid = store.add(&large()).unwrap().cid;
        let mut content = store.get(cid).unwrap();
        assert!(content.next_chunk().unwrap().unwrap() == large()[..CHUNK]);
        let mut flipped = large();
        flipped[CHUNK + 5] ^= 1;
        fs::write(store.0.object(cid), flipped).unwrap();
        assert!(matches!(content.next_chunk(), Err(Error::Corrupt(_))));
    }

    #[test]
    fn the_same_content_at_once_is_stored_once() {
        let (_folder, store) = store();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!(store.add(&large()).unwrap().cid, Cid::of(&large())));
            }
        });
        assert_eq!((files(&store, "objects"), files(&store, "tmp")), (1, 0));
        assert!(store.get(Cid::of(&large())).unwrap().read_to_end().unwrap() == large());
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let error = Store::open(folder.path().join("file/results")).unwrap_err();
        assert!(error.to_string().contains("file/results"), "{error}");
    }
}
