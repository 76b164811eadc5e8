//! Whether this machine's clock can be trusted, as far as the chain tells. Deadlines are the chain's.

use crate::client::{Client, Error, Head};
use bourse_service::clock::Clock;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The chain id of development nodes, whose time may be moved on purpose.
pub(crate) const DEVELOPMENT: u64 = 31_337;
/// A clock may differ by so many seconds from the time of a block that is made now.
pub(crate) const TOLERANCE: u64 = 60;
/// Two blocks are waited for so long where the newest one is old.
const NEXT_BLOCKS: Duration = Duration::from_secs(40);
/// Blocks count in whole seconds, and are seen a little after they are made.
const PACE_TOLERANCE: Duration = Duration::from_secs(3);

/// What is wrong with a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It is slow.
    #[error(
        "the clock of this machine is {seconds} s behind the newest block: set it, as with NTP; deadlines are the chain's"
    )]
    Behind {
        /// By so much.
        seconds: u64,
    },
    /// It is fast.
    #[error(
        "the clock of this machine is {seconds} s ahead of blocks that are being made now: set it, as with NTP, or use a node that does not lag; deadlines are the chain's"
    )]
    Ahead {
        /// By so much.
        seconds: u64,
    },
}

/// Holds `clock` against the newest block; where that is old, against blocks that are made meanwhile. That may take 40 s.
pub async fn wrong(client: &Client, clock: &Clock) -> Result<Option<Wrong>, Error> {
    let (head, now) = (client.head().await?, clock.seconds());
    if now.saturating_sub(head.timestamp) > TOLERANCE {
        return old_block(client, clock, head).await;
    }
    let seconds = head.timestamp.saturating_sub(now);
    match seconds <= TOLERANCE {
        true => Ok(None),
        false if client.chain_id().await? == DEVELOPMENT => {
            tracing::warn!(seconds, "the chain's time is ahead of this machine's: a development node may do that");
            Ok(None)
        }
        false => Ok(Some(Wrong::Behind { seconds })),
    }
}

/// The newest block is old, or this machine's clock is ahead: blocks that are made while one looks tell which.
async fn old_block(client: &Client, clock: &Clock, head: Head) -> Result<Option<Wrong>, Error> {
    // Where blocks are made when a transaction comes, an old one tells nothing, and the next may be long in coming.
    if client.chain_id().await? == DEVELOPMENT || client.depth().await? == 0 {
        return Ok(None);
    }
    let seen = async {
        let first = next_block(client, head).await?;
        Ok::<_, Error>((first, next_block(client, first.0).await?))
    };
    let seconds = clock.seconds().saturating_sub(head.timestamp);
    let Ok(seen) = timeout(NEXT_BLOCKS, seen).await else {
        tracing::warn!(seconds, "the newest block is old and no others come: look after the node");
        return Ok(None);
    };
    let (first, second) = seen?;
    let ahead = clock.seconds().saturating_sub(second.0.timestamp);
    match is_live(first, second) {
        false => {
            tracing::warn!(seconds, "the node is behind and catches up: nothing can be done before it has");
            Ok(None)
        }
        true => Ok((ahead > TOLERANCE).then_some(Wrong::Ahead { seconds: ahead })),
    }
}

/// Waits for a block that is not `known`. Says when it was seen, too.
async fn next_block(client: &Client, known: Head) -> Result<(Head, Instant), Error> {
    loop {
        let head = client.head().await?;
        if head.number > known.number {
            return Ok((head, Instant::now()));
        }
        sleep(client.poll_interval()).await;
    }
}

/// Whether blocks arrive at the pace at which they were made: a node that catches up shows them faster.
fn is_live((first, then): (Head, Instant), (second, later): (Head, Instant)) -> bool {
    let made = second.timestamp.saturating_sub(first.timestamp);
    Duration::from_secs(made) <= later.duration_since(then) + PACE_TOLERANCE
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::B256;

    #[test]
    fn a_node_that_catches_up_is_told_from_one_that_shows_blocks_as_they_are_made() {
        let block = |number, timestamp| Head { number, hash: B256::ZERO, parent: B256::ZERO, timestamp };
        let (then, pause) = (Instant::now(), Duration::from_secs(12));
        assert!(is_live((block(1, 100), then), (block(2, 112), then + pause)));
        assert!(is_live((block(1, 100), then), (block(2, 101), then + pause)));
        assert!(!is_live((block(1, 100), then), (block(9, 196), then + pause)));
        assert!(!is_live((block(1, 100), then), (block(2, 112), then)));
    }
}
