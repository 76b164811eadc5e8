//! What was exercised, on which side, how often; and what had to be.

use crate::calls::selector;
use crate::deploy::System;
use crate::machine::{Call, End, Outcome};
use crate::required;
use alloy_primitives::{Bytes, keccak256};
use alloy_sol_types::{Panic, Revert, SolError, SolValue};
use std::collections::BTreeMap;
use std::fmt;

/// Counts by name, for the published side and ours.
pub type Counts = BTreeMap<String, [u64; 2]>;

/// See the module.
#[derive(Clone, Debug)]
pub struct Coverage {
    names: BTreeMap<[u8; 4], String>,
    events: BTreeMap<[u8; 32], String>,
    /// Calls that returned, by function.
    pub returned: Counts,
    /// Calls that were refused, by function.
    pub refused: Counts,
    /// Events, by name.
    pub emitted: Counts,
    /// Reasons of refusals.
    pub reasons: Counts,
    /// Aims of steps and how they ended.
    pub aims: Counts,
    /// How often each rule of the protocol crate was asked and agreed.
    pub judged: BTreeMap<&'static str, u64>,
    /// Uses of each deviation.
    pub deviations: BTreeMap<&'static str, u64>,
}

impl Default for Coverage {
    fn default() -> Self {
        let names = required::functions().map(|s| (selector(s), s.to_owned()));
        let events = required::EVENTS.iter().map(|s| (keccak256(crate::calls::canonical(s)).0, (*s).to_owned()));
        Self {
            names: names.collect(),
            events: events.collect(),
            returned: Counts::new(),
            refused: Counts::new(),
            emitted: Counts::new(),
            reasons: Counts::new(),
            aims: Counts::new(),
            judged: BTreeMap::new(),
            deviations: BTreeMap::new(),
        }
    }
}

impl Coverage {
    /// Counts one call; `side` is 0 for the published contracts and 1 for ours.
    pub fn note(&mut self, side: usize, system: &System, call: &Call, outcome: &Outcome) {
        let name = self.name(system, call);
        let by_end = if outcome.ok() { &mut self.returned } else { &mut self.refused };
        by_end.entry(name.clone()).or_default()[side] += 1;
        for log in &outcome.logs {
            let topic = log.topics().first().map(|t| t.0).unwrap_or_default();
            let event = self.events.get(&topic).cloned().unwrap_or_else(|| hex::encode(topic));
            self.emitted.entry(event).or_default()[side] += 1;
        }
        if !outcome.ok() {
            let mut reason = self.reason(outcome);
            if reason == BARE {
                reason = format!("{BARE} {name}");
            }
            self.reasons.entry(reason).or_default()[side] += 1;
        }
    }

    /// Counts the aim of a step, with how it ended.
    pub fn note_aim(&mut self, side: usize, aim: &str, outcome: &Outcome) {
        let end = if outcome.ok() { "ok" } else { "refused" };
        self.aims.entry(format!("{aim}: {end}")).or_default()[side] += 1;
    }

    /// Counts agreements with the Rust rules.
    pub fn note_judged(&mut self, judged: &BTreeMap<&'static str, u64>) {
        for (rule, count) in judged {
            *self.judged.entry(rule).or_default() += count;
        }
    }

    /// Rules and deviations that never came up.
    pub fn unused(&self) -> Vec<String> {
        let rules = required::RULES.iter().filter(|r| !self.judged.contains_key(*r));
        let mut unused: Vec<_> = rules.map(|r| format!("the Rust rule of {r:?} was never asked")).collect();
        let deviations = crate::deviations::LIST.iter().filter(|d| !self.deviations.contains_key(d.name));
        unused.extend(deviations.map(|d| format!("the deviation {:?} never showed", d.name)));
        unused
    }

