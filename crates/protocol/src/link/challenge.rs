//! What tells a pool's scheduler from others: the pool owner's signature, one for all challenges that wait at a time. Pure.
//!
//! Challenges are the leaves of a Merkle tree whose root is signed; each goes out with the hashes that lead from it to the
//! root. A challenge alone is its own root. When thousands of workers come back at once, signing each of them something of
//! their own would take as long as all else that a login takes.

use super::{Knock, VERSION};
use alloy_primitives::{Address, B256, Keccak256, keccak256};

/// Most hashes between a challenge and its root. A tree never has so many leaves.
pub const MAX_PROOF: usize = 16;

/// What a worker is challenged with: bound to one pool on one chain, and to the nonces of both sides.
pub fn challenge(chain_id: u64, hub: Address, workerpool: Address, nonce: B256, knock: Knock) -> B256 {
    let mut hash = Keccak256::new();
    hash.update([0]);
    hash.update(chain_id.to_be_bytes());
    hash.update(hub);
    hash.update(workerpool);
    hash.update(nonce);
    hash.update(knock.nonce);
    hash.finalize()
}

/// The root over challenges, and for each of them the hashes that lead to it. There must be one at least.
pub fn challenge_tree(challenges: &[B256]) -> (B256, Vec<Vec<B256>>) {
    let mut proofs = vec![Vec::new(); challenges.len()];
    // Each node of a level, with the challenges below it.
    let mut level: Vec<(B256, std::ops::Range<usize>)> =
        challenges.iter().enumerate().map(|(n, challenge)| (*challenge, n..n + 1)).collect();
    while level.len() > 1 {
        let pairs = level.chunks(2).map(|pair| match pair {
            [(left, under_left), (right, under_right)] => {
                proofs[under_left.clone()].iter_mut().for_each(|proof| proof.push(*right));
                proofs[under_right.clone()].iter_mut().for_each(|proof| proof.push(*left));
                (node(*left, *right), under_left.start..under_right.end)
            }
            single => single[0].clone(),
        });
        level = pairs.collect();
    }
    (level.first().map_or(B256::ZERO, |(root, _)| *root), proofs)
}

/// The root to which hashes lead from a challenge; `None` where they are too many.
pub fn challenge_root(challenge: B256, proof: &[B256]) -> Option<B256> {
    (proof.len() <= MAX_PROOF).then(|| proof.iter().fold(challenge, |below, beside| node(below, *beside)))
}

/// The text that the pool's owner signs, as a personal message.
pub fn challenge_message(root: B256) -> String {
    format!("Bourse scheduler challenge v{VERSION}\nroot: {root}")
}

/// A node over two others, in whichever order. No challenge is one: they begin differently.
fn node(one: B256, other: B256) -> B256 {
    let (small, great) = if one <= other { (one, other) } else { (other, one) };
    keccak256([&[1], small.as_slice(), great.as_slice()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn challenges(count: u64) -> Vec<B256> {
        let nonce = |n: u64| B256::left_padding_from(&n.to_be_bytes());
        (0..count).map(|n| challenge(1, Address::ZERO, Address::ZERO, nonce(n), Knock::default())).collect()
    }

    #[test]
    fn a_challenge_is_bound_to_all_that_it_names() {
        let (hub, pool, nonce) = (Address::repeat_byte(1), Address::repeat_byte(2), B256::repeat_byte(3));
        let knock = Knock { nonce: B256::repeat_byte(4) };
        let this = challenge(1, hub, pool, nonce, knock);
        let others = [
            challenge(2, hub, pool, nonce, knock),
            challenge(1, pool, hub, nonce, knock),
            challenge(1, hub, pool, knock.nonce, Knock { nonce }),
            challenge(1, hub, pool, nonce, Knock::default()),
        ];
        assert!(others.iter().all(|other| *other != this));
    }

    #[test]
    fn one_alone_is_its_own_root() {
        let one = challenges(1);
        assert_eq!(challenge_tree(&one), (one[0], vec![vec![]]));
    }

    #[test]
    fn a_proof_of_any_length_costs_little() {
        assert_eq!(challenge_root(B256::ZERO, &[B256::ZERO; MAX_PROOF + 1]), None);
        assert!(challenge_root(B256::ZERO, &[B256::ZERO; MAX_PROOF]).is_some());
    }

    proptest! {
        #[test]
        fn every_challenge_leads_to_the_root_and_nothing_else_does(count in 1u64..200, stranger in 200u64..1_000) {
            let all = challenges(count);
            let stranger = challenges(stranger + 1).pop().unwrap();
            let (signed, proofs) = challenge_tree(&all);
            for (challenge, proof) in all.iter().zip(&proofs) {
                prop_assert_eq!(challenge_root(*challenge, proof), Some(signed));
                prop_assert_ne!(challenge_root(stranger, proof), Some(signed));
                prop_assert!(proof.is_empty() || challenge_root(*challenge, &proof[1..]) != Some(signed));
            }
        }
    }
}
