//! From deal to finalised task: what the pool does next, decided from what the chain shows and what workers said.
//!
//! Level-triggered: the same view always gives the same steps, so a lost, doubled or late event changes nothing.
//! Source: poco.md §7, §10; middleware.md §3.5.

use crate::{
    consensus::Votes,
    deal::{ChainTask, ContributionStatus, ResultLink, TaskStatus},
    replicate::{Cause, CauseCode, Status},
};
use alloy_primitives::{Address, B256, U256};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A worker that was asked for its result has it stored within so many seconds, or another is asked.
pub const UPLOAD_LEASE: u64 = 60;

/// Where a task stands, in the words that users know. RUNNING_FAILED of middleware.md §3.5 is missing: only a task for enclaves,
/// which this version does not run, ends because its workers failed. Here others are asked until the time is over, and a
/// failure of the app is an answer like any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Stage {
    /// Bought; not yet on the pool's table.
    Received,
    /// The transaction that opens it was sent.
    Initializing,
    /// Open; no worker has started.
    Initialized,
    /// Not opened while contributions were taken; waiting for the refund.
    InitializeFailed,
    /// At least one worker is on it.
    Running,
    /// No contribution came in time; waiting for the refund.
    ContributionTimeout,
    /// The workers agree; waiting for reveals.
    ConsensusReached,
    /// Nobody revealed; the vote is being reopened.
    Reopening,
    /// The vote is open again in a block that the pool has not read yet.
    Reopened,
    /// Nobody revealed, and it is too late to reopen the vote; the refund is due.
    ReopenFailed,
    /// At least one worker revealed.
    AtLeastOneRevealed,
    /// A worker uploads the result.
    ResultUploading,
    /// The result is in the store.
    ResultUploaded,
    /// Nobody who revealed stored the result in time; the refund is due.
    ResultUploadTimeout,
    /// The transaction that pays was sent.
    Finalizing,
    /// It is paid in a block that the pool has not read yet.
    Finalized,
    /// The result is in the store and the pool did not pay in time; the refund is due.
    FinalizeFailed,
    /// The workers did not agree, and everything ended without a result; the refund is due.
    FinalDeadlineReached,
    /// Paid.
    Completed,
    /// Refunded.
    Failed,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// One contribution with the weight of its worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The worker.
    pub worker: Address,
    /// Its state.
    pub status: ContributionStatus,
    /// What it voted for.
    pub hash: B256,
    /// Its consensus weight; see [`crate::consensus::weight`].
    pub weight: U256,
}

/// What the scheduler knows of one replicate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The worker.
    pub worker: Address,
    /// What it said last.
    pub status: Status,
    /// The weight that its contribution will have.
    pub weight: U256,
    /// Whether it can be told something now.
    pub connected: bool,
    /// It takes longer than runs of this app do: it may still contribute, but is not counted on.
    pub late: bool,
    /// How it stands with the pool's requests for the result.
    pub upload: Upload,
}

/// The turns of one worker to store the result, in seconds since the epoch. They begin with the pool's request and end with
/// a failure, whatever the worker says in between: nobody keeps a turn by talking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upload {
    /// When its present turn began.
    pub asked: Option<u64>,
    /// When its last turn failed.
    pub failed: Option<u64>,
}

impl Upload {
    /// Takes in the next status of the replicate.
    pub fn after(self, status: Status, date: u64) -> Self {
        match status {
            Status::Created => Self::default(),
            Status::ResultUploadRequested => Self { asked: self.asked.or(Some(date)), ..self },
            Status::ResultUploadFailed | Status::ResultUploadRequestFailed => Self { asked: None, failed: Some(date) },
            _ => self,
        }
    }

    /// The same for one that counts from `since` on: a request of an earlier life of the pool may have been answered then.
    pub fn counted_from(self, since: u64) -> Self {
        Self { asked: self.asked.map(|at| at.max(since)), ..self }
    }

    /// The same while what it says it has stored is being checked: its turn ends like any other, for a store may fail to give
    /// this one result for ever, but that is no failure of its worker, which is not asked again meanwhile.
    pub fn while_checked(self, now: u64) -> Self {
        if self.has_turn(now) { self } else { Self { asked: None, failed: Some(now) } }
    }

