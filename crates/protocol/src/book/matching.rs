//! Which four orders make a deal: the contract's checks, in its order, with its codes, in words. Source: poco.md §6.1–6.3.

use super::{Kind, tag_within};
use crate::{
    api::Match,
    money::Nrlc,
    orders::{Order, TAG_TEE},
    reward::POOL_STAKE_PERCENT,
};
use alloy_primitives::{Address, B256, U256};
use std::collections::BTreeSet;

/// Bits 1 to 3 name TEE frameworks; a dataset order's do not oblige the deal.
const TEE_FRAMEWORKS: B256 = B256::with_last_byte(0b1110);

/// What the chain says of one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Who owns the resource; `None` if it is not registered. Of a request order: the requester, not looked at.
    pub owner: Option<Address>,
    /// Whether the owner (or requester) signed the order, or approved it on chain.
    pub signed: bool,
    /// How many of its tasks are sold, or its whole volume once closed.
    pub consumed: U256,
}

/// What the chain says of a match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// How many categories exist.
    pub categories: U256,
    /// The app order.
    pub app: Standing,
    /// The dataset order; not looked at without a dataset.
    pub dataset: Standing,
    /// The workerpool order.
    pub workerpool: Standing,
    /// The request order.
    pub request: Standing,
    /// What the requester has on the hub, unlocked.
    pub requester_stake: Nrlc,
    /// What the pool's owner has on the hub, unlocked.
    pub pool_owner_stake: Nrlc,
    /// Those of [`memberships`] that the chain affirms.
    pub memberships: BTreeSet<(Address, Address)>,
}

/// Why four orders make no deal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Different categories.
    #[error(
        "the request is for category {request}, the workerpool order for category {workerpool}: choose an order of the same category"
    )]
    Category {
        /// The request's.
        request: U256,
        /// The pool's.
        workerpool: U256,
    },
    /// There is no such category.
    #[error("category {category} does not exist: the hub knows {known} categories, counted from 0")]
    UnknownCategory {
        /// The one asked for.
        category: U256,
        /// How many there are.
        known: U256,
    },
    /// The pool does not check that hard.
    #[error(
        "the request asks for trust {request}, the workerpool order serves trust up to {workerpool}: lower the trust or choose another order"
    )]
    Trust {
        /// The request's.
        request: U256,
        /// The pool's.
        workerpool: U256,
    },
    /// The request pays less than an order asks.
    #[error(
        "the request pays at most {offered} RLC per task for the {kind}, the {kind} order asks {asked} RLC: offer more or choose another order"
    )]
    Price {
        /// For what.
        kind: Kind,
        /// The request's maximum.
        offered: Nrlc,
        /// The order's price.
        asked: Nrlc,
    },
    /// The pool lacks features.
    #[error(
        "the workerpool order lacks features that the deal needs (tag bits {missing}): choose another workerpool order"
    )]
    Tag {
        /// The missing bits.
        missing: B256,
    },
    /// The app is not made for a trusted execution environment.
    #[error(
        "the deal needs a trusted execution environment but the app order does not offer it (tag bit 0): choose another app order"
    )]
    AppWithoutTee,
    /// The request is about another resource than the order.
    #[error(
        "the request is for {kind} {request}, the {kind} order is for {order}: choose an order of the requested {kind}"
    )]
    Other {
        /// App or dataset.
        kind: Kind,
        /// The requested one.
        request: Address,
        /// The one on offer.
        order: Address,
    },
    /// An order is meant for somebody else.
    #[error("the {kind} order admits only the {party} {admits}, not {found}: choose another order")]
    Restricted {
        /// The order that restricts.
        kind: Kind,
        /// What it restricts: app, dataset, workerpool, or requester.
        party: &'static str,
        /// Whom it admits: an address or a group.
        admits: Address,
        /// Who is there; zero for no dataset.
        found: Address,
    },
    /// The resource is unknown to its registry.
    #[error("{kind} {address} is not registered on this chain: check the address")]
    NotRegistered {
        /// What it should be.
        kind: Kind,
        /// The address.
        address: Address,
    },
    /// The signature is missing, wrong, or by a former owner.
    #[error("the {kind} order is not signed by {signer}: have it signed again by the present owner")]
    NotSigned {
        /// The order.
        kind: Kind,
        /// Who should have signed.
        signer: Address,
    },
    /// Nothing is left of the order.
    #[error("the {kind} order is used up or closed ({consumed} of {volume} tasks): choose or sign another order")]
    Used {
        /// The order.
        kind: Kind,
        /// Its volume.
        volume: U256,
        /// What was taken from it.
        consumed: U256,
    },
    /// Somebody cannot lock what the deal needs.
    #[error("{who} {account} has {have} RLC free on the hub, the deal locks {need} RLC: deposit the difference")]
    Stake {
        /// `requester` or `workerpool owner`.
        who: &'static str,
        /// The account.
        account: Address,
        /// What is free.
        have: Nrlc,
        /// What must be.
        need: Nrlc,
    },
    /// Amounts that no account can hold.
    #[error("the deal's price exceeds 256 bits: choose orders with a sane price")]
    Overflow,
}

