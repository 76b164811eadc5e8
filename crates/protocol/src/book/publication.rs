//! Which orders may stand in the book, and when they must leave it. Source: sdk.md §3.7, §3.8.

use super::{Admission, AnyOrder, Book, Filter, Kind, pool_lock, remaining};
use crate::{
    api::OrderStatus,
    money::Nrlc,
    orders::{RequestOrder, TAG_TEE, number::MAX_EXACT},
};
use alloy_primitives::{Address, U256};

/// What the chain says of an order that is in the book or wants to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backing {
    /// The present owner of the resource, or the requester; `None` if the resource is not registered.
    pub owner: Option<Address>,
    /// Whether that owner stands behind the order's hash.
    pub signed: bool,
    /// How many of its tasks are sold, or its whole volume once closed.
    pub consumed: U256,
    /// What the owner has free on the hub.
    pub stake: Nrlc,
}

/// Why an order does not stand in the book.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum Refusal {
    #[error("volume is 0: an order allows at least one task")]
    NoVolume,
    #[error("{field} is {value}: numbers go up to {MAX_EXACT}")]
    NumberTooLarge { field: &'static str, value: U256 },
    #[error("order already published")]
    AlreadyPublished,
    #[error("Resource not deployed: no {kind} is registered at {address}")]
    NotDeployed { kind: Kind, address: Address },
    #[error("only order signer {signer} can publish an order: log in with that wallet")]
    NotSigner { signer: Address },
    #[error("invalid sign: the order is not signed by {signer} for this chain and hub")]
    InvalidSign { signer: Address },
    #[error("{signer} has {limit} open {kind} orders, the most allowed: unpublish one first")]
    TooMany { kind: Kind, signer: Address, limit: u32 },
    #[error("the book is full: try again later")]
    Full,
    #[error("order already consumed: sign a new one")]
    Consumed,
    #[error("workerpool owner's stake is too low: {have} RLC free on the hub, {need} RLC needed to cover the order")]
    OwnerStake { have: Nrlc, need: Nrlc },
    #[error("requester's stake is too low: {have} RLC free on the hub, {need} RLC needed to cover the order")]
    RequesterStake { have: Nrlc, need: Nrlc },
    #[error("No {kind}order published for {kind} {address} that this request can use: have one published first")]
    NothingToMatch { kind: Kind, address: Address },
    #[error("{kind}maxprice {offered} is too low: the cheapest {kind} order asks {asked} (nRLC per task)")]
    PriceTooLow { kind: Kind, offered: U256, asked: U256 },
}

impl Refusal {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoVolume | Self::NumberTooLarge { .. } => "bad_order",
            Self::AlreadyPublished => "order_already_published",
            Self::NotDeployed { .. } => "not_registered",
            Self::NotSigner { .. } => "not_order_signer",
            Self::InvalidSign { .. } => "order_not_signed",
            Self::TooMany { .. } => "too_many_orders",
            Self::Full => "book_full",
            Self::Consumed => "order_used",
            Self::OwnerStake { .. } | Self::RequesterStake { .. } => "stake_too_low",
            Self::NothingToMatch { .. } => "nothing_to_match",
            Self::PriceTooLow { .. } => "price_too_low",
        }
    }

    /// Whether the order itself makes no sense, whatever the chain says.
    pub fn is_malformed(&self) -> bool {
        matches!(self, Self::NoVolume | Self::NumberTooLarge { .. })
    }
}

/// Whether the order makes sense by itself: something for sale, and numbers that every JSON reader keeps exactly.
pub fn check_shape(order: &AnyOrder) -> Result<(), Refusal> {
    if let Some((field, value)) = order.numbers().into_iter().find(|(_, value)| *value > U256::from(MAX_EXACT)) {
        return Err(Refusal::NumberTooLarge { field, value });
    }
    match order.volume().is_zero() {
        true => Err(Refusal::NoVolume),
        false => Ok(()),
    }
}

/// How many orders the book takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open orders of one kind by one wallet.
    pub per_wallet: u32,
    /// Open orders in all.
    pub in_all: usize,
}

/// Whether `wallet` may publish the order. Says how much is left of it.
pub fn check_publication(
    book: &Book,
    limits: Limits,
    order: &AnyOrder,
    wallet: Address,
    backing: &Backing,
) -> Result<U256, Refusal> {
    check_signer(order, wallet, backing)?;
    check_room(book, limits, order.kind(), wallet)?;
    let left = check_left(order, backing)?;
    check_counterparts(book, order)?;
    Ok(left)
}

