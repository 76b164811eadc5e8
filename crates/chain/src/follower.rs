//! Following the chain's logs by block range, with hashes: blocks are added or removed, never skipped.
//!
//! Every log of a block that counts is delivered at least once; after a reorg the first block that is void is named, and
//! what replaced it follows. Who follows keeps the [`Cursor`] in the same transaction as what the logs caused. No filter
//! is installed in the node, so none can die there; what `eth_getLogs` says is held against hashes and blooms.

use crate::client::{Client, Error, Head, Header};
use alloy::{
    primitives::B256,
    rpc::types::{Filter, Log},
};
use bourse_service::defect::{Defect, planted};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How many of the last blocks are remembered one by one. Older ones are remembered ever more sparsely.
const MEMORY: usize = 64;
/// How many blocks one question spans at most.
const SPAN: u64 = 2_000;
/// The last blocks are read one by one, so that each is known by its hash and no filter can forget a log of it: what was
/// missed during an outage of hours is found. Of older ones ranges of logs are read, twice: see [`Follower::old_logs`].
const NEAR: u64 = 512;
/// So many of them are asked for at once, and delivered together.
const AT_ONCE: u64 = 32;
/// After so many answers a node that refused a long range is asked for a longer one again.
const PATIENCE: u32 = 8;
/// Catching up is reported this often, if more blocks are left than this.
const REPORT: (Duration, u64) = (Duration::from_secs(2), 1_000);

/// How far the chain was followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The first block that is of interest.
    #[serde(default)]
    start: u64,
    /// The next block to read.
    next: u64,
    /// Number and hash of blocks that were read, oldest first.
    seen: Vec<(u64, B256)>,
}

impl Cursor {
    /// Starts at a block, such as that of the deployment.
    pub fn starting_at(block: u64) -> Self {
        Self { start: block, next: block, seen: Vec::new() }
    }

    /// The next block to read.
    pub fn next(&self) -> u64 {
        self.next
    }

    fn last(&self) -> Option<(u64, B256)> {
        self.seen.last().copied()
    }

    fn advance(&mut self, to: Head) {
        self.next = to.number + 1;
        self.seen.push((to.number, to.hash));
        self.thin_out();
    }

    /// Keeps the last blocks, and of the older ones ever fewer: gaps grow with the distance, so that a deep reorg is
    /// found without reading everything again.
    fn thin_out(&mut self) {
        let Some(dense_from) = self.seen.len().checked_sub(MEMORY).filter(|surplus| *surplus > 0) else { return };
        let mut newer = self.seen[dense_from].0;
        let mut old = Vec::new();
        for index in (0..dense_from).rev() {
            let (number, hash) = self.seen[index];
            let older = index.checked_sub(1).map(|i| self.seen[i].0);
            let spare = older.is_some_and(|older| newer - older <= (self.next - number) / 4);
            if !spare {
                newer = number;
                old.push((number, hash));
            }
        }
        old.reverse();
        self.seen.splice(..dense_from, old);
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
    /// The newest block of the chain; later than `head` while catching up, or where blocks must be buried to count.
    pub latest: Head,
    /// How many blocks are left to read.
    pub left: u64,
    /// Blocks that had been read before are no longer part of the chain: what came of them must be undone or checked again.
    pub reorg: bool,
    /// Those of them that were remembered, the newest first.
    pub removed: Vec<(u64, B256)>,
    /// The reorg was deeper than the blocks that are remembered one by one: everything since `from` is read again.
    pub resync: bool,
}

/// How far a follower is that has much left to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The newest block that was read.
    pub block: u64,
    /// How many are left.
    pub left: u64,
}

/// Reads logs as blocks come. Clones share what they learn of the node.
#[derive(Clone, Debug)]
pub struct Follower {
    client: Client,
    filter: Filter,
    depth: Option<u64>,
    pace: Arc<Mutex<Pace>>,
}

/// The newest block, the next one to read, and the last that was read.
type Standing = (B256, u64, Option<(u64, B256)>);

/// How fast the node can be read.
#[derive(Debug)]
struct Pace {
    span: u64,
    answers: u32,
    /// Nothing was new at this newest block for a cursor that stood here.
    idle: Option<Standing>,
    reported: Option<Instant>,
}

/// Where the cursor stands in the chain as it is now.
enum Base {
    /// The node is behind what was read: a lag, or the chain was set back and will show when it grows.
    Behind,
    /// What was read up to the cursor is part of the chain; these blocks no longer are.
    Here { removed: Vec<(u64, B256)>, common: bool },
}

impl Follower {
    /// Follows what `filter` selects; its block range is ours to set. Blocks count as deep as the client says.
    pub fn new(client: Client, filter: Filter) -> Self {
        let pace = Pace { span: SPAN, answers: 0, idle: None, reported: None };
        Self { client, filter, depth: None, pace: Arc::new(Mutex::new(pace)) }
    }

