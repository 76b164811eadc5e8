//! The store over HTTP: `GET|HEAD /ipfs/<cid>` as an IPFS gateway, `POST /api/v0/add` as an IPFS node.
//!
//! Reading is open to all, from any web page. Adding needs the upload token: nobody else fills the disk.

use crate::{Error, Store, store::Upload};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Multipart, Path, RawQuery, State, multipart::Field},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bourse_protocol::ipfs::{self, Cid, Root};
use bourse_service::http::{bearer, refuse};
use std::{ops::Range, sync::Arc, time::Duration};

/// Files in one upload.
const MAX_FILES: usize = 100;
/// Bytes of framing that an upload may have around its content.
const FRAMING: u64 = 64 * 1024;
/// Headers that pages of other sites may read.
const EXPOSED: &str = "ETag, Accept-Ranges, Content-Length, Content-Range, X-Ipfs-Path";
/// How long an upload may send nothing.
const IDLE: Duration = Duration::from_secs(60);

/// How the store is offered.
#[derive(Clone, Debug)]
pub struct Config {
    /// What an upload must show as `Authorization: Bearer …`. `None` lets everybody who reaches the port fill the disk:
    /// for tests only.
    pub upload_token: Option<String>,
    /// Most bytes of content in one upload.
    pub max_upload: u64,
}

impl Default for Config {
    /// No token, 1 GiB.
    fn default() -> Self {
        Self { upload_token: None, max_upload: 1 << 30 }
    }
}

struct Edge {
    store: Store,
    config: Config,
}

/// The routes of the store.
pub fn router(store: Store, config: Config) -> Router {
    Router::new()
        .route("/ipfs/{cid}", get(download).options(preflight))
        .route("/api/v0/add", post(upload).layer(DefaultBodyLimit::disable()))
        .with_state(Arc::new(Edge { store, config }))
}

/// A refusal that a web page of any site may read.
fn refuse_reader(status: StatusCode, code: &str, error: impl Into<String>) -> Response {
    let mut response = refuse(status, code, error);
    response.headers_mut().extend(open_to_pages());
    response
}

fn open_to_pages() -> [(HeaderName, HeaderValue); 2] {
    [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED)),
    ]
}

async fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().extend(open_to_pages());
    response.headers_mut().extend([
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD")),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Accept, If-None-Match, If-Range, Range")),
    ]);
    response
}

async fn download(
    State(edge): State<Arc<Edge>>,
    method: Method,
    headers: HeaderMap,
    Path(cid): Path<String>,
) -> Response {
    let cid: Cid = match cid.parse() {
        Ok(cid) => cid,
        Err(error) => return refuse_reader(StatusCode::BAD_REQUEST, "bad_cid", ipfs::Error::to_string(&error)),
    };
    let store = edge.store.clone();
    let head_only = method == Method::HEAD || is_known(&headers, cid);
    let found = blocking(move || match head_only {
        true => store.size(cid).map(|size| (size, None)),
        false => store.get(cid).map(|content| (content.size(), Some(content))),
    });
    match found.await {
        Ok(_) if is_known(&headers, cid) => describe(StatusCode::NOT_MODIFIED.into_response(), cid, None),
        Ok((size, None)) => describe(Response::new(Body::empty()), cid, Some(size)),
        Ok((size, Some(content))) => match part(&headers, cid, size) {
            Part::All => describe(Response::new(stream(content)), cid, Some(size)),
            Part::Only(bytes) => match content.only(bytes.clone()) {
                Ok(content) => describe_part(Response::new(stream(content)), cid, bytes, size),
                Err(error) => refuse_content(&error),
            },
            Part::None => {
                let text = format!("the content has {size} bytes: ask for bytes before that");
                let mut response = refuse_reader(StatusCode::RANGE_NOT_SATISFIABLE, "bad_range", text);
                response.headers_mut().insert(header::CONTENT_RANGE, header_text(format!("bytes */{size}")));
                response
            }
        },
        Err(error) => refuse_content(&error),
    }
}

fn refuse_content(error: &Error) -> Response {
    let (status, code) = meaning(error);
    refuse_reader(status, code, error.to_string())
}