    /// Whether its turn lasts.
    fn has_turn(self, now: u64) -> bool {
        self.asked.is_some_and(|at| now < at.saturating_add(UPLOAD_LEASE))
    }

    /// Whether it had its turn and the time for it is over.
    pub fn is_over(self, now: u64) -> bool {
        self.asked.is_some() && !self.has_turn(now)
    }

    /// Whether it may get a turn: it has none, and its last failure is a while ago.
    fn may_be_asked(self, now: u64) -> bool {
        self.asked.is_none() && self.failed.is_none_or(|at| now >= at.saturating_add(UPLOAD_LEASE))
    }

    /// When something of this changes by itself.
    pub fn ends(self) -> impl Iterator<Item = u64> {
        self.asked.into_iter().chain(self.failed).map(|at| at.saturating_add(UPLOAD_LEASE))
    }
}

/// Everything that a decision about one task rests on, read at one moment.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// Seconds since the epoch.
    pub now: u64,
    /// The trust that was bought.
    pub trust: U256,
    /// The task on chain. For an uninitialised task the deadlines are those that it will get.
    pub task: &'a ChainTask,
    /// The contributions on chain.
    pub votes: &'a [Vote],
    /// The replicates.
    pub parts: &'a [Part],
    /// Where the result lies, once it does.
    pub result: Option<&'a ResultLink>,
}

/// One thing to do. All of them may be done twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send `initialize`.
    Initialize,
    /// Give the task to one more worker, then decide again.
    AddWorker,
    /// Tell a worker to reveal.
    Reveal(Address),
    /// Ask a worker for the result.
    Upload(Address),
    /// Send `finalize` with this link.
    Finalize(ResultLink),
    /// Send `reopen`.
    Reopen,
    /// Send `claim`, initialising first where that never happened.
    Claim,
    /// Tell a worker to stop.
    Abort(Address, Cause),
    /// Tell a worker that the task has ended, how it went for it, and why unless it is paid.
    End(Address, Status, Option<Cause>),
}

/// What to do about a task now.
pub fn steps(view: &View<'_>) -> Vec<Step> {
    let over = view.now >= view.task.final_deadline;
    match view.task.status {
        TaskStatus::Unset if over => vec![Step::Claim],
        TaskStatus::Unset if view.now < view.task.contribution_deadline => vec![Step::Initialize],
        TaskStatus::Unset => vec![],
        TaskStatus::Active | TaskStatus::Revealing if over => vec![Step::Claim],
        TaskStatus::Active => contribution_steps(view),
        TaskStatus::Revealing => reveal_steps(view),
        TaskStatus::Completed => endings(view, Status::Completed),
        TaskStatus::Failed => endings(view, Status::Failed),
    }
}

fn contribution_steps(view: &View<'_>) -> Vec<Step> {
    if view.now >= view.task.contribution_deadline {
        return aborts(view, CauseCode::ContributionTimeout);
    }
    match needs_worker(view) {
        true => vec![Step::AddWorker],
        false => vec![],
    }
}

/// Whether the trust that was bought needs one more worker than are at work.
pub(crate) fn needs_worker(view: &View<'_>) -> bool {
    let mut votes = Votes::default();
    for vote in view.votes {
        match vote.status {
            ContributionStatus::Contributed | ContributionStatus::Proved => votes.add(vote.hash, vote.weight),
            ContributionStatus::Unset | ContributionStatus::Rejected => {}
        }
    }
    let voted = |worker| view.votes.iter().any(|v| v.worker == worker);
    let pending = view.parts.iter().filter(|p| p.status.may_still_contribute() && !p.late && !voted(p.worker));
    let mut weights = pending.map(|p| p.weight).peekable();
    // Without consensus on chain and with nobody at work, one more is needed whatever the weights seem to be: they are
    // estimates, since scores move between a contribution and now.
    weights.peek().is_none() || votes.needs_more(weights, view.trust)
}

fn reveal_steps(view: &View<'_>) -> Vec<Step> {
    let task = view.task;
    let late = view.now >= task.reveal_deadline;
    let mut steps = aborts(view, CauseCode::ConsensusReached);
    if late && task.revealed == 0 {
        steps.push(Step::Reopen);
        return steps;
    }
    let winners = view.votes.iter().filter(|v| v.hash == task.consensus);
    if !late {
        let unrevealed = winners.clone().filter(|v| v.status == ContributionStatus::Contributed);
        steps.extend(unrevealed.map(|v| Step::Reveal(v.worker)));
    }
    let all_revealed = task.revealed == task.winners;
    match view.result {
        Some(link) if all_revealed || late => steps.push(Step::Finalize(link.clone())),
        Some(_) => {}
        None => steps.extend(uploader(view).map(Step::Upload)),
    }
    steps
}

