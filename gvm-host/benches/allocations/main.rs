//! Counts what a small call allocates: on a live instance, and on a fresh one, through the node's handle and in raw
//! wasmtime; and on each side of a call on another node.
//!
//! In: nothing. Out: a table of allocations and bytes per call. Must not know: the internals of a node. Run it with
//! `cargo bench -p gvm-host --bench allocations`. Both nodes of a remote call run in this process; the thread that waits
//! makes the call, and other threads serve it.
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
use std::sync::atomic::{AtomicU64, Ordering};

use bed::{BEST, Bed, Raw, guest, stored};
use gvm_host::{Limits, ModuleRef, Target, wait};

thread_local! {
    static COUNTED: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// The allocations of all threads, and their bytes.
static ALL: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Counts the allocations of each thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: usize) {
    let _ = COUNTED.try_with(|counted| {
        let (calls, sum) = counted.get();
        counted.set((calls + 1, sum + bytes as u64));
    });
    ALL[0].fetch_add(1, Ordering::Relaxed);
    ALL[1].fetch_add(bytes as u64, Ordering::Relaxed);
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

fn print(title: &str, (calls, bytes): (u64, u64)) {
    println!("{title:<34}{:>12.1}{:>12}", calls as f64 / CALLS as f64, bytes / CALLS);
}

/// Prints what one call allocates on this thread, and on the others if `there` names them. Some calls before the
/// measurement fill caches.
fn row(title: &str, there: Option<&str>, mut call: impl AsyncFnMut()) {
    // One wait per call: the second call of a thread that waits opens its channel.
    let mut all = |count| (0..count).for_each(|_| wait(call()).unwrap());
    all(200);
    let read = || (COUNTED.get(), ALL.each_ref().map(|sum| sum.load(Ordering::Relaxed)));
    let (mine, sums) = read();
    all(CALLS);
    let (mine_now, sums_now) = read();
    let mine = (mine_now.0 - mine.0, mine_now.1 - mine.1);
    print(title, mine);
    if let Some(there) = there {
        print(there, (sums_now[0] - sums[0] - mine.0, sums_now[1] - sums[1] - mine.1));
    }
}

fn main() {
    let guest = guest();
    let bed = Bed::start(&guest);
    let raw = Raw::new(&guest, &BEST);
    println!("{:<34}{:>12}{:>12}", "per call", "allocations", "bytes");
    let live = wait(bed.spawn()).unwrap();
    let live = Target::function(ModuleRef::Instance(live), "add");
    row("live add, gvm", None, async || bed::add(&bed.node, &live).await);
    let (mut store, add) = wait(raw.spawn()).unwrap();
    row("live add, wasmtime", None, async || Raw::add(&mut store, &add).await);
    let fresh = Target::function(stored(), "add");
    row("fresh add, gvm", None, async || bed::add(&bed.node, &fresh).await);
    row("fresh add, wasmtime", None, async || raw.fresh().await);
    let far = bed.other("far");
    let there = Some(far.name().clone());
    wait(bed.node.connect(far.name().clone())).unwrap().unwrap();
    let spawned = bed.node.spawn(there.clone(), Target::main(stored()), Limits::default());
    let live = Target::function(ModuleRef::Instance(wait(spawned).unwrap().unwrap()), "add");
    for (title, served, target) in [
        ("live add there, calling side", "live add there, serving side", live),
        ("fresh add there, calling side", "fresh add there, serving side", fresh),
    ] {
        row(title, Some(served), async || bed::add_at(&bed.node, there.clone(), &target).await);
    }
    wait(far.shut_down()).unwrap();
    wait(bed.node.shut_down()).unwrap();
}
