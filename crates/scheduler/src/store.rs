//! The scheduler's tables. What is here is a memory of what was said and done; the chain can replace all of it.

use bourse_chain::follower::Cursor;
use bourse_protocol::{
    Address, B256, U256,
    api::{StageChange, StatusChange},
    deal::{Deal, ResultLink},
    ids::{DealId, TaskId},
    replicate::Status,
    task::Stage,
};
use bourse_service::journal::{Error, Journal};
use rusqlite::{Connection, params, types::FromSqlError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

pub(crate) const SCHEMA: &[&str] = &[
    bourse_chain::sender::SCHEMA,
    "
    CREATE TABLE cursor (id INTEGER PRIMARY KEY CHECK (id = 0), cursor TEXT NOT NULL);
    CREATE TABLE task (
        task TEXT PRIMARY KEY,
        deal TEXT NOT NULL,
        idx TEXT NOT NULL,
        result TEXT,
        ended INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX task_open ON task (ended);
    CREATE TABLE stage (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        task TEXT NOT NULL REFERENCES task (task),
        change TEXT NOT NULL
    );
    CREATE INDEX stage_of ON stage (task);
    CREATE TABLE replicate (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        task TEXT NOT NULL REFERENCES task (task),
        worker TEXT NOT NULL,
        change TEXT NOT NULL
    );
    CREATE INDEX replicate_of ON replicate (task);
    ",
    "CREATE TABLE bag (deal TEXT PRIMARY KEY, next TEXT NOT NULL);",
    // What is written at the same time lies together: tables refer to tasks by small numbers, of which those in work are
    // neighbours, instead of by their hashes, which lie anywhere. Deals are kept once.
    "
    DROP INDEX task_open;
    DROP INDEX stage_of;
    DROP INDEX replicate_of;
    ALTER TABLE task RENAME TO old_task;
    ALTER TABLE stage RENAME TO old_stage;
    ALTER TABLE replicate RENAME TO old_replicate;
    CREATE TABLE deal (seq INTEGER PRIMARY KEY, deal BLOB NOT NULL UNIQUE, body TEXT NOT NULL);
    CREATE TABLE task (
        seq INTEGER PRIMARY KEY,
        task BLOB NOT NULL UNIQUE,
        deal INTEGER NOT NULL REFERENCES deal (seq),
        idx TEXT NOT NULL,
        result TEXT,
        ended INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE stage (
        seq INTEGER PRIMARY KEY,
        task INTEGER NOT NULL REFERENCES task (seq),
        change TEXT NOT NULL
    );
    CREATE TABLE replicate (
        seq INTEGER PRIMARY KEY,
        task INTEGER NOT NULL REFERENCES task (seq),
        worker BLOB NOT NULL,
        change TEXT NOT NULL
    );
    INSERT OR REPLACE INTO deal (deal, body)
        SELECT unhex(substr(json_extract(deal, '$.id'), 3)), deal FROM old_task ORDER BY rowid;
    INSERT INTO task
        SELECT old.rowid, unhex(substr(old.task, 3)), deal.seq, old.idx, old.result, old.ended
        FROM old_task old JOIN deal ON deal.deal = unhex(substr(json_extract(old.deal, '$.id'), 3));
    INSERT INTO stage
        SELECT seq, (SELECT rowid FROM old_task WHERE old_task.task = old.task), change FROM old_stage old;
    INSERT INTO replicate
        SELECT seq, (SELECT rowid FROM old_task WHERE old_task.task = old.task), unhex(substr(worker, 3)), change
        FROM old_replicate old;
    DROP TABLE old_stage;
    DROP TABLE old_replicate;
    DROP TABLE old_task;
    CREATE INDEX task_open ON task (seq) WHERE ended = 0;
    CREATE INDEX stage_of ON stage (task);
    CREATE INDEX replicate_of ON replicate (task);
    ",
    // What tasks of the deal need beyond it: nothing until it is read, for deals of earlier versions.
    "ALTER TABLE deal ADD COLUMN terms TEXT;",
];

/// The scheduler's memory. What is noted waits for [`Store::flush`], which writes all of it in one transaction.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) journal: Journal,
    notes: Vec<Note>,
}

/// Something to remember.
#[derive(Debug)]
enum Note {
    Deal(Box<Deal>),
    Terms(DealId, Terms),
    Task(TaskId, DealId, U256),
    Cursor(Cursor),
    Bag(DealId, Option<U256>),
    Stage(TaskId, StageChange),
    Ended(TaskId),
    Reopened(TaskId),
    Forgotten(TaskId),
    Status(TaskId, Address, StatusChange),
    Afresh(TaskId, Address),
    Result(TaskId, ResultLink),
}

/// What is needed to work on the tasks of a deal, and is not in the deal. It never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Terms {
    /// The T of its category, in seconds.
    pub(crate) period: u64,
    pub(crate) app_type: String,
}

/// A task as it was remembered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Remembered {
    pub(crate) task: TaskId,
    pub(crate) deal: Deal,
    /// Of the deal, if they were kept.
    pub(crate) terms: Option<Terms>,
    pub(crate) index: U256,
    pub(crate) result: Option<ResultLink>,
    pub(crate) stages: Vec<StageChange>,
    /// In the order of the first assignment.
    pub(crate) replicates: Vec<(Address, Vec<StatusChange>)>,
}

