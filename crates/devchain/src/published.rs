//! What readers see: the chain up to the last block that is on disk.
//!
//! The writer replaces it in one step per commit, so a reader never sees half of one.

use crate::block::{Block, Transaction};
use crate::builder::{self, Executed, Template};
use crate::clock::Clock;
use crate::config::Config;
use crate::filters::Filters;
use crate::pool::{Change, Pool};
use crate::rpc::error::RpcError;
use crate::state::{Version, View, World};
use crate::store::{Store, StoreError};
use alloy::consensus::Header;
use alloy_primitives::map::B256Map;
use alloy_primitives::{Address, B256};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::broadcast;

/// Most blocks kept decoded in memory.
const RECENT_BLOCKS: usize = 256;
/// Most transactions in them.
const RECENT_TRANSACTIONS: usize = 20_000;
/// Events that a slow listener may fall behind before it loses some.
const EVENT_BACKLOG: usize = 1024;

/// Something that happened to the chain.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Blocks taken back, oldest first, then blocks added.
    Blocks { removed: Vec<Arc<Block>>, added: Vec<Arc<Block>> },
    /// Transactions that entered the pool.
    Pending(Vec<Arc<Transaction>>),
}

/// The parts of the chain that readers use.
pub(crate) struct Shared {
    pub(crate) chain_id: u64,
    pub(crate) coinbase: Address,
    pub(crate) clock: Clock,
    pub(crate) world: Arc<RwLock<World>>,
    pub(crate) store: Store,
    published: RwLock<Published>,
    /// The block in the making, as it was asked for last.
    pending: Mutex<Option<Pending>>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) filters: Filters,
}

/// The chain as of the last commit.
pub(crate) struct Published {
    pub(crate) head: Arc<Block>,
    pub(crate) version: Version,
    pub(crate) pool: Pool,
    pub(crate) time: Time,
    /// Counts commits.
    revision: u64,
    recent: Recent,
}

/// The block that would be mined at a moment, and of what it was made: while that is the same, so is the block.
struct Pending {
    revision: u64,
    timestamp: u64,
    view: View,
    executed: Arc<Executed>,
}

/// What decides about the next block besides its parent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    /// Seconds added to the clock.
    pub(crate) offset: i64,
    /// Timestamp of the next block when a test method has set it.
    pub(crate) next: Option<u64>,
    /// Base fee of the next block when a test method has set it.
    pub(crate) next_base_fee: Option<u64>,
    /// How often blocks have been taken back.
    pub(crate) generation: u64,
}

impl Time {
    /// The chain's own time.
    pub(crate) fn now(&self, clock: &Clock) -> u64 {
        clock.now().saturating_add_signed(self.offset)
    }

    /// What the block after `parent` starts from.
    pub(crate) fn template(&self, clock: &Clock, coinbase: Address, parent: &Header) -> Template {
        Template {
            timestamp: self.next.unwrap_or_else(|| self.now(clock)).max(parent.timestamp),
            coinbase,
            base_fee: self.next_base_fee,
            generation: self.generation,
        }
    }
}

/// One commit, seen from the readers.
pub(crate) struct Update<'a> {
    pub(crate) removed: Vec<Arc<Block>>,
    pub(crate) added: Vec<Arc<Block>>,
    pub(crate) head: Arc<Block>,
    pub(crate) version: Version,
    pub(crate) pool: &'a [Change],
    pub(crate) time: Time,
}

/// Where a transaction is.
pub(crate) enum Place {
    Mined(Arc<Block>, usize),
    Waiting(Arc<Transaction>),
}

