//! The chain on disk: one SQLite file, or the same tables in memory.
//!
//! One commit stores blocks, transaction index, the changed part of the state, what those changes overwrote and the
//! waiting transactions, all or nothing. Opening reads the state as it was last stored and replays nothing.

use crate::block::{Block, Transaction};
use crate::codec::{self, DecodeError};
use crate::error::Error;
use crate::pool::{Change, Waiting};
use crate::state::{Key, Undo, Value, Version, World};
use alloy::eips::eip2718::Encodable2718;
use alloy_primitives::map::B256Map;
use alloy_primitives::{Address, B256, Bloom, Bytes, U256};
use revm::bytecode::Bytecode;
use rusqlite::backup::Backup;
use rusqlite::{Connection, OptionalExtension, Transaction as SqlTransaction, params};
use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Layout of the tables; another number in the file means another release wrote it.
const SCHEMA: u64 = 1;
/// How many statements are kept ready to run.
const STATEMENTS: usize = 32;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS root (id INTEGER PRIMARY KEY CHECK (id = 0), hash BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (
    number INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, bloom BLOB, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS transactions (
    hash BLOB PRIMARY KEY, number INTEGER NOT NULL, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounts (address BLOB PRIMARY KEY, account BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS slots (
    address BLOB NOT NULL, slot BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (address, slot)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS codes (hash BLOB PRIMARY KEY, code BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS undo (version INTEGER PRIMARY KEY, overwritten BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS waiting (
    hash BLOB PRIMARY KEY, arrival INTEGER NOT NULL, sender BLOB NOT NULL, envelope BLOB NOT NULL) WITHOUT ROWID;
";

/// Why the tables cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("disk is full: make room, then try again")]
    Full,
    #[error("{0}")]
    Sql(rusqlite::Error),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full,
            _ => Self::Sql(error),
        }
    }
}

/// Everything one commit writes.
#[derive(Default)]
pub(crate) struct Commit<'a> {
    /// Blocks that are not part of the chain any more, newest last.
    pub(crate) removed: Vec<Arc<Block>>,
    pub(crate) added: &'a [Arc<Block>],
    /// Current values of the keys that changed.
    pub(crate) values: Vec<(Key, Value)>,
    pub(crate) codes: &'a [(B256, Bytecode)],
    /// Versions above this one are forgotten before `undos` are added.
    pub(crate) undo_kept: Version,
    pub(crate) undos: Vec<&'a Undo>,
    /// Versions up to this one are forgotten.
    pub(crate) undo_pruned: Version,
    pub(crate) pool: &'a [Change],
    pub(crate) settings: Settings,
    pub(crate) state_root: B256,
}

/// Numbers that must survive a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Seconds that the time methods have added to the clock.
    pub(crate) time_offset: i64,
    /// How often blocks have been taken back.
    pub(crate) generation: u64,
    /// The highest version ever given to a state.
    pub(crate) last_version: Version,
    /// The version before the first that can be read.
    pub(crate) oldest_version: Version,
}

impl Commit<'_> {
    /// Whether it changes nothing of the state and its history. What is to be forgotten of that shows in the settings.
    fn leaves_state(&self) -> bool {
        self.values.is_empty() && self.codes.is_empty() && self.undos.is_empty()
    }
}

/// What opening a file finds.
pub(crate) struct Loaded {
    pub(crate) world: World,
    pub(crate) head: Arc<Block>,
    pub(crate) settings: Settings,
    pub(crate) state_root: B256,
    pub(crate) waiting: Vec<Waiting>,
}

/// The open tables.
pub(crate) struct Store {
    writer: Mutex<Connection>,
    /// A second connection, so that reading never waits for a commit. In memory there is only one.
    reader: Option<Mutex<Connection>>,
    /// The settings and the state root that were written last.
    written: Mutex<Option<(Settings, B256)>>,
    /// Held for as long as the file is open.
    _lock: Option<File>,
}

impl Store {
    /// Opens the tables in `folder`, or new ones in memory.
    pub(crate) fn open(folder: Option<&Path>, chain_id: u64) -> Result<Self, Error> {
        let Some(folder) = folder else {
            let connection = in_memory().map_err(|error| Error::Memory(error.into()))?;
            connection.execute_batch(TABLES).map_err(|error| Error::Memory(error.into()))?;
            set_meta(&connection, "chain_id", chain_id).map_err(|error| Error::Memory(error.into()))?;
            return Ok(Self { writer: Mutex::new(connection), reader: None, written: Mutex::default(), _lock: None });
        };
        fs::create_dir_all(folder).map_err(|source| Error::Folder { path: folder.into(), source })?;
        let lock = lock(folder)?;
        let file = folder.join("chain.sqlite");
        let broken = |source: StoreError| Error::from_store(&file, source);
        let writer = connect(&file).map_err(broken)?;
        check(&writer, chain_id, &file)?;
        let reader = connect(&file).map_err(broken)?;
        Ok(Self {
            writer: Mutex::new(writer),
            reader: Some(Mutex::new(reader)),
            written: Mutex::default(),
            _lock: Some(lock),
        })
    }

    /// A copy of everything, in memory.
    pub(crate) fn copy(&self) -> Result<Self, Error> {
        let broken = |error: rusqlite::Error| Error::Memory(error.into());
        let mut connection = in_memory().map_err(broken)?;
        let source = self.read();
        let backup = Backup::new(&source, &mut connection).map_err(broken)?;
        backup.run_to_completion(i32::MAX, Duration::ZERO, None).map_err(broken)?;
        drop(backup);
        Ok(Self { writer: Mutex::new(connection), reader: None, written: Mutex::default(), _lock: None })
    }

    fn write(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> MutexGuard<'_, Connection> {
        self.reader.as_ref().unwrap_or(&self.writer).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes everything or nothing; when it returns, the disk has it.
    pub(crate) fn commit(&self, commit: &Commit<'_>) -> Result<(), StoreError> {
        let mut connection = self.write();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Some((commit.settings, commit.state_root));
        let sql = connection.transaction()?;
        write_blocks(&sql, commit)?;
        // Most commits only add a transaction that waits.
        if *written != now || !commit.leaves_state() {
            write_state(&sql, commit)?;
        }
        write_pool(&sql, commit.pool)?;
        sql.commit()?;
        *written = now;
        Ok(())
    }

    /// Reads the state; `None` when nothing was ever committed.
    pub(crate) fn load(&self, history: u64) -> Result<Option<Loaded>, StoreError> {
        let Some(head) = self.last_block()? else { return Ok(None) };
        let connection = self.read();
        let settings = Settings {
            time_offset: meta(&connection, "time_offset")?.unwrap_or_default().cast_signed(),
            generation: meta(&connection, "generation")?.unwrap_or_default(),
            last_version: meta(&connection, "last_version")?.unwrap_or_default(),
            oldest_version: meta(&connection, "oldest_version")?.unwrap_or_default(),
        };
        let mut world = World::default();
        read_state(&connection, &mut world)?;
        read_past(&connection, &mut world, settings.oldest_version)?;
        read_hashes(&connection, &mut world, head.number().saturating_sub(history.max(256)))?;
        let state_root: Vec<u8> = connection.query_row("SELECT hash FROM root", [], |row| row.get(0))?;
        let waiting = read_pool(&connection)?;
        Ok(Some(Loaded { world, head: Arc::new(head), settings, state_root: hash(&state_root)?, waiting }))
    }

    fn last_block(&self) -> Result<Option<Block>, StoreError> {
        let query = "SELECT body FROM blocks ORDER BY number DESC LIMIT 1";
        let body = self.read().query_row(query, [], |row| row.get::<_, Vec<u8>>(0)).optional()?;
        Ok(body.map(|body| codec::decode_block(&body)).transpose()?)
    }

    pub(crate) fn block(&self, number: u64) -> Result<Option<Block>, StoreError> {
        let body = {
            let connection = self.read();
            let mut query = connection.prepare_cached("SELECT body FROM blocks WHERE number = ?")?;
            query.query_row([number.cast_signed()], |row| row.get::<_, Vec<u8>>(0)).optional()?
        };
        Ok(body.map(|body| codec::decode_block(&body)).transpose()?)
    }

    pub(crate) fn block_number(&self, hash: &B256) -> Result<Option<u64>, StoreError> {
        let connection = self.read();
        let mut query = connection.prepare_cached("SELECT number FROM blocks WHERE hash = ?")?;
        let number = query.query_row([hash.as_slice()], |row| row.get::<_, i64>(0)).optional()?;
        Ok(number.map(i64::cast_unsigned))
    }

    /// Block number and index in the block of a transaction.
    pub(crate) fn transaction(&self, hash: &B256) -> Result<Option<(u64, usize)>, StoreError> {
        let connection = self.read();
        let mut query = connection.prepare_cached("SELECT number, position FROM transactions WHERE hash = ?")?;
        let found = query.query_row([hash.as_slice()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
        Ok(found.optional()?.map(|(number, position)| (number.cast_unsigned(), position.cast_unsigned() as usize)))
    }

    /// Up to `limit` numbers from `from` to `to` of blocks with logs, with their blooms.
    pub(crate) fn blooms(&self, from: u64, to: u64, limit: u32) -> Result<Vec<(u64, Bloom)>, StoreError> {
        let connection = self.read();
        let mut query = connection.prepare_cached(
            "SELECT number, bloom FROM blocks WHERE number BETWEEN ? AND ? AND bloom IS NOT NULL
             ORDER BY number LIMIT ?",
        )?;
        let bounds = params![from.cast_signed(), to.min(i64::MAX as u64).cast_signed(), limit];
        let rows = query.query_map(bounds, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        rows.map(|row| {
            let (number, bloom) = row?;
            let bloom: [u8; 256] = bloom.try_into().map_err(|_| DecodeError::new("bloom", "wrong length"))?;
            Ok((number.cast_unsigned(), Bloom::from(bloom)))
        })
        .collect()
    }
}

/// Refuses a second process on the same folder.
fn lock(folder: &Path) -> Result<File, Error> {
    let failed = |source| Error::Folder { path: folder.into(), source };
    let file = File::options().create(true).truncate(false).write(true).open(folder.join("chain.lock"));
    let file = file.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: folder.into() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn in_memory() -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

fn connect(file: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(file)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -2048)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Compares a file with this release and chain id, or prepares an empty one.
fn check(connection: &Connection, chain_id: u64, file: &Path) -> Result<(), Error> {
    let broken = |source: StoreError| Error::from_store(file, source);
    connection.execute_batch(TABLES).map_err(|error| broken(error.into()))?;
    match meta(connection, "schema").map_err(broken)? {
        Some(SCHEMA) => {}
        Some(found) => return Err(Error::Schema { path: file.into(), found, expected: SCHEMA }),
        None => {
            set_meta(connection, "chain_id", chain_id).map_err(broken)?;
            set_meta(connection, "schema", SCHEMA).map_err(broken)?;
        }
    }
    match meta(connection, "chain_id").map_err(broken)? {
        Some(found) if found == chain_id => Ok(()),
        Some(found) => Err(Error::ChainId { path: file.into(), found, expected: chain_id }),
        None => Err(broken(DecodeError::new("chain id", "missing").into())),
    }
}

fn meta(connection: &Connection, name: &str) -> Result<Option<u64>, StoreError> {
    let mut query = connection.prepare_cached("SELECT value FROM meta WHERE name = ?")?;
    Ok(query.query_row([name], |row| row.get::<_, i64>(0)).optional()?.map(i64::cast_unsigned))
}

fn set_meta(connection: &Connection, name: &str, value: u64) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?, ?)")?;
    statement.execute(params![name, value.cast_signed()])?;
    Ok(())
}

fn write_blocks(sql: &SqlTransaction<'_>, commit: &Commit<'_>) -> Result<(), StoreError> {
    let mut forget_block = sql.prepare_cached("DELETE FROM blocks WHERE number = ?")?;
    let mut forget_transaction = sql.prepare_cached("DELETE FROM transactions WHERE hash = ?")?;
    for block in &commit.removed {
        forget_block.execute([block.number().cast_signed()])?;
        for transaction in &block.transactions {
            forget_transaction.execute([transaction.hash.as_slice()])?;
        }
    }
    let mut add_block = sql.prepare_cached("INSERT INTO blocks VALUES (?, ?, ?, ?)")?;
    let mut add_transaction = sql.prepare_cached("INSERT OR REPLACE INTO transactions VALUES (?, ?, ?)")?;
    for block in commit.added {
        let number = block.number().cast_signed();
        let bloom = (!block.header.logs_bloom.is_zero()).then(|| block.header.logs_bloom.as_slice());
        add_block.execute(params![number, block.hash.as_slice(), bloom, codec::encode_block(block)])?;
        for (position, transaction) in block.transactions.iter().enumerate() {
            add_transaction.execute(params![transaction.hash.as_slice(), number, position as i64])?;
        }
    }
    Ok(())
}

fn write_state(sql: &SqlTransaction<'_>, commit: &Commit<'_>) -> Result<(), StoreError> {
    for (key, value) in &commit.values {
        write_value(sql, key, value)?;
    }
    let mut add_code = sql.prepare_cached("INSERT OR IGNORE INTO codes VALUES (?, ?)")?;
    for (hash, code) in commit.codes {
        add_code.execute(params![hash.as_slice(), code.original_byte_slice()])?;
    }
    sql.prepare_cached("DELETE FROM undo WHERE version > ? OR version <= ?")?
        .execute([commit.undo_kept.cast_signed(), commit.undo_pruned.cast_signed()])?;
    let mut add_undo = sql.prepare_cached("INSERT INTO undo VALUES (?, ?)")?;
    for undo in commit.undos.iter().filter(|undo| undo.version > commit.undo_pruned) {
        add_undo.execute(params![undo.version.cast_signed(), codec::encode_undo(undo)])?;
    }
    let Settings { time_offset, generation, last_version, oldest_version } = commit.settings;
    set_meta(sql, "time_offset", time_offset.cast_unsigned())?;
    set_meta(sql, "generation", generation)?;
    set_meta(sql, "last_version", last_version)?;
    set_meta(sql, "oldest_version", oldest_version)?;
    sql.prepare_cached("INSERT OR REPLACE INTO root VALUES (0, ?)")?.execute([commit.state_root.as_slice()])?;
    Ok(())
}

fn write_value(sql: &SqlTransaction<'_>, key: &Key, value: &Value) -> Result<(), StoreError> {
    match (key, value) {
        (Key::Account(address), Value::Account(Some(account))) => {
            let mut statement = sql.prepare_cached("INSERT OR REPLACE INTO accounts VALUES (?, ?)")?;
            statement.execute(params![address.as_slice(), codec::encode_account(account)])?;
        }
        (Key::Account(address), Value::Account(None) | Value::Slot(_)) => {
            sql.prepare_cached("DELETE FROM accounts WHERE address = ?")?.execute([address.as_slice()])?;
        }
        (Key::Slot(address, slot), Value::Slot(value)) if !value.is_zero() => {
            let mut statement = sql.prepare_cached("INSERT OR REPLACE INTO slots VALUES (?, ?, ?)")?;
            let (slot, value) = (slot.to_be_bytes::<32>(), value.to_be_bytes_trimmed_vec());
            statement.execute(params![address.as_slice(), slot, value])?;
        }
        (Key::Slot(address, slot), Value::Slot(_) | Value::Account(_)) => {
            let mut statement = sql.prepare_cached("DELETE FROM slots WHERE address = ? AND slot = ?")?;
            statement.execute(params![address.as_slice(), slot.to_be_bytes::<32>()])?;
        }
    }
    Ok(())
}

fn write_pool(sql: &SqlTransaction<'_>, changes: &[Change]) -> Result<(), StoreError> {
    // Most transactions come and go within one commit: those never touch the table.
    let mut net = B256Map::default();
    for change in changes {
        let (hash, stored, now) = match change {
            Change::Added(waiting) => (waiting.transaction.hash, false, Some(waiting)),
            Change::Removed(waiting) => (waiting.transaction.hash, true, None),
        };
        net.entry(hash).or_insert((stored, None)).1 = now;
    }
    for (hash, (stored, now)) in net {
        if let Some(Waiting { transaction, arrival }) = now {
            let mut statement = sql.prepare_cached("INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?)")?;
            let (sender, envelope) = (transaction.sender.as_slice(), transaction.envelope.encoded_2718());
            statement.execute(params![hash.as_slice(), arrival.cast_signed(), sender, envelope])?;
        } else if stored {
            sql.prepare_cached("DELETE FROM waiting WHERE hash = ?")?.execute([hash.as_slice()])?;
        }
    }
    Ok(())
}

fn read_state(connection: &Connection, world: &mut World) -> Result<(), StoreError> {
    let mut query = connection.prepare("SELECT address, account FROM accounts")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let account = codec::decode_account(row.get_ref(1)?.as_blob().map_err(damaged)?)?;
        let key = Key::Account(address(row.get_ref(0)?.as_blob().map_err(damaged)?)?);
        world.put(key, Value::Account(Some(account)));
    }
    let mut query = connection.prepare("SELECT address, slot, value FROM slots")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let address = address(row.get_ref(0)?.as_blob().map_err(damaged)?)?;
        let slot = number(row.get_ref(1)?.as_blob().map_err(damaged)?)?;
        world.put(Key::Slot(address, slot), Value::Slot(number(row.get_ref(2)?.as_blob().map_err(damaged)?)?));
    }
    let mut query = connection.prepare("SELECT hash, code FROM codes")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let code = Bytecode::new_raw_checked(Bytes::from(row.get::<_, Vec<u8>>(1)?));
        let code = code.map_err(|error| DecodeError::new("contract code", error))?;
        world.add_code(hash(row.get_ref(0)?.as_blob().map_err(damaged)?)?, code);
    }
    Ok(())
}

fn read_past(connection: &Connection, world: &mut World, oldest: Version) -> Result<(), StoreError> {
    world.set_oldest(oldest);
    let mut query = connection.prepare("SELECT version, overwritten FROM undo ORDER BY version")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let version = row.get::<_, i64>(0)?.cast_unsigned();
        world.remember(&codec::decode_undo(version, row.get_ref(1)?.as_blob().map_err(damaged)?)?);
    }
    Ok(())
}

