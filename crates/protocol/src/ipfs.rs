//! Content ids of files, exactly those of kubo's default `ipfs add`: CIDv0, sha2-256, chunks of 256 KiB wrapped as
//! UnixFS files, a balanced tree with up to 174 links per node.
//!
//! The builder is fed in pieces and keeps at most one chunk and one node per level of the tree, whatever the size of
//! the file. It names and frames content; storing and serving it is `bourse-results`. Directories are not built.
//! Also here: the two ways in which a link to content stands on chain (sdk.md §2.1).

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// Bytes of content in one leaf.
pub const CHUNK: usize = 262_144;
/// Links in one node of the tree.
pub const MAX_LINKS: usize = 174;
/// Longest multiaddr that is looked at, in bytes: long enough for any URL or image name that people use.
pub const MAX_MULTIADDR: usize = 2_048;

const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// Multihash header of a sha2-256: function 0x12, 32 bytes.
const SHA2_256: [u8; 2] = [0x12, 0x20];
/// Varint of multiaddr protocol 421 (`/ipfs/`, also shown as `/p2p/`).
const MULTIADDR_IPFS: [u8; 2] = [0xa5, 0x03];
/// Every CIDv0 has this many characters.
const TEXT_LENGTH: usize = 46;

/// Why a content id or a multiaddr is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the error texts say it")]
pub enum Error {
    #[error("{0:?} is not a content id: expected the 46 base58 characters of a CIDv0, beginning with Qm")]
    NotACid(String),
    #[error("{0:?} is a CIDv1: only the CIDv0 (Qm…) of kubo's default `ipfs add` is known here")]
    CidV1(String),
    #[error("{0:?} is not a link to content: expected /ipfs/<cid> with nothing behind")]
    NotALink(String),
    #[error("multiaddr is {0} bytes long: the limit is {MAX_MULTIADDR}")]
    TooLong(usize),
    #[error("multiaddr is empty")]
    Empty,
    #[error("multiaddr 0x{0} is neither /ipfs/<cid> in binary form nor printable text")]
    NotAMultiaddr(String),
}

/// The name of a file's content: the sha2-256 of the root block of its tree.
///
/// ```
/// # use bourse_protocol::ipfs::Cid;
/// assert_eq!(Cid::of(b"hello world\n").to_string(), "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid([u8; 32]);

impl Cid {
    /// The id of `content` as one file.
    pub fn of(content: &[u8]) -> Self {
        let mut builder = Builder::default();
        builder.push(content, &mut |_| ());
        builder.finish(&mut |_| ()).cid
    }

    /// The id of one block, given its bytes.
    pub fn of_block(block: &[u8]) -> Self {
        Self(Sha256::digest(block).into())
    }

    /// The sha2-256 of the root block.
    pub fn digest(&self) -> [u8; 32] {
        self.0
    }

    /// The 34 bytes of the multihash: function, length, digest.
    pub fn multihash(&self) -> [u8; 34] {
        let mut bytes = [0; 34];
        bytes[..2].copy_from_slice(&SHA2_256);
        bytes[2..].copy_from_slice(&self.0);
        bytes
    }

    /// The path under a gateway, as it stands in results on chain: `/ipfs/<cid>`.
    pub fn link(&self) -> String {
        format!("/ipfs/{self}")
    }

    /// Reads `/ipfs/<cid>`. A path below the content is refused: results and inputs here are single files.
    pub fn parse_link(link: &str) -> Result<Self, Error> {
        link.strip_prefix("/ipfs/")
            .filter(|rest| !rest.contains('/'))
            .ok_or_else(|| Error::NotALink(shorten(link)))?
            .parse()
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base58(&self.multihash()))
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cid({self})")
    }
}

