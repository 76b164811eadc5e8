//! The product's own scheduler on the embedded chain, with a crowd: its memory, how fast a task that is ready gets to its
//! worker, and how fast everybody works again after a restart.

use super::{
    child::{Child, Crowd},
    crowd,
    figures::{Figure, Target, percentile},
    fleet::{self, Demand, Demands, FLOOR},
    ground::{Bag, Ground},
    scheduler_log,
};
use crate::{network_file::NetworkFile, services};
use bourse_protocol::ids::TaskId;
use bourse_service::{CancellationToken, clock::Clock};
use eyre::OptionExt;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

/// Purchases per second; each is for several tasks if more are wanted.
const PURCHASES: u64 = 10;
/// How long a process may take to be ready.
const START: Duration = Duration::from_secs(60);
/// How long so many workers may take to log in, at least, and for each.
const LOGINS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_millis(20));
/// How long tasks that were bought may take to get to their workers after the last purchase.
const DELIVERY: Duration = Duration::from_secs(120);
/// After a restart the scheduler is watched for so long before its memory is read: it compares its tasks with the chain.
const SETTLE: Duration = Duration::from_secs(20);
/// The log that tells when a task became ready.
const TELLING: &str = "error,bourse_scheduler=info";

/// What is measured.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) folder: PathBuf,
    pub(super) workers: u32,
    pub(super) tasks_per_second: u64,
    pub(super) seconds: u64,
}

impl Plan {
    /// How many tasks are bought for the push: workers keep what they get.
    fn tasks(&self) -> u64 {
        (self.tasks_per_second * self.seconds).min(u64::from(self.workers))
    }
}

/// Measures. `tell` hears in plain words what happens.
pub(super) async fn measure(plan: &Plan, tell: &dyn Fn(&str)) -> eyre::Result<Vec<Figure>> {
    tell("starting a chain, a scheduler and a crowd");
    let mut stage = Stage::set(plan.clone()).await?;
    let mut figures = stage.log_in().await?;
    tell(&format!("buying {} tasks at {} per second", plan.tasks(), plan.tasks_per_second));
    figures.extend(stage.push().await?);
    tell("restarting the scheduler with an open task for every worker");
    figures.extend(stage.restart().await?);
    stage.stop.cancel();
    Ok(figures)
}

/// Everything that runs.
struct Stage {
    plan: Plan,
    ground: Ground,
    scheduler: Child,
    port: u16,
    crowd: Crowd,
    /// What tasks were bought with.
    demands: BTreeSet<Demand>,
    /// The scheduler's peak of memory, the largest of its lives, in bytes.
    most_memory: u64,
    started: u64,
    stop: CancellationToken,
    _server: JoinSet<()>,
}

impl Stage {
    async fn set(plan: Plan) -> eyre::Result<Self> {
        let ground = Ground::open(Some(plan.folder.join("chain"))).await?;
        let server = services::bind_chain(&ground.chain, 0, &services::Embedded::default())?;
        let rpc_url = format!("http://{}", server.local_addr());
        let (stop, mut jobs) = (CancellationToken::new(), JoinSet::new());
        jobs.spawn(server.run(stop.clone()));
        announce(&ground, rpc_url, &plan)?;
        let port = free_port()?;
        let scheduler = start(&plan, port, "scheduler.log", TELLING).await?;
        let started = Clock::Wall.micros();
        let crowd = crowd::Arguments {
            scheduler_url: url(port),
            workerpool: ground.workerpool,
            hub: ground.hub.address,
            chain_id: ground.deployment.chain_id,
            workers: plan.workers,
            contribute_to: None,
        };
        let crowd = Crowd::start(&crowd, &plan.folder)?;
        Ok(Self {
            plan,
            ground,
            scheduler,
            port,
            crowd,
            demands: BTreeSet::new(),
            most_memory: 0,
            started,
            stop,
            _server: jobs,
        })
    }

    async fn log_in(&mut self) -> eyre::Result<Vec<Figure>> {
        let workers = self.plan.workers;
        self.crowd.links(workers, LOGINS.0 + LOGINS.1 * workers).await?;
        let seconds = millis(self.started, self.crowd.news().seen.at) / 1000.0;
        let what = format!("{workers} workers logged in, each with its own key");
        let machines = "different machines among them: CPUs, memory, disk, GPUs, enclaves, runtimes, platform";
        Ok(vec![
            Figure::told("logins", what, seconds, "s"),
            Figure::told("machines", machines, fleet::different(workers) as f64, ""),
        ])
    }

