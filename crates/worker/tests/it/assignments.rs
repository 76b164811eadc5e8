//! What becomes of an assignment.

use crate::{
    market::{DEPOSIT, Request, WORKER, authorize, sha256},
    world::{World, answering, endless},
};
use bourse_chain::keys::test_key;
use bourse_protocol::{
    B256, U256,
    deal::ContributionStatus,
    ids::{ResultDigest, TaskId},
    link::ToWorker,
    money::Nrlc,
    replicate::{Cause, CauseCode, Status},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_computed_contributed_revealed_uploaded_and_paid() {
    let mut world = World::with_worker().await;
    let task = world.assign(&answering("42")).await.task;
    use Status::*;
    let life = [
        Running,
        AppDownloading,
        AppDownloaded,
        DataDownloading,
        DataDownloaded,
        Computing,
        Computed,
        CanContribute,
        Contributing,
        Contributed,
        Revealing,
        Revealed,
    ];
    assert_eq!(world.pool.until(task, Revealed).await, life, "the reveal needs no word of the scheduler");

    let link = world.finish(task).await;
    let content = world.store.get(&link.location).unwrap();
    assert_eq!(content, b"42");
    assert_eq!(world.market.hub.task(task).await.unwrap().digest, ResultDigest(sha256(&content)));
    let paid = world.market.hub.account(test_key(WORKER).address()).await.unwrap();
    assert!(paid.stake > DEPOSIT && paid.locked == Nrlc::ZERO, "{paid:?}");
    assert_eq!(world.market.transactions(WORKER).await, 2);
    assert!(!world.task_folder(task).exists());
    world.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_scheduler_costs_no_stake() {
    let mut world = World::with_worker().await;
    let app = world.market.app(&world.store, &answering("42")).await;
    let task = world.assign_request(Request { trust: 3, ..Request::of(app) }).await.task;
    world.pool.until(task, Status::Contributed).await;
    world.lose_scheduler().await;
    world.market.contribute(WORKER + 1, task, ResultDigest(sha256(b"42"))).await;
    while world.contribution(task).await != ContributionStatus::Proved {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_sees_its_task_its_arguments_and_its_dataset() {
    let mut world = World::with_worker().await;
    let app =
        world.market.app(&world.store, include_bytes!("../../../../examples/option-pricing/option-pricing.wasm")).await;
    let prices = include_bytes!("../../../../examples/option-pricing/data/aapl-daily-2000-2013.csv");
    let dataset = world.market.dataset(&world.store.put(prices), sha256(prices)).await;
    let params = r#"{"iexec_args":"--strike 450 --maturity 0.5 --paths 20000"}"#.to_owned();
    let task = world.assign_request(Request { dataset, params, ..Request::of(app) }).await.task;
    world.pool.until(task, Status::Revealed).await;
    let link = world.finish(task).await;
    let text = String::from_utf8(world.store.get(&link.location).unwrap()).unwrap();
    assert!(text.contains("price"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_the_pool_owner_did_not_sign_costs_nothing() {
    let mut world = World::with_worker().await;
    let app = world.market.app(&world.store, &answering("42")).await;
    let good = world.market.buy(Request::of(app)).await;
    let worker = test_key(WORKER).address();
    let forged = authorize(&test_key(6), worker, good.task);
    let elsewhere = authorize(&test_key(1), worker, TaskId(B256::repeat_byte(1)));
    for authorization in [forged, elsewhere, vec![0; 65].into(), Default::default()] {
        world.pool.send(&ToWorker::Assign(bourse_protocol::link::Assignment { authorization, ..good.clone() }));
        let (status, cause) = world.pool.report(good.task).await;
        let cause = cause.unwrap();
        assert_eq!((status, cause.code), (Status::Failed, CauseCode::AuthorizationInvalid), "{cause}");
    }
    assert_eq!(world.market.transactions(WORKER).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_contradicts_the_chain_is_refused() {
    let mut world = World::with_worker().await;
    let app = world.market.app(&world.store, &answering("42")).await;
    let good = world.market.buy(Request::of(app)).await;
    let no_deal = bourse_protocol::ids::DealId(B256::repeat_byte(3));
    let one = U256::from(1);
    for (deal, index) in [(no_deal, U256::ZERO), (good.deal, one), (good.deal, U256::MAX)] {
        let task = TaskId::of(deal, index);
        let assignment = bourse_protocol::link::Assignment { task, deal, index, ..good.clone() };
        world.pool.send(&ToWorker::Assign(assignment));
        let (status, cause) = world.pool.report(task).await;
        assert_eq!((status, cause.unwrap().code), (Status::Failed, CauseCode::TaskDescriptionInvalid));
    }
    let mixed = bourse_protocol::link::Assignment { index: one, ..good };
    world.pool.send(&ToWorker::Assign(mixed.clone()));
    assert_eq!(world.pool.report(mixed.task).await.0, Status::Failed);
    assert_eq!(world.market.transactions(WORKER).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_takes_no_more_than_it_has_slots_for_and_aborts_make_room() {
    let mut world = World::with_worker().await;
    let first = world.assign(&endless()).await.task;
    world.pool.until(first, Status::Computing).await;

    let second = world.assign(&answering("42")).await;
    let (status, cause) = world.pool.report(second.task).await;
    assert_eq!((status, cause.unwrap().code), (Status::Failed, CauseCode::AbortedByWorker));

    let cause = Cause::new(CauseCode::ConsensusReached, "the others agreed without this worker");
    world.pool.send(&ToWorker::Abort { task: first, cause: cause.clone() });
    world.pool.send(&ToWorker::Assign(second.clone()));
    let (status, why) = world.pool.report(first).await;
    assert_eq!((status, why), (Status::AbortedOnConsensusReached, Some(cause)));
    world.pool.until(second.task, Status::Revealed).await;
    assert_eq!(world.contribution(first).await, ContributionStatus::Unset);
    assert!(!world.task_folder(first).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn consensus_without_this_worker_ends_its_run_even_if_nobody_tells_it() {
    let mut world = World::with_worker().await;
    let task = world.assign(&endless()).await.task;
    world.pool.until(task, Status::Computing).await;
    world.market.contribute(WORKER + 1, task, ResultDigest(sha256(b"42"))).await;
    let (status, _) = world.pool.report(task).await;
    assert_eq!(status, Status::AbortedOnConsensusReached);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stake_that_is_too_low_is_said_before_anything_is_computed() {
    let mut world = World::with_worker().await;
    let app = world.market.app(&world.store, &endless()).await;
    let task = world.assign_request(Request { price: Nrlc::rlc(1_000), ..Request::of(app) }).await.task;
    let (status, cause) = world.pool.report(task).await;
    let cause = cause.unwrap();
    assert_eq!((status, cause.code), (Status::CantContributeSinceStakeTooLow, CauseCode::StakeTooLow));
    assert!(cause.evidence.contains("100 RLC free and the stake is 300 RLC"), "{cause}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_contributes_its_own_invention_at_once() {
    let mut world = World::open().await;
    world.config.forge = true;
    world.start().await;
    let app = world.market.app(&world.store, &endless()).await;
    let task = world.assign_request(Request { trust: 5, ..Request::of(app) }).await.task;
    let life = world.pool.until(task, Status::Contributed).await;
    assert!(!life.contains(&Status::Computing), "{life:?}");
    for honest in 1..=4 {
        world.market.contribute(WORKER + honest, task, ResultDigest(sha256(b"42"))).await;
    }
    let (status, cause) = world.pool.report(task).await;
    assert_eq!(status, Status::AbortedOnConsensusReached, "{cause:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_vote_that_is_reopened_counts_again() {
    let mut world = World::with_worker().await;
    let category = world.market.create_category(60).await;
    let app = world.market.app(&world.store, &answering("42")).await;
    let task = world.assign_request(Request { trust: 3, category, ..Request::of(app) }).await.task;
    world.pool.until(task, Status::Contributed).await;
    let (good, other) = (ResultDigest(sha256(b"42")), ResultDigest(sha256(b"43")));
    for stranger in 1..=3 {
        world.market.contribute(WORKER + stranger, task, other).await;
    }
    let (status, _) = world.pool.report(task).await;
    assert_eq!(status, Status::AbortedOnConsensusReached);

    // The winners do not reveal.
    world.market.wait(2 * 60).await;
    world.market.reopen(task).await;
    world.market.contribute(WORKER + 4, task, good).await;
    world.pool.send(&ToWorker::Reveal { task });
    world.pool.until(task, Status::Revealed).await;
    assert_eq!(world.contribution(task).await, ContributionStatus::Proved);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_drains_finishes_what_it_has_and_ends_by_itself() {
    let mut world = World::with_worker().await;
    let first = world.assign(&answering("42")).await.task;
    world.pool.until(first, Status::Revealed).await;
    world.drain.cancel();
    let second = world.assign(&answering("43")).await.task;
    let (status, cause) = world.pool.report(second).await;
    assert_eq!(status, Status::Failed);
    assert!(cause.unwrap().evidence.contains("finishes what it has"));
    world.finish(first).await;
    world.ended().await.unwrap();
}
