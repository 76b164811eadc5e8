//! Who is who: the keys of the roles of a network.

use crate::network_file::{Key, Keys};
use bourse_chain::{PrivateKeySigner, keys};
use std::path::Path;

/// The keys of all roles.
#[derive(Clone, Debug)]
pub(crate) struct Keyring {
    /// Deploys, owns the example app and dataset, funds the others.
    pub(crate) admin: PrivateKeySigner,
    /// Owns the pool.
    pub(crate) workerpool_owner: PrivateKeySigner,
    /// Buys.
    pub(crate) requester: PrivateKeySigner,
    /// One wallet per worker.
    pub(crate) workers: Vec<PrivateKeySigner>,
}

impl Keyring {
    /// The public test accounts. For the embedded chain only.
    pub(crate) fn test(workers: u32) -> Self {
        Self {
            admin: keys::test_key(0),
            workerpool_owner: keys::test_key(1),
            requester: keys::test_key(2),
            workers: (0..workers).map(|n| keys::test_key(3 + n)).collect(),
        }
    }

    /// Keys of this network's own below `data_dir`, made where there are none; `admin` is given.
    pub(crate) fn own(admin: PrivateKeySigner, data_dir: &Path, workers: u32) -> Result<Self, keys::Error> {
        let key = |name: &str| keys::read_or_create(&data_dir.join("keys").join(format!("{name}.key")));
        Ok(Self {
            admin,
            workerpool_owner: key("workerpool-owner")?,
            requester: key("requester")?,
            workers: (1..=workers).map(|n| key(&format!("worker-{n}"))).collect::<Result<_, _>>()?,
        })
    }

    /// Everybody but the admin, with a name for people.
    pub(crate) fn roles(&self) -> Vec<(String, &PrivateKeySigner)> {
        let workers = self.workers.iter().enumerate().map(|(n, key)| (worker_name(n), key));
        let others = [("pool owner".to_owned(), &self.workerpool_owner), ("requester".to_owned(), &self.requester)];
        others.into_iter().chain(workers).collect()
    }

    /// As it stands in `network.json`.
    pub(crate) fn file(&self) -> Keys {
        Keys {
            admin: Key::from(&self.admin),
            workerpool_owner: Key::from(&self.workerpool_owner),
            requester: Key::from(&self.requester),
            workers: self.workers.iter().map(Key::from).collect(),
        }
    }
}

/// What worker `n` (from 0) is called.
pub(crate) fn worker_name(n: usize) -> String {
    format!("worker {}", n + 1)
}
