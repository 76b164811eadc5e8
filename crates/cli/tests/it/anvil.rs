//! The same on a node that is not ours: npm's anvil.

use crate::{
    network::{self, Network, address, rpc},
    process::{Ended, Home, PATIENCE, Process, ask, eventually},
};
use bourse_chain::{Client, Hub, PrivateKeySigner, alloy::sol, deploy, keys};
use bourse_protocol::{Address, U256, abi::IRlc, money::Nrlc};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

sol! {
    function totalSupply() external view returns (uint256);
}

/// What a role may keep, in wei: less than the fee of giving it back could have become.
const DUST: u64 = 1_000_000_000_000_000;
/// What the wallet has at the start, in wei.
const ETHER: u128 = 10 * 10u128.pow(18);

pub(crate) struct Anvil {
    _process: Process,
    pub(crate) url: String,
    pub(crate) client: Client,
    /// The wallet that pays for everything.
    pub(crate) key: PrivateKeySigner,
    key_file: String,
}

/// Where `tools/install` puts the pinned tools.
pub(crate) fn tool() -> PathBuf {
    let tools = std::env::var_os("BOURSE_TOOLS").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/bourse/tools");
    let path = tools.unwrap_or_else(home).join("bin/anvil");
    assert!(path.exists(), "{} is missing: run tools/install", path.display());
    path
}

impl Anvil {
    pub(crate) fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut command = Command::new(tool());
        command.args(["--port", "0", "--host", "127.0.0.1"]).args(arguments);
        let mut process = Process::spawn(command);
        let url = eventually("anvil should listen", || {
            assert!(process.is_running(), "anvil did not start");
            let said = process.stdout();
            said.split_once("Listening on ").and_then(|(_, rest)| Some(format!("http://{}", rest.lines().next()?)))
        });
        let key = PrivateKeySigner::random();
        let path = home.join("wallet");
        network::write_key(&path, &key);
        let anvil = Self {
            client: Client::connect(&url).unwrap(),
            _process: process,
            url,
            key,
            key_file: path.display().to_string(),
        };
        anvil.set_balance(ETHER);
        anvil
    }

    pub(crate) fn set_balance(&self, wei: u128) {
        rpc(&self.url, "anvil_setBalance", json!([self.key.address(), format!("{wei:#x}")]));
    }

    fn ether(&self, of: Address) -> U256 {
        ask(self.client.balance(of)).unwrap()
    }

    /// How many transactions the wallet has sent.
    pub(crate) fn sent(&self) -> u64 {
        ask(self.client.nonce(self.key.address())).unwrap()
    }

    pub(crate) fn node(&self) -> [&str; 4] {
        ["--rpc-url", &self.url, "--key-file", &self.key_file]
    }

    /// Everything that roles had is back where it came from.
    fn assert_swept(&self, dir: &Path, hub: Address) {
        let hub = Hub::new(self.client.clone(), hub);
        let rlc = ask(deploy::find(&self.client, hub.address)).unwrap().rlc;
        let balance = |of: Address| Nrlc(ask(self.client.call(rlc, &IRlc::balanceOfCall { account: of })).unwrap());
        let roles = role_keys(dir);
        assert_eq!(roles.len(), 5, "{roles:?}");
        for (path, role) in roles {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
            let ether = self.ether(role);
            assert!(ether < U256::from(DUST), "{} keeps {ether} wei", path.display());
            assert_eq!(balance(role), Nrlc::ZERO, "{}", path.display());
            let account = ask(hub.account(role)).unwrap();
            assert_eq!((account.stake, account.locked), (Nrlc::ZERO, Nrlc::ZERO), "{}", path.display());
        }
        // The author's earnings are its own deposit; all else is in its wallet.
        let supply = Nrlc(ask(self.client.call(rlc, &totalSupplyCall {})).unwrap());
        let earned = ask(hub.account(self.key.address())).unwrap().stake;
        assert_eq!(balance(self.key.address()).checked_add(earned).unwrap(), supply);
        let spent = U256::from(ETHER) - self.ether(self.key.address());
        assert!(spent < U256::from(ETHER / 10), "{spent} wei were spent on gas");
    }
}

