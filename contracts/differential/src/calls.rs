//! Call data by signature.

use alloy_primitives::{Bytes, keccak256};
use alloy_sol_types::{SolType, SolValue};

/// The four order tuples of poco.md §3.1, for use in signatures.
pub const ORDERS: [(&str, &str); 4] = [
    ("App", "(address,uint256,uint256,bytes32,address,address,address,bytes32,bytes)"),
    ("Dset", "(address,uint256,uint256,bytes32,address,address,address,bytes32,bytes)"),
    ("Wpool", "(address,uint256,uint256,bytes32,uint256,uint256,address,address,address,bytes32,bytes)"),
    (
        "Req",
        "(address,uint256,address,uint256,address,uint256,address,uint256,bytes32,uint256,uint256,address,address,string,bytes32,bytes)",
    ),
];

/// The canonical form of a signature that names order tuples as poco.md does.
pub fn canonical(signature: &str) -> String {
    let (name, arguments) = signature.split_once('(').expect("a signature has arguments");
    let mut arguments = arguments.to_owned();
    for (word, tuple) in ORDERS {
        arguments = arguments.replace(word, tuple);
    }
    format!("{name}({arguments}")
}

/// First four bytes of the hash of the signature.
pub fn selector(signature: &str) -> [u8; 4] {
    let hash = keccak256(canonical(signature));
    [hash[0], hash[1], hash[2], hash[3]]
}

/// Call data for `signature`; `arguments` is the tuple of its arguments.
pub fn call<T: SolValue>(signature: &str, arguments: T) -> Bytes
where
    for<'a> <T::SolType as SolType>::Token<'a>: alloy_sol_types::abi::TokenSeq<'a>,
{
    let mut data = selector(signature).to_vec();
    data.extend(arguments.abi_encode_params());
    data.into()
}

/// Call data for a function without arguments.
pub fn bare(signature: &str) -> Bytes {
    selector(signature).into()
}
