//! The whole market as processes on npm's anvil, and everything that a node, a network and a machine can do to it.

use crate::{
    anvil::tool,
    crashes::Pool,
    network::{self, rpc, write_key},
    process::{Home, Process, ask, eventually},
};
use bourse_chain::{
    GasPolicy, Hub, PrivateKeySigner, Sender,
    alloy::primitives::{B256, keccak256},
    keys::sign_order,
};
use bourse_protocol::{
    Bytes, U256,
    abi::{IHub, IRlc},
    api::Match,
    deal::{Deal, TaskStatus},
    ids::{DealId, TaskId},
    money::Nrlc,
    orders::{AppOrder, DatasetOrder, Order, RequestOrder, WorkerpoolOrder},
};
use bourse_service::{CancellationToken, journal::Journal};
use serde_json::{Value, json};
use std::{
    net::{TcpListener, TcpStream},
    ops::RangeInclusive,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// The period T of the tasks, in seconds: contributions in 7 T, reveals in 2 T, everything over after 10 T.
const PERIOD: u64 = 20;
/// What a task costs, in RLC.
const PRICE: u64 = 1;

/// A node with a block every second, which can be stopped, killed and started again where it was.
struct Node {
    port: u16,
    state: PathBuf,
    process: Option<Process>,
    url: String,
}

impl Node {
    fn start(home: &Home) -> Self {
        // Free a moment ago; the node's address stays the same over its lives.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}");
        let mut node = Self { port, state: home.join("anvil.json"), process: None, url };
        node.again();
        node
    }

    fn again(&mut self) {
        let mut command = Command::new(tool());
        command.args(["--host", "127.0.0.1", "--block-time", "1", "--port", &self.port.to_string()]);
        command.arg("--state").arg(&self.state);
        let mut process = Process::spawn(command);
        eventually("anvil should listen", || {
            assert!(process.is_running(), "anvil did not start");
            process.stdout().contains("Listening on ").then_some(())
        });
        self.process = Some(process);
    }

    /// Writes its state and stops.
    fn stop(&mut self) {
        let process = self.process.take().unwrap();
        process.interrupt();
        process.wait(network::STOP);
    }

    /// Dies: what came after its last state is gone.
    fn kill(&mut self) {
        assert_eq!(self.process.take().unwrap().kill().code, None);
    }

    fn height(&self) -> u64 {
        quantity(&rpc(&self.url, "eth_blockNumber", json!([])))
    }

    /// What a block is, by a field of it.
    fn block(&self, number: &str, field: &str) -> Value {
        rpc(&self.url, "eth_getBlockByNumber", json!([number, false]))[field].clone()
    }

    fn listens(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }
}

/// Who buys: its sender is ours, and outlives the node's whims.
struct Buyer {
    hub: Hub,
    key: PrivateKeySigner,
    /// The owner of app and dataset.
    author: PrivateKeySigner,
    pool_owner: PrivateKeySigner,
    sender: Sender,
    template: Deal,
    category: U256,
    bought: Vec<TaskId>,
    /// Its sender's loop, and the purchases that are under way.
    jobs: JoinSet<()>,
}

impl Buyer {
    /// Buys a task, whatever the node does meanwhile.
    fn buy(&mut self, trust: u64) {
        let domain = ask(self.hub.domain()).unwrap_or_else(|_| unreachable!("the domain is known by now"));
        let (one, price, trust) = (U256::from(1), Nrlc::rlc(PRICE).0, U256::from(trust));
        let salt = B256::from(*PrivateKeySigner::random().to_bytes());
        let (app, dataset) = (self.template.app.pointer, self.template.dataset.as_ref().unwrap().pointer);
        let apporder = AppOrder { app, volume: one, salt, ..Default::default() };
        let apporder = sign_order(apporder, &self.author, &domain);
        let data = DatasetOrder { dataset, volume: one, salt, ..Default::default() };
        let data = sign_order(data, &self.author, &domain);
        let workerpool = self.template.workerpool.pointer;
        let (workerpoolprice, category) = (price, self.category);
        let pool =
            WorkerpoolOrder { workerpool, workerpoolprice, volume: one, category, trust, salt, ..Default::default() };
        let pool = sign_order(pool, &self.pool_owner, &domain);
        let wish = RequestOrder {
            app,
            dataset,
            workerpool,
            workerpoolmaxprice: price,
            requester: self.key.address(),
            volume: one,
            category,
            trust,
            params: self.template.params.clone(),
            salt,
            ..Default::default()
        };
        let wish = sign_order(wish, &self.key, &domain);
        let deal = DealId::of(wish.hash(&domain), U256::ZERO);
        self.bought.push(TaskId::of(deal, U256::ZERO));
        let call =
            IHub::matchOrdersCall::from(&Match { app: apporder, dataset: data, workerpool: pool, request: wish });
        let (sender, to) = (self.sender.clone(), self.hub.address);
        let jobs = &mut self.jobs;
        ask(async move {
            jobs.spawn(async move { drop(sender.send(&format!("match:{deal}"), to, &call).await.unwrap()) });
        });
    }
}

/// Buys something the usual way, to learn what to buy again; makes a category of its own; deposits.
fn buyer(home: &Home, pool: &Pool<'_>, author: &PrivateKeySigner) -> Buyer {
    let network = &pool.network;
    let run = home.run(network.run(1_000, &["--trust", "1", "--json"])).succeeded().json();
    let task: TaskId = run["task"].as_str().unwrap().parse().unwrap();
    let template = deal_of(&network.hub, task);
    let before = ask(network.hub.view(&IHub::countCategoryCall {})).unwrap();
    let call = IHub::createCategoryCall {
        name: "short".into(),
        description: "{}".into(),
        workClockTimeRef: U256::from(PERIOD),
    };
    network::send(network, author.clone(), network.hub.address, &call);
    let key = signer(&network.file["keys"]["requester"]);
    let journal = Journal::open(&home.join("buyer.db"), &[bourse_chain::sender::SCHEMA]).unwrap();
    let (client, rlc) = (network.hub.client.clone(), network.url("rlc").parse().unwrap());
    let opened = ask(Sender::open(client, key.clone(), journal, GasPolicy::default())).unwrap();
    let (sender, lane) = opened;
    let mut jobs = JoinSet::new();
    ask(async { jobs.spawn(lane.run(CancellationToken::new())) });
    let value = Nrlc::rlc(20 * PRICE).0;
    let call = IRlc::approveAndCallCall { spender: network.hub.address, value, data: Bytes::new() };
    ask(sender.send("deposit", rlc, &call)).unwrap();
    Buyer {
        hub: network.hub.clone(),
        key,
        author: author.clone(),
        pool_owner: signer(&network.file["keys"]["workerpoolOwner"]),
        sender,
        template,
        category: before,
        bought: vec![],
        jobs,
    }
}

fn signer(key: &serde_json::Value) -> PrivateKeySigner {
    key["privateKey"].as_str().unwrap().parse().unwrap()
}

/// The deal of a task that was initialised.
fn deal_of(hub: &Hub, task: TaskId) -> Deal {
    let call = IHub::viewTaskCall { taskid: task.0 };
    let deal = ask(hub.view(&call)).unwrap().dealid;
    ask(hub.deal(DealId(deal))).unwrap().unwrap()
}

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Act {
    Buy(u64),
    KillWorker(usize),
    StartWorker(usize),
    KillScheduler,
    StartScheduler,
    Reorg(u64),
    /// Transactions that wait in the node are forgotten, for so many seconds.
    Forget(u64),
    /// The base fee is over everybody's cap, for so many blocks.
    Dear(u64),
    StopNode,
    StartNode,
    /// Killed and started again at once.
    SetNodeBack,
}

/// What happens to the node, and what is bought, in which second.
const PLAY: [(u64, Act); 15] = [
    (0, Act::Buy(5)),
    (1, Act::Buy(1)),
    (8, Act::Reorg(2)),
    (11, Act::Buy(5)),
    (11, Act::Forget(4)),
    (17, Act::Buy(1)),
    (20, Act::Buy(5)),
    (22, Act::Dear(8)),
    (34, Act::Buy(5)),
    (37, Act::StopNode),
    (52, Act::StartNode),
    (54, Act::Buy(1)),
    (58, Act::Reorg(3)),
    (60, Act::Buy(5)),
    (63, Act::SetNodeBack),
];

/// Chance from a seed.
struct Chance {
    seed: u64,
    drawn: u64,
}

impl Chance {
    /// The seed is printed; the same one again is asked for with `BOURSE_SEED`.
    fn new() -> Self {
        let given = std::env::var("BOURSE_SEED").ok().map(|seed| seed.parse().expect("BOURSE_SEED is a number"));
        let seed = given.unwrap_or_else(|| u64::from(u32::from_be_bytes(rand_bytes())));
        eprintln!("BOURSE_SEED={seed}");
        Self { seed, drawn: 0 }
    }

    fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.drawn += 1;
        let hash = keccak256([self.seed.to_be_bytes(), self.drawn.to_be_bytes()].concat());
        let number = u64::from_be_bytes(hash[..8].try_into().unwrap());
        range.start() + number % (range.end() - range.start() + 1)
    }
}

