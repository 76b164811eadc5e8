//! The causes. Each function brings one about and returns the life of the replicate that it happened to.

use crate::{
    machine::{ANSWER, Work},
    market::{OTHER, PERIOD, Request, WORKER, sha256},
    node::Treat,
    world::{Life, Worker, World},
};
use bourse_protocol::{Address, B256, U256, ids::TaskId, ipfs::Multiaddr, link::LOST_SECONDS, replicate::Status};
use bourse_service::clock::Clock;
use std::time::Duration;

/// A module that leaves [`ANSWER`] as its result.
fn answering() -> Vec<u8> {
    let computed = r#"{"deterministic-output-path":"/iexec_out/r"}"#;
    let answer = String::from_utf8_lossy(ANSWER);
    let text = format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_open"
            (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 64) "r") (data (i32.const 80) {answer:?})
        (data (i32.const 100) "computed.json") (data (i32.const 200) {computed:?})
        ;; Writes a file below /iexec_out, which is descriptor 4.
        (func $file (param $path i32) (param $path_length i32) (param $text i32) (param $text_length i32)
            (if (call $path_open (i32.const 4) (i32.const 0) (local.get $path) (local.get $path_length)
                (i32.const 1) (i64.const 66) (i64.const 66) (i32.const 0) (i32.const 0)) (then unreachable))
            (i32.store (i32.const 8) (local.get $text))
            (i32.store (i32.const 12) (local.get $text_length))
            (if (call $fd_write (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i32.const 16)) (then unreachable)))
        (func (export "_start")
            (call $file (i32.const 64) (i32.const 1) (i32.const 80) (i32.const {}))
            (call $file (i32.const 100) (i32.const 13) (i32.const 200) (i32.const {}))))"#,
        answer.len(),
        computed.len()
    );
    wat::parse_str(text).unwrap()
}

fn trapping() -> Vec<u8> {
    wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#).unwrap()
}

/// Publishes `module` and returns what to buy.
async fn run_of(world: &World, module: &[u8]) -> Request {
    Request::of(world.market.app(Multiaddr::Ipfs(world.shelf.put(module)), sha256(module)).await)
}

/// A world with one worker, whose machine computes what was bought and does not end.
async fn at_work(trust: u64) -> (World, Worker, TaskId) {
    let world = World::open().await;
    let worker = world.worker(WORKER).await;
    worker.machine().compute(Work::Hangs);
    let task = world.buy(trust).await;
    world.until(task, &worker, Status::Computing).await;
    (world, worker, task)
}

/// The same, where the machine has ended and the worker does not hear its node any more.
async fn about_to_contribute(trust: u64) -> (World, Worker, TaskId) {
    let (world, worker, task) = at_work(trust).await;
    worker.node.behave(|manners| manners.silent = true);
    // What it saw of its node a moment ago it still believes.
    tokio::time::sleep(Duration::from_millis(500)).await;
    worker.machine().compute(Work::Done);
    world.until(task, &worker, Status::Computed).await;
    (world, worker, task)
}

pub(crate) async fn two_workers_that_agree_are_paid() -> Life {
    let world = World::open().await;
    let (worker, other) = (world.sandbox(WORKER).await, world.sandbox(OTHER).await);
    worker.node.behave(|manners| (manners.contribute, manners.reveal) = (Treat::Held, Treat::Held));
    other.node.behave(|manners| (manners.contribute, manners.reveal) = (Treat::Held, Treat::Held));
    let request = run_of(&world, &answering()).await;
    let task = world.market.buy(Request { trust: 3, ..request }).await;
    world.until(task, &worker, Status::Contributing).await;
    worker.node.behave(|manners| manners.contribute = Treat::Passes);
    world.until(task, &worker, Status::Contributed).await;
    other.node.behave(|manners| manners.contribute = Treat::Passes);
    world.until(task, &worker, Status::Revealing).await;
    worker.node.behave(|manners| manners.reveal = Treat::Passes);
    // The only one that has revealed is asked for the result.
    world.until(task, &worker, Status::ResultUploaded).await;
    other.node.behave(|manners| manners.reveal = Treat::Passes);
    world.until(task, &other, Status::Completed).await;
    world.until(task, &worker, Status::Completed).await
}

