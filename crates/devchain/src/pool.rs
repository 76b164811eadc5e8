//! Transactions that wait for a block: executable ones, and those behind a gap in their sender's nonces.
//!
//! The pool knows nothing of balances or blocks; who adds to it has checked the transaction. Its changes are
//! written down so that a copy, the disk or a rollback can follow.

use crate::block::Transaction;
use alloy::consensus::Transaction as _;
use alloy_primitives::map::{AddressMap, B256Map};
use alloy_primitives::{Address, B256, U256};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

/// Most transactions that wait at once.
const MAX_TRANSACTIONS: usize = 16_384;
/// Most bytes of them.
const MAX_BYTES: usize = 32 << 20;
/// Percent by which a replacement must raise both fees.
const REPLACEMENT_BUMP: u128 = 10;

/// A transaction that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) transaction: Arc<Transaction>,
    /// Order of arrival.
    pub(crate) arrival: u64,
}

/// A change of the pool.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Added(Waiting),
    Removed(Waiting),
}

/// Why the pool does not take a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("already known")]
    AlreadyKnown,
    #[error("replacement transaction underpriced: both fees must rise by at least 10 %")]
    Underpriced,
    #[error("txpool is full: wait until a block is mined")]
    Full,
}

#[derive(Debug, Default)]
pub(crate) struct Pool {
    senders: BTreeMap<Address, BTreeMap<u64, Waiting>>,
    by_hash: B256Map<Waiting>,
    bytes: usize,
    arrivals: u64,
}

impl Pool {
    /// Adds a transaction; the changes say what was added and what it replaced.
    pub(crate) fn add(&mut self, transaction: Arc<Transaction>) -> Result<Vec<Change>, Refusal> {
        if self.by_hash.contains_key(&transaction.hash) {
            return Err(Refusal::AlreadyKnown);
        }
        let rival = self.at(transaction.sender, transaction.envelope.nonce()).cloned();
        if let Some(rival) = &rival {
            if !outbids(&transaction, &rival.transaction) {
                return Err(Refusal::Underpriced);
            }
        } else if self.by_hash.len() >= MAX_TRANSACTIONS || self.bytes + transaction.size > MAX_BYTES {
            return Err(Refusal::Full);
        }
        self.arrivals += 1;
        let added = Change::Added(Waiting { transaction, arrival: self.arrivals });
        let changes: Vec<_> = rival.map(Change::Removed).into_iter().chain([added]).collect();
        changes.iter().for_each(|change| self.apply(change));
        Ok(changes)
    }

    /// Removes a transaction.
    pub(crate) fn remove(&mut self, hash: &B256) -> Option<Change> {
        let change = Change::Removed(self.by_hash.get(hash)?.clone());
        self.apply(&change);
        Some(change)
    }

