//! `bourse demo`.

use crate::process::{Home, PATIENCE};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fs};

/// Changes of money in nRLC, by who.
fn changes(report: &Value) -> BTreeMap<String, i128> {
    let amount = |v: &Value| v.as_str().unwrap().parse::<i128>().unwrap();
    let line = |l: &Value| (l["who"].as_str().unwrap().to_owned(), amount(&l["after"]) - amount(&l["before"]));
    report["accounts"].as_array().unwrap().iter().map(line).collect()
}

/// Scores before and after, by worker.
fn scores(report: &Value) -> BTreeMap<String, (u64, u64)> {
    let lines = report["accounts"].as_array().unwrap().iter().filter(|l| !l["scoreBefore"].is_null());
    let score = |v: &Value| v.as_u64().unwrap();
    lines.map(|l| (l["who"].as_str().unwrap().into(), (score(&l["scoreBefore"]), score(&l["scoreAfter"])))).collect()
}

/// How often each call was made.
fn calls(report: &Value) -> BTreeMap<String, u64> {
    let lines = report["gas"].as_array().unwrap().iter();
    lines.map(|l| (l["call"].as_str().unwrap().into(), l["count"].as_u64().unwrap())).collect()
}

fn named<T: Copy, const N: usize>(pairs: [(&str, T); N]) -> BTreeMap<String, T> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn assert_price_is_right(report: &Value) {
    let p = |name: &str| report["pricing"][name].as_f64().unwrap();
    let off = (p("price") - p("closedForm")).abs() / p("standardError");
    // The random numbers follow from the task's id, which is new every time: 3 would fail one run in 370.
    assert!(off <= 4.5, "{off} standard errors off: {report:#}");
}

#[test]
fn a_computation_is_verified_and_paid_within_its_limits() {
    let home = Home::new();
    let ended = home.run(["demo", "--json"]).succeeded();
    let report = ended.json();
    assert_eq!(report["ok"], true);
    assert_price_is_right(&report);
    let worker = 3_300_000_000;
    assert_eq!(
        changes(&report),
        named([
            ("requester", -13_000_000_000),
            ("author of app and dataset", 3_000_000_000),
            ("pool owner", 100_000_000),
            ("worker 1", worker),
            ("worker 2", worker),
            ("worker 3", worker),
        ])
    );
    assert_eq!(changes(&report).values().sum::<i128>(), 0, "no money comes or goes");
    assert_eq!(scores(&report), named([("worker 1", (0, 1)), ("worker 2", (0, 1)), ("worker 3", (0, 1))]));
    assert_eq!(
        calls(&report),
        named([("matchOrders", 1), ("initialize", 1), ("contribute", 3), ("reveal", 3), ("finalize", 1)])
    );
    assert!(report["totalSeconds"].as_f64().unwrap() < 10.0, "{report:#}");
    assert!(report["peakMemoryBytes"].as_u64().unwrap() < 150_000_000, "{report:#}");

    let stages: Vec<_> = report["timeline"].as_array().unwrap().iter().map(|s| s["stage"].as_str().unwrap()).collect();
    let expected = [
        "start: chain",
        "start: contracts",
        "start: funds",
        "start: market and store",
        "start: publishing",
        "start: scheduler and workers",
        "orders matched",
        "task opened",
        "first answer committed (download and compute)",
        "consensus",
        "answers revealed",
        "result uploaded, task finalised and paid",
        "result downloaded and checked",
    ];
    assert_eq!(stages, expected);

    let content = fs::read(report["resultFile"].as_str().unwrap()).unwrap();
    let digest: String = Sha256::digest(&content).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(report["digest"], format!("0x{digest}"));
    let cid = bourse_protocol::ipfs::Cid::of(&content);
    assert_eq!(report["location"], format!("/ipfs/{cid}"));
}

