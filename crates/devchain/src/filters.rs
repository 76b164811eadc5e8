//! Installed filters: what happened since a client last asked, for clients that poll.
//!
//! A filter that nobody asks for five minutes is dropped, on the real clock, because clients poll in real time.

use crate::block::Block;
use crate::published::Event;
use crate::rpc::error::RpcError;
use crate::rpc::{Text, render, text};
use alloy::rpc::types::{Filter, Log};
use alloy_primitives::B256;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const EXPIRY: Duration = Duration::from_secs(300);
const MAX_FILTERS: usize = 1000;
/// Most things one filter remembers between two polls.
const MAX_ITEMS: usize = 20_000;

/// What a client wants to hear of.
#[derive(Clone, Debug)]
pub(crate) enum Topic {
    Logs(Box<Filter>),
    Blocks,
    Pending,
}

/// All installed filters.
#[derive(Default)]
pub(crate) struct Filters(Mutex<Installed>);

#[derive(Default)]
struct Installed {
    last_id: u64,
    filters: BTreeMap<u64, Entry>,
}

struct Entry {
    topic: Topic,
    items: Items,
    overflowed: bool,
    asked: Instant,
}

enum Items {
    Logs(Vec<Log>),
    Hashes(Vec<B256>),
}

impl Items {
    fn new(topic: &Topic) -> Self {
        match topic {
            Topic::Logs(_) => Self::Logs(Vec::new()),
            Topic::Blocks | Topic::Pending => Self::Hashes(Vec::new()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Logs(logs) => logs.len(),
            Self::Hashes(hashes) => hashes.len(),
        }
    }
}

impl Filters {
    fn lock(&self) -> MutexGuard<'_, Installed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Installs a filter and returns its number.
    pub(crate) fn install(&self, topic: Topic) -> Result<u64, RpcError> {
        let mut installed = self.lock();
        installed.expire();
        if installed.filters.len() >= MAX_FILTERS {
            return Err(RpcError::limit(format!("{MAX_FILTERS} filters are installed: uninstall some")));
        }
        installed.last_id += 1;
        let id = installed.last_id;
        let items = Items::new(&topic);
        installed.filters.insert(id, Entry { topic, items, overflowed: false, asked: Instant::now() });
        Ok(id)
    }

    /// What happened since the last call.
    pub(crate) fn changes(&self, id: u64) -> Result<Text, RpcError> {
        let mut installed = self.lock();
        installed.expire();
        let entry = installed.filters.get_mut(&id).ok_or_else(not_found)?;
        entry.asked = Instant::now();
        if entry.overflowed {
            installed.filters.remove(&id);
            return Err(RpcError::limit("the filter was polled too rarely and lost events: install it again"));
        }
        let items = std::mem::replace(&mut entry.items, Items::new(&entry.topic));
        Ok(match items {
            Items::Logs(logs) => text(&logs),
            Items::Hashes(hashes) => text(&hashes),
        })
    }

    /// The criteria of a log filter.
    pub(crate) fn logs(&self, id: u64) -> Result<Box<Filter>, RpcError> {
        let mut installed = self.lock();
        installed.expire();
        let entry = installed.filters.get_mut(&id).ok_or_else(not_found)?;
        entry.asked = Instant::now();
        match &entry.topic {
            Topic::Logs(filter) => Ok(filter.clone()),
            Topic::Blocks | Topic::Pending => Err(not_found()),
        }
    }

    pub(crate) fn uninstall(&self, id: u64) -> bool {
        self.lock().filters.remove(&id).is_some()
    }

    /// Lets every filter take what it is interested in.
    pub(crate) fn feed(&self, event: &Event) {
        let mut installed = self.lock();
        if installed.filters.is_empty() {
            return;
        }
        installed.expire();
        for entry in installed.filters.values_mut().filter(|entry| !entry.overflowed) {
            entry.feed(event);
        }
    }
}

fn not_found() -> RpcError {
    RpcError::server("filter not found")
}

impl Installed {
    fn expire(&mut self) {
        self.filters.retain(|_, entry| entry.asked.elapsed() < EXPIRY);
    }
}

impl Entry {
    fn feed(&mut self, event: &Event) {
        match (&self.topic, event, &mut self.items) {
            (Topic::Logs(filter), Event::Blocks { removed, added }, Items::Logs(logs)) => {
                logs.extend(changed_logs(filter, removed, added));
            }
            (Topic::Blocks, Event::Blocks { added, .. }, Items::Hashes(hashes)) => {
                hashes.extend(added.iter().map(|block| block.hash));
            }
            (Topic::Pending, Event::Pending(transactions), Items::Hashes(hashes)) => {
                hashes.extend(transactions.iter().map(|transaction| transaction.hash));
            }
            (Topic::Logs(_) | Topic::Blocks | Topic::Pending, _, _) => {}
        }
        if self.items.len() > MAX_ITEMS {
            self.overflowed = true;
            self.items = Items::new(&self.topic);
        }
    }
}

/// The matching logs of a change of the chain: those of removed blocks, marked so and newest first, then the new ones.
pub(crate) fn changed_logs(
    filter: &Filter,
    removed: &[std::sync::Arc<Block>],
    added: &[std::sync::Arc<Block>],
) -> Vec<Log> {
    let mut logs = Vec::new();
    for block in removed.iter().rev() {
        let first = logs.len();
        matching_logs(filter, block, &mut logs);
        logs[first..].reverse();
        logs[first..].iter_mut().for_each(|log| log.removed = true);
    }
    added.iter().for_each(|block| matching_logs(filter, block, &mut logs));
    logs
}

/// Adds the logs of one block that match by address and topics.
pub(crate) fn matching_logs(filter: &Filter, block: &Block, found: &mut Vec<Log>) {
    if !filter.matches_bloom(block.header.logs_bloom) {
        return;
    }
    for (index, receipt) in block.receipts.iter().enumerate() {
        for (log_index, log) in (receipt.first_log..).zip(&receipt.logs) {
            if filter.matches_address(log.address) && filter.matches_topics(log.topics()) {
                found.push(render::log(block, index, log_index, log));
            }
        }
    }
}
