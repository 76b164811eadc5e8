//! What a worker and a scheduler say to each other over their WebSocket, as JSON text messages.
//!
//! The chain is the referee: a message is a hint or a wish, and all of them may come twice. After a reconnect each
//! side says again what still holds.

use crate::{
    deal::ResultLink,
    ids::{DealId, TaskId},
    replicate::{Cause, Status},
};
use alloy_primitives::{Address, B256, Bytes};
use serde::{Deserialize, Serialize};

/// The version of this vocabulary. Both sides must speak the same.
pub const VERSION: u32 = 1;
/// The path of the WebSocket on the scheduler.
pub const PATH: &str = "/workers/link";
/// The largest message either side accepts, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// A worker says at least this often that it lives, in seconds.
pub const HEARTBEAT_SECONDS: u64 = 10;
/// A worker that was silent for so long is lost, in seconds.
pub const LOST_SECONDS: u64 = 60;

/// From the scheduler to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ToWorker {
    /// First message: sign this to log in.
    Challenge {
        /// Vocabulary version.
        version: u32,
        /// Fresh randomness, used once.
        nonce: B256,
        /// The pool that this scheduler runs.
        workerpool: Address,
        /// The hub that the pool belongs to.
        hub: Address,
        /// The chain of the hub.
        chain_id: u64,
    },
    /// The login was accepted.
    Welcome {
        /// Where apps and datasets are read: base URL of an IPFS gateway.
        gateway_url: String,
        /// Where results are written: base URL of an IPFS node.
        upload_url: String,
        /// Bearer token for uploads.
        upload_token: String,
    },
    /// The login was refused; the connection closes.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
    /// A task to work on.
    Assign(Assignment),
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
    /// Answer to a heartbeat.
    Alive,
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
    /// Answer to the challenge.
    Login {
        /// Vocabulary version.
        version: u32,
        /// The worker's wallet.
        address: Address,
        /// A name for people.
        name: String,
        /// Personal signature over [`login_message`].
        signature: Bytes,
        /// What the machine can do.
        capabilities: Capabilities,
    },
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
    /// Heartbeat.
    Alive,
}

/// What a worker's machine offers.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// Logical CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
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
        assert_eq!(serde_json::to_string(&ToScheduler::Alive).unwrap(), r#"{"type":"alive"}"#);
    }
}
