//! Ctrl-C and SIGTERM.

use bourse_service::CancellationToken;
use tokio::task::JoinSet;

/// A token that a signal cancels. A second signal ends the process at once.
pub(crate) fn on_signal(jobs: &mut JoinSet<()>) -> CancellationToken {
    let token = CancellationToken::new();
    let stop = token.clone();
    jobs.spawn(async move {
        signal().await;
        stop.cancel();
        signal().await;
        std::process::exit(130);
    });
    token
}

/// Two tokens: SIGTERM cancels the first, Ctrl-C or a second SIGTERM both. One more signal ends the process at once.
pub(crate) fn draining_on_signal(jobs: &mut JoinSet<()>) -> (CancellationToken, CancellationToken) {
    let stop = CancellationToken::new();
    let drain = stop.child_token();
    let tokens = (drain.clone(), stop.clone());
    jobs.spawn(async move {
        if signal().await == Signal::Terminate {
            tokens.0.cancel();
            signal().await;
        }
        tokens.1.cancel();
        signal().await;
        std::process::exit(130);
    });
    (drain, stop)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Interrupt,
    Terminate,
}

async fn signal() -> Signal {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened to in a runtime");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => Signal::Interrupt,
        _ = terminate.recv() => Signal::Terminate,
    }
}