impl Mismatch {
    /// The contract's word for it: what follows `iExecV5-matchOrders-`. `None` where the escrow or arithmetic refuses.
    pub fn revert_code(&self) -> Option<u8> {
        Some(match self {
            Self::Category { .. } => 0x00,
            Self::UnknownCategory { .. } => 0x01,
            Self::Trust { .. } => 0x02,
            Self::Price { kind: Kind::App, .. } => 0x03,
            Self::Price { kind: Kind::Dataset, .. } => 0x04,
            Self::Price { kind: Kind::Workerpool | Kind::Request, .. } => 0x05,
            Self::Tag { .. } => 0x06,
            Self::AppWithoutTee => 0x07,
            Self::Other { kind: Kind::App, .. } => 0x10,
            Self::Other { .. } => 0x11,
            Self::Restricted { kind, party, .. } => restriction_code(*kind, party),
            Self::NotRegistered { kind, .. } => registration_code(*kind),
            Self::NotSigned { kind: Kind::Request, .. } => 0x50,
            Self::NotSigned { kind, .. } => registration_code(*kind) + 1,
            Self::Used { .. } => 0x60,
            Self::Stake { .. } | Self::Overflow => return None,
        })
    }

    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Category { .. } => "category_mismatch",
            Self::UnknownCategory { .. } => "category_unknown",
            Self::Trust { .. } => "trust_too_high",
            Self::Price { .. } => "price_too_low",
            Self::Tag { .. } | Self::AppWithoutTee => "tag_mismatch",
            Self::Other { .. } => "resource_mismatch",
            Self::Restricted { .. } => "order_restricted",
            Self::NotRegistered { .. } => "not_registered",
            Self::NotSigned { .. } => "order_not_signed",
            Self::Used { .. } => "order_used",
            Self::Stake { .. } => "stake_too_low",
            Self::Overflow => "price_too_large",
        }
    }
}

fn restriction_code(kind: Kind, party: &str) -> u8 {
    match (kind, party) {
        (Kind::Request, _) => 0x12,
        (Kind::App, "dataset") => 0x13,
        (Kind::App, "workerpool") => 0x14,
        (Kind::App, _) => 0x15,
        (Kind::Dataset, "app") => 0x16,
        (Kind::Dataset, "workerpool") => 0x17,
        (Kind::Dataset, _) => 0x18,
        (Kind::Workerpool, "app") => 0x19,
        (Kind::Workerpool, "dataset") => 0x1a,
        (Kind::Workerpool, _) => 0x1b,
    }
}

fn registration_code(kind: Kind) -> u8 {
    match kind {
        Kind::App => 0x20,
        Kind::Dataset => 0x30,
        Kind::Workerpool => 0x40,
        Kind::Request => 0x50,
    }
}

