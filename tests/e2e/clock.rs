//! A device whose clock is set, or that slept for days, while gpmd and nodes run.
//!
//! In: processes that see another time (libfaketime); timers run on, as they do in the kernel. Out: nodes that call each other,
//! modules that are stored. Must not know: what depends on the time.

use std::path::PathBuf;

use crate::bed::{Bed, Node};
use crate::guests;
use crate::process::wait_until;

/// Returns the library that shows another time to a process.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut found = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    found.find(|path| path.exists()).expect("install the package libfaketime")
}

fn leak(path: PathBuf) -> &'static str {
    Box::leak(path.into_os_string().into_string().unwrap().into_boxed_str())
}

#[test]
fn clocks_may_jump() {
    let mut bed = Bed::bare();
    std::fs::create_dir(bed.folder().join("clock")).unwrap();
    let clock = bed.write("clock/offset", "+0");
    for (name, value) in [
        ("LD_PRELOAD", leak(library())),
        ("FAKETIME_TIMESTAMP_FILE", leak(clock.clone())),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ] {
        bed.set(name, value);
    }
    bed.start_gpmd();
    bed.upload("math", &guests::math());
    // The node may read only what is granted to it, and it asks the file for the time.
    let grant = format!("--dir={}::/clock::ro", clock.parent().unwrap().display());
    let mut old = bed.node_with("old", &[&grant]);
    let there = bed.node_with("there", &[&grant]);
    old.ask("Node.connect(there)");
    let mut year = String::new();
    for (round, offset) in ["+3d", "-40d", "+3650d", "-3650d", "+0"].into_iter().enumerate() {
        std::fs::write(&clock, offset).unwrap();
        // The session goes on.
        assert_eq!(sum(&mut old), "3", "{offset}");
        // A node that starts now, one that runs, and gpmd have the same time, but older certificates.
        wait_until("nodes have certificates of this time", || {
            let call = ["Node.connect(there)", "Node.run(\"there\", math.add(3,4))"];
            bed.gvm(["--name=new", &grant, "eval"].iter().chain(&call)).out().trim_end().ends_with('7')
        });
        let name = format!("round{round}");
        bed.upload(&name, &guests::math());
        assert!(bed.nodes().iter().any(|node| node == "there"), "{:?}", bed.nodes());
        let listed = bed.gpmd(["wasm", "list", "--json"]).ok();
        assert!(listed.contains(&name), "{listed}");
        assert_ne!(std::mem::replace(&mut year, listed.clone()), listed);
        if round == 1 {
            bed.kill_gpmd();
            bed.start_gpmd();
            wait_until("the nodes are back", || bed.nodes().len() == 2);
        }
    }
    // The processes did see the years.
    assert!(year.contains(&format!("\"uploaded\":\"{}", 2036)) || year.contains("2036-"), "{year}");
    assert_eq!(sum(&mut old), "3");
    drop(there);
}

/// Calls the node `there`.
fn sum(node: &mut Node) -> String {
    let id = node.ask("Node.run(\"there\", math.add(1,2))");
    assert!(id.starts_with("ID:"), "{id}");
    // What the guest prints comes before its result.
    node.rest();
    node.rest()
}
