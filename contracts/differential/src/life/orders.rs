//! Orders outside a match: approved, closed, announced, checked.

use super::matching::arguments;
use super::{Life, owner_of};
use crate::actors::{self, STRANGER};
use crate::bench::Bench;
use crate::calls::call;
use crate::step::{self, Step};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::SolValue;
use bourse_protocol::abi;
use bourse_protocol::api::Match;
use bourse_protocol::orders::{DatasetOrder, Order};
use rand::Rng;

const MANAGE: [&str; 4] = [
    "manageAppOrder((App,uint8,bytes))",
    "manageDatasetOrder((Dset,uint8,bytes))",
    "manageWorkerpoolOrder((Wpool,uint8,bytes))",
    "manageRequestOrder((Req,uint8,bytes))",
];
const BROADCAST: [&str; 4] = [
    "broadcastAppOrder(App)",
    "broadcastDatasetOrder(Dset)",
    "broadcastWorkerpoolOrder(Wpool)",
    "broadcastRequestOrder(Req)",
];
const OPERATIONS: [&str; 4] = [
    "AppOrderOperation(AppOrder order,uint256 operation)AppOrder(address app,uint256 appprice,uint256 volume,bytes32 tag,address datasetrestrict,address workerpoolrestrict,address requesterrestrict,bytes32 salt)",
    "DatasetOrderOperation(DatasetOrder order,uint256 operation)DatasetOrder(address dataset,uint256 datasetprice,uint256 volume,bytes32 tag,address apprestrict,address workerpoolrestrict,address requesterrestrict,bytes32 salt)",
    "WorkerpoolOrderOperation(WorkerpoolOrder order,uint256 operation)WorkerpoolOrder(address workerpool,uint256 workerpoolprice,uint256 volume,bytes32 tag,uint256 category,uint256 trust,address apprestrict,address datasetrestrict,address requesterrestrict,bytes32 salt)",
    "RequestOrderOperation(RequestOrder order,uint256 operation)RequestOrder(address app,uint256 appmaxprice,address dataset,uint256 datasetmaxprice,address workerpool,uint256 workerpoolmaxprice,address requester,uint256 volume,bytes32 tag,uint256 category,uint256 trust,address beneficiary,address callback,string params,bytes32 salt)",
];

impl Life {
    pub(super) fn plan_orders(&mut self, bench: &mut Bench) {
        match self.rng.random_range(0..10) {
            0..4 => self.plan_manage(bench),
            4 | 5 => self.plan_broadcast(bench),
            6 | 7 => self.plan_compatibility(bench),
            _ => self.plan_verification(bench),
        }
    }

    /// Approves one order of four on chain and takes its signature away.
    pub(super) fn push_presign(&mut self, bench: &mut Bench, orders: &mut Match, kind: usize) {
        let kind = if kind == 1 && orders.dataset.dataset.is_zero() { 0 } else { kind };
        self.push_manage(bench, "presign", orders, kind, 0, None);
        match kind {
            0 => orders.app.sign = Bytes::new(),
            1 => orders.dataset.sign = Bytes::new(),
            2 => orders.workerpool.sign = Bytes::new(),
            _ => orders.request.sign = Bytes::new(),
        }
    }

    fn plan_manage(&mut self, bench: &mut Bench) {
        let fresh = self.chance(40);
        let offers = self.offers.clone();
        let old = self.pick(&offers).filter(|_| !fresh);
        let mut orders = match old {
            Some(orders) => orders,
            None => self.sound(bench),
        };
        if self.chance(3) {
            orders.app.volume = U256::MAX;
            orders.workerpool.volume = U256::MAX;
        }
        let kind = self.rng.random_range(0..4);
        let kind = if kind == 1 && orders.dataset.dataset.is_zero() { 3 } else { kind };
        let stranger = self.actor(STRANGER).address;
        let (aim, operation, from) = match self.rng.random_range(0..12) {
            0 | 1 => ("presign", 0, None),
            2..4 => ("close", 1, None),
            4 => ("presign: by anybody with a signature", 0, Some(stranger)),
            5 => ("close: by anybody with a signature", 1, Some(stranger)),
            6 => ("manage: no such operation", 2, None),
            7 => ("manage: forged", 1, Some(stranger)),
            8 => ("manage: unsigned", 0, Some(stranger)),
            _ => ("close", 1, None),
        };
        self.push_manage(bench, aim, &orders, kind, operation, from);
    }

