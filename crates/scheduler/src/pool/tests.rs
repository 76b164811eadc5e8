use super::{
    hear::{MAX_CHANGES, MAX_EVIDENCE},
    waiting::{AGAIN, OPENED_AHEAD},
    *,
};
use crate::{
    crew::{Admission, Floor},
    link::Applicant,
    store::tests::deal,
};
use bourse_protocol::{
    B256,
    deal::ContributionStatus,
    link::{Backoff, Capabilities, LOST_SECONDS, ToScheduler, VERSION, Welcome},
};
use std::{sync::Arc, sync::atomic::AtomicU64, time::Duration};

const WORKER: Address = Address::with_last_byte(8);
const TASK: TaskId = TaskId(B256::with_last_byte(7));

fn pool(clock: &Clock) -> Pool {
    Pool::new(Store::in_memory(), clock.clone(), Crew::of(None, Floor::default()))
}

/// A worker logs in, and its last sign of life was at `alive`.
fn logs_in(pool: &mut Pool, alive: u64) -> Admission {
    let applicant = Applicant {
        name: "w".into(),
        capabilities: Capabilities { slots: 1, app_types: vec!["WASM".into()], ..Capabilities::default() },
        version: VERSION,
        resume: None,
        draining: false,
        connection: 1,
        last_alive: Arc::new(AtomicU64::new(alive)),
    };
    let welcome = Welcome {
        version: 0,
        session: 0,
        resumed: false,
        received: 0,
        reconnect: Backoff::default(),
        gateway_url: String::new(),
        upload_url: String::new(),
        upload_token: String::new(),
    };
    pool.crew.join(WORKER, applicant, welcome, alive)
}

/// The task, of which nothing is known yet.
fn bought() -> Remembered {
    Remembered {
        task: TASK,
        deal: deal(),
        terms: None,
        index: U256::ZERO,
        result: None,
        stages: vec![],
        replicates: vec![],
    }
}

/// The same, and it computes the task.
fn at_work(pool: &mut Pool, alive: u64) -> Admission {
    let admission = logs_in(pool, alive);
    pool.open(bought(), 10_000, Need::default());
    for status in [Status::Created, Status::Computing] {
        pool.record(TASK, WORKER, status, None, pool.now());
    }
    admission
}

fn contributed(pool: &Pool, status: ContributionStatus) -> Facts {
    let task = ChainTask { status: TaskStatus::Active, ..pool.entry(TASK).unwrap().chain.clone() };
    let vote = Vote { worker: WORKER, status, hash: B256::repeat_byte(1), weight: U256::from(2) };
    Facts { task, votes: vec![vote], block: 1 }
}

fn status(pool: &Pool) -> Status {
    pool.show(TASK).unwrap().replicates[0].current_status
}

#[test]
fn what_was_learned_outlives_a_restart() {
    let (clock, app) = (Clock::virtual_at(10_000), deal().app.pointer);
    let (quick, lazy) = (Address::with_last_byte(1), Address::with_last_byte(2));
    let changes = |changes: &[(u64, Status)]| {
        changes.iter().map(|(date, status)| StatusChange { date: *date, status: *status, cause: None }).collect()
    };
    let task = |n: u8| Remembered {
        task: TaskId(B256::with_last_byte(n)),
        replicates: vec![
            (quick, changes(&[(100, Status::Created), (105, Status::Computing), (120, Status::Contributed)])),
            (lazy, changes(&[(100, Status::Created), (9_990, Status::WorkerLost)])),
        ],
        ..bought()
    };
    let mut pool = pool(&clock);
    assert_eq!(pool.runs.patience(app, 300), 300);
    pool.learn(&(1..=5).map(task).collect::<Vec<_>>());
    assert_eq!(pool.runs.patience(app, 300), 21);
    assert_eq!(pool.crew.strikes(quick), 0);
    assert_eq!(pool.crew.strikes(lazy), 5);
}

