//! What the chain says of an order: owner, signature, volume used, stake.

use bourse_chain::{Error, Hub};
use bourse_protocol::{
    Address,
    abi::{IAsset, IHub, IRegistry},
    book::{AnyOrder, Backing, Kind},
    ids::OrderHash,
    money::Nrlc,
};

/// Reads facts about orders from one hub.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) hub: Hub,
    pub(crate) registries: Registries,
}

/// The three registries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registries {
    pub(crate) app: Address,
    pub(crate) dataset: Address,
    pub(crate) workerpool: Address,
}

impl Registries {
    /// All of them.
    pub(crate) fn all(&self) -> [Address; 3] {
        [self.app, self.dataset, self.workerpool]
    }
}

impl Reader {
    /// Asks the hub where its registries are; should the hub ever get others, the market starts again.
    pub(crate) async fn open(hub: Hub) -> Result<Self, Error> {
        let registries = Registries {
            app: hub.view(&IHub::appregistryCall {}).await?,
            dataset: hub.view(&IHub::datasetregistryCall {}).await?,
            workerpool: hub.view(&IHub::workerpoolregistryCall {}).await?,
        };
        Ok(Self { hub, registries })
    }

    /// What stands behind an order now. Without an owner nothing else is asked.
    pub(crate) async fn backing(&self, order: &AnyOrder, hash: OrderHash) -> Result<Backing, Error> {
        let nothing = Backing { owner: None, signed: false, consumed: Default::default(), stake: Nrlc::ZERO };
        let consumed = self.hub.consumed(hash).await?;
        let Some(owner) = self.owner(order).await? else { return Ok(Backing { consumed, ..nothing }) };
        let signed = self.hub.signature_valid(owner, hash.0, order.sign()).await?;
        let stake = match order.kind() {
            Kind::App | Kind::Dataset => Nrlc::ZERO,
            Kind::Workerpool | Kind::Request => self.hub.account(owner).await?.stake,
        };
        Ok(Backing { owner: Some(owner), signed, consumed, stake })
    }

    async fn owner(&self, order: &AnyOrder) -> Result<Option<Address>, Error> {
        let asset = order.subject();
        let registry = match order.kind() {
            Kind::App => self.registries.app,
            Kind::Dataset => self.registries.dataset,
            Kind::Workerpool => self.registries.workerpool,
            Kind::Request => return Ok(Some(asset)),
        };
        if !self.hub.client.call(registry, &IRegistry::isRegisteredCall { entry: asset }).await? {
            return Ok(None);
        }
        Ok(Some(self.hub.client.call(asset, &IAsset::ownerCall {}).await?))
    }
}