#[test]
fn a_liar_loses_its_stake_to_those_who_told_the_truth() {
    let home = Home::new();
    let report = home.run(["demo", "--liar", "--json"]).succeeded().json();
    assert_price_is_right(&report);
    let honest = 3_217_500_000;
    assert_eq!(
        changes(&report),
        named([
            ("requester", -13_000_000_000),
            ("author of app and dataset", 3_000_000_000),
            ("pool owner", 130_000_000),
            ("worker 1 (the liar)", -3_000_000_000),
            ("worker 2", honest),
            ("worker 3", honest),
            ("worker 4", honest),
            ("worker 5", honest),
        ])
    );
    let expected = [
        ("worker 1 (the liar)", (0, 0)),
        ("worker 2", (0, 1)),
        ("worker 3", (0, 1)),
        ("worker 4", (0, 1)),
        ("worker 5", (0, 1)),
    ];
    assert_eq!(scores(&report), named(expected));
    assert_eq!(
        calls(&report),
        named([("matchOrders", 1), ("initialize", 1), ("contribute", 5), ("reveal", 4), ("finalize", 1)])
    );
    let liar = report["accounts"].as_array().unwrap().iter().find(|l| l["who"] == "worker 1 (the liar)").unwrap();
    assert!(liar["note"].as_str().unwrap().contains("a fresh liar has no score to lose"), "{liar}");
}

#[test]
fn trust_decides_how_many_workers_compute() {
    let home = Home::new();
    for (trust, workers) in [("1", 1), ("9", 4)] {
        let report = home.run(["demo", "--json", "--trust", trust, "--paths", "10000"]).succeeded().json();
        assert_eq!(scores(&report).len(), workers, "trust {trust}");
        assert_eq!(calls(&report)["contribute"], workers as u64, "trust {trust}");
        assert_eq!(changes(&report)["requester"], -13_000_000_000, "trust {trust}");
    }
}

#[test]
fn too_few_workers_are_refused_before_anything_starts() {
    let home = Home::new();
    let ended = home.run(["demo", "--workers", "2", "--trust", "5", "--data-dir", "here"]);
    let ended = ended.failed(3, &["trust 5 needs 3 workers", "there are 2", "start 1 more", "--trust"]);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:#?}");
    assert!(fs::read_dir(home.path()).unwrap().next().is_none(), "nothing is written");
    let ended = home.run(["demo", "--liar", "--workers", "4"]);
    ended.failed(3, &["needs 4 workers that agree", "5 in all", "--workers is 4"]);
}

#[test]
fn the_story_is_told_in_words() {
    let home = Home::new();
    let ended = home.run(["demo"]).succeeded();
    for words in [
        "She buys a computation",
        "the four orders are a deal",
        "opens the task",
        "worker 1 commits to an answer",
        "worker 3 commits to an answer",
        "consensus",
        "worker 2 shows its answer",
        "+ 3.3 RLC to worker",
        "the task is finalised; everybody is paid",
    ] {
        assert!(ended.stderr.contains(words), "stderr does not say {words:?}: {ended:#?}");
    }
    for words in [
        "The price of the option",
        "Black and Scholes",
        "How long it took",
        "Who was paid what",
        "0 → 1",
        "Gas per call",
        "matchOrders",
        "The result",
        "is the digest that the workers agreed on",
        "MB of memory",
    ] {
        assert!(ended.stdout.contains(words), "stdout does not say {words:?}: {ended:#?}");
    }
}

#[test]
fn a_narrow_terminal_shows_every_line_whole() {
    let home = Home::new();
    let ended = home.run(["demo", "--liar", "--paths", "10000"]).succeeded();
    for line in ended.stderr.lines().chain(ended.stdout.lines()) {
        // A path is as long as it is.
        let is_path = line.trim_start().starts_with('/');
        assert!(is_path || line.chars().count() <= 80, "{line:?} has {} columns", line.chars().count());
    }
}

#[test]
fn ctrl_c_ends_a_demonstration_with_130() {
    let home = Home::new();
    let mut demo = home.start(["demo", "--paths", "1000000000"]);
    demo.says("opens the task");
    demo.interrupt();
    let ended = demo.wait(PATIENCE).failed(130, &["stopped in the middle"]);
    assert!(ended.after.as_secs() < 10, "{ended:#?}");
}
