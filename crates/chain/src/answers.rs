//! What is read of a node's answers about blocks and receipts. They hold far more than anybody here looks at, and to read
//! all of it would be most of the work of a role that waits for the next block.

use crate::client::{Head, Header};
use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    network::Ethereum,
    primitives::{Address, B256, Bloom, Bytes, LogData, U64, U128},
    providers::{Provider, RootProvider},
    rpc::types::Log,
    transports::TransportResult,
};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

/// A block; `None` if the node has none.
pub(crate) async fn block(node: &RootProvider<Ethereum>, at: BlockNumberOrTag) -> TransportResult<Option<Header>> {
    let block: Option<Block> = node.raw_request("eth_getBlockByNumber".into(), (at, false)).await?;
    Ok(block.map(Header::from))
}

/// The transaction of `from` with this nonce in a block; `None` if it is not there.
pub(crate) async fn sent(
    node: &RootProvider<Ethereum>,
    (from, nonce): (Address, u64),
    at: u64,
) -> TransportResult<Option<SentAt>> {
    let at = BlockNumberOrTag::from(at);
    let full: Option<FullBlock> = node.raw_request("eth_getBlockByNumber".into(), (at, true)).await?;
    let found = full.and_then(|block| {
        let its = block.transactions.into_iter().find(|t| t.from == from && t.nonce.to::<u64>() == nonce)?;
        Some(SentAt { hash: its.hash, gas_limit: its.gas.to(), time: block.timestamp.to() })
    });
    Ok(found)
}

/// The receipt of a transaction; `None` while it is in no block.
pub(crate) async fn receipt(node: &RootProvider<Ethereum>, hash: B256) -> TransportResult<Option<TransactionReceipt>> {
    node.raw_request("eth_getTransactionReceipt".into(), [hash]).await
}

/// All receipts of a block; `None` if the node does not have it.
pub(crate) async fn receipts(
    node: &RootProvider<Ethereum>,
    block: B256,
) -> TransportResult<Option<Vec<TransactionReceipt>>> {
    node.raw_request("eth_getBlockReceipts".into(), [BlockId::hash(block)]).await
}

/// A transaction in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SentAt {
    pub(crate) hash: B256,
    pub(crate) gas_limit: u64,
    /// When its block was made, in seconds.
    pub(crate) time: u64,
}

#[derive(Debug, Deserialize)]
struct FullBlock {
    timestamp: U64,
    transactions: Vec<Transaction>,
}

/// Of whatever type: chains have some of their own.
#[derive(Debug, Deserialize)]
struct Transaction {
    hash: B256,
    from: Address,
    nonce: U64,
    gas: U64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    number: U64,
    hash: B256,
    parent_hash: B256,
    timestamp: U64,
    #[serde(default)]
    base_fee_per_gas: Option<U64>,
    #[serde(default)]
    logs_bloom: Bloom,
    #[serde(default)]
    transactions: Vec<IgnoredAny>,
}

impl From<Block> for Header {
    fn from(block: Block) -> Self {
        Self {
            head: Head {
                number: block.number.to(),
                hash: block.hash,
                parent: block.parent_hash,
                timestamp: block.timestamp.to(),
            },
            base_fee: block.base_fee_per_gas.map(|fee| fee.to()),
            bloom: block.logs_bloom,
            empty: block.transactions.is_empty(),
        }
    }
}

/// What became of a transaction that is in a block.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransactionReceipt {
    /// The transaction.
    pub transaction_hash: B256,
    /// Who sent it.
    pub from: Address,
    /// Whom it called; `None` if it created a contract.
    pub to: Option<Address>,
    /// The number of its block.
    #[serde(deserialize_with = "number")]
    pub block_number: Option<u64>,
    /// The hash of its block.
    pub block_hash: Option<B256>,
    /// Gas that it used.
    #[serde(deserialize_with = "quantity")]
    pub gas_used: u64,
    /// What each unit of gas cost, in wei.
    #[serde(default, deserialize_with = "price")]
    pub effective_gas_price: u128,
    /// The contract that it created, if it did.
    pub contract_address: Option<Address>,
    /// Whether it did what it was to do.
    #[serde(rename = "status", deserialize_with = "yes")]
    pub succeeded: bool,
    /// Its events.
    #[serde(deserialize_with = "logs")]
    pub logs: Vec<Log>,
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<U64>::deserialize(from)?.map(|number| number.to()))
}

