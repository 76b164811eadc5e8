//! `bourse chain status`: how the nodes of a chain do.

use crate::{network, process::Home};

#[test]
fn bad_nodes_are_shown_with_the_reason_and_good_ones_are_used() {
    let home = Home::new();
    let mut chain = home.start(network::on(&home.join("c"), &["chain", "run", "--port", "0"]));
    chain.says("answers at ");
    let said = chain.stderr();
    let url = said.split_whitespace().find(|w| w.starts_with("http://")).unwrap();
    let silent = "http://127.0.0.1:9";

    let both = home.run(["chain", "status", "--rpc-url", silent, "--rpc-url", url, "--json"]).succeeded().json();
    assert_eq!((&both["ok"], &both["usable"]), (&true.into(), &1.into()), "{both:#}");
    let (bad, good) = (&both["nodes"][0], &both["nodes"][1]);
    assert_eq!((&bad["state"], &bad["reason"]["why"]), (&"aside".into(), &"silent".into()), "{both:#}");
    assert_eq!((&good["state"], &good["height"], &good["lag"]), (&"good".into(), &0.into(), &0.into()), "{both:#}");

    let table = home.run(["chain", "status", "--rpc-url", &format!("{silent},{url}")]).succeeded().stdout;
    assert!(table.contains("left aside: does not answer") && table.contains("good"), "{table}");
    let none = home.run(["chain", "status", "--rpc-url", silent]);
    assert_eq!(none.code, Some(1), "{none:#?}");
    assert!(none.stderr.contains("none of the nodes can be used") && none.stdout.contains("left aside"), "{none:#?}");
    chain.kill();
}
