//! What all worlds of a kind begin from: contracts, accounts and assets are made once, and every world gets a copy.

use crate::{
    chain::Ground,
    chance::Chance,
    life::Life,
    market::{FIRST_WORKER, Market, Places, key},
    node::{Earth, Node, State},
    tally::Tally,
    world::{self, Plan},
};
use bourse_chain::{Client, Settings};
use bourse_protocol::U256;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Worlds with fewer workers begin with so many funded ones too.
const FUNDED: u32 = 12;

/// A chain with everything on it.
pub(crate) struct Beginning {
    earth: Arc<Earth>,
    pub(crate) places: Places,
}

impl Beginning {
    /// That of a plan, which is made at the first time.
    pub(crate) fn of(plan: &Plan) -> Arc<Self> {
        static MADE: Mutex<BTreeMap<(u32, u64), Arc<Beginning>>> = Mutex::new(BTreeMap::new());
        let kind = (plan.workers.max(FUNDED), plan.period);
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(kind).or_insert_with(|| Arc::new(Self::make(kind))).clone()
    }

    fn make((workers, period): (u32, u64)) -> Self {
        world::runtime().block_on(async move {
            let ether = U256::from(10).pow(U256::from(21));
            let genesis = (0..FIRST_WORKER + workers).map(|n| (key(n).address(), ether)).collect();
            let earth = earth(Ground::new(genesis), Chance::new(0), Tally::default());
            let places = Market::found(watcher(&earth), workers, period).await;
            Self { earth, places }
        })
    }

    /// A chain of one's own that begins like this.
    pub(crate) fn ground(&self) -> Ground {
        Ground::like(&self.earth.ground)
    }
}

/// A world's nodes.
pub(crate) fn earth(ground: Ground, chance: Chance, tally: Tally) -> Arc<Earth> {
    let state = Mutex::new(State { lag: vec![0; 3], ..State::default() });
    Arc::new(Earth { ground, chance, tally, state })
}

/// The way to the chain of those who are never lied to.
pub(crate) fn watcher(earth: &Arc<Earth>) -> Client {
    let life = Life::new(None, 0, earth.chance.clone(), earth.tally.clone());
    let honest = Node { earth: earth.clone(), index: 0, life, honest: true }.client();
    let patient = Settings { tag: Some(7), poll: Duration::from_secs(1), ..Settings::embedded() };
    Client::new(vec![("honest".into(), honest)], patient)
}
