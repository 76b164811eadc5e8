//! The link over a WebSocket.

use super::Dial;
use crate::Error;
use bourse_protocol::link::{self, Knock};
use bourse_service::wire::{Broken, Wire};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};
use url::Url;

/// The WebSocket address of a scheduler given as `ws://host:port` (or `http://…`).
fn address(scheduler_url: &str) -> Result<Url, Error> {
    let bad = || Error::SchedulerUrl { url: scheduler_url.into() };
    let text = match scheduler_url.strip_prefix("http://") {
        Some(rest) => format!("ws://{rest}"),
        None => scheduler_url.to_owned(),
    };
    let mut url: Url = text.parse().map_err(|_| bad())?;
    if url.scheme() != "ws" || !url.has_host() {
        return Err(bad());
    }
    url.set_path(link::PATH);
    Ok(url)
}

/// Connects to one scheduler.
#[derive(Clone, Debug)]
pub struct WebSocket {
    url: Url,
}

impl WebSocket {
    /// To the scheduler at `ws://host:port` (or `http://…`).
    pub fn to(scheduler_url: &str) -> Result<Self, Error> {
        Ok(Self { url: address(scheduler_url)? })
    }
}

impl Dial for WebSocket {
    type Wire = Socket;

    async fn dial(&mut self, knock: Knock) -> Result<Socket, Broken> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("nonce", &knock.nonce.to_string());
        let limits = WebSocketConfig::default()
            .max_message_size(Some(link::MAX_MESSAGE))
            .max_frame_size(Some(link::MAX_MESSAGE))
            // All of it is zeroed for every read.
            .read_buffer_size(4 * 1024)
            .max_write_buffer_size(4 * link::MAX_MESSAGE);
        let connected = connect_async_with_config(url.as_str(), Some(limits), true).await;
        connected.map(|(socket, _)| Socket(socket)).map_err(|e| Broken::Failed(e.into()))
    }
}

/// A connection.
#[derive(Debug)]
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Wire for Socket {
    async fn send(&mut self, text: String) -> Result<(), Broken> {
        self.0.send(Message::text(text)).await.map_err(|e| Broken::Failed(e.into()))
    }

    async fn receive(&mut self) -> Result<Option<String>, Broken> {
        loop {
            match self.0.next().await {
                None | Some(Ok(Message::Close(_))) => return Err(Broken::Closed),
                Some(Err(error)) => return Err(Broken::Failed(error.into())),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Text(text))) => return Ok(Some(text.as_str().to_owned())),
                Some(Ok(Message::Binary(_) | Message::Frame(_))) => return Ok(None),
            }
        }
    }
}
