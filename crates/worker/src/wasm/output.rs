//! What an app left in its output folder: how much of it, and the result that `computed.json` names.
//!
//! The app chose every name in there. Nothing is followed: a link in the way is refused, whoever made it.

use super::Limits;
use bourse_protocol::{
    B256,
    computed::{self, Child, FileHash, Found, OutputPath, Plan},
    ids::ResultDigest,
};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Folders in folders that an app may make.
const DEPTH: usize = 32;

/// Why an output is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The app's fault: a fact that all workers see alike.
    #[error(transparent)]
    App(#[from] computed::Error),
    /// This machine's fault.
    #[error("read what the app wrote to {path}")]
    Io {
        /// What could not be read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The result of an app that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// What `computed.json` says.
    pub plan: Plan,
    /// What the workers vote on.
    pub digest: ResultDigest,
}

impl Output {
    /// Reads `computed.json` in `folder` and takes the digest of what it names.
    ///
    /// Blocks for as long as hashing the result takes. Call it after the app has ended, before anything else is put there.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let plan = computed::parse(&read_computed(folder)?)?;
        let digest = match &plan {
            Plan::Callback(bytes) => computed::callback_digest(bytes),
            Plan::Output(path) => computed::output_digest(path, &find(folder, path)?)?,
        };
        Ok(Self { plan, digest })
    }
}

fn read_computed(folder: &Path) -> Result<Vec<u8>, Error> {
    let path = folder.join(computed::FILE_NAME);
    match kind(&path)? {
        Kind::Nothing => Err(computed::Error::NoFile.into()),
        Kind::Folder | Kind::Other => Err(computed::Error::NotAFile(computed::FILE_NAME.to_owned()).into()),
        Kind::File => {
            let mut bytes = Vec::new();
            // One byte more than the limit is enough to see that it is too long.
            let read =
                File::open(&path).and_then(|file| file.take(computed::MAX_FILE as u64 + 1).read_to_end(&mut bytes));
            read.map(|_| bytes).map_err(|source| Error::Io { path, source })
        }
    }
}

fn find(folder: &Path, output: &OutputPath) -> Result<Found, Error> {
    let mut path = folder.to_owned();
    for name in output.components() {
        match kind(&path)? {
            Kind::Folder => path.push(name),
            Kind::Nothing | Kind::File => return Ok(Found::Nothing),
            Kind::Other => return Ok(Found::Other),
        }
    }
    Ok(match kind(&path)? {
        Kind::Nothing => Found::Nothing,
        Kind::Other => Found::Other,
        Kind::File => Found::File(hash(&path)?),
        Kind::Folder => Found::Folder(children(&path)?.into_iter().collect()),
    })
}

fn children(folder: &Path) -> Result<Vec<(String, Child)>, Error> {
    list(folder)?
        .into_iter()
        .map(|path| {
            let name = path.file_name().expect("a listed path ends in a name").to_string_lossy().into_owned();
            let utf8 = path.file_name().and_then(|name| name.to_str()).is_some();
            let child = match kind(&path)? {
                Kind::File if utf8 => Child::File(hash(&path)?),
                Kind::Folder => Child::Folder,
                Kind::File | Kind::Nothing | Kind::Other => Child::Other,
            };
            Ok((name, child))
        })
        .collect()
}

fn hash(path: &Path) -> Result<FileHash, Error> {
    let mut hash = Sha256::new();
    let size = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hash)).map_err(fault(path))?;
    Ok(FileHash { size, sha256: B256::new(hash.finalize().into()) })
}

/// Which limit the files in `folder` exceed, if any. Holes count in full: whoever copies the file writes them out.
pub(super) fn measure(folder: &Path, limits: &Limits) -> Result<Option<String>, super::Error> {
    let total = size(folder, DEPTH).map_err(|error| match error {
        Error::Io { path, source } => super::Error::Output { path, source },
        Error::App(_) => unreachable!("sizes are taken without reading what the app says"),
    })?;
    Ok(match total {
        None => Some(format!("{DEPTH} folders in one another")),
        Some(total) if total > limits.output_bytes => Some(format!("{} bytes", limits.output_bytes)),
        Some(_) => None,
    })
}

/// Bytes of all files under `folder`, or `None` if it nests deeper than `depth`.
fn size(folder: &Path, depth: usize) -> Result<Option<u64>, Error> {
    let mut total: u64 = 0;
    for path in list(folder)? {
        let metadata = fs::symlink_metadata(&path).map_err(fault(&path))?;
        if !metadata.is_dir() {
            total = total.saturating_add(metadata.len());
        } else {
            match depth.checked_sub(1).map(|depth| size(&path, depth)).transpose()?.flatten() {
                Some(below) => total = total.saturating_add(below),
                None => return Ok(None),
            }
        }
    }
    Ok(Some(total))
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    Ok(entries.map_err(fault(folder))?.into_iter().map(|entry| entry.path()).collect())
}

