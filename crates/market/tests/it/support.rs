//! A chain with the contracts on it, a market beside it, and people who own things and sign orders.

use bourse_chain::{
    Client, GasPolicy, Hub, PrivateKeySigner, Receipt, Sender,
    alloy::sol_types::SolCall,
    deploy::{self, Deployment},
    keys::{sign_order, test_key},
    sender,
};
use bourse_devchain::{Chain, Config as ChainConfig};
use bourse_market::{Config, Service, client};
use bourse_protocol::{
    Address, B256, Bytes, U256,
    abi::{self, IHub, IRegistry, IRlc},
    api::Match,
    ids::{DealId, OrderHash},
    money::Nrlc,
    orders::{AppOrder, DatasetOrder, Order, RequestOrder, WorkerpoolOrder},
};
use bourse_service::{CancellationToken, clock::Clock, journal::Journal};
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;
use tokio::task::JoinSet;

bourse_chain::alloy::sol! {
    struct TypedAppOrder {
        address app; uint256 appprice; uint256 volume; bytes32 tag;
        address datasetrestrict; address workerpoolrestrict; address requesterrestrict; bytes32 salt; bytes sign;
    }
    struct AppOrderOperation { TypedAppOrder order; uint8 operation; bytes sign; }
    function manageAppOrder(AppOrderOperation operation) external;
    function transferFrom(address from, address to, uint256 tokenId) external;
}

/// Sign an order on chain, or close it.
pub(crate) const SIGN: u8 = 0;
pub(crate) const CLOSE: u8 = 1;

pub(crate) struct World {
    pub(crate) chain: Chain,
    pub(crate) hub: Hub,
    pub(crate) deployment: Deployment,
    pub(crate) service: Service,
    pub(crate) client: client::Client,
    pub(crate) clock: Clock,
    folder: TempDir,
    admin: Sender,
    owner: Sender,
    names: AtomicU64,
    running: JoinSet<()>,
}

/// Who owns app, dataset and pool.
pub(crate) fn owner() -> PrivateKeySigner {
    test_key(1)
}

/// Who asks and pays.
pub(crate) fn requester() -> PrivateKeySigner {
    test_key(2)
}

/// Nobody in particular.
pub(crate) fn stranger() -> PrivateKeySigner {
    test_key(9)
}

