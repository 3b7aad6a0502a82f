//! A node that was taken over natively: what the kernel still keeps from it.
//!
//! In: native code that is loaded into the process of a node and tries to reach what the node needs and what it does not. Out: what the
//! kernel answered. Must not know: how a guest could get there.

use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::bed::{Bed, GPMD, GVM};
use crate::guests;
use crate::process::{Running, wait_for, wait_until};

/// Whether the kernel has Landlock with rules for TCP (version 4). Without it there is nothing to test.
fn is_confined(bed: &Bed) -> bool {
    let found = bed.gvm(["doctor", "--json"]).out();
    let finding = found.lines().find(|line| line.contains("\"confinement\"")).unwrap().to_owned();
    let confined = finding.contains("files and TCP (Landlock");
    if !confined {
        eprintln!("this kernel has no Landlock with TCP, so nothing is tested: {finding}");
    }
    confined
}

/// Builds the native code.
fn build(folder: &Path) -> PathBuf {
    let library = folder.join("takeover.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/e2e/takeover.c");
    let built = Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    assert!(built.unwrap().success());
    library
}

/// Starts `gvm` with these arguments, and with code in its process that can try all of this.
fn start(bed: &Bed, args: &[&str], attempts: &[(&str, String)]) -> Running {
    let tries: Vec<String> = attempts.iter().map(|(verb, object)| format!("{verb} {object}")).collect();
    let mut command = bed.command(GVM);
    command.args(args).env("LD_PRELOAD", build(bed.folder())).env("TAKEOVER", tries.join("\n"));
    Running::start(&mut command)
}

/// Lets the code in the process try all of this. Returns the answers, in order.
fn tried(node: &Running, attempts: &[(&str, String)]) -> Vec<String> {
    node.signal(Signal::USR1);
    let said = wait_for("all is tried", || Some(node.err()).filter(|said| said.contains("taken: all")));
    let answer = |(verb, object): &(&str, String)| {
        let begin = format!("taken: {verb} {object}: ");
        said.lines().find_map(|line| line.strip_prefix(&begin)).unwrap_or(&said).to_owned()
    };
    attempts.iter().map(answer).collect()
}

/// Serves a node with these arguments, and returns what the code in it can do.
fn taken(bed: &Bed, args: &[&str], attempts: &[(&str, String)]) -> Vec<String> {
    let node = start(bed, args, attempts);
    wait_until("the node runs", || node.out().contains("GVM has been created"));
    let answers = tried(&node, attempts);
    node.signal(Signal::TERM);
    node.finish().ok();
    answers
}

/// Asserts what the kernel answered: `ok`, or that it refused.
fn judge(attempts: &[(&str, String)], answers: &[String], refused: bool) {
    let refusals: Vec<String> = [rustix::io::Errno::ACCESS, rustix::io::Errno::PERM]
        .map(|error| error.raw_os_error().to_string())
        .into();
    for ((verb, object), answer) in attempts.iter().zip(answers) {
        match refused {
            true => assert!(refusals.contains(answer), "{verb} {object}: {answer}"),
            false => assert_eq!(answer, "ok", "{verb} {object}"),
        }
    }
}