fn role_keys(dir: &Path) -> Vec<(PathBuf, Address)> {
    let files = fs::read_dir(dir.join("keys")).unwrap().map(|e| e.unwrap().path());
    files.map(|path| (path.clone(), keys::read(&path).unwrap().address())).collect()
}

/// That the amounts were told before anything was done.
fn assert_told_first(ended: &str) {
    let told = ended.find("will give 5 wallets").unwrap_or_else(|| panic!("no amounts: {ended}"));
    let done = ended.find("contracts ").unwrap_or_else(|| panic!("no contracts: {ended}"));
    assert!(told < done && ended[told..done].contains("RLC in all"), "{ended}");
}

/// Runs a command on a terminal, where somebody types an answer; all its words are on stdout then.
fn answered(home: &Home, arguments: &[&str], answer: &str) -> Ended {
    let line = format!("{} {}", env!("CARGO_BIN_EXE_bourse"), arguments.join(" "));
    let mut command = Command::new("sh");
    command.args(["-c", "echo \"$0\" | script --quiet --return --command \"$1\" /dev/null", answer, &line]);
    command.current_dir(home.path()).env("XDG_DATA_HOME", home.path());
    Process::spawn(command).wait(PATIENCE)
}

fn hub_of(ended: &Ended) -> Address {
    ended.stderr.split_once("hub ").and_then(|(_, rest)| rest.lines().next()?.trim().parse().ok()).unwrap()
}

#[test]
fn a_demonstration_on_another_node_gives_back_what_is_left() {
    let home = Home::new();
    let anvil = Anvil::start(&home, &[]);
    let dir = home.join("d").display().to_string();
    let line = [&["demo", "--json", "--data-dir", &dir][..], &anvil.node()].concat();
    let ended = home.run(line).succeeded();
    assert_told_first(&ended.stderr);
    assert_eq!(ended.json()["ok"], true);
    anvil.assert_swept(&home.join("d"), hub_of(&ended));
}

#[test]
fn a_network_on_another_node_continues_and_can_be_joined() {
    let home = Home::new();
    let anvil = Anvil::start(&home, &[]);
    let first = Network::up(&home, "n", &anvil.node());
    assert_eq!(address(&first.file["keys"]["admin"]), anvil.key.address());
    assert!(first.file["wsUrl"].is_null());
    assert_told_first(&first.process.stderr());
    let run = home.run(first.run(10_000, &["--trust", "5", "--json", "--output", "one"])).succeeded().json();
    let (task, hub) = (run["task"].as_str().unwrap().to_owned(), first.hub.address);
    let left = anvil.ether(anvil.key.address());
    first.kill();

    // Nobody is funded twice.
    let second = Network::up(&home, "n", &anvil.node());
    assert_eq!(second.hub.address, hub);
    assert_eq!(anvil.ether(anvil.key.address()), left);
    home.run(second.command(&["task", "result", &task, "--output", "two"])).succeeded();
    assert_eq!(fs::read(home.join("one")).unwrap(), fs::read(home.join("two")).unwrap());
    second.stop().succeeded();
    anvil.assert_swept(&home.join("n"), hub);

    let address = hub.to_string();
    let third = Network::up(&home, "m", &[&anvil.node()[..], &["--hub", &address]].concat());
    assert_eq!(third.hub.address, hub);
    home.run(third.run(10_000, &["--trust", "5"])).succeeded();
    third.stop().succeeded();
    anvil.assert_swept(&home.join("m"), hub);
}

