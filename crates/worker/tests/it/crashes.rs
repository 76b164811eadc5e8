//! `kill -9` at any point is followed by going on.

use crate::{
    market::{Request, WORKER},
    world::{World, answering, endless, slow},
};
use bourse_protocol::{deal::ContributionStatus, link::ToWorker, replicate::Status};

/// Kills the worker as soon as it reports `status`, starts it again and sees the task through.
async fn survives_a_kill_at(status: Status) {
    let mut world = World::with_worker().await;
    let task = world.assign(&slow("42", 20_000_000)).await.task;
    let uploading = matches!(status, Status::ResultUploading | Status::ResultUploaded);
    if uploading {
        world.pool.until(task, Status::Revealed).await;
        world.pool.send(&ToWorker::Upload { task });
    }
    world.pool.until(task, status).await;
    world.kill().await;
    world.start().await;
    assert_eq!(world.pool.report(task).await.0, Status::Recovering, "killed at {status}");
    while world.contribution(task).await != ContributionStatus::Proved {
        tokio::task::yield_now().await;
    }
    let link = world.finish(task).await;
    assert_eq!(world.store.get(&link.location).unwrap(), b"42");
    assert_eq!(world.market.transactions(WORKER).await, 2, "killed at {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_before_the_answer_computes_it_again() {
    for status in [Status::Running, Status::AppDownloading, Status::DataDownloaded, Status::Computing] {
        survives_a_kill_at(status).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_around_the_contribution_sends_it_once() {
    for status in [Status::Computed, Status::CanContribute, Status::Contributing, Status::Contributed] {
        survives_a_kill_at(status).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_around_the_reveal_or_the_upload_loses_nothing() {
    for status in [Status::Revealing, Status::Revealed, Status::ResultUploading, Status::ResultUploaded] {
        survives_a_kill_at(status).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_away_during_the_consensus_reveals_when_it_is_back() {
    let mut world = World::with_worker().await;
    let app = world.market.app(&world.store, &answering("42")).await;
    let task = world.assign_request(Request { trust: 3, ..Request::of(app) }).await.task;
    world.pool.until(task, Status::Contributed).await;
    world.kill().await;
    let digest = bourse_protocol::ids::ResultDigest(crate::market::sha256(b"42"));
    world.market.contribute(WORKER + 1, task, digest).await;
    world.market.reveal(WORKER + 1, task, digest).await;
    world.start().await;
    world.pool.until(task, Status::Revealed).await;
    world.finish(task).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_ended_meanwhile_is_closed_and_its_folder_removed() {
    let mut world = World::with_worker().await;
    let task = world.assign(&endless()).await.task;
    world.pool.until(task, Status::Computing).await;
    world.kill().await;
    assert!(world.task_folder(task).exists());
    let digest = bourse_protocol::ids::ResultDigest(crate::market::sha256(b"42"));
    world.market.contribute(WORKER + 1, task, digest).await;
    world.start().await;
    let mut last = world.pool.report(task).await.0;
    while !last.is_final() {
        last = world.pool.report(task).await.0;
    }
    assert_eq!(last, Status::AbortedOnConsensusReached);
    assert_eq!(world.market.transactions(WORKER).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_a_run_is_quick_and_clean() {
    let mut world = World::with_worker().await;
    let task = world.assign(&endless()).await.task;
    world.pool.until(task, Status::Computing).await;
    let began = std::time::Instant::now();
    world.stop().await.unwrap();
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    world.start().await;
    world.pool.until(task, Status::Computing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_replicate_is_not_begun_again() {
    let mut world = World::with_worker().await;
    let category = world.market.create_category(1).await;
    let app = world.market.app(&world.store, &endless()).await;
    let assignment = world.assign_request(Request { category, ..Request::of(app) }).await;
    loop {
        if world.pool.report(assignment.task).await.0 == Status::Failed {
            break;
        }
    }
    world.pool.send(&ToWorker::Assign(assignment.clone()));
    assert_eq!(world.pool.report(assignment.task).await.0, Status::Failed);
}
