//! The wasmtime engines of this process, and the clock that interrupts guests.
//!
//! In: a kind of engine. Out: a `wasmtime::Engine`, one per process and kind, whose epoch advances while calls run.
//! Must not know: modules, homes, nodes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Instant;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::base::error::{Error, Result};
use crate::base::limits;

/// A kind of engine: how its instances get memory, and whether its code counts fuel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Keeps slots ready for instances: a call takes a quarter of the time, and the first one 5 ms more. For nodes.
    pub pooling: bool,
    /// Code that counts fuel: 28 % slower. For calls with a fuel limit.
    pub fuel: bool,
}

/// An engine of the process, and the ticker of its epoch.
#[derive(Clone)]
pub(super) struct Clocked {
    pub engine: Engine,
    ticker: Arc<Ticker>,
}

impl Clocked {
    /// Returns the process's engine of this kind, and starts it if needed.
    pub fn get(kind: Kind) -> Result<Clocked> {
        static ENGINES: [OnceLock<Clocked>; 4] = [const { OnceLock::new() }; 4];
        let slot = &ENGINES[usize::from(kind.pooling) * 2 + usize::from(kind.fuel)];
        if let Some(clocked) = slot.get() {
            return Ok(clocked.clone());
        }
        let engine = make(kind)?;
        let ticker = Ticker::start(engine.clone())?;
        Ok(slot.get_or_init(|| Clocked { engine, ticker }).clone())
    }

    /// Keeps the epoch advancing until the guard is dropped.
    pub fn tick(&self) -> Ticking {
        self.ticker.busy.fetch_add(1, Ordering::SeqCst);
        if self.ticker.asleep.swap(false, Ordering::SeqCst) {
            self.ticker.thread.get().into_iter().for_each(Thread::unpark);
        }
        Ticking(self.ticker.clone())
    }
}

/// A guard that keeps the epoch advancing while a call runs.
pub(super) struct Ticking(Arc<Ticker>);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Ticker {
    busy: AtomicUsize,
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Ticker {
    fn start(engine: Engine) -> Result<Arc<Ticker>> {
        let ticker = Arc::new(Ticker {
            busy: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            thread: OnceLock::new(),
        });
        let shared = ticker.clone();
        let handle = std::thread::Builder::new()
            .name("gvm-epoch".into())
            .spawn(move || shared.run(&engine))
            .map_err(|error| Error::io("cannot start the thread of the epoch ticker", error))?;
        let _ = ticker.thread.set(handle.thread().clone());
        Ok(ticker)
    }

    fn run(&self, engine: &Engine) {
        let mut last_busy = Instant::now();
        loop {
            std::thread::sleep(limits::TICK);
            engine.increment_epoch();
            if self.busy.load(Ordering::SeqCst) > 0 {
                last_busy = Instant::now();
            } else if last_busy.elapsed() > limits::TICKER_LINGER {
                self.asleep.store(true, Ordering::SeqCst);
                // A call that arrived between the check above and the store saw the ticker awake.
                while self.busy.load(Ordering::SeqCst) == 0 && self.asleep.load(Ordering::SeqCst) {
                    std::thread::park();
                }
                self.asleep.store(false, Ordering::SeqCst);
                last_busy = Instant::now();
            }
        }
    }
}

fn make(kind: Kind) -> Result<Engine> {
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .consume_fuel(kind.fuel)
        .max_wasm_stack(limits::WASM_STACK)
        .async_stack_size(limits::FIBRE_STACK)
        // A backtrace has wasm offsets; the DWARF data of guests is not read.
        .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    if kind.pooling {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    }
    match Engine::new(&config) {
        // With little address space (`ulimit -v`) calls are slower, but they work.
        Err(error) if kind.pooling => {
            tracing::warn!(
                "cannot reserve memory for instances in advance, so calls will be slower: {error:#}"
            );
            make(Kind { pooling: false, ..kind })
        }
        made => made.map_err(|error| {
            Error::internal(format!("cannot start the WebAssembly engine: {error:#}")).with_source(error)
        }),
    }
}

/// The slots of a pooling engine. `room.rs` checks the same limits per module, so wasmtime never meets them.
fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    let bookkeeping = limits::BOOKKEEPING as usize + limits::BOOKKEEPING_MARGIN;
    pool.total_core_instances(limits::POOL * 4)
        .total_component_instances(limits::POOL)
        .total_memories(limits::POOL)
        .total_tables(limits::POOL * 4)
        .total_stacks(limits::POOL)
        .total_gc_heaps(limits::POOL / 4)
        .max_memories_per_module(limits::MEMORIES as u32)
        .max_tables_per_module(limits::TABLES as u32)
        .table_elements(limits::TABLE_ELEMENTS)
        .max_memory_size(limits::POOL_MEMORY)
        .max_core_instance_size(bookkeeping)
        .max_component_instance_size(bookkeeping)
        .linear_memory_keep_resident(limits::KEEP_RESIDENT)
        .table_keep_resident(limits::KEEP_RESIDENT)
        .async_stack_keep_resident(limits::KEEP_RESIDENT);
    pool
}
