//! Tasks: from initialize to finalize or claim, in time, too late, by the right caller and by the wrong one.

use super::{Bargain, Estate, Job, Life, Memo, Plan, matching, task_id};
use crate::actors::{self, Actor, ENCLAVES, STRANGER, VETERANS, WORKERS};
use crate::bench::{Bench, Difference};
use crate::calls::call;
use crate::deploy::OWNER;
use crate::machine::Call;
use crate::step::{self, Look, Step};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::SolCall;
use bourse_protocol::abi::{self, IHub};
use bourse_protocol::ids::{self, ResultDigest};
use rand::Rng;

const CONTRIBUTE: &str = "contribute(bytes32,bytes32,bytes32,address,bytes,bytes)";
const CONTRIBUTE_AND_FINALIZE: &str = "contributeAndFinalize(bytes32,bytes32,bytes,bytes,address,bytes,bytes)";
const FINALIZE: &str = "finalize(bytes32,bytes,bytes)";
/// Contributors of a task that ours takes, and one.
const CROWD: u64 = 33;
const UNSET: u8 = 0;
const ACTIVE: u8 = 1;
const REVEALING: u8 = 2;

/// A task with what the chain says of it.
struct Scene {
    job: Job,
    task: abi::Task,
    deal: abi::Deal,
    scheduler: Address,
}

/// One way to get a contribution wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Twist {
    None,
    WrongAuthority,
    OtherWorker,
    NoEnclave,
    WrongEnclave,
    BadFormat,
    Enclave,
}

pub(super) fn ask<C: SolCall>(bench: &mut Bench, question: C) -> C::Return {
    let hub = bench.system.hub;
    let answer = bench.ours().view(hub, question.abi_encode().into());
    assert!(answer.ok(), "the hub answers {}", C::SIGNATURE);
    C::abi_decode_returns(&answer.output).expect("the hub answers as its interface says")
}

/// The bytes of an answer; their hash is its digest, so that they can be pushed to a callback.
fn answer(number: u8) -> Bytes {
    Bytes::from(format!("answer {number}").into_bytes())
}

fn digest(number: u8) -> B256 {
    keccak256(answer(number))
}

impl Life {
    pub(super) fn plan_work(&mut self, bench: &mut Bench) {
        if self.deals.is_empty() {
            return;
        }
        let open = self.jobs.iter().filter(|j| j.stale < 2).count();
        match self.rng.random_range(0..100) {
            0..4 => self.plan_start(bench),
            4..12 if open < 4 => self.plan_start(bench),
            12..17 => self.plan_arrays(bench),
            17..29 => self.plan_boundary(bench),
            _ => self.plan_progress(bench),
        }
    }

    // ---- start

    fn plan_start(&mut self, bench: &mut Bench) {
        let at = self.rng.random_range(self.deals.len().saturating_sub(4)..self.deals.len());
        let Bargain { id, .. } = self.deals[at].clone();
        let deal = ask(bench, IHub::viewDealCall { dealid: id });
        let from = self.anybody().address;
        let end = deal.botFirst + deal.botSize;
        let offset = U256::from(self.rng.random_range(0..6)).min(deal.botSize - U256::from(1));
        let (aim, id, index) = match self.rng.random_range(0..20) {
            0 => ("initialize: after the last task", id, end),
            1 if deal.botFirst > U256::ZERO => ("initialize: before the first task", id, deal.botFirst - U256::from(1)),
            2 => ("initialize: unknown deal", self.word(), U256::ZERO),
            3 => ("initialize: huge index", id, U256::MAX),
            _ => ("initialize", id, deal.botFirst + offset),
        };
        self.push_initialize(aim, from, id, index);
    }

    fn push_initialize(&mut self, aim: &'static str, from: Address, deal: B256, index: U256) {
        let id = task_id(deal, index);
        let data = call("initialize(bytes32,uint256)", (deal, index));
        let step = Step::new(aim, self.hub_call(from, data)).look(self.task_looks(id));
        if aim == "initialize" {
            self.remember(deal, index);
        }
        self.push(step);
    }

