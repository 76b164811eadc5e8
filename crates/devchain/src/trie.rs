//! A Merkle Patricia trie that is changed in place, so that a block's state root costs what the block changed.
//!
//! Keys are 32-byte hashes, so no key is a prefix of another and branches hold no value. A branch carries the
//! nibbles that lead to it; they become an extension node only when it is hashed. A node's reference is kept until
//! something below it changes.

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_trie::nodes::{BranchNodeRef, ExtensionNodeRef, LeafNodeRef, RlpNode};
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, TrieMask};

/// The trie; empty by default.
#[derive(Default)]
pub(crate) struct Trie {
    root: Option<Box<Node>>,
}

struct Node {
    /// Nibbles between the parent and this node.
    path: Nibbles,
    kind: Kind,
    reference: Option<RlpNode>,
}

enum Kind {
    Leaf(Box<[u8]>),
    Branch(Box<[Option<Box<Node>>; 16]>),
}

impl Trie {
    /// Sets what `key` holds, RLP-encoded; `None` removes it.
    pub(crate) fn set(&mut self, key: B256, value: Option<&[u8]>) {
        let path = Nibbles::unpack(key);
        self.root = match (self.root.take(), value) {
            (root, Some(value)) => Some(insert(root, path, value)),
            (Some(root), None) => remove(root, &path),
            (None, None) => None,
        };
    }

    /// The root hash.
    pub(crate) fn root(&mut self) -> B256 {
        let Some(root) = &mut self.root else { return EMPTY_ROOT_HASH };
        let reference = root.reference();
        // An encoding under 32 bytes is its own reference, but the root is a hash always.
        reference.as_hash().unwrap_or_else(|| keccak256(&reference))
    }

    /// The encoded nodes from the root towards `key`, as `eth_getProof` lists them.
    pub(crate) fn proof(&mut self, key: B256) -> Vec<Bytes> {
        let mut path = Nibbles::unpack(key);
        let mut found = Vec::new();
        let mut next = self.root.as_deref_mut();
        while let Some(node) = next {
            // An encoding under 32 bytes lies inside its parent instead of being referred to by hash.
            let at_root = found.is_empty();
            let parts = node.encodings().into_iter().rev();
            found.extend(parts.filter(|part| at_root || part.len() >= 32).map(Bytes::from));
            let Kind::Branch(children) = &mut node.kind else { break };
            if !path.starts_with(&node.path) {
                break;
            }
            let index = usize::from(path.get_unchecked(node.path.len()));
            path = path.slice(node.path.len() + 1..);
            next = children[index].as_deref_mut();
        }
        found
    }
}

impl Node {
    fn leaf(path: Nibbles, value: &[u8]) -> Box<Self> {
        Box::new(Self { path, kind: Kind::Leaf(value.into()), reference: None })
    }

    /// How the parent refers to this node.
    fn reference(&mut self) -> RlpNode {
        if let Some(reference) = &self.reference {
            return reference.clone();
        }
        let encoded = self.encodings().pop().expect("a node has an encoding");
        let reference = RlpNode::from_rlp(&encoded);
        self.reference = Some(reference.clone());
        reference
    }

    /// The RLP of this node, innermost first: a branch behind nibbles is a branch and an extension.
    fn encodings(&mut self) -> Vec<Vec<u8>> {
        let mut encoded = Vec::new();
        match &mut self.kind {
            Kind::Leaf(value) => {
                LeafNodeRef::new(&self.path, value).rlp(&mut encoded);
                vec![encoded]
            }
            Kind::Branch(children) => {
                let reference = encode_branch(children, &mut encoded);
                if self.path.is_empty() {
                    return vec![encoded];
                }
                let mut extension = Vec::new();
                ExtensionNodeRef::new(&self.path, &reference).rlp(&mut extension);
                vec![encoded, extension]
            }
        }
    }
}

fn encode_branch(children: &mut [Option<Box<Node>>; 16], encoded: &mut Vec<u8>) -> RlpNode {
    let mut stack = Vec::with_capacity(16);
    let mut mask = TrieMask::default();
    for (index, child) in (0u8..).zip(children.iter_mut()) {
        if let Some(child) = child {
            mask.set_bit(index);
            stack.push(child.reference());
        }
    }
    BranchNodeRef::new(&stack, mask).rlp(encoded)
}