/// How many tasks the match would make, or the first reason why the hub would refuse it.
///
/// The contract's checks come first and in its order; then the money that requester and pool owner must have free.
pub fn check_match(orders: &Match, facts: &Facts) -> Result<U256, Mismatch> {
    check_terms(orders, facts)?;
    check_tags(orders)?;
    check_parties(orders, facts)?;
    check_owners(orders, facts)?;
    let volume = check_volume(orders, facts)?;
    check_stakes(orders, facts, volume)?;
    Ok(volume)
}

/// 0x00 to 0x05.
fn check_terms(orders: &Match, facts: &Facts) -> Result<(), Mismatch> {
    let (request, pool) = (&orders.request, &orders.workerpool);
    if request.category != pool.category {
        return Err(Mismatch::Category { request: request.category, workerpool: pool.category });
    }
    if request.category >= facts.categories {
        return Err(Mismatch::UnknownCategory { category: request.category, known: facts.categories });
    }
    if request.trust > pool.trust {
        return Err(Mismatch::Trust { request: request.trust, workerpool: pool.trust });
    }
    for (kind, offered, asked) in [
        (Kind::App, request.appmaxprice, orders.app.appprice),
        (Kind::Dataset, request.datasetmaxprice, orders.dataset.datasetprice),
        (Kind::Workerpool, request.workerpoolmaxprice, pool.workerpoolprice),
    ] {
        if offered < asked {
            return Err(Mismatch::Price { kind, offered: Nrlc(offered), asked: Nrlc(asked) });
        }
    }
    Ok(())
}

/// The features that the deal obliges its workers to have.
pub fn deal_tag(orders: &Match) -> B256 {
    orders.app.tag | (orders.dataset.tag & !TEE_FRAMEWORKS) | orders.request.tag
}

/// 0x06 and 0x07.
fn check_tags(orders: &Match) -> Result<(), Mismatch> {
    let tag = deal_tag(orders);
    if !tag_within(tag, orders.workerpool.tag) {
        return Err(Mismatch::Tag { missing: tag & !orders.workerpool.tag });
    }
    if !tag_within(tag & TAG_TEE, orders.app.tag) {
        return Err(Mismatch::AppWithoutTee);
    }
    Ok(())
}

