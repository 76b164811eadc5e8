use super::*;
use crate::store::Answer;
use bourse_protocol::{
    B256, U256,
    ids::{DealId, ResultDigest, TaskId},
    link::Assignment,
};
use std::fmt::Write;

const DIGEST: ResultDigest = ResultDigest(B256::repeat_byte(1));
const FORGED: ResultDigest = ResultDigest(B256::repeat_byte(2));
const STAKE: Nrlc = Nrlc(U256::from_limbs([10, 0, 0, 0]));

fn id() -> TaskId {
    TaskId::of(DealId::default(), U256::ZERO)
}

fn record() -> Record {
    Record {
        assignment: Assignment {
            task: id(),
            deal: DealId::default(),
            index: U256::ZERO,
            authorization: Default::default(),
            enclave_challenge: Address::ZERO,
        },
        status: Status::Created,
        cause: None,
        answer: None,
        contribution_out: false,
        contribute_failures: 0,
        reveal_failures: 0,
        upload_wanted: false,
        link: None,
        aborted: None,
        ended: false,
    }
}

fn computed() -> Record {
    let answer = Some(Answer { digest: DIGEST, file: "out/r".into() });
    Record { status: Status::Computed, answer, ..record() }
}

fn contributed() -> Record {
    Record { status: Status::Contributed, contribution_out: true, ..computed() }
}

fn aborted() -> Record {
    let cause = Cause::new(CauseCode::ConsensusReached, "the scheduler says so");
    Record { aborted: Some(cause), ..record() }
}

/// Contributions end at 70, reveals at 50 (consensus came early), everything at 100.
fn task(status: TaskStatus) -> ChainTask {
    let agreed = matches!(status, TaskStatus::Revealing | TaskStatus::Completed);
    ChainTask {
        id: id(),
        status,
        contribution_deadline: 70,
        reveal_deadline: if agreed { 50 } else { 0 },
        final_deadline: 100,
        consensus: if agreed { result_hash(id(), DIGEST) } else { B256::ZERO },
        revealed: 0,
        winners: 0,
        contributors: vec![],
        digest: ResultDigest::default(),
        results: Default::default(),
    }
}

fn contribution(status: ContributionStatus, digest: ResultDigest) -> Contribution {
    let result_hash = match status {
        ContributionStatus::Unset => B256::ZERO,
        _ => result_hash(id(), digest),
    };
    let result_seal = result_seal(Address::ZERO, id(), digest);
    Contribution { status, result_hash, result_seal, reward_weight: U256::ZERO }
}

fn decide(now: u64, record: &Record, task: &ChainTask, contribution: &Contribution) -> Next {
    decide_at((now, now), record, task, contribution)
}

/// The same, where the newest block is older than this machine's clock shows.
fn decide_at((now, block_time): (u64, u64), record: &Record, task: &ChainTask, contribution: &Contribution) -> Next {
    let worker = Address::ZERO;
    next(&View { now, block_time, worker, record, task, contribution, stake: STAKE, stake_needed: STAKE })
}

fn shown(next: &Next) -> String {
    match next {
        Next::Compute => "compute".into(),
        Next::Contribute => "contribute".into(),
        Next::Reveal => "reveal".into(),
        Next::Upload => "upload".into(),
        Next::Wait(None) => "wait".into(),
        Next::Wait(Some(status)) => format!("wait as {status}"),
        Next::Watch(Status::AbortedOnConsensusReached, cause) => format!("watch: {cause}"),
        Next::Watch(status, cause) => format!("watch as {status}: {cause}"),
        Next::End(status, None) => format!("end {status}"),
        Next::End(status, Some(cause)) => format!("end {status}: {cause}"),
    }
}

#[test]
fn the_matrix_of_decisions_is_the_reviewed_one() {
    use ContributionStatus::{Contributed, Proved, Rejected, Unset};
    use TaskStatus::{Active, Completed, Failed, Revealing, Unset as NotOpen};
    let wanted = Record { upload_wanted: true, ..contributed() };
    let records = [
        ("fresh", record()),
        ("aborted", aborted()),
        ("computed", computed()),
        ("sent", contributed()),
        ("upload wanted", wanted),
    ];
    let votes = [
        ("no contribution", contribution(Unset, DIGEST)),
        ("contributed", contribution(Contributed, DIGEST)),
        (
            "contributed under another seal",
            Contribution { result_seal: B256::repeat_byte(9), ..contribution(Contributed, DIGEST) },
        ),
        ("revealed", contribution(Proved, DIGEST)),
        ("rejected", contribution(Rejected, DIGEST)),
    ];
    let mut matrix = String::new();
    for status in [NotOpen, Active, Revealing, Completed, Failed] {
        for (vote, contribution) in &votes {
            for (name, record) in &records {
                writeln!(matrix, "{status:?}, {vote}, {name}").unwrap();
                let mut before = String::new();
                for now in [10, 50, 70, 100] {
                    let next = shown(&decide(now, record, &task(status), contribution));
                    if next != before {
                        writeln!(matrix, "  from {now}: {next}").unwrap();
                        before = next;
                    }
                }
            }
        }
    }
    expect_test::expect_file!["matrix.txt"].assert_eq(&matrix);
}

