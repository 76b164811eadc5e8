//! One run: a seed becomes a world with its faults, the world runs to its end, the judge looks at it after every block.

use crate::{
    beginning::{Beginning, earth, watcher},
    chain::BEGINNING,
    chance::Chance,
    judge::{Judge, Verdict},
    machine::{Character, Store},
    market::{Bought, FIRST_WORKER, Kind, Market, Wish, key},
    node::{BASE_FEE, Earth, Mood},
    pipe::{Address as Place, Sky, Weather},
    roles::{self, Fate, Person, Stage, Vanishes},
    tally::{Fault, Tally},
};
use bourse_chain::Settings;
use bourse_protocol::ids::TaskId;
use bourse_service::{CancellationToken, clock::Clock};
use serde_json::json;
use std::{
    collections::BTreeSet,
    ops::RangeInclusive,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::{Instant, sleep},
};

/// After its deadline a task must end within so many blocks once nothing is wrong any more.
const GRACE: u64 = 5;

/// The base fee of a spike, in wei: over the cap of 22 gwei, or so high under it that what waits must offer more.
const SPIKE: RangeInclusive<u64> = 4_000_000_000..=44_000_000_000;

/// What takes transactions away or delays them; the sender sends them again by itself.
const HINDRANCES: [Fault; 5] =
    [Fault::Reorg, Fault::TransactionLost, Fault::TransactionDelayed, Fault::ReplyLost, Fault::SchedulerCrash];

/// How hard a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Climate {
    /// Faults are short: every task must be paid, with the right answer.
    Mild,
    /// Anything: every task must end.
    Wild,
    /// That of the runs of 2018: every task must be paid.
    Drop,
}

/// What is needed to run a world again.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) climate: Climate,
    pub(crate) tasks: u64,
    pub(crate) workers: u32,
    /// Seconds between blocks.
    pub(crate) block: u64,
    /// The period T of the category, in seconds.
    pub(crate) period: u64,
    /// Tasks are bought during this time, in seconds.
    pub(crate) season: u64,
    /// At this second the faults end.
    calm: u64,
    /// How long an app runs, in milliseconds.
    pub(crate) speed: RangeInclusive<u64>,
    /// The trust of every task; several where there is none.
    pub(crate) trust: Option<u64>,
    /// Tasks are bought in bags of at most so many.
    pub(crate) bag: u64,
    /// How often the roles look at the chain, in milliseconds.
    pub(crate) poll: u64,
    /// The scheduler is restarted at this second.
    pub(crate) restart: Option<u64>,
    /// The third node is so many blocks behind between these seconds.
    pub(crate) stray: Option<(u64, std::ops::Range<u64>)>,
    depth: u64,
    scheduler_lives: u64,
}

impl Plan {
    /// What a seed stands for.
    pub(crate) fn of(seed: u64, tasks: u64) -> Self {
        let chance = Chance::new(seed ^ 0x706c_616e);
        let climate = if chance.hits(5_000) { Climate::Mild } else { Climate::Wild };
        let abandoned = climate == Climate::Wild && chance.hits(1_000);
        let (period, season) = (120, 300);
        // Nothing can be claimed for ten periods: in some worlds the faults last until everything is due.
        let late = Chance::beside(seed, "late").hits(3_000);
        Self {
            seed,
            climate,
            tasks,
            workers: chance.within(8..=12) as u32,
            block: 5,
            period,
            season,
            calm: season + if late { 12 } else { 7 } * period,
            speed: 4_000..=30_000,
            trust: None,
            bag: 5,
            poll: 5_000,
            restart: None,
            stray: None,
            depth: chance.within(0..=2),
            scheduler_lives: if abandoned { chance.within(1..=3) } else { u64::MAX },
        }
    }

    /// What was tried in 2018, both runs in one (middleware.md §10.1): 311 workers, 170 orders of three replicates within a
    /// day, 395 s of computing for each, a restart at 08:10, a node that is out of step, events twice, transactions lost.
    pub(crate) fn workerdrop(seed: u64) -> Self {
        Self {
            seed,
            climate: Climate::Drop,
            tasks: 170,
            workers: 311,
            block: 5,
            period: 3_600,
            season: 86_400 - 3_600,
            calm: 86_400 + 6 * 3_600,
            speed: 395_000..=395_000,
            trust: Some(5),
            bag: 1,
            poll: 1_000,
            restart: Some(8 * 3_600 + 10 * 60),
            stray: Some((200, 6 * 3_600..12 * 3_600)),
            depth: 1,
            scheduler_lives: u64::MAX,
        }
    }
}

