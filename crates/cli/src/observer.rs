//! Watching the hub: every event of the chain, when it was seen, and in which transaction.

use bourse_chain::{
    Error, Hub,
    alloy::{primitives::Log, rpc::types::Filter, sol_types::SolEventInterface},
    follower::{Cursor, Follower},
};
use bourse_protocol::{Address, B256, abi::IHub::IHubEvents};
use bourse_service::CancellationToken;
use std::time::Instant;
use tokio::sync::mpsc;

/// One event of the hub.
#[derive(Debug)]
pub(crate) struct Seen {
    /// When it was seen.
    pub(crate) at: Instant,
    /// Its transaction.
    pub(crate) transaction: B256,
    /// What it says.
    pub(crate) event: IHubEvents,
}

/// Reports events from the next block on until `stop`. A node that does not answer is asked again.
pub(crate) async fn watch(hub: Hub, from: u64, seen: mpsc::UnboundedSender<Seen>, stop: CancellationToken) {
    let follower = Follower::new(hub.client.clone(), Filter::new().address(hub.address));
    let mut cursor = Cursor::starting_at(from);
    let mut tick = tokio::time::interval(hub.client.poll_interval());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let Ok(Some(news)) = follower.poll(&cursor).await else { continue };
        cursor = news.cursor;
        for log in news.logs {
            let raw = Log { address: log.address(), data: log.inner.data.clone() };
            let Ok(event) = IHubEvents::decode_log(&raw) else { continue };
            let transaction = log.transaction_hash.unwrap_or_default();
            if seen.send(Seen { at: Instant::now(), transaction, event: event.data }).is_err() {
                return;
            }
        }
    }
}

/// The name of the hub's function that a transaction called, with its gas.
pub(crate) async fn gas_of(hub: &Hub, transaction: B256) -> Result<Option<(String, Address, u64)>, Error> {
    use bourse_protocol::abi::IHub::IHubCalls;
    let (Some((to, input)), Some(receipt)) =
        (hub.client.input(transaction).await?, hub.client.receipt(transaction).await?)
    else {
        return Ok(None);
    };
    let name = match to {
        Some(to) if to == hub.address => {
            input.first_chunk::<4>().and_then(|selector| IHubCalls::name_by_selector(*selector).map(str::to_owned))
        }
        _ => None,
    };
    Ok(name.map(|name| (name, receipt.from, receipt.gas_used)))
}
