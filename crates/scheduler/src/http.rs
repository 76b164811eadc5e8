//! What people and programs may ask the scheduler. Source: sdk.md §7.

use crate::link::{self, Door};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use bourse_chain::{NodeStatus, SenderStatus};
use bourse_protocol::{
    api::{TaskView, WorkerView},
    ids::TaskId,
    link::PATH,
};
use bourse_service::http::refuse;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tower_http::cors::CorsLayer;

/// A question to the loop, which owns the state.
pub(crate) enum Query {
    Task(TaskId, oneshot::Sender<Option<TaskView>>),
    Tasks(oneshot::Sender<Vec<TaskView>>),
    Workers(oneshot::Sender<Vec<WorkerView>>),
    Metrics(oneshot::Sender<Metrics>),
}

/// How the pool does: body of `GET /metrics`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metrics {
    /// Nothing is known that keeps the pool from working and does not pass by itself.
    pub(crate) ok: bool,
    /// What keeps it from working now.
    pub(crate) obstacles: Vec<Obstacle>,
    /// The pool waits for room on its disk.
    pub(crate) disk_full: bool,
    /// Tasks that have not ended.
    pub(crate) open_tasks: usize,
    /// Of these, those that wait for a worker.
    pub(crate) waiting_tasks: usize,
    /// Workers that are connected.
    pub(crate) connected_workers: usize,
    /// Workers that were here since the scheduler started, or have work.
    pub(crate) known_workers: usize,
    /// The newest block that was taken in.
    pub(crate) newest_block: Option<u64>,
    /// How many blocks are left to take in; unknown while no node does well.
    pub(crate) blocks_left: Option<u64>,
    /// How the nodes of the chain do.
    pub(crate) nodes: Vec<NodeStatus>,
    /// What the pool owner's sender is doing.
    pub(crate) sender: SenderStatus,
}

/// Something that keeps the pool from working.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Obstacle {
    /// For programs: `disk`, `nodes` or `sender`.
    pub(crate) what: &'static str,
    /// For people.
    pub(crate) words: String,
}

impl Metrics {
    /// The same with what follows from it, where blocks count when so many lie above them.
    pub(crate) fn judged(mut self, depth: u64) -> Self {
        let good = self.nodes.iter().filter(|node| node.state == "good");
        let newest = good.map(|node| node.height.unwrap_or_default()).max();
        let taken = self.newest_block.map_or(0, |block| block + 1);
        self.blocks_left = newest.map(|newest| (newest + 1).saturating_sub(depth).saturating_sub(taken));
        self.ok = !self.disk_full && newest.is_some() && !self.sender.needs_help();
        let disk = self.disk_full.then(|| ("disk", "the disk is full: waiting for room".to_owned()));
        let nodes = newest.is_none().then(|| ("nodes", "no node of the chain does well: waiting for one".to_owned()));
        let sender = self.sender.obstacle().map(|words| ("sender", words));
        let found = [disk, nodes, sender].into_iter().flatten();
        self.obstacles = found.map(|(what, words)| Obstacle { what, words }).collect();
        self
    }
}

type Queries = mpsc::Sender<Query>;

pub(crate) fn router(door: Door, queries: Queries) -> Router {
    let workers = Router::new().route(PATH, get(link::upgrade)).with_state(door);
    let people = Router::new()
        .route("/version", get(version))
        .route("/tasks", get(tasks))
        .route("/tasks/{id}", get(task))
        .route("/workers", get(list_workers))
        .route("/metrics", get(metrics))
        .layer(CorsLayer::new().allow_origin(tower_http::cors::Any))
        .with_state(queries);
    workers.merge(people).fallback(unknown)
}

async fn version() -> Response {
    Json(json!({ "ok": true, "version": env!("CARGO_PKG_VERSION") })).into_response()
}

async fn task(State(queries): State<Queries>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<TaskId>() else {
        return refuse(StatusCode::BAD_REQUEST, "bad_task_id", "a task id is 0x and 64 hex digits");
    };
    match ask(&queries, |reply| Query::Task(id, reply)).await {
        Some(Some(view)) => Json(view).into_response(),
        Some(None) => refuse(
            StatusCode::NOT_FOUND,
            "unknown_task",
            format!("this pool knows no task {id}: check the id, or ask the pool of its deal"),
        ),
        None => stopping(),
    }
}

