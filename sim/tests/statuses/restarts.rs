//! A scheduler that starts again: what holds it up, and what it says to those who come back.

use crate::{
    market::WORKER,
    world::{World, eventually, heard},
};
use bourse_protocol::{link::ToWorker, replicate::Status};
use bourse_service::wire::Wire;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_whose_node_has_lost_its_state_waits_and_goes_on() {
    let mut world = World::open().await;
    let task = world.buy(1).await;
    world.opened(task).await;
    world.pool_node.behave(|node| node.forgetful = true);
    world.restart_scheduler().await;
    eventually("the node is asked again", async || world.pool_node.forgot() > 1).await;
    world.pool_node.behave(|node| node.forgetful = false);
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
