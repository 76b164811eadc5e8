//! Every status that users know, of replicates and (in [`stages`]) of tasks, is reached, each by its cause: injected from
//! outside into the running scheduler and workers over the real link, and read from the scheduler's own HTTP.
//!
//! One line per cause: what happens in [`causes`], and what people see of it, in this order, with the typed cause.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod causes;
mod deposits;
mod machine;
mod market;
mod node;
mod reorgs;
mod restarts;
mod shelf;
mod stages;
mod world;

use bourse_protocol::{
    deal::TaskStatus,
    replicate::{CauseCode, Status},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{collections::BTreeSet, fmt::Debug};
use world::World;

/// What people see: the statuses in this order, perhaps with others between them; where a cause is named, it is that.
fn shows<S: PartialEq + Debug>(life: &[(S, Option<CauseCode>)], row: &[(S, Option<CauseCode>)]) {
    let mut rest = life.iter();
    for (status, code) in row {
        let found = rest.find(|(seen, cause)| seen == status && (code.is_none() || cause == code));
        assert!(found.is_some(), "{status:?} because of {code:?} is missing, or not in its place, in {life:#?}");
    }
}

macro_rules! code {
    () => {
        None
    };
    ($code:ident) => {
        Some(CauseCode::$code)
    };
}

pub(crate) use code;

macro_rules! causes {
    ($($cause:ident => $($status:ident $(($code:ident))?),+;)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $cause() {
                shows(&causes::$cause().await, &[$((Status::$status, code!($($code)?))),+]);
            }
        )+

        /// Each line above is asserted by its test, so together they reach what they name.
        #[test]
        fn together_the_causes_reach_every_status() {
            let reached: BTreeSet<Status> = [$($(Status::$status),+),+].into();
            let missing: Vec<_> = Status::ALL.iter().filter(|status| !reached.contains(status)).collect();
            assert!(missing.is_empty(), "no cause leads to {missing:?}");
            assert_eq!(reached.len(), Status::ALL.len());
        }
    };
}

/// The first one keeps its place, and the second hears why it is not let in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_worker_of_one_wallet_is_refused() {
    let refusal = causes::a_second_worker_of_one_wallet().await;
    assert!(refusal.contains("is connected already: a wallet serves one worker at a time"), "{refusal}");
}

/// The chain takes no other bytes than those that were voted on, and no other digest of them than its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_a_contract_waits_for_is_pushed_to_it() {
    let life = causes::a_result_that_a_contract_waits_for().await;
    assert!(life.iter().any(|known| known.0 == Status::Completed), "{life:#?}");
}

/// The list is read once for all of them, and shows what is open as it is now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_ask_for_the_tasks_at_once_hear_the_same() {
    let world = World::open().await;
    let (first, second) = (world.buy(1).await, world.buy(1).await);
    world.opened(first).await;
    world.opened(second).await;
    let listed = async || (0..10).map(|_| world.list()).collect::<FuturesUnordered<_>>().collect::<Vec<_>>().await;
    let both = async || listed().await.iter().all(|tasks| tasks.iter().map(|t| t.chain_task_id).eq([second, first]));
    world::eventually("both are listed, the newest first", both).await;
    for tasks in listed().await {
        assert!(tasks.iter().all(|task| task.chain_status == TaskStatus::Active), "{tasks:#?}");
    }
}

/// Development chains may be moved in time; nobody falls silent by that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_whose_time_is_moved_costs_no_worker_its_work() {
    let life = causes::time_that_is_moved().await;
    assert!(life.iter().all(|known| known.0 != Status::WorkerLost), "{life:#?}");
}

/// The worker has stored it; that the pool cannot read it is not its failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_cannot_be_read_for_a_while_is_read_later() {
    let life = causes::a_store_that_cannot_be_read_for_a_while().await;
    assert!(life.iter().all(|known| known.0 != Status::ResultUploadFailed), "{life:#?}");
}

