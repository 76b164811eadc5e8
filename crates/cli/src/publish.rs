//! Putting an app, a dataset and a pool on the market: content to the store, a contract, a signed order.

use bourse_chain::alloy::{
    primitives::Keccak256,
    sol_types::{Eip712Domain, SolCall},
};
use bourse_chain::{Hub, PrivateKeySigner, Sender, deploy::Deployment, keys::sign_order};
use bourse_market::client::Client as Market;
use bourse_protocol::{
    Address, B256, Bytes, U256,
    abi::IRegistry,
    api::OrderStatus,
    book::{Filter, Window},
    ipfs::Cid,
    money::Nrlc,
    orders::{AppOrder, DatasetOrder, Order, WorkerpoolOrder, number::MAX_EXACT},
};
use eyre::WrapErr;
use sha2::{Digest, Sha256};

/// Price of the example app, per task.
pub(crate) const APP_PRICE: u64 = 1;
/// Price of the example dataset, per task.
pub(crate) const DATASET_PRICE: u64 = 2;
/// Price of the pool, per task.
pub(crate) const POOL_PRICE: u64 = 10;
/// The highest trust that the pool offers.
pub(crate) const POOL_TRUST: u64 = 1 << 20;

/// The contract that a registry makes of these arguments: created now unless it is there already.
async fn register<P, C>(
    hub: &Hub,
    sender: &Sender,
    registry: Address,
    name: &str,
    predict: P,
    create: C,
) -> eyre::Result<Address>
where
    P: SolCall<Return = Address>,
    C: SolCall,
{
    let address = hub.client.call(registry, &predict).await?;
    if !hub.client.call(registry, &IRegistry::isRegisteredCall { entry: address }).await? {
        let id = format!("register:{address}");
        sender.send(&id, registry, &create).await.wrap_err_with(|| format!("cannot register {name}"))?;
    }
    Ok(address)
}

/// What stands on chain about an app or a dataset.
#[derive(Clone, Debug)]
pub(crate) struct Asset {
    /// Its name.
    pub(crate) name: String,
    /// Where its content lies.
    pub(crate) cid: Cid,
    /// The sha2-256 of its content.
    pub(crate) checksum: B256,
}

/// An app of type `WASM` whose module lies in the store.
pub(crate) async fn app(hub: &Hub, deployment: &Deployment, sender: &Sender, asset: Asset) -> eyre::Result<Address> {
    app_of_type("WASM", hub, deployment, sender, asset).await
}

/// An app of any type.
pub(crate) async fn app_of_type(
    kind: &str,
    hub: &Hub,
    deployment: &Deployment,
    sender: &Sender,
    asset: Asset,
) -> eyre::Result<Address> {
    let Asset { name, cid, checksum } = asset;
    let (owner, name_, kind) = (sender.address(), name.clone(), kind.to_owned());
    let (multiaddr, mrenclave) = (location(&cid), Bytes::new());
    let predict = IRegistry::predictAppCall {
        owner,
        name: name_.clone(),
        kind: kind.clone(),
        multiaddr: multiaddr.clone(),
        checksum,
        mrenclave: mrenclave.clone(),
    };
    let create = IRegistry::createAppCall { owner, name: name_, kind, multiaddr, checksum, mrenclave };
    register(hub, sender, deployment.app_registry, &name, predict, create).await
}

/// A dataset whose content lies in the store.
pub(crate) async fn dataset(
    hub: &Hub,
    deployment: &Deployment,
    sender: &Sender,
    asset: Asset,
) -> eyre::Result<Address> {
    let Asset { name, cid, checksum } = asset;
    let (owner, name_, multiaddr) = (sender.address(), name.clone(), location(&cid));
    let predict = IRegistry::predictDatasetCall { owner, name: name_.clone(), multiaddr: multiaddr.clone(), checksum };
    let create = IRegistry::createDatasetCall { owner, name: name_, multiaddr, checksum };
    register(hub, sender, deployment.dataset_registry, &name, predict, create).await
}

/// A workerpool, with the protocol's default policy: workers stake 30 %, the pool keeps 1 %.
pub(crate) async fn workerpool(
    hub: &Hub,
    deployment: &Deployment,
    sender: &Sender,
    description: &str,
) -> eyre::Result<Address> {
    let (owner, text) = (sender.address(), description.to_owned());
    let predict = IRegistry::predictWorkerpoolCall { owner, description: text.clone() };
    let create = IRegistry::createWorkerpoolCall { owner, description: text };
    register(hub, sender, deployment.workerpool_registry, description, predict, create).await
}

