//! A pool's scheduler on its port, workers that dial it, and what people see of them over HTTP.

use crate::{
    machine::Machine,
    market::{Market, OWNER, Request},
    node::Node,
    shelf::Shelf,
};
use bourse_chain::keys::test_key;
use bourse_protocol::{
    Address,
    api::TaskView,
    deal::TaskStatus,
    ids::TaskId,
    ipfs::Multiaddr,
    link::{Capabilities, Frame, ToWorker},
    replicate::{CauseCode, Status},
    task::Stage,
};
use bourse_service::{CancellationToken, clock::Clock, journal::Journal, wire::Wire};
use bourse_worker::{Config, Error, Identity, NotLoggedIn, Service, Socket, WebSocket, wasm};
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};

/// A condition that does not come true within this time never does.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How often workers look at the chain.
const POLL: Duration = Duration::from_millis(50);

/// The statuses of a replicate, with the causes, as people see them.
pub(crate) type Life = Vec<(Status, Option<CauseCode>)>;

pub(crate) struct World {
    pub(crate) market: Market,
    pub(crate) shelf: Shelf,
    /// The node of the pool's scheduler.
    pub(crate) pool_node: Node,
    /// The address of the scheduler's port.
    place: String,
    http: reqwest::Client,
    folder: tempfile::TempDir,
    config: bourse_scheduler::Config,
    scheduler: JoinSet<()>,
    _roles: JoinSet<()>,
}

async fn begin(config: bourse_scheduler::Config, node: &Node, listener: TcpListener) -> JoinSet<()> {
    let opened = bourse_scheduler::Service::open(config, test_key(OWNER), node.hub()).await;
    let ((service, lane), mut scheduler) = (opened.unwrap(), JoinSet::new());
    scheduler.spawn(lane.run(CancellationToken::new()));
    scheduler.spawn(async move { service.run(listener, CancellationToken::new()).await.unwrap() });
    scheduler
}

impl World {
    /// A market and its scheduler, without workers.
    pub(crate) async fn open() -> Self {
        Self::with_clock(Clock::Wall).await
    }

    /// The same, with a scheduler whose clock the test may move.
    pub(crate) async fn with_clock(clock: Clock) -> Self {
        let (market, shelf, mut roles) = (Market::open().await, Shelf::default(), JoinSet::new());
        let store = shelf.serve(&mut roles).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let folder = tempfile::tempdir().unwrap();
        let pool_node = Node::new(market.chain.clone(), market.hub.address);
        let config = bourse_scheduler::Config {
            gateway_url: store.clone(),
            upload_url: store,
            clock,
            full_pass: Duration::from_secs(1),
            ..bourse_scheduler::Config::new(market.workerpool, folder.path().join("scheduler"))
        };
        let scheduler = begin(config.clone(), &pool_node, listener).await;
        let http = bourse_service::http::client(PATIENCE);
        Self { market, shelf, pool_node, place, http, folder, config, scheduler, _roles: roles }
    }

    /// Kills the scheduler and starts it again on what it has written.
    pub(crate) async fn restart_scheduler(&mut self) {
        self.restart_scheduler_on(|_| {}).await;
    }

