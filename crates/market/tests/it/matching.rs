//! The rules of a match and the hub give the same answer to the same orders.

use crate::support::{CLOSE, World, n, owner, requester, stranger};
use bourse_chain::Error;
use bourse_protocol::{
    Address, B256, U256,
    abi::{IHub, IRegistry},
    api::Match,
    book::{Facts, Mismatch, Standing, check_match, memberships},
    orders::{DatasetOrder, Order, TAG_TEE},
};

/// What the chain says of a match.
async fn facts(world: &World, orders: &Match) -> Facts {
    let Match { app, dataset, workerpool, request } = orders;
    let d = &world.deployment;
    let app_owner = owner_of(world, d.app_registry, app.app).await;
    let dataset_owner = owner_of(world, d.dataset_registry, dataset.dataset).await;
    let pool_owner = owner_of(world, d.workerpool_registry, workerpool.workerpool).await;
    let stake = async |account| world.hub.account(account).await.unwrap().stake;
    assert!(memberships(orders).iter().all(|(group, _)| *group == stranger().address()), "no groups in this test");
    Facts {
        categories: world.hub.view(&IHub::countCategoryCall {}).await.unwrap(),
        app: standing(world, app, app_owner).await,
        dataset: standing(world, dataset, dataset_owner).await,
        workerpool: standing(world, workerpool, pool_owner).await,
        request: standing(world, request, Some(request.requester)).await,
        requester_stake: stake(request.requester).await,
        pool_owner_stake: stake(pool_owner.unwrap_or_default()).await,
        memberships: Default::default(),
    }
}

async fn owner_of(world: &World, registry: Address, asset: Address) -> Option<Address> {
    let token = U256::from_be_slice(asset.as_slice());
    world.hub.client.call(registry, &IRegistry::ownerOfCall { tokenId: token }).await.ok()
}

async fn standing(world: &World, order: &impl Order, owner: Option<Address>) -> Standing {
    let hash = world.hash(order);
    let signed = match owner {
        Some(owner) => world.hub.signature_valid(owner, hash.0, order.sign()).await.unwrap(),
        None => false,
    };
    Standing { owner, signed, consumed: world.hub.consumed(hash).await.unwrap() }
}

/// What the hub says to the match: nothing, or its reason.
async fn verdict(world: &World, orders: &Match) -> Result<(), String> {
    let call = IHub::matchOrdersCall::from(orders);
    match world.hub.client.call(world.hub.address, &call).await {
        Ok(_) => Ok(()),
        Err(Error::Reverted(revert)) => Err(revert.reason().unwrap_or_default()),
        Err(other) => panic!("{other}"),
    }
}

/// The hub's words for a mismatch.
fn reason(mismatch: &Mismatch) -> String {
    match mismatch.revert_code() {
        Some(code) => format!("iExecV5-matchOrders-0x{code:02x}"),
        None => "IexecEscrow: Transfer amount exceeds balance".into(),
    }
}

/// Signs what `change` made of the orders, and asks both.
async fn both_say(world: &World, good: &Match, change: impl FnOnce(&mut Match)) -> Result<(), Mismatch> {
    let mut orders = good.clone();
    change(&mut orders);
    let none = orders.dataset.dataset.is_zero();
    orders = Match {
        app: world.signed(&owner(), orders.app),
        dataset: if none { orders.dataset } else { world.signed(&owner(), orders.dataset) },
        workerpool: world.signed(&owner(), orders.workerpool),
        request: world.signed(&requester(), orders.request),
    };
    agree(world, &orders).await
}

/// What the rules say; panics if the hub disagrees.
async fn agree(world: &World, orders: &Match) -> Result<(), Mismatch> {
    let said = check_match(orders, &facts(world, orders).await);
    let hub = verdict(world, orders).await;
    assert_eq!(said.as_ref().map(|_| ()).map_err(reason), hub, "{said:?}");
    said.map(|_| ())
}