    /// Delivers blocks when this many lie above them.
    pub fn with_depth(self, depth: u64) -> Self {
        Self { depth: Some(depth), ..self }
    }

    /// What came after `cursor`; `None` if nothing did.
    pub async fn poll(&self, cursor: &Cursor) -> Result<Option<News>, Error> {
        let depth = match self.depth {
            Some(depth) => depth,
            None => self.client.depth().await?,
        };
        let latest = self.client.header().await?;
        let standing = (latest.head.hash, cursor.next, cursor.last());
        if self.pace().idle == Some(standing) {
            return Ok(None);
        }
        let mut cursor = cursor.clone();
        let Base::Here { removed, common } = self.base(&mut cursor, &latest.head).await? else { return Ok(None) };
        let limit = latest.head.number.checked_sub(depth).filter(|limit| *limit >= cursor.next);
        let Some(limit) = limit else { return self.only_removed(cursor, latest.head, removed, common, standing).await };
        let from = cursor.next;
        let (logs, head) = match limit - from >= NEAR {
            true => self.leap(&mut cursor, limit - NEAR).await?,
            false => self.walk(&mut cursor, limit.min(from + AT_ONCE - 1), &latest).await?,
        }
        .unzip();
        let (Some(logs), Some(head)) = (logs, head) else { return Ok(None) };
        let left = limit - head.number;
        self.report(head.number, left);
        let resync = !removed.is_empty() && (!common || removed.len() > MEMORY);
        let reorg = !removed.is_empty();
        Ok(Some(News { cursor, from, logs, head, latest: latest.head, left, reorg, removed, resync }))
    }

    /// Nothing to add; but if something was removed, that is news.
    async fn only_removed(
        &self,
        cursor: Cursor,
        latest: Head,
        removed: Vec<(u64, B256)>,
        common: bool,
        standing: Standing,
    ) -> Result<Option<News>, Error> {
        if removed.is_empty() {
            self.pace().idle = Some(standing);
            return Ok(None);
        }
        let head = match cursor.last() {
            Some((number, _)) => self.client.block(number.into()).await?,
            None => Some(latest),
        };
        let Some(head) = head else { return Ok(None) };
        let (from, resync) = (cursor.next, !common || removed.len() > MEMORY);
        Ok(Some(News { cursor, from, logs: vec![], head, latest, left: 0, reorg: true, removed, resync }))
    }

    /// Goes back to the last remembered block that is still part of the chain.
    async fn base(&self, cursor: &mut Cursor, latest: &Head) -> Result<Base, Error> {
        let reachable = cursor.seen.partition_point(|(number, _)| *number <= latest.number);
        let Some(&(number, hash)) = cursor.seen[..reachable].last() else {
            let nothing_read = cursor.seen.is_empty();
            return Ok(if nothing_read { Base::Here { removed: vec![], common: true } } else { Base::Behind });
        };
        let Some(same) = self.is_part(number, hash, latest).await? else { return Ok(Base::Behind) };
        if same || planted(Defect::UndoMissing) {
            let all = reachable == cursor.seen.len();
            return Ok(if all { Base::Here { removed: vec![], common: true } } else { Base::Behind });
        }
        // Blocks up to some one are part of the chain and later ones are not: that one is searched by halving.
        let (mut good, mut bad) = (0, reachable - 1);
        while good < bad {
            let middle = good + (bad - good) / 2;
            let (number, hash) = cursor.seen[middle];
            match self.is_part(number, hash, latest).await? {
                Some(true) => good = middle + 1,
                Some(false) => bad = middle,
                None => return Ok(Base::Behind),
            }
        }
        let mut removed = cursor.seen.split_off(good);
        removed.reverse();
        let next = cursor.seen.last().map_or(cursor.start, |(number, _)| number + 1);
        cursor.back_to(next);
        tracing::info!(blocks = removed.len(), from = next, "blocks that were read are no longer part of the chain");
        Ok(Base::Here { removed, common: good > 0 })
    }

    /// Whether a block is part of the chain; `None` if the node cannot tell.
    async fn is_part(&self, number: u64, hash: B256, latest: &Head) -> Result<Option<bool>, Error> {
        if number == latest.number {
            return Ok(Some(hash == latest.hash));
        }
        if number + 1 == latest.number {
            return Ok(Some(hash == latest.parent));
        }
        Ok(self.client.block(number.into()).await?.map(|block| block.hash == hash))
    }

