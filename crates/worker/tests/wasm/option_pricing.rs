//! The example app, run as a worker runs it, against the closed form.

use crate::rig::{Rig, TASK};
use bourse_worker::wasm::{Outcome, Report, output::Output};
use serde::Deserialize;
use std::{fs, path::Path};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/option-pricing");
/// Datasets arrive named by their address.
const DATASET: &str = "0x5FbDB2315678afecb367f032d93F642f64180aa3";

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Priced {
    price: f64,
    standard_error: f64,
    spot: f64,
    spot_date: String,
    volatility: f64,
    strike: f64,
    maturity: f64,
    rate: f64,
    paths: u64,
}

fn app(csv: &str, args: &[&str]) -> Rig {
    let mut rig = Rig::binary(fs::read(Path::new(FOLDER).join("option-pricing.wasm")).unwrap());
    fs::write(rig.job.input_dir.join(DATASET), csv).unwrap();
    rig.job.env.insert("IEXEC_DATASET_FILENAME".into(), DATASET.into());
    rig.job.args.extend(args.iter().map(|arg| arg.to_string()));
    rig
}

fn prices() -> String {
    fs::read_to_string(Path::new(FOLDER).join("data/aapl-daily-2000-2013.csv")).unwrap()
}

async fn priced(task: &str, args: &[&str]) -> (Priced, Vec<u8>, Report) {
    let mut rig = app(&prices(), args);
    rig.job.env.insert("IEXEC_TASK_ID".into(), task.into());
    let report = rig.run().await;
    assert!(report.outcome.is_success(), "{}: {}", report.outcome, report.stderr.text());
    let bytes = fs::read(rig.out("result.json")).unwrap();
    assert!(Output::read(&rig.job.output_dir).is_ok());
    (serde_json::from_slice(&bytes).unwrap(), bytes, report)
}

/// Error function: its Maclaurin series, which converges for every argument that a test uses.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / n as f64;
        sum += term / (2 * n + 1) as f64;
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn normal_cdf(x: f64) -> f64 {
    (1.0 + erf(x / 2f64.sqrt())) / 2.0
}

fn black_scholes(p: &Priced) -> f64 {
    let spread = p.volatility * p.maturity.sqrt();
    let d1 = ((p.spot / p.strike).ln() + (p.rate + p.volatility * p.volatility / 2.0) * p.maturity) / spread;
    p.spot * normal_cdf(d1) - p.strike * (-p.rate * p.maturity).exp() * normal_cdf(d1 - spread)
}

#[test]
fn the_closed_form_of_these_tests_gives_published_values() {
    assert!((normal_cdf(1.96) - 0.975_002_104_851_780).abs() < 1e-12);
    let p = Priced {
        price: 0.0,
        standard_error: 0.0,
        spot: 42.0,
        spot_date: String::new(),
        volatility: 0.2,
        strike: 40.0,
        maturity: 0.5,
        rate: 0.1,
        paths: 0,
    };
    // The example of Hull's textbook.
    assert!((black_scholes(&p) - 4.76).abs() < 0.005);
}

#[tokio::test]
async fn spot_and_volatility_are_those_of_the_data() {
    let csv = prices();
    let rows: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let closes: Vec<f64> = rows.iter().rev().take(253).map(|row| row[6].parse().unwrap()).collect();
    let returns: Vec<f64> = closes.windows(2).map(|pair| (pair[0] / pair[1]).ln()).collect();
    assert_eq!(returns.len(), 252);
    let mean = returns.iter().sum::<f64>() / 252.0;
    let variance = returns.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / 251.0;
    let volatility = (variance * 252.0).sqrt();

    let (result, ..) = priced(TASK, &["--paths", "100"]).await;
    assert!((result.volatility - volatility).abs() < 1e-9, "{} is not {volatility}", result.volatility);
    assert_eq!(format!("{volatility:.4}"), VOLATILITY);
    assert_eq!((result.spot, &*result.spot_date), (430.47, "2013-03-01"));
    assert_eq!(rows.last().unwrap()[4], "430.47");
}

const VOLATILITY: &str = "0.3277";

#[tokio::test]
async fn prices_agree_with_the_closed_form() {
    for args in [
        &[][..],
        &["--strike", "450", "--maturity", "0.5", "--paths", "500000"],
        &["--strike", "300", "--maturity", "2", "--rate", "0.05", "--paths", "500000"],
        &["--strike", "700", "--rate", "-0.01", "--paths", "500000"],
    ] {
        let (result, _, report) = priced(TASK, args).await;
        let exact = black_scholes(&result);
        let off = (result.price - exact) / result.standard_error;
        println!("{result:?}: closed form {exact:.4}, {off:+.2} standard errors, {:.3} s", report.seconds);
        assert!(off.abs() < 3.0, "{args:?}: {} is {off} standard errors from {exact}", result.price);
        assert!(result.standard_error > 0.0 && result.standard_error < 0.01 * result.spot);
    }
}

#[tokio::test]
async fn the_standard_error_is_what_it_says() {
    // Over many tasks, the distance to the closed form has the standard deviation that the app claims.
    let mut squares = 0.0;
    let tasks = 40;
    for task in 0..tasks {
        let (result, ..) = priced(&format!("0x{task:064x}"), &["--paths", "2000"]).await;
        squares += ((result.price - black_scholes(&result)) / result.standard_error).powi(2);
    }
    let spread = (squares / f64::from(tasks)).sqrt();
    assert!((0.7..1.4).contains(&spread), "{spread}");
}

