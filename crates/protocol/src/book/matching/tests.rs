use super::*;
use crate::orders::{AppOrder, DatasetOrder, RequestOrder, WorkerpoolOrder};

const APP: Address = Address::repeat_byte(1);
const DATASET: Address = Address::repeat_byte(2);
const POOL: Address = Address::repeat_byte(3);
const REQUESTER: Address = Address::repeat_byte(4);
const APP_OWNER: Address = Address::repeat_byte(5);
const POOL_OWNER: Address = Address::repeat_byte(6);
const STRANGER: Address = Address::repeat_byte(9);

fn n(value: u64) -> U256 {
    U256::from(value)
}

fn orders() -> Match {
    let rlc = |whole| Nrlc::rlc(whole).0;
    Match {
        app: AppOrder { app: APP, appprice: rlc(1), volume: n(100), ..Default::default() },
        dataset: DatasetOrder { dataset: DATASET, datasetprice: rlc(2), volume: n(7), ..Default::default() },
        workerpool: WorkerpoolOrder {
            workerpool: POOL,
            workerpoolprice: rlc(10),
            volume: n(50),
            trust: n(5),
            ..Default::default()
        },
        request: RequestOrder {
            app: APP,
            appmaxprice: rlc(1),
            dataset: DATASET,
            datasetmaxprice: rlc(2),
            workerpoolmaxprice: rlc(10),
            requester: REQUESTER,
            volume: n(3),
            trust: n(5),
            ..Default::default()
        },
    }
}

fn facts() -> Facts {
    let standing = |owner| Standing { owner: Some(owner), signed: true, consumed: U256::ZERO };
    Facts {
        categories: n(5),
        app: standing(APP_OWNER),
        dataset: standing(APP_OWNER),
        workerpool: standing(POOL_OWNER),
        request: standing(REQUESTER),
        requester_stake: Nrlc::rlc(39),
        pool_owner_stake: Nrlc::rlc(9),
        memberships: BTreeSet::new(),
    }
}

/// The refusal after `change`, with its code on chain.
fn refusal(change: impl FnOnce(&mut Match, &mut Facts)) -> (Option<u8>, Mismatch) {
    let (mut orders, mut facts) = (orders(), facts());
    change(&mut orders, &mut facts);
    let mismatch = check_match(&orders, &facts).unwrap_err();
    (mismatch.revert_code(), mismatch)
}

#[test]
fn the_least_remaining_volume_is_dealt() {
    assert_eq!(check_match(&orders(), &facts()), Ok(n(3)));
    let mut used = facts();
    used.dataset.consumed = n(5);
    assert_eq!(check_match(&orders(), &used), Ok(n(2)));
}

#[test]
fn every_check_of_the_hub_has_its_code() {
    type Change = fn(&mut Match, &mut Facts);
    let changes: [(u8, Change); 27] = [
        (0x00, |o, _| o.request.category = n(1)),
        (0x01, |_, f| f.categories = n(0)),
        (0x02, |o, _| o.request.trust = n(6)),
        (0x03, |o, _| o.app.appprice += n(1)),
        (0x04, |o, _| o.dataset.datasetprice += n(1)),
        (0x05, |o, _| o.request.workerpoolmaxprice -= n(1)),
        (0x06, |o, _| o.request.tag = B256::with_last_byte(8)),
        (0x07, |o, _| {
            o.request.tag = TAG_TEE;
            o.workerpool.tag = TAG_TEE;
        }),
        (0x10, |o, _| o.app.app = STRANGER),
        (0x11, |o, _| o.request.dataset = Address::ZERO),
        (0x12, |o, _| o.request.workerpool = STRANGER),
        (0x13, |o, _| o.app.datasetrestrict = STRANGER),
        (0x14, |o, _| o.app.workerpoolrestrict = STRANGER),
        (0x15, |o, _| o.app.requesterrestrict = STRANGER),
        (0x16, |o, _| o.dataset.apprestrict = STRANGER),
        (0x17, |o, _| o.dataset.workerpoolrestrict = STRANGER),
        (0x18, |o, _| o.dataset.requesterrestrict = STRANGER),
        (0x19, |o, _| o.workerpool.apprestrict = STRANGER),
        (0x1a, |o, _| o.workerpool.datasetrestrict = STRANGER),
        (0x1b, |o, _| o.workerpool.requesterrestrict = STRANGER),
        (0x20, |_, f| f.app.owner = None),
        (0x21, |_, f| f.app.signed = false),
        (0x30, |_, f| f.dataset.owner = None),
        (0x31, |_, f| f.dataset.signed = false),
        (0x40, |_, f| f.workerpool.owner = None),
        (0x41, |_, f| f.workerpool.signed = false),
        (0x50, |_, f| f.request.signed = false),
    ];
    for (code, change) in changes {
        assert_eq!(refusal(change).0, Some(code));
    }
    for consume in [|f: &mut Facts| f.app.consumed = n(100), |f: &mut Facts| f.request.consumed = n(4)] {
        assert_eq!(refusal(|_, f| consume(f)).0, Some(0x60));
    }
}

