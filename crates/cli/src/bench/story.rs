//! What the chain says became of tasks, and when.

use bourse_chain::{
    Hub,
    alloy::{eips::BlockNumberOrTag, primitives::Log, rpc::types::Filter, sol_types::SolEventInterface},
};
use bourse_protocol::{
    U256,
    abi::IHub::IHubEvents,
    ids::{DealId, TaskId},
};
use std::collections::{BTreeMap, BTreeSet};

/// The blocks' times of what happened to a task, in seconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Story {
    pub(super) matched: Option<u64>,
    pub(super) opened: Option<u64>,
    /// The last of those that made the consensus.
    pub(super) contributed: Option<u64>,
    pub(super) agreed: Option<u64>,
    /// The last one.
    pub(super) revealed: Option<u64>,
    pub(super) finalized: Option<u64>,
    /// Its time ran out and its price went back.
    pub(super) refunded: bool,
}

impl Story {
    /// Paid or refunded.
    pub(super) fn ended(&self) -> bool {
        self.finalized.is_some() || self.refunded
    }

    /// From the match to each later moment that there was, in seconds after the one before: opening, contributing,
    /// consensus, revealing, finalizing.
    pub(super) fn steps(&self) -> [f64; 5] {
        let moments = [self.matched, self.opened, self.contributed, self.agreed, self.revealed, self.finalized];
        let gap = |n: usize| Some(moments[n + 1]?.saturating_sub(moments[n]?) as f64);
        std::array::from_fn(|n| gap(n).unwrap_or(f64::NAN))
    }

    /// From the match to the finalize, in seconds.
    pub(super) fn seconds(&self) -> Option<f64> {
        Some(self.finalized?.saturating_sub(self.matched?) as f64)
    }

    fn take(&mut self, event: &IHubEvents, at: u64) {
        match event {
            IHubEvents::OrdersMatched(_) => self.matched = Some(at),
            IHubEvents::TaskInitialize(_) => self.opened = Some(at),
            IHubEvents::TaskContribute(_) => self.contributed = Some(at),
            IHubEvents::TaskConsensus(_) => self.agreed = Some(at),
            IHubEvents::TaskReveal(_) => self.revealed = Some(at),
            IHubEvents::TaskFinalize(_) => self.finalized = Some(at),
            IHubEvents::TaskClaimed(_) => self.refunded = true,
            _ => {}
        }
    }
}

/// The stories of all tasks since a block.
pub(super) async fn since(hub: &Hub, block: u64) -> eyre::Result<BTreeMap<TaskId, Story>> {
    let filter = Filter::new().address(hub.address).from_block(block);
    let logs = hub.client.logs(&filter).await?;
    let blocks: BTreeSet<u64> = logs.iter().filter_map(|log| log.block_number).collect();
    let mut times = BTreeMap::new();
    for number in blocks {
        if let Some(head) = hub.client.block(BlockNumberOrTag::Number(number)).await? {
            times.insert(number, head.timestamp);
        }
    }
    let mut stories: BTreeMap<TaskId, Story> = BTreeMap::new();
    for log in logs {
        let raw = Log { address: log.address(), data: log.inner.data.clone() };
        let Ok(event) = IHubEvents::decode_log(&raw) else { continue };
        let at = log.block_number.and_then(|number| times.get(&number));
        if let (Some(task), Some(at)) = (task_of(&event), at) {
            stories.entry(task).or_default().take(&event, *at);
        }
    }
    Ok(stories)
}

/// The task that an event is about; a bench buys deals of one task.
fn task_of(event: &IHubEvents) -> Option<TaskId> {
    Some(TaskId(match event {
        IHubEvents::OrdersMatched(e) => return Some(TaskId::of(DealId(e.dealid), U256::ZERO)),
        IHubEvents::TaskInitialize(e) => e.taskid,
        IHubEvents::TaskContribute(e) => e.taskid,
        IHubEvents::TaskConsensus(e) => e.taskid,
        IHubEvents::TaskReveal(e) => e.taskid,
        IHubEvents::TaskFinalize(e) => e.taskid,
        IHubEvents::TaskClaimed(e) => e.taskid,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_the_times_between_the_moments() {
        let story = Story {
            matched: Some(10),
            opened: Some(11),
            contributed: Some(13),
            agreed: Some(13),
            revealed: Some(14),
            finalized: Some(16),
            refunded: false,
        };
        assert_eq!((story.steps(), story.seconds()), ([1.0, 2.0, 0.0, 1.0, 2.0], Some(6.0)));
        assert!(story.ended() && !Story::default().ended() && Story::default().steps()[0].is_nan());
        assert_eq!(Story::default().seconds(), None);
    }
}