/// What is wanted of content.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    All,
    Only(Range<u64>),
    /// Bytes behind its end.
    None,
}

/// What a request asks for of `size` bytes (RFC 9110 §14): one range of bytes; what is not understood is answered with all.
fn part(headers: &HeaderMap, cid: Cid, size: u64) -> Part {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let Some(range) = text(header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else { return Part::All };
    let other = text(header::IF_RANGE).is_some_and(|tag| tag != etag(cid));
    let Some((first, last)) = range.trim().split_once('-').filter(|_| !other) else { return Part::All };
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let bytes = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(last)) if first.is_empty() => size.saturating_sub(last)..size,
        _ => return Part::All,
    };
    if bytes.is_empty() { Part::None } else { Part::Only(bytes) }
}

/// Whether the client says that it has this content already.
fn is_known(headers: &HeaderMap, cid: Cid) -> bool {
    let tag = etag(cid);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    known.is_some_and(|list| list.split(',').any(|known| known.trim().trim_start_matches("W/") == tag))
}

fn etag(cid: Cid) -> String {
    format!("\"{cid}\"")
}

fn describe_part(response: Response, cid: Cid, bytes: Range<u64>, size: u64) -> Response {
    let mut response = describe(response, cid, Some(bytes.end - bytes.start));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let range = format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1);
    response.headers_mut().insert(header::CONTENT_RANGE, header_text(range));
    response
}

fn header_text(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("base58, digits and units are header text")
}

/// Headers of content. It was written by strangers: a browser must neither guess its type nor run it.
fn describe(mut response: Response, cid: Cid, size: Option<u64>) -> Response {
    let headers = response.headers_mut();
    headers.extend(open_to_pages());
    headers.extend([
        (header::ETAG, header_text(etag(cid))),
        (HeaderName::from_static("x-ipfs-path"), header_text(cid.link())),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=29030400, immutable")),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'")),
    ]);
    if let Some(size) = size {
        headers.insert(header::CONTENT_LENGTH, size.into());
    }
    response
}

/// Chunk by chunk, so that a slow reader holds neither memory nor a thread. An error breaks the transfer off: the
/// reader misses bytes and notices by the length.
fn stream(content: crate::Content) -> Body {
    Body::from_stream(futures_util::stream::try_unfold(content, |mut content| async move {
        let (chunk, content) = blocking(move || Ok((content.next_chunk()?, content))).await?;
        Ok::<_, Error>(chunk.map(|chunk| (Bytes::from(chunk), content)))
    }))
}