    fn remember(&mut self, deal: B256, index: U256) {
        let id = task_id(deal, index);
        if self.jobs.iter().all(|j| j.id != id) {
            self.jobs.push(Job { id, deal, index, votes: Default::default(), stale: 0 });
        }
    }

    fn task_looks(&self, id: B256) -> Vec<Look> {
        let voters = self.jobs.iter().find(|j| j.id == id).map(|j| j.votes.keys().copied().collect::<Vec<_>>());
        step::task(&self.system, id, voters.unwrap_or_default())
    }

    fn plan_arrays(&mut self, bench: &mut Bench) {
        let at = self.rng.random_range(0..self.deals.len());
        let deal = self.deals[at].id;
        let terms = ask(bench, IHub::viewDealCall { dealid: deal });
        let count = self.rng.random_range(0..4usize).min(terms.botSize.saturating_to());
        let skip = U256::from(self.rng.random_range(0..5)).min(terms.botSize - U256::from(count));
        let mut indices: Vec<U256> = (0..count).map(|i| terms.botFirst + skip + U256::from(i)).collect();
        let mut deals = vec![deal; count];
        let lopsided = self.chance(10);
        if lopsided {
            deals.push(deal);
        } else if self.chance(10) && count > 0 {
            indices[count - 1] = terms.botFirst + terms.botSize;
        }
        let from = self.anybody().address;
        let late = bench.now() >= terms.startTime.saturating_to::<u64>() + 3000;
        let claim = self.chance(if late { 70 } else { 15 });
        let (aim, signature) = match (claim, lopsided) {
            (false, false) => ("initializeArray", "initializeArray(bytes32[],uint256[])"),
            (false, true) => ("initializeArray: lengths differ", "initializeArray(bytes32[],uint256[])"),
            (true, false) => ("initializeAndClaimArray", "initializeAndClaimArray(bytes32[],uint256[])"),
            (true, true) => ("initializeAndClaimArray: lengths differ", "initializeAndClaimArray(bytes32[],uint256[])"),
        };
        let looks: Vec<Look> = indices.iter().flat_map(|i| self.task_looks(task_id(deal, *i))).collect();
        for index in &indices {
            self.remember(deal, *index);
        }
        let data = call(signature, (deals, indices));
        self.push(Step::new(aim, self.hub_call(from, data)).look(looks));
        if self.chance(40) {
            self.plan_claim_array();
        }
    }

    fn plan_claim_array(&mut self) {
        let jobs = self.jobs.clone();
        let count = self.rng.random_range(0..4);
        let mut tasks: Vec<B256> = (0..count).filter_map(|_| self.pick(&jobs).map(|j| j.id)).collect();
        tasks.dedup();
        let looks: Vec<Look> = tasks.iter().flat_map(|t| self.task_looks(*t)).collect();
        let from = self.anybody().address;
        let data = call("claimArray(bytes32[])", (tasks,));
        self.push(Step::new("claimArray", self.hub_call(from, data)).look(looks));
    }

    // ---- one task

    /// A task that is worth a step; mostly one of the newest.
    fn scene(&mut self, bench: &mut Bench) -> Option<Scene> {
        let fresh: Vec<Job> = self.jobs.iter().filter(|j| j.stale < 2).cloned().collect();
        let newest = fresh.len().saturating_sub(3);
        let job = self.pick(&fresh[newest..])?;
        Some(self.scene_of(bench, job))
    }

    fn scene_of(&mut self, bench: &mut Bench, job: Job) -> Scene {
        let task = ask(bench, IHub::viewTaskCall { taskid: job.id });
        let deal = ask(bench, IHub::viewDealCall { dealid: job.deal });
        if task.status > REVEALING
            && let Some(known) = self.jobs.iter_mut().find(|j| j.id == job.id)
        {
            known.stale += 1;
        }
        let scheduler = deal.workerpool.owner;
        Scene { job, task, deal, scheduler }
    }

