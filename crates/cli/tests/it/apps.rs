//! Apps and datasets of one's own, good and bad. What goes wrong alike everywhere is a result: the workers agree on it,
//! are paid for their work, and the requester learns at once what is wrong.

use crate::{
    network::{Network, bought},
    process::Home,
};
use bourse_protocol::{Address, deal::TaskStatus, money::Nrlc};
use std::fs;

/// Enough for the example with few paths; an endless loop burns it in a fraction of a second.
const FUEL: &str = "1000000000";

/// Publishes a module under a name; returns the address.
fn publish(home: &Home, network: &Network, name: &str, module: &str) -> Address {
    fs::write(home.join(name), wat::parse_str(module).unwrap()).unwrap();
    let file = home.join(name).display().to_string();
    let line = ["app", "publish", "--name", name, "--module", &file, "--price", "0.5"];
    home.run(network.command(&line)).succeeded().stdout.trim().parse().unwrap()
}

/// Buys a run that fails alike on all workers.
fn fails(home: &Home, network: &Network, run: &[&str], price: Nrlc, words: &[&str]) {
    let before: Vec<_> = network.workers().iter().map(|w| network.money(*w).0).collect();
    let money = network.money(network.requester()).0;
    let ended = home.run(network.command(run)).failed(4, &[&["all workers agree"], words].concat());
    let task = bought(&ended.stderr).unwrap();
    assert_eq!(network.task(task).status, TaskStatus::Completed);
    assert_eq!(network.money(network.requester()), (money.saturating_sub(price), Nrlc::ZERO));
    let reward = Nrlc("3300000000".parse().unwrap());
    for (worker, before) in network.workers().into_iter().zip(before) {
        assert_eq!(network.money(worker), (before.checked_add(reward).unwrap(), Nrlc::ZERO));
    }
    home.run(network.command(&["task", "result", &task.to_string()])).failed(4, words);
}

#[test]
fn an_app_that_fails_everywhere_fails_at_once_and_with_the_reason() {
    let home = Home::new();
    let network = Network::up(&home, "n", &["--fuel", FUEL]);
    let price = Nrlc("10500000000".parse().unwrap());
    let memory = "(memory (export \"memory\") 1)";
    let trap = format!("(module {memory} (func (export \"_start\") unreachable))");
    let endless = format!("(module {memory} (func (export \"_start\") (loop $again (br $again))))");
    let silent = format!("(module {memory} (func (export \"_start\")))");
    for (name, module, words) in [
        ("trap", trap, ["trapped", "unreachable"]),
        ("endless", endless, ["used up its 1000000000 units of fuel", "fuel"]),
        ("silent", silent, ["computed.json", "/iexec_out"]),
    ] {
        publish(&home, &network, name, &module);
        fails(&home, &network, &["run", "--app", name, "--trust", "5"], price, &words);
    }
    fs::write(home.join("text"), "not a module").unwrap();
    let file = home.join("text").display().to_string();
    home.run(network.command(&["app", "publish", "--name", "text", "--module", &file, "--price", "0.5"])).succeeded();
    fails(&home, &network, &["run", "--app", "text", "--trust", "5"], price, &["not a WASI preview 1 command"]);
    home.run(network.run(1_000, &["--trust", "5"])).succeeded();
}

#[test]
fn a_dataset_with_another_checksum_is_refused_by_all_workers() {
    let home = Home::new();
    let network = Network::up(&home, "n", &[]);
    fs::write(home.join("prices"), "date,close\n").unwrap();
    let (file, wrong) = (home.join("prices").display().to_string(), format!("0x{}", "11".repeat(32)));
    let line = ["dataset", "publish", "--name", "prices", "--file", &file, "--checksum", &wrong, "--json"];
    let published = home.run(network.command(&line)).succeeded().json();
    assert_eq!((&published["checksum"], &published["name"]), (&wrong.into(), &"prices".into()));
    let run = ["run", "--app", "option-pricing", "--dataset", "prices", "--trust", "5"];
    fails(&home, &network, &run, Nrlc::rlc(11), &["checksum", &"11".repeat(32)]);
}

#[test]
fn publishing_twice_is_publishing_once() {
    let home = Home::new();
    let network = Network::up(&home, "n", &[]);
    let module = "(module (memory (export \"memory\") 1) (func (export \"_start\")))";
    let app = publish(&home, &network, "mine", module);
    let books = network.books();
    assert_eq!(publish(&home, &network, "mine", module), app);
    assert_eq!(network.books(), books, "nothing was sent");
    let ended = home.run(network.command(&["app", "publish", "--name", "x", "--module", "/nowhere/x.wasm"]));
    ended.failed(1, &["cannot read /nowhere/x.wasm"]);
}
