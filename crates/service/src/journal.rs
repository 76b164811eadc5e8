//! One SQLite file per role: state, cursor and pending effects change in one transaction, before any effect is performed.
//!
//! WAL with `synchronous = FULL`: a successful [`Journal::write`] survives `kill -9` and power loss. One process per
//! file: a second one is refused. SQL lives in one module per role, which brings its own schema.

use rusqlite::{Connection, ErrorCode};
use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many statements are kept ready to run: more than any role has.
const STATEMENTS: usize = 128;

/// What can go wrong with a role's store, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it open.
    #[error("{path} is in use by another process: stop that one first, or choose another --data-dir")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full. Nothing was written.
    #[error("no room left on the disk of {path}: free some space and try again; nothing was lost")]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// Written for another owner, such as another chain.
    #[error(
        "{path} belongs to {found}, not to {wanted}: choose another --data-dir, or remove this one to start afresh"
    )]
    OtherOwner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asked.
        wanted: String,
    },
    /// Written by a later version.
    #[error(
        "{path} was written by a later version of bourse (schema {found}, this one knows {known}): use that version"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// The folder cannot be used.
    #[error("cannot use {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Anything else from SQLite.
    #[error("store {path} failed")]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// A moment of a [`Journal::write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Everything is done but the commit.
    BeforeCommit,
    /// The commit is durable; nobody was told.
    AfterCommit,
}

/// The disk has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// Looks on at every write, and may refuse it: how a simulation crashes a role at any point or fills its disk.
pub type Witness = dyn Fn(Moment) -> Result<(), NoRoom> + Send + Sync;

/// A role's store. Cheap to clone; calls take turns.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
    witness: Option<Arc<Witness>>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Journal").field(&self.inner.path).finish()
    }
}

struct Inner {
    path: PathBuf,
    connection: Mutex<Connection>,
    _lock: Option<File>,
}

impl Journal {
    /// Opens or creates `path`. `schema` is a list of steps that is only ever appended to: those not yet applied are.
    pub fn open(path: &Path, schema: &[&str]) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let lock = lock(path)?;
        let connection = Connection::open(path).map_err(|e| translate(path, e))?;
        let journal = Self::assemble(path.to_owned(), connection, Some(lock));
        journal.prepare(schema)?;
        Ok(journal)
    }

    /// A store that lives as long as the process.
    pub fn in_memory(schema: &[&str]) -> Result<Self, Error> {
        let path = PathBuf::from(":memory:");
        let connection = Connection::open_in_memory().map_err(|e| translate(&path, e))?;
        let journal = Self::assemble(path, connection, None);
        journal.prepare(schema)?;
        Ok(journal)
    }

    fn assemble(path: PathBuf, connection: Connection, lock: Option<File>) -> Self {
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Self { inner: Arc::new(Inner { path, connection: Mutex::new(connection), _lock: lock }), witness: None }
    }

    /// The same store, with a witness of every write.
    pub fn witnessed(&self, witness: Arc<Witness>) -> Self {
        Self { inner: self.inner.clone(), witness: Some(witness) }
    }

    fn witness(&self, moment: Moment) -> Result<(), Error> {
        let refused = |NoRoom| Error::DiskFull { path: self.inner.path.clone() };
        self.witness.as_ref().map_or(Ok(()), |witness| witness(moment).map_err(refused))
    }

    /// Runs `change` in one transaction: all of it is durable when this returns, or none of it happened.
    pub fn write<T>(&self, change: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        let failed = |e| translate(&self.inner.path, e);
        let connection = self.connection();
        let transaction = Transaction::begin(&connection).map_err(failed)?;
        let value = change(&connection).map_err(failed)?;
        self.witness(Moment::BeforeCommit)?;
        transaction.commit().map_err(failed)?;
        self.witness(Moment::AfterCommit)?;
        Ok(value)
    }

    /// Runs queries on one consistent state.
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        query(&self.connection()).map_err(|e| translate(&self.inner.path, e))
    }

    /// The same store, to be read over a connection of its own: it keeps no write waiting, and waits for none. What lives in
    /// memory has one connection only, which is shared.
    pub fn reader(&self) -> Result<Self, Error> {
        let path = &self.inner.path;
        let failed = |e| translate(path, e);
        if self.connection().path().is_none_or(str::is_empty) {
            return Ok(self.clone());
        }
        let connection = Connection::open(path).map_err(failed)?;
        connection.pragma_update(None, "query_only", true).map_err(failed)?;
        Ok(Self::assemble(path.clone(), connection, None))
    }

    /// Claims the store for `owner` (such as a chain and hub), for ever: refused if it is someone else's.
    pub fn belongs_to(&self, owner: &str) -> Result<(), Error> {
        let found: String = self.write(|t| {
            t.execute("INSERT OR IGNORE INTO journal_owner (id, owner) VALUES (0, ?1)", [owner])?;
            t.query_row("SELECT owner FROM journal_owner WHERE id = 0", [], |row| row.get(0))
        })?;
        match found == owner {
            true => Ok(()),
            false => Err(Error::OtherOwner { path: self.inner.path.clone(), found, wanted: owner.to_owned() }),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction rolled it back; the connection itself stays good.
        self.inner.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prepare(&self, schema: &[&str]) -> Result<(), Error> {
        // Every 8,000 pages (32 MiB) a commit moves them from the log to the file, instead of every 1,000: most have changed
        // several times by then, and are moved once.
        self.read(|c| {
            c.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -16000;
                PRAGMA wal_autocheckpoint = 8000;",
            )
        })?;
        let applied: u32 = self.read(|c| c.pragma_query_value(None, "user_version", |row| row.get(0)))?;
        let applied = applied as usize;
        if applied > schema.len() {
            return Err(Error::Newer { path: self.inner.path.clone(), found: applied, known: schema.len() });
        }
        self.write(|t| {
            t.execute_batch("CREATE TABLE IF NOT EXISTS journal_owner (id INTEGER PRIMARY KEY, owner TEXT NOT NULL)")?;
            schema[applied..].iter().try_for_each(|step| t.execute_batch(step))?;
            t.pragma_update(None, "user_version", schema.len() as u32)
        })
    }
}

