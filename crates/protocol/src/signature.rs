//! Who signed: recovery and checks for plain wallets. Contract wallets (ERC-1271) are asked on chain.

use alloy_primitives::{Address, B256, Signature, eip191_hash_message};

/// The signer of a 65-byte signature over `digest`, or `None` if it is malformed (wrong length, high s, unknown v).
pub fn recover(digest: B256, signature: &[u8]) -> Option<Address> {
    let signature = Signature::from_raw(signature).ok()?;
    if signature.normalize_s().is_some() {
        return None;
    }
    signature.recover_address_from_prehash(&digest).ok()
}

/// Whether `signer` signed `digest`. Never true for the zero address.
pub fn signed(signer: Address, digest: B256, signature: &[u8]) -> bool {
    signer != Address::ZERO && recover(digest, signature) == Some(signer)
}

/// Whether `signer` signed `message` as an Ethereum personal message (EIP-191).
pub fn signed_message(signer: Address, message: impl AsRef<[u8]>, signature: &[u8]) -> bool {
    signed(signer, eip191_hash_message(message), signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{address, b256, hex};

    #[test]
    fn the_published_authorization_is_accepted_and_nothing_else() {
        let signer = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
        let message = b256!("c73bcd18ad7ac9983235243ff869f1469d3050935ad2e7fe31c56d1a464e8c76");
        let good = hex!(
            "e77c009dae15299172b75de1bbc3f04771d45b7ced2667b024a2c2fcd181c89e222ef383096d5bde8383e5174e11ccedba7a1545774809bbac280d32c42c27851c"
        );
        assert!(signed_message(signer, message, &good));
        assert!(!signed_message(Address::ZERO, message, &good));
        assert!(!signed_message(signer, B256::ZERO, &good));
        assert!(!signed_message(signer, message, &good[..64]));
        assert!(!signed_message(signer, message, &[]));
        assert!(!signed_message(Address::ZERO, message, &[0; 65]));
    }
}
