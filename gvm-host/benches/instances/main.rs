//! What live instances of a Rust component cost: memory and mappings of the process, the time to make one, and the time
//! of a call, with 10, 100, 1,000 and 10,000 of them in one node.
//!
//! In: the largest number of instances. Out: a table. Must not know: the internals of a node. Run it with
//! `cargo bench -p gvm-host --bench instances [MOST]`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark prints, and stops at the first error"
)]

#[path = "../bed/mod.rs"]
mod bed;

use std::time::{Duration, Instant};

use bed::{Bed, guest};
use gvm_host::{ModuleRef, Target, wait};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Returns a number of this process in KiB, such as `VmRSS`.
fn status(of: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(of)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_nanos() as f64
}

fn main() {
    let most = std::env::args().skip(1).find(|arg| arg != "--bench");
    let most: usize = most.map_or(10_000, |most| most.parse().unwrap());
    let bed = Bed::start(&guest());
    // The first instance loads the module and reserves address space.
    let first = wait(bed.spawn()).unwrap();
    wait(bed.node.drop_instance(first)).unwrap().unwrap();
    let before = (status("VmRSS"), status("VmPTE"), mappings());
    println!(
        "{:>9}{:>12}{:>12}{:>10}{:>12}{:>12}{:>12}",
        "", "KiB each", "tables", "maps", "make", "call", "second"
    );
    println!(
        "{:>9}{:>12}{:>12}{:>10}{:>12}{:>12}{:>12}",
        "instances", "resident", "KiB each", "each", "ns", "ns", "call, ns"
    );
    let mut live = Vec::new();
    for count in [10, 100, 1_000, 10_000].into_iter().filter(|count| *count <= most) {
        let mut made = Vec::new();
        while live.len() < count {
            let began = Instant::now();
            let name = wait(bed.spawn()).unwrap();
            made.push(began.elapsed());
            live.push(Target::function(ModuleRef::Instance(name), "add"));
        }
        let mut calls = [Vec::new(), Vec::new()];
        for times in &mut calls {
            for target in &live {
                let began = Instant::now();
                wait(bed::add(&bed.node, target)).unwrap();
                times.push(began.elapsed());
            }
        }
        let each = |now: f64, before: f64| (now - before) / count as f64;
        let [first, second] = &mut calls;
        println!(
            "{count:>9}{:>12.1}{:>12.1}{:>10.1}{:>12.0}{:>12.0}{:>12.0}",
            each(status("VmRSS"), before.0),
            each(status("VmPTE"), before.1),
            each(mappings() as f64, before.2 as f64),
            median(&mut made),
            median(first),
            median(second),
        );
    }
    let full = status("VmRSS");
    for target in live {
        let ModuleRef::Instance(name) = target.module else { continue };
        wait(bed.node.drop_instance(name)).unwrap().unwrap();
    }
    println!(
        "resident with all of them {:.0} MiB, after they are dropped {:.0} MiB",
        full / 1024.0,
        status("VmRSS") / 1024.0
    );
    wait(bed.node.shut_down()).unwrap();
}
