//! The folder of a task: what goes into the app, what comes out, and what it printed.

use crate::wasm::Report;
use bourse_protocol::{computed, failure::Failure, ids::TaskId};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// The output folder, below the task's.
pub(crate) const OUT: &str = "out";
/// What a callback gets, below the task's folder, where no app writes.
pub(crate) const CALLBACK: &str = "callback-data";

/// The folders of all tasks: one each, named by the task.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    root: PathBuf,
}

impl Folders {
    /// The tasks below `root`, which is created.
    pub(crate) fn open(root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    /// The folder of one task.
    pub(crate) fn of(&self, task: TaskId) -> Folder {
        Folder { path: self.root.join(task.to_string()) }
    }

    /// Removes the folders of all tasks but those in `keep`.
    pub(crate) fn remove_unknown(&self, keep: &BTreeSet<String>) -> io::Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| keep.contains(name)) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// The folder of one task.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the app sees as `/iexec_in`.
    pub(crate) fn input(&self) -> PathBuf {
        self.path.join("in")
    }

    /// What the app sees as `/iexec_out`.
    pub(crate) fn output(&self) -> PathBuf {
        self.path.join(OUT)
    }

    /// Empty input and output folders; whatever an earlier attempt left is gone.
    pub(crate) fn renew(&self) -> io::Result<()> {
        remove(&self.path)?;
        fs::create_dir_all(self.input())?;
        fs::create_dir(self.output())
    }

    /// Keeps what the app printed beside the output, where it does not touch the digest.
    pub(crate) fn keep_console(&self, report: &Report) -> io::Result<()> {
        fs::write(self.path.join("stdout.txt"), &report.stdout.bytes)?;
        fs::write(self.path.join("stderr.txt"), &report.stderr.bytes)
    }

    /// Replaces the output by a failure.
    pub(crate) fn fail(&self, failure: &Failure) -> io::Result<()> {
        remove(&self.output())?;
        fs::create_dir_all(self.output())?;
        fs::write(self.output().join(bourse_protocol::failure::FILE_NAME), failure.write())?;
        fs::write(self.output().join(computed::FILE_NAME), Failure::computed_json())
    }

    /// Puts what a callback gets beside the output.
    pub(crate) fn keep_callback(&self, data: &[u8]) -> io::Result<()> {
        fs::write(self.path.join(CALLBACK), data)
    }

    /// Makes sure that `file` (relative to this folder) survives a loss of power.
    pub(crate) fn settle(&self, file: &str) -> io::Result<()> {
        let file = self.path.join(file);
        File::open(&file)?.sync_all()?;
        let above = file.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.path));
        for folder in above.chain(self.path.parent()) {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    /// Removes everything of the task.
    pub(crate) fn remove(&self) -> io::Result<()> {
        remove(&self.path)
    }
}

/// Removes a file, a link or a folder with all that is in it. What is not there is gone already.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasm::output::Output;
    use bourse_protocol::{B256, replicate::CauseCode};
    use sha2::{Digest, Sha256};

    fn folders() -> (tempfile::TempDir, Folders) {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path().join("tasks")).unwrap();
        (root, folders)
    }

    #[test]
    fn a_failure_takes_the_place_of_whatever_the_app_left() {
        let (_root, folders) = folders();
        let folder = folders.of(TaskId::default());
        folder.renew().unwrap();
        fs::create_dir(folder.output().join("error.json")).unwrap();
        fs::write(folder.output().join("computed.json"), "junk").unwrap();
        let failure = Failure::new(CauseCode::AppComputeFailed, "app trapped");
        folder.fail(&failure).unwrap();
        folder.settle("out/error.json").unwrap();
        let digest = Output::read(&folder.output()).unwrap().digest;
        assert_eq!(digest.0, B256::new(Sha256::digest(failure.write()).into()));
    }

    #[test]
    fn folders_of_forgotten_tasks_are_removed() {
        let (_root, folders) = folders();
        let [kept, gone] = [1, 2].map(|n| TaskId(B256::repeat_byte(n)));
        folders.of(kept).renew().unwrap();
        folders.of(gone).renew().unwrap();
        folders.remove_unknown(&BTreeSet::from([kept.to_string()])).unwrap();
        assert!(folders.of(kept).output().exists());
        assert!(!folders.of(gone).path().exists());
    }
}
