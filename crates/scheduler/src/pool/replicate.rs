//! One replicate: its history, what that tells, and what it teaches of its worker and its app. Pure.

use crate::store::{Remembered, current};
use bourse_protocol::{Address, U256, api::StatusChange, deal::ContributionStatus, replicate::Status, task::Upload};

/// A task in the hands of one worker.
pub(super) struct Replicate {
    pub(super) worker: Address,
    pub(super) weight: U256,
    pub(super) history: Vec<StatusChange>,
    /// The result that it stored is being checked.
    pub(super) checked: bool,
    /// Since when this process counts its turns.
    counted_since: u64,
}

impl Replicate {
    pub(super) fn new(worker: Address, weight: U256, history: Vec<StatusChange>) -> Self {
        Self { worker, weight, history, checked: false, counted_since: 0 }
    }

    /// One that an earlier life of this process has left, at `now`.
    pub(super) fn remembered(worker: Address, weight: U256, history: Vec<StatusChange>, now: u64) -> Self {
        let mut remembered = Self { counted_since: now, ..Self::new(worker, weight, history) };
        remembered.time_is(now);
        remembered
    }

    /// Nothing has happened later than now: a node may have shown a time to come for a while.
    pub(super) fn time_is(&mut self, now: u64) {
        self.history.iter_mut().for_each(|change| change.date = change.date.min(now));
    }

    pub(super) fn status(&self) -> Status {
        current(&self.history)
    }

    pub(super) fn since(&self) -> u64 {
        self.history.last().map_or(0, |c| c.date)
    }

    /// Whether it has come to a status since it was assigned last.
    pub(super) fn has(&self, status: Status) -> bool {
        self.history.iter().rev().map(|c| c.status).take_while(|s| *s != Status::Created).any(|s| s == status)
    }

    /// Whether its contribution was seen. It counts, whatever becomes of the worker.
    pub(super) fn has_voted(&self) -> bool {
        self.has(Status::Contributed)
    }

    /// Whether a contribution is still expected of it: then it counts as work of its worker.
    pub(super) fn is_pending(&self) -> bool {
        self.status().may_still_contribute() && !self.has_voted()
    }

    /// Whether its worker is missed when it falls silent: until the end, and once.
    pub(super) fn is_counted_on(&self) -> bool {
        let status = self.status();
        !status.is_final() && status != Status::WorkerLost && (self.is_pending() || self.has_voted())
    }

    /// Whether people know already of its vote on chain: it lacks ether for the reveal, or the vote is not its own and
    /// another process of the wallet must reveal it.
    pub(super) fn shows_its_vote(&self) -> bool {
        match self.status() {
            Status::OutOfGas => self.has(Status::Contributed) || self.has(Status::Revealing),
            status => status == Status::CantContributeSinceContributionAlreadySet,
        }
    }

    /// What its vote on chain shows beyond what is known of it, in this order.
    pub(super) fn reached(&self, vote: ContributionStatus, here: bool) -> Vec<Status> {
        let known = self.status();
        let (last, news) = match vote {
            ContributionStatus::Contributed => {
                (Status::Contributed, before_contributed(known) && !self.shows_its_vote())
            }
            ContributionStatus::Proved if self.has(Status::ResultUploaded) => {
                (Status::ResultUploaded, before_revealed(known))
            }
            ContributionStatus::Proved => (Status::Revealed, before_revealed(known)),
            ContributionStatus::Unset | ContributionStatus::Rejected => return vec![],
        };
        // One that is lost stays so until it is back, unless its vote has gone on.
        if !news || (known == Status::WorkerLost && !here && self.has(last)) {
            return vec![];
        }
        // A task may be contributed to and ended in one transaction.
        let passed = [Status::Contributing, Status::Contributed].into_iter();
        let passed = passed.filter(|status| last == Status::Revealed && !self.has_voted() && !self.has(*status));
        passed.chain([last]).collect()
    }

    /// How it stands with the requests for its result.
    pub(super) fn upload(&self, now: u64) -> Upload {
        let said = self.history.iter().fold(Upload::default(), |turns, change| turns.after(change.status, change.date));
        let turns = said.counted_from(self.counted_since);
        if self.checked { turns.while_checked(now) } else { turns }
    }

