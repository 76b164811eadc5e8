//! Time as the module sees it: a function of its own calls.

use super::{Guest, WASI, errno, memory, read_u64, slice, store};
use wasmtime::{Caller, Linker};

const REALTIME: u32 = 0;
const MONOTONIC: u32 = 1;
/// Nanoseconds by which one reading moves the clock, so that waiting in a loop ends.
const STEP: u64 = 1_000;
/// Things that one `poll_oneoff` may wait for.
const SUBSCRIPTIONS: u32 = 64;
const SUBSCRIPTION_SIZE: u32 = 48;
const EVENT_SIZE: u32 = 32;

/// Both clocks of the module.
pub(super) struct Clock {
    /// Unix nanoseconds at the start.
    started_at: u64,
    /// Nanoseconds since.
    elapsed: u64,
}

impl Clock {
    pub(super) fn new(started_at: u64) -> Self {
        Self { started_at: started_at.saturating_mul(1_000_000_000), elapsed: 0 }
    }

    fn now(&self, clock: u32) -> Option<u64> {
        match clock {
            REALTIME => Some(self.started_at.saturating_add(self.elapsed)),
            MONOTONIC => Some(self.elapsed),
            _ => None,
        }
    }

    fn advance(&mut self, nanoseconds: u64) {
        self.elapsed = self.elapsed.saturating_add(nanoseconds);
    }
}

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(WASI, "clock_time_get", clock_time_get)?;
    linker.func_wrap(WASI, "clock_res_get", clock_res_get)?;
    linker.func_wrap(WASI, "poll_oneoff", poll_oneoff)?;
    Ok(())
}

fn clock_time_get(mut caller: Caller<'_, Guest>, clock: i32, _precision: i64, target: i32) -> wasmtime::Result<i32> {
    let (bytes, guest) = memory(&mut caller)?;
    guest.clock.advance(STEP);
    Ok(match guest.clock.now(clock as u32) {
        Some(now) => store(bytes, target, &now.to_le_bytes()),
        None => errno::NOTSUP,
    })
}

fn clock_res_get(mut caller: Caller<'_, Guest>, clock: i32, target: i32) -> wasmtime::Result<i32> {
    let (bytes, guest) = memory(&mut caller)?;
    Ok(match guest.clock.now(clock as u32) {
        Some(_) => store(bytes, target, &STEP.to_le_bytes()),
        None => errno::NOTSUP,
    })
}

/// What `poll_oneoff` is asked to wait for.
#[derive(Clone, Copy)]
struct Subscription {
    userdata: u64,
    kind: u8,
    /// Nanoseconds from now until it is due; 0 for files and streams, which never wait here.
    due: u64,
}

impl Subscription {
    fn read(bytes: &[u8], at: u32, clock: &Clock) -> Result<Self, i32> {
        let field = |offset| read_u64(bytes, at + offset).ok_or(errno::FAULT);
        let userdata = field(0)?;
        let kind = field(8)? as u8;
        let due = match kind {
            0 => {
                let now = clock.now(field(16)? as u32).ok_or(errno::NOTSUP)?;
                let timeout = field(24)?;
                let absolute = field(40)? & 1 == 1;
                if absolute { timeout.saturating_sub(now) } else { timeout }
            }
            1 | 2 => 0,
            _ => return Err(errno::INVAL),
        };
        Ok(Self { userdata, kind, due })
    }

    fn event(&self) -> [u8; EVENT_SIZE as usize] {
        let mut event = [0; EVENT_SIZE as usize];
        event[..8].copy_from_slice(&self.userdata.to_le_bytes());
        event[10] = self.kind;
        event
    }
}

/// Sleeping moves the clock to the first moment that is waited for, and takes no time.
fn poll_oneoff(mut caller: Caller<'_, Guest>, subs: i32, events: i32, n: i32, ready: i32) -> wasmtime::Result<i32> {
    let (bytes, guest) = memory(&mut caller)?;
    Ok(match poll(bytes, &mut guest.clock, subs as u32, events, n as u32, ready) {
        Ok(()) => errno::SUCCESS,
        Err(errno) => errno,
    })
}

fn poll(bytes: &mut [u8], clock: &mut Clock, subs: u32, events: i32, n: u32, ready: i32) -> Result<(), i32> {
    if n == 0 || n > SUBSCRIPTIONS {
        return Err(errno::INVAL);
    }
    slice(bytes, subs, n * SUBSCRIPTION_SIZE).ok_or(errno::FAULT)?;
    let subscriptions = (0..n)
        .map(|i| Subscription::read(bytes, subs + i * SUBSCRIPTION_SIZE, clock))
        .collect::<Result<Vec<_>, _>>()?;
    let first = subscriptions.iter().map(|sub| sub.due).min().unwrap_or(0);
    clock.advance(first);
    let due: Vec<u8> = subscriptions.iter().filter(|sub| sub.due == first).flat_map(Subscription::event).collect();
    let count = due.len() as u32 / EVENT_SIZE;
    for (target, value) in [(events, &due[..]), (ready, &count.to_le_bytes())] {
        match store(bytes, target, value) {
            errno::SUCCESS => {}
            errno => return Err(errno),
        }
    }
    Ok(())
}
