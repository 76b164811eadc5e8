//! The life of a replicate: one worker's part in one task. Source: middleware.md §3.8, whose names users know.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The 36 statuses of a replicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "explained by `meaning`, which users see too")]
pub enum Status {
    Created,
    Running,
    AppDownloading,
    AppDownloaded,
    AppDownloadFailed,
    DataDownloading,
    DataDownloaded,
    DataDownloadFailed,
    Computing,
    Computed,
    ComputeFailed,
    CanContribute,
    CantContributeSinceStakeTooLow,
    CantContributeSinceTaskNotActive,
    CantContributeSinceAfterDeadline,
    CantContributeSinceContributionAlreadySet,
    Contributing,
    ContributeFailed,
    Contributed,
    CantReveal,
    Revealing,
    Revealed,
    RevealFailed,
    ResultUploadRequested,
    ResultUploadRequestFailed,
    ResultUploading,
    ResultUploaded,
    ResultUploadFailed,
    Completed,
    RevealTimeout,
    WorkerLost,
    AbortedOnConsensusReached,
    AbortedOnContributionTimeout,
    Failed,
    OutOfGas,
    Recovering,
}

impl Status {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 36] = {
        use Status::*;
        [
            Created,
            Running,
            AppDownloading,
            AppDownloaded,
            AppDownloadFailed,
            DataDownloading,
            DataDownloaded,
            DataDownloadFailed,
            Computing,
            Computed,
            ComputeFailed,
            CanContribute,
            CantContributeSinceStakeTooLow,
            CantContributeSinceTaskNotActive,
            CantContributeSinceAfterDeadline,
            CantContributeSinceContributionAlreadySet,
            Contributing,
            ContributeFailed,
            Contributed,
            CantReveal,
            Revealing,
            Revealed,
            RevealFailed,
            ResultUploadRequested,
            ResultUploadRequestFailed,
            ResultUploading,
            ResultUploaded,
            ResultUploadFailed,
            Completed,
            RevealTimeout,
            WorkerLost,
            AbortedOnConsensusReached,
            AbortedOnContributionTimeout,
            Failed,
            OutOfGas,
            Recovering,
        ]
    };

    /// Nothing follows any more: the worker is free and the scheduler stops counting on it.
    pub fn is_final(self) -> bool {
        use Status::*;
        match self {
            Completed
            | CantReveal
            | RevealFailed
            | RevealTimeout
            | AbortedOnConsensusReached
            | AbortedOnContributionTimeout
            | Failed
            | ContributeFailed
            | CantContributeSinceStakeTooLow
            | CantContributeSinceTaskNotActive
            | CantContributeSinceAfterDeadline
            | CantContributeSinceContributionAlreadySet
            | ResultUploadRequestFailed
            | ResultUploadFailed => true,
            Created
            | Running
            | AppDownloading
            | AppDownloaded
            | AppDownloadFailed
            | DataDownloading
            | DataDownloaded
            | DataDownloadFailed
            | Computing
            | Computed
            | ComputeFailed
            | CanContribute
            | Contributing
            | Contributed
            | Revealing
            | Revealed
            | ResultUploadRequested
            | ResultUploading
            | ResultUploaded
            | WorkerLost
            | OutOfGas
            | Recovering => false,
        }
    }

    /// A contribution is still expected from this replicate.
    pub fn may_still_contribute(self) -> bool {
        use Status::*;
        match self {
            Created | Running | AppDownloading | AppDownloaded | AppDownloadFailed | DataDownloading
            | DataDownloaded | DataDownloadFailed | Computing | Computed | ComputeFailed | CanContribute
            | Contributing | Recovering => true,
            CantContributeSinceStakeTooLow
            | CantContributeSinceTaskNotActive
            | CantContributeSinceAfterDeadline
            | CantContributeSinceContributionAlreadySet
            | ContributeFailed
            | Contributed
            | CantReveal
            | Revealing
            | Revealed
            | RevealFailed
            | ResultUploadRequested
            | ResultUploadRequestFailed
            | ResultUploading
            | ResultUploaded
            | ResultUploadFailed
            | Completed
            | RevealTimeout
            | WorkerLost
            | AbortedOnConsensusReached
            | AbortedOnContributionTimeout
            | Failed
            | OutOfGas => false,
        }
    }

    /// What it means, in plain words.
    pub fn meaning(self) -> &'static str {
        use Status::*;
        match self {
            Created => "the task was given to this worker",
            Running => "the worker took the task",
            AppDownloading => "the app is being downloaded",
            AppDownloaded => "the app is there",
            AppDownloadFailed => "the app could not be downloaded",
            DataDownloading => "the dataset is being downloaded",
            DataDownloaded => "the dataset is there",
            DataDownloadFailed => "the dataset could not be downloaded",
            Computing => "the app is running",
            Computed => "the app has finished",
            ComputeFailed => "the app failed",
            CanContribute => "the chain accepts a contribution",
            CantContributeSinceStakeTooLow => "the worker's deposit is below the stake of this task",
            CantContributeSinceTaskNotActive => "the task takes no contributions: others were faster",
            CantContributeSinceAfterDeadline => "the time for contributions is over",
            CantContributeSinceContributionAlreadySet => "this wallet has contributed already",
            Contributing => "the contribution was sent to the chain",
            ContributeFailed => "the chain refused the contribution",
            Contributed => "the contribution is on chain",
            CantReveal => "the chain does not accept a reveal from this worker",
            Revealing => "the reveal was sent to the chain",
            Revealed => "the answer is revealed on chain",
            RevealFailed => "the chain refused the reveal",
            ResultUploadRequested => "the worker was asked to upload the result",
            ResultUploadRequestFailed => "the worker did not take the request to upload",
            ResultUploading => "the result is being uploaded",
            ResultUploaded => "the result is in the store",
            ResultUploadFailed => "the result could not be uploaded",
            Completed => "the task is finalised; members of the consensus are paid",
            RevealTimeout => "the worker did not reveal in time and loses its stake",
            WorkerLost => "nothing was heard of the worker",
            AbortedOnConsensusReached => "consensus was reached without this worker",
            AbortedOnContributionTimeout => "no contribution came in time",
            Failed => "the worker failed to take part",
            OutOfGas => "the worker's wallet needs ether for gas",
            Recovering => "the worker restarted and goes on where it was",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What a replicate is about at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Phase {
    /// Given to a worker.
    Assigned,
    /// App and dataset are fetched.
    Preparing,
    /// The app runs.
    Computing,
    /// The answer goes to the chain, sealed.
    Contributing,
    /// The seal is opened.
    Revealing,
    /// The result is stored.
    Uploading,
}

/// How a replicate stands: on its way, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// On its way.
    Open,
    /// The task was paid, and the worker with it.
    Paid,
    /// Not needed any more: nobody's fault.
    Stopped,
    /// The worker could not do its part.
    Failed,
    /// Nothing was heard of the worker.
    Lost,
}

