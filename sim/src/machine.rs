//! The computers of the workers and the store of results, without computers.

use crate::{
    chance::Chance,
    tally::{Fault, Tally},
};
use bourse_protocol::{
    Address, Bytes,
    computed::{callback_digest, file_digest},
    deal::ResultLink,
    ids::{ResultDigest, TaskId},
    replicate::Cause,
};
use bourse_scheduler::{ResultError, Results};
use bourse_worker::StandIn;
use futures_util::future::BoxFuture;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Results that were stored, by link.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store(Arc<Mutex<BTreeMap<String, Bytes>>>);

impl Store {
    fn put(&self, content: Vec<u8>) -> ResultLink {
        let location = format!("/ipfs/{:x}", file_digest(&content).0);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(location.clone(), content.into());
        ResultLink::ipfs(location)
    }

    fn get(&self, link: ResultLink) -> Result<Bytes, ResultError> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&link.location).cloned();
        found.ok_or(ResultError::Missing { location: link.location, status: 404 })
    }
}

impl Results for Store {
    fn digest(&self, link: ResultLink) -> BoxFuture<'static, Result<ResultDigest, ResultError>> {
        let found = self.get(link).map(|content| file_digest(&content));
        Box::pin(async move { found })
    }

    fn callback(&self, link: ResultLink) -> BoxFuture<'static, Result<Bytes, ResultError>> {
        let found = self.get(link);
        Box::pin(async move { found })
    }
}

/// How long a store is silent that hangs, in milliseconds.
const HANGS: u64 = 600_000;

/// What a worker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Character {
    /// What the app says.
    Honest,
    /// Its own invention.
    Liar,
    /// What it agreed on with others.
    Colluding,
}

/// The right answer of a task.
fn right(task: TaskId) -> Vec<u8> {
    [b"right ".as_slice(), task.0.as_slice()].concat()
}

/// The digest of the right answer, where it is to be pushed to a contract or not.
pub(crate) fn right_digest(task: TaskId, pushed: bool) -> ResultDigest {
    if pushed { callback_digest(&right(task)) } else { file_digest(&right(task)) }
}

/// One worker's computer.
#[derive(Debug)]
pub(crate) struct Computer {
    pub(crate) wallet: Address,
    pub(crate) character: Character,
    /// How long a run takes, in milliseconds.
    pub(crate) speed: std::ops::RangeInclusive<u64>,
    /// How often a run takes twenty times as long, in parts of 10,000.
    pub(crate) slow: u32,
    /// How often storing a result fails, in parts of 10,000.
    pub(crate) upload_fails: u32,
    /// How often storing a result takes minutes, in parts of 10,000.
    pub(crate) upload_hangs: u32,
    pub(crate) store: Store,
    pub(crate) chance: Chance,
    pub(crate) tally: Tally,
}

impl Computer {
    fn answer(&self, task: TaskId) -> Vec<u8> {
        match self.character {
            Character::Honest => right(task),
            Character::Liar => [b"wrong ".as_slice(), task.0.as_slice(), self.wallet.as_slice()].concat(),
            Character::Colluding => [b"agreed ".as_slice(), task.0.as_slice()].concat(),
        }
    }
}

impl StandIn for Computer {
    fn app_types(&self) -> Vec<String> {
        vec!["WASM".into()]
    }

    fn compute(&self, task: TaskId) -> BoxFuture<'static, Result<Vec<u8>, Cause>> {
        let mut time = self.chance.within(self.speed.clone());
        if self.chance.hits(self.slow) {
            self.tally.count(Fault::SlowWorker);
            time *= 20;
        }
        match self.character {
            Character::Honest => {}
            Character::Liar => self.tally.count(Fault::Liar),
            Character::Colluding => self.tally.count(Fault::Collusion),
        }
        let content = self.answer(task);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(time)).await;
            Ok(content)
        })
    }

    fn store(&self, task: TaskId, _: ResultDigest) -> BoxFuture<'static, Result<ResultLink, String>> {
        let fails = self.chance.hits(self.upload_fails);
        let (store, content) = (self.store.clone(), self.answer(task));
        let mut time = self.chance.within(20..=500);
        if fails {
            self.tally.count(Fault::UploadFails);
        } else if self.chance.hits(self.upload_hangs) {
            self.tally.count(Fault::UploadHangs);
            time = HANGS;
        }
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(time)).await;
            if fails { Err(format!("no room for the result of {task}")) } else { Ok(store.put(content)) }
        })
    }

    fn forget(&self, _: TaskId) {}
}
