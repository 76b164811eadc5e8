//! `bourse up`: ready when it says so, stops cleanly, continues.

use crate::{
    network::{self, Network, bought, get, rpc},
    process::{Home, ask, eventually},
};
use bourse_chain::{
    alloy::primitives::address,
    keys::{private_hex, test_key},
};
use bourse_market::client::Client as Market;
use bourse_protocol::{
    book::{Filter, Window},
    deal::TaskStatus,
    money::Nrlc,
    orders::{AppOrder, DatasetOrder, Order, WorkerpoolOrder},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt};

/// So many paths take three workers on two cores some seconds.
pub(crate) const LONG: u64 = 30_000_000;

#[test]
fn network_json_appears_when_everything_answers() {
    let home = Home::new();
    let network = Network::up(&home, "n", &[]);
    // At once, without another look at the clock.
    let url = |name| network.url(name);
    assert_eq!(rpc(&url("rpcUrl"), "eth_chainId", json!([])), "0x7a69");
    assert!(get(&format!("{}/version", url("marketUrl"))).is_some());
    assert!(get(&format!("{}/version", url("schedulerUrl"))).is_some());
    let module =
        bourse_protocol::ipfs::Cid::of(include_bytes!("../../../../examples/option-pricing/option-pricing.wasm"));
    let stored = ask(async {
        let http = bourse_service::http::client(std::time::Duration::from_secs(5));
        http.get(format!("{}/ipfs/{module}", url("ipfsGatewayUrl"))).send().await.unwrap().status()
    });
    assert_eq!(stored.as_u16(), 200);
    let socket = url("wsUrl").strip_prefix("ws://").unwrap().to_owned();
    assert!(std::net::TcpStream::connect(socket).is_ok());
    let workers = get(&format!("{}/workers", url("schedulerUrl"))).unwrap();
    let connected = workers["workers"].as_array().unwrap().iter().filter(|w| w["connected"] == true).count();
    assert_eq!(connected, 3, "{workers:#}");

    let mode = fs::metadata(network.dir.join("network.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn network_json_has_the_promised_form() {
    let home = Home::new();
    let network = Network::up(&home, "n", &[]);
    let file = network.file.as_object().unwrap();
    let names: BTreeSet<_> = file.keys().map(String::as_str).collect();
    let expected = [
        "chainId",
        "rpcUrl",
        "wsUrl",
        "hub",
        "rlc",
        "workerpool",
        "marketUrl",
        "smsUrl",
        "ipfsGatewayUrl",
        "ipfsNodeUrl",
        "compassUrl",
        "schedulerUrl",
        "dashboardUrl",
        "keys",
    ];
    assert_eq!(names, expected.into_iter().collect());
    assert_eq!(file["chainId"], 31337);
    for none in ["smsUrl", "compassUrl", "dashboardUrl"] {
        assert!(file[none].is_null(), "{none}");
    }
    let key = |n: u32| json!({ "address": test_key(n).address().to_string(), "privateKey": private_hex(&test_key(n)) });
    let expected = json!({
        "admin": key(0), "workerpoolOwner": key(1), "requester": key(2), "workers": [key(3), key(4), key(5)],
    });
    assert_eq!(lower(&file["keys"]), lower(&expected));
    let keys = &file["keys"];
    let mut roles = vec![&keys["admin"], &keys["workerpoolOwner"], &keys["requester"]];
    roles.extend(keys["workers"].as_array().unwrap());
    for role in roles {
        let who = network::address(role);
        let ether = ask(network.hub.client.balance(who)).unwrap();
        assert!(ether > bourse_protocol::U256::from(10).pow(bourse_protocol::U256::from(18)), "{role} has {ether} wei");
        let (deposit, _) = network.money(who);
        assert!(role == &keys["admin"] || deposit >= Nrlc::rlc(50), "{role} has {deposit} RLC");
    }
}

/// Addresses may be written with or without their checksum.
fn lower(value: &Value) -> Value {
    serde_json::from_str(&value.to_string().to_lowercase()).unwrap()
}

#[test]
fn a_network_continues_where_it_was_stopped() {
    let home = Home::new();
    let first = Network::up(&home, "n", &[]);
    let run = home.run(first.run(10_000, &["--trust", "5", "--json", "--output", "one.json"])).succeeded().json();
    let task = run["task"].as_str().unwrap().to_owned();
    let (hub, head, orders) = (first.file["hub"].clone(), first.head(), orders(&first));
    assert_eq!(orders.len(), 3, "one app, one dataset, one workerpool order");
    let books = first.books();
    let ended = first.stop().succeeded();
    assert!(ended.stderr.contains("stopped"), "{ended:#?}");
    assert!(!home.join("n/network.json").exists(), "network.json says that a network runs");
    home.run(network::on(&home.join("n"), &["task", "list"])).failed(3, &["no network runs", "bourse up"]);

    let second = Network::up(&home, "n", &[]);
    assert_eq!(second.file["hub"], hub);
    assert_eq!(second.head(), head, "a start on what is there sends nothing");
    assert_eq!(second.books(), books);
    assert_eq!(self::orders(&second), orders);
    let list = home.run(second.command(&["task", "list", "--json"])).succeeded().json();
    assert_eq!(list[0]["chainTaskId"], task.as_str(), "{list:#}");
    assert_eq!(list[0]["currentStatus"], "COMPLETED", "{list:#}");
    home.run(second.command(&["task", "result", &task, "--output", "two.json"])).succeeded();
    assert_eq!(fs::read(home.join("one.json")).unwrap(), fs::read(home.join("two.json")).unwrap());
    home.run(second.run(10_000, &["--trust", "5"])).succeeded();
    second.stop().succeeded();
}

/// Hashes of all open orders.
fn orders(network: &Network) -> BTreeSet<String> {
    fn of<O: Order>(market: &Market) -> Vec<String> {
        let page = ask(market.orders::<O>(&Filter::default(), Window::default())).unwrap();
        page.orders.iter().map(|o| o.order_hash.to_string()).collect()
    }
    let market = Market::new(&network.url("marketUrl"), 31337);
    [of::<AppOrder>(&market), of::<DatasetOrder>(&market), of::<WorkerpoolOrder>(&market)]
        .concat()
        .into_iter()
        .collect()
}

#[test]
fn ctrl_c_while_starting_ends_it_and_the_next_start_goes_on() {
    let home = Home::new();
    let mut process = home.start(network::up(&home.join("n"), &[]));
    process.says("embedded, at");
    process.interrupt();
    let ended = process.wait(network::STOP).failed(130, &["stopped before the network was ready", "start again"]);
    assert_eq!(
        ended.stderr.lines().filter(|l| !l.starts_with("  ")).count(),
        2,
        "only the start and the end: {ended:#?}"
    );
    assert!(!home.join("n/network.json").exists());
    let network = Network::up(&home, "n", &[]);
    home.run(network.run(10_000, &["--trust", "5"])).succeeded();
}

#[test]
fn a_network_stopped_in_the_middle_of_a_task_finishes_it_at_the_next_start() {
    let home = Home::new();
    let first = Network::up(&home, "n", &[]);
    let mut run = home.start(first.run(LONG, &["--trust", "5"]));
    run.says("the app is running");
    let task = bought(&run.stderr()).unwrap();
    let ended = first.stop().succeeded();
    assert!(ended.after.as_secs() < 5, "nobody waits for the computation: {ended:#?}");
    drop(run);
    let second = Network::up(&home, "n", &[]);
    second.await_status(task, TaskStatus::Completed);
    home.run(second.command(&["task", "result", &task.to_string(), "--output", "r.json"])).succeeded();
}

#[test]
fn a_task_survives_kill_9_of_everything() {
    let home = Home::new();
    let first = Network::up(&home, "n", &[]);
    let mut run = home.start(first.run(LONG, &["--trust", "5"]));
    run.says("the app is running");
    let task = bought(&run.stderr()).unwrap();
    first.kill();
    let stale = home.join("n/network.json");
    assert!(stale.exists(), "nobody was there to remove it");
    run.says("does not answer");
    run.says("waiting for it: Ctrl-C");
    drop(run);
    let next = format!("bourse up --data-dir {}", home.join("n").display());
    for line in [&["task", "list"][..], &["task", "result", &task.to_string()], &["run", "--app", "x"]] {
        home.run(network::on(&home.join("n"), line)).failed(3, &["is not running", "does not answer", &next]);
    }
    let second = Network::up(&home, "n", &[]);
    second.await_status(task, TaskStatus::Completed);
    home.run(second.command(&["task", "result", &task.to_string(), "--output", "r.json"])).succeeded();
    let result: Value = serde_json::from_slice(&fs::read(home.join("r.json")).unwrap()).unwrap();
    assert_eq!(result["paths"], LONG);
    let (workers, one) = (second.workers(), Nrlc("3300000000".parse().unwrap()));
    for worker in workers {
        let paid = Nrlc::rlc(100).checked_add(one).unwrap();
        assert_eq!(second.money(worker), (paid, Nrlc::ZERO), "{worker}");
    }
}

#[test]
fn a_start_after_the_deadlines_claims_the_refunds_and_says_so() {
    let home = Home::new();
    let first = Network::up(&home, "n", &[]);
    let mut run = home.start(first.run(1_000_000_000, &["--trust", "5"]));
    run.says("the app is running");
    let task = bought(&run.stderr()).unwrap();
    first.kill();
    drop(run);

    let mut chain = home.start(network::on(&home.join("n"), &["chain", "run", "--test-methods", "--port", "0"]));
    chain.says("answers at ");
    let said = chain.stderr();
    let url = said.split_whitespace().find(|w| w.starts_with("http://")).unwrap();
    rpc(url, "evm_increaseTime", json!([4000]));
    rpc(url, "evm_mine", json!([]));
    chain.interrupt();
    chain.wait(network::STOP).succeeded();

    let mut second = Network::up(&home, "n", &[]);
    second.await_status(task, TaskStatus::Failed);
    second.process.says(&format!("task {task} ran out of time: its refund was claimed"));
    assert_eq!(second.money(second.requester()), (Nrlc::rlc(1000), Nrlc::ZERO), "the price came back");
    for worker in second.workers() {
        assert_eq!(second.money(worker), (Nrlc::rlc(100), Nrlc::ZERO), "nobody contributed");
    }
    // What the pool staked goes to the kitty: poco.md, claim.
    let kitty = address!("99c2268479b93fDe36232351229815DF80837e23");
    assert_eq!(second.money(network::address(&second.file["keys"]["workerpoolOwner"])).0, Nrlc::rlc(997));
    assert_eq!(second.money(kitty).1, Nrlc::rlc(3));
    let ended = home.run(second.command(&["task", "result", &task.to_string()]));
    ended.failed(4, &["has no result", "refunded"]);
    let list = eventually("the scheduler should know", || {
        let list = home.run(second.command(&["task", "list", "--json"])).succeeded().json();
        (list[0]["currentStatus"] == "FAILED").then_some(list)
    });
    assert_eq!(list[0]["chainTaskId"], task.to_string());

    let explain = |more: &[&str]| {
        let command = ["task", "explain", &task.to_string()];
        home.run(second.command(&[&command[..], more].concat())).succeeded()
    };
    let (view, told) = (explain(&["--json"]).json(), explain(&[]).stdout);
    assert_eq!(view["cause"]["code"], "CONTRIBUTION_TIMEOUT", "{view:#}");
    let said = |value: &Value| value.as_str().unwrap().to_owned();
    let status = format!("status  FAILED: {}", said(&view["meaning"]));
    let (why, next) = (said(&view["cause"]["evidence"]), said(&view["outlook"]["next"]));
    for line in [status, format!("why     {why}"), format!("next    {next}")] {
        assert!(told.contains(&line), "{line} is missing in {told}");
    }
    let history = view["dateStatusList"].as_array().unwrap().iter().map(|change| said(&change["status"]));
    let mut rest = told.split("  history").nth(1).unwrap().lines();
    for status in history {
        assert!(rest.any(|line| line.contains(&status)), "{status} is missing in the history of {told}");
    }
}