async fn upload(
    State(edge): State<Arc<Edge>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    multipart: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Response {
    match add_all(&edge, &headers, query.as_deref().unwrap_or(""), multipart).await {
        Ok(lines) => ([(header::CONTENT_TYPE, "application/json")], lines).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// Why an upload is refused.
enum Refusal {
    Token,
    Option(String),
    Form(String),
    Idle,
    Store(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Token => {
                let error = "uploading needs the store's token: send it as Authorization: Bearer <token>";
                let mut response = refuse(StatusCode::UNAUTHORIZED, "no_token", error);
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                response
            }
            Self::Option(option) => refuse(
                StatusCode::BAD_REQUEST,
                "unsupported",
                format!("{option} is not supported: this store adds single files as a plain `ipfs add` does"),
            ),
            Self::Form(error) => refuse(StatusCode::BAD_REQUEST, "bad_form", error),
            Self::Idle => refuse(
                StatusCode::REQUEST_TIMEOUT,
                "idle",
                format!("the upload sent nothing for {} s: start it again", IDLE.as_secs()),
            ),
            Self::Store(error) => {
                let (status, code) = meaning(&error);
                if status.is_server_error() {
                    tracing::error!(%error, "upload failed");
                }
                refuse(status, code, error.to_string())
            }
        }
    }
}

async fn add_all(
    edge: &Edge,
    headers: &HeaderMap,
    query: &str,
    multipart: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> Result<String, Refusal> {
    check_token(&edge.config, headers)?;
    check_options(query)?;
    let limit = edge.config.max_upload;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit.saturating_add(FRAMING)) {
        return Err(Error::TooLarge { limit }.into());
    }
    let form = multipart.map_err(|error| Refusal::Form(error.body_text()))?;
    // Nothing is kept of a form that is refused half-way.
    let mut lines = String::new();
    for (name, upload) in receive_all(&edge.store, form, limit).await? {
        let root = blocking(move || upload.finish()).await?;
        lines.push_str(&line(name, &root));
    }
    Ok(lines)
}

/// The files of a form with their names, complete but not kept yet. The limit is that of the form as a whole.
async fn receive_all(store: &Store, mut form: Multipart, limit: u64) -> Result<Vec<(Option<String>, Upload)>, Refusal> {
    let (mut left, mut files) = (limit, Vec::new());
    while let Some(field) = in_time(form.next_field()).await?.map_err(|error| Refusal::Form(error.body_text()))? {
        if field.content_type() == Some("application/x-directory") {
            return Err(Refusal::Option("a directory".to_owned()));
        }
        if files.len() == MAX_FILES {
            return Err(Refusal::Form(format!("the form holds more than {MAX_FILES} files")));
        }
        let name = field.file_name().map(str::to_owned);
        let upload = receive(store, field, left).await.map_err(|refusal| match refusal {
            Refusal::Store(Error::TooLarge { .. }) => Error::TooLarge { limit }.into(),
            other => other,
        })?;
        left -= upload.size();
        files.push((name, upload));
    }
    if files.is_empty() { Err(Refusal::Form("the form holds no file".to_owned())) } else { Ok(files) }
}

async fn receive(store: &Store, mut field: Field<'_>, limit: u64) -> Result<Upload, Refusal> {
    let store = store.clone();
    let mut upload = blocking(move || store.upload(limit)).await?;
    while let Some(bytes) = in_time(field.chunk()).await?.map_err(|error| Refusal::Form(error.body_text()))? {
        upload = blocking(move || upload.write(&bytes).map(|()| upload)).await?;
    }
    Ok(upload)
}

async fn in_time<T>(step: impl Future<Output = T>) -> Result<T, Refusal> {
    tokio::time::timeout(IDLE, step).await.map_err(|_| Refusal::Idle)
}

/// What a node of kubo answers per file.
fn line(name: Option<String>, root: &Root) -> String {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Line {
        name: String,
        hash: Cid,
        size: String,
    }
    let name = name.unwrap_or_else(|| root.cid.to_string());
    let line = Line { name, hash: root.cid, size: root.tree_size.to_string() };
    serde_json::to_string(&line).expect("text is always JSON") + "\n"
}

fn check_token(config: &Config, headers: &HeaderMap) -> Result<(), Refusal> {
    match &config.upload_token {
        None => Ok(()),
        Some(token) if bearer(headers).is_some_and(|shown| is_equal(shown.as_bytes(), token.as_bytes())) => Ok(()),
        Some(_) => Err(Refusal::Token),
    }
}

/// Takes as long for a token that is nearly right as for any other.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Options of kubo that would give the content another name, or not store it. All others change nothing here.
fn check_options(query: &str) -> Result<(), Refusal> {
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
        let plain = match name {
            "cid-version" => value == "0",
            "hash" => value == "sha2-256",
            "chunker" => value == "size-262144",
            "max-file-links" => value == "174",
            "raw-leaves" | "trickle" | "only-hash" | "nocopy" | "wrap-with-directory" | "inline" => value == "false",
            "preserve-mode" | "preserve-mtime" => value == "false",
            "mode" | "mtime" | "mtime-nsecs" => false,
            _ => true,
        };
        if !plain {
            return Err(Refusal::Option(format!("{name}={value}").chars().take(100).collect()));
        }
    }
    Ok(())
}

/// Status and stable code of an error.
fn meaning(error: &Error) -> (StatusCode, &'static str) {
    match error {
        Error::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
        Error::Corrupt(_) => (StatusCode::INTERNAL_SERVER_ERROR, "corrupt"),
        Error::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        Error::DiskFull { .. } => (StatusCode::INSUFFICIENT_STORAGE, "disk_full"),
        Error::Io { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "io"),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.expect("the store does not panic, and the runtime outlives its requests")
}
