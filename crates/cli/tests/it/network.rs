//! A network that `bourse up` runs, and what a client sees of it.

use crate::process::{Ended, Home, Process, ask, eventually};
use bourse_chain::{Client, GasPolicy, Hub, PrivateKeySigner, Receipt, SendError, Sender, alloy::sol_types::SolCall};
use bourse_protocol::{
    Address, U256,
    abi::IRlc,
    deal::{ChainTask, ContributionStatus, TaskStatus},
    ids::TaskId,
    money::Nrlc,
};
use bourse_service::{CancellationToken, journal::Journal};
use serde_json::{Value, json};
use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// A stop that takes longer is not clean, on a machine that is busy with other things.
pub(crate) const STOP: Duration = Duration::from_secs(30);

/// A network that answers.
pub(crate) struct Network {
    pub(crate) process: Process,
    /// `network.json`.
    pub(crate) file: Value,
    pub(crate) hub: Hub,
    pub(crate) dir: PathBuf,
}

impl Network {
    /// `bourse up` on a folder below `home`, on free ports, with more arguments; returns when it is ready.
    pub(crate) fn up(home: &Home, dir: &str, arguments: &[&str]) -> Self {
        let dir = home.join(dir);
        // Who was killed could not remove it.
        let stale = written(&dir);
        let mut process = home.start(up(&dir, arguments));
        let file = appearance(&mut process, &dir, stale);
        Self { hub: hub(&file), process, file, dir }
    }

    /// Ctrl-C, and the end.
    pub(crate) fn stop(self) -> Ended {
        self.process.interrupt();
        self.process.wait(STOP)
    }

    pub(crate) fn kill(self) -> Ended {
        self.process.kill()
    }

    pub(crate) fn url(&self, name: &str) -> String {
        self.file[name].as_str().unwrap_or_else(|| panic!("network.json has no {name}: {}", self.file)).to_owned()
    }

    pub(crate) fn requester(&self) -> Address {
        address(&self.file["keys"]["requester"])
    }

    pub(crate) fn workers(&self) -> Vec<Address> {
        self.file["keys"]["workers"].as_array().unwrap().iter().map(address).collect()
    }

    /// Free and locked RLC in the hub.
    pub(crate) fn money(&self, of: Address) -> (Nrlc, Nrlc) {
        let account = ask(self.hub.account(of)).unwrap();
        (account.stake, account.locked)
    }

    pub(crate) fn wallet(&self, of: Address) -> Nrlc {
        let rlc: Address = self.url("rlc").parse().unwrap();
        Nrlc(ask(self.hub.client.call(rlc, &IRlc::balanceOfCall { account: of })).unwrap())
    }

    pub(crate) fn score(&self, of: Address) -> U256 {
        ask(self.hub.score(of)).unwrap()
    }

    pub(crate) fn head(&self) -> u64 {
        ask(self.hub.client.head()).unwrap().number
    }

    /// Everything that a refused command must leave as it was.
    pub(crate) fn books(&self) -> Books {
        let keys = &self.file["keys"];
        let mut who = vec![address(&keys["admin"]), address(&keys["workerpoolOwner"]), self.requester()];
        who.extend(self.workers());
        let line = |a: &Address| (*a, self.money(*a), self.wallet(*a));
        Books { head: self.head(), accounts: who.iter().map(line).collect() }
    }

    pub(crate) fn task(&self, id: TaskId) -> ChainTask {
        ask(self.hub.task(id)).unwrap()
    }

    pub(crate) fn await_status(&self, id: TaskId, status: TaskStatus) -> ChainTask {
        eventually(&format!("task {id} should be {status:?}"), || Some(self.task(id)).filter(|t| t.status == status))
    }

    /// How many workers have contributed.
    pub(crate) fn contributions(&self, id: TaskId) -> usize {
        let contributed = |w: &Address| ask(self.hub.contribution(id, *w)).unwrap().status != ContributionStatus::Unset;
        self.workers().iter().filter(|w| contributed(w)).count()
    }

    /// How a task looks to its scheduler.
    pub(crate) fn view(&self, scheduler: &str, id: TaskId) -> Option<Value> {
        get(&format!("{scheduler}/tasks/{id}"))
    }

    /// Arguments of `bourse run` on this network for the example, with so many paths; more may follow.
    pub(crate) fn run(&self, paths: u64, more: &[&str]) -> Vec<OsString> {
        let line = format!("--strike 450 --maturity 1 --paths {paths}");
        let mut all = self.command(&["run", "--app", "option-pricing", "--dataset", "aapl-daily-2000-2013", "--args"]);
        all.push(line.into());
        all.extend(more.iter().map(OsString::from));
        all
    }

    /// Arguments of any command on this network.
    pub(crate) fn command(&self, arguments: &[&str]) -> Vec<OsString> {
        on(&self.dir, arguments)
    }

