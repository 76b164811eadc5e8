//! The sender's tables in its role's journal.

use super::{Receipt, SendError};
use crate::{gas::Fees, revert::Revert};
use alloy::primitives::{Address, B256, Bytes, U256};
use bourse_service::journal::{Error, Journal};
use rusqlite::{Connection, Row as SqlRow, params};
use serde::{Deserialize, Serialize};

/// The schema step of the sender's tables.
pub const SCHEMA: &str = "
    CREATE TABLE chain_intent (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        wallet TEXT NOT NULL,
        target TEXT,
        value TEXT NOT NULL,
        data BLOB NOT NULL,
        nonce INTEGER,
        outcome TEXT
    );
    CREATE TABLE chain_attempt (
        hash TEXT PRIMARY KEY,
        id TEXT NOT NULL REFERENCES chain_intent (id) ON DELETE CASCADE,
        raw BLOB NOT NULL,
        gas_limit INTEGER NOT NULL,
        max_fee TEXT NOT NULL,
        tip TEXT NOT NULL
    );
    CREATE INDEX chain_attempt_of ON chain_attempt (id);
";

/// What was added later; roles need not know of it.
const ADDED: &str = "
    CREATE TABLE IF NOT EXISTS chain_mined (
        id TEXT PRIMARY KEY REFERENCES chain_intent (id) ON DELETE CASCADE,
        wallet TEXT NOT NULL,
        nonce INTEGER NOT NULL,
        block INTEGER NOT NULL,
        block_hash TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS chain_buried (
        id TEXT PRIMARY KEY REFERENCES chain_intent (id) ON DELETE CASCADE,
        block INTEGER NOT NULL,
        block_hash TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS chain_tag (id INTEGER PRIMARY KEY CHECK (id = 0), tag INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS chain_gas (
        target TEXT NOT NULL,
        selector BLOB NOT NULL,
        gas INTEGER NOT NULL,
        PRIMARY KEY (target, selector)
    );
";

/// What is to be done on chain, under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Intent {
    pub(super) id: String,
    pub(super) to: Option<Address>,
    pub(super) value: U256,
    pub(super) data: Bytes,
}

/// One signed transaction for an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) hash: B256,
    pub(super) raw: Vec<u8>,
    pub(super) gas_limit: u64,
    pub(super) fees: Fees,
}

/// How an intent ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Outcome {
    Done(Receipt),
    Failed(Revert),
}

impl Outcome {
    pub(super) fn into_result(self, id: &str) -> Result<Receipt, SendError> {
        match self {
            Self::Done(receipt) => Ok(receipt),
            Self::Failed(revert) => Err(SendError::Failed { id: id.into(), revert }),
        }
    }
}

/// An intent that is not settled.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Open {
    /// Its place in the order of asking.
    pub(super) seq: u64,
    pub(super) intent: Intent,
    /// Where it went: the nonce and what was signed for it. Nothing yet if it waits.
    pub(super) sent: Option<(u64, Vec<Attempt>)>,
}

/// An intent whose transaction is in a block that may still go away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mined {
    pub(super) id: String,
    pub(super) nonce: u64,
    pub(super) block: u64,
    pub(super) block_hash: B256,
}

/// Makes the tables that came later, and gives this store a number of its own; says which.
pub(super) fn prepare(journal: &Journal) -> Result<u8, Error> {
    journal.write(|t| {
        t.execute_batch(ADDED)?;
        t.prepare_cached("INSERT OR IGNORE INTO chain_tag (id, tag) VALUES (0, abs(random() % 256))")?.execute([])?;
        t.prepare_cached("SELECT tag FROM chain_tag WHERE id = 0")?.query_row([], |row| row.get(0))
    })
}

