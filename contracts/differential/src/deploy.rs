//! The two systems, deployed so that hub, registries and token have the same addresses in both. Source: poco.md §15 and
//! contracts/README.md.

use crate::artifacts::{self, Artifact, Error};
use crate::calls::{call, selector};
use crate::machine::{Call, Machine};
use alloy_primitives::{Address, Bytes, FixedBytes, U256, address};
use alloy_sol_types::SolValue;

/// Deploys, owns everything at first, holds all RLC at first.
pub const OWNER: Address = address!("0x0000000000000000000000000000000000de9107");
/// Deploys what has no counterpart in the other system.
const HELPER: Address = address!("0x0000000000000000000000000000000000de9108");

/// What a loser's score becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Fifty less.
    Fifty,
    /// Two thirds, as published.
    TwoThirds,
}

/// Addresses of a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct System {
    /// The token.
    pub rlc: Address,
    /// The registry of apps.
    pub apps: Address,
    /// The registry of datasets.
    pub datasets: Address,
    /// The registry of workerpools.
    pub pools: Address,
    /// The hub.
    pub hub: Address,
}

impl System {
    /// The same for every deployment: nonces 0 to 4 of the owner.
    fn expected() -> Self {
        let at = |nonce| OWNER.create(nonce);
        Self { rlc: at(0), apps: at(1), datasets: at(2), pools: at(3), hub: at(4) }
    }

    /// The registries.
    pub fn registries(&self) -> [Address; 3] {
        [self.apps, self.datasets, self.pools]
    }
}

/// Deploys our contracts with the published token and no delay.
pub fn ours(machine: &mut Machine, rule: Rule) -> Result<System, Error> {
    let system = ours_unconfigured(machine, rule)?;
    configure(machine, &system);
    Ok(system)
}

/// The same without the last step.
pub fn ours_unconfigured(machine: &mut Machine, rule: Rule) -> Result<System, Error> {
    let system = System::expected();
    let code = |name: &str| artifacts::ours(name)?.code(Address::ZERO);
    machine.deploy(OWNER, 0, artifacts::rlc()?.code(Address::ZERO)?);
    for (nonce, name) in [(1, "AppRegistry"), (2, "DatasetRegistry"), (3, "WorkerpoolRegistry")] {
        machine.deploy(OWNER, nonce, with(code(name)?, OWNER.abi_encode()));
    }
    let views = machine.deploy(HELPER, 0, code("HubViews")?);
    let extension = machine.deploy(HELPER, 1, with(code("HubExtension")?, (U256::ZERO, views).abi_encode_params()));
    let rule = U256::from(matches!(rule, Rule::TwoThirds) as u8);
    let core = machine.deploy(HELPER, 2, with(code("HubCore")?, (rule, extension).abi_encode_params()));
    machine.deploy(OWNER, 4, with(code("HubProxy")?, (core, OWNER).abi_encode_params()));
    machine.redirect(system.registries().to_vec());
    Ok(system)
}

/// Deploys the published contracts.
pub fn published(machine: &mut Machine) -> Result<System, Error> {
    let system = published_unconfigured(machine)?;
    configure(machine, &system);
    Ok(system)
}

