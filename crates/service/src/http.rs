//! The HTTP edge: binding, serving, the body of refusals, protection against pages of other sites, clean stop.

mod hall;
mod serving;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderMap, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use bourse_protocol::api::Failure;
use std::{io, net::SocketAddr, time::Duration};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tower_http::timeout::RequestBodyTimeoutLayer;

/// The largest body that a route accepts unless it says otherwise, in bytes.
pub const MAX_BODY: usize = 256 * 1024;

/// A body of which nothing more comes for so long is given up.
const BODY_PAUSE: Duration = Duration::from_secs(10);

/// Connections that may wait to be accepted, if the system allows as many (`net.core.somaxconn`). One more is dropped, and
/// its client tries again after 1, 3 and 7 seconds: a pool whose workers all come back at once has many.
const BACKLOG: u32 = 16_384;

/// Why a service does not listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else has the port.
    #[error("{what} cannot listen on {address}: the port is in use; stop what uses it, or choose another port")]
    PortInUse {
        /// The service.
        what: &'static str,
        /// Where.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("{what} cannot listen on {address}")]
    Bind {
        /// The service.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// An HTTP client whose requests end after `timeout`, connecting included. It follows no redirects.
pub fn client(timeout: std::time::Duration) -> reqwest::Client {
    // Another call may have installed the same provider before: that is success.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none());
    builder.build().expect("a client without proxies or certificates of its own always builds")
}

/// Listens on `address`; port 0 takes any free one. `what` is the service's name in errors.
pub async fn bind(what: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    listen(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::PortInUse { what, address },
        _ => Error::Bind { what, address, source },
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `router` until `shutdown`; requests under way are finished, within reason. Bodies are limited to
/// [`MAX_BODY`] where the route has no limit of its own, and only loopback host names are served on loopback. Connections
/// are limited by the files that the process may open; those without a whole request after ten seconds are closed.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    let loopback = listener.local_addr()?.ip().is_loopback();
    let mut app = with_bounded_bodies(router);
    if loopback {
        app = app.layer(middleware::from_fn(only_loopback_names));
    }
    tokio::select! {
        () = serving::serve(listener, app, shutdown.clone(), hall::Limits::of_this_process()) => {}
        () = grace(shutdown) => {}
    }
    Ok(())
}

fn with_bounded_bodies(router: Router) -> Router {
    router.layer(DefaultBodyLimit::max(MAX_BODY)).layer(RequestBodyTimeoutLayer::new(BODY_PAUSE))
}

/// Open connections (such as idle WebSockets) may hold a stop up for this long and no longer.
async fn grace(shutdown: CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
}

/// Refuses requests that a page of another site could have caused by pointing its own name at this machine.
async fn only_loopback_names(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|h| h.to_str().ok());
    match host.or_else(|| request.uri().host()).is_some_and(is_loopback_name) {
        true => next.run(request).await,
        false => refuse(StatusCode::FORBIDDEN, "host_refused", "this service answers only to loopback host names"),
    }
}

/// Whether `authority` (a name, with or without a port) means this machine.
pub fn is_loopback_name(authority: &str) -> bool {
    let Ok(uri) = format!("http://{authority}/").parse::<Uri>() else { return false };
    match uri.host().map(|h| h.trim_start_matches('[').trim_end_matches(']')) {
        Some("localhost") => true,
        Some(host) => host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    }
}

/// The token of an `Authorization: Bearer …` header.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// A refusal: the status, a stable code for programs, and the thing, the reason and the next step for people.
pub fn refuse(status: StatusCode, code: &str, error: impl Into<String>) -> Response {
    (status, Json(Failure { ok: false, code: code.into(), error: error.into() })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for name in ["localhost", "localhost:80", "127.0.0.1:1", "127.8.8.8", "[::1]:5"] {
            assert!(is_loopback_name(name), "{name}");
        }
        for name in ["evil.example", "localhost.evil.example:80", "10.0.0.1", "", "[::2]:1", "127.0.0.1.nip.io", "a b"]
        {
            assert!(!is_loopback_name(name), "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        use tower::ServiceExt;
        let app = with_bounded_bodies(Router::new().route("/", axum::routing::post(|_: axum::body::Bytes| async {})));
        let never = futures_util::stream::pending::<Result<axum::body::Bytes, std::convert::Infallible>>();
        let request = Request::post("/").body(axum::body::Body::from_stream(never)).unwrap();
        let began = tokio::time::Instant::now();
        assert!(app.oneshot(request).await.unwrap().status().is_client_error());
        assert_eq!(began.elapsed().as_secs(), BODY_PAUSE.as_secs());
    }

    #[tokio::test]
    async fn a_busy_port_is_named() {
        let first = bind("market", ([127, 0, 0, 1], 0).into()).await.unwrap();
        let error = bind("market", first.local_addr().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("market cannot listen on 127.0.0.1:"), "{error}");
        assert!(matches!(error, Error::PortInUse { .. }));
    }
}
