//! Random life cycles: what happens next, from a seed and from what happened before.
//!
//! A life chooses its steps by what it knows of the chain; it learns from how they ended. The same seed makes the same
//! choices as long as the same steps succeed.

mod assets;
mod matching;
mod money;
mod office;
mod orders;
mod work;

use crate::actors::{Actor, Cast};
use crate::bench::Bench;
use crate::deploy::System;
use crate::machine::{CHAIN_ID, Call, Outcome};
use crate::step::{self, Step};
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{Eip712Domain, SolEvent};
use bourse_protocol::abi::IHub;
use bourse_protocol::api::Match;
use bourse_protocol::ids::{DealId, TaskId};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

pub use assets::found;
pub use work::veterans;

/// A deal as its life remembers it.
#[derive(Clone, Debug)]
pub struct Bargain {
    /// Its id.
    pub id: B256,
    /// Its orders.
    pub orders: Match,
}

/// A task as its life remembers it.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id.
    pub id: B256,
    /// Its deal.
    pub deal: B256,
    /// Its index.
    pub index: U256,
    /// What each contributor voted for: the number of an answer.
    pub votes: BTreeMap<Address, u8>,
    /// How often it was the subject of a step after its end.
    pub stale: u32,
}

/// What to remember when a step succeeds.
#[derive(Clone, Debug)]
pub enum Memo {
    /// Nothing.
    None,
    /// Four orders were matched.
    Matched(Box<Match>),
    /// Somebody voted.
    Voted {
        /// On which task.
        task: B256,
        /// Who.
        worker: Address,
        /// Number of the answer.
        answer: u8,
    },
    /// An asset of kind 0 (app), 1 (dataset) or 2 (pool) was created.
    Created(usize),
    /// Somebody else, or again the scheduler, authorizes enclaves.
    Broker(Option<Address>),
}

/// A step and what to remember of it.
pub type Plan = (Step, Memo);

/// See the module.
pub struct Life {
    rng: StdRng,
    /// Who takes part.
    pub cast: Cast,
    /// Where.
    pub system: System,
    domain: Eip712Domain,
    queue: VecDeque<Plan>,
    /// Apps, datasets, pools.
    pub assets: [Vec<Address>; 3],
    /// All deals.
    pub deals: Vec<Bargain>,
    /// All tasks that were named.
    pub jobs: Vec<Job>,
    /// Hashes of orders that were seen.
    pub hashes: Vec<B256>,
    /// Orders that may be matched again.
    offers: Vec<Match>,
    /// Who authorizes enclaves, if it is not the scheduler.
    broker: Option<Address>,
    salt: u64,
}

/// What a new life begins with.
#[derive(Clone, Debug, Default)]
pub struct Estate {
    /// Apps, datasets, pools.
    pub assets: [Vec<Address>; 3],
}

