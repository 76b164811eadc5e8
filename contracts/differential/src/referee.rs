//! The Rust rules of `bourse-protocol`, asked before each step what it should do and compared with what it did.
//!
//! Judged on our side: which four orders match and why not, what a match locks, deadlines, votes and consensus, shares,
//! scores, the kitty, refunds.

use crate::bench::{Bench, KITTY};
use crate::calls::call;
use crate::machine::Outcome;
use crate::step::Step;
use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{SolCall, SolEvent};
use bourse_protocol::abi::{self, IHub};
use bourse_protocol::api::Match;
use bourse_protocol::book::{self, Facts, Kind, Mismatch, Standing};
use bourse_protocol::consensus::{self, Votes};
use bourse_protocol::deal::{ChainTask, Deal, REVEAL_PERIODS, TaskStatus};
use bourse_protocol::ids::{DealId, TaskId};
use bourse_protocol::money::Nrlc;
use bourse_protocol::orders::Order;
use bourse_protocol::reward::{self, Entry, Penalty};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What is wrong.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Which rule.
    pub rule: &'static str,
    /// What it says and what happened.
    pub text: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the Rust rule of {} says otherwise: {}", self.rule, self.text)
    }
}

/// See the module.
pub struct Referee {
    penalty: Penalty,
    before: Option<Before>,
    matching: Option<Result<U256, Refusal>>,
    /// The weight that each vote was cast with.
    weights: BTreeMap<(B256, Address), U256>,
    /// How often each rule was asked and agreed.
    pub judged: BTreeMap<&'static str, u64>,
}

/// Why the rules refuse a match, as far as the contract says the same.
#[derive(Clone, Debug)]
enum Refusal {
    /// With this code.
    Code(u8),
    /// Somehow: a signature with no form, an address without code, money.
    Somehow(&'static str),
}

/// What the chain said before a step on a task.
struct Before {
    task: abi::Task,
    chain: ChainTask,
    deal: Deal,
    terms: abi::Deal,
    scores: BTreeMap<Address, U256>,
    accounts: BTreeMap<Address, abi::Account>,
    contributions: BTreeMap<Address, abi::Contribution>,
    kitty: U256,
}

const CONTRIBUTED: u8 = 1;
const PROVED: u8 = 2;

impl Referee {
    /// A referee for contracts with this penalty.
    pub fn new(penalty: Penalty) -> Self {
        Self { penalty, before: None, matching: None, weights: BTreeMap::new(), judged: BTreeMap::new() }
    }

    /// Takes note of what is there before a step.
    pub fn look(&mut self, bench: &mut Bench, step: &Step) {
        self.before = None;
        self.matching =
            step.orders.as_ref().map(|orders| rule_on_match(bench, orders, step.call.from, &step.call.data));
        if step.call.to != bench.system.hub || step.dry {
            return;
        }
        let head: [u8; 4] = step.call.data.get(..4).and_then(|h| h.try_into().ok()).unwrap_or_default();
        let single = [
            IHub::contributeCall::SELECTOR,
            IHub::contributeAndFinalizeCall::SELECTOR,
            IHub::revealCall::SELECTOR,
            IHub::reopenCall::SELECTOR,
            IHub::finalizeCall::SELECTOR,
            IHub::claimCall::SELECTOR,
        ];
        if single.contains(&head) && step.call.data.len() >= 36 {
            let id = B256::from_slice(&step.call.data[4..36]);
            self.before = Before::read(bench, id, step.call.from);
        }
    }

