//! `bourse bench task` and `bourse bench workerdrop`: everything ends well, is told, and leaves nothing behind.

use crate::process::{Home, PATIENCE, Process, eventually};
use serde_json::Value;
use std::{path::Path, time::Duration};

/// The short form takes a minute and the funding of its workers before it, longer on a machine that is busy with other things.
const REPLAY: Duration = Duration::from_secs(600);

/// Processes of this test: their command lines name its folder.
fn processes(home: &Path) -> usize {
    let home = home.display().to_string();
    let lines = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    lines
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|l| l.contains(&home))
        .count()
}

/// Nothing of a bench is left: no process, no folder.
fn nothing_is_left(home: &Home) {
    eventually("all processes should be gone", || (processes(home.path()) == 0).then_some(()));
    let left: Vec<_> = std::fs::read_dir(home.join("share/bourse")).unwrap().collect();
    assert!(left.is_empty(), "a bench takes its folder away: {left:?}");
}

fn above_zero(value: &Value) {
    assert!(value.as_f64().is_some_and(|number| number > 0.0), "{value}");
}

#[test]
fn every_order_of_the_workerdrop_is_finalised_whatever_the_nodes_lose() {
    let home = Home::new();
    // How busy this machine is, beside the other tests, is not asked here.
    let line = "bench workerdrop --minutes 1 --workers 270 --no-limits --json";
    let ended = home.start(line.split(' ')).wait(REPLAY).succeeded();
    let report = ended.json();
    assert_eq!((&report["ok"], &report["notFinalised"]), (&true.into(), &Value::Array(vec![])), "{report:#}");
    assert_eq!((&report["ordersBought"], &report["ordersFinalised"]), (&17.into(), &17.into()), "{report:#}");
    assert!(report["linksAtMost"].as_u64().unwrap() >= 260, "{report:#}");
    assert_eq!((&report["schedulerRestarts"], &report["processes"]), (&1.into(), &5.into()));
    for fault in ["transactionsLost", "eventsDoubled", "answersBehind"] {
        above_zero(&report["faults"][fault]);
    }
    for number in ["mean", "median", "p95", "longest"] {
        above_zero(&report["orderSeconds"][number]);
    }
    let table = report["table"].as_array().unwrap();
    let row =
        |what: &str| table.iter().find(|row| row["what"] == what).unwrap_or_else(|| panic!("no {what}: {report:#}"));
    assert_eq!(table.len(), 9);
    assert_eq!((&row("nodes")["secondRun"], &row("nodes")["bourse"]), (&"311".into(), &"270".into()));
    assert_eq!(
        (&row("orders not finalised")["firstRun"], &row("orders not finalised")["bourse"]),
        (&"14".into(), &"0".into())
    );
    // The pool keeps 1 % of the 10 RLC that an order costs.
    assert_eq!(row("RLC earned")["bourse"], "168.3");
    nothing_is_left(&home);
}

#[test]
fn a_task_is_measured_from_its_match_to_its_finalize() {
    let home = Home::new();
    // How fast this machine is, beside the other tests, is not asked here: `./test numbers` does.
    let line = "bench task --tasks 2 --depth 1 --limit 300 --json";
    let report = home.start(line.split(' ')).wait(REPLAY).succeeded().json();
    assert_eq!((&report["ok"], &report["limitSeconds"], &report["depth"]), (&true.into(), &300.into(), &1.into()));
    let tasks = report["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 2);
    for task in tasks.iter().chain([&report["median"], &report["p95"]]) {
        above_zero(&task["seconds"]);
        above_zero(&task["wallSeconds"]);
        above_zero(&task["steps"]["initialize"]);
    }
    for task in tasks {
        let steps = task["steps"].as_object().unwrap();
        let sum: f64 = steps.values().map(|step| step.as_f64().unwrap()).sum();
        assert_eq!((steps.len(), task["seconds"].as_f64()), (5, Some(sum)), "{task:#}");
    }
    nothing_is_left(&home);
}

#[test]
fn a_task_that_takes_too_long_fails_the_bench() {
    let home = Home::new();
    let ended = home.start("bench task --tasks 1 --trust 1 --limit 1".split(' ')).wait(REPLAY);
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.stderr.contains("error: 1 of 1 tasks took 1 s or more"), "{ended:#?}");
    assert!(ended.stdout.contains("median"), "the table is shown all the same: {ended:#?}");
    nothing_is_left(&home);
}

#[test]
fn ctrl_c_ends_a_replay_with_all_its_processes() {
    for (line, words) in [
        ("bench workerdrop --minutes 0.5 --workers 6", " orders in "),
        ("bench task --tasks 100", "task 1 of "),
        ("bench workerdrop --workers 6", "starting a chain"),
    ] {
        let home = Home::new();
        let mut process: Process = home.start(line.split(' '));
        process.says(words);
        process.interrupt();
        let ended = process.wait(PATIENCE);
        ended.failed(130, &["stopped"]);
        nothing_is_left(&home);
    }
}

#[test]
fn nonsense_is_refused_before_anything_starts() {
    let home = Home::new();
    for line in [
        "bench workerdrop --minutes 0",
        "bench workerdrop --minutes soon",
        "bench workerdrop --workers 2",
        "bench workerdrop --orders 0",
        "bench task --tasks 0",
        "bench task --limit 0",
        "bench task --trust 0",
        "bench task --depth 17",
    ] {
        home.run(line.split(' ')).unreadable();
    }
    std::fs::create_dir(home.join("taken")).unwrap();
    for bench in ["task", "workerdrop"] {
        home.run(["bench", bench, "--data-dir", "taken"]).failed(3, &["taken", "exists already", "--data-dir"]);
    }
}
