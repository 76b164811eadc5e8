//! Whether what workers have stored is what was agreed on: looked at beside the loop.

use super::{Done, RETRY, Service};
use crate::check;
use bourse_protocol::{
    Address,
    deal::ResultLink,
    ids::TaskId,
    replicate::{Cause, CauseCode, Status},
};
use std::time::Duration;
use tokio::time::sleep;
use tracing::warn;

impl Service {
    /// Compares an uploaded result with what was agreed on, beside the loop, after a while.
    pub(super) fn check(&mut self, task: TaskId, worker: Address, link: ResultLink, after: Duration) {
        let agreed = self.pool.digest(task).unwrap_or_default();
        let results = self.results.clone();
        let pushed = self.pool.entry(task).is_some_and(|entry| entry.deal.has_callback());
        self.jobs.spawn(async move {
            sleep(after).await;
            let result = match pushed {
                true => check::callback(&*results, &link, agreed).await.map(drop),
                false => check::result(&*results, &link, agreed).await,
            };
            Done::Checked(task, worker, link, result)
        });
    }

    pub(super) fn checked(&mut self, id: TaskId, worker: Address, link: ResultLink, result: Result<(), check::Error>) {
        if let Err(error) = &result
            && error.is_of_the_store()
            && self.pool.lacks_result(id)
        {
            warn!(task = %id, %worker, %error, "the uploaded result cannot be read; trying again");
            return self.check(id, worker, link, Duration::from_secs(RETRY));
        }
        self.pool.end_check(id, worker);
        self.agenda.add(id);
        match result {
            Ok(()) => self.pool.uploaded(id, worker, link),
            Err(error) if error.is_of_the_store() || !self.pool.is_open(id) => {}
            Err(error) => {
                warn!(task = %id, %worker, %error, "the uploaded result is not accepted");
                let cause = Cause::new(CauseCode::ResultUploadFailed, error.to_string());
                let now = self.pool.now();
                self.pool.record(id, worker, Status::ResultUploadFailed, Some(cause), now);
            }
        }
    }
}
