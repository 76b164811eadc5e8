//! Reading accounts, code and storage, now and in the recent past.

use super::blocks::At;
use super::error::RpcError;
use super::params::{self, Params};
use super::{Text, text};
use crate::block::Block;
use crate::chain::Chain;
use crate::evm::{self, Overlay};
use crate::published::too_old;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::rpc::types::{EIP1186AccountProofResponse, EIP1186StorageProof};
use alloy::serde::JsonStorageKey;
use alloy_primitives::{Address, B256, U64};
use revm::context::BlockEnv;
use std::sync::Arc;

/// How often a read is repeated when the chain was rewound beneath it.
const ATTEMPTS: usize = 5;
/// Most storage positions in one `eth_getProof`.
const MAX_PROOFS: usize = 1024;

/// The state after a block, or the one in the making, and what contracts see of that block.
pub(crate) struct Scene {
    pub(crate) state: Overlay,
    pub(crate) env: BlockEnv,
}

impl Chain {
    pub(super) async fn state(&self, method: &str, mut params: Params) -> Result<Text, RpcError> {
        let address: Address = params.get(0, "address")?;
        match method {
            "eth_getBalance" => {
                let id = params.block_or(1, BlockNumberOrTag::Latest)?;
                self.read(id, move |state| text(&state.account(address).unwrap_or_default().balance)).await
            }
            "eth_getCode" => {
                let id = params.block_or(1, BlockNumberOrTag::Latest)?;
                self.read(id, move |state| {
                    let account = state.account(address).unwrap_or_default();
                    text(&state.code(&account.code_hash).original_bytes())
                })
                .await
            }
            "eth_getStorageAt" => {
                let slot = params.slot(1)?;
                let id = params.block_or(2, BlockNumberOrTag::Latest)?;
                self.read(id, move |state| text(&B256::from(state.slot(address, slot)))).await
            }
            "eth_getTransactionCount" => {
                let id = params.block_or(1, BlockNumberOrTag::Latest)?;
                self.nonce(address, id).await
            }
            _ => self.proof(address, params).await,
        }
    }

    async fn nonce(&self, address: Address, id: BlockId) -> Result<Text, RpcError> {
        let pending = id == BlockId::Number(BlockNumberOrTag::Pending);
        let id = if pending { BlockId::latest() } else { id };
        let nonce = self.read(id, move |state| state.account(address).unwrap_or_default().nonce).await?;
        let nonce = if pending { self.0.shared.read().pool.next_nonce(address, nonce) } else { nonce };
        Ok(text(&U64::from(nonce)))
    }

    /// Reads something small from the state at `id`.
    async fn read<T>(&self, id: BlockId, read: impl Fn(&Overlay) -> T) -> Result<T, RpcError> {
        self.stable(id, |scene| read(&scene.state)).await
    }

    /// Reads from the state at `id`, again if the chain was rewound meanwhile.
    async fn stable<T>(&self, id: BlockId, read: impl Fn(&Scene) -> T) -> Result<T, RpcError> {
        for _ in 0..ATTEMPTS {
            let scene = self.scene(id).await?;
            let result = read(&scene);
            if scene.state.view().is_readable() {
                return Ok(result);
            }
            self.settle().await;
        }
        Err(RpcError::server("the chain is being rewound: try again"))
    }

    /// What a call at `id` runs on.
    pub(crate) async fn scene(&self, id: BlockId) -> Result<Scene, RpcError> {
        match self.need(id)? {
            At::Block(block) => self.scene_after(&block).await,
            At::Pending => self.pending_scene().await,
        }
    }

    async fn scene_after(&self, block: &Arc<Block>) -> Result<Scene, RpcError> {
        let view = match self.0.shared.view(block) {
            Ok(view) => view,
            Err(_) => {
                // Either too old, or a rewind is on its way to the disk.
                self.settle().await;
                self.0.shared.view(block).map_err(|_| too_old(block.number()))?
            }
        };
        Ok(Scene { state: Overlay::new(view), env: evm::block_env(&block.header) })
    }

    async fn pending_scene(&self) -> Result<Scene, RpcError> {
        let shared = self.0.shared.clone();
        let quiet = shared.read().pool.is_empty();
        let build = move || {
            let (view, executed) = shared.pending();
            let env = evm::block_env(&executed.header);
            Scene { state: Overlay::with_changes(view, &executed.changes, &executed.codes), env }
        };
        if quiet { Ok(build()) } else { self.blocking(build).await }
    }

    async fn proof(&self, address: Address, mut params: Params) -> Result<Text, RpcError> {
        let keys: Vec<JsonStorageKey> = params.get(1, "storage positions")?;
        if keys.len() > MAX_PROOFS {
            return Err(RpcError::limit(format!("at most {MAX_PROOFS} storage positions at once")));
        }
        let slots: Result<Vec<_>, _> = keys.iter().map(|key| params::slot(&key.to_string())).collect();
        let slots = slots?;
        let id = params.block_or(2, BlockNumberOrTag::Latest)?;
        let wanted = match self.need(id)? {
            At::Block(block) => block,
            At::Pending => return Err(RpcError::server("proofs exist for the latest block only, not for pending")),
        };
        let proof = self.change(move |writer| {
            if writer.head().hash != wanted.hash {
                return Err(RpcError::server("proofs exist for the latest block only"));
            }
            let view = writer.view();
            let account = view.account(address).unwrap_or_default();
            let tries = writer.tries();
            let slots = keys.into_iter().zip(slots).map(|(key, slot)| {
                let proof = tries.slot_proof(address, slot);
                EIP1186StorageProof { key, value: view.slot(address, slot), proof }
            });
            let storage_proof = slots.collect();
            Ok(EIP1186AccountProofResponse {
                address,
                balance: account.balance,
                code_hash: account.code_hash,
                nonce: account.nonce,
                storage_hash: tries.storage_root(address),
                account_proof: tries.account_proof(address),
                storage_proof,
            })
        });
        Ok(text(&proof.await?))
    }
}
