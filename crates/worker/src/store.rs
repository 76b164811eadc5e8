//! The worker's journal: what it took on and how far it came. All SQL of the worker is here.
//!
//! Invariant: once a contribution may have been sent, the digest of its replicate never changes.

use bourse_protocol::{
    deal::ResultLink,
    ids::{ResultDigest, TaskId},
    link::Assignment,
    replicate::{Cause, Status},
};
use bourse_service::journal::{Error, Journal};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};
use serde::{Serialize, de::DeserializeOwned};

/// The steps of the schema.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE replicate (
        task TEXT PRIMARY KEY,
        assignment TEXT NOT NULL,
        status TEXT NOT NULL,
        cause TEXT,
        digest TEXT,
        result TEXT,
        contribution_out INTEGER NOT NULL DEFAULT 0,
        contribute_failures INTEGER NOT NULL DEFAULT 0,
        reveal_failures INTEGER NOT NULL DEFAULT 0,
        upload_wanted INTEGER NOT NULL DEFAULT 0,
        link TEXT,
        aborted TEXT,
        ended INTEGER NOT NULL DEFAULT 0,
        deadline INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TRIGGER replicate_one_digest BEFORE UPDATE OF digest ON replicate
        WHEN OLD.contribution_out AND NEW.digest IS NOT OLD.digest
        BEGIN SELECT RAISE(ABORT, 'a contribution with another digest may have been sent'); END;
";

/// What is known for good about one replicate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// What the scheduler asked for.
    pub(crate) assignment: Assignment,
    /// What was reported last.
    pub(crate) status: Status,
    /// Why, for failures.
    pub(crate) cause: Option<Cause>,
    /// The answer and its file, once both are on disk.
    pub(crate) answer: Option<Answer>,
    /// A contribution may be on its way, or on chain.
    pub(crate) contribution_out: bool,
    /// Contributions that were mined and failed.
    pub(crate) contribute_failures: u32,
    /// Reveals that were mined and failed.
    pub(crate) reveal_failures: u32,
    /// The scheduler wants the result and has not got it.
    pub(crate) upload_wanted: bool,
    /// Where the result lies, once uploaded.
    pub(crate) link: Option<ResultLink>,
    /// The scheduler wants no contribution any more.
    pub(crate) aborted: Option<Cause>,
    /// Nothing is left to do.
    pub(crate) ended: bool,
}

/// What is contributed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The value that is voted on.
    pub(crate) digest: ResultDigest,
    /// The file it is the digest of, relative to the task's folder: the sha2-256, and of [`crate::folder::CALLBACK`] the keccak256.
    pub(crate) file: String,
}

impl Record {
    /// The task.
    pub(crate) fn task(&self) -> TaskId {
        self.assignment.task
    }

    /// Whether a machine slot is taken: the answer is wanted and not known yet.
    pub(crate) fn is_computing(&self) -> bool {
        !self.ended && self.answer.is_none() && self.aborted.is_none()
    }
}

/// The worker's part of the journal. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    journal: Journal,
}

impl Store {
    /// The tables in `journal`, whose schema includes [`SCHEMA`].
    pub(crate) fn new(journal: Journal) -> Self {
        Self { journal }
    }

    /// Takes an assignment on, unless the task is known. Returns whether it is new.
    pub(crate) fn take(&self, assignment: &Assignment) -> Result<bool, Error> {
        let added = self.journal.write(|t| {
            let sql = "INSERT OR IGNORE INTO replicate (task, assignment, status) VALUES (?1, ?2, ?3)";
            let values = params![assignment.task.to_string(), json(assignment), json(&Status::Created)];
            t.prepare_cached(sql)?.execute(values)
        })?;
        Ok(added > 0)
    }

    /// One replicate.
    pub(crate) fn get(&self, task: TaskId) -> Result<Option<Record>, Error> {
        self.journal
            .read(|c| c.prepare_cached(&select("WHERE task = ?1"))?.query_row([task.to_string()], record).optional())
    }

    /// Every replicate that has not ended.
    pub(crate) fn open(&self) -> Result<Vec<Record>, Error> {
        self.journal.read(|c| list(c, "WHERE ended = 0 ORDER BY task"))
    }

    /// The latest of those that have ended, at most `limit`.
    pub(crate) fn ended(&self, limit: u32) -> Result<Vec<Record>, Error> {
        self.journal.read(|c| list(c, &format!("WHERE ended = 1 ORDER BY deadline DESC LIMIT {limit}")))
    }

