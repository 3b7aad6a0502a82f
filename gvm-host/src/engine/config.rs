//! The wasmtime engines of this process, and the clock that interrupts guests.
//!
//! In: a kind of engine. Out: a `wasmtime::Engine`, one per process and kind, whose epoch advances while calls run.
//! Must not know: modules, homes, nodes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Instant;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::base::error::{Error, Result};
use crate::base::limits;
use crate::base::once::Once;
use crate::modules::Model;

/// A kind of engine: how its instances get memory, what they can run, and whether its code counts fuel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    pub slots: Slots,
    pub model: Model,
    /// Code that counts fuel: 28 % slower. For calls with a fuel limit.
    pub fuel: bool,
}

/// The first argument of the compiler for each kind of code: what it can run, and whether it counts fuel.
const WORDS: [(Model, bool, &str); 4] = [
    (Model::Sync, false, "plain"),
    (Model::Sync, true, "fuel"),
    (Model::Async, false, "async"),
    (Model::Async, true, "async-fuel"),
];

impl Kind {
    /// Returns the compiler's word for the code of this kind.
    pub fn word(self) -> &'static str {
        let word = WORDS.iter().find(|(model, fuel, _)| (*model, *fuel) == (self.model, self.fuel));
        word.map_or("plain", |(_, _, word)| word)
    }

    /// Returns the kind of the compiler, which has no slots, for a word.
    pub fn of_word(word: &str) -> Option<Kind> {
        let (model, fuel, _) = WORDS.iter().find(|(_, _, known)| *known == word)?;
        Some(Kind { slots: Slots::None, model: *model, fuel: *fuel })
    }

    /// Returns the place of its engine among all.
    fn place(self) -> usize {
        (self.slots as usize * 2 + self.model as usize) * 2 + usize::from(self.fuel)
    }
}

/// The places that an engine keeps for instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slots {
    /// None: an instance gets its memory when it is created. For one-shot commands, which start 5 ms sooner.
    None,
    /// Slots that are ready at once and stay in memory: a call takes a quarter of the time. For fresh instances of
    /// nodes.
    Warm,
    /// More slots, which give their memory back. For live instances of nodes.
    Live,
}

/// An engine of the process, and the ticker of its epoch.
pub(super) struct Clocked {
    pub engine: Engine,
    ticker: Arc<Ticker>,
}

impl Clocked {
    /// Returns the process's engine of this kind, and starts it if needed.
    pub fn get(kind: Kind) -> Result<&'static Clocked> {
        static ENGINES: [Once<Clocked>; 12] = [const { Once::new() }; 12];
        ENGINES[kind.place()].get_or_make(|| {
            let engine = make(kind)?;
            let ticker = Ticker::start(engine.clone())?;
            Ok(Clocked { engine, ticker })
        })
    }

    /// Keeps the epoch advancing until the guard is dropped.
    pub fn tick(&self) -> Ticking<'_> {
        let busy = self.ticker.busy.of_this_thread();
        busy.fetch_add(1, Ordering::SeqCst);
        // Almost always awake, so most calls only read this.
        if self.ticker.asleep.load(Ordering::SeqCst) && self.ticker.asleep.swap(false, Ordering::SeqCst) {
            self.ticker.thread.get().into_iter().for_each(Thread::unpark);
        }
        Ticking(busy)
    }
}

/// A guard that keeps the epoch advancing while a call runs.
pub(super) struct Ticking<'a>(&'a AtomicUsize);

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The number of calls that run, in parts, so that processors do not wait for each other's change of one number.
#[derive(Default)]
struct Busy([Part; PARTS]);

/// A part on cache lines of its own: some processors load two lines of 64 bytes together.
#[derive(Default)]
#[repr(align(128))]
struct Part(AtomicUsize);

const PARTS: usize = 16;

impl Busy {
    /// Returns the part of this thread; threads take turns in choosing one.
    fn of_this_thread(&self) -> &AtomicUsize {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static MINE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % PARTS;
        }
        &self.0[MINE.with(|mine| *mine)].0
    }

    /// Whether any call runs.
    fn is_any(&self) -> bool {
        self.0.iter().any(|part| part.0.load(Ordering::SeqCst) > 0)
    }
}

