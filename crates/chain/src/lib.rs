//! The only crate that speaks JSON-RPC: read, sign, send, follow, deploy.
//!
//! Invariants: "could not read" is an error, never zero; one [`sender::Sender`] per key and nothing else picks a nonce;
//! a transaction is on disk before it is broadcast.

mod answers;
pub mod artifacts;
pub mod client;
pub mod clock;
pub mod deploy;
pub mod follower;
pub mod gas;
pub mod health;
pub mod hub;
pub mod keys;
mod nodes;
pub mod revert;
pub mod sender;

pub use alloy;
pub use answers::TransactionReceipt;
pub use client::{Client, Error, Head, Header, Price};
pub use gas::{GasPolicy, WorkGas};
pub use health::NodeStatus;
pub use hub::Hub;
pub use keys::PrivateKeySigner;
pub use nodes::Settings;
pub use revert::Revert;
pub use sender::{KeyInUse, OutOfGas, Receipt, SendError, Sender, SenderLoop, Status as SenderStatus, Waiting};
