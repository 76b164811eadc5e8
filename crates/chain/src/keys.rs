//! Wallet keys: from the public test mnemonic, from files, fresh ones kept with mode 0600; and what they sign besides
//! transactions.

use alloy::{
    primitives::{Address, B256, Bytes, Signature, eip191_hash_message},
    signers::local::MnemonicBuilder,
    sol_types::Eip712Domain,
};
use bourse_protocol::{
    ids::{self, TaskId},
    orders::Order,
};
use secp256k1::{Message, SECP256K1, SecretKey};
use std::{
    fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    str::FromStr,
};

/// The mnemonic that every development chain funds. Worthless anywhere else.
pub const TEST_MNEMONIC: &str = "test test test test test test test test test test test junk";

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("cannot use key file {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no key.
    #[error("key file {path} holds no private key: expected 64 hex digits, with or without 0x")]
    NotAKey {
        /// Which.
        path: PathBuf,
    },
}

/// A text that is no private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a private key: expected 64 hex digits, with or without 0x")]
pub struct NotAKey;

/// A wallet's private key, and the wallet's address.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKeySigner {
    secret: SecretKey,
    address: Address,
}

impl PrivateKeySigner {
    /// A new one that nobody can guess.
    pub fn random() -> Self {
        loop {
            // All but a few numbers of 256 bits are keys.
            if let Some(key) = Self::from_bytes(&B256::new(rand::random())) {
                return key;
            }
        }
    }

    /// The key that this number is; `None` for 0 and what is past the order of the curve.
    pub fn from_bytes(number: &B256) -> Option<Self> {
        let secret = SecretKey::from_byte_array(number.0).ok()?;
        let public = secret.public_key(SECP256K1).serialize_uncompressed();
        Some(Self { secret, address: Address::from_raw_public_key(&public[1..]) })
    }

    /// The number. Whoever has it has the wallet.
    pub fn to_bytes(&self) -> B256 {
        B256::new(self.secret.secret_bytes())
    }

    /// The wallet.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The signature over a hash, low s; always the same one (RFC 6979).
    pub fn sign_hash(&self, hash: &B256) -> Signature {
        let signed = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &self.secret);
        let (parity, r_and_s) = signed.serialize_compact();
        // A signature with x past the order, whose recovery id is 2 or 3, takes 2^127 tries.
        Signature::from_bytes_and_parity(&r_and_s, i32::from(parity) & 1 == 1)
    }

    /// The signature over an Ethereum personal message (EIP-191).
    pub fn sign_message(&self, message: impl AsRef<[u8]>) -> Signature {
        self.sign_hash(&eip191_hash_message(message))
    }
}

/// Only the wallet: keys are not for logs.
impl fmt::Debug for PrivateKeySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKeySigner").field("address", &self.address).finish_non_exhaustive()
    }
}

impl FromStr for PrivateKeySigner {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        text.parse().ok().and_then(|number| Self::from_bytes(&number)).ok_or(NotAKey)
    }
}

/// Account `index` of the public test mnemonic. For the embedded chain only.
pub fn test_key(index: u32) -> PrivateKeySigner {
    let builder = MnemonicBuilder::from_phrase(TEST_MNEMONIC).index(index);
    let derived = builder.and_then(|b| b.build()).expect("the test mnemonic derives every index");
    PrivateKeySigner::from_bytes(&derived.to_bytes()).expect("what is derived is a key")
}

/// The key in a file: one line of 64 hex digits.
pub fn read(path: &Path) -> Result<PrivateKeySigner, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    text.trim().parse().map_err(|_| Error::NotAKey { path: path.to_owned() })
}

/// The key in a file, which is made (mode 0600, on disk before it is used) if there is none.
pub fn read_or_create(path: &Path) -> Result<PrivateKeySigner, Error> {
    if path.exists() {
        return read(path);
    }
    let key = PrivateKeySigner::random();
    let io = |source| Error::Io { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(io)?;
    let draft = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft).map_err(io)?;
    writeln!(file, "{}", private_hex(&key)).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(&draft, path).map_err(io)?;
    fs::File::open(folder).and_then(|f| f.sync_all()).map_err(io)?;
    Ok(key)
}

/// The private key as `0x` and 64 hex digits.
pub fn private_hex(key: &PrivateKeySigner) -> String {
    key.to_bytes().to_string()
}

/// An order with its owner's signature.
pub fn sign_order<O: Order>(mut order: O, key: &PrivateKeySigner, domain: &Eip712Domain) -> O {
    let signature = key.sign_hash(&order.hash(domain).0);
    order.set_sign(signature.as_bytes().into());
    order
}

/// The pool owner's signature that lets a worker contribute to a task. The same one comes out every time.
pub fn authorize(key: &PrivateKeySigner, worker: Address, task: TaskId, enclave_challenge: Address) -> Bytes {
    key.sign_message(ids::authorization(worker, task, enclave_challenge)).as_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_accounts_are_the_well_known_ones() {
        assert_eq!(test_key(0).address().to_string(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
        assert_eq!(test_key(3).address().to_string(), "0x90F79bf6EB2c4f870365E785982E1f101E93b906");
        assert!(private_hex(&test_key(0)).starts_with("0xac0974bec39a17e36ba4a6b4d238ff944bacb478"));
    }

    #[test]
    fn signatures_are_those_of_another_implementation() {
        use alloy::{
            primitives::keccak256,
            signers::{SignerSync, local::PrivateKeySigner as Other},
        };
        for n in 1..200_u8 {
            let (number, hash) = (B256::repeat_byte(n), keccak256([n]));
            let (key, other) = (PrivateKeySigner::from_bytes(&number).unwrap(), Other::from_bytes(&number).unwrap());
            assert_eq!((key.address(), key.to_bytes()), (other.address(), other.to_bytes()));
            assert_eq!(key.sign_hash(&hash), other.sign_hash_sync(&hash).unwrap());
            assert_eq!(key.sign_message(hash), other.sign_message_sync(hash.as_slice()).unwrap());
            assert_eq!(key.sign_hash(&hash).recover_address_from_prehash(&hash).unwrap(), key.address());
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_no_key_is_shown() {
        for text in ["", "0x", "00", &"0".repeat(64), &"f".repeat(64), &"g".repeat(64), &"1".repeat(65)] {
            assert_eq!(text.parse::<PrivateKeySigner>(), Err(NotAKey), "{text}");
        }
        let digits = "1".repeat(64);
        let key: PrivateKeySigner = digits.parse().unwrap();
        assert_eq!(format!("0x{digits}").parse(), Ok(key.clone()));
        let shown = format!("{key:?}");
        assert!(shown.contains(&format!("{:?}", key.address())) && !shown.contains("1111111111111111"), "{shown}");
    }

    #[test]
    fn a_made_key_is_private_and_stays_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/admin.key");
        let key = read_or_create(&path).unwrap();
        assert_eq!(read_or_create(&path).unwrap(), key);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "hello").unwrap();
        assert!(matches!(read(&path), Err(Error::NotAKey { .. })));
        assert!(matches!(read(&folder.path().join("none")), Err(Error::Io { .. })));
    }
}