    fn plan_progress(&mut self, bench: &mut Bench) {
        let Some(scene) = self.scene(bench) else { return self.plan_start(bench) };
        if self.chance(8) {
            return self.plan_nonsense(&scene);
        }
        let open = scene.task.status == ACTIVE || scene.task.status == REVEALING;
        let lost = scene.task.status == ACTIVE && bench.now() >= scene.task.contributionDeadline.saturating_to();
        if open && (lost || bench.now() >= scene.task.finalDeadline.saturating_to()) && self.chance(70) {
            self.push_claim(&scene, "claim");
            self.queue[0].0.at = scene.task.finalDeadline.saturating_to::<u64>().max(bench.now());
            return;
        }
        match scene.task.status {
            UNSET => self.push_initialize("initialize", self.actor(STRANGER).address, scene.job.deal, scene.job.index),
            ACTIVE => self.plan_vote(bench, &scene),
            REVEALING => self.plan_closing(bench, &scene),
            _ => self.plan_nonsense(&scene),
        }
    }

    /// Any call on a task, whether it can succeed or not.
    fn plan_nonsense(&mut self, scene: &Scene) {
        let worker = self.any(WORKERS);
        match self.rng.random_range(0..8) {
            0 => self.push_vote(scene, &worker, Twist::None, "contribute: any time"),
            1 => self.push_single(scene, &worker, Twist::None, "contributeAndFinalize: any time"),
            2 => self.push_reveal(scene, worker.address, 0, "reveal: any time"),
            3 => self.push_reopen(scene, scene.scheduler, "reopen: any time"),
            4 => self.push_finalize(scene, scene.scheduler, "finalize: any time"),
            5 => self.push_reopen(scene, worker.address, "reopen: not the scheduler"),
            6 => self.push_finalize(scene, worker.address, "finalize: not the scheduler"),
            _ => self.push_claim(scene, "claim: any time"),
        }
    }

    fn plan_vote(&mut self, bench: &mut Bench, scene: &Scene) {
        let trusted = scene.deal.trust == U256::from(1);
        if trusted && scene.task.contributors.is_empty() && self.chance(40) {
            return self.plan_single(scene);
        }
        if self.chance(4) {
            let worker = self.any(WORKERS);
            return self.push_single(scene, &worker, Twist::None, "contributeAndFinalize: not alone or trust above 1");
        }
        let worker = self.worker(scene);
        match self.rng.random_range(0..20) {
            0 => self.push_vote(scene, &worker, Twist::WrongAuthority, "contribute: not authorized"),
            1 => self.push_vote(scene, &worker, Twist::OtherWorker, "contribute: authorized another"),
            2 => self.push_vote(scene, &worker, Twist::NoEnclave, "contribute: no enclave"),
            3 => self.push_vote(scene, &worker, Twist::WrongEnclave, "contribute: wrong enclave"),
            4 => self.push_vote(scene, &worker, Twist::BadFormat, "contribute: malformed authorization"),
            5 => {
                let poor = self.actor(actors::POOR).clone();
                self.push_vote(scene, &poor, Twist::None, "contribute: too little stake");
            }
            6 => match scene.task.contributors.first().and_then(|a| self.cast.at(*a)).cloned() {
                Some(again) => self.push_vote(scene, &again, Twist::None, "contribute: twice"),
                None => self.push_vote(scene, &worker, Twist::None, "contribute"),
            },
            7 => self.push_vote(scene, &worker, Twist::Enclave, "contribute: with enclave"),
            _ => self.push_vote(scene, &worker, Twist::None, "contribute"),
        }
        // Votes come in flocks: else nothing with a high trust ever ends.
        if scene.deal.trust > U256::from(2) {
            let mut voted: Vec<Address> = scene.task.contributors.clone();
            voted.push(worker.address);
            let more = self.rng.random_range(0..5);
            for _ in 0..more {
                let next = self.any(WORKERS);
                if !voted.contains(&next.address) {
                    voted.push(next.address);
                    self.push_vote(scene, &next, Twist::None, "contribute");
                }
            }
        }
        let _ = bench;
    }

