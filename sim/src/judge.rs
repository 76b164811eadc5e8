//! What must hold, looked at after every block and at the end.

use crate::{
    machine::right_digest,
    market::{Bought, DEPOSIT, FIRST_WORKER, Kind, Market, key},
    node::BASE_FEE,
    node::Earth,
    tally::Fault,
    world::{Climate, Plan},
};
use bourse_chain::{
    GasPolicy,
    alloy::{
        primitives::{hex, keccak256},
        sol_types::SolEvent,
    },
};
use bourse_protocol::{
    Address, B256, U256,
    abi::{IHub, IRlc},
    consensus::Votes,
    deal::{ChainTask, Contribution, ContributionStatus, TaskStatus},
    ids::{TaskId, result_hash},
    money::Nrlc,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Where seized stakes of schedulers wait: poco.md §2.
const KITTY: Address = bourse_chain::alloy::primitives::address!("0x99c2268479b93fDe36232351229815DF80837e23");

/// So often, in blocks with transactions, every account is read, not only those that events speak of.
const ALL_AFTER: u32 = 16;

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) seed: u64,
    pub(crate) tasks: u64,
    pub(crate) paid: u64,
    pub(crate) refunded: u64,
    /// Refunds that were claimed while faults went on, those too that a reorg took back.
    pub(crate) claimed_in_faults: u64,
    /// Wrong answers that were paid for, because enough weight stood behind them.
    pub(crate) bought_wrong: u64,
    pub(crate) blocks: u64,
    pub(crate) faults: BTreeMap<Fault, u64>,
    /// What must not happen.
    pub(crate) violations: Vec<String>,
    /// Of everything that the chain saw.
    pub(crate) trace: String,
    /// When what happened to the paid tasks, if asked for.
    pub(crate) orders: Vec<OrderTimes>,
    /// What the workers have more than at the start, in nRLC.
    pub(crate) earned: U256,
    /// The most workers that were at work at once.
    pub(crate) connected: usize,
}

/// The times of the blocks that changed a task, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrderTimes {
    pub(crate) bought: u64,
    pub(crate) opened: u64,
    pub(crate) agreed: u64,
    pub(crate) paid: u64,
}

/// Within so many dear blocks, of five seconds each, a transaction that was sent before has got a higher fee.
const RAISED: u64 = 8;

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Paid,
    /// Paid for a wrong answer, because enough weight stood behind it.
    BoughtWrong,
    Refunded,
    /// Refunded: all who revealed left for good and took the result with them. A vote that somebody revealed stays.
    Bereft,
    /// Refunded: no worker could do it.
    FitNobody,
}

/// Looks on.
pub(crate) struct Judge {
    market: Arc<Market>,
    /// What everybody has in the hub, as it was read last, and the blocks since all of it was read.
    accounts: BTreeMap<Address, U256>,
    unread: u32,
    tasks: BTreeMap<TaskId, Bought>,
    open: BTreeSet<TaskId>,
    /// Open ones whose purchase a reorg took away: the money is back, and there is nothing to end until it is bought again.
    gone: BTreeSet<TaskId>,
    /// How the others ended, and in which block that was seen.
    ended: BTreeMap<TaskId, (u64, Ending)>,
    excused: BTreeSet<Address>,
    /// The scheduler never comes back: nobody finalizes any more.
    pool_is_gone: bool,
    /// When something last stood in the way of everybody's transactions, in the chain's seconds.
    hindered: u64,
    /// For so many blocks they have cost more than what is usually offered.
    dear: u64,
    /// Nothing goes wrong any more.
    calm: bool,
    height: u64,
    /// A reorg changed more than the newest block shows.
    stale: bool,
    verdict: Verdict,
    trace: Vec<u8>,
    now: u64,
}

impl Judge {
    pub(crate) fn new(market: Arc<Market>) -> Self {
        let people = (0..FIRST_WORKER + market.places.workers).map(|n| key(n).address());
        let accounts = people.chain([KITTY]).map(|account| (account, U256::ZERO)).collect();
        Self {
            market,
            accounts,
            unread: ALL_AFTER,
            tasks: BTreeMap::new(),
            open: BTreeSet::new(),
            gone: BTreeSet::new(),
            ended: BTreeMap::new(),
            excused: BTreeSet::new(),
            pool_is_gone: false,
            hindered: 0,
            dear: 0,
            calm: false,
            height: 0,
            stale: false,
            verdict: Verdict::default(),
            trace: vec![],
            now: 0,
        }
    }

    /// A worker that leaves for good may lose what it had at stake.
    pub(crate) fn excuse(&mut self, worker: Address) {
        self.excused.insert(worker);
    }

