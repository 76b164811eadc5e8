//! Registries: assets are created, found again, handed over; pools change their policy.

use super::{Estate, Life, Memo, owner_of, work};
use crate::actors::{self, SCHEDULERS, SELLERS, STRANGER};
use crate::bench::{Bench, Difference};
use crate::calls::{bare, call};
use crate::deploy::OWNER;
use crate::machine::Call;
use crate::step::{self, Look, Step};
use alloy_primitives::{Address, B256, Bytes, U256};
use rand::Rng;

const CREATE: [&str; 3] = [
    "createApp(address,string,string,bytes,bytes32,bytes)",
    "createDataset(address,string,bytes,bytes32)",
    "createWorkerpool(address,string)",
];
const PREDICT: [&str; 3] = [
    "predictApp(address,string,string,bytes,bytes32,bytes)",
    "predictDataset(address,string,bytes,bytes32)",
    "predictWorkerpool(address,string)",
];

fn asset_call(signature: &str, kind: usize, owner: Address, name: &str) -> Bytes {
    let (name, place) = (name.to_owned(), Bytes::from(format!("/ipfs/{name}").into_bytes()));
    let checksum = B256::repeat_byte(name.len() as u8);
    match kind {
        0 => call(signature, (owner, name, "DOCKER".to_owned(), place, checksum, Bytes::from_static(b"{}"))),
        1 => call(signature, (owner, name, place, checksum)),
        _ => call(signature, (owner, name)),
    }
}

/// Creates the assets and categories that every life begins with, and gives everybody money.
pub fn found(bench: &mut Bench) -> Result<Estate, Box<Difference>> {
    let mut life = Life::new(0, bench.system, &Estate::default());
    life.push_categories();
    life.push_money();
    for kind in 0..3 {
        for (number, owner) in if kind == 2 { SCHEDULERS } else { SELLERS }.enumerate() {
            let owner = life.actor(owner).address;
            life.push_create("create", kind, owner, &format!("{kind}/{number}"));
        }
    }
    while let Some(plan) = life.queue.pop_front() {
        work::play(bench, &mut life, plan)?;
    }
    let assets = life.assets.clone();
    let members = members(&life);
    let group = move |machine: &mut crate::machine::Machine| {
        machine.add_storage(actors::GROUP, members.iter().map(|m| (*m, U256::from(1))));
    };
    bench.machines(group);
    Ok(Estate { assets })
}

/// Keys of the group's members: the first asset of each kind, the requesters, nobody.
fn members(life: &Life) -> Vec<U256> {
    let first = life.assets.iter().map(|of| of[0]);
    let requesters = life.cast.all[actors::REQUESTERS].iter().map(|a| a.address);
    first.chain(requesters).chain([Address::ZERO]).map(|a| a.into_word().into()).collect()
}

impl Life {
    fn push_categories(&mut self) {
        for (name, seconds) in [("XS", 300), ("S", 1200), ("M", 3600), ("L", 10800), ("XL", 36000), ("tiny", 7)] {
            self.push_category(OWNER, name, U256::from(seconds));
        }
    }

    pub(super) fn push_category(&mut self, from: Address, name: &str, seconds: U256) {
        let data = call("createCategory(string,string,uint256)", (name.to_owned(), "{}".to_owned(), seconds));
        let looks: Vec<Look> = (0..7u64)
            .flat_map(|id| {
                ["viewCategory(uint256)", "viewCategoryABILegacy(uint256)"]
                    .map(|s| (self.system.hub, call(s, (U256::from(id),))))
            })
            .collect();
        self.push(Step::new("createCategory", self.hub_call(from, data)).look(looks));
    }

    /// Everybody but the poor one gets RLC and deposits most of it.
    fn push_money(&mut self) {
        let (rlc, hub) = (self.system.rlc, self.system.hub);
        let amount = U256::from(10u64.pow(14));
        let receivers: Vec<Address> = self.cast.all[..actors::POOR].iter().map(|a| a.address).collect();
        for who in receivers {
            let data = call("transfer(address,uint256)", (who, amount));
            self.push(Step::new("rlc transfer", Call::new(OWNER, rlc, data)));
            let deposit = (hub, amount / U256::from(2), Bytes::new());
            let data = call("approveAndCall(address,uint256,bytes)", deposit);
            self.push(Step::new("deposit through the token", Call::new(who, rlc, data)));
        }
    }