impl FromStr for Cid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.starts_with("baf") {
            return Err(Error::CidV1(shorten(text)));
        }
        let bytes = (text.len() == TEXT_LENGTH).then(|| unbase58(text)).flatten();
        match bytes {
            Some(bytes) if bytes[..2] == SHA2_256 => Ok(Self(bytes[2..].try_into().expect("34 bytes less 2"))),
            _ => Err(Error::NotACid(shorten(text))),
        }
    }
}

impl Serialize for Cid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One block of a file's tree, as another IPFS node would ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The sha2-256 of `bytes`.
    pub cid: Cid,
    /// The block in dag-pb form.
    pub bytes: Vec<u8>,
    /// The children, in the order of the content. Empty for a leaf.
    pub links: Vec<Cid>,
}

/// What a finished [`Builder`] says about the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// The id of the file.
    pub cid: Cid,
    /// Bytes of content.
    pub content_size: u64,
    /// Bytes of all blocks together: the `Size` that `ipfs add` answers.
    pub tree_size: u64,
}

/// Builds the tree of one file from its bytes, in order, in pieces of any size.
///
/// Each block goes to the `sink` as soon as it is complete; children come before their parent, the root last.
#[derive(Clone, Debug)]
pub struct Builder {
    chunk: usize,
    max_links: usize,
    /// Content that does not fill a chunk yet.
    pending: Vec<u8>,
    /// Finished children that wait for their parent; level 0 holds leaves.
    levels: Vec<Vec<Link>>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::shaped(CHUNK, MAX_LINKS)
    }
}

#[derive(Clone, Copy, Debug)]
struct Link {
    cid: Cid,
    content_size: u64,
    tree_size: u64,
}

impl Builder {
    fn shaped(chunk: usize, max_links: usize) -> Self {
        Self { chunk, max_links, pending: Vec::new(), levels: Vec::new() }
    }

    /// Appends `content` to the file.
    pub fn push(&mut self, mut content: &[u8], sink: &mut impl FnMut(Block)) {
        while !content.is_empty() {
            // Only content that goes on makes a full chunk a leaf: the last one waits for `finish`.
            if self.pending.len() == self.chunk {
                self.flush_leaf(sink);
            }
            let take = content.len().min(self.chunk - self.pending.len());
            self.pending.extend_from_slice(&content[..take]);
            content = &content[take..];
        }
    }

    /// Closes the tree. An empty file has one leaf without content.
    pub fn finish(mut self, sink: &mut impl FnMut(Block)) -> Root {
        self.flush_leaf(sink);
        let mut level = 0;
        while level + 1 < self.levels.len() || self.levels[level].len() > 1 {
            self.flush_node(level, sink);
            level += 1;
        }
        let root = self.levels[level][0];
        Root { cid: root.cid, content_size: root.content_size, tree_size: root.tree_size }
    }

    fn flush_leaf(&mut self, sink: &mut impl FnMut(Block)) {
        let content_size = self.pending.len() as u64;
        let bytes = node(&[], &unixfs_leaf(&self.pending));
        self.pending.clear();
        let link = Link { cid: Cid::of_block(&bytes), content_size, tree_size: bytes.len() as u64 };
        sink(Block { cid: link.cid, bytes, links: Vec::new() });
        self.add(0, link, sink);
    }

    fn flush_node(&mut self, level: usize, sink: &mut impl FnMut(Block)) {
        let children = std::mem::take(&mut self.levels[level]);
        let bytes = node(&children, &unixfs_parent(&children));
        let link = Link {
            cid: Cid::of_block(&bytes),
            content_size: children.iter().map(|child| child.content_size).sum(),
            tree_size: bytes.len() as u64 + children.iter().map(|child| child.tree_size).sum::<u64>(),
        };
        sink(Block { cid: link.cid, bytes, links: children.iter().map(|child| child.cid).collect() });
        self.add(level + 1, link, sink);
    }

    fn add(&mut self, level: usize, link: Link, sink: &mut impl FnMut(Block)) {
        if level == self.levels.len() {
            self.levels.push(Vec::new());
        }
        if self.levels[level].len() == self.max_links {
            self.flush_node(level, sink);
        }
        self.levels[level].push(link);
    }
}