/// Adds an intent unless its name is known: its place, and how it ended if it has.
pub(super) fn insert(journal: &Journal, wallet: Address, intent: &Intent) -> Result<(u64, Option<Outcome>), Error> {
    let (seq, outcome) = journal.write(|t| {
        insert_intent(t, wallet, intent)?;
        t.prepare_cached("SELECT seq, outcome FROM chain_intent WHERE id = ?1")?
            .query_row([&intent.id], |row| Ok((row.get(0)?, row.get::<_, Option<String>>(1)?)))
    })?;
    Ok((seq, outcome.map(|text| serde_json::from_str(&text).expect("written by `settle`"))))
}

fn insert_intent(c: &Connection, wallet: Address, intent: &Intent) -> rusqlite::Result<()> {
    let target = intent.to.map(|a| a.to_string());
    c.prepare_cached(
        "INSERT OR IGNORE INTO chain_intent (id, wallet, target, value, data) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![intent.id, wallet.to_string(), target, intent.value.to_string(), intent.data.as_ref()])
    .map(drop)
}

/// Adds an intent together with its transaction: one whose nonce is given.
pub(super) fn insert_sent(
    journal: &Journal,
    wallet: Address,
    intent: &Intent,
    nonce: u64,
    attempt: &Attempt,
) -> Result<u64, Error> {
    journal.write(|t| {
        insert_intent(t, wallet, intent)?;
        t.prepare_cached("DELETE FROM chain_mined WHERE id = ?1")?.execute([&intent.id])?;
        t.prepare_cached("UPDATE chain_intent SET nonce = ?2, outcome = NULL WHERE id = ?1")?
            .execute(params![intent.id, nonce])?;
        insert_attempt(t, &intent.id, attempt)?;
        t.prepare_cached("SELECT seq FROM chain_intent WHERE id = ?1")?.query_row([&intent.id], |row| row.get(0))
    })
}

/// Everything of a wallet that is not settled, in the order of asking.
pub(super) fn load(journal: &Journal, wallet: Address) -> Result<Vec<Open>, Error> {
    let sql = "SELECT id, target, value, data, nonce, seq FROM chain_intent
        WHERE wallet = ?1 AND outcome IS NULL ORDER BY seq";
    journal.read(|c| c.prepare_cached(sql)?.query_map([wallet.to_string()], |row| open(c, row))?.collect())
}

/// Whether there is any intent of a wallet.
pub(super) fn any(journal: &Journal, wallet: Address) -> Result<bool, Error> {
    journal.read(|c| {
        let sql = "SELECT EXISTS (SELECT 1 FROM chain_intent WHERE wallet = ?1)";
        c.prepare_cached(sql)?.query_row([wallet.to_string()], |row| row.get(0))
    })
}

/// How many intents of a wallet are not settled.
pub(super) fn open_count(journal: &Journal, wallet: Address) -> Result<u64, Error> {
    journal.read(|c| {
        let sql = "SELECT COUNT(*) FROM chain_intent WHERE wallet = ?1 AND outcome IS NULL";
        c.prepare_cached(sql)?.query_row([wallet.to_string()], |row| row.get(0))
    })
}

/// The transactions of a wallet whose blocks may still go away.
pub(super) fn load_mined(journal: &Journal, wallet: Address) -> Result<Vec<Mined>, Error> {
    journal.read(|c| {
        let mut query = c.prepare_cached("SELECT id, nonce, block, block_hash FROM chain_mined WHERE wallet = ?1")?;
        let rows = query.query_map([wallet.to_string()], |row| {
            Ok(Mined { id: row.get(0)?, nonce: row.get(1)?, block: row.get(2)?, block_hash: parse(row, 3)? })
        })?;
        rows.collect()
    })
}

/// Fixes nonce and signed transaction of an intent, before it is broadcast.
pub(super) fn send(journal: &Journal, id: &str, nonce: u64, attempt: &Attempt) -> Result<(), Error> {
    journal.write(|t| {
        t.prepare_cached("UPDATE chain_intent SET nonce = ?2 WHERE id = ?1")?.execute(params![id, nonce])?;
        insert_attempt(t, id, attempt)
    })
}

/// Adds a transaction that replaces the earlier ones of an intent.
pub(super) fn add_attempt(journal: &Journal, id: &str, attempt: &Attempt) -> Result<(), Error> {
    journal.write(|t| insert_attempt(t, id, attempt))
}

/// Puts an intent back to where it was before it was sent.
pub(super) fn requeue(journal: &Journal, id: &str) -> Result<(), Error> {
    journal.write(|t| {
        t.prepare_cached("DELETE FROM chain_attempt WHERE id = ?1")?.execute([id])?;
        t.prepare_cached("UPDATE chain_intent SET nonce = NULL WHERE id = ?1")?.execute([id]).map(drop)
    })
}

/// Notes how an intent ended.
pub(super) fn settle(
    journal: &Journal,
    wallet: Address,
    intent: &Intent,
    outcome: &Outcome,
    mined: &Mined,
    gas: u64,
) -> Result<(), Error> {
    let text = serde_json::to_string(outcome).expect("outcomes serialise");
    journal.write(|t| {
        t.prepare_cached("UPDATE chain_intent SET outcome = ?2 WHERE id = ?1")?.execute(params![mined.id, text])?;
        t.prepare_cached(
            "INSERT OR REPLACE INTO chain_mined (id, wallet, nonce, block, block_hash) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            mined.id,
            wallet.to_string(),
            mined.nonce,
            mined.block,
            mined.block_hash.to_string()
        ])?;
        let (Some(target), Some(selector)) = (intent.to, intent.data.get(..4)) else { return Ok(()) };
        // The dearest of late: what was dearer once is forgotten by and by.
        t.prepare_cached(
            "INSERT INTO chain_gas (target, selector, gas) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET gas = max(excluded.gas, gas - gas / 16)",
        )?
        .execute(params![target.to_string(), selector, gas])
        .map(drop)
    })
}

