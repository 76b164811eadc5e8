use super::*;
use crate::orders::{AppOrder, DatasetOrder, RequestOrder, WorkerpoolOrder};

const ALICE: Address = Address::repeat_byte(0xa);
const BOB: Address = Address::repeat_byte(0xb);
const APP: Address = Address::repeat_byte(1);

fn n(value: u64) -> U256 {
    U256::from(value)
}

fn entry(id: u8, published: u64, order: AnyOrder) -> Entry {
    let hash = OrderHash(B256::with_last_byte(id));
    Entry { hash, signer: ALICE, remaining: order.volume(), published, order }
}

fn app(price: u64) -> AppOrder {
    AppOrder { app: APP, appprice: n(price), volume: n(5), ..Default::default() }
}

fn request(price: u64) -> RequestOrder {
    RequestOrder { app: APP, workerpoolmaxprice: n(price), requester: BOB, volume: n(1), ..Default::default() }
}

fn ids(book: &Book, kind: Kind, filter: &Filter) -> Vec<u8> {
    book.matching(kind, filter).map(|e| e.hash.0[31]).collect()
}

/// Whether `filter` accepts an app order as changed.
fn accepts_app(filter: &Filter, change: impl FnOnce(&mut AppOrder)) -> bool {
    let mut order = app(1);
    change(&mut order);
    filter.accepts(&entry(1, 0, AnyOrder::App(order)))
}

#[test]
fn the_best_price_comes_first_then_the_oldest_then_the_hash() {
    let mut book = Book::default();
    for (id, published, price) in [(1, 9, 3), (2, 8, 3), (5, 7, 2), (4, 7, 2), (3, 1, 7)] {
        book.insert(entry(id, published, AnyOrder::App(app(price))));
        book.insert(entry(id + 10, published, AnyOrder::Request(request(price))));
    }
    assert_eq!(ids(&book, Kind::App, &Filter::default()), [4, 5, 2, 1, 3]);
    assert_eq!(ids(&book, Kind::Request, &Filter::default()), [13, 12, 11, 14, 15]);
    assert!(ids(&book, Kind::Workerpool, &Filter::default()).is_empty());
}

#[test]
fn restricted_orders_are_shown_to_those_they_admit() {
    let restricted = |order: &mut AppOrder| order.requesterrestrict = ALICE;
    let open = |_: &mut AppOrder| ();
    let asking = |wanted| Filter { admits: BTreeMap::from([(Kind::Request, wanted)]), ..Default::default() };
    for (filter, sees_restricted, sees_open) in [
        (Filter::default(), false, true),
        (asking(Admission::Party(ALICE)), true, true),
        (asking(Admission::Party(BOB)), false, true),
        (asking(Admission::Only(ALICE)), true, false),
        (asking(Admission::Only(BOB)), false, false),
        (asking(Admission::Any), true, true),
    ] {
        assert_eq!(accepts_app(&filter, restricted), sees_restricted, "{filter:?}");
        assert_eq!(accepts_app(&filter, open), sees_open, "{filter:?}");
    }
}

#[test]
fn tags_are_bounded_from_both_sides() {
    let bits = B256::with_last_byte;
    let at_least = |min| Filter { min_tag: bits(min), ..Default::default() };
    let at_most = |max| Filter { max_tag: Some(bits(max)), ..Default::default() };
    for (filter, tag, seen) in [
        (at_least(0), 9, true),
        (at_least(1), 9, true),
        (at_least(9), 1, false),
        (at_most(0), 0, true),
        (at_most(0), 9, false),
        (at_most(9), 1, true),
        (at_most(1), 9, false),
    ] {
        assert_eq!(accepts_app(&filter, |o| o.tag = bits(tag)), seen, "{filter:?} {tag}");
    }
}

#[test]
fn trust_category_volume_and_owner_select() {
    let pool = |trust| WorkerpoolOrder { trust: n(trust), category: n(2), volume: n(3), ..Default::default() };
    let accepts = |filter: Filter, trust| filter.accepts(&entry(1, 0, AnyOrder::Workerpool(pool(trust))));
    assert!(accepts(Filter { min_trust: Some(n(5)), ..Default::default() }, 5));
    assert!(!accepts(Filter { min_trust: Some(n(5)), ..Default::default() }, 4));
    assert!(accepts(Filter { category: Some(n(2)), ..Default::default() }, 1));
    assert!(!accepts(Filter { category: Some(n(3)), ..Default::default() }, 1));
    assert!(accepts(Filter { min_volume: n(3), signer: Some(ALICE), ..Default::default() }, 1));
    assert!(!accepts(Filter { min_volume: n(4), ..Default::default() }, 1));
    assert!(!accepts(Filter { signer: Some(BOB), ..Default::default() }, 1));
    assert!(!accepts(Filter::about(APP), 1));
}

#[test]
fn requests_are_found_by_what_they_ask_for() {
    let sees = |filter: Filter| filter.accepts(&entry(1, 0, AnyOrder::Request(request(1))));
    assert!(sees(Filter { app: Some(APP), max_trust: Some(n(0)), ..Filter::about(BOB) }));
    assert!(!sees(Filter { app: Some(BOB), ..Default::default() }));
    assert!(!sees(Filter { beneficiary: Some(BOB), ..Default::default() }));
    assert!(!sees(Filter { dataset: Some(BOB), ..Default::default() }));
}

#[test]
fn only_free_and_practically_endless_dataset_orders_are_bulk() {
    let bulk = |price, volume| {
        let order = DatasetOrder { datasetprice: n(price), volume: n(volume), ..Default::default() };
        Filter { bulk_only: true, ..Default::default() }.accepts(&entry(1, 0, AnyOrder::Dataset(order)))
    };
    assert!(bulk(0, (1 << 53) - 1) && bulk(0, (1 << 53) - 2));
    assert!(!bulk(1, (1 << 53) - 1) && !bulk(0, (1 << 53) - 3));
}

#[test]
fn pages_cover_the_list_without_gap_or_overlap() {
    let mut book = Book::default();
    (0..25).for_each(|id| book.insert(entry(id, 0, AnyOrder::App(app(1)))));
    let page = |index| book.page(Kind::App, &Filter::default(), Window { index, size: 10 });
    let seen: Vec<u8> = (0..3).flat_map(|i| page(i).0).map(|e| e.hash.0[31]).collect();
    assert_eq!(seen, (0..25).collect::<Vec<_>>());
    assert_eq!(page(0).1, 25);
    assert!(page(u64::MAX).0.is_empty());
    let next = |index, size, count| Window { index, size }.next(count);
    assert_eq!([next(0, 10, 25), next(1, 10, 25), next(2, 10, 25), next(1, 10, 20)], [Some(1), Some(2), None, None]);
    assert_eq!(next(u64::MAX, 1000, u64::MAX), None);
}

#[test]
fn open_orders_are_counted_per_kind_and_wallet() {
    let mut book = Book::default();
    book.insert(entry(1, 0, AnyOrder::App(app(1))));
    book.insert(entry(1, 0, AnyOrder::App(app(2))));
    book.insert(entry(2, 0, AnyOrder::App(app(2))));
    assert_eq!((book.count_open(Kind::App, ALICE), book.count_open(Kind::Dataset, ALICE)), (2, 0));
    assert!(book.remove(OrderHash(B256::with_last_byte(1))).is_some());
    assert!(book.remove(OrderHash(B256::with_last_byte(1))).is_none());
    assert_eq!((book.count_open(Kind::App, ALICE), book.len()), (1, 1));
    assert!(book.get(OrderHash(B256::with_last_byte(2))).is_some());
}