#[test]
fn what_goes_wrong_with_a_transaction_is_said_while_the_task_waits_for_it() {
    let mut pool = pool(&Clock::virtual_at(1_000));
    let _connection = at_work(&mut pool, 1_000);
    pool.sends(TASK, Some(Sending::Initialize));
    let broke = Cause::new(CauseCode::OutOfGas, "no ether");
    pool.troubled(TASK, Stage::Initializing, broke.clone());
    assert_eq!(pool.show(TASK).unwrap().cause, Some(broke.clone()));
    let opened = contributed(&pool, ContributionStatus::Contributed);
    pool.absorb(TASK, opened);
    assert_eq!(pool.show(TASK).unwrap().cause, None);
    pool.troubled(TASK, Stage::Initializing, broke);
    assert_eq!(pool.show(TASK).unwrap().cause, None, "it is late news");
}

#[test]
fn the_tasks_of_a_deal_that_is_gone_leave_the_table_and_the_store() {
    let clock = Clock::virtual_at(1_000);
    let mut pool = pool(&clock);
    pool.store.take(&deal(), &[(TASK, U256::ZERO)]);
    let _connection = at_work(&mut pool, 1_000);
    pool.flush().unwrap();
    assert_eq!(pool.unopened_deal(TASK), Some(deal().id));
    assert_eq!(pool.drop_deal(DealId(B256::repeat_byte(9))), []);
    assert_eq!(pool.drop_deal(deal().id), [TASK]);
    pool.flush().unwrap();
    assert!(pool.entry(TASK).is_none() && pool.store.task(TASK).unwrap().is_none());
    assert!(pool.crew.has_idle(), "its worker is free");
}

#[test]
fn time_goes_on_between_the_blocks_of_a_chain_that_is_ahead() {
    let clock = Clock::virtual_at(1_000);
    let mut pool = pool(&clock);
    pool.saw_block(1_500);
    assert_eq!(pool.now(), 1_500);
    clock.advance(Duration::from_secs(10));
    assert_eq!(pool.now(), 1_510, "what is to be tried again would wait for the next block");
    pool.saw_block(1_508);
    assert_eq!(pool.now(), 1_508);
}

#[test]
fn one_block_of_a_wrong_time_takes_no_task_from_a_worker_for_good() {
    let clock = Clock::virtual_at(1_000);
    let mut pool = pool(&clock);
    let _connection = logs_in(&mut pool, 1_000);
    pool.open(bought(), 10_000, Need { app_type: "WASM".into(), ..Need::default() });
    for lied in [Status::AbortedOnContributionTimeout, Status::CantContributeSinceAfterDeadline] {
        pool.record(TASK, WORKER, Status::Created, None, pool.now());
        pool.saw_block(90_000);
        pool.record(TASK, WORKER, lied, None, pool.now());
        assert_eq!(pool.candidate(TASK), None, "that was a moment ago");
        let now = clock.seconds();
        pool.saw_block(now);
        assert_eq!(pool.now(), now);
        clock.advance(Duration::from_secs(AGAIN));
        assert_eq!(pool.candidate(TASK), Some(WORKER), "after {lied}");
    }
}

#[test]
fn a_chain_that_is_ahead_costs_no_worker_its_work() {
    let clock = Clock::virtual_at(1_000);
    let mut pool = pool(&clock);
    let _connection = at_work(&mut pool, 1_000);
    pool.saw_block(1_000 + 10 * LOST_SECONDS);
    assert_eq!(pool.give_up_lost(), []);
    clock.advance(Duration::from_secs(LOST_SECONDS));
    assert_eq!(pool.give_up_lost(), [TASK]);
    assert_eq!(status(&pool), Status::WorkerLost);
}

#[test]
fn a_contribution_that_its_worker_did_not_make_is_shown_as_such_until_it_is_revealed() {
    let mut pool = pool(&Clock::virtual_at(1_000));
    let _connection = at_work(&mut pool, 1_000);
    let facts = contributed(&pool, ContributionStatus::Contributed);
    pool.absorb(TASK, facts);
    assert_eq!(status(&pool), Status::Contributed);
    let report = |status| ToScheduler::Report { task: TASK, status, cause: None };
    pool.hear(WORKER, report(Status::Computed));
    assert_eq!(status(&pool), Status::Contributed);
    let known = Status::CantContributeSinceContributionAlreadySet;
    pool.hear(WORKER, report(known));
    let facts = contributed(&pool, ContributionStatus::Contributed);
    pool.absorb(TASK, facts);
    assert_eq!(status(&pool), known);
    let facts = contributed(&pool, ContributionStatus::Proved);
    pool.absorb(TASK, facts);
    assert_eq!(status(&pool), Status::Revealed);
    pool.hear(WORKER, report(known));
    assert_eq!(status(&pool), Status::Revealed);
}