pub(crate) async fn a_result_that_a_contract_waits_for() -> Life {
    let world = World::open().await;
    let worker = world.worker(WORKER).await;
    let callback = Address::repeat_byte(0xca);
    let request = run_of(&world, b"not looked at").await;
    let task = world.market.buy(Request { callback, ..request }).await;
    world.until(task, &worker, Status::Completed).await
}

pub(crate) async fn an_app_with_another_checksum() -> Life {
    let world = World::open().await;
    let worker = world.sandbox(WORKER).await;
    let app = world.market.app(Multiaddr::Ipfs(world.shelf.put(&answering())), B256::repeat_byte(7)).await;
    let task = world.market.buy(Request::of(app)).await;
    world.until(task, &worker, Status::Completed).await
}

pub(crate) async fn an_app_at_a_private_address() -> Life {
    let world = World::open().await;
    let worker = world.sandbox(WORKER).await;
    let place = Multiaddr::Http("http://10.0.0.1/app.wasm".into());
    let task = world.market.buy(Request::of(world.market.app(place, sha256(b"x")).await)).await;
    world.until(task, &worker, Status::Failed).await
}

pub(crate) async fn a_dataset_with_another_checksum() -> Life {
    let world = World::open().await;
    let worker = world.sandbox(WORKER).await;
    let dataset = world.market.dataset(world.shelf.put(b"data"), B256::repeat_byte(7)).await;
    let request = run_of(&world, &answering()).await;
    let task = world.market.buy(Request { dataset, ..request }).await;
    world.until(task, &worker, Status::Completed).await
}

pub(crate) async fn an_input_file_at_a_private_address() -> Life {
    let world = World::open().await;
    let worker = world.sandbox(WORKER).await;
    let params = r#"{"iexec_input_files":["http://10.0.0.1/secret"]}"#.into();
    let request = run_of(&world, &answering()).await;
    let task = world.market.buy(Request { params, ..request }).await;
    world.until(task, &worker, Status::Failed).await
}

pub(crate) async fn an_app_that_traps() -> Life {
    let world = World::open().await;
    let worker = world.sandbox(WORKER).await;
    let request = run_of(&world, &trapping()).await;
    let task = world.market.buy(request).await;
    world.until(task, &worker, Status::Completed).await
}

pub(crate) async fn a_machine_that_fails() -> Life {
    let (world, worker, task) = at_work(1).await;
    worker.machine().compute(Work::Fails);
    world.until(task, &worker, Status::Failed).await
}

pub(crate) async fn a_wallet_without_ether_before_the_work() -> Life {
    let world = World::open().await;
    let worker = world.worker(WORKER).await;
    world.market.set_ether(WORKER, U256::ONE).await;
    let task = world.buy(1).await;
    world.until(task, &worker, Status::Failed).await
}

pub(crate) async fn a_wallet_without_ether_after_the_work() -> Life {
    let (world, worker, task) = at_work(1).await;
    world.market.set_ether(WORKER, U256::ONE).await;
    worker.machine().compute(Work::Done);
    world.until(task, &worker, Status::OutOfGas).await;
    worker.tries_to_pay(3).await;
    let life = world.until(task, &worker, Status::OutOfGas).await;
    let said = life.iter().filter(|known| known.0 == Status::OutOfGas).count();
    assert_eq!(said, 1, "what has not changed is not said again: {life:#?}");
    worker.node.behave(|manners| manners.contribute = Treat::Held);
    world.market.set_ether(WORKER, U256::from(10).pow(U256::from(18))).await;
    world.until(task, &worker, Status::Contributing).await;
    worker.node.behave(|manners| manners.contribute = Treat::Passes);
    world.until(task, &worker, Status::Completed).await
}