#[test]
fn the_first_failing_check_is_named() {
    let all = refusal(|o, f| {
        o.request.category = n(1);
        o.request.trust = n(6);
        f.request.signed = false;
    });
    assert_eq!(all.0, Some(0x00));
}

#[test]
fn a_match_without_dataset_asks_nothing_of_one() {
    let mut without = orders();
    without.dataset = DatasetOrder::default();
    without.request.dataset = Address::ZERO;
    let mut facts = facts();
    facts.dataset = Standing { owner: None, signed: false, consumed: U256::ZERO };
    facts.requester_stake = Nrlc::rlc(33);
    assert_eq!(check_match(&without, &facts), Ok(n(3)));
    without.app.datasetrestrict = DATASET;
    assert_eq!(check_match(&without, &facts).unwrap_err().revert_code(), Some(0x13));
}

#[test]
fn tee_frameworks_in_a_dataset_tag_oblige_nobody() {
    let mut orders = orders();
    orders.dataset.tag = B256::with_last_byte(0b1110);
    assert!(check_match(&orders, &facts()).is_ok());
    orders.dataset.tag = B256::with_last_byte(0b1_0000);
    assert_eq!(check_match(&orders, &facts()).unwrap_err().revert_code(), Some(0x06));
}

#[test]
fn a_group_admits_its_members() {
    let mut orders = orders();
    orders.app.requesterrestrict = STRANGER;
    let pairs = memberships(&orders);
    assert_eq!(pairs, BTreeSet::from([(STRANGER, REQUESTER)]));
    assert!(check_match(&orders, &Facts { memberships: pairs, ..facts() }).is_ok());
    assert!(memberships(&super::tests::orders()).is_empty());
}

#[test]
fn both_sides_must_be_able_to_lock() {
    let (code, poor) = refusal(|_, f| f.requester_stake = Nrlc(f.requester_stake.0 - n(1)));
    assert_eq!(code, None);
    assert_eq!(
        poor.to_string(),
        format!(
            "requester {REQUESTER} has 38.999999999 RLC free on the hub, the deal locks 39 RLC: deposit the difference"
        )
    );
    let (_, pool) = refusal(|_, f| f.pool_owner_stake = Nrlc::rlc(8));
    assert!(matches!(pool, Mismatch::Stake { who: "workerpool owner", account: POOL_OWNER, .. }));
    let (_, own) = refusal(|_, f| {
        f.workerpool.owner = Some(REQUESTER);
        f.pool_owner_stake = f.requester_stake;
    });
    assert_eq!(own.to_string().split(" RLC").next().unwrap(), format!("workerpool owner {REQUESTER} has 0"));
    assert_eq!(refusal(|o, _| o.app.appprice = U256::MAX).0, Some(0x03));
    let huge = refusal(|o, _| {
        o.app.appprice = U256::MAX;
        o.request.appmaxprice = U256::MAX;
    });
    assert_eq!(huge.1, Mismatch::Overflow);
}

#[test]
fn refusals_name_the_thing_the_reason_and_the_next_step() {
    let text = |change: fn(&mut Match, &mut Facts)| refusal(change).1.to_string();
    assert_eq!(
        text(|o, _| o.request.workerpoolmaxprice = Nrlc::rlc(9).0),
        "the request pays at most 9 RLC per task for the workerpool, the workerpool order asks 10 RLC: offer more or choose another order"
    );
    assert_eq!(
        text(|_, f| f.app.consumed = n(100)),
        "the app order is used up or closed (100 of 100 tasks): choose or sign another order"
    );
    assert_eq!(
        text(|o, _| o.request.trust = n(9)),
        "the request asks for trust 9, the workerpool order serves trust up to 5: lower the trust or choose another order"
    );
}
