//! What comes next and by when, for people who wait. Source of the deadlines: poco.md §7.

use crate::{
    deal::{ChainTask, TaskStatus},
    replicate::Status,
    task::{self, Stage, View},
};
use serde::{Deserialize, Serialize};

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlook {
    /// In plain words.
    pub next: String,
    /// By when, in seconds since the epoch; what happens then follows from the next look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<u64>,
}

/// Until when a worker is waited for, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leases {
    /// Without a contribution another worker is counted on from here.
    pub contribution: u64,
    /// Without the result another worker is asked from here.
    pub upload: u64,
}

impl Outlook {
    fn by(next: impl Into<String>, by: u64) -> Self {
        Self { next: next.into(), by: Some(by) }
    }

    fn whenever(next: impl Into<String>) -> Self {
        Self { next: next.into(), by: None }
    }
}

const PAID: &str = "nothing: it is paid";
const REFUND: &str = "the price goes back to who paid it";

/// What comes next for a task of which the pool has yet to read what its work needs.
pub fn of_unread() -> Outlook {
    Outlook::whenever("the pool reads on the chain what the task needs, and goes on with it")
}

/// What comes next for a task at this stage.
pub fn of_task(stage: Stage, view: &View<'_>) -> Outlook {
    let task = view.task;
    let missing = task.winners.saturating_sub(task.revealed);
    match stage {
        Stage::Received | Stage::Initializing => {
            Outlook::by("the pool opens the task on the chain", task.contribution_deadline)
        }
        Stage::Initialized | Stage::Running if task::needs_worker(view) => {
            Outlook::by("one more worker gets the task, as soon as one is free", task.contribution_deadline)
        }
        Stage::Initialized | Stage::Running => {
            Outlook::by("the workers that have the task contribute", task.contribution_deadline)
        }
        Stage::InitializeFailed | Stage::ContributionTimeout if view.now < task.final_deadline => {
            Outlook::by(REFUND, task.final_deadline)
        }
        Stage::ConsensusReached
        | Stage::AtLeastOneRevealed
        | Stage::ResultUploading
        | Stage::ResultUploaded
        | Stage::Finalizing
            if view.now < task.reveal_deadline && missing > 0 =>
        {
            Outlook::by(format!("{missing} of {} workers reveal their answers", task.winners), task.reveal_deadline)
        }
        Stage::ConsensusReached | Stage::Reopening => Outlook::by("the vote is opened again", task.final_deadline),
        Stage::Reopened => Outlook::by("the workers contribute anew", task.contribution_deadline),
        Stage::AtLeastOneRevealed | Stage::ResultUploading => {
            Outlook::by("a worker that revealed brings the result", task.final_deadline)
        }
        Stage::ResultUploaded | Stage::Finalizing => {
            Outlook::by("the pool finalizes the task and everybody is paid", task.final_deadline)
        }
        Stage::Finalized => Outlook::whenever("the pool reads the block in which it is paid"),
        Stage::InitializeFailed
        | Stage::ContributionTimeout
        | Stage::ReopenFailed
        | Stage::ResultUploadTimeout
        | Stage::FinalizeFailed
        | Stage::FinalDeadlineReached => Outlook::whenever(format!("{REFUND}, as soon as the claim is in a block")),
        Stage::Completed => of_ended(true),
        Stage::Failed => of_ended(false),
    }
}

/// What comes next for a task that has ended, paid or not.
pub fn of_ended(paid: bool) -> Outlook {
    Outlook::whenever(match paid {
        true => "nothing: the result can be downloaded",
        false => "nothing: the price is back with who paid it",
    })
}

/// What comes next for a replicate of a task that has ended.
pub fn of_ended_replicate(status: Status) -> Outlook {
    Outlook::whenever(match status {
        Status::Completed => PAID,
        _ => "nothing: the task has ended",
    })
}

/// What comes next for a replicate.
pub fn of_replicate(status: Status, task: &ChainTask, leases: Leases) -> Outlook {
    use Status::*;
    match status {
        Created => Outlook::by("the worker takes the task", leases.contribution),
        Running | AppDownloading | AppDownloaded | DataDownloading | DataDownloaded => {
            Outlook::by("the app runs", leases.contribution)
        }
        Computing => Outlook::by("the app ends", leases.contribution),
        Computed | CanContribute | Contributing => {
            Outlook::by("its contribution gets into a block", task.contribution_deadline)
        }
        Contributed if task.status == TaskStatus::Revealing => {
            Outlook::by("it reveals its answer", task.reveal_deadline)
        }
        Contributed => Outlook::by("enough workers agree", task.contribution_deadline),
        Revealing => Outlook::by("its reveal gets into a block", task.reveal_deadline),
        Revealed => Outlook::by("it or another worker brings the result", task.final_deadline),
        ResultUploadRequested | ResultUploading => Outlook::by("it brings the result", leases.upload),
        ResultUploaded => Outlook::by("the pool finalizes the task and it is paid", task.final_deadline),
        ResultUploadRequestFailed | ResultUploadFailed => {
            Outlook::by("another worker is asked for the result, or else it again", leases.upload)
        }
        Recovering => Outlook::by("it goes on where it was", leases.contribution),
        AppDownloadFailed | DataDownloadFailed | ComputeFailed => Outlook::by(
            "if every worker must fail alike the failure is its answer, else another gets the task",
            leases.contribution,
        ),
        ContributeFailed | Failed | WorkerLost => {
            Outlook::whenever("another worker gets the task, if it still needs one")
        }
        CantContributeSinceStakeTooLow => {
            Outlook::whenever("another worker gets the task; this one needs a higher deposit")
        }
        OutOfGas if task.status == TaskStatus::Revealing => {
            Outlook::by("it reveals its answer once there is ether in its wallet", task.reveal_deadline)
        }
        OutOfGas => Outlook::whenever("another worker gets the task; this one needs ether in its wallet"),
        CantContributeSinceTaskNotActive | AbortedOnConsensusReached => {
            Outlook::whenever("nothing: it has no part in the answer")
        }
        CantContributeSinceAfterDeadline | AbortedOnContributionTimeout => Outlook::by(REFUND, task.final_deadline),
        CantContributeSinceContributionAlreadySet => Outlook::whenever("nothing: its earlier contribution counts"),
        CantReveal | RevealFailed | RevealTimeout => Outlook::whenever("nothing: its stake goes to those who revealed"),
        Completed => Outlook::whenever(PAID),
    }
}