/// No longer watches the blocks of intents. What was signed is kept: a reorg may still take it away.
pub(super) fn bury(journal: &Journal, ids: &[String]) -> Result<(), Error> {
    journal.write(|t| {
        for id in ids {
            t.prepare_cached(
                "INSERT OR REPLACE INTO chain_buried (id, block, block_hash)
                 SELECT id, block, block_hash FROM chain_mined WHERE id = ?1",
            )?
            .execute([id])?;
            t.prepare_cached("DELETE FROM chain_mined WHERE id = ?1")?.execute([id])?;
        }
        Ok(())
    })
}

/// Number and hash of the block in which an intent lies that is no longer watched.
pub(super) fn buried(journal: &Journal, id: &str) -> Result<Option<(u64, B256)>, Error> {
    journal.read(|c| {
        let mut query = c.prepare_cached("SELECT block, block_hash FROM chain_buried WHERE id = ?1")?;
        let mut rows = query.query([id])?;
        rows.next()?.map(|row| Ok((row.get(0)?, parse(row, 1)?))).transpose()
    })
}

/// Whether a transaction was signed here.
pub(super) fn signed(journal: &Journal, hash: B256) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM chain_attempt WHERE hash = ?1)";
    journal.read(|c| c.prepare_cached(sql)?.query_row([hash.to_string()], |row| row.get(0)))
}

/// Takes back how an intent ended: its block went away.
pub(super) fn reopen(journal: &Journal, id: &str) -> Result<Open, Error> {
    journal.write(|t| {
        t.prepare_cached("UPDATE chain_intent SET outcome = NULL WHERE id = ?1")?.execute([id])?;
        t.prepare_cached("DELETE FROM chain_mined WHERE id = ?1")?.execute([id])?;
        t.prepare_cached("DELETE FROM chain_buried WHERE id = ?1")?.execute([id])?;
        let sql = "SELECT id, target, value, data, nonce, seq FROM chain_intent WHERE id = ?1";
        t.prepare_cached(sql)?.query_row([id], |row| open(t, row))
    })
}

/// Gas that this store's wallets used for a call of late; `None` if they never made it.
pub(super) fn gas_of(journal: &Journal, target: Address, selector: [u8; 4]) -> Result<Option<u64>, Error> {
    journal.read(|c| {
        let sql = "SELECT max(gas) FROM chain_gas WHERE target = ?1 AND selector = ?2";
        c.prepare_cached(sql)?.query_row(params![target.to_string(), selector], |row| row.get(0))
    })
}

