//! The book follows the chain.

use crate::support::{CLOSE, World, n, owner, requester, stranger};
use bourse_protocol::{
    abi::IHub,
    api::{Match, OrderStatus},
    book::{Filter, Window},
    money::Nrlc,
    orders::{AppOrder, DatasetOrder, Order, RequestOrder, WorkerpoolOrder},
};
use serde_json::json;

async fn stands<O: Order>(world: &World, order: &O) -> (OrderStatus, u64) {
    let found = world.client.order::<O>(world.hash(order)).await.unwrap().unwrap();
    (found.status, found.remaining.to())
}

async fn all_stand(world: &World, orders: &Match) -> [(OrderStatus, u64); 4] {
    [
        stands(world, &orders.app).await,
        stands(world, &orders.dataset).await,
        stands(world, &orders.workerpool).await,
        stands(world, &orders.request).await,
    ]
}

const OPEN: OrderStatus = OrderStatus::Open;

#[tokio::test]
async fn a_deal_is_shown_and_uses_up_its_orders() {
    let world = World::new().await;
    let orders = world.offers().await;
    world.publish(&orders).await;
    let id = world.deal(&orders).await;
    assert_eq!(world.client.deal(id).await.unwrap(), None);
    world.service.sync().await.unwrap();
    let deal = world.client.deal(id).await.unwrap().unwrap();
    assert_eq!((deal.bot_size, deal.trust, deal.origin.volume), (n(4), n(5), n(4)));
    assert_eq!((deal.requester, deal.workerpool.owner), (requester().address(), owner().address()));
    assert_eq!(deal.worker_stake, Nrlc::rlc(3).0);
    assert_eq!(deal.params, orders.request.params);
    assert_eq!(deal.origin.request_hash, world.hash(&orders.request));
    assert_eq!(all_stand(&world, &orders).await, [(OPEN, 6), (OPEN, 6), (OPEN, 6), (OrderStatus::Filled, 0)]);
    let open = world.client.orders::<RequestOrder>(&Filter::default(), Window::default()).await.unwrap();
    assert_eq!(open.count, 0);
    for (term, value, count) in [
        ("requester", requester().address().to_string(), 1),
        ("workerpool", orders.workerpool.workerpool.to_string(), 1),
        ("apporderHash", world.hash(&orders.app).to_string(), 1),
        ("category", "0".into(), 1),
        ("requester", stranger().address().to_string(), 0),
        ("category", "1".into(), 0),
    ] {
        let page = world.client.deals(&[(term, value)], Window::default()).await.unwrap();
        assert_eq!((page.count, page.deals.len() as u64), (count, count), "{term}");
    }
}

#[tokio::test]
async fn following_again_changes_nothing() {
    let mut world = World::new().await;
    let orders = world.offers().await;
    world.publish(&orders).await;
    let id = world.deal(&orders).await;
    world.service.sync().await.unwrap();
    let (deal, before) = (world.client.deal(id).await.unwrap(), all_stand(&world, &orders).await);
    world.service.sync().await.unwrap();
    world.restart().await;
    world.service.sync().await.unwrap();
    assert_eq!((world.client.deal(id).await.unwrap(), all_stand(&world, &orders).await), (deal, before));
}

