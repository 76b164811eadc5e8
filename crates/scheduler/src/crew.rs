//! The workers of the pool: who is there, what each can do and how well it did, and who is served next. Pure but for
//! the channels to the connections.

mod deposit;
mod idle;

use crate::link::{Applicant, Outbox, QUEUE};
use bourse_chain::hub::Account;
use bourse_protocol::{
    Address, B256, U256, consensus,
    deal::Deal,
    link::{Capabilities, Frame, Greeting, LOST_SECONDS, Session, ToWorker, Welcome},
    money::Nrlc,
    orders::{TAG_GPU, TAG_TEE},
};
use deposit::Deposit;
use idle::{Idle, Rank, Seat};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Workers that one scheduler serves at most.
const MAX_WORKERS: usize = 20_000;
/// One wallet is given so many replicates at a time at most, whatever it says of itself.
const MAX_SLOTS: u32 = 64;
/// A worker is found by so many of the app types that it names at most: each is a line to stand in.
const MAX_APP_TYPES: usize = 16;
/// Who is refused because another connection holds its place is asked to wait this long, in seconds.
const OCCUPIED: u64 = 5;
/// A worker that failed rests this long before more work, doubling with each failure in a row, in seconds.
const REST: u64 = 5;
/// The longest rest, in seconds.
const LONGEST_REST: u64 = 60;
/// Failures in a row that make a difference.
const MAX_STRIKES: u32 = 6;

/// The pool's answer to a login.
#[derive(Debug)]
pub(crate) enum Admission {
    /// Come in.
    In { welcome: Welcome, session: Session<ToWorker>, missed: Vec<Frame<ToWorker>>, inbox: mpsc::Receiver<ToWorker> },
    /// Stay out.
    Out(Greeting),
}

/// What a task needs of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Need {
    pub(crate) app_type: String,
    pub(crate) tee: bool,
    pub(crate) gpu: bool,
    /// What a worker must have in the hub to put at stake.
    pub(crate) stake: Nrlc,
}

/// The least machine that a pool gives work to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Floor {
    /// Logical CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Room on the disk, in MiB.
    pub disk_mib: u64,
}

impl Need {
    pub(crate) fn new(app_type: String, deal: &Deal) -> Self {
        let asks_for = |bit: B256| deal.tag & bit != B256::ZERO;
        Self { app_type, tee: asks_for(TAG_TEE), gpu: asks_for(TAG_GPU), stake: deal.worker_stake }
    }

    /// What `machine` lacks, in plain words; `None` if nothing.
    fn lacks(&self, machine: &Capabilities) -> Option<String> {
        match machine {
            m if !m.app_types.contains(&self.app_type) => Some(format!("apps of type {:?}", self.app_type)),
            m if self.tee && m.tee.is_empty() => Some("an enclave".into()),
            m if self.gpu && m.gpus == 0 => Some("a graphics processor".into()),
            _ => None,
        }
    }
}

impl Floor {
    /// What `machine` lacks, in plain words; `None` if nothing.
    fn lacks(&self, machine: &Capabilities) -> Option<String> {
        let Self { cpus, memory_mib, disk_mib } = *self;
        match machine {
            m if m.cpus < cpus => Some(format!("{cpus} CPUs")),
            m if m.memory_mib < memory_mib => Some(format!("{memory_mib} MiB of memory")),
            m if m.disk_mib < disk_mib => Some(format!("{disk_mib} MiB of disk")),
            _ => None,
        }
    }
}

/// The workers.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    workers: BTreeMap<Address, Worker>,
    /// Those with a free slot.
    idle: Idle,
    /// Those whose standing is to be read again, after this block.
    doubted: BTreeMap<Address, u64>,
    /// Those that rest, by when they are fit again.
    resting: BTreeSet<(u64, Address)>,
    /// Counts up whenever a worker becomes idle.
    turn: u64,
    /// Wallets that may work here; everybody if there is no list.
    allowed: Option<BTreeSet<Address>>,
}

/// A wallet that has worked or works here.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) capabilities: Capabilities,
    place: Place,
    last_alive: u64,
    /// Its consensus weight.
    weight: U256,
    /// What it has in the hub.
    deposit: Deposit,
    /// The hub has nothing of it, neither free nor locked, as far as was read.
    bare: bool,
    /// Replicates that it may still contribute to.
    load: u32,
    strikes: u32,
    rests_until: u64,
    draining: bool,
    /// Why it gets nothing, as it was told last in this session.
    told: Option<String>,
    turn: u64,
}

