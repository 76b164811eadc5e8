//! What the chain says of deals, tasks and contributions, in domain types. Source: poco.md §3.2, §10.

use crate::{
    abi,
    computed::{callback_digest, file_digest},
    ids::{DealId, ResultDigest, TaskId},
    money::Nrlc,
};
use alloy_primitives::{Address, B256, Bytes, U256};
use serde::{Deserialize, Serialize};

/// The contribution phase ends this many periods after the start of the deal.
pub const CONTRIBUTION_PERIODS: u64 = 7;
/// The reveal phase ends this many periods after consensus.
pub const REVEAL_PERIODS: u64 = 2;
/// Everything ends this many periods after the start of the deal.
pub const FINAL_PERIODS: u64 = 10;

/// One third of a triplet, as the deal froze it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// The asset contract.
    pub pointer: Address,
    /// Its owner at the time of the match.
    pub owner: Address,
    /// Price of one task.
    pub price: Nrlc,
}

/// A deal: immutable once matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deal {
    /// Its name.
    pub id: DealId,
    /// The app.
    pub app: Resource,
    /// The dataset, if the deal has one.
    pub dataset: Option<Resource>,
    /// The pool.
    pub workerpool: Resource,
    /// How hard the answer is checked, at least 1.
    pub trust: U256,
    /// The category.
    pub category: U256,
    /// Required features.
    pub tag: B256,
    /// Who asked.
    pub requester: Address,
    /// For whom.
    pub beneficiary: Address,
    /// Who is called back, or zero.
    pub callback: Address,
    /// What the app gets; see [`crate::params`].
    pub params: String,
    /// Seconds since the epoch.
    pub start_time: u64,
    /// Index of the first task.
    pub bot_first: U256,
    /// Number of tasks.
    pub bot_size: U256,
    /// What each worker locks per task.
    pub worker_stake: Nrlc,
    /// The pool owner's percent of the reward.
    pub scheduler_percent: u64,
    /// Who pays.
    pub sponsor: Address,
}

impl Deal {
    /// Reads the contract's struct; `None` for a deal that does not exist.
    pub fn read(id: DealId, deal: abi::Deal) -> Option<Self> {
        if deal.botSize.is_zero() {
            return None;
        }
        let dataset = (deal.dataset.pointer != Address::ZERO).then(|| deal.dataset.into());
        Some(Self {
            id,
            app: deal.app.into(),
            dataset,
            workerpool: deal.workerpool.into(),
            trust: deal.trust,
            category: deal.category,
            tag: deal.tag,
            requester: deal.requester,
            beneficiary: deal.beneficiary,
            callback: deal.callback,
            params: deal.params,
            start_time: seconds(deal.startTime),
            bot_first: deal.botFirst,
            bot_size: deal.botSize,
            worker_stake: Nrlc(deal.workerStake),
            scheduler_percent: seconds(deal.schedulerRewardRatio),
            sponsor: deal.sponsor,
        })
    }

    /// Whether the result is pushed to a contract. Source: poco.md §7.6.
    pub fn has_callback(&self) -> bool {
        self.callback != Address::ZERO
    }

    /// What workers vote on for a result of these bytes. Source: middleware.md §4.8.
    pub fn result_digest(&self, result: &[u8]) -> ResultDigest {
        match self.has_callback() {
            true => callback_digest(result),
            false => file_digest(result),
        }
    }

    /// The last moment plus one at which a contribution is accepted, for category time `period` in seconds.
    pub fn contribution_deadline(&self, period: u64) -> u64 {
        self.start_time.saturating_add(period.saturating_mul(CONTRIBUTION_PERIODS))
    }

    /// The moment from which the task can be claimed.
    pub fn final_deadline(&self, period: u64) -> u64 {
        self.start_time.saturating_add(period.saturating_mul(FINAL_PERIODS))
    }

    /// What one task costs its payer; `None` past 256 bits.
    pub fn price(&self) -> Option<Nrlc> {
        let dataset = self.dataset.as_ref().map_or(Nrlc::ZERO, |d| d.price);
        self.app.price.checked_add(dataset)?.checked_add(self.workerpool.price)
    }
}

impl From<abi::Resource> for Resource {
    fn from(r: abi::Resource) -> Self {
        Self { pointer: r.pointer, owner: r.owner, price: Nrlc(r.price) }
    }
}

/// A task's state on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TaskStatus {
    /// Not initialised.
    Unset,
    /// Open for contributions.
    Active,
    /// Consensus reached; waiting for reveals.
    Revealing,
    /// Paid.
    Completed,
    /// Claimed: refunded.
    Failed,
}