async fn tasks(State(queries): State<Queries>) -> Response {
    match ask(&queries, Query::Tasks).await {
        Some(tasks) => Json(json!({ "ok": true, "tasks": tasks })).into_response(),
        None => stopping(),
    }
}

async fn list_workers(State(queries): State<Queries>) -> Response {
    match ask(&queries, Query::Workers).await {
        Some(workers) => Json(json!({ "ok": true, "workers": workers })).into_response(),
        None => stopping(),
    }
}

async fn metrics(State(queries): State<Queries>) -> Response {
    match ask(&queries, Query::Metrics).await {
        Some(metrics) => Json(metrics).into_response(),
        None => stopping(),
    }
}

async fn ask<T>(queries: &Queries, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    queries.send(query(reply)).await.ok()?;
    answer.await.ok()
}

async fn unknown() -> Response {
    refuse(
        StatusCode::NOT_FOUND,
        "unknown_route",
        "no such route: see /tasks, /tasks/{id}, /workers, /metrics, /version",
    )
}

fn stopping() -> Response {
    refuse(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the scheduler is stopping: try again when it is back")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourse_chain::{OutOfGas, Waiting};
    use bourse_protocol::{Address, U256};

    fn metrics(state: &'static str, sender: SenderStatus) -> Metrics {
        let node = NodeStatus {
            node: "a".into(),
            state,
            reason: None,
            height: Some(100),
            lag: None,
            latency_ms: None,
            last_error: None,
            times_aside: 0,
        };
        let nodes = vec![node];
        Metrics {
            ok: true,
            obstacles: vec![],
            disk_full: false,
            open_tasks: 0,
            waiting_tasks: 0,
            connected_workers: 0,
            known_workers: 0,
            newest_block: Some(90),
            blocks_left: None,
            nodes,
            sender,
        }
    }

    fn named(metrics: &Metrics) -> Vec<&str> {
        metrics.obstacles.iter().map(|obstacle| obstacle.what).collect()
    }

    #[test]
    fn what_is_left_to_take_in_is_what_counts() {
        let left = |newest_block, depth| {
            let metrics = Metrics { newest_block, ..metrics("good", SenderStatus::default()) }.judged(depth);
            (metrics.ok, metrics.blocks_left)
        };
        assert_eq!(left(Some(90), 0), (true, Some(10)));
        assert_eq!(left(Some(99), 1), (true, Some(0)));
        assert_eq!(left(None, 0), (true, Some(101)));
        let unknown = metrics("aside", SenderStatus::default()).judged(0);
        assert_eq!((unknown.ok, unknown.blocks_left, named(&unknown)), (false, None, vec!["nodes"]));
    }

    #[test]
    fn what_does_not_pass_by_itself_is_not_ok() {
        let over_cap = Waiting::OverCap { network: 2, cap: 1 };
        let waits = |waiting| SenderStatus { waiting: Some(waiting), ..Default::default() };
        let metrics_of = |sender| metrics("good", sender).judged(0);
        let waiting = metrics_of(waits(over_cap));
        assert_eq!((waiting.ok, named(&waiting)), (true, vec!["sender"]));
        let ether = metrics_of(waits(Waiting::Ether { needed: U256::from(2), free: U256::from(1) }));
        assert_eq!((ether.ok, named(&ether)), (false, vec!["sender"]));
        let (id, wallet) = ("initialize".to_owned(), Address::ZERO);
        let broke = OutOfGas { id, wallet, needed: U256::from(2), have: U256::from(1) };
        let broke = metrics_of(SenderStatus { out_of_gas: Some(broke), ..Default::default() });
        assert!(!broke.ok && broke.obstacles[0].words.contains("send ether to it"));
        let full = Metrics { disk_full: true, ..metrics("good", SenderStatus::default()) }.judged(0);
        assert_eq!((full.ok, named(&full)), (false, vec!["disk"]));
        let shown = serde_json::to_value(&broke).unwrap();
        assert!(shown["sender"]["outOfGas"].is_object() && shown["newestBlock"] == 90 && shown["blocksLeft"] == 10);
    }
}
