//! A scheduler that starts again: what holds it up, and what it says to those who come back.

use crate::{
    market::WORKER,
    node::rpc,
    world::{World, eventually, heard},
};
use bourse_protocol::{link::ToWorker, replicate::Status};
use bourse_service::{journal::Journal, wire::Wire};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_goes_on_without_reading_anew_what_never_changes() {
    let mut world = World::open().await;
    let task = world.buy(1).await;
    world.opened(task).await;
    world.pool_node.behave(|node| node.forgetful = true);
    world.restart_scheduler().await;
    let worker = world.worker(WORKER).await;
    world.until(task, &worker, Status::Completed).await;
}

/// What a scheduler says about a task to a worker that has just logged in.
async fn first_about_a_task(mut wire: impl Wire) -> ToWorker {
    loop {
        match heard(&mut wire).await {
            ToWorker::NoWork { .. } => {}
            message => return message,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_assigned_again_only_what_it_does_not_hold() {
    let mut world = World::open().await;
    let task = world.buy(1).await;
    let ToWorker::Assign(first) = first_about_a_task(world.log_in(WORKER, vec![]).await.unwrap()).await else {
        panic!("the task is not assigned")
    };
    assert_eq!(first.task, task);
    world.restart_scheduler().await;
    let again = first_about_a_task(world.log_in(WORKER, vec![task]).await.unwrap()).await;
    assert_eq!(again, ToWorker::GoOn { task });
    world.restart_scheduler().await;
    let again = first_about_a_task(world.log_in(WORKER, vec![]).await.unwrap()).await;
    assert_eq!(again, ToWorker::Assign(first), "with the same authorization");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_log_in_while_is_read_what_tasks_of_an_earlier_version_need() {
    let mut world = World::open().await;
    let task = world.buy(1).await;
    let ToWorker::Assign(first) = first_about_a_task(world.log_in(WORKER, vec![]).await.unwrap()).await else {
        panic!("the task is not assigned")
    };
    world.pool_node.behave(|node| node.forgetful = true);
    let as_an_earlier_version = |journal: &Journal| {
        journal.write(|t| t.execute("UPDATE deal SET terms = NULL", [])).unwrap();
    };
    world.restart_scheduler_on(as_an_earlier_version).await;
    let wire = world.log_in(WORKER, vec![]).await.unwrap();
    eventually("the node is asked again", async || world.pool_node.forgot() > 1).await;
    world.pool_node.behave(|node| node.forgetful = false);
    assert_eq!(first_about_a_task(wire).await, ToWorker::Assign(first));
    // What was read is kept.
    world.pool_node.behave(|node| node.forgetful = true);
    world.restart_scheduler().await;
    let again = first_about_a_task(world.log_in(WORKER, vec![task]).await.unwrap()).await;
    assert_eq!(again, ToWorker::GoOn { task });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_without_memory_reads_a_deal_that_is_older_than_what_nodes_keep() {
    let mut world = World::open().await;
    let task = world.buy(1).await;
    world.opened(task).await;
    // Ranges of blocks that are read at once end in the middle of these; the embedded chain keeps the state of 512.
    rpc(&world.market.chain, "anvil_mine", json!([2_700])).await;
    world.restart_scheduler_without_memory().await;
    world.opened(task).await;
}

/// A development chain's time may be moved; what is remembered has its dates.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_on_a_chain_whose_time_is_ahead_ends_no_lease() {
    let mut world = World::open().await;
    world.pass(50_000).await;
    let task = world.buy(1).await;
    let ToWorker::Assign(first) = first_about_a_task(world.log_in(WORKER, vec![]).await.unwrap()).await else {
        panic!("the task is not assigned")
    };
    assert_eq!(first.task, task);
    world.restart_scheduler().await;
    let wire = world.log_in(WORKER, vec![task]).await.unwrap();
    assert_eq!(first_about_a_task(wire).await, ToWorker::GoOn { task });
    // Two full passes, and a block.
    rpc(&world.market.chain, "evm_mine", json!([])).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let view = world.view(task).await.unwrap();
    assert_eq!(view.replicates[0].current_status, Status::Created, "{view:#?}");
}
