//! Blocks, transactions, receipts and logs as JSON-RPC shows them.

use crate::block::{Block, Transaction};
use alloy::consensus::transaction::Recovered;
use alloy::consensus::{Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, Sealed, Transaction as _, Typed2718};
use alloy::eips::eip4895::Withdrawals;
use alloy::rpc::types::{self, BlockTransactions, Log, TransactionReceipt};
use alloy_primitives::{B256, U256};
use serde_json::{Value, json};

/// A block with transaction hashes, or with whole transactions.
pub(crate) fn block(block: &Block, full: bool) -> types::Block {
    let transactions = if full {
        let entries = 0..block.transactions.len();
        BlockTransactions::Full(entries.filter_map(|index| mined(block, index)).collect())
    } else {
        BlockTransactions::Hashes(block.transactions.iter().map(|transaction| transaction.hash).collect())
    };
    let header = header(&block.header, block.hash, Some(block.size));
    types::Block { header, uncles: Vec::new(), transactions, withdrawals: Some(Withdrawals::default()) }
}

fn header(header: &Header, hash: B256, size: Option<usize>) -> types::Header {
    types::Header::from_consensus(Sealed::new_unchecked(header.clone(), hash), Some(U256::ZERO), size.map(U256::from))
}

/// A header as `newHeads` sends it.
pub(crate) fn head(block: &Block) -> Value {
    json!(header(&block.header, block.hash, Some(block.size)))
}

/// A transaction of a block.
pub(crate) fn mined(block: &Block, index: usize) -> Option<types::Transaction> {
    let transaction = block.transactions.get(index)?;
    Some(types::Transaction {
        inner: Recovered::new_unchecked(transaction.envelope.clone(), transaction.sender),
        block_hash: Some(block.hash),
        block_number: Some(block.number()),
        transaction_index: Some(index as u64),
        effective_gas_price: Some(transaction.envelope.effective_gas_price(block.header.base_fee_per_gas)),
        block_timestamp: Some(block.header.timestamp),
    })
}

/// A transaction that waits, with the price it would pay in a block of this base fee.
pub(crate) fn waiting(transaction: &Transaction, base_fee: u64) -> types::Transaction {
    types::Transaction {
        inner: Recovered::new_unchecked(transaction.envelope.clone(), transaction.sender),
        block_hash: None,
        block_number: None,
        transaction_index: None,
        effective_gas_price: Some(transaction.envelope.effective_gas_price(Some(base_fee))),
        block_timestamp: None,
    }
}

/// A receipt.
pub(crate) fn receipt(block: &Block, index: usize) -> Option<TransactionReceipt> {
    let (transaction, receipt) = block.entry(index)?;
    let logs = (receipt.first_log..).zip(&receipt.logs);
    let inner = ReceiptWithBloom {
        receipt: Receipt {
            status: receipt.success.into(),
            cumulative_gas_used: receipt.cumulative_gas,
            logs: logs.map(|(log_index, entry)| log(block, index, log_index, entry)).collect(),
        },
        logs_bloom: receipt.bloom,
    };
    let inner = match transaction.envelope.ty() {
        1 => ReceiptEnvelope::Eip2930(inner),
        2 => ReceiptEnvelope::Eip1559(inner),
        4 => ReceiptEnvelope::Eip7702(inner),
        _ => ReceiptEnvelope::Legacy(inner),
    };
    Some(TransactionReceipt {
        inner,
        transaction_hash: transaction.hash,
        transaction_index: Some(index as u64),
        block_hash: Some(block.hash),
        block_number: Some(block.number()),
        gas_used: receipt.gas_used,
        effective_gas_price: transaction.envelope.effective_gas_price(block.header.base_fee_per_gas),
        blob_gas_used: None,
        blob_gas_price: None,
        from: transaction.sender,
        to: transaction.envelope.to(),
        contract_address: receipt.created,
    })
}

/// A log of the transaction at `index`.
pub(crate) fn log(block: &Block, index: usize, log_index: u64, log: &alloy_primitives::Log) -> Log {
    Log {
        inner: log.clone(),
        block_hash: Some(block.hash),
        block_number: Some(block.number()),
        block_timestamp: Some(block.header.timestamp),
        transaction_hash: block.transactions.get(index).map(|transaction| transaction.hash),
        transaction_index: Some(index as u64),
        log_index: Some(log_index),
        removed: false,
    }
}
