//! Answers to those who ask over HTTP how tasks, workers and the pool do.

use super::{Done, Service};
use crate::http::{Metrics, Query};
use bourse_chain::NodeStatus;
use tokio::sync::oneshot;

impl Service {
    /// Answers once the nodes were looked at, beside the loop. They are looked at once for all who ask meanwhile.
    fn tell_metrics(&mut self, reply: oneshot::Sender<Metrics>) {
        self.asked.push(reply);
        if self.asked.len() > 1 {
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
        for reply in self.asked.drain(..) {
            // Whoever asked may have gone.
            let _ = reply.send(metrics.clone());
        }
    }

    pub(super) fn answer(&mut self, query: Query) {
        // Whoever asked may have gone.
        match query {
            Query::Task(id, reply) => drop(reply.send(self.pool.show(id))),
            Query::Tasks(reply) => {
                let recent = self.pool.store.recent(100).unwrap_or_default();
                drop(reply.send(recent.into_iter().map(|task| self.pool.show_remembered(task)).collect()));
            }
            Query::Workers(reply) => drop(reply.send(self.pool.show_workers())),
            Query::Metrics(reply) => self.tell_metrics(reply),
        }
    }
}