impl Remembered {
    /// Whether it had ended, as far as is known.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.stages.last().map(|s| s.status), Some(Stage::Completed | Stage::Failed))
    }
}

impl Store {
    /// The tables in `journal`, whose schema is [`SCHEMA`].
    pub(crate) fn new(journal: Journal, owner: &str) -> Result<Self, Error> {
        journal.belongs_to(owner)?;
        Ok(Self { journal, notes: vec![] })
    }

    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        Self::new(Journal::in_memory(SCHEMA).unwrap(), "test").unwrap()
    }

    /// Writes all that was noted since the last time. On an error nothing is written, and the notes are kept.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        if self.notes.is_empty() {
            return Ok(());
        }
        self.journal.write(|t| self.notes.iter().try_for_each(|note| note.write(t)))?;
        self.notes.clear();
        Ok(())
    }

    /// Whether something waits to be written.
    pub(crate) fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    pub(crate) fn cursor(&self) -> Result<Option<Cursor>, Error> {
        self.journal.read(|c| {
            let mut query = c.prepare_cached("SELECT cursor FROM cursor")?;
            let mut rows = query.query([])?;
            rows.next()?.map(|row| read(row.get::<_, String>(0)?)).transpose()
        })
    }

    /// How far the chain was read. Together with what was noted of the deals there: none is lost between the two.
    pub(crate) fn advance(&mut self, cursor: &Cursor) {
        self.notes.push(Note::Cursor(cursor.clone()));
    }

    /// New tasks of a deal.
    pub(crate) fn take(&mut self, deal: &Deal, tasks: &[(TaskId, U256)]) {
        if !tasks.is_empty() {
            self.notes.push(Note::Deal(Box::new(deal.clone())));
        }
        self.notes.extend(tasks.iter().map(|(task, index)| Note::Task(*task, deal.id, *index)));
    }

    /// What tasks of a deal, one of which was taken, need.
    pub(crate) fn terms(&mut self, deal: DealId, terms: &Terms) {
        self.notes.push(Note::Terms(deal, terms.clone()));
    }

    /// The number within the deal of its first task that was not taken, if one was not.
    pub(crate) fn taken(&mut self, deal: DealId, next: Option<U256>) {
        self.notes.push(Note::Bag(deal, next));
    }

    /// Deals that were not taken whole, and how far they were.
    pub(crate) fn bags(&self) -> Result<BTreeMap<DealId, U256>, Error> {
        self.journal.read(|c| {
            let mut query = c.prepare("SELECT deal, next FROM bag")?;
            let rows = query.query_map([], |row| {
                let (deal, next) = (row.get::<_, String>(0)?, row.get::<_, String>(1)?);
                let deal = deal.parse().map_err(|_| FromSqlError::InvalidType)?;
                Ok((DealId(deal), U256::from_str_radix(&next, 10).map_err(|_| FromSqlError::InvalidType)?))
            })?;
            rows.collect()
        })
    }

    /// A task's new stage.
    pub(crate) fn stage(&mut self, task: TaskId, change: StageChange) {
        self.notes.push(Note::Stage(task, change));
    }

    /// That a task has ended for good.
    pub(crate) fn ended(&mut self, task: TaskId) {
        self.notes.push(Note::Ended(task));
    }

    /// That the end of a task is in doubt.
    pub(crate) fn reopened(&mut self, task: TaskId) {
        self.notes.push(Note::Reopened(task));
    }

    /// That a task is not part of the chain, and never was.
    pub(crate) fn forget(&mut self, task: TaskId) {
        self.notes.push(Note::Forgotten(task));
    }

    /// Whether that was noted and is not written yet.
    pub(crate) fn forgets(&self, task: TaskId) -> bool {
        self.notes.iter().any(|note| matches!(note, Note::Forgotten(forgotten) if *forgotten == task))
    }

    /// A replicate's new status.
    pub(crate) fn status(&mut self, task: TaskId, worker: Address, change: StatusChange) {
        self.notes.push(Note::Status(task, worker, change));
    }

    /// That a replicate is assigned anew: of what it came to before, only its beginnings are kept.
    pub(crate) fn afresh(&mut self, task: TaskId, worker: Address) {
        self.notes.push(Note::Afresh(task, worker));
    }

    /// Where a result lies, and that its worker has done its part.
    pub(crate) fn result(&mut self, task: TaskId, worker: Address, link: &ResultLink, change: StatusChange) {
        self.notes.push(Note::Result(task, link.clone()));
        self.status(task, worker, change);
    }

    /// Every task that has not ended.
    pub(crate) fn open_tasks(&self) -> Result<Vec<Remembered>, Error> {
        load(&self.journal, "WHERE ended = 0 ORDER BY seq", &[])
    }

    /// Tasks that ended for good, of which the end was noted at this second or later.
    pub(crate) fn ended_since(&self, second: u64) -> Result<Vec<Remembered>, Error> {
        load(
            &self.journal,
            "WHERE ended = 1 AND EXISTS (
                SELECT 1 FROM stage WHERE stage.task = task.seq AND json_extract(change, '$.date') >= ?1)",
            &[&second],
        )
    }

    /// One task, ended or not.
    pub(crate) fn task(&self, task: TaskId) -> Result<Option<Remembered>, Error> {
        let found = load(&self.journal, "WHERE task = ?1", &[&task.0.as_slice()])?;
        Ok(found.into_iter().next())
    }
}

