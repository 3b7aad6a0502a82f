//! Three devices under load while their programs are killed and stopped and their cables are cut.
//!
//! In: `GVM_SOAK_MINUTES`, or half a minute without it. Out: a failure for each call that is lost, hangs or is wrong, for each
//! acknowledged change that is lost, and for each process or home that grows. As root each device is a network namespace. Otherwise
//! all are on the loopback interface, without cables. Must not know: how the product recovers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints its measurements"
)]

mod caller;
mod commands;
mod device;
#[path = "../e2e/dice.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod dice;
mod faults;
mod growth;
#[path = "../e2e/guests.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod guests;
mod tally;

use std::io::IsTerminal;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::device::World;
use crate::tally::Tally;

/// The time of the test in the ordinary test suite.
const SHORT: Duration = Duration::from_secs(20);

/// The load runs for so long before the first measurement: a part of the time, and at most this.
const WARM_UP: Duration = Duration::from_secs(120);

/// A run for minutes measures memory more strictly than a short one, in which much happens for the first time.
const LONG: Duration = Duration::from_secs(240);

#[test]
fn three_devices() {
    if std::env::var_os(caller::NAME).is_some() {
        return;
    }
    let minutes = std::env::var("GVM_SOAK_MINUTES").ok().map(|minutes| minutes.parse::<f64>().unwrap());
    let time = minutes.map_or(SHORT, |minutes| Duration::from_secs_f64(minutes * 60.0));
    let tally = Arc::new(Mutex::new(Tally::default()));
    let world = World::start(tally.clone());
    let began = Instant::now();
    let warm = WARM_UP.min(time / 4);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _end = world.end_on_drop();
            commands::upload(&world);
        });
        scope.spawn(|| {
            let _end = world.end_on_drop();
            commands::come_and_go(&world);
        });
        scope.spawn(|| {
            let _end = world.end_on_drop();
            progress(&world, began, time);
        });
        scope.spawn(|| {
            let _end = world.end_on_drop();
            faults::run(&world, began + warm);
            world.rest();
            let first = growth::measure(&world);
            world.go_on();
            faults::run(&world, began + time);
            world.rest();
            let last = growth::measure(&world);
            growth::compare(&world, first, last, time >= LONG);
            world.end.store(true, Ordering::Relaxed);
        });
    });
    world.check_logs();
    world.stop();
    let tally = tally.lock().unwrap();
    eprintln!("{}", tally.table(began.elapsed()));
    if !tally.faults.is_empty() {
        let folder = world.keep();
        panic!(
            "{} faults; the logs are in {}\n{}",
            tally.faults.len(),
            folder.display(),
            tally.faults.join("\n")
        );
    }
}

/// Prints a line from time to time.
fn progress(world: &World, began: Instant, time: Duration) {
    let every = Duration::from_secs(if std::io::stderr().is_terminal() { 10 } else { 60 });
    let mut next = began + every;
    while !world.end.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
        if Instant::now() >= next {
            next += every;
            let tally = world.tally.lock().unwrap();
            eprintln!(
                "{:>5.0} of {:.0} s: {}",
                began.elapsed().as_secs_f64(),
                time.as_secs_f64(),
                tally.line()
            );
        }
    }
}

/// The process of a caller: this program, started again on a device.
#[test]
fn caller() {
    if std::env::var_os(caller::NAME).is_some() {
        caller::main();
    }
}