    /// A worker that has not voted, if there is one.
    fn worker(&mut self, scene: &Scene) -> Actor {
        for _ in 0..6 {
            let worker = self.any(WORKERS);
            if !scene.task.contributors.contains(&worker.address) {
                return worker;
            }
        }
        self.anybody()
    }

    /// Most say the same; some lie.
    fn opinion(&mut self) -> u8 {
        match self.rng.random_range(0..20) {
            0..16 => 0,
            16..19 => 1,
            _ => 2,
        }
    }

    fn push_vote(&mut self, scene: &Scene, worker: &Actor, twist: Twist, aim: &'static str) {
        let id = scene.job.id;
        let number = self.opinion();
        let hash = ids::result_hash(id.into(), ResultDigest(digest(number)));
        let seal = ids::result_seal(worker.address, id.into(), ResultDigest(digest(number)));
        let (enclave, enclave_sign, authorization) = self.papers(scene, worker.address, hash, seal, twist);
        let data = call(CONTRIBUTE, (id, hash, seal, enclave, enclave_sign, authorization));
        let looks = step::task(&self.system, id, [worker.address]);
        let memo = Memo::Voted { task: id, worker: worker.address, answer: number };
        self.push_with(Step::new(aim, self.hub_call(worker.address, data)).look(looks), memo);
    }

    /// One vote more than a task takes, each for another answer.
    pub(super) fn push_crowd(&mut self, deal: B256, scheduler: Address) {
        let id = task_id(deal, U256::ZERO);
        self.push_initialize("initialize", self.actor(STRANGER).address, deal, U256::ZERO);
        let scheduler = self.cast.at(scheduler).unwrap_or(self.actor(STRANGER)).clone();
        for number in 0..CROWD {
            let worker = Address::with_last_byte(0x80 + number as u8);
            let sign = scheduler.sign_message(ids::authorization(worker, id.into(), Address::ZERO));
            let hash = B256::from(U256::from(number + 1));
            let data = call(CONTRIBUTE, (id, hash, hash, Address::ZERO, Bytes::new(), sign));
            let aim = if number < CROWD - 1 { "contribute: in a crowd" } else { "contribute: one too many" };
            let looks = step::task(&self.system, id, [worker]);
            self.push(Step::new(aim, self.hub_call(worker, data)).look(looks));
        }
    }

    /// Enclave, its signature, and the authorization, as the deal asks for them or with a twist.
    fn papers(
        &mut self,
        scene: &Scene,
        worker: Address,
        hash: B256,
        seal: B256,
        twist: Twist,
    ) -> (Address, Bytes, Bytes) {
        let needs = scene.deal.tag.0[31] & 1 == 1;
        let enclave = match twist {
            Twist::NoEnclave => None,
            Twist::Enclave | Twist::WrongEnclave => Some(self.any(ENCLAVES)),
            _ => needs.then(|| self.any(ENCLAVES)),
        };
        let place = enclave.as_ref().map(|e| e.address).unwrap_or_default();
        let scheduler = self.cast.at(scene.scheduler).unwrap_or(self.actor(STRANGER)).clone();
        let broker = self.broker.filter(|_| enclave.is_some()).and_then(|b| self.cast.at(b)).cloned();
        let authority = match twist {
            Twist::WrongAuthority => self.any(WORKERS),
            _ => broker.unwrap_or(scheduler),
        };
        let who = if twist == Twist::OtherWorker { self.actor(STRANGER).address } else { worker };
        let mut authorization = authority.sign_message(ids::authorization(who, scene.job.id.into(), place));
        if twist == Twist::BadFormat {
            authorization = Bytes::from(vec![1; 63]);
        }
        let message = keccak256([hash.0, seal.0].concat());
        let sign = match (&enclave, twist) {
            (Some(_), Twist::WrongEnclave) => self.actor(STRANGER).sign_message(message),
            (Some(enclave), _) => enclave.sign_message(message),
            (None, _) => Bytes::new(),
        };
        (place, sign, authorization)
    }