/// The newest tasks, newest first.
pub(crate) fn recent(journal: &Journal, limit: u32) -> Result<Vec<Remembered>, Error> {
    load(journal, "ORDER BY seq DESC LIMIT ?1", &[&limit])
}

/// The tasks that a clause chooses. Few statements for many tasks: each costs SQLite more than a row.
fn load(journal: &Journal, which: &str, arguments: &[&dyn rusqlite::ToSql]) -> Result<Vec<Remembered>, Error> {
    let of = |key: &str, table: &str, columns: &str, chosen: &str| {
        format!("SELECT {key}, {columns} FROM {table} WHERE {key} IN (SELECT {chosen} FROM task {which}) ORDER BY seq")
    };
    journal.read(|c| {
        let mut query = c.prepare_cached(&of("seq", "deal", "body, terms", "deal"))?;
        let deals = query.query_map(arguments, |row| {
            let terms = row.get::<_, Option<String>>(2)?.map(read::<Terms>).transpose()?;
            Ok((row.get::<_, i64>(0)?, (read::<Deal>(row.get(1)?)?, terms)))
        })?;
        let deals = deals.collect::<rusqlite::Result<BTreeMap<_, _>>>()?;
        let mut query = c.prepare_cached(&format!("SELECT seq, task, deal, idx, result FROM task {which}"))?;
        let (mut found, mut places) = (Vec::new(), BTreeMap::new());
        let mut rows = query.query(arguments)?;
        while let Some(row) = rows.next()? {
            let (index, result): (String, Option<String>) = (row.get(3)?, row.get(4)?);
            places.insert(row.get::<_, i64>(0)?, found.len());
            let (deal, terms) = deals.get(&row.get(2)?).ok_or(FromSqlError::InvalidType)?.clone();
            found.push(Remembered {
                task: TaskId(B256::from(row.get::<_, [u8; 32]>(1)?)),
                deal,
                terms,
                index: U256::from_str_radix(&index, 10).map_err(|_| FromSqlError::InvalidType)?,
                result: result.map(read).transpose()?,
                stages: vec![],
                replicates: vec![],
            });
        }
        if found.is_empty() {
            return Ok(found);
        }
        let mut query = c.prepare_cached(&of("task", "stage", "change", "seq"))?;
        let mut rows = query.query(arguments)?;
        while let Some(row) = rows.next()? {
            if let Some(place) = places.get(&row.get(0)?) {
                found[*place].stages.push(read(row.get(1)?)?);
            }
        }
        let mut query = c.prepare_cached(&of("task", "replicate", "worker, change", "seq"))?;
        let mut rows = query.query(arguments)?;
        while let Some(row) = rows.next()? {
            let worker = Address::from(row.get::<_, [u8; 20]>(1)?);
            let Some(place) = places.get(&row.get(0)?) else { continue };
            let (replicates, change) = (&mut found[*place].replicates, read(row.get(2)?)?);
            match replicates.iter_mut().find(|(w, _)| *w == worker) {
                Some((_, history)) => history.push(change),
                None => replicates.push((worker, vec![change])),
            }
        }
        Ok(found)
    })
}

