//! From an assignment to an answer: download, run, take the digest.
//!
//! A failure that every honest machine sees alike is an answer too (see `bourse_protocol::failure`); a failure of this
//! machine is not. The line between the two is drawn here.

use crate::{
    context::{Context, Trouble},
    fetch::{self, Source, Wanted},
    folder::{CALLBACK, Folder, OUT},
    machine::{Machine, Sandbox, StandIn},
    replicate::Terms,
    store::Answer,
    wasm::{self, Outcome, Report, output},
};
use bourse_chain::hub::App;
use bourse_protocol::{
    B256,
    computed::{NO_CALLBACK, OutputPath, Plan, callback_digest, file_digest},
    failure::{self, Failure},
    ipfs::{Multiaddr, decode_multiaddr},
    link::Assignment,
    params::Params,
    replicate::{Cause, CauseCode, EXITED, Status},
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The app type that this worker runs.
pub(crate) const APP_TYPE: &str = "WASM";
/// A server may say "not there" for so long: what was published a moment ago may not have arrived.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest pause between two tries of a download.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Most input files of one deal.
const MAX_INPUT_FILES: usize = 64;
/// How an output folder, or a callback that nobody waits for, is answered.
const ONE_FILE: &str =
    "name a single file in deterministic-output-path: only that can be stored and checked by everybody";
/// How a file is answered where a contract waits for the result.
const DATA: &str = "write callback-data: the request names a contract that gets it";

/// One run of one task.
pub(crate) struct Run<'a> {
    pub(crate) context: &'a Context,
    pub(crate) assignment: &'a Assignment,
    pub(crate) terms: &'a Terms,
    /// Stops the run.
    pub(crate) cancel: CancellationToken,
}

/// A file that the task needs, and what it means if it does not come.
struct Need {
    wanted: Wanted,
    failed: Status,
    unavailable: CauseCode,
    wrong: CauseCode,
}

