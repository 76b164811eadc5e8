//! The gateway as a stranger meets it: logins, hostile input, the exact form of answers.

use crate::support::{World, owner, stranger};
use axum::{
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode, header},
};
use bourse_chain::PrivateKeySigner;
use bourse_protocol::{B256, api::market::challenge_digest, orders::AppOrder};
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt;

/// Sends one request; the answer must be JSON.
async fn ask(world: &World, method: Method, uri: &str, login: Option<&str>, body: String) -> (StatusCode, Value) {
    let mut request = Request::builder().method(method).uri(uri);
    if let Some(login) = login {
        request = request.header(header::AUTHORIZATION, login);
    }
    let response = world.service.router().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let status = response.status();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json", "{uri}");
    assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*", "{uri}");
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let value: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(value["ok"], status.is_success(), "{uri}: {value}");
    (status, value)
}

async fn get(world: &World, uri: &str) -> (StatusCode, Value) {
    ask(world, Method::GET, uri, None, String::new()).await
}

/// Code of a refused GET.
async fn refused(world: &World, uri: &str) -> (u16, String) {
    let (status, body) = get(world, uri).await;
    assert!(body["error"].is_string());
    (status.as_u16(), body["code"].as_str().unwrap().to_owned())
}

/// The text of a fresh challenge for a wallet.
async fn challenge(world: &World, key: &PrivateKeySigner) -> String {
    let (_, body) = get(world, &format!("/challenge?address={}&chainId=31337", key.address())).await;
    body["data"]["message"]["challenge"].as_str().unwrap().to_owned()
}

/// The header that `key` makes of a challenge.
fn login(key: &PrivateKeySigner, text: &str) -> String {
    let digest: B256 = challenge_digest(31337, text);
    let signature = bourse_chain::alloy::hex::encode_prefixed(key.sign_hash(&digest).as_bytes());
    format!("{digest}_{signature}_{}", key.address())
}

async fn publish(world: &World, login: Option<&str>, order: &AppOrder) -> (u16, Value) {
    let body = json!({ "order": order }).to_string();
    let (status, body) = ask(world, Method::POST, "/apporders?chainId=31337", login, body).await;
    (status.as_u16(), body)
}

#[tokio::test]
async fn a_login_is_good_once_for_its_wallet_and_for_five_minutes() {
    let world = World::new().await;
    let order = world.offers().await.app;
    let denied = async |login: Option<&str>| {
        let (status, body) = publish(&world, login, &order).await;
        (status, body["error"].as_str().unwrap().to_owned()) == (403, "invalid authorization".to_owned())
    };
    assert!(denied(None).await);
    assert!(denied(Some("nonsense")).await);
    let text = challenge(&world, &owner()).await;
    let swapped = login(&stranger(), &text).replace(&stranger().address().to_string(), &owner().address().to_string());
    assert!(denied(Some(&swapped)).await, "signed by another wallet");
    assert!(denied(Some(&login(&owner(), &text))).await, "used up by the attempt");
    assert!(denied(Some(&login(&owner(), "Sign this message to log into iExec Gateway: made up"))).await);
    let late = challenge(&world, &owner()).await;
    world.clock.advance(Duration::from_secs(300));
    assert!(denied(Some(&login(&owner(), &late))).await, "expired");
    let good = login(&owner(), &challenge(&world, &owner()).await);
    assert_eq!(publish(&world, Some(&good), &order).await.0, 200);
    assert!(denied(Some(&good)).await, "used twice");
}

