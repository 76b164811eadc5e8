//! The parameters of a request line, each read once and by name; what nobody asked for is refused.

use bourse_protocol::{Address, B256, U256, orders::number::MAX_EXACT};
use std::{collections::BTreeMap, ops::RangeInclusive};

/// Why a request line is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    /// A parameter that this route does not have.
    #[error("unknown parameter {0:?}: check its spelling")]
    Unknown(String),
    /// A parameter given more than once.
    #[error("parameter {0:?} is given twice: give it once")]
    Twice(String),
    /// A parameter that must be there.
    #[error("{0} is required")]
    Missing(&'static str),
    /// A value of the wrong form.
    #[error("{name} is {value:?}: expected {expected}")]
    Bad {
        /// The parameter.
        name: &'static str,
        /// Its value, shortened.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// Not even pairs of names and values.
    #[error("the request line cannot be read: check its encoding")]
    Unreadable,
    /// Another chain.
    #[error("chainId {0} is not supported")]
    OtherChain(u64),
}

/// Parameters that have not been read yet.
#[derive(Debug)]
pub(crate) struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Takes the pairs of a request line.
    pub(crate) fn new(pairs: Vec<(String, String)>) -> Result<Self, BadQuery> {
        let mut fields = BTreeMap::new();
        for (name, value) in pairs {
            if fields.insert(name.clone(), value).is_some() {
                return Err(BadQuery::Twice(shortened(&name)));
            }
        }
        Ok(Self(fields))
    }

    /// Reads `chainId`, which every route but `/version` needs.
    pub(crate) fn chain(&mut self, ours: u64) -> Result<(), BadQuery> {
        match self.number("chainId", 0..=u64::MAX)?.ok_or(BadQuery::Missing("chainId"))? {
            id if id == ours => Ok(()),
            other => Err(BadQuery::OtherChain(other)),
        }
    }

    /// Reads an address in any case.
    pub(crate) fn address(&mut self, name: &'static str) -> Result<Option<Address>, BadQuery> {
        self.parsed(name, "an address (0x and 40 hex digits)", address)
    }

    /// Reads an address or `any`, which is `Some(None)`.
    pub(crate) fn address_or_any(&mut self, name: &'static str) -> Result<Option<Option<Address>>, BadQuery> {
        self.parsed(name, "an address (0x and 40 hex digits) or any", |text| match text {
            "any" => Some(None),
            text => address(text).map(Some),
        })
    }

    /// Reads 32 bytes in hex.
    pub(crate) fn bytes32(&mut self, name: &'static str) -> Result<Option<B256>, BadQuery> {
        self.parsed(name, "32 bytes (0x and 64 hex digits)", bytes32)
    }

    /// Reads a decimal number within `range`.
    pub(crate) fn number(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Result<Option<u64>, BadQuery> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.parsed(name, &expected, |text| decimal(text).filter(|n| range.contains(n)))
    }

    /// Reads a number that JSON keeps exactly.
    pub(crate) fn amount(&mut self, name: &'static str) -> Result<Option<U256>, BadQuery> {
        Ok(self.number(name, 0..=MAX_EXACT)?.map(U256::from))
    }

    /// Reads `true` or `false`; absent is false.
    pub(crate) fn flag(&mut self, name: &'static str) -> Result<bool, BadQuery> {
        Ok(self.parsed(name, "true or false", |text| text.parse().ok())?.unwrap_or(false))
    }

    /// Refuses what was not read.
    pub(crate) fn end(self) -> Result<(), BadQuery> {
        match self.0.into_keys().next() {
            Some(name) => Err(BadQuery::Unknown(shortened(&name))),
            None => Ok(()),
        }
    }

    fn parsed<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, BadQuery> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        let bad = || BadQuery::Bad { name, value: shortened(&value), expected: expected.into() };
        parse(&value).map(Some).ok_or_else(bad)
    }
}

/// An address with its `0x`, in any case.
pub(crate) fn address(text: &str) -> Option<Address> {
    text.strip_prefix("0x")?.parse().ok().filter(|_| text.len() == 42)
}

/// A hash with its `0x`, in any case.
pub(crate) fn bytes32(text: &str) -> Option<B256> {
    text.strip_prefix("0x")?.parse().ok().filter(|_| text.len() == 66)
}

fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// What is repeated to the caller stays short.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}
