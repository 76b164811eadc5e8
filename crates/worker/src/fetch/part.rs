//! A file as far as it was received, and what its bytes amount to.

use bourse_protocol::{B256, ipfs};
use sha2::{Digest, Sha256};
use std::{
    io,
    path::{Path, PathBuf},
};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt},
};

/// A file that grows at its end.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    size: u64,
    sha256: Sha256,
    /// If it is to have a content id.
    tree: Option<ipfs::Builder>,
    began_anew: bool,
}

impl Part {
    /// What lies at `path`, or nothing yet. More than `limit` bytes are worth nothing. With a content id, if it is of `ipfs`.
    pub(super) async fn open(path: &Path, limit: u64, ipfs: bool) -> io::Result<Self> {
        let file = File::from_std(locked(path.to_owned()).await?);
        let (path, sha256, tree) = (path.to_owned(), Sha256::new(), ipfs.then(ipfs::Builder::default));
        let too_long = file.metadata().await?.len() > limit;
        let mut part = Self { path, file, size: 0, sha256, tree, began_anew: false };
        if too_long {
            part.begin_anew().await?;
        }
        let mut piece = vec![0; ipfs::CHUNK];
        loop {
            match part.file.read(&mut piece).await? {
                0 => return Ok(part),
                read => part.count(&piece[..read]),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether nothing is left of what lay there at first.
    pub(super) fn began_anew(&self) -> bool {
        self.began_anew
    }

    pub(super) fn sha256(&self) -> B256 {
        B256::new(self.sha256.clone().finalize().into())
    }

    /// The content id of all bytes, if it is wanted.
    pub(super) fn cid(&self) -> Option<ipfs::Cid> {
        self.tree.clone().map(|tree| tree.finish(&mut |_| ()).cid)
    }

    /// Forgets all bytes.
    pub(super) async fn begin_anew(&mut self) -> io::Result<()> {
        self.file.set_len(0).await?;
        self.file.rewind().await?;
        (self.size, self.sha256) = (0, Sha256::new());
        self.tree = self.tree.as_ref().map(|_| ipfs::Builder::default());
        self.began_anew = true;
        Ok(())
    }

    /// Appends bytes.
    pub(super) async fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await?;
        self.count(bytes);
        Ok(())
    }

    /// Waits until all bytes are safely on disk.
    pub(super) async fn sync(&mut self) -> io::Result<()> {
        self.file.flush().await?;
        self.file.sync_all().await
    }

    fn count(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.sha256.update(bytes);
        if let Some(tree) = &mut self.tree {
            tree.push(bytes, &mut |_| ());
        }
    }
}

/// Opens a file once nobody else writes to it: bytes of a download that was given up may still be on their way there.
async fn locked(path: PathBuf) -> io::Result<std::fs::File> {
    let open = move || {
        let file = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.lock()?;
        Ok(file)
    };
    tokio::task::spawn_blocking(open).await.map_err(io::Error::other)?
}