    /// The pool has left for good: the pay that only it could give is lost.
    pub(crate) fn excuse_nobody_finalizes(&mut self) {
        self.pool_is_gone = true;
    }

    /// Something stands in the way now: the time to end what is due begins anew.
    pub(crate) fn hinder(&mut self) {
        self.hindered = self.now;
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn calm_down(&mut self) {
        self.calm = true;
        self.hinder();
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
        self.open.is_subset(&self.gone)
    }

    /// Tasks that could have ended for more than `grace` seconds: their last deadline has passed, and nothing stands in the way.
    pub(crate) fn overdue(&self, grace: u64) -> Vec<Bought> {
        let open = self.open.difference(&self.gone).map(|task| &self.tasks[task]);
        open.filter(|task| task.final_deadline.max(self.hindered) + grace < self.now).cloned().collect()
    }

    /// Looks at the newest block, and at every task.
    pub(crate) async fn look_at_everything(&mut self, earth: &Earth) {
        self.stale = true;
        self.look(earth).await;
    }

    /// Looks at the newest block.
    pub(crate) async fn look(&mut self, earth: &Earth) {
        let block = earth.ground.rpc("eth_getBlockByNumber", serde_json::json!(["latest", true]));
        let (height, time) = (crate::chain::number(&block["number"]), crate::chain::number(&block["timestamp"]));
        (self.height, self.now) = (height, time);
        self.trace.extend(block["hash"].as_str().unwrap_or_default().bytes());
        self.verdict.blocks += 1;
        let fee = crate::chain::number(&block["baseFeePerGas"]);
        self.dear = if fee > 2 * BASE_FEE { self.dear + 1 } else { 0 };
        if u128::from(fee) > GasPolicy::default().cap || (1..=RAISED).contains(&self.dear) {
            self.hinder();
        }
        let transactions = block["transactions"].as_array().cloned().unwrap_or_default();
        let stale = std::mem::take(&mut self.stale);
        if transactions.is_empty() && !stale {
            return;
        }
        self.nobody_pays_over_the_cap(&transactions);
        self.unread += 1;
        let accounts = match stale || self.unread >= ALL_AFTER {
            true => self.accounts.keys().copied().collect(),
            false => self.named_in(earth, &block["hash"]),
        };
        self.money_is_conserved(accounts).await;
        let tasks = if stale || !self.gone.is_empty() { self.open() } else { self.ending(earth, &block["hash"]) };
        for task in tasks {
            let state = self.market.hub.task(task).await.expect("the hub answers");
            let deal = self.tasks[&task].deal;
            let Some(deal) = self.market.hub.deal(deal).await.expect("the hub answers") else {
                self.gone.insert(task);
                continue;
            };
            self.gone.remove(&task);
            let deadline = deal.final_deadline(self.market.places.period);
            self.tasks.entry(task).and_modify(|bought| bought.final_deadline = deadline);
            if matches!(state.status, TaskStatus::Completed | TaskStatus::Failed) {
                self.ended(&state).await;
            }
        }
    }

    /// The open tasks that end in a block.
    fn ending(&self, earth: &Earth, block: &serde_json::Value) -> Vec<TaskId> {
        let endings = [IHub::TaskFinalize::SIGNATURE_HASH, IHub::TaskClaimed::SIGNATURE_HASH];
        let hub = self.market.hub.address;
        let filter = serde_json::json!({ "blockHash": block, "address": hub, "topics": [endings] });
        let logs = earth.ground.rpc("eth_getLogs", serde_json::json!([filter]));
        let task = |log: &serde_json::Value| Some(TaskId(log["topics"][1].as_str()?.parse().ok()?));
        logs.as_array().into_iter().flatten().filter_map(task).filter(|task| self.open.contains(task)).collect()
    }

    fn nobody_pays_over_the_cap(&mut self, transactions: &[serde_json::Value]) {
        for transaction in transactions {
            let offered = u128::from(crate::chain::number(&transaction["maxFeePerGas"]));
            if offered > GasPolicy::default().cap {
                self.complain(format!("{} offers {offered} wei per gas", transaction["from"]));
            }
        }
    }

    /// The accounts that the hub's events in a block speak of.
    fn named_in(&self, earth: &Earth, block: &serde_json::Value) -> Vec<Address> {
        let filter = serde_json::json!({ "blockHash": block, "address": self.market.hub.address });
        let logs = earth.ground.rpc("eth_getLogs", serde_json::json!([filter]));
        let words = logs.as_array().into_iter().flatten().flat_map(|log| {
            let topics = log["topics"].as_array().into_iter().flatten().filter_map(|topic| topic.as_str());
            topics.chain(log["data"].as_str()).flat_map(|words| words.trim_start_matches("0x").as_bytes().chunks(64))
        });
        let address = |word: &[u8]| hex::decode(word.get(24..)?).ok()?.try_into().ok().map(Address::new);
        let named: BTreeSet<Address> = words.filter_map(address).collect();
        named.into_iter().filter(|account| self.accounts.contains_key(account)).collect()
    }

    /// All the money, once more.
    pub(crate) async fn close_the_books(&mut self) {
        self.money_is_conserved(self.accounts.keys().copied().collect()).await;
    }

    /// Holds what everybody has against what there is. Only these accounts are read anew; one that changes without an event
    /// is noticed a little later.
    async fn money_is_conserved(&mut self, accounts: Vec<Address>) {
        if accounts.len() == self.accounts.len() {
            self.unread = 0;
        }
        let hub = self.market.hub.clone();
        let held = hub.client.call(self.market.places.rlc, &IRlc::balanceOfCall { account: hub.address }).await;
        let held = held.expect("the token answers");
        let supply = hub.view(&IHub::totalSupplyCall {}).await.expect("the hub answers");
        if held < supply {
            self.complain(format!("the hub holds {held} nRLC and owes {supply}"));
        }
        for address in accounts {
            let account = hub.account(address).await.expect("the hub answers");
            self.accounts.insert(address, account.stake.0 + account.locked.0);
        }
        let sum: U256 = self.accounts.values().sum();
        if sum != supply {
            self.complain(format!("balances and locks are {sum} nRLC and the supply is {supply}"));
        }
    }

    async fn ended(&mut self, task: &ChainTask) {
        self.open.remove(&task.id);
        let mut votes = Vec::new();
        for worker in &task.contributors {
            let vote = self.market.hub.contribution(task.id, *worker).await.expect("the hub answers");
            votes.push((*worker, vote));
        }
        self.nobody_honest_loses(task, &votes);
        self.verdict.claimed_in_faults += u64::from(task.status == TaskStatus::Failed && !self.calm);
        let ending = match task.status {
            TaskStatus::Completed => self.paid(task, &votes),
            _ if self.is_bereft(&votes) => Ending::Bereft,
            _ if self.tasks[&task.id].kind == Kind::FitsNobody => Ending::FitNobody,
            _ => Ending::Refunded,
        };
        self.ended.insert(task.id, (self.height, ending));
        tracing::info!(task = %task.id, status = ?task.status, "ended");
    }

    /// Who gave the right answer and was not outvoted keeps its stake and gets its pay: the times in which nobody reaches a
    /// node, or gas is over the cap, are all shorter than the time to reveal. poco.md §7.5, §7.8, §9.
    fn nobody_honest_loses(&mut self, task: &ChainTask, votes: &[(Address, Contribution)]) {
        let right = self.right(task.id);
        let won = task.consensus == right;
        for (worker, vote) in votes {
            if vote.result_hash != right || self.excused.contains(worker) {
                continue;
            }
            // A refund gives all stakes back.
            let what = if task.status == TaskStatus::Completed { "stake" } else { "pay" };
            let how = match vote.status {
                ContributionStatus::Contributed if won => "by silence",
                ContributionStatus::Rejected => "when the vote was opened again",
                ContributionStatus::Proved if what == "pay" && !self.pool_is_gone => "though it revealed",
                ContributionStatus::Unset | ContributionStatus::Contributed | ContributionStatus::Proved => continue,
            };
            self.complain(format!("{worker} was right about {} and lost its {what} {how}", task.id));
        }
    }

    /// What who votes for the right answer puts on the chain.
    fn right(&self, task: TaskId) -> B256 {
        let pushed = self.tasks.get(&task).is_some_and(|bought| bought.kind == Kind::Pushed);
        result_hash(task, right_digest(task, pushed))
    }

    /// Whether all who revealed have left for good.
    fn is_bereft(&self, votes: &[(Address, Contribution)]) -> bool {
        let mut revealed = votes.iter().filter(|(_, vote)| vote.status == ContributionStatus::Proved).peekable();
        revealed.peek().is_some() && revealed.all(|(worker, _)| self.excused.contains(worker))
    }

    fn paid(&mut self, task: &ChainTask, members: &[(Address, Contribution)]) -> Ending {
        let bought = self.tasks[&task.id].clone();
        // Scores have moved since: the doubt is in favour of what was paid.
        let mut votes = Votes::default();
        let mut revealed = 0;
        for (_, vote) in members {
            if matches!(vote.status, ContributionStatus::Contributed | ContributionStatus::Proved) {
                let (least, greatest) = vote.weight_range();
                votes.add(vote.result_hash, if vote.result_hash == task.consensus { greatest } else { least });
            }
            revealed += u64::from(vote.status == ContributionStatus::Proved);
        }
        if !votes.reached(task.consensus, U256::from(bought.trust)) {
            self.complain(format!("{} was paid without the trust that was bought", task.id));
        }
        if revealed == 0 {
            self.complain(format!("{} was paid and nobody revealed", task.id));
        }
        if bought.kind == Kind::FitsNobody {
            self.complain(format!("{} was paid and no worker here can do it", task.id));
        }
        let right = self.right(task.id);
        if task.consensus == right { Ending::Paid } else { Ending::BoughtWrong }
    }

    /// The newest blocks are void: what ended in them has not ended.
    pub(crate) fn took_back(&mut self, blocks: u64) {
        let void = |height: u64| height + blocks > self.height;
        let again: Vec<TaskId> = self.ended.iter().filter(|(_, (h, _))| void(*h)).map(|(task, _)| *task).collect();
        self.stale = true;
        for task in again {
            self.ended.remove(&task);
            self.open.insert(task);
        }
    }

    pub(crate) fn complain_about_the_stuck(&mut self, stuck: Vec<Bought>) {
        for Bought { task, .. } in stuck {
            self.complain(format!("task {task} is stuck: its final deadline has passed and nobody has claimed it"));
        }
    }

    fn complain(&mut self, what: String) {
        tracing::error!(block = self.height, what, "violation");
        self.verdict.violations.push(format!("block {}: {what}", self.height));
    }

    /// Reads from the chain when everything happened, and what it brought.
    pub(crate) async fn look_back(&mut self, earth: &Earth) {
        let kinds = [
            IHub::TaskInitialize::SIGNATURE_HASH,
            IHub::TaskConsensus::SIGNATURE_HASH,
            IHub::TaskFinalize::SIGNATURE_HASH,
        ];
        let filter = serde_json::json!({ "fromBlock": "0x0", "address": self.market.hub.address, "topics": [kinds] });
        let logs = earth.ground.rpc("eth_getLogs", serde_json::json!([filter]));
        let mut times: BTreeMap<(TaskId, usize), u64> = BTreeMap::new();
        for log in logs.as_array().into_iter().flatten() {
            let topic = |n: usize| log["topics"][n].as_str().and_then(|t| t.parse::<B256>().ok()).unwrap_or_default();
            let block = earth.ground.rpc("eth_getBlockByNumber", serde_json::json!([log["blockNumber"], false]));
            if let Some(kind) = kinds.iter().position(|kind| *kind == topic(0)) {
                times.insert((TaskId(topic(1)), kind), crate::chain::number(&block["timestamp"]));
            }
        }
        let paid = self.ended.iter().filter(|(_, (_, ending))| matches!(ending, Ending::Paid | Ending::BoughtWrong));
        let order = |task: &TaskId| {
            let at = |kind| times.get(&(*task, kind)).copied();
            let bought = self.tasks[task].final_deadline - 10 * self.market.places.period;
            Some(OrderTimes { bought, opened: at(0)?, agreed: at(1)?, paid: at(2)? })
        };
        self.verdict.orders = paid.filter_map(|(task, _)| order(task)).collect();
        for n in 0..self.market.places.workers {
            let account = self.market.hub.account(key(FIRST_WORKER + n).address()).await.expect("the hub answers");
            let has = account.stake.0 + account.locked.0;
            self.verdict.earned += has.saturating_sub(Nrlc::rlc(DEPOSIT).0);
        }
    }

    /// So many workers are connected now.
    pub(crate) fn count(&mut self, connected: usize) {
        self.verdict.connected = self.verdict.connected.max(connected);
    }

    /// The whole.
    pub(crate) fn verdict(mut self, plan: Plan, faults: BTreeMap<Fault, u64>, chance: [u8; 32]) -> Verdict {
        let count = |wanted| self.ended.values().filter(|(_, ending)| *ending == wanted).count() as u64;
        let (right, wrong, refunded) = (count(Ending::Paid), count(Ending::BoughtWrong), count(Ending::Refunded));
        let (bereft, unfit) = (count(Ending::Bereft), count(Ending::FitNobody));
        if plan.climate != Climate::Wild && refunded > 0 {
            self.complain(format!("{refunded} tasks were refunded though all faults were short"));
        }
        // Chance is drawn in the order of events: the next draw is the same only if all were.
        self.trace.extend(chance);
        Verdict {
            seed: plan.seed,
            tasks: (self.tasks.len() - self.gone.len()) as u64,
            paid: right + wrong,
            bought_wrong: wrong,
            refunded: refunded + bereft + unfit,
            faults,
            trace: keccak256(&self.trace).to_string(),
            ..self.verdict
        }
    }
}
