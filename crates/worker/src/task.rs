//! What a worker does next about one replicate, decided from its journal and what the chain shows. Pure.
//!
//! Level-triggered: the same view always gives the same step, so that a restart, a lost message or a message that
//! comes twice changes nothing. What the scheduler says is a wish; the chain is the referee.
//! Source: poco.md §7; middleware.md §3.8.

use crate::store::Record;
use bourse_protocol::{
    Address,
    deal::{ChainTask, Contribution, ContributionStatus, TaskStatus},
    ids::{result_hash, result_seal},
    money::Nrlc,
    replicate::{Cause, CauseCode, Status},
};

/// Contributions or reveals that were mined and failed are sent again so many times in all.
pub(crate) const MAX_ATTEMPTS: u32 = 3;

/// Everything that a decision rests on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    /// Seconds since the epoch on this machine's clock.
    pub(crate) now: u64,
    /// The time of the newest block. The one after it is later, and may still be in time.
    pub(crate) block_time: u64,
    /// The wallet.
    pub(crate) worker: Address,
    /// What it knows for good.
    pub(crate) record: &'a Record,
    /// The task on chain. For an uninitialised task the deadlines are those that it will get.
    pub(crate) task: &'a ChainTask,
    /// The worker's contribution on chain, read after the task.
    pub(crate) contribution: &'a Contribution,
    /// Free deposit, read before the contribution.
    pub(crate) stake: Nrlc,
    /// What a contribution locks.
    pub(crate) stake_needed: Nrlc,
}

impl View<'_> {
    /// The time that decides. Where work or stake could be lost it is the chain's own, which takes what comes before its
    /// deadlines whatever this machine's clock says; before that nobody needs to wait for a block.
    fn time(&self) -> u64 {
        let nothing_to_lose = self.record.answer.is_none() && self.contribution.status == ContributionStatus::Unset;
        if nothing_to_lose { self.now.max(self.block_time) } else { self.block_time }
    }

    /// Whether nothing counts any more. One block may be of any time, and may go away again: both clocks must say so.
    fn is_over(&self) -> bool {
        let closed = matches!(self.task.status, TaskStatus::Completed | TaskStatus::Failed);
        closed || self.now.min(self.block_time) >= self.task.final_deadline
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Download, run, take the digest.
    Compute,
    /// Send the contribution, or wait for the one that was sent.
    Contribute,
    /// Send the reveal, or wait for the one that was sent.
    Reveal,
    /// Store the result.
    Upload,
    /// Nothing to do until something changes. The status is what the chain shows, if it shows one.
    Wait(Option<Status>),
    /// Nothing to do, as this status says, unless the winners fail to reveal, the chain goes back or the newest block was of
    /// a wrong time: watch without hurry.
    Watch(Status, Cause),
    /// Nothing is left to do.
    End(Status, Option<Cause>),
}

/// What to do now.
pub(crate) fn next(view: &View<'_>) -> Next {
    match step(view) {
        Next::End(status, Some(cause)) if may_still_count(view, status) => Next::Watch(status, cause),
        next => next,
    }
}

/// Whether a contribution may yet count that was mined and failed, or that its time seems to be over for: a block that takes
/// the place of another may come before what made it so, and may tell another time.
fn may_still_count(view: &View<'_>, status: Status) -> bool {
    let failed = view.record.contribute_failures > 0 && view.contribution.status == ContributionStatus::Unset;
    let sent = view.record.contribution_out || view.contribution.status != ContributionStatus::Unset;
    let by_time = matches!(status, Status::RevealTimeout | Status::Failed | Status::AbortedOnContributionTimeout);
    !view.is_over() && (failed || (sent && by_time))
}

fn step(view: &View<'_>) -> Next {
    use ContributionStatus::{Contributed, Proved, Rejected, Unset};
    if let Some(stranger) = contributed_by_another_life(view) {
        return stranger;
    }
    match (view.task.status, view.contribution.status) {
        (TaskStatus::Completed | TaskStatus::Failed, status) => closed(view, status),
        (TaskStatus::Unset | TaskStatus::Active | TaskStatus::Revealing, Rejected) => unrevealed(),
        (TaskStatus::Unset | TaskStatus::Active | TaskStatus::Revealing, Unset | Contributed | Proved)
            if view.time() >= view.task.final_deadline =>
        {
            over(view)
        }
        (TaskStatus::Unset | TaskStatus::Active, Unset) => before_contribution(view),
        (TaskStatus::Unset | TaskStatus::Active, Contributed) => Next::Wait(Some(Status::Contributed)),
        // What was sent may still count if the task is reopened: first see how it ends.
        (TaskStatus::Revealing, Unset) if view.record.contribution_out => Next::Contribute,
        (TaskStatus::Revealing, Unset) => outrun(view),
        (TaskStatus::Revealing, Contributed) => before_reveal(view),
        (TaskStatus::Unset | TaskStatus::Active | TaskStatus::Revealing, Proved) => after_reveal(view),
    }
}

/// A contribution of this wallet that this journal knows nothing of, or knows differently: hands off.
fn contributed_by_another_life(view: &View<'_>) -> Option<Next> {
    if view.contribution.status == ContributionStatus::Unset {
        return None;
    }
    let own = view.record.answer.as_ref().map(|a| result_hash(view.task.id, a.digest));
    (own != Some(view.contribution.result_hash)).then(|| {
        end(
            Status::CantContributeSinceContributionAlreadySet,
            CauseCode::ContributionAlreadySet,
            "this wallet has contributed another result: run one worker per wallet, and keep its folder",
        )
    })
}

