//! The scheduler and the workers, life after life.

use crate::{
    chance::Chance,
    life::{Crash, Life},
    machine::{Computer, Store},
    market::{FIRST_WORKER, OWNER, key},
    node::{Earth, Node},
    pipe::{self, Address as Place, Dialer, Sky},
    tally::{Fault, Tally},
};
use bourse_chain::{Client, GasPolicy, Hub, Settings};
use bourse_protocol::{Address, B256, link::Backoff};
use bourse_service::{CancellationToken, clock::Clock, journal::Journal};
use std::{sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::sleep};

/// How a role fares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    /// How often a life is one that crashes, in parts of 10,000.
    pub(crate) crashes: u32,
    /// Crashes come within so many points.
    pub(crate) within: u64,
    /// How long it stays down, in milliseconds.
    pub(crate) down: u64,
    /// How often the disk has no room, in parts of 10,000 per commit.
    pub(crate) disk_full: u32,
    /// How often its database is gone when it comes back, in parts of 10,000.
    pub(crate) database_lost: u32,
    /// Never comes back after this many lives.
    pub(crate) lives: u64,
    /// Is stopped and started again at this second.
    pub(crate) restart: Option<u64>,
}

/// What all roles share.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) earth: Arc<Earth>,
    pub(crate) hub: Address,
    pub(crate) workerpool: Address,
    pub(crate) store: Store,
    pub(crate) place: Place,
    pub(crate) sky: Sky,
    pub(crate) clock: Clock,
    pub(crate) chance: Chance,
    /// Of what is lost between two lives.
    pub(crate) losses: Chance,
    pub(crate) tally: Tally,
    pub(crate) settings: Settings,
    /// From then on nothing crashes.
    pub(crate) calm: CancellationToken,
}

impl Stage {
    /// A client over two nodes of one's own.
    fn hub(&self, index: usize, life: &Life) -> Hub {
        let node = |index: usize| {
            let (earth, life) = (self.earth.clone(), life.clone());
            (format!("node-{index}"), Node { earth, index, life, honest: false }.client())
        };
        Hub::new(Client::new(vec![node(index), node((index + 1) % 3)], self.settings.clone()), self.hub)
    }

    fn life(&self, fate: Fate) -> Life {
        let calm = self.calm.is_cancelled();
        let crashes = !calm && self.chance.hits(fate.crashes);
        let crash_at = crashes.then(|| self.chance.within(1..=fate.within));
        let disk_full = if calm { 0 } else { fate.disk_full };
        Life::new(crash_at, disk_full, self.chance.clone(), self.tally.clone())
    }
}

/// Runs the scheduler until it has no lives left.
pub(crate) async fn scheduler(mut stage: Stage, fate: Fate) {
    let mut journal = Journal::in_memory(bourse_scheduler::SCHEMA).expect("memory is there");
    for n in 0.. {
        let life = stage.life(fate);
        if n > 0 && !stage.calm.is_cancelled() && stage.losses.hits(fate.database_lost) {
            stage.tally.count(Fault::DatabaseLost);
            journal = Journal::in_memory(bourse_scheduler::SCHEMA).expect("memory is there");
            // A new store draws a tag of its own: what it has sent itself must not look like another process's for long.
            stage.settings.tag = Some(stage.losses.within(0..=255) as u8);
        }
        tracing::info!(life = n, "the scheduler starts");
        let mut running = JoinSet::new();
        running.spawn(scheduler_life(stage.clone(), life.clone(), journal.clone()));
        let restart = fate.restart.filter(|_| n == 0).map(Duration::from_secs);
        let own = life.clone();
        running.spawn(async move {
            match restart {
                Some(after) => sleep(after).await,
                None => std::future::pending().await,
            }
            own.end();
        });
        until_the_end(&life, &mut running).await;
        stage.tally.count(Fault::SchedulerCrash);
        if n + 1 >= fate.lives {
            tracing::info!("the scheduler never comes back");
            return;
        }
        sleep(Duration::from_millis(stage.chance.within(500..=fate.down))).await;
    }
}

