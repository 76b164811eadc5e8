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

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened to in a runtime");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
