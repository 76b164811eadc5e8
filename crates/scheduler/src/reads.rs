//! What the scheduler reads of the chain, for its loop to decide on. Nothing is decided and nothing is kept here.

use crate::{
    bags::Window,
    pool::Facts,
    store::{Remembered, Terms},
};
use bourse_chain::{
    Error, Head, Hub,
    alloy::{rpc::types::Filter, sol_types::SolEvent},
    follower::News,
    hub::Account,
};
use bourse_protocol::{
    Address, B256, U256,
    abi::IHub,
    consensus,
    deal::{Deal, TaskStatus},
    ids::{DealId, TaskId},
    task::Vote,
};
use futures_util::{
    StreamExt,
    future::{join_all, try_join},
    stream,
};
use std::collections::BTreeMap;
use tracing::warn;

/// Terms that are read at a time.
const TERMS: usize = 16;
/// Blocks that are searched for deposits at once.
const DEPOSITS: u64 = 5_000;
/// Of these the newest, that are searched again the next time.
const AGAIN: u64 = 16;

/// A task, and what was read of it; nothing if what is known of it is still true.
pub(crate) type Read = (TaskId, Result<Option<Facts>, Error>);

/// Tasks of a deal that can come on the table, and what is needed to work on them.
pub(crate) struct Bag {
    pub(crate) deal: Deal,
    pub(crate) window: Window,
    pub(crate) terms: Terms,
}

/// Reads tasks, all of them at one block; nothing anew where it tells nothing new of a task that was read before. Every
/// change of a task is told by an event with its name.
pub(crate) async fn tasks(hub: &Hub, tasks: Vec<(TaskId, Option<Head>)>) -> Result<(Head, Vec<Read>), Error> {
    let header = hub.client.recent_header().await?;
    let hub = &hub.at(header.head);
    let read = tasks.into_iter().map(|(id, known)| async move {
        match known.is_some_and(|known| hub.client.shows_nothing_new(&header, known, id.0)) {
            true => (id, Ok(None)),
            false => (id, facts(hub, header.head.number, id).await.map(Some)),
        }
    });
    Ok((header.head, join_all(read).await))
}

/// Everything about a task that a decision rests on. The hub's block is fixed: a decision never mixes two.
async fn facts(hub: &Hub, block: u64, id: TaskId) -> Result<Facts, Error> {
    let task = hub.task(id).await?;
    // Weights count until the workers agree.
    let weighed = task.status == TaskStatus::Active;
    let mut votes = Vec::with_capacity(task.contributors.len());
    for worker in &task.contributors {
        let contribution = hub.contribution(id, *worker).await?;
        // The score may have moved since; the contribution itself says within which bounds it was.
        let (least, greatest) = contribution.weight_range();
        let weight = match weighed {
            true => consensus::weight(hub.score(*worker).await?).clamp(least, greatest),
            false => least,
        };
        votes.push(Vote { worker: *worker, status: contribution.status, hash: contribution.result_hash, weight });
    }
    Ok(Facts { task, votes, block })
}

/// What the hub says of a worker.
pub(crate) struct Standing {
    /// Its reputation.
    pub(crate) score: U256,
    /// What it has.
    pub(crate) account: Account,
    /// The block after which this was so.
    pub(crate) block: u64,
}

/// The standing of a worker, at one block.
pub(crate) async fn standing(hub: &Hub, worker: Address) -> Result<Standing, Error> {
    let head = hub.client.recent_header().await?.head;
    let hub = hub.at(head);
    let (score, account) = try_join(hub.score(worker), hub.account(worker)).await?;
    Ok(Standing { score, account, block: head.number })
}

/// Who deposited, and the block from which others are to be looked for.
pub(crate) struct Deposits {
    pub(crate) by: Vec<Address>,
    pub(crate) next: u64,
}

