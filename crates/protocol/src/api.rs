//! The HTTP vocabulary of the services. Source: sdk.md §3 (market), §7 (scheduler); middleware.md §3.5.

pub mod market;

use crate::{
    abi::IHub,
    deal::{ContributionStatus, ResultLink, TaskStatus},
    ids::{DealId, OrderHash, TaskId},
    orders::{AppOrder, DatasetOrder, RequestOrder, WorkerpoolOrder},
    replicate::{Cause, Outcome, Phase, Status},
};
use alloy_primitives::{Address, U256};
use serde::{Deserialize, Serialize};

/// The body of every refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Always false.
    pub ok: bool,
    /// A stable word for programs.
    pub code: String,
    /// The thing, the reason and the next step, for people.
    pub error: String,
}

/// Where a published order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// Can be matched.
    Open,
    /// Its volume is used up.
    Filled,
    /// Its owner closed it.
    Canceled,
    /// What it relied on is gone.
    Dead,
}

/// An order in the book.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedOrder<O> {
    /// Its name.
    pub order_hash: OrderHash,
    /// The chain that it is for.
    pub chain_id: u64,
    /// The signed order.
    pub order: O,
    /// Volume that is left.
    #[serde(with = "crate::orders::number")]
    pub remaining: U256,
    /// Where it stands.
    pub status: OrderStatus,
    /// ISO 8601, UTC, milliseconds.
    pub publication_timestamp: String,
    /// Who signed it.
    #[serde(with = "crate::orders::checksummed")]
    pub signer: Address,
    /// Of a dataset order: whether it serves bulk processing, being free and of practically infinite volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulk: Option<bool>,
}

/// A page of the order book.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderPage<O> {
    /// Always true.
    pub ok: bool,
    /// How many orders fit the question.
    pub count: u64,
    /// The number of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page: Option<u64>,
    /// This page.
    pub orders: Vec<PublishedOrder<O>>,
}

/// The four orders of a match.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Match {
    /// The app's.
    pub app: AppOrder,
    /// The dataset's; all zero for none.
    pub dataset: DatasetOrder,
    /// The pool's.
    pub workerpool: WorkerpoolOrder,
    /// The requester's.
    pub request: RequestOrder,
}

/// What the hub is called with to match them.
impl From<&Match> for IHub::matchOrdersCall {
    fn from(orders: &Match) -> Self {
        Self {
            app: (&orders.app).into(),
            dataset: (&orders.dataset).into(),
            workerpool: (&orders.workerpool).into(),
            request: (&orders.request).into(),
        }
    }
}

/// A task as its scheduler sees it: `GET /tasks/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskView {
    /// The task.
    pub chain_task_id: TaskId,
    /// Its deal.
    pub deal_id: DealId,
    /// Its index in the deal.
    #[serde(with = "crate::orders::number")]
    pub index: U256,
    /// Where it stands.
    pub current_status: crate::task::Stage,
    /// What that means, in plain words.
    pub meaning: String,
    /// Where it stands on chain.
    pub chain_status: TaskStatus,
    /// What happened when.
    pub date_status_list: Vec<StageChange>,
    /// What comes next.
    pub outlook: crate::outlook::Outlook,
    /// Why it cannot go on, or was refunded, if so.
    pub cause: Option<Cause>,
    /// Contributions are accepted before this second.
    pub contribution_deadline: u64,
    /// It can be claimed from this second on.
    pub final_deadline: u64,
    /// Where the result lies.
    pub result: Option<ResultLink>,
    /// The workers' parts.
    pub replicates: Vec<ReplicateView>,
}

/// One change of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageChange {
    /// Seconds since the epoch.
    pub date: u64,
    /// The stage that began.
    pub status: crate::task::Stage,
    /// Why, where it should not have come to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// A replicate as its scheduler sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicateView {
    /// The worker's wallet.
    pub wallet_address: Address,
    /// The worker's name.
    pub worker_name: String,
    /// Where it stands.
    pub current_status: Status,
    /// What that means, in plain words.
    pub meaning: String,
    /// The exit code of the app, where it ended by itself and failed.
    pub app_exit_code: Option<i32>,
    /// What it is about.
    pub phase: Phase,
    /// How it stands.
    pub outcome: Outcome,
    /// Why, for failures.
    pub cause: Option<Cause>,
    /// How often the task was given to this worker.
    pub attempt: u32,
    /// What comes next.
    pub outlook: crate::outlook::Outlook,
    /// Its contribution on chain.
    pub contribution: ContributionStatus,
    /// What happened when.
    pub status_update_list: Vec<StatusChange>,
}

/// One change of a replicate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusChange {
    /// Seconds since the epoch.
    pub date: u64,
    /// The status that began.
    pub status: Status,
    /// Why, for failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// A worker as its scheduler sees it: an element of `GET /workers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerView {
    /// Its wallet.
    pub wallet_address: Address,
    /// Its name.
    pub name: String,
    /// Whether it is connected now.
    pub connected: bool,
    /// Seconds since the epoch of its last sign of life.
    pub last_alive: u64,
    /// What its machine offers.
    pub capabilities: crate::link::Capabilities,
    /// Tasks that it works on.
    pub tasks: Vec<TaskId>,
}
