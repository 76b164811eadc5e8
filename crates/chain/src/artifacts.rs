//! The compiled contracts, embedded: building this needs no Solidity compiler.

use alloy::primitives::Bytes;
use serde::Deserialize;

/// A contract of `contracts/artifacts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contracts' own names")]
pub enum Contract {
    Rlc,
    AppRegistry,
    DatasetRegistry,
    WorkerpoolRegistry,
    HubViews,
    HubExtension,
    HubCore,
    HubProxy,
}

#[derive(Deserialize)]
struct Artifact {
    bytecode: Bytes,
}

impl Contract {
    /// The code that creates it; constructor arguments follow it.
    pub fn creation_code(self) -> Bytes {
        let artifact: Artifact = serde_json::from_str(self.json()).expect("committed artifacts are well formed");
        artifact.bytecode
    }

    fn json(self) -> &'static str {
        match self {
            Self::Rlc => include_str!("../../../contracts/artifacts/RLC.json"),
            Self::AppRegistry => include_str!("../../../contracts/artifacts/AppRegistry.json"),
            Self::DatasetRegistry => include_str!("../../../contracts/artifacts/DatasetRegistry.json"),
            Self::WorkerpoolRegistry => include_str!("../../../contracts/artifacts/WorkerpoolRegistry.json"),
            Self::HubViews => include_str!("../../../contracts/artifacts/HubViews.json"),
            Self::HubExtension => include_str!("../../../contracts/artifacts/HubExtension.json"),
            Self::HubCore => include_str!("../../../contracts/artifacts/HubCore.json"),
            Self::HubProxy => include_str!("../../../contracts/artifacts/HubProxy.json"),
        }
    }
}
