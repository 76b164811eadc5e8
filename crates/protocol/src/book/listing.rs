//! The open orders, sorted, and the questions that can be asked of them. Source: sdk.md §3.5.

use super::{AnyOrder, Kind, tag_within};
use crate::ids::OrderHash;
use alloy_primitives::{Address, B256, U256};
use std::collections::{BTreeMap, HashMap};

/// An open order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub hash: OrderHash,
    /// The signed order.
    pub order: AnyOrder,
    /// Who signed it.
    pub signer: Address,
    /// Tasks that are left, at least 1.
    pub remaining: U256,
    /// Milliseconds since the epoch.
    pub published: u64,
}

/// What a query wants of a restricted field of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Admission {
    /// Admits everybody.
    #[default]
    Everybody,
    /// Admits this address, perhaps among everybody.
    Party(Address),
    /// Names this address and nobody else.
    Only(Address),
    /// Whatever it admits.
    Any,
}

impl Admission {
    fn met_by(self, restriction: Address) -> bool {
        match self {
            Self::Everybody => restriction.is_zero(),
            Self::Party(party) => restriction.is_zero() || restriction == party,
            Self::Only(party) => restriction == party,
            Self::Any => true,
        }
    }
}

/// A question to the book. The default asks for orders that anybody can use.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Filter {
    /// About this resource; requests: by this requester.
    pub subject: Option<Address>,
    /// Signed by this owner.
    pub signer: Option<Address>,
    /// Requests for this app.
    pub app: Option<Address>,
    /// Requests with this dataset.
    pub dataset: Option<Address>,
    /// Requests for this beneficiary.
    pub beneficiary: Option<Address>,
    /// Per restricted party; a party that is not named here must not be restricted.
    pub admits: BTreeMap<Kind, Admission>,
    /// In this category.
    pub category: Option<U256>,
    /// Pools that serve at least this trust.
    pub min_trust: Option<U256>,
    /// Requests that ask for at most this trust.
    pub max_trust: Option<U256>,
    /// With all of these bits.
    pub min_tag: B256,
    /// With no bits but these.
    pub max_tag: Option<B256>,
    /// With at least this much left.
    pub min_volume: U256,
    /// Only bulk dataset orders.
    pub bulk_only: bool,
}

impl Filter {
    /// About one resource (or requester).
    pub fn about(subject: Address) -> Self {
        Self { subject: Some(subject), ..Self::default() }
    }

    /// Usable by `party`; the zero address changes nothing.
    pub fn usable_by(mut self, role: Kind, party: Address) -> Self {
        if !party.is_zero() {
            self.admits.insert(role, Admission::Party(party));
        }
        self
    }

    /// Whether an open order is an answer.
    pub fn accepts(&self, entry: &Entry) -> bool {
        let order = &entry.order;
        self.accepts_parties(entry)
            && self.category.is_none_or(|c| order.category() == Some(c))
            && self.min_trust.is_none_or(|min| order.trust().is_some_and(|t| t >= min))
            && self.max_trust.is_none_or(|max| order.trust().is_some_and(|t| t <= max))
            && tag_within(self.min_tag, order.tag())
            && self.max_tag.is_none_or(|max| tag_within(order.tag(), max))
            && entry.remaining >= self.min_volume
            && (!self.bulk_only || order.is_bulk())
    }

    fn accepts_parties(&self, entry: &Entry) -> bool {
        let order = &entry.order;
        let (app, dataset, beneficiary) = match order {
            AnyOrder::Request(o) => (Some(o.app), Some(o.dataset), Some(o.beneficiary)),
            AnyOrder::App(_) | AnyOrder::Dataset(_) | AnyOrder::Workerpool(_) => (None, None, None),
        };
        let admitted = |party: &Kind| {
            let wanted = self.admits.get(party).copied().unwrap_or_default();
            wanted.met_by(order.restriction(*party))
        };
        self.subject.is_none_or(|s| order.subject() == s)
            && self.signer.is_none_or(|s| entry.signer == s)
            && (self.app.is_none() || self.app == app)
            && (self.dataset.is_none() || self.dataset == dataset)
            && (self.beneficiary.is_none() || self.beneficiary == beneficiary)
            && Kind::ALL.iter().all(admitted)
    }
}