    /// Notes what is reported.
    pub(crate) fn set_status(&self, task: TaskId, status: Status, cause: Option<&Cause>) -> Result<(), Error> {
        self.update(task, "status = ?2, cause = ?3", params![key(task), json(&status), cause.map(json)])
    }

    /// Notes when a replicate can be forgotten, in seconds since the epoch.
    pub(crate) fn set_deadline(&self, task: TaskId, deadline: u64) -> Result<(), Error> {
        let deadline = i64::try_from(deadline).unwrap_or(i64::MAX);
        self.update(task, "deadline = ?2", params![key(task), deadline])
    }

    /// Notes the answer, whose file must be safely on disk.
    pub(crate) fn set_answer(&self, task: TaskId, answer: &Answer) -> Result<(), Error> {
        self.update(task, "digest = ?2, result = ?3", params![key(task), answer.digest.to_string(), answer.file])
    }

    /// Notes whether a contribution may be on its way: before it is sent, and when it is known that it was not.
    pub(crate) fn set_contribution_out(&self, task: TaskId, out: bool) -> Result<(), Error> {
        self.update(task, "contribution_out = ?2", params![key(task), out])
    }

    /// Notes that the contribution was mined and failed.
    pub(crate) fn contribution_failed(&self, task: TaskId) -> Result<(), Error> {
        let set = "contribution_out = 0, contribute_failures = contribute_failures + 1";
        self.update(task, set, params![key(task)])
    }

    /// Notes that the reveal was mined and failed.
    pub(crate) fn reveal_failed(&self, task: TaskId) -> Result<(), Error> {
        self.update(task, "reveal_failures = reveal_failures + 1", params![key(task)])
    }

    /// Notes whether the scheduler waits for the result.
    pub(crate) fn set_upload_wanted(&self, task: TaskId, wanted: bool) -> Result<(), Error> {
        self.update(task, "upload_wanted = ?2", params![key(task), wanted])
    }

    /// Notes where the result lies.
    pub(crate) fn set_link(&self, task: TaskId, link: &ResultLink) -> Result<(), Error> {
        self.update(task, "link = ?2, upload_wanted = 0", params![key(task), json(link)])
    }

    /// Notes that no contribution is wanted any more.
    pub(crate) fn set_aborted(&self, task: TaskId, cause: &Cause) -> Result<(), Error> {
        self.update(task, "aborted = ?2", params![key(task), json(cause)])
    }

    /// Ends a replicate.
    pub(crate) fn end(&self, task: TaskId, status: Status, cause: Option<&Cause>) -> Result<(), Error> {
        self.update(task, "status = ?2, cause = ?3, ended = 1", params![key(task), json(&status), cause.map(json)])
    }

    /// Opens a replicate that ended without a contribution again, with a fresh authorization and no answer.
    pub(crate) fn reopen(&self, assignment: &Assignment) -> Result<(), Error> {
        self.update(
            assignment.task,
            "assignment = ?2, status = ?3, cause = NULL, digest = NULL, result = NULL, aborted = NULL, ended = 0",
            params![key(assignment.task), json(assignment), json(&Status::Created)],
        )
    }

    /// Forgets ended replicates whose tasks nobody can ask about any more.
    pub(crate) fn forget_before(&self, now: u64) -> Result<(), Error> {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let sql = "DELETE FROM replicate WHERE ended = 1 AND deadline < ?1";
        self.journal.write(|t| t.prepare_cached(sql)?.execute([now]).map(drop))
    }

    fn update(&self, task: TaskId, set: &str, values: &[&dyn rusqlite::ToSql]) -> Result<(), Error> {
        let sql = format!("UPDATE replicate SET {set} WHERE task = ?1");
        let changed = self.journal.write(|t| t.prepare_cached(&sql)?.execute(values))?;
        debug_assert!(changed == 1, "{task} is not in the journal");
        Ok(())
    }
}

fn key(task: TaskId) -> String {
    task.to_string()
}

fn list(connection: &Connection, rest: &str) -> rusqlite::Result<Vec<Record>> {
    connection.prepare_cached(&select(rest))?.query_map([], record)?.collect()
}

fn select(rest: &str) -> String {
    format!(
        "SELECT assignment, status, cause, digest, result, contribution_out, contribute_failures, reveal_failures,
            upload_wanted, link, aborted, ended FROM replicate {rest}"
    )
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let digest: Option<String> = row.get(3)?;
    let file: Option<String> = row.get(4)?;
    let digest = digest.map(|d| d.parse::<ResultDigest>()).transpose().map_err(|e| unreadable(3, e))?;
    Ok(Record {
        assignment: read(row, 0)?,
        status: read(row, 1)?,
        cause: read_optional(row, 2)?,
        answer: digest.zip(file).map(|(digest, file)| Answer { digest, file }),
        contribution_out: row.get(5)?,
        contribute_failures: row.get(6)?,
        reveal_failures: row.get(7)?,
        upload_wanted: row.get(8)?,
        link: read_optional(row, 9)?,
        aborted: read_optional(row, 10)?,
        ended: row.get(11)?,
    })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("records always serialise")
}

