use super::*;
use bourse_protocol::{
    Address, U256,
    deal::{Deal, Resource},
    ids::{DealId, TaskId},
    money::Nrlc,
};

fn terms() -> Terms {
    let resource = |n| Resource { pointer: Address::repeat_byte(n), owner: Address::ZERO, price: Nrlc::ZERO };
    let deal = Deal {
        id: DealId(B256::repeat_byte(0xd)),
        app: resource(1),
        dataset: None,
        workerpool: resource(2),
        trust: U256::from(1),
        category: U256::ZERO,
        tag: B256::ZERO,
        requester: Address::ZERO,
        beneficiary: Address::ZERO,
        callback: Address::ZERO,
        params: String::new(),
        start_time: 1_000,
        bot_first: U256::from(5),
        bot_size: U256::from(3),
        worker_stake: Nrlc::ZERO,
        scheduler_percent: 1,
        sponsor: Address::ZERO,
    };
    Terms { deal, period: 300 }
}

fn app() -> App {
    App {
        address: Address::ZERO,
        owner: Address::ZERO,
        name: "pricing".into(),
        kind: APP_TYPE.into(),
        multiaddr: Default::default(),
        checksum: B256::ZERO,
    }
}

#[test]
fn the_app_is_told_about_its_task() {
    let (deal, index) = (terms().deal.id, U256::from(6));
    let task = TaskId::of(deal, index);
    let assignment =
        Assignment { task, deal, index, authorization: Default::default(), enclave_challenge: Address::ZERO };
    let env: Vec<String> = environment(&assignment, &terms()).into_iter().map(|(k, v)| format!("{k}={v}")).collect();
    expect_test::expect![[r#"
        IEXEC_BOT_FIRST_INDEX=5
        IEXEC_BOT_SIZE=3
        IEXEC_BOT_TASK_INDEX=6
        IEXEC_DEAL_ID=0x0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d
        IEXEC_IN=/iexec_in
        IEXEC_OUT=/iexec_out
        IEXEC_TASK_ID=0xf163a98142efff66840e3bbbf6980cdfb273c2747dd3aedb806d4692c6ac9064
        IEXEC_TASK_INDEX=6"#]]
    .assert_eq(&env.join("\n"));
}

#[test]
fn arguments_begin_with_the_name_of_the_app() {
    assert_eq!(arguments(&app(), r#"{"iexec_args":"--strike '4 50'"}"#).unwrap(), ["pricing", "--strike", "4 50"]);
    for params in ["'open", "{\"iexec_args\":\"a\\u0000b\"}"] {
        let Err(Trouble::Alike(Status::ComputeFailed, failure)) = arguments(&app(), params) else {
            panic!("{params} is taken")
        };
        assert_eq!(failure.code(), CauseCode::TaskDescriptionInvalid);
    }
}

#[test]
fn the_last_words_of_an_app_reach_its_user_in_one_short_line() {
    assert_eq!(with_last_words("app trapped".into(), " \n\n"), "app trapped");
    let stderr = format!("panicked at src/main.rs:\n  no such option {}  \n\n", "x".repeat(500));
    let text = with_last_words("app trapped".into(), &stderr);
    assert!(text.starts_with("app trapped; it said: no such option xxx") && text.len() < 240, "{text}");
}

#[test]
fn assets_are_found_on_ipfs_or_at_a_url_and_nowhere_else() {
    let cid: bourse_protocol::ipfs::Cid = "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o".parse().unwrap();
    assert_eq!(source(&Multiaddr::Ipfs(cid).encode()), Ok(Source::Ipfs(cid)));
    assert_eq!(source(b"https://example.org/a"), Ok(Source::Http("https://example.org/a".parse().unwrap())));
    for multiaddr in ["", "docker.io/library/python:3.12", "http://", "file:///etc/passwd"] {
        assert!(source(multiaddr.as_bytes()).is_err(), "{multiaddr}");
    }
}
