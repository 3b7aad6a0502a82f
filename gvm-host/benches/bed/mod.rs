//! What benchmarks of calls share: a guest, a node in this process with the guest, and raw wasmtime beside it.
//!
//! In: nothing. Out: a started node, the bytes of the guest, an engine of wasmtime that is configured as that of a node.
//! Must not know: what is measured.
#![allow(dead_code, reason = "each benchmark needs only a part of it")]

use std::path::Path;
use std::process::Command;

use gvm_host::daemon::server::{self, Server, Start};
use gvm_host::gpmd::control::Control;
use gvm_host::{
    Args, Call, Compiler, Config, Engine, EngineConfig, Handle, Home, Limits, ModuleRef, Name, NodeName,
    Stdio, Target, Value, limits, workers,
};
use wasmtime::component::{Component, Func, InstancePre, Linker, ResourceTable, Val};
use wasmtime::{
    Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, Store, StoreLimits, StoreLimitsBuilder,
};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// Builds the Rust component `values` of `tests/guests`, and returns its bytes.
pub fn guest() -> Vec<u8> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2", "-p", "values"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(sources);
    // Variables of the build of this benchmark must not affect the build of the guest.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let kept = ["CARGO_HOME", "CARGO_NET"].iter().any(|prefix| text.starts_with(prefix));
        if text.starts_with("CARGO_") && !kept || text == "RUSTFLAGS" {
            cargo.env_remove(&name);
        }
    }
    assert!(cargo.status().unwrap().success(), "the guest does not build");
    std::fs::read(target.join("wasm32-wasip2/release/values.wasm")).unwrap()
}

/// A node in this process, in a home of its own with a gpmd, and the guest as its module `values`.
pub struct Bed {
    pub node: Handle,
    home: Home,
    engine: Engine,
    _gpmd: Server,
    _folder: tempfile::TempDir,
}

impl Bed {
    pub fn start(guest: &[u8]) -> Bed {
        let folder = tempfile::Builder::new().prefix("gvm-").tempdir().unwrap();
        let home = Home::open(folder.path().join("home")).unwrap();
        let Start::Started(gpmd) = Server::start(server::Config::new(home.clone())).unwrap() else {
            panic!("the home has a gpmd already")
        };
        let control = Control::connect(&home).unwrap();
        control.upload(&name("values"), &semver::Version::new(1, 0, 0), guest, &mut |_| {}).unwrap();
        let compiler = Compiler::program(env!("CARGO_BIN_EXE_gvm-compile"));
        let engine = Engine::new(EngineConfig::new(home.compiled(), compiler));
        let config = Config::new(home.clone(), engine.clone());
        let node = workers().unwrap().block_on(Handle::start(config)).unwrap();
        Bed { node, home, engine, _gpmd: gpmd, _folder: folder }
    }

    /// Starts another node in this process.
    pub fn other(&self, called: &str) -> Handle {
        let config = Config::new(self.home.clone(), self.engine.clone()).name(name(called));
        workers().unwrap().block_on(Handle::start(config)).unwrap()
    }

    /// Makes a live instance of the guest.
    pub async fn spawn(&self) -> Name {
        self.node.spawn(None, Target::main(stored()), Limits::default()).await.unwrap()
    }
}

pub fn name<T: std::str::FromStr<Err = gvm_host::Error>>(name: &str) -> T {
    name.parse().unwrap()
}

pub fn stored() -> ModuleRef {
    ModuleRef::stored(name("values"))
}

/// Runs `add` in a module, through the node's handle, as its users do.
pub async fn add(node: &Handle, target: &Target) {
    add_at(node, None, target).await;
}

/// Does the same on another node, or on this one.
pub async fn add_at(node: &Handle, at: Option<NodeName>, target: &Target) {
    let call = Call::new(target.clone(), Args::Values(vec![Value::S32(1), Value::S32(2)])).want_type(false);
    let outcome = node.run(at, call, Stdio::new(&Limits::default())).await;
    assert_eq!(outcome.result.unwrap(), Some(Value::S32(3)));
}

/// What a store of raw wasmtime contains: the same WASI and the same limits as in a node.
pub struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    limits: StoreLimits,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// The guest in raw wasmtime.
pub struct Raw {
    engine: wasmtime::Engine,
    linked: InstancePre<State>,
}

/// How raw wasmtime gives memory to instances.
pub struct Sizes {
    pub pagemap_scan: bool,
    pub keep_memory: usize,
    pub keep_tables: usize,
}

/// The best sizes for this guest with `PAGEMAP_SCAN`.
pub const BEST: Sizes = Sizes { pagemap_scan: true, keep_memory: 1 << 20, keep_tables: 64 << 10 };

impl Raw {
    pub fn new(guest: &[u8], sizes: &Sizes) -> Raw {
        let mut pool = PoolingAllocationConfig::new();
        let scan = sizes.pagemap_scan && PoolingAllocationConfig::is_pagemap_scan_available();
        pool.pagemap_scan(if scan { Enabled::Yes } else { Enabled::No })
            .linear_memory_keep_resident(sizes.keep_memory)
            .table_keep_resident(sizes.keep_tables)
            .table_elements(limits::TABLE_ELEMENTS);
        let mut config = wasmtime::Config::new();
        config
            .concurrency_support(false)
            .epoch_interruption(true)
            .max_wasm_stack(limits::WASM_STACK)
            .async_stack_size(limits::FIBRE_STACK)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = wasmtime::Engine::new(&config).unwrap();
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
        let linked = linker.instantiate_pre(&Component::new(&engine, guest).unwrap()).unwrap();
        Raw { engine, linked }
    }

    /// Makes an instance, and finds its function `add`.
    pub async fn spawn(&self) -> (Store<State>, Func) {
        let state = State {
            wasi: WasiCtxBuilder::new().arg("values").build(),
            table: ResourceTable::new(),
            limits: StoreLimitsBuilder::new().memory_size(limits::MEMORY as usize).build(),
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limits);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let instance = self.linked.instantiate_async(&mut store).await.unwrap();
        let add = instance.get_func(&mut store, "add").unwrap();
        (store, add)
    }

    /// Runs `add` with dynamic values.
    pub async fn add(store: &mut Store<State>, add: &Func) {
        let mut results = [Val::Bool(false)];
        add.call_async(store, &[Val::S32(1), Val::S32(2)], &mut results).await.unwrap();
        assert_eq!(results, [Val::S32(3)]);
    }

    /// Runs `add` in a fresh instance.
    pub async fn fresh(&self) {
        let (mut store, add) = self.spawn().await;
        Raw::add(&mut store, &add).await;
    }
}