fn read_hashes(connection: &Connection, world: &mut World, from: u64) -> Result<(), StoreError> {
    let mut query = connection.prepare("SELECT number, hash FROM blocks WHERE number >= ? ORDER BY number")?;
    let mut rows = query.query([from.cast_signed()])?;
    while let Some(row) = rows.next()? {
        let number = row.get::<_, i64>(0)?.cast_unsigned();
        world.set_block_hash(number, hash(row.get_ref(1)?.as_blob().map_err(damaged)?)?);
    }
    Ok(())
}

fn read_pool(connection: &Connection) -> Result<Vec<Waiting>, StoreError> {
    let mut query = connection.prepare("SELECT arrival, sender, envelope FROM waiting ORDER BY arrival")?;
    let mut rows = query.query([])?;
    let mut waiting = Vec::new();
    while let Some(row) = rows.next()? {
        let sender = address(row.get_ref(1)?.as_blob().map_err(damaged)?)?;
        let transaction: Transaction = codec::decode_transaction(sender, &row.get::<_, Vec<u8>>(2)?)?;
        waiting.push(Waiting { transaction: Arc::new(transaction), arrival: row.get::<_, i64>(0)?.cast_unsigned() });
    }
    Ok(waiting)
}

fn damaged(error: rusqlite::types::FromSqlError) -> DecodeError {
    DecodeError::new("row", error)
}

fn address(bytes: &[u8]) -> Result<Address, DecodeError> {
    Address::try_from(bytes).map_err(|error| DecodeError::new("address", error))
}

fn hash(bytes: &[u8]) -> Result<B256, DecodeError> {
    B256::try_from(bytes).map_err(|error| DecodeError::new("hash", error))
}

fn number(bytes: &[u8]) -> Result<U256, DecodeError> {
    U256::try_from_be_slice(bytes).ok_or_else(|| DecodeError::new("number", "longer than 32 bytes"))
}