struct Ticker {
    busy: Busy,
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Ticker {
    fn start(engine: Engine) -> Result<Arc<Ticker>> {
        let ticker = Arc::new(Ticker {
            busy: Busy::default(),
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
            if self.busy.is_any() {
                last_busy = Instant::now();
            } else if last_busy.elapsed() > limits::TICKER_LINGER {
                self.asleep.store(true, Ordering::SeqCst);
                // A call that arrived between the check above and the store saw the ticker awake.
                while !self.busy.is_any() && self.asleep.load(Ordering::SeqCst) {
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
        .concurrency_support(kind.model == Model::Async)
        .wasm_component_model_async(kind.model == Model::Async)
        .wasm_component_model_map(true)
        .wasm_component_model_fixed_length_lists(true)
        .epoch_interruption(true)
        .consume_fuel(kind.fuel)
        .max_wasm_stack(limits::WASM_STACK)
        .async_stack_size(limits::FIBRE_STACK)
        // The stack of a live instance that ends goes back to the system with the rest of it.
        .async_stack_zeroing(kind.slots == Slots::Live)
        // A backtrace has wasm offsets; the DWARF data of guests is not read.
        .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    let pool = match kind.slots {
        Slots::None => None,
        Slots::Warm => Some(warm_pool()),
        Slots::Live => Some(live_pool()),
    };
    let pooling = pool.is_some();
    if let Some(pool) = pool {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    match Engine::new(&config) {
        // With little address space (`ulimit -v`) calls are slower, but they work.
        Err(error) if pooling => {
            tracing::warn!(
                "cannot reserve memory for instances in advance, so calls will be slower: {error:#}"
            );
            make(Kind { slots: Slots::None, ..kind })
        }
        made => made.map_err(|error| {
            Error::internal(format!("cannot start the WebAssembly engine: {error:#}")).with_source(error)
        }),
    }
}

/// The slots of fresh instances. The memory that a guest used stays with its slot, for the next guest.
fn warm_pool() -> PoolingAllocationConfig {
    // The kernel tells which pages a guest has written (Linux 6.7 and later), so only those are cleared.
    let scan = PoolingAllocationConfig::is_pagemap_scan_available();
    let keep = if scan { limits::KEEP_WRITTEN } else { limits::KEEP_RESIDENT };
    let mut pool = pool(limits::POOL);
    pool.pagemap_scan(if scan { Enabled::Yes } else { Enabled::No })
        .linear_memory_keep_resident(keep)
        .table_keep_resident(keep);
    pool
}

/// The slots of live instances. An instance gives its memory back to the system when it ends.
fn live_pool() -> PoolingAllocationConfig {
    pool(limits::live_pool())
}

/// Slots for so many instances. `room.rs` checks the same limits per module, so wasmtime never meets them.
fn pool(slots: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    let bookkeeping = limits::BOOKKEEPING as usize + limits::BOOKKEEPING_MARGIN;
    pool.total_core_instances(slots.saturating_mul(limits::INSTANCES as u32))
        .total_component_instances(slots)
        .total_memories(slots)
        .total_tables(slots * 4)
        .total_stacks(slots)
        .total_gc_heaps(slots / 4)
        .max_memories_per_module(limits::MEMORIES as u32)
        .max_tables_per_module(limits::TABLES as u32)
        .table_elements(limits::TABLE_ELEMENTS)
        .max_memory_size(limits::POOL_MEMORY)
        .max_core_instance_size(bookkeeping)
        .max_component_instance_size(bookkeeping);
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_an_engine_and_a_word_of_its_own() {
        let mut places = Vec::new();
        for slots in [Slots::None, Slots::Warm, Slots::Live] {
            for model in [Model::Sync, Model::Async] {
                for fuel in [false, true] {
                    let kind = Kind { slots, model, fuel };
                    places.push(kind.place());
                    assert_eq!(Kind::of_word(kind.word()), Some(Kind { slots: Slots::None, ..kind }));
                }
            }
        }
        places.sort_unstable();
        assert_eq!(places, (0..12).collect::<Vec<_>>());
        assert_eq!(Kind::of_word("other"), None);
    }
}
