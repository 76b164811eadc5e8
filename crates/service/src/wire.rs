//! What a link runs over: text messages both ways. A WebSocket in production, a pipe where a simulation is the network.

use std::future::Future;

/// Why a wire carries no more.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The other side ended it.
    #[error("the connection was closed")]
    Closed,
    /// Anything else.
    #[error("the connection broke")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// One end of a connection.
pub trait Wire: Send + 'static {
    /// Hands a message over. It may still get lost.
    fn send(&mut self, text: String) -> impl Future<Output = Result<(), Broken>> + Send;

    /// Hands several messages over at once, in this order.
    fn send_all(&mut self, texts: Vec<String>) -> impl Future<Output = Result<(), Broken>> + Send {
        async move {
            for text in texts {
                self.send(text).await?;
            }
            Ok(())
        }
    }

    /// The next message; `None` for one that is not text. Dropping the future loses nothing.
    fn receive(&mut self) -> impl Future<Output = Result<Option<String>, Broken>> + Send;
}
