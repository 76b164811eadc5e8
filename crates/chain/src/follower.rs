//! Following the chain's logs by block range, with hashes, so that a reorg is noticed and read again.
//!
//! Every log of the canonical chain is delivered at least once; after a reorg some come again. Who follows keeps the
//! [`Cursor`] in the same transaction as what the logs caused.

use crate::client::{Client, Error, Head};
use alloy::{
    primitives::B256,
    rpc::types::{Filter, Log},
};
use serde::{Deserialize, Serialize};

/// How many recent blocks are remembered: a reorg within them is read again exactly, a deeper one from the oldest.
const MEMORY: usize = 64;
/// How many blocks one question spans.
const SPAN: u64 = 2_000;

/// How far the chain was followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The next block to read.
    next: u64,
    /// Number and hash of blocks that were read, oldest first.
    seen: Vec<(u64, B256)>,
}

impl Cursor {
    /// Starts at a block, such as that of the deployment.
    pub fn starting_at(block: u64) -> Self {
        Self { next: block, seen: Vec::new() }
    }

    /// The next block to read.
    pub fn next(&self) -> u64 {
        self.next
    }

    fn advance(&mut self, to: Head) {
        self.next = to.number + 1;
        self.seen.push((to.number, to.hash));
        let surplus = self.seen.len().saturating_sub(MEMORY);
        self.seen.drain(..surplus);
    }

    fn back_to(&mut self, block: u64) {
        self.next = block;
        self.seen.retain(|(number, _)| *number < block);
    }
}

/// News from the chain.
#[derive(Clone, Debug)]
pub struct News {
    /// Where to go on after this.
    pub cursor: Cursor,
    /// The first block of what was read: after a reorg, what is remembered of this block and later ones is void.
    pub from: u64,
    /// The logs, in order.
    pub logs: Vec<Log>,
    /// The block up to which was read.
    pub head: Head,
    /// Blocks that had been read before are no longer part of the chain: what came of them must be checked again.
    pub reorg: bool,
}

/// Reads logs as blocks come.
#[derive(Clone, Debug)]
pub struct Follower {
    client: Client,
    filter: Filter,
}

impl Follower {
    /// Follows what `filter` selects; its block range is ours to set.
    pub fn new(client: Client, filter: Filter) -> Self {
        Self { client, filter }
    }

    /// What came after `cursor`; `None` if nothing did.
    pub async fn poll(&self, cursor: &Cursor) -> Result<Option<News>, Error> {
        let mut cursor = cursor.clone();
        let latest = self.client.head().await?;
        let reorg = self.step_back(&mut cursor, latest).await?;
        if latest.number < cursor.next {
            return Ok(None);
        }
        let to = latest.number.min(cursor.next.saturating_add(SPAN - 1));
        // The end's hash is read before the logs and compared after: both are of one chain or the poll is repeated.
        let Some(end) = self.client.block(to.into()).await? else { return Ok(None) };
        let filter = self.filter.clone().from_block(cursor.next).to_block(to);
        let logs = self.client.logs(&filter).await?;
        let same = self.client.block(to.into()).await?.is_some_and(|b| b.hash == end.hash);
        if !same {
            return Ok(None);
        }
        let from = cursor.next;
        cursor.advance(end);
        Ok(Some(News { cursor, from, logs, head: end, reorg }))
    }

    /// Goes back to the last block that is still part of the chain. Says whether it had to. A node that lags behind
    /// what was read looks the same: reading again is harmless.
    async fn step_back(&self, cursor: &mut Cursor, latest: Head) -> Result<bool, Error> {
        let mut moved = false;
        while let Some(&(number, hash)) = cursor.seen.last() {
            let current = match number {
                n if n == latest.number => Some(latest),
                n if n > latest.number => None,
                n => self.client.block(n.into()).await?,
            };
            if current.is_some_and(|b| b.hash == hash) {
                return Ok(moved);
            }
            let before = cursor.seen.iter().rev().nth(1).map_or(number, |(n, _)| n + 1);
            cursor.back_to(before.min(number));
            moved = true;
        }
        Ok(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u64) -> Head {
        Head { number, hash: B256::with_last_byte(number as u8), parent: B256::ZERO, timestamp: 0 }
    }

    #[test]
    fn a_cursor_remembers_a_bounded_past() {
        let mut cursor = Cursor::starting_at(5);
        (5..200).for_each(|n| cursor.advance(head(n)));
        assert_eq!((cursor.next(), cursor.seen.len()), (200, MEMORY));
        cursor.back_to(190);
        assert_eq!((cursor.next(), cursor.seen.last().unwrap().0), (190, 189));
    }
}
