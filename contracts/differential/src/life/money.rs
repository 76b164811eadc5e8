//! Deposits, withdrawals, and the token that SRLC is.

use super::Life;
use crate::actors::{self, POOR, REQUESTERS};
use crate::bench::Bench;
use crate::calls::{bare, call};
use crate::deploy::OWNER;
use crate::machine::Call;
use crate::step::{self, Step};
use alloy_primitives::{Address, Bytes, U256};
use rand::Rng;

const RECEIVE: &str = "receiveApproval(address,uint256,address,bytes)";
const APPROVE_AND_CALL: &str = "approveAndCall(address,uint256,bytes)";

impl Life {
    pub(super) fn plan_money(&mut self, _: &mut Bench) {
        match self.rng.random_range(0..10) {
            0..4 => self.plan_deposit(),
            4..6 => self.plan_withdrawal(),
            _ => self.plan_token(),
        }
    }

    fn amount(&mut self) -> U256 {
        match self.rng.random_range(0..10) {
            0 => U256::ZERO,
            1 => U256::from(10u64.pow(17)),
            2 => U256::MAX,
            _ => U256::from(self.rng.random_range(1..50_000_000_000u64)),
        }
    }

    fn somebody(&mut self) -> Address {
        if self.chance(8) { Address::ZERO } else { self.anybody().address }
    }

    fn plan_deposit(&mut self) {
        let (rlc, hub) = (self.system.rlc, self.system.hub);
        let from = self.anybody().address;
        let amount = self.amount();
        if self.chance(60) {
            self.push(Step::new("rlc approve", Call::new(from, rlc, call("approve(address,uint256)", (hub, amount)))));
        }
        let target = self.somebody();
        let step = match self.rng.random_range(0..9) {
            0 | 1 => Step::new("deposit", self.hub_call(from, call("deposit(uint256)", (amount,)))),
            2 | 3 => {
                Step::new("depositFor", self.hub_call(from, call("depositFor(uint256,address)", (amount, target))))
            }
            4 => {
                let parts = self.rng.random_range(0..4usize);
                let mut amounts = vec![amount / U256::from(4); parts];
                let targets: Vec<Address> = (0..parts).map(|_| self.anybody().address).collect();
                let lopsided = self.chance(25);
                if lopsided {
                    amounts.push(U256::ZERO);
                }
                let aim = if lopsided { "depositForArray: lengths differ" } else { "depositForArray" };
                Step::new(aim, self.hub_call(from, call("depositForArray(uint256[],address[])", (amounts, targets))))
            }
            5 | 6 => {
                let data = call(APPROVE_AND_CALL, (hub, amount, Bytes::new()));
                Step::new("deposit through the token", Call::new(from, rlc, data))
            }
            7 => {
                let data = match self.rng.random_range(0..3) {
                    0 => Bytes::from_static(&[1, 2, 3]),
                    1 => call("claim(bytes32)", (U256::ZERO,)),
                    _ => {
                        let orders = self.open_match();
                        call(super::matching::MATCH, super::matching::arguments(&orders))
                    }
                };
                let data = call(APPROVE_AND_CALL, (hub, U256::from(1), data));
                Step::new("through the token, with data", Call::new(from, rlc, data)).dry()
            }
            _ => {
                let token = if self.chance(50) { self.anybody().address } else { rlc };
                let data = call(RECEIVE, (from, U256::from(self.rng.random_range(0..5)), token, Bytes::new()));
                let aim = if token == rlc { "receiveApproval by anybody" } else { "receiveApproval: wrong token" };
                Step::new(aim, self.hub_call(from, data))
            }
        };
        self.push(step);
    }

    /// Orders of nobody who is asked.
    fn open_match(&mut self) -> bourse_protocol::api::Match {
        bourse_protocol::api::Match::default()
    }

    fn plan_withdrawal(&mut self) {
        let from = if self.chance(80) { self.any(REQUESTERS).address } else { self.actor(POOR).address };
        let amount = self.amount();
        let target = self.somebody();
        let step = match self.rng.random_range(0..10) {
            0..4 => Step::new("withdraw", self.hub_call(from, call("withdraw(uint256)", (amount,)))),
            4..8 => Step::new("withdrawTo", self.hub_call(from, call("withdrawTo(uint256,address)", (amount, target)))),
            8 => {
                let data = call("transfer(address,uint256)", (self.system.hub, U256::from(77)));
                self.push(Step::new("rlc transfer to the hub", Call::new(from, self.system.rlc, data)));
                Step::new("recover", self.hub_call(OWNER, bare("recover()")))
            }
            _ => Step::new("recover: not the owner", self.hub_call(from, bare("recover()"))),
        };
        self.push(step);
    }

    fn plan_token(&mut self) {
        let (from, to) = (self.anybody().address, self.somebody());
        let amount = self.amount();
        let allowance = |owner: Address, spender: Address| call("allowance(address,address)", (owner, spender));
        let hub = self.system.hub;
        let step = match self.rng.random_range(0..9) {
            0 | 1 => Step::new("transfer", self.hub_call(from, call("transfer(address,uint256)", (to, amount)))),
            2 => Step::new("approve", self.hub_call(from, call("approve(address,uint256)", (to, amount))))
                .look([(hub, allowance(from, to))]),
            3 => {
                let granted = call("approve(address,uint256)", (to, U256::from(1_000)));
                self.push(Step::new("approve", self.hub_call(from, granted)));
                let spent = U256::from(self.rng.random_range(990..1_010));
                let data = call("transferFrom(address,address,uint256)", (from, self.anybody().address, spent));
                Step::new("transferFrom", self.hub_call(to, data)).look([(hub, allowance(from, to))])
            }
            4 => {
                let data = call("transferFrom(address,address,uint256)", (to, from, U256::ZERO));
                Step::new("transferFrom: nothing", self.hub_call(from, data))
            }
            5 => Step::new(
                "increaseAllowance",
                self.hub_call(from, call("increaseAllowance(address,uint256)", (to, amount))),
            )
            .look([(hub, allowance(from, to))]),
            6 => Step::new(
                "decreaseAllowance",
                self.hub_call(from, call("decreaseAllowance(address,uint256)", (to, amount))),
            )
            .look([(hub, allowance(from, to))]),
            7 => {
                let data = call("approve(address,uint256)", (to, U256::from(50)));
                self.push(Step::new("approve", self.hub_call(from, data)));
                let data = call("decreaseAllowance(address,uint256)", (to, U256::from(20)));
                Step::new("decreaseAllowance", self.hub_call(from, data)).look([(hub, allowance(from, to))])
            }
            _ => {
                let wallets = [self.actor(3).address, self.actor(7).address];
                let spender = match self.rng.random_range(0..6) {
                    0 => actors::REFUSER,
                    1 => actors::BROKEN_GROUP,
                    2 => actors::SILENT,
                    3 => to,
                    _ => self.pick(&wallets).unwrap_or_default(),
                };
                let data = call(APPROVE_AND_CALL, (spender, amount, Bytes::from_static(b"data")));
                Step::new("approveAndCall", self.hub_call(from, data)).look([(hub, allowance(from, spender))])
            }
        };
        let looks = step::account(&self.system, to);
        self.push(step.look(looks));
    }
}
