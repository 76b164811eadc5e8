//! One run, from bytes to report.

use super::{
    Error, Job, Limits, Outcome, Report, Shared,
    compile::Failure,
    complexity,
    guest::{Guest, Stop},
    output,
};
use std::{
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use wasmtime::{Module, Store, Trap};

pub(super) async fn run(shared: &Shared, job: Job, limits: Limits, cancel: CancellationToken) -> Result<Report, Error> {
    let started = Instant::now();
    let mut store = Store::new(shared.compiler.engine(), Guest::new(&job, &limits)?);
    store.limiter(|guest| guest);
    store.set_fuel(limits.fuel).expect("fuel is on in the configuration");
    store.epoch_deadline_async_yield_and_update(1);

    let outcome = tokio::select! {
        biased;
        () = cancel.cancelled() => Outcome::Cancelled,
        outcome = execute(shared, &mut store, &job, &limits) => outcome?,
    };
    let fuel_left = store.get_fuel().expect("fuel is on in the configuration");
    let (stdout, stderr) = store.into_data().into_consoles();
    let outcome = match (&outcome, output::measure(&job.output_dir, &limits)?) {
        (Outcome::Exited { .. }, Some(limit)) => Outcome::OutputTooLarge { limit },
        _ => outcome,
    };
    let fuel_used = limits.fuel.saturating_sub(fuel_left);
    Ok(Report { outcome, stdout, stderr, fuel_used, seconds: started.elapsed().as_secs_f64() })
}

async fn execute(shared: &Shared, store: &mut Store<Guest>, job: &Job, limits: &Limits) -> Result<Outcome, Error> {
    if job.module.len() > limits.module_bytes {
        let reason = format!("it is {} bytes long, the limit is {}", job.module.len(), limits.module_bytes);
        return Ok(Outcome::InvalidModule { reason });
    }
    if let Some(reason) = complexity::refusal(&job.module) {
        return Ok(Outcome::InvalidModule { reason });
    }
    let timed_out = Outcome::TimedOut { limit: limits.wall };
    let module = match shared.compiler.compile(job.module.clone(), limits.wall).await {
        Ok(module) => module,
        Err(Failure::Invalid(error)) => return Ok(Outcome::InvalidModule { reason: first_line(&error) }),
        Err(Failure::TooSlow) => return Ok(timed_out),
        Err(Failure::Died(error)) => return Err(Error::Thread(error.to_string())),
    };
    within(limits.wall, start(shared, store, &module, limits)).await.unwrap_or(Ok(timed_out))
}

/// Runs a future that gives way all the time, for so long; `None` if it does not end by then. Needs no timer: a
/// runtime that is shutting down has none, and a module may still be on its way out.
async fn within<T>(time: Duration, running: impl Future<Output = T>) -> Option<T> {
    let (started, mut running) = (Instant::now(), pin!(running));
    poll_fn(|context| match running.as_mut().poll(context) {
        Poll::Ready(ended) => Poll::Ready(Some(ended)),
        Poll::Pending if started.elapsed() >= time => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

async fn start(shared: &Shared, store: &mut Store<Guest>, module: &Module, limits: &Limits) -> Result<Outcome, Error> {
    let linked = match shared.linker.instantiate_pre(module) {
        Ok(linked) => linked,
        Err(error) => return Ok(Outcome::InvalidModule { reason: first_line(&error) }),
    };
    let instance = match linked.instantiate_async(&mut *store).await {
        Ok(instance) => instance,
        Err(error) => return ended(&error, limits, |reason| Outcome::InvalidModule { reason }),
    };
    let Ok(main) = instance.get_typed_func::<(), ()>(&mut *store, "_start") else {
        return Ok(Outcome::InvalidModule { reason: "it exports no function _start without arguments".to_owned() });
    };
    match main.call_async(store, ()).await {
        Ok(()) => Ok(Outcome::Exited { code: 0 }),
        Err(error) => ended(&error, limits, |reason| Outcome::Trapped { reason }),
    }
}

/// What an error that unwound the module means.
fn ended(error: &wasmtime::Error, limits: &Limits, other: impl FnOnce(String) -> Outcome) -> Result<Outcome, Error> {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return match stop {
            Stop::Exit(code) => Ok(Outcome::Exited { code: *code }),
            Stop::Memory => Ok(Outcome::OutOfMemory { limit: limits.memory_bytes }),
            Stop::Output(limit) => Ok(Outcome::OutputTooLarge { limit: limit.clone() }),
            Stop::OpenFiles => Ok(Outcome::Trapped { reason: Stop::OpenFiles.to_string() }),
            Stop::DiskFull => Err(Error::DiskFull),
        };
    }
    Ok(match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Outcome::OutOfFuel { limit: limits.fuel },
        Some(trap) => Outcome::Trapped { reason: trap.to_string().trim_start_matches("wasm trap: ").to_owned() },
        None => other(first_line(error)),
    })
}

/// The innermost cause, in a length that a log line bears: the text may hold names from the module.
fn first_line(error: &wasmtime::Error) -> String {
    let text = error.root_cause().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(200).collect()
}