#[tokio::test]
async fn a_reorg_takes_back_the_deal_and_opens_its_orders_again() {
    let world = World::new().await;
    let orders = world.offers().await;
    world.publish(&orders).await;
    world.service.sync().await.unwrap();
    let id = world.deal(&orders).await;
    world.service.sync().await.unwrap();
    assert!(world.client.deal(id).await.unwrap().is_some());
    // The sender hands its transaction in again as soon as it looks: it shall wait in the node for now.
    world.rpc("evm_setAutomine", json!([false])).await;
    world.rpc("anvil_reorg", json!([1, []])).await;
    world.service.sync().await.unwrap();
    assert_eq!(world.client.deal(id).await.unwrap(), None);
    assert_eq!(all_stand(&world, &orders).await, [(OPEN, 10), (OPEN, 10), (OPEN, 10), (OPEN, 4)]);
    let open = world.client.orders::<RequestOrder>(&Filter::default(), Window::default()).await.unwrap();
    assert_eq!(open.count, 1);
    // Whoever sent the purchase sends it again as soon as it looks at the chain.
    world.rpc("evm_setAutomine", json!([true])).await;
    world.fund(requester().address(), 1).await;
    world.service.sync().await.unwrap();
    assert!(world.client.deal(id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_closed_order_is_canceled_until_a_reorg_takes_that_back() {
    let world = World::new().await;
    let orders = world.offers().await;
    world.publish(&orders).await;
    world.service.sync().await.unwrap();
    world.manage(&orders.app, CLOSE).await;
    world.service.sync().await.unwrap();
    assert_eq!(stands(&world, &orders.app).await, (OrderStatus::Canceled, 0));
    assert_eq!(stands(&world, &orders.request).await, (OrderStatus::Dead, 4), "nothing serves it any more");
    // The sender hands its transaction in again as soon as it looks: it shall wait in the node for now.
    world.rpc("evm_setAutomine", json!([false])).await;
    world.rpc("anvil_reorg", json!([1, []])).await;
    world.service.sync().await.unwrap();
    assert_eq!(stands(&world, &orders.app).await, (OPEN, 10));
    assert_eq!(stands(&world, &orders.request).await, (OPEN, 4));
}

#[tokio::test]
async fn what_its_signer_cannot_cover_any_more_leaves_the_book_and_may_come_back() {
    let world = World::new().await;
    let orders = world.offers().await;
    world.publish(&orders).await;
    world.send_as_owner(world.hub.address, &IHub::withdrawCall { amount: Nrlc::rlc(971).0 }).await;
    world.service.sync().await.unwrap();
    assert_eq!(stands(&world, &orders.workerpool).await, (OrderStatus::Dead, 10));
    assert_eq!(stands(&world, &orders.app).await, (OPEN, 10));
    let open = world.client.orders::<WorkerpoolOrder>(&Filter::default(), Window::default()).await.unwrap();
    assert_eq!(open.count, 0);
    world.fund(owner().address(), 1).await;
    world.client.publish(&owner(), &orders.workerpool).await.unwrap();
    world.service.sync().await.unwrap();
    assert_eq!(stands(&world, &orders.workerpool).await, (OPEN, 10));
}

#[tokio::test]
async fn orders_of_a_former_owner_are_dead_and_with_them_requests_that_relied_on_them() {
    let world = World::new().await;
    let orders = world.offers().await;
    world.publish(&orders).await;
    world.give_app(orders.app.app, stranger().address()).await;
    world.service.sync().await.unwrap();
    assert_eq!(stands(&world, &orders.app).await, (OrderStatus::Dead, 10));
    assert_eq!(stands(&world, &orders.request).await, (OrderStatus::Dead, 4));
    let anew = world.signed(&stranger(), AppOrder { ..orders.app.clone() });
    world.client.publish(&stranger(), &anew).await.unwrap();
    world.client.publish(&requester(), &orders.request).await.unwrap();
}

#[tokio::test]
async fn a_request_leaves_with_the_last_dataset_order_it_could_use() {
    let world = World::new().await;
    let orders = world.offers().await;
    world.publish(&orders).await;
    let gone =
        bourse_protocol::api::market::Unpublish { order_hash: Some(world.hash(&orders.dataset)), ..Default::default() };
    world.client.unpublish::<DatasetOrder>(&owner(), &gone).await.unwrap();
    world.service.sync().await.unwrap();
    assert_eq!(stands(&world, &orders.request).await, (OrderStatus::Dead, 4));
}

#[tokio::test]
async fn categories_are_listed_by_their_period() {
    let world = World::new().await;
    world.service.sync().await.unwrap();
    let categories = world.client.categories().await.unwrap();
    let listed: Vec<_> = categories.iter().map(|c| (c.catid, c.name.as_str(), c.work_clock_time_ref.to())).collect();
    assert_eq!(listed, [(0, "XS", 300u64), (1, "S", 1_200), (2, "M", 3_600), (3, "L", 10_800), (4, "XL", 36_000)]);
    let metrics = world.client.metrics().await.unwrap();
    assert_eq!(metrics.last_block, metrics.checkpoint_block);
}

#[tokio::test]
async fn the_running_service_follows_by_itself_and_stops_when_told() {
    let world = World::with(|config| config.poll = std::time::Duration::from_millis(5)).await;
    let orders = world.offers().await;
    world.publish(&orders).await;
    let listener = bourse_service::http::bind("market", ([127, 0, 0, 1], 0).into()).await.unwrap();
    let client = bourse_market::client::Client::new(
        &format!("http://{}", listener.local_addr().unwrap()),
        world.deployment.chain_id,
    );
    let shutdown = bourse_service::CancellationToken::new();
    let mut running = tokio::task::JoinSet::new();
    running.spawn(world.service.clone().run(listener, shutdown.clone()));
    let id = world.deal(&orders).await;
    let seen = async {
        while client.deal(id).await.unwrap().is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), seen).await.unwrap();
    shutdown.cancel();
    running.join_next().await.unwrap().unwrap().unwrap();
}