    /// Compares what happened with the rules.
    pub fn judge(&mut self, bench: &mut Bench, step: &Step, outcome: &Outcome, kept: bool) -> Result<(), Verdict> {
        self.judge_matching(bench, outcome)?;
        if outcome.ok() && kept {
            self.judge_matches(bench, outcome)?;
            judge_starts(bench, outcome)?;
        }
        let Some(before) = self.before.take() else { return Ok(()) };
        let head: [u8; 4] = step.call.data[..4].try_into().unwrap_or_default();
        let case = Case { penalty: self.penalty, before: &before, weights: &self.weights, step, outcome, kept };
        let rule = match head {
            IHub::contributeCall::SELECTOR => case.contribute(bench).map(|()| "contribute"),
            IHub::contributeAndFinalizeCall::SELECTOR => case.single(bench).map(|()| "contributeAndFinalize"),
            IHub::revealCall::SELECTOR => case.reveal().map(|()| "reveal"),
            IHub::reopenCall::SELECTOR => case.reopen().map(|()| "reopen"),
            IHub::finalizeCall::SELECTOR => case.finalize(bench).map(|()| "finalize"),
            _ => case.claim(bench).map(|()| "claim"),
        }?;
        if outcome.ok() && kept {
            *self.judged.entry(rule).or_default() += 1;
            if rule == "contribute" {
                let worker = step.call.from;
                self.weights.insert((before.chain.id.0, worker), consensus::weight(before.scores[&worker]));
            }
        }
        Ok(())
    }

    /// The rules and the contract agree on whether four orders match, and on why not.
    fn judge_matching(&mut self, bench: &mut Bench, outcome: &Outcome) -> Result<(), Verdict> {
        let Some(ruling) = self.matching.take() else { return Ok(()) };
        let said = if outcome.ok() { "a deal".to_owned() } else { bench.coverage.reason(outcome) };
        let agree = match &ruling {
            Ok(volume) => {
                let matched: Vec<IHub::OrdersMatched> = events(bench.system.hub, outcome);
                matched.first().is_some_and(|m| m.volume == *volume)
            }
            Err(Refusal::Code(code)) => said == format!("iExecV5-matchOrders-{code:#04x}"),
            Err(Refusal::Somehow(text)) => !outcome.ok() && (said == *text || text.is_empty()),
        };
        if !agree {
            return Err(Verdict { rule: "matching", text: format!("wanted {ruling:?}, the contract says {said}") });
        }
        let name = if ruling.is_ok() { "match" } else { "no match" };
        *self.judged.entry(name).or_default() += 1;
        Ok(())
    }

