//! The time of large values in and out of a component, here and on another node, compared with a plain copy;
//! and their effect on small calls between the same nodes.
//!
//! In: the number of rounds. Out: a table of the medians of one run. Must not know: the internals of a node.
//! Run it with `cargo bench -p gvm-cli --bench large [ROUNDS]`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark prints, and stops at the first error"
)]

#[path = "../tests/pair/mod.rs"]
mod pair;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gvm_host::{Args, Call, Limits, List, ModuleRef, Stdio, Target, Value, workers};
use pair::{Pair, guest, name};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn call(function: &str, args: Vec<Value>) -> Call {
    let module = ModuleRef::Stored { name: name("carrier"), version: None };
    let mut call =
        Call::new(Target { module, interface: None, function: Some(function.into()) }, Args::Values(args));
    call.want_type = false;
    call
}

fn stdio() -> Stdio {
    Stdio::new(&Limits::default())
}

fn main() {
    let rounds = std::env::args().skip(1).find(|arg| arg != "--bench");
    let rounds = rounds.map_or(10, |rounds| rounds.parse().unwrap());
    let pair = Pair::start("carrier", &guest("carrier.wat"));
    let bytes = |length| Value::List(List::U8((0..length).map(|index| (index % 251) as u8).collect()));
    let floats = Value::List(List::F64((0..8_000_000).map(f64::from).collect()));
    println!(
        "{:<26}{:>8}{:>10}{:>10}{:>10}{:>12}",
        "in and out, ms", "MB", "copy", "here", "there", "there MB/s"
    );
    for (title, function, value, size) in [
        ("list<u8>, 1 MiB", "bytes", bytes(1 << 20), 1 << 20),
        ("list<u8>, 64 MiB", "bytes", bytes(64 << 20), 64 << 20),
        ("list<f64>, 8 million", "floats", floats, 64_000_000),
    ] {
        let (mut copy, mut here, mut there) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=rounds {
            let timed = |times: &mut Vec<Duration>, work: &mut dyn FnMut()| {
                let began = Instant::now();
                work();
                // The first round warms up.
                times.extend((round > 0).then(|| began.elapsed()));
            };
            timed(&mut copy, &mut || drop(black_box(black_box(&value).clone())));
            let (one, other) = (call(function, vec![value.clone()]), call(function, vec![value.clone()]));
            let (mut one, mut other) = (Some(one), Some(other));
            let check = |outcome: gvm_host::Outcome| {
                assert!(matches!(outcome.result.unwrap(), Some(Value::List(list)) if !list.is_empty()));
            };
            timed(&mut here, &mut || {
                check(workers().unwrap().block_on(pair.near.run(None, one.take().unwrap(), stdio())));
            });
            timed(&mut there, &mut || {
                let far = name("far");
                check(workers().unwrap().block_on(pair.near.run(Some(far), other.take().unwrap(), stdio())));
            });
        }
        let there = median(&mut there);
        println!(
            "{title:<26}{:>8.1}{:>10.2}{:>10.2}{:>10.2}{:>12.0}",
            f64::from(size) / 1e6,
            median(&mut copy),
            median(&mut here),
            there,
            // In both directions.
            2.0 * f64::from(size) / 1e3 / there,
        );
    }
    println!();
    println!("{:<26}{:>10}{:>10}", "remote add, µs", "p50", "p99");
    let adds = |times: &mut Vec<Duration>, calls: i32| {
        for n in 0..calls {
            let began = Instant::now();
            let add = call("add", vec![Value::S32(n), Value::S32(1)]);
            let sum = workers().unwrap().block_on(pair.near.run(Some(name("far")), add, stdio()));
            times.push(began.elapsed());
            assert_eq!(sum.result.unwrap(), Some(Value::S32(n + 1)));
        }
    };
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    adds(&mut alone, 100);
    alone.clear();
    adds(&mut alone, 2000);
    let stop = AtomicBool::new(false);
    let carried = std::thread::scope(|scope| {
        let carrying = scope.spawn(|| {
            let (value, mut carried) = (bytes(16 << 20), 0);
            while !stop.load(Ordering::Relaxed) {
                let call = call("bytes", vec![value.clone()]);
                let back = workers().unwrap().block_on(pair.near.run(Some(name("far")), call, stdio()));
                assert!(back.result.unwrap().is_some());
                carried += 1;
            }
            carried
        });
        adds(&mut beside, 2000);
        stop.store(true, Ordering::Relaxed);
        carrying.join().unwrap()
    });
    for (title, times) in [("alone", &mut alone), ("beside 16 MiB echoes", &mut beside)] {
        times.sort();
        let at =
            |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, Duration::as_secs_f64) * 1e6;
        println!("{title:<26}{:>10.1}{:>10.1}", at(50), at(99));
    }
    println!("{carried} echoes meanwhile");
    workers().unwrap().block_on(pair.near.shut_down());
}

/// Returns the median in milliseconds.
fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64) * 1e3
}
