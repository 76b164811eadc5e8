//! What must hold, looked at after every block and at the end.

use crate::{
    machine::right_digest,
    market::{Bought, FIRST_WORKER, Market, key},
    node::Earth,
    tally::Fault,
    world::{Climate, Plan},
};
use bourse_chain::alloy::primitives::keccak256;
use bourse_protocol::{
    Address, U256,
    abi::{IHub, IRlc},
    consensus::Votes,
    deal::{ChainTask, ContributionStatus, TaskStatus},
    ids::{TaskId, result_hash},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Where seized stakes of schedulers wait: poco.md §2.
const KITTY: Address = bourse_chain::alloy::primitives::address!("0x99c2268479b93fDe36232351229815DF80837e23");

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) seed: u64,
    pub(crate) tasks: u64,
    pub(crate) paid: u64,
    pub(crate) refunded: u64,
    /// Wrong answers that were paid for, because enough weight stood behind them.
    pub(crate) bought_wrong: u64,
    pub(crate) blocks: u64,
    pub(crate) faults: BTreeMap<Fault, u64>,
    /// What must not happen.
    pub(crate) violations: Vec<String>,
    /// Of everything that the chain saw.
    pub(crate) trace: String,
}

/// Looks on.
pub(crate) struct Judge {
    market: Arc<Market>,
    workers: u32,
    tasks: BTreeMap<TaskId, Bought>,
    open: BTreeSet<TaskId>,
    excused: BTreeSet<Address>,
    height: u64,
    verdict: Verdict,
    trace: Vec<u8>,
    now: u64,
}

impl Judge {
    pub(crate) fn new(market: Arc<Market>, workers: u32) -> Self {
        Self {
            market,
            workers,
            tasks: BTreeMap::new(),
            open: BTreeSet::new(),
            excused: BTreeSet::new(),
            height: 0,
            verdict: Verdict::default(),
            trace: vec![],
            now: 0,
        }
    }

    /// A worker that leaves for good may lose what it had at stake.
    pub(crate) fn excuse(&mut self, worker: Address) {
        self.excused.insert(worker);
    }

    pub(crate) fn open_tasks(&self) -> Vec<Bought> {
        self.open.iter().map(|task| self.tasks[task].clone()).collect()
    }

    /// A task was bought: it must end.
    pub(crate) fn expect(&mut self, bought: Bought) {
        self.open.insert(bought.task);
        self.tasks.insert(bought.task, bought);
    }

    fn open(&self) -> Vec<TaskId> {
        self.open.iter().copied().collect()
    }

    pub(crate) fn all_ended(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether a task should have ended, `grace` seconds ago.
    pub(crate) fn overdue(&self, grace: u64) -> bool {
        self.open.iter().any(|task| self.tasks[task].final_deadline + grace < self.now)
    }

    /// Looks at the newest block.
    pub(crate) async fn look(&mut self, earth: &Earth) {
        let block = earth.ground.rpc("eth_getBlockByNumber", serde_json::json!(["latest", false]));
        let (height, time) = (crate::chain::number(&block["number"]), crate::chain::number(&block["timestamp"]));
        (self.height, self.now) = (height, time);
        self.trace.extend(block["hash"].as_str().unwrap_or_default().bytes());
        self.verdict.blocks += 1;
        if block["transactions"].as_array().is_none_or(Vec::is_empty) {
            return;
        }
        self.money_is_conserved().await;
        for task in self.open() {
            let state = self.market.hub.task(task).await.expect("the hub answers");
            let deal = self.tasks[&task].deal;
            if self.market.hub.deal(deal).await.expect("the hub answers").is_none() {
                // A reorg took the purchase away, and the money is back: there is nothing to end.
                self.open.remove(&task);
                self.tasks.remove(&task);
                continue;
            }
            if matches!(state.status, TaskStatus::Completed | TaskStatus::Failed) {
                self.ended(&state).await;
            }
        }
    }

    async fn money_is_conserved(&mut self) {
        let hub = self.market.hub.clone();
        let held = hub.client.call(self.market.rlc, &IRlc::balanceOfCall { account: hub.address }).await;
        let held = held.expect("the token answers");
        let supply = hub.view(&IHub::totalSupplyCall {}).await.expect("the hub answers");
        if held < supply {
            self.complain(format!("the hub holds {held} nRLC and owes {supply}"));
        }
        let mut accounts: Vec<Address> = (0..FIRST_WORKER + self.workers).map(|n| key(n).address()).collect();
        accounts.push(KITTY);
        let mut sum = U256::ZERO;
        for account in accounts {
            let account = hub.account(account).await.expect("the hub answers");
            sum += account.stake.0 + account.locked.0;
        }
        if sum != supply {
            self.complain(format!("balances and locks are {sum} nRLC and the supply is {supply}"));
        }
    }

    async fn ended(&mut self, task: &ChainTask) {
        self.open.remove(&task.id);
        match task.status {
            TaskStatus::Completed => {
                self.verdict.paid += 1;
                self.paid(task).await;
            }
            _ => self.verdict.refunded += 1,
        }
        tracing::info!(task = %task.id, status = ?task.status, "ended");
    }

    async fn paid(&mut self, task: &ChainTask) {
        let bought = self.tasks[&task.id].clone();
        let right = result_hash(task.id, right_digest(task.id));
        // Scores have moved since: the doubt is in favour of what was paid.
        let mut votes = Votes::default();
        let mut revealed = 0;
        for worker in &task.contributors {
            let vote = self.market.hub.contribution(task.id, *worker).await.expect("the hub answers");
            if matches!(vote.status, ContributionStatus::Contributed | ContributionStatus::Proved) {
                let (least, greatest) = vote.weight_range();
                votes.add(vote.result_hash, if vote.result_hash == task.consensus { greatest } else { least });
            }
            revealed += u64::from(vote.status == ContributionStatus::Proved);
            let silent = vote.status == ContributionStatus::Contributed && vote.result_hash == task.consensus;
            if silent && vote.result_hash == right && !self.excused.contains(worker) {
                self.complain(format!("{worker} was right about {} and lost its stake by silence", task.id));
            }
        }
        if !votes.reached(task.consensus, U256::from(bought.trust)) {
            self.complain(format!("{} was paid without the trust that was bought", task.id));
        }
        if revealed == 0 {
            self.complain(format!("{} was paid and nobody revealed", task.id));
        }
        if task.consensus != right {
            self.verdict.bought_wrong += 1;
        }
    }

    pub(crate) fn complain_about_the_stuck(&mut self) {
        for task in self.open() {
            self.complain(format!("task {task} is stuck: its final deadline has passed and nobody has claimed it"));
        }
    }

    fn complain(&mut self, what: String) {
        tracing::error!(block = self.height, what, "violation");
        self.verdict.violations.push(format!("block {}: {what}", self.height));
    }

    /// The whole.
    pub(crate) fn verdict(mut self, plan: Plan, faults: BTreeMap<Fault, u64>, chance: [u8; 32]) -> Verdict {
        if plan.climate == Climate::Mild && self.verdict.refunded > 0 {
            {
                let text = format!("{} tasks were refunded though all faults were short", self.verdict.refunded);
                self.complain(text);
            }
        }
        // Chance is drawn in the order of events: the next draw is the same only if all were.
        self.trace.extend(chance);
        Verdict {
            seed: plan.seed,
            tasks: self.tasks.len() as u64,
            faults,
            trace: keccak256(&self.trace).to_string(),
            ..self.verdict
        }
    }
}
