//! Faults of the system below: disks, files, descriptors, and programs that are killed while they change something.
//!
//! In: a full disk, a disk that cannot be written, a home that vanishes, damaged files, few descriptors, `kill -9` in the middle of
//! joins, removals and compilations. Out: failures with a code, nothing that hangs, and a restart after which what was
//! acknowledged is there. `GVM_ROUNDS` sets the number of rounds. Needs root for disks. Must not know: how the product stores
//! things.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value as Json;

use crate::bed::{Bed, GPMD, GVM};
use crate::dice::{Dice, rounds};
use crate::guests;
use crate::process::{Ended, Running, wait_for, wait_until};

/// A command on a damaged home takes no longer than this.
const SOON: Duration = Duration::from_secs(12);

/// Two devices agree on their network within this time after both run.
const AGREED: Duration = Duration::from_secs(20);

fn is_root() -> bool {
    let root = rustix::process::getuid().is_root();
    if !root {
        eprintln!("not run: mounting a disk needs root");
    }
    root
}

#[track_caller]
fn must(command: &str) {
    let ended = Running::start(Command::new("sh").args(["-c", command])).finish();
    assert_eq!(ended.status, Some(0), "{command}: {}", ended.err());
}

/// A small disk with a home. Dropping it ends gpmd and unmounts the disk.
struct Disk {
    bed: Bed,
    at: PathBuf,
}

impl Disk {
    fn mount() -> Disk {
        let mut bed = Bed::bare();
        let at = bed.folder().join("disk");
        fs::create_dir(&at).unwrap();
        must(&format!("mount -t tmpfs -o mode=700,size=8m none {}", at.display()));
        bed.move_home(at.join("home"));
        Disk { bed, at }
    }

    fn fill(&self) {
        let filling = self.at.join("filling").display().to_string();
        must(&format!("cat /dev/zero > {filling} 2>/dev/null || true"));
    }

    fn free(&self) {
        fs::remove_file(self.at.join("filling")).unwrap();
    }

