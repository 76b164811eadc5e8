use super::*;
use crate::{
    book::Entry,
    ids::OrderHash,
    orders::{AppOrder, DatasetOrder, WorkerpoolOrder},
};
use alloy_primitives::B256;

const OWNER: Address = Address::repeat_byte(0xa);
const REQUESTER: Address = Address::repeat_byte(0xb);
const APP: Address = Address::repeat_byte(1);
const DATASET: Address = Address::repeat_byte(2);
const POOL: Address = Address::repeat_byte(3);

fn n(value: u64) -> U256 {
    U256::from(value)
}

fn backing(owner: Address) -> Backing {
    Backing { owner: Some(owner), signed: true, consumed: n(0), stake: Nrlc(n(1000)) }
}

fn app() -> AppOrder {
    AppOrder { app: APP, appprice: n(3), volume: n(5), ..Default::default() }
}

fn request() -> RequestOrder {
    RequestOrder { app: APP, appmaxprice: n(3), requester: REQUESTER, volume: n(2), ..Default::default() }
}

fn book(orders: impl IntoIterator<Item = AnyOrder>) -> Book {
    let mut book = Book::default();
    for (id, order) in orders.into_iter().enumerate() {
        let hash = OrderHash(B256::with_last_byte(id as u8));
        book.insert(Entry { hash, signer: OWNER, remaining: order.volume(), published: 0, order });
    }
    book
}

fn publication(order: &AnyOrder, wallet: Address, backing: Backing) -> Result<U256, Refusal> {
    check_publication(&Book::default(), Limits { per_wallet: 1, in_all: 1 }, order, wallet, &backing)
}

/// What a book with one app order, changed, says to the request, changed.
fn against(change_app: impl FnOnce(&mut AppOrder), change: impl FnOnce(&mut RequestOrder)) -> Result<(), &'static str> {
    let (mut app, mut request) = (app(), request());
    change_app(&mut app);
    change(&mut request);
    check_counterparts(&book([AnyOrder::App(app)]), &AnyOrder::Request(request)).map_err(|r| r.code())
}

#[test]
fn numbers_that_javascript_would_round_are_refused() {
    let order = |change: fn(&mut AppOrder)| {
        let mut order = app();
        change(&mut order);
        check_shape(&AnyOrder::App(order))
    };
    assert_eq!(order(|_| ()), Ok(()));
    assert_eq!(order(|o| o.volume = n(MAX_EXACT)), Ok(()));
    assert_eq!(order(|o| o.volume = n(0)), Err(Refusal::NoVolume));
    let refused = order(|o| o.appprice = n(MAX_EXACT) + n(1)).unwrap_err();
    assert_eq!(refused.to_string(), "appprice is 9007199254740992: numbers go up to 9007199254740991");
}

#[test]
fn only_the_present_owner_publishes_and_the_first_reason_is_named() {
    let order = AnyOrder::App(app());
    let check = |wallet, backing| publication(&order, wallet, backing).map_err(|r| r.code());
    assert_eq!(check(OWNER, backing(OWNER)), Ok(n(5)));
    assert_eq!(check(OWNER, Backing { consumed: n(4), ..backing(OWNER) }), Ok(n(1)));
    let none = Backing { owner: None, signed: false, consumed: n(9), stake: Nrlc::ZERO };
    assert_eq!(check(OWNER, none), Err("not_registered"));
    assert_eq!(check(REQUESTER, Backing { owner: Some(OWNER), ..none }), Err("not_order_signer"));
    assert_eq!(check(OWNER, Backing { owner: Some(OWNER), ..none }), Err("order_not_signed"));
    assert_eq!(check(OWNER, Backing { owner: Some(OWNER), signed: true, ..none }), Err("order_used"));
}

#[test]
fn the_stake_must_cover_all_that_is_left() {
    let pool = AnyOrder::Workerpool(WorkerpoolOrder { workerpoolprice: n(101), volume: n(10), ..Default::default() });
    let with = |order: &AnyOrder, stake| {
        check_left(order, &Backing { stake: Nrlc(n(stake)), ..backing(OWNER) }).map_err(|r| r.code())
    };
    assert_eq!((with(&pool, 300), with(&pool, 299)), (Ok(n(10)), Err("stake_too_low")));
    let order = RequestOrder { datasetmaxprice: n(4), workerpoolmaxprice: n(5), ..request() };
    let request = AnyOrder::Request(order.clone());
    assert_eq!((with(&request, 24), with(&request, 23)), (Ok(n(2)), Err("stake_too_low")));
    let huge = AnyOrder::Request(RequestOrder { workerpoolmaxprice: U256::MAX, ..order });
    assert_eq!(with(&huge, u64::MAX), Err("stake_too_low"));
}