    /// A deal locks what its price and volume say.
    fn judge_matches(&self, bench: &mut Bench, outcome: &Outcome) -> Result<(), Verdict> {
        let hub = bench.system.hub;
        let locks: Vec<IHub::Lock> = events(hub, outcome);
        for matched in events::<IHub::OrdersMatched>(hub, outcome) {
            let terms = ask(bench, IHub::viewDealCall { dealid: matched.dealid });
            let expected = DealId::of(matched.requestHash.into(), terms.botFirst);
            demand("deal ids", &expected.0, &matched.dealid)?;
            let id = DealId(matched.dealid);
            let Some(deal) = Deal::read(id, terms) else { return Err(wrong("deals", "the deal cannot be read")) };
            let payment = deal.price().and_then(|p| p.checked_mul(deal.bot_size));
            let stake =
                bourse_protocol::book::pool_lock(deal.workerpool.price).and_then(|p| p.checked_mul(deal.bot_size));
            let seen: Vec<_> = locks.iter().map(|l| (l.owner, Some(Nrlc(l.amount)))).collect();
            let wanted = vec![(deal.sponsor, payment), (deal.workerpool.owner, stake)];
            demand("locks of a match", &wanted, &seen)?;
            demand("start of a deal", &bench.now(), &deal.start_time)?;
        }
        Ok(())
    }
}

/// What the rules say of four orders, from what the chain says of them.
fn rule_on_match(bench: &mut Bench, orders: &Match, from: Address, data: &[u8]) -> Result<U256, Refusal> {
    let domain = bourse_protocol::orders::domain(crate::machine::CHAIN_ID, bench.system.hub);
    let sponsored = data.get(..4) != Some(&IHub::matchOrdersCall::SELECTOR);
    let payer = if sponsored { from } else { orders.request.requester };
    let mut formless = [false; 4];
    let mut codeless = [false; 3];
    let registries = bench.system.registries();
    let hashes = [
        orders.app.hash(&domain).0,
        orders.dataset.hash(&domain).0,
        orders.workerpool.hash(&domain).0,
        orders.request.hash(&domain).0,
    ];
    let assets = [orders.app.app, orders.dataset.dataset, orders.workerpool.workerpool];
    let signs = [&orders.app.sign, &orders.dataset.sign, &orders.workerpool.sign, &orders.request.sign];
    let mut standings = Vec::new();
    for kind in 0..4 {
        let owner = match assets.get(kind) {
            Some(asset) => {
                let owner = bench.ours().view(*asset, crate::calls::bare("owner()"));
                codeless[kind] = owner.output.len() < 32;
                let known = bench.ours().view(registries[kind], call("isRegistered(address)", (*asset,)));
                let registered = known.output.last() == Some(&1);
                registered.then(|| Address::from_slice(&owner.output[12..32]))
            }
            None => Some(orders.request.requester),
        };
        let question = (owner.unwrap_or_default(), hashes[kind], signs[kind].clone());
        let hub = bench.system.hub;
        let signed = bench.ours().view(hub, call("verifyPresignatureOrSignature(address,bytes32,bytes)", question));
        formless[kind] = !signed.ok();
        let consumed = bench.ours().view(hub, call("viewConsumed(bytes32)", (hashes[kind],)));
        let consumed = U256::from_be_slice(&consumed.output);
        standings.push(Standing { owner, signed: signed.ok() && signed.output.last() == Some(&1), consumed });
    }
    let pool_owner = standings[2].owner.unwrap_or_default();
    let stake = |bench: &mut Bench, who| Nrlc(ask(bench, IHub::viewAccountCall { account: who }).stake);
    let admits = |bench: &mut Bench, group: Address, member: Address| {
        let question = call("keyHasPurpose(bytes32,uint256)", (member.into_word(), U256::from(4)));
        let answer = bench.ours().view(group, question);
        answer.ok() && answer.output.len() >= 32 && U256::from_be_slice(&answer.output[..32]) == U256::from(1)
    };
    let memberships = book::memberships(orders).into_iter().filter(|(g, m)| admits(bench, *g, *m)).collect();
    let facts = Facts {
        categories: bench_categories(bench),
        app: standings[0],
        dataset: standings[1],
        workerpool: standings[2],
        request: standings[3],
        requester_stake: stake(bench, payer),
        pool_owner_stake: stake(bench, pool_owner),
        memberships,
    };
    book::check_match(orders, &facts).map_err(|mismatch| refusal(&mismatch, formless, codeless))
}

fn bench_categories(bench: &mut Bench) -> U256 {
    ask(bench, IHub::countCategoryCall {})
}

fn refusal(mismatch: &Mismatch, formless: [bool; 4], codeless: [bool; 3]) -> Refusal {
    let place = |kind: &Kind| match kind {
        Kind::App => 0,
        Kind::Dataset => 1,
        Kind::Workerpool => 2,
        Kind::Request => 3,
    };
    match mismatch {
        Mismatch::NotSigned { kind, .. } if formless[place(kind)] => Refusal::Somehow("invalid-signature-format"),
        Mismatch::NotRegistered { kind, .. } if codeless[place(kind)] => Refusal::Somehow(""),
        Mismatch::Stake { .. } => Refusal::Somehow("IexecEscrow: Transfer amount exceeds balance"),
        Mismatch::Overflow => Refusal::Somehow("panic 0x11"),
        other => other.revert_code().map_or(Refusal::Somehow(""), Refusal::Code),
    }
}

/// A task's deadlines follow from its deal.
fn judge_starts(bench: &mut Bench, outcome: &Outcome) -> Result<(), Verdict> {
    let hub = bench.system.hub;
    for started in events::<IHub::TaskInitialize>(hub, outcome) {
        let Some(before) = Before::read(bench, started.taskid, Address::ZERO) else {
            return Err(wrong("tasks", "an initialised task cannot be read"));
        };
        let period: u64 = before.task.timeref.saturating_to();
        demand("task ids", &TaskId::of(before.deal.id, before.task.idx).0, &started.taskid)?;
        demand(
            "contribution deadline",
            &before.deal.contribution_deadline(period),
            &before.chain.contribution_deadline,
        )?;
        demand("final deadline", &before.deal.final_deadline(period), &before.chain.final_deadline)?;
    }
    Ok(())
}

impl Before {
    fn read(bench: &mut Bench, id: B256, caller: Address) -> Option<Self> {
        let task = ask(bench, IHub::viewTaskCall { taskid: id });
        let chain = ChainTask::read(TaskId(id), task.clone())?;
        let terms = ask(bench, IHub::viewDealCall { dealid: task.dealid });
        let deal = Deal::read(DealId(task.dealid), terms.clone())?;
        let mut people: BTreeSet<Address> = task.contributors.iter().copied().collect();
        people.extend([caller, deal.sponsor, deal.app.owner, deal.workerpool.owner]);
        people.extend(deal.dataset.as_ref().map(|d| d.owner));
        let mut before = Self {
            task,
            chain,
            deal,
            terms,
            scores: BTreeMap::new(),
            accounts: BTreeMap::new(),
            contributions: BTreeMap::new(),
            kitty: ask(bench, IHub::frozenOfCall { account: KITTY }),
        };
        for who in people {
            before.scores.insert(who, ask(bench, IHub::viewScoreCall { worker: who }));
            before.accounts.insert(who, ask(bench, IHub::viewAccountCall { account: who }));
            before.contributions.insert(who, ask(bench, IHub::viewContributionCall { taskid: id, worker: who }));
        }
        Some(before)
    }
}

/// One step on one task.
struct Case<'a> {
    penalty: Penalty,
    before: &'a Before,
    weights: &'a BTreeMap<(B256, Address), U256>,
    step: &'a Step,
    outcome: &'a Outcome,
    kept: bool,
}

