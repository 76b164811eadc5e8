//! The statuses of tasks: what brings each about, and what people see of it.

use crate::{
    code,
    machine::Work,
    market::{PERIOD, WORKER},
    node::Treat,
    shows,
    world::{World, eventually},
};
use bourse_protocol::{
    api::TaskView,
    ids::TaskId,
    replicate::{CauseCode, Status},
    task::Stage,
};
use std::collections::BTreeSet;

macro_rules! courses {
    ($($course:ident => $($stage:ident $(($code:ident))?),+;)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $course() {
                let view: TaskView = course::$course().await;
                let seen = view.date_status_list.into_iter();
                let seen: Vec<_> = seen.map(|change| (change.status, change.cause.map(|cause| cause.code))).collect();
                shows(&seen, &[$((Stage::$stage, code!($($code)?))),+]);
            }
        )+

        /// Each line above is asserted by its test, so together they reach what they name.
        #[test]
        fn together_the_courses_reach_every_status() {
            let reached: BTreeSet<Stage> = [$($(Stage::$stage),+),+].into();
            let missing: Vec<_> = Stage::ALL.iter().filter(|stage| !reached.contains(stage)).collect();
            assert!(missing.is_empty(), "no course leads to {missing:?}");
        }
    };
}

courses! {
    a_task_that_is_paid => Received, Initializing, Initialized, Running, ConsensusReached, AtLeastOneRevealed,
        ResultUploading, ResultUploaded, Finalizing, Finalized, Completed;
    a_task_that_the_chain_does_not_open => Received, Initializing, InitializeFailed(TransactionRefused),
        Failed(TransactionRefused);
    a_task_whose_workers_do_not_suffice => Running, ContributionTimeout(ContributionTimeout),
        FinalDeadlineReached(ContributionTimeout), Failed(ContributionTimeout);
    a_vote_that_is_opened_again => ConsensusReached, Reopening(RevealTimeout), Reopened, Running;
    a_vote_that_the_chain_does_not_open_again => ConsensusReached, Reopening(RevealTimeout),
        ReopenFailed(TransactionRefused), Failed(TransactionRefused);
    a_result_that_nobody_stores => ResultUploading, ResultUploadTimeout(ResultUploadFailed), Failed(ResultUploadFailed);
    a_payment_that_the_chain_does_not_take => ResultUploaded, Finalizing, FinalizeFailed(TransactionRefused),
        Failed(TransactionRefused);
}

/// What happens. Each returns the task as it is seen in the end.
mod course {
    use super::*;

    /// The time of the task is over: this is said while the claim is held up, and then the price is back for the same reason.
    async fn refunded(world: &World, task: TaskId, stage: Stage, code: CauseCode) -> TaskView {
        let view = world.stands(task, stage, Some(code)).await;
        assert_eq!(view.meaning, stage.meaning());
        assert_eq!(view.outlook.next, "the price goes back to who paid it, as soon as the claim is in a block");
        world.pool_node.behave(|node| node.claim = Treat::Passes);
        let refunded = world.stands(task, Stage::Failed, Some(code)).await;
        assert_eq!(refunded.cause, view.cause);
        refunded
    }

    pub(super) async fn a_task_that_is_paid() -> TaskView {
        let world = World::open().await;
        world.pool_node.behave(|node| node.finalize = Treat::Held);
        let worker = world.worker(WORKER).await;
        worker.machine().compute(Work::Hangs);
        worker.machine().store(Work::Hangs);
        worker.node.behave(|node| node.reveal = Treat::Held);
        let task = world.buy(1).await;
        world.stands(task, Stage::Running, None).await;
        worker.machine().compute(Work::Done);
        world.stands(task, Stage::ConsensusReached, None).await;
        worker.node.behave(|node| node.reveal = Treat::Passes);
        world.stands(task, Stage::ResultUploading, None).await;
        worker.machine().store(Work::Done);
        world.stands(task, Stage::Finalizing, None).await;
        world.pool_node.behave(|node| (node.slow, node.finalize) = (true, Treat::Passes));
        let paid = world.stands(task, Stage::Finalized, None).await;
        assert_eq!(paid.outlook.next, "the pool reads the block in which it is paid");
        world.pool_node.behave(|node| node.slow = false);
        world.stands(task, Stage::Completed, None).await
    }