    fn remount(&self, option: &str) {
        // A compiler may still close its file.
        let remount = format!("mount -o remount,{option} {}", self.at.display());
        wait_until("no process writes to the disk", || {
            Running::start(Command::new("sh").args(["-c", &remount])).finish().status == Some(0)
        });
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.bed.gpmd(["kill"]);
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn invite(bed: &Bed) -> String {
    let made: Json = serde_json::from_str(&bed.gpmd(["invite", "--json"]).ok()).unwrap();
    made["line"].as_str().unwrap().to_owned()
}

/// Returns the names of the devices in the network of this one, or none if gpmd does not answer.
fn members(bed: &Bed) -> Vec<String> {
    let ended = bed.gpmd(["devices", "--json"]);
    let Ok(devices) = serde_json::from_slice::<Json>(&ended.stdout) else { return Vec::new() };
    let devices = devices["devices"].as_array().into_iter().flatten();
    devices.map(|device| device["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_full_disk() {
    if !is_root() {
        return;
    }
    let disk = Disk::mount();
    let (bed, other, third) = (&disk.bed, Bed::bare(), Bed::bare());
    // In the background: nobody reads its standard error.
    bed.gpmd(["start", "--device", "a"]).ok();
    other.gpmd(["start", "--device", "b"]).ok();
    third.gpmd(["start", "--device", "c"]).ok();
    bed.upload("math", &guests::math());
    other.gpmd(["join", &invite(bed)]).ok();
    let line = invite(bed);
    assert_eq!(bed.eval(["math.add(1, 2)"]).ok().lines().last(), Some("3"));
    let _far = bed.node("far");
    disk.fill();
    let math = format!("--file={}", guests::math().display());
    bed.gpmd(["wasm", "upload", "--name=math", "--version=2.0.0", &math]).fails("STORAGE_FULL");
    bed.gpmd(["wasm", "pin", "math", "1.0.0"]).fails("STORAGE_FULL");
    bed.gpmd(["wasm", "remove", "math"]).fails("STORAGE_FULL");
    bed.gpmd(["invite"]).fails("STORAGE_FULL");
    bed.gpmd(["remove", "b"]).fails("STORAGE_FULL");
    bed.gpmd(["leave"]).fails("STORAGE_FULL");
    third.gpmd(["join", &line]).fails("STORAGE_FULL");
    assert_eq!(members(&third), ["c"]);
    assert_eq!(members(bed), ["a", "b"], "nothing has changed");
    let hello = guests::wat("hello");
    let compiled = bed.gvm(["--json", "eval", "hello.hello()"]);
    assert_eq!(compiled.status, Some(1));
    let run = bed.run(["--node", "far", hello.to_str().unwrap()]);
    run.fails("STORAGE_FULL");
    // What is there works.
    let call = ["Node.connect(far)", "Node.run(far, math.add(2, 2))", "math.add(1, 3)"];
    assert_eq!(bed.eval(call).ok().lines().last(), Some("4"));
    // It starts again, also while another device has a change of the roster for it.
    bed.gpmd(["kill"]).ok();
    third.gpmd(["join", &invite(&other)]).ok();
    bed.gpmd(["start"]).ok();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(members(bed), ["a", "b"]);
    assert_eq!(bed.eval(call).ok().lines().last(), Some("4"));
    disk.free();
    wait_until("the change is stored", || members(bed) == ["a", "b", "c"]);
    bed.run(["--node", "far", hello.to_str().unwrap()]).ok();
    bed.gpmd(["wasm", "upload", "--name=math", "--version=2.0.0", &math]).ok();
    other.gpmd(["kill"]).ok();
    third.gpmd(["kill"]).ok();
}

#[test]
fn a_disk_that_cannot_be_written() {
    if !is_root() {
        return;
    }
    let disk = Disk::mount();
    let bed = &disk.bed;
    bed.gpmd(["start"]).ok();
    bed.upload("math", &guests::math());
    let call = || bed.run(["math.add(1, 2)"]).ok().lines().last().map(str::to_owned);
    assert_eq!(call().as_deref(), Some("3"));
    bed.gpmd(["kill"]).ok();
    disk.remount("ro");
    assert!(bed.gpmd(["start"]).fails("INTERNAL").contains("Read-only"));
    bed.gpmd(["status"]).fails("GPMD_NOT_RUNNING");
    assert!(bed.eval(["math.add(1, 2)"]).fails("INTERNAL").contains("Read-only"));
    assert_eq!(call().as_deref(), Some("3"), "a call of its own writes nothing");
    disk.remount("rw");
    bed.gpmd(["start"]).ok();
    assert_eq!(bed.eval(["math.add(1, 2)"]).ok().lines().last(), Some("3"));
}

#[test]
fn a_home_that_vanishes() {
    let bed = Bed::bare();
    bed.gpmd(["start"]).ok();
    bed.upload("math", &guests::math());
    let _far = bed.node("far");
    let mut near = bed.node("near");
    near.ask("Node.connect(far)");
    let call = |number: u32| format!("Node.run(far, math.add(1, {number}))");
    assert!(near.ask(&call(1)).starts_with("ID:  "));
    assert_eq!([near.rest(), near.rest()], ["Adding Numbers From Wasm...", "2"]);
    fs::remove_dir_all(bed.home()).unwrap();
    // Connected nodes and loaded code need no home.
    assert!(near.ask(&call(2)).starts_with("ID:  "));
    assert_eq!([near.rest(), near.rest()], ["Adding Numbers From Wasm...", "3"]);
    let begun = Instant::now();
    bed.gpmd(["status"]).fails("GPMD_NOT_RUNNING");
    bed.eval(["math.add(1, 2)"]).fails("GPMD_NOT_RUNNING");
    bed.run(["math.add(1, 2)"]).fails("MODULE_NOT_FOUND");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    bed.gpmd(["start"]).ok();
    bed.upload("math", &guests::math());
    assert_eq!(bed.eval(["math.add(1, 2)"]).ok().lines().last(), Some("3"));
}

/// Ways to damage a file.
const DAMAGES: [&str; 8] = ["empty", "half", "noise", "flip", "zeros", "deep", "folder", "huge"];

fn damage(path: &Path, how: &str, dice: &mut Dice) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut bytes = fs::read(path).unwrap();
    match how {
        "empty" => bytes.clear(),
        "half" => bytes.truncate(bytes.len() / 2),
        "noise" => bytes = (0..3000).map(|_| dice.below(256) as u8).collect(),
        "flip" if !bytes.is_empty() => {
            let at = dice.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << dice.below(8);
        }
        "zeros" => bytes.fill(0),
        "deep" => bytes = vec![b'['; 200_000],
        _ => {}
    }
    match how {
        "folder" => {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }
        // More than the memory of the machine, and no space on its disk.
        "huge" => fs::File::options().write(true).open(path).unwrap().set_len(1 << 40).unwrap(),
        _ => fs::write(path, bytes).unwrap(),
    }
}

/// Returns the files of a home, without those that are only locks and sockets.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        match kind.is_dir() {
            true => files(&entry.path(), found),
            false if kind.is_file() && entry.metadata().unwrap().len() > 0 => found.push(entry.path()),
            false => {}
        }
    }
}

