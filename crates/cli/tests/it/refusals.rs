//! What cannot be done is refused in words that help, and leaves everything as it was.

use crate::{
    network::{self, Network, give, send, write_key},
    process::{Home, ask},
};
use bourse_chain::{PrivateKeySigner, keys::test_key};
use bourse_devchain as devchain;
use bourse_protocol::{Address, U256, abi::IRlc, money::Nrlc};
use std::{fs, net::TcpListener, path::Path};

/// Runs a command that must be refused, and looks whether anything moved.
fn refused(home: &Home, network: &Network, arguments: &[&str], code: i32, words: &[&str]) {
    let books = network.books();
    home.run(network.command(arguments)).failed(code, words);
    assert_eq!(network.books(), books, "{arguments:?} changed something");
}

#[test]
fn a_purchase_that_cannot_be_made_costs_nothing() {
    let home = Home::new();
    let network = Network::up(&home, "n", &[]);
    let nobody = Address::repeat_byte(0x77).to_string();
    let args = "--strike 450 --maturity 1 --paths 10000";
    let example = ["run", "--app", "option-pricing", "--dataset", "aapl-daily-2000-2013", "--args", args];
    let example = |more: &[&'static str]| [&example[..], more].concat();

    refused(&home, &network, &["run", "--app", &nobody], 3, &["unknown app", &nobody, "check the address"]);
    refused(&home, &network, &["run", "--app", "chess"], 3, &["unknown app", "chess", "check the name"]);
    let dataset = ["run", "--app", "option-pricing", "--dataset", "moby-dick"];
    refused(&home, &network, &dataset, 3, &["unknown dataset", "moby-dick", "check the name"]);
    refused(
        &home,
        &network,
        &example(&["--max-price", "12.5"]),
        3,
        &["price too low", "costs 13 RLC", "--max-price is 12.5 RLC", "raise it"],
    );
    refused(&home, &network, &example(&["--trust", "1000"]), 3, &["trust 1000 needs", "start", "--trust"]);
    refused(&home, &network, &example(&["--category", "4"]), 3, &["category 4", "another category"]);
    refused(&home, &network, &["task", "result", &format!("0x{}", "1".repeat(64))], 3, &["no result", "task explain"]);
    refused(&home, &network, &["task", "claim", &format!("0x{}", "1".repeat(64))], 3, &["not started", "check the id"]);
    home.run(network.run(10_000, &["--trust", "5"])).succeeded();
}

#[test]
fn a_stake_that_is_too_low_is_refused_before_anything_is_sent() {
    let home = Home::new();
    let network = Network::up(&home, "n", &[]);
    let key = PrivateKeySigner::random();
    write_key(&home.join("key"), &key);
    let file = home.join("key").display().to_string();
    let wallet = key.address().to_string();

    // A requester that can pay for gas, and for almost all of the price.
    give(&network, key.address(), Nrlc::rlc(12));
    let books = network.books();
    home.run(network.run(10_000, &["--key-file", &file]))
        .failed(3, &["stake too low", &wallet, "12 RLC", "13 RLC", "send RLC to it"]);
    assert_eq!(network.books(), books);
    assert_eq!(network.wallet(key.address()), Nrlc::rlc(12), "nothing was deposited");

    // A worker without a deposit.
    let dir = network.dir.display().to_string();
    let worker = ["worker", "--network", &dir, "--key-file", &file];
    let ended = home.run(network::on(&home.join("worker"), &worker));
    ended.failed(1, &["worker", &wallet, "no deposit", "deposit RLC first"]);
    assert_eq!(network.books(), books);
    home.run(network.run(10_000, &["--trust", "5"])).succeeded();
}

#[test]
fn who_has_no_ether_is_told_how_much_is_needed() {
    let home = Home::new();
    let network = Network::up(&home, "n", &[]);
    let poor = PrivateKeySigner::random();
    let rlc: Address = network.url("rlc").parse().unwrap();
    send(&network, test_key(0), rlc, &IRlc::transferCall { to: poor.address(), value: Nrlc::rlc(20).0 });
    write_key(&home.join("key"), &poor);
    let file = home.join("key").display().to_string();
    let books = network.books();
    let ended = home.run(network.run(10_000, &["--key-file", &file]));
    ended.failed(1, &[&poor.address().to_string(), "0 wei", "for gas", "send ether to it"]);
    assert_eq!(network.books(), books);
    assert_eq!(network.wallet(poor.address()), Nrlc::rlc(20));
}

#[test]
fn a_busy_port_is_named_and_nothing_is_lost() {
    let home = Home::new();
    let network = Network::up(&home, "n", &[]);
    home.run(network.run(10_000, &[])).succeeded();
    let (head, dir) = (network.head(), network.dir.clone());
    network.stop().succeeded();
    for offset in 0..4u16 {
        let (base, taken) = four_ports(offset);
        let port = taken.local_addr().unwrap().port().to_string();
        let ended = home.run(network::up(&dir, &["--port", &base.to_string()]));
        ended.failed(1, &[&format!("127.0.0.1:{port}"), "in use", "another port"]);
        assert!(!dir.join("network.json").exists());
    }
    let again = Network::up(&home, "n", &[]);
    assert_eq!(again.head(), head);
}

/// The first of four ports that are free but for the one at `taken`, which is held. They lie below those that systems
/// hand out for port 0: no other test gets one of them meanwhile.
fn four_ports(taken: u16) -> (u16, TcpListener) {
    let listen = |port: u16| TcpListener::bind(("127.0.0.1", port)).ok();
    let spread = u16::try_from(std::process::id() % 2_000).unwrap();
    let bases = (0..2_000).map(|n| 20_000 + 4 * ((spread + n) % 2_000));
    for base in bases {
        let Some(held) = listen(base + taken) else { continue };
        if (0..4).filter(|n| *n != taken).all(|n| listen(base + n).is_some()) {
            return (base, held);
        }
    }
    panic!("no four free ports in a row between 20000 and 28000")
}

#[test]
fn a_chain_with_another_id_is_left_alone() {
    let home = Home::new();
    let chain = |chain_id| devchain::Config { chain_id, data_dir: Some(home.join("n/chain")), ..Default::default() };
    fs::create_dir_all(home.join("n")).unwrap();
    ask(async { drop(devchain::Chain::open(chain(5)).unwrap()) });
    let ended = home.run(network::up(&home.join("n"), &[]));
    ended.failed(1, &["n/chain", "chain id 5", "31337", "choose another folder"]);
    assert!(!home.join("n/network.json").exists());
    ask(async { drop(devchain::Chain::open(chain(5)).unwrap()) });
}

#[test]
fn a_folder_whose_contracts_are_not_on_the_chain_is_refused() {
    let home = Home::new();
    let network = Network::up(&home, "n", &[]);
    home.run(network.run(10_000, &[])).succeeded();
    let (head, hub) = (network.head(), network.file["hub"].as_str().unwrap().to_lowercase());
    network.stop().succeeded();
    fs::rename(home.join("n/chain"), home.join("chain")).unwrap();
    let ended = home.run(network::up(&home.join("n"), &[]));
    let ended = ended.failed(1, &["n/deployment.json", "does not have", "another --data-dir"]);
    assert!(ended.stderr.to_lowercase().contains(&hub), "{ended:#?}");
    assert!(!home.join("n/network.json").exists());

    fs::remove_dir_all(home.join("n/chain")).unwrap();
    fs::rename(home.join("chain"), home.join("n/chain")).unwrap();
    let again = Network::up(&home, "n", &[]);
    assert_eq!(again.head(), head);
    home.run(again.run(10_000, &[])).succeeded();
}

#[test]
fn a_scheduler_does_not_take_the_memory_of_another_hub() {
    let home = Home::new();
    let ours = Network::up(&home, "ours", &["--no-scheduler"]);
    // One transaction before the deployment, and every contract has another address.
    let mut chain = home.start(network::on(&home.join("theirs"), &["chain", "run", "--port", "0"]));
    chain.says("answers at ");
    let said = chain.stderr();
    let url = said.split_whitespace().find(|w| w.starts_with("http://")).unwrap();
    one_payment(url);
    chain.interrupt();
    chain.wait(network::STOP).succeeded();
    let theirs = Network::up(&home, "theirs", &["--no-scheduler"]);
    assert_ne!(ours.file["hub"], theirs.file["hub"]);

    let scheduler = |network: &Network| {
        let dir = network.dir.display().to_string();
        home.start(network::on(&home.join("scheduler"), &["scheduler", "--network", &dir, "--port", "0"]))
    };
    let mut first = scheduler(&ours);
    first.says("listens at ");
    let second = scheduler(&ours).wait(network::STOP);
    second.failed(1, &["scheduler.db", "in use by another process"]);
    first.interrupt();
    first.wait(network::STOP).succeeded();
    let words = ["scheduler.db", &*ours.hub.address.to_string(), &*theirs.hub.address.to_string(), "--data-dir"];
    scheduler(&theirs).wait(network::STOP).failed(1, &words);
    let mut again = scheduler(&ours);
    again.says("listens at ");
}

#[test]
fn a_scheduler_does_not_take_the_memory_of_a_chain_that_is_gone() {
    let home = Home::new();
    let scheduler = |network: &Network| {
        let dir = network.dir.display().to_string();
        home.start(network::on(&home.join("scheduler"), &["scheduler", "--network", &dir, "--port", "0"]))
    };
    let gone = Network::up(&home, "n", &["--no-scheduler"]);
    let mut first = scheduler(&gone);
    first.says("listens at ");
    first.interrupt();
    first.wait(network::STOP).succeeded();
    let hub = gone.file["hub"].clone();
    gone.stop().succeeded();
    fs::remove_dir_all(home.join("n")).unwrap();
    let other = Network::up(&home, "n", &["--no-scheduler"]);
    assert_eq!(other.file["hub"], hub, "the same address on another chain");
    let words = ["scheduler.db", "belongs to chain 31337 with first block 0x", "--data-dir"];
    scheduler(&other).wait(network::STOP).failed(1, &words);
}

fn one_payment(url: &str) {
    use bourse_chain::{Client, GasPolicy, Sender, sender::SCHEMA};
    let journal = bourse_service::journal::Journal::in_memory(&[SCHEMA]).unwrap();
    ask(async {
        let client = Client::connect(url).unwrap();
        let (sender, lane) = Sender::open(client, test_key(0), journal, GasPolicy::default()).await.unwrap();
        tokio::select! {
            sent = sender.pay("test", Address::ZERO, U256::from(1)) => drop(sent.unwrap()),
            () = lane.run(Default::default()) => unreachable!("nobody stops it"),
        }
    });
}

#[test]
fn a_folder_serves_one_network_at_a_time() {
    let home = Home::new();
    let network = Network::up(&home, "n", &[]);
    let ended = home.run(network::up(&network.dir, &[]));
    ended.failed(1, &["in use by another process", "--data-dir"]);
    assert!(Path::new(&network.dir.join("network.json")).exists(), "the first one is still announced");
    home.run(network.run(10_000, &[])).succeeded();
}