pub(crate) async fn a_wallet_without_ether_for_the_reveal() -> Life {
    let (world, worker, task) = at_work(3).await;
    worker.machine().compute(Work::Done);
    world.until(task, &worker, Status::Contributed).await;
    world.market.set_ether(WORKER, U256::ONE).await;
    world.market.contribute(OTHER, task, ANSWER, OTHER).await;
    world.until(task, &worker, Status::OutOfGas).await;
    worker.tries_to_pay(3).await;
    let life = world.until(task, &worker, Status::OutOfGas).await;
    let said = life.iter().filter(|known| known.0 == Status::OutOfGas).count();
    assert_eq!(said, 1, "what has not changed is not said again: {life:#?}");
    world.market.set_ether(WORKER, U256::from(10).pow(U256::from(18))).await;
    world.after(task, &worker, Status::ResultUploaded).await
}

/// Its wallet has ether for one task and a bit, and a free slot for another.
pub(crate) async fn ether_for_one_task_where_two_are_offered() -> Life {
    let world = World::open().await;
    let worker = world.worker_with_slots(WORKER, 2).await;
    worker.machine().compute(Work::Hangs);
    let first = world.buy(3).await;
    world.until(first, &worker, Status::Computing).await;
    world.market.set_ether(WORKER, world.market.ether_for_a_task(120).await).await;
    let second = world.buy(1).await;
    let life = world.until(second, &worker, Status::Failed).await;
    worker.machine().compute(Work::Done);
    world.until(first, &worker, Status::Contributed).await;
    world.market.contribute(OTHER, first, ANSWER, OTHER).await;
    world.after(first, &worker, Status::Revealed).await;
    life
}

/// Its wallet has ether for one task, if it had nothing to reveal.
pub(crate) async fn ether_that_an_earlier_reveal_needs() -> Life {
    let (world, worker, first) = at_work(3).await;
    worker.machine().compute(Work::Done);
    world.until(first, &worker, Status::Contributed).await;
    world.market.set_ether(WORKER, world.market.ether_for_a_task(105).await).await;
    let second = world.buy(1).await;
    let life = world.until(second, &worker, Status::Failed).await;
    world.market.contribute(OTHER, first, ANSWER, OTHER).await;
    world.after(first, &worker, Status::Revealed).await;
    life
}

/// Returns what the second is told.
pub(crate) async fn a_second_worker_of_one_wallet() -> String {
    let (world, worker, task) = at_work(1).await;
    let refused = world.log_in(WORKER, vec![]).await.err().unwrap();
    worker.machine().compute(Work::Done);
    world.until(task, &worker, Status::Completed).await;
    refused.reason
}

pub(crate) async fn time_that_is_moved() -> Life {
    let (world, worker, task) = at_work(1).await;
    world.pass(LOST_SECONDS + 10).await;
    worker.machine().compute(Work::Done);
    world.until(task, &worker, Status::Completed).await
}

pub(crate) async fn a_deposit_that_was_withdrawn() -> Life {
    let (world, worker, task) = at_work(1).await;
    world.market.withdraw(WORKER).await;
    worker.machine().compute(Work::Done);
    world.until(task, &worker, Status::CantContributeSinceStakeTooLow).await
}

pub(crate) async fn others_that_agree_while_the_pool_looks_away() -> Life {
    let (world, worker, task) = about_to_contribute(1).await;
    world.pool_node.behave(|manners| manners.silent = true);
    world.market.contribute(OTHER, task, ANSWER, OTHER).await;
    worker.node.behave(|manners| manners.silent = false);
    world.until(task, &worker, Status::CantContributeSinceTaskNotActive).await
}

pub(crate) async fn a_deadline_that_passes_while_the_pool_looks_away() -> Life {
    let (world, worker, task) = about_to_contribute(1).await;
    world.pool_node.behave(|manners| manners.silent = true);
    world.market.pass(7 * PERIOD + 1).await;
    worker.node.behave(|manners| manners.silent = false);
    world.until(task, &worker, Status::CantContributeSinceAfterDeadline).await
}

pub(crate) async fn a_contribution_of_the_same_wallet_from_elsewhere() -> Life {
    let (world, worker, task) = at_work(3).await;
    world.market.contribute(WORKER, task, b"another answer", WORKER).await;
    world.until(task, &worker, Status::Contributed).await;
    worker.machine().compute(Work::Done);
    world.until(task, &worker, Status::CantContributeSinceContributionAlreadySet).await
}

