//! The REST gateway. Source: sdk.md §3. Refusals carry the text that people read and a stable code for programs.

use crate::{
    Error, Market,
    auth::Authorization,
    fields::{BadQuery, Fields, bytes32},
    query,
    shelf::NotPublished,
};
use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, State, rejection::BytesRejection},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bourse_protocol::{
    Address, B256, U256,
    api::{
        OrderPage, OrderStatus, PublishedOrder,
        market::{
            Answer, CategoryPage, CategoryView, ChallengeAnswer, DealPage, DealView, Metrics, Published, Unpublish,
            Unpublished, Version,
        },
    },
    book::{AnyOrder, Entry, Kind, Refusal, check_shape},
    ids::{DealId, OrderHash},
};
use bourse_service::{clock::iso8601, http::refuse, journal};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use tower_http::cors::{Any, CorsLayer};

/// The largest order or request body, in bytes.
const MAX_BODY: usize = 16 * 1024;

/// All routes.
pub(crate) fn router(market: Arc<Market>) -> Router {
    let mut router = Router::new()
        .route("/version", get(version))
        .route("/challenge", get(challenge))
        .route("/deals", get(deals))
        .route("/deals/{id}", get(deal))
        .route("/categories", get(categories))
        .route("/categories/{id}", get(category))
        .route("/metrics", get(metrics));
    for kind in Kind::ALL {
        let book = get(orders).post(publish).put(unpublish).layer(Extension(kind));
        router = router
            .route(&format!("/{kind}orders"), book)
            .route(&format!("/{kind}orders/{{hash}}"), get(order).layer(Extension(kind)));
    }
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::PUT])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT]);
    router
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "not_found", "there is no such route: check the path") })
        .method_not_allowed_fallback(|| async {
            let error = "this route does not take that method: see the documentation";
            refuse(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", error)
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(cors)
        .with_state(market)
}

/// Why a request is not answered.
#[derive(Debug)]
enum Refused {
    Query(BadQuery),
    Body(String),
    BodyTooLarge,
    Unauthorized,
    Order(Refusal),
    NothingToUnpublish(Kind),
    NotFound(&'static str),
    Failed(Error),
}

impl From<BadQuery> for Refused {
    fn from(bad: BadQuery) -> Self {
        Self::Query(bad)
    }
}

impl From<journal::Error> for Refused {
    fn from(error: journal::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<bourse_chain::Error> for Refused {
    fn from(error: bourse_chain::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<NotPublished> for Refused {
    fn from(why: NotPublished) -> Self {
        match why {
            NotPublished::Refused(refusal) => Self::Order(refusal),
            NotPublished::Failed(error) => Self::Failed(error),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Query(bad) => {
                let code = if matches!(bad, BadQuery::OtherChain(_)) { "chain_not_supported" } else { "bad_query" };
                refuse(StatusCode::BAD_REQUEST, code, bad.to_string())
            }
            Self::Body(error) => refuse(StatusCode::BAD_REQUEST, "bad_body", error),
            Self::BodyTooLarge => {
                let error = format!("the body is larger than {MAX_BODY} bytes: no order needs that");
                refuse(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", error)
            }
            Self::Unauthorized => refuse(StatusCode::FORBIDDEN, "invalid_authorization", "invalid authorization"),
            Self::Order(refusal) => {
                let status = if refusal.is_malformed() { StatusCode::BAD_REQUEST } else { StatusCode::FORBIDDEN };
                refuse(status, refusal.code(), refusal.to_string())
            }
            Self::NothingToUnpublish(kind) => {
                let error = format!("no open {kind}order of this wallet fits: check the hash or the address");
                refuse(StatusCode::FORBIDDEN, "nothing_to_unpublish", error)
            }
            Self::NotFound(what) => refuse(StatusCode::NOT_FOUND, "not_found", format!("{what} not found")),
            Self::Failed(error) => fail(&error),
        }
    }
}

/// What went wrong here and not in the request. The details are for the log.
fn fail(error: &Error) -> Response {
    tracing::warn!(%error, cause = std::error::Error::source(error).map(tracing::field::display), "request failed");
    match error {
        Error::Chain(_) => {
            let text = "the chain does not answer: try again later";
            refuse(StatusCode::SERVICE_UNAVAILABLE, "chain_unreachable", text)
        }
        Error::Journal(journal::Error::DiskFull { .. }) => {
            let text = "the market's disk is full: tell its operator";
            refuse(StatusCode::INSUFFICIENT_STORAGE, "disk_full", text)
        }
        Error::Journal(_) | Error::Serve(_) => {
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the market failed: tell its operator")
        }
    }
}

type Shared = State<Arc<Market>>;
type Pairs = Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>;
type Outcome<T> = Result<Json<T>, Refused>;

/// The parameters of a request, once the chain is known to be ours.
fn fields(market: &Market, pairs: Pairs) -> Result<Fields, Refused> {
    let Query(pairs) = pairs.map_err(|_| Refused::Query(BadQuery::Unreadable))?;
    let mut fields = Fields::new(pairs)?;
    fields.chain(market.chain_id)?;
    Ok(fields)
}

/// For routes that take nothing but `chainId`.
fn no_fields(market: &Market, pairs: Pairs) -> Result<(), Refused> {
    Ok(fields(market, pairs)?.end()?)
}

fn hash_of(text: &str) -> Result<B256, Refused> {
    let bad = || Refused::Body(format!("{:.80} is not a hash: expected 0x and 64 hex digits", text));
    bytes32(text).ok_or_else(bad)
}

async fn version() -> Json<Answer<Version>> {
    Json(Answer::of(Version { version: env!("CARGO_PKG_VERSION").into() }))
}

async fn challenge(State(market): Shared, pairs: Pairs) -> Outcome<Answer<ChallengeAnswer>> {
    let mut fields = fields(&market, pairs)?;
    let wallet = fields.address("address")?.ok_or(BadQuery::Missing("address"))?;
    fields.end()?;
    let text = market.challenges.issue(market.chain_id, wallet, market.config.clock.millis());
    Ok(Json(Answer::of(ChallengeAnswer::asking(market.chain_id, text))))
}

/// The wallet that signed the challenge in the header.
async fn authorize(market: &Market, headers: &HeaderMap) -> Result<Address, Refused> {
    let header = headers.get(header::AUTHORIZATION).and_then(|h| h.to_str().ok());
    let Authorization { digest, signature, wallet } =
        header.and_then(Authorization::read).ok_or(Refused::Unauthorized)?;
    if !market.challenges.redeem(digest, wallet, market.config.clock.millis()) {
        return Err(Refused::Unauthorized);
    }
    match market.reader.hub.signature_valid(wallet, digest, &signature).await? {
        true => Ok(wallet),
        false => Err(Refused::Unauthorized),
    }
}

async fn orders(State(market): Shared, Extension(kind): Extension<Kind>, pairs: Pairs) -> Outcome<OrderPage<AnyOrder>> {
    let mut fields = fields(&market, pairs)?;
    let window = query::read_window(&mut fields)?;
    let filter = query::read_filter(kind, &mut fields)?;
    fields.end()?;
    let (entries, count) = market.shelf.page(kind, &filter, window);
    let orders = entries.into_iter().map(|entry| show(&market, entry, OrderStatus::Open)).collect();
    Ok(Json(OrderPage { ok: true, count, next_page: window.next(count), orders }))
}

async fn order(
    State(market): Shared,
    Extension(kind): Extension<Kind>,
    Path(hash): Path<String>,
    pairs: Pairs,
) -> Outcome<Answer<PublishedOrder<AnyOrder>>> {
    no_fields(&market, pairs)?;
    let record = market.shelf.store.order(OrderHash(hash_of(&hash)?))?;
    let record = record.filter(|r| r.entry.order.kind() == kind).ok_or(Refused::NotFound("order"))?;
    Ok(Json(Answer::of(show(&market, record.entry, record.status))))
}

/// The body of a publication.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publication<'a> {
    #[serde(borrow)]
    order: &'a RawValue,
}

async fn publish(
    State(market): Shared,
    Extension(kind): Extension<Kind>,
    pairs: Pairs,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Outcome<Answer<Published<AnyOrder>>> {
    no_fields(&market, pairs)?;
    let wallet = authorize(&market, &headers).await?;
    let body = body.map_err(too_large)?;
    let Publication { order } = serde_json::from_slice(&body).map_err(|e| Refused::Body(e.to_string()))?;
    let order = AnyOrder::read(kind, order.get()).map_err(|e| Refused::Body(format!("{kind}order: {e}")))?;
    check_shape(&order).map_err(Refused::Order)?;
    let hash = order.hash(&market.domain);
    market.shelf.check_new(hash)?;
    let at = market.reader.hub.client.head().await?.number;
    let backing = market.reader.backing(&order, hash).await?;
    let entry = market.shelf.publish((hash, order), wallet, &backing, at, market.config.clock.millis())?;
    Ok(Json(Answer::of(Published { published: show(&market, entry, OrderStatus::Open) })))
}

async fn unpublish(
    State(market): Shared,
    Extension(kind): Extension<Kind>,
    pairs: Pairs,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Outcome<Answer<Unpublished>> {
    no_fields(&market, pairs)?;
    let wallet = authorize(&market, &headers).await?;
    let body = body.map_err(too_large)?;
    let what: Unpublish = serde_json::from_slice(&body).map_err(|e| Refused::Body(e.to_string()))?;
    let unpublished = market.shelf.unpublish(kind, wallet, &what).map_err(Refused::Failed)?;
    match unpublished.is_empty() {
        true => Err(Refused::NothingToUnpublish(kind)),
        false => Ok(Json(Answer::of(Unpublished { unpublished }))),
    }
}

fn too_large(rejection: BytesRejection) -> Refused {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refused::BodyTooLarge,
        _ => Refused::Body("the body could not be read: send it again".into()),
    }
}

async fn deals(State(market): Shared, pairs: Pairs) -> Outcome<Answer<DealPage>> {
    let mut fields = fields(&market, pairs)?;
    let window = query::read_window(&mut fields)?;
    let terms = query::read_deal_terms(&mut fields)?;
    fields.end()?;
    let (deals, count) = market.shelf.store.deals(&terms, window)?;
    Ok(Json(Answer::of(DealPage { count, next_page: window.next(count), deals })))
}

async fn deal(State(market): Shared, Path(id): Path<String>, pairs: Pairs) -> Outcome<Answer<DealView>> {
    no_fields(&market, pairs)?;
    let deal = market.shelf.store.deal(DealId(hash_of(&id)?))?;
    Ok(Json(Answer::of(deal.ok_or(Refused::NotFound("deal"))?)))
}

async fn categories(State(market): Shared, pairs: Pairs) -> Outcome<Answer<CategoryPage>> {
    let mut fields = fields(&market, pairs)?;
    let window = query::read_window(&mut fields)?;
    let min = fields.amount("minWorkClockTimeRef")?.unwrap_or_default();
    let max = fields.amount("maxWorkClockTimeRef")?.unwrap_or(U256::MAX);
    fields.end()?;
    let (categories, count) = market.shelf.store.categories(min, max, window)?;
    Ok(Json(Answer::of(CategoryPage { count, next_page: window.next(count), categories })))
}

async fn category(State(market): Shared, Path(id): Path<String>, pairs: Pairs) -> Outcome<Answer<CategoryView>> {
    no_fields(&market, pairs)?;
    let bad = |_| Refused::Body(format!("{id:.80} is not the number of a category"));
    let category = market.shelf.store.category(id.parse().map_err(bad)?)?;
    Ok(Json(Answer::of(category.ok_or(Refused::NotFound("category"))?)))
}

async fn metrics(State(market): Shared, pairs: Pairs) -> Outcome<Answer<Metrics>> {
    no_fields(&market, pairs)?;
    let cursor = market.shelf.store.cursor()?;
    let read = cursor.map_or(0, |c| c.next().saturating_sub(1));
    let count = |kind| market.shelf.count(kind);
    Ok(Json(Answer::of(Metrics {
        last_block: market.reader.hub.client.head().await?.number,
        checkpoint_block: read,
        apporders: count(Kind::App),
        datasetorders: count(Kind::Dataset),
        workerpoolorders: count(Kind::Workerpool),
        requestorders: count(Kind::Request),
    })))
}

fn show(market: &Market, entry: Entry, status: OrderStatus) -> PublishedOrder<AnyOrder> {
    let bulk = matches!(entry.order, AnyOrder::Dataset(_)).then(|| entry.order.is_bulk());
    PublishedOrder {
        order_hash: entry.hash,
        chain_id: market.chain_id,
        remaining: entry.remaining,
        status,
        publication_timestamp: iso8601(entry.published),
        signer: entry.signer,
        bulk,
        order: entry.order,
    }
}
