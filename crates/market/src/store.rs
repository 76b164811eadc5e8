//! The market's tables: orders of every status, deals, categories, and how far the chain was read.
//!
//! All SQL of the market is here. `due` counts the reasons to look at an order again; a review takes back only those it
//! has seen. `touched` is the last block that had a say in an order's status.

use crate::{events::Event, query::DealTerms};
use bourse_chain::follower::Cursor;
use bourse_protocol::{
    Address, B256, U256,
    api::{
        OrderStatus,
        market::{CategoryView, DealView},
    },
    book::{AnyOrder, Entry, Kind, Window},
    ids::{DealId, OrderHash},
};
use bourse_service::journal::{Error, Journal};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};
use std::path::Path;

const SCHEMA: &[&str] = &["
    CREATE TABLE orders (
        hash BLOB PRIMARY KEY, kind INTEGER NOT NULL, subject BLOB NOT NULL, signer BLOB NOT NULL,
        app BLOB, dataset BLOB, body TEXT NOT NULL, status INTEGER NOT NULL, remaining INTEGER NOT NULL,
        published INTEGER NOT NULL, touched INTEGER NOT NULL, closed INTEGER, due INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX orders_due ON orders (due) WHERE due > 0;
    CREATE INDEX orders_signer ON orders (status, signer);
    CREATE INDEX orders_subject ON orders (status, subject);
    CREATE INDEX orders_app ON orders (status, app);
    CREATE INDEX orders_dataset ON orders (status, dataset);
    CREATE INDEX orders_touched ON orders (touched);
    CREATE TABLE deals (
        id BLOB PRIMARY KEY, block INTEGER NOT NULL, body TEXT NOT NULL, category BLOB NOT NULL,
        requester BLOB NOT NULL, beneficiary BLOB NOT NULL,
        app BLOB NOT NULL, dataset BLOB NOT NULL, workerpool BLOB NOT NULL,
        app_owner BLOB NOT NULL, dataset_owner BLOB NOT NULL, workerpool_owner BLOB NOT NULL,
        app_hash BLOB NOT NULL, dataset_hash BLOB NOT NULL, workerpool_hash BLOB NOT NULL, request_hash BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX deals_block ON deals (block DESC, id);
    CREATE INDEX deals_requester ON deals (requester, block DESC, id);
    CREATE INDEX deals_app ON deals (app, block DESC, id);
    CREATE INDEX deals_workerpool ON deals (workerpool, block DESC, id);
    CREATE INDEX deals_request_hash ON deals (request_hash);
    CREATE TABLE categories (id INTEGER PRIMARY KEY, block INTEGER NOT NULL, period BLOB NOT NULL, body TEXT NOT NULL);
    CREATE TABLE cursor (id INTEGER PRIMARY KEY CHECK (id = 0), body TEXT NOT NULL);
"];

/// The market's journal.
#[derive(Clone)]
pub(crate) struct Store(Journal);

/// An order and all that is known of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) entry: Entry,
    pub(crate) status: OrderStatus,
    /// Whether its owner closed it on chain.
    pub(crate) closed: bool,
    /// How many reasons there are to look at it again.
    pub(crate) due: u64,
}

/// What a stretch of blocks changes.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) cursor: Cursor,
    /// After a reorg: what is remembered of this block and later ones is void.
    pub(crate) undo_from: Option<u64>,
    /// What happened, with its block.
    pub(crate) events: Vec<(u64, Event)>,
}

impl Store {
    /// Opens the journal in `folder`, which belongs to `owner` for ever. Every open order is due for review: a lot may
    /// have happened meanwhile.
    pub(crate) fn open(folder: &Path, owner: &str) -> Result<Self, Error> {
        let journal = Journal::open(&folder.join("market.db"), SCHEMA)?;
        journal.belongs_to(owner)?;
        journal.write(|t| t.execute("UPDATE orders SET due = due + 1 WHERE status = ?1", [code(OrderStatus::Open)]))?;
        Ok(Self(journal))
    }

    /// How far the chain was read.
    pub(crate) fn cursor(&self) -> Result<Option<Cursor>, Error> {
        self.0.read(|c| c.query_row("SELECT body FROM cursor", [], |row| json(row, 0)).optional())
    }

    /// Records what a stretch of blocks brought, and marks the orders that it concerns.
    pub(crate) fn apply(&self, update: &Update) -> Result<(), Error> {
        self.0.write(|t| {
            if let Some(block) = update.undo_from {
                undo(t, block)?;
            }
            for (block, event) in &update.events {
                record(t, *block, event)?;
            }
            t.execute("INSERT OR REPLACE INTO cursor (id, body) VALUES (0, ?1)", [text(&update.cursor)])?;
            Ok(())
        })
    }

    /// All open orders.
    pub(crate) fn open_orders(&self) -> Result<Vec<Entry>, Error> {
        self.0.read(|c| {
            let mut query = c.prepare_cached(&format!("{RECORD} WHERE status = ?1"))?;
            query.query_map([code(OrderStatus::Open)], |row| record_of(row).map(|r| r.entry))?.collect()
        })
    }

    /// An order by name.
    pub(crate) fn order(&self, hash: OrderHash) -> Result<Option<Record>, Error> {
        self.0.read(|c| c.query_row(&format!("{RECORD} WHERE hash = ?1"), [hash.0.as_slice()], record_of).optional())
    }

    /// Orders that must be looked at again, at most `limit`.
    pub(crate) fn due(&self, limit: u64) -> Result<Vec<Record>, Error> {
        self.0.read(|c| {
            let mut query = c.prepare_cached(&format!("{RECORD} WHERE due > 0 LIMIT ?1"))?;
            query.query_map([limit], record_of)?.collect()
        })
    }

    /// Puts in a new order (or a dead one anew), open. It is due at once: the chain may have moved while it was checked
    /// at block `at`.
    pub(crate) fn insert(&self, entry: &Entry, at: u64) -> Result<(), Error> {
        let (app, dataset) = match &entry.order {
            AnyOrder::Request(o) => (Some(o.app.to_vec()), Some(o.dataset.to_vec())),
            AnyOrder::App(_) | AnyOrder::Dataset(_) | AnyOrder::Workerpool(_) => (None, None),
        };
        self.0.write(|t| {
            t.execute(
                "INSERT INTO orders (hash, kind, subject, signer, app, dataset, body, status, remaining, published, touched, due)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 1)
                 ON CONFLICT (hash) DO UPDATE SET status = excluded.status, remaining = excluded.remaining,
                 signer = excluded.signer, body = excluded.body, published = excluded.published,
                 touched = max(touched, excluded.touched), due = due + 1",
                params![
                    entry.hash.0.as_slice(), kind_code(entry.order.kind()), entry.order.subject().as_slice(),
                    entry.signer.as_slice(), app, dataset, text(&entry.order), code(OrderStatus::Open),
                    small(entry.remaining), entry.published, at
                ],
            )
        })?;
        Ok(())
    }

    /// Records the outcome of a review of `seen`, unless the order was published anew or withdrawn meanwhile. Requests
    /// that may have relied on it become due. Says whether it was recorded.
    pub(crate) fn settle(&self, seen: &Record, status: OrderStatus, remaining: U256) -> Result<bool, Error> {
        self.0.write(|t| {
            let changed = t.execute(
                "UPDATE orders SET status = ?1, remaining = ?2, due = due - ?3
                 WHERE hash = ?4 AND status = ?5 AND published = ?6 AND due >= ?3",
                params![
                    code(status),
                    small(remaining),
                    seen.due,
                    seen.entry.hash.0.as_slice(),
                    code(seen.status),
                    seen.entry.published
                ],
            )?;
            if changed == 1 && seen.status == OrderStatus::Open && status != OrderStatus::Open {
                wake_dependents(t, &seen.entry)?;
            }
            Ok(changed == 1)
        })
    }

    /// Forgets orders. Requests that may have relied on them become due.
    pub(crate) fn remove(&self, entries: &[Entry]) -> Result<(), Error> {
        self.0.write(|t| {
            for entry in entries {
                t.execute("DELETE FROM orders WHERE hash = ?1", [entry.hash.0.as_slice()])?;
                wake_dependents(t, entry)?;
            }
            Ok(())
        })
    }

    /// A deal by name.
    pub(crate) fn deal(&self, id: DealId) -> Result<Option<DealView>, Error> {
        let sql = "SELECT body FROM deals WHERE id = ?1";
        self.0.read(|c| c.query_row(sql, [id.0.as_slice()], |row| json(row, 0)).optional())
    }

    /// The deals of which all `terms` hold, newest first; and how many there are in all.
    pub(crate) fn deals(&self, terms: &DealTerms, window: Window) -> Result<(Vec<DealView>, u64), Error> {
        let conditions: Vec<String> = terms.iter().map(|(column, _)| format!(" AND {column} = ?")).collect();
        let rest = format!("FROM deals WHERE 1{}", conditions.concat());
        let values = rusqlite::params_from_iter(terms.iter().map(|(_, value)| value));
        self.0.read(|c| page(c, "body", &rest, "block DESC, id", values, window))
    }

    /// A category by number.
    pub(crate) fn category(&self, id: u64) -> Result<Option<CategoryView>, Error> {
        let Ok(id) = i64::try_from(id) else { return Ok(None) };
        self.0.read(|c| c.query_row("SELECT body FROM categories WHERE id = ?1", [id], |row| json(row, 0)).optional())
    }

    /// The categories with a period within the limits, the shortest first; and how many there are in all.
    pub(crate) fn categories(&self, min: U256, max: U256, window: Window) -> Result<(Vec<CategoryView>, u64), Error> {
        let values = [min.to_be_bytes::<32>().to_vec(), max.to_be_bytes::<32>().to_vec()];
        let rest = "FROM categories WHERE period BETWEEN ?1 AND ?2";
        self.0.read(|c| page(c, "body", rest, "period, id", rusqlite::params_from_iter(&values), window))
    }
}

/// One window of a list of JSON bodies, and the length of the whole.
fn page<T: serde::de::DeserializeOwned>(
    c: &Connection,
    column: &str,
    rest: &str,
    order: &str,
    values: impl rusqlite::Params + Clone,
    window: Window,
) -> rusqlite::Result<(Vec<T>, u64)> {
    let count = c.prepare_cached(&format!("SELECT COUNT(*) {rest}"))?.query_row(values.clone(), |row| row.get(0))?;
    if window.skip() >= count {
        return Ok((Vec::new(), count));
    }
    let limits = format!("LIMIT {} OFFSET {}", window.size, window.skip());
    let mut query = c.prepare(&format!("SELECT {column} {rest} ORDER BY {order} {limits}"))?;
    let rows = query.query_map(values, |row| json(row, 0))?.collect::<rusqlite::Result<_>>()?;
    Ok((rows, count))
}

/// Forgets what blocks from `block` on brought, and marks the orders in which they had a say.
fn undo(t: &Connection, block: u64) -> rusqlite::Result<()> {
    t.execute("DELETE FROM deals WHERE block >= ?1", [block])?;
    t.execute("DELETE FROM categories WHERE block >= ?1", [block])?;
    t.execute("UPDATE orders SET closed = NULL WHERE closed >= ?1", [block])?;
    t.execute("UPDATE orders SET due = due + 1 WHERE touched >= ?1", [block])?;
    Ok(())
}

/// Records one event of the chain. Doing it twice changes nothing but work.
fn record(t: &Connection, block: u64, event: &Event) -> rusqlite::Result<()> {
    const MARK: &str = "UPDATE orders SET due = due + 1, touched = max(touched, ?1)";
    let open = code(OrderStatus::Open);
    match event {
        Event::Matched(deal) => {
            insert_deal(t, deal)?;
            let o = &deal.origin;
            for hash in [o.app_hash, o.dataset_hash, o.workerpool_hash, o.request_hash] {
                t.execute(&format!("{MARK} WHERE hash = ?2"), params![block, hash.0.as_slice()])?;
            }
        }
        Event::Closed(hash) => {
            t.execute(&format!("{MARK}, closed = ?1 WHERE hash = ?2"), params![block, hash.0.as_slice()])?;
        }
        Event::Spent(account) => {
            let (pool, request) = (kind_code(Kind::Workerpool), kind_code(Kind::Request));
            t.execute(
                &format!("{MARK} WHERE status = ?2 AND signer = ?3 AND kind IN (?4, ?5)"),
                params![block, open, account.as_slice(), pool, request],
            )?;
        }
        Event::Moved(asset) => {
            t.execute(
                &format!("{MARK} WHERE status = ?2 AND subject = ?3 AND kind <> ?4"),
                params![block, open, asset.as_slice(), kind_code(Kind::Request)],
            )?;
        }
        Event::CategoryCreated(category) => {
            let period = category.work_clock_time_ref.to_be_bytes::<32>().to_vec();
            t.execute(
                "INSERT OR REPLACE INTO categories (id, block, period, body) VALUES (?1, ?2, ?3, ?4)",
                params![category.catid, block, period, text(category)],
            )?;
        }
    }
    Ok(())
}

fn insert_deal(t: &Connection, deal: &DealView) -> rusqlite::Result<()> {
    let o = &deal.origin;
    t.execute(
        "INSERT OR REPLACE INTO deals (id, block, body, category, requester, beneficiary, app, dataset, workerpool,
         app_owner, dataset_owner, workerpool_owner, app_hash, dataset_hash, workerpool_hash, request_hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        params![
            deal.dealid.0.as_slice(),
            o.block_number,
            text(deal),
            deal.category.to_be_bytes::<32>().to_vec(),
            deal.requester.as_slice(),
            deal.beneficiary.as_slice(),
            deal.app.pointer.as_slice(),
            deal.dataset.pointer.as_slice(),
            deal.workerpool.pointer.as_slice(),
            deal.app.owner.as_slice(),
            deal.dataset.owner.as_slice(),
            deal.workerpool.owner.as_slice(),
            o.app_hash.0.as_slice(),
            o.dataset_hash.0.as_slice(),
            o.workerpool_hash.0.as_slice(),
            o.request_hash.0.as_slice(),
        ],
    )?;
    Ok(())
}

/// Requests for an app or with a dataset may have lost their last counterpart.
fn wake_dependents(t: &Connection, gone: &Entry) -> rusqlite::Result<()> {
    let column = match gone.order.kind() {
        Kind::App => "app",
        Kind::Dataset => "dataset",
        Kind::Workerpool | Kind::Request => return Ok(()),
    };
    t.execute(
        &format!(
            "UPDATE orders SET due = due + 1,
             touched = max(touched, coalesce((SELECT touched FROM orders WHERE hash = ?3), 0))
             WHERE status = ?1 AND {column} = ?2"
        ),
        params![code(OrderStatus::Open), gone.order.subject().as_slice(), gone.hash.0.as_slice()],
    )?;
    Ok(())
}

const RECORD: &str = "SELECT hash, kind, signer, body, status, remaining, published, closed, due FROM orders";

fn record_of(row: &Row<'_>) -> rusqlite::Result<Record> {
    let kind = Kind::ALL.get(row.get::<_, usize>(1)?).copied().ok_or(rusqlite::Error::IntegralValueOutOfRange(1, 0))?;
    let body: String = row.get(3)?;
    let order = AnyOrder::read(kind, &body).map_err(|e| unreadable(3, e))?;
    Ok(Record {
        entry: Entry {
            hash: OrderHash(B256::from(row.get::<_, [u8; 32]>(0)?)),
            order,
            signer: Address::from(row.get::<_, [u8; 20]>(2)?),
            remaining: U256::from(row.get::<_, u64>(5)?),
            published: row.get(6)?,
        },
        status: status_of(row.get(4)?)?,
        closed: row.get::<_, Option<u64>>(7)?.is_some(),
        due: row.get(8)?,
    })
}

fn kind_code(kind: Kind) -> i64 {
    match kind {
        Kind::App => 0,
        Kind::Dataset => 1,
        Kind::Workerpool => 2,
        Kind::Request => 3,
    }
}

fn code(status: OrderStatus) -> i64 {
    match status {
        OrderStatus::Open => 0,
        OrderStatus::Filled => 1,
        OrderStatus::Canceled => 2,
        OrderStatus::Dead => 3,
    }
}

fn status_of(code: i64) -> rusqlite::Result<OrderStatus> {
    match code {
        0 => Ok(OrderStatus::Open),
        1 => Ok(OrderStatus::Filled),
        2 => Ok(OrderStatus::Canceled),
        3 => Ok(OrderStatus::Dead),
        other => Err(rusqlite::Error::IntegralValueOutOfRange(4, other)),
    }
}

/// Published volumes stay below 2⁵³.
fn small(volume: U256) -> u64 {
    u64::try_from(volume).expect("a published volume was checked to be below 2^53")
}

fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data always serialises")
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(&row.get::<_, String>(column)?).map_err(|e| unreadable(column, e))
}

fn unreadable(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
}
