//! What the module sees of the world: WASI preview 1, with the calls replaced that cost something or could tell machines apart.
//!
//! Files are wasmtime-wasi's, which keeps every path inside the folder it was opened in. On top of it: bytes and files
//! are counted before they are written, links cannot be made, standard streams go to memory, nothing waits for the disk,
//! and clocks, sleep and random numbers are functions of the job.

use super::{Console, Error, Job, Limits};
use sha2::{Digest, Sha256};
use std::path::Path;
use wasmtime::{Caller, Extern, Linker, ResourceLimiter};
use wasmtime_wasi::{
    FsPerms, WasiCtxBuilder,
    p1::{self, WasiP1Ctx, wasi_snapshot_preview1 as wasi},
};
use wiggle::GuestMemory;

mod clock;

/// Name under which modules import the system.
const WASI: &str = "wasi_snapshot_preview1";
/// Files and folders that may be open at once: they are this process's own descriptors.
const OPEN_FILES: u32 = 64;
/// Buffers that one write may name.
const BUFFERS: u32 = 1_024;
/// Most random bytes in one call.
const RANDOM: u32 = 1 << 20;
/// Most table elements (function pointers) in one table.
const TABLE: usize = 1 << 20;
/// Flags of `path_open` that make each write wait for the disk: dsync, rsync, sync.
const SYNC_FLAGS: i32 = 0b1_1010;
/// Flag of `path_open` that creates the file.
const CREATE: i32 = 1;

/// Error numbers of WASI preview 1.
mod errno {
    pub(super) const SUCCESS: i32 = 0;
    pub(super) const FAULT: i32 = 21;
    pub(super) const INVAL: i32 = 28;
    pub(super) const NOSPC: i32 = 51;
    pub(super) const NOTSUP: i32 = 58;
    pub(super) const PERM: i32 = 63;
}

/// Why the sandbox ended the module.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error("exit code {0}")]
    Exit(i32),
    #[error("memory limit reached")]
    Memory,
    #[error("{0}")]
    Output(String),
    #[error("it holds more than {OPEN_FILES} files open at once")]
    OpenFiles,
    #[error("disk full")]
    DiskFull,
}

/// State of one run: the system as the module has left it, and what is left of its limits.
pub(super) struct Guest {
    wasi: WasiP1Ctx,
    limits: Limits,
    written: u64,
    created: u32,
    open: u32,
    stdout: Console,
    stderr: Console,
    clock: clock::Clock,
    random: Random,
}

impl Guest {
    pub(super) fn new(job: &Job, limits: &Limits) -> Result<Self, Error> {
        let mut builder = WasiCtxBuilder::new();
        // The run has a thread of its own: no need for a second one per call.
        builder.allow_blocking_current_thread(true).args(&job.args);
        for (name, value) in &job.env {
            builder.env(name, value);
        }
        mount(&mut builder, &job.input_dir, "/iexec_in", FsPerms::ReadOnly)?;
        mount(&mut builder, &job.output_dir, "/iexec_out", FsPerms::ReadWrite)?;
        Ok(Self {
            wasi: builder.build_p1(),
            limits: limits.clone(),
            written: 0,
            created: 0,
            open: 0,
            stdout: Console::default(),
            stderr: Console::default(),
            clock: clock::Clock::new(job.started_at),
            random: Random::new(job.env.get("IEXEC_TASK_ID").map_or("", String::as_str)),
        })
    }

    pub(super) fn into_consoles(self) -> (Console, Console) {
        (self.stdout, self.stderr)
    }

    fn reserve_bytes(&self, bytes: u64) -> Result<(), Stop> {
        match self.written.checked_add(bytes) {
            Some(total) if total <= self.limits.output_bytes => Ok(()),
            _ => Err(Stop::Output(format!("{} bytes", self.limits.output_bytes))),
        }
    }

    fn create(&mut self) -> Result<(), Stop> {
        if self.created == self.limits.output_files {
            return Err(Stop::Output(format!("{} files and folders", self.limits.output_files)));
        }
        self.created += 1;
        Ok(())
    }
}

fn mount(builder: &mut WasiCtxBuilder, host: &Path, guest: &str, perms: FsPerms) -> Result<(), Error> {
    let folder = |source| Error::Folder { path: host.to_owned(), source };
    if !std::fs::symlink_metadata(host).map_err(folder)?.is_dir() {
        return Err(folder(std::io::ErrorKind::NotADirectory.into()));
    }
    builder.preopened_dir(host, guest, perms).map_err(|error| folder(std::io::Error::other(error.to_string())))?;
    Ok(())
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false); // the module's own limit: it hears about it
        }
        if desired > self.limits.memory_bytes { Err(Stop::Memory.into()) } else { Ok(true) }
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE)
    }

    fn tables(&self) -> usize {
        16
    }
}