/// Where a worker is.
#[derive(Debug)]
enum Place {
    Here {
        connection: u64,
        session: u64,
        outbox: Outbox,
        last_alive: Arc<AtomicU64>,
    },
    /// Its old connection was let go of and has not brought the session back; meanwhile this was said.
    Closing {
        connection: u64,
        session: u64,
        said: Vec<ToWorker>,
    },
    Away {
        session: Option<(u64, Session<ToWorker>)>,
    },
}

impl Worker {
    fn new(capabilities: Capabilities) -> Self {
        Self {
            name: String::new(),
            capabilities,
            place: Place::Away { session: None },
            last_alive: 0,
            weight: consensus::weight(U256::ZERO),
            deposit: Deposit::UNREAD,
            bare: false,
            load: 0,
            strikes: 0,
            rests_until: 0,
            draining: false,
            told: None,
            turn: 0,
        }
    }

    fn is_here(&self) -> bool {
        matches!(self.place, Place::Here { .. })
    }

    fn last_alive(&self) -> u64 {
        match &self.place {
            Place::Here { last_alive, .. } => last_alive.load(Ordering::Relaxed).max(self.last_alive),
            Place::Closing { .. } | Place::Away { .. } => self.last_alive,
        }
    }

    fn takes_work(&self) -> bool {
        self.is_here() && !self.draining && self.rests_until == 0 && self.load < self.capabilities.slots
    }

    fn rank(&self) -> Rank {
        (self.strikes, self.turn)
    }

    /// Where it stands among the idle, if it is one.
    fn seat(&self, idle: &Idle) -> Option<Seat> {
        if !self.takes_work() {
            return None;
        }
        idle.place(self.deposit.left(), &self.capabilities, self.rank())
    }
}

impl Crew {
    /// Nobody yet; only those in `allowed` may come, if there is a list, and no machine below the floor gets work.
    pub(crate) fn of(allowed: Option<BTreeSet<Address>>, floor: Floor) -> Self {
        Self { allowed, idle: Idle::above(floor), ..Self::default() }
    }

    /// A worker logged in.
    pub(crate) fn join(&mut self, worker: Address, applicant: Applicant, welcome: Welcome, now: u64) -> Admission {
        if self.allowed.as_ref().is_some_and(|list| !list.contains(&worker)) {
            let reason = format!("wallet {worker} is not on this pool's list of workers: ask its operator");
            return Admission::Out(Greeting::Refused { reason, retry_seconds: 10 * LOST_SECONDS });
        }
        if !self.workers.contains_key(&worker) && self.workers.len() >= MAX_WORKERS && !self.forget_one() {
            let reason = format!("this pool serves {MAX_WORKERS} workers and all places are taken: come again later");
            return Admission::Out(Greeting::Busy { reason, retry_seconds: LOST_SECONDS });
        }
        let known = self.workers.entry(worker).or_insert_with(|| Worker::new(applicant.capabilities.clone()));
        let resumes = |session: u64| applicant.resume.is_some_and(|resume| resume.session == session);
        let closing = match &known.place {
            Place::Here { connection, session, .. } if resumes(*session) => {
                // Its old connection is dead: letting go of it brings the session back in a moment.
                let (connection, session) = (*connection, *session);
                self.change(worker, |w| w.place = Place::Closing { connection, session, said: vec![] });
                true
            }
            Place::Here { .. } if now < known.last_alive() + LOST_SECONDS => {
                let reason = format!(
                    "wallet {worker} is connected already: a wallet serves one worker at a time; stop the other one or use another key"
                );
                return Admission::Out(Greeting::Refused { reason, retry_seconds: OCCUPIED });
            }
            Place::Closing { session, .. } => resumes(*session),
            Place::Here { .. } | Place::Away { .. } => false,
        };
        if closing {
            let reason = "the connection before this one is being closed: come again in a moment".into();
            return Admission::Out(Greeting::Busy { reason, retry_seconds: 1 });
        }
        self.admit(worker, applicant, welcome, now)
    }

    /// Forgets who has been away longest, or else who waited longest of those that the hub has nothing of; nobody who has work.
    /// Says whether there was one. For keys cost nothing: without this a stranger with many would keep all others out.
    fn forget_one(&mut self) -> bool {
        let expendable = |w: &&Worker| w.load == 0 && (matches!(w.place, Place::Away { .. }) || w.bare);
        let all = self.workers.iter().filter(|(_, w)| expendable(w));
        let first = all.min_by_key(|(_, w)| (w.is_here(), if w.is_here() { w.turn } else { w.last_alive }));
        let Some(first) = first.map(|(address, _)| *address) else { return false };
        // Its connection ends with the outbox.
        self.change(first, |w| w.place = Place::Away { session: None });
        if let Some(worker) = self.workers.remove(&first) {
            self.resting.remove(&(worker.rests_until, first));
        }
        true
    }