    /// The function that a call is for, prefixed by whom it is asked of.
    fn name(&self, system: &System, call: &Call) -> String {
        let whom = match call.to {
            to if to == system.hub => "hub",
            to if to == system.rlc => "rlc",
            to if system.registries().contains(&to) => "registry",
            _ => "asset",
        };
        let Some(head) = call.data.get(..4) else { return format!("{whom} (no data)") };
        match self.names.get(head) {
            Some(name) => format!("{whom} {name}"),
            None => format!("{whom} {}", hex::encode(head)),
        }
    }

    /// What a refusal says, in words.
    pub fn reason(&self, outcome: &Outcome) -> String {
        if let End::Halted(word) = &outcome.end {
            return format!("halted: {word}");
        }
        reason_of(&outcome.output)
    }

    /// Everything that had to happen on this side and did not.
    pub fn missing(&self, side: usize) -> Vec<String> {
        let has = |counts: &Counts, name: &str| counts.get(name).is_some_and(|c| c[side] > 0);
        let mut missing = Vec::new();
        for (whom, signature) in required::successes() {
            let name = format!("{whom} {signature}");
            if !has(&self.returned, &name) {
                missing.push(format!("{name} never succeeded"));
            }
        }
        for (whom, signature) in required::never_succeed(side) {
            let name = format!("{whom} {signature}");
            if !has(&self.refused, &name) {
                missing.push(format!("{name} was never tried"));
            }
        }
        missing.extend(required::EVENTS.iter().filter(|e| !has(&self.emitted, e)).map(|e| format!("no event {e}")));
        for reason in required::reasons(side) {
            if !has(&self.reasons, &reason) {
                missing.push(format!("no refusal {reason:?}"));
            }
        }
        missing.extend(required::AIMS.iter().filter(|a| !has(&self.aims, a)).map(|a| format!("no step {a:?}")));
        missing
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Coverage) {
        let pairs = [
            (&mut self.returned, &other.returned),
            (&mut self.refused, &other.refused),
            (&mut self.emitted, &other.emitted),
            (&mut self.reasons, &other.reasons),
            (&mut self.aims, &other.aims),
        ];
        for (mine, theirs) in pairs {
            for (name, counts) in theirs {
                let entry = mine.entry(name.clone()).or_default();
                entry[0] += counts[0];
                entry[1] += counts[1];
            }
        }
        self.note_judged(&other.judged);
        for (name, count) in &other.deviations {
            *self.deviations.entry(name).or_default() += count;
        }
    }
}

impl fmt::Display for Coverage {
    /// How often everything occurred, on the published side and on ours.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = [
            ("functions, successes", &self.returned),
            ("functions, refusals", &self.refused),
            ("events", &self.emitted),
            ("reasons of refusals", &self.reasons),
            ("steps", &self.aims),
        ];
        for (title, counts) in tables {
            writeln!(f, "{title} (published, ours)")?;
            for (name, [published, ours]) in counts {
                writeln!(f, "  {published:>9} {ours:>9}  {name}")?;
            }
        }
        for (title, counts) in [("agreements with the Rust rules", &self.judged), ("deviations", &self.deviations)] {
            writeln!(f, "{title}")?;
            for (name, count) in counts {
                writeln!(f, "  {count:>9}  {name}")?;
            }
        }
        Ok(())
    }
}

/// A refusal without data.
pub const BARE: &str = "(bare)";

/// What revert data say, in words.
pub fn reason_of(data: &Bytes) -> String {
    if data.is_empty() {
        return BARE.into();
    }
    if let Ok(revert) = Revert::abi_decode(data) {
        return revert.reason;
    }
    if let Ok(panic) = Panic::abi_decode(data) {
        return format!("panic {:#04x}", panic.code);
    }
    if let Some(text) = data.strip_prefix(&selector("IncompatibleDatasetOrder(string)"))
        && let Ok((reason,)) = <(String,)>::abi_decode_params(text)
    {
        return format!("IncompatibleDatasetOrder: {reason}");
    }
    let head: [u8; 4] = data.get(..4).and_then(|h| h.try_into().ok()).unwrap_or_default();
    match required::ERRORS.iter().find(|e| selector(e) == head) {
        Some(name) => (*name).to_owned(),
        None => data.to_string(),
    }
}
