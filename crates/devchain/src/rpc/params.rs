//! Reading the positional parameters of a request.

use super::error::RpcError;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{U64, U256};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The parameters of one request.
pub(crate) struct Params(Vec<Value>);

impl Params {
    /// Takes the `params` member, which may be missing.
    pub(crate) fn new(value: Option<Value>) -> Result<Self, RpcError> {
        match value {
            None | Some(Value::Null) => Ok(Self(Vec::new())),
            Some(Value::Array(values)) => Ok(Self(values)),
            Some(_) => Err(RpcError::params("expected an array")),
        }
    }

    /// A parameter that must be there.
    pub(crate) fn get<T: DeserializeOwned>(&mut self, index: usize, name: &str) -> Result<T, RpcError> {
        let value = self.0.get_mut(index).map(Value::take);
        let value = value.ok_or_else(|| RpcError::params(format!("missing argument {index} ({name})")))?;
        serde_json::from_value(value).map_err(|error| RpcError::params(format!("argument {index} ({name}): {error}")))
    }

    /// A parameter that may be missing or null.
    pub(crate) fn optional<T: DeserializeOwned>(&mut self, index: usize, name: &str) -> Result<Option<T>, RpcError> {
        if self.is_absent(index) { Ok(None) } else { self.get(index, name).map(Some) }
    }

    /// Whether a parameter is missing or null.
    pub(crate) fn is_absent(&self, index: usize) -> bool {
        self.0.get(index).is_none_or(Value::is_null)
    }

    /// A number of up to 64 bits, as a JSON number or a hex or decimal string.
    pub(crate) fn number(&mut self, index: usize, name: &str) -> Result<u64, RpcError> {
        self.get::<U64>(index, name).map(|number| number.to())
    }

    pub(crate) fn optional_number(&mut self, index: usize, name: &str) -> Result<Option<u64>, RpcError> {
        Ok(self.optional::<U64>(index, name)?.map(|number| number.to()))
    }

    /// A block by number, tag, hash or EIP-1898 object; `default` when missing.
    pub(crate) fn block_or(&mut self, index: usize, default: BlockNumberOrTag) -> Result<BlockId, RpcError> {
        Ok(self.optional::<BlockId>(index, "block")?.unwrap_or(default.into()))
    }

    /// A storage position, with or without leading zeros.
    pub(crate) fn slot(&mut self, index: usize) -> Result<U256, RpcError> {
        let text: String = self.get(index, "slot")?;
        slot(&text)
    }
}

/// Reads a storage position.
pub(crate) fn slot(text: &str) -> Result<U256, RpcError> {
    let bad = || RpcError::params(format!("{:.80} is not a storage position of up to 32 bytes", text));
    let digits = text.strip_prefix("0x").ok_or_else(bad)?;
    if digits.is_empty() {
        return Ok(U256::ZERO);
    }
    if digits.len() > 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(bad());
    }
    U256::from_str_radix(digits, 16).map_err(|_| bad())
}