/// Drops an intent that was never sent.
pub(super) fn forget(journal: &Journal, id: &str) -> Result<(), Error> {
    journal.write(|t| {
        t.prepare_cached("DELETE FROM chain_intent WHERE id = ?1 AND nonce IS NULL")?.execute([id]).map(drop)
    })
}

fn open(c: &Connection, row: &SqlRow<'_>) -> rusqlite::Result<Open> {
    let intent = intent(row)?;
    let nonce: Option<u64> = row.get(4)?;
    let sent = nonce.map(|n| Ok::<_, rusqlite::Error>((n, attempts(c, &intent.id)?))).transpose()?;
    // Without a transaction a nonce means nothing.
    let sent = sent.filter(|(_, attempts)| !attempts.is_empty());
    Ok(Open { seq: row.get(5)?, intent, sent })
}

fn insert_attempt(c: &Connection, id: &str, attempt: &Attempt) -> rusqlite::Result<()> {
    c.prepare_cached(
        "INSERT OR REPLACE INTO chain_attempt (hash, id, raw, gas_limit, max_fee, tip) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        attempt.hash.to_string(),
        id,
        attempt.raw,
        attempt.gas_limit,
        attempt.fees.max_fee.to_string(),
        attempt.fees.tip.to_string()
    ])
    .map(drop)
}

fn attempts(c: &Connection, id: &str) -> rusqlite::Result<Vec<Attempt>> {
    let sql = "SELECT hash, raw, gas_limit, max_fee, tip FROM chain_attempt WHERE id = ?1 ORDER BY rowid";
    let mut query = c.prepare_cached(sql)?;
    let rows = query.query_map([id], |row| {
        Ok(Attempt {
            hash: parse(row, 0)?,
            raw: row.get(1)?,
            gas_limit: row.get(2)?,
            fees: Fees { max_fee: parse(row, 3)?, tip: parse(row, 4)? },
        })
    })?;
    rows.collect()
}

fn intent(row: &SqlRow<'_>) -> rusqlite::Result<Intent> {
    let to = row.get::<_, Option<String>>(1)?.map(|_| parse(row, 1)).transpose()?;
    let value: String = row.get(2)?;
    let value = U256::from_str_radix(&value, 10).map_err(|e| corrupt(2, e))?;
    Ok(Intent { id: row.get(0)?, to, value, data: row.get::<_, Vec<u8>>(3)?.into() })
}

fn parse<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &SqlRow<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    row.get::<_, String>(column)?.parse().map_err(|e| corrupt(column, e))
}

