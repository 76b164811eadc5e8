//! The loop that sends: looks after what is on its way, then sends what is not.
//!
//! A round asks the node for its newest block. Only when that changed it asks for the wallet's nonce, and only for what
//! the nonce has passed it asks for receipts.
//!
//! An outcome is watched while a reorg may take it back. One that lies deeper is believed until somebody asks for its name
//! again: then it is looked whether it is still on the chain.

use super::{
    Command, KeyInUse, OutOfGas, Receipt, Reply, SendError, Status, Waiting,
    store::{self, Attempt, Intent, Mined, Open},
    strangers::{self, Strangers},
    tag,
};
use crate::{
    PrivateKeySigner,
    answers::TransactionReceipt,
    client::{Client, Error, Head, Header, Price},
    gas::{self, AtCap, Fees, GasPolicy, OverCap},
    revert::Revert,
};
use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope, TxLegacy},
    eips::eip2718::Encodable2718,
    primitives::{Address, B256, Bytes, TxKind, U256},
};
use bourse_service::{
    defect::{Defect, planted},
    journal::{self, Journal},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// An unmined transaction is handed to the nodes again after this time, whether they know it or not.
const REBROADCAST: Duration = Duration::from_secs(10);
/// Of those that a new block has not taken, so many are asked for: one that the node has lost is handed in again at once.
const ASKED_FOR: usize = 4;
/// And the first in line gets a higher fee after this time, each time anew.
const BUMP: Duration = Duration::from_secs(30);
/// So often a used nonce must be seen without a receipt before it is asked who used it: nodes show receipts late.
const LOST_AFTER: u32 = 5;
/// A nonce that nobody uses and that ours wait for is filled after this time.
const HOLE_AFTER: Duration = Duration::from_secs(10);
/// Another's transaction that ours wait for is replaced after this time,
const REPLACE_AFTER: Duration = Duration::from_secs(300);
/// and so many blocks that did not take it: who sent it may live no more, and its fee would never be raised.
const REPLACE_AFTER_BLOCKS: u64 = 20;
/// Blocks above a transaction after which it is no longer watched.
const WATCHED: u64 = 64;
/// The longest pause while the chain cannot be read, or while what is done is only watched.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The name of a transaction that does nothing but use a nonce.
const FILL: &str = "(fill)";

/// What does the sending. One per key.
#[derive(Debug)]
pub struct SenderLoop {
    client: Client,
    key: PrivateKeySigner,
    journal: Journal,
    policy: GasPolicy,
    chain_id: u64,
    depth: u64,
    tag: u8,
    inbox: mpsc::Receiver<Command>,
    publish: watch::Sender<Status>,
    waiters: BTreeMap<String, Vec<Reply>>,
    /// What has no outcome, in the order of asking.
    open: BTreeMap<u64, Entry>,
    /// What is done but whose block may go away, by block.
    mined: BTreeMap<(u64, String), Mined>,
    /// Names that were asked for again whose outcome lies deeper than what is watched, and who asks.
    doubted: BTreeMap<String, (store::Outcome, Vec<Reply>)>,
    /// The newest block of the last full look, and the wallet's nonce after it.
    seen: Option<(B256, u64)>,
    /// The nonce that ours takes next if nobody else sends.
    expected: Option<u64>,
    /// What was read after a block: ether of the wallet, and the price of gas.
    balance: Option<(B256, U256)>,
    priced: Option<(B256, Price)>,
    /// Blocks come with the transactions: the receipt is there at once.
    at_once: bool,
    strangers: Strangers,
    /// The wallet's next nonce, where ours wait for what is not ours.
    hole: Option<Hole>,
    /// Nothing that waited in the node before this process began keeps it from sending any more.
    started: bool,
    waiting: Option<Waiting>,
    out_of_gas: Option<OutOfGas>,
}

#[derive(Debug)]
struct Entry {
    intent: Intent,
    sent: Option<Sent>,
}

#[derive(Debug)]
struct Sent {
    nonce: u64,
    attempts: Vec<Attempt>,
    /// When it was last handed in; `None` for that of an earlier life, and where the node has lost it.
    handed_in: Option<Instant>,
    /// When its fee was last chosen.
    priced: Instant,
    /// The block that has it, as far as known.
    block: Option<u64>,
    /// How often its nonce was seen used without a receipt.
    missing: u32,
}

/// A nonce that holds ours up and is not ours: nobody uses it, or another's transaction waits there.
#[derive(Clone, Copy, Debug)]
struct Hole {
    nonce: u64,
    /// When it was first seen, and after which block.
    since: Instant,
    block: u64,
}

/// Why a round ended early.
enum Trouble {
    Chain(Error),
    Store(journal::Error),
    KeyInUse(KeyInUse),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Chain(error)
    }
}

impl From<journal::Error> for Trouble {
    fn from(error: journal::Error) -> Self {
        Self::Store(error)
    }
}

impl Hole {
    /// Whether what waits there has had its time. While no block comes, it is not its fault.
    fn is_to_be_replaced(&self, head: &Head) -> bool {
        self.since.elapsed() >= REPLACE_AFTER && head.number >= self.block + REPLACE_AFTER_BLOCKS
    }
}

