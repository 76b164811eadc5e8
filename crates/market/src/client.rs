//! A typed client of the gateway.

use crate::query;
use bourse_chain::PrivateKeySigner;
use bourse_protocol::{
    B256,
    api::{
        Failure, OrderPage, PublishedOrder,
        market::{
            Answer, CHALLENGE_PREFIX, CategoryPage, CategoryView, ChallengeAnswer, DealPage, DealView, Metrics,
            Published, Unpublish, Unpublished, challenge_digest,
        },
    },
    book::{Filter, Kind, Window},
    ids::{DealId, OrderHash},
    orders::Order,
};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// A market that does not answer within this time is unreachable.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// Why the market gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody there. Later may be better.
    #[error("market {url} does not answer: check that it runs and that the address is right")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The market says no.
    #[error("the market refuses: {}", .0.error)]
    Refused(Failure),
    /// Not a market, or a broken one.
    #[error("{url} does not speak like a market: check the address")]
    Nonsense {
        /// Where.
        url: String,
    },
    /// What it wants signed is not a login.
    #[error("market {url} wants something signed that is not a login: do not trust it")]
    NotALogin {
        /// Where.
        url: String,
    },
}

/// A connection to one market. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    chain_id: u64,
}

impl Client {
    /// The market at `url`, for orders on the chain of `chain_id`. Nothing is asked yet.
    pub fn new(url: &str, chain_id: u64) -> Self {
        Self { http: bourse_service::http::client(TIMEOUT), url: url.trim_end_matches('/').to_owned(), chain_id }
    }

    /// Publishes a signed order of `wallet`.
    pub async fn publish<O: Order>(&self, wallet: &PrivateKeySigner, order: &O) -> Result<OrderHash, Error> {
        let login = self.log_in(wallet).await?;
        let request = self.request(Method::POST, &book::<O>(), &[]).header("authorization", login);
        let answer: Answer<Published<O>> = self.answer(request.json(&serde_json::json!({ "order": order }))).await?;
        Ok(answer.body.published.order_hash)
    }

    /// Takes orders of `wallet` out of the book of their kind. Says which.
    pub async fn unpublish<O: Order>(
        &self,
        wallet: &PrivateKeySigner,
        what: &Unpublish,
    ) -> Result<Vec<OrderHash>, Error> {
        let login = self.log_in(wallet).await?;
        let request = self.request(Method::PUT, &book::<O>(), &[]).header("authorization", login);
        let answer: Answer<Unpublished> = self.answer(request.json(what)).await?;
        Ok(answer.body.unpublished)
    }

    /// One page of the open orders of a kind that `filter` accepts, best first.
    pub async fn orders<O: Order>(&self, filter: &Filter, window: Window) -> Result<OrderPage<O>, Error> {
        let kind = Kind::of_word(O::KIND).expect("every order type names a kind");
        self.get(&book::<O>(), &query::write(kind, filter, window)).await
    }

    /// An order that is or was in the book.
    pub async fn order<O: Order>(&self, hash: OrderHash) -> Result<Option<PublishedOrder<O>>, Error> {
        self.find(&format!("{}/{hash}", book::<O>())).await
    }

    /// A deal, once the market has seen it.
    pub async fn deal(&self, id: DealId) -> Result<Option<DealView>, Error> {
        self.find(&format!("/deals/{id}")).await
    }

    /// One page of deals, newest first. `terms` are parameters of `GET /deals`, such as `requester` or `workerpool`.
    pub async fn deals(&self, terms: &[(&'static str, String)], window: Window) -> Result<DealPage, Error> {
        let mut pairs = vec![("pageIndex", window.index.to_string()), ("pageSize", window.size.to_string())];
        pairs.extend_from_slice(terms);
        Ok(self.get::<Answer<DealPage>>("/deals", &pairs).await?.body)
    }

    /// All categories, the shortest period first.
    pub async fn categories(&self) -> Result<Vec<CategoryView>, Error> {
        let pairs = [("pageSize", "1000".to_owned())];
        Ok(self.get::<Answer<CategoryPage>>("/categories", &pairs).await?.body.categories)
    }

    /// How far the market has read the chain, and how many orders are open.
    pub async fn metrics(&self) -> Result<Metrics, Error> {
        Ok(self.get::<Answer<Metrics>>("/metrics", &[]).await?.body)
    }

    /// An `authorization` header. Signs nothing but a login for this chain, whatever the market asks for.
    async fn log_in(&self, wallet: &PrivateKeySigner) -> Result<String, Error> {
        let pairs = [("address", wallet.address().to_string())];
        let asked: Answer<ChallengeAnswer> = self.get("/challenge", &pairs).await?;
        let text = asked.body.data.message.challenge;
        if !text.starts_with(CHALLENGE_PREFIX) {
            return Err(Error::NotALogin { url: self.url.clone() });
        }
        let digest: B256 = challenge_digest(self.chain_id, &text);
        let signature = wallet.sign_hash(&digest);
        let hex = bourse_chain::alloy::hex::encode_prefixed(signature.as_bytes());
        Ok(format!("{digest}_{hex}_{}", wallet.address()))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, pairs: &[(&'static str, String)]) -> Result<T, Error> {
        self.answer(self.request(Method::GET, path, pairs)).await
    }

    async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Error> {
        match self.get::<Answer<T>>(path, &[]).await {
            Ok(answer) => Ok(Some(answer.body)),
            Err(Error::Refused(failure)) if failure.code == "not_found" => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn request(&self, method: Method, path: &str, pairs: &[(&'static str, String)]) -> reqwest::RequestBuilder {
        let chain = [("chainId", self.chain_id.to_string())];
        self.http.request(method, format!("{}{path}", self.url)).query(&chain).query(pairs)
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, Error> {
        let unreachable = |source| Error::Unreachable { url: self.url.clone(), source };
        let nonsense = || Error::Nonsense { url: self.url.clone() };
        let mut response = request.send().await.map_err(unreachable)?;
        let status: StatusCode = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(nonsense());
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|_| nonsense());
        }
        Err(serde_json::from_slice(&body).map_or_else(|_| nonsense(), Error::Refused))
    }
}

/// The route of a kind's orders.
fn book<O: Order>() -> String {
    format!("/{}orders", O::KIND)
}
