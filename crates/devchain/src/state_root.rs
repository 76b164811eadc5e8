//! The tries behind a block's state root: one of accounts, and one of storage for each account that has any.

use crate::state::{Key, Value, World};
use crate::trie::Trie;
use alloy_primitives::map::AddressMap;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount};
use std::collections::BTreeSet;

/// Follows the state of a [`World`], key by key.
#[derive(Default)]
pub(crate) struct StateTries {
    accounts: Trie,
    storage: AddressMap<Trie>,
}

impl StateTries {
    /// Reads all of `world`.
    pub(crate) fn of(world: &World) -> Self {
        let mut tries = Self::default();
        let slots = world.storage.iter().flat_map(|(address, slots)| slots.keys().map(|slot| (*address, *slot)));
        let slots: Vec<Key> = slots.map(|(address, slot)| Key::Slot(address, slot)).collect();
        let accounts: Vec<Key> = world.accounts.keys().copied().map(Key::Account).collect();
        tries.follow(world, slots.iter().chain(&accounts));
        tries
    }

    /// Takes over what `world` now holds under `keys`.
    pub(crate) fn follow<'a>(&mut self, world: &World, keys: impl Iterator<Item = &'a Key>) {
        let mut changed = BTreeSet::new();
        for key in keys {
            match key {
                Key::Account(address) => changed.insert(*address),
                Key::Slot(address, slot) => {
                    self.follow_slot(world, *address, *slot);
                    changed.insert(*address)
                }
            };
        }
        for address in changed {
            self.follow_account(world, address);
        }
    }

    fn follow_slot(&mut self, world: &World, address: Address, slot: U256) {
        let value = match world.get(&Key::Slot(address, slot)) {
            Value::Slot(value) if !value.is_zero() => Some(alloy_rlp::encode_fixed_size(&value)),
            Value::Slot(_) | Value::Account(_) => None,
        };
        let trie = self.storage.entry(address).or_default();
        trie.set(keccak256(slot.to_be_bytes::<32>()), value.as_deref());
    }

    fn follow_account(&mut self, world: &World, address: Address) {
        let storage_root = self.storage_root(address);
        if storage_root == EMPTY_ROOT_HASH {
            self.storage.remove(&address);
        }
        let leaf = match world.get(&Key::Account(address)) {
            Value::Account(Some(account)) => Some(alloy_rlp::encode(TrieAccount {
                nonce: account.nonce,
                balance: account.balance,
                storage_root,
                code_hash: account.code_hash,
            })),
            Value::Account(None) | Value::Slot(_) => None,
        };
        self.accounts.set(keccak256(address), leaf.as_deref());
    }

    /// Root of the whole state.
    pub(crate) fn root(&mut self) -> B256 {
        self.accounts.root()
    }

    /// Root of one account's storage.
    pub(crate) fn storage_root(&mut self, address: Address) -> B256 {
        self.storage.get_mut(&address).map_or(EMPTY_ROOT_HASH, Trie::root)
    }

    /// Nodes that prove an account, present or not.
    pub(crate) fn account_proof(&mut self, address: Address) -> Vec<Bytes> {
        self.accounts.proof(keccak256(address))
    }

    /// Nodes that prove a slot, present or not.
    pub(crate) fn slot_proof(&mut self, address: Address, slot: U256) -> Vec<Bytes> {
        let key = keccak256(slot.to_be_bytes::<32>());
        self.storage.get_mut(&address).map(|trie| trie.proof(key)).unwrap_or_default()
    }
}
