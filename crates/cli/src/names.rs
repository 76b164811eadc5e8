//! Apps and datasets by address or by the name that they are registered under.

use crate::failure;
use bourse_chain::{Hub, alloy::sol};
use bourse_protocol::{Address, U256, abi::IAsset};

sol! {
    function totalSupply() external view returns (uint256);
    function tokenByIndex(uint256 index) external view returns (uint256);
}

/// How many of the newest entries of a registry are looked at.
const LOOK_AT: u64 = 1_000;

/// What kind of asset is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An app.
    App,
    /// A dataset.
    Dataset,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Dataset => "dataset",
        }
    }
}

/// The address behind `text`. A name must be carried by one asset only: anybody may register any name.
pub(crate) async fn resolve(hub: &Hub, registry: Address, kind: Kind, text: &str) -> eyre::Result<Address> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let client = &hub.client;
    let count: u64 = client.call(registry, &totalSupplyCall {}).await?.saturating_to();
    let mut found = Vec::new();
    for index in (count.saturating_sub(LOOK_AT)..count).rev() {
        let token = client.call(registry, &tokenByIndexCall { index: U256::from(index) }).await?;
        let address = Address::from_word(token.into());
        let name = match kind {
            Kind::App => client.call(address, &IAsset::m_appNameCall {}).await?,
            Kind::Dataset => client.call(address, &IAsset::m_datasetNameCall {}).await?,
        };
        if name == text {
            found.push(address);
        }
    }
    let word = kind.word();
    match found[..] {
        [address] => Ok(address),
        [] => Err(failure::refused(format!(
            "unknown {word} {text:?}: no {word} of that name is registered on this chain; give its address, or check the name"
        ))),
        _ => Err(failure::refused(format!(
            "{} {word}s are called {text:?}: give the address of the one you mean: {}",
            found.len(),
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        ))),
    }
}