/// A transaction that may write; taken back unless it is committed. Its own statements are kept ready as well: most
/// transactions are small, and a third of their time would be to prepare these two.
struct Transaction<'a>(&'a Connection);

impl<'a> Transaction<'a> {
    fn begin(connection: &'a Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self(connection))
    }

    fn commit(self) -> rusqlite::Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([]).map(drop)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // It has ended if it was committed, and where SQLite took it back by itself.
        if !self.0.is_autocommit() {
            // Nothing is left to do where that fails: SQLite takes it back when the connection closes.
            let _ = self.0.execute_batch("ROLLBACK");
        }
    }
}

/// Holds `<path>.lock` for as long as the returned file lives; the system lets go of it when the process dies.
fn lock(path: &Path) -> Result<File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = File::options().create(true).truncate(false).write(true).open(PathBuf::from(name)).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

fn translate(path: &Path, error: rusqlite::Error) -> Error {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::DiskFull { path },
        _ => Error::Store { path, source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &[&str] = &["CREATE TABLE t (n INTEGER NOT NULL)"];

    fn count(journal: &Journal) -> u64 {
        journal.read(|c| c.query_row("SELECT COUNT(*) FROM t", [], |r| r.get(0))).unwrap()
    }

    #[test]
    fn what_was_written_is_there_after_reopening_and_schema_steps_apply_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/journal.db");
        let journal = Journal::open(&path, SCHEMA).unwrap();
        journal.write(|t| t.execute("INSERT INTO t VALUES (1)", [])).unwrap();
        drop(journal);
        let longer = [SCHEMA[0], "INSERT INTO t VALUES (2)"];
        for _ in 0..2 {
            assert_eq!(count(&Journal::open(&path, &longer).unwrap()), 2);
        }
        assert!(matches!(Journal::open(&path, SCHEMA), Err(Error::Newer { found: 2, known: 1, .. })));
    }

    #[test]
    fn a_failed_change_leaves_nothing_behind() {
        let journal = Journal::in_memory(SCHEMA).unwrap();
        let failed = journal.write(|t| {
            t.execute("INSERT INTO t VALUES (1)", [])?;
            t.execute("INSERT INTO t VALUES (NULL)", [])
        });
        assert!(matches!(failed, Err(Error::Store { .. })));
        assert_eq!(count(&journal), 0);
    }

    #[test]
    fn a_change_that_panics_leaves_nothing_behind_and_the_store_usable() {
        let journal = Journal::in_memory(SCHEMA).unwrap();
        let change = |t: &Connection| -> rusqlite::Result<()> {
            t.execute("INSERT INTO t VALUES (1)", [])?;
            panic!("here")
        };
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| journal.write(change)));
        assert!(panicked.is_err());
        assert_eq!(count(&journal), 0);
        journal.write(|t| t.execute("INSERT INTO t VALUES (1)", [])).unwrap();
        assert_eq!(count(&journal), 1);
    }

    #[test]
    fn what_a_witness_refuses_is_not_written() {
        let journal = Journal::in_memory(SCHEMA).unwrap();
        let full = journal.witnessed(Arc::new(|moment| match moment {
            Moment::BeforeCommit => Err(NoRoom),
            Moment::AfterCommit => unreachable!("nothing is committed"),
        }));
        let refused = full.write(|t| t.execute("INSERT INTO t VALUES (1)", []));
        assert!(matches!(refused, Err(Error::DiskFull { .. })));
        assert_eq!(count(&journal), 0);
    }

    #[test]
    fn a_reader_reads_during_a_write_and_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.db"), SCHEMA).unwrap();
        let reader = journal.reader().unwrap();
        let seen = journal.write(|t| {
            t.execute("INSERT INTO t VALUES (1)", [])?;
            Ok(count(&reader))
        });
        assert_eq!((seen.unwrap(), count(&reader)), (0, 1));
        assert!(matches!(reader.write(|t| t.execute("INSERT INTO t VALUES (2)", [])), Err(Error::Store { .. })));
        let memory = Journal::in_memory(SCHEMA).unwrap();
        memory.write(|t| t.execute("INSERT INTO t VALUES (1)", [])).unwrap();
        assert_eq!(count(&memory.reader().unwrap()), 1);
    }

    #[test]
    fn a_second_opener_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let first = Journal::open(&path, SCHEMA).unwrap();
        assert!(matches!(Journal::open(&path, SCHEMA), Err(Error::InUse { .. })));
        drop(first);
        Journal::open(&path, SCHEMA).unwrap();
    }

    #[test]
    fn a_store_has_one_owner_for_ever() {
        let journal = Journal::in_memory(SCHEMA).unwrap();
        journal.belongs_to("chain 1").unwrap();
        journal.belongs_to("chain 1").unwrap();
        let refused = journal.belongs_to("chain 2").unwrap_err();
        assert!(matches!(refused, Error::OtherOwner { .. }));
    }
}
