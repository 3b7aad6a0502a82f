//! The floor of local calls: wasmtime alone, with the settings, the limits and the WASI of GVM's engine.
//!
//! In: the component; requests. Out: times. The settings repeat those of `gvm-host/src/engine/config.rs` and
//! `instance.rs`; a change there belongs here too. Must not know: GVM.

use std::time::{Duration, Instant};

use gvm_host::limits;
use wasmtime::component::{Component, ComponentExportIndex, Func, InstancePre, Linker, ResourceTable, Val};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, ResourceLimiter, Store,
};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::ours::nanos;
use super::worker::serve;

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    limiter: Limiter,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

struct Limiter {
    left: usize,
}

impl Limiter {
    fn grow(&mut self, more: usize) -> bool {
        let left = self.left.checked_sub(more);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, from: usize, to: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(to - from))
    }

    fn table_growing(&mut self, from: usize, to: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow((to - from) * size_of::<usize>()))
    }
}

fn engine() -> (Engine, bool) {
    let mut pool = PoolingAllocationConfig::new();
    let bookkeeping = limits::BOOKKEEPING as usize + limits::BOOKKEEPING_MARGIN;
    pool.total_core_instances(4000)
        .total_component_instances(1000)
        .total_memories(1000)
        .total_tables(4000)
        .total_stacks(1000)
        .max_memories_per_module(limits::MEMORIES as u32)
        .max_tables_per_module(limits::TABLES as u32)
        .table_elements(limits::TABLE_ELEMENTS)
        .max_core_instance_size(bookkeeping)
        .max_component_instance_size(bookkeeping)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        .async_stack_keep_resident(KEEP_RESIDENT);
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(limits::WASM_STACK)
        .async_stack_size(limits::FIBRE_STACK);
    let scanning = pool.clone().pagemap_scan(Enabled::Yes).clone();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(scanning));
    if let Ok(engine) = Engine::new(&config) {
        return (engine, true);
    }
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    (Engine::new(&config).unwrap(), false)
}

/// The best size with PAGEMAP_SCAN for this component.
const KEEP_RESIDENT: usize = 64 << 10;

struct Raw {
    engine: Engine,
    ready: InstancePre<State>,
    add: ComponentExportIndex,
}

impl Raw {
    async fn instance(&self) -> (Store<State>, Func) {
        let wasi = WasiCtxBuilder::new().build();
        let limiter = Limiter { left: limits::MEMORY as usize };
        let mut store = Store::new(&self.engine, State { wasi, table: ResourceTable::new(), limiter });
        store.limiter(|state| &mut state.limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store.set_hostcall_fuel(limits::HOSTCALL_FUEL);
        let instance = self.ready.instantiate_async(&mut store).await.unwrap();
        let add = instance.get_func(&mut store, self.add).unwrap();
        (store, add)
    }

    async fn fresh(&self, n: i32) {
        let (mut store, func) = self.instance().await;
        add(&mut store, func, n).await;
    }
}

async fn add(store: &mut Store<State>, add: Func, n: i32) {
    let mut sum = [Val::S32(0)];
    add.call_async(store, &[Val::S32(n), Val::S32(1)], &mut sum).await.unwrap();
    assert_eq!(sum[0], Val::S32(n.wrapping_add(1)));
}

/// Answers requests until standard input ends.
pub fn work(component: &std::path::Path) {
    let (engine, scanning) = engine();
    let component = Component::from_file(&engine, component).unwrap();
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    let ready = linker.instantiate_pre(&component).unwrap();
    let add_index = component.get_export_index(None, "add").unwrap();
    let ticked = engine.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(limits::TICK);
            ticked.increment_epoch();
        }
    });
    let raw = std::sync::Arc::new(Raw { engine, ready, add: add_index });
    let waiting = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let workers = tokio::runtime::Runtime::new().unwrap();
    let (mut store, live) = waiting.block_on(raw.instance());
    serve(if scanning { "" } else { "without PAGEMAP_SCAN" }, |request, numbers| {
        let (calls, batch) = (numbers[0], numbers[1]);
        Ok(match request {
            "live" => waiting.block_on(async {
                let mut times = Vec::new();
                for _ in 0..calls / batch {
                    let began = Instant::now();
                    for n in 0..batch as i32 {
                        add(&mut store, live, n).await;
                    }
                    times.push(nanos(began) / batch as f64);
                }
                times
            }),
            "fresh" => waiting.block_on(async {
                let mut times = Vec::new();
                for _ in 0..calls / batch {
                    let began = Instant::now();
                    for n in 0..batch as i32 {
                        raw.fresh(n).await;
                    }
                    times.push(nanos(began) / batch as f64);
                }
                times
            }),
            // `batch` tasks at once.
            "tasks" => workers.block_on(async {
                let began = Instant::now();
                let tasks: Vec<_> = (0..batch)
                    .map(|_| {
                        let raw = raw.clone();
                        tokio::spawn(async move {
                            for n in 0..(calls / batch) as i32 {
                                raw.fresh(n).await;
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.unwrap();
                }
                vec![nanos(began) / calls as f64]
            }),
            _ => return Err(format!("{request} is unknown")),
        })
    });
    waiting.shutdown_timeout(Duration::from_millis(10));
}