    fn push_create(&mut self, aim: &'static str, kind: usize, owner: Address, name: &str) {
        let registry = self.system.registries()[kind];
        let predict = asset_call(PREDICT[kind], kind, owner, name);
        let from = self.actor(STRANGER).address;
        if self.chance(50) {
            self.push(Step::new("predict", Call::new(from, registry, predict.clone())).dry());
        }
        let mut step = Step::new(aim, Call::new(from, registry, asset_call(CREATE[kind], kind, owner, name)));
        step.creates = true;
        let mut looks = step::registry(registry);
        looks.push((registry, predict));
        looks.push((registry, call("tokenByIndex(uint256)", (U256::ZERO,))));
        looks.push((registry, call("balanceOf(address)", (owner,))));
        self.push_with(step.look(looks), Memo::Created(kind));
    }

    pub(super) fn plan_assets(&mut self, bench: &mut Bench) {
        match self.rng.random_range(0..12) {
            0..4 => self.plan_creation(),
            4..9 => self.plan_handover(bench),
            9 | 10 => self.plan_policy(bench),
            _ => self.plan_registry_office(),
        }
    }

    fn plan_creation(&mut self) {
        let kind = self.rng.random_range(0..3);
        let owner = if kind == 2 { self.any(SCHEDULERS) } else { self.any(SELLERS) }.address;
        let number = self.rng.random_range(0..40u32);
        let name = match self.rng.random_range(0..10) {
            0 => String::new(),
            1 => "long ".repeat(self.rng.random_range(50..300)),
            _ => format!("asset {number}"),
        };
        match self.rng.random_range(0..12) {
            0 => self.push_create("create: for nobody", kind, Address::ZERO, &name),
            1 => {
                let same = format!("{kind}/0");
                let first = if kind == 2 { SCHEDULERS } else { SELLERS }.start;
                self.push_create("create: twice", kind, self.actor(first).address, &same);
            }
            2 => {
                let name = "y".repeat(26_000);
                self.push_create("create: too long", kind, owner, &name);
                for (step, _) in &mut self.queue {
                    step.dry = true;
                }
            }
            _ => self.push_create("create", kind, owner, &name),
        }
    }

