//! A chain on a port, with the usual ten funded accounts: `cargo run --example node -- [port] [folder]`.
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use alloy::signers::local::{MnemonicBuilder, coins_bip39::English};
use alloy_primitives::{U256, utils::parse_ether};
use bourse_devchain::{Chain, Config, Server, ServerConfig};
use std::error::Error;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().map_or(Ok(0), |port| port.parse())?;
    let data_dir = arguments.next().map(Into::into);
    let phrase = "test test test test test test test test test test test junk";
    let balance: U256 = parse_ether("10000")?;
    let mut genesis = Vec::new();
    for index in 0..10 {
        let key = MnemonicBuilder::<English>::default().phrase(phrase).index(index)?.build()?;
        genesis.push((key.address(), balance));
    }
    let chain = Chain::open(Config { genesis, data_dir, ..Config::default() })?;
    let config = ServerConfig { test_methods: true, ..ServerConfig::default() };
    let server = Server::bind(chain, ([127, 0, 0, 1], port).into(), config)?;
    println!("listening on http://{}", server.local_addr());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let interrupted = async move {
        let heard = tokio::signal::ctrl_c().await;
        stop.cancel();
        heard
    };
    let (_, heard) = tokio::join!(server.run(shutdown), interrupted);
    Ok(heard?)
}