/// Runs a plan in a runtime of its own with its own time.
pub(crate) fn run(plan: Plan) -> Verdict {
    let beginning = Beginning::of(&plan);
    runtime().block_on(async move { World::new(plan, &beginning).await.run().await })
}

/// One thread, and a time that goes on when nobody has anything to do.
pub(crate) fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime starts")
}

struct World {
    plan: Plan,
    earth: Arc<Earth>,
    chance: Chance,
    tally: Tally,
    weather: Arc<Mutex<Weather>>,
    market: Arc<Market>,
    stage: Stage,
    judge: Judge,
    /// Blocks since the beginning.
    blocks: u64,
    /// Of the base fee.
    fees: Chance,
    /// How often transactions were hindered before the newest block.
    hindrances: u64,
}

impl World {
    async fn new(plan: Plan, beginning: &Beginning) -> Self {
        let (chance, tally) = (Chance::new(plan.seed), Tally::default());
        let earth = earth(beginning.ground(), chance.clone(), tally.clone());
        let delays = Chance::beside(plan.seed, "race");
        let market = Arc::new(Market::open(watcher(&earth), beginning.places, delays).await);
        earth.ground.mine_when_told();
        let weather = Arc::new(Mutex::new(Weather::default()));
        let sky = Sky { weather: weather.clone(), chance: chance.clone(), tally: tally.clone() };
        let poll = Duration::from_millis(plan.poll);
        let clock = Clock::Runtime(Instant::now(), BEGINNING * 1000 + earth.ground.now());
        let settings = Settings {
            poll,
            probe: Duration::from_secs(plan.block) * 2,
            depth: Some(plan.depth),
            clock: clock.clone(),
            tag: Some(7),
            ..Settings::embedded()
        };
        let stage = Stage {
            earth: earth.clone(),
            hub: market.hub.address,
            workerpool: market.places.workerpool,
            store: Store::default(),
            place: Place::default(),
            sky,
            clock,
            chance: chance.clone(),
            losses: Chance::beside(plan.seed, "losses"),
            tally: tally.clone(),
            settings,
            calm: CancellationToken::new(),
        };
        let judge = Judge::new(market.clone());
        let fees = Chance::beside(plan.seed, "fees");
        Self { plan, earth, chance, tally, weather, market, stage, judge, blocks: 0, fees, hindrances: 0 }
    }

