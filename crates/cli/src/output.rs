//! Printing: words to stderr, data to stdout. Nothing else in the workspace prints.

use std::io::{IsTerminal, Write};
use tracing_subscriber::EnvFilter;

/// A line for people, on stderr.
pub(crate) fn say(text: &str) {
    // A closed stderr is no reason to stop working.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Data, on stdout.
pub(crate) fn data(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// One JSON document on stdout.
pub(crate) fn json(value: &impl serde::Serialize) {
    data(&serde_json::to_string_pretty(value).expect("reports serialise"));
}

/// Logs go to stderr: by default only what an operator must see; `RUST_LOG` says otherwise.
pub(crate) fn start_log(verbose: u8) {
    let default = match verbose {
        0 => "error",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(verbose > 1)
        .init();
}

/// Columns of text, aligned; the first row is the head. Numbers align right.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let numeric = |t: &str| t.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-');
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, w)| if numeric(cell) { format!("{cell:>w$}") } else { format!("{cell:<w$}") })
            .collect();
        text.push_str("  ");
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align() {
        let rows = vec![vec!["who".into(), "rlc".into()], vec!["worker 1".into(), "+3.3".into()]];
        assert_eq!(table(&rows), "  who       rlc\n  worker 1  +3.3\n");
    }
}
