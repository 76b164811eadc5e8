//! Is the result that a worker uploaded the one that was agreed on? A worker's word is not enough to pay everybody.

use bourse_protocol::{
    Bytes,
    computed::{MAX_CALLBACK, callback_digest},
    deal::ResultLink,
    ids::ResultDigest,
};
use futures_util::{Stream, StreamExt, future::BoxFuture};
use sha2::{Digest, Sha256};
use std::{pin::pin, time::Duration};
use tokio::time::timeout;

/// The largest result that is read, in bytes.
const MAX_RESULT: u64 = 1 << 30;
/// A store that says nothing for so long is given up for now.
pub(crate) const IDLE: Duration = Duration::from_secs(30);
/// No result is read for longer, however steadily it drips.
const TOTAL: Duration = Duration::from_secs(3600);

/// Why a link is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a link into the store.
    #[error("{0:?} is not a link of the form /ipfs/<cid>")]
    NotALink(String),
    /// The store does not answer, or breaks off.
    #[error("the result store does not answer")]
    Unreachable(#[from] reqwest::Error),
    /// The store goes silent.
    #[error("the result store has said nothing for {} s", IDLE.as_secs())]
    Silent,
    /// The store cannot answer now.
    #[error("the result store cannot answer now: status {0}")]
    Unable(u16),
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

impl Error {
    /// Whether this says nothing of the result, and the store may give it later.
    pub(crate) fn is_of_the_store(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Silent | Self::Unable(_) => true,
            Self::NotALink(_) | Self::Missing { .. } | Self::Mismatch { .. } | Self::TooLarge(_) => false,
        }
    }
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
    take: impl FnMut(&[u8]),
) -> Result<(), Error> {
    let location = link.location;
    let cid = location.strip_prefix("/ipfs/").filter(|cid| cid.bytes().all(|b| b.is_ascii_alphanumeric()));
    if link.storage != "ipfs" || cid.is_none_or(str::is_empty) {
        return Err(Error::NotALink(location));
    }
    let asked = http.get(format!("{}{location}", gateway.trim_end_matches('/'))).timeout(TOTAL).send();
    let answer = timeout(IDLE, asked).await.map_err(|_| Error::Silent)??;
    match answer.status().as_u16() {
        200 => drain(answer.bytes_stream(), limit, take).await,
        status @ (408 | 429) => Err(Error::Unable(status)),
        status @ 400..=499 => Err(Error::Missing { location, status }),
        status => Err(Error::Unable(status)),
    }
}

/// Takes all of a body that keeps coming, at most `limit` bytes.
async fn drain<C: AsRef<[u8]>, E>(
    body: impl Stream<Item = Result<C, E>>,
    limit: u64,
    mut take: impl FnMut(&[u8]),
) -> Result<(), Error>
where
    Error: From<E>,
{
    let (mut size, mut body) = (0u64, pin!(body));
    while let Some(chunk) = timeout(IDLE, body.next()).await.map_err(|_| Error::Silent)? {
        let chunk = chunk?;
        let chunk = chunk.as_ref();
        size = size.saturating_add(chunk.len() as u64);
        if size > limit {
            return Err(Error::TooLarge(limit));
        }
        take(chunk);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, http::StatusCode, routing::get};
    use futures_util::stream;

    /// A body of so many bytes, each of which comes after a pause.
    fn dripping(bytes: u64, pause: Duration) -> impl Stream<Item = Result<[u8; 1], Error>> {
        stream::iter(0..bytes).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok([7])
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_that_keeps_coming_is_read_to_its_end_and_one_that_stops_is_not_waited_for() {
        let (almost, mut read) = (IDLE - Duration::from_secs(1), 0);
        drain(dripping(20, almost), 20, |chunk| read += chunk.len()).await.unwrap();
        assert_eq!(read, 20);
        assert!(matches!(drain(dripping(20, almost), 19, |_| {}).await, Err(Error::TooLarge(19))));
        let silent = drain(dripping(1, 2 * IDLE), 20, |_| {}).await.unwrap_err();
        assert!(matches!(silent, Error::Silent) && silent.is_of_the_store());
    }

    #[tokio::test]
    async fn what_the_store_cannot_say_now_is_told_apart_from_what_it_does_not_have() {
        let http = bourse_service::http::client(IDLE);
        let listen = async || tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = |place: std::net::SocketAddr| Gateway { http: http.clone(), url: format!("http://{place}") };
        let (listener, gone) = (listen().await, listen().await.local_addr().unwrap());
        let gateway = at(listener.local_addr().unwrap());
        let answer = |status: u16| get(async move || StatusCode::from_u16(status).unwrap());
        let statuses = [503, 504, 429, 301, 404, 400];
        let route = |router: Router, status: u16| router.route(&format!("/ipfs/{status}"), answer(status));
        let router = statuses.into_iter().fold(Router::new(), route);
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let mut passing = vec![];
        for status in statuses {
            let link = ResultLink::ipfs(format!("/ipfs/{status}"));
            passing.push(gateway.digest(link).await.unwrap_err().is_of_the_store());
        }
        assert_eq!(passing, [true, true, true, true, false, false]);
        let unreachable = at(gone).digest(ResultLink::ipfs("/ipfs/404".into())).await.unwrap_err();
        assert!(unreachable.is_of_the_store(), "nobody listens: {unreachable}");
    }
}
