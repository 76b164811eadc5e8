//! One run in fresh folders, and the frame of a small module.

use bourse_worker::wasm::{Engine, Error, Job, Limits, Outcome, Report};
use std::{collections::BTreeMap, path::PathBuf};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) const TASK: &str = "0x1111111111111111111111111111111111111111111111111111111111111111";

/// Folders of one run, gone with the value.
pub(crate) struct Rig {
    pub(crate) folder: TempDir,
    pub(crate) limits: Limits,
    pub(crate) job: Job,
}

impl Rig {
    /// A run of a module in text form.
    pub(crate) fn new(text: &str) -> Self {
        Self::binary(wat::parse_str(text).unwrap())
    }

    pub(crate) fn binary(module: Vec<u8>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (input_dir, output_dir) = (folder.path().join("in"), folder.path().join("out"));
        std::fs::create_dir(&input_dir).unwrap();
        std::fs::create_dir(&output_dir).unwrap();
        let env = BTreeMap::from([
            ("IEXEC_IN".into(), "/iexec_in".into()),
            ("IEXEC_OUT".into(), "/iexec_out".into()),
            ("IEXEC_TASK_ID".into(), TASK.into()),
        ]);
        let job =
            Job { module: module.into(), args: vec!["app".into()], env, started_at: 1_000, input_dir, output_dir };
        Self { folder, limits: Limits::default(), job }
    }

    pub(crate) fn out(&self, name: &str) -> PathBuf {
        self.job.output_dir.join(name)
    }

    pub(crate) async fn try_run(&self) -> Result<Report, Error> {
        Engine::new().unwrap().run(self.job.clone(), self.limits.clone(), CancellationToken::new()).await
    }

    pub(crate) async fn run(&self) -> Report {
        self.try_run().await.unwrap()
    }

    pub(crate) async fn outcome(&self) -> Outcome {
        self.run().await.outcome
    }

    /// The exit code of a module made by [`exits_with`].
    pub(crate) async fn code(&self) -> i32 {
        match self.outcome().await {
            Outcome::Exited { code } => code,
            other => panic!("did not exit: {other}"),
        }
    }
}

/// A command whose `_start` is `body`. Offset 0 to 63 of its memory is scratch; `strings` follow from 64, each in 64 bytes.
pub(crate) fn command(strings: &[&str], body: &str) -> String {
    let data: String =
        strings.iter().enumerate().map(|(i, text)| format!("(data (i32.const {}) {text:?})\n", 64 + 64 * i)).collect();
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_pwrite" (func $fd_pwrite (param i32 i32 i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_renumber" (func $fd_renumber (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $set_size (param i32 i64) (result i32)))
        (import "wasi_snapshot_preview1" "path_open"
            (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_link" (func $link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_rename" (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 16)
        {data}
        ;; Opens /iexec_out/<path> for reading and writing, creating it; the descriptor.
        (func $create (param $path i32) (param $length i32) (result i32)
            (call $check (call $path_open (i32.const 4) (i32.const 0) (local.get $path) (local.get $length)
                (i32.const 1) (i64.const 66) (i64.const 66) (i32.const 0) (i32.const 0)))
            (i32.load (i32.const 0)))
        ;; Writes $length bytes from $start; the error number.
        (func $write (param $fd i32) (param $start i32) (param $length i32) (result i32)
            (i32.store (i32.const 8) (local.get $start))
            (i32.store (i32.const 12) (local.get $length))
            (call $fd_write (local.get $fd) (i32.const 8) (i32.const 1) (i32.const 16)))
        (func $check (param $errno i32)
            (if (local.get $errno) (then (call $exit (local.get $errno)))))
        (func (export "_start") {body})
    )"#
    )
}

/// A command that ends with the value of `expression` as its exit code.
pub(crate) fn exits_with(strings: &[&str], expression: &str) -> String {
    command(strings, &format!("(call $exit {expression})"))
}
