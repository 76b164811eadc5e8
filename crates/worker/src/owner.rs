//! Who owns the pool: what speaks for the pool is signed by its owner.

use bourse_chain::{Error, Hub, alloy::primitives::eip191_hash_message};
use bourse_protocol::{Address, B256, Bytes, abi::IHub, signature};

/// The owner of the pool that a worker works for.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    hub: Hub,
    workerpool: Address,
    /// Who it was when the chain was asked last.
    known: Address,
}

impl Owner {
    /// `known` owns the pool just now.
    pub(crate) fn new(hub: Hub, workerpool: Address, known: Address) -> Self {
        Self { hub, workerpool, known }
    }

    /// Who it was when the chain was asked last.
    pub(crate) fn address(&self) -> Address {
        self.known
    }

    /// Whether the owner stands behind a personal message. The chain is asked when the one that is known does not: pools
    /// can be sold.
    pub(crate) async fn signed(&mut self, message: &str, signature: &Bytes) -> Result<bool, Error> {
        if signature::signed_message(self.known, message, signature) {
            return Ok(true);
        }
        let Some(pool) = self.hub.workerpool(self.workerpool).await? else { return Ok(false) };
        self.known = pool.owner;
        stands_behind(&self.hub, self.known, message, signature).await
    }
}

/// Whether the chain takes a personal message for that of `account`: by a wallet's signature, or by what a contract wallet
/// says.
pub(crate) async fn stands_behind(
    hub: &Hub,
    account: Address,
    message: impl AsRef<[u8]>,
    signature: &Bytes,
) -> Result<bool, Error> {
    let hash: B256 = eip191_hash_message(message);
    if signature::signed(account, hash, signature) {
        return Ok(true);
    }
    let call = IHub::verifySignatureCall { account, hash, signature: signature.clone() };
    match hub.view(&call).await {
        // The hub reverts on a signature of impossible length.
        Err(Error::Reverted(_)) => Ok(false),
        other => other,
    }
}