    fn admit(&mut self, worker: Address, applicant: Applicant, mut welcome: Welcome, now: u64) -> Admission {
        let Applicant { name, mut capabilities, version, resume, draining, connection, last_alive } = applicant;
        capabilities.slots = capabilities.slots.min(MAX_SLOTS);
        capabilities.app_types.truncate(MAX_APP_TYPES);
        let left = match self.workers.get_mut(&worker).map(|w| &mut w.place) {
            Some(Place::Away { session }) => session.take(),
            Some(Place::Here { .. } | Place::Closing { .. }) | None => None,
        };
        let resumed = left.zip(resume).and_then(|((id, mut session), resume)| {
            let missed = session.resume(resume.received).ok().filter(|_| id == resume.session)?;
            Some((id, session, missed))
        });
        welcome.version = version;
        welcome.resumed = resumed.is_some();
        if let Some(known) = self.workers.get_mut(&worker).filter(|_| resumed.is_none()) {
            known.told = None;
        }
        let (id, session, missed) = resumed.unwrap_or_else(|| (connection, Session::default(), vec![]));
        (welcome.session, welcome.received) = (id, session.received());
        let (outbox, inbox) = mpsc::channel(QUEUE);
        self.turn += 1;
        let turn = self.turn;
        self.change(worker, |w| {
            (w.name, w.capabilities, w.last_alive) = (name, capabilities, now);
            w.place = Place::Here { connection, session: id, outbox, last_alive };
            if !welcome.resumed {
                (w.draining, w.turn) = (draining, turn);
            }
        });
        Admission::In { welcome, session, missed, inbox }
    }

    /// A connection ended. Says whether it was the worker's present one.
    pub(crate) fn leave(&mut self, worker: Address, connection: u64, session: Option<Session<ToWorker>>) -> bool {
        let Some(known) = self.workers.get_mut(&worker) else { return false };
        match &mut known.place {
            Place::Here { connection: present, session: id, last_alive, .. } if *present == connection => {
                let (id, last) = (*id, last_alive.load(Ordering::Relaxed));
                self.change(worker, |w| {
                    w.last_alive = w.last_alive.max(last);
                    w.place = Place::Away { session: session.map(|s| (id, s)) };
                });
                true
            }
            Place::Closing { connection: old, session: id, said } if *old == connection => {
                let (id, said) = (*id, std::mem::take(said));
                let session = session.and_then(|mut session| {
                    said.into_iter().try_for_each(|message| session.say(message).map(drop)).ok()?;
                    Some((id, session))
                });
                self.change(worker, |w| w.place = Place::Away { session });
                false
            }
            Place::Here { .. } | Place::Closing { .. } | Place::Away { .. } => false,
        }
    }

    /// Whether this connection is the worker's present one.
    pub(crate) fn is_current(&self, worker: Address, connection: u64) -> bool {
        matches!(self.workers.get(&worker).map(|w| &w.place), Some(Place::Here { connection: c, .. }) if *c == connection)
    }

    pub(crate) fn is_here(&self, worker: Address) -> bool {
        self.workers.get(&worker).is_some_and(Worker::is_here)
    }

    /// A message for a worker. One that is away hears it when it resumes its session; one that begins a new session is
    /// told everything that holds then.
    pub(crate) fn tell(&mut self, worker: Address, message: ToWorker) {
        let Some(known) = self.workers.get_mut(&worker) else { return };
        if matches!(message, ToWorker::Assign(_) | ToWorker::GoOn { .. }) {
            known.told = None;
        }
        let lost = match &mut known.place {
            Place::Here { outbox, .. } => outbox.try_send(message).is_err(),
            Place::Closing { said, .. } if said.len() < QUEUE => {
                said.push(message);
                false
            }
            Place::Closing { .. } => true,
            Place::Away { session: Some((_, session)) } => session.say(message).is_err(),
            Place::Away { session: None } => false,
        };
        if lost {
            warn!(%worker, "closing: the worker does not read its messages");
            self.change(worker, |w| w.place = Place::Away { session: None });
        }
    }