#[test]
fn damaged_files_of_every_kind() {
    let mut bed = Bed::bare();
    let (original, copy) = (bed.folder().join("original"), bed.folder().join("copy"));
    bed.move_home(original.clone());
    let other = Bed::new();
    bed.gpmd(["start", "--device", "a"]).ok();
    bed.upload("math", &guests::math());
    bed.gpmd(["join", &invite(&other)]).ok();
    invite(&bed);
    let file = guests::math();
    assert_eq!(bed.eval(["math.add(1, 2)"]).ok().lines().last(), Some("3"));
    assert_eq!(bed.run(["--invoke", "add(1, 2)", file.to_str().unwrap()]).ok().lines().last(), Some("3"));
    bed.gpmd(["kill"]).ok();
    let mut every = Vec::new();
    files(&original, &mut every);
    // What is there is another name of a file that is damaged under its first one.
    every.retain(|file| !file.starts_with(original.join("shared")));
    every.sort();
    let mut dice = Dice::new();
    let cases: Vec<(PathBuf, &str)> =
        every.iter().flat_map(|file| DAMAGES.map(|how| (file.clone(), how))).collect();
    bed.move_home(copy.clone());
    let (mut worked, mut failed) = (0, 0);
    for round in 0..rounds(24) {
        // Every case in turn if there are enough rounds, else some of them.
        let (file, how) = match rounds(24) >= cases.len() as u64 {
            true => &cases[round as usize % cases.len()],
            false => dice.one_of(&cases),
        };
        let _ = fs::remove_dir_all(&copy);
        must(&format!("cp -a {} {}", original.display(), copy.display()));
        let inner = file.strip_prefix(&original).unwrap();
        damage(&copy.join(inner), how, &mut dice);
        let case = format!("{how} {}", inner.display());
        let begun = Instant::now();
        let started = coded(bed.gpmd(["start"]), &case);
        let called = bed.eval(["math.add(1, 2)"]);
        if called.status == Some(0) {
            assert_eq!(called.out().lines().last(), Some("3"), "{case}");
        }
        let well = coded(called, &case) && coded(bed.gpmd(["devices"]), &case) && started;
        if started {
            bed.gpmd(["kill"]).ok();
        }
        let took = begun.elapsed();
        assert!(took < SOON, "{case}: {took:?}");
        let log = fs::read(copy.join("gpmd.log")).map(|log| String::from_utf8_lossy(&log).into_owned());
        assert!(!log.unwrap_or_default().contains("panicked"), "{case}");
        if well {
            worked += 1
        } else {
            failed += 1
        }
        // With the file as it was, everything works again.
        let (from, to) = (file.display(), copy.join(inner).display().to_string());
        must(&format!("rm -rf {to} && cp -a {from} {to}"));
        bed.gpmd(["start"]).ok();
        assert_eq!(bed.eval(["math.add(1, 2)"]).ok().lines().last(), Some("3"), "{case}");
        bed.gpmd(["kill"]).ok();
    }
    eprintln!("{worked} damages were no obstacle, {failed} were told");
}