/// UnixFS `Data`: type (1) = file (2), data (2) unless empty, file size (3).
fn unixfs_leaf(content: &[u8]) -> Vec<u8> {
    let mut out = vec![0x08, 0x02];
    if !content.is_empty() {
        bytes_field(&mut out, 2, content);
    }
    varint_field(&mut out, 3, content.len() as u64);
    out
}

/// UnixFS `Data` of a parent: type (1) = file (2), file size (3), size of each child's content (4).
fn unixfs_parent(children: &[Link]) -> Vec<u8> {
    let mut out = vec![0x08, 0x02];
    varint_field(&mut out, 3, children.iter().map(|child| child.content_size).sum());
    for child in children {
        varint_field(&mut out, 4, child.content_size);
    }
    out
}

/// A dag-pb node: links (2) of hash (1), empty name (2) and tree size (3); then data (1).
fn node(children: &[Link], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + children.len() * 56 + 8);
    for child in children {
        let mut link = Vec::with_capacity(56);
        bytes_field(&mut link, 1, &child.cid.multihash());
        bytes_field(&mut link, 2, &[]);
        varint_field(&mut link, 3, child.tree_size);
        bytes_field(&mut out, 2, &link);
    }
    bytes_field(&mut out, 1, data);
    out
}

fn bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint_field(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    varint(out, value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Where an app or a dataset lies, as its owner wrote it on chain. Text is shown as it stands, never interpreted further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Multiaddr {
    /// Content on IPFS.
    Ipfs(Cid),
    /// A URL beginning with `http://` or `https://`.
    Http(String),
    /// Other printable text, such as the name of a container image.
    Other(String),
}

impl Multiaddr {
    /// The bytes to write on chain: binary for IPFS, as the `iexec` npm package does, UTF-8 otherwise.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ipfs(cid) => {
                let hash = cid.multihash();
                [&MULTIADDR_IPFS[..], &[hash.len() as u8], &hash].concat()
            }
            Self::Http(text) | Self::Other(text) => text.clone().into_bytes(),
        }
    }
}

impl fmt::Display for Multiaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipfs(cid) => f.write_str(&cid.link()),
            Self::Http(text) | Self::Other(text) => f.write_str(text),
        }
    }
}

impl FromStr for Multiaddr {
    type Err = Error;

    /// Reads the text form; `/p2p/<cid>` is how the `iexec` npm package shows `/ipfs/<cid>`.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::Empty);
        }
        if text.len() > MAX_MULTIADDR {
            return Err(Error::TooLong(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(Error::NotAMultiaddr(shorten(&alloy_primitives::hex::encode(text))));
        }
        match text.strip_prefix("/ipfs/").or_else(|| text.strip_prefix("/p2p/")) {
            Some(rest) => Cid::parse_link(&format!("/ipfs/{rest}")).map(Self::Ipfs),
            None if text.starts_with("http://") || text.starts_with("https://") => Ok(Self::Http(text.to_owned())),
            None => Ok(Self::Other(text.to_owned())),
        }
    }
}

/// Reads a multiaddr from the chain: the binary form of `/ipfs/<cid>`, or UTF-8 text.
pub fn decode_multiaddr(bytes: &[u8]) -> Result<Multiaddr, Error> {
    if let [0xa5, 0x03, 34, 0x12, 0x20, digest @ ..] = bytes
        && let Ok(digest) = digest.try_into()
    {
        return Ok(Multiaddr::Ipfs(Cid(digest)));
    }
    if bytes.len() > MAX_MULTIADDR {
        return Err(Error::TooLong(bytes.len()));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => text.parse(),
        Err(_) => Err(Error::NotAMultiaddr(shorten(&alloy_primitives::hex::encode(bytes)))),
    }
}

