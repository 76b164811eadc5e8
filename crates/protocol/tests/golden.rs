//! What the rules say in every state, as files that a reviewer can read. After a change that is meant,
//! `BOURSE_WRITE_GOLDEN=1 cargo test -p bourse-protocol --test golden` writes them anew.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use bourse_protocol::{
    Address, B256, Bytes, U256,
    deal::{ChainTask, ContributionStatus, ResultLink, TaskStatus},
    ids::{ResultDigest, TaskId},
    outlook::{self, Leases},
    replicate::Status,
    task::{self, Part, Step, Upload, View, Vote},
};
use std::{collections::BTreeMap, fmt::Write, path::PathBuf};

fn holds(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("BOURSE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = known.lines().zip(text.lines()).position(|(a, b)| a != b);
    assert!(known == text, "{} differs, first in line {:?}", path.display(), differs.map(|n| n + 1));
}

/// A task of which T is 100 s: contributions until 700, reveals until 750 at the latest, all over at 1000.
fn chain(status: TaskStatus, revealed: u64) -> ChainTask {
    ChainTask {
        id: TaskId::default(),
        status,
        contribution_deadline: 700,
        reveal_deadline: if status == TaskStatus::Revealing { 750 } else { 0 },
        final_deadline: 1000,
        consensus: if matches!(status, TaskStatus::Revealing | TaskStatus::Completed) { GOOD } else { B256::ZERO },
        revealed,
        winners: if status == TaskStatus::Revealing { 2 } else { 0 },
        contributors: vec![],
        digest: ResultDigest::default(),
        results: Bytes::new(),
    }
}

const GOOD: B256 = B256::repeat_byte(1);
const WRONG: B256 = B256::repeat_byte(2);

fn who(n: u8) -> Address {
    Address::with_last_byte(n)
}

/// The chain's side of the matrix: what it shows, and at which second.
fn sights() -> Vec<(String, ChainTask, Vec<Vote>, u64)> {
    use ContributionStatus::{Contributed, Proved};
    let vote = |n, status, hash| Vote { worker: who(n), status, hash, weight: U256::from(2) };
    let mut sights = Vec::new();
    let mut add = |name: &str, task: ChainTask, votes: &[Vote], times: &[u64]| {
        for now in times {
            sights.push((format!("{name} at {now}"), task.clone(), votes.to_vec(), *now));
        }
    };
    let all = [699, 700, 999, 1000];
    add("unset", chain(TaskStatus::Unset, 0), &[], &all);
    add("active", chain(TaskStatus::Active, 0), &[], &all);
    add("active, the worker has contributed", chain(TaskStatus::Active, 0), &[vote(1, Contributed, GOOD)], &all);
    add("active, another has contributed", chain(TaskStatus::Active, 0), &[vote(2, Contributed, GOOD)], &all);
    let revealing = [749, 750, 999, 1000];
    let won = |own, other| [vote(1, own, GOOD), vote(2, other, GOOD)];
    add("revealing, none has", chain(TaskStatus::Revealing, 0), &won(Contributed, Contributed), &revealing);
    add("revealing, the worker has", chain(TaskStatus::Revealing, 1), &won(Proved, Contributed), &revealing);
    add("revealing, the other has", chain(TaskStatus::Revealing, 1), &won(Contributed, Proved), &revealing);
    add("revealing, both have", chain(TaskStatus::Revealing, 2), &won(Proved, Proved), &revealing);
    let lost = [vote(1, Contributed, WRONG), vote(2, Proved, GOOD), vote(3, Proved, GOOD)];
    add("revealing, the worker was outvoted", chain(TaskStatus::Revealing, 2), &lost, &revealing);
    add("completed", chain(TaskStatus::Completed, 2), &won(Proved, Proved), &[749]);
    add("failed", chain(TaskStatus::Failed, 0), &won(Contributed, Contributed), &[1000]);
    sights
}

/// Without votes one worker is enough; those that there are do not suffice.
fn trust(votes: &[Vote]) -> U256 {
    U256::from(if votes.is_empty() { 1 } else { 3 })
}

fn word(step: &Step) -> String {
    match step {
        Step::Initialize => "initialize".into(),
        Step::AddWorker => "add a worker".into(),
        Step::Reveal(w) => format!("reveal {}", w.0[19]),
        Step::Upload(w) => format!("upload {}", w.0[19]),
        Step::Finalize(_) => "finalize".into(),
        Step::Reopen => "reopen".into(),
        Step::Claim => "claim".into(),
        Step::Abort(w, cause) => format!("abort {} ({:?})", w.0[19], cause.code),
        Step::End(w, status, None) => format!("end {} ({status})", w.0[19]),
        Step::End(w, status, Some(cause)) => format!("end {} ({status}, {:?})", w.0[19], cause.code),
    }
}

/// Worker 1 in every status, connected, away and late, under everything that the chain can show: 36 × 3 × 38 cells.
/// Cells that are alike share a line.
#[test]
fn the_steps_of_the_scheduler() {
    let link = ResultLink::ipfs("/ipfs/x".into());
    let mut text = String::from(
        "# what the chain shows | the result | steps | statuses of worker 1 (+ connected, - away, ~ late)\n",
    );
    for (name, chain, votes, now) in sights() {
        for result in [None, Some(&link)] {
            // By steps: the statuses, each with the marks of the cases.
            let mut lines: BTreeMap<String, BTreeMap<Status, String>> = BTreeMap::new();
            for status in Status::ALL {
                for (mark, connected, late) in [('+', true, false), ('-', false, false), ('~', true, true)] {
                    let upload = Upload::default().after(status, now);
                    let part = Part { worker: who(1), status, weight: U256::from(2), connected, late, upload };
                    let parts = [part];
                    let view = View { now, trust: trust(&votes), task: &chain, votes: &votes, parts: &parts, result };
                    let steps: Vec<_> = task::steps(&view).iter().map(word).collect();
                    let stage = task::stage(&view);
                    let steps = if steps.is_empty() { "nothing".into() } else { steps.join(", ") };
                    lines.entry(format!("{steps} [{stage}]")).or_default().entry(status).or_default().push(mark);
                }
            }
            let stored = if result.is_some() { "stored" } else { "-" };
            // The most common answer stands for the rest.
            let most = lines.iter().max_by_key(|(_, statuses)| statuses.len()).map(|(steps, _)| steps.clone());
            for (steps, statuses) in &lines {
                let each = statuses.iter().map(|(status, marks)| format!("{marks}{status}"));
                let which = match Some(steps) == most.as_ref() {
                    true => "all others".into(),
                    false => each.collect::<Vec<_>>().join(" "),
                };
                writeln!(text, "{name} | {stored} | {steps} | {which}").unwrap();
            }
        }
    }
    holds("steps.txt", &text);
}

#[test]
fn what_is_said_of_each_status() {
    let leases = Leases { contribution: 400, upload: 900 };
    let mut text = String::from(
        "# status | phase | outcome | final | may contribute | meaning | next, by when (active; revealing)\n",
    );
    let by = |outlook: outlook::Outlook| match outlook.by {
        Some(by) => format!("{}, by {by}", outlook.next),
        None => outlook.next,
    };
    for status in Status::ALL {
        let phase = status.phase().map_or("as before".into(), |p| p.to_string());
        let next = [TaskStatus::Active, TaskStatus::Revealing]
            .map(|s| by(outlook::of_replicate(status, &chain(s, 0), leases)));
        let next = if next[0] == next[1] { next[0].clone() } else { next.join("; ") };
        let (ends, counts) = (status.is_final(), status.may_still_contribute());
        writeln!(text, "{status} | {phase} | {} | {ends} | {counts} | {} | {next}", status.outcome(), status.meaning())
            .unwrap();
    }
    holds("statuses.txt", &text);
}

#[test]
fn what_is_said_of_each_task() {
    let link = ResultLink::ipfs("/ipfs/x".into());
    let mut text = String::from("# what the chain shows | the result | stage | meaning | why | next, by when\n");
    for (name, chain, votes, now) in sights() {
        for result in [None, Some(&link)] {
            let part = |n| Part {
                worker: who(n),
                status: Status::Computing,
                weight: U256::from(2),
                connected: true,
                late: false,
                upload: Upload::default(),
            };
            let parts = [part(1)];
            let view = View { now, trust: trust(&votes), task: &chain, votes: &votes, parts: &parts, result };
            let stage = task::stage(&view);
            let (cause, next) = (task::cause(stage, &view), outlook::of_task(stage, &view));
            let why = cause.map_or("-".into(), |cause| format!("{:?}: {cause}", cause.code));
            let by = next.by.map(|by| format!(", by {by}")).unwrap_or_default();
            let stored = if result.is_some() { "stored" } else { "-" };
            writeln!(text, "{name} | {stored} | {stage} | {} | {why} | {}{by}", stage.meaning(), next.next).unwrap();
        }
    }
    holds("tasks.txt", &text);
}
