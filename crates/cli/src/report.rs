//! What `bourse demo` says at its end, as data and as text. Pure.

use crate::output::table;
use bourse_protocol::{Address, U256, money::Nrlc};
use serde::Serialize;
use std::path::PathBuf;

/// The end of a demonstration.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) ok: bool,
    pub(crate) task: String,
    pub(crate) deal: String,
    pub(crate) trust: u64,
    pub(crate) pricing: Pricing,
    pub(crate) timeline: Vec<Stage>,
    /// From the start of the process to the paid, checked and downloaded result.
    pub(crate) total_seconds: f64,
    pub(crate) accounts: Vec<Line>,
    pub(crate) gas: Vec<GasLine>,
    pub(crate) total_gas: u64,
    pub(crate) result_file: PathBuf,
    pub(crate) location: String,
    pub(crate) digest: String,
    /// Largest memory of this process so far (VmHWM), in bytes; absent where the system does not say.
    pub(crate) peak_memory_bytes: Option<u64>,
}

/// The computed price beside the formula.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pricing {
    pub(crate) price: f64,
    pub(crate) standard_error: f64,
    pub(crate) closed_form: f64,
    pub(crate) spot: f64,
    pub(crate) strike: f64,
    pub(crate) maturity: f64,
    pub(crate) rate: f64,
    pub(crate) volatility: f64,
    pub(crate) paths: u64,
}

/// A stage of the story.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Stage {
    pub(crate) stage: String,
    pub(crate) seconds: f64,
}

/// What the story was for one participant: money in the hub, in nRLC, and reputation.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    pub(crate) who: String,
    pub(crate) address: Address,
    pub(crate) before: Nrlc,
    pub(crate) after: Nrlc,
    pub(crate) score_before: Option<u64>,
    pub(crate) score_after: Option<u64>,
    pub(crate) note: String,
}

/// Gas of one kind of call.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GasLine {
    pub(crate) call: String,
    pub(crate) count: u64,
    pub(crate) gas: u64,
}

impl Line {
    /// What changed, with its sign.
    fn change(&self) -> String {
        match self.after >= self.before {
            true => format!("+{}", self.after.saturating_sub(self.before)),
            false => format!("-{}", self.before.saturating_sub(self.after)),
        }
    }
}

impl Pricing {
    /// How far the computed price is from the formula, in standard errors.
    pub(crate) fn deviation(&self) -> f64 {
        (self.price - self.closed_form).abs() / self.standard_error
    }
}

/// The price of a European call without dividends by Black and Scholes.
pub(crate) fn black_scholes(spot: f64, strike: f64, maturity: f64, rate: f64, volatility: f64) -> f64 {
    let spread = volatility * maturity.sqrt();
    let d1 = ((spot / strike).ln() + (rate + volatility * volatility / 2.0) * maturity) / spread;
    let normal = |x: f64| 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
    spot * normal(d1) - strike * (-rate * maturity).exp() * normal(d1 - spread)
}

/// The report in words.
pub(crate) fn text(report: &Report) -> String {
    let p = &report.pricing;
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(String::new());
    line(format!("The price of the option: {:.4} $, give or take {:.4} (standard error)", p.price, p.standard_error));
    line(format!(
        "The formula of Black and Scholes says {:.4} $: {:.1} standard errors away",
        p.closed_form,
        p.deviation()
    ));
    line(format!(
        "  (spot {} $, strike {} $, {} year(s), rate {},\n  volatility {:.4}, {} paths)",
        p.spot, p.strike, p.maturity, p.rate, p.volatility, p.paths
    ));
    line("\nHow long it took".into());
    let mut rows = vec![vec!["stage".to_owned(), "seconds".into()]];
    rows.extend(report.timeline.iter().map(|s| vec![s.stage.clone(), format!("{:.3}", s.seconds)]));
    rows.push(vec!["from start to checked result".into(), format!("{:.3}", report.total_seconds)]);
    line(table(&rows).trim_end().into());
    line("\nWho was paid what (RLC in the hub), and reputation".into());
    let mut rows = vec![["who", "before", "after", "change", "score"].map(String::from).to_vec()];
    rows.extend(report.accounts.iter().map(|l| {
        let score = match (l.score_before, l.score_after) {
            (Some(before), Some(after)) => format!("{before} → {after}"),
            _ => String::new(),
        };
        vec![l.who.clone(), l.before.to_string(), l.after.to_string(), l.change(), score]
    }));
    line(table(&rows).trim_end().into());
    for noted in report.accounts.iter().filter(|l| !l.note.is_empty()) {
        line(format!("  {}:\n    {}", noted.who, noted.note.replace("; ", ";\n    ")));
    }
    line("\nGas per call".into());
    let mut rows = vec![["call", "calls", "gas"].map(String::from).to_vec()];
    rows.extend(report.gas.iter().map(|g| vec![g.call.clone(), g.count.to_string(), g.gas.to_string()]));
    rows.push(vec![
        "all".into(),
        report.gas.iter().map(|g| g.count).sum::<u64>().to_string(),
        report.total_gas.to_string(),
    ]);
    line(table(&rows).trim_end().into());
    line(format!("\nThe result\n  {}", report.result_file.display()));
    line(format!("  its sha256\n  {}\n  is the digest that the workers agreed on, on chain", report.digest));
    line(format!("  in the store under {}", report.location));
    if let Some(bytes) = report.peak_memory_bytes {
        line(format!("  this process needed {} MB of memory at most", bytes / 1_000_000));
    }
    out
}

/// A score for people: small numbers, or the largest that is shown.
pub(crate) fn score(value: U256) -> u64 {
    value.saturating_to()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_gives_the_textbook_value() {
        // S = 42, K = 40, T = 0.5, r = 0.1, σ = 0.2: 4.76 in Hull's textbook.
        assert!((black_scholes(42.0, 40.0, 0.5, 0.1, 0.2) - 4.7594).abs() < 1e-4);
    }

    #[test]
    fn changes_have_a_sign() {
        let line = |before, after| Line {
            who: String::new(),
            address: Address::ZERO,
            before: Nrlc::rlc(before),
            after: Nrlc::rlc(after),
            score_before: None,
            score_after: None,
            note: String::new(),
        };
        assert_eq!(line(10, 13).change(), "+3");
        assert_eq!(line(13, 10).change(), "-3");
    }
}
