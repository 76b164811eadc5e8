//! Signs challenges for the pool's owner: all that wait while it signs share the next signature.

use bourse_chain::PrivateKeySigner;
use bourse_protocol::{B256, Bytes, link};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinSet, yield_now},
};

/// Challenges under one signature at most.
const TOGETHER: usize = 1_024;

/// The way to the work, which ends with it.
pub(super) struct Notary {
    requests: mpsc::Sender<Request>,
    _work: JoinSet<()>,
}

struct Request {
    challenge: B256,
    answer: oneshot::Sender<Signed>,
}

/// What a challenge goes out with.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    /// The owner's signature over the root.
    pub(super) signature: Bytes,
    /// The hashes that lead to it.
    pub(super) proof: Vec<B256>,
}

impl Notary {
    /// Starts the work, beside the caller.
    pub(super) fn new(key: PrivateKeySigner) -> Self {
        let (sender, requests) = mpsc::channel(TOGETHER);
        let mut working = JoinSet::new();
        working.spawn(work(key, requests));
        Self { requests: sender, _work: working }
    }

    /// Has a challenge signed; `None` when the runtime is ending.
    pub(super) async fn sign(&self, challenge: B256) -> Option<Signed> {
        let (answer, signed) = oneshot::channel();
        self.requests.send(Request { challenge, answer }).await.ok()?;
        signed.await.ok()
    }
}

async fn work(key: PrivateKeySigner, mut requests: mpsc::Receiver<Request>) {
    let mut waiting = Vec::new();
    while requests.recv_many(&mut waiting, TOGETHER).await > 0 {
        // Whoever wakes this would have it run next, with one request: those who are about to ask come first.
        yield_now().await;
        while waiting.len() < TOGETHER
            && let Ok(request) = requests.try_recv()
        {
            waiting.push(request);
        }
        let challenges: Vec<B256> = waiting.iter().map(|request| request.challenge).collect();
        let (root, proofs) = link::challenge_tree(&challenges);
        let text = link::challenge_message(root);
        let signature = key.sign_message(&text);
        let signature = Bytes::from(signature.as_bytes());
        for (request, proof) in waiting.drain(..).zip(proofs) {
            // Who asked may have gone.
            let _ = request.answer.send(Signed { signature: signature.clone(), proof });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourse_chain::keys::test_key;
    use bourse_protocol::signature;
    use std::{collections::BTreeSet, sync::Arc};

    #[tokio::test]
    async fn those_who_wait_together_share_a_signature_that_holds_for_each() {
        let (key, challenge) = (test_key(1), |n: u8| B256::repeat_byte(n));
        let notary = Arc::new(Notary::new(key.clone()));
        let mut asking = JoinSet::new();
        for n in 0..100 {
            let notary = notary.clone();
            asking.spawn(async move { (n, notary.sign(challenge(n)).await) });
        }
        let mut signatures = BTreeSet::new();
        for (n, signed) in asking.join_all().await {
            let Signed { signature, proof } = signed.unwrap();
            let text = link::challenge_message(link::challenge_root(challenge(n), &proof).unwrap());
            assert!(signature::signed_message(key.address(), text, &signature), "{n}");
            signatures.insert(signature);
        }
        assert!(signatures.len() < 3, "{} signatures", signatures.len());
        assert!(notary.sign(challenge(0)).await.unwrap().proof.is_empty(), "alone");
    }
}
