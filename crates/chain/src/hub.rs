//! The hub and what it points to, as typed views.

use crate::{
    client::{Client, Error, Head},
    gas::WorkGas,
    sender::Sender,
};
use alloy::{
    primitives::{Address, B256, Bytes, U256},
    rpc::types::Filter,
    sol_types::{Eip712Domain, SolCall, SolEvent},
};
use bourse_protocol::{
    abi::{IAsset, IHub, IRegistry},
    deal::{ChainTask, Contribution, Deal},
    ids::{DealId, OrderHash, TaskId},
    money::Nrlc,
    orders, signature,
};
use std::collections::BTreeSet;

/// In so many of the last blocks it is looked what calls used, until so many workers are found; of so many transactions
/// at most it is asked.
const RECENT_BLOCKS: u64 = 500;
const RECENT: usize = 5;
const ASKED: usize = 20;
/// What others used is believed up to so many times what was measured: three wallets of one pool decide the middle.
const UNUSUAL: u64 = 5;

/// The hub contract on one chain. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Where to ask.
    pub client: Client,
    /// The contract.
    pub address: Address,
}

/// Money of an account in the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Account {
    /// Free: can be locked or withdrawn.
    pub stake: Nrlc,
    /// Held for deals and tasks that have not ended.
    pub locked: Nrlc,
}

/// An app contract.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contract's own fields")]
pub struct App {
    pub address: Address,
    pub owner: Address,
    pub name: String,
    pub kind: String,
    pub multiaddr: Bytes,
    pub checksum: B256,
}

/// A dataset contract.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contract's own fields")]
pub struct Dataset {
    pub address: Address,
    pub owner: Address,
    pub name: String,
    pub multiaddr: Bytes,
    pub checksum: B256,
}

/// A workerpool contract.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contract's own fields")]
pub struct Workerpool {
    pub address: Address,
    pub owner: Address,
    pub description: String,
    pub worker_stake_percent: U256,
    pub scheduler_percent: U256,
}

impl Hub {
    /// The hub at `address`.
    pub fn new(client: Client, address: Address) -> Self {
        Self { client, address }
    }

    /// The same hub, read at one block: all that is read belongs together.
    pub fn at(&self, block: Head) -> Self {
        Self { client: self.client.at(block), address: self.address }
    }

    /// A deal; `None` if there is none of that name.
    pub async fn deal(&self, id: DealId) -> Result<Option<Deal>, Error> {
        Ok(Deal::read(id, self.view(&IHub::viewDealCall { dealid: id.0 }).await?))
    }

    /// The period T of a category, in seconds.
    pub async fn period(&self, category: U256) -> Result<u64, Error> {
        let category = self.view(&IHub::viewCategoryCall { catid: category }).await?;
        Ok(category.workClockTimeRef.saturating_to())
    }

    /// A task; one that was never initialised is `Unset` and has no deadlines.
    pub async fn task(&self, id: TaskId) -> Result<ChainTask, Error> {
        let task = self.view(&IHub::viewTaskCall { taskid: id.0 }).await?;
        ChainTask::read(id, task).ok_or_else(|| self.nonsense("viewTask"))
    }

    /// A worker's contribution to a task.
    pub async fn contribution(&self, task: TaskId, worker: Address) -> Result<Contribution, Error> {
        let contribution = self.view(&IHub::viewContributionCall { taskid: task.0, worker }).await?;
        Contribution::read(contribution).ok_or_else(|| self.nonsense("viewContribution"))
    }

    /// A worker's reputation.
    pub async fn score(&self, worker: Address) -> Result<U256, Error> {
        self.view(&IHub::viewScoreCall { worker }).await
    }

    /// An account's money.
    pub async fn account(&self, account: Address) -> Result<Account, Error> {
        let account = self.view(&IHub::viewAccountCall { account }).await?;
        Ok(Account { stake: Nrlc(account.stake), locked: Nrlc(account.locked) })
    }

    /// How much of an order's volume was matched or closed.
    pub async fn consumed(&self, order: OrderHash) -> Result<U256, Error> {
        self.view(&IHub::viewConsumedCall { orderHash: order.0 }).await
    }

    /// The app at an address; `None` if the registry does not know it.
    pub async fn app(&self, address: Address) -> Result<Option<App>, Error> {
        if !self.registered(self.view(&IHub::appregistryCall {}).await?, address).await? {
            return Ok(None);
        }
        Ok(Some(App {
            address,
            owner: self.asset(address, &IAsset::ownerCall {}).await?,
            name: self.asset(address, &IAsset::m_appNameCall {}).await?,
            kind: self.asset(address, &IAsset::m_appTypeCall {}).await?,
            multiaddr: self.asset(address, &IAsset::m_appMultiaddrCall {}).await?,
            checksum: self.asset(address, &IAsset::m_appChecksumCall {}).await?,
        }))
    }