/// The imports of a module.
pub(super) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    p1::add_to_linker_async(&mut linker, |guest: &mut Guest| &mut guest.wasi)?;
    linker.allow_shadowing(true);
    link_writes(&mut linker)?;
    link_paths(&mut linker)?;
    clock::link(&mut linker)?;
    linker.func_wrap(WASI, "random_get", random_get)?;
    linker.func_wrap(WASI, "proc_exit", |code: i32| -> wasmtime::Result<()> { Err(Stop::Exit(code).into()) })?;
    Ok(linker)
}

fn link_writes(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap_async(WASI, "fd_write", |mut caller: Caller<'_, Guest>, args: (i32, i32, i32, i32)| {
        Box::new(async move { fd_write(&mut caller, args).await })
    })?;
    linker.func_wrap_async(WASI, "fd_pwrite", |mut caller: Caller<'_, Guest>, args: (i32, i32, i32, i64, i32)| {
        Box::new(async move { fd_pwrite(&mut caller, args).await })
    })?;
    linker.func_wrap_async(WASI, "fd_filestat_set_size", |mut caller: Caller<'_, Guest>, (fd, size): (i32, i64)| {
        Box::new(async move {
            let (mut memory, guest) = split(&mut caller)?;
            // A hole costs no disk yet: the size counts at the end of the run.
            if size as u64 > guest.limits.output_bytes {
                guest.reserve_bytes(size as u64)?;
            }
            let answer = wasi::fd_filestat_set_size(&mut guest.wasi, &mut memory, fd, size).await?;
            checked(answer)
        })
    })?;
    // Waiting for the disk gives the app nothing, and would let it slow down everybody else's.
    linker.func_wrap(WASI, "fd_sync", |_: i32| errno::SUCCESS)?;
    linker.func_wrap(WASI, "fd_datasync", |_: i32| errno::SUCCESS)?;
    Ok(())
}

async fn fd_write(caller: &mut Caller<'_, Guest>, args: (i32, i32, i32, i32)) -> wasmtime::Result<i32> {
    let (fd, buffers, count, written) = args;
    let (bytes, guest) = memory(caller)?;
    let Some((start, length)) = first_buffer(bytes, buffers, count) else { return Ok(errno::INVAL) };
    if fd == 1 || fd == 2 {
        let console = if fd == 1 { &mut guest.stdout } else { &mut guest.stderr };
        let Some(text) = slice(bytes, start, length) else { return Ok(errno::FAULT) };
        console.append(text, guest.limits.console_bytes);
        return Ok(store(bytes, written, &length.to_le_bytes()));
    }
    guest.reserve_bytes(length.into())?;
    let (mut memory, guest) = split(caller)?;
    let answer = wasi::fd_write(&mut guest.wasi, &mut memory, fd, buffers, count, written).await?;
    guest.wrote(length, answer)
}

async fn fd_pwrite(caller: &mut Caller<'_, Guest>, args: (i32, i32, i32, i64, i32)) -> wasmtime::Result<i32> {
    let (fd, buffers, count, offset, written) = args;
    let (bytes, guest) = memory(caller)?;
    let Some((_, length)) = first_buffer(bytes, buffers, count) else { return Ok(errno::INVAL) };
    guest.reserve_bytes(length.into())?;
    let (mut memory, guest) = split(caller)?;
    let answer = wasi::fd_pwrite(&mut guest.wasi, &mut memory, fd, buffers, count, offset, written).await?;
    guest.wrote(length, answer)
}

impl Guest {
    fn wrote(&mut self, length: u32, answer: i32) -> wasmtime::Result<i32> {
        if answer == errno::SUCCESS {
            self.written += u64::from(length);
        }
        checked(answer)
    }
}

type PathOpen = (i32, i32, i32, i32, i32, i64, i64, i32, i32);

fn link_paths(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap_async(WASI, "path_open", |mut caller: Caller<'_, Guest>, args: PathOpen| {
        Box::new(async move { path_open(&mut caller, args).await })
    })?;
    linker.func_wrap_async(WASI, "fd_close", |mut caller: Caller<'_, Guest>, (fd,): (i32,)| {
        Box::new(async move {
            if (0..=2).contains(&fd) {
                return Ok(errno::SUCCESS); // these numbers stay the standard streams
            }
            let (mut memory, guest) = split(&mut caller)?;
            let answer = wasi::fd_close(&mut guest.wasi, &mut memory, fd).await?;
            guest.open = guest.open.saturating_sub(u32::from(answer == errno::SUCCESS));
            Ok(answer)
        })
    })?;
    linker.func_wrap_async(WASI, "path_create_directory", |mut caller: Caller<'_, Guest>, args: (i32, i32, i32)| {
        Box::new(async move {
            let (mut memory, guest) = split(&mut caller)?;
            guest.create()?;
            let (fd, path, length) = args;
            checked(wasi::path_create_directory(&mut guest.wasi, &mut memory, fd, path, length).await?)
        })
    })?;
    // Whoever reads the output later must not be led elsewhere.
    linker.func_wrap(WASI, "path_symlink", |_: i32, _: i32, _: i32, _: i32, _: i32| errno::PERM)?;
    linker.func_wrap(WASI, "path_link", |_: i32, _: i32, _: i32, _: i32, _: i32, _: i32, _: i32| errno::PERM)?;
    linker.func_wrap(WASI, "fd_renumber", |_: i32, _: i32| errno::NOTSUP)?;
    Ok(())
}