#[test]
fn a_served_node_keeps_to_its_grants() {
    let bed = Bed::stocked();
    if !is_confined(&bed) {
        return;
    }
    let [granted, read_only, other] = ["granted", "read-only", "other"].map(|name| bed.folder().join(name));
    for folder in [&granted, &read_only, &other] {
        std::fs::create_dir(folder).unwrap();
        std::fs::write(folder.join("file"), "x").unwrap();
    }
    let (open, closed) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let [open, closed] = [&open, &closed].map(|listener| listener.local_addr().unwrap().port().to_string());
    let file = |folder: &Path, name: &str| folder.join(name).display().to_string();
    let home = bed.home();
    let gpmd = bed.gpmd(["status", "--json"]).out();
    let gpmd: serde_json::Value = serde_json::from_str(&gpmd).unwrap();
    let gpmd = gpmd["pid"].to_string();
    let ours = std::process::id().to_string();
    let refused = [
        ("read", file(&home, "device.key")),
        ("read", file(&home, "ghost.network.json")),
        ("read", "/proc/self/root/etc/passwd".into()),
        ("read", "/etc/passwd".into()),
        ("read", file(&other, "file")),
        ("list", other.display().to_string()),
        ("list", "/".into()),
        ("write", file(&other, "new")),
        ("write", file(&read_only, "new")),
        ("write", file(&read_only, "file")),
        ("write", file(&home.join("modules"), "new")),
        ("write", file(&home.join("shared"), "new")),
        ("read", format!("/proc/{gpmd}/mem")),
        ("read", format!("/proc/{gpmd}/environ")),
        ("read", format!("/proc/{gpmd}/root/etc/passwd")),
        ("tcp", closed.clone()),
        ("mptcp", open.clone()),
        ("run", GPMD.into()),
        ("run", "/bin/sh".into()),
        ("trace", gpmd.clone()),
        ("trace", ours.clone()),
        ("kill", gpmd),
        ("kill", ours),
        ("ring", "-".into()),
    ];
    let allowed = [
        ("read", file(&granted, "file")),
        ("write", file(&granted, "new")),
        ("read", file(&read_only, "file")),
        ("list", read_only.display().to_string()),
        ("tcp", open.clone()),
    ];
    let net = format!("127.0.0.1:{open}");
    let dir = format!("{}::/data::ro", read_only.display());
    let args = ["serve", "--dir", granted.to_str().unwrap(), "--dir", &dir, "--allow-net", &net];
    let all: Vec<_> = refused.iter().chain(&allowed).cloned().collect();
    let answers = taken(&bed, &args, &all);
    judge(&refused, &answers[..refused.len()], true);
    judge(&allowed, &answers[refused.len()..], false);
    // Without addresses for guests there is no UDP either.
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp = [("udp", receiver.local_addr().unwrap().port().to_string()), ("tcp", open)];
    judge(&udp, &taken(&bed, &["serve"], &udp), true);
    receiver.set_nonblocking(true).unwrap();
    assert_eq!(receiver.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn scripts_and_single_calls_keep_to_their_grants() {
    let bed = Bed::stocked();
    if !is_confined(&bed) {
        return;
    }
    let file = |path: &Path| path.display().to_string();
    let (outside, module) = (bed.folder().join("new"), bed.folder().join("module.wasm"));
    std::fs::copy(guests::math(), &module).unwrap();
    let refused = [
        ("read", file(&bed.home().join("device.key"))),
        ("read", file(&module)),
        ("write", file(&outside)),
        ("write", file(&bed.home().join("ghost.modules.json"))),
        ("tcp", "9".to_owned()),
        ("udp", "9".to_owned()),
        ("run", "/bin/sh".to_owned()),
    ];
    let mut node = start(&bed, &[], &refused);
    node.write(b"math.add(1, 2)\n");
    wait_until("the node runs", || node.out().contains('3'));
    judge(&refused, &tried(&node, &refused), true);
    // Its modules, the compiler and gpmd are still within reach, also when the index has changed.
    bed.upload("later", &guests::math());
    node.write(b"later.add(20, 22)\n");
    wait_until("the new module runs", || node.out().contains("42"));
    node.finish().ok();
    let mut call = start(&bed, &["run", guests::p1("cat").to_str().unwrap()], &refused);
    call.write(b"x");
    wait_until("the guest runs", || call.out().contains('x'));
    judge(&refused, &tried(&call, &refused), true);
    call.finish().ok();
}

#[test]
fn what_can_gain_no_privileges_gives_no_commands() {
    let bed = Bed::new();
    let mut command = bed.command("setpriv");
    command.args(["--no-new-privs", GPMD, "status"]);
    let ended = Running::start(&mut command).finish();
    assert_eq!(ended.status, Some(1));
    assert!(ended.err().starts_with("NOT_PERMITTED: "), "{}", ended.err());
    bed.gpmd(["status"]).ok();
}
