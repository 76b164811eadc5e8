//! Four orders, sound or with one thing wrong.

use super::{Life, Memo, owner_of};
use crate::actors::{self, POOR, REQUESTERS, STRANGER};
use crate::bench::Bench;
use crate::calls::call;
use crate::machine::Call;
use crate::step::{self, Step};
use alloy_primitives::{Address, B256, Bytes, U256};
use bourse_protocol::abi;
use bourse_protocol::api::Match;
use bourse_protocol::orders::{AppOrder, DatasetOrder, Order, RequestOrder, WorkerpoolOrder};
use rand::Rng;

pub(super) const MATCH: &str = "matchOrders(App,Dset,Wpool,Req)";
pub(super) const SPONSOR: &str = "sponsorMatchOrders(App,Dset,Wpool,Req)";
const TEE: u64 = 1;

type Orders = (abi::AppOrder, abi::DatasetOrder, abi::WorkerpoolOrder, abi::RequestOrder);

pub(super) fn arguments(orders: &Match) -> Orders {
    ((&orders.app).into(), (&orders.dataset).into(), (&orders.workerpool).into(), (&orders.request).into())
}

/// One thing that is wrong with a match, before it is signed.
type Flaw = (&'static str, fn(&mut Life, &mut Match));

impl Life {
    pub(super) fn plan_match(&mut self, bench: &mut Bench) {
        match self.rng.random_range(0..100) {
            0..45 => self.plan_sound_match(bench),
            45..55 => self.plan_rematch(bench),
            55..83 => self.plan_flawed_match(bench),
            83..93 => self.plan_badly_signed_match(bench),
            93..96 => self.plan_poor_match(bench),
            96..99 => self.plan_deviating_match(bench),
            _ => self.plan_crowd(bench),
        }
    }

    fn plan_sound_match(&mut self, bench: &mut Bench) {
        let mut orders = self.sound(bench);
        self.approve(bench, &mut orders);
        self.push_match(bench, "match", orders);
    }

    /// Old orders again, some of them with new partners.
    fn plan_rematch(&mut self, bench: &mut Bench) {
        let offers = self.offers.clone();
        let Some(mut orders) = self.pick(&offers) else { return };
        if self.chance(50) {
            // The rest of a request, bought with other offers.
            orders.app.salt = self.salt();
            orders.workerpool.salt = self.salt();
            orders.dataset.salt = if orders.dataset.dataset.is_zero() { B256::ZERO } else { self.salt() };
            self.sign_all(bench, &mut orders);
            return self.push_match(bench, "match: the rest of a request", orders);
        }
        if self.chance(60) {
            orders.request.salt = self.salt();
            orders.request.volume = U256::from(self.rng.random_range(1..4));
            self.sign_all(bench, &mut orders);
        }
        self.push_match(bench, "match again", orders);
    }

    fn plan_flawed_match(&mut self, bench: &mut Bench) {
        let mut orders = self.sound(bench);
        let at = self.rng.random_range(0..FLAWS.len());
        let (aim, spoil) = FLAWS[at];
        spoil(self, &mut orders);
        self.sign_all(bench, &mut orders);
        self.push_match(bench, aim, orders);
    }

    fn plan_badly_signed_match(&mut self, bench: &mut Bench) {
        let mut orders = self.sound(bench);
        self.sign_all(bench, &mut orders);
        let stranger = self.actor(STRANGER).clone();
        let forged = stranger.sign(self.word());
        let kind = self.rng.random_range(0..4);
        let (aim, signature) = match self.rng.random_range(0..3) {
            0 => ("match: unsigned", Bytes::new()),
            1 => ("match: malleable signature", malleable(&orders.request.sign)),
            _ => ("match: forged signature", forged),
        };
        match kind {
            0 => orders.app.sign = signature,
            1 if !orders.dataset.dataset.is_zero() => orders.dataset.sign = signature,
            2 => orders.workerpool.sign = signature,
            _ => orders.request.sign = signature,
        }
        self.push_match(bench, aim, orders);
    }

    /// Nobody can pay.
    fn plan_poor_match(&mut self, bench: &mut Bench) {
        let mut orders = self.sound(bench);
        let huge = U256::from(10u64).pow(U256::from(17));
        let price = if self.chance(50) { huge } else { U256::from(7) };
        orders.workerpool.workerpoolprice = price;
        orders.request.workerpoolmaxprice = price;
        if price != huge {
            orders.request.requester = self.actor(POOR).address;
        }
        open(&mut orders);
        self.sign_all(bench, &mut orders);
        self.push_match(bench, "match: too little money", orders);
    }

    /// Orders for a task on which nobody agrees and for which nobody pays, so that anybody can vote.
    fn plan_crowd(&mut self, bench: &mut Bench) {
        let mut orders = self.sound(bench);
        open(&mut orders);
        for trust in [&mut orders.workerpool.trust, &mut orders.request.trust] {
            *trust = U256::from(1000);
        }
        for price in [&mut orders.workerpool.workerpoolprice, &mut orders.request.workerpoolmaxprice] {
            *price = U256::ZERO;
        }
        for category in [&mut orders.workerpool.category, &mut orders.request.category] {
            *category = U256::from(4);
        }
        for tag in [&mut orders.app.tag, &mut orders.dataset.tag, &mut orders.workerpool.tag, &mut orders.request.tag] {
            *tag = B256::ZERO;
        }
        self.sign_all(bench, &mut orders);
        let request = self.hashes_of(&orders)[3];
        let scheduler = owner_of(bench, orders.workerpool.workerpool);
        self.push_match(bench, "match", orders);
        self.push_crowd(super::deal_id(request, U256::ZERO), scheduler);
    }

    /// What 6.2 or the packed layout treat in another way; nothing of it is kept.
    fn plan_deviating_match(&mut self, bench: &mut Bench) {
        let mut orders = self.sound(bench);
        let hub = self.system.hub;
        let aim = match self.rng.random_range(0..4) {
            0 if !orders.dataset.dataset.is_zero() => {
                orders.dataset.tag = U256::from(1 << self.rng.random_range(1..4)).into();
                "match: dataset names a framework"
            }
            1 => {
                open(&mut orders);
                orders.request.requester = Address::ZERO;
                "match: nobody requests"
            }
            2 => {
                orders.workerpool.trust = U256::MAX;
                orders.request.trust = U256::from(1u128 << 70);
                "match: trust beyond the layout"
            }
            _ => {
                let volume = U256::from(1u128 << 70);
                orders.app.volume = volume;
                orders.dataset.volume = volume;
                orders.workerpool.volume = volume;
                orders.request.volume = volume;
                orders.app.appprice = U256::ZERO;
                orders.dataset.datasetprice = U256::ZERO;
                orders.workerpool.workerpoolprice = U256::ZERO;
                "match: volume beyond the layout"
            }
        };
        self.sign_all(bench, &mut orders);
        if orders.request.requester.is_zero() {
            orders.request.sign = Bytes::from(vec![7; 65]);
        }
        let from = self.anybody().address;
        let signature = if self.chance(50) { MATCH } else { SPONSOR };
        let data = call(signature, arguments(&orders));
        self.push(Step::new(aim, Call::new(from, hub, data)).dry());
    }

    pub(super) fn push_match(&mut self, _: &mut Bench, aim: &'static str, orders: Match) {
        let payer = match self.chance(20) {
            true => Some(self.any(REQUESTERS).address),
            false => None,
        };
        let from = payer.unwrap_or_else(|| self.anybody().address);
        let signature = if payer.is_some() { SPONSOR } else { MATCH };
        let data = call(signature, arguments(&orders));
        let volume = call("computeDealVolume(App,Dset,Wpool,Req)", arguments(&orders));
        let hashes = self.hashes_of(&orders);
        let mut looks: Vec<_> = hashes.iter().flat_map(|h| step::order(&self.system, *h)).collect();
        looks.push((self.system.hub, volume));
        let before = U256::ZERO;
        looks.extend(step::deal(&self.system, super::deal_id(hashes[3], before)));
        let requester = orders.request.requester;
        let call = Call::new(from, self.system.hub, data.clone());
        if payer.is_none() && !requester.is_zero() && self.chance(10) {
            return self.push_relayed_match(aim, requester, data, orders, looks);
        }
        let mut step = Step::new(aim, call).look(looks);
        step.orders = Some(Box::new(orders.clone()));
        self.push_with(step, Memo::Matched(Box::new(orders)));
    }

    /// The token tells the hub to deposit and to match, in one transaction; 6.1 needs two.
    fn push_relayed_match(
        &mut self,
        aim: &'static str,
        requester: Address,
        data: Bytes,
        orders: Match,
        looks: Vec<step::Look>,
    ) {
        let amount = U256::from(self.rng.random_range(0..1_000_000u64));
        let (rlc, hub) = (self.system.rlc, self.system.hub);
        let approve = |data: Bytes| call("approveAndCall(address,uint256,bytes)", (hub, amount, data));
        let aim = if aim == "match" { "match through the token" } else { "flawed match through the token" };
        let mut step = Step::new(aim, Call::new(requester, rlc, approve(data.clone())));
        step.instead = vec![Call::new(requester, rlc, approve(Bytes::new())), Call::new(rlc, hub, data)];
        self.push_with(step.look(looks), Memo::Matched(Box::new(orders)));
    }

    pub(super) fn hashes_of(&self, orders: &Match) -> [B256; 4] {
        let d = &self.domain;
        [orders.app.hash(d).0, orders.dataset.hash(d).0, orders.workerpool.hash(d).0, orders.request.hash(d).0]
    }

    /// Four orders that fit, not yet signed.
    pub(super) fn sound(&mut self, bench: &mut Bench) -> Match {
        let app = self.asset(0);
        let dataset = if self.chance(55) { self.asset(1) } else { Address::ZERO };
        let workerpool = self.asset(2);
        let requester = match self.chance(85) {
            true => self.any(REQUESTERS).address,
            false => self.anybody().address,
        };
        let _ = bench;
        let mut orders = self.open_orders(app, dataset, workerpool, requester);
        self.set_tags(&mut orders);
        self.set_restrictions(&mut orders);
        orders
    }

    fn open_orders(&mut self, app: Address, dataset: Address, workerpool: Address, requester: Address) -> Match {
        let category = U256::from(self.rng.random_range(0..6));
        let trust = self.trust();
        let (appprice, datasetprice, workerpoolprice) = (self.price(), self.price(), self.price());
        let slack = U256::from(self.rng.random_range(0..2) * 5);
        let callback = self.callback();
        let volume = self.volume() + U256::from(if self.chance(30) { 4 } else { 0 });
        let app_order = AppOrder { app, appprice, volume: self.volume(), salt: self.salt(), ..AppOrder::default() };
        let dataset_order = match dataset.is_zero() {
            true => DatasetOrder::default(),
            false => DatasetOrder {
                dataset,
                datasetprice,
                volume: self.volume(),
                salt: self.salt(),
                ..DatasetOrder::default()
            },
        };
        let workerpool_order = WorkerpoolOrder {
            workerpool,
            workerpoolprice,
            volume: self.volume(),
            category,
            trust: trust + U256::from(self.rng.random_range(0..3)),
            salt: self.salt(),
            ..WorkerpoolOrder::default()
        };
        let beneficiary = if self.chance(50) { requester } else { self.anybody().address };
        let request = RequestOrder {
            app,
            appmaxprice: appprice + slack,
            dataset,
            datasetmaxprice: datasetprice + slack,
            workerpool: if self.chance(50) { workerpool } else { Address::ZERO },
            workerpoolmaxprice: workerpoolprice + slack,
            requester,
            volume,
            category,
            trust,
            beneficiary,
            callback,
            params: self.params(),
            salt: self.salt(),
            ..RequestOrder::default()
        };
        Match { app: app_order, dataset: dataset_order, workerpool: workerpool_order, request }
    }

    fn price(&mut self) -> U256 {
        U256::from(match self.rng.random_range(0..10) {
            0..3 => 0,
            3..5 => self.rng.random_range(1..100u64),
            5..9 => self.rng.random_range(1_000..20_000_000_000),
            _ => self.rng.random_range(1_000_000_000..1_000_000_000_000),
        })
    }

    fn volume(&mut self) -> U256 {
        U256::from(match self.rng.random_range(0..10) {
            0..4 => 1,
            4..9 => self.rng.random_range(1..6u64),
            _ => 1_000_000,
        })
    }

    fn trust(&mut self) -> U256 {
        U256::from(match self.rng.random_range(0..20) {
            0..6 => self.rng.random_range(0..2u64),
            6..12 => self.rng.random_range(2..5),
            12..16 => self.rng.random_range(5..17),
            16..19 => self.rng.random_range(17..100),
            _ => self.rng.random_range(100..1001),
        })
    }

    fn callback(&mut self) -> Address {
        match self.rng.random_range(0..10) {
            0..6 => Address::ZERO,
            6 => self.actor(STRANGER).address,
            7 => actors::RECEIVER,
            8 => actors::BURNER,
            _ => self.pick(&actors::RECEIVERS).unwrap_or_default(),
        }
    }

    fn params(&mut self) -> String {
        match self.rng.random_range(0..12) {
            0..3 => String::new(),
            3..11 => format!("{{\"iexec_args\":\"{}\"}}", self.rng.random::<u32>()),
            _ => "x".repeat(self.rng.random_range(1_000..9_000)),
        }
    }

    /// Features asked for, all of which the pool has; the framework bits of a dataset stay clear.
    fn set_tags(&mut self, orders: &mut Match) {
        if self.chance(55) {
            return;
        }
        let tee = if self.chance(50) { TEE } else { 0 };
        let mut bits = |mask: u64| self.rng.random::<u64>() & mask;
        let (app, dataset, request) = (bits(0x30e) | tee, bits(0x301) & !1, bits(0x700) | tee);
        let pool = U256::from(app | dataset | request | bits(0xff00));
        orders.app.tag = U256::from(app).into();
        if !orders.dataset.dataset.is_zero() {
            orders.dataset.tag = U256::from(dataset).into();
        }
        orders.request.tag = U256::from(request).into();
        orders.workerpool.tag = pool.into();
    }

    /// Restrictions that admit who is there: by name, or by a group that has everybody of the first hour.
    fn set_restrictions(&mut self, orders: &mut Match) {
        if self.chance(65) {
            return;
        }
        let (app, dataset) = (orders.app.app, orders.dataset.dataset);
        let (pool, requester) = (orders.workerpool.workerpool, orders.request.requester);
        let one = |life: &mut Self, found: Address| match life.rng.random_range(0..4) {
            0 => found,
            1 if life.in_group(found) => actors::GROUP,
            _ => Address::ZERO,
        };
        orders.app.datasetrestrict = one(self, dataset);
        orders.app.workerpoolrestrict = one(self, pool);
        orders.app.requesterrestrict = one(self, requester);
        if !dataset.is_zero() {
            orders.dataset.apprestrict = one(self, app);
            orders.dataset.workerpoolrestrict = one(self, pool);
            orders.dataset.requesterrestrict = one(self, requester);
        }
        orders.workerpool.apprestrict = one(self, app);
        orders.workerpool.datasetrestrict = one(self, dataset);
        orders.workerpool.requesterrestrict = one(self, requester);
        if self.in_group(pool) && self.chance(30) {
            orders.request.workerpool = actors::GROUP;
        }
    }

    /// The group's members are fixed when the random part begins: the first asset of each kind, the requesters, nobody.
    fn in_group(&self, who: Address) -> bool {
        let requesters = self.cast.all[REQUESTERS].iter().map(|a| a.address);
        let mut assets = self.assets.iter().filter_map(|of| of.first().copied());
        who.is_zero() || assets.any(|a| a == who) || requesters.into_iter().any(|a| a == who)
    }

    /// Approves each order: by signature, or on chain before the match.
    fn approve(&mut self, bench: &mut Bench, orders: &mut Match) {
        self.sign_all(bench, orders);
        if self.chance(25) {
            let kind = self.rng.random_range(0..4);
            self.push_presign(bench, orders, kind);
        }
    }

    pub(super) fn sign_all(&mut self, bench: &mut Bench, orders: &mut Match) {
        let app = owner_of(bench, orders.app.app);
        self.sign_order(&mut orders.app, app);
        if !orders.dataset.dataset.is_zero() {
            let dataset = owner_of(bench, orders.dataset.dataset);
            self.sign_order(&mut orders.dataset, dataset);
        }
        let pool = owner_of(bench, orders.workerpool.workerpool);
        self.sign_order(&mut orders.workerpool, pool);
        let requester = orders.request.requester;
        self.sign_order(&mut orders.request, requester);
    }

    fn sign_order<O: Order>(&mut self, order: &mut O, signer: Address) {
        let digest = order.hash(&self.domain).0;
        let compact = self.chance(10);
        let actor = self.cast.at(signer).unwrap_or(self.actor(STRANGER));
        order.set_sign(if compact { actor.sign_compact(digest) } else { actor.sign(digest) });
    }
}

/// Takes all restrictions away.
fn open(orders: &mut Match) {
    let a = &mut orders.app;
    (a.datasetrestrict, a.workerpoolrestrict, a.requesterrestrict) = Default::default();
    let d = &mut orders.dataset;
    (d.apprestrict, d.workerpoolrestrict, d.requesterrestrict) = Default::default();
    let w = &mut orders.workerpool;
    (w.apprestrict, w.datasetrestrict, w.requesterrestrict) = Default::default();
    orders.request.workerpool = Address::ZERO;
}

/// The other signature that ECDSA would accept: s on the upper half of the curve.
fn malleable(signature: &Bytes) -> Bytes {
    let order = U256::from_str_radix("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)
        .expect("the order of the curve is a number");
    let mut twin = signature.to_vec();
    if twin.len() == 65 {
        let s = U256::from_be_slice(&twin[32..64]);
        twin[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
        twin[64] = 55 - twin[64];
    }
    twin.into()
}

/// Makes sure that the deal has a dataset, open to all.
fn with_dataset(life: &mut Life, m: &mut Match) {
    if m.dataset.dataset.is_zero() {
        let dataset = life.asset(1);
        m.dataset = DatasetOrder { dataset, volume: U256::from(9), salt: life.salt(), ..DatasetOrder::default() };
        m.request.dataset = dataset;
        m.app.datasetrestrict = Address::ZERO;
        m.workerpool.datasetrestrict = Address::ZERO;
    }
}

/// Somebody or some group that does not admit.
fn closed(life: &mut Life) -> Address {
    match life.rng.random_range(0..4) {
        0 => life.actor(STRANGER).address,
        1 => actors::OWNED,
        _ => life.pick(&actors::GROUPS[1..]).unwrap_or_default(),
    }
}

const FLAWS: &[Flaw] = &[
    ("match 0x00", |_, m| m.request.category += U256::from(1)),
    ("match 0x01", |life, m| {
        let beyond = life.rng.random_range(100..200);
        m.request.category = U256::from(beyond);
        m.workerpool.category = U256::from(beyond);
    }),
    ("match 0x02", |_, m| m.request.trust = m.workerpool.trust + U256::from(1)),
    ("match 0x03", |_, m| m.app.appprice = m.request.appmaxprice + U256::from(1)),
    ("match 0x04", |_, m| m.dataset.datasetprice = m.request.datasetmaxprice + U256::from(1)),
    ("match 0x05", |_, m| m.workerpool.workerpoolprice = m.request.workerpoolmaxprice + U256::from(1)),
    ("match 0x06", |_, m| m.request.tag = B256::repeat_byte(0x80)),
    ("match 0x07", |_, m| {
        m.app.tag = B256::ZERO;
        m.request.tag = U256::from(TEE).into();
        m.workerpool.tag = B256::repeat_byte(0xff);
    }),
    ("match 0x10", |life, m| m.request.app = life.actor(STRANGER).address),
    ("match 0x11", |life, m| m.request.dataset = life.actor(STRANGER).address),
    ("match 0x12", |life, m| m.request.workerpool = closed(life)),
    ("match 0x13", |life, m| m.app.datasetrestrict = closed(life)),
    ("match 0x14", |life, m| m.app.workerpoolrestrict = closed(life)),
    ("match 0x15", |life, m| m.app.requesterrestrict = closed(life)),
    ("match 0x16", |life, m| m.dataset.apprestrict = closed(life)),
    ("match 0x17", |life, m| m.dataset.workerpoolrestrict = closed(life)),
    ("match 0x18", |life, m| m.dataset.requesterrestrict = closed(life)),
    ("match 0x19", |life, m| m.workerpool.apprestrict = closed(life)),
    ("match 0x1a", |life, m| m.workerpool.datasetrestrict = closed(life)),
    ("match 0x1b", |life, m| m.workerpool.requesterrestrict = closed(life)),
    ("match: odd group", |_, m| m.app.requesterrestrict = actors::ODD_GROUP),
    ("match 0x20", |_, m| {
        open(m);
        m.app.app = actors::OWNED;
        m.request.app = actors::OWNED;
    }),
    ("match: app is no contract", |life, m| {
        open(m);
        m.app.app = life.actor(STRANGER).address;
        m.request.app = m.app.app;
    }),
    ("match 0x30", |life, m| {
        with_dataset(life, m);
        open(m);
        m.dataset.dataset = actors::OWNED;
        m.request.dataset = actors::OWNED;
    }),
    ("match: dataset is no contract", |life, m| {
        with_dataset(life, m);
        open(m);
        m.dataset.dataset = life.actor(STRANGER).address;
        m.request.dataset = m.dataset.dataset;
    }),
    ("match 0x40", |_, m| {
        open(m);
        m.workerpool.workerpool = actors::OWNED;
    }),
    ("match: workerpool is no contract", |life, m| {
        open(m);
        m.workerpool.workerpool = life.actor(STRANGER).address;
    }),
    ("match: app of another registry", |life, m| {
        open(m);
        m.app.app = life.asset(2);
        m.request.app = m.app.app;
    }),
    ("match 0x60", |life, m| match life.rng.random_range(0..3) {
        0 => m.app.volume = U256::ZERO,
        1 => m.workerpool.volume = U256::ZERO,
        _ => m.request.volume = U256::ZERO,
    }),
    ("match: price overflows", |_, m| {
        m.app.appprice = U256::MAX;
        m.request.appmaxprice = U256::MAX;
        m.workerpool.workerpoolprice = U256::from(1);
        m.request.workerpoolmaxprice = U256::MAX;
    }),
];
