//! `anvil_reorg` and `anvil_rollback`: taking blocks back, and putting others in their place.
//!
//! `anvil_reorg [depth, [[transaction, offset], …]]` replaces the newest `depth` blocks by as many new ones. A
//! transaction, raw or a request of an impersonated account, goes into the block at `offset`, 0 being the first new
//! one; one that cannot be executed there is left out. What was in the old blocks is gone, not pending.

use super::error::RpcError;
use super::params::Params;
use super::send::{decode, without_signature};
use crate::block::Transaction;
use crate::chain::Chain;
use crate::evm::TRANSACTION_GAS_CAP;
use crate::writer::Writer;
use alloy::consensus::Transaction as _;
use alloy::rpc::types::TransactionRequest;
use alloy_primitives::map::AddressMap;
use alloy_primitives::{Address, Bytes, U64};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most transactions in one reorganisation.
const MAX_TRANSACTIONS: usize = 10_000;
/// Tip of a transaction that names no fee, in wei per gas.
const TIP: u128 = 1_000_000_000;

/// A transaction to put into a new block.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Given {
    Raw(Bytes),
    Request(Box<TransactionRequest>),
}

/// The transactions of one new block.
type Plan = Vec<Given>;

/// What goes into the new blocks, by offset; blocks without an entry stay empty.
type Plans = BTreeMap<u64, Plan>;

impl Chain {
    pub(super) async fn reorganise(&self, method: &str, mut params: Params) -> Result<Value, RpcError> {
        if method == "anvil_rollback" {
            let depth = params.optional_number(0, "depth")?.unwrap_or(1);
            return self.change(move |writer| writer.cut_off(depth).map(|_| Value::Null)).await;
        }
        let depth = params.number(0, "depth")?;
        let pairs: Vec<(Given, U64)> = params.optional(1, "transactions")?.unwrap_or_default();
        let plans = plan(depth, pairs)?;
        self.change(move |writer| writer.reorganise(depth, plans).map(|()| Value::Null)).await
    }
}

/// Sorts the transactions by block.
fn plan(depth: u64, pairs: Vec<(Given, U64)>) -> Result<Plans, RpcError> {
    if depth == 0 {
        return Err(RpcError::params("the depth of a reorganisation must be at least 1"));
    }
    if pairs.len() > MAX_TRANSACTIONS {
        return Err(RpcError::limit(format!("at most {MAX_TRANSACTIONS} transactions")));
    }
    let mut plans = Plans::new();
    for (given, offset) in pairs {
        let offset: u64 = offset.to();
        if offset >= depth {
            return Err(RpcError::params(format!("block offset {offset} must be below the depth {depth}")));
        }
        plans.entry(offset).or_default().push(given);
    }
    Ok(plans)
}

impl Writer {
    /// Takes back `depth` blocks.
    fn cut_off(&mut self, depth: u64) -> Result<(), RpcError> {
        let height = self.head().number();
        let target = height.checked_sub(depth).ok_or_else(|| {
            RpcError::params(format!("depth must not exceed the chain height: height {height}, depth {depth}"))
        })?;
        self.truncate(target)
    }

    fn reorganise(&mut self, depth: u64, mut plans: Plans) -> Result<(), RpcError> {
        // Everything that can be refused is looked at before anything changes.
        let chain_id = self.shared.chain_id;
        for given in plans.values().flatten() {
            match given {
                Given::Raw(raw) => drop(decode(raw, chain_id)?),
                Given::Request(request) => drop(self.sender(request)?),
            }
        }
        self.cut_off(depth)?;
        for offset in 0..depth {
            let transactions = self.complete(plans.remove(&offset).unwrap_or_default())?;
            self.mine_listed(transactions);
        }
        Ok(())
    }

    fn sender(&self, request: &TransactionRequest) -> Result<Address, RpcError> {
        let from = request.from.ok_or_else(|| RpcError::params("\"from\" is missing in a transaction request"))?;
        if self.controls.impersonated.contains(&from) {
            return Ok(from);
        }
        Err(RpcError::params(format!("no key for {from}: impersonate it or give the signed transaction")))
    }

    /// Fills what requests leave open, with nonces that follow each other.
    fn complete(&self, plan: Plan) -> Result<Vec<Arc<Transaction>>, RpcError> {
        let mut nonces: AddressMap<u64> = AddressMap::default();
        let head = self.head();
        let fee = u128::from(crate::builder::next_base_fee(&head.header)) * 2 + TIP;
        let mut transactions = Vec::with_capacity(plan.len());
        for given in plan {
            let transaction = match given {
                Given::Raw(raw) => decode(&raw, self.shared.chain_id)?,
                Given::Request(mut request) => {
                    let from = self.sender(&request)?;
                    let next = nonces.get(&from).copied();
                    let next = next.unwrap_or_else(|| self.view().account(from).map_or(0, |account| account.nonce));
                    request.nonce.get_or_insert(next);
                    request.gas.get_or_insert(head.header.gas_limit.min(TRANSACTION_GAS_CAP));
                    if request.gas_price.is_none() {
                        request.max_fee_per_gas.get_or_insert(fee);
                        request.max_priority_fee_per_gas.get_or_insert(TIP);
                    }
                    Transaction::new(without_signature(*request, self.shared.chain_id, from)?, from)
                }
            };
            nonces.insert(transaction.sender, transaction.envelope.nonce().saturating_add(1));
            transactions.push(Arc::new(transaction));
        }
        Ok(transactions)
    }
}
