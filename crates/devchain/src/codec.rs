//! How blocks and state changes are laid out on disk.
//!
//! Blocks are RLP; state changes are fixed-width records. Decoding never panics: the file may be damaged.

use crate::block::{Block, Receipt, Transaction};
use crate::state::{Account, Key, Undo, Value, Version};
use alloy::consensus::{Header, TxEnvelope};
use alloy::eips::eip2718::{Decodable2718, Encodable2718};
use alloy_primitives::{Address, B256, Bytes, Log, U256};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};
use std::sync::Arc;

/// Why stored bytes cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("stored {what} is damaged: {reason}")]
pub(crate) struct DecodeError {
    what: &'static str,
    reason: String,
}

impl DecodeError {
    pub(crate) fn new(what: &'static str, reason: impl ToString) -> Self {
        Self { what, reason: reason.to_string() }
    }
}

#[derive(RlpEncodable, RlpDecodable)]
struct StoredBlock {
    header: Header,
    version: u64,
    transactions: Vec<StoredTransaction>,
}

#[derive(RlpEncodable, RlpDecodable)]
struct StoredTransaction {
    sender: Address,
    envelope: Bytes,
    success: bool,
    gas_used: u64,
    logs: Vec<Log>,
}

pub(crate) fn encode_block(block: &Block) -> Vec<u8> {
    let stored = |(transaction, receipt): (&Arc<Transaction>, &Receipt)| StoredTransaction {
        sender: transaction.sender,
        envelope: transaction.envelope.encoded_2718().into(),
        success: receipt.success,
        gas_used: receipt.gas_used,
        logs: receipt.logs.clone(),
    };
    let transactions = block.transactions.iter().zip(&block.receipts).map(stored).collect();
    let mut bytes = Vec::with_capacity(1024);
    StoredBlock { header: block.header.clone(), version: block.version, transactions }.encode(&mut bytes);
    bytes
}

pub(crate) fn decode_block(mut bytes: &[u8]) -> Result<Block, DecodeError> {
    let stored = StoredBlock::decode(&mut bytes).map_err(|error| DecodeError::new("block", error))?;
    let mut transactions = Vec::with_capacity(stored.transactions.len());
    let mut outcomes = Vec::with_capacity(stored.transactions.len());
    for entry in stored.transactions {
        transactions.push(Arc::new(decode_transaction(entry.sender, &entry.envelope)?));
        outcomes.push((entry.success, entry.gas_used, entry.logs));
    }
    let receipts = Receipt::sequence(&transactions, outcomes);
    Ok(Block::new(stored.header, transactions, receipts, stored.version))
}

pub(crate) fn decode_transaction(sender: Address, bytes: &[u8]) -> Result<Transaction, DecodeError> {
    let envelope = TxEnvelope::decode_2718_exact(bytes).map_err(|error| DecodeError::new("transaction", error))?;
    Ok(Transaction::new(envelope, sender))
}

const ACCOUNT: u8 = 0;
const NO_ACCOUNT: u8 = 1;
const SLOT: u8 = 2;

pub(crate) fn encode_undo(undo: &Undo) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(undo.overwritten.len() * 90);
    for (key, value) in &undo.overwritten {
        match (key, value) {
            (Key::Account(address), Value::Account(Some(account))) => {
                bytes.push(ACCOUNT);
                bytes.extend_from_slice(address.as_slice());
                bytes.extend_from_slice(&encode_account(account));
            }
            (Key::Account(address), Value::Account(None) | Value::Slot(_)) => {
                bytes.push(NO_ACCOUNT);
                bytes.extend_from_slice(address.as_slice());
            }
            (Key::Slot(address, slot), value) => {
                let Value::Slot(value) = value else { continue };
                bytes.push(SLOT);
                bytes.extend_from_slice(address.as_slice());
                bytes.extend_from_slice(&slot.to_be_bytes::<32>());
                bytes.extend_from_slice(&value.to_be_bytes::<32>());
            }
        }
    }
    bytes
}

pub(crate) fn decode_undo(version: Version, bytes: &[u8]) -> Result<Undo, DecodeError> {
    let mut reader = Reader(bytes);
    let mut overwritten = Vec::new();
    while let Some(tag) = reader.take::<1>() {
        let entry = reader.entry(tag[0]).ok_or_else(|| DecodeError::new("undo record", "cut short or unknown"))?;
        overwritten.push(entry);
    }
    Ok(Undo { version, overwritten })
}

/// Nonce (8 bytes), balance (32), code hash (32).
pub(crate) fn encode_account(account: &Account) -> [u8; 72] {
    let mut bytes = [0; 72];
    bytes[..8].copy_from_slice(&account.nonce.to_be_bytes());
    bytes[8..40].copy_from_slice(&account.balance.to_be_bytes::<32>());
    bytes[40..].copy_from_slice(account.code_hash.as_slice());
    bytes
}

pub(crate) fn decode_account(bytes: &[u8]) -> Result<Account, DecodeError> {
    let mut reader = Reader(bytes);
    let account = reader.account().filter(|_| reader.0.is_empty());
    account.ok_or_else(|| DecodeError::new("account", "wrong length"))
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn account(&mut self) -> Option<Account> {
        let nonce = u64::from_be_bytes(self.take()?);
        let balance = U256::from_be_bytes(self.take::<32>()?);
        Some(Account { nonce, balance, code_hash: B256::from(self.take::<32>()?) })
    }

    fn entry(&mut self, tag: u8) -> Option<(Key, Value)> {
        let address = Address::from(self.take::<20>()?);
        Some(match tag {
            ACCOUNT => (Key::Account(address), Value::Account(Some(self.account()?))),
            NO_ACCOUNT => (Key::Account(address), Value::Account(None)),
            SLOT => {
                let slot = U256::from_be_bytes(self.take::<32>()?);
                (Key::Slot(address, slot), Value::Slot(U256::from_be_bytes(self.take::<32>()?)))
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undo_records_survive_the_disk() {
        let address = Address::repeat_byte(9);
        let account = Account { nonce: 7, balance: U256::MAX, code_hash: B256::repeat_byte(3) };
        let overwritten = vec![
            (Key::Account(address), Value::Account(Some(account))),
            (Key::Account(Address::ZERO), Value::Account(None)),
            (Key::Slot(address, U256::from(1)), Value::Slot(U256::from(2))),
        ];
        let bytes = encode_undo(&Undo { version: 4, overwritten: overwritten.clone() });
        assert_eq!(decode_undo(4, &bytes).unwrap().overwritten, overwritten);
    }

    #[test]
    fn damaged_records_are_refused() {
        assert!(decode_undo(1, &[SLOT, 1, 2]).is_err());
        assert!(decode_undo(1, &[9; 21]).is_err());
        assert!(decode_account(&[0; 71]).is_err());
        assert!(decode_account(&[0; 73]).is_err());
        assert!(decode_block(&[0xc0]).is_err());
        assert!(decode_block(b"not rlp").is_err());
    }
}
