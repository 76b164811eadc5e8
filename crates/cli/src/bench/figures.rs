//! What was measured, beside what was wanted.

use crate::output;
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::fmt;

/// What is wanted of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// Less is better.
    Under(f64),
    /// More is better.
    AtLeast(f64),
}

/// One measured number.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// For programs.
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) target: Option<Target>,
}

impl Target {
    fn met(self, value: f64) -> bool {
        match self {
            Self::Under(most) => value < most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Under(most) => write!(f, "under {most}"),
            Self::AtLeast(least) => write!(f, "at least {least}"),
        }
    }
}

impl Figure {
    /// A number that is only told.
    pub(crate) fn told(name: &'static str, what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name, what: what.into(), value, unit, target: None }
    }

    /// A number with a target.
    pub(crate) fn wanted(
        name: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        target: Target,
    ) -> Self {
        Self { target: Some(target), ..Self::told(name, what, value, unit) }
    }

    /// What was measured instead of what was wanted, in plain words; `None` if the target is met, or there is none.
    pub(crate) fn missed(&self) -> Option<String> {
        let target = self.target.filter(|target| !target.met(self.value))?;
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        Some(format!("{}: {}{unit} instead of {target}", self.what, number(self.value)))
    }

    /// Whether the target is met; `None` without one.
    pub(crate) fn met(&self) -> Option<bool> {
        self.target.map(|target| target.met(self.value))
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", self.name)?;
        map.serialize_entry("what", &self.what)?;
        map.serialize_entry("value", &self.value)?;
        map.serialize_entry("unit", self.unit)?;
        match self.target {
            Some(Target::Under(most)) => map.serialize_entry("under", &most)?,
            Some(Target::AtLeast(least)) => map.serialize_entry("atLeast", &least)?,
            None => {}
        }
        map.serialize_entry("met", &self.met())?;
        map.end()
    }
}

/// As a table for people.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut rows = vec![["what", "measured", "unit", "target", ""].map(String::from).to_vec()];
    for figure in figures {
        let target = figure.target.map(|target| target.to_string()).unwrap_or_default();
        let met = match figure.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        rows.push(vec![figure.what.clone(), number(figure.value), figure.unit.into(), target, met.into()]);
    }
    output::table(&rows)
}

/// With as many decimals as make sense.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v.fract() == 0.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The value that so many hundredths of all do not exceed (nearest rank); 0 of nothing.
pub(crate) fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 50), 100.0);
        assert_eq!(percentile(&mut values, 99), 198.0);
        assert_eq!(percentile(&mut values, 100), 200.0);
        assert_eq!(percentile(&mut [3.0], 1), 3.0);
        assert_eq!(percentile(&mut [], 99), 0.0);
    }

    #[test]
    fn targets_are_compared_and_shown() {
        let met = Figure::wanted("a", "memory", 250.0, "MB", Target::Under(300.0));
        let missed = Figure::wanted("b", "cycles", 2999.4, "per s", Target::AtLeast(3000.0));
        let told = Figure::told("c", "median", 1.25, "ms");
        assert_eq!((met.met(), missed.met(), told.met()), (Some(true), Some(false), None));
        assert_eq!(missed.missed().unwrap(), "cycles: 2999 per s instead of at least 3000");
        assert_eq!((met.missed(), told.missed()), (None, None));
        let shown = table(&[met.clone(), missed, told]);
        for words in ["memory", "250", "under 300", "met", "MISSED", "at least 3000", "1.2"] {
            assert!(shown.contains(words), "{shown}");
        }
        let json = serde_json::to_value(&met).unwrap();
        assert_eq!((&json["under"], &json["met"]), (&300.0.into(), &true.into()), "{json}");
    }
}
