//! The rules of the order book: which orders make a deal, which are shown to whom, which may be published.
//!
//! Pure: what the chain says (owners, stakes, volumes used) comes in as facts. Signatures are checked elsewhere:
//! plain wallets in [`crate::signature`], contract wallets on chain.

mod listing;
mod matching;
mod order;
mod publication;

pub use listing::{Admission, Book, Entry, Filter, Window};
pub use matching::{Facts, Mismatch, Standing, check_match, deal_tag, memberships, pool_lock, remaining, task_cost};
pub use order::AnyOrder;
pub use publication::{Backing, Limits, Refusal, check_publication, check_shape, review};

use alloy_primitives::B256;
use std::fmt;

/// The four kinds of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An app owner's offer.
    App,
    /// A dataset owner's offer.
    Dataset,
    /// A pool owner's offer.
    Workerpool,
    /// A requester's demand.
    Request,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::App, Self::Dataset, Self::Workerpool, Self::Request];

    /// The kind's word in routes and messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Dataset => "dataset",
            Self::Workerpool => "workerpool",
            Self::Request => "request",
        }
    }

    /// The kind of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Whether every bit of `needed` is in `offered`.
pub fn tag_within(needed: B256, offered: B256) -> bool {
    needed & offered == needed
}
