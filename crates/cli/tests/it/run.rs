//! `bourse run`.

use crate::{
    network::{Network, address, bought, give, send, write_key},
    process::{Home, PATIENCE, ask, eventually},
    up::LONG,
};
use bourse_chain::{
    PrivateKeySigner,
    keys::{sign_order, test_key},
};
use bourse_market::client::Client as Market;
use bourse_protocol::{
    U256,
    abi::{IHub, IRlc},
    api::Match,
    book::{Filter, Window},
    deal::TaskStatus,
    ids::TaskId,
    money::Nrlc,
    orders::{AppOrder, DatasetOrder, RequestOrder, WorkerpoolOrder},
    params::Params,
};
use serde_json::Value;
use std::fs;

#[test]
fn assets_are_named_or_addressed() {
    let home = Home::new();
    let network = Network::up(&home, "n", &[]);
    let named = home.run(network.run(10_000, &["--json", "--output", "named"])).succeeded().json();
    assert_eq!((&named["ok"], &named["price"]), (&true.into(), &"13000000000".into()), "{named:#}");

    let market = Market::new(&network.url("marketUrl"), 31337);
    let page = ask(market.orders::<AppOrder>(&Filter::default(), Window::default())).unwrap();
    let app = page.orders[0].order.app.to_string();
    let page = ask(market.orders::<DatasetOrder>(&Filter::default(), Window::default())).unwrap();
    let dataset = page.orders[0].order.dataset.to_string();
    let line = ["run", "--app", &app, "--dataset", &dataset, "--args", "--strike 450 --maturity 1 --paths 10000"];
    let ended = home.run(network.command(&line)).succeeded();
    let task = bought(&ended.stderr).unwrap();
    // Without --output the result is in the current folder, named after its task.
    assert_eq!(ended.stdout.trim(), format!("{task}.result"));
    for file in [home.join("named"), home.join(format!("{task}.result"))] {
        let result: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        assert_eq!(result["paths"], 10_000);
    }
    let (free, locked) = network.money(network.requester());
    assert_eq!((free, locked), (Nrlc::rlc(1000 - 26), Nrlc::ZERO));
}

#[test]
fn a_key_buys_once() {
    let home = Home::new();
    let network = Network::up(&home, "n", &[]);
    let first = home.run(network.run(10_000, &["--once", "monday", "--json"])).succeeded().json();
    let books = network.books();
    let again = home.run(network.run(10_000, &["--once", "monday"]));
    let task = first["task"].as_str().unwrap();
    again.failed(3, &["order already used", &format!("bourse task explain {task}"), "--once"]);
    assert_eq!(network.books(), books, "nothing was sent");
    home.run(network.run(10_000, &["--once", "tuesday"])).succeeded();
}

#[test]
fn another_key_pays() {
    let home = Home::new();
    let network = Network::up(&home, "n", &[]);
    let key = PrivateKeySigner::random();
    give(&network, key.address(), Nrlc::rlc(20));
    write_key(&home.join("key"), &key);
    let file = home.join("key").display().to_string();
    home.run(network.run(10_000, &["--key-file", &file])).succeeded();
    assert_eq!(network.money(key.address()), (Nrlc::ZERO, Nrlc::ZERO));
    assert_eq!(network.wallet(key.address()), Nrlc::rlc(7), "only the price was deposited");
    assert_eq!(network.money(network.requester()).0, Nrlc::rlc(1000));
}

#[test]
fn three_purchases_at_once_are_three_tasks() {
    let home = Home::new();
    let network = Network::up(&home, "n", &[]);
    let runs: Vec<_> = (0..3)
        .map(|n| home.start(network.run(10_000, &["--trust", "5", "--json", "--output", &format!("{n}.json")])))
        .collect();
    let mut tasks: Vec<_> =
        runs.into_iter().map(|r| r.wait(PATIENCE).succeeded().json()["task"].as_str().unwrap().to_owned()).collect();
    tasks.sort();
    tasks.dedup();
    assert_eq!(tasks.len(), 3);
    for task in tasks {
        assert_eq!(network.task(task.parse::<TaskId>().unwrap()).status, TaskStatus::Completed);
    }
    assert_eq!(network.money(network.requester()), (Nrlc::rlc(1000 - 39), Nrlc::ZERO));
    let worker = address(&network.file["keys"]["workers"][0]);
    assert_eq!(network.money(worker).0, Nrlc("109900000000".parse().unwrap()));
}

#[test]
fn a_pool_whose_order_is_used_up_is_offered_again() {
    let home = Home::new();
    let network = Network::up(&home, "n", &[]);
    let market = Market::new(&network.url("marketUrl"), 31337);
    let pools = || ask(market.orders::<WorkerpoolOrder>(&Filter::default(), Window::default())).unwrap().orders;
    let first = pools().remove(0);
    // One buyer takes all of it: a bag of as many tasks as the pool's deposit covers.
    let volume = first.order.volume;
    assert_eq!(volume, U256::from(333));
    let app = ask(market.orders::<AppOrder>(&Filter::default(), Window::default())).unwrap().orders.remove(0).order;
    let key = test_key(0);
    let request = RequestOrder {
        app: app.app,
        appmaxprice: app.appprice,
        workerpool: first.order.workerpool,
        workerpoolmaxprice: first.order.workerpoolprice,
        requester: key.address(),
        volume,
        trust: U256::from(1),
        params: Params { args: "--paths 100".into(), ..Default::default() }.write(),
        ..Default::default()
    };
    let request = sign_order(request, &key, &ask(network.hub.domain()).unwrap());
    let deposit = IRlc::approveAndCallCall {
        spender: network.hub.address,
        value: Nrlc::rlc(11 * 333).0,
        data: Default::default(),
    };
    send(&network, key.clone(), network.url("rlc").parse().unwrap(), &deposit);
    let orders = Match { app, dataset: DatasetOrder::default(), workerpool: first.order.clone(), request };
    let bag = IHub::matchOrdersCall::from(&orders);
    send(&network, key, network.hub.address, &bag);
    let next = eventually("the pool should be offered again", || {
        pools().into_iter().find(|order| order.order_hash != first.order_hash)
    });
    assert_eq!(next.order.workerpool, first.order.workerpool);
    home.run(network.run(10_000, &[])).succeeded();
}

#[test]
fn who_stops_waiting_can_fetch_the_result_later() {
    let home = Home::new();
    let network = Network::up(&home, "n", &[]);
    let mut run = home.start(network.run(LONG, &["--trust", "5"]));
    run.says("the app is running");
    let task = bought(&run.stderr()).unwrap();
    run.interrupt();
    let next = format!("bourse task result {task}");
    let ended = run.wait(PATIENCE).failed(130, &["the computation goes on", &next]);
    assert!(ended.after.as_secs() < 5, "{ended:#?}");
    let early = home.run(network.command(&["task", "result", &task.to_string()]));
    early.failed(3, &["no result yet", "bourse task explain"]);
    network.await_status(task, TaskStatus::Completed);
    let fetched = home.run(network.command(&["task", "result", &task.to_string(), "--output", "r", "--json"]));
    assert_eq!(fetched.succeeded().json()["task"], task.to_string());
    let result: Value = serde_json::from_slice(&fs::read(home.join("r")).unwrap()).unwrap();
    assert_eq!(result["paths"], LONG);
}
