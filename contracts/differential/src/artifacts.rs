//! Compiled contracts: ours from `contracts/artifacts`, the published ones from where `tools/install` unpacked them.

use alloy_primitives::{Address, Bytes};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Why a contract could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `tools/install` has not run.
    #[error("the published contracts are not in {}: run tools/install", .0.display())]
    NotInstalled(PathBuf),
    /// A file that should be there is not, or is not what it should be.
    #[error("artifact {} cannot be used: {reason}", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// One compiled contract.
#[derive(Debug)]
pub struct Artifact {
    json: Value,
    path: PathBuf,
}

impl Artifact {
    fn read(path: PathBuf) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Unusable { path: path.clone(), reason };
        let text = std::fs::read_to_string(&path).map_err(|e| unusable(e.to_string()))?;
        let json = serde_json::from_str(&text).map_err(|e| unusable(e.to_string()))?;
        Ok(Self { json, path })
    }

    fn unusable(&self, reason: impl Into<String>) -> Error {
        Error::Unusable { path: self.path.clone(), reason: reason.into() }
    }

    /// Creation code, with `library` put in wherever a library is asked for.
    pub fn code(&self, library: Address) -> Result<Bytes, Error> {
        let text = self.json["bytecode"].as_str().ok_or_else(|| self.unusable("no bytecode"))?;
        let linked = link(text.trim_start_matches("0x"), library);
        hex::decode(linked).map(Bytes::from).map_err(|e| self.unusable(e.to_string()))
    }

    /// Canonical signatures of everything of this kind (`function`, `event`, `error`) in the interface.
    pub fn signatures(&self, kind: &str) -> Vec<String> {
        let entries = self.json["abi"].as_array().into_iter().flatten();
        entries.filter(|e| e["type"] == kind).map(signature).collect()
    }
}

/// Library places are 40 characters: `__$`, a digest, `$__`.
fn link(code: &str, library: Address) -> String {
    let mut linked = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("__$") {
        linked.push_str(&rest[..at]);
        linked.push_str(&hex::encode(library));
        rest = &rest[at + 40..];
    }
    linked + rest
}

fn signature(entry: &Value) -> String {
    format!("{}{}", entry["name"].as_str().unwrap_or_default(), types(&entry["inputs"]))
}

fn types(inputs: &Value) -> String {
    let each = inputs.as_array().into_iter().flatten().map(|input| {
        let kind = input["type"].as_str().unwrap_or_default();
        match kind.strip_prefix("tuple") {
            Some(array) => types(&input["components"]) + array,
            None => kind.to_owned(),
        }
    });
    format!("({})", each.collect::<Vec<_>>().join(","))
}

/// A contract of ours.
pub fn ours(name: &str) -> Result<Artifact, Error> {
    Artifact::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../artifacts/{name}.json")))
}

/// A contract of the published package, by its path in it.
pub fn published(path: &str) -> Result<Artifact, Error> {
    let folder = tools().join("published/poco");
    if !folder.is_dir() {
        return Err(Error::NotInstalled(folder));
    }
    Artifact::read(folder.join(path))
}

/// The token that the published contracts are tested with.
pub fn rlc() -> Result<Artifact, Error> {
    let folder = tools().join("published/rlc");
    if !folder.is_dir() {
        return Err(Error::NotInstalled(folder));
    }
    Artifact::read(folder.join("build/contracts/RLC.json"))
}

/// Where `tools/install` installs, said the same way there.
fn tools() -> PathBuf {
    match std::env::var_os("BOURSE_TOOLS") {
        Some(folder) => folder.into(),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/bourse/tools"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_put_where_it_is_asked_for() {
        let code = format!("60__${}$__61", "a".repeat(34));
        assert_eq!(link(&code, Address::repeat_byte(0x22)), format!("60{}61", "22".repeat(20)));
    }

    #[test]
    fn signatures_are_canonical() {
        let hub = ours("IHub").unwrap();
        assert!(hub.signatures("function").contains(&"claimArray(bytes32[])".to_owned()));
        assert!(hub.signatures("event").contains(&"TaskClaimed(bytes32)".to_owned()));
    }
}
