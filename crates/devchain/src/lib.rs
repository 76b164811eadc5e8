//! An Ethereum chain inside the process: revm executes, SQLite remembers, JSON-RPC answers.
//!
//! It is for development and for networks of one computer: there is no consensus and no peer. It speaks JSON-RPC
//! over HTTP and WebSocket ([`Server`]) and in process ([`Chain::rpc_client`]) with the same answers. It knows
//! nothing of what runs on it.
//!
//! Invariant: what a reader can see (a block, a receipt, a log) is on disk. A kill at any moment loses nothing that
//! was acknowledged.
//!
//! Known differences from a public chain: no beacon root, block hash, withdrawal or consolidation system contracts;
//! no blob transactions; `safe` is the block 32 below the head and `finalized` the one 64 below; blocks that follow each other within a
//! second share a timestamp.

mod block;
mod builder;
mod chain;
mod clock;
mod codec;
mod config;
mod error;
mod evm;
mod filters;
mod needed;
mod pool;
mod published;
mod rpc;
mod server;
mod state;
mod state_root;
mod store;
mod transport;
mod trie;
mod writer;

pub use chain::Chain;
pub use clock::Clock;
pub use config::{Config, Mining};
pub use error::{Error, Opaque};
pub use server::{Server, ServerConfig};
pub use transport::InProcess;
