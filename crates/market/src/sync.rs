//! Following the chain: events say which orders to look at again, the chain says what has become of them.

use crate::{
    Error, Market,
    events::{self, Failed},
    store::Update,
};
use bourse_chain::follower::{Cursor, News};
use bourse_service::CancellationToken;
use std::time::Duration;

/// How many orders are reviewed between looks for news.
const REVIEWS: u64 = 64;
/// While the chain does not answer it is asked this seldom.
const BACKOFF: Duration = Duration::from_secs(5);

/// Follows until `shutdown`. A chain that does not answer is asked again; a store that fails ends it.
pub(crate) async fn follow(market: &Market, shutdown: &CancellationToken) -> Result<(), Error> {
    let mut silent = false;
    loop {
        let synced = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            synced = sync(market) => synced,
        };
        let rest = match synced {
            Ok(()) => market.config.poll,
            Err(Error::Chain(error)) => {
                if !silent {
                    tracing::warn!(%error, "market cannot follow the chain and tries again");
                }
                market.config.poll.max(BACKOFF)
            }
            Err(fatal) => return Err(fatal),
        };
        silent = rest > market.config.poll;
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(rest) => {}
        }
    }
}

/// Reads all news and reviews all orders that are due.
pub(crate) async fn sync(market: &Market) -> Result<(), Error> {
    let _turn = market.syncing.lock().await;
    let start = Cursor::starting_at(market.config.start_block);
    let mut cursor = market.shelf.store.cursor()?.unwrap_or(start);
    loop {
        let news = market.follower.poll(&cursor).await?;
        let more = match news {
            Some(news) => match digest(market, news).await? {
                Some(update) => {
                    market.shelf.store.apply(&update)?;
                    cursor = update.cursor;
                    true
                }
                // The chain changed while it was read: the next look sees the new one.
                None => false,
            },
            None => false,
        };
        let reviewed = review(market).await?;
        if !more && !reviewed {
            return Ok(());
        }
    }
}

/// What the news change; `None` if their blocks went away meanwhile.
async fn digest(market: &Market, news: News) -> Result<Option<Update>, Error> {
    let mut found = Vec::new();
    for log in &news.logs {
        match events::read(&market.reader, market.chain_id, log).await {
            Ok(event) => found.extend(event),
            Err(Failed::Gone) => return Ok(None),
            Err(Failed::Chain(error)) => return Err(error.into()),
        }
    }
    let undo_from = news.reorg.then_some(news.from);
    Ok(Some(Update { cursor: news.cursor, undo_from, events: found }))
}

/// Looks at some of the orders that are due. Says whether there were any.
async fn review(market: &Market) -> Result<bool, Error> {
    let due = market.shelf.store.due(REVIEWS)?;
    for record in &due {
        let backing = market.reader.backing(&record.entry.order, record.entry.hash).await?;
        market.shelf.settle(record, &backing)?;
    }
    Ok(!due.is_empty())
}