#[test]
fn a_report_that_says_what_was_known_is_no_news() {
    let mut pool = pool(&Clock::virtual_at(1_000));
    let _connection = at_work(&mut pool, 1_000);
    let mut report = |status| pool.hear(WORKER, ToScheduler::Report { task: TASK, status, cause: None });
    assert!(matches!(report(Status::Computed), Heard::Progress(TASK)));
    assert!(matches!(report(Status::Computed), Heard::Known(TASK)));
    assert!(matches!(report(Status::Contributing), Heard::Progress(TASK)));
    for ended in [Status::Contributed, Status::Failed, Status::Failed] {
        assert!(matches!(report(ended), Heard::Free(TASK)));
    }
}

fn life(pool: &Pool) -> Vec<Status> {
    pool.show(TASK).unwrap().replicates[0].status_update_list.iter().map(|change| change.status).collect()
}

fn sees(pool: &mut Pool, vote: ContributionStatus) {
    let facts = contributed(pool, vote);
    pool.absorb(TASK, facts);
}

#[test]
fn a_worker_that_restarts_after_its_vote_is_shown_to_and_its_vote_counts_once() {
    use Status::{Computing, Contributed, Created, Recovering, Revealed, Revealing};
    let mut pool = pool(&Clock::virtual_at(1_000));
    let _connection = at_work(&mut pool, 1_000);
    assert!(!pool.crew.has_idle());
    let recovers = |pool: &mut Pool| {
        for status in [Recovering, Contributed] {
            pool.hear(WORKER, ToScheduler::Report { task: TASK, status, cause: None });
        }
    };
    sees(&mut pool, ContributionStatus::Contributed);
    pool.crew.blame(WORKER, 1_000);
    recovers(&mut pool);
    assert_eq!(status(&pool), Recovering);
    assert_eq!(pool.assigned(WORKER), [], "it has contributed");
    sees(&mut pool, ContributionStatus::Contributed);
    assert!(!pool.crew.has_idle(), "a contribution is praised once");
    pool.hear(WORKER, ToScheduler::Report { task: TASK, status: Revealing, cause: None });
    sees(&mut pool, ContributionStatus::Proved);
    recovers(&mut pool);
    sees(&mut pool, ContributionStatus::Proved);
    let expected =
        [Created, Computing, Contributed, Recovering, Contributed, Revealing, Revealed, Recovering, Revealed];
    assert_eq!(life(&pool), expected);
    pool.crew.wake(2_000);
    let another = pool.crew.candidate(&Need { app_type: "WASM".into(), ..Need::default() }, |_| false);
    assert_eq!(another, Some(WORKER), "its slot is free");
}

#[test]
fn a_worker_that_falls_silent_after_its_vote_is_lost_once_and_until_it_is_back() {
    use Status::{Computing, Contributed, Created, Recovering, Revealed, WorkerLost};
    let clock = Clock::virtual_at(1_000);
    let mut pool = pool(&clock);
    let _connection = at_work(&mut pool, 1_000);
    sees(&mut pool, ContributionStatus::Contributed);
    clock.advance(Duration::from_secs(LOST_SECONDS));
    assert_eq!(pool.give_up_lost(), [TASK]);
    for _ in 0..3 {
        sees(&mut pool, ContributionStatus::Contributed);
        assert_eq!(status(&pool), WorkerLost);
        clock.advance(Duration::from_secs(LOST_SECONDS));
        assert_eq!(pool.give_up_lost(), []);
    }
    let outlook = pool.show(TASK).unwrap().replicates[0].outlook.next.clone();
    assert!(outlook.contains("enough workers agree"), "its vote counts: {outlook}");
    let now = pool.here();
    let _connection = logs_in(&mut pool, now);
    assert!(pool.crew.has_idle(), "silence after the vote is not held against it");
    pool.hear(WORKER, ToScheduler::Report { task: TASK, status: Recovering, cause: None });
    sees(&mut pool, ContributionStatus::Contributed);
    assert_eq!(life(&pool), [Created, Computing, Contributed, WorkerLost, Recovering, Contributed]);
    // What another process of the wallet reveals while it is away is news.
    clock.advance(Duration::from_secs(LOST_SECONDS));
    assert_eq!(pool.give_up_lost(), [TASK]);
    sees(&mut pool, ContributionStatus::Proved);
    assert_eq!(status(&pool), Revealed);
}