    pub(super) async fn a_task_that_the_chain_does_not_open() -> TaskView {
        let world = World::open().await;
        world.pool_node.behave(|node| (node.initialize, node.claim) = (Treat::Refused, Treat::Held));
        let (task, refused) = (world.buy(1).await, CauseCode::TransactionRefused);
        world.stands(task, Stage::Initializing, Some(refused)).await;
        world.market.pass(7 * PERIOD + 1).await;
        let failed = world.stands(task, Stage::InitializeFailed, Some(refused)).await;
        assert_eq!(failed.outlook.by, Some(failed.final_deadline));
        world.market.pass(3 * PERIOD).await;
        let has_no_date = async || world.view(task).await.is_some_and(|view| view.outlook.by.is_none());
        crate::world::eventually("the claim is due", has_no_date).await;
        refunded(&world, task, Stage::InitializeFailed, refused).await
    }

    pub(super) async fn a_task_whose_workers_do_not_suffice() -> TaskView {
        let world = World::open().await;
        world.pool_node.behave(|node| node.claim = Treat::Held);
        let (worker, late) = (world.worker(WORKER).await, CauseCode::ContributionTimeout);
        let task = world.buy(3).await;
        world.until(task, &worker, Status::Contributed).await;
        world.market.pass(7 * PERIOD + 1).await;
        let failed = world.stands(task, Stage::ContributionTimeout, Some(late)).await;
        assert_eq!(failed.outlook.by, Some(failed.final_deadline));
        world.market.pass(3 * PERIOD).await;
        refunded(&world, task, Stage::FinalDeadlineReached, late).await
    }

    /// The workers of a world agree, and do not reveal in time.
    async fn nobody_reveals(reopen: Treat) -> (World, crate::world::Worker, TaskId) {
        let world = World::open().await;
        world.pool_node.behave(|node| (node.reopen, node.claim) = (reopen, Treat::Held));
        let worker = world.worker(WORKER).await;
        worker.node.behave(|node| node.reveal = Treat::Held);
        let task = world.buy(1).await;
        world.stands(task, Stage::ConsensusReached, None).await;
        world.market.pass(2 * PERIOD + 1).await;
        (world, worker, task)
    }

    pub(super) async fn a_vote_that_is_opened_again() -> TaskView {
        let (world, _worker, task) = nobody_reveals(Treat::Held).await;
        world.stands(task, Stage::Reopening, Some(CauseCode::RevealTimeout)).await;
        world.pool_node.behave(|node| (node.slow, node.reopen) = (true, Treat::Passes));
        let reopened = world.stands(task, Stage::Reopened, None).await;
        assert_eq!(reopened.outlook.next, "the workers contribute anew");
        world.pool_node.behave(|node| node.slow = false);
        // What the worker that did not reveal says of it may come before or after.
        let runs = async || world.view(task).await.is_some_and(|view| view.current_status == Stage::Running);
        eventually("workers are on it again", runs).await;
        world.view(task).await.unwrap()
    }

    pub(super) async fn a_vote_that_the_chain_does_not_open_again() -> TaskView {
        let (world, _worker, task) = nobody_reveals(Treat::Refused).await;
        world.stands(task, Stage::Reopening, Some(CauseCode::TransactionRefused)).await;
        world.market.pass(8 * PERIOD).await;
        refunded(&world, task, Stage::ReopenFailed, CauseCode::TransactionRefused).await
    }

    pub(super) async fn a_result_that_nobody_stores() -> TaskView {
        let world = World::open().await;
        world.pool_node.behave(|node| node.claim = Treat::Held);
        let worker = world.worker(WORKER).await;
        worker.machine().store(Work::Hangs);
        let task = world.buy(1).await;
        world.stands(task, Stage::ResultUploading, None).await;
        world.market.pass(10 * PERIOD + 1).await;
        refunded(&world, task, Stage::ResultUploadTimeout, CauseCode::ResultUploadFailed).await
    }

    pub(super) async fn a_payment_that_the_chain_does_not_take() -> TaskView {
        let world = World::open().await;
        world.pool_node.behave(|node| (node.finalize, node.claim) = (Treat::Refused, Treat::Held));
        let _worker = world.worker(WORKER).await;
        let (task, refused) = (world.buy(1).await, CauseCode::TransactionRefused);
        world.stands(task, Stage::Finalizing, Some(refused)).await;
        world.market.pass(10 * PERIOD + 1).await;
        refunded(&world, task, Stage::FinalizeFailed, refused).await
    }
}