/// Hostile text goes into errors in a length that a log line bears.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn base58(bytes: &[u8]) -> String {
    let mut digits: Vec<u8> = Vec::with_capacity(TEXT_LENGTH);
    for &byte in bytes {
        let mut carry = u32::from(byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 58) as u8;
            carry /= 58;
        }
        while carry > 0 {
            digits.push((carry % 58) as u8);
            carry /= 58;
        }
    }
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    digits.resize(digits.len() + zeros, 0);
    digits.iter().rev().map(|&digit| ALPHABET[usize::from(digit)] as char).collect()
}

/// The 34 bytes that `text` stands for, or `None` if it is not the canonical base58 of 34 bytes that begin with a non-zero one.
fn unbase58(text: &str) -> Option<[u8; 34]> {
    let mut bytes = [0u8; 34];
    for character in text.bytes() {
        let mut carry = ALPHABET.iter().position(|&symbol| symbol == character)? as u32;
        for byte in bytes.iter_mut().rev() {
            carry += u32::from(*byte) * 58;
            *byte = carry as u8;
            carry >>= 8;
        }
        if carry > 0 {
            return None;
        }
    }
    (bytes[0] != 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o";

    #[test]
    fn small_files_get_the_ids_that_kubo_gives() {
        assert_eq!(Cid::of(b"hello world\n").to_string(), HELLO);
        assert_eq!(Cid::of(b"").to_string(), "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH");
    }

    #[test]
    fn the_size_of_the_tree_counts_the_framing() {
        let mut builder = Builder::default();
        builder.push(b"hello world\n", &mut |_| ());
        let root = builder.finish(&mut |_| ());
        assert_eq!((root.content_size, root.tree_size), (12, 20));
    }

    #[test]
    fn the_pieces_do_not_matter() {
        let content: Vec<u8> = (0..CHUNK * 2 + 5).map(|i| (i % 251) as u8).collect();
        for piece in [1_000, CHUNK - 1, CHUNK, CHUNK + 1] {
            let mut builder = Builder::default();
            for part in content.chunks(piece) {
                builder.push(part, &mut |_| ());
            }
            assert_eq!(builder.finish(&mut |_| ()).cid, Cid::of(&content), "pieces of {piece} bytes");
        }
    }

    #[test]
    fn blocks_arrive_children_first_and_name_themselves() {
        let content = vec![7; CHUNK * 3];
        let mut blocks = Vec::new();
        let mut builder = Builder::default();
        builder.push(&content, &mut |block| blocks.push(block));
        let root = builder.finish(&mut |block| blocks.push(block));

        assert_eq!(blocks.len(), 4, "three leaves and their parent");
        let parent = &blocks[3];
        assert_eq!(parent.cid, root.cid);
        assert_eq!(parent.links, blocks[..3].iter().map(|leaf| leaf.cid).collect::<Vec<_>>());
        for block in &blocks {
            assert_eq!(block.cid, Cid::of_block(&block.bytes));
        }
        assert_eq!(root.tree_size, blocks.iter().map(|block| block.bytes.len() as u64).sum::<u64>());
    }

    /// Made by `tools/ipfs-vectors.mjs` with the importer of the JavaScript IPFS project.
    #[derive(Deserialize)]
    struct Vector {
        chunk: usize,
        links: usize,
        size: u64,
        cid: Cid,
        tree: u64,
    }

    #[test]
    fn trees_of_any_depth_are_those_of_another_implementation() {
        let vectors: Vec<Vector> = serde_json::from_str(include_str!("../tests/vectors/ipfs.json")).unwrap();
        assert!(vectors.iter().any(|vector| vector.chunk == CHUNK && vector.size > (CHUNK * MAX_LINKS) as u64));
        for vector in vectors {
            let root = patterned(Builder::shaped(vector.chunk, vector.links), vector.size);
            assert_eq!(
                (root.cid, root.tree_size, root.content_size),
                (vector.cid, vector.tree, vector.size),
                "{} bytes in chunks of {}, {} links",
                vector.size,
                vector.chunk,
                vector.links
            );
        }
    }

    /// Byte `i` is the exclusive or of the four bytes of `i`: no two chunks are alike.
    fn patterned(mut builder: Builder, size: u64) -> Root {
        let mut piece = Vec::new();
        for i in 0..size {
            piece.push((i ^ i >> 8 ^ i >> 16 ^ i >> 24) as u8);
            if piece.len() == 100_000 || i + 1 == size {
                builder.push(&piece, &mut |_| ());
                piece.clear();
            }
        }
        builder.finish(&mut |_| ())
    }

    #[test]
    fn text_that_is_no_cid_is_refused() {
        let long = "Q".repeat(10_000);
        let zero = HELLO.replace('z', "0");
        for text in ["", "Qm", "hello", &HELLO[..45], &format!("{HELLO}1"), &zero, &long, &format!("1{}", &HELLO[1..])]
        {
            let error = text.parse::<Cid>().unwrap_err();
            assert!(matches!(error, Error::NotACid(_)), "{text:.60}: {error}");
            assert!(error.to_string().len() < 500);
        }
        let other_hash = base58(&[&[0x11, 0x20][..], &[9; 32]].concat());
        assert!(other_hash.parse::<Cid>().is_err(), "sha1 header");
        assert!(matches!("bafkreigh2akiscaildc".parse::<Cid>(), Err(Error::CidV1(_))));
    }

    #[test]
    fn links_are_read_and_written() {
        let cid: Cid = HELLO.parse().unwrap();
        assert_eq!(Cid::parse_link(&cid.link()), Ok(cid));
        for link in [
            HELLO,
            "/ipfs/",
            "ipfs://Qm",
            "/ipns/x",
            "/ipfs/../x",
            &format!("/ipfs/{HELLO}/a"),
            &format!("/ipfs/{HELLO}/"),
        ] {
            assert!(Cid::parse_link(link).is_err(), "{link}");
        }
        assert_eq!(serde_json::from_str::<Cid>(&serde_json::to_string(&cid).unwrap()).unwrap(), cid);
    }

    #[test]
    fn multiaddrs_stand_on_chain_in_both_forms() {
        let cid: Cid = HELLO.parse().unwrap();
        let binary = Multiaddr::Ipfs(cid).encode();
        assert_eq!(alloy_primitives::hex::encode(&binary[..5]), "a503221220");
        assert_eq!(binary.len(), 37);
        for bytes in [binary, cid.link().into_bytes(), format!("/p2p/{HELLO}").into_bytes()] {
            assert_eq!(decode_multiaddr(&bytes), Ok(Multiaddr::Ipfs(cid)));
        }
        let url = "https://example.org/data.csv";
        assert_eq!(decode_multiaddr(url.as_bytes()), Ok(Multiaddr::Http(url.into())));
        let image = "docker.io/library/python:3.12";
        assert_eq!(decode_multiaddr(image.as_bytes()), Ok(Multiaddr::Other(image.into())));
        assert_eq!(Multiaddr::Other(image.into()).encode(), image.as_bytes());
    }

    #[test]
    fn multiaddrs_that_nobody_could_read_are_refused() {
        let cid: Cid = HELLO.parse().unwrap();
        let binary = Multiaddr::Ipfs(cid).encode();
        let with_tail = [&binary[..], &[0]].concat();
        let cases: [&[u8]; 6] = [&binary[..36], &with_tail, &[0xff, 0xfe], b"image\n\x1b[2J", b"/ipfs/nothing", b"\0"];
        for bytes in cases {
            assert!(decode_multiaddr(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(decode_multiaddr(b""), Err(Error::Empty));
        assert_eq!(decode_multiaddr(&[b'a'; 5_000]), Err(Error::TooLong(5_000)));
    }
}