impl Note {
    fn write(&self, t: &Connection) -> rusqlite::Result<()> {
        let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| t.prepare_cached(sql)?.execute(values).map(drop);
        match self {
            Self::Deal(deal) => run(
                "INSERT INTO deal (deal, body) VALUES (?1, ?2) ON CONFLICT (deal) DO UPDATE SET body = excluded.body",
                params![deal.id.0.as_slice(), write(deal)],
            ),
            Self::Terms(deal, terms) => {
                run("UPDATE deal SET terms = ?2 WHERE deal = ?1", params![deal.0.as_slice(), write(terms)])
            }
            Self::Task(task, deal, index) => run(
                "INSERT OR IGNORE INTO task (task, deal, idx) VALUES (?1, (SELECT seq FROM deal WHERE deal = ?2), ?3)",
                params![task.0.as_slice(), deal.0.as_slice(), index.to_string()],
            ),
            Self::Cursor(cursor) => {
                run("INSERT OR REPLACE INTO cursor (id, cursor) VALUES (0, ?1)", params![write(cursor)])
            }
            Self::Bag(deal, Some(next)) => run(
                "INSERT OR REPLACE INTO bag (deal, next) VALUES (?1, ?2)",
                params![deal.0.to_string(), next.to_string()],
            ),
            Self::Bag(deal, None) => run("DELETE FROM bag WHERE deal = ?1", params![deal.0.to_string()]),
            Self::Stage(task, change) => run(
                "INSERT INTO stage (task, change) VALUES ((SELECT seq FROM task WHERE task = ?1), ?2)",
                params![task.0.as_slice(), write(change)],
            ),
            Self::Ended(task) => run("UPDATE task SET ended = 1 WHERE task = ?1", params![task.0.as_slice()]),
            Self::Reopened(task) => run("UPDATE task SET ended = 0 WHERE task = ?1", params![task.0.as_slice()]),
            Self::Forgotten(task) => {
                for of in ["stage", "replicate"] {
                    let sql = format!("DELETE FROM {of} WHERE task = (SELECT seq FROM task WHERE task = ?1)");
                    run(&sql, params![task.0.as_slice()])?;
                }
                run("DELETE FROM task WHERE task = ?1", params![task.0.as_slice()])
            }
            Self::Status(task, worker, change) => run(
                "INSERT INTO replicate (task, worker, change) VALUES ((SELECT seq FROM task WHERE task = ?1), ?2, ?3)",
                params![task.0.as_slice(), worker.as_slice(), write(change)],
            ),
            Self::Afresh(task, worker) => run(
                "DELETE FROM replicate WHERE task = (SELECT seq FROM task WHERE task = ?1) AND worker = ?2
                AND json_extract(change, '$.status') <> ?3",
                params![task.0.as_slice(), worker.as_slice(), Status::Created.to_string()],
            ),
            Self::Result(task, link) => {
                run("UPDATE task SET result = ?2 WHERE task = ?1", params![task.0.as_slice(), write(link)])
            }
        }
    }
}

