//! Arrows between crates point down only: see ARCHITECTURE.md.

use serde_json::Value;
use std::{collections::BTreeMap, process::Command};

/// What each crate may be built on. What is not here may not exist.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("bourse-protocol", &[]),
    ("bourse-devchain", &[]),
    ("bourse-differential", &["bourse-protocol"]),
    ("bourse-service", &["bourse-protocol"]),
    ("bourse-chain", &["bourse-protocol", "bourse-service"]),
    ("bourse-scheduler", ROLE),
    ("bourse-worker", ROLE),
    ("bourse-market", ROLE),
    ("bourse-results", ROLE),
    (
        "bourse",
        &[
            "bourse-protocol",
            "bourse-devchain",
            "bourse-service",
            "bourse-chain",
            "bourse-scheduler",
            "bourse-worker",
            "bourse-market",
            "bourse-results",
        ],
    ),
    (
        "bourse-sim",
        &["bourse-protocol", "bourse-devchain", "bourse-service", "bourse-chain", "bourse-scheduler", "bourse-worker"],
    ),
];
/// What a role may be built on: no other role, and no chain of its own.
const ROLE: &[&str] = &["bourse-protocol", "bourse-service", "bourse-chain"];

/// Dependencies inside the workspace: (crate, on what, whether for tests only).
fn edges() -> Vec<(String, String, bool)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path", manifest])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let mut edges = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            // What is in the workspace is there by path.
            if dependency["path"].is_string() {
                let on = dependency["name"].as_str().unwrap();
                edges.push((name.to_owned(), on.to_owned(), dependency["kind"] == "dev"));
            }
        }
        edges.push((name.to_owned(), String::new(), false));
    }
    edges
}

/// What is wrong with a set of edges.
fn forbidden(edges: &[(String, String, bool)]) -> Vec<String> {
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let mut wrong = Vec::new();
    for (name, on, for_tests) in edges {
        match allowed.get(name.as_str()) {
            None => wrong.push(format!("{name} has no layer: give it one here and in ARCHITECTURE.md")),
            Some(_) if on.is_empty() => {}
            Some(layer) if layer.contains(&on.as_str()) => {}
            // Tests of the roles run them on the embedded chain.
            Some(_) if *for_tests && on == "bourse-devchain" => {}
            Some(_) => wrong.push(format!("{name} depends on {on}")),
        }
    }
    wrong.dedup();
    wrong
}

#[test]
fn dependencies_point_down_only() {
    let edges = edges();
    let names: Vec<_> = edges.iter().filter(|(_, on, _)| on.is_empty()).map(|(name, ..)| name.as_str()).collect();
    for (name, _) in ALLOWED {
        assert!(names.contains(&name), "{name} is gone: take it out here and in ARCHITECTURE.md");
    }
    assert_eq!(forbidden(&edges), Vec::<String>::new());
}

#[test]
fn every_upward_arrow_is_found() {
    let edge = |name: &str, on: &str, test| (name.to_owned(), on.to_owned(), test);
    for (name, on, test) in [
        ("bourse-protocol", "bourse-service", false),
        ("bourse-service", "bourse-chain", false),
        ("bourse-worker", "bourse-scheduler", false),
        ("bourse-market", "bourse-results", true),
        ("bourse-chain", "bourse-devchain", false),
        ("bourse-devchain", "bourse-protocol", true),
        ("bourse-scheduler", "bourse", true),
        ("bourse-new", "bourse-protocol", false),
    ] {
        assert_eq!(forbidden(&[edge(name, on, test)]).len(), 1, "{name} on {on}");
    }
    assert!(forbidden(&[edge("bourse-worker", "bourse-devchain", true)]).is_empty());
}
