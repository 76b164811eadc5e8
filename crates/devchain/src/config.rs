//! What a chain is told when it is opened.

use crate::chain::Chain;
use crate::clock::Clock;
use alloy_primitives::{Address, U256};
use std::path::PathBuf;
use std::time::Duration;

/// How the chain is set up; the default is an empty chain in memory that mines on demand.
#[derive(Clone, Debug)]
pub struct Config {
    /// EIP-155 chain id; 31337 by default.
    pub chain_id: u64,
    /// Folder of the chain's files, created when missing. `None` keeps everything in memory.
    pub data_dir: Option<PathBuf>,
    /// When blocks are made.
    pub mining: Mining,
    /// The chain begins as a copy of this one as it stands, in memory. Neither `data_dir` nor `genesis` nor a fee is read then.
    pub copy_of: Option<Chain>,
    /// Wei balances that the genesis block gives out. Read when the chain is created, ignored when it is reopened.
    pub genesis: Vec<(Address, U256)>,
    /// The time.
    pub clock: Clock,
    /// Gas limit of every block; 36,000,000 by default.
    pub block_gas_limit: u64,
    /// Wei per gas in the genesis block, from where EIP-1559 moves it; 1 gwei by default.
    pub genesis_base_fee: u64,
    /// The first block of a new chain holds a random number, so that no two chains are taken for each other. Without it
    /// (the default) the same configuration and time give the same chain.
    pub distinct: bool,
    /// All work is done by the thread that asks, none beside it: for a simulation, whose time and order of events must not
    /// depend on threads. Off by default.
    pub inline: bool,
    /// Who receives the tips; the zero address by default.
    pub coinbase: Address,
    /// For how many blocks old state can be read and reorganised, at least 256; 512 by default.
    pub history: u64,
}

/// When blocks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mining {
    /// A block for every transaction that arrives and can be executed.
    OnDemand,
    /// A block, perhaps empty, every so often on the chain's clock.
    Interval(Duration),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            chain_id: 31_337,
            data_dir: None,
            copy_of: None,
            mining: Mining::OnDemand,
            genesis: Vec::new(),
            clock: Clock::wall(),
            block_gas_limit: 36_000_000,
            genesis_base_fee: 1_000_000_000,
            distinct: false,
            inline: false,
            coinbase: Address::ZERO,
            history: 512,
        }
    }
}
