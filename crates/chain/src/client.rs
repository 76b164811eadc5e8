//! Reading from a node: typed calls, and errors that say what the caller can do.

use crate::revert::Revert;
use alloy::{
    consensus::{BlockHeader, Transaction},
    eips::BlockNumberOrTag,
    network::{BlockResponse, Ethereum, TransactionBuilder},
    primitives::{Address, B256, Bytes, U256},
    providers::{Provider, RootProvider},
    rpc::{
        client::RpcClient,
        types::{Filter, Log, TransactionReceipt, TransactionRequest},
    },
    sol_types::SolCall,
    transports::{RpcError, TransportError, TransportErrorKind, http::Http},
};
use std::time::Duration;
use url::Url;

/// A node that does not answer within this time is unreachable.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why something could not be read or done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the node is no URL.
    #[error("{url:?} is not the URL of a node: write for example http://127.0.0.1:8545")]
    BadUrl {
        /// As given.
        url: String,
    },
    /// No answer. Later may be better.
    #[error("node {node} does not answer: check that it runs and that the address is right")]
    Unreachable {
        /// Which.
        node: String,
        /// Why.
        source: TransportError,
    },
    /// The contract refused the call.
    #[error("the contract refuses: {0}")]
    Reverted(Revert),
    /// The node refused the request.
    #[error("node {node} refuses: {message} (code {code})")]
    Refused {
        /// Which.
        node: String,
        /// The JSON-RPC code.
        code: i64,
        /// The node's words.
        message: String,
    },
    /// The answer makes no sense: not the contract that was expected, or a broken node.
    #[error("node {node} answered {what} with something else: check that {what} is the right one for this chain")]
    Nonsense {
        /// Which.
        node: String,
        /// What was asked.
        what: String,
    },
}

impl Error {
    /// Whether the same call may succeed later without anything else changing.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            // -32005 limit exceeded, -32603 internal error: states of the node.
            Self::Refused { code, .. } => matches!(code, -32005 | -32603),
            Self::BadUrl { .. } | Self::Reverted(_) | Self::Nonsense { .. } => false,
        }
    }
}

/// The newest block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Its time, in seconds since the epoch.
    pub timestamp: u64,
}

/// A connection to one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    provider: RootProvider<Ethereum>,
    node: String,
    poll: Duration,
}

impl Client {
    /// A node over HTTP. Nothing is asked yet.
    pub fn connect(url: &str) -> Result<Self, Error> {
        let parsed = url.parse::<Url>().ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
        let parsed = parsed.ok_or_else(|| Error::BadUrl { url: url.into() })?;
        let local = parsed.host_str().is_some_and(|h| h == "localhost" || h.starts_with("127."));
        let transport = Http::with_client(bourse_service::http::client(TIMEOUT), parsed);
        let provider = RootProvider::new(RpcClient::new(transport, local));
        Ok(Self { provider, node: without_secrets(url), poll: Duration::from_millis(if local { 100 } else { 1000 }) })
    }

    /// The chain inside this process.
    pub fn in_process(rpc: RpcClient) -> Self {
        Self { provider: RootProvider::new(rpc), node: "(embedded)".into(), poll: Duration::from_millis(20) }
    }

    /// How often it makes sense to ask for news.
    pub fn poll_interval(&self) -> Duration {
        self.poll
    }

    /// The node's address, without secrets.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The chain's id.
    pub async fn chain_id(&self) -> Result<u64, Error> {
        self.provider.get_chain_id().await.map_err(|e| self.error(e))
    }

    /// The newest block.
    pub async fn head(&self) -> Result<Head, Error> {
        self.block(BlockNumberOrTag::Latest).await?.ok_or_else(|| self.nonsense("its latest block"))
    }

    /// A block by number or tag; `None` if the node has none.
    pub async fn block(&self, at: BlockNumberOrTag) -> Result<Option<Head>, Error> {
        let block = self.provider.get_block_by_number(at).await.map_err(|e| self.error(e))?;
        Ok(block.map(|b| {
            let header = b.header();
            Head { number: header.number(), hash: header.hash, timestamp: header.timestamp() }
        }))
    }

    /// Calls a view.
    pub async fn call<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return, Error> {
        let request = TransactionRequest::default().with_to(to).with_input(call.abi_encode());
        let answer = self.provider.call(request).await.map_err(|e| self.error(e))?;
        C::abi_decode_returns(&answer).map_err(|_| self.nonsense(&format!("{} of {to}", C::SIGNATURE)))
    }

    /// Ether of an account, in wei.
    pub async fn balance(&self, of: Address) -> Result<U256, Error> {
        self.provider.get_balance(of).await.map_err(|e| self.error(e))
    }

    /// The code at an address; empty for a plain account.
    pub async fn code(&self, at: Address) -> Result<Bytes, Error> {
        self.provider.get_code_at(at).await.map_err(|e| self.error(e))
    }

    /// Logs by filter.
    pub async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, Error> {
        self.provider.get_logs(filter).await.map_err(|e| self.error(e))
    }