impl Life {
    /// A life in a world where `estate` exists.
    pub fn new(seed: u64, system: System, estate: &Estate) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            cast: Cast::default(),
            system,
            domain: bourse_protocol::orders::domain(CHAIN_ID, system.hub),
            queue: VecDeque::new(),
            assets: estate.assets.clone(),
            deals: Vec::new(),
            jobs: Vec::new(),
            hashes: Vec::new(),
            offers: Vec::new(),
            broker: None,
            salt: seed << 20,
        }
    }

    /// What happens next.
    pub fn next(&mut self, bench: &mut Bench) -> Plan {
        while self.queue.is_empty() {
            self.plan(bench);
        }
        let (mut step, memo) = self.queue.pop_front().expect("a plan has at least one step");
        if step.at == 0 {
            step.at = bench.now() + self.rng.random_range(0..6);
        }
        step.at = step.at.max(bench.now());
        (step, memo)
    }

    fn plan(&mut self, bench: &mut Bench) {
        let open = self.jobs.iter().filter(|j| j.stale < 2).count();
        let hungry = if open < 2 { 40 } else { 4 };
        match self.rng.random_range(0..100 + hungry) {
            0..52 => self.plan_work(bench),
            52..61 => self.plan_money(bench),
            61..68 => self.plan_orders(bench),
            68..75 => self.plan_assets(bench),
            75..80 => self.plan_office(bench),
            80..85 => self.plan_views(bench),
            _ => self.plan_match(bench),
        }
    }

    /// Takes note of how a step ended; `kept` says whether it counts.
    pub fn learn(&mut self, memo: Memo, outcome: &Outcome, kept: bool) {
        if !kept {
            return;
        }
        match memo {
            Memo::None => {}
            Memo::Matched(orders) => self.learn_match(*orders, outcome),
            Memo::Voted { task, worker, answer } => {
                if let Some(job) = self.jobs.iter_mut().find(|j| j.id == task) {
                    job.votes.insert(worker, answer);
                }
            }
            Memo::Broker(broker) => self.broker = broker,
            Memo::Created(kind) => {
                if let Some(word) = outcome.output.get(..32) {
                    self.assets[kind].push(Address::from_slice(&word[12..]));
                }
            }
        }
    }

    fn learn_match(&mut self, orders: Match, outcome: &Outcome) {
        let hub = self.system.hub;
        let of_hub = outcome.logs.iter().filter(|l| l.address == hub);
        for event in of_hub.filter_map(|l| IHub::OrdersMatched::decode_log_data(&l.data).ok()) {
            self.hashes.extend([event.appHash, event.datasetHash, event.workerpoolHash, event.requestHash]);
            self.deals.push(Bargain { id: event.dealid, orders: orders.clone() });
        }
        if self.offers.len() < 12 {
            self.offers.push(orders);
        }
    }

    /// What can be seen of everything that this life touched.
    pub fn everything(&self) -> Vec<step::Look> {
        let s = &self.system;
        let mut looks = step::hub(s);
        looks.extend(self.cast.all.iter().flat_map(|a| step::account(s, a.address)));
        looks.extend(self.hashes.iter().flat_map(|h| step::order(s, *h)));
        looks.extend(self.deals.iter().flat_map(|d| step::deal(s, d.id)));
        for job in &self.jobs {
            looks.extend(step::task(s, job.id, job.votes.keys().copied()));
            looks.extend([crate::actors::RECEIVER, crate::actors::INTRUDER].map(|r| step::receiver(r, job.id)));
        }
        for (kind, registry) in s.registries().into_iter().enumerate() {
            looks.extend(step::registry(registry));
            looks.extend(self.assets[kind].iter().flat_map(|a| step::asset(s, kind, *a)));
        }
        looks
    }

    // ---- helpers of all chapters

    fn push(&mut self, step: Step) {
        self.queue.push_back((step, Memo::None));
    }

    fn push_with(&mut self, step: Step, memo: Memo) {
        self.queue.push_back((step, memo));
    }

    fn hub_call(&self, from: Address, data: Bytes) -> Call {
        Call::new(from, self.system.hub, data)
    }

    fn any(&mut self, who: Range<usize>) -> Actor {
        let at = self.rng.random_range(who);
        self.cast.all[at].clone()
    }

    fn anybody(&mut self) -> Actor {
        let all = 0..self.cast.all.len();
        self.any(all)
    }

    fn actor(&self, number: usize) -> &Actor {
        &self.cast.all[number]
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        Some(from[self.rng.random_range(0..from.len())].clone())
    }

    fn asset(&mut self, kind: usize) -> Address {
        let at = self.rng.random_range(0..self.assets[kind].len());
        self.assets[kind][at]
    }

    fn salt(&mut self) -> B256 {
        self.salt += 1;
        U256::from(self.salt).into()
    }

    fn word(&mut self) -> B256 {
        B256::from(self.rng.random::<[u8; 32]>())
    }
}

/// Who owns an asset now; zero if it answers nothing.
fn owner_of(bench: &mut Bench, asset: Address) -> Address {
    let answer = bench.ours().view(asset, crate::calls::bare("owner()"));
    answer.output.get(12..32).map(Address::from_slice).unwrap_or_default()
}

fn deal_id(request: B256, consumed: U256) -> B256 {
    DealId::of(request.into(), consumed).0
}

fn task_id(deal: B256, index: U256) -> B256 {
    TaskId::of(deal.into(), index).0
}