#[test]
fn an_uploaded_result_stays_uploaded_when_its_worker_comes_back() {
    let mut pool = pool(&Clock::virtual_at(1_000));
    let _connection = at_work(&mut pool, 1_000);
    sees(&mut pool, ContributionStatus::Proved);
    pool.uploaded(TASK, WORKER, ResultLink::ipfs("/ipfs/x".into()));
    pool.hear(WORKER, ToScheduler::Report { task: TASK, status: Status::Recovering, cause: None });
    assert_eq!(status(&pool), Status::Recovering);
    sees(&mut pool, ContributionStatus::Proved);
    assert_eq!(status(&pool), Status::ResultUploaded);
}

#[test]
fn what_a_vote_passed_through_in_one_transaction_is_noted() {
    use Status::{Completed, Computing, Contributed, Contributing, Created, Revealed};
    let mut pool = pool(&Clock::virtual_at(1_000));
    let _connection = at_work(&mut pool, 1_000);
    let Facts { task, votes, block } = contributed(&pool, ContributionStatus::Proved);
    let task = ChainTask { status: TaskStatus::Completed, consensus: votes[0].hash, ..task };
    let steps = pool.absorb(TASK, Facts { task, votes, block });
    assert_eq!(steps, [Step::End(WORKER, Completed, None)]);
    pool.record(TASK, WORKER, Completed, None, pool.now());
    assert_eq!(life(&pool), [Created, Computing, Contributing, Contributed, Revealed, Completed]);
}

#[test]
fn ether_that_is_short_for_the_reveal_is_shown_until_it_is_there() {
    let mut pool = pool(&Clock::virtual_at(1_000));
    let _connection = at_work(&mut pool, 1_000);
    let report = |status| ToScheduler::Report { task: TASK, status, cause: None };
    for (vote, said, shown) in [
        (ContributionStatus::Contributed, Status::Contributing, Status::Contributed),
        (ContributionStatus::Contributed, Status::Revealing, Status::Revealing),
        (ContributionStatus::Contributed, Status::OutOfGas, Status::OutOfGas),
        (ContributionStatus::Contributed, Status::OutOfGas, Status::OutOfGas),
        (ContributionStatus::Proved, Status::OutOfGas, Status::Revealed),
    ] {
        let facts = contributed(&pool, vote);
        pool.absorb(TASK, facts);
        pool.hear(WORKER, report(said));
        let facts = contributed(&pool, vote);
        pool.absorb(TASK, facts);
        assert_eq!(status(&pool), shown, "{vote:?}, and the worker says {said}");
    }
}

#[test]
fn an_end_that_goes_away_with_its_block_is_none_and_one_that_is_buried_is() {
    let clock = Clock::virtual_at(1_000);
    let mut pool = pool(&clock);
    let _connection = at_work(&mut pool, 1_000);
    let seen = |pool: &Pool, status, block| {
        let task = ChainTask { status, ..pool.entry(TASK).unwrap().chain.clone() };
        Facts { task, votes: vec![], block }
    };
    let completed = seen(&pool, TaskStatus::Completed, 10);
    pool.absorb(TASK, completed);
    assert!(pool.open_tasks().is_empty() && pool.all_tasks().contains(&TASK), "looked at again after a reorg");
    let undone = seen(&pool, TaskStatus::Revealing, 11);
    pool.absorb(TASK, undone);
    assert!(pool.open_tasks().contains(&TASK));
    let again = seen(&pool, TaskStatus::Completed, 20);
    pool.absorb(TASK, again);
    assert_eq!((pool.buried(20 + BURIED - 1), pool.buried(20 + BURIED)), (vec![], vec![TASK]));
    pool.close(TASK);
    assert!(pool.all_tasks().is_empty());
}

