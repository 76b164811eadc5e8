//! Searching logs, and filters for clients that poll.

use super::error::RpcError;
use super::params::Params;
use super::{Text, text};
use crate::chain::Chain;
use crate::filters::{Topic, matching_logs};
use alloy::eips::BlockNumberOrTag;
use alloy::rpc::types::{Filter, FilterBlockOption, Log};
use alloy_primitives::U64;
use std::sync::Arc;

/// Most logs in one answer.
const MAX_LOGS: usize = 20_000;
/// Most addresses and topics in one filter.
const MAX_CRITERIA: usize = 1000;
/// Blocks whose blooms are read from disk at once.
const PAGE: u32 = 1024;

impl Chain {
    pub(super) async fn logs(&self, method: &str, mut params: Params) -> Result<Text, RpcError> {
        let filters = &self.0.shared.filters;
        Ok(match method {
            "eth_getLogs" => text(&self.search(criteria(&mut params, 0)?).await?),
            "eth_newFilter" => {
                let filter = criteria(&mut params, 0)?;
                text(&U64::from(filters.install(Topic::Logs(Box::new(filter)))?))
            }
            "eth_newBlockFilter" => text(&U64::from(filters.install(Topic::Blocks)?)),
            "eth_newPendingTransactionFilter" => text(&U64::from(filters.install(Topic::Pending)?)),
            "eth_getFilterChanges" => filters.changes(params.number(0, "filter")?)?,
            "eth_getFilterLogs" => {
                let filter = filters.logs(params.number(0, "filter")?)?;
                text(&self.search(*filter).await?)
            }
            "eth_uninstallFilter" => text(&filters.uninstall(params.number(0, "filter")?)),
            _ => return Err(RpcError::method(method)),
        })
    }

    /// All logs that match, oldest first.
    async fn search(&self, filter: Filter) -> Result<Vec<Log>, RpcError> {
        let chain = self.clone();
        self.blocking(move || chain.search_now(&filter)).await?
    }

    fn search_now(&self, filter: &Filter) -> Result<Vec<Log>, RpcError> {
        let shared = &self.0.shared;
        let mut found = Vec::new();
        let (from, to) = match filter.block_option {
            FilterBlockOption::AtBlockHash(hash) => {
                let block = shared.block_by_hash(&hash)?.ok_or_else(|| RpcError::server("unknown block"))?;
                matching_logs(filter, &block, &mut found);
                return Ok(found);
            }
            FilterBlockOption::Range { from_block, to_block } => self.range(from_block, to_block)?,
        };
        let mut next = from;
        while next <= to {
            let page = shared.store.blooms(next, to, PAGE)?;
            for (number, bloom) in &page {
                let block = if filter.matches_bloom(*bloom) { shared.block(*number)? } else { None };
                if let Some(block) = block {
                    matching_logs(filter, &block, &mut found);
                }
                if found.len() > MAX_LOGS {
                    return Err(RpcError::limit(format!(
                        "query returned more than {MAX_LOGS} results: try blocks {from} to {}",
                        number.saturating_sub(1).max(from)
                    )));
                }
            }
            match page.last() {
                Some((number, _)) if page.len() == PAGE as usize => next = number + 1,
                _ => break,
            }
        }
        Ok(found)
    }

    /// First and last block of a range; nothing lies beyond the head.
    fn range(&self, from: Option<BlockNumberOrTag>, to: Option<BlockNumberOrTag>) -> Result<(u64, u64), RpcError> {
        let from = self.number_of(from.unwrap_or_default());
        let to = self.number_of(to.unwrap_or_default());
        if from > to {
            return Err(RpcError::params(format!("invalid block range: from {from} is after to {to}")));
        }
        Ok((from, to.min(self.0.shared.head().number())))
    }
}

/// Reads log criteria and limits their number.
pub(crate) fn criteria(params: &mut Params, index: usize) -> Result<Filter, RpcError> {
    let filter: Filter = params.get(index, "filter")?;
    let count = filter.address.len() + filter.topics.iter().map(|topic| topic.len()).sum::<usize>();
    if count > MAX_CRITERIA {
        return Err(RpcError::limit(format!("a filter has at most {MAX_CRITERIA} addresses and topics")));
    }
    Ok(filter)
}

impl Topic {
    /// Reads the parameters of `eth_subscribe`.
    pub(crate) fn read(params: &mut Params) -> Result<Arc<Self>, RpcError> {
        let kind: String = params.get(0, "kind")?;
        Ok(Arc::new(match kind.as_str() {
            "newHeads" => Self::Blocks,
            "newPendingTransactions" => Self::Pending,
            "logs" => {
                let filter = if params.is_absent(1) { Filter::new() } else { criteria(params, 1)? };
                Self::Logs(Box::new(filter))
            }
            other => {
                return Err(RpcError::params(format!(
                    "unknown subscription {other:.40}: newHeads, logs and newPendingTransactions exist"
                )));
            }
        }))
    }
}
