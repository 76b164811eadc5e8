//! Amounts of RLC. One RLC is 10⁹ nRLC; the chain counts nRLC in 256 bits. Arithmetic is checked.

use alloy_primitives::U256;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Decimals of the RLC token.
pub const DECIMALS: usize = 9;

const NRLC_PER_RLC: u64 = 1_000_000_000;

/// An amount in nRLC. Displays in RLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Nrlc(pub U256);

/// Why a text is not an amount.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// Neither digits nor a decimal point where one was expected.
    #[error("{0:?} is not an amount of RLC: write for example 10 or 0.5")]
    NotANumber(String),
    /// Finer than 10⁻⁹ RLC.
    #[error("{0:?} has more than 9 decimals: one nRLC is 0.000000001 RLC")]
    TooFine(String),
    /// Beyond 256 bits.
    #[error("{0:?} is more RLC than an account can hold")]
    TooLarge(String),
}

impl Nrlc {
    /// Nothing.
    pub const ZERO: Self = Self(U256::ZERO);

    /// A whole number of RLC.
    pub fn rlc(whole: u64) -> Self {
        Self(U256::from(whole) * U256::from(NRLC_PER_RLC))
    }

    /// The sum, or `None` past 256 bits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The multiple, or `None` past 256 bits.
    pub fn checked_mul(self, factor: U256) -> Option<Self> {
        self.0.checked_mul(factor).map(Self)
    }

    /// ⌊percent · self / 100⌋, or `None` past 256 bits.
    pub fn percent(self, percent: U256) -> Option<Self> {
        Some(Self(self.0.checked_mul(percent)? / U256::from(100)))
    }

    /// The difference or zero.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Nrlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = U256::from(NRLC_PER_RLC);
        let fraction = format!("{:0>DECIMALS$}", (self.0 % unit).to_string());
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        f.pad(&format!("{}{dot}{fraction}", self.0 / unit))
    }
}

impl FromStr for Nrlc {
    type Err = ParseError;

    /// Reads an amount in RLC, such as `10` or `0.5`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || text.ends_with('.') {
            return Err(ParseError::NotANumber(text.into()));
        }
        if fraction.len() > DECIMALS {
            return Err(ParseError::TooFine(text.into()));
        }
        U256::from_str_radix(&format!("{whole}{fraction:0<DECIMALS$}"), 10)
            .map(Self)
            .map_err(|_| ParseError::TooLarge(text.into()))
    }
}

impl Serialize for Nrlc {
    /// A decimal string of nRLC.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Nrlc {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        U256::from_str_radix(&text, 10).map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_print_and_read_in_rlc() {
        for (text, nrlc) in [("0", 0u64), ("10", 10_000_000_000), ("0.5", 500_000_000), ("1.000000001", 1_000_000_001)]
        {
            assert_eq!(text.parse::<Nrlc>().unwrap(), Nrlc(U256::from(nrlc)));
            assert_eq!(Nrlc(U256::from(nrlc)).to_string(), text);
        }
    }

    #[test]
    fn nonsense_amounts_are_refused() {
        for text in ["", ".", "1.", ".5", "-1", "1e3", "0x1", "1 0"] {
            assert_eq!(text.parse::<Nrlc>(), Err(ParseError::NotANumber(text.into())), "{text}");
        }
        assert!(matches!("0.0000000001".parse::<Nrlc>(), Err(ParseError::TooFine(_))));
        assert!(matches!("9".repeat(80).parse::<Nrlc>(), Err(ParseError::TooLarge(_))));
    }

    #[test]
    fn arithmetic_is_checked() {
        let max = Nrlc(U256::MAX);
        assert_eq!(max.checked_add(Nrlc::rlc(1)), None);
        assert_eq!(Nrlc::ZERO.checked_sub(Nrlc::rlc(1)), None);
        assert_eq!(max.percent(U256::from(30)), None);
        assert_eq!(Nrlc::rlc(10).percent(U256::from(30)), Some(Nrlc::rlc(3)));
    }
}