impl Sent {
    fn new(nonce: u64, attempts: Vec<Attempt>, handed_in: Option<Instant>) -> Self {
        Self { nonce, attempts, handed_in, priced: Instant::now(), block: None, missing: 0 }
    }

    fn most(&self, value: U256) -> U256 {
        self.attempts.iter().map(|a| cost(a.gas_limit, a.fees)).max().unwrap_or_default() + value
    }
}

impl SenderLoop {
    pub(super) async fn open(
        client: Client,
        key: PrivateKeySigner,
        journal: Journal,
        policy: GasPolicy,
        inbox: mpsc::Receiver<Command>,
        publish: watch::Sender<Status>,
    ) -> Result<Self, Error> {
        Ok(Self {
            chain_id: client.chain_id().await?,
            depth: client.depth().await?,
            client,
            key,
            journal,
            policy: if planted(Defect::CapPassed) { GasPolicy { cap: u128::MAX, ..policy } } else { policy },
            tag: 0,
            inbox,
            publish,
            waiters: BTreeMap::new(),
            open: BTreeMap::new(),
            mined: BTreeMap::new(),
            doubted: BTreeMap::new(),
            seen: None,
            expected: None,
            balance: None,
            priced: None,
            at_once: true,
            strangers: Strangers::default(),
            hole: None,
            started: false,
            waiting: None,
            out_of_gas: None,
        })
    }

    /// Runs until `shutdown`. What waits then goes on after a restart. Ends by itself if another process sends from the
    /// same key and this one has to give way: see [`super::Sender::key_in_use`].
    pub async fn run(self, shutdown: CancellationToken) {
        // Who asks for something is told.
        drop(self.work(shutdown).await);
    }

