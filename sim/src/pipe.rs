//! The network between workers and scheduler: loses, doubles, reorders and delays messages, and cuts connections.

use crate::{
    chance::Chance,
    tally::{Fault, Tally},
};
use bourse_protocol::{
    deal::ResultLink,
    link::{Frame, Knock, ToScheduler},
    replicate::{Cause, CauseCode, Status},
};
use bourse_scheduler::Door;
use bourse_service::wire::{Broken, Wire};
use bourse_worker::Dial;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until},
};

/// How bad the network is: parts of 10,000 per message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) lost: u32,
    pub(crate) doubled: u32,
    pub(crate) reordered: u32,
    pub(crate) cut: u32,
}

/// What carries messages one way.
#[derive(Default)]
struct Lane {
    /// By when they arrive, then by when they were sent.
    messages: BTreeMap<(Instant, u64), String>,
    sent: u64,
    latest: Option<Instant>,
    closed: bool,
}

/// A lane with a bell.
#[derive(Default)]
struct Shared {
    lane: Mutex<Lane>,
    bell: Notify,
}

impl Shared {
    fn lane(&self) -> MutexGuard<'_, Lane> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lane().closed = true;
        self.bell.notify_one();
    }
}

/// One end of a connection. Dropping it closes both ways.
pub(crate) struct Pipe {
    out: Arc<Shared>,
    into: Arc<Shared>,
    sky: Sky,
    /// How many of ten thousand reports say what is not so.
    lies: u32,
}

/// What both ends of all connections share.
#[derive(Clone)]
pub(crate) struct Sky {
    pub(crate) weather: Arc<Mutex<Weather>>,
    pub(crate) chance: Chance,
    pub(crate) tally: Tally,
}

impl Sky {
    fn weather(&self) -> Weather {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strikes(&self, chance: u32, fault: Fault) -> bool {
        let strikes = self.chance.hits(chance);
        if strikes {
            self.tally.count(fault);
        }
        strikes
    }
}

fn pair(sky: &Sky) -> (Pipe, Pipe) {
    let (a, b) = (Arc::new(Shared::default()), Arc::new(Shared::default()));
    let end = |out: &Arc<Shared>, into: &Arc<Shared>| Pipe {
        out: out.clone(),
        into: into.clone(),
        sky: sky.clone(),
        lies: 0,
    };
    (end(&a, &b), end(&b, &a))
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.out.close();
        self.into.close();
    }
}

impl Pipe {
    /// What a worker says that does not say what is so: any status at any time, a link under which nothing lies.
    fn lie(&self, text: String) -> String {
        let Ok(Frame::<ToScheduler> { sent, ack, message: Some(message) }) = serde_json::from_str(&text) else {
            return text;
        };
        if !self.sky.strikes(self.lies, Fault::LiesOnLink) {
            return text;
        }
        let task = match message {
            ToScheduler::Report { task, .. } | ToScheduler::Uploaded { task, .. } => task,
            ToScheduler::Draining => return text,
        };
        let chance = &self.sky.chance;
        let status = Status::ALL[chance.within(0..=Status::ALL.len() as u64 - 1) as usize];
        let message = match status {
            Status::ResultUploaded => ToScheduler::Uploaded { task, link: ResultLink::ipfs("/ipfs/nothing".into()) },
            status => {
                let cause = chance.hits(5_000).then(|| Cause::new(CauseCode::OutOfGas, "so it says"));
                ToScheduler::Report { task, status, cause }
            }
        };
        serde_json::to_string(&Frame { sent, ack, message: Some(message) }).unwrap_or(text)
    }
}

impl Wire for Pipe {
    async fn send(&mut self, text: String) -> Result<(), Broken> {
        let text = if self.lies > 0 { self.lie(text) } else { text };
        let weather = self.sky.weather();
        if self.sky.strikes(weather.cut, Fault::ConnectionCut) {
            self.out.close();
            self.into.close();
        }
        let mut lane = self.out.lane();
        if lane.closed {
            return Err(Broken::Closed);
        }
        if self.sky.strikes(weather.lost, Fault::MessageLost) {
            return Ok(());
        }
        let copies = 1 + u32::from(self.sky.strikes(weather.doubled, Fault::MessageDoubled));
        for _ in 0..copies {
            let mut at = Instant::now() + Duration::from_millis(self.sky.chance.within(1..=20));
            match self.sky.strikes(weather.reordered, Fault::MessageReordered) {
                true => at += Duration::from_millis(200),
                // Without the fault the order is kept.
                false => at = lane.latest.map_or(at, |latest| at.max(latest)),
            }
            lane.latest = lane.latest.max(Some(at));
            lane.sent += 1;
            let key = (at, lane.sent);
            lane.messages.insert(key, text.clone());
        }
        drop(lane);
        self.out.bell.notify_one();
        Ok(())
    }

    async fn receive(&mut self) -> Result<Option<String>, Broken> {
        loop {
            let next = {
                let mut lane = self.into.lane();
                match lane.messages.first_key_value().map(|((at, _), _)| *at) {
                    Some(at) if at <= Instant::now() => {
                        return Ok(lane.messages.pop_first().map(|(_, text)| text));
                    }
                    None if lane.closed => return Err(Broken::Closed),
                    next => next,
                }
            };
            match next {
                Some(at) => tokio::select! {
                    biased;
                    () = sleep_until(at) => {}
                    () = self.into.bell.notified() => {}
                },
                None => self.into.bell.notified().await,
            }
        }
    }
}

/// A connection as it arrives, and what the worker says on the way.
type Arrival = (Pipe, Knock);

/// Where the scheduler listens, while it does.
#[derive(Clone, Default)]
pub(crate) struct Address {
    listener: Arc<Mutex<Option<mpsc::UnboundedSender<Arrival>>>>,
    /// Connections that are served.
    served: Arc<AtomicUsize>,
}

impl Address {
    /// How many workers are connected.
    pub(crate) fn connections(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// Whether the scheduler is there.
    pub(crate) fn is_served(&self) -> bool {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        listener.as_ref().is_some_and(|listener| !listener.is_closed())
    }

    /// Takes connections until the returned receiver is dropped.
    pub(crate) fn listen(&self) -> mpsc::UnboundedReceiver<Arrival> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }
}

/// Serves what arrives at an address.
pub(crate) async fn serve(place: Address, mut arriving: mpsc::UnboundedReceiver<Arrival>, door: Door) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        place.served.store(connections.len(), Ordering::Relaxed);
        tokio::select! {
            biased;
            pipe = arriving.recv() => match pipe {
                Some((pipe, knock)) => {
                    let door = door.clone();
                    connections.spawn(async move { door.serve(pipe, knock).await });
                }
                None => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A worker's way to the scheduler.
pub(crate) struct Dialer {
    pub(crate) address: Address,
    pub(crate) sky: Sky,
    /// How many of ten thousand reports say what is not so.
    pub(crate) lies: u32,
}

impl Dial for Dialer {
    type Wire = Pipe;

    async fn dial(&mut self, knock: Knock) -> Result<Pipe, Broken> {
        tokio::time::sleep(Duration::from_millis(self.sky.chance.within(1..=20))).await;
        let (mut ours, theirs) = pair(&self.sky);
        ours.lies = self.lies;
        let listener = self.address.listener.lock().unwrap_or_else(PoisonError::into_inner).clone();
        listener.ok_or(Broken::Closed)?.send((theirs, knock)).map_err(|_| Broken::Closed)?;
        Ok(ours)
    }
}
