//! The processes of a bench: this binary again, ended with the bench.

use super::crowd::{self, Seen};
use bourse_protocol::ids::TaskId;
use eyre::WrapErr;
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{ChildStdout, Command},
    task::JoinSet,
};

/// How often something is looked at again.
const LOOK: Duration = Duration::from_millis(2);

/// A running process. What it logs is in a file.
pub(crate) struct Child {
    name: &'static str,
    process: tokio::process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts this binary with `arguments`; its log, of what `filter` lets through, goes to a new file `log`.
    pub(crate) fn start(name: &'static str, arguments: &[String], log: PathBuf, filter: &str) -> eyre::Result<Self> {
        let program = std::env::current_exe().wrap_err("cannot find this program's own file")?;
        let file = File::create(&log).wrap_err_with(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(program);
        command.args(arguments).env("RUST_LOG", filter).stderr(file).stdout(Stdio::piped()).stdin(Stdio::piped());
        let process = command.kill_on_drop(true).spawn().wrap_err_with(|| format!("cannot start the {name}"))?;
        Ok(Self { name, process, log })
    }

    /// What it has logged.
    pub(crate) fn logged(&self) -> eyre::Result<String> {
        std::fs::read_to_string(&self.log).wrap_err_with(|| format!("cannot read {}", self.log.display()))
    }

    /// Waits until it has logged `words`.
    pub(crate) async fn says(&mut self, words: &str, within: Duration) -> eyre::Result<String> {
        let until = Instant::now() + within;
        loop {
            let logged = self.logged()?;
            if logged.contains(words) {
                return Ok(logged);
            }
            if let Some(status) = self.process.try_wait()? {
                return Err(self.ended(status));
            }
            if Instant::now() > until {
                return Err(eyre::eyre!("the {} did not say {words:?} within {within:?}", self.name));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// An error if it has ended.
    pub(crate) fn check(&mut self) -> eyre::Result<()> {
        match self.process.try_wait()? {
            Some(status) => Err(self.ended(status)),
            None => Ok(()),
        }
    }

    fn ended(&self, status: ExitStatus) -> eyre::Report {
        let logged = self.logged().unwrap_or_default();
        let last = logged.lines().last().unwrap_or("it said nothing");
        eyre::eyre!("the {} ended with {status}: {last}", self.name)
    }

    /// The lines of its stdout.
    pub(crate) fn stdout(&mut self) -> eyre::Result<tokio::io::Lines<BufReader<ChildStdout>>> {
        let stdout = self.process.stdout.take().ok_or_else(|| eyre::eyre!("the {} has no stdout", self.name))?;
        Ok(BufReader::new(stdout).lines())
    }

    /// Tells it to go on.
    pub(crate) async fn go(&mut self) -> eyre::Result<()> {
        let stdin = self.process.stdin.as_mut().ok_or_else(|| eyre::eyre!("the {} has no stdin", self.name))?;
        stdin.write_all(b"\n").await?;
        Ok(stdin.flush().await?)
    }

    /// The most memory that it ever held, in bytes: `VmHWM`.
    pub(crate) fn most_memory(&self) -> eyre::Result<u64> {
        let id = self.process.id().ok_or_else(|| eyre::eyre!("the {} has ended", self.name))?;
        let path = format!("/proc/{id}/status");
        let status = std::fs::read_to_string(&path).wrap_err_with(|| format!("cannot read {path}"))?;
        most_memory(&status).ok_or_else(|| eyre::eyre!("{path} has no VmHWM"))
    }

    /// Processor time that it has used, in seconds.
    pub(crate) fn processor_time(&self) -> eyre::Result<f64> {
        let id = self.process.id().ok_or_else(|| eyre::eyre!("the {} has ended", self.name))?;
        let path = format!("/proc/{id}/stat");
        let stat = std::fs::read_to_string(&path).wrap_err_with(|| format!("cannot read {path}"))?;
        processor_time(&stat).ok_or_else(|| eyre::eyre!("{path} is not understood"))
    }

    /// `kill -9`, and the end.
    pub(crate) async fn terminate(&mut self) -> eyre::Result<()> {
        self.process.kill().await.wrap_err_with(|| format!("cannot stop the {}", self.name))
    }
}

/// `VmHWM` of a `/proc/<id>/status`, in bytes.
fn most_memory(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The system counts processor time in so many parts of a second, for programs on every machine.
const PARTS: f64 = 100.0;

/// Time in user and kernel of a `/proc/<id>/stat`, in seconds.
fn processor_time(stat: &str) -> Option<f64> {
    // The program's name may hold anything, brackets too.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let (user, kernel): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + kernel) / PARTS)
}

/// Processor time of the whole machine since its start, in seconds: used, and in all.
pub(crate) fn machine_time() -> eyre::Result<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/stat").wrap_err("cannot read /proc/stat")?;
    let parts = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8);
    let parts: Vec<f64> = parts.map(str::parse).collect::<Result<_, _>>().wrap_err("/proc/stat is not understood")?;
    let all: f64 = parts.iter().sum();
    // The fourth is idle, the fifth waits for a disk.
    let idle: f64 = parts.iter().skip(3).take(2).sum();
    Ok(((all - idle) / PARTS, all / PARTS))
}

/// The crowd, and what it has seen.
pub(crate) struct Crowd {
    child: Child,
    news: Arc<Mutex<News>>,
    _reader: JoinSet<()>,
}

/// What a crowd has said so far.
#[derive(Default)]
pub(crate) struct News {
    /// The last of it.
    pub(crate) seen: Seen,
    /// All assignments.
    pub(crate) assigned: Vec<(TaskId, u64)>,
}

impl Crowd {
    /// Starts it; workers begin to log in.
    pub(crate) fn start(arguments: &crowd::Arguments, folder: &Path) -> eyre::Result<Self> {
        let mut child = Child::start("crowd", &arguments.line(), folder.join("crowd.log"), "error")?;
        let mut lines = child.stdout()?;
        let news = Arc::new(Mutex::new(News::default()));
        let (shared, mut reader) = (news.clone(), JoinSet::new());
        reader.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(mut seen) = serde_json::from_str::<Seen>(&line) else { continue };
                let mut news = shared.lock().unwrap_or_else(PoisonError::into_inner);
                news.assigned.append(&mut seen.assigned);
                news.seen = seen;
            }
        });
        Ok(Self { child, news, _reader: reader })
    }

