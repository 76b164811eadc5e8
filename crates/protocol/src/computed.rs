//! What an app says about its result: `computed.json`, and the digest that workers vote on (middleware.md §4.8).
//!
//! The app wrote the file, so it is hostile: it is read into a [`Plan`] that cannot name anything outside `/iexec_out`.
//! Looking at the disk is the worker's part; it hands what it found to the digest rules here.
//!
//! The known rules let different folders collide: a sub-folder and an empty file each count as nothing. We keep the
//! rules for whatever they tell apart, and refuse what they do not: sub-folders, empty files, empty folders, links.

use crate::ids::ResultDigest;
use alloy_primitives::{B256, Bytes, hex, keccak256};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt};

/// Name of the file in [`OUTPUT_FOLDER`] that holds the plan.
pub const FILE_NAME: &str = "computed.json";
/// Where an app sees its output folder.
pub const OUTPUT_FOLDER: &str = "/iexec_out";
/// Largest `computed.json` that is read, in bytes.
pub const MAX_FILE: usize = 256 * 1024;
/// Most bytes of `callback-data`: the contract keeps them, and all must fit into one transaction of 16,777,216 gas (EIP-7825).
pub const MAX_CALLBACK: usize = 16 * 1024;
/// What a contract gets where a run failed alike everywhere: nothing. No contract takes that for an answer; the text of a
/// failure it might.
pub const NO_CALLBACK: &[u8] = &[];
/// Longest output path, in bytes.
pub const MAX_PATH: usize = 1_024;

/// Why a result cannot be taken. Each is the app's fault.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the error texts say it")]
pub enum Error {
    #[error("app wrote no computed.json to {OUTPUT_FOLDER}: it must name its result there")]
    NoFile,
    #[error("computed.json is {size} bytes long: the limit is {MAX_FILE}")]
    TooLong { size: usize },
    #[error("computed.json is not the JSON object it must be: {0}")]
    NotJson(String),
    #[error("computed.json names no result: write either deterministic-output-path or callback-data")]
    NoResult,
    #[error("computed.json has both deterministic-output-path and callback-data: write one of them")]
    TwoResults,
    #[error("deterministic-output-path {path:?} {reason}: name a file or folder under {OUTPUT_FOLDER}")]
    BadPath { path: String, reason: &'static str },
    #[error("callback-data {0}: write 0x and an even number of hex digits, at most {MAX_CALLBACK} bytes")]
    BadCallback(&'static str),
    #[error("deterministic output {0} does not exist: the app must write it before it ends")]
    Missing(String),
    #[error("deterministic output {0} is neither a regular file nor a folder: links and devices are refused")]
    NotAFile(String),
    #[error("deterministic output {0} is empty: the digest could not tell it from nothing")]
    Empty(String),
    #[error(
        "deterministic output folder holds a sub-folder {0:?}: the digest covers direct files only, so pack it into one file"
    )]
    SubFolder(String),
}

/// What the digest is taken of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// A file or folder that the app wrote.
    Output(OutputPath),
    /// Bytes to hand to the callback contract.
    Callback(Bytes),
}

/// A path under [`OUTPUT_FOLDER`] without any way out of it by name: plain components, no `.`, no `..`.
///
/// Links on the disk are another way out; whoever opens the path refuses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputPath(Vec<String>);

impl OutputPath {
    /// The names from the output folder down; none for the folder itself.
    pub fn components(&self) -> &[String] {
        &self.0
    }

