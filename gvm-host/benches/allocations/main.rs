//! Counts what a small call allocates: on a live instance, and on a fresh one, through the node's handle and in raw
//! wasmtime.
//!
//! In: nothing. Out: a table of allocations and bytes per call. Must not know: the internals of a node. Run it with
//! `cargo bench -p gvm-host --bench allocations`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark prints, and stops at the first error"
)]

#[path = "../bed/mod.rs"]
mod bed;

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

use bed::{BEST, Bed, Raw, guest, stored};
use gvm_host::{ModuleRef, Target, wait};

thread_local! {
    static COUNTED: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Counts the allocations of each thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: usize) {
    let _ = COUNTED.try_with(|counted| {
        let (calls, sum) = counted.get();
        counted.set((calls + 1, sum + bytes as u64));
    });
}

// SAFETY: all work is done by `MiMalloc`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { mimalloc::MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { mimalloc::MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as above.
        unsafe { mimalloc::MiMalloc.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { mimalloc::MiMalloc.dealloc(block, layout) }
    }
}

const CALLS: u64 = 1_000;

/// Prints what one call allocates on this thread. Some calls before the measurement fill caches.
fn row(title: &str, mut call: impl AsyncFnMut()) {
    let mut all = async |count| {
        for _ in 0..count {
            call().await;
        }
    };
    wait(async {
        all(100).await;
        let (calls, bytes) = COUNTED.get();
        all(CALLS).await;
        let (calls, bytes) = (COUNTED.get().0 - calls, COUNTED.get().1 - bytes);
        println!("{title:<26}{:>12.1}{:>12}", calls as f64 / CALLS as f64, bytes / CALLS);
    })
    .unwrap();
}

fn main() {
    let guest = guest();
    let bed = Bed::start(&guest);
    let raw = Raw::new(&guest, &BEST);
    println!("{:<26}{:>12}{:>12}", "per call", "allocations", "bytes");
    let live = wait(bed.spawn()).unwrap();
    let live = Target::function(ModuleRef::Instance(live), "add");
    row("live add, gvm", async || bed::add(&bed.node, &live).await);
    let (mut store, add) = wait(raw.spawn()).unwrap();
    row("live add, wasmtime", async || Raw::add(&mut store, &add).await);
    let fresh = Target::function(stored(), "add");
    row("fresh add, gvm", async || bed::add(&bed.node, &fresh).await);
    row("fresh add, wasmtime", async || raw.fresh().await);
    wait(bed.node.shut_down()).unwrap();
}