causes! {
    two_workers_that_agree_are_paid => Created, Running, AppDownloading, AppDownloaded, DataDownloading, DataDownloaded,
        Computing, Computed, CanContribute, Contributing, Contributed, Revealing, Revealed, ResultUploadRequested,
        ResultUploading, ResultUploaded, Completed;
    an_app_with_another_checksum => AppDownloading, AppDownloadFailed(AppBadChecksum), Completed;
    an_app_at_a_private_address => AppDownloading, AppDownloadFailed(AppDownloadFailed), Failed(AppDownloadFailed);
    a_dataset_with_another_checksum => DataDownloading, DataDownloadFailed(DatasetBadChecksum), Completed;
    an_input_file_at_a_private_address => DataDownloading, DataDownloadFailed(DatasetDownloadFailed),
        Failed(DatasetDownloadFailed);
    an_app_that_traps => Computing, ComputeFailed(AppComputeFailed), Completed;
    a_machine_that_fails => Computing, ComputeFailed(AppComputeFailed), Failed(AppComputeFailed);
    a_wallet_without_ether_before_the_work => Created, OutOfGas(OutOfGas), Failed(OutOfGas);
    a_wallet_without_ether_after_the_work => Computed, OutOfGas(OutOfGas), CanContribute, Contributing, Completed;
    a_wallet_without_ether_for_the_reveal => Contributed, OutOfGas(OutOfGas), Revealed, ResultUploaded;
    ether_for_one_task_where_two_are_offered => Created, OutOfGas(OutOfGas), Failed(OutOfGas);
    ether_that_an_earlier_reveal_needs => Created, OutOfGas(OutOfGas), Failed(OutOfGas);
    a_deposit_that_was_withdrawn => Created, CantContributeSinceStakeTooLow(StakeTooLow);
    others_that_agree_while_the_pool_looks_away => Computed, CantContributeSinceTaskNotActive(TaskNotActive);
    a_deadline_that_passes_while_the_pool_looks_away => Computed,
        CantContributeSinceAfterDeadline(ContributionTimeout);
    a_contribution_of_the_same_wallet_from_elsewhere => Computing, Contributed,
        CantContributeSinceContributionAlreadySet(ContributionAlreadySet);
    a_node_that_refuses_the_contribution => CanContribute, Contributing, ContributeFailed(TransactionRefused);
    a_contribution_from_elsewhere_that_another_sealed => Contributed, CantReveal(CannotReveal);
    reveals_that_fail_on_chain => Revealing, RevealFailed(TransactionRefused);
    a_node_that_refuses_the_reveal_until_it_is_too_late => Revealing, RevealTimeout(RevealTimeout);
    a_disk_that_is_lost_during_the_upload => ResultUploadRequested, ResultUploading,
        ResultUploadRequestFailed(ResultUploadFailed);
    a_store_without_room => ResultUploading, ResultUploadFailed(ResultUploadFailed);
    a_worker_that_falls_silent_and_comes_back => Computing, WorkerLost(WorkerLost), Recovering, Computing;
    a_worker_that_falls_silent_after_it_has_contributed_and_comes_back => Contributed, WorkerLost(WorkerLost), Recovering,
        Contributed, Revealing, Revealed;
    a_worker_that_restarts_after_it_has_contributed => Contributed, Recovering, Contributed, Revealing, Revealed;
    a_worker_that_restarts_after_it_has_revealed => Contributed, Revealing, Revealed, Recovering, Revealed, Completed;
    a_task_that_is_ended_in_one_transaction => Computing, Contributing, Contributed, Revealed, Completed;
    a_machine_that_hangs_for_a_period => Computing, WorkerLost(WorkerLost);
    a_worker_that_restarts => Computing, Recovering, Computing, Computed, Completed;
    others_that_agree_first => Computing, AbortedOnConsensusReached(ConsensusReached);
    a_task_that_nobody_else_works_on => Contributed, Failed(ContributionTimeout);
    a_deadline_that_passes => Computing, AbortedOnContributionTimeout(ContributionTimeout);
}