/// The owner's standing offer for an app.
pub(crate) fn app_order(app: Address, price: Nrlc) -> AppOrder {
    AppOrder { app, appprice: price.0, volume: U256::from(MAX_EXACT), salt: salt(app.as_slice()), ..Default::default() }
}

/// The owner's standing offer for a dataset.
pub(crate) fn dataset_order(dataset: Address, price: Nrlc) -> DatasetOrder {
    DatasetOrder {
        dataset,
        datasetprice: price.0,
        volume: U256::from(MAX_EXACT),
        salt: salt(dataset.as_slice()),
        ..Default::default()
    }
}

/// The pool owner's standing offer, for as many tasks as its deposit covers.
pub(crate) fn workerpool_order(workerpool: Address, volume: u64) -> WorkerpoolOrder {
    WorkerpoolOrder {
        workerpool,
        workerpoolprice: Nrlc::rlc(POOL_PRICE).0,
        volume: U256::from(volume),
        trust: U256::from(POOL_TRUST),
        salt: salt(&[workerpool.as_slice(), &volume.to_be_bytes()].concat()),
        ..Default::default()
    }
}

/// Whether the owner of `key` has an open order in the book about the same subject on the same terms.
pub(crate) async fn is_offered<O: Offer>(market: &Market, key: &PrivateKeySigner, order: &O) -> eyre::Result<bool> {
    let filter = Filter { signer: Some(key.address()), ..Filter::about(order.subject()) };
    let page = market.orders::<O>(&filter, Window::default()).await?;
    Ok(page.orders.iter().any(|open| open.signer == key.address() && open.order.terms() == order.terms()))
}

/// Signs and publishes a standing offer, unless one like it is open. One that is used up is followed by another.
pub(crate) async fn offer<O: Offer>(
    market: &Market,
    key: &PrivateKeySigner,
    order: O,
    domain: &Eip712Domain,
) -> eyre::Result<()> {
    if is_offered(market, key, &order).await? {
        return Ok(());
    }
    let known = market.order::<O>(order.hash(domain)).await?;
    let order = match known.map(|o| o.status) {
        // A dead order may come back when what killed it has passed.
        None | Some(OrderStatus::Dead) => order,
        Some(OrderStatus::Open) => return Ok(()),
        Some(OrderStatus::Filled | OrderStatus::Canceled) => {
            order.with_salt(B256::from(*PrivateKeySigner::random().to_bytes()))
        }
    };
    let order = sign_order(order, key, domain);
    market.publish(key, &order).await.wrap_err_with(|| format!("cannot publish the {} order", O::KIND))?;
    Ok(())
}

/// An order that offers something.
pub(crate) trait Offer: Order {
    /// What makes two offers the same to a buyer: the price, and the highest trust.
    fn terms(&self) -> (U256, U256);

    /// The same offer as another order.
    fn with_salt(self, salt: B256) -> Self;
}

impl Offer for AppOrder {
    fn terms(&self) -> (U256, U256) {
        (self.appprice, U256::ZERO)
    }

    fn with_salt(self, salt: B256) -> Self {
        Self { salt, ..self }
    }
}

impl Offer for DatasetOrder {
    fn terms(&self) -> (U256, U256) {
        (self.datasetprice, U256::ZERO)
    }

    fn with_salt(self, salt: B256) -> Self {
        Self { salt, ..self }
    }
}

impl Offer for WorkerpoolOrder {
    fn terms(&self) -> (U256, U256) {
        (self.workerpoolprice, self.trust)
    }

    fn with_salt(self, salt: B256) -> Self {
        Self { salt, ..self }
    }
}

/// The same order every time: publishing again changes nothing.
fn salt(seed: &[u8]) -> B256 {
    let mut hash = Keccak256::new();
    hash.update(b"bourse standing offer");
    hash.update(seed);
    hash.finalize()
}

/// What stands on chain as the place of content.
fn location(cid: &Cid) -> Bytes {
    format!("/ipfs/{cid}").into_bytes().into()
}

/// The checksum that stands on chain.
pub(crate) fn sha256(content: &[u8]) -> B256 {
    B256::from_slice(&Sha256::digest(content))
}
