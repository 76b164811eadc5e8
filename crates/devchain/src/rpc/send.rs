//! Accepting transactions: the checks of a public node, in its words.

use super::Access;
use super::error::RpcError;
use super::params::Params;
use super::{Text, text};
use crate::block::Transaction;
use crate::chain::Chain;
use crate::evm::{self, TRANSACTION_GAS_CAP};
use crate::writer::Writer;
use alloy::consensus::transaction::SignerRecoverable;
use alloy::consensus::{SignableTransaction, Transaction as _, TxEip1559, TxEip2930, TxEnvelope, TxLegacy, Typed2718};
use alloy::eips::eip2718::Decodable2718;
use alloy::rpc::types::TransactionRequest;
use alloy_primitives::{Address, Bytes, KECCAK256_EMPTY, Signature, TxKind, U256};
use revm::primitives::eip3860;
use std::sync::Arc;

/// Most bytes of one transaction.
const MAX_SIZE: usize = 128 << 10;

impl Chain {
    pub(super) async fn send(&self, method: &str, mut params: Params, access: Access) -> Result<Text, RpcError> {
        let transaction = if method == "eth_sendRawTransaction" {
            let raw: Bytes = params.get(0, "raw transaction")?;
            let envelope = read(&raw, self.0.shared.chain_id)?;
            // Wallets hand the same bytes in again and again: the signer need not be found each time.
            if self.0.shared.transaction(envelope.tx_hash())?.is_some() {
                return Err(RpcError::server("already known"));
            }
            recovered(envelope)?
        } else {
            self.unsigned(params.get(0, "transaction")?, access).await?
        };
        let hash = transaction.hash;
        self.change(move |writer| writer.submit(Arc::new(transaction))).await?;
        Ok(text(&hash))
    }

    /// Completes a request of an account that is impersonated.
    pub(super) async fn unsigned(
        &self,
        mut request: TransactionRequest,
        access: Access,
    ) -> Result<Transaction, RpcError> {
        let from = request.from.ok_or_else(|| RpcError::params("\"from\" is missing"))?;
        let known = access == Access::TestMethods
            && self.change(move |writer| Ok(writer.controls.impersonated.contains(&from))).await?;
        if !known {
            return Err(RpcError::server(format!(
                "unknown account {from}: this node keeps no keys; sign the transaction and use eth_sendRawTransaction"
            )));
        }
        if request.gas.is_none() {
            request.gas = Some(self.estimate_gas(request.clone()).await?);
        }
        if request.nonce.is_none() {
            request.nonce = Some(self.change(move |writer| Ok(writer.next_nonce(from))).await?);
        }
        if request.gas_price.is_none() {
            let tip = request.max_priority_fee_per_gas.unwrap_or(1_000_000_000);
            request.max_priority_fee_per_gas = Some(tip);
            let fee = u128::from(self.base_fee()).saturating_mul(2).saturating_add(tip);
            request.max_fee_per_gas.get_or_insert(fee);
        }
        let envelope = without_signature(request, self.0.shared.chain_id, from)?;
        Ok(Transaction::new(envelope, from))
    }
}

/// Reads a signed transaction and recovers its sender.
pub(super) fn decode(raw: &[u8], chain_id: u64) -> Result<Transaction, RpcError> {
    recovered(read(raw, chain_id)?)
}

fn read(raw: &[u8], chain_id: u64) -> Result<TxEnvelope, RpcError> {
    if raw.len() > MAX_SIZE {
        return Err(RpcError::server(format!("oversized data: transaction size {}, limit {MAX_SIZE}", raw.len())));
    }
    match raw.first() {
        Some(3) => return Err(RpcError::server("transaction type not supported: blob transactions (type 3)")),
        Some(kind @ 5..=0x7f) => return Err(RpcError::server(format!("transaction type not supported: {kind}"))),
        Some(_) | None => {}
    }
    let envelope = TxEnvelope::decode_2718_exact(raw)
        .map_err(|error| RpcError::params(format!("the bytes are not a transaction: {error}")))?;
    if envelope.chain_id().is_some_and(|id| id != chain_id) {
        return Err(RpcError::server(format!("invalid chain id for signer: this chain has id {chain_id}")));
    }
    Ok(envelope)
}

fn recovered(envelope: TxEnvelope) -> Result<Transaction, RpcError> {
    let sender =
        envelope.recover_signer().map_err(|_| RpcError::server("invalid sender: the signature is not valid"))?;
    Ok(Transaction::new(envelope, sender))
}

