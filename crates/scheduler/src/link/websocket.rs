//! The link over a WebSocket.

use super::Door;
use axum::{
    extract::{
        Query, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::Response,
};
use bourse_protocol::link::{self, Knock};
use bourse_service::wire::{Broken, Wire};
use futures_util::SinkExt;

/// The route of the link.
pub(crate) async fn upgrade(
    State(door): State<Door>,
    Query(knock): Query<Knock>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let upgrade = upgrade
        .max_message_size(link::MAX_MESSAGE)
        .max_frame_size(link::MAX_MESSAGE)
        .read_buffer_size(4 * 1024)
        .write_buffer_size(4 * 1024)
        .max_write_buffer_size(4 * link::MAX_MESSAGE);
    upgrade.on_upgrade(move |socket| async move { door.serve(Socket(socket), knock).await })
}

struct Socket(WebSocket);

impl Wire for Socket {
    async fn send(&mut self, text: String) -> Result<(), Broken> {
        self.0.send(Message::Text(text.into())).await.map_err(|e| Broken::Failed(e.into()))
    }

    async fn send_all(&mut self, texts: Vec<String>) -> Result<(), Broken> {
        let failed = |e: axum::Error| Broken::Failed(e.into());
        for text in texts {
            self.0.feed(Message::Text(text.into())).await.map_err(failed)?;
        }
        self.0.flush().await.map_err(failed)
    }

    async fn receive(&mut self) -> Result<Option<String>, Broken> {
        loop {
            match self.0.recv().await {
                None | Some(Ok(Message::Close(_))) => return Err(Broken::Closed),
                Some(Err(error)) => return Err(Broken::Failed(error.into())),
                Some(Ok(Message::Text(text))) => return Ok(Some(text.as_str().to_owned())),
                Some(Ok(Message::Binary(_))) => return Ok(None),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            }
        }
    }
}
