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
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metrics {
    /// Nothing is known that keeps the pool from working.
    pub(crate) ok: bool,
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
    /// How the nodes of the chain do.
    pub(crate) nodes: Vec<NodeStatus>,
    /// What the pool owner's sender is doing.
    pub(crate) sender: SenderStatus,
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
