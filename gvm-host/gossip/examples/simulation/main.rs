//! Prints what presence costs in networks of 10, 100 and 1,000 simulated devices, as a table in Markdown.
//!
//! In: the numbers of devices as arguments, else 10, 100 and 1,000. Out: the table of `docs/networks.md`. Must not know: what is
//! measured, how a network is simulated.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that fails ends")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints what it measured")]

mod measure;
mod memory;
#[allow(dead_code, reason = "the tests use the rest")]
mod network;

use std::time::{Duration, Instant};

use measure::Figures;

const SEED: u64 = 20_260_101;

fn main() {
    let sizes: Vec<usize> =
        std::env::args().skip(1).map(|size| size.parse().expect("a number of devices")).collect();
    let sizes = if sizes.is_empty() { vec![10, 100, 1000] } else { sizes };
    let mut all = Vec::new();
    for devices in sizes {
        for loss in [0.0, 0.05, 0.2] {
            let begin = Instant::now();
            let figures = measure::figures(devices, loss, SEED, memory::used, |stage| eprintln!("{stage}"));
            eprintln!("{devices} devices, loss {loss}: simulated in {:.0} s", begin.elapsed().as_secs_f64());
            print(std::slice::from_ref(&figures));
            all.push(figures);
        }
    }
    println!();
    print(&all);
}

fn print(all: &[Figures]) {
    let row = |name: &str, cells: Vec<String>| println!("| {name} | {} |", cells.join(" | "));
    let cells = |f: &dyn Fn(&Figures) -> String| all.iter().map(f).collect::<Vec<_>>();
    row("devices, packets lost", cells(&|f| format!("{}, {:.0} %", f.devices, f.loss * 100.0)));
    row("---", cells(&|_| "---:".to_owned()));
    for number in 0..all.first().map_or(0, |f| f.rows.len()) {
        let name = all[0].rows[number].0;
        row(
            &format!("{name}: half, all know after"),
            cells(&|f| {
                let times = &f.rows[number].1;
                format!("{}, {}", seconds(times.half), seconds(times.all))
            }),
        );
    }
    row("agreement after churn", cells(&|f| seconds(f.calm)));
    row("wrong reports of death", cells(&|f| f.wrong.to_string()));
    row("idle, per device: bytes/s", cells(&|f| format!("{:.0}", f.idle.bytes)));
    row("idle, per device: messages/s", cells(&|f| format!("{:.1}", f.idle.messages)));
    row("idle, per device: new connections/min", cells(&|f| format!("{:.1}", f.idle.connections * 60.0)));
    row("churn, per device: bytes/s", cells(&|f| format!("{:.0}", f.churn.bytes)));
    row("churn, per device: messages/s", cells(&|f| format!("{:.1}", f.churn.messages)));
    row("memory per device: kB", cells(&|f| (f.memory / 1000).to_string()));
    row("what a new device costs all together: kB", cells(&|f| format!("{}", f.join_bytes / 1000)));
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or("never".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()))
}