    async fn run(mut self) -> Verdict {
        let mut actors = JoinSet::new();
        self.raise_the_curtain(&mut actors);
        let (bought, mut arriving) = tokio::sync::mpsc::unbounded_channel();
        actors.spawn(shop(self.market.clone(), self.chance.clone(), self.tally.clone(), self.plan.clone(), bought));
        loop {
            sleep(Duration::from_secs(self.plan.block)).await;
            if let Some(ended) = actors.try_join_next() {
                // Nobody but the shop, a vanished worker and an abandoned scheduler ends by itself.
                if let Err(error) = ended
                    && error.is_panic()
                {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
            self.judge.count(self.stage.place.connections());
            while let Ok(task) = arriving.try_recv() {
                self.judge.expect(task);
            }
            self.next_block().await;
            let everything_bought = self.second() > self.plan.season + self.plan.block;
            if everything_bought && self.judge.all_ended() {
                break;
            }
            if !self.overdue().is_empty() {
                // A purchase that a reorg took away before it was known here is not overdue.
                self.judge.look_at_everything(&self.earth).await;
            }
            let mut stuck = self.overdue();
            if !stuck.is_empty() && self.plan.scheduler_lives < u64::MAX {
                self.claim(&stuck).await;
                // Claiming takes its time: what became overdue meanwhile is for the next round.
                let still: BTreeSet<TaskId> = self.overdue().iter().map(|bought| bought.task).collect();
                stuck.retain(|bought| still.contains(&bought.task));
            }
            if !stuck.is_empty() {
                self.judge.complain_about_the_stuck(stuck);
                break;
            }
        }
        self.judge.close_the_books().await;
        if self.plan.climate == Climate::Drop {
            self.judge.look_back(&self.earth).await;
        }
        actors.shutdown().await;
        let faults = self.tally.counts();
        self.judge.verdict(self.plan, faults, self.earth.chance.bytes())
    }

    fn second(&self) -> u64 {
        self.blocks * self.plan.block
    }

    /// A block, and what happens after it.
    async fn next_block(&mut self) {
        self.earth.mine();
        if !self.stage.calm.is_cancelled() {
            self.disturb(self.blocks, self.second());
        }
        self.judge.look(&self.earth).await;
        self.blocks += 1;
        if self.pool_is_gone() {
            self.judge.excuse_nobody_finalizes();
        }
        if self.is_hindered() {
            self.judge.hinder();
        }
        if !self.stage.calm.is_cancelled() && self.second() >= self.plan.calm {
            self.calm_down();
            self.judge.calm_down();
        }
    }

    fn pool_is_gone(&self) -> bool {
        self.tally.sum(&[Fault::SchedulerCrash]) >= self.plan.scheduler_lives
    }

    /// Whether those who claim could not: a transaction went away, both nodes of the scheduler are behind, or it is down.
    fn is_hindered(&mut self) -> bool {
        let before = std::mem::replace(&mut self.hindrances, self.tally.sum(&HINDRANCES));
        let state = self.earth.state();
        let behind = state.lag.iter().take(2).all(|lag| *lag > 0);
        let down = !self.stage.place.is_served() && !self.pool_is_gone();
        before < self.hindrances || !state.held.is_empty() || behind || down
    }

    /// Tasks that should have ended, and had time for it since nothing is wrong any more.
    fn overdue(&self) -> Vec<Bought> {
        self.judge.overdue((GRACE + self.plan.depth) * self.plan.block)
    }

    /// Where the scheduler is gone for good anybody claims.
    async fn claim(&mut self, overdue: &[Bought]) {
        for task in overdue {
            let (market, task) = (self.market.clone(), task.clone());
            let mut claim = JoinSet::new();
            claim.spawn(async move { market.claim(task).await });
            let claimed = loop {
                match claim.try_join_next() {
                    Some(claimed) => break claimed,
                    None => sleep(Duration::from_secs(self.plan.block)).await,
                }
                self.next_block().await;
            };
            if let Ok(Err(error)) = claimed {
                tracing::warn!(%error, "a third party cannot claim");
            }
        }
        self.judge.look_at_everything(&self.earth).await;
    }

    /// Whether anything may happen, and how often compared with the mildest.
    fn hardness(&self) -> (bool, u32) {
        match self.plan.climate {
            Climate::Wild => (true, 3),
            Climate::Mild => (false, 1),
            Climate::Drop => (false, 1),
        }
    }

    fn raise_the_curtain(&mut self, actors: &mut JoinSet<()>) {
        let (wild, scale) = self.hardness();
        let drop = self.plan.climate == Climate::Drop;
        *self.weather.lock().expect("nobody panics while holding it") =
            Weather { lost: 20 * scale, doubled: 20 * scale, reordered: 20 * scale, cut: 10 * scale };
        self.earth.state().mood = Mood {
            error: 115 * scale,
            timeout: 13 * scale,
            lost: 300 * scale,
            delayed: 300 * scale,
            doubled: 300 * scale,
            reply_lost: 300 * scale,
            events_missing: 300 * scale,
            events_doubled: 300 * scale,
            head_back: 45 * scale,
            time_forged: if drop { 0 } else { 5 * scale },
        };
        let fate = Fate {
            crashes: if drop { 0 } else { 7_000 },
            within: 1_500,
            down: 20_000,
            disk_full: if drop { 0 } else { 6 * scale },
            database_lost: if drop { 0 } else { 1_000 },
            lives: self.plan.scheduler_lives,
            restart: self.plan.restart,
        };
        actors.spawn(roles::scheduler(self.stage.clone(), fate));
        let liars = match self.plan.climate {
            Climate::Wild => self.chance.within(0..=2) as u32,
            Climate::Mild => self.chance.within(0..=1) as u32,
            Climate::Drop => 0,
        };
        let colluding = if wild && self.chance.hits(3_000) { 2 } else { 0 };
        let tongues = Chance::beside(self.plan.seed, "tongues");
        for number in 0..self.plan.workers {
            let character = match number {
                n if n < liars => Character::Liar,
                n if n < liars + colluding => Character::Colluding,
                _ => Character::Honest,
            };
            let vanishes = match () {
                () if number <= 5 || drop => None,
                () if self.chance.hits(if wild { 1_000 } else { 300 }) => {
                    Some(Vanishes::After(self.chance.within(10_000..=600_000)))
                }
                () => self.chance.hits(1_000).then_some(Vanishes::AtReveal),
            };
            let person = Person {
                number,
                character,
                speed: self.plan.speed.clone(),
                slow: if drop { 0 } else { 100 * scale },
                upload_fails: if drop { 0 } else { 500 * scale },
                upload_hangs: if drop { 0 } else { 100 * scale },
                slots: 2,
                lies: if drop { 0 } else { lies(character, &tongues) },
                vanishes,
            };
            let fate = Fate {
                crashes: if drop { 0 } else { 4_000 },
                within: 2_400,
                down: 20_000 * u64::from(scale),
                disk_full: if drop { 0 } else { 3 * scale },
                database_lost: 0,
                lives: u64::MAX,
                restart: None,
            };
            if person.vanishes.is_some() || person.lies > 0 {
                self.judge.excuse(key(FIRST_WORKER + number).address());
            }
            actors.spawn(roles::worker(self.stage.clone(), person, fate));
        }
    }

    /// What happens to the chain and the nodes between two blocks.
    fn disturb(&mut self, block: u64, second: u64) {
        let (_, scale) = self.hardness();
        // Now and then deeper than what the roles wait for.
        let deepest = match self.plan.climate {
            Climate::Drop => 0,
            Climate::Mild | Climate::Wild => self.plan.depth + u64::from(self.chance.hits(2_000 * scale)) * 2,
        };
        if deepest > 0 && block > 3 && self.chance.hits(100 * scale) {
            let depth = self.chance.within(1..=deepest);
            self.tally.count(Fault::Reorg);
            self.earth.ground.rpc("anvil_reorg", json!([depth, []]));
            self.judge.took_back(depth);
        }
        let mut state = self.earth.state();
        let stray = self.plan.stray.as_ref().filter(|(_, when)| when.contains(&second)).map(|(lag, _)| *lag);
        for (node, lag) in state.lag.iter_mut().enumerate() {
            *lag = match *lag {
                before if node == 2 && stray.is_some() => {
                    let stray = stray.unwrap_or_default();
                    if before != stray {
                        self.tally.count(Fault::NodeAstray);
                    }
                    stray
                }
                lag if lag > 100 => 0,
                0 if self.chance.hits(50 * scale) => {
                    self.tally.count(Fault::NodeLags);
                    self.chance.within(1..=6)
                }
                0 => 0,
                lag if self.chance.hits(1_500) => lag - 1,
                lag => lag,
            };
        }
        state.base_fee = match state.base_fee {
            None | Some(BASE_FEE) if self.chance.hits(30 * scale) => {
                self.tally.count(Fault::FeeSpike);
                Some(self.fees.within(SPIKE))
            }
            None | Some(BASE_FEE) => None,
            Some(_) if self.chance.hits(2_500) => Some(BASE_FEE),
            spike => spike,
        };
    }

    /// From now on nothing goes wrong any more.
    fn calm_down(&self) {
        self.stage.calm.cancel();
        *self.weather.lock().expect("nobody panics while holding it") = Weather::default();
        let mut state = self.earth.state();
        state.base_fee = state.base_fee.map(|_| BASE_FEE);
        (state.mood, state.lag) = (Mood::default(), vec![0; 3]);
    }
}

/// How many of ten thousand reports of a worker say what is not so. Some who compute rightly talk nonsense too.
fn lies(character: Character, tongues: &Chance) -> u32 {
    let lies = match character {
        Character::Honest => tongues.hits(500),
        Character::Liar | Character::Colluding => tongues.hits(5_000),
    };
    if lies { 2_000 } else { 0 }
}

/// Requesters buy bags of tasks over the season.
async fn shop(
    market: Arc<Market>,
    chance: Chance,
    tally: Tally,
    plan: Plan,
    bought: tokio::sync::mpsc::UnboundedSender<Bought>,
) {
    let mut left = plan.tasks;
    let kinds = Chance::beside(plan.seed, "kinds");
    let upset = match plan.climate {
        Climate::Wild => 300,
        Climate::Mild => 100,
        Climate::Drop => 0,
    };
    while left > 0 {
        let size = chance.within(1..=left.min(plan.bag));
        left -= size;
        let trust = plan.trust.unwrap_or_else(|| [0, 1, 2, 4, 5, 5, 8][chance.within(0..=6) as usize]);
        let kind = match () {
            () if plan.climate == Climate::Drop => Kind::Usual,
            () if kinds.hits(1_000) => Kind::Pushed,
            () if kinds.hits(300) => Kind::FitsNobody,
            () => Kind::Usual,
        };
        for task in market.buy(Wish { size, trust, kind }, &chance, &tally, upset).await {
            // The world may have ended.
            let _ = bought.send(task);
        }
        let usual = plan.season * 1000 * size / plan.tasks;
        let pause = if plan.climate == Climate::Drop { usual * 99 / 100 } else { chance.within(0..=2 * usual) };
        sleep(Duration::from_millis(pause)).await;
    }
}
