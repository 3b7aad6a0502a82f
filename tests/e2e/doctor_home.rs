//! `gvm doctor` finds problems of the home: permissions, disks, and missing or damaged files.
//!
//! In: homes that a test breaks in one way each. Out: the first layer that fails, and a fix that works. Must
//! not know: how the layers are checked; problems of processes (`doctor.rs`).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::bed::{Bed, GVM};
use crate::doctor::{checks, examine, fails, first, is_well};
use crate::guests;
use crate::process::Running;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Runs the doctor without root's capabilities, because root may ignore file modes. Returns its checks.
#[track_caller]
fn bound(bed: &Bed) -> Vec<Value> {
    let mut command = match is_root() {
        true => bed.command("setpriv"),
        false => bed.command(GVM),
    };
    if is_root() {
        command.args(["--bounding-set=-all", "--inh-caps=-all", GVM]);
    }
    checks(&Running::start(command.args(["doctor", "--json"])).finish())
}

/// Runs a fix as a shell command.
#[track_caller]
fn follow(fix: &str) {
    let ended = Running::start(Command::new("sh").args(["-c", fix])).finish();
    assert_eq!(ended.status, Some(0), "{fix}: {}", ended.err());
}

/// Returns the paths of everything in a home.
fn files(home: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        found.extend(files(&entry.path()));
        found.insert(entry.path());
    }
    found
}

/// Returns the path of the stored file of `values`.
fn values(bed: &Bed) -> PathBuf {
    let size = fs::metadata(guests::values()).unwrap().len();
    let stored = fs::read_dir(bed.home().join("modules")).unwrap().map(|entry| entry.unwrap().path());
    stored.into_iter().find(|path| fs::metadata(path).unwrap().len() == size).unwrap()
}

#[test]
fn homes() {
    let mut bed = Bed::bare();
    fails(&bed, &[], "home", "there is no home", "gpmd start");
    assert!(!bed.home().exists(), "the doctor created a home");
    let flagged = bed.gvm(["--home", "other place", "doctor", "--json"]);
    let start = format!("gpmd --home {} start", "'other place'");
    first(&checks(&flagged), "home", "from the relative path other place", &start);
    fs::write(bed.home(), "a file").unwrap();
    fails(&bed, &[], "home", "is not a folder", "choose another home");
    assert!(bed.eval(["Node.list()"]).fails("HOME_INSECURE").contains("choose another home"));
    fs::remove_file(bed.home()).unwrap();
    symlink("nowhere", bed.home()).unwrap();
    fails(&bed, &[], "home", "is a link to nowhere", "correct the link");
    fs::remove_file(bed.home()).unwrap();
    fs::create_dir(bed.home()).unwrap();
    mode(&bed.home(), 0o700);
    fails(&bed, &[], "gpmd", "no gpmd runs", "gpmd start");
    assert_eq!(files(&bed.home()), BTreeSet::new(), "the doctor created files");
    bed.gpmd(["wasm", "list"]).ok();
    mode(&bed.home(), 0o755);
    fails(&bed, &[], "home", "other users can enter", &format!("chmod 700 {}", bed.home().display()));
    mode(&bed.home(), 0o700);
    fs::write(bed.home().join("home.id"), "nonsense").unwrap();
    fails(&bed, &[], "home", "home.id` does not contain", "home.id");
    bed.move_home(bed.folder().join("other"));
    bed.start_gpmd();
    let before = files(&bed.home());
    is_well(&bed, &[]);
    assert_eq!(files(&bed.home()), before, "the doctor left or removed files");
    let moved = bed.folder().join("moved");
    fs::rename(bed.home(), &moved).unwrap();
    bed.move_home(moved);
    fails(&bed, &[], "answer", "the home was moved", "gpmd kill, then gpmd start");
}

#[test]
fn an_empty_variable_is_as_none() {
    let bed = Bed::bare();
    let mut command = bed.command(GVM);
    command.args(["doctor", "--json"]).env("GHOST_HOME", "").env("HOME", bed.folder());
    let own = bed.folder().join(".ghost-network").display().to_string();
    first(&checks(&Running::start(&mut command).finish()), "home", &own, "gpmd start, which creates it");
}

#[test]
fn settings() {
    let bed = Bed::new();
    let file = bed.home().join("config.toml");
    for (text, layer, words, fix) in [
        ("\nacept = \"all\"\n", "settings", "line 2: unknown setting `acept`: did you mean `accept`", "line"),
        ("listen = \"192.0.2.7\"", "settings", "line 1: listen: cannot listen on 192.0.2.7", "config.toml"),
        ("name = \"My Node\"", "settings", "line 1: name: `My Node` is not a valid name", "config.toml"),
        ("[gpmd]\nlisten = \"here\"", "settings", "line 2: gpmd.listen", "config.toml"),
        ("dir = [\"/no/such/folder\"]", "node", "/no/such/folder, which is not a folder", "config.toml"),
    ] {
        fs::write(&file, text).unwrap();
        fails(&bed, &[], layer, words, fix);
    }
    fs::remove_file(file).unwrap();
    is_well(&bed, &[]);
}