    /// Reads many old blocks with one question; `None` if the chain changed meanwhile.
    async fn leap(&self, cursor: &mut Cursor, limit: u64) -> Result<Option<(Vec<Log>, Head)>, Error> {
        loop {
            let span = self.pace().span;
            let to = limit.min(cursor.next.saturating_add(span - 1));
            // The end's hash is read before the logs and compared after: both are of one chain or it is done again.
            let Some(end) = self.client.block(to.into()).await? else { return Ok(None) };
            let logs = match self.old_logs(cursor.next, to).await {
                Ok(Some(logs)) => logs,
                Ok(None) => return Ok(None),
                Err(error) => {
                    let shorter = self.shorten(span);
                    match error {
                        Error::Refused { .. } if shorter => continue,
                        error => return Err(error),
                    }
                }
            };
            if !self.fit(&logs, cursor.next, &end).await? {
                return Ok(None);
            }
            self.lengthen();
            cursor.advance(end);
            return Ok(Some((logs, end)));
        }
    }

    /// The logs of a range of old blocks; `None` if the chain changed meanwhile. Two nodes must agree on them, or, where only
    /// one does well, it must say the same of the whole and of two parts of it. Where they do not, the halves are looked at one
    /// by one, down to single blocks, which are read by their hashes.
    async fn old_logs(&self, from: u64, to: u64) -> Result<Option<Vec<Log>>, Error> {
        let (mut logs, mut left) = (Vec::new(), vec![(from, to)]);
        while let Some((from, to)) = left.pop() {
            if from == to {
                let Some(block) = self.client.header_at(from.into()).await? else { return Ok(None) };
                logs.extend(self.logs_of(&block).await?);
            } else if let Some(agreed) = self.agreed(from, to).await? {
                logs.extend(agreed);
            } else {
                tracing::warn!(
                    from,
                    to,
                    "the logs of these blocks differ when they are asked for again: looking closer"
                );
                let middle = from + (to - from) / 2;
                left.extend([(middle + 1, to), (from, middle)]);
            }
        }
        Ok(Some(logs))
    }

    /// The logs of a range, if they are the same at the second look.
    async fn agreed(&self, from: u64, to: u64) -> Result<Option<Vec<Log>>, Error> {
        let filter = |from: u64, to: u64| self.filter.clone().from_block(from).to_block(to);
        let mut answers = self.client.logs_of_two(&filter(from, to)).await?.into_iter();
        let (Some(first), second) = (answers.next(), answers.next()) else { return Ok(None) };
        if planted(Defect::FilterTrusted) {
            return Ok(Some(first));
        }
        let second = match second {
            Some(second) => second,
            None => {
                // What was cut off is found in the second part.
                let last = first.last().and_then(|log| log.block_number);
                let cut = last.unwrap_or(from + (to - from) / 2).clamp(from + 1, to);
                let mut both = self.client.logs(&filter(from, cut - 1)).await?;
                both.extend(self.client.logs(&filter(cut, to)).await?);
                both
            }
        };
        Ok(same(&first, &second).then_some(first))
    }