#[test]
fn a_worker_of_before_the_restart_is_given_up_after_its_silence_though_the_chain_is_ahead() {
    let clock = Clock::virtual_at(1_000);
    let mut pool = pool(&clock);
    pool.saw_block(9_000);
    let history = vec![StatusChange { date: 990, status: Status::Computing, cause: None }];
    let replicates = vec![(WORKER, history)];
    pool.open(Remembered { replicates, ..bought() }, 100_000, Need::default());
    clock.advance(Duration::from_secs(LOST_SECONDS - 1));
    assert!(pool.give_up_lost().is_empty());
    clock.advance(Duration::from_secs(1));
    assert_eq!(pool.give_up_lost(), [TASK]);
}

#[test]
fn how_a_task_went_for_a_worker_is_said_once() {
    for end in [TaskStatus::Completed, TaskStatus::Failed] {
        let mut pool = pool(&Clock::virtual_at(1_000));
        let _connection = at_work(&mut pool, 1_000);
        let outvoted = |pool: &Pool| {
            let Facts { task, votes, block } = contributed(pool, ContributionStatus::Contributed);
            Facts { task: ChainTask { status: end, consensus: B256::repeat_byte(9), ..task }, votes, block }
        };
        let facts = outvoted(&pool);
        let first = pool.absorb(TASK, facts);
        let [Step::End(worker, status, cause)] = &first[..] else { panic!("{first:?}") };
        pool.record(TASK, *worker, *status, cause.clone(), pool.now());
        let told = pool.show(TASK).unwrap().replicates[0].status_update_list.len();
        let facts = outvoted(&pool);
        assert_eq!(pool.absorb(TASK, facts), [], "{end:?}");
        assert_eq!(pool.show(TASK).unwrap().replicates[0].status_update_list.len(), told, "{end:?}");
    }
}

#[test]
fn a_deal_of_thousands_is_opened_no_further_than_workers_are_in_sight() {
    let mut pool = pool(&Clock::virtual_at(1_000));
    let other = Address::with_last_byte(77);
    let task = |n: u64| TaskId(B256::from(U256::from(n)));
    for n in 1..=1_000 {
        let deal = Deal { requester: if n == 1_000 { other } else { deal().requester }, ..deal() };
        let new = Remembered { task: task(n), deal, ..bought() };
        pool.open(new, 10_000, Need::default());
        pool.want_opened(task(n));
    }
    let mut opened = vec![];
    while let Some(id) = pool.next_to_open(opened.len()) {
        pool.want_opened_no_more(id);
        opened.push(id);
    }
    assert_eq!(opened.len(), OPENED_AHEAD);
    assert!(pool.next_to_open(OPENED_AHEAD - 1).is_some());
    assert!(opened.iter().all(|id| pool.wait(*id)));
    assert!(opened.contains(&task(1_000)), "fair between requesters");
    let one_more = pool.next_to_open(0).expect("one of those that are open is of another requester");
    pool.want_opened_no_more(one_more);
    assert!(pool.wait(one_more));
    assert!(pool.next_to_open(0).is_none(), "those that are open wait for workers");
    pool.wait_no_more(one_more);
    assert!(pool.next_to_open(0).is_some());
}

#[test]
fn open_tasks_that_nobody_here_can_run_hold_back_only_those_of_their_requester() {
    let mut pool = pool(&Clock::virtual_at(1_000));
    let task = |n: u64| TaskId(B256::from(U256::from(n)));
    let put = |pool: &mut Pool, n: u64, requester: Address| {
        let deal = Deal { requester, ..deal() };
        let (index, result, stages, replicates) = (U256::ZERO, None, vec![], vec![]);
        pool.open(
            Remembered { task: task(n), deal, terms: None, index, result, stages, replicates },
            10_000,
            Need::default(),
        );
        pool.want_opened(task(n));
    };
    for n in 1..=2 * OPENED_AHEAD as u64 {
        put(&mut pool, n, deal().requester);
    }
    while let Some(id) = pool.next_to_open(0) {
        pool.want_opened_no_more(id);
        pool.wait(id);
    }
    assert_eq!(pool.waiting(), OPENED_AHEAD);
    put(&mut pool, 1_000, Address::with_last_byte(77));
    assert_eq!(pool.next_to_open(0), Some(task(1_000)));
}