/// Changes of what somebody has free and locked: (got, gave) each.
#[derive(Default)]
struct Ledger(BTreeMap<Address, [Nrlc; 4]>);

impl Ledger {
    fn add(&mut self, who: Address, column: usize, amount: Nrlc) {
        let row = self.0.entry(who).or_default();
        row[column] = row[column].checked_add(amount).expect("amounts are far below 2^256");
    }

    fn lock(&mut self, who: Address, amount: Nrlc) {
        self.add(who, 1, amount);
        self.add(who, 2, amount);
    }

    fn unlock(&mut self, who: Address, amount: Nrlc) {
        self.add(who, 0, amount);
        self.add(who, 3, amount);
    }

    fn reward(&mut self, who: Address, amount: Nrlc) {
        self.add(who, 0, amount);
    }

    fn seize(&mut self, who: Address, amount: Nrlc) {
        self.add(who, 3, amount);
    }

    fn check(&self, bench: &mut Bench, before: &Before) -> Result<(), Verdict> {
        for (who, old) in &before.accounts {
            let [got, gave, locked, freed] = self.0.get(who).copied().unwrap_or_default();
            let wanted = (old.stake + got.0 - gave.0, old.locked + locked.0 - freed.0);
            let now = ask(bench, IHub::viewAccountCall { account: *who });
            demand("money", &(who, wanted), &(who, (now.stake, now.locked)))?;
        }
        Ok(())
    }
}

