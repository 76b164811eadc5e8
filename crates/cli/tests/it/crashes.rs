//! Chain, scheduler and workers as processes of their own, and what becomes of a task when some are killed.

use crate::{
    network::{self, Network, bought},
    process::{Home, PATIENCE, Process, eventually},
    up::LONG,
};
use bourse_protocol::{deal::TaskStatus, money::Nrlc};

/// A pool whose parts are processes of their own.
pub(crate) struct Pool<'a> {
    home: &'a Home,
    /// Chain (unless it is another one), market and store.
    pub(crate) network: Network,
    pub(crate) scheduler: Option<Process>,
    /// `host:port` of the scheduler, from its first start on.
    pub(crate) url: String,
    pub(crate) workers: [Option<Process>; 3],
    /// How many blocks must lie above one that counts.
    depth: u64,
}

impl<'a> Pool<'a> {
    pub(crate) fn open(home: &'a Home) -> Self {
        Self::open_on(home, &[], 0)
    }

    /// The same, with more arguments for the network, and roles that wait for so many blocks above one that counts.
    pub(crate) fn open_on(home: &'a Home, more: &[&str], depth: u64) -> Self {
        let network = Network::up(home, "network", &[&["--no-scheduler", "--workers", "3"], more].concat());
        assert!(network.file["schedulerUrl"].is_null());
        let mut pool = Self { home, network, scheduler: None, url: String::new(), workers: [None, None, None], depth };
        pool.start_scheduler();
        pool
    }

    pub(crate) fn start_scheduler(&mut self) {
        // Workers know where it was: it comes back there.
        let port = self.url.rsplit_once(':').map_or("0", |(_, port)| port);
        let dir = self.network.dir.display().to_string();
        let line = ["scheduler", "--network", &dir, "--port", port, "--depth", &self.depth.to_string()];
        let mut scheduler = self.home.start(network::on(&self.home.join("scheduler"), &line));
        scheduler.says("listens at ");
        let said = scheduler.stderr();
        let url = said.split(['\n', ' ', ';']).find(|w| w.starts_with("http://")).unwrap();
        self.url = url.to_owned();
        self.scheduler = Some(scheduler);
    }

    pub(crate) fn start_worker(&mut self, n: usize) {
        let key = &self.network.file["keys"]["workers"][n];
        let key = self.network.key_file(self.home, key, &format!("key-{n}")).display().to_string();
        let (dir, name) = (self.network.dir.display().to_string(), format!("w{n}"));
        let depth = self.depth.to_string();
        let line = ["worker", "--network", &dir, "--scheduler-url", &self.url, "--key-file", &key, "--name", &name];
        let line = [&line[..], &["--depth", &depth]].concat();
        self.workers[n] = Some(self.home.start(network::on(&self.home.join(&name), &line)));
    }

    /// Waits until so many workers are at their post: nothing else decides who gets a task.
    pub(crate) fn await_workers(&self, count: usize) {
        eventually("workers should be connected", || {
            let answer = network::get(&format!("{}/workers", self.url))?;
            let connected = answer["workers"].as_array()?.iter().filter(|w| w["connected"] == true).count();
            (connected == count).then_some(())
        });
    }

    /// Kills the first worker and the scheduler at once, and starts them again.
    fn crash_and_restart(&mut self) {
        let (worker, scheduler) = (self.workers[0].take().unwrap(), self.scheduler.take().unwrap());
        assert_eq!(worker.kill().code, None);
        assert_eq!(scheduler.kill().code, None);
        self.start_scheduler();
        self.start_worker(0);
    }

    /// All three were paid, and nothing stays locked.
    fn assert_paid(&self) {
        let paid = Nrlc("103300000000".parse().unwrap());
        for worker in self.network.workers() {
            assert_eq!(self.network.money(worker), (paid, Nrlc::ZERO), "{worker}");
            assert_eq!(self.network.score(worker), bourse_protocol::U256::from(1), "{worker}");
        }
    }

    pub(crate) fn stop(mut self) {
        let parts: Vec<_> = self.workers.iter_mut().filter_map(Option::take).chain(self.scheduler.take()).collect();
        for part in &parts {
            part.interrupt();
        }
        for part in parts {
            part.wait(network::STOP).succeeded();
        }
        self.network.stop().succeeded();
    }
}

#[test]
fn a_task_survives_kill_9_of_a_worker_and_the_scheduler_while_it_is_computed() {
    let home = Home::new();
    let mut pool = Pool::open(&home);
    (0..3).for_each(|n| pool.start_worker(n));
    pool.await_workers(3);
    let mut run = home.start(pool.network.run(LONG, &["--trust", "5", "--json"]));
    run.says("bought task ");
    let task = bought(&run.stderr()).unwrap();
    eventually("all workers should compute", || {
        let view = pool.network.view(&pool.url, task)?;
        let replicates = view["replicates"].as_array()?;
        (replicates.len() == 3 && replicates.iter().all(|r| r["currentStatus"] == "COMPUTING")).then_some(())
    });
    pool.crash_and_restart();
    let ended = run.wait(PATIENCE).succeeded();
    assert_eq!(ended.json()["task"], task.to_string());
    assert_eq!(pool.network.task(task).status, TaskStatus::Completed);
    pool.assert_paid();
    pool.stop();
}

#[test]
fn a_task_survives_kill_9_of_a_worker_that_has_contributed_and_the_scheduler() {
    let home = Home::new();
    let mut pool = Pool::open(&home);
    (0..2).for_each(|n| pool.start_worker(n));
    pool.await_workers(2);
    let mut run = home.start(pool.network.run(100_000, &["--trust", "5", "--json"]));
    run.says("bought task ");
    let task = bought(&run.stderr()).unwrap();
    // Two are not enough: the task waits for a third, and these two have their stake at risk.
    eventually("two should have contributed", || (pool.network.contributions(task) == 2).then_some(()));
    assert_eq!(pool.network.task(task).status, TaskStatus::Active);
    pool.crash_and_restart();
    pool.start_worker(2);
    let ended = run.wait(PATIENCE).succeeded();
    assert_eq!(ended.json()["task"], task.to_string());
    pool.assert_paid();
    pool.stop();
}

#[test]
fn a_scheduler_that_lost_its_memory_rebuilds_it_from_the_chain() {
    let home = Home::new();
    let mut pool = Pool::open(&home);
    (0..2).for_each(|n| pool.start_worker(n));
    pool.await_workers(2);
    let mut run = home.start(pool.network.run(100_000, &["--trust", "5"]));
    run.says("bought task ");
    let task = bought(&run.stderr()).unwrap();
    eventually("two should have contributed", || (pool.network.contributions(task) == 2).then_some(()));
    pool.scheduler.take().unwrap().kill();
    std::fs::remove_dir_all(home.join("scheduler")).unwrap();
    pool.start_scheduler();
    pool.start_worker(2);
    run.wait(PATIENCE).succeeded();
    pool.assert_paid();
    pool.stop();
}
