//! Is the result that a worker uploaded the one that was agreed on? A worker's word is not enough to pay everybody.

use bourse_protocol::{
    Bytes,
    computed::{MAX_CALLBACK, callback_digest},
    deal::ResultLink,
    ids::ResultDigest,
};
use futures_util::{StreamExt, future::BoxFuture};
use sha2::{Digest, Sha256};

/// The largest result that is read, in bytes.
const MAX_RESULT: u64 = 1 << 30;

/// Why a link is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a link into the store.
    #[error("{0:?} is not a link of the form /ipfs/<cid>")]
    NotALink(String),
    /// The store does not answer.
    #[error("the result store does not answer")]
    Unreachable(#[from] reqwest::Error),
    /// The store has nothing under it.
    #[error("the result store has nothing at {location}: status {status}")]
    Missing {
        /// The link.
        location: String,
        /// What the store said.
        status: u16,
    },
    /// Other bytes than those that were agreed on.
    #[error("what lies at {location} has digest {found}, and the workers agreed on {agreed}")]
    Mismatch {
        /// The link.
        location: String,
        /// Of the bytes.
        found: ResultDigest,
        /// On chain.
        agreed: ResultDigest,
    },
    /// Too large to check, or to be pushed to a contract.
    #[error("the result is larger than {0} bytes")]
    TooLarge(u64),
}

/// Where results lie: a gateway over HTTP, or a simulation's.
pub trait Results: std::fmt::Debug + Send + Sync {
    /// The digest of the bytes under `link`.
    fn digest(&self, link: ResultLink) -> BoxFuture<'static, Result<ResultDigest, Error>>;

    /// The bytes under `link` that a contract gets, at most [`MAX_CALLBACK`].
    fn callback(&self, link: ResultLink) -> BoxFuture<'static, Result<Bytes, Error>>;
}

/// An IPFS gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) http: reqwest::Client,
    /// Its base URL.
    pub(crate) url: String,
}

impl Results for Gateway {
    fn digest(&self, link: ResultLink) -> BoxFuture<'static, Result<ResultDigest, Error>> {
        let (http, url) = (self.http.clone(), self.url.clone());
        Box::pin(async move {
            let mut hash = Sha256::new();
            read(&http, &url, link, MAX_RESULT, |chunk| hash.update(chunk)).await?;
            Ok(ResultDigest(bourse_protocol::B256::from_slice(&hash.finalize())))
        })
    }

    fn callback(&self, link: ResultLink) -> BoxFuture<'static, Result<Bytes, Error>> {
        let (http, url) = (self.http.clone(), self.url.clone());
        Box::pin(async move {
            let mut data = Vec::new();
            read(&http, &url, link, MAX_CALLBACK as u64, |chunk| data.extend_from_slice(chunk)).await?;
            Ok(data.into())
        })
    }
}

/// Compares the result under `link` with the digest on chain.
pub(crate) async fn result(results: &dyn Results, link: &ResultLink, agreed: ResultDigest) -> Result<(), Error> {
    agree(link, results.digest(link.clone()).await?, agreed)
}

/// What is pushed to a contract of the result under `link`, if it has the digest on chain: the contract compares it again.
pub(crate) async fn callback(results: &dyn Results, link: &ResultLink, agreed: ResultDigest) -> Result<Bytes, Error> {
    let data = results.callback(link.clone()).await?;
    agree(link, callback_digest(&data), agreed).map(|()| data)
}

fn agree(link: &ResultLink, found: ResultDigest, agreed: ResultDigest) -> Result<(), Error> {
    if found == agreed { Ok(()) } else { Err(Error::Mismatch { location: link.location.clone(), found, agreed }) }
}

async fn read(
    http: &reqwest::Client,
    gateway: &str,
    link: ResultLink,
    limit: u64,
    mut take: impl FnMut(&[u8]),
) -> Result<(), Error> {
    let location = link.location;
    let cid = location.strip_prefix("/ipfs/").filter(|cid| cid.bytes().all(|b| b.is_ascii_alphanumeric()));
    if link.storage != "ipfs" || cid.is_none_or(str::is_empty) {
        return Err(Error::NotALink(location));
    }
    let answer = http.get(format!("{}{location}", gateway.trim_end_matches('/'))).send().await?;
    if !answer.status().is_success() {
        return Err(Error::Missing { location, status: answer.status().as_u16() });
    }
    let (mut size, mut body) = (0u64, answer.bytes_stream());
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        size = size.saturating_add(chunk.len() as u64);
        if size > limit {
            return Err(Error::TooLarge(limit));
        }
        take(&chunk);
    }
    Ok(())
}
