//! The scheduler of the cycles: the real one, with its store on disk and workers over their WebSockets, on a chain whose
//! answers about tasks are prepared. It always has bought tasks in hand.

use super::{
    crowd::CONTRIBUTION,
    fleet::{Demands, FLOOR},
    ground::Ground,
    overlay::{Overlay, Votes},
};
use crate::{output, services};
use bourse_service::{CancellationToken, clock::Clock};
use clap::Args;
use eyre::WrapErr;
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// How often it is looked whether more must be bought.
const LOOK: Duration = Duration::from_millis(20);
/// Tasks of one deal.
const BAG: u64 = 1_000;
/// Contributions are accepted for so long, in seconds.
const OPEN_FOR: u64 = 36_000;

/// How the scheduler of the cycles is run.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// The store's folder.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// The port for workers.
    #[arg(long)]
    pub(crate) port: u16,
    /// Tasks that are to be open at any time: as many as there are workers.
    #[arg(long)]
    pub(crate) open: u64,
}

/// What it says on stdout when it is ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) scheduler_url: String,
    pub(crate) workerpool: bourse_protocol::Address,
    pub(crate) hub: bourse_protocol::Address,
    pub(crate) chain_id: u64,
    pub(crate) contribute_to: SocketAddr,
}

/// Buys from the first byte on stdin on, until stdin ends.
pub(crate) async fn execute(arguments: Arguments) -> eyre::Result<()> {
    let mut ground = Ground::open(None).await?;
    let votes = Votes::default();
    let overlay = Overlay {
        chain: ground.chain.transport(),
        hub: ground.hub.address,
        votes: votes.clone(),
        deadline: Clock::Wall.seconds() + OPEN_FOR,
    };
    let hub = ground.hub_over(overlay.client());
    let (listener, scheduler_url) = services::bind("the scheduler", arguments.port).await?;
    let (chain, contribute_to) = take_contributions(votes.clone()).await?;
    let stop = CancellationToken::new();
    let mut jobs = services::Jobs::new();
    services::scheduler(&mut jobs, plan(&ground, arguments.dir), owner(&ground), hub, listener, stop.clone()).await?;
    let ready = Ready {
        scheduler_url,
        workerpool: ground.workerpool,
        hub: ground.hub.address,
        chain_id: ground.deployment.chain_id,
        contribute_to,
    };
    output::data(&serde_json::to_string(&ready).expect("addresses serialise"));
    let worked = tokio::select! {
        bought = buy_when_told(&mut ground, &votes, arguments.open) => bought,
        ended = jobs.join_next() => match ended {
            Some(ended) => ended.map_err(eyre::Report::new).and_then(|(_, result)| result),
            None => Ok(()),
        },
    };
    stop.cancel();
    drop(chain);
    worked
}

fn plan(ground: &Ground, dir: PathBuf) -> services::SchedulerPlan {
    services::SchedulerPlan {
        workerpool: ground.workerpool,
        dir,
        start_block: 0,
        allowed: None,
        floor: FLOOR,
        store_url: "http://127.0.0.1:9".into(),
        upload_token: "none".into(),
        gas: Default::default(),
    }
}

fn owner(ground: &Ground) -> bourse_chain::PrivateKeySigner {
    ground.keyring.workerpool_owner.clone()
}

async fn buy_when_told(ground: &mut Ground, votes: &Votes, open: u64) -> eyre::Result<()> {
    let (mut stdin, mut nothing) = (tokio::io::stdin(), [0; 64]);
    if stdin.read(&mut nothing).await? == 0 {
        return Ok(());
    }
    tokio::select! {
        bought = keep_buying(ground, votes, open) => bought,
        _ = async { while stdin.read(&mut nothing).await.is_ok_and(|bytes| bytes > 0) {} } => Ok(()),
    }
}

/// Buys whenever fewer tasks are open than there should be.
async fn keep_buying(ground: &mut Ground, votes: &Votes, open: u64) -> eyre::Result<()> {
    let (mut bought, mut tick) = (0, tokio::time::interval(LOOK));
    let mut demands = Demands::on(u32::try_from(open).unwrap_or(u32::MAX));
    loop {
        while bought < votes.len() + open {
            bought += ground.buy(BAG.min(open), demands.next_ended()).await?.size;
        }
        tick.tick().await;
    }
}

/// Takes contributions as a node does: what was acknowledged is seen by every reader.
async fn take_contributions(votes: Votes) -> eyre::Result<(JoinSet<()>, SocketAddr)> {
    let listener = TcpListener::bind(services::local(0)).await.wrap_err("cannot listen for contributions")?;
    let address = listener.local_addr()?;
    let mut jobs = JoinSet::new();
    jobs.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            connections.spawn(take(socket, votes.clone()));
        }
    });
    Ok((jobs, address))
}

async fn take(mut socket: TcpStream, votes: Votes) {
    let (mut bytes, mut held) = (vec![0; 64 * CONTRIBUTION], 0);
    if socket.set_nodelay(true).is_err() {
        return;
    }
    while let Ok(count @ 1..) = socket.read(&mut bytes[held..]).await {
        held += count;
        let whole = held / CONTRIBUTION;
        for contribution in bytes[..whole * CONTRIBUTION].chunks_exact(CONTRIBUTION) {
            let (task, worker) = contribution.split_at(32);
            votes.add(bourse_protocol::B256::from_slice(task), bourse_protocol::Address::from_slice(worker));
        }
        bytes.copy_within(whole * CONTRIBUTION..held, 0);
        held -= whole * CONTRIBUTION;
        if socket.write_all(&vec![1; whole]).await.is_err() {
            return;
        }
    }
}
