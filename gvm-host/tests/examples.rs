//! The examples, run as a reader would run them.
//!
//! In: the programs of `gvm-host/examples`, which cargo builds with the tests. Out: what they print. Must not know:
//! how they work.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::Command;

fn run(example: &str, args: &[&str]) -> String {
    // Test programs are in `target/PROFILE/deps`, examples in `target/PROFILE/examples`.
    let own = std::env::current_exe().unwrap();
    let folder: PathBuf = own.parent().unwrap().parent().unwrap().join("examples");
    let ended = Command::new(folder.join(example)).args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{example}: {stderr}");
    String::from_utf8(ended.stdout).unwrap()
}

#[test]
fn embed_node() {
    assert_eq!(run("embed_node", &[]), "68\n");
}

#[test]
fn call_function() {
    let hello = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/hello.wat");
    assert_eq!(run("call_function", &[hello, "greet(\"world\")"]), "\"Hello, world!\"\n");
}

#[test]
fn serve_session() {
    let shown = run("serve_session", &[]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[..2], ["may call: counter.next", "next: 1"]);
    assert!(lines[2].starts_with("NOT_PERMITTED: "), "{shown}");
}
