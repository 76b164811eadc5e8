//! What holds up a scheduler that starts again.

use crate::{
    market::WORKER,
    world::{World, eventually},
};
use bourse_protocol::replicate::Status;

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