    /// The same, and an error if this one had to give way: its process should stop.
    pub async fn work(mut self, shutdown: CancellationToken) -> Result<(), KeyInUse> {
        let mut pause = self.client.poll_interval();
        while let Err(error) = self.load() {
            warn!(%error, "cannot read the store; transactions wait");
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(LONGEST_PAUSE) => {}
            }
        }
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                command = self.inbox.recv() => match command {
                    Some(command) => self.accept(command),
                    None => return Ok(()),
                },
                () = tokio::time::sleep(pause), if self.busy() => {}
            }
            // Everything that waits in the inbox belongs to this round.
            while let Ok(command) = self.inbox.try_recv() {
                self.accept(command);
            }
            let had_work = !self.open.is_empty() || !self.doubted.is_empty();
            let round = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                round = Box::pin(self.round()) => round,
            };
            let usual = self.client.poll_interval();
            if self.open.is_empty() {
                // One after the other, two processes may use one key: such as who funds a wallet and who works with it.
                self.expected = None;
            }
            pause = match round {
                Ok(()) if had_work => usual,
                Ok(()) => (pause * 2).clamp(usual, LONGEST_PAUSE),
                Err(Trouble::KeyInUse(reason)) => {
                    tracing::error!("{reason}");
                    self.tell(Some(reason.clone()));
                    return Err(reason);
                }
                Err(Trouble::Chain(error)) => {
                    // A block that went away is no reason to wait.
                    let gone = matches!(error, Error::BlockGone { .. });
                    if !gone && !matches!(self.waiting, Some(Waiting::PriceUnknown { .. })) {
                        self.wait_for(Waiting::Unreachable { error: error.to_string() });
                    }
                    if gone { usual } else { (pause * 2).min(LONGEST_PAUSE) }
                }
                Err(Trouble::Store(error)) => {
                    warn!(%error, "the store fails; transactions wait");
                    (pause * 2).min(LONGEST_PAUSE)
                }
            };
            self.tell(None);
        }
    }

    fn load(&mut self) -> Result<(), journal::Error> {
        let kept = store::prepare(&self.journal)?;
        self.tag = self.client.tag().unwrap_or(kept);
        let wallet = self.key.address();
        for row in store::load(&self.journal, wallet)? {
            self.adopt(row);
        }
        self.mined =
            store::load_mined(&self.journal, wallet)?.into_iter().map(|m| ((m.block, m.id.clone()), m)).collect();
        Ok(())
    }

    fn adopt(&mut self, Open { seq, intent, sent }: Open) {
        let sent = sent.map(|(nonce, attempts)| Sent::new(nonce, attempts, None));
        self.open.insert(seq, Entry { intent, sent });
    }

    fn busy(&self) -> bool {
        !self.open.is_empty() || !self.mined.is_empty() || !self.doubted.is_empty()
    }

    fn accept(&mut self, Command { intent, reply }: Command) {
        let id = intent.id.clone();
        match store::insert(&self.journal, self.key.address(), &intent) {
            Ok((seq, None)) => {
                self.waiters.entry(id).or_default().push(reply);
                self.open.entry(seq).or_insert(Entry { intent, sent: None });
            }
            Ok((_, Some(outcome))) if self.is_watched(&id) => drop(reply.send(outcome.into_result(&id))),
            Ok((_, Some(outcome))) => self.doubted.entry(id).or_insert((outcome, vec![])).1.push(reply),
            Err(error) => drop(reply.send(Err(error.into()))),
        }
    }

    fn is_watched(&self, id: &str) -> bool {
        self.mined.values().any(|mined| mined.id == id)
    }

    /// Looks after everything that is on its way, then sends what is not.
    async fn round(&mut self) -> Result<(), Trouble> {
        if !self.busy() {
            return Ok(());
        }
        let header = self.client.header().await?;
        let moved = self.seen.is_none_or(|(hash, _)| hash != header.head.hash);
        if moved && !planted(Defect::MinedForGood) {
            self.check_mined(&header.head).await?;
        }
        if !self.open.is_empty() {
            self.look_after(&header, moved).await?;
        } else if self.doubted.is_empty() {
            self.waiting = None;
        }
        // Last: what lies deep keeps nothing waiting that is on its way.
        self.confirm(&header.head).await
    }

    /// Follows what is on its way, then sends what is not.
    async fn look_after(&mut self, header: &Header, moved: bool) -> Result<(), Trouble> {
        let nonce = match self.seen {
            Some((_, nonce)) if !moved => nonce,
            _ => self.client.at(header.head).nonce(self.key.address()).await?,
        };
        self.seen = Some((header.head.hash, nonce));
        if self.strangers.start().is_none() {
            self.strangers.begin(self.client.pending_nonce(self.key.address()).await?);
        }
        if moved && let Some(why) = &self.out_of_gas {
            let needed = why.needed;
            let paid_in = self.ether(&header.head).await? >= needed;
            self.out_of_gas.take_if(|_| paid_in);
        }
        self.follow(&header.head, nonce).await?;
        self.notice_strangers(&header.head, nonce).await?;
        if moved {
            self.miss(nonce).await;
        }
        self.hand_in_again(header, nonce).await?;
        self.start_waiting(header, nonce).await
    }

    /// Whether the blocks of what is done are still part of the chain; what is not goes on its way again.
    async fn check_mined(&mut self, head: &Head) -> Result<(), Trouble> {
        while let Some((key, mined)) = self.mined.last_key_value() {
            let canonical = match mined.block {
                // A node that lags looks the same: handing the same bytes in again harms nobody.
                block if block > head.number => None,
                block if block == head.number => Some(head.hash),
                block if block + 1 == head.number => Some(head.parent),
                block => self.client.block(block.into()).await?.map(|b| b.hash),
            };
            if canonical == Some(mined.block_hash) {
                // All others lie below this one.
                break;
            }
            let key = key.clone();
            info!(id = %key.1, block = key.0, "the block of a transaction is no longer part of the chain: following it again");
            let row = store::reopen(&self.journal, &key.1)?;
            self.mined.remove(&key);
            self.adopt(row);
        }
        let buried: Vec<_> =
            self.mined.keys().take_while(|(block, _)| block + WATCHED <= head.number).cloned().collect();
        if !buried.is_empty() {
            let ids: Vec<String> = buried.iter().map(|(_, id)| id.clone()).collect();
            store::bury(&self.journal, &ids)?;
            buried.iter().for_each(|key| drop(self.mined.remove(key)));
        }
        Ok(())
    }

    /// Whether what lies deep and was asked for again is still on the chain; what may not be is followed again, as it was
    /// signed. Nobody is answered before that is known.
    async fn confirm(&mut self, head: &Head) -> Result<(), Trouble> {
        for id in self.doubted.keys().cloned().collect::<Vec<_>>() {
            let stands = match self.stands(&id, head).await {
                // A node that cannot tell is asked again.
                Err(Trouble::Chain(error)) => {
                    debug!(%id, %error, "cannot read whether what was done long ago still stands");
                    if self.open.is_empty() {
                        self.wait_for(Waiting::Unreachable { error: error.to_string() });
                    }
                    continue;
                }
                stands => stands?,
            };
            let Some((outcome, replies)) = self.doubted.remove(&id) else { continue };
            if stands {
                answer(replies, &outcome, &id);
            } else {
                warn!(%id, "what was done long ago is not where it was: following it again");
                let row = store::reopen(&self.journal, &id)?;
                self.adopt(row);
                self.waiters.entry(id).or_default().extend(replies);
            }
        }
        if self.open.is_empty() && self.doubted.is_empty() {
            self.waiting = None;
        }
        Ok(())
    }

    /// Whether the block is part of the chain in which something lies deep. A node that lags looks as if it were not.
    async fn stands(&self, id: &str, head: &Head) -> Result<bool, Trouble> {
        match store::buried(&self.journal, id)? {
            // Nothing is known by which it could be found: its outcome is believed.
            None => Ok(true),
            Some((number, _)) if number > head.number => Ok(false),
            Some((number, hash)) => Ok(self.client.block(number.into()).await?.is_some_and(|b| b.hash == hash)),
        }
    }

    /// Reads the outcome of what the wallet's nonce has passed.
    async fn follow(&mut self, head: &Head, nonce: u64) -> Result<(), Trouble> {
        let depth = self.depth;
        let passed = |entry: &Entry| {
            let sent = entry.sent.as_ref().filter(|sent| sent.nonce < nonce)?;
            let deep = sent.block.is_none_or(|block| block + depth <= head.number);
            deep.then_some(sent.nonce)
        };
        let mut due: Vec<(u64, u64)> = self.open.iter().filter_map(|(seq, e)| Some((passed(e)?, *seq))).collect();
        due.sort_unstable();
        for (_, seq) in due {
            if !self.look(seq, head).await? {
                self.lost(seq, head).await?;
            }
        }
        Ok(())
    }

    /// Looks for the receipt of an intent. Says whether there was one.
    async fn look(&mut self, seq: u64, head: &Head) -> Result<bool, Trouble> {
        let Some(sent) = self.open.get(&seq).and_then(|e| e.sent.as_ref()) else { return Ok(true) };
        let hashes: Vec<B256> = sent.attempts.iter().rev().map(|a| a.hash).collect();
        for hash in hashes {
            if let Some(receipt) = self.client.receipt(hash).await? {
                self.take(seq, receipt, head).await?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Settles an intent if its receipt is deep enough.
    async fn take(&mut self, seq: u64, receipt: TransactionReceipt, head: &Head) -> Result<(), Trouble> {
        let (Some(block), Some(block_hash)) = (receipt.block_number, receipt.block_hash) else {
            let what = format!("the receipt of {}", receipt.transaction_hash);
            return Err(Error::Nonsense { node: self.client.node().into(), what }.into());
        };
        let depth = self.depth;
        let Some(entry) = self.open.get_mut(&seq) else { return Ok(()) };
        let Some(sent) = entry.sent.as_mut() else { return Ok(()) };
        (sent.block, sent.missing) = (Some(block), 0);
        // Its price needs not be raised any more.
        self.out_of_gas.take_if(|why| why.id == entry.intent.id);
        if depth > 0 && block + depth > head.number {
            return Ok(());
        }
        let mined = Mined { id: entry.intent.id.clone(), nonce: sent.nonce, block, block_hash };
        let outcome = match (receipt.succeeded, entry.intent.to) {
            (true, _) => store::Outcome::Done(Receipt {
                hash: receipt.transaction_hash,
                block,
                gas_used: receipt.gas_used,
                fee: U256::from(receipt.gas_used) * U256::from(receipt.effective_gas_price),
                created: receipt.contract_address,
                logs: receipt.logs,
            }),
            (false, Some(to)) => {
                let data = entry.intent.data.clone();
                store::Outcome::Failed(self.client.replay(self.key.address(), to, data, block).await?)
            }
            (false, None) => store::Outcome::Failed(Revert::default()),
        };
        let Some(entry) = self.open.get(&seq) else { return Ok(()) };
        store::settle(&self.journal, self.key.address(), &entry.intent, &outcome, &mined, receipt.gas_used)?;
        self.open.remove(&seq);
        self.waiting = None;
        answer(self.waiters.remove(&mined.id).unwrap_or_default(), &outcome, &mined.id);
        self.mined.insert((block, mined.id.clone()), mined);
        Ok(())
    }

    /// The nonce of an intent is used and no attempt of it has a receipt: late news, or another's transaction.
    async fn lost(&mut self, seq: u64, head: &Head) -> Result<(), Trouble> {
        let Some(entry) = self.open.get_mut(&seq) else { return Ok(()) };
        let Some(sent) = entry.sent.as_mut() else { return Ok(()) };
        (sent.block, sent.missing) = (None, sent.missing + 1);
        if sent.missing < LOST_AFTER {
            return Ok(());
        }
        sent.missing = 0;
        let (id, nonce) = (entry.intent.id.clone(), sent.nonce);
        let ours: Vec<B256> = sent.attempts.iter().map(|a| a.hash).collect();
        match self.client.transaction_at(self.key.address(), nonce, *head).await? {
            Some((hash, _)) if ours.contains(&hash) => return Ok(()),
            Some((hash, _)) if store::signed(&self.journal, hash)? => {
                warn!(%id, nonce, by = %hash, "a transaction of ours took this nonce on another branch: sending again");
            }
            Some((hash, gas_limit)) => {
                warn!(%id, nonce, by = %hash, "another transaction took this nonce: sending again");
                self.stranger(nonce, hash, gas_limit, ours.last().copied())?;
            }
            None => {
                for hash in ours {
                    if self.client.input(hash).await?.is_some() {
                        return Ok(());
                    }
                }
                warn!(%id, nonce, "an unknown transaction took this nonce: sending again");
            }
        }
        // A transaction that only uses its nonce has done its work whoever used it.
        if id.starts_with(FILL) {
            store::requeue(&self.journal, &id)?;
            store::forget(&self.journal, &id)?;
            self.open.remove(&seq);
            return Ok(());
        }
        store::requeue(&self.journal, &id)?;
        if let Some(entry) = self.open.get_mut(&seq) {
            entry.sent = None;
        }
        Ok(())
    }

    /// Looks whether somebody else used nonces that would have been ours next.
    async fn notice_strangers(&mut self, head: &Head, nonce: u64) -> Result<(), Trouble> {
        let ours = self.own_next();
        let expected = self.expected.unwrap_or(nonce).max(ours);
        for taken in (expected..nonce).rev().take(strangers::ENOUGH) {
            if let Some((hash, gas_limit)) = self.client.transaction_at(self.key.address(), taken, *head).await? {
                self.stranger(taken, hash, gas_limit, None)?;
            }
        }
        self.expected = Some(expected.max(nonce));
        Ok(())
    }

    /// Somebody else sent a transaction from our key. If it is a sender like us, one of the two stops; other software is put
    /// up with.
    fn stranger(&mut self, nonce: u64, hash: B256, gas_limit: u64, ours: Option<B256>) -> Result<(), Trouble> {
        let wallet = self.key.address();
        if self.strangers.is_former(nonce) {
            info!(%wallet, nonce, %hash, "a transaction that waited before this process began is in a block");
            return Ok(());
        }
        let Some(tag) = tag::read(gas_limit, nonce) else {
            warn!(%wallet, nonce, %hash, "a transaction that is not ours was sent from our wallet");
            return Ok(());
        };
        warn!(%wallet, nonce, %hash, tag, "another process sends from our wallet");
        if !self.strangers.saw(self.tag, tag, nonce, Instant::now()) {
            return Ok(());
        }
        if self.tag == tag {
            // Chosen alike by chance: what differs between the two decides from now on.
            self.tag = ours.unwrap_or(hash).0[31];
            self.strangers.forget();
            return Ok(());
        }
        let evidence = format!("transaction {hash} has nonce {nonce} and is not ours");
        Err(Trouble::KeyInUse(KeyInUse { wallet, evidence }))
    }

    /// The nonce after all of ours.
    fn own_next(&self) -> u64 {
        let sent = self.open.values().filter_map(|e| e.sent.as_ref()).map(|s| s.nonce + 1).max();
        let mined = self.mined.values().map(|m| m.nonce + 1).max();
        sent.max(mined).unwrap_or(0)
    }

    /// Looks which of the first in line the new block has not taken because the node has lost them.
    async fn miss(&mut self, nonce: u64) {
        let waits = |sent: &&Sent| sent.nonce >= nonce && sent.handed_in.is_some() && sent.block.is_none();
        let waiting = self.open.iter().filter_map(|(seq, entry)| Some((*seq, entry.sent.as_ref().filter(waits)?)));
        let mut first: Vec<(u64, u64)> = waiting.map(|(seq, sent)| (sent.nonce, seq)).collect();
        first.sort_unstable();
        for (nonce, seq) in first.into_iter().take(ASKED_FOR) {
            match self.is_known(seq).await {
                Ok(true) => {}
                Ok(false) => {
                    debug!(nonce, "the node does not know a transaction any more");
                    let sent = self.open.get_mut(&seq).and_then(|entry| entry.sent.as_mut());
                    sent.into_iter().for_each(|sent| sent.handed_in = None);
                }
                // It is handed in again after a while anyway.
                Err(error) => debug!(nonce, %error, "cannot read whether the node knows a transaction"),
            }
        }
    }

    /// Whether the node knows any attempt of an intent. The last one is known, if it could be paid.
    async fn is_known(&self, seq: u64) -> Result<bool, Error> {
        let sent = self.open.get(&seq).and_then(|entry| entry.sent.as_ref());
        for attempt in sent.iter().flat_map(|sent| sent.attempts.iter().rev()) {
            if self.client.knows(attempt.hash).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Hands in again what waits too long, raises the fee of the first in line, and fills a nonce that nobody uses.
    async fn hand_in_again(&mut self, header: &Header, nonce: u64) -> Result<(), Trouble> {
        if planted(Defect::NoRebroadcast) {
            return Ok(());
        }
        self.fill_hole(header, nonce).await?;
        let now = Instant::now();
        // What was in a block and is in none any more is handed in at once.
        let late = |sent: &Sent| sent.block.is_some() || sent.handed_in.is_none_or(|at| now - at >= REBROADCAST);
        let due = |sent: &Sent| sent.nonce >= nonce && late(sent);
        let mut stale: Vec<(u64, u64)> = self
            .open
            .iter()
            .filter_map(|(seq, e)| e.sent.as_ref().filter(|s| due(s)).map(|s| (s.nonce, *seq)))
            .collect();
        stale.sort_unstable();
        for (its_nonce, seq) in stale {
            if its_nonce == nonce {
                self.bump(seq, header).await?;
            }
            let Some(entry) = self.open.get_mut(&seq) else { continue };
            let Some(sent) = entry.sent.as_mut() else { continue };
            (sent.handed_in, sent.block) = (Some(now), None);
            let (id, attempts) = (entry.intent.id.clone(), sent.attempts.clone());
            self.broadcast(&id, &attempts).await?;
        }
        Ok(())
    }

    /// What transactions that are on their way may still cost, but for one.
    fn spoken_for(&self, except: u64) -> U256 {
        let others = self.open.iter().filter(|(seq, _)| **seq != except);
        let most = others.filter_map(|(_, entry)| Some(entry.sent.as_ref()?.most(entry.intent.value)));
        most.fold(U256::ZERO, |sum, next| sum + next)
    }

    /// Offers more for a transaction that waits too long, up to the cap and to what the wallet can pay.
    async fn bump(&mut self, seq: u64, header: &Header) -> Result<(), Trouble> {
        let Some(entry) = self.open.get(&seq) else { return Ok(()) };
        let Some(sent) = entry.sent.as_ref().filter(|sent| sent.priced.elapsed() >= BUMP) else { return Ok(()) };
        let Some(last) = sent.attempts.last() else { return Ok(()) };
        let (intent, nonce, old, gas_limit) = (entry.intent.clone(), sent.nonce, last.fees, last.gas_limit);
        let id = &intent.id;
        let price = self.price(header).await?;
        let fees = match self.policy.replace(old, price) {
            Ok(fees) => fees,
            Err(gas::NoRaise::OverCap(OverCap { network, cap })) => {
                self.wait_for(Waiting::OverCap { network, cap });
                return Ok(());
            }
            Err(gas::NoRaise::AtCap(AtCap { offered, next, cap })) => {
                self.wait_for(Waiting::AtCap { offered, next, cap });
                return Ok(());
            }
        };
        let fees = match self.ether(&header.head).await {
            Ok(have) => {
                let free = have.saturating_sub(self.spoken_for(seq));
                let least = price.network().max(old.least_raise());
                let Some(fees) = fees.within(affordable(free, intent.value, gas_limit), least) else {
                    let needed = cost(gas_limit, fees) + intent.value;
                    self.waiting = None;
                    self.lack(OutOfGas { id: intent.id, wallet: self.key.address(), needed, have: free });
                    return Ok(());
                };
                self.out_of_gas = None;
                fees
            }
            // Not to know is not to have too little: an attempt that cannot be paid takes the place of no other.
            Err(error) => {
                debug!(%id, %error, "cannot read whether the wallet can pay a higher fee");
                fees
            }
        };
        let attempt = self.sign(&intent, nonce, gas_limit, fees, price);
        info!(%id, nonce, max_fee = fees.max_fee, "raising the fee of a transaction that waits");
        store::add_attempt(&self.journal, id, &attempt)?;
        self.waiting = None;
        if let Some(sent) = self.open.get_mut(&seq).and_then(|e| e.sent.as_mut()) {
            sent.attempts.push(attempt);
            sent.priced = Instant::now();
        }
        Ok(())
    }

    /// A nonce below ours that no transaction uses would hold ours up for ever.
    async fn fill_hole(&mut self, header: &Header, nonce: u64) -> Result<(), Trouble> {
        let sent = self.open.values().filter_map(|e| e.sent.as_ref());
        let waits = sent.map(|s| s.nonce).min().is_some_and(|lowest| lowest > nonce);
        if !waits {
            // At the start ours are not sent before what waits there.
            self.hole.take_if(|_| self.started);
            return Ok(());
        }
        let hole = self.held_up(&header.head, nonce);
        if hole.since.elapsed() < HOLE_AFTER {
            return Ok(());
        }
        let wallet = self.key.address();
        if self.client.pending_nonce(wallet).await? > nonce && !hole.is_to_be_replaced(&header.head) {
            return Ok(());
        }
        let price = self.price(header).await?;
        let Ok(fees) = self.policy.offer(price) else { return Ok(()) };
        let id = format!("{FILL}:{wallet}:{nonce}");
        warn!(%wallet, nonce, "a nonce below ours is not used, or by what does not get into a block: filling it");
        let intent = Intent { id: id.clone(), to: Some(wallet), value: U256::ZERO, data: Bytes::new() };
        let gas_limit = tag::mark(gas::limit(21_000, true), self.tag, nonce);
        let attempt = self.sign(&intent, nonce, gas_limit, fees, price);
        let seq = store::insert_sent(&self.journal, wallet, &intent, nonce, &attempt)?;
        let sent = Some(Sent::new(nonce, vec![attempt.clone()], Some(Instant::now())));
        self.open.insert(seq, Entry { intent, sent });
        self.hole = None;
        self.broadcast(&id, &[attempt]).await
    }

    /// The wallet's next nonce, which is not ours, and since when it is known to hold ours up.
    fn held_up(&mut self, head: &Head, nonce: u64) -> Hole {
        let new = Hole { nonce, since: Instant::now(), block: head.number };
        *self.hole.insert(self.hole.filter(|hole| hole.nonce == nonce).unwrap_or(new))
    }

    /// Sends what waits, in the order of asking.
    async fn start_waiting(&mut self, header: &Header, nonce: u64) -> Result<(), Trouble> {
        let waiting: Vec<u64> = self.open.iter().filter(|(_, e)| e.sent.is_none()).map(|(seq, _)| *seq).collect();
        if waiting.is_empty() {
            // What holds up those that were sent is known when they are next handed in.
            use Waiting::{AtCap, NotTaken, OverCap};
            if !matches!(self.waiting, Some(OverCap { .. } | AtCap { .. } | NotTaken { .. })) {
                self.waiting = None;
            }
            return Ok(());
        }
        if !self.may_start(&header.head, nonce).await? {
            return Ok(());
        }
        let price = self.price(header).await?;
        let fees = match self.policy.offer(price) {
            Ok(fees) => fees,
            Err(OverCap { network, cap }) => {
                self.wait_for(Waiting::OverCap { network, cap });
                return Ok(());
            }
        };
        let have = self.ether(&header.head).await?;
        self.waiting = None;
        let mut next = nonce.max(self.own_next());
        for seq in waiting {
            if self.send(seq, next, have, fees, price, &header.head).await? {
                next += 1;
            }
            if self.waiting.is_some() {
                break;
            }
        }
        self.expected = Some(self.expected.unwrap_or(0).max(next));
        Ok(())
    }

    /// Whether nothing waits in the node any more that was there before this process began and is not ours. It is waited
    /// for, as to take its nonces would throw out what a former life, or another process, has sent; but not for ever.
    async fn may_start(&mut self, head: &Head, nonce: u64) -> Result<bool, Trouble> {
        let known = nonce.max(self.own_next());
        let there = self.strangers.start().unwrap_or_default();
        if self.started || there <= known {
            self.started = true;
            return Ok(true);
        }
        // The node may have lost some.
        let there = there.min(self.client.pending_nonce(self.key.address()).await?);
        self.strangers.begin(there);
        self.started = there <= known;
        if !self.started && self.held_up(head, nonce).is_to_be_replaced(head) {
            warn!(wallet = %self.key.address(), nonce, "what waits in the node since before the start does not get into a block: replacing it");
            self.started = true;
        }
        if !self.started {
            self.wait_for(Waiting::Foreign { count: there - known });
        }
        Ok(self.started)
    }

    /// Sends one intent. Says whether it took the nonce.
    async fn send(
        &mut self,
        seq: u64,
        nonce: u64,
        have: U256,
        fees: Fees,
        price: Price,
        head: &Head,
    ) -> Result<bool, Trouble> {
        let Some(entry) = self.open.get(&seq) else { return Ok(false) };
        let (intent, wallet) = (entry.intent.clone(), self.key.address());
        let gas = match self.client.estimate(wallet, intent.to, intent.data.clone()).await {
            Ok(gas) => gas,
            Err(Error::Reverted(revert)) => {
                self.forget(seq, |id| SendError::Refused { id, revert })?;
                return Ok(false);
            }
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(source) => {
                self.forget(seq, |id| SendError::Chain { id, source })?;
                return Ok(false);
            }
        };
        let gas_limit = tag::mark(gas::limit(gas, intent.data.is_empty()), self.tag, nonce);
        let needed = cost(gas_limit, fees) + intent.value;
        let free = have.saturating_sub(self.spoken_for(seq));
        let payable = |ether: U256| fees.within(affordable(ether, intent.value, gas_limit), price.network());
        if payable(have).is_none() {
            let why = OutOfGas { id: intent.id, wallet, needed, have };
            self.lack(why.clone());
            self.forget(seq, |_| SendError::OutOfGas(why))?;
            return Ok(false);
        }
        self.out_of_gas = None;
        let Some(fees) = payable(free) else {
            self.wait_for(Waiting::Ether { needed, free });
            return Ok(false);
        };
        let attempt = self.sign(&intent, nonce, gas_limit, fees, price);
        store::send(&self.journal, &intent.id, nonce, &attempt)?;
        let hash = attempt.hash;
        if let Some(entry) = self.open.get_mut(&seq) {
            entry.sent = Some(Sent::new(nonce, vec![attempt.clone()], Some(Instant::now())));
        }
        self.broadcast(&intent.id, &[attempt]).await?;
        if self.at_once && self.depth == 0 {
            match self.client.receipt(hash).await? {
                Some(receipt) => self.take(seq, receipt, head).await?,
                None => self.at_once = false,
            }
        }
        Ok(true)
    }

    /// What gas costs after a block. Not to know is not to be under the cap.
    async fn price(&mut self, header: &Header) -> Result<Price, Trouble> {
        if let Some((_, price)) = self.priced.filter(|(hash, _)| *hash == header.head.hash) {
            return Ok(price);
        }
        match self.client.price_after(header.base_fee).await {
            Ok(price) => {
                self.priced = Some((header.head.hash, price));
                Ok(price)
            }
            Err(error) => {
                self.wait_for(Waiting::PriceUnknown { error: error.to_string() });
                Err(error.into())
            }
        }
    }

    /// Ether of the wallet after a block.
    async fn ether(&mut self, head: &Head) -> Result<U256, Error> {
        if let Some((_, have)) = self.balance.filter(|(hash, _)| *hash == head.hash) {
            return Ok(have);
        }
        let have = self.client.at(*head).balance(self.key.address()).await?;
        self.balance = Some((head.hash, have));
        Ok(have)
    }

    /// Notes that the wallet cannot pay for something.
    fn lack(&mut self, why: OutOfGas) {
        if self.out_of_gas.is_none() {
            warn!("{why}");
        }
        self.out_of_gas = Some(why);
    }

    /// Hands a transaction to the nodes, all attempts of it, the dearest first: what the wallet cannot pay is refused or dropped, and an
    /// earlier one that it can pay may still get into a block. What nodes say is not believed: the chain shows the outcome.
    async fn broadcast(&mut self, id: &str, attempts: &[Attempt]) -> Result<(), Trouble> {
        let (mut taken, mut refusal) = (false, None);
        for attempt in attempts.iter().rev() {
            match self.client.broadcast(&attempt.raw).await {
                Ok(hash) => {
                    debug!(id, %hash, "sent");
                    taken = true;
                }
                Err(error) if error.is_transient() => return Err(error.into()),
                Err(Error::Refused { message, .. }) if message.contains("nonce too low") => {
                    debug!(id, message, "its nonce is used: it may be in a block");
                    return Ok(());
                }
                Err(error) => {
                    debug!(id, hash = %attempt.hash, %error, "the node did not take the transaction (again)");
                    refusal.get_or_insert(error);
                }
            }
        }
        if let Some(error) = refusal.filter(|_| !taken) {
            self.wait_for(Waiting::NotTaken { error: error.to_string() });
        }
        Ok(())
    }

    fn sign(&self, intent: &Intent, nonce: u64, gas_limit: u64, fees: Fees, price: Price) -> Attempt {
        let to = intent.to.map_or(TxKind::Create, TxKind::Call);
        let (value, input) = (intent.value, intent.data.clone());
        let signed = match price {
            Price::Market { .. } => {
                let tx = TxEip1559 {
                    chain_id: self.chain_id,
                    nonce,
                    gas_limit,
                    max_fee_per_gas: fees.max_fee,
                    max_priority_fee_per_gas: fees.tip,
                    to,
                    value,
                    access_list: Default::default(),
                    input,
                };
                let signature = self.key.sign_hash(&tx.signature_hash());
                TxEnvelope::from(tx.into_signed(signature))
            }
            Price::Legacy { .. } => {
                let chain_id = Some(self.chain_id);
                let tx = TxLegacy { chain_id, nonce, gas_price: fees.max_fee, gas_limit, to, value, input };
                let signature = self.key.sign_hash(&tx.signature_hash());
                TxEnvelope::from(tx.into_signed(signature))
            }
        };
        Attempt { hash: *signed.tx_hash(), raw: signed.encoded_2718(), gas_limit, fees }
    }

    /// Drops an intent that was never sent, and tells why.
    fn forget(&mut self, seq: u64, why: impl FnOnce(String) -> SendError) -> Result<(), Trouble> {
        let Some(entry) = self.open.get(&seq) else { return Ok(()) };
        let id = entry.intent.id.clone();
        store::forget(&self.journal, &id)?;
        self.open.remove(&seq);
        let mut replies = self.waiters.remove(&id).unwrap_or_default().into_iter();
        if let Some(first) = replies.next() {
            drop(first.send(Err(why(id.clone()))));
        }
        replies.for_each(|r| drop(r.send(Err(SendError::Stopped { id: id.clone() }))));
        Ok(())
    }

    fn wait_for(&mut self, waiting: Waiting) {
        // Prices change all the time; that is no news.
        let news = self.waiting.as_ref().map(std::mem::discriminant) != Some(std::mem::discriminant(&waiting));
        if news {
            warn!(wallet = %self.key.address(), "{waiting}");
        }
        self.waiting = Some(waiting);
    }

    fn tell(&self, stopped: Option<KeyInUse>) {
        let sent = self.open.values().filter(|e| e.sent.is_some()).count();
        let (waiting, out_of_gas) = (self.waiting.clone(), self.out_of_gas.clone());
        let status = Status { open: self.open.len(), sent, waiting, out_of_gas, stopped };
        self.publish.send_if_modified(|old| {
            let changed = *old != status;
            if changed {
                *old = status;
            }
            changed
        });
    }

    /// The wallet.
    pub fn address(&self) -> Address {
        self.key.address()
    }

    /// Tells of every change of the status, until the loop ends.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.publish.subscribe()
    }
}

/// The highest price in wei that so much gas can have where a wallet has `ether` for it and for what it pays.
fn affordable(ether: U256, value: U256, gas_limit: u64) -> u128 {
    let price = ether.saturating_sub(value) / U256::from(gas_limit.max(1));
    if ether < value { 0 } else { price.saturating_to() }
}

/// The most that so much gas can take at these prices, in wei.
fn cost(gas_limit: u64, fees: Fees) -> U256 {
    U256::from(gas_limit) * U256::from(fees.max_fee)
}

/// Tells those who asked for a name how it ended.
fn answer(replies: Vec<Reply>, outcome: &store::Outcome, id: &str) {
    for reply in replies {
        // Who asked may have gone.
        drop(reply.send(outcome.clone().into_result(id)));
    }
}