fn check_signer(order: &AnyOrder, wallet: Address, backing: &Backing) -> Result<(), Refusal> {
    let (kind, address) = (order.kind(), order.subject());
    let signer = backing.owner.ok_or(Refusal::NotDeployed { kind, address })?;
    if signer != wallet {
        return Err(Refusal::NotSigner { signer });
    }
    match backing.signed {
        true => Ok(()),
        false => Err(Refusal::InvalidSign { signer }),
    }
}

fn check_room(book: &Book, limits: Limits, kind: Kind, signer: Address) -> Result<(), Refusal> {
    if book.count_open(kind, signer) >= limits.per_wallet {
        return Err(Refusal::TooMany { kind, signer, limit: limits.per_wallet });
    }
    match book.len() < limits.in_all {
        true => Ok(()),
        false => Err(Refusal::Full),
    }
}

/// What is left of the order, if its signer's stake covers that.
fn check_left(order: &AnyOrder, backing: &Backing) -> Result<U256, Refusal> {
    let left = remaining(order.volume(), backing.consumed);
    if left.is_zero() {
        return Err(Refusal::Consumed);
    }
    check_cover(order, left, backing.stake)?;
    Ok(left)
}

/// Whether the stake covers what is left of the order.
fn check_cover(order: &AnyOrder, left: U256, have: Nrlc) -> Result<(), Refusal> {
    let all = |per_task: Option<Nrlc>| per_task.and_then(|p| p.checked_mul(left)).unwrap_or(Nrlc(U256::MAX));
    match order {
        AnyOrder::App(_) | AnyOrder::Dataset(_) => Ok(()),
        AnyOrder::Workerpool(o) => match all(pool_lock(Nrlc(o.workerpoolprice))) {
            need if need > have => Err(Refusal::OwnerStake { have, need }),
            _ => Ok(()),
        },
        AnyOrder::Request(o) => {
            let sum = Nrlc(o.appmaxprice).checked_add(Nrlc(o.datasetmaxprice));
            match all(sum.and_then(|s| s.checked_add(Nrlc(o.workerpoolmaxprice)))) {
                need if need > have => Err(Refusal::RequesterStake { have, need }),
                _ => Ok(()),
            }
        }
    }
}

/// Whether the book holds an app order, and a dataset order if one is asked for, that the request can use. Other
/// kinds need nothing. Groups count as strangers here: only the chain knows their members.
fn check_counterparts(book: &Book, order: &AnyOrder) -> Result<(), Refusal> {
    let AnyOrder::Request(request) = order else { return Ok(()) };
    check_counterpart(book, Kind::App, request.app, request.appmaxprice, request)?;
    match request.dataset.is_zero() {
        true => Ok(()),
        false => check_counterpart(book, Kind::Dataset, request.dataset, request.datasetmaxprice, request),
    }
}

fn check_counterpart(
    book: &Book,
    kind: Kind,
    address: Address,
    offered: U256,
    request: &RequestOrder,
) -> Result<(), Refusal> {
    let mut filter = Filter::about(address).usable_by(Kind::Request, request.requester);
    filter = match kind {
        Kind::App => filter.usable_by(Kind::Dataset, request.dataset),
        _ => filter.usable_by(Kind::App, request.app),
    };
    // A request that leaves the pool open can still go to the one pool that the order admits.
    let pool = if request.workerpool.is_zero() { Admission::Any } else { Admission::Party(request.workerpool) };
    filter.admits.insert(Kind::Workerpool, pool);
    if kind == Kind::App {
        filter.min_tag = request.tag & TAG_TEE;
    }
    match book.matching(kind, &filter).next().map(|best| best.order.price()) {
        None => Err(Refusal::NothingToMatch { kind, address }),
        Some(asked) if asked > offered => Err(Refusal::PriceTooLow { kind, offered, asked }),
        Some(_) => Ok(()),
    }
}

/// Where a published order stands now, and what is left of it. `closed`: its owner closed it on chain.
pub fn review(book: &Book, order: &AnyOrder, signer: Address, closed: bool, backing: &Backing) -> (OrderStatus, U256) {
    let left = remaining(order.volume(), backing.consumed);
    if left.is_zero() {
        return (if closed { OrderStatus::Canceled } else { OrderStatus::Filled }, left);
    }
    let stands = check_signer(order, signer, backing)
        .and_then(|()| check_left(order, backing))
        .and_then(|_| check_counterparts(book, order));
    (if stands.is_ok() { OrderStatus::Open } else { OrderStatus::Dead }, left)
}

#[cfg(test)]
mod tests;