/// Returns whether a command succeeded. If not, it must have failed with a code.
#[track_caller]
fn coded(ended: Ended, case: &str) -> bool {
    let err = ended.err();
    let code = |line: &str| {
        line.split_once(": ")
            .is_some_and(|(code, _)| code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
    };
    match ended.status {
        Some(0) => true,
        Some(1) if err.lines().any(code) && !err.contains("panicked") => false,
        other => panic!("{case}: {other:?}\n{err}"),
    }
}

#[test]
fn a_node_without_descriptors_recovers() {
    let bed = Bed::stocked();
    let far = bed.node("far");
    let pid = far.pid().as_raw_nonzero();
    let limit = |most: u32| must(&format!("prlimit --pid={pid} --nofile={most}:"));
    let call = || bed.eval(["Node.connect(far)", "Node.run(far, values.add(1, 2))"]);
    assert_eq!(call().ok().lines().last(), Some("3"));
    let held = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u32;
    for spare in [0, 1, 2, 4, 8] {
        limit(held + spare);
        let begun = Instant::now();
        coded(call(), &format!("{spare} descriptors are left"));
        assert!(begun.elapsed() < SOON, "{spare}: {:?}", begun.elapsed());
    }
    limit(4096);
    wait_until("the node is itself again", || call().out().lines().last() == Some("3"));
}

#[test]
fn killed_while_a_device_joins_or_leaves() {
    let mut dice = Dice::new();
    let (mut host, mut guest) = (Bed::bare(), Bed::bare());
    host.start_gpmd();
    guest.start_gpmd();
    for round in 0..rounds(6) {
        // Which of the two dies, and in the middle of which command.
        let line = invite(&host);
        let dies_here = dice.below(2) == 0;
        let joining = Running::start(guest.command(GPMD).args(["join", &line]));
        dice.nap(Duration::from_millis(60));
        restart(if dies_here { &mut host } else { &mut guest });
        let joined = joining.finish();
        let acknowledged = joined.status == Some(0);
        coded(joined, &format!("round {round}: join"));
        let agreed = || {
            let both = [members(&host), members(&guest)];
            let together = both[0].len() == 2 && both[0] == both[1];
            // The one that was admitted and does not know it is a member that stays away.
            let apart = both[1].len() == 1 && !acknowledged;
            (together || apart).then_some(together)
        };
        let together = within(AGREED, &format!("round {round}: the two agree"), agreed);
        if together {
            let name = members(&guest).into_iter().find(|name| !is_own(&host, name)).unwrap();
            let leaves = dice.below(2) == 0;
            let ending = match leaves {
                true => Running::start(guest.command(GPMD).arg("leave")),
                false => Running::start(host.command(GPMD).args(["remove", &name])),
            };
            dice.nap(Duration::from_millis(40));
            restart(if dice.below(2) == 0 { &mut host } else { &mut guest });
            let ended = ending.finish();
            let acknowledged = ended.status == Some(0);
            coded(ended, &format!("round {round}: leave or remove"));
            if acknowledged && !leaves {
                assert!(!members(&host).contains(&name), "round {round}: {name} was removed");
            }
            if acknowledged && leaves {
                assert_eq!(members(&guest).len(), 1, "round {round}: it has left");
            }
        }
        // Whatever happened, the next round begins with two devices that are alone.
        let others = members(&host).into_iter().filter(|name| !is_own(&host, name));
        for name in others.collect::<Vec<_>>() {
            coded(host.gpmd(["remove", &name]), "remove");
        }
        coded(guest.gpmd(["leave"]), "leave");
        within(AGREED, "both are alone", || {
            (members(&host).len() == 1 && members(&guest).len() == 1).then_some(())
        });
    }
}

/// Kills gpmd, and starts it again.
fn restart(bed: &mut Bed) {
    bed.kill_gpmd();
    bed.start_gpmd();
}

fn is_own(bed: &Bed, name: &str) -> bool {
    let devices: Json = serde_json::from_str(&bed.gpmd(["devices", "--json"]).ok()).unwrap();
    devices["devices"]
        .as_array()
        .unwrap()
        .iter()
        .any(|device| device["own"] == true && device["name"] == name)
}

/// Waits until `look` returns a value, for at most this time.
#[track_caller]
fn within<T>(most: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    wait_for(what, || {
        assert!(begun.elapsed() < most, "{what}, within {most:?}");
        look()
    })
}

#[test]
fn killed_while_it_compiles() {
    let bed = Bed::bare();
    let mut dice = Dice::new();
    // Some seconds of work for the compiler.
    let function = "(func (param i32) (result i32) ".to_owned()
        + &"(i32.add (local.get 0) (i32.const 7)) drop ".repeat(400)
        + "(local.get 0))";
    let module = format!("(module {} (func (export \"f\") (result i32) (i32.const 5)))", function.repeat(60));
    let file = bed.write("large.wat", module);
    let args = ["run", "--invoke", "f()", file.to_str().unwrap()];
    for _ in 0..rounds(6) {
        let running = Running::start(bed.command(GVM).args(args));
        let pid = running.pid().as_raw_nonzero();
        dice.nap(Duration::from_millis(400));
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        running.signal(Signal::KILL);
        running.end();
        for child in children.split_whitespace() {
            wait_until("its compiler has ended", || {
                let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
                !stat.contains("(gvm)")
            });
        }
    }
    assert_eq!(bed.gvm(args).ok(), "5\n");
    let left = |prefix: &str| {
        let mut found = Vec::new();
        files(&bed.home().join("compiled"), &mut found);
        found.iter().filter(|path| path.to_string_lossy().contains(prefix)).count()
    };
    assert!(left("") < 20, "unfinished work is removed");
}
