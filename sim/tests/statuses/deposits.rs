//! Wallets that want work and have nothing to put at stake.

use crate::{
    market::{OTHER, WORKER},
    world::{World, heard},
};
use bourse_protocol::{link::ToWorker, money::Nrlc, replicate::Status};
use bourse_service::wire::Wire;
use std::time::Duration;

/// Waits for the reason why there is no work that speaks of the stake.
async fn hears_that_it_lacks_the_stake(wire: &mut impl Wire) {
    loop {
        match heard(wire).await {
            ToWorker::NoWork { reason } if reason.contains("at stake") => return,
            ToWorker::NoWork { .. } => {}
            message => panic!("{message:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_without_a_deposit_gets_nothing_until_it_has_one() {
    let world = World::open().await;
    world.market.withdraw(WORKER).await;
    let task = world.buy(1).await;
    world.opened(task).await;
    let mut stranger = world.log_in(WORKER, vec![]).await.unwrap();
    hears_that_it_lacks_the_stake(&mut stranger).await;
    world.market.deposit_for(WORKER, Nrlc::rlc(1_000)).await;
    let ToWorker::Assign(assignment) = heard(&mut stranger).await else { panic!("it has deposited") };
    assert_eq!(assignment.task, task);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_without_a_deposit_keeps_no_task_from_those_who_have_one() {
    let world = World::open().await;
    world.market.withdraw(OTHER).await;
    let task = world.buy(1).await;
    world.opened(task).await;
    let mut stranger = world.log_in(OTHER, vec![]).await.unwrap();
    hears_that_it_lacks_the_stake(&mut stranger).await;
    let worker = world.worker(WORKER).await;
    world.until(task, &worker, Status::Completed).await;
    let more = tokio::time::timeout(Duration::from_millis(200), heard(&mut stranger)).await;
    assert!(!matches!(more, Ok(ToWorker::Assign(_))), "{more:?}");
}
