//! The one place where the chain changes.
//!
//! Jobs run one after the other and stage what they do; then one commit stores all of it and shows it to the
//! readers, or, when the disk refuses, takes all of it back. Nothing that a job did can be seen before it is stored.

use crate::block::{Block, Transaction};
use crate::builder::{self, Executed};
use crate::config::Config;
use crate::pool::{Change, Pool, Ready};
use crate::published::{Shared, Time, Update, too_old};
use crate::rpc::error::RpcError;
use crate::state::{Key, Undo, Value, Version, View, World};
use crate::state_root::StateTries;
use crate::store::{Commit, Settings, StoreError};
use alloy::consensus::{Header, Transaction as _};
use alloy_primitives::map::AddressSet;
use alloy_primitives::{Address, B256};
use revm::bytecode::Bytecode;
use revm::context::result::InvalidTransaction;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLockWriteGuard};

/// Overwritten values above which only the least promised history is kept.
const MAX_PAST: usize = 500_000;
/// Blocks whose state is kept whatever they cost.
const LEAST_HISTORY: u64 = 256;

/// Owns everything that changes.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    history: u64,
    tries: StateTries,
    pub(crate) pool: Pool,
    pub(crate) controls: Controls,
    last_version: Version,
    stage: Stage,
    /// The controls as of the last commit.
    committed_controls: Controls,
    committed_last_version: Version,
}

/// The small things that jobs change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Controls {
    pub(crate) time: Time,
    /// Whether an arriving transaction is mined at once.
    pub(crate) automine: bool,
    /// Accounts that may send without a signature.
    pub(crate) impersonated: AddressSet,
    pub(crate) snapshots: Vec<Snapshot>,
    pub(crate) next_snapshot: u64,
}

/// A state to go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    pub(crate) id: u64,
    number: u64,
    version: Version,
    offset: i64,
}

/// What happened since the last commit.
struct Stage {
    /// The newest committed block that is still part of the chain.
    base: Arc<Block>,
    added: Vec<Arc<Block>>,
    world: Vec<Step>,
    pool: Vec<Change>,
    codes: Vec<(B256, Bytecode)>,
}

/// A change of the world, with what is needed to take it back.
enum Step {
    Applied(Undo),
    Undone { version: Version, values: Vec<(Key, Value)> },
}

