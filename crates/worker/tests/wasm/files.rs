//! Two folders, and no way out of them.

use crate::rig::{Rig, command, exits_with};
use bourse_worker::wasm::Error;
use std::{fs, os::unix::fs::symlink, process::Command};

/// Opens `path` (string 0) under a folder, with open flags and rights; the error number.
fn open(folder: i32, path: &str, flags: i32, rights: i32) -> String {
    let length = path.len();
    exits_with(
        &[path],
        &format!(
            "(call $path_open (i32.const {folder}) (i32.const 1) (i32.const 64) (i32.const {length}) (i32.const {flags})
                (i64.const {rights}) (i64.const {rights}) (i32.const 0) (i32.const 0))"
        ),
    )
}

const IN: i32 = 3;
const OUT: i32 = 4;
const READ: i32 = 2;
const READ_WRITE: i32 = 66;
const CREATE: i32 = 1;

#[tokio::test]
async fn input_is_read_and_output_is_written() {
    let body = r#"
        (call $check (call $path_open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 0)
            (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 0)))
        (i32.store (i32.const 8) (i32.const 1000)) (i32.store (i32.const 12) (i32.const 5))
        (call $check (call $fd_read (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i32.const 16)))
        (call $check (call $write (call $create (i32.const 128) (i32.const 4)) (i32.const 1000) (i32.load (i32.const 16))))"#;
    let rig = Rig::new(&command(&["data", "copy"], body));
    fs::write(rig.job.input_dir.join("data"), "hello").unwrap();
    assert!(rig.outcome().await.is_success());
    assert_eq!(fs::read_to_string(rig.out("copy")).unwrap(), "hello");
}

#[tokio::test]
async fn no_path_leads_out_of_the_folders() {
    for (path, folder) in
        [("../secret", IN), ("../secret", OUT), ("a/../../secret", IN), ("/etc/passwd", IN), ("..", OUT)]
    {
        let rig = Rig::new(&open(folder, path, 0, READ));
        fs::write(rig.folder.path().join("secret"), "of the worker").unwrap();
        fs::create_dir(rig.job.input_dir.join("a")).unwrap();
        assert_ne!(rig.code().await, 0, "{path}");
    }
    for path in ["../made", "/tmp/made"] {
        let rig = Rig::new(&open(OUT, path, CREATE, READ_WRITE));
        assert_ne!(rig.code().await, 0, "{path}");
        assert!(!rig.folder.path().join("made").exists());
    }
}

#[tokio::test]
async fn a_link_among_the_input_does_not_lead_out() {
    for target in ["../secret", "/etc/passwd"] {
        let rig = Rig::new(&open(IN, "link", 0, READ));
        fs::write(rig.folder.path().join("secret"), "of the worker").unwrap();
        symlink(target, rig.job.input_dir.join("link")).unwrap();
        assert_ne!(rig.code().await, 0, "{target}");
    }
}

#[tokio::test]
async fn input_cannot_be_changed() {
    let calls = [
        open(IN, "data", 0, READ_WRITE),
        open(IN, "new", CREATE, READ_WRITE),
        open(IN, "data", 8, READ_WRITE),
        exits_with(&["data"], "(call $unlink (i32.const 3) (i32.const 64) (i32.const 4))"),
        exits_with(&["new"], "(call $mkdir (i32.const 3) (i32.const 64) (i32.const 3))"),
        exits_with(
            &["data"],
            "(call $rename (i32.const 3) (i32.const 64) (i32.const 4) (i32.const 4) (i32.const 64) (i32.const 4))",
        ),
    ];
    for call in calls {
        let rig = Rig::new(&call);
        fs::write(rig.job.input_dir.join("data"), "hello").unwrap();
        assert_ne!(rig.code().await, 0, "{call}");
        assert_eq!(fs::read_to_string(rig.job.input_dir.join("data")).unwrap(), "hello");
        assert_eq!(fs::read_dir(&rig.job.input_dir).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn links_cannot_be_made() {
    const PERM: i32 = 63;
    let soft = "(call $symlink (i32.const 64) (i32.const 4) (i32.const 4) (i32.const 128) (i32.const 4))";
    let hard = "(call $link (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 4) (i32.const 128) (i32.const 4))";
    for call in [soft, hard] {
        let rig = Rig::new(&exits_with(&["data", "link"], call));
        fs::write(rig.job.input_dir.join("data"), "hello").unwrap();
        assert_eq!(rig.code().await, PERM);
        assert_eq!(fs::read_dir(&rig.job.output_dir).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn standard_streams_keep_their_numbers() {
    const NOTSUP: i32 = 58;
    // Closing stdout frees no number: the next file does not become it, so its bytes count as output.
    let body = "(call $check (call $fd_close (i32.const 1)))
        (call $exit (i32.lt_s (call $create (i32.const 64) (i32.const 1)) (i32.const 5)))";
    assert_eq!(Rig::new(&command(&["f"], body)).code().await, 0);
    let renumber = "(call $fd_renumber (call $create (i32.const 64) (i32.const 1)) (i32.const 1))";
    assert_eq!(Rig::new(&exits_with(&["f"], renumber)).code().await, NOTSUP);
}

#[tokio::test]
async fn a_full_disk_is_this_machines_fault() {
    let body = "(local $fd i32)
        (local.set $fd (call $create (i32.const 64) (i32.const 5)))
        (loop $again (call $check (call $write (local.get $fd) (i32.const 0) (i32.const 60000))) (br $again))";
    let rig = Rig::new(&command(&["flood"], body));
    let Some(_disk) = SmallDisk::mount(&rig) else { return };
    let error = rig.try_run().await.unwrap_err();
    assert!(matches!(error, Error::DiskFull), "{error}");
}

/// A tmpfs of 256 KiB over the output folder, until dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(rig: &Rig) -> Option<Self> {
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "bourse-test"])
            .arg(&rig.job.output_dir)
            .output()
            .expect("mount exists on every Linux");
        if done.status.success() {
            return Some(Self(rig.job.output_dir.clone()));
        }
        let reason = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(std::env::var_os("CI").is_none(), "cannot mount a small disk: {reason}");
        eprintln!("skipped: cannot mount a small disk, which needs root: {reason}");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.0).status().expect("umount exists on every Linux");
        assert!(done.success(), "umount {}", self.0.display());
    }
}