#[tokio::test]
async fn rules_and_hub_agree_on_every_refusal() {
    let world = World::new().await;
    let good = world.offers().await;
    let nobody = stranger().address();
    type Change<'a> = Box<dyn Fn(&mut Match) + 'a>;
    let changes: Vec<(u8, Change<'_>)> = vec![
        (0x00, Box::new(|o| o.request.category = n(1))),
        (0x01, Box::new(|o| (o.request.category, o.workerpool.category) = (n(99), n(99)))),
        (0x02, Box::new(|o| o.request.trust = n(6))),
        (0x03, Box::new(|o| o.app.appprice += n(1))),
        (0x04, Box::new(|o| o.dataset.datasetprice += n(1))),
        (0x05, Box::new(|o| o.workerpool.workerpoolprice += n(1))),
        (0x06, Box::new(|o| o.request.tag = B256::with_last_byte(0x10))),
        (0x06, Box::new(|o| o.dataset.tag = B256::with_last_byte(0x10))),
        (0x07, Box::new(|o| (o.request.tag, o.workerpool.tag) = (TAG_TEE, TAG_TEE))),
        (0x10, Box::new(|o| o.request.app = nobody)),
        (0x11, Box::new(|o| o.request.dataset = nobody)),
        (0x12, Box::new(|o| o.request.workerpool = nobody)),
        (0x13, Box::new(|o| o.app.datasetrestrict = nobody)),
        (0x14, Box::new(|o| o.app.workerpoolrestrict = nobody)),
        (0x15, Box::new(|o| o.app.requesterrestrict = nobody)),
        (0x16, Box::new(|o| o.dataset.apprestrict = nobody)),
        (0x17, Box::new(|o| o.dataset.workerpoolrestrict = nobody)),
        (0x18, Box::new(|o| o.dataset.requesterrestrict = nobody)),
        (0x19, Box::new(|o| o.workerpool.apprestrict = nobody)),
        (0x1a, Box::new(|o| o.workerpool.datasetrestrict = nobody)),
        (0x1b, Box::new(|o| o.workerpool.requesterrestrict = nobody)),
        (0x60, Box::new(|o| o.workerpool.volume = n(0))),
    ];
    for (code, change) in changes {
        let mismatch = both_say(&world, &good, change).await.unwrap_err();
        assert_eq!(mismatch.revert_code(), Some(code), "{mismatch}");
    }
    both_say(&world, &good, |o| o.request.volume = n(77)).await.unwrap();
    let poor = both_say(&world, &good, |o| {
        (o.app.volume, o.dataset.volume, o.workerpool.volume, o.request.volume) = (n(100), n(100), n(100), n(77));
    });
    assert_eq!(poor.await.unwrap_err().code(), "stake_too_low");
}

#[tokio::test]
async fn rules_and_hub_agree_on_signatures() {
    let world = World::new().await;
    let good = world.offers().await;
    let forged = |change: fn(&World, &mut Match)| {
        let mut orders = good.clone();
        change(&world, &mut orders);
        orders
    };
    for (code, orders) in [
        (0x21, forged(|w, o| o.app = w.signed(&stranger(), o.app.clone()))),
        (0x31, forged(|w, o| o.dataset = w.signed(&stranger(), o.dataset.clone()))),
        (0x41, forged(|w, o| o.workerpool = w.signed(&stranger(), o.workerpool.clone()))),
        (0x50, forged(|w, o| o.request = w.signed(&stranger(), o.request.clone()))),
    ] {
        assert_eq!(agree(&world, &orders).await.unwrap_err().revert_code(), Some(code));
    }
}

#[tokio::test]
async fn rules_and_hub_agree_on_what_is_accepted_until_it_is_used_up() {
    let world = World::new().await;
    let good = world.offers().await;
    agree(&world, &good).await.unwrap();
    both_say(&world, &good, |o| o.dataset.tag = B256::with_last_byte(0b1110)).await.unwrap();
    both_say(&world, &good, |o| {
        o.dataset = DatasetOrder::default();
        o.request.dataset = Address::ZERO;
    })
    .await
    .unwrap();
    world.deal(&good).await;
    let used = agree(&world, &good).await.unwrap_err();
    assert!(matches!(used, Mismatch::Used { .. }), "{used}");
    world.manage(&good.app, CLOSE).await;
    let more = both_say(&world, &good, |o| o.request.salt = B256::repeat_byte(1)).await.unwrap_err();
    assert_eq!(more.to_string(), "the app order is used up or closed (10 of 10 tasks): choose or sign another order");
}
