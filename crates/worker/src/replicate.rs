//! One replicate from assignment to end: look at the chain, decide ([`crate::task`]), do, again.
//!
//! What must survive is in the journal before it is acted on, so a restart enters the same loop and goes on.

use crate::{
    Error, checks,
    compute::Run,
    context::{Context, Services, Trouble},
    owner,
    store::{Answer, Record, Store},
    task::{self, Next, View},
    upload,
};
use bourse_chain::{Head, SendError};
use bourse_protocol::{
    Address, B256, Bytes,
    abi::IHub,
    deal::{ChainTask, Contribution, ContributionStatus, Deal, ResultLink, TaskStatus},
    ids::{self, TaskId},
    link::{Assignment, ToScheduler},
    money::Nrlc,
    replicate::{Cause, CauseCode, Status},
};
use bourse_service::journal;
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A vote that was lost, or may never be cast, is looked at so many times less often.
const WATCH: u32 = 15;
/// The longest pause after something failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// While computing, the chain is asked this often whether the answer is still wanted.
const CHECK: Duration = Duration::from_secs(5);
/// The chain may refuse a contribution so many times while it shows no reason.
const MAX_REFUSALS: u32 = 5;
/// A deal may be missing on the chain in so many looks: the worker's node may lag behind the scheduler's.
const MAX_UNSEEN: u32 = 30;
/// An upload is tried so many times for one wish.
const MAX_UPLOADS: u32 = 5;

/// What the deal says, fixed for ever.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// The deal.
    pub(crate) deal: Deal,
    /// The category's period T, in seconds.
    pub(crate) period: u64,
}

impl Terms {
    /// Contributions are taken before this second.
    pub(crate) fn contribution_deadline(&self) -> u64 {
        self.deal.contribution_deadline(self.period)
    }
}

/// A replicate at work.
pub(crate) struct Replicate {
    context: Arc<Context>,
    task: TaskId,
    /// Rung when something has changed.
    bell: Arc<Notify>,
    /// The worker stops.
    stop: CancellationToken,
    terms: Option<Terms>,
    /// The block that was looked at last, and what it showed.
    seen: Option<(Head, Sight)>,
    refusals: u32,
    /// Looks that did not show the deal.
    unseen: u32,
}

/// What comes after a step.
enum Flow {
    /// Look again at once.
    Again,
    /// Look again after this time, or when the bell rings.
    Pause(Duration),
    /// Nothing is left to do.
    Ended,
}

/// What the chain shows.
#[derive(Clone)]
struct Sight {
    now: u64,
    block_time: u64,
    stake: Nrlc,
    task: ChainTask,
    contribution: Contribution,
}

impl Replicate {
    /// The replicate of `task`, which is in the journal.
    pub(crate) fn new(context: Arc<Context>, task: TaskId, bell: Arc<Notify>, stop: CancellationToken) -> Self {
        Self { context, task, bell, stop, terms: None, seen: None, refusals: 0, unseen: 0 }
    }

    /// Runs to its end, or until the worker stops. An error stops the worker.
    pub(crate) async fn run(mut self) -> Result<TaskId, Error> {
        let mut failures = 0;
        while !self.stop.is_cancelled() {
            let pause = match self.step().await {
                Ok(Flow::Again) => {
                    failures = 0;
                    continue;
                }
                Ok(Flow::Pause(pause)) => {
                    failures = 0;
                    pause
                }
                Ok(Flow::Ended) => break,
                Err(Trouble::Chain(error)) => {
                    failures += 1;
                    let cause = Context::unreachable(&error);
                    tracing::warn!(task = %self.task, %cause, failures, "cannot read the chain; trying again");
                    LONGEST_PAUSE.min(self.context.config.poll * 2u32.pow(failures.min(5)))
                }
                Err(Trouble::Here(status, cause)) => {
                    self.give_up(status, cause).await?;
                    break;
                }
                Err(Trouble::Alike(status, failure)) => {
                    self.give_up(status, failure.cause()).await?;
                    break;
                }
                Err(Trouble::Cancelled) => Duration::ZERO,
                Err(Trouble::Stop(error)) => return Err(error),
            };
            self.rest(pause).await;
        }
        self.context.purse.leave(self.task);
        Ok(self.task)
    }