async fn path_open(caller: &mut Caller<'_, Guest>, args: PathOpen) -> wasmtime::Result<i32> {
    let (fd, lookup, path, length, open_flags, rights, inheriting, flags, opened) = args;
    let (mut memory, guest) = split(caller)?;
    if guest.open == OPEN_FILES {
        return Err(Stop::OpenFiles.into());
    }
    if open_flags & CREATE != 0 {
        guest.create()?;
    }
    let flags = flags & !SYNC_FLAGS;
    let wasi = &mut guest.wasi;
    let answer =
        wasi::path_open(wasi, &mut memory, fd, lookup, path, length, open_flags, rights, inheriting, flags, opened)
            .await?;
    guest.open += u32::from(answer == errno::SUCCESS);
    checked(answer)
}

/// A full disk is this machine's fault: the module must not go on and make an answer of it.
fn checked(answer: i32) -> wasmtime::Result<i32> {
    if answer == errno::NOSPC { Err(Stop::DiskFull.into()) } else { Ok(answer) }
}

/// Random numbers that every worker gives alike: sha2-256 of the task and a counter.
struct Random {
    seed: [u8; 32],
    block: u64,
}

impl Random {
    fn new(task: &str) -> Self {
        Self { seed: Sha256::digest([b"random numbers of task ", task.as_bytes()].concat()).into(), block: 0 }
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(32) {
            let mut hash = Sha256::new_with_prefix(self.seed);
            hash.update(self.block.to_le_bytes());
            part.copy_from_slice(&hash.finalize()[..part.len()]);
            self.block += 1;
        }
    }
}

fn random_get(mut caller: Caller<'_, Guest>, start: i32, length: i32) -> wasmtime::Result<i32> {
    let (bytes, guest) = memory(&mut caller)?;
    let length = length as u32;
    if length > RANDOM {
        return Ok(errno::INVAL);
    }
    match bytes.get_mut(start as u32 as usize..).and_then(|bytes| bytes.get_mut(..length as usize)) {
        Some(target) => guest.random.fill(target),
        None => return Ok(errno::FAULT),
    }
    Ok(errno::SUCCESS)
}

/// The module's memory and the state of its run.
fn memory<'a>(caller: &'a mut Caller<'_, Guest>) -> wasmtime::Result<(&'a mut [u8], &'a mut Guest)> {
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory.data_and_store_mut(caller)),
        _ => Err(wasmtime::Error::msg("it exports no memory")),
    }
}

/// The same, ready for a call into wasmtime-wasi, which bounds what one call may copy.
fn split<'a>(caller: &'a mut Caller<'_, Guest>) -> wasmtime::Result<(GuestMemory<'a>, &'a mut Guest)> {
    use wasi::WasiSnapshotPreview1 as _;
    let fuel = wasmtime::AsContextMut::as_context_mut(caller).hostcall_fuel();
    let (bytes, guest) = memory(caller)?;
    guest.wasi.set_hostcall_fuel(fuel);
    Ok((GuestMemory::Unshared(bytes), guest))
}

fn slice(bytes: &[u8], start: u32, length: u32) -> Option<&[u8]> {
    bytes.get(start as usize..)?.get(..length as usize)
}

fn read_u32(bytes: &[u8], at: u32) -> Option<u32> {
    slice(bytes, at, 4).map(|word| u32::from_le_bytes(word.try_into().expect("4 bytes")))
}

fn read_u64(bytes: &[u8], at: u32) -> Option<u64> {
    slice(bytes, at, 8).map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")))
}

/// Stores `value` at `at`; the error number of doing so.
fn store(bytes: &mut [u8], at: i32, value: &[u8]) -> i32 {
    match bytes.get_mut(at as u32 as usize..).and_then(|bytes| bytes.get_mut(..value.len())) {
        Some(target) => {
            target.copy_from_slice(value);
            errno::SUCCESS
        }
        None => errno::FAULT,
    }
}

/// Start and length of the first buffer that is not empty: the one that a write call writes.
fn first_buffer(bytes: &[u8], buffers: i32, count: i32) -> Option<(u32, u32)> {
    let count = count as u32;
    if count > BUFFERS {
        return None;
    }
    for index in 0..count {
        let at = (buffers as u32).checked_add(index * 8)?;
        let (start, length) = (read_u32(bytes, at)?, read_u32(bytes, at.checked_add(4)?)?);
        if length > 0 {
            return Some((start, length));
        }
    }
    Some((0, 0))
}
