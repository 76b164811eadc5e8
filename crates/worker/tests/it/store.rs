//! A result store, played by the test: an IPFS gateway and a node's `add`.

use axum::{
    Router,
    extract::{DefaultBodyLimit, Multipart, Path, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use bourse_protocol::ipfs::Cid;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio::task::JoinSet;

pub(crate) const TOKEN: &str = "a token for uploads";

#[derive(Default)]
struct Shelf {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// So many requests are answered with 503 first.
    outages: AtomicU32,
    /// So many uploads never end.
    hanging: AtomicU32,
}

pub(crate) struct Store {
    pub(crate) url: String,
    shelf: Arc<Shelf>,
    _server: JoinSet<()>,
}

impl Store {
    pub(crate) async fn open() -> Self {
        let shelf = Arc::new(Shelf::default());
        let router = Router::new()
            .route("/ipfs/{cid}", get(read))
            .route("/api/v0/add", post(add))
            .layer(DefaultBodyLimit::max(1 << 24))
            .with_state(shelf.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shelf, _server: server }
    }

    pub(crate) fn put(&self, content: &[u8]) -> Cid {
        let cid = Cid::of(content);
        self.shelf.files.lock().unwrap().insert(cid.to_string(), content.to_vec());
        cid
    }

    pub(crate) fn get(&self, link: &str) -> Option<Vec<u8>> {
        self.shelf.files.lock().unwrap().get(link.strip_prefix("/ipfs/")?).cloned()
    }

    pub(crate) fn hang_next(&self, uploads: u32) {
        self.shelf.hanging.store(uploads, Ordering::SeqCst);
    }

    pub(crate) fn fail_next(&self, requests: u32) {
        self.shelf.outages.store(requests, Ordering::SeqCst);
    }
}

impl Shelf {
    fn is_out(&self) -> bool {
        one_less(&self.outages)
    }
}

/// Whether there was one left.
fn one_less(count: &AtomicU32) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

async fn read(State(shelf): State<Arc<Shelf>>, Path(cid): Path<String>) -> Result<Vec<u8>, StatusCode> {
    if shelf.is_out() {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    shelf.files.lock().unwrap().get(&cid).cloned().ok_or(StatusCode::NOT_FOUND)
}

async fn add(State(shelf): State<Arc<Shelf>>, headers: HeaderMap, mut form: Multipart) -> Result<String, StatusCode> {
    if headers.get("authorization").is_none_or(|h| h != &format!("Bearer {TOKEN}")) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    if shelf.is_out() {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    if one_less(&shelf.hanging) {
        std::future::pending::<()>().await;
    }
    let content = form.next_field().await.unwrap().unwrap().bytes().await.unwrap();
    let cid = Cid::of(&content);
    shelf.files.lock().unwrap().insert(cid.to_string(), content.to_vec());
    Ok(format!("{{\"Name\":\"result\",\"Hash\":\"{cid}\",\"Size\":\"{}\"}}\n", content.len()))
}
