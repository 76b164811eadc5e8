//! The open orders in memory and everything on disk, changed together: disk first.

use crate::{
    Error,
    store::{Record, Store},
};
use bourse_protocol::{
    Address,
    api::{
        OrderStatus,
        market::{Target, Unpublish},
    },
    book::{
        Admission, AnyOrder, Backing, Book, Entry, Filter, Kind, Limits, Refusal, Window, check_publication, review,
    },
    ids::OrderHash,
};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Book and store. Calls take turns.
pub(crate) struct Shelf {
    pub(crate) store: Store,
    book: Mutex<Book>,
    limits: Limits,
}

/// Why an order is not published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotPublished {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Shelf {
    /// Reads the open orders.
    pub(crate) fn open(store: Store, limits: Limits) -> Result<Self, Error> {
        let mut book = Book::default();
        store.open_orders()?.into_iter().for_each(|entry| book.insert(entry));
        Ok(Self { store, book: Mutex::new(book), limits })
    }

    /// Refuses an order that is in the book or was; a dead one may come back.
    pub(crate) fn check_new(&self, hash: OrderHash) -> Result<(), NotPublished> {
        match self.store.order(hash).map_err(Error::from)? {
            Some(known) if known.status != OrderStatus::Dead => Err(Refusal::AlreadyPublished.into()),
            _ => Ok(()),
        }
    }

    /// Publishes an order of `wallet`, given what the chain said of it at block `at`. `now` in milliseconds.
    pub(crate) fn publish(
        &self,
        (hash, order): (OrderHash, AnyOrder),
        wallet: Address,
        backing: &Backing,
        at: u64,
        now: u64,
    ) -> Result<Entry, NotPublished> {
        let mut book = self.book();
        self.check_new(hash)?;
        let remaining = check_publication(&book, self.limits, &order, wallet, backing)?;
        let entry = Entry { hash, order, signer: wallet, remaining, published: now };
        self.store.insert(&entry, at).map_err(Error::from)?;
        book.insert(entry.clone());
        Ok(entry)
    }

    /// Takes orders of `wallet` out, as asked. Empty if none fits.
    pub(crate) fn unpublish(&self, kind: Kind, wallet: Address, what: &Unpublish) -> Result<Vec<OrderHash>, Error> {
        let mut book = self.book();
        let chosen = choose(&book, kind, wallet, what);
        self.store.remove(&chosen)?;
        chosen.iter().for_each(|entry| drop(book.remove(entry.hash)));
        Ok(chosen.into_iter().map(|entry| entry.hash).collect())
    }

    /// Draws the conclusions from what the chain says of an order now.
    pub(crate) fn settle(&self, seen: &Record, backing: &Backing) -> Result<(), Error> {
        let mut book = self.book();
        let Entry { hash, order, signer, .. } = &seen.entry;
        let (status, remaining) = review(&book, order, *signer, seen.closed, backing);
        if !self.store.settle(seen, status, remaining)? {
            return Ok(());
        }
        match status {
            OrderStatus::Open => book.insert(Entry { remaining, ..seen.entry.clone() }),
            OrderStatus::Filled | OrderStatus::Canceled | OrderStatus::Dead => drop(book.remove(*hash)),
        }
        Ok(())
    }

    /// One page of open orders, and how many there are in all.
    pub(crate) fn page(&self, kind: Kind, filter: &Filter, window: Window) -> (Vec<Entry>, u64) {
        self.book().page(kind, filter, window)
    }

    /// How many orders of a kind are open.
    pub(crate) fn count(&self, kind: Kind) -> u64 {
        self.book().count(kind) as u64
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing panics while it is held; if something did, the disk is right and the book is at worst one order off.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The open orders of `wallet` that are meant.
fn choose(book: &Book, kind: Kind, wallet: Address, what: &Unpublish) -> Vec<Entry> {
    let own = |entry: &&Entry| entry.signer == wallet && entry.order.kind() == kind;
    if what.target == Target::OrderHash {
        return what.order_hash.and_then(|hash| book.get(hash)).filter(own).cloned().into_iter().collect();
    }
    let subject = match kind {
        Kind::App => what.app,
        Kind::Dataset => what.dataset,
        Kind::Workerpool => what.workerpool,
        Kind::Request => what.requester,
    };
    let Some(subject) = subject else { return Vec::new() };
    let any = Kind::ALL.map(|party| (party, Admission::Any)).into();
    let filter = Filter { signer: Some(wallet), admits: any, ..Filter::about(subject) };
    let mut all: Vec<Entry> = book.matching(kind, &filter).cloned().collect();
    all.sort_by_key(|entry| (entry.published, entry.hash));
    match what.target {
        Target::Last => all.split_off(all.len().saturating_sub(1)),
        Target::OrderHash | Target::All => all,
    }
}
