//! Reading from nodes: typed calls, and errors that say what the caller can do.
//!
//! "Could not read" is always an error, never zero, nothing, or an old value.

use crate::{
    answers::{self, SentAt, TransactionReceipt},
    follower::Progress,
    health::NodeStatus,
    nodes::{self, Nodes, Settings},
    revert::Revert,
};
use alloy::{
    consensus::Transaction,
    eips::{BlockId, BlockNumberOrTag},
    network::TransactionBuilder,
    primitives::{Address, B256, Bloom, Bytes, U256, keccak256},
    providers::{Provider, RootProvider},
    rpc::{
        client::RpcClient,
        types::{Filter, Log, TransactionRequest},
    },
    sol_types::SolCall,
    transports::{RpcError, TransportError, http::Http},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use url::Url;

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
    /// There are several nodes and none may be trusted now. Later may be better.
    #[error("none of the {count} nodes can be used ({reasons}): see `bourse chain status`")]
    NoGoodNode {
        /// How many there are.
        count: usize,
        /// What is wrong with each.
        reasons: String,
    },
    /// The block that a decision was based on is no longer part of the chain: begin again at the newest.
    #[error("block {number} ({hash}) is no longer part of the chain: read again")]
    BlockGone {
        /// Its number.
        number: u64,
        /// Its hash.
        hash: B256,
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
            Self::Unreachable { .. } | Self::NoGoodNode { .. } | Self::BlockGone { .. } => true,
            // -32005 limit exceeded, -32603 internal error: states of the node.
            Self::Refused { code, .. } => matches!(code, -32005 | -32603),
            Self::BadUrl { .. } | Self::Reverted(_) | Self::Nonsense { .. } => false,
        }
    }

    /// Whether the node does not know the method.
    pub(crate) fn is_unknown_method(&self) -> bool {
        matches!(self, Self::Refused { code: -32601 | -32004, .. })
    }
}

/// A block, as decisions name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// The hash of the block before it.
    pub parent: B256,
    /// Its time, in seconds since the epoch.
    pub timestamp: u64,
}

/// A block with what else its header tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The block.
    pub head: Head,
    /// Wei per gas that each transaction in it burns; `None` on a chain without base fees.
    pub base_fee: Option<u64>,
    /// What its logs may be about.
    pub bloom: Bloom,
    /// It has no transactions.
    pub empty: bool,
}

impl Header {
    /// Whether the block has for certain no log with this topic. Chains that leave all blooms empty tell nothing.
    fn is_silent_about(&self, topic: B256) -> bool {
        let input = alloy::primitives::BloomInput::Raw(topic.as_slice());
        self.empty || (!self.bloom.is_zero() && !self.bloom.contains_input(input))
    }
}

/// What gas costs now, in wei.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Price {
    /// A chain with base fees.
    Market {
        /// Base fee of the latest block.
        base: u128,
        /// The tip that the node suggests.
        tip: u128,
    },
    /// A chain without (before EIP-1559): one price, as the node suggests it.
    Legacy {
        /// Wei per gas.
        price: u128,
    },
}

impl Price {
    /// The network's price: base fee plus tip.
    pub fn network(&self) -> u128 {
        match *self {
            Self::Market { base, tip } => base.saturating_add(tip),
            Self::Legacy { price } => price,
        }
    }
}

/// A connection to one or several nodes of one chain. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    nodes: Arc<Nodes>,
    name: Arc<str>,
    /// Reads are of the state after this block.
    at: Option<Head>,
}

impl Client {
    /// Nodes over HTTP: one URL, or several with commas between them, the preferred first. Nothing is asked yet.
    pub fn connect(urls: &str) -> Result<Self, Error> {
        Self::connect_all(urls.split(','), None)
    }

