//! What is done to both systems at once, and what is looked at afterwards.

use crate::calls::{bare, call};
use crate::deploy::System;
use crate::machine::Call;
use alloy_primitives::{Address, B256, Bytes, U256};
use bourse_protocol::api::Match;

/// One step of a life cycle.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it is about: which guard it tries, or which call it makes well.
    pub aim: &'static str,
    /// Unix seconds of its block.
    pub at: u64,
    /// The call.
    pub call: Call,
    /// What the published system is asked to do instead, where it cannot do the same in one call.
    pub instead: Vec<Call>,
    /// Questions asked afterwards; the answers must agree.
    pub looks: Vec<Look>,
    /// Whether the call creates an asset.
    pub creates: bool,
    /// The orders, if it is a match.
    pub orders: Option<Box<Match>>,
    /// Whether what it changes is forgotten, because the two states would differ from then on, as they should.
    pub dry: bool,
}

impl Step {
    /// A step that keeps what it changes; the time is set by whoever plays it.
    pub fn new(aim: &'static str, call: Call) -> Self {
        Self { aim, at: 0, call, instead: Vec::new(), looks: Vec::new(), creates: false, orders: None, dry: false }
    }

    /// With questions to ask afterwards.
    pub fn look(mut self, looks: impl IntoIterator<Item = Look>) -> Self {
        self.looks.extend(looks);
        self
    }

    /// Whose changes are forgotten.
    pub fn dry(mut self) -> Self {
        self.dry = true;
        self
    }
}

/// A question: whom, what.
pub type Look = (Address, Bytes);

/// Everything that can be seen of an account.
pub fn account(system: &System, who: Address) -> Vec<Look> {
    let hub = [
        "viewAccount(address)",
        "viewAccountABILegacy(address)",
        "balanceOf(address)",
        "frozenOf(address)",
        "viewScore(address)",
    ];
    let mut looks: Vec<_> = hub.iter().map(|s| (system.hub, call(s, (who,)))).collect();
    looks.push((system.rlc, call("balanceOf(address)", (who,))));
    looks
}

/// Everything that can be seen of an order.
pub fn order(system: &System, hash: B256) -> Vec<Look> {
    ["viewConsumed(bytes32)", "viewPresigned(bytes32)"].iter().map(|s| (system.hub, call(s, (hash,)))).collect()
}

/// Everything that can be seen of a deal.
pub fn deal(system: &System, id: B256) -> Vec<Look> {
    let views = [
        "viewDeal(bytes32)",
        "viewDealABILegacy_pt1(bytes32)",
        "viewDealABILegacy_pt2(bytes32)",
        "viewConfigABILegacy(bytes32)",
    ];
    views.iter().map(|s| (system.hub, call(s, (id,)))).collect()
}

/// Everything that can be seen of a task.
pub fn task(system: &System, id: B256, workers: impl IntoIterator<Item = Address>) -> Vec<Look> {
    let views = ["viewTask(bytes32)", "viewTaskABILegacy(bytes32)", "resultFor(bytes32)"];
    let mut looks: Vec<_> = views.iter().map(|s| (system.hub, call(s, (id,)))).collect();
    for worker in workers {
        for view in ["viewContribution(bytes32,address)", "viewContributionABILegacy(bytes32,address)"] {
            looks.push((system.hub, call(view, (id, worker))));
        }
    }
    looks
}

/// What every receiver of results keeps about a task.
pub fn receiver(address: Address, task: B256) -> Look {
    (address, call("kept(bytes32)", (task,)))
}

/// Everything that can be seen of a registry.
pub fn registry(registry: Address) -> Vec<Look> {
    let plain = ["name()", "symbol()", "owner()", "totalSupply()", "baseURI()", "initialized()", "previous()"];
    plain.iter().map(|s| (registry, bare(s))).collect()
}

/// Everything that a registry says of one asset and its owner.
pub fn token(registry: Address, asset: Address, owner: Address) -> Vec<Look> {
    let id: U256 = asset.into_word().into();
    let mut looks: Vec<_> = ["ownerOf(uint256)", "getApproved(uint256)", "tokenURI(uint256)"]
        .iter()
        .map(|s| (registry, call(s, (id,))))
        .collect();
    looks.push((registry, call("isRegistered(address)", (asset,))));
    looks.push((registry, call("balanceOf(address)", (owner,))));
    looks.push((registry, call("tokenOfOwnerByIndex(address,uint256)", (owner, U256::ZERO))));
    looks
}

/// Everything that an asset says of itself and the hub of it.
pub fn asset(system: &System, kind: usize, asset: Address) -> Vec<Look> {
    let (own, hub): (&[&str], &str) = match kind {
        0 => (
            &["m_appName()", "m_appType()", "m_appMultiaddr()", "m_appChecksum()", "m_appMREnclave()"],
            "viewApp(address)",
        ),
        1 => (&["m_datasetName()", "m_datasetMultiaddr()", "m_datasetChecksum()"], "viewDataset(address)"),
        _ => (
            &["m_workerpoolDescription()", "m_workerStakeRatioPolicy()", "m_schedulerRewardRatioPolicy()"],
            "viewWorkerpool(address)",
        ),
    };
    let mut looks: Vec<_> = own.iter().chain(&["owner()", "registry()"]).map(|s| (asset, bare(s))).collect();
    looks.push((system.hub, call(hub, (asset,))));
    looks
}

/// Everything about the hub as a whole.
pub fn hub(system: &System) -> Vec<Look> {
    let plain = [
        "totalSupply()",
        "name()",
        "symbol()",
        "decimals()",
        "token()",
        "appregistry()",
        "datasetregistry()",
        "workerpoolregistry()",
        "teebroker()",
        "countCategory()",
        "eip712domain_separator()",
        "domain()",
        "owner()",
        "contribution_deadline_ratio()",
        "reveal_deadline_ratio()",
        "final_deadline_ratio()",
        "workerpool_stake_ratio()",
        "kitty_ratio()",
        "kitty_min()",
        "kitty_address()",
        "groupmember_purpose()",
        "callbackgas()",
    ];
    plain.iter().map(|s| (system.hub, bare(s))).collect()
}
