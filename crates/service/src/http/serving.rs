//! Connections: taking them, answering on them, closing those that say nothing.

use super::hall::{Guest, Hall, Limits};
use axum::{Router, body::Bytes, extract::ConnectInfo};
use hyper::{
    body::{Body, Frame, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{
    io,
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::OwnedSemaphorePermit,
    task::{JoinSet, unconstrained},
    time::{Sleep, sleep},
};
use tokio_util::sync::CancellationToken;
use tower::Service;

/// Answers with `app` until `stop`, and then what was asked before.
pub(super) async fn serve(listener: TcpListener, app: Router, stop: CancellationToken, limits: Limits) {
    let hall = Hall::new(limits);
    let mut guests = JoinSet::new();
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = hall.send_away_the_late() => {}
        () = welcome(&listener, &hall, &app, &stop, &mut guests) => {}
    }
    drop(listener);
    while guests.join_next().await.is_some() {}
}

async fn welcome(
    listener: &TcpListener,
    hall: &Arc<Hall>,
    app: &Router,
    stop: &CancellationToken,
    guests: &mut JoinSet<()>,
) {
    loop {
        let place = hall.place().await;
        // As many as wait, in one go: those that the system has no room to let wait come again after a second.
        match unconstrained(listener.accept()).await {
            Ok((stream, peer)) => {
                while guests.try_join_next().is_some() {}
                guests.spawn(attend(stream, peer.ip(), place, hall.clone(), app.clone(), stop.clone()));
            }
            Err(error) => hall.not_taken(&error).await,
        }
    }
}

/// Answers on one connection until it ends, or has to go.
async fn attend(
    stream: TcpStream,
    address: IpAddr,
    place: OwnedSemaphorePermit,
    hall: Arc<Hall>,
    app: Router,
    stop: CancellationToken,
) {
    // Small messages go out at once. That it cannot be set is no reason to refuse anybody.
    let _ = stream.set_nodelay(true);
    let guest = hall.admit(address);
    let answering = guest.clone();
    let answer = service_fn(move |mut request: axum::http::Request<hyper::body::Incoming>| {
        answering.has_asked();
        request.extensions_mut().insert(ConnectInfo(address));
        let (answer, guest) = (app.clone().call(request), answering.clone());
        async move { answer.await.map(|answer| answer.map(|body| Answer { body, guest })) }
    });
    let seat = TokioIo::new(Seat { stream, guest: guest.clone(), stuck: None, hearing: false, _place: place });
    let mut connection = pin!(http1::Builder::new().serve_connection(seat, answer).with_upgrades());
    tokio::select! {
        biased;
        // A connection that breaks is its owner's affair.
        _ = connection.as_mut() => {}
        () = guest.out.cancelled() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
    // It has gone, or become a WebSocket, which nobody waits for.
    guest.has_asked();
}

/// The body of an answer, which may take its time. When it ends its guest has been answered, but for what is on its way.
struct Answer {
    body: axum::body::Body,
    guest: Arc<Guest>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.guest.is_answered();
    }
}

/// A connection with its place, which is free again when nobody has the connection any more, as a WebSocket or as what it
/// was.
struct Seat {
    stream: TcpStream,
    guest: Arc<Guest>,
    /// While it reads nothing: until when.
    stuck: Option<Pin<Box<Sleep>>>,
    /// Its answer is made, and on its way.
    hearing: bool,
    _place: OwnedSemaphorePermit,
}

impl Seat {
    /// What became of an attempt to write; an error if nothing could be written for too long.
    fn unless_stuck(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(self.guest.may_read_nothing())));
        stuck.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Seat {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            this.guest.speaks();
        }
        read
    }
}

