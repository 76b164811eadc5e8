//! A disk that is full for a while.

use crate::{
    market::{Request, WORKER},
    world::{World, answering},
};
use bourse_chain::keys::test_key;
use bourse_protocol::{
    deal::{ContributionStatus, ResultLink},
    ids::{ResultDigest, TaskId},
    replicate::{Cause, Status},
};
use bourse_service::journal::{Journal, Moment, NoRoom};
use bourse_worker::{SCHEMA, Service, StandIn};
use futures_util::future::BoxFuture;
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// A computer whose disk refuses so many writes once a run has ended.
#[derive(Debug, Default)]
struct FullAfterwards {
    refusals: Arc<AtomicU32>,
}

impl StandIn for FullAfterwards {
    fn app_types(&self) -> Vec<String> {
        vec!["WASM".into()]
    }

    fn compute(&self, _: TaskId) -> BoxFuture<'static, Result<Vec<u8>, Cause>> {
        self.refusals.store(2, Ordering::SeqCst);
        Box::pin(async { Ok(b"42".to_vec()) })
    }

    fn store(&self, _: TaskId, _: ResultDigest) -> BoxFuture<'static, Result<ResultLink, String>> {
        Box::pin(async { Ok(ResultLink::ipfs("/ipfs/x".into())) })
    }

    fn forget(&self, _: TaskId) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_room_on_its_disk_and_reveals() {
    let mut world = World::open().await;
    let machine = Arc::new(FullAfterwards::default());
    let refusals = machine.refusals.clone();
    let fills = move |moment| match moment {
        Moment::BeforeCommit => {
            let refused = refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            refused.map_or(Ok(()), |_| Err(NoRoom))
        }
        Moment::AfterCommit => Ok(()),
    };
    let journal = Journal::open(&world.config.dir.join("worker.db"), SCHEMA).unwrap().witnessed(Arc::new(fills));
    let (config, hub) = (world.config.clone(), world.market.hub.clone());
    let service = Service::over(config, test_key(WORKER), hub, journal, machine.clone()).await.unwrap();
    world.run(service).await;
    let app = world.market.app(&world.store, &answering("42")).await;
    let task = world.assign_request(Request::of(app)).await.task;
    world.pool.until(task, Status::Revealed).await;
    assert_eq!(world.contribution(task).await, ContributionStatus::Proved);
    assert_eq!(machine.refusals.load(Ordering::SeqCst), 0, "the disk was full");
}
