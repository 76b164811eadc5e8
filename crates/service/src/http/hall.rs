//! Who is in: places for connections, and who of them has not asked for anything.
//!
//! A connection that has sent half a request costs its owner nothing and us a file. It is closed after a while; and when
//! such connections take more than half of all places, the one that has waited longest is closed for each that comes, of
//! the address that has most of them. One that has just come is spared for a moment: a pool's workers may all come back at
//! once, from one address.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// How often it is looked whether somebody waits too long, or a place has become free.
const LOOK: Duration = Duration::from_millis(100);

/// Files that a process needs besides the connections to its service: journals, and connections of its own.
const REST: u64 = 96;

/// How many may be in, and how long they may say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Connections at once.
    pub(super) places: usize,
    /// A request must have come this long after its first byte, the first one after the connection.
    pub(super) request: Duration,
    /// A connection that had an answer may ask nothing for so long. Clients close theirs earlier: 90 s is usual.
    pub(super) idle: Duration,
    /// An answer of which nothing is read for so long is broken off.
    pub(super) unread: Duration,
    /// Whoever has waited for less is not sent away to make room.
    pub(super) spared: Duration,
}

impl Limits {
    /// For a process that may open so many files: [`REST`] are left to the rest of it. Services that share a process share
    /// its files, and may find none left before these limits are reached.
    pub(super) fn within(files: u64) -> Self {
        let places = files.saturating_sub(REST).max(files / 2);
        Self {
            places: usize::try_from(places).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS),
            request: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            // Sockets say that there is room only when much has been read: slow readers need longer than it seems.
            unread: Duration::from_secs(120),
            spared: Duration::from_secs(1),
        }
    }

    /// For this process.
    pub(super) fn of_this_process() -> Self {
        use rustix::process::{Resource, getrlimit};
        Self::within(getrlimit(Resource::Nofile).current.unwrap_or(u64::from(u32::MAX)))
    }
}

/// The places of one service.
#[derive(Debug)]
pub(super) struct Hall {
    limits: Limits,
    places: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
}

/// Those who have a place and have not sent a whole request, by number, the first the longest there.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    guests: BTreeMap<u64, Silent>,
}

#[derive(Debug)]
struct Silent {
    address: IpAddr,
    since: Instant,
    /// It has begun a request, or has just come.
    begun: bool,
    out: CancellationToken,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Guest {
    hall: Arc<Hall>,
    address: IpAddr,
    /// Its number while it waits.
    number: Mutex<Option<u64>>,
    /// It had an answer and has said nothing since.
    idle: AtomicBool,
    /// It has to go.
    pub(super) out: CancellationToken,
}

impl Hall {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(limits.places));
        Arc::new(Self { limits, places, waiting: Mutex::default() })
    }

    /// Waits for a free place. Where there is none, somebody who has waited longest for nothing has to go.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            if self.waiting().guests.len() > self.limits.places / 2 || self.places.available_permits() == 0 {
                self.make_room();
            }
            if let Ok(place) = tokio::time::timeout(LOOK, self.places.clone().acquire_owned()).await {
                return place.expect("nobody closes the hall");
            }
        }
    }

    /// Waits after a connection could not be taken. That the process has no files left passes when somebody goes.
    pub(super) async fn not_taken(&self, error: &io::Error) {
        use rustix::io::Errno;
        let no_files = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].map(Errno::raw_os_error);
        if !error.raw_os_error().is_some_and(|code| no_files.contains(&code)) {
            // The other side has gone.
            return;
        }
        tracing::warn!(%error, "a connection cannot be taken: waiting until another one ends");
        self.make_room();
        tokio::time::sleep(LOOK).await;
    }

    /// Sends away, now and then, who has not finished a request in time.
    pub(super) async fn send_away_the_late(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let late = |guest: &Silent| {
                guest.since.elapsed() >= if guest.begun { self.limits.request } else { self.limits.idle }
            };
            self.waiting().guests.values().filter(|guest| late(guest)).for_each(|guest| guest.out.cancel());
        }
    }

    /// A connection that has a place.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Arc<Guest> {
        let (number, idle, out) = (Mutex::new(None), AtomicBool::new(false), CancellationToken::new());
        let guest = Guest { hall: self.clone(), address, number, idle, out };
        guest.waits(true);
        Arc::new(guest)
    }

    /// Sends away who has waited longest of the address that has most who wait.
    fn make_room(&self) {
        let mut waiting = self.waiting();
        let mut of_address: BTreeMap<IpAddr, usize> = BTreeMap::new();
        waiting.guests.values().for_each(|guest| *of_address.entry(guest.address).or_default() += 1);
        let most = of_address.into_iter().max_by_key(|(_, count)| *count).map(|(address, _)| address);
        let spared = self.limits.spared;
        let mut old = waiting.guests.iter().filter(|(_, guest)| guest.since.elapsed() >= spared);
        let longest = old.find(|(_, guest)| Some(guest.address) == most).map(|(number, _)| *number);
        if let Some(guest) = longest.and_then(|number| waiting.guests.remove(&number)) {
            guest.out.cancel();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.has_asked();
    }
}

