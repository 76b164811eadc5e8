//! What a reorganisation takes back that the scheduler had put away.

use crate::{
    market::WORKER,
    world::{World, eventually},
};
use bourse_protocol::{deal::TaskStatus, replicate::Status, task::Stage};

/// So many blocks lie above what nobody watches any more.
const BURIED: u64 = 70;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deal_that_a_reorg_takes_away_leaves_the_table() {
    let mut world = World::open().await;
    let stays = world.buy(1).await;
    world.opened(stays).await;
    let height = world.market.height().await;
    let goes = world.buy(1).await;
    world.opened(goes).await;
    // Nobody hands the purchase in again.
    world.market.fall_silent().await;
    world.market.reorganise(world.market.height().await - height).await;
    eventually("the task is forgotten", async || world.view(goes).await.is_none()).await;
    assert!(world.view(stays).await.is_some(), "the other deal is still on the chain");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_a_deep_reorg_reopens_is_paid_again() {
    let world = World::open().await;
    let worker = world.worker(WORKER).await;
    let task = world.buy(1).await;
    world.until(task, &worker, Status::Completed).await;
    world.market.mine(BURIED).await;
    // A task that is put away shows no deadlines any more.
    let put_away = async || world.view(task).await.is_some_and(|view| view.final_deadline == 0);
    eventually("the task is put away", put_away).await;
    // What comes instead is younger than what the pool noted of the old blocks.
    world.market.pass(200).await;
    world.market.reorganise(BURIED + 2).await;
    assert_eq!(world.market.hub.task(task).await.unwrap().status, TaskStatus::Revealing, "the payment is gone");
    let paid = async || world.market.hub.task(task).await.unwrap().status == TaskStatus::Completed;
    eventually("the task is paid again", paid).await;
    let shown = async || world.view(task).await.is_some_and(|view| view.current_status == Stage::Completed);
    eventually("it is shown as paid", shown).await;
}