    /// The dataset at an address; `None` if the registry does not know it.
    pub async fn dataset(&self, address: Address) -> Result<Option<Dataset>, Error> {
        if !self.registered(self.view(&IHub::datasetregistryCall {}).await?, address).await? {
            return Ok(None);
        }
        Ok(Some(Dataset {
            address,
            owner: self.asset(address, &IAsset::ownerCall {}).await?,
            name: self.asset(address, &IAsset::m_datasetNameCall {}).await?,
            multiaddr: self.asset(address, &IAsset::m_datasetMultiaddrCall {}).await?,
            checksum: self.asset(address, &IAsset::m_datasetChecksumCall {}).await?,
        }))
    }

    /// The workerpool at an address; `None` if the registry does not know it.
    pub async fn workerpool(&self, address: Address) -> Result<Option<Workerpool>, Error> {
        if !self.registered(self.view(&IHub::workerpoolregistryCall {}).await?, address).await? {
            return Ok(None);
        }
        Ok(Some(Workerpool {
            address,
            owner: self.asset(address, &IAsset::ownerCall {}).await?,
            description: self.asset(address, &IAsset::m_workerpoolDescriptionCall {}).await?,
            worker_stake_percent: self.asset(address, &IAsset::m_workerStakeRatioPolicyCall {}).await?,
            scheduler_percent: self.asset(address, &IAsset::m_schedulerRewardRatioPolicyCall {}).await?,
        }))
    }

    /// Whether `account` stands behind `digest`: by a wallet's signature, by a presign, or as a contract wallet.
    pub async fn signature_valid(&self, account: Address, digest: B256, sign: &Bytes) -> Result<bool, Error> {
        if signature::signed(account, digest, sign) {
            return Ok(true);
        }
        let call = IHub::verifyPresignatureOrSignatureCall { account, hash: digest, signature: sign.clone() };
        match self.view(&call).await {
            // The hub reverts on a signature of impossible length.
            Err(Error::Reverted(_)) => Ok(false),
            other => other,
        }
    }

    /// The EIP-712 domain that orders for this hub are signed in.
    pub async fn domain(&self) -> Result<Eip712Domain, Error> {
        Ok(orders::domain(self.client.chain_id().await?, self.address))
    }

    /// Gas that a worker's calls for one task use here: the dearest of those that `own` has made, or else the usual of the
    /// last that others made, and never less than what was measured with our contracts.
    pub async fn work_gas(&self, own: Option<&Sender>) -> Result<WorkGas, Error> {
        let known = |gas: Option<u64>, measured: u64| gas.map(|gas| gas.max(measured));
        let usual = |gas: Option<u64>, measured: u64| gas.map(|gas| gas.clamp(measured, UNUSUAL * measured));
        let WorkGas { contribute, reveal } = WorkGas::MEASURED;
        let (mut contributions, mut reveals) = (None, None);
        if let Some(own) = own {
            // A store that fails is only a reason to ask the chain.
            contributions = known(own.gas_used::<IHub::contributeCall>(self.address).ok().flatten(), contribute);
            reveals = known(own.gas_used::<IHub::revealCall>(self.address).ok().flatten(), reveal);
        }
        if contributions.is_none() {
            contributions = usual(self.recent_gas(IHub::TaskContribute::SIGNATURE_HASH).await?, contribute);
        }
        if reveals.is_none() {
            reveals = usual(self.recent_gas(IHub::TaskReveal::SIGNATURE_HASH).await?, reveal);
        }
        Ok(WorkGas { contribute: contributions.unwrap_or(contribute), reveal: reveals.unwrap_or(reveal) })
    }

    /// Gas that the calls with this event used which workers made of late: of each worker the last, of all the one in the
    /// middle. `None` if there were none.
    ///
    /// Strangers must not decide it: a contract between a worker and the hub burns what it likes, and so does a contract
    /// that has to confirm a pool's signature.
    async fn recent_gas(&self, event: B256) -> Result<Option<u64>, Error> {
        let newest = self.client.head().await?.number;
        let filter = Filter::new().address(self.address).event_signature(event);
        let logs = self.client.logs(&filter.from_block(newest.saturating_sub(RECENT_BLOCKS)).to_block(newest)).await?;
        let (mut workers, mut hashes, mut used) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        let last = logs.iter().rev().filter(|log| workers.insert(log.topics().get(2).copied()));
        let hashes = last.filter_map(|log| log.transaction_hash).filter(|hash| hashes.insert(*hash));
        for hash in hashes.take(ASKED) {
            let receipt = self.client.receipt(hash).await?;
            used.extend(receipt.filter(|r| r.to == Some(self.address)).map(|r| r.gas_used));
            if used.len() == RECENT {
                break;
            }
        }
        used.sort_unstable();
        Ok(used.get(used.len().saturating_sub(1) / 2).copied())
    }

    /// Calls any view of the hub.
    pub async fn view<C: SolCall>(&self, call: &C) -> Result<C::Return, Error> {
        self.client.call(self.address, call).await
    }

    async fn registered(&self, registry: Address, entry: Address) -> Result<bool, Error> {
        self.client.call(registry, &IRegistry::isRegisteredCall { entry }).await
    }

    async fn asset<C: SolCall>(&self, asset: Address, call: &C) -> Result<C::Return, Error> {
        self.client.call(asset, call).await
    }

    fn nonsense(&self, what: &str) -> Error {
        Error::Nonsense { node: self.client.node().into(), what: format!("{what} of hub {}", self.address) }
    }
}
