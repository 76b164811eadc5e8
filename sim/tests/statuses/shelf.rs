//! Where apps, datasets and results lie, played by the test: an IPFS gateway and a node's `add`.

use axum::{
    Router,
    extract::{Multipart, Path, State},
    http::StatusCode,
    routing::{get, post},
};
use bourse_protocol::ipfs::Cid;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{net::TcpListener, task::JoinSet};

#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    content: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    /// Whoever reads next is told to come back later.
    busy: Arc<AtomicBool>,
}

impl Shelf {
    /// Serves it; returns its URL.
    pub(crate) async fn serve(&self, roles: &mut JoinSet<()>) -> String {
        let router =
            Router::new().route("/ipfs/{cid}", get(read)).route("/api/v0/add", post(add)).with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        roles.spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    pub(crate) fn put(&self, content: &[u8]) -> Cid {
        let cid = Cid::of(content);
        self.content.lock().unwrap().insert(cid.to_string(), content.to_vec());
        cid
    }

    /// The next who reads gets nothing.
    pub(crate) fn is_busy_once(&self) {
        self.busy.store(true, Ordering::SeqCst);
    }

    /// Whether somebody is to get nothing.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::SeqCst)
    }
}

async fn read(State(shelf): State<Shelf>, Path(cid): Path<String>) -> Result<Vec<u8>, StatusCode> {
    if shelf.busy.swap(false, Ordering::SeqCst) {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    shelf.content.lock().unwrap().get(&cid).cloned().ok_or(StatusCode::NOT_FOUND)
}

async fn add(State(shelf): State<Shelf>, mut form: Multipart) -> String {
    let content = form.next_field().await.unwrap().unwrap().bytes().await.unwrap();
    let cid = shelf.put(&content);
    format!("{{\"Name\":\"result\",\"Hash\":\"{cid}\",\"Size\":\"{}\"}}\n", content.len())
}
