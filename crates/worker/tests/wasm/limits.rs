//! Time, fuel, memory, output; and what is no module at all.

use crate::rig::{Rig, command, exits_with};
use bourse_protocol::computed;
use bourse_worker::wasm::{Engine, Error, Limits, Outcome, output};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const FOREVER: &str = "(loop $again (br $again))";

/// Limits that end nothing by themselves within a test.
fn endless() -> Limits {
    Limits { fuel: u64::MAX, wall: Duration::from_secs(3_600), ..Limits::default() }
}

fn trap(reason: &str) -> Outcome {
    Outcome::Trapped { reason: reason.into() }
}

#[tokio::test]
async fn a_module_ends_with_its_exit_code() {
    assert!(Rig::new(&command(&[], "")).outcome().await.is_success());
    for code in [0, 1, 42, 125, 126, 255, -1] {
        assert_eq!(Rig::new(&exits_with(&[], &format!("(i32.const {code})"))).code().await, code);
    }
}

#[tokio::test]
async fn a_trap_is_an_outcome() {
    for (body, reason) in [
        ("unreachable", "wasm `unreachable` instruction executed"),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", "integer divide by zero"),
        ("(drop (i32.load (i32.const 100000000)))", "out of bounds memory access"),
    ] {
        assert_eq!(Rig::new(&command(&[], body)).outcome().await, trap(reason));
    }
    let endless_recursion = "(module (func $f (export \"_start\") (call $f)))";
    assert_eq!(Rig::new(endless_recursion).outcome().await, trap("call stack exhausted"));
}

#[tokio::test]
async fn a_loop_burns_its_fuel_and_always_as_much() {
    let mut rig = Rig::new(&command(&[], FOREVER));
    rig.limits = Limits { fuel: 1_000_000, ..endless() };
    let report = rig.run().await;
    assert_eq!(report.outcome, Outcome::OutOfFuel { limit: 1_000_000 });
    assert_eq!(report.fuel_used, 1_000_000);

    let counting = "(local $i i32) (loop $again (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 5000))))";
    let used = Rig::new(&command(&[], counting)).run().await.fuel_used;
    assert!(used > 5_000);
    assert_eq!(used, Rig::new(&command(&[], counting)).run().await.fuel_used);
}

#[tokio::test]
async fn a_loop_with_fuel_ends_at_the_wall() {
    let mut rig = Rig::new(&command(&[], FOREVER));
    rig.limits = Limits { wall: Duration::from_millis(300), ..endless() };
    let report = rig.run().await;
    assert_eq!(report.outcome, Outcome::TimedOut { limit: Duration::from_millis(300) });
    assert!(report.seconds >= 0.3 && report.seconds < 30.0, "{}", report.seconds);
}

#[tokio::test]
async fn compiling_is_timed_too() {
    let mut rig = Rig::new(&command(&[], &"(loop (br_if 0 (i32.const 0)))".repeat(5_000)));
    rig.limits.wall = Duration::ZERO;
    assert_eq!(rig.outcome().await, Outcome::TimedOut { limit: Duration::ZERO });
}

#[tokio::test]
async fn cancelling_ends_a_loop() {
    let mut rig = Rig::new(&command(&[], FOREVER));
    rig.limits = endless();
    let (engine, cancel) = (Engine::new().unwrap(), CancellationToken::new());
    let run = engine.run(rig.job.clone(), rig.limits.clone(), cancel.clone());
    let (report, ()) = tokio::join!(run, async { cancel.cancel() });
    assert_eq!(report.unwrap().outcome, Outcome::Cancelled);
}

#[test]
fn a_run_that_nobody_waits_for_ends() {
    let mut rig =
        Rig::new(&command(&["out"], "(drop (call $create (i32.const 64) (i32.const 3))) (loop $again (br $again))"));
    rig.limits = endless();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = Engine::new().unwrap();
        let run = engine.run(rig.job.clone(), rig.limits.clone(), CancellationToken::new());
        let started = async {
            while !rig.out("out").exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            report = run => panic!("ended by itself: {:?}", report),
            () = started => {}
        }
    });
    // Waits for the thread of the run: hangs if it still loops.
    drop(runtime);
}