fn read<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(&row.get::<_, String>(column)?).map_err(|e| unreadable(column, e))
}

fn read_optional<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text)).transpose().map_err(|e| unreadable(column, e))
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourse_protocol::{Address, B256, U256, ids::DealId, replicate::CauseCode};

    pub(crate) fn assignment(n: u8) -> Assignment {
        let deal = DealId(B256::repeat_byte(n));
        Assignment {
            task: TaskId::of(deal, U256::ZERO),
            deal,
            index: U256::ZERO,
            authorization: vec![n; 65].into(),
            enclave_challenge: Address::ZERO,
        }
    }

    fn store() -> Store {
        Store::new(Journal::in_memory(&[SCHEMA]).unwrap())
    }

    fn answer(n: u8) -> Answer {
        Answer { digest: ResultDigest(B256::repeat_byte(n)), file: "out/result.json".into() }
    }

    #[test]
    fn an_assignment_is_taken_once() {
        let store = store();
        let first = assignment(1);
        assert!(store.take(&first).unwrap());
        store.set_status(first.task, Status::Running, None).unwrap();
        assert!(!store.take(&Assignment { authorization: Default::default(), ..first.clone() }).unwrap());
        let record = store.get(first.task).unwrap().unwrap();
        assert_eq!((record.status, &record.assignment, record.is_computing()), (Status::Running, &first, true));
        assert_eq!(store.get(assignment(2).task).unwrap(), None);
    }

    #[test]
    fn everything_noted_is_read_back() {
        let (store, task) = (store(), assignment(1).task);
        store.take(&assignment(1)).unwrap();
        let cause = Cause::new(CauseCode::AppComputeFailed, "it \"died\"");
        let link = ResultLink::ipfs("/ipfs/x".into());
        store.set_status(task, Status::ComputeFailed, Some(&cause)).unwrap();
        store.set_answer(task, &answer(1)).unwrap();
        store.contribution_failed(task).unwrap();
        store.set_contribution_out(task, true).unwrap();
        store.reveal_failed(task).unwrap();
        store.reveal_failed(task).unwrap();
        store.set_upload_wanted(task, true).unwrap();
        store.set_aborted(task, &cause).unwrap();
        let record = store.get(task).unwrap().unwrap();
        assert!(record.upload_wanted);
        store.set_link(task, &link).unwrap();
        assert_eq!(
            store.open().unwrap(),
            [Record {
                assignment: assignment(1),
                status: Status::ComputeFailed,
                cause: Some(cause.clone()),
                answer: Some(answer(1)),
                contribution_out: true,
                contribute_failures: 1,
                reveal_failures: 2,
                upload_wanted: false,
                link: Some(link),
                aborted: Some(cause),
                ended: false,
            }]
        );
    }

    #[test]
    fn the_digest_is_free_until_a_contribution_may_be_out_and_fixed_from_then_on() {
        let (store, task) = (store(), assignment(1).task);
        store.take(&assignment(1)).unwrap();
        store.set_answer(task, &answer(1)).unwrap();
        store.set_answer(task, &answer(2)).unwrap();
        store.set_contribution_out(task, true).unwrap();
        store.set_answer(task, &answer(2)).unwrap();
        assert!(store.set_answer(task, &answer(3)).is_err());
        assert!(store.reopen(&assignment(1)).is_err());
        assert_eq!(store.get(task).unwrap().unwrap().answer, Some(answer(2)));
        store.contribution_failed(task).unwrap();
        store.set_answer(task, &answer(3)).unwrap();
    }

    #[test]
    fn ended_replicates_are_kept_until_their_deadline() {
        let (store, task) = (store(), assignment(1).task);
        store.take(&assignment(1)).unwrap();
        store.set_deadline(task, 100).unwrap();
        store.forget_before(101).unwrap();
        assert_eq!(store.open().unwrap().len(), 1, "open ones stay");
        store.end(task, Status::Completed, None).unwrap();
        store.forget_before(100).unwrap();
        assert_eq!((store.open().unwrap().len(), store.ended(9).unwrap().len()), (0, 1));
        store.forget_before(101).unwrap();
        assert_eq!(store.ended(9).unwrap(), []);
    }
}
