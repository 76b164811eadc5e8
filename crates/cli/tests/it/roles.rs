//! Scheduler and workers as processes of their own: how they start, whom they let in, how they end.

use crate::{
    crashes::Pool,
    network::{self, Network, bought},
    process::{Home, PATIENCE, Process, eventually},
    up::LONG,
};
use serde_json::Value;
use std::path::Path;

/// A role of a network, with more arguments.
fn role(home: &Home, network: &Path, name: &str, arguments: &[&str]) -> Process {
    let dir = network.display().to_string();
    let line = [&[arguments[0], "--network", &dir], &arguments[1..]].concat();
    home.start(network::on(&home.join(name), &line))
}

fn key(home: &Home, network: &Network, n: usize) -> String {
    network.key_file(home, &network.file["keys"]["workers"][n], &format!("key-{n}")).display().to_string()
}

fn url(scheduler: &mut Process) -> String {
    scheduler.says("listens at ");
    let said = scheduler.stderr();
    let (_, url) = said.split_once("listens at ").unwrap();
    url.split(';').next().unwrap().to_owned()
}

#[test]
fn roles_that_start_before_their_node_wait_for_it_and_then_work() {
    let home = Home::new();
    let up = ["--no-scheduler", "--workers", "1"];
    let network = Network::up(&home, "n", &up);
    let key = key(&home, &network, 0);
    let (dir, requester) = (network.dir.clone(), network.requester());
    network.kill();
    let mut scheduler = role(&home, &dir, "scheduler", &["scheduler", "--port", "0"]);
    scheduler.says("does not answer: waiting for the node");
    let mut waiting =
        role(&home, &dir, "idle", &["worker", "--key-file", &key, "--scheduler-url", "http://127.0.0.1:1"]);
    waiting.says("does not answer: waiting for the node");
    waiting.interrupt();
    waiting.wait(network::STOP).succeeded();

    let network = Network::up(&home, "n", &up);
    assert_eq!(network.requester(), requester);
    let url = url(&mut scheduler);
    let metrics = network::get(&format!("{url}/metrics")).unwrap();
    assert_eq!(metrics["nodes"][0]["state"], "good", "{metrics}");
    assert_eq!((&metrics["openTasks"], &metrics["connectedWorkers"]), (&0.into(), &0.into()), "{metrics}");
    let worker = role(&home, &dir, "w", &["worker", "--key-file", &key, "--scheduler-url", &url]);
    home.run(network.run(1_000, &["--trust", "1"])).succeeded();
    let metrics = network::get(&format!("{url}/metrics")).unwrap();
    assert_eq!((&metrics["connectedWorkers"], &metrics["sender"]["stopped"]), (&1.into(), &Value::Null), "{metrics}");
    for process in [worker, scheduler] {
        process.interrupt();
        process.wait(network::STOP).succeeded();
    }
    network.stop().succeeded();
}

#[test]
fn a_worker_that_is_terminated_finishes_what_it_has() {
    let home = Home::new();
    let mut pool = Pool::open(&home);
    pool.start_worker(0);
    pool.await_workers(1);
    let mut run = home.start(pool.network.run(LONG, &["--trust", "1", "--json"]));
    run.says("bought task ");
    let task = bought(&run.stderr()).unwrap();
    eventually("the worker should compute", || {
        let view = pool.network.view(&pool.url, task)?;
        (view["replicates"][0]["currentStatus"] == "COMPUTING").then_some(())
    });
    let worker = pool.workers[0].take().unwrap();
    worker.terminate();
    run.wait(PATIENCE).succeeded();
    worker.wait(PATIENCE).succeeded();
    pool.stop();
}

#[test]
fn a_pool_with_a_list_lets_in_who_is_on_it_and_gives_work_to_machines_that_suffice() {
    let home = Home::new();
    let network = Network::up(&home, "n", &["--no-scheduler", "--workers", "2"]);
    let listed = network.workers()[0].to_string();
    let mut scheduler = role(
        &home,
        &network.dir,
        "scheduler",
        &["scheduler", "--port", "0", "--allow", &listed, "--least-memory", "999999999"],
    );
    let url = url(&mut scheduler);
    let worker = |n: usize| {
        let (key, name) = (key(&home, &network, n), format!("w{n}"));
        role(&home, &network.dir, &name, &["worker", "-v", "--key-file", &key, "--scheduler-url", &url])
    };
    let mut second = worker(1);
    second.says("is not on this pool's list of workers");
    let mut run = home.start(network.run(1_000, &["--trust", "1"]));
    run.says("bought task ");
    eventually("the task should wait for a worker", || {
        let metrics = network::get(&format!("{url}/metrics"))?;
        (metrics["waitingTasks"] == 1).then_some(())
    });
    let mut first = worker(0);
    first.says("they need 999999999 MiB of memory");
    run.interrupt();
    run.wait(network::STOP);
    for process in [first, second, scheduler] {
        process.interrupt();
        process.wait(network::STOP).succeeded();
    }
    network.stop().succeeded();
}
