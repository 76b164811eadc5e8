//! What waits too long: it is handed in again, at a higher fee, and what holds it up is replaced.

use super::{Entry, SenderLoop, Sent, Trouble, affordable, cost};
use crate::{
    client::{Error, Head, Header},
    gas::{self, AtCap, OverCap},
    sender::{
        OutOfGas, Waiting,
        store::{self, Intent},
        tag,
    },
};
use alloy::primitives::{Bytes, U256};
use bourse_service::defect::{Defect, planted};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// An unmined transaction is handed to the nodes again after this time, whether they know it or not.
const REBROADCAST: Duration = Duration::from_secs(10);
/// Of those that a new block has not taken, so many are asked for: one that the node has lost is handed in again at once.
const ASKED_FOR: usize = 4;
/// And the first in line gets a higher fee after this time, each time anew.
const BUMP: Duration = Duration::from_secs(30);
/// A nonce that nobody uses and that ours wait for is filled after this time.
const HOLE_AFTER: Duration = Duration::from_secs(10);
/// Another's transaction that ours wait for is replaced after this time,
const REPLACE_AFTER: Duration = Duration::from_secs(300);
/// and so many blocks that did not take it: who sent it may live no more, and its fee would never be raised.
const REPLACE_AFTER_BLOCKS: u64 = 20;
/// The name of a transaction that does nothing but use a nonce.
pub(super) const FILL: &str = "(fill)";

/// A nonce that holds ours up and is not ours: nobody uses it, or another's transaction waits there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole {
    nonce: u64,
    /// When it was first seen, and after which block.
    since: Instant,
    block: u64,
}

impl Hole {
    /// Whether what waits there has had its time. While no block comes, it is not its fault.
    pub(super) fn is_to_be_replaced(&self, head: &Head) -> bool {
        self.since.elapsed() >= REPLACE_AFTER && head.number >= self.block + REPLACE_AFTER_BLOCKS
    }
}

impl SenderLoop {
    /// Looks which of the first in line the new block has not taken because the node has lost them.
    pub(super) async fn miss(&mut self, nonce: u64) {
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
    pub(super) async fn hand_in_again(&mut self, header: &Header, nonce: u64) -> Result<(), Trouble> {
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
    pub(super) fn spoken_for(&self, except: u64) -> U256 {
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
    pub(super) fn held_up(&mut self, head: &Head, nonce: u64) -> Hole {
        let new = Hole { nonce, since: Instant::now(), block: head.number };
        *self.hole.insert(self.hole.filter(|hole| hole.nonce == nonce).unwrap_or(new))
    }
}
