//! Processes of the binary in a folder of their own; they never outlive the test, and speak when it fails.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// The longest that a command may take that should end by itself, on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How often something is looked at again.
const LOOK: Duration = Duration::from_millis(20);

/// A folder for everything that one test writes: it is `$HOME`, `$XDG_DATA_HOME` and the current folder.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("bourse-test-").tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Starts `bourse` with these arguments.
    pub(crate) fn start<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Process {
        self.start_with(&[], arguments)
    }

    /// The same with more in the environment.
    pub(crate) fn start_with<A: AsRef<OsStr>>(
        &self,
        environment: &[(&str, &str)],
        arguments: impl IntoIterator<Item = A>,
    ) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bourse"));
        command.args(arguments).current_dir(self.path());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("IEXEC_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.env("HOME", self.path()).env("XDG_DATA_HOME", self.join("share"));
        command.envs(environment.iter().copied());
        Process::spawn(command)
    }

    /// Runs `bourse` to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ended {
        self.start(arguments).wait(PATIENCE)
    }
}

/// A running process.
pub(crate) struct Process {
    child: std::process::Child,
    command: String,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// How a process ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// `None` after a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) after: Duration,
}

impl Process {
    pub(crate) fn spawn(mut command: Command) -> Self {
        let text = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {text}: {e}"));
        let (stdout, out) = reader(child.stdout.take().unwrap());
        let (stderr, err) = reader(child.stderr.take().unwrap());
        Self { child, command: text, stdout, stderr, readers: vec![out, err] }
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until stderr holds `words`; fails if the process ends first.
    pub(crate) fn says(&mut self, words: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.stderr().contains(words) {
            assert!(self.is_running(), "{} ended before it said {words:?}", self.command);
            assert!(Instant::now() < until, "{} did not say {words:?} in time", self.command);
            std::thread::sleep(LOOK);
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What Ctrl-C sends.
    pub(crate) fn interrupt(&self) {
        self.signal("INT");
    }

    /// What a supervisor sends.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().unwrap();
        assert!(sent.success(), "{} was gone before its SIG{name}", self.command);
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.wait(PATIENCE)
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self, within: Duration) -> Ended {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < within, "{} still runs after {within:?}", self.command);
            std::thread::sleep(LOOK);
        };
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Ended { code: status.code(), stdout: self.stdout(), stderr: self.stderr(), after: started.elapsed() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let (stdout, stderr) = (tail(&self.stdout()), tail(&self.stderr()));
            eprintln!("---- {}\n---- stdout\n{stdout}\n---- stderr\n{stderr}", self.command);
        }
    }
}

impl Ended {
    /// The one JSON document on stdout.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON on stdout: {e}: {self:#?}"))
    }

    /// It went well.
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        assert!(!self.stderr.contains("panicked") && !self.stderr.contains("ERROR"), "{self:#?}");
        self
    }

    /// Its arguments could not be read.
    pub(crate) fn unreadable(self) -> Self {
        assert_eq!((self.code, &*self.stdout), (Some(2), ""), "{self:#?}");
        self
    }

    /// It failed with this exit code and one line `error: …` that holds all of `words`; nothing is on stdout.
    pub(crate) fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let errors: Vec<_> = self.stderr.lines().filter(|l| l.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "one error line is wanted: {self:#?}");
        for word in words {
            assert!(errors[0].contains(word), "{:?} does not say {word:?}: {self:#?}", errors[0]);
        }
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        assert_eq!(self.stdout, "", "{self:#?}");
        self
    }
}

fn reader(source: impl Read + Send + 'static) -> (Arc<Mutex<String>>, JoinHandle<()>) {
    let text = Arc::new(Mutex::new(String::new()));
    let target = text.clone();
    let thread = std::thread::spawn(move || {
        for line in BufReader::new(source).lines() {
            let Ok(line) = line else { return };
            let mut text = target.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
    (text, thread)
}

/// The last lines of a text.
fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(100)..].join("\n")
}

/// Looks until there is something, or fails.
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, look)
}

/// The same with another patience.
pub(crate) fn eventually_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited {patience:?} in vain: {what}");
        std::thread::sleep(LOOK);
    }
}

/// Waits for something asynchronous.
pub(crate) fn ask<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME
        .get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());
    runtime.block_on(future)
}
