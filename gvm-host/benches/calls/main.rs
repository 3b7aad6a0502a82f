//! The time of a small call in this process, beside the same call in raw wasmtime with the same WASI and the same
//! limits: on a live instance, on a fresh one, and on fresh ones from two tasks at the same time.
//!
//! In: the number of rounds. Out: a table of medians and ratios. The two sides take turns in every round. Must not
//! know: the internals of a node. Run it with `cargo bench -p gvm-host --bench calls [ROUNDS]`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark prints, and stops at the first error"
)]

#[path = "../bed/mod.rs"]
mod bed;

use std::sync::Arc;
use std::time::Instant;

use bed::{BEST, Bed, Raw, guest, stored};
use gvm_host::{ModuleRef, Target, workers};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Calls per measured part of a round.
const LIVE: u32 = 20_000;
const FRESH: u32 = 2_000;

/// Returns the nanoseconds per call of `count` calls, from so many tasks at the same time.
async fn timed<F, W>(tasks: u32, count: u32, work: F) -> f64
where
    F: Fn() -> W + Clone + Send + Sync + 'static,
    W: Future<Output = ()> + Send,
{
    let began = Instant::now();
    let all: Vec<_> = (0..tasks)
        .map(|_| {
            let work = work.clone();
            tokio::spawn(async move {
                for _ in 0..count {
                    work().await;
                }
            })
        })
        .collect();
    for task in all {
        task.await.unwrap();
    }
    began.elapsed().as_nanos() as f64 / f64::from(tasks * count)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn main() {
    let rounds = std::env::args().skip(1).find(|arg| arg != "--bench");
    let rounds: usize = rounds.map_or(15, |rounds| rounds.parse().unwrap());
    let guest = guest();
    let bed = Arc::new(Bed::start(&guest));
    let raw = Arc::new(Raw::new(&guest, &BEST));
    let mut rows: [Vec<f64>; 6] = Default::default();
    workers().unwrap().block_on(async {
        let live = Target::function(ModuleRef::Instance(bed.spawn().await), "add");
        let live = Arc::new(live);
        let stored = Arc::new(Target::function(stored(), "add"));
        let (store, func) = raw.spawn().await;
        let made = Arc::new(tokio::sync::Mutex::new(store));
        for round in 0..=rounds {
            let node = bed.node.clone();
            let fresh = {
                let stored = stored.clone();
                move || {
                    let (node, stored) = (node.clone(), stored.clone());
                    async move { bed::add(&node, &stored).await }
                }
            };
            let raw_fresh = {
                let raw = raw.clone();
                move || {
                    let raw = raw.clone();
                    async move { raw.fresh().await }
                }
            };
            let (node, live) = (bed.node.clone(), live.clone());
            let made = made.clone();
            let one = [
                // One task runs all calls, so that the loop itself costs as little as possible.
                timed(1, 1, move || {
                    let made = made.clone();
                    async move {
                        let mut store = made.lock().await;
                        for _ in 0..LIVE {
                            Raw::add(&mut store, &func).await;
                        }
                    }
                })
                .await
                    / f64::from(LIVE),
                timed(1, 1, move || {
                    let (node, live) = (node.clone(), live.clone());
                    async move {
                        for _ in 0..LIVE {
                            bed::add(&node, &live).await;
                        }
                    }
                })
                .await
                    / f64::from(LIVE),
                timed(1, FRESH, raw_fresh.clone()).await,
                timed(1, FRESH, fresh.clone()).await,
                timed(2, FRESH, raw_fresh).await,
                timed(2, FRESH, fresh).await,
            ];
            // The first round warms up.
            if round > 0 {
                rows.iter_mut().zip(one).for_each(|(row, one)| row.push(one));
            }
        }
    });
    let [raw_live, live, raw_fresh, fresh, raw_two, two] = rows.each_ref().map(|row| median(row));
    println!("{:<34}{:>12}{:>12}{:>8}", "ns per call, median", "gvm", "wasmtime", "ratio");
    let row =
        |title: &str, ours: f64, raw: f64| println!("{title:<34}{ours:>12.0}{raw:>12.0}{:>8.2}", ours / raw);
    row("live add", live, raw_live);
    row("fresh add", fresh, raw_fresh);
    row("fresh add, two tasks, per call", two, raw_two);
    println!("fresh add, calls per second of two tasks and of one task:");
    println!("{:<34}{:>12.2}{:>12.2}", "  ratio", fresh / two, raw_fresh / raw_two);
    workers().unwrap().block_on(bed.node.shut_down());
}
