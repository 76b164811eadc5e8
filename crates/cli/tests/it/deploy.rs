//! `bourse chain deploy`: the contracts on any node, once.

use crate::{
    anvil::Anvil,
    network::{self, Network, rpc, write_key},
    process::{Home, PATIENCE, Process, ask},
};
use bourse_chain::{Client, Hub, deploy, keys::test_key};
use bourse_protocol::{U256, abi::IHub, reward::Penalty};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Steps of a whole deployment: eight contracts, three registries, the hub, five categories.
const STEPS: u64 = 17;

/// `bourse chain run` on a folder of its own.
struct Chain {
    process: Process,
    url: String,
    client: Client,
}

impl Chain {
    fn start(home: &Home, dir: &str, arguments: &[&str]) -> Self {
        let line = [&["chain", "run", "--port", "0"][..], arguments].concat();
        let in_memory = arguments.contains(&"--memory");
        let mut process = match in_memory {
            true => home.start(line),
            false => home.start(network::on(&home.join(dir), &line)),
        };
        process.says("answers at ");
        let said = process.stderr();
        let url = said.split_whitespace().find(|w| w.starts_with("http://")).unwrap().to_owned();
        Self { process, client: Client::connect(&url).unwrap(), url }
    }

    fn sent(&self) -> u64 {
        ask(self.client.nonce(test_key(0).address())).unwrap()
    }
}

/// Arguments of a deployment that the first test account pays.
fn line(home: &Home, url: &str, dir: &str, more: &[&str]) -> Vec<std::ffi::OsString> {
    write_key(&home.join("key"), &test_key(0));
    let key = home.join("key").display().to_string();
    let all = [&["chain", "deploy", "--rpc-url", url, "--key-file", &key][..], more].concat();
    network::on(&home.join(dir), &all)
}

/// That a hub is whole.
fn assert_whole(client: &Client, report: &Value) {
    let hub = Hub::new(client.clone(), report["hub"].as_str().unwrap().parse().unwrap());
    let found = ask(deploy::find(client, hub.address)).unwrap();
    for (name, address) in [
        ("rlc", found.rlc),
        ("appRegistry", found.app_registry),
        ("datasetRegistry", found.dataset_registry),
        ("workerpoolRegistry", found.workerpool_registry),
    ] {
        assert_eq!(lower(&report[name]), address.to_string().to_lowercase(), "{name}");
    }
    assert_eq!(ask(hub.view(&IHub::countCategoryCall {})).unwrap(), U256::from(5));
    assert_eq!(ask(hub.period(U256::ZERO)).unwrap(), 300);
}

fn remembered(home: &Home, dir: &str) -> Value {
    serde_json::from_slice(&fs::read(home.join(dir).join("deployment.json")).unwrap()).unwrap()
}

#[test]
fn the_contracts_come_to_a_chain_once() {
    let home = Home::new();
    let chain = Chain::start(&home, "c", &[]);
    let first = home.run(line(&home, &chain.url, "d", &["--json"])).succeeded();
    assert!(first.stderr.contains("for up to") && first.stderr.contains("deployed"), "{first:#?}");
    let report = first.json();
    assert_eq!((&report["deployed"], &report["chainId"]), (&true.into(), &31337.into()), "{report:#}");
    assert_eq!((&report["penalty"], &report["ownerDelay"]), (&"fifty".into(), &604_800.into()), "{report:#}");
    assert_whole(&chain.client, &report);
    assert_eq!(remembered(&home, "d")["deployment"]["hub"].as_str().unwrap().to_lowercase(), lower(&report["hub"]));
    assert_eq!(chain.sent(), STEPS);

    let again = home.run(line(&home, &chain.url, "d", &["--json"])).succeeded();
    assert!(again.stderr.contains("found") && again.stderr.contains("nothing was sent"), "{again:#?}");
    let found = again.json();
    assert_eq!(found["deployed"], false);
    assert_eq!((&found["hub"], chain.sent()), (&report["hub"], STEPS));
    let words = home.run(line(&home, &chain.url, "d", &[])).succeeded();
    for name in ["hub", "RLC", "app registry", "dataset registry", "workerpool registry", "0x"] {
        assert!(words.stdout.contains(name), "{words:#?}");
    }

    // What is there is used by everything else.
    let key = home.join("key").display().to_string();
    let network = Network::up(&home, "d", &["--rpc-url", &chain.url, "--key-file", &key]);
    assert_eq!(lower(&network.file["hub"]), lower(&report["hub"]));
    let categories = network::get(&format!("{}/categories?chainId=31337", network.url("marketUrl"))).unwrap();
    assert_eq!(categories["count"], 5, "the market has read everything since the first block: {categories:#}");
    home.run(network.run(10_000, &["--trust", "5"])).succeeded();
    network.stop().succeeded();
    chain.process.interrupt();
}

fn lower(text: &Value) -> String {
    text.as_str().unwrap().to_lowercase()
}