impl Status {
    /// What the replicate is about; `None` where that is what it was before.
    pub fn phase(self) -> Option<Phase> {
        use Status::*;
        Some(match self {
            Created | Running => Phase::Assigned,
            AppDownloading | AppDownloaded | AppDownloadFailed | DataDownloading | DataDownloaded
            | DataDownloadFailed => Phase::Preparing,
            Computing | Computed | ComputeFailed => Phase::Computing,
            CanContribute
            | CantContributeSinceStakeTooLow
            | CantContributeSinceTaskNotActive
            | CantContributeSinceAfterDeadline
            | CantContributeSinceContributionAlreadySet
            | Contributing
            | ContributeFailed => Phase::Contributing,
            Contributed | CantReveal | Revealing | RevealFailed | RevealTimeout => Phase::Revealing,
            Revealed
            | ResultUploadRequested
            | ResultUploadRequestFailed
            | ResultUploading
            | ResultUploaded
            | ResultUploadFailed => Phase::Uploading,
            Completed
            | WorkerLost
            | AbortedOnConsensusReached
            | AbortedOnContributionTimeout
            | Failed
            | OutOfGas
            | Recovering => return None,
        })
    }

    /// How the replicate stands.
    pub fn outcome(self) -> Outcome {
        use Status::*;
        match self {
            Completed => Outcome::Paid,
            AbortedOnConsensusReached | AbortedOnContributionTimeout | CantContributeSinceTaskNotActive => {
                Outcome::Stopped
            }
            WorkerLost => Outcome::Lost,
            CantContributeSinceStakeTooLow
            | CantContributeSinceAfterDeadline
            | CantContributeSinceContributionAlreadySet
            | ContributeFailed
            | CantReveal
            | RevealFailed
            | RevealTimeout
            | ResultUploadRequestFailed
            | ResultUploadFailed
            | Failed
            | OutOfGas => Outcome::Failed,
            Created
            | Running
            | AppDownloading
            | AppDownloaded
            | AppDownloadFailed
            | DataDownloading
            | DataDownloaded
            | DataDownloadFailed
            | Computing
            | Computed
            | ComputeFailed
            | CanContribute
            | Contributing
            | Contributed
            | Revealing
            | Revealed
            | ResultUploadRequested
            | ResultUploading
            | ResultUploaded
            | Recovering => Outcome::Open,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// How the evidence begins of an app that ended by itself with an exit code that is not 0.
pub const EXITED: &str = "app ended with exit code ";

/// Why a replicate failed or stopped: a stable code and what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What kind.
    pub code: CauseCode,
    /// The evidence, for people.
    pub evidence: String,
}

impl Cause {
    /// A cause with its evidence.
    pub fn new(code: CauseCode, evidence: impl Into<String>) -> Self {
        Self { code, evidence: evidence.into() }
    }

    /// The exit code of an app that failed, if that is how it ended.
    pub fn exit_code(&self) -> Option<i32> {
        let rest = self.evidence.strip_prefix(EXITED).filter(|_| self.code == CauseCode::AppComputeFailed)?;
        let end = rest.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    }

    /// The same with at most so many bytes of evidence.
    pub fn shortened(mut self, most: usize) -> Self {
        if self.evidence.len() > most {
            self.evidence.truncate(self.evidence.floor_char_boundary(most));
        }
        self
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.evidence.as_str() {
            "" => self.code.serialize(f),
            evidence => f.write_str(evidence),
        }
    }
}

/// The kinds of cause. Source: middleware.md §3.9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CauseCode {
    /// No node answered.
    ChainUnreachable,
    /// The deposit does not cover the stake.
    StakeTooLow,
    /// The wallet cannot pay for the transaction.
    OutOfGas,
    /// The chain's task takes no contribution.
    TaskNotActive,
    /// Contributed before.
    ContributionAlreadySet,
    /// Others agreed first.
    ConsensusReached,
    /// The deal's description cannot be used.
    TaskDescriptionInvalid,
    /// The authorization is not the pool owner's.
    AuthorizationInvalid,
    /// The app could not be fetched.
    AppDownloadFailed,
    /// The app's bytes are not those whose checksum is on chain.
    AppBadChecksum,
    /// The app is of a type that this worker does not run.
    AppTypeUnsupported,
    /// The dataset could not be fetched.
    DatasetDownloadFailed,
    /// The dataset's bytes are not those whose checksum is on chain.
    DatasetBadChecksum,
    /// The app failed.
    AppComputeFailed,
    /// The app ran longer than the category allows.
    AppComputeTimeout,
    /// The app said nothing that can be voted on.
    DeterminismHashNotFound,
    /// The result could not be stored.
    ResultUploadFailed,
    /// The contribution phase ended.
    ContributionTimeout,
    /// The reveal phase ended.
    RevealTimeout,
    /// The chain does not take the reveal.
    CannotReveal,
    /// The chain refused a transaction.
    TransactionRefused,
    /// No sign of life.
    WorkerLost,
    /// The worker was told to stop.
    AbortedByWorker,
    /// None of the others.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_users_know() {
        assert_eq!(Status::Created.to_string(), "CREATED");
        assert_eq!(
            Status::CantContributeSinceContributionAlreadySet.to_string(),
            "CANT_CONTRIBUTE_SINCE_CONTRIBUTION_ALREADY_SET"
        );
        let distinct: std::collections::BTreeSet<_> = Status::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(distinct.len(), 36);
    }

    #[test]
    fn the_exit_code_of_an_app_is_part_of_the_evidence() {
        let cause = |code, evidence: &str| Cause::new(code, evidence).exit_code();
        assert_eq!(cause(CauseCode::AppComputeFailed, "app ended with exit code 3: no output; it said: 7"), Some(3));
        assert_eq!(cause(CauseCode::AppComputeFailed, "app ended with exit code -1"), Some(-1));
        assert_eq!(cause(CauseCode::AppComputeFailed, "app trapped: unreachable"), None);
        assert_eq!(cause(CauseCode::Unknown, "app ended with exit code 3"), None);
    }

    #[test]
    fn a_final_status_expects_no_contribution() {
        for status in Status::ALL {
            assert!(!(status.is_final() && status.may_still_contribute()), "{status}");
        }
    }
}
