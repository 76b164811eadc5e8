//! The port: who may use it, how much, and what its errors look like.

use crate::support::{address, config, result, serve};
use bourse_devchain::{Chain, Error, Server, ServerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn plain() -> ServerConfig {
    ServerConfig::default()
}

fn chain() -> Chain {
    Chain::open(config()).unwrap()
}

/// Sends a raw HTTP/1.1 request and returns status and whole answer.
async fn http(to: std::net::SocketAddr, head: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let request = format!("{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

const CHAIN_ID: &str = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#;

#[tokio::test]
async fn only_this_computer_and_allowed_pages_are_served() {
    let served = serve(chain(), ServerConfig { allowed_origins: vec!["https://app.example".into()], ..plain() });
    for (headers, status) in [
        ("host: 127.0.0.1", 200),
        ("host: localhost:1234", 200),
        ("host: evil.example", 403),
        ("host: 127.0.0.1\r\norigin: http://localhost:3000", 200),
        ("host: 127.0.0.1\r\norigin: https://app.example", 200),
        ("host: 127.0.0.1\r\norigin: chrome-extension://nkbihfbeogaeaoehlefnkodbefgpgknn", 200),
        ("host: 127.0.0.1\r\norigin: https://evil.example", 403),
        ("host: 127.0.0.1\r\norigin: null", 403),
    ] {
        let (got, answer) = http(served.address, &format!("POST / HTTP/1.1\r\n{headers}"), CHAIN_ID).await;
        assert_eq!(got, status, "{headers}: {answer}");
        if status == 403 {
            assert!(answer.contains("-32600"), "{answer}");
        }
    }
    let page = "host: 127.0.0.1\r\norigin: http://localhost:3000";
    let (status, answer) = http(served.address, &format!("OPTIONS / HTTP/1.1\r\n{page}"), "").await;
    assert_eq!(status, 204);
    assert!(answer.contains("access-control-allow-origin: http://localhost:3000"), "{answer}");
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: x";
    let evil = format!("GET / HTTP/1.1\r\nhost: 127.0.0.1\r\norigin: https://evil.example\r\n{upgrade}");
    assert_eq!(http(served.address, &evil, "").await.0, 403);
    assert_eq!(http(served.address, "GET / HTTP/1.1\r\nhost: 127.0.0.1", "").await.0, 426);
    assert_eq!(http(served.address, "PUT / HTTP/1.1\r\nhost: 127.0.0.1", "").await.0, 405);
    assert_eq!(http(served.address, "POST /x HTTP/1.1\r\nhost: 127.0.0.1", "").await.0, 404);
}

#[tokio::test]
async fn test_methods_need_permission_over_http_and_never_in_process() {
    let chain = chain();
    let closed = serve(chain.clone(), plain());
    let open = serve(chain.clone(), ServerConfig { test_methods: true, ..plain() });
    for method in ["evm_mine", "anvil_setBalance", "hardhat_mine", "anvil_reorg", "evm_snapshot"] {
        let refused = closed.rpc.try_call(method, json!([])).await.unwrap_err();
        assert_eq!(refused.code, -32601);
        assert!(refused.message.contains("test method"), "{}", refused.message);
    }
    open.rpc.call("evm_mine", json!([])).await;
    open.rpc.call("anvil_impersonateAccount", json!([address(1)])).await;
    let request = json!([{ "from": address(1), "to": address(2) }]);
    assert_eq!(closed.rpc.try_call("eth_sendTransaction", request.clone()).await.unwrap_err().code, -32000);
    open.rpc.call("eth_sendTransaction", request).await;
    let answer = chain.handle(json!({ "jsonrpc": "2.0", "id": 1, "method": "evm_mine" })).await;
    assert_eq!(result(answer).unwrap(), "0x0");
}

#[tokio::test]
async fn requests_are_limited() {
    let served = serve(chain(), ServerConfig { max_request: 10_000, ..plain() });
    for size in [10_001, 19_000] {
        let (status, text) = served.rpc.post(vec![b' '; size]).await;
        assert_eq!(status, 413);
        assert!(text.contains("-32600") && text.contains("10000 bytes"), "{text}");
    }
    let (status, _) = served.rpc.post(CHAIN_ID.into()).await;
    assert_eq!(status, 200);

    let served = serve(chain(), plain());
    let one: Value = serde_json::from_str(CHAIN_ID).unwrap();
    let (_, text) = served.rpc.post(json!(vec![one.clone(); 1000]).to_string().into()).await;
    assert_eq!(serde_json::from_str::<Vec<Value>>(&text).unwrap().len(), 1000);
    let (_, text) = served.rpc.post(json!(vec![one; 1001]).to_string().into()).await;
    assert!(text.contains("-32600") && text.contains("at most 1000"), "{text}");
}

#[tokio::test]
async fn malformed_requests_have_the_standard_codes() {
    let served = serve(chain(), plain());
    for (body, code) in [
        ("", -32700),
        ("{nope", -32700),
        ("\u{0}", -32700),
        ("1", -32600),
        ("[]", -32600),
        ("{}", -32600),
        ("null", -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"eth_chainId"}"#, -32600),
        (r#"{"jsonrpc":"2.0","method":"eth_chainId"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":{},"method":"eth_chainId"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_nothing"}"#, -32601),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}"#, -32601),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":{}}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":[]}"#, -32602),
    ] {
        let (status, text) = served.rpc.post(body.into()).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, answer["error"]["code"].as_i64()), (200, Some(code)), "{body}: {text}");
        assert_eq!(answer["jsonrpc"], "2.0");
    }
    let mixed = format!("[{CHAIN_ID}, 1, {CHAIN_ID}]");
    let (_, text) = served.rpc.post(mixed.into()).await;
    let answers: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!((&answers[0]["result"], &answers[1]["error"]["code"]), (&json!("0x7a69"), &json!(-32600)));
}

#[tokio::test]
async fn too_many_connections_are_closed() {
    let served = serve(chain(), ServerConfig { max_connections: 2, ..plain() });
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let request =
            format!("POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n\r\n{CHAIN_ID}", CHAIN_ID.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(stream.read_u8().await.is_ok());
        held.push(stream);
    }
    let mut third = TcpStream::connect(served.address).await.unwrap();
    assert!(matches!(third.read(&mut [0; 8]).await, Ok(0) | Err(_)), "closed without an answer");
}

#[tokio::test]
async fn a_busy_port_and_a_public_address_are_refused() {
    let first = serve(chain(), plain());
    let error = Server::bind(chain(), first.address, plain()).unwrap_err();
    assert!(matches!(error, Error::Bind { .. }), "{error}");
    assert!(error.to_string().contains("choose another port"));
    let error = Server::bind(chain(), ([0, 0, 0, 0], 0).into(), plain()).unwrap_err();
    assert!(matches!(error, Error::NotLoopback(_)), "{error}");
}

#[tokio::test]
async fn shutdown_ends_the_server_although_connections_are_open() {
    let server = Server::bind(chain(), ([127, 0, 0, 1], 0).into(), plain()).unwrap();
    let to = server.local_addr();
    let stop = tokio_util::sync::CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(server.run(stop.clone()));
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{to}")).await.unwrap();
    let _idle = TcpStream::connect(to).await.unwrap();
    stop.cancel();
    tokio::time::timeout(std::time::Duration::from_secs(20), tasks.join_next()).await.unwrap().unwrap().unwrap();
    let last = futures_util::StreamExt::next(&mut socket).await;
    assert!(last.is_none_or(|message| message.is_err() || message.unwrap().is_close()));
}