#[test]
fn a_worker_does_not_keep_its_turn_to_store_the_result_by_talking() {
    let clock = Clock::virtual_at(1_000);
    let mut pool = pool(&clock);
    let _connection = at_work(&mut pool, 1_000);
    sees(&mut pool, ContributionStatus::Proved);
    pool.record(TASK, WORKER, Status::ResultUploadRequested, None, pool.now());
    assert!(pool.is_asked(TASK, WORKER));
    for second in 0..UPLOAD_LEASE {
        let cause = Some(Cause::new(CauseCode::Unknown, format!("{second} %")));
        pool.hear(WORKER, ToScheduler::Report { task: TASK, status: Status::ResultUploading, cause });
        assert_eq!(status(&pool), Status::ResultUploading);
        clock.advance(Duration::from_secs(1));
    }
    sees(&mut pool, ContributionStatus::Proved);
    assert_eq!(status(&pool), Status::ResultUploadFailed);
    pool.hear(WORKER, ToScheduler::Report { task: TASK, status: Status::ResultUploading, cause: None });
    assert!(!pool.is_asked(TASK, WORKER), "it does not give itself another");
}

#[test]
fn a_block_time_that_a_reorg_took_away_is_not_the_time() {
    let clock = Clock::virtual_at(1_000);
    let mut pool = pool(&clock);
    pool.saw_block(100_000);
    pool.saw_block(1_001);
    assert_eq!(pool.now(), 1_001);
}

#[test]
fn a_worker_that_talks_without_end_is_not_listened_to_without_end() {
    let mut pool = pool(&Clock::virtual_at(1_000));
    let _connection = at_work(&mut pool, 1_000);
    for n in 0..2 * MAX_CHANGES {
        let status = if n % 2 == 0 { Status::Running } else { Status::Computing };
        let cause = Some(Cause::new(CauseCode::Unknown, "é".repeat(60_000)));
        pool.hear(WORKER, ToScheduler::Report { task: TASK, status, cause });
    }
    let told = pool.show(TASK).unwrap().replicates.remove(0).status_update_list;
    assert_eq!(told.len(), MAX_CHANGES);
    assert!(told.iter().filter_map(|c| c.cause.as_ref()).all(|c| c.evidence.len() <= MAX_EVIDENCE));
}

#[test]
fn a_worker_that_has_talked_too_much_is_listened_to_when_it_is_assigned_again() {
    let mut pool = pool(&Clock::virtual_at(1_000));
    pool.store.take(&deal(), &[(TASK, U256::ZERO)]);
    let _connection = at_work(&mut pool, 1_000);
    let attempts = 5;
    for attempt in 1..=attempts {
        for n in 0..2 * MAX_CHANGES {
            let status = if n % 2 == 0 { Status::Running } else { Status::Computed };
            pool.hear(WORKER, ToScheduler::Report { task: TASK, status, cause: None });
        }
        assert_ne!(status(&pool), Status::Computing, "attempt {attempt}");
        pool.record(TASK, WORKER, Status::Failed, None, pool.now());
        pool.record(TASK, WORKER, Status::Created, None, pool.now());
        pool.hear(WORKER, ToScheduler::Report { task: TASK, status: Status::Computing, cause: None });
        assert_eq!(status(&pool), Status::Computing, "attempt {attempt}");
    }
    let told = pool.show(TASK).unwrap().replicates.remove(0).status_update_list;
    assert!(told.len() < MAX_CHANGES, "{} changes are kept", told.len());
    assert_eq!(told.iter().filter(|change| change.status == Status::Created).count(), attempts + 1);
    pool.flush().unwrap();
    assert_eq!(pool.store.task(TASK).unwrap().unwrap().replicates, [(WORKER, told)]);
}

