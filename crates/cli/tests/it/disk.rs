//! A disk that is full.

use crate::{
    network::{self, Network, bought},
    process::{Home, PATIENCE},
    up::LONG,
};
use bourse_protocol::{deal::TaskStatus, money::Nrlc};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// A file system of a fixed size in memory.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf, kilobytes: u32) -> Self {
        fs::create_dir_all(&path).unwrap();
        let size = format!("size={kilobytes}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).status().unwrap();
        assert!(mounted.success(), "cannot mount a small disk: run the tests as root");
        Self(path)
    }

    /// Leaves no byte free; what is returned takes them.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        for size in [1 << 16, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// One clear line: what, where, what to do.
const FULL: [&str; 2] = ["no room left on the disk", "free some space"];

#[test]
fn a_network_does_not_start_on_a_full_disk_and_says_why() {
    let home = Home::new();
    let disk = Disk::mount(home.join("small"), 256);
    let dir = disk.0.join("n");
    home.run(network::up(&dir, &[])).failed(3, &FULL);
    assert!(!dir.join("network.json").exists());
    home.run(["demo", "--data-dir", &dir.display().to_string()]).failed(3, &FULL);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_disk_that_fills_up_during_a_start_ends_it_with_the_reason() {
    let home = Home::new();
    let disk = Disk::mount(home.join("disk"), 64 * 1024);
    let dir = disk.0.join("n");
    // A block a second: the contracts take some.
    let mut start = home.start(network::up(&dir, &["--block-time", "1"]));
    start.says("embedded, at");
    let filler = disk.fill();
    let path = dir.display().to_string();
    start.wait(PATIENCE).failed(3, &[&FULL[..], &[&path]].concat());
    assert!(!dir.join("network.json").exists());
    fs::remove_file(filler).unwrap();
    let network = Network::up(&home, "disk/n", &[]);
    home.run(network.run(10_000, &["--trust", "5"])).succeeded();
}

#[test]
fn a_purchase_on_a_full_disk_costs_nothing() {
    let home = Home::new();
    let disk = Disk::mount(home.join("disk"), 64 * 1024);
    let network = Network::up(&home, "disk/n", &[]);
    let done = home.run(network.run(10_000, &["--trust", "5", "--json", "--output", "one"])).succeeded().json();
    let books = network.books();
    let filler = disk.fill();
    home.run(network.run(10_000, &["--trust", "5"])).failed(1, &FULL);
    fs::remove_file(filler).unwrap();
    let network = revived(&home, network);
    assert_eq!(network.books(), books);
    let task = done["task"].as_str().unwrap();
    home.run(network.command(&["task", "result", task, "--output", "two"])).succeeded();
    assert_eq!(fs::read(home.join("one")).unwrap(), fs::read(home.join("two")).unwrap());
    home.run(network.run(10_000, &["--trust", "5"])).succeeded();
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_task_loses_nothing() {
    let home = Home::new();
    let disk = Disk::mount(home.join("disk"), 64 * 1024);
    let mut network = Network::up(&home, "disk/n", &[]);
    let mut run = home.start(network.run(LONG, &["--trust", "5"]));
    run.says("the app is running");
    let task = bought(&run.stderr()).unwrap();
    let filler = disk.fill();
    // The network may stop, with the reason, or wait for room: both are right. It may not lose the task.
    network.process.says("no room left on the disk");
    drop(run);
    fs::remove_file(filler).unwrap();
    let network = revived(&home, network);
    network.await_status(task, TaskStatus::Completed);
    home.run(network.command(&["task", "result", &task.to_string(), "--output", "r"])).succeeded();
    for worker in network.workers() {
        assert_eq!(network.money(worker), (Nrlc("103300000000".parse().unwrap()), Nrlc::ZERO));
    }
}

/// The network, started again if it has stopped.
fn revived(home: &Home, mut network: Network) -> Network {
    let name = relative(home, &network.dir);
    if network.process.is_running() {
        return network;
    }
    network.process.wait(network::STOP).failed(1, &FULL);
    Network::up(home, &name, &[])
}

fn relative(home: &Home, dir: &Path) -> String {
    dir.strip_prefix(home.path()).unwrap().display().to_string()
}
