//! A node for the cycles: the embedded chain, but what it says of tasks, contributions, scores and deposits is prepared.
//!
//! Every task that was bought is open at once; when a worker has contributed, its task is completed and paid. So the
//! scheduler's own work can be measured at a rate that no chain would give it.

use bourse_chain::alloy::{
    rpc::{
        client::RpcClient,
        json_rpc::{RequestPacket, ResponsePacket, SerializedRequest},
    },
    sol_types::SolCall,
    transports::{TransportError, TransportErrorKind, TransportFut},
};
use bourse_devchain::InProcess;
use bourse_protocol::{
    Address, B256, Bytes, U256,
    abi::{Account, Contribution, IHub, Task},
};
use serde::Deserialize;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tower::Service;

/// What everybody votes for.
const ANSWER: B256 = B256::repeat_byte(1);
/// A task that is completed.
const COMPLETED: u8 = 3;
/// One that is open.
const ACTIVE: u8 = 1;
/// A contribution that was revealed.
const PROVED: u8 = 2;

/// Who has contributed to which task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Votes(Arc<Mutex<HashMap<B256, Address>>>);

impl Votes {
    /// A worker's contribution stands.
    pub(crate) fn add(&self, task: B256, worker: Address) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(task, worker);
    }

    fn of(&self, task: B256) -> Option<Address> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&task).copied()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}

/// The way to the chain, with prepared answers.
#[derive(Clone, Debug)]
pub(crate) struct Overlay {
    pub(crate) chain: InProcess,
    pub(crate) hub: Address,
    pub(crate) votes: Votes,
    /// Until when contributions are accepted, in seconds since the epoch.
    pub(crate) deadline: u64,
}

#[derive(Deserialize)]
struct Call {
    to: Option<Address>,
    input: Option<Bytes>,
}

impl Overlay {
    /// As a client of the chain.
    pub(crate) fn client(self) -> RpcClient {
        RpcClient::new(self, true)
    }

    /// The prepared answer to a request, if there is one.
    fn answer(&self, request: &SerializedRequest) -> Option<Vec<u8>> {
        if request.method() != "eth_call" {
            return None;
        }
        let (call, _): (Call, serde_json::Value) = serde_json::from_str(request.params()?.get()).ok()?;
        let input = call.input.filter(|_| call.to == Some(self.hub))?;
        match *input.first_chunk::<4>()? {
            IHub::viewTaskCall::SELECTOR => {
                let call = IHub::viewTaskCall::abi_decode(&input).ok()?;
                Some(IHub::viewTaskCall::abi_encode_returns(&self.task(call.taskid)))
            }
            IHub::viewContributionCall::SELECTOR => {
                let call = IHub::viewContributionCall::abi_decode(&input).ok()?;
                let proved = self.votes.of(call.taskid) == Some(call.worker);
                let contribution = Contribution {
                    status: if proved { PROVED } else { 0 },
                    resultHash: if proved { ANSWER } else { B256::ZERO },
                    resultSeal: B256::ZERO,
                    enclaveChallenge: Address::ZERO,
                    weight: U256::from(1),
                };
                Some(IHub::viewContributionCall::abi_encode_returns(&contribution))
            }
            IHub::viewAccountCall::SELECTOR => {
                let account = Account { stake: U256::from(u64::MAX), locked: U256::ZERO };
                Some(IHub::viewAccountCall::abi_encode_returns(&account))
            }
            IHub::viewScoreCall::SELECTOR => Some(IHub::viewScoreCall::abi_encode_returns(&U256::ZERO)),
            _ => None,
        }
    }

    fn task(&self, id: B256) -> Task {
        let vote = self.votes.of(id);
        let count = U256::from(u8::from(vote.is_some()));
        let deadline = U256::from(self.deadline);
        Task {
            status: if vote.is_some() { COMPLETED } else { ACTIVE },
            dealid: B256::ZERO,
            idx: U256::ZERO,
            timeref: U256::ZERO,
            contributionDeadline: deadline,
            revealDeadline: deadline,
            finalDeadline: deadline,
            consensusValue: if vote.is_some() { ANSWER } else { B256::ZERO },
            revealCounter: count,
            winnerCounter: count,
            contributors: vote.into_iter().collect(),
            resultDigest: B256::ZERO,
            results: Bytes::new(),
            resultsTimestamp: U256::ZERO,
            resultsCallback: Bytes::new(),
        }
    }
}

impl Service<RequestPacket> for Overlay {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let prepared = match &packet {
            RequestPacket::Single(request) => self.answer(request).map(|answer| (request.id().clone(), answer)),
            RequestPacket::Batch(_) => None,
        };
        let Some((id, answer)) = prepared else { return self.chain.call(packet) };
        Box::pin(async move {
            let (id, result) = (serde_json::to_string(&id).map_err(TransportErrorKind::custom)?, Bytes::from(answer));
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"{result}"}}"#);
            serde_json::from_str(&text).map_err(|error| TransportError::deser_err(error, text))
        })
    }
}
