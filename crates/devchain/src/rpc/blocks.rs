//! Reading blocks, transactions and receipts.

use super::error::RpcError;
use super::params::Params;
use super::render;
use super::{Text, nothing, text};
use crate::block::Block;
use crate::chain::Chain;
use crate::published::Place;
use crate::state::View;
use crate::store::StoreError;
use alloy::eips::eip2718::Encodable2718;
use alloy::eips::{BlockId, BlockNumberOrTag, RpcBlockHash};
use alloy_primitives::{B256, Bytes, U64};
use serde_json::{Value, json};
use std::sync::Arc;

/// How far below the head `safe` is.
const SAFE_DEPTH: u64 = 32;
/// How far below the head `finalized` is.
const FINALIZED_DEPTH: u64 = 64;

/// Which block a request means.
pub(crate) enum At {
    Block(Arc<Block>),
    /// The one that would be mined now.
    Pending,
}

impl Chain {
    pub(super) async fn blocks(&self, method: &str, mut params: Params) -> Result<Text, RpcError> {
        let shared = &self.0.shared;
        Ok(match method {
            "eth_chainId" => text(&U64::from(shared.chain_id)),
            "eth_blockNumber" => text(&U64::from(shared.head().number())),
            "eth_syncing" | "eth_mining" => text(&false),
            "eth_hashrate" => text("0x0"),
            "eth_protocolVersion" => text("0x44"),
            "eth_coinbase" => text(&shared.coinbase),
            "eth_accounts" => text(&self.change(|writer| Ok(writer.impersonated())).await?),
            "eth_getBlockByNumber" => {
                let tag = params.get::<BlockNumberOrTag>(0, "block")?;
                let full = params.optional(1, "whole transactions")?.unwrap_or(false);
                self.show_block(tag.into(), full).await?
            }
            "eth_getBlockByHash" => {
                let hash = params.get::<B256>(0, "block hash")?;
                let full = params.optional(1, "whole transactions")?.unwrap_or(false);
                self.show_block(hash.into(), full).await?
            }
            "eth_getBlockReceipts" => self.block_receipts(params.block_or(0, BlockNumberOrTag::Latest)?)?,
            "eth_getBlockTransactionCountByNumber" => {
                self.count(params.get::<BlockNumberOrTag>(0, "block")?.into()).await?
            }
            "eth_getBlockTransactionCountByHash" => self.count(params.get::<B256>(0, "block hash")?.into()).await?,
            "eth_getUncleCountByBlockNumber" => self.uncles(params.get::<BlockNumberOrTag>(0, "block")?.into())?,
            "eth_getUncleCountByBlockHash" => self.uncles(params.get::<B256>(0, "block hash")?.into())?,
            "eth_getUncleByBlockNumberAndIndex" | "eth_getUncleByBlockHashAndIndex" => nothing(),
            "eth_getTransactionByHash" => self.transaction(params.get(0, "transaction hash")?)?,
            "eth_getRawTransactionByHash" => self.raw_transaction(params.get(0, "transaction hash")?)?,
            "eth_getTransactionByBlockNumberAndIndex" => {
                let block = params.get::<BlockNumberOrTag>(0, "block")?;
                self.transaction_in(block.into(), params.number(1, "index")?)?
            }
            "eth_getTransactionByBlockHashAndIndex" => {
                let block = params.get::<B256>(0, "block hash")?;
                self.transaction_in(block.into(), params.number(1, "index")?)?
            }
            "eth_getTransactionReceipt" => self.receipt(params.get(0, "transaction hash")?)?,
            _ => return Err(RpcError::method(method)),
        })
    }

    /// Finds the block that `id` names.
    pub(crate) fn find(&self, id: BlockId) -> Result<Option<At>, RpcError> {
        let shared = &self.0.shared;
        let found = match id {
            BlockId::Number(BlockNumberOrTag::Pending) => return Ok(Some(At::Pending)),
            BlockId::Number(BlockNumberOrTag::Latest) => Some(shared.head()),
            BlockId::Number(tag) => shared.block(self.number_of(tag))?,
            // Every block that can be found is part of the chain, so `requireCanonical` changes nothing.
            BlockId::Hash(RpcBlockHash { block_hash, .. }) => shared.block_by_hash(&block_hash)?,
        };
        Ok(found.map(At::Block))
    }

    /// Like [`Chain::find`], for methods that need a block.
    pub(crate) fn need(&self, id: BlockId) -> Result<At, RpcError> {
        self.find(id)?.ok_or_else(|| RpcError::server(format!("block not found: {id}")))
    }

