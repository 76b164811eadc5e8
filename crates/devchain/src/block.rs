//! Blocks, transactions and receipts as the chain keeps them, and the hashes and roots they commit to.

use crate::state::Version;
use alloy::consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy::consensus::{Header, Transaction as _, TxEnvelope, Typed2718};
use alloy::consensus::{Receipt as ConsensusReceipt, ReceiptEnvelope, ReceiptWithBloom};
use alloy::eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bloom, Log};
use alloy_rlp::{Encodable, Header as RlpHeader};
use std::sync::Arc;

/// A transaction with the sender, which is not always the signer: a test method lets any account send.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) envelope: TxEnvelope,
    pub(crate) sender: Address,
    pub(crate) hash: B256,
    /// Bytes of the EIP-2718 encoding.
    pub(crate) size: usize,
}

impl Transaction {
    pub(crate) fn new(envelope: TxEnvelope, sender: Address) -> Self {
        let hash = *envelope.tx_hash();
        let size = envelope.encode_2718_len();
        Self { envelope, sender, hash, size }
    }

    /// The most wei this can take from the sender; saturates.
    pub(crate) fn cost(&self) -> alloy_primitives::U256 {
        let gas = alloy_primitives::U256::from(self.envelope.gas_limit());
        let price = alloy_primitives::U256::from(self.envelope.max_fee_per_gas());
        gas.saturating_mul(price).saturating_add(self.envelope.value())
    }

    /// The wei per gas that reaches the coinbase, or `None` below the base fee.
    pub(crate) fn tip(&self, base_fee: u64) -> Option<u128> {
        self.envelope.effective_tip_per_gas(base_fee)
    }

    /// Where a contract is created, when this creates one.
    pub(crate) fn creates(&self) -> Option<Address> {
        self.envelope.is_create().then(|| self.sender.create(self.envelope.nonce()))
    }
}

/// What a transaction did.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    pub(crate) success: bool,
    pub(crate) gas_used: u64,
    /// Gas of this and all earlier transactions of the block.
    pub(crate) cumulative_gas: u64,
    pub(crate) logs: Vec<Log>,
    pub(crate) bloom: Bloom,
    /// Index in the block of the first of `logs`.
    pub(crate) first_log: u64,
    /// Where the contract of a creating transaction lies, or would if it had succeeded, as on geth.
    pub(crate) created: Option<Address>,
}

impl Receipt {
    /// Completes outcomes (success, gas used, logs) to the receipts of one block.
    pub(crate) fn sequence(
        transactions: &[Arc<Transaction>],
        outcomes: impl IntoIterator<Item = (bool, u64, Vec<Log>)>,
    ) -> Vec<Self> {
        let (mut cumulative_gas, mut first_log) = (0, 0);
        let mut receipts = Vec::with_capacity(transactions.len());
        for (transaction, (success, gas_used, logs)) in transactions.iter().zip(outcomes) {
            cumulative_gas += gas_used;
            let bloom = alloy_primitives::logs_bloom(&logs);
            let created = transaction.creates();
            let count = logs.len() as u64;
            receipts.push(Self { success, gas_used, cumulative_gas, logs, bloom, first_log, created });
            first_log += count;
        }
        receipts
    }

    fn envelope(&self, kind: u8) -> ReceiptEnvelope {
        let receipt = ConsensusReceipt {
            status: self.success.into(),
            cumulative_gas_used: self.cumulative_gas,
            logs: self.logs.clone(),
        };
        let receipt = ReceiptWithBloom { receipt, logs_bloom: self.bloom };
        match kind {
            1 => ReceiptEnvelope::Eip2930(receipt),
            2 => ReceiptEnvelope::Eip1559(receipt),
            4 => ReceiptEnvelope::Eip7702(receipt),
            _ => ReceiptEnvelope::Legacy(receipt),
        }
    }
}

/// A block with everything that is in it.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) header: Header,
    pub(crate) hash: B256,
    pub(crate) transactions: Vec<Arc<Transaction>>,
    pub(crate) receipts: Vec<Receipt>,
    /// State version after this block.
    pub(crate) version: Version,
    /// Bytes of the RLP encoding of the block.
    pub(crate) size: usize,
}

impl Block {
    pub(crate) fn new(
        header: Header,
        transactions: Vec<Arc<Transaction>>,
        receipts: Vec<Receipt>,
        version: Version,
    ) -> Self {
        let hash = header.hash_slow();
        let size = encoded_size(&header, &transactions);
        Self { header, hash, transactions, receipts, version, size }
    }

    pub(crate) const fn number(&self) -> u64 {
        self.header.number
    }

    pub(crate) fn base_fee(&self) -> u64 {
        self.header.base_fee_per_gas.unwrap_or_default()
    }

    /// Gas used by the transaction at `index`, logs and all.
    pub(crate) fn entry(&self, index: usize) -> Option<(&Arc<Transaction>, &Receipt)> {
        self.transactions.get(index).zip(self.receipts.get(index))
    }
}

/// Fills the header fields that follow from the body.
pub(crate) fn commit_body(header: &mut Header, transactions: &[Arc<Transaction>], receipts: &[Receipt]) {
    let envelopes: Vec<&TxEnvelope> = transactions.iter().map(|transaction| &transaction.envelope).collect();
    header.transactions_root = calculate_transaction_root(&envelopes);
    let envelopes: Vec<_> = transactions
        .iter()
        .zip(receipts)
        .map(|(transaction, receipt)| receipt.envelope(transaction.envelope.ty()))
        .collect();
    header.receipts_root = calculate_receipt_root(&envelopes);
    header.logs_bloom = receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | receipt.bloom);
    header.gas_used = receipts.last().map_or(0, |receipt| receipt.cumulative_gas);
}

/// Length of the RLP list of header, transactions, no uncles and no withdrawals.
fn encoded_size(header: &Header, transactions: &[Arc<Transaction>]) -> usize {
    let list = |payload_length| RlpHeader { list: true, payload_length }.length_with_payload();
    let body: usize = transactions.iter().map(|transaction| transaction.envelope.length()).sum();
    list(header.length() + list(body) + 1 + 1)
}