enum Kind {
    Nothing,
    File,
    Folder,
    Other,
}

fn kind(path: &Path) -> Result<Kind, Error> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Kind::File),
        Ok(metadata) if metadata.is_dir() => Ok(Kind::Folder),
        Ok(_) => Ok(Kind::Other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Kind::Nothing),
        Err(error) => Err(fault(path)(error)),
    }
}

fn fault(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    |source| Error::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourse_protocol::computed::Error as AppError;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn computed(path: &str) -> String {
        format!(r#"{{"deterministic-output-path": "{path}"}}"#)
    }

    fn refusal(folder: &Path) -> AppError {
        match Output::read(folder) {
            Err(Error::App(error)) => error,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_file_that_computed_json_names_is_hashed() {
        let folder = folder(&[("computed.json", &computed("/iexec_out/a/r")), ("a/r", "abc")]);
        let output = Output::read(folder.path()).unwrap();
        assert_eq!(output.digest.0, B256::new(Sha256::digest("abc").into()));
    }

    #[test]
    fn a_folder_is_hashed_by_its_direct_files() {
        let files = [("computed.json", &*computed("/iexec_out/d")), ("d/a", "1"), ("d/b", "2"), ("other", "3")];
        let first = Output::read(folder(&files).path()).unwrap().digest;
        let renamed = [files[0], ("d/c", "1"), ("d/d", "2")];
        assert_eq!(first, Output::read(folder(&renamed).path()).unwrap().digest, "only the order of names counts");
        let swapped = [files[0], ("d/a", "2"), ("d/b", "1")];
        assert_ne!(first, Output::read(folder(&swapped).path()).unwrap().digest);
    }

    #[test]
    fn an_output_that_is_not_there_is_the_apps_fault() {
        assert_eq!(refusal(folder(&[("result.json", "{}")]).path()), AppError::NoFile);
        let dangling = folder(&[("computed.json", &computed("/iexec_out/r"))]);
        assert_eq!(refusal(dangling.path()), AppError::Missing("/iexec_out/r".into()));
        let through_file = folder(&[("computed.json", &computed("/iexec_out/f/r")), ("f", "1")]);
        assert_eq!(refusal(through_file.path()), AppError::Missing("/iexec_out/f/r".into()));
        let no_file = folder(&[("computed.json/x", "1")]);
        assert_eq!(refusal(no_file.path()), AppError::NotAFile("computed.json".into()));
    }

    #[test]
    fn links_are_never_followed() {
        use std::os::unix::fs::symlink;
        let secret = folder(&[("secret", "of the worker"), ("computed.json", &computed("/iexec_out/secret"))]);

        let to_file = folder(&[("computed.json", &computed("/iexec_out/r"))]);
        symlink(secret.path().join("secret"), to_file.path().join("r")).unwrap();
        assert_eq!(refusal(to_file.path()), AppError::NotAFile("/iexec_out/r".into()));

        let to_folder = folder(&[("computed.json", &computed("/iexec_out/d/secret"))]);
        symlink(secret.path(), to_folder.path().join("d")).unwrap();
        assert_eq!(refusal(to_folder.path()), AppError::NotAFile("/iexec_out/d/secret".into()));

        let in_folder = folder(&[("computed.json", &computed("/iexec_out/d")), ("d/a", "1")]);
        symlink(secret.path().join("secret"), in_folder.path().join("d/b")).unwrap();
        assert_eq!(refusal(in_folder.path()), AppError::NotAFile("/iexec_out/d/b".into()));

        let plan = folder(&[]);
        symlink(secret.path().join("computed.json"), plan.path().join("computed.json")).unwrap();
        assert_eq!(refusal(plan.path()), AppError::NotAFile("computed.json".into()));
    }

    #[test]
    fn a_plan_over_its_limit_is_not_read_in_full() {
        let long = folder(&[("computed.json", &" ".repeat(computed::MAX_FILE * 2))]);
        assert_eq!(refusal(long.path()), AppError::TooLong { size: computed::MAX_FILE + 1 });
    }

    #[test]
    fn holes_and_depth_count() {
        let limits = Limits { output_bytes: 1_000, ..Limits::default() };
        let hole = folder(&[("d/a", "1")]);
        assert_eq!(measure(hole.path(), &limits).unwrap(), None);
        File::create(hole.path().join("d/b")).unwrap().set_len(1_000).unwrap();
        assert_eq!(measure(hole.path(), &limits).unwrap(), Some("1000 bytes".into()));

        let deep = folder(&[(&format!("{}f", "d/".repeat(DEPTH)), "1")]);
        assert_eq!(measure(deep.path(), &limits).unwrap(), None);
        let deeper = folder(&[(&format!("{}f", "d/".repeat(DEPTH + 1)), "1")]);
        assert_eq!(measure(deeper.path(), &limits).unwrap(), Some("32 folders in one another".into()));
    }
}