#[test]
fn what_a_worker_says_of_the_tasks_of_others_leads_to_nothing() {
    let mut pool = pool(&Clock::virtual_at(1_000));
    let _connection = at_work(&mut pool, 1_000);
    let stranger = Address::with_last_byte(66);
    let report = |status| ToScheduler::Report { task: TASK, status, cause: None };
    let uploaded = ToScheduler::Uploaded { task: TASK, link: ResultLink::ipfs("/ipfs/x".into()) };
    for message in [report(Status::Computing), report(Status::Failed), report(Status::Completed), uploaded] {
        assert_eq!(pool.hear(stranger, message), Heard::Nothing);
    }
    assert_eq!(pool.hear(WORKER, report(Status::Failed)), Heard::Free(TASK));
}

#[test]
fn a_result_that_cannot_be_read_soon_is_no_failure_of_its_worker_which_keeps_its_turn_only_so_long() {
    let clock = Clock::virtual_at(1_000);
    let mut pool = pool(&clock);
    let _connection = at_work(&mut pool, 1_000);
    let revealing = |pool: &Pool| {
        let Facts { task, votes, block } = contributed(pool, ContributionStatus::Proved);
        let digest = ResultDigest(B256::repeat_byte(3));
        let (status, consensus, reveal_deadline) = (TaskStatus::Revealing, votes[0].hash, 20_000);
        let task = ChainTask { status, consensus, digest, reveal_deadline, revealed: 1, winners: 1, ..task };
        Facts { task, votes, block }
    };
    let next = |pool: &mut Pool| {
        let facts = revealing(pool);
        pool.absorb(TASK, facts)
    };
    assert_eq!(next(&mut pool), [Step::Upload(WORKER)]);
    pool.record(TASK, WORKER, Status::ResultUploadRequested, None, pool.now());
    assert!(pool.begin_check(TASK, WORKER));
    clock.advance(Duration::from_secs(UPLOAD_LEASE - 1));
    assert!(!pool.begin_check(TASK, WORKER), "it is under way");
    assert_eq!(next(&mut pool), [Step::Upload(WORKER)], "nobody else is asked");
    clock.advance(Duration::from_secs(1));
    assert_eq!(next(&mut pool), [], "its turn is over");
    assert_eq!((status(&pool), pool.crew.strikes(WORKER)), (Status::ResultUploadRequested, 0));
    pool.end_check(TASK, WORKER);
    assert!(pool.begin_check(TASK, WORKER), "it says that it has stored another");
    assert_eq!(next(&mut pool), [], "and gets no turn by that");
    pool.uploaded(TASK, WORKER, ResultLink::ipfs("/ipfs/x".into()));
    pool.end_check(TASK, WORKER);
    assert!(matches!(next(&mut pool)[..], [Step::Finalize(_)]));
}

#[test]
fn what_happened_in_a_time_that_was_not_did_not_happen_later_than_now() {
    let clock = Clock::virtual_at(1_000);
    let mut pool = pool(&clock);
    let _connection = at_work(&mut pool, 1_000);
    pool.saw_block(100_000);
    pool.record(TASK, WORKER, Status::ResultUploadRequested, None, pool.now());
    let asked = |pool: &Pool| pool.tasks[&TASK].replicates[0].upload(pool.now()).asked;
    assert_eq!(asked(&pool), Some(100_000));
    pool.saw_block(1_001);
    assert_eq!(asked(&pool), Some(1_001));
}

#[test]
fn what_was_asked_before_a_restart_is_counted_from_there() {
    let clock = Clock::virtual_at(1_000);
    let change = |date, status| StatusChange { date, status, cause: None };
    let history = vec![change(900, Status::Created), change(910, Status::ResultUploadRequested)];
    let replicate = Replicate::remembered(WORKER, U256::from(1), history, clock.seconds());
    assert!(!replicate.upload(1_000 + UPLOAD_LEASE - 1).is_over(1_000 + UPLOAD_LEASE - 1));
    assert!(replicate.upload(1_000 + UPLOAD_LEASE).is_over(1_000 + UPLOAD_LEASE));
}