    /// Buys at the wanted rate, and measures from "ready" to "the worker has it".
    async fn push(&mut self) -> eyre::Result<Vec<Figure>> {
        let bags = self.buy().await?;
        let wanted: BTreeSet<TaskId> = bags.iter().flat_map(|bag| bag.tasks()).collect();
        if !self.crowd.shows(DELIVERY, |news| news.assigned.len() >= wanted.len()).await? {
            let assigned = self.crowd.news().assigned.len();
            return Err(eyre::eyre!("{assigned} of {} tasks reached a worker within {DELIVERY:?}", wanted.len()));
        }
        let ready = scheduler_log::ready(&self.scheduler.logged()?);
        let has: BTreeMap<TaskId, u64> = self.crowd.news().assigned.iter().rev().copied().collect();
        self.most_memory = self.scheduler.most_memory()?;
        let pair = |task| Some(millis(*ready.get(task)?, *has.get(task)?));
        let pushes = wanted.iter().map(|task| pair(task).ok_or_else(|| eyre::eyre!("task {task} was lost sight of")));
        let mut pushes = pushes.collect::<eyre::Result<Vec<f64>>>()?;
        let rate = rate(wanted.iter().filter_map(|task| ready.get(task)).copied().collect());
        let (beats, tasks) = (self.crowd.news().seen.heartbeats, wanted.len());
        let needs = self.demands.len();
        let push = |name, what: &str, value| Figure::told(name, what, value, "ms");
        Ok(vec![
            Figure::told("tasks", "tasks bought, opened on the chain and assigned", tasks as f64, ""),
            Figure::told("needs", "different needs among them: runtime, GPU, enclave", needs as f64, ""),
            Figure::told("readyRate", "tasks became ready", rate, "per s"),
            push("pushP50", "push, ready to worker has it: median", percentile(&mut pushes, 50)),
            Figure::wanted(
                "pushP99",
                "push, ready to worker has it: 99 %",
                percentile(&mut pushes, 99),
                "ms",
                Target::Under(50.0),
            ),
            push("pushMax", "push, ready to worker has it: all", percentile(&mut pushes, 100)),
            Figure::told("heartbeats", "heartbeats meanwhile", beats as f64, ""),
        ])
    }