#[tokio::test]
async fn the_answer_is_the_one_in_the_readme() {
    let (_, bytes, _) = priced(TASK, &[]).await;
    let expected = fs::read_to_string(Path::new(FOLDER).join("expected/result.json")).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    assert!(fs::read_to_string(Path::new(FOLDER).join("README.md")).unwrap().contains(&expected));
}

#[tokio::test]
async fn a_task_has_one_answer() {
    let (first, bytes, report) = priced(TASK, &["--paths", "10000"]).await;
    let (_, again, report_again) = priced(TASK, &["--paths", "10000"]).await;
    assert_eq!(bytes, again);
    assert_eq!(report.fuel_used, report_again.fuel_used);
    let (other, ..) = priced(&TASK.replace('1', "2"), &["--paths", "10000"]).await;
    assert_ne!(first.price, other.price);
    let (defaults, ..) = priced(TASK, &[]).await;
    assert_eq!((defaults.strike, defaults.maturity, defaults.rate, defaults.paths), (430.47, 1.0, 0.01, 1_000_000));
}

/// Runs and expects an exit code and words on stderr, and that nothing was written.
async fn refused(rig: Rig, code: i32, words: &str) {
    let report = rig.run().await;
    let stderr = report.stderr.text();
    assert_eq!(report.outcome, Outcome::Exited { code }, "{words}: {stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains(words), "expected {words:?} in {stderr}");
    assert_eq!(fs::read_dir(&rig.job.output_dir).unwrap().count(), 0, "{words}: something was written");
}

#[tokio::test]
async fn nonsense_arguments_are_refused() {
    for (args, words) in [
        (&["--strike", "-5"][..], "--strike -5: expected a number from 0.01"),
        (&["--strike", "nan"], "--strike nan"),
        (&["--strike", "0x10"], "--strike 0x10"),
        (&["--strike", "1e999"], "--strike 1e999"),
        (&["--strike", "0"], "--strike 0"),
        (&["--strike", ""], "--strike : expected"),
        (&["--strike"], "--strike : expected"),
        (&["--maturity", "0"], "--maturity 0"),
        (&["--maturity", "inf"], "--maturity inf"),
        (&["--rate", "7"], "--rate 7"),
        (&["--rate", "0.01%"], "--rate 0.01%"),
        (&["--paths", "10.5"], "--paths 10.5"),
        (&["--paths", "1"], "--paths 1"),
        (&["--paths", "99999999999"], "--paths 99999999999"),
        (&["--paths", "1000", "--paths", "1000"], "--paths is given twice"),
        (&["--colour", "red"], "unknown argument --colour"),
        (&["450"], "unknown argument 450"),
    ] {
        refused(app(&prices(), args), 2, words).await;
    }
}

#[tokio::test]
async fn a_broken_dataset_is_refused_with_its_line() {
    let csv = prices();
    let edited = |line: usize, from: &str, to: &str| {
        let mut lines: Vec<String> = csv.lines().map(str::to_owned).collect();
        assert!(lines[line - 1].contains(from), "{}", lines[line - 1]);
        lines[line - 1] = lines[line - 1].replace(from, to);
        lines.join("\n")
    };
    let short: String = csv.lines().take(253).collect::<Vec<_>>().join("\n");
    for (csv, words) in [
        (String::new(), "line 1: expected the header"),
        ("hello\n".into(), "line 1: expected the header"),
        (short, "line 253: the file ends too early"),
        (edited(3, "2000-03-02", "2000-03-01"), "line 3: the date does not come after"),
        (edited(3, "2000-03-02", "02/03/2000"), "line 3: the date is not like"),
        (edited(3, ",122.0,", ",-122.0,"), "line 3: a price or volume is not a plain number"),
        (edited(3, ",122.0,", ",nan,"), "line 3: a price or volume is not a plain number"),
        (edited(3, ",122.0,", ",0,"), "line 3: a price is not above zero"),
        (edited(3, ",122.0,", ",,"), "line 3: a price or volume is not a plain number"),
        (edited(3, ",122.0,", ","), "line 3: expected 7 fields"),
        (edited(3, ",122.0,", ",122.0,1,"), "line 3: expected 7 fields"),
        (edited(3, "122.0", &"1".repeat(300)), "line 3: the line is too long"),
        (edited(3, "122.0", "1\0"), "line 3: the line is too long or not text"),
        (edited(3, "2000-03-02", "\n2000-03-02"), "line 3: expected 7 fields"),
    ] {
        refused(app(&csv, &[]), 1, words).await;
    }
}

#[tokio::test]
async fn what_the_worker_must_give_is_named_when_missing() {
    for name in ["IEXEC_IN", "IEXEC_OUT", "IEXEC_DATASET_FILENAME", "IEXEC_TASK_ID"] {
        let mut rig = app(&prices(), &[]);
        rig.job.env.remove(name);
        refused(rig, 1, &format!("the environment variable {name} is not set")).await;
    }
    let mut rig = app(&prices(), &[]);
    rig.job.env.insert("IEXEC_TASK_ID".into(), "0x12".into());
    refused(rig, 1, "IEXEC_TASK_ID is not 32 bytes in hex").await;
    let mut rig = app(&prices(), &[]);
    rig.job.env.insert("IEXEC_DATASET_FILENAME".into(), "nowhere".into());
    refused(rig, 1, "/iexec_in/nowhere: the dataset cannot be opened").await;
}
