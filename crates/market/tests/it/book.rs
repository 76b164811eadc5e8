//! What stands in the book, and who sees it.

use crate::support::{SIGN, World, n, owner, requester, stranger};
use bourse_chain::Hub;
use bourse_market::{Config, Service, client::Error};
use bourse_protocol::{
    Address, B256,
    api::{
        OrderStatus,
        market::{Target, Unpublish},
    },
    book::{Filter, Kind, Window},
    ids::OrderHash,
    money::Nrlc,
    orders::{AppOrder, DatasetOrder, Order, RequestOrder, WorkerpoolOrder},
};

/// The code of a refused publication.
async fn refusal<O: Order>(world: &World, key: &bourse_chain::PrivateKeySigner, order: &O) -> String {
    match world.client.publish(key, order).await {
        Err(Error::Refused(failure)) => failure.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn published_orders_are_found_best_first_and_survive_a_crash() {
    let mut world = World::new().await;
    let orders = world.offers().await;
    world.publish(&orders).await;
    let cheap = world.signed(&owner(), AppOrder { appprice: n(1), ..orders.app.clone() });
    let hash = world.client.publish(&owner(), &cheap).await.unwrap();
    assert_eq!(hash, world.hash(&cheap));
    world.restart().await;
    let page = world.client.orders::<AppOrder>(&Filter::about(cheap.app), Window::default()).await.unwrap();
    assert_eq!((page.count, page.next_page), (2, None));
    let found: Vec<_> = page.orders.iter().map(|o| (o.order.clone(), o.remaining, o.status)).collect();
    assert_eq!(found, [(cheap, n(10), OrderStatus::Open), (orders.app.clone(), n(10), OrderStatus::Open)]);
    let request = world.client.order::<RequestOrder>(world.hash(&orders.request)).await.unwrap().unwrap();
    assert_eq!((request.order, request.signer, request.bulk), (orders.request, requester().address(), None));
    assert_eq!(request.publication_timestamp, "2026-11-20T09:57:30.000Z");
    let dataset = world.client.order::<DatasetOrder>(world.hash(&orders.dataset)).await.unwrap().unwrap();
    assert_eq!(dataset.bulk, Some(false));
}

#[tokio::test]
async fn each_rule_of_publication_has_its_refusal() {
    let world = World::with(|config| config.max_open_orders = 1).await;
    let orders = world.offers().await;
    let unregistered = world.signed(&owner(), AppOrder { app: Address::repeat_byte(7), ..orders.app.clone() });
    assert_eq!(refusal(&world, &owner(), &unregistered).await, "not_registered");
    assert_eq!(refusal(&world, &stranger(), &orders.app).await, "not_order_signer");
    let forged = world.signed(&stranger(), orders.app.clone());
    assert_eq!(refusal(&world, &owner(), &forged).await, "order_not_signed");
    let unsigned = AppOrder { sign: Default::default(), ..orders.app.clone() };
    assert_eq!(refusal(&world, &owner(), &unsigned).await, "order_not_signed");
    let nothing = world.signed(&owner(), AppOrder { volume: n(0), ..orders.app.clone() });
    assert_eq!(refusal(&world, &owner(), &nothing).await, "bad_order");
    let huge = world.signed(&owner(), AppOrder { appprice: n(1 << 53), ..orders.app.clone() });
    assert_eq!(refusal(&world, &owner(), &huge).await, "bad_order");
    let dear = WorkerpoolOrder { workerpoolprice: Nrlc::rlc(1_000).0, ..orders.workerpool.clone() };
    assert_eq!(refusal(&world, &owner(), &world.signed(&owner(), dear)).await, "stake_too_low");
    assert_eq!(refusal(&world, &requester(), &orders.request).await, "nothing_to_match");
    world.client.publish(&owner(), &orders.app).await.unwrap();
    assert_eq!(refusal(&world, &owner(), &orders.app).await, "order_already_published");
    let second = world.signed(&owner(), AppOrder { salt: B256::repeat_byte(1), ..orders.app.clone() });
    assert_eq!(refusal(&world, &owner(), &second).await, "too_many_orders");
    world.client.publish(&owner(), &orders.dataset).await.unwrap();
    let stingy = RequestOrder { datasetmaxprice: n(1), ..orders.request.clone() };
    assert_eq!(refusal(&world, &requester(), &world.signed(&requester(), stingy)).await, "price_too_low");
    let poor = RequestOrder { volume: n(1_000), ..orders.request.clone() };
    assert_eq!(refusal(&world, &requester(), &world.signed(&requester(), poor)).await, "stake_too_low");
    world.client.publish(&requester(), &orders.request).await.unwrap();
    world.deal(&orders).await;
    world.client.unpublish::<RequestOrder>(&requester(), &one(world.hash(&orders.request))).await.unwrap();
    assert_eq!(refusal(&world, &requester(), &orders.request).await, "order_used");
}

#[tokio::test]
async fn an_order_approved_on_chain_needs_no_signature() {
    let world = World::new().await;
    let approved = AppOrder { sign: Default::default(), ..world.offers().await.app };
    world.manage(&approved, SIGN).await;
    world.client.publish(&owner(), &approved).await.unwrap();
}

fn one(hash: OrderHash) -> Unpublish {
    Unpublish { order_hash: Some(hash), ..Default::default() }
}

#[tokio::test]
async fn only_the_signer_takes_orders_out_one_by_one_the_last_or_all() {
    let world = World::new().await;
    let app = world.offers().await.app;
    let mut hashes = Vec::new();
    for salt in 0..4 {
        let order = world.signed(&owner(), AppOrder { salt: B256::with_last_byte(salt), ..app.clone() });
        hashes.push(world.client.publish(&owner(), &order).await.unwrap());
        world.clock.advance(std::time::Duration::from_secs(1));
    }
    let refused = world.client.unpublish::<AppOrder>(&stranger(), &one(hashes[0])).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(f) if f.code == "nothing_to_unpublish"));
    assert_eq!(world.client.unpublish::<AppOrder>(&owner(), &one(hashes[0])).await.unwrap(), [hashes[0]]);
    assert_eq!(world.client.order::<AppOrder>(hashes[0]).await.unwrap(), None);
    let of = |target| Unpublish { target, app: Some(app.app), ..Default::default() };
    assert_eq!(world.client.unpublish::<AppOrder>(&owner(), &of(Target::Last)).await.unwrap(), [hashes[3]]);
    assert_eq!(world.client.unpublish::<AppOrder>(&owner(), &of(Target::All)).await.unwrap(), hashes[1..3]);
    let refused = world.client.unpublish::<AppOrder>(&owner(), &of(Target::All)).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(f) if f.code == "nothing_to_unpublish"));
    assert_eq!(world.client.metrics().await.unwrap().apporders, 0);
}

#[tokio::test]
async fn a_restricted_order_is_shown_only_to_whom_it_admits() {
    let world = World::new().await;
    let app = world.offers().await.app;
    let private = AppOrder { requesterrestrict: requester().address(), ..app };
    world.client.publish(&owner(), &world.signed(&owner(), private.clone())).await.unwrap();
    let count = async |filter: Filter| world.client.orders::<AppOrder>(&filter, Window::default()).await.unwrap().count;
    let about = || Filter::about(private.app);
    assert_eq!(count(about()).await, 0);
    assert_eq!(count(about().usable_by(Kind::Request, stranger().address())).await, 0);
    assert_eq!(count(about().usable_by(Kind::Request, requester().address())).await, 1);
}

#[tokio::test]
async fn a_folder_of_another_hub_is_refused() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let open = async |hub| Service::open(Config::new(folder.path()), Hub::new(world.hub.client.clone(), hub)).await;
    drop(open(world.hub.address).await.unwrap());
    let refused = open(world.second_hub().await).await.err().unwrap();
    let text = refused.to_string();
    assert!(text.contains("belongs to chain 31337 with first block"), "{text}");
    assert!(text.contains(&format!("hub {}, not to", world.hub.address)), "{text}");
}