/// The same without the last step.
pub fn published_unconfigured(machine: &mut Machine) -> Result<System, Error> {
    let system = System::expected();
    let mut helper = Helper { machine, nonce: 0 };
    let library = helper.deploy(&facet("libs/IexecLibOrders_v5", "IexecLibOrders_v5"), Address::ZERO)?;
    let cuts = [
        (helper.deploy("deployments/arbitrum/DiamondCutFacet.json", library)?, CUT),
        (helper.deploy("deployments/arbitrum/DiamondLoupeFacet.json", library)?, LOUPE),
        (helper.deploy("deployments/arbitrum/OwnershipFacet.json", library)?, OWNERSHIP),
    ];
    let init = helper.deploy("deployments/arbitrum/DiamondInit.json", library)?;
    let mut known: Vec<[u8; 4]> = Vec::new();
    let mut facets = Vec::new();
    for (facet, signatures) in cuts {
        facets.push((facet, signatures.iter().map(|s| selector(s)).collect::<Vec<_>>()));
    }
    known.extend(facets.iter().flat_map(|(_, selectors)| selectors.clone()));
    let first = facets.iter().map(|(facet, selectors)| cut(*facet, selectors)).collect::<Vec<_>>();
    let arguments = (first, (OWNER, init, Bytes::from(selector("init()").to_vec())));
    let diamond = artifacts::published(&facet("Diamond", "Diamond"))?.code(library)?;

    let mut later = Vec::new();
    for name in FACETS {
        let path = facet(&format!("facets/{name}"), name);
        let artifact = artifacts::published(&path)?;
        let mut selectors = selectors_of(&artifact);
        if *name == "IexecEscrowTokenFacet" {
            selectors.extend([[0; 4], [0xff; 4]]);
        }
        selectors.retain(|s| !known.contains(s));
        known.extend(&selectors);
        later.push((helper.deploy(&path, library)?, selectors));
    }

    machine.deploy(OWNER, 0, artifacts::rlc()?.code(Address::ZERO)?);
    for (nonce, folder, name) in
        [(1, "apps", "AppRegistry"), (2, "datasets", "DatasetRegistry"), (3, "workerpools", "WorkerpoolRegistry")]
    {
        let path = facet(&format!("registries/{folder}/{name}"), name);
        machine.deploy(OWNER, nonce, artifacts::published(&path)?.code(library)?);
    }
    machine.deploy(OWNER, 4, with(diamond, arguments.abi_encode_params()));
    for (facet, selectors) in later {
        let cut = (vec![cut(facet, &selectors)], Address::ZERO, Bytes::new());
        demand(machine, system.hub, call("diamondCut((address,uint8,bytes4[])[],address,bytes)", cut));
    }
    Ok(system)
}

const CUT: &[&str] = &["diamondCut((address,uint8,bytes4[])[],address,bytes)"];
const LOUPE: &[&str] = &[
    "facetAddress(bytes4)",
    "facetAddresses()",
    "facetFunctionSelectors(address)",
    "facets()",
    "supportsInterface(bytes4)",
];
const OWNERSHIP: &[&str] = &["owner()", "transferOwnership(address)"];
const FACETS: &[&str] = &[
    "IexecAccessorsABILegacyFacet",
    "IexecCategoryManagerFacet",
    "IexecConfigurationExtraFacet",
    "IexecConfigurationFacet",
    "IexecERC20Facet",
    "IexecEscrowTokenFacet",
    "IexecOrderManagementFacet",
    "IexecPoco1Facet",
    "IexecPoco2Facet",
    "IexecPocoAccessorsFacet",
    "IexecRelayFacet",
];

fn facet(path: &str, name: &str) -> String {
    format!("artifacts/contracts/{path}.sol/{name}.json")
}

fn selectors_of(artifact: &Artifact) -> Vec<[u8; 4]> {
    artifact.signatures("function").iter().map(|s| selector(s)).collect()
}

fn cut(facet: Address, selectors: &[[u8; 4]]) -> (Address, U256, Vec<FixedBytes<4>>) {
    const ADD: U256 = U256::ZERO;
    (facet, ADD, selectors.iter().map(|s| FixedBytes(*s)).collect())
}

struct Helper<'a> {
    machine: &'a mut Machine,
    nonce: u64,
}

impl Helper<'_> {
    fn deploy(&mut self, path: &str, library: Address) -> Result<Address, Error> {
        let code = artifacts::published(path)?.code(library)?;
        self.nonce += 1;
        Ok(self.machine.deploy(HELPER, self.nonce, code))
    }
}

/// What both recipes end with. Categories are created by the caller, step by step and compared.
fn configure(machine: &mut Machine, system: &System) {
    for registry in system.registries() {
        demand(machine, registry, call("initialize(address)", (Address::ZERO,)));
    }
    let names = ("Staked RLC".to_owned(), "SRLC".to_owned());
    let System { rlc, apps, datasets, pools, hub } = *system;
    let arguments = (rlc, names.0, names.1, U256::from(9), apps, datasets, pools, Address::ZERO);
    let signature = "configure(address,string,string,uint8,address,address,address,address)";
    demand(machine, hub, call(signature, arguments));
}

fn demand(machine: &mut Machine, to: Address, data: Bytes) {
    let outcome = machine.transact(&Call::new(OWNER, to, data.clone()));
    assert!(outcome.ok(), "setup call {data} to {to} fails: {outcome:?}");
}

fn with(code: Bytes, arguments: Vec<u8>) -> Bytes {
    [code.to_vec(), arguments].concat().into()
}
