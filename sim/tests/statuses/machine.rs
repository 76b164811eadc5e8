//! A worker's computer, played by the test: it works, hangs or fails as it is told.

use crate::shelf::Shelf;
use bourse_protocol::{
    deal::ResultLink,
    ids::{ResultDigest, TaskId},
    replicate::{Cause, CauseCode},
};
use bourse_worker::StandIn;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// What every honest machine computes.
pub(crate) const ANSWER: &[u8] = b"42";

/// How one part of it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Work {
    #[default]
    Done,
    /// It takes until this changes.
    Hangs,
    Fails,
}

#[derive(Debug)]
pub(crate) struct Machine {
    shelf: Shelf,
    compute: watch::Sender<Work>,
    store: watch::Sender<Work>,
}

impl Machine {
    pub(crate) fn new(shelf: Shelf) -> Self {
        Self { shelf, compute: watch::Sender::default(), store: watch::Sender::default() }
    }

    pub(crate) fn compute(&self, work: Work) {
        self.compute.send_replace(work);
    }

    pub(crate) fn store(&self, work: Work) {
        self.store.send_replace(work);
    }
}

/// Whether it works in the end.
async fn ends(mut work: watch::Receiver<Work>) -> bool {
    let ended = work.wait_for(|work| *work != Work::Hangs).await.map(|work| *work);
    // A machine that is gone hangs for ever.
    let Ok(ended) = ended else { return std::future::pending().await };
    ended == Work::Done
}

impl StandIn for Machine {
    fn app_types(&self) -> Vec<String> {
        vec!["WASM".into()]
    }

    fn compute(&self, _: TaskId) -> BoxFuture<'static, Result<Vec<u8>, Cause>> {
        let work = self.compute.subscribe();
        Box::pin(async move {
            match ends(work).await {
                true => Ok(ANSWER.to_vec()),
                false => Err(Cause::new(CauseCode::AppComputeFailed, "a bit fell over")),
            }
        })
    }

    fn store(&self, _: TaskId, _: ResultDigest) -> BoxFuture<'static, Result<ResultLink, String>> {
        let (work, shelf) = (self.store.subscribe(), self.shelf.clone());
        Box::pin(async move {
            match ends(work).await {
                true => Ok(ResultLink::ipfs(shelf.put(ANSWER).link())),
                false => Err("no room".into()),
            }
        })
    }

    fn forget(&self, _: TaskId) {}
}