#[test]
fn a_digest_is_computed_once_and_contributed() {
    let (active, none) = (task(TaskStatus::Active), contribution(ContributionStatus::Unset, DIGEST));
    assert_eq!(decide(10, &record(), &active, &none), Next::Compute);
    assert_eq!(decide(10, &computed(), &active, &none), Next::Contribute);
}

#[test]
fn the_reveal_needs_no_word_of_the_scheduler() {
    let vote = contribution(ContributionStatus::Contributed, DIGEST);
    assert_eq!(decide(49, &contributed(), &task(TaskStatus::Revealing), &vote), Next::Reveal);
    let aborted = Record { aborted: aborted().aborted, ..contributed() };
    assert_eq!(decide(49, &aborted, &task(TaskStatus::Revealing), &vote), Next::Reveal);
}

#[test]
fn a_clock_that_is_ahead_loses_neither_stake_nor_work() {
    let (active, revealing) = (task(TaskStatus::Active), task(TaskStatus::Revealing));
    let none = contribution(ContributionStatus::Unset, DIGEST);
    let vote = contribution(ContributionStatus::Contributed, DIGEST);
    assert_eq!(decide_at((1_000, 49), &contributed(), &revealing, &vote), Next::Reveal);
    assert_eq!(decide_at((1_000, 69), &contributed(), &active, &vote), Next::Wait(Some(Status::Contributed)));
    assert_eq!(decide_at((1_000, 69), &computed(), &active, &none), Next::Contribute);
    for (record, task, vote, block_time) in
        [(contributed(), &revealing, &vote, 100), (computed(), &active, &none, 70), (record(), &active, &none, 10)]
    {
        let next = decide_at((1_000, block_time), &record, task, vote);
        assert!(matches!(next, Next::End(..)), "the chain says so, or nothing is lost: {next:?}");
    }
}

#[test]
fn a_block_of_a_wrong_time_or_one_that_goes_away_loses_no_stake() {
    let (active, revealing) = (task(TaskStatus::Active), task(TaskStatus::Revealing));
    let none = contribution(ContributionStatus::Unset, DIGEST);
    let vote = contribution(ContributionStatus::Contributed, DIGEST);
    let watched = |block_time, task, vote| match decide_at((40, block_time), &contributed(), task, vote) {
        Next::Watch(status, _) => status,
        next => panic!("{next:?} at {block_time}"),
    };
    // The reveal deadline is 50, the final one 100.
    assert_eq!(watched(50, &revealing, &vote), Status::RevealTimeout);
    assert_eq!(watched(86_400, &revealing, &vote), Status::Failed);
    assert_eq!(watched(86_400, &active, &none), Status::AbortedOnContributionTimeout);
    assert_eq!(watched(60, &active, &contribution(ContributionStatus::Rejected, DIGEST)), Status::RevealTimeout);
    let record = Record { status: Status::RevealTimeout, ..contributed() };
    assert_eq!(decide(49, &record, &revealing, &vote), Next::Reveal, "the chain allows it again");
    assert_eq!(decide(49, &contributed(), &active, &none), Next::Contribute);
    for over in [task(TaskStatus::Completed), task(TaskStatus::Failed)] {
        assert!(matches!(decide(60, &record, &over, &vote), Next::End(..)));
    }
    assert!(matches!(decide(100, &record, &revealing, &vote), Next::End(..)));
}

#[test]
fn a_contribution_that_may_be_out_is_seen_to_its_end_whatever_the_scheduler_wants() {
    let none = contribution(ContributionStatus::Unset, DIGEST);
    let record = Record { aborted: aborted().aborted, ..contributed() };
    for status in [TaskStatus::Active, TaskStatus::Revealing] {
        assert_eq!(decide(10, &record, &task(status), &none), Next::Contribute);
    }
}

#[test]
fn a_lost_vote_is_watched_because_a_reopened_task_may_still_need_it() {
    let lost = contribution(ContributionStatus::Contributed, FORGED);
    let answer = Some(Answer { digest: FORGED, file: "out/r".into() });
    let record = Record { answer, ..contributed() };
    assert!(matches!(
        decide(10, &record, &task(TaskStatus::Revealing), &lost),
        Next::Watch(Status::AbortedOnConsensusReached, _)
    ));
    let reopened = task(TaskStatus::Active);
    assert_eq!(decide(55, &record, &reopened, &lost), Next::Wait(Some(Status::Contributed)));
    let paid = decide(60, &record, &task(TaskStatus::Completed), &lost);
    assert_eq!(
        shown(&paid),
        "end ABORTED_ON_CONSENSUS_REACHED: the others agreed on another result: the stake is lost"
    );
}

#[test]
fn a_contribution_of_another_life_is_left_alone() {
    let vote = contribution(ContributionStatus::Contributed, FORGED);
    for record in [record(), computed()] {
        let Next::End(status, Some(cause)) = decide(10, &record, &task(TaskStatus::Active), &vote) else {
            panic!("goes on")
        };
        assert_eq!(status, Status::CantContributeSinceContributionAlreadySet);
        assert_eq!(cause.code, CauseCode::ContributionAlreadySet);
    }
}