impl AsyncWrite for Seat {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.hearing |= this.guest.still_hears();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.unless_stuck(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.hearing |= this.guest.still_hears();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bytes);
        this.unless_stuck(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        if flushed.is_ready() && std::mem::take(&mut this.hearing) {
            this.guest.is_answered();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{extract::WebSocketUpgrade, routing::get};
    use std::{net::SocketAddr, time::Duration};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::Instant,
    };

    const ROUNDS: Duration = Duration::from_secs(20);
    const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";

    /// A service with few places.
    struct Edge {
        address: SocketAddr,
        stop: CancellationToken,
        jobs: JoinSet<()>,
    }

    impl Edge {
        async fn open(places: usize, request: Duration) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (address, stop, mut jobs) = (listener.local_addr().unwrap(), CancellationToken::new(), JoinSet::new());
            let echo = |upgrade: WebSocketUpgrade| async {
                upgrade.on_upgrade(|mut socket| async move {
                    while let Some(Ok(message)) = socket.recv().await {
                        if socket.send(message).await.is_err() {
                            return;
                        }
                    }
                })
            };
            let app = Router::new().route("/hello", get(|| async { "hello" })).route("/link", get(echo));
            // More than sockets hold.
            let app = app.route("/much", get(|| async { vec![0_u8; 64 << 20] }));
            let (unread, spared) = (Duration::from_millis(500), Duration::from_millis(50));
            let limits = Limits { places, request, idle: ROUNDS, unread, spared };
            jobs.spawn(serve(listener, app, stop.clone(), limits));
            Self { address, stop, jobs }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        /// A connection with half a request.
        async fn half(&self) -> TcpStream {
            let mut stream = self.connect().await;
            stream.write_all(&REQUEST[..20]).await.unwrap();
            stream
        }

        /// A link to the service, as a WebSocket.
        async fn link(&self) -> TcpStream {
            let mut stream = self.connect().await;
            let upgrade = "GET /link HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
            stream.write_all(upgrade.as_bytes()).await.unwrap();
            assert!(heard(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 101"));
            stream
        }

        async fn close(mut self) {
            self.stop.cancel();
            self.jobs.shutdown().await;
        }
    }

    /// Reads up to some words, byte by byte.
    async fn heard(stream: &mut TcpStream, words: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(words) {
            text.push(stream.read_u8().await.unwrap().into());
        }
        text
    }

    async fn is_closed(stream: &mut TcpStream) -> bool {
        let read = tokio::time::timeout(ROUNDS, stream.read(&mut [0; 1])).await.expect("the service closes it");
        matches!(read, Ok(0) | Err(_))
    }

    async fn says_hello(stream: &mut TcpStream) {
        stream.write_all(REQUEST).await.unwrap();
        let answer = tokio::time::timeout(ROUNDS, heard(stream, "hello")).await.expect("it is answered");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[tokio::test]
    async fn half_a_request_is_closed_after_a_while() {
        let edge = Edge::open(100, Duration::from_millis(200)).await;
        let (mut half, mut nothing, mut later) = (edge.half().await, edge.connect().await, edge.connect().await);
        says_hello(&mut later).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        says_hello(&mut later).await;
        later.write_all(&REQUEST[..20]).await.unwrap();
        for stream in [&mut half, &mut nothing, &mut later] {
            assert!(is_closed(stream).await);
        }
        edge.close().await;
    }

    #[tokio::test]
    async fn where_half_requests_take_all_places_a_whole_one_is_answered() {
        let edge = Edge::open(20, ROUNDS * 10).await;
        let mut halves = Vec::new();
        for _ in 0..60 {
            halves.push(edge.half().await);
        }
        says_hello(&mut edge.connect().await).await;
        assert!(is_closed(&mut halves[0]).await);
        edge.close().await;
    }

    #[tokio::test]
    async fn links_keep_their_places_and_no_more_get_in_than_there_are() {
        let edge = Edge::open(8, ROUNDS * 10).await;
        let mut links = Vec::new();
        for _ in 0..8 {
            links.push(edge.link().await);
        }
        let mut ninth = edge.connect().await;
        ninth.write_all(REQUEST).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(300), ninth.read_u8()).await;
        assert!(early.is_err(), "there is no place: {early:?}");
        // A short masked text message, and its echo.
        let last = links.last_mut().unwrap();
        last.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
        assert_eq!(heard(last, "hi").await, "\u{81}\u{2}hi");
        drop(links.pop());
        assert!(heard(&mut ninth, "hello").await.starts_with("HTTP/1.1 200"));
        edge.close().await;
    }

    #[tokio::test]
    async fn many_that_come_back_at_once_from_one_address_are_all_answered() {
        let edge = Edge::open(1_000, ROUNDS).await;
        let mut jobs = JoinSet::new();
        for _ in 0..500 {
            let address = edge.address;
            jobs.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                says_hello(&mut stream).await;
                says_hello(&mut stream).await;
            });
        }
        while let Some(done) = jobs.join_next().await {
            done.unwrap();
        }
        edge.close().await;
    }

    #[tokio::test]
    async fn who_reads_nothing_of_an_answer_loses_its_place_and_who_reads_slowly_gets_all_of_it() {
        let edge = Edge::open(2, ROUNDS * 10).await;
        let mut asked = [edge.connect().await, edge.connect().await];
        for stream in &mut asked {
            stream.write_all(&String::from_utf8_lossy(REQUEST).replace("hello", "much").into_bytes()).await.unwrap();
        }
        let [deaf, mut slow] = asked;
        let slowly = async {
            let (mut read, mut piece) = (0, vec![0; 1 << 20]);
            while read < 64 << 20 {
                match slow.read(&mut piece).await.unwrap() {
                    0 => break,
                    bytes => read += bytes,
                }
                sleep(Duration::from_millis(30)).await;
            }
            (read, Instant::now())
        };
        let another = async {
            let mut third = edge.connect().await;
            says_hello(&mut third).await;
            Instant::now()
        };
        let ((read, all_read), answered) = tokio::join!(slowly, another);
        assert!(read >= 64 << 20 && answered < all_read, "{read} bytes, {answered:?}, {all_read:?}");
        drop(deaf);
        edge.close().await;
    }

    #[tokio::test]
    async fn what_was_asked_before_a_stop_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop, mut jobs) = (listener.local_addr().unwrap(), CancellationToken::new(), JoinSet::new());
        let asked = stop.clone();
        let app = Router::new().route(
            "/hello",
            get(|| async move {
                asked.cancel();
                tokio::time::sleep(Duration::from_millis(100)).await;
                "hello"
            }),
        );
        jobs.spawn(serve(listener, app, stop.clone(), Limits::within(256)));
        says_hello(&mut TcpStream::connect(address).await.unwrap()).await;
        tokio::time::timeout(ROUNDS, jobs.join_next()).await.expect("it ends").unwrap().unwrap();
    }
}
