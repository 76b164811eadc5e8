//! Accounts, storage and code, with enough memory of the past to read and restore old versions.
//!
//! Every change has a version, a number that only grows: one per block and one per amendment by a test method.
//! What a change overwrote is kept under (key, version), so that the state at version V is, for every key, the first
//! value overwritten after V, or else the current one. Readers name the version they want and are never blocked by a
//! block in the making, nor see it before it is on disk.

use alloy_primitives::map::{AddressMap, B256Map, HashMap};
use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256};
use revm::bytecode::Bytecode;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Numbers the states the chain went through; see the module.
pub(crate) type Version = u64;

/// What an address holds besides its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    pub(crate) code_hash: B256,
}

impl Account {
    /// Whether EIP-161 says that the account does not exist.
    pub(crate) fn is_empty(&self) -> bool {
        self.nonce == 0 && self.balance.is_zero() && self.code_hash == KECCAK256_EMPTY
    }
}

impl Default for Account {
    fn default() -> Self {
        Self { nonce: 0, balance: U256::ZERO, code_hash: KECCAK256_EMPTY }
    }
}

/// Names one thing that can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    Account(Address),
    Slot(Address, U256),
}

/// What a key holds. An account that does not exist is `None`, a slot that was never written is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Account(Option<Account>),
    Slot(U256),
}

/// New values by key, in the order in which they are written to disk.
pub(crate) type Changes = BTreeMap<Key, Value>;

/// What one version overwrote.
#[derive(Clone, Debug)]
pub(crate) struct Undo {
    pub(crate) version: Version,
    pub(crate) overwritten: Vec<(Key, Value)>,
}

/// The current state and its past.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) accounts: AddressMap<Account>,
    pub(crate) storage: AddressMap<HashMap<U256, U256>>,
    codes: B256Map<Bytecode>,
    past: BTreeMap<(Key, Version), Value>,
    versions: VecDeque<(Version, Vec<Key>)>,
    /// States before the change after this version cannot be read any more.
    oldest: Version,
    hashes: BTreeMap<u64, B256>,
}

impl World {
    pub(crate) fn get(&self, key: &Key) -> Value {
        match key {
            Key::Account(address) => Value::Account(self.accounts.get(address).copied()),
            Key::Slot(address, slot) => {
                let slots = self.storage.get(address);
                Value::Slot(slots.and_then(|slots| slots.get(slot)).copied().unwrap_or_default())
            }
        }
    }

    /// The value of `key` when `version` was current.
    fn get_at(&self, key: &Key, version: Version) -> Value {
        if version >= self.version() {
            return self.get(key);
        }
        let later = self.past.range((*key, version + 1)..=(*key, Version::MAX)).next();
        later.map_or_else(|| self.get(key), |(_, value)| *value)
    }

    pub(crate) fn code(&self, hash: &B256) -> Option<Bytecode> {
        self.codes.get(hash).cloned()
    }

    pub(crate) fn add_code(&mut self, hash: B256, code: Bytecode) {
        self.codes.entry(hash).or_insert(code);
    }

    pub(crate) fn block_hash(&self, number: u64) -> Option<B256> {
        self.hashes.get(&number).copied()
    }

    /// Remembers the hash of a block for the `BLOCKHASH` instruction and forgets those after it or too old for it.
    pub(crate) fn set_block_hash(&mut self, number: u64, hash: B256) {
        self.forget_hashes_from(number);
        self.hashes.insert(number, hash);
        while self.hashes.len() > 2048 {
            self.hashes.pop_first();
        }
    }

    pub(crate) fn forget_hashes_from(&mut self, number: u64) {
        self.hashes.split_off(&number);
    }

    /// Writes a value without remembering the old one. For loading and undoing.
    pub(crate) fn put(&mut self, key: Key, value: Value) {
        match (key, value) {
            (Key::Account(address), Value::Account(Some(account))) => {
                self.accounts.insert(address, account);
            }
            (Key::Account(address), Value::Account(None) | Value::Slot(_)) => {
                self.accounts.remove(&address);
            }
            (Key::Slot(address, slot), Value::Slot(value)) if !value.is_zero() => {
                self.storage.entry(address).or_default().insert(slot, value);
            }
            (Key::Slot(address, slot), Value::Slot(_) | Value::Account(_)) => self.clear_slot(address, slot),
        }
    }

    fn clear_slot(&mut self, address: Address, slot: U256) {
        if let Some(slots) = self.storage.get_mut(&address) {
            slots.remove(&slot);
            if slots.is_empty() {
                self.storage.remove(&address);
            }
        }
    }

    /// Makes `changes` the state of `version` and returns what they overwrote. Values that stay the same are left out.
    pub(crate) fn apply(&mut self, version: Version, changes: &[(Key, Value)]) -> Undo {
        let mut overwritten = Vec::with_capacity(changes.len());
        for (key, value) in changes {
            let old = self.get(key);
            if old != *value {
                overwritten.push((*key, old));
                self.put(*key, *value);
            }
        }
        let undo = Undo { version, overwritten };
        self.remember(&undo);
        undo
    }

