//! What a transaction may cost: price = min(cap, network × multiplier). The cap is never passed.
//!
//! The network's price is base fee plus suggested tip. While the base fee alone is over the cap, no block would take what
//! may be offered: the sender waits. Once the cap covers the base fee it offers min(cap, …) and what is left for the tip,
//! though base fee and tip together may be over the cap: blocks take any transaction that pays their base fee, a smaller
//! tip only makes it wait longer, and to wait for more would keep it out of blocks that would take it.

use crate::client::Price;
use alloy::primitives::U256;

/// How much is paid for gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GasPolicy {
    /// The network's price is multiplied by this, in percent.
    pub multiplier_percent: u32,
    /// Never more than this, in wei per gas.
    pub cap: u128,
}

impl Default for GasPolicy {
    fn default() -> Self {
        Self { multiplier_percent: 130, cap: 22_000_000_000 }
    }
}

/// The two prices of an EIP-1559 transaction, in wei per gas. On a chain without base fees both are its one price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// The most that is paid in all.
    pub max_fee: u128,
    /// The part for whoever makes the block.
    pub tip: u128,
}

/// Why no price can be offered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gas costs {network} wei now and the cap is {cap} wei: waiting; raise IEXEC_GAS_PRICE_CAP to go on at once")]
pub struct OverCap {
    /// The base fee, or the one price where there is none.
    pub network: u128,
    /// The policy's cap.
    pub cap: u128,
}

/// Why a transaction that waits is not offered a higher price: the next one that nodes take passes the cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a transaction waits though it offers {offered} wei per gas, and nodes want {next} wei to replace it, over the cap of {cap} wei: waiting for gas to get cheaper; raise IEXEC_GAS_PRICE_CAP to go on sooner"
)]
pub struct AtCap {
    /// What it offers.
    pub offered: u128,
    /// What it would have to offer.
    pub next: u128,
    /// The policy's cap.
    pub cap: u128,
}

/// Why a transaction keeps its price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRaise {
    /// No transaction would be taken at the cap.
    #[error(transparent)]
    OverCap(#[from] OverCap),
    /// This one offers nearly the cap already.
    #[error(transparent)]
    AtCap(#[from] AtCap),
}

impl GasPolicy {
    /// The price to offer now, or a refusal while the network's price passes the cap: the base fee where there is one, for
    /// a tip can be made smaller.
    pub fn offer(&self, price: Price) -> Result<Fees, OverCap> {
        match price {
            Price::Market { base, tip } => self.fees(base, tip),
            Price::Legacy { price } if price > self.cap => Err(OverCap { network: price, cap: self.cap }),
            Price::Legacy { price } => {
                let price = self.times(price).min(self.cap);
                Ok(Fees { max_fee: price, tip: price })
            }
        }
    }

    /// The price that replaces a transaction sent at `old`: at least an eighth more. A refusal if that passes the cap.
    pub fn replace(&self, old: Fees, price: Price) -> Result<Fees, NoRaise> {
        let wanted = self.offer(price)?;
        let max_fee = wanted.max_fee.max(raised(old.max_fee));
        if max_fee > self.cap {
            return Err(AtCap { offered: old.max_fee, next: max_fee, cap: self.cap }.into());
        }
        let tip = match price {
            Price::Market { .. } => wanted.tip.max(raised(old.tip)).min(max_fee),
            Price::Legacy { .. } => max_fee,
        };
        Ok(Fees { max_fee, tip })
    }

    /// The price to offer at this base fee and suggested tip, or a refusal while the base fee alone passes the cap.
    ///
    /// The tip is not multiplied: nodes suggest what recent blocks paid, and on a quiet chain that is what we paid. Each
    /// transaction would offer more than the one before, up to the cap.
    pub fn fees(&self, base: u128, tip: u128) -> Result<Fees, OverCap> {
        if base > self.cap {
            return Err(OverCap { network: base, cap: self.cap });
        }
        let max_fee = self.times(base.saturating_add(tip)).min(self.cap);
        Ok(Fees { max_fee, tip: tip.min(max_fee) })
    }

    fn times(&self, price: u128) -> u128 {
        price.saturating_mul(u128::from(self.multiplier_percent)) / 100
    }
}

impl Fees {
    /// These, or less where the wallet can pay for no more than `most` wei per gas; `None` if that is below `least`.
    pub fn within(self, most: u128, least: u128) -> Option<Self> {
        let max_fee = self.max_fee.min(most);
        (max_fee >= least.min(self.max_fee)).then_some(Self { max_fee, tip: self.tip.min(max_fee) })
    }

    /// The least that replaces a transaction sent at these.
    pub(crate) fn least_raise(self) -> u128 {
        raised(self.max_fee)
    }
}

/// Nodes accept a replacement that pays at least a tenth more.
fn raised(price: u128) -> u128 {
    price.saturating_add(price / 8).saturating_add(1)
}

/// Room for what changes between estimation and execution: another's contribution can make ours the decisive one.
const MARGIN: u64 = 150_000;

/// The gas to ask for where a call is estimated to use `gas`.
pub fn limit(gas: u64, is_plain_payment: bool) -> u64 {
    gas.saturating_add(gas / 4).saturating_add(if is_plain_payment { 0 } else { MARGIN })
}

/// Ether, in wei, that a wallet needs before it begins to make calls that use so much gas, one after the other. Each must
/// find its whole limit in the wallet, but only what it uses is spent before the next.
pub fn needed(calls: &[u64], fees: Fees) -> U256 {
    let (mut spent, mut most) = (0u64, 0u64);
    for gas in calls {
        most = most.max(spent.saturating_add(limit(*gas, false)));
        spent = spent.saturating_add(*gas);
    }
    U256::from(most) * U256::from(fees.max_fee)
}

/// Gas that a worker's two calls for one task use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkGas {
    /// The contribution, if it is the one that decides the vote.
    pub contribute: u64,
    /// The reveal.
    pub reveal: u64,
}

