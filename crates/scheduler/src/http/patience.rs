//! How much people may ask: so much of what is answered goes to each address, and so much of the pool's time to all.

use crate::bucket::Bucket;
use axum::{
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bourse_service::http::refuse;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::time::Instant;

/// So many addresses are answered at full speed at the same time.
const AT_ONCE: u64 = 4;
/// Addresses that are counted apart at most.
const MAX_ADDRESSES: usize = 4_096;

/// How much may be asked: by each address, so that none takes the answers of others, and by all, so that the pool's work goes
/// on whoever they are.
pub(super) struct Patience {
    began: Instant,
    /// Of all, and of each address.
    buckets: Mutex<(Bucket, BTreeMap<IpAddr, Bucket>)>,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), buckets: Mutex::new((Bucket::large(AT_ONCE, 0), BTreeMap::new())) }
    }

    fn is_left_for(&self, address: IpAddr) -> bool {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (all, each) = &mut *self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if each.len() >= MAX_ADDRESSES {
            each.retain(|_, bucket| !bucket.is_full(now));
        }
        let known = each.contains_key(&address) || each.len() < MAX_ADDRESSES;
        let own = !known || each.entry(address).or_insert_with(|| Bucket::full(now)).take(now);
        own && all.take(now)
    }
}

/// Answers only as much as there is patience for.
pub(super) async fn answer(State(patience): State<Arc<Patience>>, request: Request, next: Next) -> Response {
    let address = request.extensions().get::<ConnectInfo<IpAddr>>().map_or(Ipv4Addr::UNSPECIFIED.into(), |from| from.0);
    match patience.is_left_for(host(address)) {
        true => next.run(request).await,
        false => busy(),
    }
}

/// The address by which a host is known: in IPv6 each has at least a /64 to itself.
fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(whole) => Ipv6Addr::from_bits(whole.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

fn busy() -> Response {
    let words = "more is asked of this scheduler than it answers in a second: ask again in a second";
    let refusal = refuse(StatusCode::TOO_MANY_REQUESTS, "too_many_questions", words);
    ([(header::RETRY_AFTER, "1")], refusal).into_response()
}