    /// A file with a key, as `--key-file` wants it.
    pub(crate) fn key_file(&self, home: &Home, key: &Value, name: &str) -> PathBuf {
        let path = home.join(name);
        fs::write(&path, key["privateKey"].as_str().unwrap()).unwrap();
        path
    }
}

/// What stands on chain about money.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Books {
    head: u64,
    accounts: Vec<(Address, (Nrlc, Nrlc), Nrlc)>,
}

/// Arguments of `bourse up` on free ports.
pub(crate) fn up(dir: &Path, arguments: &[&str]) -> Vec<OsString> {
    let mut all = on(dir, &["up"]);
    if !arguments.contains(&"--port") {
        all.extend(["--port", "0"].map(OsString::from));
    }
    all.extend(arguments.iter().map(OsString::from));
    all
}

/// Arguments with `--data-dir`.
pub(crate) fn on(dir: &Path, arguments: &[&str]) -> Vec<OsString> {
    // The option stands before what a test may add behind.
    let words = arguments.iter().take_while(|a| !a.starts_with("--")).count();
    let mut all: Vec<OsString> = arguments[..words].iter().map(OsString::from).collect();
    all.extend([OsStr::new("--data-dir"), dir.as_os_str()].map(OsString::from));
    all.extend(arguments[words..].iter().map(OsString::from));
    all
}

/// When a folder's `network.json` was written, if there is one.
fn written(dir: &Path) -> Option<SystemTime> {
    fs::metadata(dir.join("network.json")).ok()?.modified().ok()
}

/// Waits for a `network.json` that is not the stale one.
fn appearance(process: &mut Process, dir: &Path, stale: Option<SystemTime>) -> Value {
    let path = dir.join("network.json");
    eventually(&format!("{} should appear", path.display()), || {
        assert!(process.is_running(), "the network did not start");
        written(dir).filter(|at| Some(*at) != stale)?;
        serde_json::from_slice(&fs::read(&path).ok()?).ok()
    })
}

pub(crate) fn hub(file: &Value) -> Hub {
    let client = Client::connect(file["rpcUrl"].as_str().unwrap()).unwrap();
    Hub::new(client, file["hub"].as_str().unwrap().parse().unwrap())
}

pub(crate) fn address(key: &Value) -> Address {
    key["address"].as_str().unwrap().parse().unwrap()
}

/// A key in a file for `--key-file`.
pub(crate) fn write_key(path: &Path, key: &PrivateKeySigner) {
    fs::write(path, bourse_chain::keys::private_hex(key)).unwrap();
}

/// The task of a `bourse run --json`, or of the line in which a purchase is told.
pub(crate) fn bought(stderr: &str) -> Option<TaskId> {
    let line = stderr.lines().find_map(|l| l.strip_prefix("bought task "))?;
    line.split(' ').next()?.parse().ok()
}

/// One call of JSON-RPC; a refusal fails the test.
pub(crate) fn rpc(url: &str, method: &str, params: Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let answer: Value = ask(async {
        let http = bourse_service::http::client(Duration::from_secs(30));
        http.post(url).json(&body).send().await.unwrap().json().await.unwrap()
    });
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    answer["result"].clone()
}

/// A JSON document, if somebody answers with one.
pub(crate) fn get(url: &str) -> Option<Value> {
    ask(async {
        let http = bourse_service::http::client(Duration::from_secs(30));
        http.get(url).send().await.ok()?.error_for_status().ok()?.json().await.ok()
    })
}

/// A transaction of a key on a network, mined.
pub(crate) fn send<C: SolCall>(network: &Network, key: PrivateKeySigner, to: Address, call: &C) {
    transact(network, key, |sender| async move { sender.send("test", to, call).await });
}

/// Gives an account one ether, and RLC into its wallet, from the admin.
pub(crate) fn give(network: &Network, to: Address, rlc: Nrlc) {
    let admin = || bourse_chain::keys::test_key(0);
    let ether = U256::from(10).pow(U256::from(18));
    transact(network, admin(), |sender| async move { sender.pay("test", to, ether).await });
    if rlc != Nrlc::ZERO {
        let call = IRlc::transferCall { to, value: rlc.0 };
        send(network, admin(), network.url("rlc").parse().unwrap(), &call);
    }
}

fn transact<F>(network: &Network, key: PrivateKeySigner, act: impl FnOnce(Sender) -> F)
where
    F: Future<Output = Result<Receipt, SendError>>,
{
    let journal = Journal::in_memory(&[bourse_chain::sender::SCHEMA]).unwrap();
    ask(async {
        let client = network.hub.client.clone();
        let (sender, lane) = Sender::open(client, key, journal, GasPolicy::default()).await.unwrap();
        tokio::select! {
            sent = act(sender) => sent.unwrap(),
            () = lane.as_guest().run(CancellationToken::new()) => unreachable!("nobody stops it"),
        }
    });
}
