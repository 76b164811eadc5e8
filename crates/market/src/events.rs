//! The chain's events that concern the book, read from logs. Source: sdk.md §3.8.

use crate::reader::{Reader, Registries};
use bourse_chain::{
    Error,
    alloy::{
        primitives::Log as Data,
        rpc::types::{Filter, Log},
        sol_types::SolEvent,
    },
};
use bourse_protocol::{
    Address, B256,
    abi::{IHub, IRegistry},
    api::market::{CategoryView, DealView, Origin},
    ids::{DealId, OrderHash},
};
use bourse_service::clock::iso8601;

/// What happened on the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Four orders became a deal.
    Matched(Box<DealView>),
    /// An owner closed an order.
    Closed(OrderHash),
    /// An account has less free on the hub.
    Spent(Address),
    /// An asset has another owner.
    Moved(Address),
    /// There is a new category.
    CategoryCreated(Box<CategoryView>),
}

/// Selects the logs that [`read`] understands.
pub(crate) fn filter(hub: Address, registries: &Registries) -> Filter {
    let topics = [
        IHub::OrdersMatched::SIGNATURE_HASH,
        IHub::ClosedAppOrder::SIGNATURE_HASH,
        IHub::ClosedDatasetOrder::SIGNATURE_HASH,
        IHub::ClosedWorkerpoolOrder::SIGNATURE_HASH,
        IHub::ClosedRequestOrder::SIGNATURE_HASH,
        IHub::CreateCategory::SIGNATURE_HASH,
        // The token's and the registries' Transfer share it.
        IHub::Transfer::SIGNATURE_HASH,
    ];
    let [app, dataset, workerpool] = registries.all();
    Filter::new().address(vec![hub, app, dataset, workerpool]).event_signature(topics.to_vec())
}

/// What a log says. `Ok(None)`: nothing that concerns the book. [`Failed::Gone`]: its block is no longer part of the chain.
pub(crate) async fn read(reader: &Reader, chain_id: u64, log: &Log) -> Result<Option<(u64, Event)>, Failed> {
    let (Some(block), Some(transaction)) = (log.block_number, log.transaction_hash) else { return Ok(None) };
    let Some(topic) = log.topic0() else { return Ok(None) };
    let data = &log.inner;
    if log.address() != reader.hub.address {
        return Ok(moved(data).map(|asset| (block, Event::Moved(asset))));
    }
    let event = match *topic {
        IHub::OrdersMatched::SIGNATURE_HASH => {
            let Ok(matched) = IHub::OrdersMatched::decode_log(data) else { return Ok(None) };
            Some(deal(reader, chain_id, matched.data, block, transaction).await?)
        }
        IHub::CreateCategory::SIGNATURE_HASH => {
            let Ok(made) = IHub::CreateCategory::decode_log(data) else { return Ok(None) };
            category(reader, chain_id, made.data, log, block, transaction).await?
        }
        IHub::Transfer::SIGNATURE_HASH => spent(data),
        _ => closed(data),
    };
    Ok(event.map(|event| (block, event)))
}

/// Why a log could not be read now.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The node did not say.
    Chain(Error),
    /// The block went away while it was read.
    Gone,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Chain(error)
    }
}

async fn deal(
    reader: &Reader,
    chain_id: u64,
    matched: IHub::OrdersMatched,
    block: u64,
    transaction: B256,
) -> Result<Event, Failed> {
    let deal = reader.hub.deal(DealId(matched.dealid)).await?.ok_or(Failed::Gone)?;
    let origin = Origin {
        volume: matched.volume,
        app_hash: OrderHash(matched.appHash),
        dataset_hash: OrderHash(matched.datasetHash),
        workerpool_hash: OrderHash(matched.workerpoolHash),
        request_hash: OrderHash(matched.requestHash),
        transaction_hash: transaction,
        block_number: block,
        // A deal starts at its block's time.
        block_timestamp: iso8601(deal.start_time.saturating_mul(1000)),
    };
    Ok(Event::Matched(Box::new(DealView::of(deal, chain_id, origin))))
}

async fn category(
    reader: &Reader,
    chain_id: u64,
    made: IHub::CreateCategory,
    log: &Log,
    block: u64,
    transaction: B256,
) -> Result<Option<Event>, Failed> {
    // More than 2^63 categories cannot be created.
    let Some(catid) = u64::try_from(made.catid).ok().filter(|id| i64::try_from(*id).is_ok()) else { return Ok(None) };
    let time = match log.block_timestamp {
        Some(time) => time,
        None => reader.hub.client.block(block.into()).await?.ok_or(Failed::Gone)?.timestamp,
    };
    Ok(Some(Event::CategoryCreated(Box::new(CategoryView {
        catid,
        chain_id,
        name: made.name,
        description: made.description,
        work_clock_time_ref: made.workClockTimeRef,
        transaction_hash: transaction,
        block_number: block,
        block_timestamp: iso8601(time.saturating_mul(1000)),
    }))))
}

/// The sender of stake, unless it was minted or nothing moved.
fn spent(data: &Data) -> Option<Event> {
    let transfer = IHub::Transfer::decode_log(data).ok()?;
    (!transfer.from.is_zero() && !transfer.value.is_zero()).then_some(Event::Spent(transfer.from))
}

/// The asset that changed hands, unless it was just made.
fn moved(data: &Data) -> Option<Address> {
    let transfer = IRegistry::Transfer::decode_log(data).ok()?;
    (!transfer.from.is_zero()).then(|| Address::from_word(transfer.tokenId.into()))
}

/// The order that was closed; the four events differ by name only.
fn closed(data: &Data) -> Option<Event> {
    let hash = data.data.data.get(..32)?;
    Some(Event::Closed(OrderHash(B256::from_slice(hash))))
}