    /// Whether logs of a range are in order and of the chain as it is now: its end, and the first and the last block that
    /// has logs, have the hashes that the logs name.
    async fn fit(&self, logs: &[Log], from: u64, end: &Head) -> Result<bool, Error> {
        let place = |log: &Log| log.block_number.zip(log.log_index);
        let in_range = |log: &Log| log.block_number.is_some_and(|n| (from..=end.number).contains(&n)) && !log.removed;
        if !logs.iter().all(in_range) || !logs.is_sorted_by_key(place) {
            return Err(self.nonsense(format!("the logs of blocks {from} to {}", end.number)));
        }
        for log in logs.first().into_iter().chain(logs.last()) {
            let (Some(number), Some(hash)) = (log.block_number, log.block_hash) else { return Ok(false) };
            let same = match number == end.number {
                true => hash == end.hash,
                false => self.client.block(number.into()).await?.is_some_and(|block| block.hash == hash),
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(self.client.block(end.number.into()).await?.is_some_and(|block| block.hash == end.hash))
    }

    /// Reads the last blocks one by one, each by its hash; `None` if the chain changed before anything was read.
    async fn walk(&self, cursor: &mut Cursor, limit: u64, latest: &Header) -> Result<Option<(Vec<Log>, Head)>, Error> {
        let (mut logs, mut head) = (Vec::new(), None);
        let header = async |number: u64| match number == latest.head.number {
            true => Ok(Some(*latest)),
            false => self.client.header_at(number.into()).await,
        };
        let numbers: Vec<u64> = (cursor.next..=limit).collect();
        let headers = join_all(numbers.iter().map(|number| header(*number))).await;
        for (number, block) in numbers.into_iter().zip(headers) {
            let block = match block {
                Ok(Some(block)) => block,
                Ok(None) => break,
                // What was read before stands; the rest comes with the next poll.
                Err(_) if head.is_some() => break,
                Err(error) => return Err(error),
            };
            let follows = cursor.last().is_none_or(|(n, hash)| n + 1 != number || hash == block.head.parent);
            if !follows {
                break;
            }
            match self.logs_of(&block).await {
                Ok(found) => logs.extend(found),
                Err(Error::Refused { .. } | Error::BlockGone { .. }) if self.is_gone(&block.head).await? => break,
                Err(_) if head.is_some() => break,
                Err(error) => return Err(error),
            }
            cursor.advance(block.head);
            head = Some(block.head);
        }
        Ok(head.map(|head| (logs, head)))
    }

    /// The logs of one block. A bloom that rules them out is believed; one that promises some leads to the receipts,
    /// since a filter that forgets one log of several looks like an honest one. Nodes without a method for all receipts
    /// of a block, and chains without blooms, are asked for the logs.
    async fn logs_of(&self, block: &Header) -> Result<Vec<Log>, Error> {
        let Header { head, bloom, empty, .. } = block;
        // Some chains leave all blooms empty: those rule out nothing.
        if *empty || (!bloom.is_zero() && !self.filter.matches_bloom(*bloom)) {
            return Ok(vec![]);
        }
        let trusted = bloom.is_zero() || planted(Defect::FilterTrusted);
        let receipts = if trusted { None } else { self.client.logs_by_receipts(head.hash).await? };
        let wanted = |log: &Log| self.filter.matches_address(log.address()) && self.filter.matches_topics(log.topics());
        let logs = match receipts {
            Some(all) => all.into_iter().filter(wanted).collect(),
            None => self.client.logs(&self.filter.clone().at_block_hash(head.hash)).await?,
        };
        match logs.iter().any(|log| log.block_hash != Some(head.hash) || log.removed) {
            true => Err(self.nonsense(format!("the logs of block {}", head.number))),
            false => Ok(logs),
        }
    }

    async fn is_gone(&self, block: &Head) -> Result<bool, Error> {
        Ok(self.client.block(block.number.into()).await?.is_none_or(|found| found.hash != block.hash))
    }

    /// Asks for shorter ranges from now on. Says whether that is possible.
    fn shorten(&self, span: u64) -> bool {
        let mut pace = self.pace();
        (pace.span, pace.answers) = ((span / 2).max(1), 0);
        span > 1
    }

    fn lengthen(&self) {
        let mut pace = self.pace();
        pace.answers += 1;
        if pace.answers >= PATIENCE {
            (pace.span, pace.answers) = ((pace.span * 2).min(SPAN), 0);
        }
    }

    /// Says how far catching up is: to whoever watches at once, in the log now and then.
    fn report(&self, at: u64, left: u64) {
        let mut pace = self.pace();
        if left < REPORT.1 {
            if pace.reported.take().is_some() {
                self.client.catching_up(None);
                tracing::info!(block = at, "caught up with the chain");
            }
            return;
        }
        self.client.catching_up(Some(Progress { block: at, left }));
        match pace.reported {
            Some(since) if since.elapsed() < REPORT.0 => {}
            _ => {
                pace.reported = Some(Instant::now());
                tracing::info!(block = at, left, percent = at * 100 / (at + left), "catching up with the chain");
            }
        }
    }

    fn nonsense(&self, what: String) -> Error {
        Error::Nonsense { node: self.client.node().into(), what }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether two answers name the same logs. What else nodes say of a log differs between them.
fn same(one: &[Log], other: &[Log]) -> bool {
    let place = |log: &Log| (log.block_hash, log.transaction_hash, log.log_index);
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| place(a) == place(b) && a.inner == b.inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u64) -> Head {
        Head { number, hash: B256::left_padding_from(&number.to_be_bytes()), parent: B256::ZERO, timestamp: 0 }
    }

    #[test]
    fn a_cursor_remembers_the_last_blocks_and_ever_fewer_older_ones() {
        let mut cursor = Cursor::starting_at(5);
        (5..100_000).for_each(|n| cursor.advance(head(n)));
        let numbers: Vec<u64> = cursor.seen.iter().map(|(n, _)| *n).collect();
        assert!(numbers.ends_with(&(100_000 - MEMORY as u64..100_000).collect::<Vec<_>>()));
        assert!(numbers.len() < MEMORY + 60, "{} are too many", numbers.len());
        // However deep the reorg, at most some part more than necessary is read again.
        for depth in [100, 1_000, 10_000, 50_000, 99_000] {
            let common = numbers.iter().rev().find(|n| **n <= 100_000 - depth).unwrap();
            assert!(100_000 - common <= depth * 2, "{depth}: {common}");
        }
        cursor.back_to(99_990);
        assert_eq!((cursor.next(), cursor.last().unwrap().0), (99_990, 99_989));
    }
}