    /// Adds a version that is already part of the state to its past.
    pub(crate) fn remember(&mut self, undo: &Undo) {
        let keys = undo.overwritten.iter().map(|(key, _)| *key).collect();
        self.past.extend(undo.overwritten.iter().map(|(key, value)| ((*key, undo.version), *value)));
        self.versions.push_back((undo.version, keys));
    }

    /// Takes the newest version back and returns the values it had, which `apply` would restore.
    pub(crate) fn undo(&mut self) -> Option<(Version, Vec<(Key, Value)>)> {
        let (version, keys) = self.versions.pop_back()?;
        let mut undone = Vec::with_capacity(keys.len());
        for key in keys {
            let old = self.past.remove(&(key, version)).expect("a version's keys are in the past");
            undone.push((key, self.get(&key)));
            self.put(key, old);
        }
        Some((version, undone))
    }

    /// The version that is current.
    pub(crate) fn version(&self) -> Version {
        self.versions.back().map_or(self.oldest, |(version, _)| *version)
    }

    /// Whether the state at `version` can still be read or restored.
    pub(crate) fn reaches(&self, version: Version) -> bool {
        version == self.oldest || self.versions.binary_search_by_key(&version, |(known, _)| *known).is_ok()
    }

    /// Forgets what is needed only for states before `version`.
    pub(crate) fn prune(&mut self, version: Version) {
        while let Some((oldest, _)) = self.versions.front().filter(|(oldest, _)| *oldest <= version) {
            self.oldest = *oldest;
            let Some((version, keys)) = self.versions.pop_front() else { break };
            for key in keys {
                self.past.remove(&(key, version));
            }
        }
    }

    /// Sets the version before the first that is remembered. For loading.
    pub(crate) fn set_oldest(&mut self, version: Version) {
        self.oldest = version;
    }

    /// How many overwritten values are remembered.
    pub(crate) fn past_len(&self) -> usize {
        self.past.len()
    }
}

/// The state at one version.
#[derive(Clone)]
pub(crate) struct View {
    world: Arc<RwLock<World>>,
    version: Version,
}

impl View {
    pub(crate) fn new(world: Arc<RwLock<World>>, version: Version) -> Self {
        Self { world, version }
    }

    fn read(&self) -> RwLockReadGuard<'_, World> {
        self.world.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn account(&self, address: Address) -> Option<Account> {
        match self.read().get_at(&Key::Account(address), self.version) {
            Value::Account(account) => account,
            Value::Slot(_) => None,
        }
    }

    pub(crate) fn slot(&self, address: Address, slot: U256) -> U256 {
        match self.read().get_at(&Key::Slot(address, slot), self.version) {
            Value::Slot(value) => value,
            Value::Account(_) => U256::ZERO,
        }
    }

    pub(crate) fn code(&self, hash: &B256) -> Bytecode {
        self.read().code(hash).unwrap_or_default()
    }

    pub(crate) fn block_hash(&self, number: u64) -> B256 {
        self.read().block_hash(number).unwrap_or_default()
    }

    /// The slots of `address` that are not zero now, whatever the version of this view.
    pub(crate) fn current_slots(&self, address: Address) -> Vec<U256> {
        self.read().storage.get(&address).map(|slots| slots.keys().copied().collect()).unwrap_or_default()
    }

    /// Whether the version can still be read. Checked after a longer read: a reorganisation may have removed it.
    pub(crate) fn is_readable(&self) -> bool {
        self.read().reaches(self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Address = Address::repeat_byte(0xa1);

    fn balance(wei: u64) -> (Key, Value) {
        let account = Account { balance: U256::from(wei), ..Account::default() };
        (Key::Account(ALICE), Value::Account(Some(account)))
    }

    fn slot(value: u64) -> (Key, Value) {
        (Key::Slot(ALICE, U256::from(7)), Value::Slot(U256::from(value)))
    }

    fn view(world: &Arc<RwLock<World>>, version: Version) -> View {
        View::new(world.clone(), version)
    }

    #[test]
    fn old_versions_stay_readable_and_can_be_restored() {
        let world = Arc::new(RwLock::new(World::default()));
        for (version, value) in [(1, 10), (2, 20), (5, 50)] {
            world.write().unwrap().apply(version, &[balance(value), slot(value)]);
        }
        let seen = |version| view(&world, version).slot(ALICE, U256::from(7)).to::<u64>();
        assert_eq!([seen(0), seen(1), seen(2), seen(4), seen(5)], [0, 10, 20, 20, 50]);
        let (version, undone) = world.write().unwrap().undo().unwrap();
        assert_eq!(version, 5);
        assert_eq!(seen(9), 20);
        world.write().unwrap().apply(6, &undone);
        assert_eq!([seen(2), seen(6)], [20, 50]);
        assert!(view(&world, 0).account(ALICE).is_none());
    }

    #[test]
    fn pruned_versions_are_out_of_reach() {
        let mut world = World::default();
        for version in 1..=4 {
            world.apply(version, &[balance(version)]);
        }
        world.prune(2);
        assert!(!world.reaches(1) && world.reaches(2) && world.reaches(4) && !world.reaches(5));
        assert_eq!(world.past_len(), 2);
        while world.undo().is_some() {}
        assert_eq!(world.version(), 2);
        assert_eq!(world.get(&Key::Account(ALICE)), balance(2).1);
    }
}