/// Deposits since a block; only recent ones, where many blocks have passed since then.
pub(crate) async fn deposits(hub: &Hub, from: Option<u64>) -> Result<Deposits, Error> {
    let newest = hub.client.recent_header().await?.head.number;
    let from = from.unwrap_or(newest.saturating_sub(AGAIN)).max(newest.saturating_sub(DEPOSITS)).min(newest);
    let made = Filter::new().address(hub.address).event_signature(IHub::Transfer::SIGNATURE_HASH).topic1(B256::ZERO);
    let logs = hub.client.logs(&made.from_block(from).to_block(newest)).await?;
    let by = logs.iter().filter_map(|log| log.topics().get(2).map(|to| Address::from_word(*to)));
    // The newest may be replaced by others, or not be there yet for the node that was asked.
    Ok(Deposits { by: by.collect(), next: newest.saturating_sub(AGAIN) })
}

/// The first tasks of new deals, at most so many of each; and, after a reorg that went deeper than is remembered block by
/// block, the second since which everything is in doubt.
pub(crate) async fn news(
    hub: &Hub,
    deals: Vec<DealId>,
    most: u64,
    news: &News,
) -> Result<(Vec<Bag>, Option<u64>), Error> {
    let mut bags = Vec::new();
    for deal in deals {
        // A deal that a reorg took away is not there any more.
        bags.extend(bag(hub, deal, U256::ZERO, most).await?);
    }
    if !news.resync {
        return Ok((bags, None));
    }
    // The last block that both branches share: what replaced the blocks after it may be of any time.
    let shared = hub.client.block(news.from.saturating_sub(1).into()).await?;
    Ok((bags, Some(shared.map_or(0, |block| block.timestamp))))
}

/// What is needed to work on each of these tasks, and those of which it cannot be read now. The hub has it for every deal, so
/// whatever a node says instead is no reason to give a task up, or to stop.
pub(crate) async fn all_terms(hub: &Hub, tasks: Vec<Remembered>) -> (Vec<(Remembered, Terms)>, Vec<Remembered>) {
    let mut alike = BTreeMap::<_, Vec<_>>::new();
    for task in tasks {
        alike.entry((task.deal.app.pointer, task.deal.category)).or_default().push(task);
    }
    let read = alike.into_values().map(|tasks| async move { (terms(hub, &tasks[0].deal).await, tasks) });
    let mut read = stream::iter(read).buffered(TERMS);
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    while let Some((terms, tasks)) = read.next().await {
        match terms {
            Ok(terms) => known.extend(tasks.into_iter().map(|task| (task, terms.clone()))),
            Err(error) => {
                warn!(deal = %tasks[0].deal.id, %error, "cannot read what tasks of the deal need; trying again");
                unknown.extend(tasks);
            }
        }
    }
    (known, unknown)
}

/// At most `room` tasks of a deal from number `from` within it, with what is needed to work on them.
pub(crate) async fn bag(hub: &Hub, id: DealId, from: U256, room: u64) -> Result<Option<Bag>, Error> {
    let Some(deal) = hub.deal(id).await? else { return Ok(None) };
    let terms = terms(hub, &deal).await?;
    let window = Window::of(&deal, from, room);
    Ok(Some(Bag { deal, window, terms }))
}

async fn terms(hub: &Hub, deal: &Deal) -> Result<Terms, Error> {
    let app = hub.app(deal.app.pointer).await?;
    let period = hub.period(deal.category).await?;
    Ok(Terms { period, app_type: app.map(|app| app.kind).unwrap_or_default() })
}

/// The events that can change what the scheduler does.
pub(crate) fn filter(hub: &Hub) -> Filter {
    Filter::new().address(hub.address).event_signature(vec![
        IHub::SchedulerNotice::SIGNATURE_HASH,
        IHub::TaskInitialize::SIGNATURE_HASH,
        IHub::TaskContribute::SIGNATURE_HASH,
        IHub::TaskConsensus::SIGNATURE_HASH,
        IHub::TaskReveal::SIGNATURE_HASH,
        IHub::TaskReopen::SIGNATURE_HASH,
        IHub::TaskFinalize::SIGNATURE_HASH,
        IHub::TaskClaimed::SIGNATURE_HASH,
    ])
}
