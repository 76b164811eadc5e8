//! Storing a result: one file to an IPFS node's `add`, checked against the content id that the worker computes itself.

use crate::folder::CALLBACK;
use bourse_protocol::{B256, computed::callback_digest, ids::ResultDigest, ipfs};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// A node that does not answer within this time after the last byte is given up.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Why a result is not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The node does not answer, or answers nonsense. Later may be better.
    #[error("the result store at {url} did not take the result: {reason}")]
    Store {
        /// The node.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The file is not what was contributed.
    #[error("the result file {path} has changed since it was contributed")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("the result file {path} cannot be read: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Added {
    hash: ipfs::Cid,
}

/// Stores `file`, whose `digest` is its sha2-256, or its keccak256 if a callback gets it, and returns its content id.
pub(crate) async fn upload(
    http: &reqwest::Client,
    url: &str,
    token: &str,
    file: &Path,
    digest: ResultDigest,
) -> Result<ipfs::Cid, Error> {
    let unreadable = |e: String| Error::File { path: file.to_owned(), reason: e };
    let path = file.to_owned();
    let hashed = tokio::task::spawn_blocking(move || hash(&path)).await.map_err(|e| unreadable(e.to_string()))?;
    let (cid, found) = hashed.map_err(|e| unreadable(e.to_string()))?;
    let found = match file.file_name().is_some_and(|name| name == CALLBACK) {
        true => callback_digest(&tokio::fs::read(file).await.map_err(|e| unreadable(e.to_string()))?),
        false => ResultDigest(found),
    };
    if found != digest {
        return Err(Error::Changed { path: file.to_owned() });
    }
    let failed = |reason: String| Error::Store { url: url.into(), reason };
    let part = reqwest::multipart::Part::file(file).await.map_err(|e| unreadable(e.to_string()))?;
    let request = http
        .post(format!("{}/api/v0/add?pin=true", url.trim_end_matches('/')))
        .bearer_auth(token)
        .multipart(reqwest::multipart::Form::new().part("file", part))
        .timeout(TIMEOUT);
    let mut response = request.send().await.map_err(|e| failed(e.without_url().to_string()))?;
    if !response.status().is_success() {
        return Err(failed(format!("it answers {}", response.status())));
    }
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| failed(e.without_url().to_string()))? {
        answer.extend_from_slice(&chunk);
        if answer.len() > MAX_ANSWER {
            return Err(failed("its answer is too long".into()));
        }
    }
    match last_added(&answer) {
        Some(stored) if stored == cid => Ok(cid),
        Some(stored) => Err(failed(format!("it stored {stored} instead of {cid}"))),
        None => Err(failed("its answer names no content".into())),
    }
}

/// An `add` answers one JSON object per line, the whole last.
fn last_added(answer: &[u8]) -> Option<ipfs::Cid> {
    let line = answer.trim_ascii_end().rsplit(|&b| b == b'\n').next()?;
    serde_json::from_slice::<Added>(line).ok().map(|added| added.hash)
}

/// Content id and sha2-256 of a file.
fn hash(path: &Path) -> io::Result<(ipfs::Cid, B256)> {
    let mut file = File::open(path)?;
    let (mut tree, mut hash, mut piece) = (ipfs::Builder::default(), Sha256::new(), vec![0; ipfs::CHUNK]);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        tree.push(&piece[..read], &mut |_| ());
        hash.update(&piece[..read]);
    }
    Ok((tree.finish(&mut |_| ()).cid, B256::new(hash.finalize().into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{
        Router,
        extract::Multipart,
        http::{HeaderMap, StatusCode},
        routing::post,
    };
    use tokio::task::JoinSet;

    /// A node that answers every `add` with `answer`, or with the truth if there is none.
    async fn node(answer: Option<&'static str>) -> (String, JoinSet<()>) {
        let add = move |headers: HeaderMap, mut form: Multipart| async move {
            // The whole request is read before any answer: a connection closed earlier looks like a dead node.
            let content = form.next_field().await.unwrap().unwrap().bytes().await.unwrap();
            while form.next_field().await.unwrap().is_some() {}
            if headers.get("authorization").is_none_or(|h| h != "Bearer token") {
                return (StatusCode::UNAUTHORIZED, String::new());
            }
            let truth = format!("{{\"Name\":\"r\",\"Hash\":\"{}\",\"Size\":\"1\"}}\n", ipfs::Cid::of(&content));
            (StatusCode::OK, answer.map_or(truth, str::to_owned))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move {
            axum::serve(listener, Router::new().route("/api/v0/add", post(add))).await.unwrap();
        });
        (url, server)
    }

    async fn upload_to(url: &str, token: &str, content: &[u8], contributed: &[u8]) -> Result<ipfs::Cid, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let digest = ResultDigest(B256::new(Sha256::digest(contributed).into()));
        upload(&bourse_service::http::client(Duration::from_secs(5)), url, token, file.path(), digest).await
    }

    #[tokio::test]
    async fn a_result_is_stored_under_the_id_that_the_worker_computes_itself() {
        let (url, _server) = node(None).await;
        let content = vec![3; ipfs::CHUNK + 1];
        assert_eq!(upload_to(&url, "token", &content, &content).await.unwrap(), ipfs::Cid::of(&content));
    }

    #[tokio::test]
    async fn a_store_that_refuses_or_lies_is_told_from_a_good_one() {
        let other = r#"{"Name":"r","Hash":"QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o","Size":"20"}"#;
        for (answer, token, text) in [
            (None, "wrong", "answers 401"),
            (Some(other), "token", "instead of"),
            (Some("ok"), "token", "names no content"),
            (Some(""), "token", "names no content"),
        ] {
            let (url, _server) = node(answer).await;
            let error = upload_to(&url, token, b"r", b"r").await.unwrap_err();
            assert!(matches!(error, Error::Store { .. }) && error.to_string().contains(text), "{error}");
        }
        let gone = upload_to("http://127.0.0.1:1", "token", b"r", b"r").await.unwrap_err();
        assert!(matches!(gone, Error::Store { .. }), "{gone}");
    }

    #[tokio::test]
    async fn a_file_that_is_not_what_was_contributed_stays_here() {
        let (url, _server) = node(None).await;
        let changed = upload_to(&url, "token", b"changed", b"contributed").await.unwrap_err();
        assert!(matches!(changed, Error::Changed { .. }), "{changed}");
        let http = bourse_service::http::client(Duration::from_secs(5));
        let gone = upload(&http, &url, "token", Path::new("/nonexistent"), ResultDigest::default()).await.unwrap_err();
        assert!(matches!(gone, Error::File { .. }), "{gone}");
    }
}