pub(crate) async fn a_node_that_refuses_the_contribution() -> Life {
    let (world, worker, task) = at_work(1).await;
    worker.node.behave(|manners| manners.contribute = Treat::Refused);
    worker.machine().compute(Work::Done);
    world.until(task, &worker, Status::ContributeFailed).await
}

pub(crate) async fn a_contribution_from_elsewhere_that_another_sealed() -> Life {
    let (world, worker, task) = about_to_contribute(1).await;
    world.market.contribute(WORKER, task, ANSWER, OTHER).await;
    world.until(task, &worker, Status::Contributed).await;
    worker.node.behave(|manners| manners.silent = false);
    world.until(task, &worker, Status::CantReveal).await
}

pub(crate) async fn reveals_that_fail_on_chain() -> Life {
    let (world, worker, task) = at_work(1).await;
    worker.node.behave(|manners| manners.reveal = Treat::Reverts);
    worker.machine().compute(Work::Done);
    world.until(task, &worker, Status::RevealFailed).await
}

pub(crate) async fn a_node_that_refuses_the_reveal_until_it_is_too_late() -> Life {
    let (world, worker, task) = at_work(1).await;
    worker.node.behave(|manners| manners.reveal = Treat::Refused);
    worker.machine().compute(Work::Done);
    world.after(task, &worker, Status::Revealing).await;
    world.market.pass(2 * PERIOD + 1).await;
    world.until(task, &worker, Status::RevealTimeout).await
}

pub(crate) async fn a_disk_that_is_lost_during_the_upload() -> Life {
    let (world, mut worker, task) = at_work(1).await;
    worker.machine().store(Work::Hangs);
    worker.machine().compute(Work::Done);
    world.until(task, &worker, Status::ResultUploading).await;
    worker.kill().await;
    worker.lose_disk();
    worker.start().await;
    world.until(task, &worker, Status::ResultUploadRequestFailed).await
}

pub(crate) async fn a_store_without_room() -> Life {
    let (world, worker, task) = at_work(1).await;
    worker.machine().store(Work::Fails);
    worker.machine().compute(Work::Done);
    world.until(task, &worker, Status::ResultUploadFailed).await
}

pub(crate) async fn a_store_that_cannot_be_read_for_a_while() -> Life {
    let (world, worker, task) = at_work(1).await;
    world.shelf.is_busy_once();
    worker.machine().compute(Work::Done);
    let life = world.until(task, &worker, Status::Completed).await;
    assert!(!world.shelf.is_busy(), "nobody came at that time");
    life
}

pub(crate) async fn a_worker_that_falls_silent_and_comes_back() -> Life {
    let clock = Clock::virtual_at(Clock::Wall.seconds());
    let world = World::with_clock(clock.clone()).await;
    let mut worker = world.worker(WORKER).await;
    worker.machine().compute(Work::Hangs);
    let task = world.buy(1).await;
    world.until(task, &worker, Status::Computing).await;
    worker.kill().await;
    until_over_time(&world, &clock, task, &worker, Status::WorkerLost).await;
    worker.start().await;
    world.after(task, &worker, Status::Recovering).await;
    world.until(task, &worker, Status::Computing).await
}

