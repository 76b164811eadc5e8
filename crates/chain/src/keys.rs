//! Wallet keys: from the public test mnemonic, from files, fresh ones kept with mode 0600; and what they sign besides
//! transactions.

use crate::PrivateKeySigner;
use alloy::{
    primitives::{Address, Bytes, eip191_hash_message},
    signers::{SignerSync, local::MnemonicBuilder},
    sol_types::Eip712Domain,
};
use bourse_protocol::{
    ids::{self, TaskId},
    orders::Order,
};
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
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

/// Account `index` of the public test mnemonic. For the embedded chain only.
pub fn test_key(index: u32) -> PrivateKeySigner {
    let builder = MnemonicBuilder::from_phrase(TEST_MNEMONIC).index(index);
    builder.and_then(|b| b.build()).expect("the test mnemonic derives every index").into_secp256k1()
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
    let signature = key.sign_hash_sync(&order.hash(domain).0).expect("a local key signs every hash");
    order.set_sign(signature.as_bytes().into());
    order
}

/// The pool owner's signature that lets a worker contribute to a task. The same one comes out every time.
pub fn authorize(key: &PrivateKeySigner, worker: Address, task: TaskId, enclave_challenge: Address) -> Bytes {
    let message = ids::authorization(worker, task, enclave_challenge);
    let signature = key.sign_hash_sync(&eip191_hash_message(message)).expect("a local key signs every hash");
    signature.as_bytes().into()
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
