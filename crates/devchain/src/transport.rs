//! The chain as an alloy transport: the same requests and answers as over HTTP, without a socket.

use crate::chain::Chain;
use crate::rpc::Access;
use alloy::rpc::client::RpcClient;
use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use serde_json::Value;
use std::task::{Context, Poll};
use std::time::Duration;
use tower::Service;

/// How often a provider in this process asks for news.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Sends requests straight to a [`Chain`]. Test methods are allowed.
#[derive(Clone, Debug)]
pub struct InProcess(Chain);

impl Chain {
    /// An alloy transport to this chain.
    pub fn transport(&self) -> InProcess {
        InProcess(self.clone())
    }

    /// An alloy client of this chain, for `ProviderBuilder::connect_client`. It polls every 20 ms.
    pub fn rpc_client(&self) -> RpcClient {
        RpcClient::new(self.transport(), true).with_poll_interval(POLL_INTERVAL)
    }
}

impl Service<RequestPacket> for InProcess {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        let chain = self.0.clone();
        Box::pin(async move {
            let request: Value = serde_json::to_value(&request).map_err(TransportErrorKind::custom)?;
            let answer = chain.answer(request, Access::TestMethods).await;
            serde_json::from_str(answer.get()).map_err(|error| TransportError::deser_err(error, answer.get()))
        })
    }
}