/// A task as the hub shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainTask {
    /// Its name.
    pub id: TaskId,
    /// Where it stands.
    pub status: TaskStatus,
    /// Contributions are accepted before this second.
    pub contribution_deadline: u64,
    /// Reveals are accepted before this second; 0 without consensus.
    pub reveal_deadline: u64,
    /// Finalised before, claimed from this second.
    pub final_deadline: u64,
    /// The winning result hash; zero without consensus.
    pub consensus: B256,
    /// How many of the winners have revealed.
    pub revealed: u64,
    /// How many contributed the winning hash.
    pub winners: u64,
    /// Everybody who contributed, in order.
    pub contributors: Vec<Address>,
    /// The revealed digest; zero before.
    pub digest: ResultDigest,
    /// Where the result lies: JSON with storage and location.
    pub results: Bytes,
}

impl ChainTask {
    /// Reads the contract's struct; `None` if the status is unknown to this version.
    pub fn read(id: TaskId, task: abi::Task) -> Option<Self> {
        let status = match task.status {
            0 => TaskStatus::Unset,
            1 => TaskStatus::Active,
            2 => TaskStatus::Revealing,
            3 => TaskStatus::Completed,
            4 => TaskStatus::Failed,
            _ => return None,
        };
        Some(Self {
            id,
            status,
            contribution_deadline: seconds(task.contributionDeadline),
            reveal_deadline: seconds(task.revealDeadline),
            final_deadline: seconds(task.finalDeadline),
            consensus: task.consensusValue,
            revealed: seconds(task.revealCounter),
            winners: seconds(task.winnerCounter),
            contributors: task.contributors,
            digest: ResultDigest(task.resultDigest),
            results: task.results,
        })
    }
}

/// A contribution's state on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ContributionStatus {
    /// None.
    Unset,
    /// Committed.
    Contributed,
    /// Revealed.
    Proved,
    /// Thrown out by a reopen.
    Rejected,
}

/// One worker's contribution to one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contribution {
    /// Where it stands.
    pub status: ContributionStatus,
    /// The vote.
    pub result_hash: B256,
    /// The vote, bound to the worker.
    pub result_seal: B256,
    /// The logarithm of the consensus weight that it had when it was made: poco.md §8.
    pub reward_weight: U256,
}

impl Contribution {
    /// That of a worker that has not contributed.
    pub const NONE: Self = Self {
        status: ContributionStatus::Unset,
        result_hash: B256::ZERO,
        result_seal: B256::ZERO,
        reward_weight: U256::ZERO,
    };

    /// The least and the greatest consensus weight that it can have had.
    pub fn weight_range(&self) -> (U256, U256) {
        let log = self.reward_weight.saturating_to::<usize>().clamp(1, 254);
        (U256::from(1) << log, (U256::from(2) << log) - U256::from(1))
    }

    /// Reads the contract's struct; `None` if the status is unknown to this version.
    pub fn read(c: abi::Contribution) -> Option<Self> {
        let status = match c.status {
            0 => ContributionStatus::Unset,
            1 => ContributionStatus::Contributed,
            2 => ContributionStatus::Proved,
            3 => ContributionStatus::Rejected,
            _ => return None,
        };
        Some(Self { status, result_hash: c.resultHash, result_seal: c.resultSeal, reward_weight: c.weight })
    }
}

/// Where a result lies, as it stands on chain: `{"storage":"ipfs","location":"/ipfs/<cid>"}`. Source: sdk.md §0.8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultLink {
    /// `ipfs`.
    pub storage: String,
    /// `/ipfs/<cid>`.
    pub location: String,
}

impl ResultLink {
    /// The link to a content id.
    pub fn ipfs(location: String) -> Self {
        Self { storage: "ipfs".into(), location }
    }

    /// The bytes that go on chain.
    pub fn write(&self) -> Bytes {
        serde_json::to_vec(self).expect("strings always serialise").into()
    }

    /// Reads what stands on chain; `None` if it is not a link.
    pub fn read(results: &[u8]) -> Option<Self> {
        serde_json::from_slice(results).ok()
    }
}

/// A time or counter of the chain; what no clock reaches is the end of time.
fn seconds(value: U256) -> u64 {
    value.saturating_to()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_written_as_clients_expect_it() {
        let link = ResultLink::ipfs("/ipfs/QmX".into());
        assert_eq!(link.write().as_ref(), br#"{"storage":"ipfs","location":"/ipfs/QmX"}"#);
        assert_eq!(ResultLink::read(&link.write()), Some(link));
        assert_eq!(ResultLink::read(b"anything"), None);
    }
}
