//! What is waited for, said on stderr: nobody should have to guess why nothing happens.

use crate::{output, services::Jobs};
use bourse_chain::{SenderStatus, Waiting, follower::Progress};
use bourse_service::CancellationToken;
use std::{
    mem::{Discriminant, discriminant},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// What passes sooner is not worth a word.
const MOMENT: Duration = Duration::from_secs(2);
/// How often catching up is told.
const EVERY: Duration = Duration::from_secs(5);

/// Says what a service waits for, as long as it runs.
pub(crate) fn tell(
    jobs: &mut Jobs,
    who: String,
    sender: watch::Receiver<SenderStatus>,
    progress: Option<watch::Receiver<Option<Progress>>>,
    stop: CancellationToken,
) {
    jobs.spawn(async move {
        let telling = async {
            let catching_up = async {
                match progress {
                    Some(progress) => catching_up(&who, progress).await,
                    None => std::future::pending().await,
                }
            };
            let whose = format!("the transactions of {who}");
            tokio::join!(transactions(&whose, sender), catching_up);
            // Its end is no reason to end anything.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = telling => {}
        }
        ("telling of what is waited for", Ok(()))
    });
}

/// Says when a sender begins to wait, why, and when it goes on. Ends with the sender.
pub(crate) async fn transactions(whose: &str, mut status: watch::Receiver<SenderStatus>) {
    let mut told = None;
    loop {
        let now = kind(&status.borrow_and_update());
        if now != told {
            if now.is_some() {
                match timeout(MOMENT, status.wait_for(|status| kind(status) != now)).await {
                    Ok(Ok(_)) => continue,
                    Ok(Err(_)) => return,
                    Err(_) => {}
                }
            }
            let obstacle = status.borrow().obstacle();
            match obstacle {
                Some(words) => output::say(&format!("{whose} wait: {words}")),
                None => output::say(&format!("{whose} go on")),
            }
            told = now;
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// What kind of obstacle there is: prices and balances change all the time, that is no news. Who has to stop says so
/// itself, as the error with which it ends.
fn kind(status: &SenderStatus) -> Option<(Option<Discriminant<Waiting>>, bool)> {
    let kind = (status.waiting.as_ref().map(discriminant), status.out_of_gas.is_some());
    (status.stopped.is_none() && kind != (None, false)).then_some(kind)
}

/// Says how far catching up with the chain is, if it takes long.
async fn catching_up(who: &str, mut progress: watch::Receiver<Option<Progress>>) {
    let (mut due, mut told) = (None, false);
    loop {
        let now = *progress.borrow_and_update();
        match now {
            Some(Progress { block, left }) => {
                if *due.get_or_insert(Instant::now() + MOMENT) <= Instant::now() {
                    output::say(&format!("{who} catches up with the chain: it is at block {block}, {left} are left"));
                    (due, told) = (Some(Instant::now() + EVERY), true);
                }
            }
            None => {
                if std::mem::take(&mut told) {
                    output::say(&format!("{who} has caught up with the chain"));
                }
                due = None;
            }
        }
        if progress.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_price_is_the_same_obstacle() {
        let over = |network| Some(Waiting::OverCap { network, cap: 1 });
        let of = |waiting| kind(&SenderStatus { waiting, ..Default::default() });
        assert_eq!(of(over(5)), of(over(77)));
        assert!(of(None).is_none() && of(over(5)) != of(Some(Waiting::Foreign { count: 5 })));
    }
}
