//! The loop that sends: looks after what is on its way, then sends what is not.
//!
//! A round asks the node for its newest block. Only when that changed it asks for the wallet's nonce, and only for what
//! the nonce has passed it asks for receipts.
//!
//! An outcome is watched while a reorg may take it back. One that lies deeper is believed until somebody asks for its name
//! again: then it is looked whether it is still on the chain.

mod again;
mod outcome;

use super::{
    Command, KeyInUse, OutOfGas, Reply, SendError, Status, Waiting,
    store::{self, Attempt, Intent, Mined, Open},
    strangers::Strangers,
    tag,
};
use crate::{
    PrivateKeySigner,
    client::{Client, Error, Head, Header, Price},
    gas::{self, Fees, GasPolicy, OverCap},
};
use again::Hole;
use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope, TxLegacy},
    eips::eip2718::Encodable2718,
    primitives::{Address, B256, TxKind, U256},
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
use tracing::{debug, warn};

/// The longest pause while the chain cannot be read, or while what is done is only watched.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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
    guest: bool,
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
    /// The nonce that ours takes next if nobody else sends; `None` before the first look.
    expected: Option<u64>,
    /// What was read after a block: ether of the wallet, and the price of gas.
    balance: Option<(B256, U256)>,
    priced: Option<(B256, Price)>,
    /// Blocks come with the transactions: the receipt is there at once.
    at_once: bool,
    strangers: Strangers,
    /// The wallet's next nonce, with all that waited in the node at the first look and may wait there yet.
    there: u64,
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
            guest: false,
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
            there: 0,
            hole: None,
            started: false,
            waiting: None,
            out_of_gas: None,
        })
    }

    /// The sender of a command that ends soon, on a key that another process may live from: neither stops for the other's
    /// sake.
    pub fn as_guest(self) -> Self {
        Self { guest: true, ..self }
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
        self.tag = tag::of(self.client.tag().unwrap_or(kept), self.guest);
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
        if !self.strangers.has_begun() {
            self.there = self.client.pending_nonce(self.key.address()).await?;
            self.strangers.begin(self.there, self.client.now(&header.head));
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

    /// The nonce after all of ours.
    fn own_next(&self) -> u64 {
        let sent = self.open.values().filter_map(|e| e.sent.as_ref()).map(|s| s.nonce + 1).max();
        let mined = self.mined.values().map(|m| m.nonce + 1).max();
        sent.max(mined).unwrap_or(0)
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
        if self.started || self.there <= known {
            self.started = true;
            return Ok(true);
        }
        // The node may have lost some.
        self.there = self.there.min(self.client.pending_nonce(self.key.address()).await?);
        self.started = self.there <= known;
        if !self.started && self.held_up(head, nonce).is_to_be_replaced(head) {
            warn!(wallet = %self.key.address(), nonce, "what waits in the node since before the start does not get into a block: replacing it");
            self.started = true;
        }
        if !self.started {
            self.wait_for(Waiting::Foreign { count: self.there - known });
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
