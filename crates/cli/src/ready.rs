//! Whether everything of a network answers.

use crate::{assets, network_file::NetworkFile};
use bourse_chain::Client;
use bourse_protocol::{api::WorkerView, ipfs::Cid};
use eyre::WrapErr;
use serde::Deserialize;
use std::time::{Duration, Instant};

/// A service on this machine that takes longer than this does not answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long workers may take to reach their scheduler, on a machine that is busy with other things.
const ARRIVAL: Duration = Duration::from_secs(60);
/// How often a scheduler is asked who is there.
const LOOK: Duration = Duration::from_millis(20);

/// Returns when every service answers and so many workers are at their post.
pub(crate) async fn everything(file: &NetworkFile, workers: usize) -> eyre::Result<()> {
    let http = bourse_service::http::client(ANSWER);
    let urls = [
        file.market_url.as_ref().map(|u| format!("{u}/version")),
        file.scheduler_url.as_ref().map(|u| format!("{u}/version")),
        file.ipfs_gateway_url.as_ref().map(|u| format!("{u}/ipfs/{}", Cid::of(assets::DATASET))),
    ];
    for url in urls.into_iter().flatten() {
        let answer = http.get(&url).send().await.and_then(reqwest::Response::error_for_status);
        answer.wrap_err("a service does not answer")?;
    }
    let (wanted, answer) = (file.chain_id, Client::connect(&file.rpc_url)?.chain_id().await?);
    if answer != wanted {
        return Err(eyre::eyre!("{} is chain {answer}, not {wanted}: another program answers there", file.rpc_url));
    }
    match &file.scheduler_url {
        Some(scheduler) => self::workers(scheduler, workers).await,
        None => Ok(()),
    }
}

/// Returns when so many workers are at their post.
pub(crate) async fn workers(scheduler: &str, count: usize) -> eyre::Result<()> {
    let until = Instant::now() + ARRIVAL;
    while connected_workers(scheduler).await? < count {
        if Instant::now() > until {
            return Err(eyre::eyre!("not all workers reached their scheduler: run with -v to see why"));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// How many workers a scheduler has.
pub(crate) async fn connected_workers(scheduler_url: &str) -> eyre::Result<usize> {
    #[derive(Deserialize)]
    struct Workers {
        workers: Vec<WorkerView>,
    }
    let http = bourse_service::http::client(ANSWER);
    let answer = http.get(format!("{scheduler_url}/workers")).send().await.wrap_err("the scheduler does not answer")?;
    let workers: Workers = answer.json().await.wrap_err("the scheduler's answer is not understood")?;
    Ok(workers.workers.iter().filter(|w| w.connected).count())
}
