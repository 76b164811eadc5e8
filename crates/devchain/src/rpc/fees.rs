//! What gas costs.

use super::error::RpcError;
use super::params::Params;
use super::{Text, text};
use crate::block::Block;
use crate::builder::next_base_fee;
use crate::chain::Chain;
use alloy::eips::BlockNumberOrTag;
use alloy::rpc::types::FeeHistory;
use alloy_primitives::U128;

/// Wei per gas that a wallet is advised to tip.
const SUGGESTED_TIP: u64 = 1_000_000_000;
/// Most blocks in one fee history.
const MAX_BLOCKS: u64 = 1024;
/// Most percentiles in one fee history.
const MAX_PERCENTILES: usize = 100;

impl Chain {
    pub(super) async fn fees(&self, method: &str, mut params: Params) -> Result<Text, RpcError> {
        Ok(match method {
            "eth_maxPriorityFeePerGas" => text(&U128::from(SUGGESTED_TIP)),
            "eth_gasPrice" => text(&U128::from(self.base_fee().saturating_add(SUGGESTED_TIP))),
            "eth_blobBaseFee" => text("0x1"),
            _ => {
                let count = params.number(0, "block count")?.min(MAX_BLOCKS);
                let newest = params.get::<BlockNumberOrTag>(1, "newest block")?;
                let percentiles = params.optional::<Vec<f64>>(2, "percentiles")?.unwrap_or_default();
                check_percentiles(&percentiles)?;
                let chain = self.clone();
                text(&self.blocking(move || chain.fee_history(count, newest, &percentiles)).await??)
            }
        })
    }

    /// Base fee of the next block.
    pub(super) fn base_fee(&self) -> u64 {
        let published = self.0.shared.read();
        published.time.next_base_fee.unwrap_or_else(|| next_base_fee(&published.head.header))
    }

    fn fee_history(&self, count: u64, newest: BlockNumberOrTag, tips: &[f64]) -> Result<FeeHistory, RpcError> {
        let shared = &self.0.shared;
        let newest = self.number_of(newest);
        let head = shared.head().number();
        if newest > head {
            return Err(RpcError::server(format!("request beyond head block: requested {newest}, head {head}")));
        }
        if count == 0 {
            return Ok(FeeHistory::default());
        }
        let oldest = (newest + 1).saturating_sub(count);
        let mut history = FeeHistory { oldest_block: oldest, ..FeeHistory::default() };
        let mut rewards = Vec::new();
        for number in oldest..=newest {
            let block = shared.block(number)?.ok_or_else(|| RpcError::server("the chain changed: try again"))?;
            history.base_fee_per_gas.push(block.base_fee().into());
            history.gas_used_ratio.push(block.header.gas_used as f64 / block.header.gas_limit as f64);
            history.base_fee_per_blob_gas.push(1);
            history.blob_gas_used_ratio.push(0.0);
            rewards.push(percentiles(&block, tips));
            if number == newest {
                let next = if number == head { self.base_fee() } else { next_base_fee(&block.header) };
                history.base_fee_per_gas.push(next.into());
                history.base_fee_per_blob_gas.push(1);
            }
        }
        history.reward = (!tips.is_empty()).then_some(rewards);
        Ok(history)
    }
}

fn check_percentiles(percentiles: &[f64]) -> Result<(), RpcError> {
    if percentiles.len() > MAX_PERCENTILES {
        return Err(RpcError::params(format!("at most {MAX_PERCENTILES} percentiles")));
    }
    let in_order = percentiles.windows(2).all(|pair| pair[0] <= pair[1]);
    let in_range = percentiles.iter().all(|percentile| (0.0..=100.0).contains(percentile));
    if in_order && in_range { Ok(()) } else { Err(RpcError::params("percentiles must rise from 0 to 100")) }
}

/// The tips below which the given shares of a block's gas were bought.
fn percentiles(block: &Block, percentiles: &[f64]) -> Vec<u128> {
    let entries = block.transactions.iter().zip(&block.receipts);
    let tip = |(transaction, receipt): (&std::sync::Arc<crate::block::Transaction>, &crate::block::Receipt)| {
        (transaction.tip(block.base_fee()).unwrap_or_default(), receipt.gas_used)
    };
    let mut tips: Vec<(u128, u64)> = entries.map(tip).collect();
    tips.sort_unstable();
    let share = |percentile: &f64| {
        let threshold = (block.header.gas_used as f64 * percentile / 100.0) as u64;
        let mut sum = 0;
        let reached = tips.iter().find(|(_, gas)| {
            sum += gas;
            sum >= threshold
        });
        reached.or(tips.last()).map_or(0, |(tip, _)| *tip)
    };
    percentiles.iter().map(share).collect()
}
