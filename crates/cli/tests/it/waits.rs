//! What waits says so, and goes on by itself; what must stop says why.

use crate::{
    network::{self, Network, bought, rpc},
    process::{Home, PATIENCE, Process, eventually, eventually_within},
    up::LONG,
};
use bourse_chain::PrivateKeySigner;
use bourse_protocol::{deal::TaskStatus, money::Nrlc};
use serde_json::{Value, json};

/// The cap of everybody, in wei per gas.
const CAP: u64 = 1_000_000_000;

/// Sets the base fee of the newest block.
fn set_base_fee(url: &str, wei: u64) {
    rpc(url, "anvil_setNextBlockBaseFeePerGas", json!([format!("{wei:#x}")]));
    rpc(url, "evm_mine", json!([]));
}

/// The most that transactions of a wallet have offered from a block on, in wei per gas.
fn most_offered(network: &Network, url: &str, wallet: &Value, from: u64) -> Option<u64> {
    let mut most = None;
    for block in from..=network.head() {
        let block = rpc(url, "eth_getBlockByNumber", json!([format!("{block:#x}"), true]));
        for transaction in block["transactions"].as_array().unwrap() {
            let by = |who: &Value| who.as_str().unwrap().to_lowercase();
            if by(&transaction["from"]) == by(&wallet["address"]) {
                let fee = transaction["maxFeePerGas"].as_str().unwrap().trim_start_matches("0x");
                most = most.max(Some(u64::from_str_radix(fee, 16).unwrap()));
            }
        }
    }
    most
}

fn scheduler_url(scheduler: &mut Process) -> String {
    scheduler.says("listens at ");
    let said = scheduler.stderr();
    said.split(['\n', ' ', ';']).find(|word| word.starts_with("http://")).unwrap().to_owned()
}

#[test]
fn over_the_cap_everybody_says_that_it_waits_and_goes_on_when_gas_gets_cheaper() {
    let home = Home::new();
    let up = ["--no-scheduler", "--workers", "1", "--test-methods"];
    let network = Network::up(&home, "n", &up);
    let (url, dir) = (network.url("rpcUrl"), network.dir.display().to_string());
    let (cap, started) = (CAP.to_string(), network.head() + 1);
    let thrifty = [("IEXEC_GAS_PRICE_MULTIPLIER", "3"), ("IEXEC_GAS_PRICE_CAP", &cap)];
    let role = |name: &str, line: &[&str]| home.start_with(&thrifty, network::on(&home.join(name), line));
    let mut scheduler = role("scheduler", &["scheduler", "--network", &dir, "--port", "0"]);
    let pool = scheduler_url(&mut scheduler);
    // So that whoever buys can ask the pool what keeps it.
    let mut file = network.file.clone();
    file["schedulerUrl"] = json!(pool);
    std::fs::write(network.dir.join("network.json"), file.to_string()).unwrap();
    let keys = &network.file["keys"];
    let key = network.key_file(&home, &keys["workers"][0], "key").display().to_string();
    set_base_fee(&url, CAP / 2);
    let line = ["worker", "--network", &dir, "--key-file", &key, "--scheduler-url", &pool, "--name", "w"];
    let mut worker = role("worker", &line);
    eventually("the worker should be there", || {
        (network::get(&format!("{pool}/metrics"))?["connectedWorkers"] == 1).then_some(())
    });

    set_base_fee(&url, 10 * CAP);
    let sent = rpc(&url, "eth_getTransactionCount", json!([keys["requester"]["address"], "pending"]));
    let mut run = home.start_with(&thrifty, network.run(LONG, &["--trust", "1"]));
    run.says("your transactions wait: gas costs 10000000000 wei now and the cap is 1000000000 wei");
    assert_eq!(rpc(&url, "eth_getTransactionCount", json!([keys["requester"]["address"], "pending"])), sent);
    // Whoever buys gets a price, and at once it is too high for the pool.
    set_base_fee(&url, CAP * 9 / 10);
    run.says("your transactions go on");
    run.says("bought task ");
    let task = bought(&run.stderr()).unwrap();

    eventually("the worker should compute", || {
        let view = network.view(&pool, task)?;
        (view["replicates"][0]["currentStatus"] == "COMPUTING").then_some(())
    });
    set_base_fee(&url, 10 * CAP);
    worker.says("the transactions of w wait: gas costs");
    set_base_fee(&url, CAP / 2);
    worker.says("the transactions of w go on");
    eventually("the worker should have contributed", || {
        (network.task(task).status != TaskStatus::Active).then_some(())
    });
    run.wait(PATIENCE).succeeded();

    set_base_fee(&url, 10 * CAP);
    let mut run = home.start(network.run(1_000, &["--trust", "1"]));
    scheduler.says("the transactions of the scheduler wait: gas costs");
    run.says("  the pool: gas costs");
    let metrics = network::get(&format!("{pool}/metrics")).unwrap();
    assert_eq!((&metrics["ok"], &metrics["obstacles"][0]["what"]), (&json!(true), &json!("sender")), "{metrics}");
    assert_eq!(metrics["sender"]["waiting"]["why"], "overCap", "{metrics}");
    set_base_fee(&url, CAP / 2);
    scheduler.says("the transactions of the scheduler go on");
    run.wait(PATIENCE).succeeded();
    for who in [&keys["workerpoolOwner"], &keys["workers"][0]] {
        let most = most_offered(&network, &url, who, started).unwrap();
        assert!(most <= CAP, "{who} offered {most} wei");
    }
    for process in [worker, scheduler] {
        process.interrupt();
        process.wait(network::STOP).succeeded();
    }
    network.stop().succeeded();
}