    /// Tells one that is here and idle why it gets nothing, once: a worker with many replicates says many things at once.
    pub(crate) fn say_no_work(&mut self, worker: Address, waiting: &[&Need]) {
        let Some(known) = self.workers.get_mut(&worker).filter(|w| w.is_here() && w.load == 0) else { return };
        let (first, left) = (waiting.first(), known.deposit.left());
        let lack = first
            .and_then(|need| need.lacks(&known.capabilities).or_else(|| self.idle.floor().lacks(&known.capabilities)));
        let reason = match (lack, first.filter(|need| need.stake > left)) {
            _ if known.draining => return,
            _ if known.rests_until > 0 => format!("its last {} tasks failed: it rests for a while", known.strikes),
            (Some(lack), _) => format!("{} tasks wait, and they need {lack}", waiting.len()),
            // It is told once its deposit is read.
            (None, Some(_)) if known.deposit.read().is_none() => return,
            (None, Some(need)) => format!(
                "{} tasks wait, and a worker puts {} RLC at stake for one: {left} RLC of its deposit in the hub are free; deposit more",
                waiting.len(),
                need.stake
            ),
            (None, None) => "no task waits: it is told when one does".into(),
        };
        if known.told.as_ref() == Some(&reason) {
            return;
        }
        known.told = Some(reason.clone());
        self.tell(worker, ToWorker::NoWork { reason });
    }

    pub(crate) fn drain(&mut self, worker: Address) {
        info!(%worker, "finishes what it has and takes no more");
        self.change(worker, |w| w.draining = true);
    }

    /// Who gets a task with this need next, of those not in `taken`.
    pub(crate) fn candidate(&self, need: &Need, taken: impl Fn(Address) -> bool) -> Option<Address> {
        self.idle.first(need, taken)
    }

    /// Tasks here put down this stake.
    pub(crate) fn expect_stake(&mut self, stake: Nrlc) {
        for worker in self.idle.expect(stake) {
            if let Some(seat) = self.workers.get(&worker).and_then(|known| known.seat(&self.idle)) {
                self.idle.seat(seat, worker);
            }
        }
    }

    /// Whether a worker could put down this stake.
    pub(crate) fn can_stake(&self, worker: Address, stake: Nrlc) -> bool {
        self.workers.get(&worker).is_some_and(|w| w.deposit.left() >= stake)
    }

    /// Whether there is a task here whose stake a worker could not put down.
    pub(crate) fn is_short(&self, worker: Address) -> bool {
        self.idle.dearest().is_some_and(|dearest| !self.can_stake(worker, dearest))
    }

    /// Whether anybody who could get work is idle at all.
    pub(crate) fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// How many workers have a free slot and can put down a stake that is one of a task here.
    pub(crate) fn idle_count(&self, stake: Nrlc) -> usize {
        self.idle.count(stake)
    }

    /// This scheduler itself was away for so long: nobody could be heard, and nobody was silent.
    pub(crate) fn forgive(&mut self, now: u64) {
        self.workers.values_mut().for_each(|w| w.last_alive = now);
    }

    /// A worker of an earlier life of this scheduler: it has as much time to come back as one that falls silent now.
    pub(crate) fn remember(&mut self, worker: Address, now: u64) {
        let new = Worker::new(Capabilities::default());
        let remembered = || Worker { last_alive: now, deposit: Deposit::TRUSTED, ..new };
        self.workers.entry(worker).or_insert_with(remembered);
    }

    /// A worker has one more replicate that it may contribute to, with this stake. With what is free it stands at the end of
    /// the line.
    pub(crate) fn load(&mut self, worker: Address, stake: Nrlc) {
        self.turn += 1;
        let turn = self.turn;
        self.change(worker, |w| {
            (w.load, w.turn) = (w.load + 1, turn);
            w.deposit.pledge(stake);
        });
    }

    /// It has one less: it `voted`, and its stake is locked, or it will not contribute. Then it may have had no stake to put
    /// down: it gets nothing that needs one before its deposit is read again. It too stands at the end of the line.
    pub(crate) fn unload(&mut self, worker: Address, stake: Nrlc, voted: bool) {
        self.turn += 1;
        let turn = self.turn;
        self.change(worker, |w| {
            (w.load, w.turn) = (w.load.saturating_sub(1), turn);
            match voted {
                true => w.deposit.lock(stake),
                false => w.deposit.give_up(stake),
            }
        });
        // What was read last may have known of the vote already.
        if !voted || self.is_short(worker) {
            self.doubt(worker, 0);
        }
    }

    /// The standing of a worker is to be read again, as it is after a block.
    pub(crate) fn doubt(&mut self, worker: Address, block: u64) {
        let after = self.doubted.entry(worker).or_default();
        *after = block.max(*after);
    }

    /// Those whose standing is to be read again, each after a block, once.
    pub(crate) fn take_doubted(&mut self) -> BTreeMap<Address, u64> {
        std::mem::take(&mut self.doubted)
    }