fn insert(node: Option<Box<Node>>, path: Nibbles, value: &[u8]) -> Box<Node> {
    let Some(mut node) = node else { return Node::leaf(path, value) };
    node.reference = None;
    let common = node.path.common_prefix_length(&path);
    if common < node.path.len() {
        return split(node, common, path, value);
    }
    match &mut node.kind {
        Kind::Leaf(old) => *old = value.into(),
        Kind::Branch(children) => {
            let child = &mut children[usize::from(path.get_unchecked(common))];
            *child = Some(insert(child.take(), path.slice(common + 1..), value));
        }
    }
    node
}

/// Puts a branch where `node` and the new path part ways.
fn split(mut node: Box<Node>, common: usize, path: Nibbles, value: &[u8]) -> Box<Node> {
    let mut children = Box::new([const { None }; 16]);
    let shared = node.path.slice(..common);
    let old = usize::from(node.path.get_unchecked(common));
    node.path = node.path.slice(common + 1..);
    children[old] = Some(node);
    let new = usize::from(path.get_unchecked(common));
    children[new] = Some(Node::leaf(path.slice(common + 1..), value));
    Box::new(Node { path: shared, kind: Kind::Branch(children), reference: None })
}

fn remove(mut node: Box<Node>, path: &Nibbles) -> Option<Box<Node>> {
    if !path.starts_with(&node.path) {
        return Some(node);
    }
    let Kind::Branch(children) = &mut node.kind else { return None };
    let index = usize::from(path.get_unchecked(node.path.len()));
    let Some(child) = children[index].take() else { return Some(node) };
    children[index] = remove(child, &path.slice(node.path.len() + 1..));
    node.reference = None;
    Some(collapse(node))
}

/// A branch with one child left becomes that child.
fn collapse(mut node: Box<Node>) -> Box<Node> {
    let Kind::Branch(children) = &mut node.kind else { return node };
    let mut present = (0u8..).zip(children.iter_mut()).filter(|(_, child)| child.is_some());
    let Some((index, slot)) = present.next() else { return node };
    if present.next().is_some() {
        return node;
    }
    let mut child = slot.take().expect("the filter kept children that exist");
    let mut path = node.path;
    path.push(index);
    path.extend(&child.path);
    child.path = path;
    child.reference = None;
    child
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;
    use alloy_trie::root::storage_root;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn rlp(value: U256) -> Vec<u8> {
        alloy_rlp::encode(value)
    }

    /// Few distinct leading and trailing nibbles, so that keys share long and short prefixes.
    fn key() -> impl Strategy<Value = B256> {
        (0u8..6, 0u8..4, 0u8..3).prop_map(|(first, middle, last)| {
            let mut key = [0x11; 32];
            key[0] = first * 17;
            key[15] = middle;
            key[31] = last;
            B256::from(key)
        })
    }

    proptest! {
        #[test]
        fn root_equals_the_one_computed_from_scratch(
            steps in prop::collection::vec((key(), 0u64..3), 1..80)
        ) {
            let mut trie = Trie::default();
            let mut model = BTreeMap::new();
            for (key, value) in steps {
                let value = U256::from(value) * U256::from(u64::MAX);
                if value.is_zero() {
                    model.remove(&key);
                    trie.set(key, None);
                } else {
                    model.insert(key, value);
                    trie.set(key, Some(&rlp(value)));
                }
                prop_assert_eq!(trie.root(), storage_root(model.clone()));
            }
        }

        #[test]
        fn proofs_verify(entries in prop::collection::btree_map(key(), 1u64..9, 1..30), probe in key()) {
            // Long values: alloy's verifier does not look into branches that lie inside their parent.
            let large = |value: &u64| rlp(U256::MAX - U256::from(*value));
            let mut trie = Trie::default();
            for (key, value) in &entries {
                trie.set(*key, Some(&large(value)));
            }
            let root = trie.root();
            let expected = entries.get(&probe).map(large);
            let proof = trie.proof(probe);
            alloy_trie::proof::verify_proof(root, Nibbles::unpack(probe), expected, &proof)
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
        }
    }
}