/// Who is asked for the result: of the workers whose reveal stands on chain and that are connected, the one whose turn it is,
/// else one that has not failed at it, else the one whose failure is longest ago.
fn uploader(view: &View<'_>) -> Option<Address> {
    let proved = |p: &&Part| {
        let vote = view.votes.iter().find(|v| v.worker == p.worker);
        vote.is_some_and(|v| v.status == ContributionStatus::Proved)
    };
    let able = view.parts.iter().filter(proved).filter(|p| p.connected);
    let next = || able.clone().filter(|p| p.upload.may_be_asked(view.now)).min_by_key(|p| p.upload.failed);
    able.clone().find(|p| p.upload.has_turn(view.now)).or_else(next).map(|p| p.worker)
}

/// Stops everybody whose contribution would come too late.
fn aborts(view: &View<'_>, code: CauseCode) -> Vec<Step> {
    let evidence = match code {
        CauseCode::ConsensusReached => "the others agreed without this worker",
        _ => "the time for contributions is over",
    };
    let voted = |worker| view.votes.iter().any(|v| v.worker == worker);
    let late = view.parts.iter().filter(|p| p.status.may_still_contribute() && !voted(p.worker));
    late.map(|p| Step::Abort(p.worker, Cause::new(code, evidence))).collect()
}

/// Tells every replicate that has not ended how it ended.
fn endings(view: &View<'_>, outcome: Status) -> Vec<Step> {
    let end = |p: &Part| {
        let (status, cause) = ending(view, outcome, p.worker);
        Step::End(p.worker, status, cause)
    };
    view.parts.iter().filter(|p| !p.status.is_final()).map(end).collect()
}

/// How a task went for one worker; `None` while it has not ended.
pub fn outcome(view: &View<'_>, worker: Address) -> Option<(Status, Option<Cause>)> {
    match view.task.status {
        TaskStatus::Completed => Some(ending(view, Status::Completed, worker)),
        TaskStatus::Failed => Some(ending(view, Status::Failed, worker)),
        TaskStatus::Unset | TaskStatus::Active | TaskStatus::Revealing => None,
    }
}

/// How a task that has ended went for one worker.
fn ending(view: &View<'_>, outcome: Status, worker: Address) -> (Status, Option<Cause>) {
    let because = |status, code, evidence: &str| (status, Some(Cause::new(code, evidence)));
    let vote = view.votes.iter().find(|v| v.worker == worker);
    let proved = vote.is_some_and(|v| v.status == ContributionStatus::Proved);
    match (outcome, vote) {
        (Status::Completed, _) if proved => (Status::Completed, None),
        (Status::Completed, Some(vote)) if vote.hash == view.task.consensus => {
            let text = "it did not reveal in time: its stake goes to those who did";
            because(Status::RevealTimeout, CauseCode::RevealTimeout, text)
        }
        (Status::Completed, Some(_)) => {
            let text = "the others agreed on another result: its stake goes to them";
            because(Status::Failed, CauseCode::ConsensusReached, text)
        }
        (Status::Completed, None) => {
            because(Status::Failed, CauseCode::ConsensusReached, "the others agreed without this worker")
        }
        _ if proved => {
            let text = "the pool did not finalize in time: its stake is back";
            because(Status::Failed, CauseCode::Unknown, text)
        }
        _ => {
            let text = "the task ended without a result: what was staked is back";
            because(Status::Failed, CauseCode::ContributionTimeout, text)
        }
    }
}

