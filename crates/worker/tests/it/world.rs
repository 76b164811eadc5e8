//! A market, a store, a scheduler and a worker that can be killed.

use crate::{
    market::{Market, Request, WORKER},
    pool::Pool,
    store::Store,
};
use bourse_chain::keys::test_key;
use bourse_protocol::{
    deal::{ContributionStatus, ResultLink},
    ids::TaskId,
    link::{Assignment, ToWorker},
    replicate::Status,
};
use bourse_service::{CancellationToken, journal};
use bourse_worker::{Config, Error, Service, wasm};
use std::{path::PathBuf, time::Duration};
use tokio::task::JoinSet;

pub(crate) struct World {
    pub(crate) market: Market,
    pub(crate) store: Store,
    pub(crate) pool: Pool,
    pub(crate) config: Config,
    folder: tempfile::TempDir,
    engine: wasm::Engine,
    worker: JoinSet<Result<(), Error>>,
    stop: CancellationToken,
    pub(crate) drain: CancellationToken,
}

impl World {
    /// Everything but the worker.
    pub(crate) async fn open() -> Self {
        let (market, store) = (Market::open().await, Store::open().await);
        let pool = Pool::open(31_337, market.hub.address, market.workerpool, &store.url).await;
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            poll: Duration::from_millis(50),
            ..Config::new("test", pool.url.clone(), market.workerpool, folder.path().join("worker"))
        };
        let engine = wasm::Engine::new().unwrap();
        let (worker, stop, drain) = (JoinSet::new(), CancellationToken::new(), CancellationToken::new());
        Self { market, store, pool, config, folder, engine, worker, stop, drain }
    }

    /// The same, with a worker that is logged in.
    pub(crate) async fn with_worker() -> Self {
        let mut world = Self::open().await;
        world.start().await;
        world
    }

    pub(crate) async fn service(&self) -> Result<Service, Error> {
        Service::open(self.config.clone(), test_key(WORKER), self.market.hub.clone(), self.engine.clone()).await
    }

    pub(crate) async fn start(&mut self) {
        let service = loop {
            match self.service().await {
                // What was killed a moment ago has not let go of its folder yet.
                Err(Error::Journal(journal::Error::InUse { .. })) => tokio::task::yield_now().await,
                other => break other.unwrap(),
            }
        };
        self.run(service).await;
    }

    /// Runs a worker until it is logged in.
    pub(crate) async fn run(&mut self, service: Service) {
        (self.stop, self.drain) = (CancellationToken::new(), CancellationToken::new());
        self.worker.spawn(service.run(self.drain.clone(), self.stop.clone()));
        assert_eq!(self.pool.logged_in().await, test_key(WORKER).address());
    }

    /// Ends the worker without giving it time for a single instruction more.
    pub(crate) async fn kill(&mut self) {
        self.worker.shutdown().await;
    }

    /// Asks the worker to stop, and returns how it ended.
    pub(crate) async fn stop(&mut self) -> Result<(), Error> {
        self.stop.cancel();
        self.worker.join_next().await.unwrap().unwrap()
    }

    /// Waits until the worker ends by itself.
    pub(crate) async fn ended(&mut self) -> Result<(), Error> {
        self.worker.join_next().await.unwrap().unwrap()
    }

    /// Ends the scheduler; another one, which the worker does not know, takes its place for the test.
    pub(crate) async fn lose_scheduler(&mut self) {
        let (hub, workerpool) = (self.market.hub.address, self.market.workerpool);
        let stranger = Pool::open(31_337, hub, workerpool, &self.store.url).await;
        std::mem::replace(&mut self.pool, stranger).hang_up();
    }

    /// Buys a run of `module` and gives it to the worker.
    pub(crate) async fn assign(&self, module: &[u8]) -> Assignment {
        let app = self.market.app(&self.store, module).await;
        self.assign_request(Request::of(app)).await
    }

    pub(crate) async fn assign_request(&self, request: Request) -> Assignment {
        let assignment = self.market.buy(request).await;
        self.pool.send(&ToWorker::Assign(assignment.clone()));
        assignment
    }

    /// From the reveal to the payment. Returns where the result lies.
    pub(crate) async fn finish(&mut self, task: TaskId) -> ResultLink {
        let link = self.upload(task).await;
        self.market.finalize(task, &link).await;
        self.pool.send(&ToWorker::Complete { task });
        self.pool.until(task, Status::Completed).await;
        link
    }

    /// The worker stores its result. Returns where.
    pub(crate) async fn upload(&mut self, task: TaskId) -> ResultLink {
        self.pool.send(&ToWorker::Upload { task });
        self.pool.uploaded(task).await
    }

    /// The worker's contribution on chain.
    pub(crate) async fn contribution(&self, task: TaskId) -> ContributionStatus {
        self.market.hub.contribution(task, test_key(WORKER).address()).await.unwrap().status
    }

    pub(crate) fn task_folder(&self, task: TaskId) -> PathBuf {
        self.config.dir.join("tasks").join(task.to_string())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A module that writes files into `/iexec_out` and ends with `code`.
pub(crate) fn app(files: &[(&str, &str)], code: i32) -> Vec<u8> {
    let (mut data, mut body, mut at) = (String::new(), String::new(), 64);
    for (name, content) in files {
        let (path, text) = (at, at + name.len());
        data.push_str(&format!("(data (i32.const {path}) {name:?})\n(data (i32.const {text}) {content:?})\n"));
        body.push_str(&format!(
            "(call $file (i32.const {path}) (i32.const {}) (i32.const {text}) (i32.const {}))\n",
            name.len(),
            content.len()
        ));
        at = text + content.len();
    }
    module(&data, &format!("{body} (call $exit (i32.const {code}))"))
}

/// A module that answers with `content` as its result.
pub(crate) fn answering(content: &str) -> Vec<u8> {
    app(&[("result.json", content), ("computed.json", r#"{"deterministic-output-path":"/iexec_out/result.json"}"#)], 0)
}

/// A module that runs until it is stopped.
pub(crate) fn endless() -> Vec<u8> {
    module("", "(loop (br 0))")
}

/// A module that is busy for some seconds, then answers.
pub(crate) fn slow(content: &str, rounds: u64) -> Vec<u8> {
    let computed = r#"{"deterministic-output-path":"/iexec_out/r"}"#;
    let data = format!(
        "(data (i32.const 64) \"r\") (data (i32.const 80) {content:?}) (data (i32.const 200) \"computed.json\") (data (i32.const 300) {computed:?})"
    );
    let body = format!(
        "(local $n i64) (loop (local.set $n (i64.add (local.get $n) (i64.const 1)))
            (br_if 0 (i64.lt_u (local.get $n) (i64.const {rounds}))))
        (call $file (i32.const 64) (i32.const 1) (i32.const 80) (i32.const {}))
        (call $file (i32.const 200) (i32.const 13) (i32.const 300) (i32.const {}))",
        content.len(),
        computed.len()
    );
    module(&data, &body)
}

pub(crate) fn module(data: &str, body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_open"
            (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 16)
        {data}
        ;; Writes a file below /iexec_out, which is descriptor 4.
        (func $file (param $path i32) (param $path_length i32) (param $text i32) (param $text_length i32)
            (if (call $path_open (i32.const 4) (i32.const 0) (local.get $path) (local.get $path_length)
                (i32.const 1) (i64.const 66) (i64.const 66) (i32.const 0) (i32.const 0)) (then unreachable))
            (i32.store (i32.const 8) (local.get $text))
            (i32.store (i32.const 12) (local.get $text_length))
            (if (call $fd_write (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i32.const 16)) (then unreachable)))
        (func (export "_start") {body})
    )"#
    );
    wat::parse_str(text).unwrap()
}
