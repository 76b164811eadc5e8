//! HTTP and WebSocket on one loopback port.
//!
//! A web page can make a browser talk to this port, so every request is checked first: the `Host` must be a name of
//! this computer (else a page could rebind its own name to 127.0.0.1), and an `Origin`, which pages cannot forge, must be
//! allowed. The test methods answer only when they are switched on.

mod guard;
mod socket;

use crate::chain::Chain;
use crate::error::Error;
use crate::rpc::error::RpcError;
use crate::rpc::{Access, Text, refusal};
use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::serve::Listener;
use futures_util::StreamExt;
use serde_json::Value;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long open connections may take to end after the shutdown.
const GRACE: Duration = Duration::from_secs(3);

/// What the server allows.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Whether `evm_*`, `anvil_*`, `hardhat_*` and unsigned transactions are answered.
    pub test_methods: bool,
    /// Origins of web pages that may use the chain, as browsers send them (`http://example.org:8080`), besides those
    /// of this computer and of browser extensions.
    pub allowed_origins: Vec<String>,
    /// Most bytes of one request or message; 5 MiB by default.
    pub max_request: usize,
    /// Most connections at once; further ones are closed. 1024 by default.
    pub max_connections: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { test_methods: false, allowed_origins: Vec::new(), max_request: 5 << 20, max_connections: 1024 }
    }
}

/// A bound port that serves a chain once it runs.
#[derive(Debug)]
pub struct Server {
    listener: std::net::TcpListener,
    address: SocketAddr,
    desk: Arc<Desk>,
}

/// What every connection needs.
#[derive(Debug)]
struct Desk {
    chain: Chain,
    config: ServerConfig,
    shutdown: CancellationToken,
}

impl Desk {
    fn access(&self) -> Access {
        if self.config.test_methods { Access::TestMethods } else { Access::Public }
    }
}

impl Server {
    /// Binds the port; connections wait until [`Server::run`].
    ///
    /// # Errors
    ///
    /// The address is not a loopback address, or the port is taken.
    pub fn bind(chain: Chain, address: SocketAddr, config: ServerConfig) -> Result<Self, Error> {
        if !address.ip().is_loopback() {
            return Err(Error::NotLoopback(address));
        }
        let failed = |source| Error::Bind { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let desk = Arc::new(Desk { chain, config, shutdown: CancellationToken::new() });
        Ok(Self { listener, address, desk })
    }

    /// The address with the port that was chosen.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets open requests end for a few seconds.
    pub async fn run(self, shutdown: CancellationToken) {
        let listener = match TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, address = %self.address, "the JSON-RPC port cannot be served");
                return;
            }
        };
        let connections = Arc::new(Semaphore::new(self.desk.config.max_connections));
        let listener = Limited { listener, connections };
        let stop = self.desk.shutdown.clone();
        let stopped = stop.clone();
        let serving = axum::serve(listener, routes(self.desk)).with_graceful_shutdown(stopped.cancelled_owned());
        let end = async {
            shutdown.cancelled().await;
            stop.cancel();
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            _ = serving.into_future() => {}
            () = end => tracing::debug!("connections were cut at shutdown"),
        }
    }
}

fn routes(desk: Arc<Desk>) -> Router {
    Router::new().route("/", any(entry)).layer(middleware::from_fn_with_state(desk.clone(), guarded)).with_state(desk)
}

/// Lets only requests of this computer pass, and tells browsers which pages may read the answer.
async fn guarded(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if let Err(reason) = guard::check(headers, &desk.config.allowed_origins) {
        return (StatusCode::FORBIDDEN, json_body(refusal(Value::Null, &RpcError::request(reason)))).into_response();
    }
    let origin = headers.get(header::ORIGIN).cloned();
    let mut response = if request.method() == Method::OPTIONS { preflight() } else { next.run(request).await };
    if let Some(origin) = origin {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
    response
}

fn preflight() -> Response {
    let headers = [
        ("access-control-allow-methods", "GET, POST"),
        ("access-control-allow-headers", "content-type"),
        ("access-control-allow-private-network", "true"),
        ("access-control-max-age", "3600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

async fn entry(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    if request.method() == Method::GET {
        return upgrade(desk, request).await;
    }
    if request.method() != Method::POST {
        let text = "send JSON-RPC by POST, or open a WebSocket\n";
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, POST, OPTIONS")], text).into_response();
    }
    let limit = desk.config.max_request;
    match read_body(request, limit).await {
        Ok(Some(body)) => json_body(desk.chain.answer_bytes(&body, desk.access()).await).into_response(),
        Ok(None) => {
            let error = RpcError::request(format!("the request is too large: it may have at most {limit} bytes"));
            (StatusCode::PAYLOAD_TOO_LARGE, json_body(refusal(Value::Null, &error))).into_response()
        }
        Err(broken) => {
            let error = RpcError::request(format!("the request could not be read: {broken}"));
            (StatusCode::BAD_REQUEST, json_body(refusal(Value::Null, &error))).into_response()
        }
    }
}

/// The body, or `None` if it is longer than `limit`. Of a longer one as much again is read and thrown away: who is cut off
/// while sending does not hear why.
async fn read_body(request: Request, limit: usize) -> Result<Option<Vec<u8>>, axum::Error> {
    let (mut chunks, mut body, mut read) = (request.into_body().into_data_stream(), Vec::new(), 0usize);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        read = read.saturating_add(chunk.len());
        if read <= limit {
            body.extend_from_slice(&chunk);
        } else if read > limit.saturating_mul(2) {
            break;
        }
    }
    Ok((read <= limit).then_some(body))
}

async fn upgrade(desk: Arc<Desk>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => {
            let limit = desk.config.max_request;
            let upgrade = upgrade.max_message_size(limit).max_frame_size(limit);
            upgrade.on_upgrade(move |socket| socket::serve(desk, socket))
        }
        Err(_) => {
            let text = "this is a JSON-RPC port: send requests by POST, or open a WebSocket\n";
            (StatusCode::UPGRADE_REQUIRED, [(header::UPGRADE, "websocket")], text).into_response()
        }
    }
}

fn json_body(answer: Text) -> (HeaderMap, String) {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (headers, Box::<str>::from(answer).into_string())
}

/// Accepts connections up to a limit and closes those above it at once.
struct Limited {
    listener: TcpListener,
    connections: Arc<Semaphore>,
}

impl Listener for Limited {
    type Io = Counted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Counted, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            match self.connections.clone().try_acquire_owned() {
                Ok(permit) => {
                    // Answers are small and wanted now; a socket that refuses still works.
                    let _ = stream.set_nodelay(true);
                    return (Counted { stream, _permit: permit }, address);
                }
                Err(_) => tracing::warn!("a JSON-RPC connection was closed: too many are open"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that gives its place back when it ends.
struct Counted {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