/// Builds the transaction of an impersonated account. Its signature carries the sender's address, so that equal
/// transactions of two senders have two hashes, and recovers to nobody.
pub(super) fn without_signature(
    request: TransactionRequest,
    chain_id: u64,
    from: Address,
) -> Result<TxEnvelope, RpcError> {
    if request.blob_versioned_hashes.is_some() || request.authorization_list.is_some() {
        return Err(RpcError::params("an impersonated account sends transactions of type 0, 1 and 2 only"));
    }
    if request.chain_id.is_some_and(|id| id != chain_id) {
        return Err(RpcError::server(format!("invalid chain id for signer: this chain has id {chain_id}")));
    }
    let signature = Signature::new(U256::ZERO, U256::from_be_slice(from.as_slice()), false);
    let input = request.input.try_into_unique_input().map_err(RpcError::params)?.unwrap_or_default();
    let (nonce, gas_limit) = (request.nonce.unwrap_or_default(), request.gas.unwrap_or_default());
    let (to, value) = (request.to.unwrap_or(TxKind::Create), request.value.unwrap_or_default());
    let access_list = request.access_list.unwrap_or_default();
    Ok(match request.gas_price {
        Some(gas_price) if access_list.is_empty() => {
            let body = TxLegacy { chain_id: Some(chain_id), nonce, gas_price, gas_limit, to, value, input };
            TxEnvelope::Legacy(body.into_signed(signature))
        }
        Some(gas_price) => {
            let body = TxEip2930 { chain_id, nonce, gas_price, gas_limit, to, value, access_list, input };
            TxEnvelope::Eip2930(body.into_signed(signature))
        }
        None => {
            let body = TxEip1559 {
                chain_id,
                nonce,
                gas_limit,
                max_fee_per_gas: request.max_fee_per_gas.unwrap_or_default(),
                max_priority_fee_per_gas: request.max_priority_fee_per_gas.unwrap_or_default(),
                to,
                value,
                access_list,
                input,
            };
            TxEnvelope::Eip1559(body.into_signed(signature))
        }
    })
}

impl Writer {
    /// Takes a transaction into the pool, and mines what is ready when blocks are made on demand.
    pub(crate) fn submit(&mut self, transaction: Arc<Transaction>) -> Result<(), RpcError> {
        self.check(&transaction)?;
        self.enqueue(transaction)?;
        if self.controls.automine {
            self.mine_ready();
        }
        Ok(())
    }

    fn check(&self, transaction: &Transaction) -> Result<(), RpcError> {
        if self.pool.get(&transaction.hash).is_some() || self.shared.transaction(&transaction.hash)?.is_some() {
            return Err(RpcError::server("already known"));
        }
        check_form(transaction, self.head().header.gas_limit)?;
        self.check_fee(transaction)?;
        self.check_sender(transaction)
    }

    /// A fee under the base fee would wait forever where only an arriving transaction makes a block.
    fn check_fee(&self, transaction: &Transaction) -> Result<(), RpcError> {
        let parent = self.head();
        let next = self.controls.time.next_base_fee;
        let base_fee = next.unwrap_or_else(|| crate::builder::next_base_fee(&parent.header));
        if transaction.envelope.max_fee_per_gas() < u128::from(base_fee) {
            let fee = transaction.envelope.max_fee_per_gas();
            return Err(RpcError::server(format!(
                "max fee per gas less than block base fee: maxFeePerGas {fee}, baseFee {base_fee}"
            )));
        }
        Ok(())
    }

    fn check_sender(&self, transaction: &Transaction) -> Result<(), RpcError> {
        let Transaction { sender, envelope, .. } = transaction;
        let view = self.view();
        let account = view.account(*sender).unwrap_or_default();
        let has_code = account.code_hash != KECCAK256_EMPTY && !view.code(&account.code_hash).is_eip7702();
        if has_code && !self.controls.impersonated.contains(sender) {
            return Err(RpcError::server(format!("sender not an eoa: {sender} has code")));
        }
        let nonce = envelope.nonce();
        if nonce < account.nonce {
            return Err(RpcError::server(format!("nonce too low: next nonce {}, tx nonce {nonce}", account.nonce)));
        }
        if nonce == u64::MAX {
            return Err(RpcError::server("nonce has max value"));
        }
        let cost = self.pool.committed(*sender, nonce).saturating_add(transaction.cost());
        if cost > account.balance {
            return Err(RpcError::server(format!(
                "insufficient funds for gas * price + value: balance {}, tx cost {cost}, overshot {}",
                account.balance,
                cost - account.balance
            )));
        }
        Ok(())
    }
}

/// The checks that need no state.
fn check_form(transaction: &Transaction, block_gas_limit: u64) -> Result<(), RpcError> {
    let envelope = &transaction.envelope;
    if !matches!(envelope.ty(), 0 | 1 | 2 | 4) {
        return Err(RpcError::server(format!("transaction type not supported: {}", envelope.ty())));
    }
    if envelope.is_create() && envelope.input().len() > eip3860::MAX_INITCODE_SIZE {
        let (size, limit) = (envelope.input().len(), eip3860::MAX_INITCODE_SIZE);
        return Err(RpcError::server(format!("max initcode size exceeded: code size {size}, limit {limit}")));
    }
    let gas = envelope.gas_limit();
    if gas > block_gas_limit {
        return Err(RpcError::server(format!("exceeds block gas limit: gas {gas}, limit {block_gas_limit}")));
    }
    if gas > TRANSACTION_GAS_CAP {
        return Err(RpcError::server(format!(
            "transaction gas limit too high: gas {gas}, cap {TRANSACTION_GAS_CAP} (EIP-7825)"
        )));
    }
    if envelope.max_priority_fee_per_gas().is_some_and(|tip| tip > envelope.max_fee_per_gas()) {
        return Err(RpcError::server("max priority fee per gas higher than max fee per gas"));
    }
    let needed = evm::intrinsic_gas(&evm::tx_env(transaction));
    if gas < needed {
        return Err(RpcError::server(format!("intrinsic gas too low: gas {gas}, minimum needed {needed}")));
    }
    if envelope.authorization_list().is_some_and(<[_]>::is_empty) {
        return Err(RpcError::server("set code transaction must have at least one authorization"));
    }
    Ok(())
}