    /// ERC-721: who may move an asset, and what follows.
    fn plan_handover(&mut self, bench: &mut Bench) {
        let kind = self.rng.random_range(0..3);
        let registry = self.system.registries()[kind];
        let asset = if self.chance(85) { self.asset(kind) } else { self.actor(STRANGER).address };
        let owner = owner_of(bench, asset);
        let owner = if owner.is_zero() { self.actor(0).address } else { owner };
        let heir = if kind == 2 { self.any(SCHEDULERS) } else { self.any(SELLERS) }.address;
        let id: U256 = asset.into_word().into();
        let stranger = self.actor(STRANGER).address;
        let mut looks = step::token(registry, asset, owner);
        looks.extend(step::token(registry, asset, heir));
        looks.push((registry, call("isApprovedForAll(address,address)", (owner, stranger))));
        looks.push((registry, call("tokenByIndex(uint256)", (U256::from(self.rng.random_range(0..6)),))));
        let act = |life: &mut Self, aim, from, data| {
            life.push(Step::new(aim, Call::new(from, registry, data)).look(looks.clone()));
        };
        let transfer = |to: Address| call("transferFrom(address,address,uint256)", (owner, to, id));
        let safe = |to: Address| call("safeTransferFrom(address,address,uint256)", (owner, to, id));
        match self.rng.random_range(0..14) {
            0..3 => act(self, "asset transferFrom", owner, transfer(heir)),
            3 => act(self, "asset transferFrom: to nobody", owner, transfer(Address::ZERO)),
            4 => act(self, "asset transferFrom: by a stranger", stranger, transfer(heir)),
            5 => {
                let data = call("transferFrom(address,address,uint256)", (stranger, heir, id));
                act(self, "asset transferFrom: from another", owner, data);
            }
            6 => act(self, "asset safeTransferFrom", owner, safe(heir)),
            7 => {
                let receivers = [actors::BROKEN_GROUP, actors::SILENT, actors::REFUSER];
                let to = self.pick(&receivers).unwrap_or_default();
                act(self, "asset safeTransferFrom: to who does not take it", owner, safe(to));
            }
            8 => {
                let signature = "safeTransferFrom(address,address,uint256,bytes)";
                let data = call(signature, (owner, heir, id, Bytes::from_static(b"data")));
                act(self, "asset safeTransferFrom", owner, data);
            }
            9 | 10 => {
                let approve = call("approve(address,uint256)", (stranger, id));
                act(self, "asset approve", owner, approve);
                act(self, "asset transferFrom: approved", stranger, transfer(heir));
            }
            11 => {
                let approve = call("approve(address,uint256)", (stranger, id));
                act(self, "asset approve: by a stranger", stranger, approve);
            }
            _ => {
                let allow = |yes: bool| call("setApprovalForAll(address,bool)", (stranger, yes));
                act(self, "asset setApprovalForAll", owner, allow(true));
                act(self, "asset transferFrom: as operator", stranger, transfer(heir));
                act(self, "asset setApprovalForAll", owner, allow(false));
            }
        }
    }

    fn plan_policy(&mut self, bench: &mut Bench) {
        let pool = self.asset(2);
        let owner = owner_of(bench, pool);
        let (stake, reward) = (self.rng.random_range(0..120u64), self.rng.random_range(0..101u64));
        let (aim, from, stake, reward) = match self.rng.random_range(0..10) {
            0 => ("changePolicy: by a stranger", self.actor(STRANGER).address, U256::from(stake), reward),
            1 => ("changePolicy: more than all", owner, U256::from(stake), 101),
            2 => ("changePolicy: beyond the layout", owner, U256::from(1u64 << 41), reward),
            _ => ("changePolicy", owner, U256::from(stake), reward),
        };
        let data = call("changePolicy(uint256,uint256)", (stake, U256::from(reward)));
        let looks = step::asset(&self.system, 2, pool);
        let mut step = Step::new(aim, Call::new(from, pool, data)).look(looks);
        step.dry = aim == "changePolicy: beyond the layout";
        self.push(step);
    }

    fn plan_registry_office(&mut self) {
        let registry = self.system.registries()[self.rng.random_range(0..3)];
        let stranger = self.actor(STRANGER).address;
        let from = if self.chance(60) { OWNER } else { stranger };
        let asset = self.asset(0);
        let (aim, to, data) = match self.rng.random_range(0..8) {
            0 => ("registry setBaseURI", registry, call("setBaseURI(string)", ("https://x/".to_owned(),))),
            1 => ("registry initialize: again", registry, call("initialize(address)", (stranger,))),
            2 => ("registry setName", registry, call("setName(address,string)", (stranger, "n".to_owned()))),
            3 => ("asset setName", asset, call("setName(address,string)", (stranger, "n".to_owned()))),
            4 => ("registry transferOwnership", registry, call("transferOwnership(address)", (stranger,))),
            5 => ("registry transferOwnership", registry, call("transferOwnership(address)", (Address::ZERO,))),
            6 => ("registry renounceOwnership", registry, bare("renounceOwnership()")),
            _ => (
                "registry insides",
                registry,
                bare(["master()", "proxyCode()", "proxyCodeHash()"][self.rng.random_range(0..3)]),
            ),
        };
        let looks = step::registry(registry);
        let mut step = Step::new(aim, Call::new(from, to, data)).look(looks);
        step.dry =
            aim == "registry insides" || aim.starts_with("registry renounce") || aim.starts_with("registry transferO");
        self.push(step);
    }
}
