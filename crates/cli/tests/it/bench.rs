//! `bourse bench workers`: the command works and says everything that it measured. How fast this machine is, is not
//! asked here: `--no-limits`.

use crate::process::Home;
use serde_json::Value;

fn figure<'a>(report: &'a Value, name: &str) -> &'a Value {
    let figures = report["figures"].as_array().unwrap();
    figures.iter().find(|f| f["name"] == name).unwrap_or_else(|| panic!("no figure {name}: {report:#}"))
}

#[test]
fn a_bench_reports_every_figure_with_its_target() {
    let home = Home::new();
    let line = "bench workers --workers 200 --tasks-per-second 20 --seconds 2 --no-limits --json";
    let ended = home.run(line.split(' ')).succeeded();
    let report = ended.json();
    assert_eq!((&report["ok"], &report["workers"], &report["seconds"]), (&true.into(), &200.into(), &2.into()));
    for (name, unit) in [
        ("logins", "s"),
        ("machines", ""),
        ("needs", ""),
        ("readyRate", "per s"),
        ("pushP50", "ms"),
        ("pushMax", "ms"),
        ("heartbeats", ""),
        ("restartListening", "s"),
        ("restartFirst", "s"),
        ("restartHalf", "s"),
        ("cycles", ""),
        ("cycleSchedulerTime", "µs"),
        ("cycleCrowdTime", "µs"),
    ] {
        let found = figure(&report, name);
        assert!(found["value"].as_f64().unwrap() > 0.0 && found["unit"] == unit, "{found:#}");
        assert!(found["met"].is_null() && !found["what"].as_str().unwrap().is_empty(), "{found:#}");
    }
    let targets = [("pushP99", "under"), ("memory", "under"), ("restartAll", "under"), ("cycleRate", "atLeast")];
    for (name, kind) in targets {
        let found = figure(&report, name);
        let (value, target) = (found["value"].as_f64().unwrap(), found[kind].as_f64().unwrap());
        let met = if kind == "under" { value < target } else { value >= target };
        assert!(value > 0.0 && found["met"] == met, "{found:#}");
    }
    let all = report["figures"].as_array().unwrap();
    assert_eq!(report["met"], all.iter().all(|f| f["met"] != false), "{report:#}");
    assert_eq!(figure(&report, "tasks")["value"], 40.0, "every task that was bought reached a worker");
    assert_eq!(figure(&report, "machines")["value"], 200.0, "no two workers have the same machine");
    assert!(figure(&report, "needs")["value"].as_f64().unwrap() >= 4.0, "{report:#}");
    assert_eq!(figure(&report, "openTasks")["value"], 200.0);
    assert_eq!(figure(&report, "cycleWorkers")["value"], 200.0, "everybody is still linked at the end");
    let left: Vec<_> = std::fs::read_dir(home.join("share/bourse")).unwrap().collect();
    assert!(left.is_empty(), "a bench takes its stores away: {left:?}");
}

#[test]
fn a_figure_that_misses_its_target_fails_the_bench_by_name() {
    let home = Home::new();
    // Commits keep a distance, so one worker is far from thousands of cycles a second on any machine.
    let line = "bench workers --workers 1 --seconds 1 --only cycles";
    let ended = home.run(line.split(' '));
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    let named = ended.stderr.lines().find(|line| line.starts_with("error: targets missed: durable cycles: "));
    assert!(named.is_some_and(|line| line.ends_with(" per s instead of at least 3000")), "{ended:#?}");
    assert!(ended.stdout.contains("MISSED"), "the table is shown all the same: {ended:#?}");
    home.run(format!("{line} --no-limits").split(' ')).succeeded();
}

#[test]
fn a_bench_keeps_its_stores_in_a_folder_that_is_new() {
    let home = Home::new();
    std::fs::create_dir(home.join("taken")).unwrap();
    home.run(["bench", "workers", "--data-dir", "taken"]).failed(3, &["taken", "exists already", "--data-dir"]);
}