impl Shared {
    pub(crate) fn new(config: &Config, store: Store, world: Arc<RwLock<World>>, published: Published) -> Self {
        Self {
            chain_id: config.chain_id,
            coinbase: config.coinbase,
            clock: config.clock.clone(),
            world,
            store,
            published: RwLock::new(published),
            pending: Mutex::default(),
            events: broadcast::Sender::new(EVENT_BACKLOG),
            filters: Filters::default(),
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Published> {
        self.published.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn head(&self) -> Arc<Block> {
        self.read().head.clone()
    }

    /// Shows a commit to the readers and tells the listeners.
    pub(crate) fn publish(&self, update: Update<'_>) {
        {
            let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
            published.take(&update);
        }
        let added = update.pool.iter().filter_map(|change| match change {
            Change::Added(waiting) => Some(waiting.transaction.clone()),
            Change::Removed(_) => None,
        });
        let pending: Vec<_> = added.collect();
        if !pending.is_empty() {
            self.announce(Event::Pending(pending));
        }
        if !update.removed.is_empty() || !update.added.is_empty() {
            self.announce(Event::Blocks { removed: update.removed, added: update.added });
        }
    }

    fn announce(&self, event: Event) {
        self.filters.feed(&event);
        // Sending fails when nobody listens, which is fine.
        let _ = self.events.send(event);
    }

    /// The block with this number, if it is part of the chain.
    pub(crate) fn block(&self, number: u64) -> Result<Option<Arc<Block>>, StoreError> {
        {
            let published = self.read();
            if number > published.head.number() {
                return Ok(None);
            }
            if let Some(block) = published.recent.get(number) {
                return Ok(Some(block.clone()));
            }
        }
        Ok(self.store.block(number)?.map(Arc::new))
    }

    /// The block with this hash, if it is part of the chain.
    pub(crate) fn block_by_hash(&self, hash: &B256) -> Result<Option<Arc<Block>>, StoreError> {
        let recent = self.read().recent.by_hash.get(hash).copied();
        let number = match recent {
            Some(number) => Some(number),
            None => self.store.block_number(hash)?,
        };
        let Some(number) = number else { return Ok(None) };
        Ok(self.block(number)?.filter(|block| block.hash == *hash))
    }

    /// Finds a transaction in a block or in the pool.
    pub(crate) fn transaction(&self, hash: &B256) -> Result<Option<Place>, StoreError> {
        let recent = {
            let published = self.read();
            if let Some(waiting) = published.pool.get(hash) {
                return Ok(Some(Place::Waiting(waiting.clone())));
            }
            published.recent.transactions.get(hash).copied()
        };
        let found = match recent {
            Some(found) => Some(found),
            None => self.store.transaction(hash)?,
        };
        let Some((number, index)) = found else { return Ok(None) };
        let block = self.block(number)?;
        let here = block.filter(|block| block.transactions.get(index).is_some_and(|entry| entry.hash == *hash));
        Ok(here.map(|block| Place::Mined(block, index)))
    }

    /// The state after `block`; an error when it is too old to be read.
    pub(crate) fn view(&self, block: &Block) -> Result<View, RpcError> {
        let version = {
            let published = self.read();
            // Amendments by test methods belong to the newest state, not to the block below them.
            if published.head.hash == block.hash { published.version } else { block.version }
        };
        let view = View::new(self.world.clone(), version);
        if view.is_readable() { Ok(view) } else { Err(too_old(block.number())) }
    }

    /// What the block that would be mined now does.
    pub(crate) fn pending(&self) -> (View, Arc<Executed>) {
        let (view, header, ready, revision) = {
            let published = self.read();
            let now = published.time.template(&self.clock, self.coinbase, &published.head.header).timestamp;
            if let Some(known) = self.last_pending().as_ref()
                && (known.revision, known.timestamp) == (published.revision, now)
            {
                return (known.view.clone(), known.executed.clone());
            }
            let template = published.time.template(&self.clock, self.coinbase, &published.head.header);
            let header = builder::next_header(&published.head, &template);
            let view = View::new(self.world.clone(), published.version);
            let nonce_of = |sender| view.account(sender).map_or(0, |account| account.nonce);
            let ready = published.pool.ready(header.base_fee_per_gas.unwrap_or_default(), nonce_of);
            (view, header, ready, published.revision)
        };
        let timestamp = header.timestamp;
        let executed = Arc::new(builder::execute(view.clone(), self.chain_id, header, ready));
        let pending = Pending { revision, timestamp, view: view.clone(), executed: executed.clone() };
        *self.last_pending() = Some(pending);
        (view, executed)
    }

    fn last_pending(&self) -> MutexGuard<'_, Option<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of a block is not remembered any more.
pub(crate) fn too_old(number: u64) -> RpcError {
    RpcError::server(format!("state of block {number} is not available: only that of recent blocks is kept"))
}

impl Published {
    pub(crate) fn new(head: Arc<Block>, version: Version, pool: Pool, time: Time) -> Self {
        let mut recent = Recent::default();
        recent.push(head.clone());
        Self { head, version, pool, time, revision: 0, recent }
    }

    fn take(&mut self, update: &Update<'_>) {
        update.removed.iter().rev().for_each(|block| self.recent.pop(block));
        update.added.iter().for_each(|block| self.recent.push(block.clone()));
        update.pool.iter().for_each(|change| self.pool.apply(change));
        self.head = update.head.clone();
        self.version = update.version;
        self.time = update.time;
        self.revision += 1;
    }
}

/// The newest blocks, found by number, hash and transaction.
#[derive(Default)]
struct Recent {
    blocks: VecDeque<Arc<Block>>,
    by_hash: B256Map<u64>,
    transactions: B256Map<(u64, usize)>,
}

impl Recent {
    fn get(&self, number: u64) -> Option<&Arc<Block>> {
        let first = self.blocks.front()?.number();
        self.blocks.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    fn push(&mut self, block: Arc<Block>) {
        self.by_hash.insert(block.hash, block.number());
        let entries = block.transactions.iter().enumerate();
        self.transactions.extend(entries.map(|(index, entry)| (entry.hash, (block.number(), index))));
        self.blocks.push_back(block);
        while self.blocks.len() > RECENT_BLOCKS
            || (self.blocks.len() > 1 && self.transactions.len() > RECENT_TRANSACTIONS)
        {
            let Some(oldest) = self.blocks.pop_front() else { break };
            self.forget(&oldest);
        }
    }

    fn pop(&mut self, block: &Block) {
        if self.blocks.back().is_some_and(|newest| newest.hash == block.hash) {
            self.blocks.pop_back();
        }
        self.forget(block);
    }

    fn forget(&mut self, block: &Block) {
        self.by_hash.remove(&block.hash);
        for transaction in &block.transactions {
            self.transactions.remove(&transaction.hash);
        }
    }
}
