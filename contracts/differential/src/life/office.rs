//! Administration, and questions that stand alone.

use super::{Life, Memo};
use crate::actors::{self, BROKER, STRANGER};
use crate::bench::Bench;
use crate::calls::{bare, call};
use crate::deploy::OWNER;
use crate::machine::Call;
use crate::step::{self, Step};
use alloy_primitives::{Address, Bytes, FixedBytes, U256};
use rand::Rng;

impl Life {
    pub(super) fn plan_office(&mut self, _: &mut Bench) {
        let stranger = self.actor(STRANGER).address;
        let from = if self.chance(75) { OWNER } else { stranger };
        let system = self.system;
        let everything = step::hub(&system);
        let s = |text: &str| text.to_owned();
        let mut memo = Memo::None;
        let mut dry = false;
        let (aim, data) = match self.rng.random_range(0..14) {
            0..4 => {
                let broker = if self.chance(70) { self.actor(BROKER).address } else { Address::ZERO };
                memo = Memo::Broker((!broker.is_zero()).then_some(broker));
                ("setTeeBroker", call("setTeeBroker(address)", (broker,)))
            }
            4 => (
                "setCallbackGas",
                call("setCallbackGas(uint256)", (U256::from(self.rng.random_range(150_000..250_000)),)),
            ),
            5 => {
                let seconds = U256::from(self.rng.random_range(0..5_000));
                return self.push_category(from, "odd", seconds);
            }
            6 => {
                // Handed over and back at once.
                let give = |to: Address| call("transferOwnership(address)", (to,));
                self.push(
                    Step::new("transferOwnership", self.hub_call(OWNER, give(stranger))).look(everything.clone()),
                );
                self.push(Step::new(
                    "setTeeBroker: no longer the owner",
                    self.hub_call(OWNER, call("setTeeBroker(address)", (stranger,))),
                ));
                self.push(Step::new("transferOwnership", self.hub_call(stranger, give(OWNER))).look(everything));
                return;
            }
            7 => ("transferOwnership: by a stranger", {
                dry = true;
                call("transferOwnership(address)", (stranger,))
            }),
            8 => {
                let data =
                    (system.rlc, s("x"), s("y"), U256::from(9), system.apps, system.datasets, system.pools, stranger);
                (
                    "configure: again",
                    call("configure(address,string,string,uint8,address,address,address,address)", data),
                )
            }
            9 => ("updateDomainSeparator", bare("updateDomainSeparator()")),
            10 => ("importScore", call("importScore(address)", (stranger,))),
            11 => {
                let data = (system.apps, system.datasets, system.pools);
                ("changeRegistries", call("changeRegistries(address,address,address)", data))
            }
            12 => {
                dry = true;
                ("renounceOwnership", bare("renounceOwnership()"))
            }
            _ => return self.plan_fallbacks(from),
        };
        let mut step = Step::new(aim, self.hub_call(from, data)).look(everything);
        step.dry = dry;
        self.push_with(step, memo);
    }

    /// Calls that nobody has, ether that nobody wants, and what only one of the two systems knows.
    fn plan_fallbacks(&mut self, from: Address) {
        let hub = self.system.hub;
        let stranger = self.actor(STRANGER).address;
        let data = match self.rng.random_range(0..9) {
            0 => Bytes::new(),
            1 => Bytes::from_static(&[1, 2, 3, 4]),
            2 => Bytes::from_static(&[1, 2]),
            3 => bare("facets()"),
            4 => call("supportsInterface(bytes4)", (FixedBytes([1, 0xff, 0xc9, 0xa7]),)),
            5 => call("proposeChange(bytes)", (Bytes::new(),)),
            6 => bare(
                ["changeDelay()", "changeWindow()", "implementation()", "penaltyRule()", "contributor_limit()"]
                    [self.rng.random_range(0..5)],
            ),
            7 => call("upgradeTo(address)", (actors::SILENT,)),
            _ => bare("withdraw(uint256)"),
        };
        let mut call = Call::new(if self.chance(50) { stranger } else { from }, hub, data);
        if self.chance(20) {
            call.value = U256::from(1);
        }
        self.push(Step::new("calls that nobody has", call).dry());
    }

    pub(super) fn plan_views(&mut self, _: &mut Bench) {
        let hub = self.system.hub;
        let from = self.actor(STRANGER).address;
        let stranger = from;
        let id = self.word();
        let wild = U256::from(self.rng.random_range(0..20));
        let mut questions = step::hub(&self.system);
        questions.extend(step::account(&self.system, stranger));
        questions.extend(step::account(&self.system, crate::bench::KITTY));
        questions.extend(step::order(&self.system, id));
        questions.extend(step::deal(&self.system, id));
        questions.extend(step::task(&self.system, id, [stranger]));
        for view in ["viewCategory(uint256)", "viewCategoryABILegacy(uint256)"] {
            questions.push((hub, call(view, (wild,))));
        }
        for view in ["viewApp(address)", "viewDataset(address)", "viewWorkerpool(address)"] {
            let target = if self.chance(50) { self.asset(0) } else { stranger };
            questions.push((hub, call(view, (target,))));
        }
        for registry in self.system.registries() {
            questions.push((registry, call("ownerOf(uint256)", (U256::from(1),))));
            questions.push((registry, call("balanceOf(address)", (Address::ZERO,))));
            questions.push((registry, call("tokenByIndex(uint256)", (U256::from(1_000),))));
            questions.push((registry, call("tokenOfOwnerByIndex(address,uint256)", (stranger, wild))));
            questions.push((registry, call("getApproved(uint256)", (U256::from(1),))));
            questions.push((registry, call("tokenURI(uint256)", (U256::from(1),))));
            questions.push((registry, call("isRegistered(address)", (stranger,))));
            questions.push((registry, call("supportsInterface(bytes4)", (FixedBytes([0x80, 0xac, 0x58, 0xcd]),))));
        }
        let Some((to, data)) = self.pick(&questions) else { return };
        self.push(Step::new("view", Call::new(from, to, data)).dry());
    }
}