#[test]
fn keys() {
    let bed = Bed::new();
    let key = bed.home().join("device.key");
    let own = fs::read(&key).unwrap();
    mode(&key, 0o644);
    follow(&fails(&bed, &[], "key", "other users can read", "chmod 600"));
    is_well(&bed, &[]);
    for damaged in [&b"nonsense"[..], b"", b"\xff\xfe\0", &own[..own.len() / 2]] {
        fs::write(&key, damaged).unwrap();
        fails(&bed, &[], "key", "does not contain an Ed25519 key", "rm ");
    }
    fs::remove_file(&key).unwrap();
    fails(&bed, &[], "key", "is missing, but gpmd still uses it", "gpmd kill, then gpmd start");
    assert!(!key.exists(), "the doctor created a key");
    // The file now contains another home's key, but gpmd still uses the old one.
    let other = Bed::new();
    fs::copy(other.home().join("device.key"), &key).unwrap();
    fails(&bed, &[], "ports", "AUTH_FAILED", "gpmd kill, then gpmd start");
    fs::write(&key, own).unwrap();
    is_well(&bed, &[]);
}

#[test]
fn modules() {
    let bed = Bed::stocked();
    let (values, index) = (values(&bed), bed.home().join("ghost.modules.json"));
    let mut bytes = fs::read(&values).unwrap();
    bytes[100] ^= 1;
    mode(&values, 0o600);
    fs::write(&values, bytes).unwrap();
    let words = "1 of 2 cannot be read; the first is values@1.0.0";
    fails(&bed, &[], "modules", words, "upload values@1.0.0 again; or gpmd wasm remove values@1.0.0");
    // A node still starts.
    assert!(examine(&bed, &[]).iter().any(|check| check["layer"] == "node" && check["state"] == "ok"));
    bed.upload("values", &guests::values());
    is_well(&bed, &[]);
    // gpmd keeps the index in memory, so the next upload writes the file again.
    for broken in [Some("{"), None] {
        match broken {
            Some(text) => fs::write(&index, text).unwrap(),
            None => fs::remove_file(&index).unwrap(),
        }
        fails(&bed, &[], "modules", "ghost.modules.json", "upload any module again");
        bed.upload("values", &guests::values());
        is_well(&bed, &[]);
        bed.eval(["math.add(1, 2)"]).ok();
    }
}

#[test]
fn what_is_no_folder_or_no_file() {
    let bed = Bed::bare();
    bed.gpmd(["wasm", "list"]).ok();
    for (name, layer) in [("modules", "modules"), ("compiled", "compiled"), ("nodes", "home")] {
        let path = bed.home().join(name);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "").unwrap();
        fails(&bed, &[], layer, "is not a folder", "mv ");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
    }
    for (name, layer) in [("config.toml", "settings"), ("device.key", "key"), ("gpmd.log", "gpmd")] {
        let path = bed.home().join(name);
        fs::create_dir(&path).unwrap();
        fails(&bed, &[], layer, "is not a file", "mv ");
        fs::remove_dir(path).unwrap();
    }
}

#[test]
fn rights() {
    let mut bed = Bed::bare();
    // The path contains a space, as a person's path may.
    bed.move_home(bed.folder().join("my home"));
    bed.start_gpmd();
    bed.upload("values", &guests::values());
    fs::write(bed.home().join("config.toml"), "").unwrap();
    let stored = values(&bed);
    for (path, forbidden, layer) in [
        (bed.home(), 0o500, "home"),
        (bed.home(), 0o000, "home"),
        (bed.home().join("nodes"), 0o500, "home"),
        (bed.home().join("config.toml"), 0o000, "settings"),
        (bed.home().join("device.key"), 0o000, "key"),
        (bed.home().join("modules"), 0o000, "modules"),
        (bed.home().join("modules"), 0o500, "modules"),
        (bed.home().join("ghost.modules.json"), 0o000, "modules"),
        (stored, 0o000, "modules"),
        (bed.home().join("compiled"), 0o500, "compiled"),
    ] {
        mode(&path, forbidden);
        follow(&first(&bound(&bed), layer, &path.display().to_string(), "chmod "));
        let found = bound(&bed);
        assert!(found.iter().all(|check| check["state"] == "ok"), "{path:?}: {found:#?}");
    }
}

/// A small temporary file system, mounted in the bed's folder. Dropping it unmounts it.
struct Disk(PathBuf);

impl Disk {
    fn mount(bed: &Bed, options: &str) -> Disk {
        let at = bed.folder().join("disk");
        fs::create_dir(&at).unwrap();
        follow(&format!("mount -t tmpfs -o mode=700,{options} none {}", at.display()));
        Disk(at)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The unmount is lazy, because a process that uses the disk may end later.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn disks() {
    if !is_root() {
        eprintln!("not run: mounting a disk needs root");
        return;
    }
    let mut bed = Bed::bare();
    let disk = Disk::mount(&bed, "size=1m");
    bed.move_home(disk.0.join("home"));
    bed.start_gpmd();
    is_well(&bed, &[]);
    let filling = disk.0.join("filling");
    follow(&format!("cat /dev/zero > {} 2>/dev/null || true", filling.display()));
    fails(&bed, &[], "home", "No space left", "free some space");
    let other = bed.gvm(["--home", &disk.0.join("other").display().to_string(), "doctor", "--json"]);
    first(&checks(&other), "home", "the disk is full", "free some space");
    fs::remove_file(filling).unwrap();
    is_well(&bed, &[]);
    follow(&format!("mount -o remount,noexec {}", disk.0.display()));
    fails(&bed, &[], "node", "executable", "noexec");
    follow(&format!("mount -o remount,exec {}", disk.0.display()));
    is_well(&bed, &[]);
    bed.gpmd(["kill"]).ok();
    follow(&format!("mount -o remount,ro {}", disk.0.display()));
    fails(&bed, &[], "home", "Read-only", "mount its disk for writing");
    follow(&format!("mount -o remount,rw {}", disk.0.display()));
}