impl Run<'_> {
    /// The answer, safely on disk.
    pub(crate) async fn answer(&self) -> Result<Answer, Trouble> {
        match &self.context.machine {
            Machine::Sandbox(sandbox) => self.sandboxed(sandbox).await,
            Machine::StandIn(stand_in) => self.stood_in(&**stand_in).await,
        }
    }

    async fn sandboxed(&self, sandbox: &Sandbox) -> Result<Answer, Trouble> {
        let folder = sandbox.folders.of(self.assignment.task);
        folder.renew().map_err(|e| Trouble::disk(folder.path(), &e))?;
        let answer = match self.context.config.forge {
            true => self.forge(&folder)?,
            false => match self.honest(sandbox, &folder).await {
                Err(Trouble::Alike(status, failure)) => self.failed(&folder, status, &failure).await?,
                other => other?,
            },
        };
        folder.settle(&answer.file).map_err(|e| Trouble::disk(folder.path(), &e))?;
        Ok(answer)
    }

    async fn stood_in(&self, machine: &dyn StandIn) -> Result<Answer, Trouble> {
        for status in [Status::AppDownloading, Status::AppDownloaded, Status::DataDownloading, Status::DataDownloaded] {
            self.say(status).await?;
        }
        self.say(Status::Computing).await?;
        let content = tokio::select! {
           biased;
            () = self.cancel.cancelled() => return Err(Trouble::Cancelled),
            content = machine.compute(self.assignment.task) => content,
        };
        let content = content.map_err(|cause| Trouble::Here(Status::ComputeFailed, cause))?;
        self.say(Status::Computed).await?;
        Ok(Answer { digest: self.terms.deal.result_digest(&content), file: String::new() })
    }

    async fn honest(&self, sandbox: &Sandbox, folder: &Folder) -> Result<Answer, Trouble> {
        self.say(Status::AppDownloading).await?;
        let (app, module) = self.app(sandbox, folder).await?;
        self.say(Status::AppDownloaded).await?;
        self.say(Status::DataDownloading).await?;
        let env = self.inputs(sandbox, folder).await?;
        self.say(Status::DataDownloaded).await?;
        let args = arguments(&app, &self.terms.deal.params)?;
        self.say(Status::Computing).await?;
        let job = wasm::Job {
            module: module.into(),
            args,
            env,
            started_at: self.terms.deal.start_time,
            input_dir: folder.input(),
            output_dir: folder.output(),
        };
        let began = Instant::now();
        let report = sandbox.engine.run(job, self.limits(), self.cancel.clone()).await.map_err(engine_fault)?;
        self.linger(began).await?;
        folder.keep_console(&report).map_err(|e| Trouble::disk(folder.path(), &e))?;
        let answer = judge(folder, report, self.terms.deal.has_callback()).await?;
        self.say(Status::Computed).await?;
        Ok(answer)
    }

    /// Waits until a run that began then has taken as long as it is to take.
    async fn linger(&self, began: Instant) -> Result<(), Trouble> {
        let until = began + self.context.config.at_least;
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Trouble::Cancelled),
            () = tokio::time::sleep_until(until) => Ok(()),
        }
    }

    /// What a liar does: no run, an answer of its own invention.
    fn forge(&self, folder: &Folder) -> Result<Answer, Trouble> {
        tracing::warn!(task = %self.assignment.task, "forging the result instead of computing it");
        let text = format!(r#"{{"forged":"{}","task":"{}"}}"#, self.context.wallet, self.assignment.task);
        if self.terms.deal.has_callback() {
            return callback(folder, text.as_bytes());
        }
        let path = folder.output().join("result.json");
        std::fs::write(&path, &text).map_err(|e| Trouble::disk(&path, &e))?;
        Ok(Answer { digest: file_digest(text.as_bytes()), file: format!("{OUT}/result.json") })
    }

    async fn failed(&self, folder: &Folder, status: Status, failure: &Failure) -> Result<Answer, Trouble> {
        self.context.say(&self.cancel, self.assignment.task, status, Some(failure.cause())).await?;
        if self.terms.deal.has_callback() {
            return callback(folder, NO_CALLBACK);
        }
        folder.fail(failure).map_err(|e| Trouble::disk(folder.path(), &e))?;
        Ok(Answer { digest: file_digest(&failure.write()), file: format!("{OUT}/{}", failure::FILE_NAME) })
    }

    async fn say(&self, status: Status) -> Result<(), Trouble> {
        self.context.say(&self.cancel, self.assignment.task, status, None).await
    }

    /// The category's time, and never past the moment from which no contribution is taken.
    fn limits(&self) -> wasm::Limits {
        let left = self.terms.contribution_deadline().saturating_sub(self.context.now());
        let wall = Duration::from_secs(self.terms.period.min(left));
        wasm::Limits { wall, ..self.context.config.limits.clone() }
    }

    async fn app(&self, sandbox: &Sandbox, folder: &Folder) -> Result<(App, Vec<u8>), Trouble> {
        let failed = Status::AppDownloadFailed;
        let address = self.terms.deal.app.pointer;
        let Some(app) = self.context.hub.app(address).await? else {
            return Err(here(failed, CauseCode::TaskDescriptionInvalid, format!("app {address} is in no registry")));
        };
        if app.kind != APP_TYPE {
            let text = format!("app {address} is of type {:?} and this worker runs {APP_TYPE}", app.kind);
            return Err(here(failed, CauseCode::AppTypeUnsupported, text));
        }
        let unavailable = CauseCode::AppDownloadFailed;
        let source = source(&app.multiaddr).map_err(|reason| {
            Trouble::Alike(failed, Failure::new(unavailable, format!("app {address} cannot be fetched: {reason}")))
        })?;
        let limit = self.context.config.limits.module_bytes as u64;
        let wanted = Wanted { source, checksum: Some(app.checksum), limit };
        let need = Need { wanted, failed, unavailable, wrong: CauseCode::AppBadChecksum };
        let path = folder.path().join("app.wasm");
        self.fetch(sandbox, &need, &path).await?;
        let module = tokio::fs::read(&path).await.map_err(|e| Trouble::disk(&path, &e))?;
        Ok((app, module))
    }

    /// Puts dataset and input files into the input folder; returns the app's environment.
    async fn inputs(&self, sandbox: &Sandbox, folder: &Folder) -> Result<BTreeMap<String, String>, Trouble> {
        let mut env = environment(self.assignment, self.terms);
        // What the task may still download.
        let mut left = self.context.config.download_limit;
        if let Some(dataset) = &self.terms.deal.dataset {
            // The name on disk is the address, as apps know it: middleware.md §4.6.
            let name = format!("{:#x}", dataset.pointer);
            left = left.saturating_sub(self.dataset(sandbox, folder, &name, left).await?);
            env.insert("IEXEC_DATASET_ADDRESS".into(), name.clone());
            env.insert("IEXEC_DATASET_FILENAME".into(), name);
        }
        let urls = Params::read(&self.terms.deal.params).input_files;
        let invalid = |text: String| {
            Trouble::Alike(Status::DataDownloadFailed, Failure::new(CauseCode::TaskDescriptionInvalid, text))
        };
        if urls.len() > MAX_INPUT_FILES {
            return Err(invalid(format!(
                "{} input files are asked for and the limit is {MAX_INPUT_FILES}",
                urls.len()
            )));
        }
        env.insert("IEXEC_INPUT_FILES_NUMBER".into(), urls.len().to_string());
        env.insert("IEXEC_INPUT_FILES_FOLDER".into(), "/iexec_in".into());
        for (i, text) in urls.iter().enumerate() {
            let url = text.parse::<url::Url>().ok().filter(|u| matches!(u.scheme(), "http" | "https"));
            let url = url.ok_or_else(|| invalid(format!("input file {} is no http URL: {text}", i + 1)))?;
            let name = format!("{:x}", Sha256::digest(text));
            let wanted = Wanted { source: Source::Http(url), checksum: None, limit: left };
            left = left.saturating_sub(self.fetch(sandbox, &data(wanted), &folder.input().join(&name)).await?);
            env.insert(format!("IEXEC_INPUT_FILE_NAME_{}", i + 1), name);
        }
        Ok(env)
    }

    /// Returns the size of the dataset.
    async fn dataset(&self, sandbox: &Sandbox, folder: &Folder, name: &str, limit: u64) -> Result<u64, Trouble> {
        let failed = Status::DataDownloadFailed;
        let Some(resource) = &self.terms.deal.dataset else { return Ok(0) };
        let address = resource.pointer;
        let Some(dataset) = self.context.hub.dataset(address).await? else {
            let text = format!("dataset {address} is in no registry");
            return Err(here(failed, CauseCode::TaskDescriptionInvalid, text));
        };
        let source = source(&dataset.multiaddr).map_err(|reason| {
            let text = format!("dataset {address} cannot be fetched: {reason}");
            Trouble::Alike(failed, Failure::new(CauseCode::DatasetDownloadFailed, text))
        })?;
        let checksum = (dataset.checksum != B256::ZERO).then_some(dataset.checksum);
        let wanted = Wanted { source, checksum, limit };
        self.fetch(sandbox, &data(wanted), &folder.input().join(name)).await
    }

    /// Tries until it is there, or will not come, or comes too late to be of use. Returns its size.
    async fn fetch(&self, sandbox: &Sandbox, need: &Need, target: &std::path::Path) -> Result<u64, Trouble> {
        let services = self.context.services.clone();
        let (began, mut pause) = (Instant::now(), Duration::from_millis(500));
        loop {
            let gateway = services.latest().map(|s| s.gateway_url);
            let error = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(Trouble::Cancelled),
                fetched = sandbox.files.fetch(gateway.as_deref(), &need.wanted, target) => match fetched {
                    Ok(size) => return Ok(size),
                    Err(error) => error,
                },
            };
            let late = self.context.now() >= self.terms.contribution_deadline();
            match &error {
                fetch::Error::Temporary { .. } if !late => {}
                fetch::Error::Absent { .. } | fetch::Error::NoRoom { .. } if !late && began.elapsed() < PATIENCE => {}
                fetch::Error::Temporary { .. }
                | fetch::Error::Absent { .. }
                | fetch::Error::NoRoom { .. }
                | fetch::Error::Unwanted { .. } => {
                    return Err(here(need.failed, need.unavailable, error.to_string()));
                }
                fetch::Error::WrongChecksum { .. } => {
                    return Err(Trouble::Alike(need.failed, Failure::new(need.wrong, error.to_string())));
                }
                fetch::Error::Disk { path, source } => return Err(Trouble::disk(path, source)),
            }
            tracing::warn!(task = %self.assignment.task, %error, "download fails; trying again");
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(Trouble::Cancelled),
                _ = services.read(), if gateway.is_none() => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

fn data(wanted: Wanted) -> Need {
    Need {
        wanted,
        failed: Status::DataDownloadFailed,
        unavailable: CauseCode::DatasetDownloadFailed,
        wrong: CauseCode::DatasetBadChecksum,
    }
}

fn here(status: Status, code: CauseCode, evidence: impl Into<String>) -> Trouble {
    Trouble::Here(status, Cause::new(code, evidence))
}

/// Where an asset's bytes are read, or why nobody could.
fn source(multiaddr: &[u8]) -> Result<Source, String> {
    match decode_multiaddr(multiaddr).map_err(|e| e.to_string())? {
        Multiaddr::Ipfs(cid) => Ok(Source::Ipfs(cid)),
        Multiaddr::Http(text) => text.parse().map(Source::Http).map_err(|e| format!("{text:?} is no URL: {e}")),
        Multiaddr::Other(text) => Err(format!("its multiaddr {text:?} is neither /ipfs/<cid> nor a URL")),
    }
}

/// The command line: the app's name, then the arguments of the request.
fn arguments(app: &App, params: &str) -> Result<Vec<String>, Trouble> {
    let invalid =
        |text: String| Trouble::Alike(Status::ComputeFailed, Failure::new(CauseCode::TaskDescriptionInvalid, text));
    let args = Params::read(params).argv().map_err(|e| invalid(e.to_string()))?;
    let args: Vec<_> = std::iter::once(app.name.clone()).chain(args).collect();
    match args.iter().any(|arg| arg.contains('\0')) {
        true => Err(invalid("an argument holds a zero character".into())),
        false => Ok(args),
    }
}

/// What the app is told about its task: middleware.md §4.7.
fn environment(assignment: &Assignment, terms: &Terms) -> BTreeMap<String, String> {
    let deal = &terms.deal;
    [
        ("IEXEC_DEAL_ID", deal.id.to_string()),
        ("IEXEC_TASK_ID", assignment.task.to_string()),
        ("IEXEC_TASK_INDEX", assignment.index.to_string()),
        ("IEXEC_IN", "/iexec_in".into()),
        ("IEXEC_OUT", "/iexec_out".into()),
        ("IEXEC_BOT_SIZE", deal.bot_size.to_string()),
        ("IEXEC_BOT_FIRST_INDEX", deal.bot_first.to_string()),
        ("IEXEC_BOT_TASK_INDEX", assignment.index.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The answer to a deal whose result is pushed to a contract.
fn callback(folder: &Folder, data: &[u8]) -> Result<Answer, Trouble> {
    folder.keep_callback(data).map_err(|e| Trouble::disk(folder.path(), &e))?;
    Ok(Answer { digest: callback_digest(data), file: CALLBACK.into() })
}

/// What a run amounts to.
async fn judge(folder: &Folder, report: Report, has_callback: bool) -> Result<Answer, Trouble> {
    match report.outcome {
        Outcome::Exited { code } => ended(folder, code, &report.stderr.text(), has_callback).await,
        Outcome::Trapped { .. }
        | Outcome::OutOfFuel { .. }
        | Outcome::OutOfMemory { .. }
        | Outcome::OutputTooLarge { .. }
        | Outcome::InvalidModule { .. } => Err(app_failed(report.outcome.to_string(), &report.stderr.text())),
        Outcome::TimedOut { .. } => {
            Err(here(Status::ComputeFailed, CauseCode::AppComputeTimeout, report.outcome.to_string()))
        }
        Outcome::Cancelled => Err(Trouble::Cancelled),
    }
}

/// An app that ended by itself is judged by what it left, whatever its exit code.
async fn ended(folder: &Folder, code: i32, stderr: &str, has_callback: bool) -> Result<Answer, Trouble> {
    let out = folder.output();
    let read = tokio::task::spawn_blocking(move || output::Output::read(&out)).await;
    match read.map_err(|e| here(Status::Failed, CauseCode::Unknown, format!("reading the output failed: {e}")))? {
        Ok(output) => {
            let other =
                |text| Trouble::Alike(Status::ComputeFailed, Failure::new(CauseCode::DeterminismHashNotFound, text));
            match (&output.plan, has_callback) {
                (Plan::Callback(data), true) => callback(folder, data),
                (Plan::Output(path), false) => {
                    let file = single_file(folder, path).ok_or_else(|| other(ONE_FILE))?;
                    Ok(Answer { digest: output.digest, file })
                }
                (Plan::Output(_), true) => Err(other(DATA)),
                (Plan::Callback(_), false) => Err(other(ONE_FILE)),
            }
        }
        Err(output::Error::App(error)) if code == 0 => {
            let failure = Failure::new(CauseCode::DeterminismHashNotFound, with_last_words(error.to_string(), stderr));
            Err(Trouble::Alike(Status::ComputeFailed, failure))
        }
        Err(output::Error::App(error)) => Err(app_failed(format!("{EXITED}{code}: {error}"), stderr)),
        Err(output::Error::Io { path, source }) => Err(Trouble::disk(&path, &source)),
    }
}

fn app_failed(what: String, stderr: &str) -> Trouble {
    let failure = Failure::new(CauseCode::AppComputeFailed, with_last_words(what, stderr));
    Trouble::Alike(Status::ComputeFailed, failure)
}

/// What the app printed last tells its user most. It is the same everywhere, like all that the app does.
fn with_last_words(what: String, stderr: &str) -> String {
    match stderr.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{what}; it said: {}", line.trim().chars().take(200).collect::<String>()),
        None => what,
    }
}

/// The path of the result below the task's folder, if it is one file.
fn single_file(folder: &Folder, path: &OutputPath) -> Option<String> {
    let file: Vec<_> = std::iter::once(OUT).chain(path.components().iter().map(String::as_str)).collect();
    let file = file.join("/");
    std::fs::symlink_metadata(folder.path().join(&file)).ok()?.is_file().then_some(file)
}

fn engine_fault(error: wasm::Error) -> Trouble {
    match &error {
        wasm::Error::Folder { path, source } | wasm::Error::Output { path, source } => Trouble::disk(path, source),
        wasm::Error::DiskFull => Trouble::disk(std::path::Path::new(""), &std::io::ErrorKind::StorageFull.into()),
        wasm::Error::Engine(_) | wasm::Error::Thread(_) => {
            here(Status::ComputeFailed, CauseCode::Unknown, error.to_string())
        }
    }
}

#[cfg(test)]
mod tests;