fn before_contribution(view: &View<'_>) -> Next {
    let record = view.record;
    if record.contribution_out {
        return Next::Contribute;
    }
    if let Some(cause) = &record.aborted {
        return Next::End(aborted(cause), Some(cause.clone()));
    }
    if view.time() >= view.task.contribution_deadline {
        let text = "the time for contributions is over";
        return end(Status::CantContributeSinceAfterDeadline, CauseCode::ContributionTimeout, text);
    }
    if view.task.status == TaskStatus::Unset {
        return Next::Wait(None);
    }
    if view.stake < view.stake_needed {
        let text = format!(
            "wallet {} has {} RLC free and the stake is {} RLC: deposit more",
            view.worker, view.stake, view.stake_needed
        );
        return end(Status::CantContributeSinceStakeTooLow, CauseCode::StakeTooLow, text);
    }
    match &record.answer {
        None => Next::Compute,
        Some(_) if record.contribute_failures >= MAX_ATTEMPTS => {
            let text = format!("{MAX_ATTEMPTS} contributions failed on chain");
            end(Status::ContributeFailed, CauseCode::TransactionRefused, text)
        }
        Some(_) => Next::Contribute,
    }
}

/// The others agreed first: who has its answer finds that the task takes none any more, who still computes is stopped.
fn outrun(view: &View<'_>) -> Next {
    let text = "the others agreed before this worker contributed";
    match (&view.record.aborted, &view.record.answer) {
        (None, Some(_)) => end(Status::CantContributeSinceTaskNotActive, CauseCode::TaskNotActive, text),
        (Some(_), _) | (None, None) => end(Status::AbortedOnConsensusReached, CauseCode::ConsensusReached, text),
    }
}

fn before_reveal(view: &View<'_>) -> Next {
    if view.contribution.result_hash != view.task.consensus {
        let cause = Cause::new(CauseCode::ConsensusReached, "the others agreed on another result");
        return Next::Watch(Status::AbortedOnConsensusReached, cause);
    }
    if view.time() >= view.task.reveal_deadline {
        return unrevealed();
    }
    if !seal_is_ours(view) {
        let text = "this wallet's contribution carries a seal that this worker did not make: run one worker per wallet";
        return end(Status::CantReveal, CauseCode::CannotReveal, text);
    }
    if view.record.reveal_failures >= MAX_ATTEMPTS {
        let text = format!("{MAX_ATTEMPTS} reveals failed on chain");
        return end(Status::RevealFailed, CauseCode::TransactionRefused, text);
    }
    Next::Reveal
}

/// Whether the chain would take our digest: the contribution may have come from elsewhere, with the same result.
fn seal_is_ours(view: &View<'_>) -> bool {
    let seal = |digest| result_seal(view.worker, view.task.id, digest);
    view.record.answer.as_ref().is_some_and(|answer| seal(answer.digest) == view.contribution.result_seal)
}

fn after_reveal(view: &View<'_>) -> Next {
    match view.record.status {
        _ if view.record.upload_wanted => Next::Upload,
        Status::ResultUploaded | Status::ResultUploadFailed => Next::Wait(None),
        _ => Next::Wait(Some(Status::Revealed)),
    }
}

/// The task is paid or refunded.
fn closed(view: &View<'_>, contribution: ContributionStatus) -> Next {
    use ContributionStatus::{Contributed, Proved, Rejected, Unset};
    let paid = view.task.status == TaskStatus::Completed;
    match contribution {
        Proved if paid => Next::End(Status::Completed, None),
        Proved => end(Status::Failed, CauseCode::Unknown, "the pool did not finalize in time: the stake is back"),
        Rejected => unrevealed(),
        Contributed if paid && view.contribution.result_hash == view.task.consensus => unrevealed(),
        Contributed if paid => {
            let text = "the others agreed on another result: the stake is lost";
            end(Status::AbortedOnConsensusReached, CauseCode::ConsensusReached, text)
        }
        Unset if paid => outrun(view),
        Contributed | Unset => {
            let text = "the workers did not agree in time: the request was refunded";
            end(Status::AbortedOnContributionTimeout, CauseCode::ContributionTimeout, text)
        }
    }
}

/// Nothing counts any more, but nobody has claimed yet.
fn over(view: &View<'_>) -> Next {
    let text = "the task ended without being finalized: whoever claims it frees the stakes";
    match view.contribution.status {
        ContributionStatus::Unset => {
            end(Status::AbortedOnContributionTimeout, CauseCode::ContributionTimeout, "the task is over")
        }
        _ => end(Status::Failed, CauseCode::Unknown, text),
    }
}

fn unrevealed() -> Next {
    end(
        Status::RevealTimeout,
        CauseCode::RevealTimeout,
        "the reveal did not reach the chain in time: the stake is lost if the task completes",
    )
}

fn end(status: Status, code: CauseCode, evidence: impl Into<String>) -> Next {
    Next::End(status, Some(Cause::new(code, evidence)))
}

/// The status that names why the scheduler stopped a replicate.
pub(crate) fn aborted(cause: &Cause) -> Status {
    match cause.code {
        CauseCode::ConsensusReached => Status::AbortedOnConsensusReached,
        CauseCode::ContributionTimeout => Status::AbortedOnContributionTimeout,
        _ => Status::Failed,
    }
}

#[cfg(test)]
mod tests;