    /// Nodes over HTTP, the preferred first. `depth`: how many blocks must lie above one that counts.
    pub fn connect_all<'a>(urls: impl IntoIterator<Item = &'a str>, depth: Option<u64>) -> Result<Self, Error> {
        let urls: Vec<(&str, Url)> =
            urls.into_iter().map(|url| Ok((url, parse(url.trim())?))).collect::<Result<_, _>>()?;
        if urls.is_empty() {
            return Err(Error::BadUrl { url: String::new() });
        }
        let is_local = |url: &Url| url.host_str().is_some_and(|h| h == "localhost" || h.starts_with("127."));
        let local = urls.iter().all(|(_, url)| is_local(url));
        let settings = Settings { depth, ..if local { Settings::local() } else { Settings::remote() } };
        let names = nodes::distinct(urls.iter().map(|(_, url)| without_secrets(url)));
        let http = bourse_service::http::client(settings.timeout);
        let rpc = urls.into_iter().map(|(_, url)| RpcClient::new(Http::with_client(http.clone(), url), local));
        Ok(Self::new(names.into_iter().zip(rpc).collect(), settings))
    }

    /// The chain inside this process.
    pub fn in_process(rpc: RpcClient) -> Self {
        Self::new(vec![("(embedded)".into(), rpc)], Settings::embedded())
    }

    /// Nodes by name over any transports, the preferred first. There must be one at least.
    pub fn new(nodes: Vec<(String, RpcClient)>, settings: Settings) -> Self {
        let nodes = Nodes::new(nodes, settings);
        let name = nodes.name().into();
        Self { nodes: Arc::new(nodes), name, at: None }
    }

    /// The same, where so many blocks must lie above one that counts. For a client that was not used yet.
    pub fn with_depth(self, depth: u64) -> Self {
        // Who was first has decided; a client that is configured does not ask.
        let _ = self.nodes.depth.set(depth);
        self
    }

    /// The same nodes, but every read of an account or a contract is of the state after this block, so that what is read
    /// belongs together. If the block goes away, reads fail with [`Error::BlockGone`].
    pub fn at(&self, block: Head) -> Self {
        Self { at: Some(block), ..self.clone() }
    }

    /// The block that is read at, if it is fixed.
    pub fn fixed_at(&self) -> Option<Head> {
        self.at
    }

    /// How often it makes sense to ask for news.
    pub fn poll_interval(&self) -> Duration {
        self.nodes.settings.poll
    }

    /// The nodes' addresses, without secrets.
    pub fn node(&self) -> &str {
        &self.name
    }

    /// How the nodes do, as last seen: for metrics.
    pub fn status(&self) -> Vec<NodeStatus> {
        self.nodes.status()
    }

    /// Tells how far those who follow the chain over this connection are, while they have much left to read.
    pub fn progress(&self) -> watch::Receiver<Option<Progress>> {
        self.nodes.progress.subscribe()
    }

    /// How far one of them is.
    pub(crate) fn catching_up(&self, progress: Option<Progress>) {
        self.nodes.progress.send_replace(progress);
    }

    /// Looks at all nodes now, and says how they do.
    pub async fn probe(&self) -> Vec<NodeStatus> {
        self.nodes.probe().await
    }

    /// The later of a block's time and this machine's, in seconds.
    pub(crate) fn now(&self, head: &Head) -> u64 {
        head.timestamp.max(self.nodes.settings.clock.seconds())
    }

    /// What senders over this client write into their gas limits, if that is fixed.
    pub(crate) fn tag(&self) -> Option<u8> {
        self.nodes.settings.tag
    }

    /// How many blocks must lie above one that counts.
    ///
    /// Where it is not configured: 0 on our own chain and on development chains (which make blocks only when a transaction
    /// comes, so that the next one may never come), 1 elsewhere.
    pub async fn depth(&self) -> Result<u64, Error> {
        if let Some(depth) = self.nodes.settings.depth.or(self.nodes.depth.get().copied()) {
            return Ok(depth);
        }
        let version = match self.nodes.ask(|node| async move { node.get_client_version().await }).await {
            Ok(version) => version,
            Err(error) if error.is_unknown_method() => String::new(),
            Err(error) => return Err(error),
        };
        // These make no block until a transaction comes, whatever the id of their chain.
        let on_demand = ["devchain/", "anvil/", "HardhatNetwork/"].iter().any(|name| version.starts_with(name));
        let on_demand = on_demand || self.chain_id().await? == 31337;
        Ok(*self.nodes.depth.get_or_init(|| u64::from(!on_demand)))
    }

    /// The chain's id.
    pub async fn chain_id(&self) -> Result<u64, Error> {
        self.nodes.ask(|node| async move { node.get_chain_id().await }).await
    }

    /// What tells this chain from every other one, also from one with the same id: the id and the first block.
    pub async fn identity(&self) -> Result<String, Error> {
        let first = self.block(BlockNumberOrTag::Number(0)).await?;
        let first = first.ok_or_else(|| self.nonsense("the first block of its chain"))?;
        Ok(format!("chain {} with first block {}", self.chain_id().await?, first.hash))
    }

    /// The newest block, or the one that is read at.
    pub async fn head(&self) -> Result<Head, Error> {
        match self.at {
            Some(head) => Ok(head),
            None => Ok(self.header().await?.head),
        }
    }

    /// The newest block with its header.
    pub async fn header(&self) -> Result<Header, Error> {
        let latest = BlockNumberOrTag::Latest;
        let newest =
            self.nodes.ask_block(|node| async move { answers::block(&node, latest).await?.ok_or(RpcError::NullResp) });
        let header = newest.await?;
        self.nodes.note(header);
        Ok(header)
    }

    /// The newest block with its header, or what was that at most half a [`Self::poll_interval`] ago: for those who look
    /// again and again, so that all who share this connection ask once.
    pub async fn recent_header(&self) -> Result<Header, Error> {
        match self.nodes.noted(self.poll_interval() / 2) {
            Some(header) => Ok(header),
            None => self.header().await,
        }
    }

    /// A block by number or tag; `None` if the node has none.
    pub async fn block(&self, at: BlockNumberOrTag) -> Result<Option<Head>, Error> {
        Ok(self.header_at(at).await?.map(|header| header.head))
    }

    /// A block with its header by number or tag; `None` if the node has none.
    pub async fn header_at(&self, at: BlockNumberOrTag) -> Result<Option<Header>, Error> {
        let header = self.nodes.ask_block(|node| async move { answers::block(&node, at).await }).await?;
        header.into_iter().for_each(|header| self.nodes.remember(header));
        Ok(header)
    }

    /// Whether what was read after the block `known` of something whose every change is told by an event with this topic is
    /// still true after the block `now`: that is the same block, or one that follows it with no such event from there on, as
    /// far as the blocks that were read lately tell.
    pub fn shows_nothing_new(&self, now: &Header, known: Head, topic: B256) -> bool {
        let mut block = *now;
        loop {
            if block.head.hash == known.hash {
                return true;
            }
            if !block.is_silent_about(topic) {
                return false;
            }
            if block.head.parent == known.hash {
                return true;
            }
            match self.nodes.parent(block.head) {
                // What a node says of its blocks may be a circle.
                Some(parent) if parent.head.number < block.head.number => block = parent,
                Some(_) | None => return false,
            }
        }
    }

    /// Calls a view.
    pub async fn call<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return, Error> {
        let request = TransactionRequest::default().with_to(to).with_input(call.abi_encode());
        let answer = self.read(|node, id| {
            let request = request.clone();
            async move { node.call(request).block(id).await }
        });
        let answer: Bytes = answer.await?;
        C::abi_decode_returns(&answer).map_err(|_| self.nonsense(&format!("{} of {to}", C::SIGNATURE)))
    }

    /// Ether of an account, in wei.
    pub async fn balance(&self, of: Address) -> Result<U256, Error> {
        self.read(|node, id| async move { node.get_balance(of).block_id(id).await }).await
    }

    /// The code at an address; empty for a plain account.
    pub async fn code(&self, at: Address) -> Result<Bytes, Error> {
        self.read(|node, id| async move { node.get_code_at(at).block_id(id).await }).await
    }

    /// How many transactions of `of` are in blocks: its next nonce if nothing waits.
    pub async fn nonce(&self, of: Address) -> Result<u64, Error> {
        self.read(|node, id| async move { node.get_transaction_count(of).block_id(id).await }).await
    }

    /// How many transactions of `of` are in blocks or wait, as far as the node knows.
    pub async fn pending_nonce(&self, of: Address) -> Result<u64, Error> {
        self.nodes.ask(|node| async move { node.get_transaction_count(of).pending().await }).await
    }

    /// Logs by filter.
    pub async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, Error> {
        self.nodes.ask(|node| async move { node.get_logs(filter).await }).await
    }

    /// Logs by filter as two nodes have them, or one if no other does well.
    pub(crate) async fn logs_of_two(&self, filter: &Filter) -> Result<Vec<Vec<Log>>, Error> {
        self.nodes.ask_several(2, |node| async move { node.get_logs(filter).await }).await
    }

    /// All logs of one block, from its receipts; `None` if the node does not know the block or the method.
    pub(crate) async fn logs_by_receipts(&self, block: B256) -> Result<Option<Vec<Log>>, Error> {
        let receipts = self.nodes.ask(|node| async move { answers::receipts(&node, block).await }).await;
        match receipts {
            Ok(receipts) => Ok(receipts.map(|all| all.into_iter().flat_map(|r| r.logs).collect())),
            Err(error) if error.is_unknown_method() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What gas costs now.
    pub async fn price(&self) -> Result<Price, Error> {
        let base_fee = self.header().await?.base_fee;
        self.price_after(base_fee).await
    }

    /// What gas costs after a block with this base fee.
    pub(crate) async fn price_after(&self, base_fee: Option<u64>) -> Result<Price, Error> {
        let gas_price = || self.nodes.ask(|node| async move { node.get_gas_price().await });
        let Some(base) = base_fee.map(u128::from) else { return Ok(Price::Legacy { price: gas_price().await? }) };
        match self.nodes.ask(|node| async move { node.get_max_priority_fee_per_gas().await }).await {
            Ok(tip) => Ok(Price::Market { base, tip }),
            // A node that knows base fees but suggests no tips: what its price has above the base fee.
            Err(error) if error.is_unknown_method() => {
                Ok(Price::Market { base, tip: gas_price().await?.saturating_sub(base) })
            }
            Err(error) => Err(error),
        }
    }

    /// Base fee of the latest block and the suggested tip, in wei per gas. Without a base fee (a legacy chain) it is zero
    /// and the tip is the whole price.
    pub async fn fees(&self) -> Result<(u128, u128), Error> {
        Ok(match self.price().await? {
            Price::Market { base, tip } => (base, tip),
            Price::Legacy { price } => (0, price),
        })
    }

    /// The network's price of gas in wei: base fee of the latest block plus suggested tip.
    pub async fn gas_price(&self) -> Result<U256, Error> {
        Ok(U256::from(self.price().await?.network()))
    }

    /// Gas that a call would take now; a refusal is [`Error::Reverted`].
    pub async fn estimate(&self, from: Address, to: Option<Address>, data: Bytes) -> Result<u64, Error> {
        let mut request = TransactionRequest::default().with_from(from).with_input(data);
        match to {
            Some(to) => request.set_to(to),
            None => request.set_create(),
        }
        let estimate = self.nodes.ask(|node| {
            let request = request.clone();
            async move { node.estimate_gas(request).await }
        });
        estimate.await
    }

    /// Hands a signed transaction to all nodes; succeeds as soon as one has it, also if it had it before.
    pub async fn broadcast(&self, raw: &[u8]) -> Result<B256, Error> {
        let (raw, hash) = (Bytes::copy_from_slice(raw), keccak256(raw));
        let question = |node: RootProvider| {
            let raw = raw.clone();
            async move {
                match node.send_raw_transaction(&raw).await {
                    Ok(pending) => Ok(*pending.tx_hash()),
                    Err(error) if error.as_error_resp().is_some_and(|e| e.message.contains("already")) => Ok(hash),
                    Err(error) => Err(error),
                }
            }
        };
        self.nodes.tell(question).await
    }

    /// Whether a node that does well knows a transaction, in a block or waiting.
    pub(crate) async fn knows(&self, hash: B256) -> Result<bool, Error> {
        Ok(self.input(hash).await?.is_some())
    }

    /// The receipt of a transaction; `None` while it is in no block.
    pub async fn receipt(&self, hash: B256) -> Result<Option<TransactionReceipt>, Error> {
        self.nodes.ask(|node| async move { answers::receipt(&node, hash).await }).await
    }

    /// The input of a transaction, and whom it calls; `None` if the node does not know it.
    pub async fn input(&self, hash: B256) -> Result<Option<(Option<Address>, Bytes)>, Error> {
        let transaction = self.nodes.ask(|node| async move { node.get_transaction_by_hash(hash).await }).await?;
        Ok(transaction.map(|t| (t.to(), t.input().clone())))
    }

    /// The transaction of `of` with this nonce, if it is in one of the last blocks up to `head`.
    pub(crate) async fn transaction_at(&self, of: Address, nonce: u64, head: Head) -> Result<Option<SentAt>, Error> {
        let Some(block) = self.block_of_nonce(of, nonce, head).await? else { return Ok(None) };
        self.nodes.ask(|node| async move { answers::sent(&node, (of, nonce), block).await }).await
    }

    /// The first block after which `of` has used `nonce`; `None` if that was so long ago that nodes do not keep it, or not
    /// yet.
    async fn block_of_nonce(&self, of: Address, nonce: u64, head: Head) -> Result<Option<u64>, Error> {
        let used_at = async |block: u64| -> Result<bool, Error> {
            let count = self.nodes.ask(|node| async move { node.get_transaction_count(of).number(block).await });
            match count.await {
                Ok(count) => Ok(count > nonce),
                // What is not kept any more cannot be searched: if it was used there, no block that can shows it.
                Err(Error::Refused { .. }) if block < head.number => Ok(false),
                Err(error) => Err(error),
            }
        };
        if !used_at(head.number).await? {
            return Ok(None);
        }
        let (mut used, mut step) = (head.number, 1);
        let mut unused = loop {
            let before = head.number.saturating_sub(step);
            if !used_at(before).await? {
                break before;
            }
            if before == 0 || step > 1 << 16 {
                return Ok(None);
            }
            (used, step) = (before, step * 2);
        };
        while used - unused > 1 {
            let middle = unused + (used - unused) / 2;
            match used_at(middle).await? {
                true => used = middle,
                false => unused = middle,
            }
        }
        Ok(Some(used))
    }

    /// Runs a mined transaction's call again on the state of its block, for the reason of its failure. Where the state is
    /// gone, or the call succeeds now, there is no reason to be had.
    pub async fn replay(&self, from: Address, to: Address, data: Bytes, block: u64) -> Result<Revert, Error> {
        let request = TransactionRequest::default().with_from(from).with_to(to).with_input(data);
        let answer = self.nodes.ask(|node| {
            let request = request.clone();
            async move { node.call(request).block(block.into()).await }
        });
        match answer.await {
            Err(Error::Reverted(revert)) => Ok(revert),
            Err(error) if error.is_transient() => Err(error),
            Ok(_) | Err(_) => Ok(Revert::default()),
        }
    }

    /// Reads state: after the fixed block, or after the latest.
    async fn read<T, F>(&self, question: impl Fn(alloy::providers::RootProvider, BlockId) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, TransportError>>,
    {
        match self.at {
            Some(head) => self.nodes.ask_at(head, question).await,
            None => self.nodes.ask(|node| question(node, BlockId::latest())).await,
        }
    }

    fn nonsense(&self, what: &str) -> Error {
        Error::Nonsense { node: self.name.to_string(), what: what.into() }
    }
}

fn parse(url: &str) -> Result<Url, Error> {
    let parsed = url.parse::<Url>().ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
    parsed.ok_or_else(|| Error::BadUrl { url: url.into() })
}

/// The URL without what may be a key: user, password, path and query.
fn without_secrets(url: &Url) -> String {
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or("(unnamed)"))
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
