//! An order of any kind, asked the same questions.

use super::Kind;
use crate::{
    ids::OrderHash,
    orders::{AppOrder, DatasetOrder, Order, RequestOrder, WorkerpoolOrder, number::MAX_EXACT},
};
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::Eip712Domain;
use serde::Serialize;

/// An order of any kind. In JSON it is the order itself: the kind is told by the route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the kinds explain themselves")]
pub enum AnyOrder {
    App(AppOrder),
    Dataset(DatasetOrder),
    Workerpool(WorkerpoolOrder),
    Request(RequestOrder),
}

macro_rules! each {
    ($any:expr, $order:ident => $do:expr) => {
        match $any {
            AnyOrder::App($order) => $do,
            AnyOrder::Dataset($order) => $do,
            AnyOrder::Workerpool($order) => $do,
            AnyOrder::Request($order) => $do,
        }
    };
}

impl AnyOrder {
    /// Reads an order of a kind. Unknown fields are refused.
    pub fn read(kind: Kind, json: &str) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            Kind::App => Self::App(serde_json::from_str(json)?),
            Kind::Dataset => Self::Dataset(serde_json::from_str(json)?),
            Kind::Workerpool => Self::Workerpool(serde_json::from_str(json)?),
            Kind::Request => Self::Request(serde_json::from_str(json)?),
        })
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::App(_) => Kind::App,
            Self::Dataset(_) => Kind::Dataset,
            Self::Workerpool(_) => Kind::Workerpool,
            Self::Request(_) => Kind::Request,
        }
    }

    /// See [`Order::hash`].
    pub fn hash(&self, domain: &Eip712Domain) -> OrderHash {
        each!(self, order => order.hash(domain))
    }

    /// See [`Order::sign`].
    pub fn sign(&self) -> &Bytes {
        each!(self, order => order.sign())
    }

    /// See [`Order::volume`].
    pub fn volume(&self) -> U256 {
        each!(self, order => order.volume())
    }

    /// See [`Order::subject`].
    pub fn subject(&self) -> Address {
        each!(self, order => order.subject())
    }

    /// Required (of a workerpool order: offered) features.
    pub fn tag(&self) -> B256 {
        each!(self, order => order.tag)
    }

    /// What the book sorts by: the asked price, or what a request pays the pool at most. nRLC per task.
    pub fn price(&self) -> U256 {
        match self {
            Self::App(o) => o.appprice,
            Self::Dataset(o) => o.datasetprice,
            Self::Workerpool(o) => o.workerpoolprice,
            Self::Request(o) => o.workerpoolmaxprice,
        }
    }

    /// The category, of the kinds that have one.
    pub fn category(&self) -> Option<U256> {
        match self {
            Self::App(_) | Self::Dataset(_) => None,
            Self::Workerpool(o) => Some(o.category),
            Self::Request(o) => Some(o.category),
        }
    }

    /// The trust, of the kinds that have one.
    pub fn trust(&self) -> Option<U256> {
        match self {
            Self::App(_) | Self::Dataset(_) => None,
            Self::Workerpool(o) => Some(o.trust),
            Self::Request(o) => Some(o.trust),
        }
    }

    /// Whom the order admits as `party` ([`Kind::Request`]: the requester); zero for everybody.
    pub fn restriction(&self, party: Kind) -> Address {
        match (self, party) {
            (Self::App(o), Kind::Dataset) => o.datasetrestrict,
            (Self::App(o), Kind::Workerpool) => o.workerpoolrestrict,
            (Self::App(o), Kind::Request) => o.requesterrestrict,
            (Self::Dataset(o), Kind::App) => o.apprestrict,
            (Self::Dataset(o), Kind::Workerpool) => o.workerpoolrestrict,
            (Self::Dataset(o), Kind::Request) => o.requesterrestrict,
            (Self::Workerpool(o), Kind::App) => o.apprestrict,
            (Self::Workerpool(o), Kind::Dataset) => o.datasetrestrict,
            (Self::Workerpool(o), Kind::Request) => o.requesterrestrict,
            (Self::Request(o), Kind::Workerpool) => o.workerpool,
            _ => Address::ZERO,
        }
    }

    /// The numbers that JSON readers must keep exactly, with their names.
    pub(super) fn numbers(&self) -> Vec<(&'static str, U256)> {
        match self {
            Self::App(o) => vec![("appprice", o.appprice), ("volume", o.volume)],
            Self::Dataset(o) => vec![("datasetprice", o.datasetprice), ("volume", o.volume)],
            Self::Workerpool(o) => vec![
                ("workerpoolprice", o.workerpoolprice),
                ("volume", o.volume),
                ("category", o.category),
                ("trust", o.trust),
            ],
            Self::Request(o) => vec![
                ("appmaxprice", o.appmaxprice),
                ("datasetmaxprice", o.datasetmaxprice),
                ("workerpoolmaxprice", o.workerpoolmaxprice),
                ("volume", o.volume),
                ("category", o.category),
                ("trust", o.trust),
            ],
        }
    }

    /// Whether it is a dataset order for bulk processing: free, and of practically infinite volume (sdk.md §3.3).
    pub fn is_bulk(&self) -> bool {
        let Self::Dataset(order) = self else { return false };
        order.datasetprice.is_zero() && order.volume >= U256::from(MAX_EXACT - 1)
    }
}
