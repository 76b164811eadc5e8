//! Making a block out of transactions: pure, it changes nothing but the values it returns.

use crate::block::{Block, Receipt, Transaction, commit_body};
use crate::evm::{self, Mode, Overlay};
use crate::pool::Ready;
use crate::state::{Changes, View};
use alloy::consensus::constants::EMPTY_WITHDRAWALS;
use alloy::consensus::{EMPTY_OMMER_ROOT_HASH, Header, Transaction as _};
use alloy::eips::eip1559::{BaseFeeParams, calc_next_block_base_fee};
use alloy::eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_primitives::map::B256Map;
use alloy_primitives::{Address, B256, Keccak256, Log};
use revm::DatabaseCommit;
use revm::bytecode::Bytecode;
use revm::context::result::InvalidTransaction;
use std::sync::Arc;

/// The parts of a header that are not computed from the parent and the body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Template {
    pub(crate) timestamp: u64,
    pub(crate) coinbase: Address,
    /// Overrides EIP-1559.
    pub(crate) base_fee: Option<u64>,
    /// Counts reorganisations, so that a block that replaces an equal one has another hash.
    pub(crate) generation: u64,
}

/// What the transactions of a block do, before the block is put together.
pub(crate) struct Executed {
    /// Nothing that follows from the body is in it.
    pub(crate) header: Header,
    pub(crate) transactions: Vec<Arc<Transaction>>,
    /// Success, gas used and logs of each.
    outcomes: Vec<(bool, u64, Vec<Log>)>,
    pub(crate) changes: Changes,
    pub(crate) codes: B256Map<Bytecode>,
    /// Transactions that turned out to be impossible, and why.
    pub(crate) refused: Vec<(Arc<Transaction>, InvalidTransaction)>,
}

impl Executed {
    /// The header, without state root, and the receipts.
    pub(crate) fn seal(&self) -> (Header, Vec<Receipt>) {
        let receipts = Receipt::sequence(&self.transactions, self.outcomes.iter().cloned());
        let mut header = self.header.clone();
        commit_body(&mut header, &self.transactions, &receipts);
        (header, receipts)
    }
}

/// The header of the block after `parent`, before its body is known.
pub(crate) fn next_header(parent: &Block, template: &Template) -> Header {
    let parent_header = &parent.header;
    Header {
        parent_hash: parent.hash,
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: template.coinbase,
        number: parent_header.number + 1,
        gas_limit: parent_header.gas_limit,
        timestamp: template.timestamp,
        mix_hash: randomness(parent.hash, parent_header.number + 1, template.generation),
        base_fee_per_gas: Some(template.base_fee.unwrap_or_else(|| next_base_fee(parent_header))),
        ..empty_header()
    }
}

/// A header with the values that all blocks of this chain share.
pub(crate) fn empty_header() -> Header {
    Header {
        withdrawals_root: Some(EMPTY_WITHDRAWALS),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}

/// The base fee that EIP-1559 gives the block after `parent`.
pub(crate) fn next_base_fee(parent: &Header) -> u64 {
    let base_fee = parent.base_fee_per_gas.unwrap_or_default();
    calc_next_block_base_fee(parent.gas_used, parent.gas_limit, base_fee, BaseFeeParams::ethereum())
}

/// The `PREVRANDAO` of a block: the same on every run that makes the same blocks.
fn randomness(parent: B256, number: u64, generation: u64) -> B256 {
    let mut hash = Keccak256::new();
    hash.update(b"devchain randomness");
    hash.update(parent);
    hash.update(number.to_be_bytes());
    hash.update(generation.to_be_bytes());
    hash.finalize()
}

/// Executes transactions until the block is full or there are none left.
pub(crate) fn execute(view: View, chain_id: u64, header: Header, mut ready: Ready) -> Executed {
    let mut state = Overlay::new(view);
    let env = evm::block_env(&header);
    let mut transactions: Vec<Arc<Transaction>> = Vec::new();
    let mut outcomes: Vec<(bool, u64, Vec<Log>)> = Vec::new();
    let mut refused = Vec::new();
    let mut gas_left = header.gas_limit;
    while let Some(transaction) = ready.next() {
        if transaction.envelope.gas_limit() > gas_left {
            // It waits for the next block, and with it the rest of its sender's line.
            continue;
        }
        match evm::run(&mut state, &env, chain_id, Mode::Block, evm::tx_env(&transaction)) {
            Ok(done) => {
                state.commit(done.state);
                ready.accept(transaction.sender);
                let gas_used = done.result.tx_gas_used();
                gas_left -= gas_used;
                outcomes.push((done.result.is_success(), gas_used, logs(done.result)));
                transactions.push(transaction);
            }
            Err(reason) => refused.push((transaction, reason)),
        }
    }
    let (changes, codes) = state.into_changes();
    Executed { header, transactions, outcomes, changes, codes, refused }
}

/// A transaction that fails leaves no logs, whatever it emitted before.
fn logs(result: revm::context::result::ExecutionResult) -> Vec<Log> {
    if result.is_success() { result.into_logs() } else { Vec::new() }
}
