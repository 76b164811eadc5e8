//! What was published about the two public runs of 2018, as a table beside a replay of ours. Source: middleware.md §10.1.
//!
//! The simulation's replay includes this file, too: it depends on nothing.

/// What is told, in the first run, in the second; "–" where the publications give no number.
const PUBLISHED: [[&str; 3]; 9] = [
    ["nodes", "200+", "311"],
    ["orders executed", "51", "about 170"],
    ["RLC earned", "510", "2,400"],
    ["CPUs", "722", "–"],
    ["RAM, GB", "1,613", "–"],
    ["mean order time, s", "1,900", "–"],
    ["mean execution time, s", "1,243", "–"],
    ["mean computing time, s", "395", "–"],
    ["orders not finalised", "14", "–"],
];

/// The rows with ours at the end of each: name, first run, second run, ours.
pub(crate) fn rows(ours: [String; 9]) -> Vec<[String; 4]> {
    let row = |([name, first, second], ours): ([&str; 3], String)| [name.into(), first.into(), second.into(), ours];
    PUBLISHED.into_iter().zip(ours).map(row).collect()
}

/// The rows as text for people.
pub(crate) fn table(rows: &[[String; 4]]) -> String {
    let head = ["", "first run", "second run", "bourse"].map(String::from);
    let line = |[name, first, second, ours]: &[String; 4]| format!("{name:<24}{first:>12}{second:>12}{ours:>12}");
    let lines: Vec<String> = std::iter::once(&head).chain(rows).map(line).collect();
    lines.join("\n")
}