    /// The number that a tag stands for now.
    pub(crate) fn number_of(&self, tag: BlockNumberOrTag) -> u64 {
        let head = || self.0.shared.head().number();
        match tag {
            BlockNumberOrTag::Number(number) => number,
            BlockNumberOrTag::Earliest => 0,
            BlockNumberOrTag::Safe => head().saturating_sub(SAFE_DEPTH),
            BlockNumberOrTag::Finalized => head().saturating_sub(FINALIZED_DEPTH),
            BlockNumberOrTag::Latest | BlockNumberOrTag::Pending => head(),
        }
    }

    /// The block that would be mined now, without state root.
    async fn pending_block(&self) -> Result<Block, RpcError> {
        let shared = self.0.shared.clone();
        self.blocking(move || {
            let (_, executed) = shared.pending();
            let (header, receipts) = executed.seal();
            Block::new(header, executed.transactions.clone(), receipts, 0)
        })
        .await
    }

    async fn show_block(&self, id: BlockId, full: bool) -> Result<Text, RpcError> {
        Ok(match self.find(id)? {
            Some(At::Block(block)) => text(&render::block(&block, full)),
            Some(At::Pending) => text(&render::block(&self.pending_block().await?, full)),
            None => nothing(),
        })
    }

    async fn count(&self, id: BlockId) -> Result<Text, RpcError> {
        Ok(match self.find(id)? {
            Some(At::Block(block)) => text(&U64::from(block.transactions.len())),
            Some(At::Pending) => text(&U64::from(self.pending_block().await?.transactions.len())),
            None => nothing(),
        })
    }

    fn uncles(&self, id: BlockId) -> Result<Text, RpcError> {
        Ok(self.find(id)?.map_or_else(nothing, |_| text("0x0")))
    }

    fn block_receipts(&self, id: BlockId) -> Result<Text, RpcError> {
        Ok(match self.find(id)? {
            Some(At::Block(block)) => {
                let entries = 0..block.transactions.len();
                text(&entries.filter_map(|index| render::receipt(&block, index)).collect::<Vec<_>>())
            }
            Some(At::Pending) | None => nothing(),
        })
    }

    fn transaction(&self, hash: B256) -> Result<Text, StoreError> {
        Ok(match self.0.shared.transaction(&hash)? {
            Some(Place::Mined(block, index)) => text(&render::mined(&block, index)),
            Some(Place::Waiting(transaction)) => text(&render::waiting(&transaction, self.base_fee())),
            None => nothing(),
        })
    }

    fn raw_transaction(&self, hash: B256) -> Result<Text, StoreError> {
        let bytes = match self.0.shared.transaction(&hash)? {
            Some(Place::Mined(block, index)) => block.entry(index).map(|(entry, _)| entry.envelope.encoded_2718()),
            Some(Place::Waiting(transaction)) => Some(transaction.envelope.encoded_2718()),
            None => None,
        };
        Ok(text(&bytes.map(Bytes::from)))
    }

    fn transaction_in(&self, id: BlockId, index: u64) -> Result<Text, RpcError> {
        let Some(At::Block(block)) = self.find(id)? else { return Ok(nothing()) };
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        Ok(text(&render::mined(&block, index)))
    }

    fn receipt(&self, hash: B256) -> Result<Text, StoreError> {
        Ok(match self.0.shared.transaction(&hash)? {
            Some(Place::Mined(block, index)) => text(&render::receipt(&block, index)),
            Some(Place::Waiting(_)) | None => nothing(),
        })
    }

    pub(super) fn pool(&self, method: &str) -> Result<Value, RpcError> {
        let base_fee = self.base_fee();
        let published = self.0.shared.read();
        let view = View::new(self.0.shared.world.clone(), published.version);
        let mut pending: std::collections::BTreeMap<_, serde_json::Map<String, Value>> = Default::default();
        let mut queued = pending.clone();
        let (mut pending_count, mut queued_count) = (0u64, 0u64);
        for transaction in published.pool.iter() {
            use alloy::consensus::Transaction as _;
            let nonce = view.account(transaction.sender).map_or(0, |account| account.nonce);
            let ready = transaction.envelope.nonce() < published.pool.next_nonce(transaction.sender, nonce);
            let (group, count) =
                if ready { (&mut pending, &mut pending_count) } else { (&mut queued, &mut queued_count) };
            *count += 1;
            if method == "txpool_content" {
                let entry = group.entry(transaction.sender.to_checksum(None)).or_default();
                entry.insert(transaction.envelope.nonce().to_string(), json!(render::waiting(transaction, base_fee)));
            }
        }
        match method {
            "txpool_status" => Ok(json!({ "pending": U64::from(pending_count), "queued": U64::from(queued_count) })),
            "txpool_content" => Ok(json!({ "pending": pending, "queued": queued })),
            _ => Err(RpcError::method(method)),
        }
    }
}
