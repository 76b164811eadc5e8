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
    pub(super) intent: Intent,
    /// Where it went: the nonce and what was signed for it. Nothing yet if it waits.
    pub(super) sent: Option<(u64, Vec<Attempt>)>,
}

/// Adds an intent unless its name is known; says how it ended if it has.
pub(super) fn insert(journal: &Journal, wallet: Address, intent: &Intent) -> Result<Option<Outcome>, Error> {
    let target = intent.to.map(|a| a.to_string());
    let outcome: Option<String> = journal.write(|t| {
        t.execute(
            "INSERT OR IGNORE INTO chain_intent (id, wallet, target, value, data) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![intent.id, wallet.to_string(), target, intent.value.to_string(), intent.data.as_ref()],
        )?;
        t.query_row("SELECT outcome FROM chain_intent WHERE id = ?1", [&intent.id], |row| row.get(0))
    })?;
    Ok(outcome.map(|text| serde_json::from_str(&text).expect("written by `settle`")))
}

/// Everything of a wallet that is not settled, in the order of asking.
pub(super) fn load(journal: &Journal, wallet: Address) -> Result<Vec<Open>, Error> {
    journal.read(|c| {
        let mut query = c.prepare_cached(
            "SELECT id, target, value, data, nonce FROM chain_intent WHERE wallet = ?1 AND outcome IS NULL ORDER BY seq",
        )?;
        let rows = query.query_map([wallet.to_string()], |row| {
            let intent = intent(row)?;
            let nonce: Option<u64> = row.get(4)?;
            let sent = nonce.map(|n| Ok::<_, rusqlite::Error>((n, attempts(c, &intent.id)?))).transpose()?;
            Ok(Open { intent, sent })
        })?;
        rows.collect()
    })
}

/// How many intents of a wallet are not settled.
pub(super) fn open_count(journal: &Journal, wallet: Address) -> Result<u64, Error> {
    journal.read(|c| {
        let sql = "SELECT COUNT(*) FROM chain_intent WHERE wallet = ?1 AND outcome IS NULL";
        c.prepare_cached(sql)?.query_row([wallet.to_string()], |row| row.get(0))
    })
}

/// The nonce after all that are in use: by blocks, or by transactions of ours that are on their way.
pub(super) fn next_nonce(journal: &Journal, wallet: Address, on_chain: u64) -> Result<u64, Error> {
    let used: Option<u64> = journal.read(|c| {
        let sql = "SELECT MAX(nonce) FROM chain_intent WHERE wallet = ?1 AND outcome IS NULL";
        c.prepare_cached(sql)?.query_row([wallet.to_string()], |row| row.get(0))
    })?;
    Ok(on_chain.max(used.map_or(0, |n| n + 1)))
}

/// Fixes nonce and signed transaction of an intent, before it is broadcast.
pub(super) fn send(journal: &Journal, id: &str, nonce: u64, attempt: &Attempt) -> Result<(), Error> {
    journal.write(|t| {
        t.execute("UPDATE chain_intent SET nonce = ?2 WHERE id = ?1", params![id, nonce])?;
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
        t.execute("DELETE FROM chain_attempt WHERE id = ?1", [id])?;
        t.execute("UPDATE chain_intent SET nonce = NULL WHERE id = ?1", [id]).map(drop)
    })
}

/// Notes how an intent ended, for ever.
pub(super) fn settle(journal: &Journal, id: &str, outcome: &Outcome) -> Result<(), Error> {
    let text = serde_json::to_string(outcome).expect("outcomes serialise");
    journal.write(|t| {
        t.execute("UPDATE chain_intent SET outcome = ?2 WHERE id = ?1", params![id, text])?;
        t.execute("DELETE FROM chain_attempt WHERE id = ?1", [id]).map(drop)
    })
}

/// Drops an intent that was never sent.
pub(super) fn forget(journal: &Journal, id: &str) -> Result<(), Error> {
    journal.write(|t| t.execute("DELETE FROM chain_intent WHERE id = ?1 AND nonce IS NULL", [id]).map(drop))
}

fn insert_attempt(c: &Connection, id: &str, attempt: &Attempt) -> rusqlite::Result<()> {
    c.execute(
        "INSERT INTO chain_attempt (hash, id, raw, gas_limit, max_fee, tip) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            attempt.hash.to_string(),
            id,
            attempt.raw,
            attempt.gas_limit,
            attempt.fees.max_fee.to_string(),
            attempt.fees.tip.to_string()
        ],
    )
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

    #[test]
    fn an_intent_keeps_its_nonce_until_it_is_settled_once() {
        let journal = Journal::in_memory(&[SCHEMA]).unwrap();
        assert_eq!(insert(&journal, wallet(), &intent("a")).unwrap(), None);
        insert(&journal, wallet(), &intent("a")).unwrap();
        assert_eq!(next_nonce(&journal, wallet(), 5).unwrap(), 5);
        send(&journal, "a", 5, &attempt(1)).unwrap();
        add_attempt(&journal, "a", &attempt(2)).unwrap();
        insert(&journal, wallet(), &intent("b")).unwrap();
        let open = load(&journal, wallet()).unwrap();
        assert_eq!(open[0], Open { intent: intent("a"), sent: Some((5, vec![attempt(1), attempt(2)])) });
        assert_eq!(open[1], Open { intent: intent("b"), sent: None });
        assert_eq!(next_nonce(&journal, wallet(), 5).unwrap(), 6);
        settle(&journal, "a", &Outcome::Done(receipt())).unwrap();
        assert_eq!(insert(&journal, wallet(), &intent("a")).unwrap(), Some(Outcome::Done(receipt())));
        assert_eq!(open_count(&journal, wallet()).unwrap(), 1);
    }

    #[test]
    fn what_was_sent_is_never_forgotten() {
        let journal = Journal::in_memory(&[SCHEMA]).unwrap();
        insert(&journal, wallet(), &intent("a")).unwrap();
        send(&journal, "a", 0, &attempt(1)).unwrap();
        forget(&journal, "a").unwrap();
        assert_eq!(open_count(&journal, wallet()).unwrap(), 1);
        requeue(&journal, "a").unwrap();
        forget(&journal, "a").unwrap();
        assert_eq!(open_count(&journal, wallet()).unwrap(), 0);
    }
}