    /// Its changes since it was assigned last: a replicate that failed without a contribution may be assigned again.
    pub(super) fn attempt(&self) -> &[StatusChange] {
        let began = self.history.iter().rposition(|c| c.status == Status::Created);
        &self.history[began.unwrap_or(0)..]
    }

    /// When it was assigned last.
    pub(super) fn began(&self) -> u64 {
        self.attempt().first().map_or(0, |c| c.date)
    }
}

/// What a change of a replicate teaches.
pub(super) struct Lesson {
    pub(super) date: u64,
    pub(super) worker: Address,
    /// A run of this app took so many seconds.
    pub(super) ran: Option<(Address, u64)>,
    pub(super) did_well: Option<bool>,
}

pub(super) fn lessons(task: &Remembered) -> Vec<Lesson> {
    let app = task.deal.app.pointer;
    let mut lessons = Vec::new();
    for (worker, history) in &task.replicates {
        let (mut began, mut voted) = (None, false);
        for change in history {
            let status = change.status;
            if status == Status::Created {
                (began, voted) = (Some(change.date), false);
                continue;
            }
            let ended = began.take_if(|_| !status.may_still_contribute());
            let ran = ended.filter(|_| status == Status::Contributed);
            let ran = ran.map(|began| (app, change.date.saturating_sub(began)));
            let did_well = judgement(status, voted);
            if ran.is_some() || did_well.is_some() {
                lessons.push(Lesson { date: change.date, worker: *worker, ran, did_well });
            }
            voted |= status == Status::Contributed;
        }
    }
    lessons
}

/// Whether a worker whose replicate ended like this may get the same task again: nothing of it is on chain.
pub(super) fn may_try_again(status: Status) -> bool {
    use Status::*;
    status.is_final()
        && matches!(
            status,
            Failed
                | ContributeFailed
                | CantContributeSinceStakeTooLow
                | CantContributeSinceTaskNotActive
                | CantContributeSinceAfterDeadline
                | AbortedOnConsensusReached
                | AbortedOnContributionTimeout
        )
}

/// Whether a status speaks for its worker or against it; most say nothing. Once it has `voted`, that was praised, and what
/// comes of it is judged at its end.
pub(super) fn judgement(status: Status, voted: bool) -> Option<bool> {
    use Status::*;
    match status {
        Contributed | WorkerLost if voted => None,
        Contributed | Completed => Some(true),
        AppDownloadFailed
        | DataDownloadFailed
        | ContributeFailed
        | RevealFailed
        | RevealTimeout
        | WorkerLost
        | Failed
        | OutOfGas
        | CantContributeSinceStakeTooLow
        | ResultUploadFailed
        | ResultUploadRequestFailed => Some(false),
        Created
        | Running
        | AppDownloading
        | AppDownloaded
        | DataDownloading
        | DataDownloaded
        | Computing
        | Computed
        | ComputeFailed
        | CanContribute
        | CantContributeSinceTaskNotActive
        | CantContributeSinceAfterDeadline
        | CantContributeSinceContributionAlreadySet
        | Contributing
        | CantReveal
        | Revealing
        | Revealed
        | ResultUploadRequested
        | ResultUploading
        | ResultUploaded
        | AbortedOnConsensusReached
        | AbortedOnContributionTimeout
        | Recovering => None,
    }
}

pub(super) fn before_contributed(status: Status) -> bool {
    use Status::*;
    status.may_still_contribute()
        || matches!(
            status,
            WorkerLost
                | ContributeFailed
                | OutOfGas
                | Failed
                | CantContributeSinceStakeTooLow
                | CantContributeSinceTaskNotActive
                | CantContributeSinceAfterDeadline
                | CantContributeSinceContributionAlreadySet
                | AbortedOnConsensusReached
                | AbortedOnContributionTimeout
        )
}

pub(super) fn before_revealed(status: Status) -> bool {
    use Status::*;
    before_contributed(status) || matches!(status, Contributed | Revealing | CantReveal | RevealFailed | RevealTimeout)
}