impl Guest {
    /// Its whole request is there.
    pub(super) fn has_asked(&self) {
        self.idle.store(false, Ordering::Relaxed);
        if let Some(number) = self.number().take() {
            self.hall.waiting().guests.remove(&number);
        }
    }

    /// How long it may read nothing of what is said to it.
    pub(super) fn may_read_nothing(&self) -> Duration {
        self.hall.limits.unread
    }

    /// Takes it off those who wait, if it had its answer: some of it is still on its way. Says whether it did.
    pub(super) fn still_hears(&self) -> bool {
        let idle = self.idle.load(Ordering::Relaxed);
        if idle {
            self.has_asked();
        }
        idle
    }

    /// It has its answer, and may ask again.
    pub(super) fn is_answered(&self) {
        self.waits(false);
        self.idle.store(true, Ordering::Relaxed);
    }

    /// It has said something.
    pub(super) fn speaks(&self) {
        if self.idle.swap(false, Ordering::Relaxed) {
            self.has_asked();
            self.waits(true);
        }
    }

    fn waits(&self, begun: bool) {
        let mut number = self.number();
        let mut waiting = self.hall.waiting();
        let next = waiting.next;
        waiting.next += 1;
        let (address, since, out) = (self.address, Instant::now(), self.out.clone());
        waiting.guests.insert(next, Silent { address, since, begun, out });
        if let Some(before) = number.replace(next) {
            waiting.guests.remove(&before);
        }
    }

    fn number(&self) -> MutexGuard<'_, Option<u64>> {
        self.number.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn hall(places: usize) -> Arc<Hall> {
        Hall::new(Limits { places, request: 10 * SECOND, idle: 120 * SECOND, unread: 30 * SECOND, spared: SECOND })
    }

    fn address(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    #[test]
    fn some_files_are_left_for_the_rest_and_ten_thousand_workers_fit_where_the_limit_allows() {
        assert_eq!(Limits::within(256).places, 160);
        assert!(Limits::within(10_100).places > 10_000);
        assert!(Limits::within(u64::MAX).places <= Semaphore::MAX_PERMITS && Limits::within(10).places == 5);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_longest_of_the_address_with_most_goes_first() {
        let hall = hall(6);
        let (honest, stranger) = (hall.admit(address(1)), hall.admit(address(2)));
        tokio::time::advance(SECOND).await;
        let more: Vec<_> = (0..2).map(|_| hall.admit(address(2))).collect();
        drop(hall.place().await);
        let gone = || [&honest, &stranger, &more[0], &more[1]].map(|guest| guest.out.is_cancelled());
        assert_eq!(gone(), [false, true, false, false]);
        drop(hall.place().await);
        assert_eq!(gone(), [false, true, false, false], "half of the places may be taken so");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_just_come_is_not_sent_away() {
        let hall = hall(4);
        let guests: Vec<_> = (0..4).map(|_| hall.admit(address(1))).collect();
        let places: Vec<_> = (0..4).map(|_| hall.places.clone().try_acquire_owned().unwrap()).collect();
        let early = tokio::time::timeout(SECOND / 2, hall.place()).await;
        assert!(early.is_err() && guests.iter().all(|guest| !guest.out.is_cancelled()));
        let late = tokio::time::timeout(SECOND, hall.place()).await;
        assert!(late.is_err() && guests[0].out.is_cancelled(), "its place is free when it has gone");
        drop(places);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_may_take_its_time_and_who_has_its_answer_may_be_silent_for_longer() {
        let hall = hall(4);
        let [half, working, idle] = [1, 2, 3].map(|n| hall.admit(address(n)));
        working.has_asked();
        idle.has_asked();
        idle.is_answered();
        let gone = || [&half, &working, &idle].map(|guest| guest.out.is_cancelled());
        tokio::select! {
            () = hall.send_away_the_late() => unreachable!("it goes on"),
            () = tokio::time::sleep(11 * SECOND) => assert_eq!(gone(), [true, false, false]),
        }
        idle.speaks();
        tokio::select! {
            () = hall.send_away_the_late() => unreachable!("it goes on"),
            () = tokio::time::sleep(11 * SECOND) => assert_eq!(gone(), [true, false, true]),
        }
    }
}