    fn parse(path: &str) -> Result<Self, Error> {
        let bad = |reason| Error::BadPath { path: path.chars().take(100).collect(), reason };
        if path.len() > MAX_PATH {
            return Err(bad("is too long"));
        }
        if path.chars().any(char::is_control) {
            return Err(bad("holds a control character"));
        }
        let rest = path.strip_prefix(OUTPUT_FOLDER).ok_or_else(|| bad("is outside the output folder"))?;
        let rest = match rest.strip_prefix('/') {
            Some(rest) => rest.strip_suffix('/').unwrap_or(rest),
            None if rest.is_empty() => rest,
            None => return Err(bad("is outside the output folder")),
        };
        let components: Vec<_> = rest.split('/').filter(|_| !rest.is_empty()).map(str::to_owned).collect();
        match components.iter().map(String::as_str).find(|name| matches!(*name, "" | "." | "..") || name.len() > 255) {
            Some("" | ".") => Err(bad("has an empty step")),
            Some("..") => Err(bad("climbs up")),
            Some(_) => Err(bad("has a name over 255 bytes")),
            None => Ok(Self(components)),
        }
    }
}

impl fmt::Display for OutputPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(OUTPUT_FOLDER)?;
        self.0.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", expecting = "an object")]
struct Raw {
    deterministic_output_path: Option<String>,
    callback_data: Option<String>,
}

/// Reads `computed.json`. Keys that other tools add to it (`task-id`, `result-digest`, …) are ignored; `null` means absent.
pub fn parse(computed_json: &[u8]) -> Result<Plan, Error> {
    if computed_json.len() > MAX_FILE {
        return Err(Error::TooLong { size: computed_json.len() });
    }
    // A sequence would also fill a struct: the file must be an object.
    if computed_json.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::NotJson("expected {".to_owned()));
    }
    let raw: Raw = serde_json::from_slice(computed_json).map_err(|error| Error::NotJson(error.to_string()))?;
    match (raw.deterministic_output_path, raw.callback_data) {
        (Some(path), None) => OutputPath::parse(&path).map(Plan::Output),
        (None, Some(data)) => parse_callback(&data).map(Plan::Callback),
        (None, None) => Err(Error::NoResult),
        (Some(_), Some(_)) => Err(Error::TwoResults),
    }
}

fn parse_callback(text: &str) -> Result<Bytes, Error> {
    let bytes = hex::decode(text).map_err(|_| Error::BadCallback("is not hex"))?;
    match bytes.len() {
        0 => Err(Error::BadCallback("is empty")),
        1..=MAX_CALLBACK => Ok(bytes.into()),
        _ => Err(Error::BadCallback("is too long")),
    }
}

/// What the worker found on disk where the plan points, links not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A regular file.
    File(FileHash),
    /// A folder and its direct children by name.
    Folder(BTreeMap<String, Child>),
    /// A link, a device, a socket: anything else.
    Other,
}

/// Size and sha2-256 of a regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHash {
    /// Bytes of content.
    pub size: u64,
    /// The sha2-256 of the content.
    pub sha256: B256,
}

/// A direct child of an output folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    /// A regular file.
    File(FileHash),
    /// A folder.
    Folder,
    /// A link, a device, a socket: anything else.
    Other,
}

/// Digest of a callback: keccak256 of the bytes, which the contract recomputes.
pub fn callback_digest(callback: &[u8]) -> ResultDigest {
    ResultDigest(keccak256(callback))
}

/// Whether bytes are the result that was voted on: a file by its sha2-256, what a contract gets by its keccak256.
pub fn is_result(bytes: &[u8], agreed: ResultDigest) -> bool {
    file_digest(bytes) == agreed || callback_digest(bytes) == agreed
}

/// Digest of a file.
pub fn file_digest(file: &[u8]) -> ResultDigest {
    ResultDigest(B256::new(Sha256::digest(file).into()))
}

/// Digest of the output that a plan names.
///
/// File: its sha2-256. Folder: keccak256 of the sha2-256 of its files, one after another in the order of their names
/// (by UTF-16 code unit, as Java sorts).
pub fn output_digest(path: &OutputPath, found: &Found) -> Result<ResultDigest, Error> {
    match found {
        Found::Nothing => Err(Error::Missing(path.to_string())),
        Found::Other => Err(Error::NotAFile(path.to_string())),
        Found::File(file) => content_hash(file, || path.to_string()).map(ResultDigest),
        Found::Folder(children) => folder_digest(path, children),
    }
}