    /// It did well.
    pub(crate) fn praise(&mut self, worker: Address) {
        self.change(worker, |w| (w.strikes, w.rests_until) = (w.strikes / 2, 0));
    }

    /// It failed: it is served after the others, and rests for a while.
    pub(crate) fn blame(&mut self, worker: Address, now: u64) {
        self.change(worker, |w| {
            let rest = (REST << w.strikes).min(LONGEST_REST);
            (w.strikes, w.rests_until) = ((w.strikes + 1).min(MAX_STRIKES), now + rest);
        });
    }

    /// Those whose rest is over take work again, and those who would rest longer than anybody does: time was set back. Says
    /// whether there are any.
    pub(crate) fn wake(&mut self, now: u64) -> bool {
        let last = Address::repeat_byte(0xff);
        let over = self.resting.range(..=(now, last));
        let endless = self.resting.range((Excluded((now.saturating_add(LONGEST_REST), last)), Unbounded));
        let rested: Vec<_> = over.chain(endless).map(|(_, w)| *w).collect();
        rested.iter().for_each(|worker| self.change(*worker, |w| w.rests_until = 0));
        !rested.is_empty()
    }

    /// Failures of late.
    #[cfg(test)]
    pub(crate) fn strikes(&self, worker: Address) -> u32 {
        self.workers.get(&worker).map_or(0, |w| w.strikes)
    }

    pub(crate) fn weight(&self, worker: Address) -> U256 {
        self.workers.get(&worker).map_or_else(|| consensus::weight(U256::ZERO), |w| w.weight)
    }

    /// What the hub says of a worker: its score, and what of its deposit is free and locked.
    pub(crate) fn set_standing(&mut self, worker: Address, score: U256, Account { stake: free, locked }: Account) {
        self.turn += 1;
        let turn = self.turn;
        self.change(worker, |w| {
            w.weight = consensus::weight(score);
            w.bare = (free, locked) == (Nrlc::ZERO, Nrlc::ZERO);
            w.deposit.is_read(free, turn);
        });
    }

    /// Idle ones that could not put down the dearest stake of the tasks here when their deposits were read, at most so many:
    /// those first that were read longest ago.
    pub(crate) fn poor(&self, most: usize) -> Vec<Address> {
        let read = |worker: Address| Some((self.workers.get(&worker)?.deposit.read()?, worker));
        let mut poor: Vec<_> = self.idle.poor().filter_map(read).collect();
        poor.sort_unstable();
        poor.into_iter().take(most).map(|(_, worker)| worker).collect()
    }

    /// Whether a wallet is known here.
    pub(crate) fn knows(&self, worker: Address) -> bool {
        self.workers.contains_key(&worker)
    }

    pub(crate) fn name(&self, worker: Address) -> String {
        self.workers.get(&worker).map(|w| w.name.clone()).unwrap_or_default()
    }

    /// Workers of whom nothing was heard for too long and who are missed, and since when. Their sessions are over.
    pub(crate) fn lost(&mut self, now: u64, missed: impl Fn(Address) -> bool) -> Vec<(Address, u64)> {
        let lost = |(a, w): &(&Address, &Worker)| now >= w.last_alive() + LOST_SECONDS && missed(**a);
        let lost: Vec<_> = self.workers.iter().filter(lost).map(|(a, w)| (*a, w.last_alive())).collect();
        lost.iter().for_each(|(worker, _)| self.change(*worker, |w| w.place = Place::Away { session: None }));
        lost
    }

    /// Everybody: wallet, worker, connected, last sign of life.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Address, &Worker, bool, u64)> {
        self.workers.iter().map(|(address, w)| (*address, w, w.is_here(), w.last_alive()))
    }

    /// How many are known, and how many of them are connected.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.workers.len(), self.workers.values().filter(|w| w.is_here()).count())
    }

    /// Every change of a worker goes through here, so that the indices are always true.
    fn change(&mut self, worker: Address, change: impl FnOnce(&mut Worker)) {
        let Some(known) = self.workers.get_mut(&worker) else { return };
        let (before, rested) = (known.seat(&self.idle), known.rests_until);
        change(known);
        let (after, rests) = (known.seat(&self.idle), known.rests_until);
        if before != after {
            if let Some(seat) = before {
                self.idle.unseat(&seat, worker);
            }
            if let Some(seat) = after {
                self.idle.seat(seat, worker);
            }
        }
        self.resting.remove(&(rested, worker));
        if rests > 0 {
            self.resting.insert((rests, worker));
        }
    }
}

#[cfg(test)]
mod tests;
