//! Answers to those who ask over HTTP how tasks, workers and the pool do.

use super::{Done, Service};
use crate::{
    http::{Metrics, Query},
    store::{self, Remembered},
};
use axum::body::Bytes;
use bourse_chain::NodeStatus;
use bourse_service::journal::{self, Journal};
use serde::Serialize;
use serde_json::json;
use std::time::Duration;
use tokio::{sync::oneshot, time::Instant};
use tracing::warn;

/// Tasks that are listed.
const LISTED: u32 = 100;
/// A list is told again for so many times as long as it took to make: to make lists is a small part of the loop's work,
/// however many ask and however long they are.
const TOLD_AGAIN: u32 = 20;
/// But for no longer than this.
const OLDEST: Duration = Duration::from_secs(5);

/// What is told to all who ask.
pub(super) struct Desk {
    /// Of the store, beside the loop.
    reader: Journal,
    /// Who waits for the metrics.
    metrics: Vec<oneshot::Sender<Metrics>>,
    /// Who waits for the newest tasks, which are being read.
    tasks: Vec<oneshot::Sender<Option<Bytes>>>,
    tasks_told: Option<List>,
    workers_told: Option<List>,
}

impl Desk {
    pub(super) fn new(reader: Journal) -> Self {
        Self { reader, metrics: vec![], tasks: vec![], tasks_told: None, workers_told: None }
    }
}

/// A list as it was told.
struct List {
    body: Bytes,
    at: Instant,
    took: Duration,
}

impl List {
    fn new<T: Serialize>(of: &str, since: Instant, make: impl FnOnce() -> Vec<T>) -> Self {
        let body = json!({ "ok": true, of: make() }).to_string().into();
        let at = Instant::now();
        Self { body, at, took: at.duration_since(since) }
    }

    fn current(this: Option<&Self>) -> Option<Bytes> {
        let list = this.filter(|list| list.at.elapsed() < (list.took * TOLD_AGAIN).min(OLDEST))?;
        Some(list.body.clone())
    }
}

impl Service {
    /// Answers once the nodes were looked at, beside the loop. They are looked at once for all who ask meanwhile.
    fn tell_metrics(&mut self, reply: oneshot::Sender<Metrics>) {
        self.desk.metrics.push(reply);
        if self.desk.metrics.len() > 1 {
            return;
        }
        let client = self.hub.client.clone();
        self.jobs.spawn(async move {
            let nodes = client.probe().await;
            Done::Looked(nodes, client.depth().await.unwrap_or_default())
        });
    }

    pub(super) fn say_metrics(&mut self, nodes: &[NodeStatus], depth: u64) {
        let (known, connected) = self.pool.crew.count();
        let metrics = Metrics {
            ok: true,
            obstacles: vec![],
            disk_full: self.full,
            open_tasks: self.pool.open_tasks().len(),
            waiting_tasks: self.pool.waiting(),
            connected_workers: connected,
            known_workers: known,
            newest_block: self.cursor.next().checked_sub(1),
            blocks_left: None,
            nodes: nodes.to_vec(),
            sender: self.sender.status(),
        };
        let metrics = metrics.judged(depth);
        for reply in self.desk.metrics.drain(..) {
            // Whoever asked may have gone.
            let _ = reply.send(metrics.clone());
        }
    }

    /// Reads the newest tasks beside the loop, once for all who ask meanwhile.
    fn tell_tasks(&mut self, reply: oneshot::Sender<Option<Bytes>>) {
        if let Some(body) = List::current(self.desk.tasks_told.as_ref()) {
            // Whoever asked may have gone.
            return drop(reply.send(Some(body)));
        }
        self.desk.tasks.push(reply);
        if self.desk.tasks.len() == 1 {
            let (reader, since) = (self.desk.reader.clone(), Instant::now());
            self.jobs.spawn_blocking(move || Done::Listed(since, store::recent(&reader, LISTED)));
        }
    }

    pub(super) fn say_tasks(&mut self, since: Instant, recent: Result<Vec<Remembered>, journal::Error>) {
        let show = |task| self.pool.show_remembered(task);
        let list = recent.map(|recent| List::new("tasks", since, || recent.into_iter().map(show).collect()));
        self.desk.tasks_told = list.inspect_err(|error| warn!(%error, "cannot read the newest tasks")).ok();
        let body = self.desk.tasks_told.as_ref().map(|list| list.body.clone());
        for reply in self.desk.tasks.drain(..) {
            // Whoever asked may have gone.
            let _ = reply.send(body.clone());
        }
    }

    fn workers(&mut self) -> Bytes {
        if let Some(body) = List::current(self.desk.workers_told.as_ref()) {
            return body;
        }
        let list = List::new("workers", Instant::now(), || self.pool.show_workers());
        self.desk.workers_told.insert(list).body.clone()
    }

    pub(super) fn answer(&mut self, query: Query) {
        // Whoever asked may have gone.
        match query {
            Query::Task(id, reply) => drop(reply.send(self.pool.show(id))),
            Query::Tasks(reply) => self.tell_tasks(reply),
            Query::Workers(reply) => drop(reply.send(self.workers())),
            Query::Metrics(reply) => self.tell_metrics(reply),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_list_is_told_again_for_a_while_that_grows_with_its_cost() {
        let since = Instant::now();
        tokio::time::advance(Duration::from_millis(10)).await;
        let list = List::new("workers", since, || vec![1, 2]);
        assert_eq!(List::current(Some(&list)).unwrap(), r#"{"ok":true,"workers":[1,2]}"#);
        tokio::time::advance(Duration::from_millis(199)).await;
        assert!(List::current(Some(&list)).is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(List::current(Some(&list)).is_none());
    }
}