fn rand_bytes() -> [u8; 4] {
    PrivateKeySigner::random().to_bytes()[..4].try_into().unwrap()
}

/// The play with the kills that chance adds: each worker once, the scheduler twice. A scheduler that comes back while its
/// node is away does not listen yet, so those of the scheduler lie before and after that.
fn play(chance: &mut Chance) -> Vec<(u64, Act)> {
    let mut play = Vec::from(PLAY);
    for worker in 0..3 {
        let killed = chance.within(2..=66);
        play.push((killed, Act::KillWorker(worker)));
        play.push((killed + chance.within(1..=8), Act::StartWorker(worker)));
    }
    for when in [3..=30, 53..=66] {
        let killed = chance.within(when);
        play.push((killed, Act::KillScheduler));
        play.push((killed + chance.within(1..=4), Act::StartScheduler));
    }
    play.sort_by_key(|(second, _)| *second);
    play
}

fn quantity(hex: &Value) -> u64 {
    u64::from_str_radix(hex.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

/// Does it, and looks whether it was done: a fault that misses would prove nothing.
fn act(pool: &mut Pool<'_>, node: &mut Node, buyer: &mut Buyer, act: &Act) {
    match *act {
        Act::Buy(trust) => buyer.buy(trust),
        Act::KillWorker(n) => assert_eq!(pool.workers[n].take().unwrap().kill().code, None),
        Act::StartWorker(n) => pool.start_worker(n),
        Act::KillScheduler => assert_eq!(pool.scheduler.take().unwrap().kill().code, None),
        Act::StartScheduler => pool.start_scheduler(),
        Act::Reorg(depth) => {
            let newest = format!("{:#x}", node.height());
            let before = node.block(&newest, "hash");
            rpc(&node.url, "anvil_reorg", json!([depth, []]));
            assert_ne!(node.block(&newest, "hash"), before, "block {newest} is what it was");
        }
        Act::Forget(seconds) => {
            let (until, mut forgotten) = (Instant::now() + Duration::from_secs(seconds), 0);
            while Instant::now() < until {
                forgotten += quantity(&rpc(&node.url, "txpool_status", json!([]))["pending"]);
                rpc(&node.url, "anvil_dropAllTransactions", json!([]));
                std::thread::sleep(Duration::from_millis(200));
            }
            assert!(forgotten > 0, "no transaction waited");
        }
        Act::Dear(blocks) => {
            let mut dear = 0;
            for _ in 0..blocks {
                rpc(&node.url, "anvil_setNextBlockBaseFeePerGas", json!(["0x174876e800"]));
                std::thread::sleep(Duration::from_secs(1));
                let fee = quantity(&node.block("latest", "baseFeePerGas"));
                dear += u64::from(u128::from(fee) > GasPolicy::default().cap);
            }
            assert!(dear * 2 > blocks, "only {dear} of {blocks} blocks were dear");
            rpc(&node.url, "anvil_setNextBlockBaseFeePerGas", json!(["0x3b9aca00"]));
        }
        Act::StopNode => {
            node.stop();
            assert!(!node.listens());
        }
        Act::StartNode => node.again(),
        Act::SetNodeBack => {
            let before = node.height();
            node.kill();
            node.again();
            let after = node.height();
            assert!(after < before, "it died at block {before} and came back at {after}");
        }
    }
}

/// No fault lasts longer than its window, so none may be left to its refund.
#[test]
fn every_order_is_paid_whatever_the_node_and_the_machines_do() {
    let home = Home::new();
    let mut node = Node::start(&home);
    let author = PrivateKeySigner::random();
    write_key(&home.join("wallet"), &author);
    rpc(&node.url, "anvil_setBalance", json!([author.address(), "0x8ac7230489e80000"]));
    let wallet = home.join("wallet").display().to_string();
    let mut chance = Chance::new();
    let depth = chance.within(0..=1);
    eprintln!("depth {depth}");
    let mut pool = Pool::open_on(&home, &["--rpc-url", &node.url, "--key-file", &wallet], depth);
    (0..3).for_each(|n| pool.start_worker(n));
    pool.await_workers(3);
    let mut buyer = buyer(&home, &pool, &author);

    let began = Instant::now();
    for (second, what) in &play(&mut chance) {
        eprintln!("second {second}: {what:?}");
        std::thread::sleep(Duration::from_secs(*second).saturating_sub(began.elapsed()));
        act(&mut pool, &mut node, &mut buyer, what);
    }
    let over = Duration::from_secs(12 * PERIOD);
    for task in buyer.bought.clone() {
        let mut seen = None;
        let ended = until(over, || {
            let state = ask(buyer.hub.task(task)).ok()?;
            seen = Some(state.status);
            matches!(state.status, TaskStatus::Completed | TaskStatus::Failed).then_some(state.status)
        });
        let story = pool.network.view(&pool.url, task);
        assert_eq!(ended, Some(TaskStatus::Completed), "{task} is {seen:?}: {story:#?}");
    }
    assert_eq!(buyer.bought.len(), 8);
    for account in pool.network.workers().into_iter().chain([buyer.key.address(), buyer.pool_owner.address()]) {
        assert_eq!(pool.network.money(account).1, Nrlc::ZERO, "{account} has something locked");
    }
    drop(buyer);
    pool.stop();
}

/// Looks until there is something, or the time is over.
fn until<T>(time: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    while began.elapsed() < time {
        if let Some(found) = look() {
            return Some(found);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    None
}