#[test]
fn an_answer_that_comes_too_late_is_told_from_a_run_that_was_stopped() {
    let (revealing, none) = (task(TaskStatus::Revealing), contribution(ContributionStatus::Unset, DIGEST));
    let stopped = Record { aborted: aborted().aborted, ..computed() };
    for (record, expected) in [
        (computed(), (Status::CantContributeSinceTaskNotActive, CauseCode::TaskNotActive)),
        (record(), (Status::AbortedOnConsensusReached, CauseCode::ConsensusReached)),
        (stopped, (Status::AbortedOnConsensusReached, CauseCode::ConsensusReached)),
    ] {
        let Next::End(status, Some(cause)) = decide(10, &record, &revealing, &none) else { panic!("goes on") };
        assert_eq!((status, cause.code), expected);
    }
}

#[test]
fn a_seal_that_is_not_ours_cannot_be_revealed() {
    let vote = contribution(ContributionStatus::Contributed, DIGEST);
    let copied = Contribution { result_seal: B256::repeat_byte(9), ..vote };
    let Next::End(status, Some(cause)) = decide(10, &contributed(), &task(TaskStatus::Revealing), &copied) else {
        panic!("goes on")
    };
    assert_eq!((status, cause.code), (Status::CantReveal, CauseCode::CannotReveal));
}

#[test]
fn a_stake_that_is_too_low_says_what_is_missing() {
    let (active, none) = (task(TaskStatus::Active), contribution(ContributionStatus::Unset, DIGEST));
    let record = record();
    let view = View {
        now: 10,
        block_time: 10,
        worker: Address::ZERO,
        record: &record,
        task: &active,
        contribution: &none,
        stake: Nrlc(U256::from(1)),
        stake_needed: Nrlc::rlc(3),
    };
    let Next::End(status, Some(cause)) = next(&view) else { panic!("goes on") };
    assert_eq!((status, cause.code), (Status::CantContributeSinceStakeTooLow, CauseCode::StakeTooLow));
    assert!(cause.evidence.contains("0.000000001 RLC free and the stake is 3 RLC"), "{cause}");
    let sent = contributed();
    assert_eq!(next(&View { record: &sent, ..view }), Next::Contribute, "our own contribution may have locked it");
}

#[test]
fn failed_transactions_are_tried_a_few_times() {
    let (active, none) = (task(TaskStatus::Active), contribution(ContributionStatus::Unset, DIGEST));
    let failed = |n| Record { contribute_failures: n, ..computed() };
    assert_eq!(decide(10, &failed(MAX_ATTEMPTS - 1), &active, &none), Next::Contribute);
    let Next::Watch(status, _) = decide(10, &failed(MAX_ATTEMPTS), &active, &none) else { panic!("goes on") };
    assert_eq!(status, Status::ContributeFailed);

    let (revealing, vote) = (task(TaskStatus::Revealing), contribution(ContributionStatus::Contributed, DIGEST));
    let failed = |n| Record { reveal_failures: n, ..contributed() };
    assert_eq!(decide(10, &failed(MAX_ATTEMPTS - 1), &revealing, &vote), Next::Reveal);
    let Next::End(status, _) = decide(10, &failed(MAX_ATTEMPTS), &revealing, &vote) else { panic!("goes on") };
    assert_eq!(status, Status::RevealFailed);
}

#[test]
fn a_contribution_that_was_mined_and_failed_is_watched_because_a_reorg_may_let_it_count() {
    let failed = Record { contribute_failures: 1, ..computed() };
    let (revealing, none) = (task(TaskStatus::Revealing), contribution(ContributionStatus::Unset, DIGEST));
    let watched = decide(10, &failed, &revealing, &none);
    assert!(matches!(watched, Next::Watch(Status::CantContributeSinceTaskNotActive, _)), "{watched:?}");
    let told = Record { aborted: aborted().aborted, ..failed.clone() };
    let watched = decide(10, &told, &revealing, &none);
    assert!(matches!(watched, Next::Watch(Status::AbortedOnConsensusReached, _)), "{watched:?}");

    let counts = contribution(ContributionStatus::Contributed, DIGEST);
    assert_eq!(decide(11, &failed, &revealing, &counts), Next::Reveal);
    for (now, status) in [(60, TaskStatus::Completed), (60, TaskStatus::Failed), (100, TaskStatus::Revealing)] {
        let over = decide(now, &failed, &task(status), &none);
        assert!(matches!(over, Next::End(..)), "{over:?}");
    }
}

#[test]
fn an_uploaded_result_is_not_called_revealed_again() {
    let (revealing, vote) = (task(TaskStatus::Revealing), contribution(ContributionStatus::Proved, DIGEST));
    for status in [Status::ResultUploaded, Status::ResultUploadFailed] {
        let record = Record { status, ..contributed() };
        assert_eq!(decide(10, &record, &revealing, &vote), Next::Wait(None));
    }
}