/// A window on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Number of the page, from 0.
    pub index: u64,
    /// Entries per page: 10 to 1000.
    pub size: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { index: 0, size: 20 }
    }
}

impl Window {
    /// How many entries lie before the page.
    pub fn skip(self) -> u64 {
        self.index.saturating_mul(self.size)
    }

    /// The number of the page after this one, if `count` entries reach that far.
    pub fn next(self, count: u64) -> Option<u64> {
        (self.skip().saturating_add(self.size) < count).then(|| self.index + 1)
    }
}

/// Best first: the lowest price asked or the highest paid, then the oldest, then the hash.
type Rank = (Kind, U256, u64, OrderHash);

fn rank(entry: &Entry) -> Rank {
    let (kind, price) = (entry.order.kind(), entry.order.price());
    let price = if kind == Kind::Request { U256::MAX - price } else { price };
    (kind, price, entry.published, entry.hash)
}

/// All open orders.
#[derive(Clone, Debug, Default)]
pub struct Book {
    entries: BTreeMap<Rank, Entry>,
    ranks: HashMap<OrderHash, Rank>,
    open: HashMap<(Kind, Address), u32>,
}

impl Book {
    /// How many orders are open.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Puts an order in, in place of the one of the same hash.
    pub fn insert(&mut self, entry: Entry) {
        self.remove(entry.hash);
        let rank = rank(&entry);
        *self.open.entry((entry.order.kind(), entry.signer)).or_default() += 1;
        self.ranks.insert(entry.hash, rank);
        self.entries.insert(rank, entry);
    }

    /// Takes an order out.
    pub fn remove(&mut self, hash: OrderHash) -> Option<Entry> {
        let entry = self.entries.remove(&self.ranks.remove(&hash)?)?;
        let of = (entry.order.kind(), entry.signer);
        let left = self.open.get(&of).map_or(0, |n| n.saturating_sub(1));
        match left {
            0 => self.open.remove(&of),
            left => self.open.insert(of, left),
        };
        Some(entry)
    }

    /// An open order.
    pub fn get(&self, hash: OrderHash) -> Option<&Entry> {
        self.entries.get(self.ranks.get(&hash)?)
    }

    /// How many orders of a kind are open.
    pub fn count(&self, kind: Kind) -> usize {
        self.of_kind(kind).count()
    }

    /// How many orders of a kind a wallet has open.
    pub fn count_open(&self, kind: Kind, signer: Address) -> u32 {
        self.open.get(&(kind, signer)).copied().unwrap_or_default()
    }

    /// The open orders of a kind that `filter` accepts, best first.
    pub fn matching<'a>(&'a self, kind: Kind, filter: &'a Filter) -> impl Iterator<Item = &'a Entry> {
        self.of_kind(kind).filter(|entry| filter.accepts(entry))
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Entry> {
        let from: Rank = (kind, U256::ZERO, 0, OrderHash(B256::ZERO));
        let to: Rank = (kind, U256::MAX, u64::MAX, OrderHash(B256::repeat_byte(0xff)));
        self.entries.range(from..=to).map(|(_, entry)| entry)
    }

    /// One page of [`Book::matching`], and how many there are in all.
    pub fn page(&self, kind: Kind, filter: &Filter, window: Window) -> (Vec<Entry>, u64) {
        let (skip, mut count, mut page) = (window.skip(), 0, Vec::new());
        for entry in self.matching(kind, filter) {
            if count >= skip && (page.len() as u64) < window.size {
                page.push(entry.clone());
            }
            count += 1;
        }
        (page, count)
    }
}

#[cfg(test)]
mod tests;
