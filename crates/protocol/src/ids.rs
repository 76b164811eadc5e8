//! Identifiers of deals, tasks and results, and the hashes that bind them. Source: poco.md §6.2, §6.5, §7.2.

use alloy_primitives::{Address, B256, U256, keccak256};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub B256);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = alloy_primitives::hex::FromHexError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl From<B256> for $name {
            fn from(value: B256) -> Self {
                Self(value)
            }
        }
    };
}

id!(
    /// A match of four orders, recorded on chain.
    DealId
);
id!(
    /// One computation of a deal.
    TaskId
);
id!(
    /// The typed-data hash of an order: its name everywhere in the protocol.
    OrderHash
);
id!(
    /// What a run produced, in 32 bytes: the value that is voted on.
    ResultDigest
);

impl DealId {
    /// The deal that a request order makes when `consumed` of its volume had been matched before.
    pub fn of(request: OrderHash, consumed: U256) -> Self {
        Self(hash2(request.0, consumed.into()))
    }
}

impl TaskId {
    /// Task `index` of a deal. Indices of a deal run from its `botFirst` for `botSize` tasks.
    pub fn of(deal: DealId, index: U256) -> Self {
        Self(hash2(deal.0, index.into()))
    }
}

/// What a worker publishes when it contributes: the digest, blinded by the task.
pub fn result_hash(task: TaskId, digest: ResultDigest) -> B256 {
    hash2(task.0, digest.0)
}

/// What ties a contribution to its worker, so that nobody can copy another's answer.
pub fn result_seal(worker: Address, task: TaskId, digest: ResultDigest) -> B256 {
    packed(&[worker.as_slice(), task.0.as_slice(), digest.0.as_slice()])
}

/// The message that the pool owner signs (as a personal message) to let `worker` contribute to `task`.
pub fn authorization(worker: Address, task: TaskId, enclave_challenge: Address) -> B256 {
    packed(&[worker.as_slice(), task.0.as_slice(), enclave_challenge.as_slice()])
}

fn hash2(a: B256, b: B256) -> B256 {
    packed(&[a.as_slice(), b.as_slice()])
}

fn packed(parts: &[&[u8]]) -> B256 {
    keccak256(parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{address, b256};

    const DEAL: DealId = DealId(b256!("d91ea3b7b685e0a6970e61b308a4f3afa21ac1745b926db4e71501d1a725ff67"));
    const TASK: TaskId = TaskId(b256!("607a939f38601f02943dbb89010cbefd76f6ad0ba98c69bda057ed9b5b3c0a5d"));

    #[test]
    fn ids_agree_with_the_published_vectors() {
        let request = OrderHash(b256!("3dfc03d2769c78b3bc8eee436ce0ff4f3050a60e3de48e7355361d3017f9358b"));
        assert_eq!(DealId::of(request, U256::ZERO), DEAL);
        assert_eq!(
            DealId::of(request, U256::from(2)).0,
            b256!("d3e07218a164ffff2a57d4ddd556b0ada522b728f9afca809f208b4c878129db")
        );
        assert_eq!(TaskId::of(DEAL, U256::from(1)), TASK);
    }

    #[test]
    fn result_hashes_agree_with_the_published_vectors() {
        let digest = ResultDigest(keccak256("result"));
        let worker = address!("0000000000000000000000000000000000000007");
        assert_eq!(
            result_hash(TASK, digest),
            b256!("fae2bbfe856677d3d561bc047f5ae42b2f3e55ef3ce0b88fc30c654b5b72c474")
        );
        assert_eq!(
            result_seal(worker, TASK, digest),
            b256!("7d3bd284dc675b06fca06888d1598a3ea28df20a3de524cab324aa85678168e2")
        );
        assert_eq!(
            authorization(worker, TASK, Address::ZERO),
            b256!("c73bcd18ad7ac9983235243ff869f1469d3050935ad2e7fe31c56d1a464e8c76")
        );
    }
}
