//! Several nodes of one chain as one: asks the best, goes on to the next when it fails, and looks after their health.
//!
//! With one node nothing is asked beyond what callers ask. With several, a look at all of them is taken now and then, by
//! whoever happens to ask something then. Nothing runs in the background but the end of handing something to all nodes:
//! who hands it in goes on when one has taken it.

use crate::{
    answers,
    client::{Error, Head, Header},
    follower::Progress,
    health::{Health, Limits, NodeStatus, Observation},
    revert::Revert,
};
use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    network::Ethereum,
    providers::{Provider, RootProvider},
    rpc::client::RpcClient,
    transports::{RpcError, TransportError, TransportErrorKind, TransportResult},
};
use bourse_service::clock::Clock;
use futures_util::future::join_all;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::Instant,
};

/// Among several nodes, one that does not say how it does within this time does badly.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// So many things may be on their way to nodes that have not answered; more wait for an answer or its timeout.
const TELLING: usize = 1_024;

/// So many blocks are remembered. What they do not speak of need not be read again; what is older than they are is.
const RECENT: usize = 8;

/// How a client uses its nodes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often it makes sense to ask for news.
    pub poll: Duration,
    /// A node that does not answer within this time is unreachable.
    pub timeout: Duration,
    /// How often several nodes are compared.
    pub probe: Duration,
    /// How many blocks must lie above one that counts. Unknown: 0 on an embedded or development chain, 1 elsewhere.
    pub depth: Option<u64>,
    /// From when on a node does badly.
    pub limits: Limits,
    /// What blocks' times are held against, where there are several nodes.
    pub clock: Clock,
    /// What senders write into their gas limits to be recognised; unknown: a random one, kept in their store.
    pub tag: Option<u8>,
}

impl Settings {
    /// For a chain in this process.
    pub fn embedded() -> Self {
        let limits = Limits::default();
        Self {
            poll: Duration::from_millis(20),
            timeout: Duration::from_secs(10),
            probe: Duration::from_secs(2),
            depth: Some(0),
            limits,
            clock: Clock::Wall,
            tag: Some(0),
        }
    }

    /// For nodes on this machine.
    pub fn local() -> Self {
        Self { poll: Duration::from_millis(100), depth: None, tag: None, ..Self::embedded() }
    }

    /// For nodes elsewhere.
    pub fn remote() -> Self {
        Self { poll: Duration::from_secs(1), probe: Duration::from_secs(5), ..Self::local() }
    }
}

/// The nodes of a client.
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    pub(crate) settings: Settings,
    watch: Arc<Mutex<Watch>>,
    /// What is being handed to nodes, and the room for it. Ends with the client.
    telling: Mutex<JoinSet<()>>,
    room: Arc<Semaphore>,
    /// The newest block as it was seen last, and when.
    latest: Mutex<Option<(Instant, Header)>>,
    /// The blocks that were read last, the newest last.
    recent: Mutex<VecDeque<Header>>,
    /// How far those who follow the chain over this connection are, while they have much left to read.
    pub(crate) progress: watch::Sender<Option<Progress>>,
    born: Instant,
    pub(crate) depth: OnceLock<u64>,
}

struct Node {
    name: String,
    provider: RootProvider<Ethereum>,
}

struct Watch {
    health: Health,
    next_probe: Duration,
}

impl std::fmt::Debug for Nodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Nodes").field(&self.name()).finish()
    }
}

impl Nodes {
    /// Nodes by name, the preferred first. There must be one at least.
    pub(crate) fn new(nodes: Vec<(String, RpcClient)>, settings: Settings) -> Self {
        assert!(!nodes.is_empty(), "a client needs a node");
        let nodes: Vec<_> =
            nodes.into_iter().map(|(name, rpc)| Node { name, provider: RootProvider::new(rpc) }).collect();
        let health = Health::new(nodes.iter().map(|n| n.name.clone()), settings.limits);
        Self {
            nodes,
            settings,
            watch: Arc::new(Mutex::new(Watch { health, next_probe: Duration::ZERO })),
            telling: Mutex::default(),
            room: Arc::new(Semaphore::new(TELLING)),
            latest: Mutex::default(),
            recent: Mutex::default(),
            progress: watch::Sender::new(None),
            born: Instant::now(),
            depth: OnceLock::new(),
        }
    }

    /// The names of all.
    pub(crate) fn name(&self) -> String {
        let names: Vec<&str> = self.nodes.iter().map(|n| n.name.as_str()).collect();
        names.join(", ")
    }

    /// How all do, as last seen.
    pub(crate) fn status(&self) -> Vec<NodeStatus> {
        self.watch().health.status()
    }