/// Ends when the life does, or the role by itself.
async fn until_the_end(life: &Life, running: &mut JoinSet<()>) {
    tokio::select! {
        biased;
        () = life.ended() => {}
        Some(ended) = running.join_next() => {
            if let Err(error) = ended
                && error.is_panic()
            {
                let panic = error.into_panic();
                if !panic.is::<Crash>() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
    life.end();
    running.shutdown().await;
}

async fn scheduler_life(stage: Stage, life: Life, journal: Journal) {
    let hub = stage.hub(0, &life);
    let witness = life.clone();
    let journal = journal.witnessed(Arc::new(move |moment| witness.witness(moment)));
    let config = bourse_scheduler::Config {
        clock: stage.clock.clone(),
        full_pass: Duration::from_secs(30),
        // The largest deals here have five tasks: the rest of some comes later.
        bag: 3,
        reconnect: Backoff { first_millis: 250, longest_millis: 8_000 },
        secret: B256::from(stage.chance.bytes()),
        ..bourse_scheduler::Config::new(stage.workerpool, std::path::PathBuf::new())
    };
    let results = Arc::new(stage.store.clone());
    let opened = loop {
        let opened =
            bourse_scheduler::Service::over(config.clone(), key(OWNER), hub.clone(), journal.clone(), results.clone());
        match opened.await {
            Ok(opened) => break opened,
            Err(error) => {
                tracing::info!(%error, "the scheduler does not start");
                sleep(Duration::from_secs(2)).await;
            }
        }
    };
    let (service, lane) = opened;
    let stop = CancellationToken::new();
    let mut parts = JoinSet::new();
    let door = service.door();
    parts.spawn(pipe::serve(stage.place.clone(), stage.place.listen(), door));
    let token = stop.clone();
    parts.spawn(async move { lane.run(token).await });
    parts.spawn(async move {
        if let Err(error) = service.work(stop).await {
            tracing::info!(%error, "the scheduler stops");
        }
    });
    // Whichever part ends, the role has ended.
    if let Some(Err(error)) = parts.join_next().await
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// What a worker is like.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) number: u32,
    pub(crate) character: crate::machine::Character,
    pub(crate) speed: std::ops::RangeInclusive<u64>,
    pub(crate) slow: u32,
    pub(crate) upload_fails: u32,
    pub(crate) upload_hangs: u32,
    pub(crate) slots: u32,
    /// How many of ten thousand reports to the scheduler say what is not so.
    pub(crate) lies: u32,
    pub(crate) vanishes: Option<Vanishes>,
}

/// When a worker leaves for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vanishes {
    /// After so many milliseconds.
    After(u64),
    /// When it would send its first reveal.
    AtReveal,
}

/// Runs a worker until it vanishes.
pub(crate) async fn worker(stage: Stage, person: Person, fate: Fate) {
    let journal = Journal::in_memory(bourse_worker::SCHEMA).expect("memory is there");
    let lives = async {
        for n in 0.. {
            let mut life = stage.life(fate);
            if person.vanishes == Some(Vanishes::AtReveal) {
                life = life.ending_at_reveal();
            }
            tracing::info!(worker = person.number, life = n, "the worker starts");
            let mut running = JoinSet::new();
            running.spawn(worker_life(stage.clone(), life.clone(), journal.clone(), person.clone()));
            until_the_end(&life, &mut running).await;
            if life.is_over() {
                return;
            }
            stage.tally.count(Fault::WorkerCrash);
            sleep(Duration::from_millis(stage.chance.within(500..=fate.down))).await;
        }
    };
    match person.vanishes {
        None => lives.await,
        Some(Vanishes::AtReveal) => {
            lives.await;
            stage.tally.count(Fault::RevealerVanishes);
        }
        Some(Vanishes::After(time)) => {
            // It is the end of the time that ends it.
            let _ = tokio::time::timeout(Duration::from_millis(time), lives).await;
            stage.tally.count(Fault::WorkerVanishes);
        }
    }
}

async fn worker_life(stage: Stage, life: Life, journal: Journal, person: Person) {
    let hub = stage.hub(person.number as usize % 3, &life);
    let witness = life.clone();
    let journal = journal.witnessed(Arc::new(move |moment| witness.witness(moment)));
    let wallet = key(FIRST_WORKER + person.number);
    let machine = Arc::new(Computer {
        wallet: wallet.address(),
        character: person.character,
        speed: person.speed.clone(),
        slow: person.slow,
        upload_fails: person.upload_fails,
        upload_hangs: person.upload_hangs,
        store: stage.store.clone(),
        chance: stage.chance.clone(),
        tally: stage.tally.clone(),
    });
    let name = format!("worker-{}", person.number);
    let config = bourse_worker::Config {
        slots: person.slots,
        min_cpus: 1,
        poll: stage.settings.poll,
        clock: stage.clock.clone(),
        gas: GasPolicy::default(),
        ..bourse_worker::Config::new(name, "ws://nowhere", stage.workerpool, std::path::PathBuf::new())
    };
    let service = loop {
        let opened =
            bourse_worker::Service::over(config.clone(), wallet.clone(), hub.clone(), journal.clone(), machine.clone());
        match opened.await {
            Ok(service) => break service,
            Err(error) => {
                tracing::info!(worker = person.number, %error, "the worker does not start");
                sleep(Duration::from_secs(2)).await;
            }
        }
    };
    let dialer = Dialer { address: stage.place.clone(), sky: stage.sky.clone(), lies: person.lies };
    if let Err(error) = service.run_over(dialer, CancellationToken::new(), CancellationToken::new()).await {
        panic!("worker {} ends by itself: {error}", person.number);
    }
}