#[tokio::test]
async fn memory_is_limited_from_the_start_and_when_it_grows() {
    let grow = "(drop (memory.grow (i32.const 100)))";
    let mut rig = Rig::new(&command(&[], grow));
    assert!(rig.outcome().await.is_success());
    rig.limits.memory_bytes = 2 << 20;
    assert_eq!(rig.outcome().await, Outcome::OutOfMemory { limit: 2 << 20 });
    rig.limits.memory_bytes = 1 << 19;
    assert_eq!(rig.outcome().await, Outcome::OutOfMemory { limit: 1 << 19 }, "16 pages to begin with");

    let own_limit = r#"(module (memory (export "memory") 1 2)
        (func (export "_start") (if (i32.ne (memory.grow (i32.const 100)) (i32.const -1)) (then unreachable))))"#;
    assert!(Rig::new(own_limit).outcome().await.is_success(), "a module hears of the limit it set itself");
}

#[tokio::test]
async fn what_is_printed_is_cut_not_punished() {
    let body = "(local $i i32)
        (i32.store8 (i32.const 64) (i32.const 120))
        (loop $again
            (call $check (call $write (i32.const 1) (i32.const 64) (i32.const 1)))
            (call $check (call $write (i32.const 2) (i32.const 65) (i32.const 50000)))
            (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100))))";
    let mut rig = Rig::new(&command(&[], body));
    rig.limits.console_bytes = 10;
    rig.limits.output_bytes = 0;
    let report = rig.run().await;
    assert!(report.outcome.is_success(), "{}", report.outcome);
    assert_eq!((report.stdout.text(), report.stdout.dropped), ("xxxxxxxxxx".into(), 90));
    assert_eq!((report.stderr.bytes.len(), report.stderr.dropped), (10, 5_000_000 - 10));
}

#[tokio::test]
async fn a_flood_of_output_stops_before_it_is_over_the_limit() {
    let body = "(local $fd i32)
        (local.set $fd (call $create (i32.const 64) (i32.const 5)))
        (loop $again (call $check (call $write (local.get $fd) (i32.const 0) (i32.const 100000))) (br $again))";
    let mut rig = Rig::new(&command(&["flood"], body));
    rig.limits.output_bytes = 1_050_000;
    let report = rig.run().await;
    assert_eq!(report.outcome, Outcome::OutputTooLarge { limit: "1050000 bytes".into() });
    assert_eq!(std::fs::metadata(rig.out("flood")).unwrap().len(), 1_000_000);
}

#[tokio::test]
async fn holes_count_as_output() {
    let over = Outcome::OutputTooLarge { limit: "1000 bytes".into() };
    let far = "(local $fd i32) (local.set $fd (call $create (i32.const 64) (i32.const 1)))
        (i32.store (i32.const 8) (i32.const 64)) (i32.store (i32.const 12) (i32.const 1))
        (call $check (call $fd_pwrite (local.get $fd) (i32.const 8) (i32.const 1) (i64.const 100000000000) (i32.const 16)))";
    let grown = "(call $check (call $set_size (call $create (i32.const 64) (i32.const 1)) (i64.const 1001)))";
    let summed = "(call $check (call $set_size (call $create (i32.const 64) (i32.const 1)) (i64.const 600)))
        (call $check (call $set_size (call $create (i32.const 128) (i32.const 1)) (i64.const 600)))";
    for body in [far, grown, summed] {
        let mut rig = Rig::new(&command(&["a", "b"], body));
        rig.limits.output_bytes = 1_000;
        assert_eq!(rig.outcome().await, over, "{body}");
    }
}

#[tokio::test]
async fn a_flood_of_files_stops() {
    // Makes and removes the same file and folder: each counts, none is left.
    let body = "(loop $again
            (call $check (call $fd_close (call $create (i32.const 64) (i32.const 1))))
            (call $check (call $unlink (i32.const 4) (i32.const 64) (i32.const 1)))
            (br $again))";
    let nested = "(loop $again (drop (call $mkdir (i32.const 4) (i32.const 64) (i32.const 1))) (br $again))";
    for body in [body, nested] {
        let mut rig = Rig::new(&command(&["f"], body));
        rig.limits.output_files = 100;
        assert_eq!(rig.outcome().await, Outcome::OutputTooLarge { limit: "100 files and folders".into() });
    }
}

