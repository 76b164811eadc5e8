//! What people and programs may ask the scheduler. Source: sdk.md §7.

mod patience;

use crate::link::{self, Door};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use bourse_chain::{NodeStatus, SenderStatus};
use bourse_protocol::{api::TaskView, ids::TaskId, link::PATH};
use bourse_service::http::refuse;
use patience::Patience;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tower_http::cors::CorsLayer;

/// A question to the loop, which owns the state.
pub(crate) enum Query {
    Task(TaskId, oneshot::Sender<Option<TaskView>>),
    /// The body of the answer, unless the store cannot be read.
    Tasks(oneshot::Sender<Option<Bytes>>),
    /// The body of the answer.
    Workers(oneshot::Sender<Bytes>),
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

/// The way to the loop.
#[derive(Clone)]
struct Queries(mpsc::Sender<Query>);

impl Queries {
    /// Asks the loop, or says why it does not answer.
    async fn ask<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Result<T, Response> {
        let (reply, answer) = oneshot::channel();
        self.0.send(query(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

pub(crate) fn router(door: Door, queries: mpsc::Sender<Query>) -> Router {
    let workers = Router::new().route(PATH, get(link::upgrade)).with_state(door);
    workers.merge(people(queries)).fallback(unknown)
}

fn people(queries: mpsc::Sender<Query>) -> Router {
    Router::new()
        .route("/tasks", get(tasks))
        .route("/tasks/{id}", get(task))
        .route("/workers", get(list_workers))
        .route("/metrics", get(metrics))
        .route_layer(middleware::from_fn_with_state(Arc::new(Patience::new()), patience::answer))
        .route("/version", get(version))
        .layer(CorsLayer::new().allow_origin(tower_http::cors::Any))
        .with_state(Queries(queries))
}

async fn version() -> Response {
    Json(json!({ "ok": true, "version": env!("CARGO_PKG_VERSION") })).into_response()
}

async fn task(State(queries): State<Queries>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<TaskId>() else {
        return refuse(StatusCode::BAD_REQUEST, "bad_task_id", "a task id is 0x and 64 hex digits");
    };
    match queries.ask(|reply| Query::Task(id, reply)).await {
        Ok(Some(view)) => Json(view).into_response(),
        Ok(None) => refuse(
            StatusCode::NOT_FOUND,
            "unknown_task",
            format!("this pool knows no task {id}: check the id, or ask the pool of its deal"),
        ),
        Err(refusal) => refusal,
    }
}

async fn tasks(State(queries): State<Queries>) -> Result<Response, Response> {
    let unreadable =
        "what the pool remembers of its tasks cannot be read: try again, and see what the scheduler says of it";
    Ok(match queries.ask(Query::Tasks).await? {
        Some(body) => whole(body),
        None => refuse(StatusCode::INTERNAL_SERVER_ERROR, "unreadable", unreadable),
    })
}

async fn list_workers(State(queries): State<Queries>) -> Result<Response, Response> {
    Ok(whole(queries.ask(Query::Workers).await?))
}

/// An answer that was written before.
fn whole(json: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

async fn metrics(State(queries): State<Queries>) -> Result<Response, Response> {
    Ok(Json(queries.ask(Query::Metrics).await?).into_response())
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
    use axum::extract::ConnectInfo;
    use bourse_chain::{OutOfGas, Waiting};
    use bourse_protocol::{Address, U256};
    use std::net::IpAddr;
    use tower::ServiceExt;

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

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_questions_does_not_reach_the_loop() {
        let (queries, mut questions) = mpsc::channel(16);
        let mut running = tokio::task::JoinSet::new();
        running.spawn(async move {
            let mut heard = 0;
            while let Some(query) = questions.recv().await {
                heard += 1;
                match query {
                    Query::Task(_, reply) => drop(reply.send(None)),
                    Query::Tasks(reply) => drop(reply.send(Some(Bytes::from_static(b"{}")))),
                    Query::Workers(_) | Query::Metrics(_) => unreachable!("not asked"),
                }
            }
            heard
        });
        let app = people(queries);
        let ask_from = async |address: [u8; 4], path: &str| {
            let mut request = axum::http::Request::get(path).body(axum::body::Body::empty()).unwrap();
            request.extensions_mut().insert(ConnectInfo(IpAddr::from(address)));
            app.clone().oneshot(request).await.unwrap()
        };
        let ask = async |path: &str| ask_from([10, 0, 0, 1], path).await;
        let one = format!("/tasks/{}", TaskId::default());
        let mut refused = 0;
        for n in 0..1_000 {
            let answer = ask(if n % 2 == 0 { "/tasks" } else { &one }).await;
            if answer.status() == StatusCode::TOO_MANY_REQUESTS {
                assert_eq!(answer.headers()[header::RETRY_AFTER], "1");
                refused += 1;
            }
        }
        assert!(refused > 400, "{refused}");
        assert_eq!(ask("/version").await.status(), StatusCode::OK, "it costs the loop nothing");
        assert_eq!(ask_from([10, 0, 0, 2], "/tasks").await.status(), StatusCode::OK, "nobody else is refused");
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(ask("/tasks").await.status(), StatusCode::OK);
        drop(app);
        assert_eq!(running.join_next().await.unwrap().unwrap(), 1_002 - refused);
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
