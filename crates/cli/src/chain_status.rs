//! `bourse chain status`: how the nodes of a chain do.

use crate::{args::DataDir, network_file::NetworkFile, output};
use bourse_chain::{Client, NodeStatus};
use clap::{ArgAction, Args};

/// Which nodes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// An Ethereum node; may be given several times [default: the nodes of the network in the data directory].
    #[arg(long, value_name = "URL", action = ArgAction::Append, value_delimiter = ',')]
    rpc_url: Vec<String>,
    #[command(flatten)]
    data_dir: DataDir,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Asks all nodes, compares them, and says which can be used.
pub(crate) async fn execute(arguments: Arguments) -> eyre::Result<()> {
    let urls = match arguments.rpc_url.as_slice() {
        [] => NetworkFile::read(&arguments.data_dir.path())?.rpc_url,
        urls => urls.join(","),
    };
    let client = Client::connect(&urls)?;
    let nodes = client.probe().await;
    let usable = nodes.iter().filter(|node| node.state == "good").count();
    match arguments.json {
        true => output::json(&serde_json::json!({ "ok": usable > 0, "usable": usable, "nodes": nodes })),
        false => output::data(output::table(&rows(&nodes)).trim_end()),
    }
    match usable {
        0 => Err(eyre::eyre!("none of the nodes can be used: check that they run and that the addresses are right")),
        _ => Ok(()),
    }
}

fn rows(nodes: &[NodeStatus]) -> Vec<Vec<String>> {
    let head = ["node", "height", "lag", "state", "answers in", "last error"].map(String::from).to_vec();
    let number = |n: Option<u64>| n.map_or("–".to_owned(), |n| n.to_string());
    let row = |node: &NodeStatus| {
        let state = node.reason.as_ref().map_or(node.state.to_owned(), |why| format!("left aside: {why}"));
        let latency = node.latency_ms.map_or("–".to_owned(), |ms| format!("{ms} ms"));
        let error = node.last_error.clone().unwrap_or_default();
        vec![node.node.clone(), number(node.height), number(node.lag), state, latency, error]
    };
    std::iter::once(head).chain(nodes.iter().map(row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourse_chain::health::{Health, Limits, Observation};
    use std::time::Duration;

    #[test]
    fn every_node_has_a_line_that_says_what_is_wrong() {
        let mut health = Health::new(["a", "b"].map(String::from), Limits::default());
        let hash = Default::default();
        health.observe(0, Observation::Answered { latency: Duration::from_millis(7) }, Duration::ZERO);
        health.observe(0, Observation::Head { number: 12, hash, ahead: 0 }, Duration::ZERO);
        health.observe(1, Observation::Failed { error: "connection refused".into() }, Duration::ZERO);
        health.judge(&[0, 1], Duration::ZERO);
        let text = output::table(&rows(&health.status()));
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["a", "12", "0", "good", "7", "ms"]);
        assert_eq!(lines[2][..3], ["b", "–", "–"]);
        assert!(text.contains("left aside: does not answer") && text.contains("connection refused"), "{text}");
    }
}