/// A field of an order that admits only some: (order, what it restricts, whom it admits, who is there).
type Restriction = (Kind, &'static str, Address, Address);

/// All restrictions, in the contract's order.
fn restrictions(orders: &Match) -> [Restriction; 10] {
    let Match { app: a, dataset: d, workerpool: w, request: r } = orders;
    [
        (Kind::Request, "workerpool", r.workerpool, w.workerpool),
        (Kind::App, "dataset", a.datasetrestrict, d.dataset),
        (Kind::App, "workerpool", a.workerpoolrestrict, w.workerpool),
        (Kind::App, "requester", a.requesterrestrict, r.requester),
        (Kind::Dataset, "app", d.apprestrict, a.app),
        (Kind::Dataset, "workerpool", d.workerpoolrestrict, w.workerpool),
        (Kind::Dataset, "requester", d.requesterrestrict, r.requester),
        (Kind::Workerpool, "app", w.apprestrict, a.app),
        (Kind::Workerpool, "dataset", w.datasetrestrict, d.dataset),
        (Kind::Workerpool, "requester", w.requesterrestrict, r.requester),
    ]
}

/// The (group, member) pairs on which the match depends: the restrictions that name neither everybody nor the one
/// who is there. Empty for most matches; ask the group contract of each (`keyHasPurpose`, poco.md §4.3).
pub fn memberships(orders: &Match) -> BTreeSet<(Address, Address)> {
    let open = restrictions(orders).into_iter().filter(|(_, _, admits, found)| !admits.is_zero() && admits != found);
    open.map(|(_, _, admits, found)| (admits, found)).collect()
}

/// 0x10 to 0x1b.
fn check_parties(orders: &Match, facts: &Facts) -> Result<(), Mismatch> {
    for (kind, request, order) in [
        (Kind::App, orders.request.app, orders.app.app),
        (Kind::Dataset, orders.request.dataset, orders.dataset.dataset),
    ] {
        if request != order {
            return Err(Mismatch::Other { kind, request, order });
        }
    }
    for (kind, party, admits, found) in restrictions(orders) {
        let admitted = admits.is_zero() || admits == found || facts.memberships.contains(&(admits, found));
        if !admitted {
            return Err(Mismatch::Restricted { kind, party, admits, found });
        }
    }
    Ok(())
}

/// 0x20 to 0x50.
fn check_owners(orders: &Match, facts: &Facts) -> Result<(), Mismatch> {
    for (kind, address, standing) in [
        (Kind::App, orders.app.app, facts.app),
        (Kind::Dataset, orders.dataset.dataset, facts.dataset),
        (Kind::Workerpool, orders.workerpool.workerpool, facts.workerpool),
    ] {
        if kind == Kind::Dataset && address.is_zero() {
            continue;
        }
        let Some(signer) = standing.owner else { return Err(Mismatch::NotRegistered { kind, address }) };
        if !standing.signed {
            return Err(Mismatch::NotSigned { kind, signer });
        }
    }
    match facts.request.signed {
        true => Ok(()),
        false => Err(Mismatch::NotSigned { kind: Kind::Request, signer: orders.request.requester }),
    }
}

/// What is left of `volume` tasks.
pub fn remaining(volume: U256, consumed: U256) -> U256 {
    volume.saturating_sub(consumed)
}

/// 0x60: the least that any of the orders has left.
fn check_volume(orders: &Match, facts: &Facts) -> Result<U256, Mismatch> {
    let mut least = U256::MAX;
    for (kind, volume, consumed) in [
        (Kind::App, orders.app.volume(), facts.app.consumed),
        (Kind::Dataset, orders.dataset.volume(), facts.dataset.consumed),
        (Kind::Workerpool, orders.workerpool.volume(), facts.workerpool.consumed),
        (Kind::Request, orders.request.volume(), facts.request.consumed),
    ] {
        if kind == Kind::Dataset && orders.dataset.dataset.is_zero() {
            continue;
        }
        let left = remaining(volume, consumed);
        if left.is_zero() {
            return Err(Mismatch::Used { kind, volume, consumed });
        }
        least = least.min(left);
    }
    Ok(least)
}

/// What one task costs its payer, or `None` past 256 bits.
pub fn task_cost(orders: &Match) -> Option<Nrlc> {
    let dataset = if orders.dataset.dataset.is_zero() { U256::ZERO } else { orders.dataset.datasetprice };
    Nrlc(orders.app.appprice).checked_add(Nrlc(dataset))?.checked_add(Nrlc(orders.workerpool.workerpoolprice))
}

/// What a pool's owner locks for each task at this price: 30 %, rounded down. `None` past 256 bits.
pub fn pool_lock(price: Nrlc) -> Option<Nrlc> {
    price.percent(U256::from(POOL_STAKE_PERCENT))
}

/// The requester pays first; a pool owner who buys at his own pool locks from what is left.
fn check_stakes(orders: &Match, facts: &Facts, volume: U256) -> Result<(), Mismatch> {
    let cost = task_cost(orders).and_then(|c| c.checked_mul(volume)).ok_or(Mismatch::Overflow)?;
    let price = Nrlc(orders.workerpool.workerpoolprice);
    let lock = pool_lock(price).and_then(|l| l.checked_mul(volume)).ok_or(Mismatch::Overflow)?;
    let requester = orders.request.requester;
    let Some(left) = facts.requester_stake.checked_sub(cost) else {
        let have = facts.requester_stake;
        return Err(Mismatch::Stake { who: "requester", account: requester, have, need: cost });
    };
    let owner = facts.workerpool.owner.unwrap_or_default();
    let have = if owner == requester { left } else { facts.pool_owner_stake };
    match have >= lock {
        true => Ok(()),
        false => Err(Mismatch::Stake { who: "workerpool owner", account: owner, have, need: lock }),
    }
}

#[cfg(test)]
mod tests;
