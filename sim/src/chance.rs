//! Randomness of one run: everything that is left to chance comes from its seed.

use bourse_chain::alloy::primitives::keccak256;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A source of chance, cheap to clone; all clones draw from one stream.
#[derive(Clone, Debug)]
pub(crate) struct Chance(Arc<Mutex<StdRng>>);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A stream beside the main one: what draws from it leaves all other draws of the seed as they are.
    pub(crate) fn beside(seed: u64, label: &str) -> Self {
        let hash = keccak256([label.as_bytes(), &seed.to_be_bytes()].concat());
        Self::new(hash.iter().take(8).fold(0, |word, byte| word << 8 | u64::from(*byte)))
    }

    fn rng(&self) -> MutexGuard<'_, StdRng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something with this probability, in parts of 10,000, happens now.
    pub(crate) fn hits(&self, per_ten_thousand: u32) -> bool {
        per_ten_thousand > 0 && self.rng().random_range(0..10_000) < per_ten_thousand
    }

    pub(crate) fn within(&self, range: RangeInclusive<u64>) -> u64 {
        self.rng().random_range(range)
    }

    pub(crate) fn bytes(&self) -> [u8; 32] {
        self.rng().random()
    }
}
