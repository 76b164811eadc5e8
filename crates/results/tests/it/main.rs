//! The store over HTTP: through the router, and through a real socket.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on says why")]

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, Request, StatusCode, header},
};
use bourse_protocol::ipfs::Cid;
use bourse_results::{Config, Store, router};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};
use tempfile::TempDir;
use tower::ServiceExt;

const HELLO: &str = "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o";
const TOKEN: &str = "secret-of-this-run";

struct Rig {
    folder: TempDir,
    store: Store,
    router: Router,
}

impl Rig {
    fn new() -> Self {
        Self::with(Config { upload_token: Some(TOKEN.into()), max_upload: 1 << 20 })
    }

    fn with(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        Self { folder, store: store.clone(), router: router(store, config) }
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Bytes) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, to_bytes(body, usize::MAX).await.unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, HeaderMap, Bytes) {
        self.send(Request::get(path).header("accept", "application/zip").body(Body::empty()).unwrap()).await
    }

    async fn add(&self, files: &[(&str, &[u8])]) -> (StatusCode, Bytes) {
        self.add_to("/api/v0/add?pin=true&progress=false&stream-channels=true", files).await
    }

    async fn add_to(&self, path: &str, files: &[(&str, &[u8])]) -> (StatusCode, Bytes) {
        let request = form(path, files).header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
        let (status, _, body) = self.send(request.body(form_body(files)).unwrap()).await;
        (status, body)
    }

    fn files(&self) -> (usize, usize) {
        let count = |name: &str| fs::read_dir(self.folder.path().join(name)).unwrap().count();
        (count("objects"), count("tmp"))
    }
}

fn form(path: &str, files: &[(&str, &[u8])]) -> axum::http::request::Builder {
    Request::post(path)
        .header(header::CONTENT_TYPE, "multipart/form-data; boundary=edge")
        .header(header::CONTENT_LENGTH, form_bytes(files).len())
}

fn form_body(files: &[(&str, &[u8])]) -> Body {
    form_bytes(files).into()
}

fn form_bytes(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, content) in files {
        body.extend(b"--edge\r\nContent-Disposition: form-data; name=\"file\"");
        if !name.is_empty() {
            body.extend(format!("; filename=\"{name}\"").bytes());
        }
        body.extend(b"\r\nContent-Type: application/octet-stream\r\n\r\n");
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(b"--edge--\r\n");
    body
}

fn refusal(body: &[u8]) -> (String, String) {
    let body: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(body["ok"], json!(false));
    (body["code"].as_str().unwrap().into(), body["error"].as_str().unwrap().into())
}

fn large() -> Vec<u8> {
    (0..700_000u32).map(|i| (i ^ i >> 8 ^ i >> 16) as u8).collect()
}

#[tokio::test]
async fn a_file_is_added_as_kubo_adds_it_and_read_back() {
    let rig = Rig::new();
    let (status, body) = rig.add(&[("hello.txt", b"hello world\n")]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body, format!("{{\"Name\":\"hello.txt\",\"Hash\":\"{HELLO}\",\"Size\":\"20\"}}\n"));

    let (status, headers, body) = rig.get(&format!("/ipfs/{HELLO}")).await;
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"hello world\n"[..]));
    assert_eq!(headers["etag"], format!("\"{HELLO}\""));
    assert_eq!(headers["content-length"], "12");
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert_eq!(headers["x-ipfs-path"], format!("/ipfs/{HELLO}"));
    assert!(headers["cache-control"].to_str().unwrap().contains("immutable"));
    assert_eq!(headers["x-content-type-options"], "nosniff");
}

#[tokio::test]
async fn several_files_are_named_one_per_line() {
    let rig = Rig::new();
    let (status, body) = rig.add(&[("a", b"hello world\n"), ("", &large()), ("empty", b"")]).await;
    assert_eq!(status, StatusCode::OK);
    let lines: Vec<Value> =
        std::str::from_utf8(&body).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let cid = Cid::of(&large()).to_string();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[1]["Hash"], &lines[1]["Name"]), (&json!(cid), &json!(cid)), "without a name, its hash");
    let (_, _, body) = rig.get(&format!("/ipfs/{cid}")).await;
    assert!(body == large());
    let (status, headers, body) = rig.get(&format!("/ipfs/{}", Cid::of(b""))).await;
    assert_eq!((status, body.len(), &headers["content-length"]), (StatusCode::OK, 0, &"0".parse().unwrap()));
}