    fn plan_single(&mut self, scene: &Scene) {
        let worker = self.worker(scene);
        let (twist, aim) = match self.rng.random_range(0..10) {
            0 => (Twist::WrongAuthority, "contributeAndFinalize: not authorized"),
            1 => (Twist::NoEnclave, "contributeAndFinalize: no enclave"),
            2 => (Twist::WrongEnclave, "contributeAndFinalize: wrong enclave"),
            3 => (Twist::Enclave, "contributeAndFinalize: with enclave"),
            4 => (Twist::BadFormat, "contributeAndFinalize: malformed authorization"),
            _ => (Twist::None, "contributeAndFinalize"),
        };
        self.push_single(scene, &worker, twist, aim);
    }

    fn push_single(&mut self, scene: &Scene, worker: &Actor, twist: Twist, aim: &'static str) {
        let id = scene.job.id;
        let number = self.opinion();
        let value = ResultDigest(digest(number));
        let (hash, seal) = (ids::result_hash(id.into(), value), ids::result_seal(worker.address, id.into(), value));
        let (enclave, enclave_sign, authorization) = self.papers(scene, worker.address, hash, seal, twist);
        let (results, pushed) = self.results(scene, number);
        let data = call(CONTRIBUTE_AND_FINALIZE, (id, value.0, results, pushed, enclave, enclave_sign, authorization));
        let mut looks = step::task(&self.system, id, [worker.address]);
        looks.extend([actors::RECEIVER, actors::INTRUDER].map(|r| step::receiver(r, id)));
        let memo = Memo::Voted { task: id, worker: worker.address, answer: number };
        self.push_with(Step::new(aim, self.hub_call(worker.address, data)).look(looks), memo);
    }

    /// What is stored and what is pushed: right most of the time.
    fn results(&mut self, scene: &Scene, number: u8) -> (Bytes, Bytes) {
        let results = match self.rng.random_range(0..8) {
            0 => Bytes::new(),
            1 => Bytes::from(vec![0x5a; self.rng.random_range(100..2_000)]),
            _ => Bytes::from_static(b"{\"storage\":\"ipfs\",\"location\":\"/ipfs/Qm\"}"),
        };
        let wanted = !scene.deal.callback.is_zero();
        let pushed = match self.rng.random_range(0..12) {
            0 => answer(number + 1),
            1 if wanted => Bytes::new(),
            1 => answer(number),
            _ if wanted => answer(number),
            _ => Bytes::new(),
        };
        (results, pushed)
    }

    // ---- reveal, reopen, finalize, claim