#[test]
fn the_options_are_those_of_the_contracts() {
    let home = Home::new();
    let chain = Chain::start(&home, "c", &["--memory"]);
    let report = home.run(line(&home, &chain.url, "d", &["--json", "--penalty", "third", "--delay", "0"])).succeeded();
    let report = report.json();
    assert_eq!((&report["penalty"], &report["ownerDelay"]), (&"third".into(), &0.into()), "{report:#}");
    let options = ask(deploy::options(&chain.client, report["hub"].as_str().unwrap().parse().unwrap())).unwrap();
    assert_eq!(options, deploy::Options { penalty: Penalty::Third, owner_delay: 0 });
    home.run(line(&home, &chain.url, "d", &["--penalty", "third"])).succeeded();
    let words = ["penalty third", "delay of 0 s", "cannot be changed", "another --data-dir"];
    home.run(line(&home, &chain.url, "d", &["--delay", "60"])).failed(3, &words);
    home.run(line(&home, &chain.url, "d", &["--penalty", "fifty"])).failed(3, &words);
    home.run(line(&home, &chain.url, "d", &["--penalty", "none"])).unreadable();
}

#[test]
fn an_interrupted_deployment_goes_on() {
    let home = Home::new();
    // A block a second: the deployment takes some.
    let chain = Chain::start(&home, "c", &["--block-time", "1"]);
    let mut first = home.start(line(&home, &chain.url, "d", &["--json"]));
    first.says("dataset registry");
    assert_eq!(first.kill().code, None);
    assert!(!home.join("d/deployment.json").exists());
    let mut second = home.start(line(&home, &chain.url, "d", &["--json"]));
    second.says("hub extension");
    second.interrupt();
    second.wait(network::STOP).failed(130, &["stopped in the middle", "the same command goes on"]);
    assert!(!home.join("d/deployment.json").exists());
    let report = home.run(line(&home, &chain.url, "d", &["--json"])).succeeded().json();
    assert_eq!(report["deployed"], true);
    assert_whole(&chain.client, &report);
    assert_eq!(chain.sent(), STEPS, "nothing was sent twice");
}

#[test]
fn a_deployment_is_not_taken_for_that_of_a_chain_that_is_gone() {
    let home = Home::new();
    let chain = Chain::start(&home, "c", &["--memory"]);
    home.run(line(&home, &chain.url, "d", &[])).succeeded();
    chain.process.kill();
    let other = Chain::start(&home, "c", &["--memory"]);
    let words = ["d/deployment.json", "does not have", "another --data-dir"];
    home.run(line(&home, &other.url, "d", &[])).failed(1, &words);
    fs::remove_file(home.join("d/deployment.json")).unwrap();
    home.run(line(&home, &other.url, "d", &[])).failed(1, &["setup.db", "first block", "another --data-dir"]);
    assert_eq!(other.sent(), 0);
}

#[test]
fn on_another_node_it_is_asked_for_first() {
    let home = Home::new();
    let anvil = Anvil::start(&home, &["--chain-id", "1234"]);
    let dir = home.join("d").display().to_string();
    let line = [&["chain", "deploy", "--json", "--data-dir", &dir][..], &anvil.node()].concat();
    let ended = home.run(&line).failed(3, &["chain 1234 is not a test chain", "add --yes"]);
    assert!(ended.stderr.contains("On chain 1234") && ended.stderr.contains("ether of gas"), "{ended:#?}");
    assert!(!Path::new(&dir).join("deployment.json").exists());
    assert_eq!(anvil.sent(), 0);
    let report = home.run([&line[..], &["--yes"]].concat()).succeeded().json();
    assert_whole(&anvil.client, &report);
    assert_eq!(anvil.sent(), STEPS);
    // Nothing is spent on what is there, so nobody is asked.
    assert_eq!(home.run(&line).succeeded().json()["deployed"], false);
    assert_eq!(anvil.sent(), STEPS);

    anvil.set_balance(1_000_000);
    let dir = home.join("d2").display().to_string();
    let line = [&["chain", "deploy", "--yes", "--data-dir", &dir][..], &anvil.node()].concat();
    home.run(&line).failed(3, &[&anvil.key.address().to_string(), "are needed", "send ether to it"]);
    assert_eq!(anvil.sent(), STEPS);
}

#[test]
fn a_deployment_on_anvil_survives_kill_9() {
    let home = Home::new();
    let anvil = Anvil::start(&home, &["--block-time", "1"]);
    let dir = home.join("d").display().to_string();
    let line = [&["chain", "deploy", "--json", "--data-dir", &dir][..], &anvil.node()].concat();
    for step in ["app registry", "hub views"] {
        let mut process = home.start(&line);
        process.says(step);
        process.kill();
    }
    let report = home.start(&line).wait(PATIENCE).succeeded().json();
    assert_whole(&anvil.client, &report);
    assert_eq!(anvil.sent(), STEPS);
    assert_eq!(rpc(&anvil.url, "eth_chainId", json!([])), "0x7a69");
}