    /// The same, on what becomes of its journal in between.
    pub(crate) async fn restart_scheduler_on(&mut self, change: impl FnOnce(&Journal)) {
        self.scheduler.shutdown().await;
        change(&Journal::open(&self.config.dir.join("scheduler.db"), bourse_scheduler::SCHEMA).unwrap());
        // A connection of another test may have got the port meanwhile; it lets go of it.
        let bind = async {
            loop {
                match TcpListener::bind(&self.place).await {
                    Ok(listener) => break listener,
                    Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => tokio::time::sleep(LOOK).await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let listener = tokio::time::timeout(PATIENCE, bind).await.unwrap();
        self.scheduler = begin(self.config.clone(), &self.pool_node, listener).await;
    }

    /// The same, on a new database.
    pub(crate) async fn restart_scheduler_without_memory(&mut self) {
        self.scheduler.shutdown().await;
        std::fs::remove_dir_all(&self.config.dir).unwrap();
        std::fs::create_dir(&self.config.dir).unwrap();
        self.restart_scheduler().await;
    }

    /// A worker with a played machine, logged in.
    pub(crate) async fn worker(&self, n: u32) -> Worker {
        self.worker_with_slots(n, 1).await
    }

    /// The same, that computes so many tasks at once.
    pub(crate) async fn worker_with_slots(&self, n: u32, slots: u32) -> Worker {
        let mut worker = self.hire(n, Computer::Played(Arc::new(Machine::new(self.shelf.clone()))));
        worker.config.slots = slots;
        worker.start().await;
        worker
    }

    /// A worker with the real sandbox, logged in.
    pub(crate) async fn sandbox(&self, n: u32) -> Worker {
        let mut worker = self.hire(n, Computer::Sandbox(wasm::Engine::new().unwrap()));
        worker.start().await;
        worker
    }

    /// What another process of this wallet hears that logs in and says that it holds these tasks.
    pub(crate) async fn log_in(&self, n: u32, holds: Vec<TaskId>) -> Result<Socket, NotLoggedIn> {
        let identity = Identity {
            chain_id: self.market.hub.client.chain_id().await.unwrap(),
            hub: self.market.hub.address,
            workerpool: self.market.workerpool,
            name: format!("another worker-{n}"),
            key: test_key(n),
            capabilities: Capabilities { cpus: 1, slots: 1, app_types: vec!["WASM".into()], ..Capabilities::default() },
        };
        let mut network = WebSocket::to(&format!("ws://{}", self.place)).unwrap();
        bourse_worker::log_in(&mut network, &identity, holds).await.map(|(socket, _)| socket)
    }

    fn hire(&self, n: u32, computer: Computer) -> Worker {
        let node = Node::new(self.market.chain.clone(), self.market.hub.address);
        let name = format!("worker-{n}");
        let dir = self.folder.path().join(&name);
        let config = Config {
            min_cpus: 1,
            poll: POLL,
            ..Config::new(name, format!("ws://{}", self.place), self.market.workerpool, dir)
        };
        let journal = Journal::in_memory(bourse_worker::SCHEMA).unwrap();
        Worker { n, node, computer, journal, config, running: JoinSet::new(), drain: CancellationToken::new() }
    }

    /// Buys a run of an app that no played machine looks at.
    pub(crate) async fn buy(&self, trust: u64) -> TaskId {
        let module = b"not looked at";
        let app = self.market.app(Multiaddr::Ipfs(self.shelf.put(module)), crate::market::sha256(module)).await;
        self.market.buy(Request { trust, ..Request::of(app) }).await
    }

    /// Lets the chain's time pass, and waits until the scheduler has seen it: what is bought then, it opens.
    pub(crate) async fn pass(&self, seconds: u64) {
        self.market.pass(seconds).await;
        let place = Multiaddr::Other("nowhere".into());
        let app = self.market.app_of("NOBODY RUNS IT", place, crate::market::sha256(b"x")).await;
        let task = self.market.buy(Request::of(app)).await;
        self.opened(task).await;
    }

    /// The task as `GET /tasks/{id}` shows it; `None` while the scheduler does not know it.
    pub(crate) async fn view(&self, task: TaskId) -> Option<TaskView> {
        let answer = self.http.get(format!("http://{}/tasks/{task}", self.place)).send().await.unwrap();
        match answer.status().as_u16() {
            404 => None,
            200 => Some(answer.json().await.unwrap()),
            other => panic!("GET /tasks/{task}: {other}"),
        }
    }

    /// The tasks as `GET /tasks` lists them.
    pub(crate) async fn list(&self) -> Vec<TaskView> {
        let answer = self.http.get(format!("http://{}/tasks", self.place)).send().await.unwrap();
        let mut body: serde_json::Value = answer.error_for_status().unwrap().json().await.unwrap();
        serde_json::from_value(body["tasks"].take()).unwrap()
    }

    /// Waits until the task stands there, with or without a cause; returns it as people see it.
    pub(crate) async fn stands(&self, task: TaskId, stage: Stage, cause: Option<CauseCode>) -> TaskView {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let view = self.view(task).await;
            let code = |view: &TaskView| view.cause.as_ref().map(|cause| cause.code);
            if let Some(view) = view.clone().filter(|view| view.current_status == stage && code(view) == cause) {
                return view;
            }
            assert!(Instant::now() < deadline, "waited for {stage} because of {cause:?}, and the task is {view:#?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the scheduler knows that the task is open on chain.
    pub(crate) async fn opened(&self, task: TaskId) {
        let deadline = Instant::now() + PATIENCE;
        while self.view(task).await.is_none_or(|view| view.chain_status != TaskStatus::Active) {
            assert!(Instant::now() < deadline, "{task} is not opened");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until `status` is the last of the worker's life in a task; returns its life up to there.
    pub(crate) async fn until(&self, task: TaskId, worker: &Worker, status: Status) -> Life {
        self.wait_for(task, worker, &format!("{status}"), |life| life.last().is_some_and(|last| last.0 == status)).await
    }

    /// Waits until `status` is part of the worker's life in a task; returns its life up to now.
    pub(crate) async fn after(&self, task: TaskId, worker: &Worker, status: Status) -> Life {
        let reached = |life: &Life| life.iter().any(|known| known.0 == status);
        self.wait_for(task, worker, &format!("past {status}"), reached).await
    }

    async fn wait_for(&self, task: TaskId, worker: &Worker, what: &str, good: impl Fn(&Life) -> bool) -> Life {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let life = self.life(task, worker.wallet()).await;
            if good(&life) {
                return life;
            }
            assert!(Instant::now() < deadline, "waited for {what}, and the life is {life:#?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn life(&self, task: TaskId, wallet: Address) -> Life {
        let view = self.view(task).await;
        let replicate = view.and_then(|view| view.replicates.into_iter().find(|r| r.wallet_address == wallet));
        let life = replicate.map(|r| r.status_update_list).unwrap_or_default();
        life.into_iter().map(|change| (change.status, change.cause.map(|cause| cause.code))).collect()
    }
}

/// The next message of a scheduler.
pub(crate) async fn heard(wire: &mut impl Wire) -> ToWorker {
    loop {
        let text = wire.receive().await.unwrap().unwrap();
        if let Some(message) = serde_json::from_str::<Frame<ToWorker>>(&text).unwrap().message {
            return message;
        }
    }
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// What a worker computes with.
#[derive(Clone)]
enum Computer {
    Played(Arc<Machine>),
    Sandbox(wasm::Engine),
}

/// A worker that can be killed.
pub(crate) struct Worker {
    n: u32,
    pub(crate) node: Node,
    computer: Computer,
    journal: Journal,
    config: Config,
    running: JoinSet<Result<(), Error>>,
    pub(crate) drain: CancellationToken,
}

impl Worker {
    pub(crate) fn wallet(&self) -> Address {
        test_key(self.n).address()
    }

    /// The played machine.
    pub(crate) fn machine(&self) -> &Machine {
        match &self.computer {
            Computer::Played(machine) => machine,
            Computer::Sandbox(_) => panic!("a sandbox is not played"),
        }
    }

    /// Begins a life, on the journal of the one before.
    pub(crate) async fn start(&mut self) {
        let (config, key, hub) = (self.config.clone(), test_key(self.n), self.node.hub());
        let service = match self.computer.clone() {
            Computer::Played(machine) => Service::over(config, key, hub, self.journal.clone(), machine).await,
            Computer::Sandbox(engine) => Service::open(config, key, hub, engine).await,
        };
        self.drain = CancellationToken::new();
        self.running.spawn(service.unwrap().run(self.drain.clone(), CancellationToken::new()));
    }

    /// Ends its life without time for a single instruction more.
    pub(crate) async fn kill(&mut self) {
        self.running.shutdown().await;
    }

    /// Waits until it has looked so many times more whether it can pay.
    pub(crate) async fn tries_to_pay(&self, times: u64) {
        let (before, deadline) = (self.node.tries(), Instant::now() + PATIENCE);
        while self.node.tries() < before + times {
            assert!(Instant::now() < deadline, "it does not try");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// It has forgotten everything.
    pub(crate) fn lose_disk(&mut self) {
        self.journal = Journal::in_memory(bourse_worker::SCHEMA).unwrap();
    }
}