    async fn buy(&mut self) -> eyre::Result<Vec<Bag>> {
        let (tasks, rate) = (self.plan.tasks(), self.plan.tasks_per_second);
        let size = (rate / PURCHASES).max(1);
        let mut tick = interval(Duration::from_secs(size) / u32::try_from(rate).unwrap_or(u32::MAX).max(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut bags, mut left, mut demands) = (Vec::new(), tasks, Demands::on(self.plan.workers));
        while left > 0 {
            tick.tick().await;
            let size = size.min(left);
            let demand = demands.next_kept(size);
            let bag = self.ground.buy(size, demand).await?;
            self.demands.insert(demand);
            left -= bag.size;
            bags.push(bag);
        }
        Ok(bags)
    }

    /// Gives every worker a task, then kills the scheduler and starts it again.
    async fn restart(&mut self) -> eyre::Result<Vec<Figure>> {
        let (workers, pushed) = (u64::from(self.plan.workers), self.plan.tasks());
        self.stop_scheduler().await?;
        if workers > pushed {
            let bag = self.ground.buy(workers - pushed, Demand::PLAIN).await?;
            self.ground.open_tasks(bag).await?;
        }
        self.start_scheduler("scheduler-2.log").await?;
        let within = LOGINS.0 + LOGINS.1 * self.plan.workers + DELIVERY;
        let everybody = |news: &super::child::News| {
            let tasks: BTreeSet<_> = news.assigned.iter().map(|(task, _)| task).collect();
            tasks.len() as u64 >= workers && news.seen.linked >= workers
        };
        if !self.crowd.shows(within, everybody).await? {
            let (linked, refusal) = {
                let news = self.crowd.news();
                (news.seen.linked, news.seen.refusal.clone())
            };
            return Err(eyre::eyre!(
                "not every worker had a task {within:?} after the tasks were opened ({linked} of {workers} linked; last refusal: {refusal:?})"
            ));
        }
        self.most_memory = self.most_memory.max(self.scheduler.most_memory()?);
        self.stop_scheduler().await?;
        if !self.crowd.shows(START, |news| news.seen.linked == 0).await? {
            return Err(eyre::eyre!("workers are still linked {START:?} after their scheduler was killed"));
        }
        let begun = Clock::Wall.micros();
        self.crowd.news().assigned.clear();
        self.start_scheduler("scheduler-3.log").await?;
        let listening = millis(begun, Clock::Wall.micros());
        if !self.crowd.shows(within, |news| news.assigned.len() as u64 >= workers).await? {
            let back = self.crowd.news().assigned.len();
            return Err(eyre::eyre!("{back} of {workers} workers had their task again {within:?} after the restart"));
        }
        let mut back: Vec<f64> = self.crowd.news().assigned.iter().map(|(_, at)| millis(begun, *at) / 1000.0).collect();
        sleep(SETTLE.min(Duration::from_secs(self.plan.seconds))).await;
        self.most_memory = self.most_memory.max(self.scheduler.most_memory()?);
        let told = |name, what: &str, value| Figure::told(name, what, value, "s");
        Ok(vec![
            Figure::told("openTasks", "restart: open tasks, each with its worker", workers as f64, ""),
            told("restartListening", "restart: the scheduler listens", listening / 1000.0),
            told("restartFirst", "restart: the first worker has its task again", percentile(&mut back, 0)),
            told("restartHalf", "restart: half of the workers have theirs", percentile(&mut back, 50)),
            Figure::wanted(
                "restartAll",
                "restart: all workers have theirs",
                percentile(&mut back, 100),
                "s",
                Target::Under(2.0),
            ),
            Figure::wanted(
                "memory",
                "memory of the scheduler at most, over all of this (VmHWM)",
                self.most_memory as f64 / 1e6,
                "MB",
                Target::Under(300.0),
            ),
        ])
    }

    async fn stop_scheduler(&mut self) -> eyre::Result<()> {
        self.scheduler.terminate().await
    }

    async fn start_scheduler(&mut self, log: &str) -> eyre::Result<()> {
        self.scheduler = start(&self.plan, self.port, log, "error").await?;
        Ok(())
    }
}

/// Tells others where the network is, as `bourse up` does.
fn announce(ground: &Ground, rpc_url: String, plan: &Plan) -> eyre::Result<()> {
    let file = NetworkFile {
        chain_id: ground.deployment.chain_id,
        ws_url: Some(rpc_url.replacen("http", "ws", 1)),
        rpc_url,
        hub: ground.hub.address,
        rlc: ground.deployment.rlc,
        workerpool: ground.workerpool,
        market_url: None,
        sms_url: None,
        // No task of the bench gets as far as a result.
        ipfs_gateway_url: Some("http://127.0.0.1:9".into()),
        ipfs_node_url: None,
        compass_url: None,
        scheduler_url: None,
        dashboard_url: None,
        keys: ground.keyring.file(),
    };
    file.write(&plan.folder).map(drop)
}

/// `bourse scheduler`, as a user would start it; returns when it listens.
async fn start(plan: &Plan, port: u16, log: &str, filter: &str) -> eyre::Result<Child> {
    let path = |name: &str| plan.folder.join(name).display().to_string();
    let port = port.to_string();
    let line = ["scheduler", "--network", &path(""), "--data-dir", &path("scheduler"), "--port", &port];
    let mut line: Vec<String> = line.map(String::from).into();
    for (name, least) in [("cpus", FLOOR.cpus.into()), ("memory", FLOOR.memory_mib), ("disk", FLOOR.disk_mib)] {
        line.extend([format!("--least-{name}"), least.to_string()]);
    }
    let mut child = Child::start("scheduler", &line, plan.folder.join(log), filter)?;
    child.says("listens at ", START).await?;
    Ok(child)
}

/// A port that none of the crowd's thousands of connections may get while the scheduler is down: below those that the
/// system gives out.
pub(super) fn free_port() -> eyre::Result<u16> {
    let from = 10_000 + std::process::id() as u16 % 10_000;
    let free = |port: &u16| std::net::TcpListener::bind(services::local(*port)).is_ok();
    (from..from + 1000).find(free).ok_or_eyre("no free port between 10000 and 21000: stop something")
}

/// Where the scheduler listens.
pub(super) fn url(port: u16) -> String {
    format!("ws://{}", services::local(port))
}

/// Milliseconds between two moments in microseconds.
fn millis(from: u64, to: u64) -> f64 {
    (to as f64 - from as f64) / 1000.0
}

/// How many of these moments (in microseconds) fall into a second.
fn rate(mut moments: Vec<u64>) -> f64 {
    moments.sort_unstable();
    match (moments.first(), moments.last()) {
        (Some(first), Some(last)) if last > first => (moments.len() - 1) as f64 * 1e6 / (last - first) as f64,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_time_between_the_first_and_the_last() {
        assert_eq!(rate(vec![3_000_000, 1_000_000, 2_000_000]), 1.0);
        assert_eq!((rate(vec![]), rate(vec![5])), (0.0, 0.0));
    }
}
