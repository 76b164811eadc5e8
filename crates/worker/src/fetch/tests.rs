use super::*;
use axum::{Router, body::Body, extract::State, http::StatusCode, response::Response, routing::get};
use bourse_protocol::ipfs::Cid;
use std::sync::atomic::{AtomicUsize, Ordering};
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
        let fetcher = Fetcher::open(folder.path().join("cache"), cache, 0, private_urls).unwrap();
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

#[tokio::test]
async fn a_download_leaves_the_disk_its_reserve() {
    let gateway = Gateway::serving(CONTENT).await;
    let mut rig = Rig::new(1_000, true);
    rig.fetcher.reserve = 1 << 60;
    let url = format!("{}/input.csv", gateway.url).parse().unwrap();
    for wanted in [wanted(CONTENT), Wanted { source: Source::Http(url), checksum: None, limit: 100 }] {
        let error = rig.fetch(&gateway, &wanted, "a").await.unwrap_err();
        assert!(matches!(error, Error::NoRoom { .. }) && error.to_string().contains("MiB would be left"), "{error}");
        assert_eq!(rig.cached(), Vec::<String>::new());
    }
}

#[test]
fn what_is_kept_makes_room_on_the_disk_where_that_is_enough_and_nobody_works_with_it() {
    let rig = Rig::new(1_000, false);
    let cache = rig.folder.path().join("cache");
    for name in ["a", "b", "c"] {
        std::fs::write(cache.join(name), "whole").unwrap();
    }
    std::fs::hard_link(cache.join("b"), rig.folder.path().join("input")).unwrap();
    rig.fetcher.free(11).unwrap();
    assert_eq!(rig.cached(), ["a", "b", "c"], "it would not be enough");
    rig.fetcher.free(10).unwrap();
    assert_eq!(rig.cached(), ["b"]);
}

#[test]
fn what_an_earlier_life_left_is_removed_unless_a_download_can_go_on_with_it() {
    let rig = Rig::new(20, false);
    let cache = rig.folder.path().join("cache");
    for (name, content) in [("0.tmp", "half"), ("ab.part", "half"), ("done", "whole")] {
        std::fs::write(cache.join(name), content).unwrap();
    }
    Fetcher::open(cache.clone(), 20, 0, false).unwrap();
    assert_eq!(rig.cached(), ["ab.part", "done"]);
    std::fs::write(cache.join("cd.part"), "eight by").unwrap();
    Fetcher::open(cache.clone(), 20, 0, false).unwrap();
    assert_eq!(rig.cached(), ["cd.part", "done"], "of parts the oldest go first, beyond half of the room");
    Fetcher::open(cache, 15, 0, false).unwrap();
    assert_eq!(rig.cached(), ["done"], "a part that alone is more than that");
}

/// What a server sends of its content, and how.
#[derive(Clone)]
struct Manners {
    content: Vec<u8>,
    /// Answers end after so many bytes, as if the connection broke.
    breaks_after: usize,
    /// Whether it knows ranges.
    ranges: bool,
    /// Added to where it begins when asked for a range.
    astray: usize,
}

/// A server whose connections break, and the bytes that it sent in each answer.
async fn breaking(manners: Manners) -> (String, Arc<Mutex<Vec<usize>>>, JoinSet<()>) {
    let sent: Arc<Mutex<Vec<usize>>> = Arc::default();
    let log = sent.clone();
    let answer = move |headers: axum::http::HeaderMap| {
        let (manners, log) = (manners.clone(), log.clone());
        async move {
            let asked = headers.get("range").filter(|_| manners.ranges).map(|range| {
                range.to_str().unwrap().trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().unwrap()
            });
            let all = manners.content.len();
            let from = asked.unwrap_or(0) + asked.map_or(0, |_| manners.astray);
            let response = Response::builder().header("content-length", all - from);
            let response = match asked {
                Some(asked) if asked >= all => return response.status(416).body(Body::empty()).unwrap(),
                Some(_) => response.status(206).header("content-range", format!("bytes {from}-{}/{all}", all - 1)),
                None => response.status(200),
            };
            let end = all.min(from.saturating_add(manners.breaks_after));
            log.lock().unwrap().push(end - from);
            let mut pieces = vec![Ok(manners.content[from..end].to_vec())];
            if end < all {
                pieces.push(Err(io::Error::other("the connection breaks")));
            }
            // Let what was sent arrive before the connection breaks.
            let pieces = futures_util::stream::unfold(pieces.into_iter(), |mut pieces| async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                pieces.next().map(|piece| (piece, pieces))
            });
            response.body(Body::from_stream(pieces)).unwrap()
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    let router = Router::new().route("/{*path}", get(answer));
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, sent, server)
}