    fn plan_closing(&mut self, bench: &mut Bench, scene: &Scene) {
        let winners = self.winners(scene);
        let revealed = scene.task.revealCounter;
        let all = revealed == scene.task.winnerCounter;
        match self.rng.random_range(0..20) {
            0 => {
                let liar = self.any(WORKERS);
                self.push_reveal(scene, liar.address, 0, "reveal: not a winner");
            }
            1 => match self.pick(&winners) {
                Some((worker, number)) => self.push_reveal(scene, worker, number + 1, "reveal: wrong digest"),
                None => self.push_claim(scene, "claim: too early"),
            },
            2 => self.push_reopen(scene, scene.scheduler, "reopen: too early"),
            3 => self.push_finalize(scene, scene.scheduler, "finalize: any time"),
            4 => self.push_claim(scene, "claim: too early"),
            5 => self.push_reopen(scene, self.actor(STRANGER).address, "reopen: not the scheduler"),
            6 => self.push_finalize(scene, self.actor(STRANGER).address, "finalize: not the scheduler"),
            7 | 8 if !all => self.skip_reveals(bench, scene),
            9..12 => self.plan_boundary_of(bench, scene),
            _ if all => self.push_finalize(scene, scene.scheduler, "finalize"),
            12..15 => match self.pick(&winners) {
                Some((worker, number)) => self.push_reveal(scene, worker, number, "reveal"),
                None => self.push_claim(scene, "claim: too early"),
            },
            _ => {
                for (worker, number) in winners {
                    self.push_reveal(scene, worker, number, "reveal");
                }
                self.push_finalize(scene, scene.scheduler, "finalize");
            }
        }
    }

    /// Those who voted for what won and did not reveal, as far as this life knows, with their answers.
    fn winners(&mut self, scene: &Scene) -> Vec<(Address, u8)> {
        let consensus = scene.task.consensusValue;
        let id = scene.job.id;
        let won = |number: u8| ids::result_hash(id.into(), ResultDigest(digest(number))) == consensus;
        scene.job.votes.iter().filter(|(_, n)| won(**n)).map(|(w, n)| (*w, *n)).collect()
    }

    /// Nobody, or nobody more, reveals: the deadline passes.
    fn skip_reveals(&mut self, bench: &mut Bench, scene: &Scene) {
        let deadline: u64 = scene.task.revealDeadline.saturating_to();
        let at = deadline.max(bench.now());
        match scene.task.revealCounter.is_zero() {
            true => self.push_reopen(scene, scene.scheduler, "reopen"),
            false => self.push_finalize(scene, scene.scheduler, "finalize: some did not reveal"),
        }
        self.queue.back_mut().expect("just pushed").0.at = at;
    }

    fn push_reveal(&mut self, scene: &Scene, worker: Address, number: u8, aim: &'static str) {
        let data = call("reveal(bytes32,bytes32)", (scene.job.id, digest(number)));
        let looks = step::task(&self.system, scene.job.id, [worker]);
        self.push(Step::new(aim, self.hub_call(worker, data)).look(looks));
    }

    fn push_reopen(&mut self, scene: &Scene, from: Address, aim: &'static str) {
        let looks = self.task_looks(scene.job.id);
        self.push(Step::new(aim, self.hub_call(from, call("reopen(bytes32)", (scene.job.id,)))).look(looks));
    }

    fn push_finalize(&mut self, scene: &Scene, from: Address, aim: &'static str) {
        let won = (0..4u8).find(|n| digest(*n) == scene.task.resultDigest).unwrap_or(0);
        let (results, pushed) = self.results(scene, won);
        let mut looks = self.task_looks(scene.job.id);
        looks.extend([actors::RECEIVER, actors::INTRUDER].map(|r| step::receiver(r, scene.job.id)));
        let data = call(FINALIZE, (scene.job.id, results, pushed));
        if aim == "finalize" && !scene.deal.callback.is_zero() && self.chance(25) {
            self.push_starved(from, &data);
        }
        self.push(Step::new(aim, self.hub_call(from, data)).look(looks));
    }

    /// A finalize with less gas than the callback is promised.
    fn push_starved(&mut self, from: Address, data: &Bytes) {
        let allow = |gas: u64| call("setCallbackGas(uint256)", (U256::from(gas),));
        self.push(Step::new("setCallbackGas", self.hub_call(OWNER, allow(5_000_000))));
        let mut step = Step::new("finalize: starved callback", self.hub_call(from, data.clone())).dry();
        step.call.gas = self.rng.random_range(2_500_000..4_500_000);
        self.push(step);
        self.push(Step::new("setCallbackGas", self.hub_call(OWNER, allow(200_000))));
    }