    fn push_manage(
        &mut self,
        bench: &mut Bench,
        aim: &'static str,
        orders: &Match,
        kind: usize,
        operation: u8,
        from: Option<Address>,
    ) {
        let assets = [orders.app.app, orders.dataset.dataset, orders.workerpool.workerpool];
        let owner = assets.get(kind).map_or(orders.request.requester, |asset| owner_of(bench, *asset));
        let digest = self.operation_digest(orders, kind, operation);
        let signer = self.cast.at(owner).unwrap_or(self.actor(STRANGER));
        let sign = match aim {
            "manage: forged" => self.actor(STRANGER).sign(digest),
            "presign" | "close" | "manage: unsigned" => Bytes::new(),
            _ => signer.sign(digest),
        };
        let (a, d, w, r) = arguments(orders);
        let operation = U256::from(operation);
        let data = match kind {
            0 => call(MANAGE[0], ((a, operation, sign),)),
            1 => call(MANAGE[1], ((d, operation, sign),)),
            2 => call(MANAGE[2], ((w, operation, sign),)),
            _ => call(MANAGE[3], ((r, operation, sign),)),
        };
        let hash = self.hashes_of(orders)[kind];
        self.hashes.push(hash);
        let looks = step::order(&self.system, hash);
        self.push(Step::new(aim, self.hub_call(from.unwrap_or(owner), data)).look(looks));
    }

    /// What the owner signs to let somebody else approve or close an order (EIP-712).
    fn operation_digest(&self, orders: &Match, kind: usize, operation: u8) -> B256 {
        let fields = (keccak256(OPERATIONS[kind]), struct_hash(kind, orders), U256::from(operation));
        let message = keccak256(fields.abi_encode_params());
        keccak256([&[0x19, 0x01], self.domain.hash_struct().as_slice(), message.as_slice()].concat())
    }

    fn plan_broadcast(&mut self, bench: &mut Bench) {
        let orders = self.sound(bench);
        let (a, d, w, r) = arguments(&orders);
        let kind = self.rng.random_range(0..4);
        let data = match kind {
            0 => call(BROADCAST[0], (a,)),
            1 => call(BROADCAST[1], (d,)),
            2 => call(BROADCAST[2], (w,)),
            _ => call(BROADCAST[3], (r,)),
        };
        let from = self.anybody().address;
        self.push(Step::new("broadcast", self.hub_call(from, data)));
    }

    /// Whether a dataset order could stand in for the dataset of a deal that has none.
    fn plan_compatibility(&mut self, bench: &mut Bench) {
        let deals = self.deals.clone();
        let Some(deal) = self.pick(&deals) else { return };
        let mut order = DatasetOrder {
            dataset: self.asset(1),
            volume: U256::from(100),
            tag: deal.orders.app.tag & B256::from(U256::from(0x300)),
            salt: self.salt(),
            ..DatasetOrder::default()
        };
        let mut id = deal.id;
        let nobody = self.actor(STRANGER).address;
        let owner = owner_of(bench, order.dataset);
        let mut dry = false;
        let (aim, close) = match self.rng.random_range(0..12) {
            0 => ("compatible: consumed", true),
            1 => ("compatible: forged", false),
            2 => {
                id = self.word();
                ("compatible: unknown deal", false)
            }
            3 => {
                order.apprestrict = nobody;
                ("compatible: app restricted", false)
            }
            4 => {
                order.workerpoolrestrict = nobody;
                ("compatible: workerpool restricted", false)
            }
            5 => {
                order.requesterrestrict = crate::actors::BROKEN_GROUP;
                ("compatible: requester restricted", false)
            }
            6 => {
                order.tag = B256::repeat_byte(0x40);
                ("compatible: tag", false)
            }
            7 => {
                order.tag |= B256::from(U256::from(4));
                dry = true;
                ("compatible: framework", false)
            }
            8 => {
                order.dataset = nobody;
                ("compatible: no contract", false)
            }
            9 => ("compatible: unsigned", false),
            _ => ("compatible", false),
        };
        if close {
            let orders = Match { dataset: order.clone(), ..deal.orders.clone() };
            self.push_manage(bench, "close", &orders, 1, 1, None);
        }
        let digest = order.hash(&self.domain).0;
        let signer = self.cast.at(owner).unwrap_or(self.actor(STRANGER));
        order.sign = match aim {
            "compatible: forged" => self.actor(STRANGER).sign(B256::repeat_byte(9)),
            "compatible: unsigned" => Bytes::new(),
            _ => signer.sign(digest),
        };
        let data = call("assertDatasetDealCompatibility(Dset,bytes32)", (abi::DatasetOrder::from(&order), id));
        let mut step = Step::new(aim, self.hub_call(nobody, data));
        step.dry = dry;
        self.push(step);
    }

