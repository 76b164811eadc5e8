//! The error object of a JSON-RPC answer.

use super::text;
use crate::pool::Refusal;
use crate::store::StoreError;
use alloy::rpc::json_rpc::ErrorPayload;
use alloy_primitives::Bytes;
use alloy_sol_types::{Panic, Revert, SolError};
use revm::context::result::{HaltReason, InvalidTransaction};
use serde_json::{Value, json};

/// Why a request is refused; codes are those of JSON-RPC 2.0, EIP-1474 and geth.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RpcError {
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Option<Value>,
}

impl RpcError {
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// The body is not JSON.
    pub(crate) fn parse(reason: impl std::fmt::Display) -> Self {
        Self::new(-32700, format!("parse error: {reason}"))
    }

    /// The JSON is not a request.
    pub(crate) fn request(reason: impl std::fmt::Display) -> Self {
        Self::new(-32600, format!("invalid request: {reason}"))
    }

    pub(crate) fn method(name: &str) -> Self {
        let name: String = name.chars().take(64).collect();
        Self::new(-32601, format!("the method {name} does not exist or is not available"))
    }

    pub(crate) fn params(reason: impl std::fmt::Display) -> Self {
        Self::new(-32602, format!("invalid params: {reason}"))
    }

    pub(crate) fn internal(reason: impl std::fmt::Display) -> Self {
        Self::new(-32603, format!("internal error: {reason}"))
    }

    /// The request is understood and cannot be done: geth's general code.
    pub(crate) fn server(reason: impl Into<String>) -> Self {
        Self::new(-32000, reason)
    }

    /// The answer would be too large.
    pub(crate) fn limit(reason: impl Into<String>) -> Self {
        Self::new(-32005, reason)
    }

    /// The call reverted: geth's code 3, with the revert data.
    pub(crate) fn revert(output: &Bytes) -> Self {
        let message = match revert_reason(output) {
            Some(reason) => format!("execution reverted: {reason}"),
            None => "execution reverted".to_owned(),
        };
        Self { code: 3, message, data: Some(json!(output)) }
    }

    /// The call ended in an exceptional halt.
    pub(crate) fn halt(reason: &HaltReason) -> Self {
        match reason {
            HaltReason::OutOfGas(_) => Self::server("out of gas"),
            other => Self::server(format!("execution failed: {other}")),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        error
    }
}

impl From<RpcError> for ErrorPayload {
    fn from(error: RpcError) -> Self {
        Self { code: error.code, message: error.message.into(), data: error.data.as_ref().map(text) }
    }
}

/// The text of `Error(string)` or the meaning of `Panic(uint256)`.
fn revert_reason(output: &[u8]) -> Option<String> {
    if let Ok(revert) = Revert::abi_decode(output) {
        return Some(revert.reason);
    }
    Panic::abi_decode(output).ok().map(|panic| panic.to_string())
}

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> Self {
        Self::server(refusal.to_string())
    }
}

impl From<StoreError> for RpcError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::server(format!("the chain could not be written: {error}")),
            other => Self::internal(format!("the chain could not be read or written: {other}")),
        }
    }
}

impl From<InvalidTransaction> for RpcError {
    fn from(error: InvalidTransaction) -> Self {
        Self::server(match error {
            InvalidTransaction::LackOfFundForMaxFee { fee, balance } => {
                format!("insufficient funds for gas * price + value: balance {balance}, tx cost {fee}")
            }
            InvalidTransaction::GasPriceLessThanBasefee => "max fee per gas less than block base fee".to_owned(),
            InvalidTransaction::PriorityFeeGreaterThanMaxFee => {
                "max priority fee per gas higher than max fee per gas".to_owned()
            }
            InvalidTransaction::CallGasCostMoreThanGasLimit { initial_gas, gas_limit } => {
                format!("intrinsic gas too low: gas {gas_limit}, minimum needed {initial_gas}")
            }
            InvalidTransaction::GasFloorMoreThanGasLimit { gas_floor, gas_limit } => {
                format!("intrinsic gas too low: gas {gas_limit}, minimum needed {gas_floor} for the call data")
            }
            InvalidTransaction::CallerGasLimitMoreThanBlock => "exceeds block gas limit".to_owned(),
            InvalidTransaction::CreateInitCodeSizeLimit => "max initcode size exceeded: at most 49152 bytes".to_owned(),
            InvalidTransaction::InvalidChainId => "invalid chain id for signer".to_owned(),
            other => other.to_string(),
        })
    }
}