/// Where the task stands.
pub fn stage(view: &View<'_>) -> Stage {
    let (task, over) = (view.task, view.now >= view.task.final_deadline);
    let asked = |p: &Part| matches!(p.status, Status::ResultUploadRequested | Status::ResultUploading);
    match task.status {
        TaskStatus::Completed => Stage::Completed,
        TaskStatus::Failed => Stage::Failed,
        TaskStatus::Unset if view.now >= task.contribution_deadline => Stage::InitializeFailed,
        TaskStatus::Unset => Stage::Received,
        TaskStatus::Active if over => Stage::FinalDeadlineReached,
        TaskStatus::Active if view.now >= task.contribution_deadline => Stage::ContributionTimeout,
        TaskStatus::Active if view.parts.iter().any(|p| p.status != Status::Created) => Stage::Running,
        TaskStatus::Active => Stage::Initialized,
        TaskStatus::Revealing if task.revealed == 0 && over => Stage::ReopenFailed,
        TaskStatus::Revealing if task.revealed == 0 && view.now >= task.reveal_deadline => Stage::Reopening,
        TaskStatus::Revealing if task.revealed == 0 => Stage::ConsensusReached,
        TaskStatus::Revealing if over => match view.result {
            Some(_) => Stage::FinalizeFailed,
            None => Stage::ResultUploadTimeout,
        },
        TaskStatus::Revealing if view.result.is_some() => Stage::ResultUploaded,
        TaskStatus::Revealing if view.parts.iter().any(asked) => Stage::ResultUploading,
        TaskStatus::Revealing => Stage::AtLeastOneRevealed,
    }
}

/// Why the task stands there, where it should not.
pub fn cause(stage: Stage, view: &View<'_>) -> Option<Cause> {
    let task = view.task;
    let (revealed, winners) = (task.revealed, task.winners);
    let (code, evidence) = match stage {
        Stage::InitializeFailed => {
            let text = "the transaction that opens it was in no block when the time for contributions was over";
            (CauseCode::ContributionTimeout, text.into())
        }
        Stage::ContributionTimeout | Stage::FinalDeadlineReached => {
            let counts = |v: &&Vote| matches!(v.status, ContributionStatus::Contributed | ContributionStatus::Proved);
            let text = match view.votes.iter().filter(counts).count() {
                0 => "no contribution came in time".into(),
                votes => format!("contributions in time: {votes}; too few of them agree"),
            };
            (CauseCode::ContributionTimeout, text)
        }
        Stage::Reopening | Stage::ReopenFailed => {
            (CauseCode::RevealTimeout, format!("reveals in time: 0 of {winners}"))
        }
        Stage::ResultUploadTimeout => {
            let text = format!("reveals: {revealed} of {winners}; none of these workers stored the result in time");
            (CauseCode::ResultUploadFailed, text)
        }
        Stage::FinalizeFailed => {
            let text = "the result is stored, and the transaction that pays was in no block in time";
            (CauseCode::Unknown, text.into())
        }
        Stage::Failed if winners == 0 => return cause(Stage::FinalDeadlineReached, view),
        Stage::Failed if revealed == 0 => return cause(Stage::ReopenFailed, view),
        Stage::Failed if view.result.is_none() => return cause(Stage::ResultUploadTimeout, view),
        Stage::Failed => return cause(Stage::FinalizeFailed, view),
        Stage::Received
        | Stage::Initializing
        | Stage::Initialized
        | Stage::Running
        | Stage::ConsensusReached
        | Stage::Reopened
        | Stage::AtLeastOneRevealed
        | Stage::ResultUploading
        | Stage::ResultUploaded
        | Stage::Finalizing
        | Stage::Finalized
        | Stage::Completed => return None,
    };
    Some(Cause::new(code, evidence))
}