    /// Does what a change says.
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Added(waiting) => self.insert(waiting),
            Change::Removed(waiting) => self.delete(waiting),
        }
    }

    /// Does the opposite of what a change says.
    pub(crate) fn revert(&mut self, change: &Change) {
        match change {
            Change::Added(waiting) => self.delete(waiting),
            Change::Removed(waiting) => self.insert(waiting),
        }
    }

    fn insert(&mut self, waiting: &Waiting) {
        let transaction = &waiting.transaction;
        self.arrivals = self.arrivals.max(waiting.arrival);
        self.bytes += transaction.size;
        self.by_hash.insert(transaction.hash, waiting.clone());
        self.senders.entry(transaction.sender).or_default().insert(transaction.envelope.nonce(), waiting.clone());
    }

    fn delete(&mut self, waiting: &Waiting) {
        let transaction = &waiting.transaction;
        if self.by_hash.remove(&transaction.hash).is_none() {
            return;
        }
        self.bytes -= transaction.size;
        if let Some(queue) = self.senders.get_mut(&transaction.sender) {
            queue.remove(&transaction.envelope.nonce());
            if queue.is_empty() {
                self.senders.remove(&transaction.sender);
            }
        }
    }

    pub(crate) fn get(&self, hash: &B256) -> Option<&Arc<Transaction>> {
        self.by_hash.get(hash).map(|waiting| &waiting.transaction)
    }

    fn at(&self, sender: Address, nonce: u64) -> Option<&Waiting> {
        self.senders.get(&sender)?.get(&nonce)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// The nonce after those that wait in an unbroken line from `nonce`.
    pub(crate) fn next_nonce(&self, sender: Address, nonce: u64) -> u64 {
        let Some(queue) = self.senders.get(&sender) else { return nonce };
        let line = queue.range(nonce..).zip(nonce..).take_while(|((have, _), want)| **have == *want);
        nonce + line.count() as u64
    }

    /// What the sender's waiting transactions can cost altogether, without the one with `nonce`.
    pub(crate) fn committed(&self, sender: Address, nonce: u64) -> U256 {
        let queue = self.senders.get(&sender).into_iter().flatten();
        let others = queue.filter(|(other, _)| **other != nonce);
        others.fold(U256::ZERO, |sum, (_, waiting)| sum.saturating_add(waiting.transaction.cost()))
    }

    /// Transactions of one sender with a nonce below `nonce`, which no block can hold any more.
    pub(crate) fn stale(&self, sender: Address, nonce: u64) -> Vec<B256> {
        let queue = self.senders.get(&sender).into_iter().flat_map(|queue| queue.range(..nonce));
        queue.map(|(_, waiting)| waiting.transaction.hash).collect()
    }

    /// All waiting transactions by sender and nonce.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Transaction>> {
        self.senders.values().flat_map(|queue| queue.values().map(|waiting| &waiting.transaction))
    }

    /// The executable transactions, best tip first and each sender's in order.
    pub(crate) fn ready(&self, base_fee: u64, mut nonce_of: impl FnMut(Address) -> u64) -> Ready {
        let mut lines = AddressMap::default();
        let mut heads = BinaryHeap::new();
        for (sender, queue) in &self.senders {
            let first = nonce_of(*sender);
            let line = queue.range(first..).zip(first..).take_while(|((have, _), want)| **have == *want);
            let mut line: Vec<Waiting> = line.map(|((_, waiting), _)| waiting.clone()).collect();
            line.reverse();
            if let Some(head) = line.pop().and_then(|next| Head::new(next, base_fee)) {
                heads.push(head);
                lines.insert(*sender, line);
            }
        }
        Ready { listed: VecDeque::new(), heads, lines, base_fee }
    }
}

fn outbids(new: &Transaction, old: &Transaction) -> bool {
    let enough = |new: u128, old: u128| new >= old.saturating_add(old.saturating_mul(REPLACEMENT_BUMP).div_ceil(100));
    let fees = |transaction: &Transaction| {
        let fee = transaction.envelope.max_fee_per_gas();
        (fee, transaction.envelope.max_priority_fee_per_gas().unwrap_or(fee))
    };
    let ((fee, tip), (old_fee, old_tip)) = (fees(new), fees(old));
    enough(fee, old_fee) && enough(tip, old_tip)
}

/// Hands out executable transactions in the order in which a block takes them.
pub(crate) struct Ready {
    /// These go first, as they are.
    listed: VecDeque<Arc<Transaction>>,
    heads: BinaryHeap<Head>,
    /// What follows each head, last first.
    lines: AddressMap<Vec<Waiting>>,
    base_fee: u64,
}

impl Ready {
    /// These transactions in this order, whatever the pool holds.
    pub(crate) fn listed(transactions: Vec<Arc<Transaction>>) -> Self {
        Self { listed: transactions.into(), heads: BinaryHeap::new(), lines: AddressMap::default(), base_fee: 0 }
    }

    /// The best transaction. Its sender's next one follows only after [`Ready::accept`].
    pub(crate) fn next(&mut self) -> Option<Arc<Transaction>> {
        self.listed.pop_front().or_else(|| Some(self.heads.pop()?.waiting.transaction))
    }