#[tokio::test]
async fn descriptors_of_this_process_are_not_the_modules_to_use_up() {
    let body = "(loop $again (drop (call $create (i32.const 64) (i32.const 1))) (br $again))";
    assert_eq!(Rig::new(&command(&["f"], body)).outcome().await, trap("it holds more than 64 files open at once"));
}

#[tokio::test]
async fn what_is_no_command_is_refused() {
    let invalid = |outcome: Outcome| match outcome {
        Outcome::InvalidModule { reason } => reason,
        other => panic!("accepted: {other}"),
    };
    for bytes in [&b""[..], b"\0asm", b"#!/bin/sh\necho\n", &[0; 1_000]] {
        invalid(Rig::binary(bytes.to_vec()).outcome().await);
    }
    let component = wat::parse_str("(component)").unwrap();
    invalid(Rig::binary(component).outcome().await);
    let no_start = invalid(Rig::new("(module (memory (export \"memory\") 1))").outcome().await);
    assert_eq!(no_start, "it exports no function _start without arguments");
    let import = r#"(module (import "env" "socket" (func)) (func (export "_start")))"#;
    let reason = invalid(Rig::new(import).outcome().await);
    assert!(reason.contains("env::socket"), "{reason}");
    let mut large = Rig::new(&command(&[], ""));
    large.limits.module_bytes = 10;
    assert!(invalid(large.outcome().await).ends_with("the limit is 10"));
    let bomb = format!("(module (func (export \"_start\") {}))", "(loop (br_if 0 (i32.const 0)))".repeat(30_000));
    assert!(invalid(Rig::new(&bomb).outcome().await).contains("too many branches"));
    let table = "(module (table 4000000 funcref) (func (export \"_start\")))";
    invalid(Rig::new(table).outcome().await);
    let no_memory = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
        (func (export "_start") (drop (call $w (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))))"#;
    assert_eq!(Rig::new(no_memory).outcome().await, trap("it exports no memory"));
}

#[tokio::test]
async fn pointers_that_lead_nowhere_are_error_numbers() {
    const FAULT: i32 = 21;
    const INVAL: i32 = 28;
    for (call, errno) in [
        ("(call $fd_write (i32.const 1) (i32.const -4) (i32.const 1) (i32.const 0))", INVAL),
        ("(call $fd_write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 0))", INVAL),
        ("(call $write (i32.const 1) (i32.const -1) (i32.const 5))", FAULT),
        ("(call $write (i32.const 1) (i32.const 64) (i32.const -1))", FAULT),
        ("(call $random (i32.const 1048570) (i32.const 100))", FAULT),
        ("(call $random (i32.const 0) (i32.const -1))", INVAL),
        ("(call $time (i32.const 0) (i64.const 0) (i32.const -1))", FAULT),
        ("(call $poll (i32.const -48) (i32.const 0) (i32.const 1) (i32.const 0))", FAULT),
        ("(call $poll (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))", INVAL),
        ("(call $poll (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0))", INVAL),
    ] {
        assert_eq!(Rig::new(&exits_with(&[], call)).code().await, errno, "{call}");
    }
}

#[tokio::test]
async fn a_run_without_computed_json_has_no_result() {
    let rig = Rig::new(&command(&[], ""));
    assert!(rig.outcome().await.is_success());
    let refusal = output::Output::read(&rig.job.output_dir).unwrap_err();
    assert!(matches!(refusal, output::Error::App(computed::Error::NoFile)), "{refusal}");
    assert_eq!(refusal.to_string(), "app wrote no computed.json to /iexec_out: it must name its result there");
}

#[tokio::test]
async fn a_missing_folder_is_this_machines_fault() {
    let mut rig = Rig::new(&command(&[], ""));
    rig.job.input_dir.push("nowhere");
    assert!(matches!(rig.try_run().await, Err(Error::Folder { path, .. }) if path == rig.job.input_dir));
}
