//! Who calls: a challenge is handed out, signed by the wallet as typed data, and good for one call. Source: sdk.md §3.4.

use bourse_protocol::{
    Address, B256, Bytes,
    api::market::{CHALLENGE_PREFIX, challenge_digest},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

/// A challenge is good for this long, in milliseconds.
const LIFETIME: u64 = 5 * 60 * 1000;
/// How many challenges may be outstanding, for all wallets together; then the oldest are forgotten. A limit per wallet
/// would let anybody lock a wallet out by asking in its name.
const OUTSTANDING: usize = 1 << 16;

/// The challenges that were handed out and not used. In memory: after a restart, clients ask again.
#[derive(Debug, Default)]
pub(crate) struct Challenges(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    of: HashMap<B256, Ticket>,
    oldest_first: VecDeque<B256>,
}

#[derive(Debug)]
struct Ticket {
    wallet: Address,
    expires: u64,
}

impl Challenges {
    /// A text for `wallet` to sign. `now` in milliseconds.
    pub(crate) fn issue(&self, chain_id: u64, wallet: Address, now: u64) -> String {
        let text = format!("{CHALLENGE_PREFIX}{}", B256::from(rand::random::<[u8; 32]>()));
        let digest = challenge_digest(chain_id, &text);
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.forget(now);
        pending.of.insert(digest, Ticket { wallet, expires: now.saturating_add(LIFETIME) });
        pending.oldest_first.push_back(digest);
        text
    }

    /// Uses up the challenge of this digest, if there is one for `wallet`.
    pub(crate) fn redeem(&self, digest: B256, wallet: Address, now: u64) -> bool {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match pending.of.get(&digest) {
            Some(ticket) if ticket.wallet == wallet => {}
            _ => return false,
        }
        pending.of.remove(&digest).is_some_and(|ticket| now < ticket.expires)
    }
}

impl Pending {
    fn forget(&mut self, now: u64) {
        while let Some(digest) = self.oldest_first.front() {
            let gone = self.of.get(digest).is_none_or(|ticket| ticket.expires <= now);
            if !gone && self.oldest_first.len() < OUTSTANDING {
                return;
            }
            self.of.remove(digest);
            self.oldest_first.pop_front();
        }
    }
}

/// The parts of an `authorization: <digest>_<signature>_<address>` header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Authorization {
    pub(crate) digest: B256,
    pub(crate) signature: Bytes,
    pub(crate) wallet: Address,
}

impl Authorization {
    /// Reads the header's value.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('_');
        let (digest, signature, wallet) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        Some(Self {
            digest: crate::fields::bytes32(digest)?,
            signature: signature.strip_prefix("0x").and_then(|_| signature.parse().ok())?,
            wallet: crate::fields::address(wallet)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Address = Address::repeat_byte(0xa);
    const BOB: Address = Address::repeat_byte(0xb);

    fn issue(challenges: &Challenges, wallet: Address, now: u64) -> B256 {
        challenge_digest(1, &challenges.issue(1, wallet, now))
    }

    #[test]
    fn a_challenge_is_good_once_for_its_wallet_and_for_five_minutes() {
        let challenges = Challenges::default();
        let digest = issue(&challenges, ALICE, 0);
        assert!(!challenges.redeem(digest, BOB, 1));
        assert!(challenges.redeem(digest, ALICE, 1));
        assert!(!challenges.redeem(digest, ALICE, 1));
        let late = issue(&challenges, ALICE, 0);
        assert!(!challenges.redeem(late, ALICE, LIFETIME));
        assert!(!challenges.redeem(B256::ZERO, ALICE, 0));
    }

    #[test]
    fn one_wallet_may_have_several_challenges_at_once() {
        let challenges = Challenges::default();
        let (first, second) = (issue(&challenges, ALICE, 0), issue(&challenges, ALICE, 0));
        assert_ne!(first, second);
        assert!(challenges.redeem(second, ALICE, 1) && challenges.redeem(first, ALICE, 1));
    }

    #[test]
    fn a_flood_forgets_the_oldest_and_memory_stays_bounded() {
        let challenges = Challenges::default();
        let first = issue(&challenges, ALICE, 0);
        for _ in 0..OUTSTANDING {
            challenges.issue(1, BOB, 0);
        }
        let last = issue(&challenges, ALICE, 0);
        assert!(!challenges.redeem(first, ALICE, 1));
        assert!(challenges.redeem(last, ALICE, 1));
        let pending = challenges.0.lock().unwrap();
        assert!(pending.of.len() <= OUTSTANDING && pending.oldest_first.len() <= OUTSTANDING);
    }

    #[test]
    fn a_malformed_authorization_is_nobody() {
        let good = format!("{}_0x0102_{ALICE}", B256::ZERO);
        assert_eq!(Authorization::read(&good).unwrap().wallet, ALICE);
        for bad in ["", "_", "__", "a_b_c", &format!("{good}_"), &good.replace("_0x0102_", "_0102_"), &good[1..]] {
            assert_eq!(Authorization::read(bad), None, "{bad}");
        }
    }
}