fn folder_digest(path: &OutputPath, children: &BTreeMap<String, Child>) -> Result<ResultDigest, Error> {
    if children.is_empty() {
        return Err(Error::Empty(path.to_string()));
    }
    let mut sorted: Vec<_> = children.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    let mut hashes = Vec::with_capacity(sorted.len() * 32);
    for (name, child) in sorted {
        match child {
            Child::File(file) => hashes.extend(content_hash(file, || format!("{path}/{name}"))?),
            Child::Folder => return Err(Error::SubFolder(name.clone())),
            Child::Other => return Err(Error::NotAFile(format!("{path}/{name}"))),
        }
    }
    Ok(ResultDigest(keccak256(hashes)))
}

fn content_hash(file: &FileHash, name: impl FnOnce() -> String) -> Result<B256, Error> {
    if file.size == 0 { Err(Error::Empty(name())) } else { Ok(file.sha256) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::b256;
    use sha2::{Digest, Sha256};

    fn file(content: &str) -> FileHash {
        FileHash { size: content.len() as u64, sha256: B256::new(Sha256::digest(content).into()) }
    }

    fn path(text: &str) -> OutputPath {
        OutputPath::parse(text).unwrap()
    }

    fn folder(children: &[(&str, Child)]) -> Found {
        Found::Folder(children.iter().map(|(name, child)| (name.to_string(), *child)).collect())
    }

    #[test]
    fn a_plan_names_a_file_a_folder_or_a_callback() {
        let plan = |json: &str| parse(json.as_bytes()).unwrap();
        let Plan::Output(deep) = plan(r#"{"deterministic-output-path": "/iexec_out/a/b.json", "task-id": "0x1"}"#)
        else {
            panic!("not a path")
        };
        assert_eq!(
            (deep.components(), deep.to_string()),
            (&["a".into(), "b.json".into()][..], "/iexec_out/a/b.json".into())
        );
        for whole in ["/iexec_out", "/iexec_out/"] {
            assert_eq!(path(whole), OutputPath(vec![]));
        }
        assert_eq!(plan(r#"{"deterministic-output-path": "/iexec_out/d/"}"#), Plan::Output(path("/iexec_out/d")));
        let callback = Plan::Callback(Bytes::from_static(&[0x12, 0xab]));
        assert_eq!(plan(r#"{"callback-data": "0x12aB", "deterministic-output-path": null}"#), callback);
        assert_eq!(plan(r#"{"callback-data": "12ab"}"#), callback);
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        let long = format!("/iexec_out/{}", "a/".repeat(2_000));
        let name = format!("/iexec_out/{}", "a".repeat(256));
        for text in [
            "",
            "/",
            "result.json",
            "iexec_out/x",
            "/etc/passwd",
            "/iexec_output/x",
            "/iexec_out/../etc/passwd",
            "/iexec_out/a/..",
            "/iexec_out//x",
            "/iexec_out/./x",
            "/iexec_out/a//",
            "//iexec_out/x",
            "/iexec_out/a\0b",
            "/iexec_out/a\nb",
            &long,
            &name,
        ] {
            let json = serde_json::json!({ "deterministic-output-path": text }).to_string();
            let error = parse(json.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::BadPath { .. }), "{text:.40}: {error}");
            assert!(error.to_string().len() < 600);
        }
        assert_eq!(
            parse(br#"{"deterministic-output-path": "/iexec_out/../x"}"#).unwrap_err().to_string(),
            r#"deterministic-output-path "/iexec_out/../x" climbs up: name a file or folder under /iexec_out"#
        );
    }

    #[test]
    fn files_that_are_no_plan_are_refused() {
        let both = br#"{"callback-data": "0x12", "deterministic-output-path": "/iexec_out/a"}"#;
        assert_eq!(parse(both), Err(Error::TwoResults));
        assert_eq!(parse(b"{}"), Err(Error::NoResult));
        assert_eq!(parse(br#"{"callback-data": null}"#), Err(Error::NoResult));
        assert_eq!(parse(&vec![b' '; MAX_FILE + 1]), Err(Error::TooLong { size: MAX_FILE + 1 }));
        let twice = br#"{"callback-data": "0x12", "callback-data": "0x13"}"#;
        let deep = [b"{\"a\":".as_slice(), &[b'['; 100_000]].concat();
        let not_json: [&[u8]; 8] =
            [b"", b"null", b"[\"/iexec_out/x\", null]", b"{", br#"{"callback-data": 5}"#, twice, b"{} {}", &deep];
        for bytes in not_json {
            assert!(
                matches!(parse(bytes), Err(Error::NotJson(_))),
                "{:?}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(40)])
            );
        }
    }

    #[test]
    fn callbacks_that_no_contract_could_take_are_refused() {
        let callback = |text: &str| parse(serde_json::json!({ "callback-data": text }).to_string().as_bytes());
        for (text, reason) in [
            ("", "is empty"),
            ("0x", "is empty"),
            ("0x1", "is not hex"),
            ("hello", "is not hex"),
            ("0x 12", "is not hex"),
        ] {
            assert_eq!(callback(text), Err(Error::BadCallback(reason)), "{text}");
        }
        assert!(callback(&"ab".repeat(MAX_CALLBACK)).is_ok());
        assert_eq!(callback(&"ab".repeat(MAX_CALLBACK + 1)), Err(Error::BadCallback("is too long")));
    }

    #[test]
    fn digests_follow_the_known_rules() {
        let out = path("/iexec_out/r");
        // printf abc | sha256sum
        let abc = b256!("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(output_digest(&out, &Found::File(file("abc"))), Ok(ResultDigest(abc)));

        let found = folder(&[("b", Child::File(file("2"))), ("a", Child::File(file("1")))]);
        let concatenated = [file("1").sha256, file("2").sha256].concat();
        assert_eq!(output_digest(&out, &found), Ok(ResultDigest(keccak256(concatenated))));

        // keccak256("abc"), a published test vector.
        let expected = b256!("4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45");
        assert_eq!(callback_digest(b"abc"), ResultDigest(expected));
        assert!(is_result(b"abc", ResultDigest(abc)) && is_result(b"abc", ResultDigest(expected)));
        assert!(!is_result(b"abd", ResultDigest(abc)) && !is_result(b"", ResultDigest(expected)));
    }

    #[test]
    fn names_sort_as_java_sorts_them() {
        // U+1F600 is D83D DE00 in UTF-16, before U+FF21; in UTF-8 it comes after.
        let found = folder(&[("\u{ff21}", Child::File(file("2"))), ("\u{1f600}", Child::File(file("1")))]);
        let concatenated = [file("1").sha256, file("2").sha256].concat();
        assert_eq!(output_digest(&path("/iexec_out"), &found), Ok(ResultDigest(keccak256(concatenated))));
    }

    #[test]
    fn what_the_rules_cannot_tell_apart_is_refused() {
        let out = path("/iexec_out/r");
        let full = ("a", Child::File(file("1")));
        let digest = |found| output_digest(&out, &found);
        assert_eq!(digest(Found::Nothing), Err(Error::Missing("/iexec_out/r".into())));
        assert_eq!(digest(Found::Other), Err(Error::NotAFile("/iexec_out/r".into())));
        assert_eq!(digest(Found::File(file(""))), Err(Error::Empty("/iexec_out/r".into())));
        assert_eq!(digest(folder(&[])), Err(Error::Empty("/iexec_out/r".into())));
        assert_eq!(digest(folder(&[full, ("b", Child::Folder)])), Err(Error::SubFolder("b".into())));
        assert_eq!(digest(folder(&[full, ("b", Child::File(file("")))])), Err(Error::Empty("/iexec_out/r/b".into())));
        assert_eq!(digest(folder(&[full, ("b", Child::Other)])), Err(Error::NotAFile("/iexec_out/r/b".into())));
    }
}
