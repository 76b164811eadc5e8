//! What a worker and a scheduler say to each other over their WebSocket, as JSON text.
//!
//! A connection begins with greetings: the scheduler's [`Greeting::Challenge`], the worker's [`Login`], the scheduler's
//! answer. Then both exchange [`Frame`]s of a [`Session`], which survives a broken connection.
//!
//! The chain is the referee: a message is a hint or a wish, and nothing breaks when it comes twice.

mod challenge;
mod session;

pub use challenge::{MAX_PROOF, challenge, challenge_message, challenge_root, challenge_tree};
pub use session::{Frame, Heard, MAX_UNACKNOWLEDGED, OtherSession, Session, TooFarBehind};

use crate::{
    deal::ResultLink,
    ids::{DealId, TaskId},
    replicate::{Cause, Status},
};
use alloy_primitives::{Address, B256, Bytes, keccak256};
use serde::{Deserialize, Serialize};

/// The newest version of this vocabulary that is spoken here.
pub const VERSION: u32 = 4;
/// The oldest one.
pub const OLDEST_VERSION: u32 = 4;
/// The path of the WebSocket on the scheduler.
pub const PATH: &str = "/workers/link";
/// The largest message either side accepts, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Tasks that a worker names at most when it logs in.
pub const MAX_HELD: usize = 256;
/// A worker says at least this often that it lives, in seconds.
pub const HEARTBEAT_SECONDS: u64 = 10;
/// A worker that was silent for so long is lost, in seconds.
pub const LOST_SECONDS: u64 = 60;

/// What a worker says in the query of the URL when it connects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knock {
    /// Fresh randomness of the worker, used once: a challenge that was signed for another connection is none for this one.
    /// Vocabularies before 3 have none.
    #[serde(default)]
    pub nonce: B256,
}

/// What the scheduler says before a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Greeting {
    /// First message: sign this to log in.
    Challenge {
        /// The oldest vocabulary that the scheduler speaks.
        oldest_version: u32,
        /// The newest.
        version: u32,
        /// Fresh randomness, used once.
        nonce: B256,
        /// The pool that this scheduler runs.
        workerpool: Address,
        /// The hub that the pool belongs to.
        hub: Address,
        /// The chain of the hub.
        chain_id: u64,
        /// Personal signature of the pool's owner over the [`challenge_message`] of the root to which `proof` leads.
        /// Vocabularies before 3 have none.
        #[serde(default)]
        signature: Bytes,
        /// The hashes that lead from this [`challenge`] to what is signed: see [`challenge_root`]. Vocabularies before 4 have none.
        #[serde(default)]
        proof: Vec<B256>,
    },
    /// The login was accepted.
    Welcome(Welcome),
    /// Not now: nothing is wrong with the worker. Come again.
    Busy {
        /// In plain words.
        reason: String,
        /// When to try again.
        retry_seconds: u64,
    },
    /// The login was refused.
    Refused {
        /// Why, and what to do.
        reason: String,
        /// When to try again, for a worker that can be mended while it runs.
        retry_seconds: u64,
    },
}

/// What an accepted worker is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// The vocabulary of this session.
    pub version: u32,
    /// The session's name, for [`Resume`].
    pub session: u64,
    /// Whether it is the one that the worker asked to resume. If not, both sides say everything again.
    pub resumed: bool,
    /// The newest message of the worker that was heard in this session.
    pub received: u64,
    /// How to reconnect.
    pub reconnect: Backoff,
    /// Where apps and datasets are read: base URL of an IPFS gateway.
    pub gateway_url: String,
    /// Where results are written: base URL of an IPFS node.
    pub upload_url: String,
    /// Bearer token for uploads.
    pub upload_token: String,
}

/// What a worker answers to the challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// The vocabulary: see [`common_version`].
    pub version: u32,
    /// The worker's wallet.
    pub address: Address,
    /// A name for people.
    pub name: String,
    /// Personal signature over [`login_message`].
    pub signature: Bytes,
    /// What the machine can do.
    pub capabilities: Capabilities,
    /// The session that a broken connection left.
    #[serde(default)]
    pub resume: Option<Resume>,
    /// It finishes what it has and takes nothing more: see [`ToScheduler::Draining`].
    #[serde(default)]
    pub draining: bool,
    /// Tasks that it works on and whose assignment it has, at most [`MAX_HELD`]: they need not be assigned again.
    #[serde(default)]
    pub holds: Vec<TaskId>,
}

/// Where a session is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resume {
    /// Its name.
    pub session: u64,
    /// The newest message of the scheduler that the worker heard.
    pub received: u64,
}

/// How long to wait before connecting again: doubling from `first_millis` to `longest_millis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// In milliseconds.
    pub first_millis: u64,
    /// In milliseconds.
    pub longest_millis: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first_millis: 250, longest_millis: 15_000 }
    }
}

impl Backoff {
    /// The pause before attempt number `attempt` (from 0), in milliseconds: between half of the present step and all
    /// of it, spread over the workers so that not all come at once.
    pub fn pause_millis(&self, attempt: u32, worker: Address) -> u64 {
        let step = self.first_millis.saturating_mul(1u64 << attempt.min(30)).clamp(1, self.longest_millis.max(1));
        let mut seed = worker.to_vec();
        seed.extend(attempt.to_be_bytes());
        step / 2 + part(step - step / 2, &seed)
    }
}

/// After how many milliseconds of a connection a worker first says that it lives; the login was a sign of life. Spread over
/// the workers: a scheduler that came back does not hear from all of them in the same moment.
pub fn first_heartbeat_millis(worker: Address) -> u64 {
    part(HEARTBEAT_SECONDS * 1_000, worker.as_slice())
}