impl Stage {
    fn new(base: Arc<Block>) -> Self {
        Self { base, added: Vec::new(), world: Vec::new(), pool: Vec::new(), codes: Vec::new() }
    }
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, config: &Config, tries: StateTries, pool: Pool, last: Version) -> Self {
        let published = shared.read();
        let automine = config.mining == crate::config::Mining::OnDemand;
        let controls = Controls { time: published.time, automine, next_snapshot: 0, ..Controls::default() };
        let stage = Stage::new(published.head.clone());
        drop(published);
        Self {
            shared,
            history: config.history.max(LEAST_HISTORY),
            tries,
            pool,
            committed_controls: controls.clone(),
            controls,
            last_version: last,
            stage,
            committed_last_version: last,
        }
    }

    fn world(&self) -> RwLockWriteGuard<'_, World> {
        self.shared.world.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn version(&self) -> Version {
        self.shared.world.read().unwrap_or_else(PoisonError::into_inner).version()
    }

    /// The newest block, committed or not.
    pub(crate) fn head(&self) -> Arc<Block> {
        self.stage.added.last().unwrap_or(&self.stage.base).clone()
    }

    /// The newest state, committed or not.
    pub(crate) fn view(&self) -> View {
        View::new(self.shared.world.clone(), self.version())
    }

    pub(crate) fn tries(&mut self) -> &mut StateTries {
        &mut self.tries
    }

    fn block(&self, number: u64) -> Result<Option<Arc<Block>>, StoreError> {
        let base = self.stage.base.number();
        if number <= base {
            return self.shared.block(number);
        }
        let staged = self.stage.added.iter().find(|block| block.number() == number);
        Ok(staged.cloned())
    }

    // --- blocks ---

    /// Mines everything that is ready, one full block after the other. Does nothing when nothing is ready.
    pub(crate) fn mine_ready(&mut self) {
        while !self.pool.is_empty() {
            let executed = self.prepare();
            if executed.transactions.is_empty() {
                self.drop_refused(&executed.refused);
                return;
            }
            self.append(executed);
        }
    }

    /// Mines one block, empty if nothing is ready.
    pub(crate) fn mine_one(&mut self) -> Arc<Block> {
        let executed = self.prepare();
        self.append(executed)
    }

    /// Mines one block with these transactions, as far as they can be executed.
    pub(crate) fn mine_listed(&mut self, transactions: Vec<Arc<Transaction>>) {
        let ready = Ready::listed(transactions);
        let executed = builder::execute(self.view(), self.shared.chain_id, self.next_header(), ready);
        self.append(executed);
    }

    fn next_header(&self) -> Header {
        let parent = self.head();
        let template = self.controls.time.template(&self.shared.clock, self.shared.coinbase, &parent.header);
        builder::next_header(&parent, &template)
    }

    fn prepare(&self) -> Executed {
        let header = self.next_header();
        let view = self.view();
        let nonce_of = |sender| view.account(sender).map_or(0, |account| account.nonce);
        let ready = self.pool.ready(header.base_fee_per_gas.unwrap_or_default(), nonce_of);
        builder::execute(view, self.shared.chain_id, header, ready)
    }

    fn append(&mut self, executed: Executed) -> Arc<Block> {
        let (mut header, receipts) = executed.seal();
        let Executed { transactions, changes, codes, refused, .. } = executed;
        let changes: Vec<_> = changes.into_iter().collect();
        self.change_world(&changes, codes);
        header.state_root = self.tries.root();
        let block = Arc::new(Block::new(header, transactions, receipts, self.version()));
        self.world().set_block_hash(block.number(), block.hash);
        self.stage.added.push(block.clone());
        self.drop_refused(&refused);
        self.drop_mined(&block);
        self.controls.time.next_base_fee = None;
        if self.controls.time.next.take().is_some() {
            self.set_time(block.header.timestamp);
        }
        block
    }

    /// Lets the chain's time go on from `timestamp`.
    pub(crate) fn set_time(&mut self, timestamp: u64) {
        let now = i128::from(self.shared.clock.now());
        let offset = i128::from(timestamp) - now;
        self.controls.time.offset = i64::try_from(offset).unwrap_or(if offset > 0 { i64::MAX } else { i64::MIN });
    }

    fn drop_refused(&mut self, refused: &[(Arc<Transaction>, InvalidTransaction)]) {
        for (transaction, reason) in refused {
            tracing::warn!(hash = %transaction.hash, %reason, "a waiting transaction became impossible and is dropped");
            let removed = self.pool.remove(&transaction.hash);
            self.stage.pool.extend(removed);
        }
    }

    fn drop_mined(&mut self, block: &Block) {
        for transaction in &block.transactions {
            let removed = self.pool.remove(&transaction.hash);
            self.stage.pool.extend(removed);
            for stale in self.pool.stale(transaction.sender, transaction.envelope.nonce()) {
                let removed = self.pool.remove(&stale);
                self.stage.pool.extend(removed);
            }
        }
    }

    /// Adds a transaction that has been checked.
    pub(crate) fn enqueue(&mut self, transaction: Arc<Transaction>) -> Result<(), RpcError> {
        let changes = self.pool.add(transaction)?;
        self.stage.pool.extend(changes);
        Ok(())
    }

    /// Takes a transaction out of the pool.
    pub(crate) fn drop_transaction(&mut self, hash: &B256) -> bool {
        let removed = self.pool.remove(hash);
        let found = removed.is_some();
        self.stage.pool.extend(removed);
        found
    }

    // --- state ---

    /// Changes the state outside of any block.
    pub(crate) fn amend(&mut self, changes: &[(Key, Value)], codes: impl IntoIterator<Item = (B256, Bytecode)>) {
        self.change_world(changes, codes);
    }

    fn change_world(&mut self, changes: &[(Key, Value)], codes: impl IntoIterator<Item = (B256, Bytecode)>) {
        self.last_version += 1;
        let version = self.last_version;
        let codes: Vec<_> = codes.into_iter().collect();
        let undo = {
            let mut world = self.world();
            codes.iter().for_each(|(hash, code)| world.add_code(*hash, code.clone()));
            world.apply(version, changes)
        };
        self.stage.codes.extend(codes);
        self.follow(undo.overwritten.iter().map(|(key, _)| key));
        self.stage.world.push(Step::Applied(undo));
    }

    fn follow<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        let world = self.shared.world.read().unwrap_or_else(PoisonError::into_inner);
        self.tries.follow(&world, keys);
    }

    /// Goes back to an earlier version of the state.
    fn rewind(&mut self, version: Version) {
        while self.version() > version {
            let Some((version, values)) = self.world().undo() else { return };
            self.follow(values.iter().map(|(key, _)| key));
            self.stage.world.push(Step::Undone { version, values });
        }
    }

    // --- going back ---

    /// Takes back all blocks above `number`. Their transactions are gone, not pending.
    pub(crate) fn truncate(&mut self, number: u64) -> Result<(), RpcError> {
        let target = self.block(number)?.ok_or_else(|| RpcError::params(format!("block {number} does not exist")))?;
        if !self.reaches(target.version) {
            return Err(too_old(number));
        }
        let version = target.version;
        self.cut(target, version);
        Ok(())
    }

    fn cut(&mut self, target: Arc<Block>, version: Version) {
        self.rewind(version);
        self.world().forget_hashes_from(target.number() + 1);
        if target.number() < self.stage.base.number() {
            self.stage.base = target;
            self.stage.added.clear();
        } else {
            self.stage.added.retain(|block| block.number() <= target.number());
        }
        self.controls.time.generation += 1;
        self.controls.snapshots.retain(|snapshot| snapshot.version <= version);
    }

    fn reaches(&self, version: Version) -> bool {
        self.shared.world.read().unwrap_or_else(PoisonError::into_inner).reaches(version)
    }

    /// Remembers the chain as it is and returns the number to come back with.
    pub(crate) fn snapshot(&mut self) -> u64 {
        let id = self.controls.next_snapshot;
        self.controls.next_snapshot += 1;
        let (number, version, offset) = (self.head().number(), self.version(), self.controls.time.offset);
        self.controls.snapshots.push(Snapshot { id, number, version, offset });
        id
    }

    /// Goes back to a snapshot and forgets it and those after it. False when there is none with this number.
    pub(crate) fn restore(&mut self, id: u64) -> Result<bool, RpcError> {
        let Some(snapshot) = self.controls.snapshots.iter().find(|snapshot| snapshot.id == id).copied() else {
            return Ok(false);
        };
        if !self.reaches(snapshot.version) {
            return Err(too_old(snapshot.number));
        }
        let target = self.block(snapshot.number)?.ok_or_else(|| too_old(snapshot.number))?;
        self.cut(target, snapshot.version);
        self.controls.snapshots.retain(|other| other.id < id);
        self.controls.time.offset = snapshot.offset;
        self.controls.time.next = None;
        self.controls.time.next_base_fee = None;
        Ok(true)
    }

    // --- commit ---

    /// Stores and publishes what is staged, or takes it back.
    pub(crate) fn commit(&mut self) -> Result<(), StoreError> {
        if !self.is_dirty() {
            return Ok(());
        }
        match self.store() {
            Ok(removed) => {
                self.publish(removed);
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the chain could not be written: its last changes are taken back");
                self.roll_back();
                Err(error)
            }
        }
    }

    fn is_dirty(&self) -> bool {
        let Stage { base, added, world, pool, codes: _ } = &self.stage;
        let cut = base.hash != self.shared.read().head.hash;
        let controls = self.controls.time != self.committed_controls.time;
        cut || controls || !added.is_empty() || !world.is_empty() || !pool.is_empty()
    }

    fn store(&mut self) -> Result<Vec<Arc<Block>>, StoreError> {
        let removed = self.removed_blocks()?;
        let state_root = self.tries.root();
        let (undo_kept, undos) = self.live_undos();
        let oldest = self.oldest_needed()?;
        let commit = Commit {
            removed: removed.clone(),
            added: &self.stage.added,
            values: self.changed_values(),
            codes: &self.stage.codes,
            undo_kept,
            undos: undos.into_values().collect(),
            undo_pruned: oldest,
            pool: &self.stage.pool,
            settings: self.settings(oldest),
            state_root,
        };
        self.shared.store.commit(&commit)?;
        self.world().prune(oldest);
        Ok(removed)
    }

    pub(crate) fn settings(&self, oldest_version: Version) -> Settings {
        Settings {
            time_offset: self.controls.time.offset,
            generation: self.controls.time.generation,
            last_version: self.last_version,
            oldest_version,
        }
    }

    /// Published blocks that the stage has cut off, oldest first.
    fn removed_blocks(&self) -> Result<Vec<Arc<Block>>, StoreError> {
        let published = self.shared.head().number();
        let numbers = self.stage.base.number() + 1..=published;
        numbers.filter_map(|number| self.shared.block(number).transpose()).collect()
    }

    /// The lowest committed version that still counts, and the changes since.
    fn live_undos(&self) -> (Version, BTreeMap<Version, &Undo>) {
        let mut kept = self.shared.read().version;
        let mut undos = BTreeMap::new();
        for step in &self.stage.world {
            match step {
                Step::Applied(undo) => {
                    undos.insert(undo.version, undo);
                }
                Step::Undone { version, .. } => {
                    undos.remove(version);
                    kept = kept.min(version - 1);
                }
            }
        }
        (kept, undos)
    }

    fn changed_values(&self) -> Vec<(Key, Value)> {
        let mut keys = BTreeSet::new();
        for step in &self.stage.world {
            match step {
                Step::Applied(undo) => keys.extend(undo.overwritten.iter().map(|(key, _)| *key)),
                Step::Undone { values, .. } => keys.extend(values.iter().map(|(key, _)| *key)),
            }
        }
        let world = self.shared.world.read().unwrap_or_else(PoisonError::into_inner);
        keys.into_iter().map(|key| (key, world.get(&key))).collect()
    }

    /// The version before which nothing needs to be remembered.
    fn oldest_needed(&self) -> Result<Version, StoreError> {
        let world = self.shared.world.read().unwrap_or_else(PoisonError::into_inner);
        let history = if world.past_len() > MAX_PAST { LEAST_HISTORY } else { self.history };
        drop(world);
        let Some(number) = self.head().number().checked_sub(history) else { return Ok(0) };
        Ok(self.block(number)?.map_or(0, |block| block.version))
    }

    fn publish(&mut self, removed: Vec<Arc<Block>>) {
        let head = self.head();
        let stage = std::mem::replace(&mut self.stage, Stage::new(head.clone()));
        self.committed_controls = self.controls.clone();
        self.committed_last_version = self.last_version;
        let (version, time) = (self.version(), self.controls.time);
        self.shared.publish(Update { removed, added: stage.added, head, version, pool: &stage.pool, time });
    }

    /// Forgets what is staged.
    pub(crate) fn roll_back(&mut self) {
        let head = self.shared.head();
        let stage = std::mem::replace(&mut self.stage, Stage::new(head));
        for step in stage.world.into_iter().rev() {
            self.take_back(step);
        }
        for change in stage.pool.iter().rev() {
            self.pool.revert(change);
        }
        self.world().forget_hashes_from(stage.base.number() + 1);
        for number in stage.base.number() + 1..=self.shared.head().number() {
            // A block that cannot be read only costs the BLOCKHASH of that block.
            if let Ok(Some(block)) = self.shared.block(number) {
                self.world().set_block_hash(number, block.hash);
            }
        }
        self.controls = self.committed_controls.clone();
        self.last_version = self.committed_last_version;
    }

    fn take_back(&mut self, step: Step) {
        let keys: Vec<Key> = match step {
            Step::Applied(_) => {
                let undone = self.world().undo();
                undone.into_iter().flat_map(|(_, values)| values).map(|(key, _)| key).collect()
            }
            Step::Undone { version, values } => {
                let undo = self.world().apply(version, &values);
                undo.overwritten.into_iter().map(|(key, _)| key).collect()
            }
        };
        self.follow(keys.iter());
    }

    /// The nonce of an account after the pending transactions that can be executed.
    pub(crate) fn next_nonce(&self, sender: Address) -> u64 {
        let nonce = self.view().account(sender).map_or(0, |account| account.nonce);
        self.pool.next_nonce(sender, nonce)
    }
}
