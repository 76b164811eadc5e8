//! Modules compiled once per process, whoever asks: at most one at a time, the last few kept in memory.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use wasmtime::{Config, Module};

/// Compiled modules that are kept; the one not used for longest goes first.
const KEPT: usize = 8;

pub(super) struct Compiler {
    engine: wasmtime::Engine,
    cache: Arc<Mutex<Cache>>,
    one_at_a_time: Arc<tokio::sync::Mutex<()>>,
}

/// Why there is no compiled module.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is no module.
    Invalid(wasmtime::Error),
    /// It takes longer than it may.
    TooSlow,
    /// The compiler panicked.
    Died(tokio::task::JoinError),
}

impl Compiler {
    pub(super) fn new() -> wasmtime::Result<Self> {
        let cache = Arc::new(Mutex::new(Cache::default()));
        Ok(Self { engine: wasmtime::Engine::new(&config())?, cache, one_at_a_time: Arc::default() })
    }

    pub(super) fn engine(&self) -> &wasmtime::Engine {
        &self.engine
    }

    /// The compiled module, or why there is none. Waiting for another module's turn to end does not count against `limit`.
    /// A caller that stops waiting does not stop the compilation: the turn ends with it.
    pub(super) async fn compile(&self, bytes: Bytes, limit: Duration) -> Result<Module, Failure> {
        let key: Key = Sha256::digest(&bytes).into();
        if let Some(module) = self.cached(&key) {
            return Ok(module);
        }
        let turn = self.one_at_a_time.clone().lock_owned().await;
        if let Some(module) = self.cached(&key) {
            return Ok(module);
        }
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        let compiling = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let module = Module::from_binary(&engine, &bytes)?;
            lock(&cache).insert(key, module.clone());
            Ok(module)
        });
        match tokio::time::timeout(limit, compiling).await {
            Ok(Ok(compiled)) => compiled.map_err(Failure::Invalid),
            Ok(Err(died)) => Err(Failure::Died(died)),
            Err(_) => Err(Failure::TooSlow),
        }
    }

    fn cached(&self, key: &Key) -> Option<Module> {
        lock(&self.cache).get(key)
    }
}

/// Everything that could make two machines disagree is off; what an app has no use for is off too.
fn config() -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .wasm_relaxed_simd(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        // No backtraces are shown: the tables for them would only take memory.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false);
    config
}

type Key = [u8; 32];

#[derive(Default)]
struct Cache(Vec<(Key, Module)>);

impl Cache {
    fn get(&mut self, key: &Key) -> Option<Module> {
        let found = self.0.iter().position(|(other, _)| other == key)?;
        let entry = self.0.remove(found);
        let module = entry.1.clone();
        self.0.push(entry);
        Some(module)
    }

    fn insert(&mut self, key: Key, module: Module) {
        if self.0.len() == KEPT {
            self.0.remove(0);
        }
        self.0.push((key, module));
    }
}

fn lock(cache: &Mutex<Cache>) -> std::sync::MutexGuard<'_, Cache> {
    cache.lock().expect("no code panics while it holds the cache")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn module(id: usize) -> Bytes {
        wat::parse_str(format!("(module (func (export \"_start\") (drop (i32.const {id}))))")).unwrap().into()
    }

    #[tokio::test]
    async fn workers_that_ask_at_once_share_one_compilation() {
        let compiler = Compiler::new().unwrap();
        let all = futures_util::future::join_all((0..3).map(|_| compiler.compile(module(1), HOUR))).await;
        assert_eq!(lock(&compiler.cache).0.len(), 1);
        // Clones of one compilation share their code.
        let ranges: Vec<_> = all.into_iter().map(|result| result.unwrap().image_range()).collect();
        assert!(ranges.iter().all(|range| *range == ranges[0]), "{ranges:?}");
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_leaves_a_compiled_module_behind() {
        let compiler = Compiler::new().unwrap();
        // Takes far longer to compile than this test to look away.
        let loops = "(loop (br_if 0 (i32.const 0)))".repeat(5_000);
        let slow = wat::parse_str(format!("(module (func (export \"_start\") {loops}))")).unwrap();
        let ask = || compiler.compile(slow.clone().into(), Duration::ZERO);
        assert!(matches!(ask().await, Err(Failure::TooSlow)));
        // The next caller waits for that turn to end, then needs no time of its own.
        assert!(ask().await.is_ok());
    }

    #[tokio::test]
    async fn the_cache_keeps_the_modules_used_last() {
        let compiler = Compiler::new().unwrap();
        for id in 0..=KEPT {
            compiler.compile(module(id), HOUR).await.unwrap();
            compiler.compile(module(0), HOUR).await.unwrap();
        }
        let cached = |id| compiler.cached(&Sha256::digest(module(id)).into()).is_some();
        assert!(cached(0) && cached(KEPT));
        assert!(!cached(1));
        assert_eq!(lock(&compiler.cache).0.len(), KEPT);
    }
}
