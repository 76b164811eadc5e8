//! What became of what was sent: in a block, in none any more, or its nonce taken by somebody else.

use super::{Entry, SenderLoop, Trouble, again::FILL};
use crate::{
    answers::{SentAt, TransactionReceipt},
    client::{Error, Head},
    revert::Revert,
    sender::{
        KeyInUse, Receipt, Reply, Waiting,
        store::{self, Mined},
        strangers::{self, Stranger},
        tag,
    },
};
use alloy::primitives::{B256, U256};
use tracing::{debug, info, warn};

/// So often a used nonce must be seen without a receipt before it is asked who used it: nodes show receipts late.
const LOST_AFTER: u32 = 5;
/// Blocks above a transaction after which it is no longer watched.
const WATCHED: u64 = 64;

impl SenderLoop {
    /// Whether the blocks of what is done are still part of the chain; what is not goes on its way again.
    pub(super) async fn check_mined(&mut self, head: &Head) -> Result<(), Trouble> {
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
    pub(super) async fn confirm(&mut self, head: &Head) -> Result<(), Trouble> {
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
    pub(super) async fn follow(&mut self, head: &Head, nonce: u64) -> Result<(), Trouble> {
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
    pub(super) async fn take(&mut self, seq: u64, receipt: TransactionReceipt, head: &Head) -> Result<(), Trouble> {
        let (Some(block), Some(block_hash)) = (receipt.block_number, receipt.block_hash) else {
            let what = format!("the receipt of {}", receipt.transaction_hash);
            return Err(Error::Nonsense { node: self.client.node().into(), what }.into());
        };
        if block.saturating_sub(head.number) > WATCHED {
            let what = format!("block {block} of {}, as the newest is {}", receipt.transaction_hash, head.number);
            return Err(Error::Nonsense { node: self.client.node().into(), what }.into());
        }
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
        self.strangers.got_through(self.tag);
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
        let taken = match self.client.transaction_at(self.key.address(), nonce, *head).await {
            Err(error) if !error.is_transient() => {
                debug!(%id, nonce, %error, "cannot read who used a nonce of our wallet");
                None
            }
            taken => taken?,
        };
        match taken {
            Some(taken) if ours.contains(&taken.hash) => return Ok(()),
            Some(taken) if store::signed(&self.journal, taken.hash)? => {
                warn!(%id, nonce, by = %taken.hash, "a transaction of ours took this nonce on another branch: sending again");
            }
            Some(taken) => {
                warn!(%id, nonce, by = %taken.hash, "another transaction took this nonce: sending again");
                self.stranger(nonce, taken, head)?;
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

    /// Looks whether somebody else used nonces that would have been ours next, also while nothing was to be sent.
    pub(super) async fn notice_strangers(&mut self, head: &Head, nonce: u64) -> Result<(), Trouble> {
        let ours = self.own_next();
        let expected = self.expected.unwrap_or(nonce).max(ours);
        self.strangers.mend_start(self.client.now(head));
        self.expected = Some(expected.max(nonce));
        for taken in (expected..nonce).rev().take(strangers::LOOKED_AT) {
            match self.client.transaction_at(self.key.address(), taken, *head).await {
                // Known from before a reorg.
                Ok(Some(its)) if store::signed(&self.journal, its.hash)? => {}
                Ok(Some(its)) => self.stranger(taken, its, head)?,
                Ok(None) => {}
                // Who lives sends more. What cannot be read, such as old blocks, keeps nothing waiting.
                Err(error) => {
                    debug!(nonce = taken, %error, "cannot read who used a nonce of our wallet");
                    break;
                }
            }
        }
        Ok(())
    }

    /// Somebody else sent a transaction from our key. If both live from it, one of the two stops; guests and other software
    /// are put up with.
    fn stranger(&mut self, nonce: u64, its: SentAt, head: &Head) -> Result<(), Trouble> {
        let (wallet, SentAt { hash, gas_limit, time }) = (self.key.address(), its);
        if self.strangers.is_former(nonce, time) {
            info!(%wallet, nonce, %hash, "a transaction that may have been sent before this process began is in a block");
            return Ok(());
        }
        let tag = tag::read(gas_limit, nonce);
        if let Err(tag) = tag {
            self.strangers.discard(tag);
        }
        let Some(tag) = tag.ok().filter(|tag| !self.guest && !tag::is_guest(*tag)) else {
            warn!(%wallet, nonce, %hash, "a transaction that is not ours was sent from our wallet");
            return Ok(());
        };
        warn!(%wallet, nonce, %hash, tag, "another process sends from our wallet");
        if !self.strangers.saw(self.tag, Stranger { tag, nonce, time }, head.timestamp) {
            return Ok(());
        }
        if self.tag == tag {
            // Chosen alike by chance: each takes what it has seen of the other one, and what both have sent before does not count.
            self.tag = tag::of(hash.0[31], false);
            self.strangers.begin(self.own_next().max(nonce + 1), self.client.now(head));
            return Ok(());
        }
        let evidence = format!("transaction {hash} has nonce {nonce} and is not ours");
        Err(Trouble::KeyInUse(KeyInUse { wallet, evidence }))
    }
}

/// Tells those who asked for a name how it ended.
pub(super) fn answer(replies: Vec<Reply>, outcome: &store::Outcome, id: &str) {
    for reply in replies {
        // Who asked may have gone.
        drop(reply.send(outcome.clone().into_result(id)));
    }
}