#[test]
fn a_request_needs_an_app_order_that_it_can_use() {
    let same = |_: &mut AppOrder| ();
    assert_eq!(against(same, |_| ()), Ok(()));
    assert_eq!(against(same, |r| r.app = POOL), Err("nothing_to_match"));
    assert_eq!(against(same, |r| r.appmaxprice = n(2)), Err("price_too_low"));
    assert_eq!(against(same, |r| r.tag = TAG_TEE), Err("nothing_to_match"));
    assert_eq!(against(|a| a.tag = TAG_TEE, |r| r.tag = TAG_TEE), Ok(()));
    assert_eq!(against(|a| a.requesterrestrict = OWNER, |_| ()), Err("nothing_to_match"));
    assert_eq!(against(|a| a.requesterrestrict = REQUESTER, |_| ()), Ok(()));
    assert_eq!(against(|a| a.datasetrestrict = DATASET, |_| ()), Err("nothing_to_match"));
    assert_eq!(against(|a| a.workerpoolrestrict = POOL, |_| ()), Ok(()));
    assert_eq!(against(|a| a.workerpoolrestrict = POOL, |r| r.workerpool = POOL), Ok(()));
    assert_eq!(against(|a| a.workerpoolrestrict = POOL, |r| r.workerpool = OWNER), Err("nothing_to_match"));
}

#[test]
fn a_request_with_a_dataset_needs_a_dataset_order_too() {
    let order = AnyOrder::Request(RequestOrder { dataset: DATASET, ..request() });
    let dataset = DatasetOrder { dataset: DATASET, datasetprice: n(1), volume: n(1), ..Default::default() };
    let check = |orders: Vec<AnyOrder>| check_counterparts(&book(orders), &order).map_err(|r| r.code());
    assert_eq!(check(vec![AnyOrder::App(app())]), Err("nothing_to_match"));
    assert_eq!(check(vec![AnyOrder::App(app()), AnyOrder::Dataset(dataset.clone())]), Err("price_too_low"));
    let free = DatasetOrder { datasetprice: n(0), ..dataset };
    assert_eq!(check(vec![AnyOrder::App(app()), AnyOrder::Dataset(free)]), Ok(()));
}

#[test]
fn a_request_that_nothing_serves_is_not_published() {
    let alone = publication(&AnyOrder::Request(request()), REQUESTER, backing(REQUESTER)).unwrap_err();
    assert_eq!(
        alone.to_string(),
        format!("No apporder published for app {APP} that this request can use: have one published first")
    );
}

#[test]
fn room_is_limited_per_wallet_and_in_all() {
    let book = book([AnyOrder::App(app())]);
    let check = |signer, per_wallet, in_all| check_room(&book, Limits { per_wallet, in_all }, Kind::App, signer);
    assert_eq!(check(OWNER, 2, 9), Ok(()));
    assert!(matches!(check(OWNER, 1, 9), Err(Refusal::TooMany { limit: 1, .. })));
    assert_eq!(check(REQUESTER, 1, 1), Err(Refusal::Full));
}

#[test]
fn a_review_follows_the_chain() {
    let order = AnyOrder::App(app());
    let of = |closed, backing| review(&Book::default(), &order, OWNER, closed, &backing);
    assert_eq!(of(false, backing(OWNER)), (OrderStatus::Open, n(5)));
    assert_eq!(of(false, Backing { consumed: n(5), ..backing(OWNER) }), (OrderStatus::Filled, n(0)));
    assert_eq!(of(true, Backing { consumed: n(5), ..backing(OWNER) }), (OrderStatus::Canceled, n(0)));
    assert_eq!(of(false, backing(REQUESTER)), (OrderStatus::Dead, n(5)));
    assert_eq!(of(false, Backing { signed: false, ..backing(OWNER) }), (OrderStatus::Dead, n(5)));
    let alone = review(&Book::default(), &AnyOrder::Request(request()), REQUESTER, false, &backing(REQUESTER));
    assert_eq!(alone.0, OrderStatus::Dead);
}