    /// Base fee of the latest block and the suggested tip, in wei per gas. Without a base fee (a legacy chain) it is zero
    /// and the tip is the whole price.
    pub async fn fees(&self) -> Result<(u128, u128), Error> {
        let block = self.provider.get_block_by_number(BlockNumberOrTag::Latest).await.map_err(|e| self.error(e))?;
        let header = block.ok_or_else(|| self.nonsense("its latest block"))?;
        match header.header().base_fee_per_gas() {
            Some(base) => {
                let tip = self.provider.get_max_priority_fee_per_gas().await.map_err(|e| self.error(e))?;
                Ok((u128::from(base), tip))
            }
            None => Ok((0, self.provider.get_gas_price().await.map_err(|e| self.error(e))?)),
        }
    }

    /// The network's price of gas in wei: base fee of the latest block plus suggested tip.
    pub async fn gas_price(&self) -> Result<U256, Error> {
        let (base, tip) = self.fees().await?;
        Ok(U256::from(base.saturating_add(tip)))
    }

    /// How many transactions of `of` are in blocks: its next nonce if nothing waits.
    pub async fn nonce(&self, of: Address) -> Result<u64, Error> {
        self.provider.get_transaction_count(of).await.map_err(|e| self.error(e))
    }

    /// Gas that a call would take now; a refusal is [`Error::Reverted`].
    pub async fn estimate(&self, from: Address, to: Option<Address>, data: Bytes) -> Result<u64, Error> {
        let mut request = TransactionRequest::default().with_from(from).with_input(data);
        match to {
            Some(to) => request.set_to(to),
            None => request.set_create(),
        }
        self.provider.estimate_gas(request).await.map_err(|e| self.error(e))
    }

    /// Hands a signed transaction to the node.
    pub async fn broadcast(&self, raw: &[u8]) -> Result<B256, Error> {
        let pending = self.provider.send_raw_transaction(raw).await.map_err(|e| self.error(e))?;
        Ok(*pending.tx_hash())
    }

    /// The receipt of a transaction; `None` while it is in no block.
    pub async fn receipt(&self, hash: B256) -> Result<Option<TransactionReceipt>, Error> {
        self.provider.get_transaction_receipt(hash).await.map_err(|e| self.error(e))
    }

    /// The input of a transaction, and whom it calls; `None` if the node does not know it.
    pub async fn input(&self, hash: B256) -> Result<Option<(Option<Address>, Bytes)>, Error> {
        let transaction = self.provider.get_transaction_by_hash(hash).await.map_err(|e| self.error(e))?;
        Ok(transaction.map(|t| (t.to(), t.input().clone())))
    }

    /// Runs a mined transaction's call again on the state of its block, for the reason of its failure.
    pub async fn replay(&self, from: Address, to: Address, data: Bytes, block: u64) -> Revert {
        let request = TransactionRequest::default().with_from(from).with_to(to).with_input(data);
        match self.provider.call(request).block(block.into()).await.map_err(|e| self.error(e)) {
            Err(Error::Reverted(revert)) => revert,
            _ => Revert::default(),
        }
    }

    fn nonsense(&self, what: &str) -> Error {
        Error::Nonsense { node: self.node.clone(), what: what.into() }
    }

    fn error(&self, error: TransportError) -> Error {
        let node = self.node.clone();
        match error {
            RpcError::ErrorResp(payload) => match payload.as_revert_data() {
                Some(data) => Error::Reverted(Revert { data }),
                None if payload.code == 3 || payload.message.contains("revert") => Error::Reverted(Revert::default()),
                None => Error::Refused { node, code: payload.code, message: payload.message.to_string() },
            },
            RpcError::NullResp => Error::Nonsense { node, what: "the request".into() },
            RpcError::DeserError { .. } | RpcError::SerError(_) => Error::Nonsense { node, what: "the request".into() },
            source @ RpcError::Transport(TransportErrorKind::HttpError(_)) => Error::Unreachable { node, source },
            source => Error::Unreachable { node, source },
        }
    }
}

/// The URL without what may be a key: user, password, path and query.
fn without_secrets(url: &str) -> String {
    let Ok(parsed) = url.parse::<Url>() else { return "(unnamed)".into() };
    let port = parsed.port().map(|p| format!(":{p}")).unwrap_or_default();
    format!("{}://{}{port}", parsed.scheme(), parsed.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_urls_are_refused_and_secrets_hidden() {
        for url in ["", "127.0.0.1:8545", "ftp://x", "http://"] {
            assert!(matches!(Client::connect(url), Err(Error::BadUrl { .. })), "{url:?}");
        }
        let client = Client::connect("https://user:pass@node.example:8545/v3/key?token=x").unwrap();
        assert_eq!(client.node(), "https://node.example:8545");
    }

    #[tokio::test]
    async fn silence_is_an_error_and_never_zero() {
        let client = Client::connect("http://127.0.0.1:9").unwrap();
        let error = client.balance(Address::ZERO).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }) && error.is_transient(), "{error}");
    }
}