fn part_of(wanted: &Wanted) -> String {
    format!("{}.part", wanted.part(&wanted.key().unwrap()))
}

fn large() -> Vec<u8> {
    (0..100_000u32).map(|n| (n % 251) as u8).collect()
}

/// Fetches in life after life of the worker until the file is there, or something else than a broken connection is said.
async fn in_lives(rig: &Rig, url: &str, wanted: &Wanted) -> Result<usize, Error> {
    for life in 1..10 {
        let fetcher = Fetcher::open(rig.folder.path().join("cache"), 1_000_000, 0, true).unwrap();
        match fetcher.fetch(Some(url), wanted, &rig.folder.path().join("a")).await {
            Ok(_) => return Ok(life),
            Err(Error::Temporary { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    panic!("nothing comes of it");
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_at_its_byte_in_the_next_life() {
    let content = large();
    let manners = Manners { content: content.clone(), breaks_after: 40_000, ranges: true, astray: 0 };
    let (url, sent, _server) = breaking(manners).await;
    let rig = Rig::new(0, true);
    let wanted = Wanted { limit: 100_000, ..wanted(&content) };
    assert_eq!(in_lives(&rig, &url, &wanted).await.unwrap(), 3);
    assert_eq!(std::fs::read(rig.folder.path().join("a")).unwrap(), content);
    assert_eq!(*sent.lock().unwrap(), [40_000, 40_000, 20_000], "nothing is sent twice");
    assert_eq!(rig.cached(), [wanted.key().unwrap()]);
}

#[tokio::test]
async fn a_server_that_knows_no_ranges_is_asked_for_the_whole() {
    let content = large();
    let wanted = Wanted { limit: 100_000, ..wanted(&content) };
    for (ranges, astray) in [(false, 0), (true, 1)] {
        let manners = Manners { content: content.clone(), breaks_after: usize::MAX, ranges, astray };
        let (url, _, _server) = breaking(manners).await;
        let rig = Rig::new(0, true);
        std::fs::write(rig.folder.path().join("cache").join(part_of(&wanted)), &content[..7]).unwrap();
        in_lives(&rig, &url, &wanted).await.unwrap();
        assert_eq!(std::fs::read(rig.folder.path().join("a")).unwrap(), content);
    }
}

#[tokio::test]
async fn what_lies_there_in_part_never_makes_a_checksum_wrong() {
    let content = large();
    let url_of = |url: &str| Source::Http(format!("{url}/data").parse().unwrap());
    for part in [&b"garbage"[..], &[0; 100_000], &[0; 100_001], &content] {
        let manners = Manners { content: content.clone(), breaks_after: usize::MAX, ranges: true, astray: 0 };
        let (url, sent, _server) = breaking(manners).await;
        let wanted = Wanted { limit: 100_000, source: url_of(&url), ..wanted(&content) };
        let rig = Rig::new(0, true);
        let path = rig.folder.path().join("cache").join(part_of(&wanted));
        std::fs::write(path, part).unwrap();
        in_lives(&rig, &url, &wanted).await.unwrap();
        assert_eq!(std::fs::read(rig.folder.path().join("a")).unwrap(), content);
        assert_eq!(sent.lock().unwrap().is_empty(), part == content, "what is whole is not asked for again");
    }
    // A checksum that is wrong is said to be wrong, whatever lay there.
    let manners = Manners { content: content.clone(), breaks_after: usize::MAX, ranges: true, astray: 0 };
    let (url, sent, _server) = breaking(manners).await;
    let wanted = Wanted { checksum: Some(B256::repeat_byte(7)), limit: 100_000, source: url_of(&url) };
    let rig = Rig::new(0, true);
    std::fs::write(rig.folder.path().join("cache").join(part_of(&wanted)), "x").unwrap();
    let error = in_lives(&rig, &url, &wanted).await.unwrap_err();
    let true_checksum = B256::new(Sha256::digest(&content).into());
    assert!(matches!(error, Error::WrongChecksum { found, .. } if found == true_checksum), "{error}");
    assert_eq!(*sent.lock().unwrap(), [99_999, 100_000], "it is judged by what came whole from one server");
    assert_eq!(rig.cached(), [""; 0]);
}

#[tokio::test]
async fn what_two_tasks_need_is_received_once() {
    let content = large();
    let manners = Manners { content: content.clone(), breaks_after: usize::MAX, ranges: true, astray: 0 };
    let (url, sent, _server) = breaking(manners).await;
    let folder = tempfile::tempdir().unwrap();
    let fetcher = Fetcher::open(folder.path().join("cache"), 1_000_000, 0, true).unwrap();
    let wanted = Wanted { limit: 100_000, ..wanted(&content) };
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let (first, second) = tokio::join!(fetcher.fetch(Some(&url), &wanted, &a), fetcher.fetch(Some(&url), &wanted, &b));
    first.and(second).unwrap();
    assert_eq!((std::fs::read(a).unwrap(), std::fs::read(b).unwrap()), (content.clone(), content));
    assert_eq!(*sent.lock().unwrap(), [100_000]);
}

#[tokio::test]
async fn a_download_that_nobody_wants_any_more_is_gone_on_with_later() {
    let content = large();
    let manners = Manners { content: content.clone(), breaks_after: 30_000, ranges: true, astray: 0 };
    let (url, sent, _server) = breaking(manners).await;
    let rig = Rig::new(1_000_000, true);
    let wanted = Wanted { limit: 100_000, ..wanted(&content) };
    let target = rig.folder.path().join("a");
    // Given up after its first bytes have come.
    let given_up = tokio::time::timeout(Duration::from_millis(80), rig.fetcher.fetch(Some(&url), &wanted, &target));
    assert!(given_up.await.is_err());
    while rig.fetcher.fetch(Some(&url), &wanted, &target).await.is_err() {}
    assert_eq!(std::fs::read(target).unwrap(), content);
    assert!(sent.lock().unwrap().iter().sum::<usize>() <= 130_000, "{sent:?}");
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_takes_no_room_for_ever() {
    let content = large();
    let manners = Manners { content: content.clone(), breaks_after: 30_000, ranges: true, astray: 0 };
    let (url, _, _server) = breaking(manners).await;
    let rig = Rig::new(50_000, true);
    let target = rig.folder.path().join("a");
    let give_up = async |wanted: &Wanted| {
        let given_up = tokio::time::timeout(Duration::from_millis(80), rig.fetcher.fetch(Some(&url), wanted, &target));
        assert!(given_up.await.is_err());
    };
    let source = |n: u8| Source::Http(format!("{url}/{n}").parse().unwrap());
    give_up(&Wanted { source: source(0), checksum: None, limit: 100_000 }).await;
    assert_eq!(rig.cached(), [""; 0], "content that nobody promised is gone at once");
    std::fs::write(rig.folder.path().join("cache").join("whole"), vec![0; 40_000]).unwrap();
    for n in 1..9 {
        give_up(&Wanted { source: source(n), checksum: Some(B256::repeat_byte(n)), limit: 100_000 }).await;
    }
    rig.fetcher.make_room(0).unwrap();
    let room: u64 =
        std::fs::read_dir(rig.folder.path().join("cache")).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!(room <= 50_000, "{room} bytes: {:?}", rig.cached());
}

#[tokio::test]
async fn a_slow_source_of_the_same_content_keeps_nobody_waiting() {
    let content = large();
    let manners = Manners { content: content.clone(), breaks_after: usize::MAX, ranges: true, astray: 0 };
    let (url, _, _server) = breaking(manners).await;
    let rig = Rig::new(1_000_000, true);
    let from = |name: &str| Wanted {
        source: Source::Http(format!("{url}/{name}").parse().unwrap()),
        limit: 100_000,
        ..wanted(&content)
    };
    let turn = rig.fetcher.turn(&from("slow").part(&wanted(&content).key().unwrap()));
    let _one_at_work = turn.lock().await;
    let target = rig.folder.path().join("a");
    rig.fetcher.fetch(None, &from("quick"), &target).await.unwrap();
    assert_eq!(std::fs::read(target).unwrap(), content);
}

/// The server breaks off an answer of which it did not say how long it is.
#[tokio::test]
async fn an_answer_without_an_end_is_no_ground_for_a_vote() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/data", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nthe bytes of").await;
        }
    });
    let rig = Rig::new(1_000, true);
    let wanted = Wanted { source: Source::Http(url.parse().unwrap()), ..wanted(CONTENT) };
    let error = rig.fetcher.fetch(None, &wanted, &rig.folder.path().join("a")).await.unwrap_err();
    assert!(matches!(error, Error::Temporary { .. }) && error.to_string().contains("where its answer ends"), "{error}");
}