#[tokio::test]
async fn answers_have_the_form_that_clients_expect() {
    let world = World::new().await;
    let order = world.offers().await.app;
    let good = login(&owner(), &challenge(&world, &owner()).await);
    let (_, body) = publish(&world, Some(&good), &order).await;
    let hash = world.hash(&order).to_string();
    let published = &body["published"];
    assert_eq!(published["orderHash"], hash.as_str());
    assert_eq!(
        (&published["remaining"], &published["status"], &published["chainId"]),
        (&json!(10), &json!("open"), &json!(31337))
    );
    assert_eq!(published["signer"], owner().address().to_string().as_str());
    assert_eq!(published["order"]["app"], order.app.to_string().as_str(), "addresses have their checksum");
    assert_eq!(published["order"]["appprice"], 1_000_000_000u64, "numbers are numbers");
    let (_, page) = get(&world, &format!("/apporders?app={}&chainId=31337&isDatasetStrict=false", order.app)).await;
    assert_eq!((&page["count"], &page["orders"][0]), (&json!(1), published));
    assert!(page.get("nextPage").is_none());
    let (_, one) = get(&world, &format!("/apporders/{hash}?chainId=31337")).await;
    assert_eq!((&one["orderHash"], &one["order"]), (&published["orderHash"], &published["order"]));
    let (_, version) = get(&world, "/version").await;
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let (_, metrics) = get(&world, "/metrics?chainId=31337").await;
    assert_eq!((&metrics["apporders"], &metrics["requestorders"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn hostile_requests_get_a_clear_answer() {
    let world = World::new().await;
    let app = "0x0000000000000000000000000000000000000001";
    let hash = B256::ZERO;
    for (uri, status, code) in [
        ("/nowhere", 404, "not_found"),
        ("/apporders", 400, "bad_query"),
        ("/apporders?chainId=1&app=any", 400, "chain_not_supported"),
        ("/apporders?chainId=-1&app=any", 400, "bad_query"),
        ("/apporders?chainId=31337", 400, "bad_query"),
        ("/datasetorders?chainId=31337", 400, "bad_query"),
        ("/apporders?chainId=31337&app=any&surprise=1", 400, "bad_query"),
        ("/apporders?chainId=31337&app=any&app=any", 400, "bad_query"),
        ("/apporders?chainId=31337&app=0x1", 400, "bad_query"),
        ("/apporders?chainId=31337&app=any&pageSize=9", 400, "bad_query"),
        ("/apporders?chainId=31337&app=any&pageSize=1001", 400, "bad_query"),
        ("/apporders?chainId=31337&app=any&pageIndex=-1", 400, "bad_query"),
        ("/apporders?chainId=31337&app=any&minTag=0x1", 400, "bad_query"),
        ("/apporders?chainId=31337&app=any&minVolume=9007199254740992", 400, "bad_query"),
        ("/apporders?chainId=31337&app=any&isDatasetStrict=maybe", 400, "bad_query"),
        ("/apporders/0x12?chainId=31337", 400, "bad_body"),
        ("/categories/x?chainId=31337", 400, "bad_body"),
        ("/categories/99?chainId=31337", 404, "not_found"),
        ("/categories/18446744073709551615?chainId=31337", 404, "not_found"),
        ("/challenge?chainId=31337", 400, "bad_query"),
        ("/version/?x=%ff", 404, "not_found"),
    ] {
        assert_eq!(refused(&world, uri).await, (status, code.to_owned()), "{uri}");
    }
    assert_eq!(refused(&world, &format!("/deals/{hash}?chainId=31337")).await.0, 404);
    assert_eq!(refused(&world, &format!("/apporders/{hash}?chainId=31337")).await.0, 404);
    let far = format!("/apporders?chainId=31337&app={app}&pageIndex=18446744073709551615&pageSize=1000");
    assert_eq!(get(&world, &far).await.1["count"], 0);
    let (status, _) = ask(&world, Method::DELETE, "/apporders?chainId=31337", None, String::new()).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn bodies_are_bounded_and_unknown_fields_refused() {
    let world = World::new().await;
    let order = serde_json::to_value(world.offers().await.app).unwrap();
    let post = async |body: String| {
        let login = login(&owner(), &challenge(&world, &owner()).await);
        let (status, body) = ask(&world, Method::POST, "/apporders?chainId=31337", Some(&login), body).await;
        (status.as_u16(), body["code"].as_str().unwrap().to_owned())
    };
    let with = |field: &str, value: Value| {
        let mut order = order.clone();
        order[field] = value;
        json!({ "order": order }).to_string()
    };
    let bad_body = (400, "bad_body".to_owned());
    assert_eq!(post(String::new()).await, bad_body);
    assert_eq!(post("[".repeat(10_000)).await, bad_body);
    assert_eq!(post(json!({ "order": order, "surprise": 1 }).to_string()).await, bad_body);
    assert_eq!(post(with("surprise", json!(1))).await, bad_body);
    assert_eq!(post(with("volume", json!(-1))).await, bad_body);
    assert_eq!(post(with("volume", json!(1.5))).await, bad_body);
    assert_eq!(post(with("volume", json!("9007199254740992"))).await, (400, "bad_order".to_owned()));
    assert_eq!(post(with("app", json!("0x12"))).await, bad_body);
    assert_eq!(post(" ".repeat(20_000)).await, (413, "body_too_large".to_owned()));
}

#[tokio::test]
async fn browsers_of_other_sites_may_call() {
    let world = World::new().await;
    let request = Request::builder()
        .method(Method::OPTIONS)
        .uri("/apporders?chainId=31337")
        .header(header::ORIGIN, "https://somewhere.example")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,content-type")
        .body(Body::empty())
        .unwrap();
    let response = world.service.router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    let allowed = response.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS].to_str().unwrap().to_lowercase();
    assert!(allowed.contains("authorization") && allowed.contains("content-type"), "{allowed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_the_answer_is_json_and_says_why() {
    use proptest::{prelude::*, test_runner::TestRunner};
    let world = World::new().await;
    let order = serde_json::to_string(&world.offers().await.app).unwrap();
    let word = || {
        prop::sample::select(vec![
            "chainId",
            "31337",
            "app",
            "any",
            "appOwner",
            "minTag",
            "pageIndex",
            "pageSize",
            "=",
            "&",
            "?",
            "%00",
            "%ff",
            "0x",
            "-1",
            "18446744073709551616",
            "true",
            "order",
            "\"",
            "{",
            "}",
            "[",
            ":",
            ",",
            "null",
            "target",
            "unpublish_all",
            "1e400",
        ])
    };
    let noise = || prop::collection::vec(word(), 0..12).prop_map(|words| words.concat());
    let routes = prop::sample::select(vec![
        "/apporders",
        "/datasetorders",
        "/workerpoolorders",
        "/requestorders",
        "/apporders/0x00",
        "/deals",
        "/deals/1",
        "/categories",
        "/categories/1",
        "/metrics",
        "/challenge",
        "/version",
        "/",
    ]);
    let methods = prop::sample::select(vec![Method::GET, Method::POST, Method::PUT, Method::PATCH]);
    let cut = (0..order.len(), noise())
        .prop_map(move |(at, noise)| format!("{{\"order\":{}{noise}{}}}", &order[..at], &order[at..]));
    let bodies = prop_oneof![noise(), cut];
    // The messages of a failure name the seed that brings it back.
    let mut runner = TestRunner::default();
    let runtime = tokio::runtime::Handle::current();
    let login_of = |text: String| login(&owner(), &text);
    tokio::task::block_in_place(|| {
        runner.run(&(methods, routes, noise(), bodies, any::<bool>()), |(method, route, query, body, known)| {
            let query = query.replace(['"', '{', '}', '['], "");
            let chain = if known { "chainId=31337&" } else { "" };
            runtime.block_on(async {
                let login = login_of(challenge(&world, &owner()).await);
                ask(&world, method, &format!("{route}?{chain}{query}"), Some(&login), body).await;
            });
            Ok(())
        })
    })
    .unwrap();
}