    fn plan_verification(&mut self, bench: &mut Bench) {
        let _ = bench;
        let actor = self.anybody();
        let digest = self.word();
        let signature = match self.rng.random_range(0..5) {
            0 => actor.sign_compact(digest),
            1 => Bytes::from(vec![3; self.rng.random_range(0..70)]),
            2 => Bytes::from(vec![3; 65]),
            _ => actor.sign(digest),
        };
        let account = match self.rng.random_range(0..20) {
            0..3 => Address::ZERO,
            3 => self.pick(&actors::ODD_WALLETS).unwrap_or_default(),
            _ => actor.address,
        };
        let hashes = self.hashes.clone();
        let known = self.pick(&hashes).unwrap_or(digest);
        let from = actor.address;
        let step = match self.rng.random_range(0..4) {
            0 => call("verifyPresignature(address,bytes32)", (account, known)),
            1 => call("verifyPresignatureOrSignature(address,bytes32,bytes)", (account, known, signature)),
            _ => call("verifySignature(address,bytes32,bytes)", (account, digest, signature)),
        };
        self.push(Step::new("verify", self.hub_call(from, step)));
    }
}

/// The EIP-712 hash of one order of four, without the domain.
fn struct_hash(kind: usize, orders: &Match) -> B256 {
    let (a, d, w, r) = arguments(orders);
    let typed = OPERATIONS[kind].split_once(')').map(|(_, order)| order).unwrap_or_default();
    let hash = keccak256(typed);
    let encoded = match kind {
        0 => {
            let head = (hash, a.app, a.appprice, a.volume, a.tag);
            let tail = (a.datasetrestrict, a.workerpoolrestrict, a.requesterrestrict, a.salt);
            [head.abi_encode_params(), tail.abi_encode_params()].concat()
        }
        1 => {
            let head = (hash, d.dataset, d.datasetprice, d.volume, d.tag);
            let tail = (d.apprestrict, d.workerpoolrestrict, d.requesterrestrict, d.salt);
            [head.abi_encode_params(), tail.abi_encode_params()].concat()
        }
        2 => {
            let head = (hash, w.workerpool, w.workerpoolprice, w.volume, w.tag, w.category, w.trust);
            let tail = (w.apprestrict, w.datasetrestrict, w.requesterrestrict, w.salt);
            [head.abi_encode_params(), tail.abi_encode_params()].concat()
        }
        _ => {
            let head = (hash, r.app, r.appmaxprice, r.dataset, r.datasetmaxprice, r.workerpool, r.workerpoolmaxprice);
            let middle = (r.requester, r.volume, r.tag, r.category, r.trust, r.beneficiary, r.callback);
            let tail = (keccak256(r.params), r.salt);
            [head.abi_encode_params(), middle.abi_encode_params(), tail.abi_encode_params()].concat()
        }
    };
    keccak256(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn management_signatures_name_orders() {
        assert_eq!(crate::calls::selector(MANAGE[0]), [0xb2, 0xb0, 0x7e, 0x66]);
        assert_eq!(crate::calls::selector(MANAGE[3]), [0x8d, 0xd9, 0x71, 0xd5]);
        assert!(crate::calls::canonical(BROADCAST[0]).starts_with("broadcastAppOrder((address,"));
    }
}