    async fn rest(&self, pause: Duration) {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = self.bell.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    async fn step(&mut self) -> Result<Flow, Trouble> {
        let record = self.record()?;
        let terms = match &self.terms {
            Some(terms) => terms.clone(),
            None => match self.read_terms(&record.assignment).await? {
                Some(terms) => self.terms.insert(terms).clone(),
                None => return Ok(Flow::Pause(self.context.config.poll)),
            },
        };
        let sight = self.look(&terms).await?;
        let view = View {
            now: sight.now,
            block_time: sight.block_time,
            worker: self.context.wallet,
            record: &record,
            task: &sight.task,
            contribution: &sight.contribution,
            stake: sight.stake,
            stake_needed: terms.deal.worker_stake,
        };
        let poll = self.context.config.poll;
        match (task::next(&view), &record.answer) {
            (Next::Compute, _) => self.compute(&record, &terms).await,
            (Next::Contribute, Some(answer)) => self.contribute(&record, answer).await,
            (Next::Reveal, Some(answer)) => self.reveal(&record, answer).await,
            (Next::Upload, Some(answer)) => self.upload(answer).await,
            (Next::Contribute | Next::Reveal | Next::Upload, None) => Ok(Flow::Pause(poll)),
            (Next::Wait(status), _) => {
                self.stand(&record, status, None).await?;
                Ok(Flow::Pause(poll))
            }
            (Next::Watch(status, cause), _) => {
                self.stand(&record, Some(status), Some(cause)).await?;
                Ok(Flow::Pause(poll * WATCH))
            }
            (Next::End(status, cause), _) => self.end(status, cause).await,
        }
    }

    fn record(&self) -> Result<Record, Trouble> {
        let record = self.context.store.get(self.task)?;
        Ok(record.expect("an open replicate is in the journal: only ended ones are forgotten"))
    }

    /// Reads the deal and checks that this worker was really asked, by the pool it works for. `None` if the deal is not to
    /// be seen yet.
    async fn read_terms(&mut self, assignment: &Assignment) -> Result<Option<Terms>, Trouble> {
        let refuse = |code, text: String| Err(Trouble::Here(Status::Failed, Cause::new(code, text)));
        let Some(deal) = self.context.hub.deal(assignment.deal).await? else {
            self.unseen += 1;
            if self.unseen < MAX_UNSEEN {
                return Ok(None);
            }
            let text = format!("deal {} is not on chain", assignment.deal);
            return refuse(CauseCode::TaskDescriptionInvalid, text);
        };
        let index = assignment.index.checked_sub(deal.bot_first).filter(|i| *i < deal.bot_size);
        if index.is_none() || assignment.task != TaskId::of(assignment.deal, assignment.index) {
            let text = format!("task {} is not part of deal {}", assignment.task, assignment.deal);
            return refuse(CauseCode::TaskDescriptionInvalid, text);
        }
        let pool = self.context.config.workerpool;
        if deal.workerpool.pointer != pool {
            let text = format!("deal {} was made with pool {}, not {pool}", deal.id, deal.workerpool.pointer);
            return refuse(CauseCode::TaskDescriptionInvalid, text);
        }
        if assignment.enclave_challenge != Address::ZERO || deal.tag.0[31] & 0x0f != 0 {
            let text = "the task asks for an enclave and this worker has none";
            return refuse(CauseCode::TaskDescriptionInvalid, text.into());
        }
        if !self.is_authorized(assignment, deal.workerpool.owner).await? {
            let text = format!("the authorization is not signed by {}, owner of the pool", deal.workerpool.owner);
            return refuse(CauseCode::AuthorizationInvalid, text);
        }
        let period = self.context.hub.period(deal.category).await?;
        self.note(|store| store.set_deadline(self.task, deal.final_deadline(period))).await?;
        Ok(Some(Terms { deal, period }))
    }

    /// Whether the chain would take the authorization: a wallet's signature, or what a contract wallet says.
    async fn is_authorized(&self, assignment: &Assignment, owner: Address) -> Result<bool, Trouble> {
        let message = ids::authorization(self.context.wallet, assignment.task, assignment.enclave_challenge);
        Ok(owner::stands_behind(&self.context.hub, owner, message, &assignment.authorization).await?)
    }

    /// Reads the chain at its newest block; what was read of that block before is still true.
    async fn look(&mut self, terms: &Terms) -> Result<Sight, Trouble> {
        let header = self.context.hub.client.recent_header().await?;
        let head = header.head;
        let (now, block_time) = (self.context.now(), head.timestamp);
        if let Some((block, sight)) = &self.seen {
            let nothing_new = |of: B256| self.context.hub.client.shows_nothing_new(&header, *block, of);
            // Until it has contributed, its deposit matters too, and every change of that names the wallet.
            let deposit_matters = sight.contribution.status == ContributionStatus::Unset;
            if nothing_new(self.task.0) && (!deposit_matters || nothing_new(self.context.wallet.into_word())) {
                return Ok(Sight { now, block_time, ..sight.clone() });
            }
        }
        let hub = self.context.hub.at(head);
        let mut task = hub.task(self.task).await?;
        if task.status == TaskStatus::Unset {
            task.contribution_deadline = terms.contribution_deadline();
            task.final_deadline = terms.deal.final_deadline(terms.period);
        }
        let contribution = match task.contributors.contains(&self.context.wallet) {
            true => hub.contribution(self.task, self.context.wallet).await?,
            false => Contribution::NONE,
        };
        // The deposit matters to those who have not contributed.
        let stake = match contribution.status {
            ContributionStatus::Unset => hub.account(self.context.wallet).await?.stake,
            _ => Nrlc::ZERO,
        };
        let sight = Sight { now, block_time, stake, task, contribution };
        self.seen = Some((head, sight.clone()));
        Ok(sight)
    }

    async fn compute(&self, record: &Record, terms: &Terms) -> Result<Flow, Trouble> {
        if let Err(cause) = checks::gas_for_a_task(&self.context, self.task).await? {
            return Err(Trouble::Here(Status::OutOfGas, cause));
        }
        self.say(Status::Running, None).await?;
        let cancel = self.stop.child_token();
        let run = Run { context: &self.context, assignment: &record.assignment, terms, cancel: cancel.clone() };
        let answer = tokio::select! {
            biased;
            answer = run.answer() => answer,
            () = self.unwanted(terms) => Err(Trouble::Cancelled),
        };
        // Whatever still runs has lost its purpose.
        cancel.cancel();
        let answer = answer?;
        self.note(|store| store.set_answer(self.task, &answer)).await?;
        Ok(Flow::Again)
    }

    /// Returns when the answer is of no use any more.
    async fn unwanted(&self, terms: &Terms) {
        let mut seen = self.seen.as_ref().map(|(block, _)| *block);
        loop {
            self.rest(CHECK).await;
            let aborted = self.context.store.get(self.task).ok().flatten().is_some_and(|r| r.aborted.is_some());
            // What cannot be read now is read the next time.
            let closed = self.has_closed(&mut seen).await.unwrap_or(false);
            if aborted || closed || self.stop.is_cancelled() || self.context.now() >= terms.contribution_deadline() {
                return;
            }
        }
    }

    /// Whether the task takes no contributions any more, where it did after the `seen` block.
    async fn has_closed(&self, seen: &mut Option<Head>) -> Result<bool, bourse_chain::Error> {
        let client = &self.context.hub.client;
        let header = client.recent_header().await?;
        if seen.is_some_and(|block| client.shows_nothing_new(&header, block, self.task.0)) {
            return Ok(false);
        }
        let task = self.context.hub.at(header.head).task(self.task).await?;
        *seen = Some(header.head);
        Ok(!matches!(task.status, TaskStatus::Unset | TaskStatus::Active))
    }

    async fn contribute(&mut self, record: &Record, answer: &Answer) -> Result<Flow, Trouble> {
        // Until there is ether for the reveals too, nothing is tried. What is short is said once.
        if !record.contribution_out
            && let Err(cause) = checks::gas_for_a_task(&self.context, self.task).await?
        {
            if record.status != Status::OutOfGas {
                self.say(Status::OutOfGas, Some(cause)).await?;
            }
            return Ok(Flow::Pause(self.context.config.poll * 4));
        }
        if !record.contribution_out {
            self.say(Status::CanContribute, None).await?;
            self.note(|store| store.set_contribution_out(self.task, true)).await?;
        }
        self.say(Status::Contributing, None).await?;
        let call = IHub::contributeCall {
            taskid: self.task.0,
            resultHash: ids::result_hash(self.task, answer.digest),
            resultSeal: ids::result_seal(self.context.wallet, self.task, answer.digest),
            enclaveChallenge: record.assignment.enclave_challenge,
            enclaveSign: Bytes::new(),
            authorizationSign: record.assignment.authorization.clone(),
        };
        let name = name("contribute", self.task, record.contribute_failures);
        match self.context.sender.send(&name, self.context.hub.address, &call).await {
            Ok(receipt) => {
                tracing::info!(task = %self.task, worker = %self.context.wallet, gas = receipt.gas_used, "contributed");
                self.say(Status::Contributed, None).await?;
                Ok(Flow::Pause(self.context.config.poll))
            }
            Err(SendError::Failed { revert, .. }) => {
                tracing::warn!(task = %self.task, worker = %self.context.wallet, %revert, "the contribution was mined and failed");
                self.note(|store| store.contribution_failed(self.task)).await?;
                Ok(Flow::Again)
            }
            Err(SendError::Stopped { .. }) => Err(Trouble::Cancelled),
            // An earlier life may have sent it: it may be out.
            Err(error @ (SendError::Store(_) | SendError::KeyInUse(_))) => {
                self.not_sent(error, Status::ContributeFailed, Status::Contributing).await
            }
            Err(error) => {
                self.note(|store| store.set_contribution_out(self.task, false)).await?;
                self.not_sent(error, Status::ContributeFailed, Status::Contributing).await
            }
        }
    }

    async fn reveal(&mut self, record: &Record, answer: &Answer) -> Result<Flow, Trouble> {
        // What is short was said. The reveal is tried all the same: the stake depends on it.
        if record.status != Status::OutOfGas {
            self.say(Status::Revealing, None).await?;
        }
        let call = IHub::revealCall { taskid: self.task.0, resultDigest: answer.digest.0 };
        let name = name("reveal", self.task, record.reveal_failures);
        match self.context.sender.send(&name, self.context.hub.address, &call).await {
            Ok(receipt) => {
                tracing::info!(task = %self.task, worker = %self.context.wallet, gas = receipt.gas_used, "revealed");
                self.say(Status::Revealed, None).await?;
                Ok(Flow::Pause(self.context.config.poll))
            }
            Err(SendError::Failed { revert, .. }) => {
                tracing::warn!(task = %self.task, worker = %self.context.wallet, %revert, "the reveal was mined and failed");
                self.note(|store| store.reveal_failed(self.task)).await?;
                Ok(Flow::Again)
            }
            Err(error) => self.not_sent(error, Status::RevealFailed, record.status).await,
        }
    }

    /// Nothing went out: wait for what is missing, look again, and give up only where nothing is at stake.
    async fn not_sent(&mut self, error: SendError, failed: Status, known: Status) -> Result<Flow, Trouble> {
        let pause = self.context.config.poll * 2;
        match error {
            SendError::Stopped { .. } => Err(Trouble::Cancelled),
            // Whoever ends loses the stake; room comes back.
            SendError::Store(error @ journal::Error::DiskFull { .. }) => {
                tracing::warn!(task = %self.task, worker = %self.context.wallet, %error, "not sent: waiting for room");
                Ok(Flow::Pause(pause))
            }
            SendError::Store(error) => Err(error.into()),
            SendError::OutOfGas { .. } => {
                if known != Status::OutOfGas {
                    self.say(Status::OutOfGas, Some(Cause::new(CauseCode::OutOfGas, error.to_string()))).await?;
                }
                Ok(Flow::Pause(pause * 2))
            }
            SendError::Refused { .. } | SendError::Chain { .. } | SendError::Failed { .. } | SendError::KeyInUse(_) => {
                self.refusals += 1;
                tracing::warn!(task = %self.task, worker = %self.context.wallet, %error, refusals = self.refusals, "not sent");
                if failed == Status::ContributeFailed && self.refusals >= MAX_REFUSALS {
                    return Err(Trouble::Here(failed, Cause::new(CauseCode::TransactionRefused, error.to_string())));
                }
                Ok(Flow::Pause(pause))
            }
        }
    }

    async fn upload(&self, answer: &Answer) -> Result<Flow, Trouble> {
        self.say(Status::ResultUploading, None).await?;
        match self.store_result(answer).await? {
            Ok(link) => {
                self.note(|store| store.set_link(self.task, &link)).await?;
                self.say(Status::ResultUploaded, None).await?;
                let _ = self.context.reports.send(ToScheduler::Uploaded { task: self.task, link }).await;
            }
            Err(error) => {
                self.note(|store| store.set_upload_wanted(self.task, false)).await?;
                let cause = Cause::new(CauseCode::ResultUploadFailed, error.to_string());
                self.say(Status::ResultUploadFailed, Some(cause)).await?;
            }
        }
        Ok(Flow::Pause(self.context.config.poll))
    }

    async fn store_result(&self, answer: &Answer) -> Result<Result<ResultLink, upload::Error>, Trouble> {
        let mut tries = 0;
        loop {
            let services = self.services().await?;
            let patience = self.context.config.upload_patience * 2u32.pow(tries);
            let stored = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Trouble::Cancelled),
                stored = self.context.machine.store(self.task, answer, &services) => stored,
                () = tokio::time::sleep(patience) => Err(upload::Error::Store {
                    url: services.upload_url.clone(),
                    reason: format!("it did not finish within {} s", patience.as_secs_f32()),
                }),
            };
            tries += 1;
            match stored {
                Ok(link) => return Ok(Ok(link)),
                Err(error @ upload::Error::Store { .. }) if tries < MAX_UPLOADS => {
                    tracing::warn!(task = %self.task, %error, tries, "upload fails; trying again");
                }
                Err(error) => return Ok(Err(error)),
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Trouble::Cancelled),
                () = tokio::time::sleep(self.context.config.poll * 2u32.pow(tries)) => {}
            }
        }
    }

    /// What the scheduler named at its latest login; waits for the first.
    async fn services(&self) -> Result<Services, Trouble> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Trouble::Cancelled),
            services = self.context.services.read() => Ok(services),
        }
    }

    async fn give_up(&self, status: Status, cause: Cause) -> Result<(), Error> {
        match self.end_early(status, cause).await {
            Err(Trouble::Stop(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Ends with this status, which may be one that another follows.
    async fn end_early(&self, status: Status, cause: Cause) -> Result<Flow, Trouble> {
        if status.is_final() {
            return self.end(status, Some(cause)).await;
        }
        self.say(status, Some(cause.clone())).await?;
        self.end(Status::Failed, Some(cause)).await
    }

    async fn end(&self, status: Status, cause: Option<Cause>) -> Result<Flow, Trouble> {
        self.note(|store| store.end(self.task, status, cause.as_ref())).await?;
        self.context.report(self.task, status, cause).await;
        if let Err((folder, error)) = self.context.machine.forget(self.task) {
            tracing::warn!(task = %self.task, %error, folder = %folder.display(), "cannot remove the task's folder; the next start does");
        }
        Ok(Flow::Ended)
    }

    /// Says what the chain shows, once.
    async fn stand(&self, record: &Record, status: Option<Status>, cause: Option<Cause>) -> Result<(), Trouble> {
        match status {
            Some(status) if status != record.status => self.say(status, cause).await,
            _ => Ok(()),
        }
    }

    async fn say(&self, status: Status, cause: Option<Cause>) -> Result<(), Trouble> {
        self.context.say(&self.stop, self.task, status, cause).await
    }

    /// Writes to the journal, once there is room.
    async fn note<T>(&self, write: impl Fn(&Store) -> Result<T, journal::Error>) -> Result<T, Trouble> {
        self.context.note(&self.stop, write).await?.ok_or(Trouble::Cancelled)
    }
}

/// The name of a transaction: the same after a restart, another one after a failure.
fn name(what: &str, task: TaskId, failures: u32) -> String {
    match failures {
        0 => format!("{what}:{task}"),
        more => format!("{what}:{task}:{}", more + 1),
    }
}