#[tokio::test]
async fn head_and_known_content_have_no_body() {
    let rig = Rig::new();
    rig.add(&[("a", b"hello world\n")]).await;
    let path = format!("/ipfs/{HELLO}");
    let (status, headers, body) = rig.send(Request::head(&path).body(Body::empty()).unwrap()).await;
    assert_eq!((status, body.len(), &headers["content-length"]), (StatusCode::OK, 0, &"12".parse().unwrap()));

    let known = Request::get(&path).header(header::IF_NONE_MATCH, format!("\"x\", W/\"{HELLO}\""));
    let (status, _, body) = rig.send(known.body(Body::empty()).unwrap()).await;
    assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));

    let missing = format!("/ipfs/{}", Cid::of(b"nobody has this"));
    let (status, ..) = rig.send(Request::head(&missing).body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, headers, _) = rig.send(Request::options(&path).body(Body::empty()).unwrap()).await;
    assert_eq!(
        (status, &headers["access-control-allow-methods"]),
        (StatusCode::NO_CONTENT, &"GET, HEAD".parse().unwrap())
    );
}

#[tokio::test]
async fn a_range_of_content_is_given_alone() {
    let rig = Rig::new();
    rig.add(&[("a", b"hello world\n")]).await;
    let path = format!("/ipfs/{HELLO}");
    let ask =
        |range: &'static str| rig.send(Request::get(&path).header(header::RANGE, range).body(Body::empty()).unwrap());
    for (range, content, said) in [
        ("bytes=6-", "world\n", "bytes 6-11/12"),
        ("bytes=0-4", "hello", "bytes 0-4/12"),
        ("bytes=11-18446744073709551615", "\n", "bytes 11-11/12"),
        ("bytes=-3", "ld\n", "bytes 9-11/12"),
        ("bytes=-99", "hello world\n", "bytes 0-11/12"),
    ] {
        let (status, headers, body) = ask(range).await;
        assert_eq!((status, &body[..]), (StatusCode::PARTIAL_CONTENT, content.as_bytes()), "{range}");
        assert_eq!(
            (&headers["content-range"], &headers["etag"]),
            (&said.parse().unwrap(), &format!("\"{HELLO}\"").parse().unwrap())
        );
        assert_eq!(headers["content-length"], content.len().to_string().as_str());
    }
    for range in ["bytes=12-", "bytes=99-100", "bytes=-0"] {
        let (status, headers, body) = ask(range).await;
        assert_eq!((status, refusal(&body).0.as_str()), (StatusCode::RANGE_NOT_SATISFIABLE, "bad_range"), "{range}");
        assert_eq!(headers["content-range"], "bytes */12");
    }
    for range in ["bytes=4-2", "bytes=0-1,4-5", "lines=1-", "bytes=", "bytes=-", "bytes=x-y", "bytes=+5-"] {
        let (status, headers, body) = ask(range).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &b"hello world\n"[..]), "{range}");
        assert_eq!(headers["accept-ranges"], "bytes");
    }
    let other = Request::get(&path).header(header::RANGE, "bytes=6-").header(header::IF_RANGE, "\"another\"");
    assert_eq!(rig.send(other.body(Body::empty()).unwrap()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn names_of_nothing_are_refused() {
    let rig = Rig::new();
    let missing = Cid::of(b"nobody has this");
    let (status, headers, body) = rig.get(&format!("/ipfs/{missing}")).await;
    assert_eq!((status, &*refusal(&body).0), (StatusCode::NOT_FOUND, "not_found"));
    assert_eq!(headers["access-control-allow-origin"], "*", "a page may read why");
    for name in ["hello", "..%2f..%2fetc%2fpasswd", "%00", &HELLO[..45], "bafkreigh2akiscaildc"] {
        let (status, _, body) = rig.get(&format!("/ipfs/{name}")).await;
        assert_eq!((status, &*refusal(&body).0), (StatusCode::BAD_REQUEST, "bad_cid"), "{name}");
    }
    fs::write(rig.folder.path().join("secret"), "of the store").unwrap();
    for path in ["/ipfs/../secret", "/ipfs/", "/secret", &format!("/ipfs/{HELLO}/a")] {
        let (status, ..) = rig.get(path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn only_the_token_opens_the_store() {
    let rig = Rig::new();
    let files: &[(&str, &[u8])] = &[("a", b"hello world\n")];
    let last = TOKEN.len() - 1;
    for shown in [
        None,
        Some("Bearer "),
        Some("Bearer secret-of-that-run"),
        Some(TOKEN),
        Some(&format!("Bearer {}", &TOKEN[..last])),
    ] {
        let mut request = form("/api/v0/add", files);
        if let Some(shown) = shown {
            request = request.header(header::AUTHORIZATION, shown);
        }
        let (status, headers, body) = rig.send(request.body(form_body(files)).unwrap()).await;
        assert_eq!((status, &*refusal(&body).0), (StatusCode::UNAUTHORIZED, "no_token"), "{shown:?}");
        assert_eq!(headers["www-authenticate"], "Bearer");
        assert!(!headers.contains_key("access-control-allow-origin"));
    }
    assert_eq!(rig.files(), (0, 0));
}

#[tokio::test]
async fn an_upload_over_the_limit_is_refused_and_leaves_nothing() {
    let rig = Rig::new();
    let half = vec![1; 540_000];
    let other = vec![2; 540_000];
    let huge = vec![3; 3 << 20];
    for files in [&[("a", &half[..]), ("b", &other)][..], &[("a", &huge[..])]] {
        let (status, body) = rig.add(files).await;
        let (code, error) = refusal(&body);
        assert_eq!((status, &*code), (StatusCode::PAYLOAD_TOO_LARGE, "too_large"));
        assert_eq!(error, "the upload is larger than 1048576 bytes: split it or raise the store's limit");
        assert_eq!(rig.files(), (0, 0));
    }
    // A body of unknown length is cut off when it passes the limit.
    let request = Request::post("/api/v0/add")
        .header(header::CONTENT_TYPE, "multipart/form-data; boundary=edge")
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
    let (status, _, body) = rig.send(request.body(form_body(&[("a", &huge)])).unwrap()).await;
    assert_eq!((status, &*refusal(&body).0), (StatusCode::PAYLOAD_TOO_LARGE, "too_large"));
    assert_eq!(rig.files(), (0, 0));
}

#[tokio::test]
async fn broken_forms_are_refused_and_leave_nothing() {
    let rig = Rig::new();
    let whole = form_bytes(&[("a", b"hello world\n")]);
    let cut = &whole[..whole.len() - 12];
    for (kind, bytes) in [
        ("multipart/form-data; boundary=edge", cut),
        ("multipart/form-data; boundary=edge", b""),
        ("multipart/form-data; boundary=edge", b"--edge--\r\n"),
        ("multipart/form-data", &whole),
        ("application/octet-stream", &whole),
    ] {
        let request = Request::post("/api/v0/add")
            .header(header::CONTENT_TYPE, kind)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
        let (status, _, body) = rig.send(request.body(bytes.to_vec().into()).unwrap()).await;
        assert_eq!((status, &*refusal(&body).0), (StatusCode::BAD_REQUEST, "bad_form"), "{kind}");
    }
    let many: Vec<(&str, &[u8])> = vec![("a", b"1"); 101];
    let (status, body) = rig.add(&many).await;
    assert_eq!((status, &*refusal(&body).0), (StatusCode::BAD_REQUEST, "bad_form"));
    assert_eq!(rig.files(), (0, 0));
}

#[tokio::test]
async fn options_that_would_change_the_name_are_refused() {
    let rig = Rig::new();
    let files: &[(&str, &[u8])] = &[("a", b"hello world\n")];
    for option in [
        "cid-version=1",
        "raw-leaves=true",
        "raw-leaves",
        "only-hash=true",
        "chunker=size-1024",
        "wrap-with-directory=true",
        "hash=blake3",
    ] {
        let (status, body) = rig.add_to(&format!("/api/v0/add?pin=true&{option}"), files).await;
        assert_eq!((status, &*refusal(&body).0), (StatusCode::BAD_REQUEST, "unsupported"), "{option}");
    }
    assert_eq!(rig.files(), (0, 0));
    let (status, _) = rig.add_to("/api/v0/add?cid-version=0&raw-leaves=false&quieter=true", files).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn damaged_content_is_a_typed_error() {
    let rig = Rig::new();
    let cid = rig.store.add(&large()).unwrap().cid;
    let path = rig.folder.path().join("objects").join(cid.to_string());
    let mut damaged = large();
    damaged[500_000] ^= 1;
    fs::write(&path, damaged).unwrap();
    let (status, _, body) = rig.get(&cid.link()).await;
    assert_eq!((status, &*refusal(&body).0), (StatusCode::INTERNAL_SERVER_ERROR, "corrupt"));
}

#[tokio::test]
async fn the_same_file_from_all_workers_at_once_is_stored_once() {
    let rig = Rig::new();
    let content = large();
    let files: &[(&str, &[u8])] = &[("result", &content)];
    let answers = futures_util::future::join_all((0..8).map(|_| rig.add(files))).await;
    for (status, body) in &answers {
        assert_eq!((*status, body), (StatusCode::OK, &answers[0].1));
    }
    assert_eq!(rig.files(), (1, 0));
}

#[tokio::test]
async fn a_full_disk_is_said_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(folder.path()) else { return };
    let store = Store::open(folder.path()).unwrap();
    let config = Config { upload_token: Some(TOKEN.into()), ..Config::default() };
    let rig = Rig { router: router(store.clone(), config), store, folder };
    let small = rig.store.add(b"hello world\n").unwrap().cid;

    let (status, body) = rig.add(&[("a", &large())]).await;
    let (code, error) = refusal(&body);
    assert_eq!((status, &*code), (StatusCode::INSUFFICIENT_STORAGE, "disk_full"));
    assert!(error.starts_with("the store's disk is full: free some space under /"), "{error}");
    assert_eq!(rig.files(), (1, 0));
    assert!(rig.store.get(small).is_ok(), "what was there stays");
    assert!(rig.store.add(b"something small").is_ok(), "and the room is free again");
}

/// A tmpfs of 256 KiB over `folder`, until dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(folder: &Path) -> Option<Self> {
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "bourse-test"])
            .arg(folder)
            .output()
            .expect("mount exists on every Linux");
        if done.status.success() {
            return Some(Self(folder.to_owned()));
        }
        let reason = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(std::env::var_os("CI").is_none(), "cannot mount a small disk: {reason}");
        eprintln!("skipped: cannot mount a small disk, which needs root: {reason}");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("--lazy").arg(&self.0).status().expect("umount exists on every Linux");
        assert!(done.success(), "umount {}", self.0.display());
    }
}

#[tokio::test]
async fn a_client_uploads_and_downloads_over_a_socket() {
    let rig = Rig::new();
    let listener = bourse_service::http::bind("results", ([127, 0, 0, 1], 0).into()).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = tokio_util::sync::CancellationToken::new();
    let serving = bourse_service::http::serve(listener, rig.router.clone(), stop.clone());
    let talk = async {
        let client = bourse_service::http::client(std::time::Duration::from_secs(30));
        let part = reqwest::multipart::Part::bytes(large()).file_name("result.bin");
        let form = reqwest::multipart::Form::new().part("file", part);
        let added = client.post(format!("{url}/api/v0/add")).bearer_auth(TOKEN).multipart(form).send().await.unwrap();
        assert_eq!(added.status(), 200, "larger than the edge's usual limit");
        let line: Value = added.json().await.unwrap();
        assert_eq!(line["Hash"], json!(Cid::of(&large()).to_string()));

        let link = format!("{url}/ipfs/{}", line["Hash"].as_str().unwrap());
        assert_eq!(client.head(&link).send().await.unwrap().headers()["content-length"], "700000");
        assert!(client.get(&link).send().await.unwrap().bytes().await.unwrap() == large());

        // A copy that is damaged after the transfer began breaks off instead of arriving wrong: the rest of the
        // content does not fit into the buffers of a socket that nobody reads.
        let long: Vec<u8> = (0..64 << 20u32).map(|i| (i ^ i >> 8 ^ i >> 16 ^ i >> 24) as u8).collect();
        let cid = rig.store.add(&long).unwrap().cid;
        let mut transfer = client.get(format!("{url}{}", cid.link())).send().await.unwrap();
        assert!(transfer.chunk().await.unwrap().is_some());
        let path = rig.folder.path().join("objects").join(cid.to_string());
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(60 << 20).unwrap();
        let mut rest = Ok(Some(Bytes::new()));
        while let Ok(Some(_)) = rest {
            rest = transfer.chunk().await;
        }
        assert!(rest.is_err(), "a short body passed as whole");
        stop.cancel();
    };
    let (served, ()) = tokio::join!(serving, talk);
    served.unwrap();
}