/// A transaction of the pool that is on its way, or in a block that the pool has not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// `initialize`, on its way.
    Initialize,
    /// `finalize`, on its way.
    Finalize,
    /// `finalize`, in a block.
    Finalized,
    /// `reopen`, in a block.
    Reopened,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Received,
        Self::Initializing,
        Self::Initialized,
        Self::InitializeFailed,
        Self::Running,
        Self::ContributionTimeout,
        Self::ConsensusReached,
        Self::Reopening,
        Self::Reopened,
        Self::ReopenFailed,
        Self::AtLeastOneRevealed,
        Self::ResultUploading,
        Self::ResultUploaded,
        Self::ResultUploadTimeout,
        Self::Finalizing,
        Self::Finalized,
        Self::FinalizeFailed,
        Self::FinalDeadlineReached,
        Self::Completed,
        Self::Failed,
    ];

    /// The stage of a task that the chain shows here while a transaction is on its way, or after `before`: a transaction that
    /// is tried again and again is one stage. What is in a block in time counts, though it is read later.
    pub fn after(self, before: Option<Self>, sending: Option<Sending>) -> Self {
        match (self, before, sending) {
            (Self::Received, _, Some(Sending::Initialize)) | (Self::Received, Some(Self::Initializing), _) => {
                Self::Initializing
            }
            (Self::Reopening | Self::ReopenFailed, _, Some(Sending::Reopened)) => Self::Reopened,
            (Self::ResultUploaded | Self::FinalizeFailed, _, Some(Sending::Finalized))
            | (Self::ResultUploaded, Some(Self::Finalized), Some(Sending::Finalize)) => Self::Finalized,
            (Self::ResultUploaded, _, Some(Sending::Finalize)) | (Self::ResultUploaded, Some(Self::Finalizing), _) => {
                Self::Finalizing
            }
            _ => self,
        }
    }

    /// What it means, in plain words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Received => "the task is bought and not opened on the chain yet",
            Self::Initializing => "the transaction that opens the task was sent",
            Self::Initialized => "the task is open and no worker has begun",
            Self::InitializeFailed => "the task was not opened on the chain in time",
            Self::Running => "workers are on it",
            Self::ContributionTimeout => "the workers did not agree in time",
            Self::ConsensusReached => "the workers agree",
            Self::Reopening => "nobody revealed in time: the vote is opened again",
            Self::Reopened => "the vote is open again, in a block that the pool reads next",
            Self::ReopenFailed => "nobody revealed in time, and it is too late to open the vote again",
            Self::AtLeastOneRevealed => "at least one worker has revealed its answer",
            Self::ResultUploading => "a worker stores the result",
            Self::ResultUploaded => "the result is in the store",
            Self::ResultUploadTimeout => "workers revealed and none of them stored the result in time",
            Self::Finalizing => "the transaction that pays was sent",
            Self::Finalized => "the task is paid, in a block that the pool reads next",
            Self::FinalizeFailed => "the result is in the store and the pool did not pay in time",
            Self::FinalDeadlineReached => "the time of the task is over",
            Self::Completed => "the task is paid",
            Self::Failed => "the price went back to who paid it",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ResultDigest, TaskId};

    const GOOD: B256 = B256::repeat_byte(1);
    const FORGED: B256 = B256::repeat_byte(2);

    fn who(n: u8) -> Address {
        Address::with_last_byte(n)
    }

    fn task(status: TaskStatus) -> ChainTask {
        ChainTask {
            id: TaskId::default(),
            status,
            contribution_deadline: 70,
            reveal_deadline: 50,
            final_deadline: 100,
            consensus: GOOD,
            revealed: 0,
            winners: 3,
            contributors: vec![],
            digest: ResultDigest::default(),
            results: Default::default(),
        }
    }

    fn vote(n: u8, status: ContributionStatus, hash: B256) -> Vote {
        Vote { worker: who(n), status, hash, weight: U256::from(2) }
    }

    fn part(n: u8, status: Status) -> Part {
        Part { worker: who(n), status, weight: U256::from(2), connected: true, late: false, upload: Upload::default() }
    }

    fn view<'a>(now: u64, task: &'a ChainTask, votes: &'a [Vote], parts: &'a [Part]) -> View<'a> {
        View { now, trust: U256::from(5), task, votes, parts, result: None }
    }

    #[test]
    fn a_transaction_that_is_tried_again_and_again_is_one_stage() {
        let (received, uploaded) = (Stage::Received, Stage::ResultUploaded);
        assert_eq!(received.after(None, None), received);
        assert_eq!(received.after(Some(received), Some(Sending::Initialize)), Stage::Initializing);
        assert_eq!(received.after(Some(Stage::Initializing), None), Stage::Initializing);
        assert_eq!(Stage::Initialized.after(Some(Stage::Initializing), Some(Sending::Initialize)), Stage::Initialized);
        assert_eq!(uploaded.after(Some(uploaded), Some(Sending::Finalize)), Stage::Finalizing);
        assert_eq!(uploaded.after(Some(Stage::Finalizing), None), Stage::Finalizing);
        assert_eq!(Stage::Completed.after(Some(Stage::Finalizing), Some(Sending::Finalize)), Stage::Completed);
    }

    #[test]
    fn what_is_in_a_block_counts_until_the_pool_has_read_it() {
        let (reopening, uploaded) = (Stage::Reopening, Stage::ResultUploaded);
        assert_eq!(reopening.after(Some(reopening), Some(Sending::Reopened)), Stage::Reopened);
        assert_eq!(Stage::ReopenFailed.after(Some(Stage::Reopened), Some(Sending::Reopened)), Stage::Reopened);
        assert_eq!(Stage::Running.after(Some(Stage::Reopened), None), Stage::Running);
        assert_eq!(uploaded.after(Some(Stage::Finalizing), Some(Sending::Finalized)), Stage::Finalized);
        assert_eq!(
            uploaded.after(Some(Stage::Finalized), Some(Sending::Finalize)),
            Stage::Finalized,
            "it is asked again"
        );
        assert_eq!(Stage::FinalizeFailed.after(Some(Stage::Finalized), Some(Sending::Finalized)), Stage::Finalized);
        assert_eq!(uploaded.after(Some(Stage::Finalized), None), uploaded, "a reorg took the block away");
    }

    #[test]
    fn a_refund_has_the_cause_of_what_was_missing() {
        let link = ResultLink::ipfs("/ipfs/x".into());
        let why = |winners, revealed, result| {
            let failed = ChainTask { winners, revealed, ..task(TaskStatus::Failed) };
            cause(Stage::Failed, &View { result, ..view(100, &failed, &[], &[]) }).unwrap().code
        };
        assert_eq!(why(0, 0, None), CauseCode::ContributionTimeout);
        assert_eq!(why(3, 0, None), CauseCode::RevealTimeout);
        assert_eq!(why(3, 1, None), CauseCode::ResultUploadFailed);
        assert_eq!(why(3, 1, Some(&link)), CauseCode::Unknown);
    }

    #[test]
    fn a_task_is_initialised_in_time_or_claimed_at_the_end() {
        let unset = task(TaskStatus::Unset);
        assert_eq!(steps(&view(69, &unset, &[], &[])), [Step::Initialize]);
        assert_eq!(steps(&view(70, &unset, &[], &[])), []);
        assert_eq!(steps(&view(100, &unset, &[], &[])), [Step::Claim]);
    }

    #[test]
    fn workers_are_added_until_the_trust_can_be_met_and_no_further() {
        let active = task(TaskStatus::Active);
        let mut parts = vec![];
        for n in 0..3 {
            assert_eq!(steps(&view(1, &active, &[], &parts)), [Step::AddWorker], "{n} at work");
            parts.push(part(n, Status::Computing));
        }
        assert_eq!(steps(&view(1, &active, &[], &parts)), []);
        parts[0].status = Status::Failed;
        assert_eq!(steps(&view(1, &active, &[], &parts)), [Step::AddWorker]);
        parts[0].status = Status::Computing;
        parts[0].late = true;
        assert_eq!(steps(&view(1, &active, &[], &parts)), [Step::AddWorker], "one that is late is replaced");
    }

    #[test]
    fn a_dissenting_vote_brings_in_more_workers() {
        use ContributionStatus::Contributed;
        let active = task(TaskStatus::Active);
        let votes = [vote(0, Contributed, FORGED), vote(1, Contributed, GOOD)];
        let mut parts = vec![part(0, Status::Contributed), part(1, Status::Contributed), part(2, Status::Computing)];
        while steps(&view(1, &active, &votes, &parts)) == [Step::AddWorker] {
            parts.push(part(parts.len() as u8, Status::Created));
        }
        assert_eq!(parts.len(), 5, "one liar and four honest");
    }

    #[test]
    fn without_consensus_and_with_nobody_at_work_one_more_is_needed() {
        let active = task(TaskStatus::Active);
        let votes = [0, 1, 2].map(|n| vote(n, ContributionStatus::Contributed, GOOD));
        let parts = [0, 1, 2].map(|n| part(n, Status::Contributed));
        assert_eq!(steps(&view(1, &active, &votes, &parts)), [Step::AddWorker], "the weights were overestimated");
    }

    #[test]
    fn rejected_votes_do_not_count() {
        let active = task(TaskStatus::Active);
        let votes = [0, 1, 2].map(|n| vote(n, ContributionStatus::Rejected, GOOD));
        assert_eq!(steps(&view(1, &active, &votes, &[])), [Step::AddWorker]);
    }

    #[test]
    fn winners_reveal_and_the_others_stop() {
        use ContributionStatus::{Contributed, Proved};
        let revealing = task(TaskStatus::Revealing);
        let votes = [vote(1, Contributed, GOOD), vote(2, Proved, GOOD), vote(3, Contributed, FORGED)];
        let parts = [part(1, Status::Contributed), part(2, Status::Revealed), part(4, Status::Computing)];
        let steps = steps(&view(40, &revealing, &votes, &parts));
        assert!(
            matches!(&steps[..], [Step::Abort(a, _), Step::Reveal(r), Step::Upload(u)]
            if (*a, *r, *u) == (who(4), who(1), who(2))),
            "{steps:?}"
        );
    }

    #[test]
    fn a_result_is_asked_of_one_that_has_not_failed_and_else_again_after_a_while() {
        use Status::{ResultUploadFailed, ResultUploadRequested, ResultUploading};
        let revealing = ChainTask { reveal_deadline: 10_000, final_deadline: 10_000, ..task(TaskStatus::Revealing) };
        let votes = [1, 2].map(|n| vote(n, ContributionStatus::Proved, GOOD));
        let asked = |now, parts: &[Part]| {
            let steps = steps(&view(now, &revealing, &votes, parts));
            steps.iter().find_map(|step| if let Step::Upload(worker) = step { Some(*worker) } else { None })
        };
        let mut parts = [1, 2].map(|n| part(n, Status::Revealed));
        let says = |parts: &mut [Part; 2], n: usize, status, date| {
            parts[n - 1].status = status;
            parts[n - 1].upload = parts[n - 1].upload.after(status, date);
        };
        says(&mut parts, 1, ResultUploadFailed, 100);
        assert_eq!(asked(100, &parts), Some(who(2)));
        says(&mut parts, 2, ResultUploadRequested, 100);
        says(&mut parts, 2, ResultUploading, 110);
        says(&mut parts, 2, Status::Recovering, 120);
        says(&mut parts, 2, ResultUploadRequested, 130);
        assert_eq!(asked(159, &parts), Some(who(2)));
        assert!(parts[1].upload.is_over(160), "a turn is not made longer by what its worker says");
        says(&mut parts, 2, ResultUploadFailed, 160);
        assert_eq!(asked(160, &parts), Some(who(1)));
        parts[0].connected = false;
        assert_eq!(asked(160, &parts), None, "it failed a moment ago");
        says(&mut parts, 2, ResultUploading, 170);
        assert_eq!(asked(219, &parts), None, "it does not give itself a turn");
        assert_eq!(asked(220, &parts), Some(who(2)));
        parts[0].connected = true;
        assert_eq!(asked(220, &parts), Some(who(1)), "its failure is longer ago");
    }

    #[test]
    fn finalize_waits_for_all_reveals_or_the_deadline() {
        let link = ResultLink::ipfs("/ipfs/x".into());
        let finalize = |now, revealed| {
            let task = ChainTask { revealed, ..task(TaskStatus::Revealing) };
            steps(&View { result: Some(&link), ..view(now, &task, &[], &[]) })
        };
        assert_eq!(finalize(40, 2), []);
        assert_eq!(finalize(40, 3), [Step::Finalize(link.clone())]);
        assert_eq!(finalize(50, 2), [Step::Finalize(link.clone())]);
        assert_eq!(finalize(50, 0), [Step::Reopen]);
        assert_eq!(finalize(100, 3), [Step::Claim]);
    }

    #[test]
    fn everybody_hears_how_it_ended() {
        let done = task(TaskStatus::Completed);
        use ContributionStatus::{Contributed, Proved};
        let votes = [vote(1, Proved, GOOD), vote(2, Contributed, FORGED), vote(4, Contributed, GOOD)];
        let parts = [
            part(1, Status::Revealed),
            part(2, Status::Contributed),
            part(3, Status::Failed),
            part(4, Status::Contributed),
        ];
        let ends: Vec<_> = steps(&view(40, &done, &votes, &parts))
            .into_iter()
            .map(|step| match step {
                Step::End(worker, status, cause) => (worker, status, cause.map(|cause| cause.code)),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            ends,
            [
                (who(1), Status::Completed, None),
                (who(2), Status::Failed, Some(CauseCode::ConsensusReached)),
                (who(4), Status::RevealTimeout, Some(CauseCode::RevealTimeout)),
            ]
        );
    }
}
