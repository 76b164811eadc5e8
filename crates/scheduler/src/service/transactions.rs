//! What the scheduler sends to the chain.

use super::{Done, RETRY, Service};
use crate::check;
use bourse_chain::{Hub, SendError, Sender};
use bourse_protocol::{
    Bytes, U256,
    abi::IHub,
    deal::{ResultLink, TaskStatus},
    ids::{DealId, TaskId},
    replicate::{Cause, CauseCode},
    task::{Sending, Stage},
};
use std::collections::BTreeMap;
use tracing::warn;

impl Service {
    /// Sends a transaction beside the loop, once at a time and not too often.
    pub(super) fn transact(&mut self, id: TaskId, name: String, tx: Tx) {
        let Some(entry) = self.pool.entry(id) else { return };
        if self.waiting.contains_key(&name) {
            return;
        }
        self.waiting.insert(name.clone(), u64::MAX);
        // What was mined and failed has its outcome for good, though the chain may take the same call now.
        let transaction = match self.failed.get(&id).and_then(|of| of.get(&name)) {
            Some(failures) => format!("{name}:again-{failures}"),
            None => name.clone(),
        };
        let (sender, hub, deal, index) = (self.sender.clone(), self.hub.clone(), entry.deal.id, entry.index);
        // The contract that waits for the result gets what was agreed on, and nothing else is taken by the chain.
        let pushed =
            entry.deal.has_callback().then(|| (self.results.clone(), self.pool.digest(id).unwrap_or_default()));
        self.pool.sends(id, tx.sending());
        let attempt = Attempt { name, at: self.pool.stage(id), mined: tx.mined() };
        self.jobs.spawn(async move {
            let data = match (&tx, pushed) {
                (Tx::Finalize(link), Some((results, agreed))) => check::callback(&*results, link, agreed).await,
                _ => Ok(Bytes::new()),
            };
            match data {
                Ok(data) => {
                    let sent = send(&sender, &hub, &transaction, (deal, index, id), tx, data).await;
                    Done::Sent(id, attempt, sent)
                }
                Err(error) => Done::Unread(id, attempt, error),
            }
        });
    }

    /// A transaction is not on its way any more, however it ended: it is tried again only after a while. `mined`: what holds
    /// until the task is read, where it is in a block.
    pub(super) fn transacted(&mut self, id: TaskId, name: String, mined: Option<Sending>) {
        self.waiting.insert(name, self.pool.now() + RETRY);
        self.pool.sends(id, mined);
        self.agenda.add(id);
    }

    /// A transaction did not get through.
    pub(super) fn not_sent(&mut self, id: TaskId, attempt: Attempt, error: &SendError) {
        warn!(task = %id, %error, "transaction");
        let code = match error {
            SendError::Failed { .. } => {
                *self.failed.entry(id).or_default().entry(attempt.name.clone()).or_default() += 1;
                CauseCode::TransactionRefused
            }
            SendError::Refused { .. } => {
                self.suspects.extend(self.pool.unopened_deal(id));
                CauseCode::TransactionRefused
            }
            SendError::OutOfGas(_) => CauseCode::OutOfGas,
            SendError::Chain { .. } => CauseCode::ChainUnreachable,
            SendError::KeyInUse(_) | SendError::Store(_) | SendError::Stopped { .. } => CauseCode::Unknown,
        };
        self.pool.troubled(id, attempt.at, Cause::new(code, error.to_string()));
        self.transacted(id, attempt.name, None);
    }
}

/// A try to send a transaction.
pub(super) struct Attempt {
    /// Its name.
    pub(super) name: String,
    /// The stage of its task then.
    pub(super) at: Stage,
    /// What holds once it is in a block, until the task is read.
    pub(super) mined: Option<Sending>,
}

/// The tasks whose opening is on its way, of everything that is waited for.
pub(super) fn openings(waiting: &BTreeMap<String, u64>) -> impl Iterator<Item = TaskId> {
    let named =
        waiting.range("initialize:".to_owned()..).map_while(|(name, at)| Some((name.strip_prefix("initialize:")?, at)));
    named.filter(|(_, at)| **at == u64::MAX).filter_map(|(task, _)| task.parse().ok())
}

/// What the scheduler sends.
pub(super) enum Tx {
    Initialize,
    Finalize(ResultLink),
    Reopen,
    Claim,
}

impl Tx {
    /// As people see it.
    fn sending(&self) -> Option<Sending> {
        match self {
            Self::Initialize => Some(Sending::Initialize),
            Self::Finalize(_) => Some(Sending::Finalize),
            Self::Reopen | Self::Claim => None,
        }
    }

    /// The same, once it is in a block.
    fn mined(&self) -> Option<Sending> {
        match self {
            Self::Finalize(_) => Some(Sending::Finalized),
            Self::Reopen => Some(Sending::Reopened),
            Self::Initialize | Self::Claim => None,
        }
    }
}

async fn send(
    sender: &Sender,
    hub: &Hub,
    name: &str,
    (deal, index, task): (DealId, U256, TaskId),
    tx: Tx,
    callback: Bytes,
) -> Result<(), SendError> {
    let (dealid, idx, taskid) = (deal.0, index, task.0);
    let to = hub.address;
    match tx {
        Tx::Initialize => sender.send(name, to, &IHub::initializeCall { dealid, idx }).await?,
        Tx::Finalize(link) => {
            let call = IHub::finalizeCall { taskid, results: link.write(), resultsCallback: callback };
            sender.send(name, to, &call).await?
        }
        Tx::Reopen => sender.send(name, to, &IHub::reopenCall { taskid }).await?,
        Tx::Claim => match hub.task(task).await.map(|t| t.status) {
            Ok(TaskStatus::Unset) => {
                let call = IHub::initializeAndClaimArrayCall { dealids: vec![dealid], idxs: vec![idx] };
                sender.send(name, to, &call).await?
            }
            Ok(_) => sender.send(name, to, &IHub::claimCall { taskid }).await?,
            Err(source) => return Err(SendError::Chain { id: name.into(), source }),
        },
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_openings_that_are_on_their_way_are_looked_for_in_the_newest_block() {
        let task = |byte| TaskId(bourse_protocol::B256::repeat_byte(byte));
        let waiting = [("initialize", 1, u64::MAX), ("initialize", 2, 100), ("finalize", 3, u64::MAX)]
            .map(|(what, byte, at)| (format!("{what}:{}", task(byte)), at));
        assert_eq!(openings(&waiting.into()).collect::<Vec<_>>(), [task(1)]);
    }
}