fn write<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("stored types serialise")
}

fn read<T: DeserializeOwned>(text: String) -> rusqlite::Result<T> {
    serde_json::from_str(&text).map_err(|_| FromSqlError::InvalidType.into())
}

/// The status a history has come to.
pub(crate) fn current(history: &[StatusChange]) -> Status {
    history.last().map_or(Status::Created, |change| change.status)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use bourse_protocol::{deal::Resource, ids::DealId, money::Nrlc};

    pub(crate) fn deal() -> Deal {
        let resource =
            |n| Resource { pointer: Address::with_last_byte(n), owner: Address::ZERO, price: Nrlc::rlc(u64::from(n)) };
        Deal {
            id: DealId(B256::with_last_byte(1)),
            app: resource(1),
            dataset: Some(resource(2)),
            workerpool: resource(10),
            trust: U256::from(5),
            category: U256::ZERO,
            tag: B256::ZERO,
            requester: Address::with_last_byte(9),
            beneficiary: Address::ZERO,
            callback: Address::ZERO,
            params: String::new(),
            start_time: 1000,
            bot_first: U256::ZERO,
            bot_size: U256::from(1),
            worker_stake: Nrlc::rlc(3),
            scheduler_percent: 1,
            sponsor: Address::ZERO,
        }
    }

    #[test]
    fn everything_said_of_a_task_is_remembered_in_order() {
        let mut store = Store::in_memory();
        let (task, worker) = (TaskId(B256::with_last_byte(7)), Address::with_last_byte(8));
        let cursor = Cursor::starting_at(3);
        assert_eq!(store.cursor().unwrap(), None);
        for _ in 0..2 {
            store.take(&deal(), &[(task, U256::ZERO)]);
            store.taken(deal().id, Some(U256::from(1)));
            store.advance(&cursor);
        }
        store.flush().unwrap();
        assert_eq!(store.cursor().unwrap(), Some(cursor));
        assert_eq!(store.bags().unwrap(), [(deal().id, U256::from(1))].into());
        store.taken(deal().id, None);
        store.flush().unwrap();
        assert!(store.bags().unwrap().is_empty());
        let change = |status| StatusChange { date: 1, status, cause: None };
        store.status(task, worker, change(Status::Created));
        let link = ResultLink::ipfs("/ipfs/x".into());
        store.result(task, worker, &link, change(Status::ResultUploaded));
        let stage = StageChange { date: 2, status: Stage::Running, cause: None };
        store.stage(task, stage.clone());
        assert!(store.open_tasks().unwrap()[0].replicates.is_empty(), "nothing is written before the flush");
        store.flush().unwrap();
        let open = store.open_tasks().unwrap();
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].replicates, [(worker, vec![change(Status::Created), change(Status::ResultUploaded)])]);
        assert_eq!((open[0].result.as_ref(), &open[0].stages[..]), (Some(&link), &[stage][..]));
        store.stage(task, StageChange { date: 3, status: Stage::Completed, cause: None });
        store.flush().unwrap();
        assert_eq!(store.open_tasks().unwrap().len(), 1, "its end may go away with a block");
        store.ended(task);
        store.flush().unwrap();
        assert!(store.open_tasks().unwrap().is_empty());
        assert_eq!(store.task(task).unwrap().unwrap().stages.len(), 2);
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let mut store = Store::in_memory();
        let task = TaskId(B256::with_last_byte(7));
        // There is no such task.
        store.stage(task, StageChange { date: 2, status: Stage::Running, cause: None });
        assert!(store.flush().is_err() && store.has_notes());
        let insert = "INSERT INTO deal (seq, deal, body) VALUES (1, x'01', '{}');
            INSERT INTO task (task, deal, idx)
            VALUES (x'0000000000000000000000000000000000000000000000000000000000000007', 1, '0');";
        store.journal.write(|t| t.execute_batch(insert)).unwrap();
        store.flush().unwrap();
        assert!(!store.has_notes());
    }

    #[test]
    fn a_deal_that_a_reorg_changed_is_remembered_as_it_is_now() {
        let mut store = Store::in_memory();
        let task = |n: u8| TaskId(B256::with_last_byte(n));
        store.take(&deal(), &[(task(1), U256::ZERO)]);
        store.flush().unwrap();
        let later = Deal { start_time: 1012, ..deal() };
        store.take(&later, &[(task(1), U256::ZERO), (task(2), U256::from(1))]);
        store.flush().unwrap();
        let open = store.open_tasks().unwrap();
        assert_eq!(
            open.iter().map(|t| (t.task, t.index)).collect::<Vec<_>>(),
            [(task(1), U256::ZERO), (task(2), U256::from(1))]
        );
        assert!(open.iter().all(|t| t.deal == later));
    }

    #[test]
    fn what_tasks_of_a_deal_need_is_kept_with_it() {
        let mut store = Store::in_memory();
        let (task, terms) = (TaskId(B256::with_last_byte(7)), Terms { period: 300, app_type: "WASM".into() });
        store.take(&deal(), &[(task, U256::ZERO)]);
        store.flush().unwrap();
        assert_eq!(store.open_tasks().unwrap()[0].terms, None);
        store.terms(deal().id, &terms);
        store.take(&deal(), &[(task, U256::ZERO)]);
        store.flush().unwrap();
        assert_eq!(store.open_tasks().unwrap()[0].terms, Some(terms));
    }

    #[test]
    fn what_an_earlier_version_remembered_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scheduler.db");
        let (hash, worker) = (|n: u8| B256::with_last_byte(n), Address::with_last_byte(8));
        let of = |n: u8| Deal { id: DealId(hash(n)), ..deal() };
        let stage = StageChange { date: 5, status: Stage::Completed, cause: None };
        let change = |status| StatusChange { date: 1, status, cause: None };
        let link = ResultLink::ipfs("/ipfs/x".into());
        let earlier = Journal::open(&path, &SCHEMA[..3]).unwrap();
        let write_earlier = |t: &Connection| {
            for (task, deal, ended) in [(7, 1, 1), (6, 1, 0), (9, 2, 0)] {
                t.execute(
                    "INSERT INTO task (task, deal, idx, result, ended) VALUES (?1, ?2, '3', ?3, ?4)",
                    params![hash(task).to_string(), write(&of(deal)), (task == 7).then(|| write(&link)), ended],
                )?;
            }
            t.execute("INSERT INTO stage (task, change) VALUES (?1, ?2)", [hash(7).to_string(), write(&stage)])?;
            for status in [Status::Created, Status::Computing] {
                t.execute(
                    "INSERT INTO replicate (task, worker, change) VALUES (?1, ?2, ?3)",
                    [hash(9).to_string(), worker.to_string(), write(&change(status))],
                )?;
            }
            Ok(())
        };
        earlier.write(write_earlier).unwrap();
        drop(earlier);
        let store = Store::new(Journal::open(&path, SCHEMA).unwrap(), "test").unwrap();
        let open = store.open_tasks().unwrap();
        assert!(open.iter().all(|t| t.terms.is_none()), "they are yet to be read");
        let known = |t: &Remembered| (t.task, t.deal.clone(), t.index);
        let index = U256::from(3);
        assert_eq!(
            open.iter().map(known).collect::<Vec<_>>(),
            [(TaskId(hash(6)), of(1), index), (TaskId(hash(9)), of(2), index)]
        );
        assert_eq!(open[1].replicates, [(worker, vec![change(Status::Created), change(Status::Computing)])]);
        let ended = store.ended_since(5).unwrap();
        assert_eq!((ended.len(), ended[0].task, ended[0].result.clone()), (1, TaskId(hash(7)), Some(link)));
        assert_eq!(ended[0].stages, [stage]);
    }
}
