//! Failures that every machine sees alike are contributed; failures of this machine are not.

use crate::{
    market::{Request, WORKER, sha256},
    world::{World, answering, app, endless, module},
};
use bourse_chain::keys::test_key;
use bourse_protocol::{
    B256,
    computed::{MAX_CALLBACK, NO_CALLBACK},
    deal::{ContributionStatus, TaskStatus},
    failure::Failure,
    ids::{ResultDigest, TaskId, result_hash},
    replicate::{CauseCode, Status},
};

const COMPUTED: (&str, &str) = ("computed.json", r#"{"deterministic-output-path":"/iexec_out/r"}"#);
use std::time::Duration;

/// Waits until the failure is revealed; returns it as the requester would read it.
async fn contributed_failure(world: &mut World, task: TaskId, stage: Status) -> Failure {
    let life = world.pool.until(task, Status::Revealed).await;
    assert!(life.contains(&stage), "{life:?}");
    let link = world.finish(task).await;
    let content = world.store.get(&link.location).unwrap();
    let chain = world.market.hub.task(task).await.unwrap();
    assert_eq!(chain.consensus, result_hash(task, ResultDigest(sha256(&content))));
    Failure::read(&content).unwrap_or_else(|| panic!("not a failure: {}", String::from_utf8_lossy(&content)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_fails_alike_everywhere_is_paid_for_its_failure() {
    let mut world = World::open().await;
    world.config.limits.fuel = 10_000_000;
    world.start().await;
    use CauseCode::{AppComputeFailed, DeterminismHashNotFound};
    let outside = ("computed.json", r#"{"deterministic-output-path":"/etc/passwd"}"#);
    let callback = ("computed.json", r#"{"callback-data":"0x12"}"#);
    let cases = [
        (module("", "unreachable"), AppComputeFailed, "trapped"),
        (endless(), AppComputeFailed, "fuel"),
        (module("", "(drop (i32.load (i32.const -1)))"), AppComputeFailed, "trapped"),
        (app(&[], 3), AppComputeFailed, "exit code 3"),
        (app(&[("r", "42")], 0), DeterminismHashNotFound, "computed.json"),
        (app(&[("computed.json", "no json")], 0), DeterminismHashNotFound, "JSON"),
        (app(&[COMPUTED], 0), DeterminismHashNotFound, "does not exist"),
        (app(&[outside], 0), DeterminismHashNotFound, "outside the output folder"),
        (app(&[callback], 0), DeterminismHashNotFound, "a single file"),
        (b"\0asm but not really".to_vec(), AppComputeFailed, "not a WASI"),
    ];
    for (module, code, text) in cases {
        let task = world.assign(&module).await.task;
        let failure = contributed_failure(&mut world, task, Status::ComputeFailed).await;
        assert_eq!(failure.code(), code, "{failure}");
        assert!(failure.to_string().contains(text), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_contract_waits_for_has_the_digest_that_the_contract_takes() {
    let mut world = World::with_worker().await;
    let data = ("computed.json", r#"{"callback-data":"0x1234"}"#);
    let most = vec![0xa5; MAX_CALLBACK];
    let longest = format!(r#"{{"callback-data":"0x{}"}}"#, "a5".repeat(MAX_CALLBACK));
    let cases: [(Vec<u8>, &[u8]); 4] = [
        (app(&[data], 0), &[0x12, 0x34]),
        (app(&[("computed.json", &longest)], 0), &most),
        (app(&[("r", "42"), COMPUTED], 0), NO_CALLBACK),
        (module("", "unreachable"), NO_CALLBACK),
    ];
    for (module, expected) in cases {
        let app = world.market.app(&world.store, &module).await;
        let callback = bourse_protocol::Address::repeat_byte(0xca);
        let task = world.assign_request(Request { callback, ..Request::of(app) }).await.task;
        world.pool.until(task, Status::Revealed).await;
        let link = world.upload(task).await;
        assert_eq!(world.store.get(&link.location).unwrap(), expected);
        let gas = world.market.finalize_with(task, &link, expected).await.gas_used;
        assert!(gas < 1 << 24, "{} bytes take {gas} gas, more than a transaction may", expected.len());
        assert_eq!(world.market.hub.task(task).await.unwrap().status, TaskStatus::Completed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_fails_but_leaves_a_result_has_a_result() {
    let mut world = World::with_worker().await;
    let task = world.assign(&app(&[("r", "what went wrong"), COMPUTED], 7)).await.task;
    world.pool.until(task, Status::Revealed).await;
    let link = world.finish(task).await;
    assert_eq!(world.store.get(&link.location).unwrap(), b"what went wrong");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_checksums_and_arguments_are_told_to_the_requester() {
    let mut world = World::with_worker().await;
    let module = answering("42");
    let cid = world.store.put(&module);
    let wrong = B256::repeat_byte(7);

    let app = world.market.app_with(&cid, wrong, "WASM").await;
    let task = world.assign_request(Request::of(app)).await.task;
    let failure = contributed_failure(&mut world, task, Status::AppDownloadFailed).await;
    assert_eq!(failure.code(), CauseCode::AppBadChecksum);
    assert!(failure.to_string().contains(&wrong.to_string()), "{failure}");

    let app = world.market.app(&world.store, &module).await;
    let dataset = world.market.dataset(&world.store.put(b"data"), wrong).await;
    let task = world.assign_request(Request { dataset, ..Request::of(app) }).await.task;
    let failure = contributed_failure(&mut world, task, Status::DataDownloadFailed).await;
    assert_eq!(failure.code(), CauseCode::DatasetBadChecksum);

    let task = world.assign_request(Request { params: "'open".into(), ..Request::of(app) }).await.task;
    let failure = contributed_failure(&mut world, task, Status::ComputeFailed).await;
    assert_eq!(failure.code(), CauseCode::TaskDescriptionInvalid);
    assert!(failure.to_string().contains("quote"), "{failure}");

    let params = r#"{"iexec_input_files":["ftp://example.org/x"]}"#.to_owned();
    let task = world.assign_request(Request { params, ..Request::of(app) }).await.task;
    let failure = contributed_failure(&mut world, task, Status::DataDownloadFailed).await;
    assert_eq!(failure.code(), CauseCode::TaskDescriptionInvalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_without_checksum_is_taken_as_its_content_id_says() {
    let mut world = World::with_worker().await;
    let app = world.market.app(&world.store, &answering("42")).await;
    let dataset = world.market.dataset(&world.store.put(b"data"), B256::ZERO).await;
    let task = world.assign_request(Request { dataset, ..Request::of(app) }).await.task;
    world.pool.until(task, Status::Revealed).await;
}

/// Reports until the end; the cause of the last.
async fn not_contributed(world: &mut World, task: TaskId) -> (Vec<Status>, CauseCode) {
    let mut seen = Vec::new();
    loop {
        let (status, cause) = world.pool.report(task).await;
        seen.push(status);
        if status.is_final() {
            assert_eq!(world.contribution(task).await, ContributionStatus::Unset);
            assert!(!world.task_folder(task).exists());
            return (seen, cause.unwrap().code);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_takes_too_long_is_this_machines_failure() {
    let mut world = World::with_worker().await;
    let category = world.market.create_category(1).await;
    let app = world.market.app(&world.store, &endless()).await;
    let task = world.assign_request(Request { category, ..Request::of(app) }).await.task;
    let (seen, code) = not_contributed(&mut world, task).await;
    assert_eq!(code, CauseCode::AppComputeTimeout);
    assert_eq!(seen[seen.len() - 2..], [Status::ComputeFailed, Status::Failed]);
    assert_eq!(world.market.transactions(WORKER).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_of_another_type_is_left_to_others() {
    let mut world = World::with_worker().await;
    let app = world.market.app_with(&world.store.put(b"x"), B256::repeat_byte(1), "DOCKER").await;
    let task = world.assign_request(Request::of(app)).await.task;
    let (_, code) = not_contributed(&mut world, task).await;
    assert_eq!(code, CauseCode::AppTypeUnsupported);
}

#[tokio::test(flavor = "multi_thread")]
async fn input_files_in_private_networks_are_not_fetched() {
    let mut world = World::with_worker().await;
    let app = world.market.app(&world.store, &answering("42")).await;
    let params = format!(r#"{{"iexec_input_files":["{}/ipfs/secret"]}}"#, world.store.url);
    let task = world.assign_request(Request { params, ..Request::of(app) }).await.task;
    let (_, code) = not_contributed(&mut world, task).await;
    assert_eq!(code, CauseCode::DatasetDownloadFailed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inputs_of_a_task_share_one_limit() {
    let mut world = World::open().await;
    (world.config.private_urls, world.config.download_limit) = (true, 100);
    world.start().await;
    let app = world.market.app(&world.store, &answering("42")).await;
    let files: Vec<String> = [b'a', b'b'].map(|byte| world.store.put(&[byte; 60]).link()).to_vec();
    let request = |files: &[String]| {
        let urls: Vec<String> = files.iter().map(|file| format!("\"{}{file}\"", world.store.url)).collect();
        Request { params: format!(r#"{{"iexec_input_files":[{}]}}"#, urls.join(",")), ..Request::of(app) }
    };
    let (one, both) = (request(&files[..1]), request(&files));
    let task = world.assign_request(one).await.task;
    world.pool.until(task, Status::Revealed).await;
    let task = world.assign_request(both).await.task;
    let (_, code) = not_contributed(&mut world, task).await;
    assert_eq!(code, CauseCode::DatasetDownloadFailed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_for_a_while_delays_and_nothing_more() {
    let mut world = World::with_worker().await;
    world.store.fail_next(2);
    let task = world.assign(&answering("42")).await.task;
    world.pool.until(task, Status::Revealed).await;
    world.store.fail_next(2);
    world.finish(task).await;
    assert_eq!(world.contribution(task).await, ContributionStatus::Proved);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_hangs_is_tried_again() {
    let mut world = World::open().await;
    world.config.upload_patience = Duration::from_millis(500);
    world.start().await;
    let task = world.assign(&answering("42")).await.task;
    world.pool.until(task, Status::Revealed).await;
    world.store.hang_next(2);
    world.finish(task).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_fails_is_said_and_may_be_asked_for_again() {
    let mut world = World::with_worker().await;
    let task = world.assign(&answering("42")).await.task;
    world.pool.until(task, Status::Revealed).await;
    world.store.fail_next(5);
    world.pool.send(&bourse_protocol::link::ToWorker::Upload { task });
    loop {
        let (status, cause) = world.pool.report(task).await;
        if status == Status::ResultUploadFailed {
            assert_eq!(cause.unwrap().code, CauseCode::ResultUploadFailed);
            break;
        }
    }
    world.finish(task).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_without_ether_says_so_before_it_computes() {
    let mut world = World::with_worker().await;
    let chain = world.market.chain.rpc_client();
    let _: () = chain.request("anvil_setBalance", (test_key(WORKER).address(), "0x1")).await.unwrap();
    let task = world.assign(&endless()).await.task;
    let (seen, code) = not_contributed(&mut world, task).await;
    assert_eq!((seen, code), (vec![Status::OutOfGas, Status::Failed], CauseCode::OutOfGas));
}