impl Case<'_> {
    fn now(&self) -> u64 {
        self.step.at
    }

    fn active(&self) -> bool {
        self.before.chain.status == TaskStatus::Active
    }

    fn revealing(&self) -> bool {
        self.before.chain.status == TaskStatus::Revealing
    }

    fn word(&self, index: usize) -> B256 {
        B256::from_slice(&self.step.call.data[4 + 32 * index..36 + 32 * index])
    }

    /// What succeeded must have been allowed.
    fn allowed(&self, rule: &'static str, allowed: bool) -> Result<(), Verdict> {
        match self.outcome.ok() && !allowed {
            true => Err(wrong(rule, "it succeeded and should not have")),
            false => Ok(()),
        }
    }

    /// What is allowed by time and state and asked for rightly must succeed, and the other way round.
    fn exactly(&self, rule: &'static str, allowed: bool) -> Result<(), Verdict> {
        match self.outcome.ok() == allowed {
            true => Ok(()),
            false => Err(wrong(rule, &format!("allowed: {allowed}, succeeded: {}", self.outcome.ok()))),
        }
    }

    /// Votes that count now.
    fn votes(&self) -> Votes {
        let mut votes = Votes::default();
        for worker in &self.before.task.contributors {
            let c = &self.before.contributions[worker];
            if c.status == CONTRIBUTED || c.status == PROVED {
                votes.add(c.resultHash, self.weights[&(self.before.chain.id.0, *worker)]);
            }
        }
        votes
    }

    fn contribute(&self, bench: &mut Bench) -> Result<(), Verdict> {
        let before = self.before;
        let in_time =
            self.active() && self.now() < before.deal.contribution_deadline(before.task.timeref.saturating_to());
        self.allowed("contribution time", in_time)?;
        if !self.outcome.ok() || !self.kept {
            return Ok(());
        }
        let (worker, hash) = (self.step.call.from, self.word(1));
        let score = before.scores[&worker];
        let made = ask(bench, IHub::viewContributionCall { taskid: before.chain.id.0, worker });
        demand("reward weight", &U256::from(consensus::reward_weight(score)), &made.weight)?;
        let mut ledger = Ledger::default();
        ledger.lock(worker, before.deal.worker_stake);
        ledger.check(bench, before)?;
        let mut votes = self.votes();
        votes.add(hash, consensus::weight(score));
        let reached = votes.reached(hash, before.deal.trust);
        let announced: Vec<IHub::TaskConsensus> = events(bench.system.hub, self.outcome);
        demand("consensus", &reached, &!announced.is_empty())?;
        if reached {
            let task = ask(bench, IHub::viewTaskCall { taskid: before.chain.id.0 });
            let deadline = self.now() + REVEAL_PERIODS * before.task.timeref.saturating_to::<u64>();
            demand("reveal deadline", &U256::from(deadline), &task.revealDeadline)?;
        }
        Ok(())
    }

    fn single(&self, bench: &mut Bench) -> Result<(), Verdict> {
        let before = self.before;
        let in_time =
            self.active() && self.now() < before.deal.contribution_deadline(before.task.timeref.saturating_to());
        let alone = before.task.contributors.is_empty() && before.deal.trust == U256::from(1);
        self.allowed("contribute and finalize", in_time && alone)?;
        if !self.outcome.ok() || !self.kept {
            return Ok(());
        }
        let worker = self.step.call.from;
        let entries = [Entry { worker, proved: true, reward_weight: 1 }];
        let mut ledger = self.success();
        self.share(&mut ledger, Nrlc::ZERO, &entries)?;
        ledger.check(bench, before)?;
        let score = ask(bench, IHub::viewScoreCall { worker });
        demand("score of a lone worker", &reward::score_after(before.scores[&worker], true, 1, self.penalty), &score)
    }

    fn reveal(&self) -> Result<(), Verdict> {
        self.allowed("reveal time", self.revealing() && self.now() < self.before.chain.reveal_deadline)
    }

    fn reopen(&self) -> Result<(), Verdict> {
        let chain = &self.before.chain;
        let scheduler = self.step.call.from == self.before.deal.workerpool.owner;
        let due = self.revealing() && self.now() >= chain.reveal_deadline && chain.revealed == 0;
        self.exactly("reopen", scheduler && due && self.now() < chain.final_deadline)
    }

    fn finalize(&self, bench: &mut Bench) -> Result<(), Verdict> {
        let before = self.before;
        let chain = &before.chain;
        let scheduler = self.step.call.from == before.deal.workerpool.owner;
        let complete = chain.revealed == chain.winners;
        let late = chain.revealed > 0 && self.now() >= chain.reveal_deadline;
        let due = self.revealing() && (complete || late) && self.now() < chain.final_deadline;
        self.allowed("finalize", scheduler && due)?;
        if !self.outcome.ok() || !self.kept {
            return Ok(());
        }
        let entry = |worker: &Address| {
            let c = &before.contributions[worker];
            Entry { worker: *worker, proved: c.status == PROVED, reward_weight: c.weight.saturating_to() }
        };
        let entries: Vec<Entry> = before.task.contributors.iter().map(entry).collect();
        let mut ledger = self.success();
        self.share(&mut ledger, before.deal.worker_stake, &entries)?;
        ledger.check(bench, before)?;
        for entry in &entries {
            let old = before.scores[&entry.worker];
            let wanted = reward::score_after(old, entry.proved, entries.len(), self.penalty);
            let score = ask(bench, IHub::viewScoreCall { worker: entry.worker });
            demand("score", &(entry.worker, wanted), &(entry.worker, score))?;
        }
        Ok(())
    }

    /// What every completed task moves, apart from the shares.
    fn success(&self) -> Ledger {
        let deal = &self.before.deal;
        let mut ledger = Ledger::default();
        ledger.seize(deal.sponsor, deal.price().unwrap_or_default());
        ledger.reward(deal.app.owner, deal.app.price);
        if let Some(dataset) = &deal.dataset {
            ledger.reward(dataset.owner, dataset.price);
        }
        let stake = bourse_protocol::book::pool_lock(deal.workerpool.price).unwrap_or_default();
        ledger.unlock(deal.workerpool.owner, stake);
        ledger.reward(deal.workerpool.owner, reward::kitty_payout(Nrlc(self.before.kitty)));
        ledger
    }

    fn share(&self, ledger: &mut Ledger, stake: Nrlc, entries: &[Entry]) -> Result<(), Verdict> {
        let deal = &self.before.deal;
        let shares = reward::shares(deal.workerpool.price, stake, deal.scheduler_percent, entries)
            .ok_or_else(|| wrong("shares", "there are none"))?;
        for (entry, share) in entries.iter().zip(&shares.workers) {
            match entry.proved {
                true => ledger.unlock(entry.worker, stake),
                false => ledger.seize(entry.worker, stake),
            }
            ledger.reward(entry.worker, *share);
        }
        ledger.reward(deal.workerpool.owner, shares.scheduler);
        Ok(())
    }

    fn claim(&self, bench: &mut Bench) -> Result<(), Verdict> {
        let before = self.before;
        let open = self.active() || self.revealing();
        self.exactly("claim", open && self.now() >= before.chain.final_deadline)?;
        if !self.outcome.ok() || !self.kept {
            return Ok(());
        }
        let deal = &before.deal;
        let mut ledger = Ledger::default();
        ledger.unlock(deal.sponsor, deal.price().unwrap_or_default());
        let stake = bourse_protocol::book::pool_lock(deal.workerpool.price).unwrap_or_default();
        ledger.seize(deal.workerpool.owner, stake);
        for worker in &before.task.contributors {
            ledger.unlock(*worker, deal.worker_stake);
        }
        ledger.check(bench, before)?;
        let kitty = ask(bench, IHub::frozenOfCall { account: KITTY });
        demand("kitty", &(before.kitty + stake.0), &kitty)?;
        demand("deal", &before.terms, &ask(bench, IHub::viewDealCall { dealid: before.task.dealid }))
    }
}

fn ask<C: SolCall>(bench: &mut Bench, question: C) -> C::Return {
    let hub = bench.system.hub;
    let answer = bench.ours().view(hub, question.abi_encode().into());
    C::abi_decode_returns(&answer.output).expect("the hub answers as its interface says")
}

fn events<E: SolEvent>(hub: Address, outcome: &Outcome) -> Vec<E> {
    let of_hub = outcome.logs.iter().filter(|l| l.address == hub);
    of_hub.filter_map(|l| E::decode_log_data(&l.data).ok()).collect()
}

fn wrong(rule: &'static str, text: &str) -> Verdict {
    Verdict { rule, text: text.to_owned() }
}

fn demand<T: PartialEq + fmt::Debug>(rule: &'static str, wanted: &T, found: &T) -> Result<(), Verdict> {
    match wanted == found {
        true => Ok(()),
        false => Err(Verdict { rule, text: format!("wanted {wanted:?}, found {found:?}") }),
    }
}