impl WorkGas {
    /// As measured with our contracts (docs/reference/gas.md), for a hub where nobody has contributed yet.
    pub const MEASURED: Self = Self { contribute: 152_384, reveal: 45_149 };

    /// Ether that a wallet needs before it takes a task, in wei.
    pub fn needed(&self, fees: Fees) -> U256 {
        needed(&[self.contribute, self.reveal], fees)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GWEI: u128 = 1_000_000_000;

    #[test]
    fn the_price_follows_the_network_up_to_the_cap() {
        let policy = GasPolicy::default();
        assert_eq!(policy.fees(10 * GWEI, GWEI), Ok(Fees { max_fee: 14_300_000_000, tip: GWEI }));
        assert_eq!(policy.fees(20 * GWEI, GWEI), Ok(Fees { max_fee: 22 * GWEI, tip: GWEI }));
        assert_eq!(policy.fees(23 * GWEI, GWEI), Err(OverCap { network: 23 * GWEI, cap: 22 * GWEI }));
    }

    #[test]
    fn paying_what_was_paid_before_does_not_raise_the_price() {
        let policy = GasPolicy::default();
        let first = policy.fees(GWEI, GWEI).unwrap();
        // A node on which nobody else pays suggests our own last tip.
        let hundredth = (0..100).fold(first, |last, _| policy.fees(GWEI, last.tip).unwrap());
        assert_eq!(hundredth, first);
    }

    #[test]
    fn one_price_for_chains_without_base_fees() {
        let policy = GasPolicy::default();
        let legacy = |price| Price::Legacy { price };
        let ten = Fees { max_fee: 13 * GWEI, tip: 13 * GWEI };
        assert_eq!(policy.offer(legacy(10 * GWEI)), Ok(ten));
        assert_eq!(policy.offer(legacy(0)), Ok(Fees { max_fee: 0, tip: 0 }), "a chain where gas is free");
        assert!(policy.offer(legacy(23 * GWEI)).is_err());
        let more = policy.replace(ten, legacy(10 * GWEI)).unwrap();
        assert!(more.max_fee * 8 >= ten.max_fee * 9 && more.max_fee == more.tip);
        let dear = Fees { max_fee: 21 * GWEI, tip: 21 * GWEI };
        assert!(matches!(policy.replace(dear, legacy(GWEI)), Err(NoRaise::AtCap(_))));
        assert!(matches!(policy.replace(dear, legacy(23 * GWEI)), Err(NoRaise::OverCap(_))));
    }

    #[test]
    fn what_a_task_needs_is_what_its_calls_use_and_the_room_of_the_last() {
        let fees = Fees { max_fee: 10, tip: 1 };
        assert_eq!(needed(&[100_000, 40_000], fees), U256::from(10 * (100_000 + 50_000 + 150_000)));
        assert_eq!(needed(&[100_000, 100_000], fees), U256::from(10 * (100_000 + 125_000 + 150_000)));
        assert!(WorkGas::MEASURED.needed(fees) > U256::from(10 * (152_384 + 45_149)));
    }

    #[test]
    fn the_measured_gas_is_that_of_the_committed_snapshot() {
        let snapshot = include_str!("../../../docs/reference/gas.md");
        let of = |call: &str| -> u64 {
            let row = snapshot.lines().find(|line| line.starts_with(&format!("| {call} |"))).unwrap();
            row.split('|').nth(2).unwrap().replace(' ', "").parse().unwrap()
        };
        let WorkGas { contribute, reveal } = WorkGas::MEASURED;
        for (ours, measured) in [(contribute, of("contribute, reaching consensus")), (reveal, of("reveal"))] {
            // A change of the contracts that matters changes the constant.
            assert!(ours.abs_diff(measured) * 20 <= measured, "{ours}, measured now: {measured}");
        }
    }

    #[test]
    fn a_replacement_pays_an_eighth_more_and_never_passes_the_cap() {
        let policy = GasPolicy::default();
        let price = |base| Price::Market { base, tip: GWEI };
        let old = Fees { max_fee: 8 * GWEI, tip: GWEI };
        let new = policy.replace(old, price(GWEI)).unwrap();
        assert!(new.max_fee >= 9 * GWEI && new.tip * 8 >= old.tip * 9);
        let dear = Fees { max_fee: 22 * GWEI, tip: GWEI };
        let NoRaise::AtCap(at_cap) = policy.replace(dear, price(GWEI)).unwrap_err() else { panic!("gas is cheap") };
        assert_eq!((at_cap.offered, at_cap.cap), (22 * GWEI, 22 * GWEI));
        assert!(at_cap.next > at_cap.cap && !at_cap.to_string().contains("gas costs"), "{at_cap}");
        let over = OverCap { network: 23 * GWEI, cap: 22 * GWEI };
        assert_eq!(policy.replace(dear, price(23 * GWEI)), Err(NoRaise::OverCap(over)));
    }

    #[test]
    fn what_covers_the_base_fee_is_offered_though_the_tip_does_not_fit() {
        let policy = GasPolicy::default();
        let price = Price::Market { base: 21 * GWEI, tip: 5 * GWEI };
        assert_eq!(policy.offer(price), Ok(Fees { max_fee: 22 * GWEI, tip: 5 * GWEI }));
    }
}