fn quantity<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    U64::deserialize(from).map(|number| number.to())
}

fn price<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
    U128::deserialize(from).map(|number| number.to())
}

fn yes<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    U64::deserialize(from).map(|status| !status.is_zero())
}

fn logs<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Log>, D::Error> {
    Ok(Vec::<Event>::deserialize(from)?.into_iter().map(Log::from).collect())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
    block_hash: Option<B256>,
    block_number: Option<U64>,
    transaction_hash: Option<B256>,
    transaction_index: Option<U64>,
    log_index: Option<U64>,
    #[serde(default)]
    removed: bool,
}

impl From<Event> for Log {
    fn from(event: Event) -> Self {
        let data = LogData::new_unchecked(event.topics, event.data);
        Self {
            inner: alloy::primitives::Log { address: event.address, data },
            block_hash: event.block_hash,
            block_number: event.block_number.map(|number| number.to()),
            block_timestamp: None,
            transaction_hash: event.transaction_hash,
            transaction_index: event.transaction_index.map(|index| index.to()),
            log_index: event.log_index.map(|index| index.to()),
            removed: event.removed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_receipt_is_read_as_alloy_reads_it() {
        let (hash, address) = (B256::repeat_byte(7), Address::repeat_byte(8));
        let mut text = json!({
            "transactionHash": hash, "transactionIndex": "0x1", "blockHash": hash, "blockNumber": "0x10", "from": address,
            "to": address, "cumulativeGasUsed": "0x5300", "gasUsed": "0x5208", "effectiveGasPrice": "0x3b9aca00",
            "contractAddress": null, "logsBloom": Bloom::ZERO, "type": "0x2", "status": "0x1",
            "logs": [{
                "address": address, "topics": [hash, hash], "data": "0x0102", "blockHash": hash, "blockNumber": "0x10",
                "transactionHash": hash, "transactionIndex": "0x1", "logIndex": "0x3", "removed": false,
            }],
        });
        let alloys: alloy::rpc::types::TransactionReceipt = serde_json::from_value(text.clone()).unwrap();
        let ours: TransactionReceipt = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(ours.logs, alloys.logs());
        assert_eq!((ours.block_number, ours.block_hash), (alloys.block_number, alloys.block_hash));
        assert_eq!((ours.gas_used, ours.effective_gas_price), (alloys.gas_used, alloys.effective_gas_price));
        assert_eq!((ours.from, ours.to), (alloys.from, alloys.to));
        assert!(ours.succeeded && ours.contract_address.is_none());
        text["status"] = json!("0x0");
        assert!(!serde_json::from_value::<TransactionReceipt>(text.clone()).unwrap().succeeded);
        text["gasUsed"] = json!("0x10000000000000000");
        assert!(serde_json::from_value::<TransactionReceipt>(text).is_err(), "more than 64 bits");
    }

    #[test]
    fn a_block_tells_its_place_and_whether_it_has_transactions() {
        let hash = B256::repeat_byte(7);
        let mut text =
            json!({ "number": "0x2", "hash": hash, "parentHash": hash, "timestamp": "0x65", "transactions": [hash] });
        let read = |text: &serde_json::Value| Header::from(serde_json::from_value::<Block>(text.clone()).unwrap());
        assert_eq!(read(&text).head, Head { number: 2, hash, parent: hash, timestamp: 0x65 });
        assert_eq!((read(&text).base_fee, read(&text).empty), (None, false));
        text["baseFeePerGas"] = json!("0x7");
        text["transactions"] = json!([]);
        assert_eq!((read(&text).base_fee, read(&text).empty), (Some(7), true));
        text["number"] = json!(null);
        assert!(serde_json::from_value::<Block>(text).is_err());
    }
}