    /// Asks the best node, and the next ones while they fail. A refusal by a contract is an answer.
    pub(crate) async fn ask<T, F>(&self, question: impl Fn(RootProvider<Ethereum>) -> F) -> Result<T, Error>
    where
        F: Future<Output = TransportResult<T>>,
    {
        let mut answers = self.ask_several(1, question).await?;
        Ok(answers.remove(0))
    }

    /// The same question to so many nodes at most, one at least: the first answer as by [`Self::ask`], more from others
    /// that do well.
    pub(crate) async fn ask_several<T, F>(
        &self,
        most: usize,
        question: impl Fn(RootProvider<Ethereum>) -> F,
    ) -> Result<Vec<T>, Error>
    where
        F: Future<Output = TransportResult<T>>,
    {
        self.probe_if_due().await;
        let (mut answers, mut failure): (Vec<T>, Option<Error>) = (Vec::new(), None);
        for node in self.order() {
            if answers.len() == most || (!answers.is_empty() && self.watch().health.is_aside(node)) {
                break;
            }
            match self.ask_one(node, self.settings.timeout, &question).await {
                Ok(answer) => answers.push(answer),
                Err(error @ Error::Reverted(_)) => return Err(error),
                // What a node has to say about the question is worth more than the silence of another.
                Err(error) if matches!(failure, Some(Error::Refused { .. })) => drop(error),
                Err(error) => failure = Some(error),
            }
        }
        if !answers.is_empty() {
            return Ok(answers);
        }
        if self.nodes.len() > 1 {
            self.watch().next_probe = Duration::ZERO;
        }
        Err(failure.unwrap_or_else(|| self.no_good_node()))
    }

    /// Asks for a block. Of several nodes one that shows a time to come is believed only if none shows another: it would end
    /// what has time left, and what it says cannot be held against its block's hash on every chain.
    pub(crate) async fn ask_block<T, F>(&self, question: impl Fn(RootProvider<Ethereum>) -> F) -> Result<T, Error>
    where
        T: Copy + Into<Option<Header>>,
        F: Future<Output = TransportResult<T>>,
    {
        let first = self.ask(&question).await?;
        let early = |header: Header| self.ahead(header.head) > self.settings.limits.ahead;
        if self.nodes.len() == 1 || !first.into().is_some_and(early) {
            return Ok(first);
        }
        let all = self.ask_several(self.nodes.len(), question).await?;
        let in_time = all.into_iter().find(|block| (*block).into().is_some_and(|header| !early(header)));
        Ok(in_time.unwrap_or(first))
    }

    /// Seconds by which a block's time is ahead of this machine's clock.
    fn ahead(&self, block: Head) -> u64 {
        block.timestamp.saturating_sub(self.settings.clock.seconds())
    }

    /// Remembers the newest block.
    pub(crate) fn note(&self, header: Header) {
        *self.latest() = Some((Instant::now(), header));
        self.remember(header);
    }

    /// Remembers a block for a while, if it is one of the last.
    pub(crate) fn remember(&self, header: Header) {
        let newest = self.latest().map_or(0, |(_, newest)| newest.head.number);
        if header.head.number.saturating_add(RECENT as u64) <= newest {
            return;
        }
        let mut recent = self.recent();
        if recent.iter().all(|known| known.head.hash != header.head.hash) {
            if recent.len() == RECENT {
                recent.pop_front();
            }
            recent.push_back(header);
        }
    }

