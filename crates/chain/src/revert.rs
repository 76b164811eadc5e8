//! What a contract says when it refuses: a string, a panic code, a custom error, or nothing.

use alloy::{
    primitives::Bytes,
    sol_types::{ContractError, GenericContractError, SolInterface},
};
use std::fmt;

/// The data of a revert. Displays as the reason, or in words where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Revert {
    /// As the chain gave it.
    pub data: Bytes,
}

impl Revert {
    /// The string reason, if it is one.
    pub fn reason(&self) -> Option<String> {
        match GenericContractError::abi_decode(&self.data) {
            Ok(ContractError::Revert(r)) => Some(r.reason),
            _ => None,
        }
    }
}

impl fmt::Display for Revert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match GenericContractError::abi_decode(&self.data) {
            Ok(ContractError::Revert(r)) => f.write_str(&r.reason),
            Ok(ContractError::Panic(p)) => write!(f, "panic {p}"),
            _ if self.data.is_empty() => f.write_str("no reason given: a guard of the protocol does not hold"),
            _ => write!(f, "custom error {}", self.data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::sol_types::{Revert as Reason, SolError};

    #[test]
    fn reasons_are_shown_and_silence_is_named() {
        let data = Reason::from("iExecV5-matchOrders-0x05").abi_encode().into();
        let revert = Revert { data };
        assert_eq!(revert.to_string(), "iExecV5-matchOrders-0x05");
        assert_eq!(revert.reason().as_deref(), Some("iExecV5-matchOrders-0x05"));
        assert!(Revert::default().to_string().contains("no reason"));
        assert_eq!(Revert { data: vec![1, 2, 3, 4].into() }.to_string(), "custom error 0x01020304");
    }
}