#[test]
fn of_two_schedulers_on_one_key_one_stops_and_says_why() {
    let home = Home::new();
    let network = Network::up(&home, "n", &["--no-scheduler", "--workers", "2", "--block-time", "1"]);
    let dir = network.dir.display().to_string();
    let mut pools = Vec::new();
    for n in 0..2 {
        let (name, worker) = (format!("s{n}"), format!("w{n}"));
        let line = ["scheduler", "--network", &dir, "--port", "0"];
        let mut scheduler = home.start(network::on(&home.join(name), &line));
        let url = scheduler_url(&mut scheduler);
        let key = network.key_file(&home, &network.file["keys"]["workers"][n], &worker).display().to_string();
        let line = ["worker", "--network", &dir, "--key-file", &key, "--scheduler-url", &url];
        let worker = home.start(network::on(&home.join(format!("d{worker}")), &line));
        eventually("the worker should be there", || {
            (network::get(&format!("{url}/metrics"))?["connectedWorkers"] == 1).then_some(())
        });
        pools.push((scheduler, worker));
    }
    let wallet = network.file["keys"]["workerpoolOwner"]["address"].as_str().unwrap().to_owned();
    // Commands with one wallet wait for each other: each of these has its own.
    let wallets: Vec<String> = (0..4)
        .map(|n| {
            let (key, path) = (PrivateKeySigner::random(), home.join(format!("buyer-{n}")));
            network::write_key(&path, &key);
            network::give(&network, key.address(), Nrlc::rlc(2_000));
            path.display().to_string()
        })
        .collect();
    let buy = |wallet: &str| home.start(network.run(1_000, &["--trust", "1", "--key-file", wallet]));
    // What they send in the first half minute does not count, and where the one that should stop is always faster, the other one
    // does after one more.
    let mut runs: Vec<Process> = wallets.iter().map(|wallet| buy(wallet)).collect();
    let stopped = eventually_within(3 * PATIENCE, "one of the two should stop", || {
        for (run, wallet) in runs.iter_mut().zip(&wallets) {
            if !run.is_running() {
                *run = buy(wallet);
            }
        }
        pools.iter_mut().position(|p| !p.0.is_running())
    });
    let (scheduler, _worker) = pools.remove(stopped);
    let ended =
        scheduler.wait(PATIENCE).failed(1, &["is used by another process too", "every process needs a key of its own"]);
    assert!(ended.stderr.to_lowercase().contains(&wallet.to_lowercase()), "{ended:#?}");
    assert!(pools[0].0.is_running(), "the other one goes on");
    // What the workers of the stopped one have begun may wait for it.
    drop(runs);
    home.run(network.run(1_000, &["--trust", "1"])).succeeded();
    network.stop().succeeded();
}
