//! Putting the contracts on a chain, step by step; an interrupted deployment goes on where it was.
//!
//! Every step is a named intent of the deployer's [`Sender`]: a step that was done is not done again. What depends on
//! the [`Options`] carries them in its name: going on with others never mixes the two. Source of the recipe:
//! contracts/README.md.

use crate::{
    artifacts::Contract,
    client::{Client, Error as ReadError},
    sender::{SendError, Sender},
};
use alloy::{
    primitives::{Address, Bytes, U256},
    sol_types::{SolCall, SolValue},
};
use bourse_protocol::{abi::IHub, reward::Penalty};
use serde::{Deserialize, Serialize};

alloy::sol! {
    function initialize(address previous) external;
    function penaltyRule() external view returns (uint8);
    function changeDelay() external view returns (uint256);
}

/// The five categories: name, description, period T in seconds.
pub const CATEGORIES: [(&str, &str, u64); 5] = [
    ("XS", "extra small: up to 5 minutes", 300),
    ("S", "small: up to 20 minutes", 1_200),
    ("M", "medium: up to an hour", 3_600),
    ("L", "large: up to 3 hours", 10_800),
    ("XL", "extra large: up to 10 hours", 36_000),
];

/// Where the contracts are on one chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// The chain.
    pub chain_id: u64,
    /// The hub: what users talk to.
    pub hub: Address,
    /// The token.
    pub rlc: Address,
    /// Registry of apps.
    pub app_registry: Address,
    /// Registry of datasets.
    pub dataset_registry: Address,
    /// Registry of workerpools.
    pub workerpool_registry: Address,
}

/// The first step.
const FIRST: &str = "RLC token";
/// Gas of a whole deployment, rounded up: what a wallet should hold before it begins.
pub const GAS: u64 = 25_000_000;

/// Choices of a new deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What a wrong answer costs in reputation.
    pub penalty: Penalty,
    /// How long what an owner changes must have been announced, in seconds.
    pub owner_delay: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { penalty: Penalty::Fifty, owner_delay: 7 * 24 * 3600 }
    }
}

/// Why the contracts are not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step failed.
    #[error("deploying the contracts stopped; start again to go on where it was")]
    Send(#[from] SendError),
    /// The chain could not be read.
    #[error("cannot read the contracts")]
    Read(#[from] ReadError),
    /// A creation without address.
    #[error("the node reports no address for contract {0}: it does not behave like an Ethereum node")]
    NoAddress(&'static str),
    /// Not a hub.
    #[error("{0} is no hub on chain {1}: check the address and the node")]
    NotAHub(Address, u64),
}

/// Deploys everything with one key, which becomes owner of the hub and the registries and holds all RLC.
pub async fn deploy(
    client: &Client,
    sender: &Sender,
    options: Options,
    mut progress: impl FnMut(&str),
) -> Result<Deployment, Error> {
    let owner = sender.address();
    let mut create = async |what: &'static str, chosen: &str, contract: Contract, arguments: Vec<u8>| {
        progress(what);
        let code = [contract.creation_code().as_ref(), &arguments].concat();
        let receipt = sender.create(&intent(what, chosen), Bytes::from(code)).await?;
        receipt.created.ok_or(Error::NoAddress(what))
    };
    let rlc = create(FIRST, "", Contract::Rlc, vec![]).await?;
    let app_registry = create("app registry", "", Contract::AppRegistry, owner.abi_encode()).await?;
    let dataset_registry = create("dataset registry", "", Contract::DatasetRegistry, owner.abi_encode()).await?;
    let workerpool_registry =
        create("workerpool registry", "", Contract::WorkerpoolRegistry, owner.abi_encode()).await?;
    let views = create("hub views", "", Contract::HubViews, vec![]).await?;
    let arguments = (U256::from(options.owner_delay), views).abi_encode_params();
    let chosen = format!("penalty {:?}, delay {}", options.penalty, options.owner_delay);
    let extension = create("hub extension", &chosen, Contract::HubExtension, arguments).await?;
    let rule = match options.penalty {
        Penalty::Fifty => 0u8,
        Penalty::Third => 1,
    };
    let core =
        create("hub core", &chosen, Contract::HubCore, (U256::from(rule), extension).abi_encode_params()).await?;
    let hub = create("hub", &chosen, Contract::HubProxy, (core, owner).abi_encode_params()).await?;

    for (registry, name) in [(app_registry, "app"), (dataset_registry, "dataset"), (workerpool_registry, "workerpool")]
    {
        let call = initializeCall { previous: Address::ZERO };
        sender.send(&format!("deploy:initialize {name} registry"), registry, &call).await?;
    }
    let call = IHub::configureCall {
        token: rlc,
        name: "Staked RLC".into(),
        symbol: "SRLC".into(),
        decimals: 9,
        appregistry: app_registry,
        datasetregistry: dataset_registry,
        workerpoolregistry: workerpool_registry,
        v3hub: Address::ZERO,
    };
    sender.send(&intent("configure", &chosen), hub, &call).await?;
    for (name, description, period) in CATEGORIES {
        let call = IHub::createCategoryCall {
            name: name.into(),
            description: description.into(),
            workClockTimeRef: U256::from(period),
        };
        sender.send(&intent(&format!("category {name}"), &chosen), hub, &call).await?;
    }
    let chain_id = client.chain_id().await?;
    Ok(Deployment { chain_id, hub, rlc, app_registry, dataset_registry, workerpool_registry })
}

/// The block in which a deployment began that is complete. Nothing is sent.
pub async fn first_block(sender: &Sender) -> Result<u64, Error> {
    Ok(sender.create(&intent(FIRST, ""), Contract::Rlc.creation_code()).await?.block)
}

/// The name of a step; `chosen` is what it depends on.
fn intent(what: &str, chosen: &str) -> String {
    match chosen {
        "" => format!("deploy:{what}"),
        _ => format!("deploy:{what} ({chosen})"),
    }
}

/// With which choices a hub was deployed.
pub async fn options(client: &Client, hub: Address) -> Result<Options, ReadError> {
    let rule = client.call(hub, &penaltyRuleCall {}).await?;
    let delay = client.call(hub, &changeDelayCall {}).await?;
    Ok(Options { penalty: if rule == 0 { Penalty::Fifty } else { Penalty::Third }, owner_delay: delay.saturating_to() })
}

/// Finds what belongs to a hub that is there already.
pub async fn find(client: &Client, hub: Address) -> Result<Deployment, Error> {
    let chain_id = client.chain_id().await?;
    async fn ask<C: SolCall<Return = Address>>(client: &Client, hub: Address, call: C) -> Result<Address, ReadError> {
        client.call(hub, &call).await
    }
    let read = async {
        Ok::<_, ReadError>(Deployment {
            chain_id,
            hub,
            rlc: ask(client, hub, IHub::tokenCall {}).await?,
            app_registry: ask(client, hub, IHub::appregistryCall {}).await?,
            dataset_registry: ask(client, hub, IHub::datasetregistryCall {}).await?,
            workerpool_registry: ask(client, hub, IHub::workerpoolregistryCall {}).await?,
        })
    };
    match read.await {
        Ok(found) if found.rlc != Address::ZERO => Ok(found),
        Err(error) if error.is_transient() => Err(error.into()),
        Ok(_) | Err(_) => Err(Error::NotAHub(hub, chain_id)),
    }
}