/// Lets the scheduler's time pass until `status` is the last of the worker's life in a task.
async fn until_over_time(world: &World, clock: &Clock, task: TaskId, worker: &Worker, status: Status) -> Life {
    // Not all at once: a scheduler that stands still for long does not know who was silent.
    let time_goes_on = async {
        loop {
            clock.advance(Duration::from_secs(LOST_SECONDS / 6));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        life = world.until(task, worker, status) => life,
        () = time_goes_on => panic!("it has no end"),
    }
}

pub(crate) async fn a_worker_that_falls_silent_after_it_has_contributed_and_comes_back() -> Life {
    let clock = Clock::virtual_at(Clock::Wall.seconds());
    let world = World::with_clock(clock.clone()).await;
    let mut worker = world.worker(WORKER).await;
    let task = world.buy(3).await;
    world.until(task, &worker, Status::Contributed).await;
    worker.kill().await;
    until_over_time(&world, &clock, task, &worker, Status::WorkerLost).await;
    // Long after, too.
    for _ in 0..12 {
        clock.advance(Duration::from_secs(LOST_SECONDS / 6));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let life = world.until(task, &worker, Status::WorkerLost).await;
    assert_eq!(life.iter().filter(|known| known.0 == Status::WorkerLost).count(), 1, "{life:#?}");
    worker.start().await;
    world.after(task, &worker, Status::Recovering).await;
    world.until(task, &worker, Status::Contributed).await;
    world.market.contribute(OTHER, task, ANSWER, OTHER).await;
    world.after(task, &worker, Status::Revealed).await
}

pub(crate) async fn a_worker_that_restarts_after_it_has_contributed() -> Life {
    let (world, mut worker, task) = at_work(3).await;
    worker.machine().compute(Work::Done);
    world.until(task, &worker, Status::Contributed).await;
    worker.kill().await;
    worker.start().await;
    world.after(task, &worker, Status::Recovering).await;
    world.until(task, &worker, Status::Contributed).await;
    world.market.contribute(OTHER, task, ANSWER, OTHER).await;
    world.after(task, &worker, Status::Revealed).await
}

/// Another one is asked for the result.
pub(crate) async fn a_worker_that_restarts_after_it_has_revealed() -> Life {
    let world = World::open().await;
    let (mut worker, other) = (world.worker(WORKER).await, world.worker(OTHER).await);
    other.machine().store(Work::Hangs);
    worker.node.behave(|manners| manners.reveal = Treat::Held);
    let task = world.buy(3).await;
    world.until(task, &other, Status::ResultUploading).await;
    worker.node.behave(|manners| manners.reveal = Treat::Passes);
    world.until(task, &worker, Status::Revealed).await;
    worker.kill().await;
    worker.start().await;
    world.after(task, &worker, Status::Recovering).await;
    world.until(task, &worker, Status::Revealed).await;
    other.machine().store(Work::Done);
    world.until(task, &worker, Status::Completed).await
}

/// The worker's wallet contributes and finalizes at once, as an enclave's worker does.
pub(crate) async fn a_task_that_is_ended_in_one_transaction() -> Life {
    let (world, worker, task) = at_work(1).await;
    world.market.contribute_and_finalize(WORKER, task, ANSWER).await;
    world.until(task, &worker, Status::Completed).await
}

pub(crate) async fn a_machine_that_hangs_for_a_period() -> Life {
    let (world, worker, task) = at_work(1).await;
    world.market.pass(PERIOD + 1).await;
    world.until(task, &worker, Status::WorkerLost).await
}

pub(crate) async fn a_worker_that_restarts() -> Life {
    let (world, mut worker, task) = at_work(1).await;
    worker.kill().await;
    worker.start().await;
    world.after(task, &worker, Status::Recovering).await;
    world.until(task, &worker, Status::Computing).await;
    worker.machine().compute(Work::Done);
    world.until(task, &worker, Status::Completed).await
}

pub(crate) async fn others_that_agree_first() -> Life {
    let (world, worker, task) = at_work(1).await;
    world.market.contribute(OTHER, task, ANSWER, OTHER).await;
    world.until(task, &worker, Status::AbortedOnConsensusReached).await
}

/// A worker that begins late has less than a period left.
pub(crate) async fn a_deadline_that_passes() -> Life {
    let world = World::open().await;
    let task = world.buy(1).await;
    world.opened(task).await;
    world.pass(6 * PERIOD + PERIOD / 2).await;
    let worker = world.worker(WORKER).await;
    worker.machine().compute(Work::Hangs);
    world.until(task, &worker, Status::Computing).await;
    world.market.pass(PERIOD / 2 + 1).await;
    world.until(task, &worker, Status::AbortedOnContributionTimeout).await
}

pub(crate) async fn a_task_that_nobody_else_works_on() -> Life {
    let (world, worker, task) = at_work(3).await;
    worker.machine().compute(Work::Done);
    world.until(task, &worker, Status::Contributed).await;
    world.market.pass(10 * PERIOD + 1).await;
    world.until(task, &worker, Status::Failed).await
}