    /// Makes the next transaction of `sender` available.
    pub(crate) fn accept(&mut self, sender: Address) {
        let next = self.lines.get_mut(&sender).and_then(Vec::pop);
        self.heads.extend(next.and_then(|next| Head::new(next, self.base_fee)));
    }
}

struct Head {
    rank: (u128, Reverse<u64>),
    waiting: Waiting,
}

impl Head {
    fn new(waiting: Waiting, base_fee: u64) -> Option<Self> {
        let tip = waiting.transaction.tip(base_fee)?;
        Some(Self { rank: (tip, Reverse(waiting.arrival)), waiting })
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
    use alloy_primitives::Signature;

    fn transaction(sender: u8, nonce: u64, fee: u128, tip: u128) -> Arc<Transaction> {
        let body = TxEip1559 { nonce, max_fee_per_gas: fee, max_priority_fee_per_gas: tip, ..TxEip1559::default() };
        let signature = Signature::new(U256::from(1), U256::from(sender), false);
        let envelope = TxEnvelope::Eip1559(body.into_signed(signature));
        Arc::new(Transaction::new(envelope, Address::repeat_byte(sender)))
    }

    fn order(pool: &Pool, base_fee: u64) -> Vec<(u8, u64)> {
        let mut ready = pool.ready(base_fee, |_| 0);
        let mut order = Vec::new();
        while let Some(next) = ready.next() {
            order.push((next.sender[0], next.envelope.nonce()));
            ready.accept(next.sender);
        }
        order
    }

    #[test]
    fn best_tip_goes_first_and_each_sender_keeps_its_order() {
        let mut pool = Pool::default();
        for (sender, nonce, tip) in [(1, 0, 1), (1, 1, 9), (2, 0, 5), (3, 1, 50)] {
            pool.add(transaction(sender, nonce, 100, tip)).unwrap();
        }
        assert_eq!(order(&pool, 10), [(2, 0), (1, 0), (1, 1)]);
        pool.add(transaction(3, 0, 100, 1)).unwrap();
        assert_eq!(order(&pool, 10), [(2, 0), (1, 0), (1, 1), (3, 0), (3, 1)]);
    }

    #[test]
    fn a_fee_below_the_base_fee_waits() {
        let mut pool = Pool::default();
        pool.add(transaction(1, 0, 9, 1)).unwrap();
        assert!(order(&pool, 10).is_empty());
        assert_eq!(order(&pool, 9), [(1, 0)]);
    }

    #[test]
    fn replacement_needs_a_tenth_more_of_both_fees() {
        let mut pool = Pool::default();
        pool.add(transaction(1, 0, 100, 10)).unwrap();
        assert_eq!(pool.add(transaction(1, 0, 100, 10)).unwrap_err(), Refusal::AlreadyKnown);
        assert_eq!(pool.add(transaction(1, 0, 109, 11)).unwrap_err(), Refusal::Underpriced);
        assert_eq!(pool.add(transaction(1, 0, 110, 10)).unwrap_err(), Refusal::Underpriced);
        assert_eq!(pool.add(transaction(1, 0, 110, 11)).unwrap().len(), 2);
        assert_eq!(pool.iter().count(), 1);
    }

    #[test]
    fn a_full_pool_refuses_and_reverting_makes_room() {
        let mut pool = Pool::default();
        let mut last = Vec::new();
        for nonce in 0..MAX_TRANSACTIONS as u64 {
            last = pool.add(transaction(1, nonce, 1, 1)).unwrap();
        }
        let one_more = transaction(2, 0, 1, 1);
        assert_eq!(pool.add(one_more.clone()).unwrap_err(), Refusal::Full);
        last.iter().for_each(|change| pool.revert(change));
        assert_eq!(pool.next_nonce(Address::repeat_byte(1), 0), MAX_TRANSACTIONS as u64 - 1);
        pool.add(one_more).unwrap();
    }
}
