//! `gvm doctor` in broken surroundings: it names the layer and the mend, and changes nothing.
//!
//! In: homes that were broken on purpose, one way each. Out: the first layer that fails. Must not know: how
//! the layers are looked at.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::bed::Bed;
use crate::guests;
use crate::process::wait_until;

/// What the doctor finds: whether all is well, and every check.
#[track_caller]
fn examine(bed: &Bed, node: &[&str]) -> Vec<Value> {
    let ended = bed.gvm([&["doctor", "--json"], node].concat());
    let found = ended.json().pop().unwrap();
    assert_eq!(ended.status, Some(i32::from(found["ok"] == false)), "{found}");
    found["checks"].as_array().unwrap().clone()
}

/// The first layer that fails must be this one, its sentence and its mend must hold these words, and what
/// stands before it must be well.
#[track_caller]
fn fails(bed: &Bed, node: &[&str], layer: &str, words: &str, mend: &str) {
    fails_now(bed, node, layer, words, mend);
    // For people the same.
    let text = bed.gvm([&["doctor"], node].concat()).out();
    assert!(text.contains(&format!("FAILS  {layer}")) && text.contains(mend), "{text}");
}

/// As [`fails`], of what does not stay so.
#[track_caller]
fn fails_now(bed: &Bed, node: &[&str], layer: &str, words: &str, mend: &str) {
    let checks = examine(bed, node);
    let first = checks.iter().find(|check| check["state"] != "ok").unwrap_or_else(|| panic!("all is well"));
    let (said, way) = (first["message"].as_str().unwrap(), first["mend"].as_str().unwrap_or("none"));
    assert_eq!(
        (first["layer"].as_str(), first["state"].as_str()),
        (Some(layer), Some("failed")),
        "{checks:#?}"
    );
    assert!(said.contains(words), "{layer} says {said:?}, not {words:?}");
    assert!(way.contains(mend), "the mend of {layer} is {way:?}, not {mend:?}");
}

#[track_caller]
fn is_well(bed: &Bed, node: &[&str]) {
    let checks = examine(bed, node);
    assert!(checks.iter().all(|check| check["state"] == "ok"), "{checks:#?}");
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_home_that_is_well() {
    let bed = Bed::stocked();
    let _kitchen = bed.node("kitchen");
    is_well(&bed, &[]);
    is_well(&bed, &["kitchen"]);
    assert_eq!(bed.nodes(), ["kitchen"], "the doctor's own node is gone");
}

#[test]
fn homes() {
    let bed = Bed::bare();
    fails(&bed, &[], "home", "there is no home", "gpmd start");
    assert!(!bed.home().exists(), "the doctor makes no home");
    fs::write(bed.home(), "a file").unwrap();
    fails(&bed, &[], "home", "no folder", "choose a home");
    fs::remove_file(bed.home()).unwrap();
    bed.gpmd(["wasm", "list"]).ok();
    mode(&bed.home(), 0o755);
    fails(&bed, &[], "home", "others may enter", &format!("chmod 700 {}", bed.home().display()));
    mode(&bed.home(), 0o700);
    fs::write(bed.home().join("home.id"), "nonsense").unwrap();
    fails(&bed, &[], "home", "home.id does not hold", "home");
}

#[test]
fn settings_and_keys() {
    let bed = Bed::new();
    fs::write(bed.home().join("config.toml"), "\nacept = \"all\"\n").unwrap();
    fails(&bed, &[], "settings", "line 2: there is no setting `acept`: did you mean `accept`", "config.toml");
    fs::remove_file(bed.home().join("config.toml")).unwrap();
    let key = bed.home().join("device.key");
    let own = fs::read(&key).unwrap();
    mode(&key, 0o644);
    fails(&bed, &[], "key", "others may read", "chmod 600");
    mode(&key, 0o600);
    fs::write(&key, "nonsense").unwrap();
    fails(&bed, &[], "key", "holds no Ed25519 key", "rm ");
    // Another home's key, under a gpmd that holds the old one.
    let other = Bed::new();
    fs::copy(other.home().join("device.key"), &key).unwrap();
    fails(&bed, &[], "ports", "AUTH_FAILED", "gpmd kill, then gpmd start");
    fs::write(&key, own).unwrap();
    is_well(&bed, &[]);
}

#[test]
fn modules() {
    let bed = Bed::stocked();
    let folder = bed.home().join("modules");
    let stored = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let size = fs::metadata(guests::values()).unwrap().len();
    let values = stored.into_iter().find(|path| fs::metadata(path).unwrap().len() == size).unwrap();
    let mut bytes = fs::read(&values).unwrap();
    bytes[100] ^= 1;
    mode(&values, 0o600);
    fs::write(&values, bytes).unwrap();
    fails(
        &bed,
        &[],
        "modules",
        "1 of 2 cannot be read; the first is values@1.0.0",
        "gpmd wasm remove values@1.0.0",
    );
    fs::write(bed.home().join("ghost.modules.json"), "{").unwrap();
    fails(&bed, &[], "modules", "ghost.modules.json", "upload the modules again");
}

#[test]
fn daemons() {
    let mut bed = Bed::bare();
    bed.gpmd(["wasm", "list"]).ok();
    fails(&bed, &[], "gpmd", "no gpmd runs", "gpmd start");
    bed.start_gpmd();
    kill_process(bed.gpmd_pid(), Signal::STOP).unwrap();
    fails(&bed, &[], "answer", "OVERLOADED", "kill -CONT");
    kill_process(bed.gpmd_pid(), Signal::CONT).unwrap();
    is_well(&bed, &[]);
    fs::remove_file(bed.home().join("command.sock")).unwrap();
    fails(&bed, &[], "answer", "command.sock is gone", "gpmd start");
    bed.kill_gpmd();
    fails(&bed, &[], "gpmd", "ended without a word", "gpmd start");
}

#[test]
fn nodes() {
    let bed = Bed::new();
    let kitchen = bed.node("kitchen");
    fails(&bed, &["kichen"], "name", "did you mean `kitchen`?", "gvm --name kichen");
    let _closed = bed.node_with("closed", &["--accept", "none"]);
    fails(&bed, &["closed"], "accept", "does not accept", "--accept");
    let _silent = bed.node_with("silent", &["--allow-call", "other=*"]);
    fails(&bed, &["silent"], "rights", "nothing may be called there", "--allow-call");
    kill_process(kitchen.pid(), Signal::STOP).unwrap();
    // gpmd finds out too, within seconds, and then it is no longer live.
    fails_now(&bed, &["kitchen"], "tls", "says nothing", "kill -CONT");
    kill_process(kitchen.pid(), Signal::CONT).unwrap();
    wait_until("kitchen is live again", || bed.nodes().iter().any(|name| name == "kitchen"));
    is_well(&bed, &["kitchen"]);
    let sockets = fs::read_dir(bed.home().join("nodes")).unwrap();
    sockets.for_each(|socket| fs::remove_file(socket.unwrap().path()).unwrap());
    fails(&bed, &["kitchen"], "socket", "No such file", "start kitchen again");
}