    /// The block before this one, if it was read lately.
    pub(crate) fn parent(&self, of: Head) -> Option<Header> {
        self.recent().iter().find(|known| known.head.hash == of.parent).copied()
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Header>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest block, if it was seen at most this long ago and is still there as far as known.
    pub(crate) fn noted(&self, age: Duration) -> Option<Header> {
        self.latest().filter(|(seen, _)| seen.elapsed() <= age).map(|(_, header)| header)
    }

    fn latest(&self) -> MutexGuard<'_, Option<(Instant, Header)>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks about the state after one block: any node that has it will do.
    pub(crate) async fn ask_at<T, F>(
        &self,
        at: Head,
        question: impl Fn(RootProvider<Ethereum>, BlockId) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = TransportResult<T>>,
    {
        let id = BlockId::hash_canonical(at.hash);
        match self.ask(|node| question(node, id)).await {
            Err(error @ (Error::Refused { .. } | Error::Nonsense { .. })) => match self.has(at).await? {
                true => Err(error),
                false => {
                    *self.latest() = None;
                    Err(Error::BlockGone { number: at.number, hash: at.hash })
                }
            },
            answer => answer,
        }
    }

    /// Hands something to all nodes of this chain at once; succeeds as soon as one takes it. The others are given their
    /// time beside.
    pub(crate) async fn tell<T, F>(&self, question: impl Fn(RootProvider<Ethereum>) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = TransportResult<T>> + Send + 'static,
    {
        self.probe_if_due().await;
        let audience = self.watch().health.audience();
        let timeout = if audience.len() > 1 { PROBE_TIMEOUT } else { self.settings.timeout };
        let timeout = timeout.min(self.settings.timeout);
        let (tell, mut answers) = mpsc::channel(audience.len().max(1));
        for node in audience {
            let place = self.room.clone().acquire_owned().await;
            let asked = asked(self.nodes[node].name.clone(), timeout, question(self.nodes[node].provider.clone()));
            let (seen, tell) = (self.seer(node), tell.clone());
            let mut telling = self.telling();
            while telling.try_join_next().is_some() {}
            telling.spawn(async move {
                let (answer, observation) = asked.await;
                seen(observation);
                // Who asked has gone when another node was faster.
                let _ = tell.send(answer).await;
                drop(place);
            });
        }
        drop(tell);
        let mut failure = None;
        while let Some(answer) = answers.recv().await {
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) if matches!(failure, None | Some(Error::Unreachable { .. })) => failure = Some(error),
                Err(_) => {}
            }
        }
        Err(failure.unwrap_or_else(|| self.no_good_node()))
    }

    /// Looks at all nodes now, whatever their back-off.
    pub(crate) async fn probe(&self) -> Vec<NodeStatus> {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        self.look(&all).await;
        self.status()
    }

    /// Whether the block is part of the chain, as far as a node can tell.
    async fn has(&self, block: Head) -> Result<bool, Error> {
        let found = self.ask(|node| async move { answers::block(&node, block.number.into()).await }).await?;
        Ok(found.is_some_and(|found| found.head.hash == block.hash))
    }

    async fn ask_one<T, F>(
        &self,
        node: usize,
        timeout: Duration,
        question: &impl Fn(RootProvider<Ethereum>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = TransportResult<T>>,
    {
        let (answer, seen) =
            asked(self.nodes[node].name.clone(), timeout, question(self.nodes[node].provider.clone())).await;
        self.see(node, seen);
        answer
    }

    /// Takes in later what is seen of a node.
    fn seer(&self, node: usize) -> impl FnOnce(Observation) + Send + 'static {
        let (watch, born) = (self.watch.clone(), self.born);
        move |seen| watch.lock().unwrap_or_else(PoisonError::into_inner).health.observe(node, seen, born.elapsed())
    }

    fn order(&self) -> Vec<usize> {
        match self.nodes.len() {
            1 => vec![0],
            _ => self.watch().health.order(),
        }
    }

    async fn probe_if_due(&self) {
        if self.nodes.len() == 1 {
            return;
        }
        let now = self.now();
        let asked = {
            let mut watch = self.watch();
            let retry = watch.health.next_retry();
            if now < watch.next_probe && retry.is_none_or(|at| now < at) {
                return;
            }
            // Claimed by this caller: others go on with what is known.
            watch.next_probe = now + self.settings.probe;
            watch.health.due(now)
        };
        self.look(&asked).await;
    }

    async fn look(&self, asked: &[usize]) {
        join_all(asked.iter().map(|node| self.look_at(*node))).await;
        // They are compared at the lowest of their heads, where all of them have a block.
        let height = self.watch().health.common_height(asked);
        if let Some(height) = height {
            join_all(asked.iter().map(|node| self.compare(*node, height))).await;
        }
        let now = self.now();
        let mut watch = self.watch();
        let before = watch.health.status();
        watch.health.judge(asked, now);
        for (old, new) in before.iter().zip(watch.health.status()) {
            match (old.state, new.state, &new.reason) {
                (was, "aside", Some(why)) if was != "aside" => tracing::warn!(node = new.node, "{why}: left aside"),
                ("aside", "good", _) => tracing::info!(node = new.node, "does well again: used"),
                _ => {}
            }
        }
    }

    /// Asks one node for its chain, once, and for its newest block.
    async fn look_at(&self, node: usize) {
        let timeout = PROBE_TIMEOUT.min(self.settings.timeout);
        let knows_chain = self.watch().health.knows_chain(node);
        if !knows_chain {
            let chain = self.ask_one(node, timeout, &|node| async move { node.get_chain_id().await }).await;
            let Ok(id) = chain else { return };
            self.see(node, Observation::Chain(id));
        }
        let announced = self.ask_one(node, timeout, &|node| async move { node.get_block_number().await }).await;
        let Ok(claims) = announced else { return };
        let Ok(block) = self.header_at(node, claims.into()).await else { return };
        if let Some(Header { head, .. }) = block {
            return self.see_head(node, head);
        }
        // The chain may have become shorter meanwhile; more than a few blocks it does not.
        match self.header_at(node, BlockNumberOrTag::Latest).await {
            Ok(Some(Header { head, .. })) if head.number + self.settings.limits.few_blocks >= claims => {
                self.see_head(node, head);
            }
            Ok(known) => {
                let known = known.map_or(0, |block| block.head.number);
                self.see(node, Observation::Hollow { claims, known });
            }
            Err(_) => {}
        }
    }

    async fn compare(&self, node: usize, height: u64) {
        // Of its newest block the hash was just seen.
        let newest = self.watch().health.head(node).filter(|(number, _)| *number == height);
        if let Some((number, hash)) = newest {
            return self.see(node, Observation::Block { number, hash });
        }
        if let Ok(Some(Header { head, .. })) = self.header_at(node, height.into()).await {
            self.see(node, Observation::Block { number: head.number, hash: head.hash });
        }
    }

    async fn header_at(&self, node: usize, at: BlockNumberOrTag) -> Result<Option<Header>, Error> {
        let timeout = PROBE_TIMEOUT.min(self.settings.timeout);
        self.ask_one(node, timeout, &|node| async move { answers::block(&node, at).await }).await
    }

    fn see_head(&self, node: usize, head: Head) {
        let Head { number, hash, .. } = head;
        self.see(node, Observation::Head { number, hash, ahead: self.ahead(head) });
    }

    fn see(&self, node: usize, seen: Observation) {
        let now = self.now();
        self.watch().health.observe(node, seen, now);
    }

    fn now(&self) -> Duration {
        self.born.elapsed()
    }

    fn telling(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn no_good_node(&self) -> Error {
        let status = self.watch().health.status();
        let reasons: Vec<String> =
            status.into_iter().filter_map(|s| s.reason.map(|why| format!("{} {why}", s.node))).collect();
        Error::NoGoodNode { count: self.nodes.len(), reasons: reasons.join("; ") }
    }
}

/// A question to the node with this name, which is given so much time: its answer, and what that shows of the node.
async fn asked<T>(
    name: String,
    timeout: Duration,
    question: impl Future<Output = TransportResult<T>>,
) -> (Result<T, Error>, Observation) {
    let started = Instant::now();
    let answer = tokio::time::timeout(timeout, question).await;
    let silence = || TransportErrorKind::custom_str(&format!("no answer within {} s", timeout.as_secs_f32()));
    let answer = answer.unwrap_or_else(|_| Err(silence())).map_err(|error| named(name, error));
    let seen = match &answer {
        Err(error) if is_fault(error) => Observation::Failed { error: in_words(error) },
        Ok(_) | Err(_) => Observation::Answered { latency: started.elapsed() },
    };
    (answer, seen)
}

/// An error in our words, of the node with this name.
fn named(node: String, error: TransportError) -> Error {
    match error {
        RpcError::ErrorResp(payload) => match payload.as_revert_data() {
            Some(data) => Error::Reverted(Revert { data }),
            None if payload.code == 3 || payload.message.contains("revert") => Error::Reverted(Revert::default()),
            None => Error::Refused { node, code: payload.code, message: payload.message.to_string() },
        },
        RpcError::NullResp | RpcError::DeserError { .. } | RpcError::SerError(_) => {
            Error::Nonsense { node, what: "the request".into() }
        }
        source => Error::Unreachable { node, source },
    }
}

/// Whether an error says that something is wrong with the node rather than with the question.
fn is_fault(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } | Error::Nonsense { .. } => true,
        Error::Refused { code, .. } => *code == -32603,
        Error::BadUrl { .. } | Error::Reverted(_) | Error::BlockGone { .. } | Error::NoGoodNode { .. } => false,
    }
}

/// An error with its cause, without the advice.
fn in_words(error: &Error) -> String {
    match error {
        Error::Unreachable { source, .. } => source.to_string(),
        Error::Refused { code, message, .. } => format!("{message} (code {code})"),
        Error::Nonsense { .. } => "its answer makes no sense".into(),
        other => other.to_string(),
    }
}

/// Names that tell nodes apart: equal ones are numbered.
pub(crate) fn distinct(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for name in names {
        let same = seen.iter().filter(|other| other.split(" #").next() == Some(&name)).count();
        seen.push(if same == 0 { name } else { format!("{name} #{}", same + 1) });
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_numbered() {
        let names = ["a", "b", "a", "a"].map(String::from);
        assert_eq!(distinct(names), ["a", "b", "a #2", "a #3"]);
    }
}