    /// What it has said.
    pub(crate) fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Processor time that it has used, in seconds.
    pub(crate) fn processor_time(&self) -> eyre::Result<f64> {
        self.child.processor_time()
    }

    /// Waits until what it said is enough, and says whether it was in time.
    pub(crate) async fn shows(&mut self, within: Duration, enough: impl Fn(&News) -> bool) -> eyre::Result<bool> {
        let until = Instant::now() + within;
        while !enough(&self.news()) {
            self.child.check()?;
            if Instant::now() > until {
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(true)
    }

    /// Waits until so many workers are logged in.
    pub(crate) async fn links(&mut self, workers: u32, within: Duration) -> eyre::Result<()> {
        if self.shows(within, |news| news.seen.linked >= u64::from(workers)).await? {
            return Ok(());
        }
        let Seen { linked, refusal, .. } = self.news().seen.clone();
        let refusal = refusal.map(|reason| format!("; the last refusal: {reason}")).unwrap_or_default();
        Err(eyre::eyre!("{linked} of {workers} workers were logged in after {within:?}{refusal}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_of_memory_is_read_from_the_system() {
        assert_eq!(most_memory("Name:\tx\nVmHWM:\t    1024 kB\nVmRSS:\t 1 kB\n"), Some(1024 * 1024));
        assert_eq!(most_memory("VmRSS:\t 1 kB\n"), None);
    }

    #[test]
    fn processor_time_is_read_from_the_system() {
        let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(processor_time(stat), Some(2.0));
        assert_eq!(processor_time("42"), None);
        let (used, all) = machine_time().unwrap();
        assert!(0.0 < used && used <= all);
    }
}