fn corrupt(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wallet() -> Address {
        Address::with_last_byte(1)
    }

    fn intent(id: &str) -> Intent {
        Intent { id: id.into(), to: Some(Address::with_last_byte(2)), value: U256::from(3), data: vec![4].into() }
    }

    fn attempt(n: u8) -> Attempt {
        let fees = Fees { max_fee: u128::MAX, tip: 1 };
        Attempt { hash: B256::with_last_byte(n), raw: vec![n], gas_limit: 7, fees }
    }

    fn receipt() -> Receipt {
        let hash = B256::ZERO;
        Receipt { hash, block: 1, gas_used: 2, fee: U256::from(3), created: None, logs: vec![] }
    }

    fn mined(id: &str) -> Mined {
        Mined { id: id.into(), nonce: 5, block: 9, block_hash: B256::with_last_byte(9) }
    }

    fn store() -> Journal {
        let journal = Journal::in_memory(&[SCHEMA]).unwrap();
        prepare(&journal).unwrap();
        journal
    }

    #[test]
    fn an_intent_keeps_its_nonce_until_it_is_settled_and_gets_it_back_when_its_block_goes_away() {
        let journal = store();
        assert_eq!(insert(&journal, wallet(), &intent("a")).unwrap(), (1, None));
        insert(&journal, wallet(), &intent("a")).unwrap();
        send(&journal, "a", 5, &attempt(1)).unwrap();
        add_attempt(&journal, "a", &attempt(2)).unwrap();
        insert(&journal, wallet(), &intent("b")).unwrap();
        let rows = load(&journal, wallet()).unwrap();
        let sent = Open { seq: 1, intent: intent("a"), sent: Some((5, vec![attempt(1), attempt(2)])) };
        assert_eq!(rows[0], sent);
        assert_eq!((&rows[1].intent, &rows[1].sent), (&intent("b"), &None));
        let done = Outcome::Done(receipt());
        settle(&journal, wallet(), &intent("a"), &done, &mined("a"), 77).unwrap();
        assert_eq!(insert(&journal, wallet(), &intent("a")).unwrap(), (1, Some(done.clone())));
        assert_eq!(load_mined(&journal, wallet()).unwrap(), [mined("a")]);
        assert_eq!(reopen(&journal, "a").unwrap(), sent);
        assert_eq!((load(&journal, wallet()).unwrap().len(), load_mined(&journal, wallet()).unwrap().len()), (2, 0));
        settle(&journal, wallet(), &intent("a"), &done, &mined("a"), 77).unwrap();
        bury(&journal, &["a".into()]).unwrap();
        assert_eq!(load_mined(&journal, wallet()).unwrap(), []);
        assert_eq!(insert(&journal, wallet(), &intent("a")).unwrap().1, Some(done));
    }

    #[test]
    fn what_is_buried_is_known_by_its_block_and_comes_back_as_it_was_signed() {
        for outcome in [Outcome::Done(receipt()), Outcome::Failed(Revert::default())] {
            let journal = store();
            insert(&journal, wallet(), &intent("a")).unwrap();
            send(&journal, "a", 5, &attempt(1)).unwrap();
            settle(&journal, wallet(), &intent("a"), &outcome, &mined("a"), 77).unwrap();
            assert_eq!(buried(&journal, "a").unwrap(), None, "it is watched");
            bury(&journal, &["a".into()]).unwrap();
            assert_eq!(buried(&journal, "a").unwrap(), Some((9, B256::with_last_byte(9))));
            let sent = Open { seq: 1, intent: intent("a"), sent: Some((5, vec![attempt(1)])) };
            assert_eq!((reopen(&journal, "a").unwrap(), buried(&journal, "a").unwrap()), (sent, None));
            assert!(signed(&journal, attempt(1).hash).unwrap() && !signed(&journal, attempt(2).hash).unwrap());
        }
    }

    #[test]
    fn what_was_sent_is_never_forgotten() {
        let journal = store();
        insert(&journal, wallet(), &intent("a")).unwrap();
        send(&journal, "a", 0, &attempt(1)).unwrap();
        forget(&journal, "a").unwrap();
        assert_eq!(load(&journal, wallet()).unwrap().len(), 1);
        requeue(&journal, "a").unwrap();
        forget(&journal, "a").unwrap();
        assert_eq!(load(&journal, wallet()).unwrap().len(), 0);
    }

    #[test]
    fn the_gas_of_a_call_is_that_of_the_dearest_of_late() {
        let journal = store();
        let call = Intent { data: vec![1, 2, 3, 4, 5].into(), ..intent("a") };
        let target = call.to.unwrap();
        assert_eq!(gas_of(&journal, target, [1, 2, 3, 4]).unwrap(), None);
        insert(&journal, wallet(), &call).unwrap();
        for gas in [1_000, 1_600, 500] {
            settle(&journal, wallet(), &call, &Outcome::Done(receipt()), &mined("a"), gas).unwrap();
        }
        assert_eq!(gas_of(&journal, target, [1, 2, 3, 4]).unwrap(), Some(1_500));
    }

    #[test]
    fn a_store_keeps_its_tag() {
        let journal = store();
        assert_eq!(prepare(&journal).unwrap(), prepare(&journal).unwrap());
    }
}