pub(crate) fn n(value: u64) -> U256 {
    U256::from(value)
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// A world whose market is configured by `change`.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let ether = U256::from(10).pow(U256::from(21));
        let genesis = (0..10).map(|i| (test_key(i).address(), ether)).collect();
        let chain = Chain::open(ChainConfig { genesis, ..ChainConfig::default() }).unwrap();
        let client = Client::in_process(chain.rpc_client());
        let mut running = JoinSet::new();
        let admin = sender_of(&client, test_key(0), &mut running).await;
        let owner = sender_of(&client, owner(), &mut running).await;
        let deployment = deploy::deploy(&client, &admin, deploy::Options::default(), |_| ()).await.unwrap();
        let hub = Hub::new(client, deployment.hub);
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::virtual_at(1_795_168_650);
        let mut config = Config { clock: clock.clone(), ..Config::new(folder.path()) };
        change(&mut config);
        let service = Service::open(config, hub.clone()).await.unwrap();
        let url = serve(&service, &mut running).await;
        let client = client::Client::new(&url, deployment.chain_id);
        let names = AtomicU64::new(0);
        let world = Self { chain, hub, deployment, service, client, clock, folder, admin, owner, names, running };
        world.fund(requester().address(), 1_000).await;
        world.fund(self::owner().address(), 1_000).await;
        world
    }

    /// The market again, from what was on disk at this moment: as after `kill -9`.
    pub(crate) async fn restart(&mut self) {
        let disk = tempfile::tempdir().unwrap();
        for file in ["market.db", "market.db-wal"] {
            std::fs::copy(self.folder.path().join(file), disk.path().join(file)).unwrap();
        }
        let config = Config { clock: self.clock.clone(), ..Config::new(disk.path()) };
        self.service = Service::open(config, self.hub.clone()).await.unwrap();
        self.client = client::Client::new(&serve(&self.service, &mut self.running).await, self.deployment.chain_id);
        self.folder = disk;
    }

    /// Sends from the administrator, who holds all RLC.
    pub(crate) async fn send<C: SolCall>(&self, to: Address, call: &C) -> Receipt {
        self.admin.send(&self.name(), to, call).await.unwrap()
    }

    /// Sends from the owner of the assets.
    pub(crate) async fn send_as_owner<C: SolCall>(&self, to: Address, call: &C) -> Receipt {
        self.owner.send(&self.name(), to, call).await.unwrap()
    }

    fn name(&self) -> String {
        self.names.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// Puts whole RLC on an account of the hub.
    pub(crate) async fn fund(&self, account: Address, rlc: u64) {
        let amount = Nrlc::rlc(rlc).0;
        self.send(self.deployment.rlc, &IRlc::approveCall { spender: self.hub.address, value: amount }).await;
        self.send(self.hub.address, &IHub::depositForCall { amount, target: account }).await;
    }

    pub(crate) async fn create_app(&self, name: &str) -> Address {
        let (owner, kind) = (owner().address(), "WASM".to_owned());
        let call = IRegistry::createAppCall {
            owner,
            name: name.into(),
            kind,
            multiaddr: Bytes::new(),
            checksum: B256::ZERO,
            mrenclave: Bytes::new(),
        };
        created(&self.send(self.deployment.app_registry, &call).await)
    }

    pub(crate) async fn create_dataset(&self, name: &str) -> Address {
        let owner = owner().address();
        let call =
            IRegistry::createDatasetCall { owner, name: name.into(), multiaddr: Bytes::new(), checksum: B256::ZERO };
        created(&self.send(self.deployment.dataset_registry, &call).await)
    }

    pub(crate) async fn create_pool(&self, description: &str) -> Address {
        let call = IRegistry::createWorkerpoolCall { owner: owner().address(), description: description.into() };
        created(&self.send(self.deployment.workerpool_registry, &call).await)
    }

    pub(crate) fn hash(&self, order: &impl Order) -> OrderHash {
        order.hash(&bourse_protocol::orders::domain(self.deployment.chain_id, self.hub.address))
    }

    pub(crate) fn signed<O: Order>(&self, key: &PrivateKeySigner, order: O) -> O {
        sign_order(order, key, &bourse_protocol::orders::domain(self.deployment.chain_id, self.hub.address))
    }

    /// Four signed orders that match, each for 10 tasks but the request's 4: app 1, dataset 2, pool 10 RLC.
    pub(crate) async fn offers(&self) -> Match {
        let (app, dataset, pool) =
            (self.create_app("a").await, self.create_dataset("d").await, self.create_pool("p").await);
        let rlc = |whole| Nrlc::rlc(whole).0;
        let volume = n(10);
        Match {
            app: self.signed(&owner(), AppOrder { app, appprice: rlc(1), volume, ..Default::default() }),
            dataset: self
                .signed(&owner(), DatasetOrder { dataset, datasetprice: rlc(2), volume, ..Default::default() }),
            workerpool: self.signed(
                &owner(),
                WorkerpoolOrder {
                    workerpool: pool,
                    workerpoolprice: rlc(10),
                    volume,
                    trust: n(5),
                    ..Default::default()
                },
            ),
            request: self.signed(
                &requester(),
                RequestOrder {
                    app,
                    appmaxprice: rlc(1),
                    dataset,
                    datasetmaxprice: rlc(2),
                    workerpoolmaxprice: rlc(10),
                    requester: requester().address(),
                    beneficiary: requester().address(),
                    volume: n(4),
                    trust: n(5),
                    params: r#"{"iexec_args":"0xABCDEFabcdefABCDEFabcdefABCDEFabcdefABCD"}"#.into(),
                    ..Default::default()
                },
            ),
        }
    }

    /// Publishes all four.
    pub(crate) async fn publish(&self, orders: &Match) {
        self.client.publish(&owner(), &orders.app).await.unwrap();
        self.client.publish(&owner(), &orders.dataset).await.unwrap();
        self.client.publish(&owner(), &orders.workerpool).await.unwrap();
        self.client.publish(&requester(), &orders.request).await.unwrap();
    }

    /// Matches on chain; what is dealt follows from what is left.
    pub(crate) async fn deal(&self, orders: &Match) -> DealId {
        let before = self.hub.consumed(self.hash(&orders.request)).await.unwrap();
        let call = IHub::matchOrdersCall::from(orders);
        self.send(self.hub.address, &call).await;
        DealId::of(self.hash(&orders.request), before)
    }

    /// The owner signs ([`SIGN`]) or closes ([`CLOSE`]) an app order on chain.
    pub(crate) async fn manage(&self, order: &AppOrder, operation: u8) {
        let o = abi::AppOrder::from(order);
        let order = TypedAppOrder {
            app: o.app,
            appprice: o.appprice,
            volume: o.volume,
            tag: o.tag,
            datasetrestrict: o.datasetrestrict,
            workerpoolrestrict: o.workerpoolrestrict,
            requesterrestrict: o.requesterrestrict,
            salt: o.salt,
            sign: o.sign,
        };
        let operation = AppOrderOperation { order, operation, sign: Bytes::new() };
        self.send_as_owner(self.hub.address, &manageAppOrderCall { operation }).await;
    }

    /// Gives an app to somebody else.
    pub(crate) async fn give_app(&self, app: Address, to: Address) {
        let token = U256::from_be_slice(app.as_slice());
        let call = transferFromCall { from: owner().address(), to, tokenId: token };
        self.send_as_owner(self.deployment.app_registry, &call).await;
    }

    /// Another hub on the same chain.
    pub(crate) async fn second_hub(&self) -> Address {
        let mut running = JoinSet::new();
        let sender = sender_of(&self.hub.client, test_key(8), &mut running).await;
        let options = deploy::Options::default();
        deploy::deploy(&self.hub.client, &sender, options, |_| ()).await.unwrap().hub
    }

    /// Asks the node for anything.
    pub(crate) async fn rpc(&self, method: &'static str, params: serde_json::Value) -> serde_json::Value {
        self.chain.rpc_client().request(method, params).await.unwrap()
    }
}

/// What a registry's receipt says was made.
fn created(receipt: &Receipt) -> Address {
    let log = receipt.logs.iter().find_map(|log| log.log_decode::<IRegistry::Transfer>().ok()).unwrap();
    Address::from_word(log.inner.tokenId.into())
}

async fn sender_of(client: &Client, key: PrivateKeySigner, running: &mut JoinSet<()>) -> Sender {
    let journal = Journal::in_memory(&[sender::SCHEMA]).unwrap();
    let (sender, lane) = Sender::open(client.clone(), key, journal, GasPolicy::default()).await.unwrap();
    running.spawn(lane.run(CancellationToken::new()));
    sender
}

async fn serve(service: &Service, running: &mut JoinSet<()>) -> String {
    let listener = bourse_service::http::bind("market", ([127, 0, 0, 1], 0).into()).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = service.router();
    running.spawn(async move {
        bourse_service::http::serve(listener, router, CancellationToken::new()).await.unwrap();
    });
    url
}
