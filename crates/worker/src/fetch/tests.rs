use super::*;
use axum::{Router, body::Body, extract::State, http::StatusCode, response::Response, routing::get};
use bourse_protocol::ipfs::Cid;
use std::sync::{Arc, atomic::AtomicUsize};
use tokio::task::JoinSet;

const CONTENT: &[u8] = b"the bytes of an app";

/// A gateway that answers every request with the same body and counts.
struct Gateway {
    url: String,
    asked: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

impl Gateway {
    async fn with(status: StatusCode, chunks: Vec<Vec<u8>>) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = move |State(asked): State<Arc<AtomicUsize>>| async move {
            asked.fetch_add(1, Ordering::SeqCst);
            let chunks = chunks.into_iter().map(Ok::<_, io::Error>);
            Response::builder().status(status).body(Body::from_stream(futures_util::stream::iter(chunks))).unwrap()
        };
        let router = Router::new().route("/{*path}", get(answer)).with_state(asked.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, asked, _server: server }
    }

    async fn serving(content: &[u8]) -> Self {
        Self::with(StatusCode::OK, vec![content.to_vec()]).await
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

struct Rig {
    folder: tempfile::TempDir,
    fetcher: Fetcher,
}

impl Rig {
    fn new(cache: u64, private_urls: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fetcher = Fetcher::open(folder.path().join("cache"), cache, private_urls).unwrap();
        Self { folder, fetcher }
    }

    async fn fetch(&self, gateway: &Gateway, wanted: &Wanted, name: &str) -> Result<Vec<u8>, Error> {
        let target = self.folder.path().join(name);
        self.fetcher.fetch(Some(&gateway.url), wanted, &target).await?;
        Ok(std::fs::read(target).unwrap())
    }

    fn cached(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join("cache")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn wanted(content: &[u8]) -> Wanted {
    let checksum = Some(B256::new(Sha256::digest(content).into()));
    Wanted { source: Source::Ipfs(Cid::of(content)), checksum, limit: 1_000 }
}

#[tokio::test]
async fn a_file_is_fetched_once_and_then_taken_from_the_cache() {
    let (rig, gateway) = (Rig::new(1_000, false), Gateway::serving(CONTENT).await);
    assert_eq!(rig.fetch(&gateway, &wanted(CONTENT), "a").await.unwrap(), CONTENT);
    assert_eq!(rig.fetch(&gateway, &wanted(CONTENT), "b").await.unwrap(), CONTENT);
    assert_eq!(gateway.asked(), 1);
    let without_checksum = Wanted { checksum: None, ..wanted(CONTENT) };
    assert_eq!(rig.fetch(&gateway, &without_checksum, "c").await.unwrap(), CONTENT);
    assert_eq!(gateway.asked(), 2, "another name in the cache");
}

#[tokio::test]
async fn a_gateway_that_gives_other_content_is_not_believed() {
    let (rig, gateway) = (Rig::new(1_000, false), Gateway::serving(b"something else").await);
    let error = rig.fetch(&gateway, &wanted(CONTENT), "a").await.unwrap_err();
    assert!(matches!(error, Error::Temporary { .. }), "{error}");
    assert!(error.to_string().contains("the gateway gave other content"), "{error}");
    assert_eq!(rig.cached(), [""; 0]);
}

#[tokio::test]
async fn a_wrong_checksum_on_chain_reads_the_same_everywhere() {
    let mut texts = Vec::new();
    for _ in 0..2 {
        let (rig, gateway) = (Rig::new(1_000, false), Gateway::serving(CONTENT).await);
        let wanted = Wanted { checksum: Some(B256::repeat_byte(7)), ..wanted(CONTENT) };
        let error = rig.fetch(&gateway, &wanted, "a").await.unwrap_err();
        assert!(matches!(error, Error::WrongChecksum { .. }), "{error}");
        assert!(!rig.folder.path().join("a").exists());
        texts.push(error.to_string());
    }
    assert_eq!(texts[0], texts[1]);
    assert!(texts[0].contains("0x0707") && texts[0].contains("/ipfs/Qm"), "{}", texts[0]);
}

#[tokio::test]
async fn a_file_over_the_limit_is_cut_off_whatever_the_server_says_of_its_size() {
    let chunks = vec![vec![1; 600]; 3];
    let (rig, gateway) = (Rig::new(1_000, false), Gateway::with(StatusCode::OK, chunks).await);
    let error = rig.fetch(&gateway, &wanted(CONTENT), "a").await.unwrap_err();
    assert!(matches!(error, Error::Unwanted { .. }), "{error}");
    assert_eq!(rig.cached(), [""; 0], "no part stays");
}

#[tokio::test]
async fn the_server_says_what_may_be_tried_again() {
    for (status, temporary) in [(404, false), (410, false), (429, true), (500, true), (503, true), (301, true)] {
        let status = StatusCode::from_u16(status).unwrap();
        let (rig, gateway) = (Rig::new(1_000, false), Gateway::with(status, vec![]).await);
        let error = rig.fetch(&gateway, &wanted(CONTENT), "a").await.unwrap_err();
        assert_eq!(matches!(error, Error::Temporary { .. }), temporary, "{status}: {error}");
        assert_eq!(matches!(error, Error::Absent { .. }), !temporary, "{status}: {error}");
    }
    let rig = Rig::new(1_000, false);
    let nobody = rig.fetcher.fetch(Some("http://127.0.0.1:1"), &wanted(CONTENT), &rig.folder.path().join("a")).await;
    assert!(matches!(nobody, Err(Error::Temporary { .. })), "{nobody:?}");
    let nowhere = rig.fetcher.fetch(None, &wanted(CONTENT), &rig.folder.path().join("a")).await;
    assert!(matches!(nowhere, Err(Error::Temporary { .. })), "{nowhere:?}");
}

#[tokio::test]
async fn the_cache_keeps_to_its_size() {
    let rig = Rig::new(50, false);
    let contents: Vec<Vec<u8>> = (0..4).map(|n| vec![n; 20]).collect();
    for (n, content) in contents.iter().enumerate() {
        let gateway = Gateway::serving(content).await;
        assert_eq!(rig.fetch(&gateway, &wanted(content), &n.to_string()).await.unwrap(), *content);
        assert!(rig.cached().len() <= 2, "{:?}", rig.cached());
    }
    let big = vec![9; 60];
    let gateway = Gateway::serving(&big).await;
    assert_eq!(rig.fetch(&gateway, &wanted(&big), "big").await.unwrap(), big);
    assert_eq!(rig.cached().len(), 2, "what would fill the cache alone is not kept");
    for (n, content) in contents.iter().enumerate() {
        assert_eq!(std::fs::read(rig.folder.path().join(n.to_string())).unwrap(), *content, "files in use stay");
    }
}

#[tokio::test]
async fn urls_are_read_directly_where_private_networks_are_allowed() {
    let gateway = Gateway::serving(CONTENT).await;
    let url = format!("{}/input.csv", gateway.url).parse().unwrap();
    let wanted = Wanted { source: Source::Http(url), checksum: None, limit: 100 };
    let rig = Rig::new(1_000, true);
    assert_eq!(rig.fetch(&gateway, &wanted, "a").await.unwrap(), CONTENT);
    assert_eq!(rig.fetch(&gateway, &wanted, "b").await.unwrap(), CONTENT);
    assert_eq!(gateway.asked(), 2, "what a URL gives may change");
    let strict = Rig::new(1_000, false);
    assert!(matches!(strict.fetch(&gateway, &wanted, "a").await, Err(Error::Unwanted { .. })));
}

#[test]
fn unfinished_downloads_of_an_earlier_life_are_removed() {
    let rig = Rig::new(1_000, false);
    std::fs::write(rig.folder.path().join("cache/0.part"), "half").unwrap();
    std::fs::write(rig.folder.path().join("cache/done"), "whole").unwrap();
    Fetcher::open(rig.folder.path().join("cache"), 1_000, false).unwrap();
    assert_eq!(rig.cached(), ["done"]);
}
