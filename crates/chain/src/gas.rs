//! What a transaction may cost. Source: middleware.md §2.4: price = min(cap, network × multiplier).

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

/// The two prices of an EIP-1559 transaction, in wei per gas.
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
    /// The base fee.
    pub network: u128,
    /// The policy's cap.
    pub cap: u128,
}

impl GasPolicy {
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

    /// The price that replaces a transaction sent at `old`: at least an eighth more, or `None` if that passes the cap.
    pub fn replacement(&self, old: Fees, base: u128, tip: u128) -> Option<Fees> {
        let raised = |price: u128| price.saturating_add(price / 8).saturating_add(1);
        let wanted = self.fees(base, tip).ok()?;
        let max_fee = wanted.max_fee.max(raised(old.max_fee));
        let tip = wanted.tip.max(raised(old.tip)).min(max_fee);
        (max_fee <= self.cap).then_some(Fees { max_fee, tip })
    }

    fn times(&self, price: u128) -> u128 {
        price.saturating_mul(u128::from(self.multiplier_percent)) / 100
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
    fn a_replacement_pays_an_eighth_more_and_never_passes_the_cap() {
        let policy = GasPolicy::default();
        let old = Fees { max_fee: 8 * GWEI, tip: GWEI };
        let new = policy.replacement(old, GWEI, GWEI).unwrap();
        assert!(new.max_fee >= 9 * GWEI && new.tip * 8 >= old.tip * 9);
        assert_eq!(policy.replacement(Fees { max_fee: 22 * GWEI, tip: GWEI }, GWEI, GWEI), None);
    }
}