#[test]
fn on_a_chain_that_is_not_for_tests_nothing_is_spent_unasked() {
    let home = Home::new();
    let anvil = Anvil::start(&home, &["--chain-id", "1234"]);
    let dir = home.join("d").display().to_string();
    let line = [&["demo", "--json", "--paths", "10000", "--data-dir", &dir][..], &anvil.node()].concat();
    let ended = home.run(&line).failed(3, &["chain 1234 is not a test chain", "add --yes"]);
    assert!(ended.stderr.contains("On chain 1234"), "{ended:#?}");
    assert_eq!((anvil.sent(), anvil.ether(anvil.key.address())), (0, U256::from(ETHER)));
    let up = [&["up", "--port", "0", "--data-dir", &dir][..], &anvil.node()].concat();
    home.run(up).failed(3, &["add --yes"]);
    let asked = answered(&home, &line, "no");
    assert_eq!(asked.code, Some(3), "{asked:#?}");
    for words in ["will give 5 wallets", "Type yes", "not confirmed: nothing was sent"] {
        assert!(asked.stdout.contains(words), "{words:?} is not in {asked:#?}");
    }
    assert_eq!(anvil.sent(), 0);
    let ended = home.run([&line[..], &["--yes"]].concat()).succeeded();
    anvil.assert_swept(&home.join("d"), hub_of(&ended));
}

#[test]
fn ctrl_c_during_a_start_gives_back_what_the_roles_got() {
    let home = Home::new();
    // A block a second: the start takes some.
    let anvil = Anvil::start(&home, &["--block-time", "1"]);
    let dir = home.join("n").display().to_string();
    let line = [&["up", "--port", "0", "--data-dir", &dir][..], &anvil.node()].concat();
    let mut process = home.start(&line);
    process.says("contracts ");
    let hub = process.stderr().split_once("hub ").unwrap().1.lines().next().unwrap().trim().parse().unwrap();
    eventually("a role should have ether", || {
        role_keys(&home.join("n")).iter().any(|(_, role)| !anvil.ether(*role).is_zero()).then_some(())
    });
    process.interrupt();
    let ended = process.wait(PATIENCE).failed(130, &["stopped before the network was ready", "start again"]);
    assert!(ended.stderr.contains("taking back"), "{ended:#?}");
    anvil.assert_swept(&home.join("n"), hub);

    let network = Network::up(&home, "n", &anvil.node());
    assert_eq!(network.hub.address, hub);
    network.process.interrupt();
    network.process.wait(PATIENCE).succeeded();
    anvil.assert_swept(&home.join("n"), hub);
}

#[test]
fn who_funded_the_roles_before_a_crash_needs_no_more_for_the_next_start() {
    let home = Home::new();
    let anvil = Anvil::start(&home, &[]);
    let first = Network::up(&home, "n", &anvil.node());
    first.kill();
    // What is left in the wallet pays for gas, and no more.
    anvil.set_balance(10u128.pow(16));
    let second = Network::up(&home, "n", &anvil.node());
    second.stop().succeeded();
    assert!(anvil.ether(anvil.key.address()) > U256::from(10).pow(U256::from(17)), "the roles' ether came back");
}

#[test]
fn a_wallet_that_cannot_pay_sends_nothing() {
    let home = Home::new();
    let anvil = Anvil::start(&home, &[]);
    anvil.set_balance(1_000_000);
    let line = [&["demo", "--json"][..], &anvil.node()].concat();
    let wallet = anvil.key.address().to_string();
    home.run(&line).failed(3, &[&wallet, "ether", "are needed", "send ether to it"]);
    assert_eq!((anvil.sent(), anvil.ether(anvil.key.address())), (0, U256::from(1_000_000)));
}

#[test]
fn a_node_that_is_not_there_is_named() {
    let home = Home::new();
    network::write_key(&home.join("wallet"), &PrivateKeySigner::random());
    // Nobody listens on this port: it belongs to a service that is long gone.
    let url = "http://127.0.0.1:1";
    let ended = home.start(["demo", "--rpc-url", url, "--key-file", "wallet"]).wait(PATIENCE);
    ended.failed(1, &[url, "does not answer"]);
    let ended = home.run(["demo", "--rpc-url", url, "--key-file", "nothing"]);
    ended.failed(1, &["nothing", "key file"]);
}