/// A part of a whole that a seed chooses, evenly.
fn part(whole: u64, seed: &[u8]) -> u64 {
    let hash = keccak256(seed);
    whole.saturating_mul(u64::from(u16::from_be_bytes([hash[0], hash[1]]))) / 65_536
}

/// The newest vocabulary that both sides speak, if there is one.
pub fn common_version(oldest: u32, newest: u32) -> Option<u32> {
    let version = newest.min(VERSION);
    (version >= oldest.max(OLDEST_VERSION)).then_some(version)
}

/// From the scheduler to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ToWorker {
    /// A task to work on.
    Assign(Assignment),
    /// A task that the worker holds is still its own: see [`Login::holds`].
    GoOn {
        /// The task.
        task: TaskId,
    },
    /// Consensus was reached on your answer: reveal it.
    Reveal {
        /// The task.
        task: TaskId,
    },
    /// Please upload your result.
    Upload {
        /// The task.
        task: TaskId,
    },
    /// Stop working on a task.
    Abort {
        /// The task.
        task: TaskId,
        /// Why.
        cause: Cause,
    },
    /// The task has ended; what belongs to it may be deleted.
    Complete {
        /// The task.
        task: TaskId,
    },
    /// There is nothing to do for this worker now; it is told when there is.
    NoWork {
        /// In plain words.
        reason: String,
    },
    /// The connection ends.
    Bye {
        /// Why, and what to do.
        reason: String,
        /// When to come again.
        retry_seconds: u64,
    },
}

/// A task given to a worker. What it is about, the worker reads from the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// The task.
    pub task: TaskId,
    /// Its deal.
    pub deal: DealId,
    /// Its index: hex or decimal in the chain's terms, part of the task's name.
    pub index: alloy_primitives::U256,
    /// The pool owner's signature that lets this worker contribute; see [`crate::ids::authorization`].
    pub authorization: Bytes,
    /// The enclave's address, or zero.
    pub enclave_challenge: Address,
}

/// From a worker to the scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ToScheduler {
    /// Where a replicate stands.
    Report {
        /// The task.
        task: TaskId,
        /// The status.
        status: Status,
        /// Why, for failures.
        cause: Option<Cause>,
    },
    /// The result lies here.
    Uploaded {
        /// The task.
        task: TaskId,
        /// The link that goes on chain.
        link: ResultLink,
    },
    /// The worker finishes what it has and takes nothing more.
    Draining,
}

/// What a worker's machine offers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// Logical CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Room on the disk of the worker's folder, in MiB.
    pub disk_mib: u64,
    /// Graphics processors.
    pub gpus: u32,
    /// Enclave frameworks, such as `scone`.
    pub tee: Vec<String>,
    /// Tasks at once.
    pub slots: u32,
    /// App types that it runs, such as `WASM`.
    pub app_types: Vec<String>,
    /// `linux/x86_64` and the like.
    pub platform: String,
}

/// The text that a worker signs (as a personal message) to log in: bound to one pool on one chain, one nonce, one wallet.
pub fn login_message(chain_id: u64, hub: Address, workerpool: Address, nonce: B256, worker: Address) -> String {
    format!(
        "Bourse worker login v{VERSION}\nchain: {chain_id}\nhub: {hub}\nworkerpool: {workerpool}\nnonce: {nonce}\nworker: {worker}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replicate::CauseCode;

    #[test]
    fn messages_have_a_stable_form() {
        let abort = ToWorker::Abort { task: TaskId::default(), cause: Cause::new(CauseCode::ConsensusReached, "x") };
        let text = serde_json::to_string(&abort).unwrap();
        assert!(text.starts_with(r#"{"type":"abort","task":"0x00"#), "{text}");
        assert_eq!(serde_json::from_str::<ToWorker>(&text).unwrap(), abort);
        assert_eq!(serde_json::to_string(&ToScheduler::Draining).unwrap(), r#"{"type":"draining"}"#);
    }

    #[test]
    fn the_newest_common_vocabulary_is_spoken() {
        assert_eq!(common_version(1, VERSION + 3), Some(VERSION));
        assert_eq!(common_version(VERSION, VERSION), Some(VERSION));
        assert_eq!(common_version(VERSION + 1, VERSION + 2), None);
        assert_eq!(common_version(0, OLDEST_VERSION - 1), None);
    }

    #[test]
    fn workers_say_that_they_live_at_different_times() {
        let first: std::collections::BTreeSet<_> =
            (0..200).map(|n| first_heartbeat_millis(Address::with_last_byte(n))).collect();
        assert!(first.iter().all(|millis| *millis < HEARTBEAT_SECONDS * 1_000), "{first:?}");
        let early = first.iter().filter(|millis| **millis < HEARTBEAT_SECONDS * 500).count();
        assert!(first.len() > 190 && (70..130).contains(&early), "{early} of {first:?}");
    }

    #[test]
    fn pauses_grow_to_the_limit_and_differ_between_workers() {
        let backoff = Backoff { first_millis: 100, longest_millis: 1_000 };
        for attempt in 0..40 {
            let full = (100u64 << attempt.min(4)).min(1_000);
            let pauses: std::collections::BTreeSet<_> =
                (0..100).map(|n| backoff.pause_millis(attempt, Address::with_last_byte(n))).collect();
            assert!(pauses.iter().all(|p| (full / 2..=full).contains(p)), "{attempt}: {pauses:?}");
            assert!(pauses.len() > 20, "{attempt}: {pauses:?}");
        }
    }
}
