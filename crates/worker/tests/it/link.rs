//! The worker's end of the link, against good and bad schedulers.

use crate::{
    market::{Request, WORKER},
    pool::{Heard, Pool},
    world::{World, answering},
};
use bourse_chain::keys::test_key;
use bourse_protocol::{
    Address, B256, U256,
    ids::TaskId,
    link,
    link::{ToScheduler, ToWorker},
    replicate::Status,
};
use bourse_service::CancellationToken;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn the_scheduler_of_another_pool_gets_no_signature() {
    let mut world = World::open().await;
    let (hub, pool, other) = (world.market.hub.address, world.market.workerpool, Address::repeat_byte(1));
    for (chain_id, hub, pool) in [(1, hub, pool), (31_337, other, pool), (31_337, hub, other)] {
        let mut stranger = Pool::open(chain_id, hub, pool, &world.store.url).await;
        world.config.scheduler_url = stranger.url.clone();
        let stop = bourse_service::CancellationToken::new();
        let mut worker = tokio::task::JoinSet::new();
        worker.spawn(world.service().await.unwrap().run(bourse_service::CancellationToken::new(), stop.clone()));
        for _ in 0..2 {
            assert!(matches!(stranger.hear().await, Heard::Connected));
            assert!(matches!(stranger.hear().await, Heard::Gone), "it answered the challenge");
        }
        stop.cancel();
        worker.join_next().await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_of_the_pool_can_pose_as_its_scheduler() {
    let mut world = World::open().await;
    let (hub, pool, url) = (world.market.hub.address, world.market.workerpool, world.store.url.clone());
    let buyer = test_key(WORKER + 2);
    let mut stranger = Pool::of_owner(&buyer, 31_337, hub, pool, &url).await;
    world.config.scheduler_url = stranger.url.clone();
    let mut worker = tokio::task::JoinSet::new();
    worker.spawn(world.service().await.unwrap().run(CancellationToken::new(), CancellationToken::new()));
    for _ in 0..2 {
        assert!(matches!(stranger.hear().await, Heard::Connected));
        assert!(matches!(stranger.hear().await, Heard::Gone), "it answered the challenge");
    }
    world.market.sell_workerpool(buyer.address()).await;
    assert_eq!(stranger.logged_in().await, test_key(WORKER).address(), "it owns the pool now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_forgot_hears_again_everything_that_holds() {
    let mut world = World::with_worker().await;
    let task = world.assign(&answering("42")).await.task;
    world.pool.until(task, Status::Revealed).await;
    world.pool.send(&ToWorker::Upload { task });
    let link = world.pool.uploaded(task).await;
    for _ in 0..3 {
        world.pool.forget().await;
        world.pool.logged_in().await;
        assert_eq!(world.pool.report(task).await.0, Status::ResultUploaded);
        assert_eq!(world.pool.uploaded(task).await, link);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_result_of_a_paid_task_lies_is_said_again() {
    let mut world = World::with_worker().await;
    let task = world.assign(&answering("42")).await.task;
    world.pool.until(task, Status::Revealed).await;
    let link = world.finish(task).await;
    // A reorg took the payment away, and the scheduler has lost its store.
    assert_eq!(world.upload(task).await, link);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_loses_no_message_and_doubles_none() {
    let mut world = World::with_worker().await;
    let unknown = |n: u8| TaskId(B256::repeat_byte(n));
    for n in 1..40 {
        world.pool.send(&ToWorker::Upload { task: unknown(n) });
        if n % 7 == 0 {
            world.pool.hang_up();
        }
    }
    let mut answered = Vec::new();
    while answered.len() < 39 {
        if let Heard::Message(ToScheduler::Report { task, status, .. }) = world.pool.hear().await {
            assert_eq!(status, Status::ResultUploadRequestFailed);
            answered.push(task);
        }
    }
    assert_eq!(answered, (1..40).map(unknown).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_says_that_it_lives() {
    let mut world = World::with_worker().await;
    loop {
        if let Heard::Beat = world.pool.hear().await {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_without_meaning_end_the_connection_and_nothing_else() {
    let mut world = World::with_worker().await;
    let huge = format!(r#"{{"type":"refused","reason":"{}"}}"#, "x".repeat(link::MAX_MESSAGE));
    let deep = "[".repeat(link::MAX_MESSAGE - 1);
    for text in [huge, deep] {
        world.pool.send_text(text);
        for _ in 0..20 {
            world.pool.send_text("{}".into());
            world.pool.send_binary(vec![1, 2, 3]);
        }
        world.pool.logged_in().await;
    }
    world.pool.hang_up();
    world.pool.logged_in().await;
    let task = world.assign(&answering("42")).await.task;
    world.pool.until(task, Status::Revealed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_about_unknown_tasks_do_no_harm() {
    let mut world = World::with_worker().await;
    let task = TaskId(B256::repeat_byte(5));
    let cause = bourse_protocol::replicate::Cause::new(bourse_protocol::replicate::CauseCode::Unknown, "");
    world.pool.send(&ToWorker::Reveal { task });
    world.pool.send(&ToWorker::Complete { task });
    world.pool.send(&ToWorker::Abort { task, cause });
    world.pool.send(&ToWorker::Upload { task });
    assert_eq!(world.pool.report(task).await.0, Status::ResultUploadRequestFailed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_to_go_on_and_has_ended_is_said_to_have_ended() {
    let mut world = World::with_worker().await;
    let unknown = TaskId(B256::repeat_byte(5));
    world.pool.send(&ToWorker::GoOn { task: unknown });
    assert_eq!(world.pool.report(unknown).await.0, Status::Failed);
    let task = world.assign(&answering("42")).await.task;
    world.pool.until(task, Status::Revealed).await;
    world.finish(task).await;
    // The end is said a moment before it is in the journal.
    let said = loop {
        world.pool.send(&ToWorker::GoOn { task });
        if let Ok(said) = tokio::time::timeout(Duration::from_secs(1), world.pool.report(task)).await {
            break said;
        }
    };
    assert_eq!(said, (Status::Completed, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_wishes_does_not_keep_the_worker_from_its_work() {
    let mut world = World::with_worker().await;
    let app = world.market.app(&world.store, &answering("42")).await;
    let assignment = world.market.buy(Request::of(app)).await;
    for n in 0..20_000u32 {
        let task = TaskId(B256::from(U256::from(n)));
        world.pool.send(&ToWorker::Upload { task });
    }
    world.pool.send(&ToWorker::Assign(assignment.clone()));
    loop {
        match world.pool.hear().await {
            // What a broken connection swallowed is said again, as a scheduler does after each login.
            Heard::Login { .. } => world.pool.send(&ToWorker::Assign(assignment.clone())),
            Heard::Message(ToScheduler::Report { task, status: Status::Revealed, .. }) if task == assignment.task => {
                break;
            }
            Heard::Message(_) | Heard::Beat | Heard::Gone | Heard::Connected => {}
        }
    }
}