    fn push_claim(&mut self, scene: &Scene, aim: &'static str) {
        let from = self.anybody().address;
        let looks = self.task_looks(scene.job.id);
        self.push(Step::new(aim, self.hub_call(from, call("claim(bytes32)", (scene.job.id,)))).look(looks));
    }

    // ---- the last second

    /// What is allowed before a deadline and what from it on, tried one second before, at it, one second after.
    fn plan_boundary(&mut self, bench: &mut Bench) {
        if let Some(scene) = self.scene(bench)
            && (scene.task.status == ACTIVE || scene.task.status == REVEALING)
        {
            self.plan_boundary_of(bench, &scene);
        }
    }

    fn plan_boundary_of(&mut self, bench: &mut Bench, scene: &Scene) {
        let offset = self.rng.random_range(0..3u64);
        let name = |aims: [&'static str; 3]| aims[offset as usize];
        let at = |deadline: U256| (deadline.saturating_to::<u64>() + offset).saturating_sub(1);
        let worker = self.worker(scene);
        let open = scene.task.status == ACTIVE;
        let kind = self.rng.random_range(0..6);
        let when = match kind {
            0 | 1 if open => at(scene.task.contributionDeadline),
            0..3 if !open => at(scene.task.revealDeadline),
            _ => at(scene.task.finalDeadline),
        };
        if when < bench.now() {
            return;
        }
        let winners = self.winners(scene);
        // Without a reveal there is nothing to finalize.
        if !open && (kind == 2 || kind == 3) && bench.now() < scene.task.revealDeadline.saturating_to() {
            for (winner, number) in winners.iter().take(self.rng.random_range(1..3)) {
                self.push_reveal(scene, *winner, *number, "reveal");
            }
        }
        match (kind, open) {
            (0, true) => self.push_vote(scene, &worker, Twist::None, name(CONTRIBUTION)),
            (1, true) => self.push_single(scene, &worker, Twist::None, name(SINGLE)),
            (0, false) => match self.pick(&winners) {
                Some((winner, number)) => self.push_reveal(scene, winner, number, name(REVEAL)),
                None => return,
            },
            (1, false) => self.push_reopen(scene, scene.scheduler, name(REOPEN)),
            (2, false) => self.push_finalize(scene, scene.scheduler, name(EARLY_FINALIZE)),
            (3, false) => self.push_finalize(scene, scene.scheduler, name(LATE_FINALIZE)),
            (4, false) => self.push_reopen(scene, scene.scheduler, name(LATE_REOPEN)),
            _ => self.push_claim(scene, name(CLAIM)),
        }
        self.queue.back_mut().expect("just pushed").0.at = when;
    }
}

pub(crate) const CONTRIBUTION: [&str; 3] =
    ["contribute: deadline - 1", "contribute: deadline", "contribute: deadline + 1"];
pub(crate) const SINGLE: [&str; 3] =
    ["contributeAndFinalize: deadline - 1", "contributeAndFinalize: deadline", "contributeAndFinalize: deadline + 1"];
pub(crate) const REVEAL: [&str; 3] = ["reveal: deadline - 1", "reveal: deadline", "reveal: deadline + 1"];
pub(crate) const REOPEN: [&str; 3] =
    ["reopen: reveal deadline - 1", "reopen: reveal deadline", "reopen: reveal deadline + 1"];
pub(crate) const EARLY_FINALIZE: [&str; 3] =
    ["finalize: reveal deadline - 1", "finalize: reveal deadline", "finalize: reveal deadline + 1"];
pub(crate) const LATE_FINALIZE: [&str; 3] =
    ["finalize: final deadline - 1", "finalize: final deadline", "finalize: final deadline + 1"];
pub(crate) const LATE_REOPEN: [&str; 3] =
    ["reopen: final deadline - 1", "reopen: final deadline", "reopen: final deadline + 1"];
pub(crate) const CLAIM: [&str; 3] = ["claim: final deadline - 1", "claim: final deadline", "claim: final deadline + 1"];

/// How many tasks the veterans do before anything random happens.
const CAREER: u64 = 45;

/// Gives some workers a past, so that weights differ: a deal of many tasks, each voted on until there is consensus.
pub fn veterans(bench: &mut Bench, estate: &Estate) -> Result<(), Box<Difference>> {
    let mut life = Life::new(0, bench.system, estate);
    let mut orders = life.sound(bench);
    (orders.app.volume, orders.workerpool.volume, orders.request.volume) =
        (U256::from(CAREER), U256::from(CAREER), U256::from(CAREER));
    orders.dataset.volume = U256::from(CAREER);
    (orders.workerpool.trust, orders.request.trust) = (U256::from(13), U256::from(13));
    (orders.workerpool.category, orders.request.category) = (U256::from(4), U256::from(4));
    orders.request.requester = life.actor(0).address;
    orders.request.callback = Address::ZERO;
    for tag in [&mut orders.app.tag, &mut orders.dataset.tag, &mut orders.workerpool.tag, &mut orders.request.tag] {
        *tag = B256::ZERO;
    }
    for price in [&mut orders.workerpool.workerpoolprice, &mut orders.request.workerpoolmaxprice] {
        *price = U256::from(1_000_000);
    }
    life.sign_all(bench, &mut orders);
    let data = call(matching::MATCH, matching::arguments(&orders));
    let step = Step::new("match", Call::new(life.actor(0).address, bench.system.hub, data));
    play(bench, &mut life, (step, Memo::Matched(Box::new(orders))))?;
    let deal = life.deals[0].id;
    for index in 0..CAREER {
        life.push_initialize("initialize", life.actor(0).address, deal, U256::from(index));
        drain(bench, &mut life)?;
        let job = life.jobs[index as usize].clone();
        for turn in 0..VETERANS.len() as u64 {
            let scene = life.scene_of(bench, job.clone());
            if scene.task.status != ACTIVE {
                break;
            }
            // The first of them works most.
            let first = if index % 3 == 0 { index / 3 } else { 0 };
            let who = VETERANS.start + ((first + turn) % VETERANS.len() as u64) as usize;
            let worker = life.actor(who).clone();
            life.push_honest(&scene, &worker);
            drain(bench, &mut life)?;
        }
        let scene = life.scene_of(bench, job);
        for worker in scene.task.contributors.clone() {
            life.push_reveal(&scene, worker, 0, "reveal");
        }
        let data = call(FINALIZE, (scene.job.id, Bytes::new(), Bytes::new()));
        life.push(Step::new("finalize", life.hub_call(scene.scheduler, data)));
        drain(bench, &mut life)?;
    }
    Ok(())
}

impl Life {
    fn push_honest(&mut self, scene: &Scene, worker: &Actor) {
        let id = scene.job.id;
        let value = ResultDigest(digest(0));
        let (hash, seal) = (ids::result_hash(id.into(), value), ids::result_seal(worker.address, id.into(), value));
        let (enclave, enclave_sign, authorization) = self.papers(scene, worker.address, hash, seal, Twist::None);
        let data = call(CONTRIBUTE, (id, hash, seal, enclave, enclave_sign, authorization));
        self.push(Step::new("contribute", self.hub_call(worker.address, data)));
    }
}

fn drain(bench: &mut Bench, life: &mut Life) -> Result<(), Box<Difference>> {
    while let Some(plan) = life.queue.pop_front() {
        play(bench, life, plan)?;
    }
    Ok(())
}

pub(super) fn play(bench: &mut Bench, life: &mut Life, (mut step, memo): Plan) -> Result<(), Box<Difference>> {
    step.at = step.at.max(bench.now() + 1);
    let (outcome, kept) = bench.play(&step)?;
    life.learn(memo, &outcome, kept);
    Ok(())
}
