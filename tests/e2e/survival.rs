//! gpmd killed at any moment, and files damaged in any place.
//!
//! In: `kill -9`, flipped bits. Out: calls that still succeed, modules that are intact, nodes that are
//! registered again; right results or `MODULE_CORRUPT`. `GVM_ROUNDS` sets the number of rounds. Must not
//! know: how the product recovers.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::bed::{Bed, Node};
use crate::dice::{Dice, rounds};
use crate::process::{Running, wait_until};

/// The time within which every node is registered again after gpmd restarts. The product promises 3 s; a
/// machine that also builds and runs other tests may take longer.
const FOUND: Duration = Duration::from_secs(10);

/// Returns the text of a module with one function, which returns this number.
fn numbered(number: u64) -> String {
    format!(r#"(module (func (export "number") (result i64) (i64.const {number})))"#)
}

#[test]
fn gpmd_killed_at_any_moment() {
    let mut bed = Bed::stocked();
    let mut dice = Dice::new();
    let mut a = bed.node("a");
    let b = bed.node("b");
    a.ask("Node.connect(b)");
    let before = lives(&bed);
    let (stop, acknowledged) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let (home, folder) = (bed.home(), bed.folder().to_owned());
    let worst = std::thread::scope(|scope| {
        let calling = scope.spawn(|| call_on(&mut a, &stop));
        let uploading = scope.spawn(|| upload_on(&home, &folder, &stop, &acknowledged));
        let mut worst = Duration::ZERO;
        let kills = rounds(8);
        for _ in 0..kills {
            dice.nap(Duration::from_millis(300));
            bed.kill_gpmd();
            dice.nap(Duration::from_millis(100));
            bed.start_gpmd();
            let back = Instant::now();
            wait_until("both nodes are found again", || lives(&bed) == before);
            worst = worst.max(back.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        let calls = calling.join().unwrap();
        uploading.join().unwrap();
        let uploads = acknowledged.lock().unwrap().len();
        eprintln!("{kills} kills, {calls} calls, {uploads} uploads; found again within {worst:?}");
        assert!(calls > 0 && uploads > 0);
        worst
    });
    assert!(worst < FOUND, "{worst:?}");
    let acknowledged = acknowledged.into_inner().unwrap();
    let every = acknowledged.len() / 100 + 1;
    for (index, number) in acknowledged.into_iter().enumerate() {
        let name = format!("m{number}");
        let got = bed.gpmd(["wasm", "get", &name, "--out", "-"]);
        assert!(got.status == Some(0) && got.stdout == wat::parse_str(numbered(number)).unwrap(), "{name}");
        if index % every == 0 {
            assert_eq!(bed.run([format!("{name}.number()")]).ok(), format!("{number}\n"));
        }
    }
    drop(b);
}

/// Returns the registered nodes by name and id.
fn lives(bed: &Bed) -> Vec<(String, String)> {
    let Ok(status) = serde_json::from_slice::<serde_json::Value>(&bed.gpmd(["status", "--json"]).stdout)
    else {
        return Vec::new();
    };
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let nodes = status["nodes"].as_array().into_iter().flatten();
    nodes.map(|node| (text(&node["name"]), text(&node["id"]))).collect()
}

/// Makes calls one after the other, here and on the other node, until `stop`. Each must succeed.
fn call_on(a: &mut Node, stop: &AtomicBool) -> i32 {
    let mut calls = 0;
    while !stop.load(Ordering::Relaxed) {
        let (left, right) = (calls, calls % 7);
        assert!(a.ask(&format!("Node.run(b, values.echo-s32({left}))")).starts_with("ID:  "));
        assert_eq!(a.rest(), left.to_string());
        assert_eq!(a.ask(&format!("values.echo-s32({right})")), right.to_string());
        calls += 2;
    }
    calls
}

/// Uploads one module after the other until `stop`, and records those that were acknowledged.
fn upload_on(home: &Path, folder: &Path, stop: &AtomicBool, acknowledged: &Mutex<Vec<u64>>) {
    let file = folder.join("numbered.wat");
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        std::fs::write(&file, numbered(number)).unwrap();
        let mut upload = std::process::Command::new(crate::bed::GPMD);
        upload.args(["wasm", "upload", "--version=1.0.0", &format!("--name=m{number}")]);
        upload.arg("--file").arg(&file).env("GHOST_HOME", home);
        let ended = Running::start(&mut upload).finish();
        match ended.status {
            Some(0) => {
                acknowledged.lock().unwrap().push(number);
                // A pause limits the number of uploads, because each is checked at the end.
                std::thread::sleep(Duration::from_millis(50));
            }
            // The upload failed with one of the codes `GPMD_…`.
            Some(1) => assert!(ended.err().starts_with("GPMD_"), "{}", ended.err()),
            other => panic!("{other:?}: {}", ended.err()),
        }
    }
}

/// Returns every file below a folder that is not empty.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.metadata() {
            Ok(meta) if meta.is_dir() => found.extend(files(&path)),
            Ok(meta) if meta.len() > 0 => found.push(path),
            // Lock files are empty.
            _ => {}
        }
    }
    found.sort();
    found
}

#[test]
fn bytes_flipped_in_any_place() {
    let bed = Bed::stocked();
    let mut dice = Dice::new();
    let call = || bed.run(["values.echo-string(\"whole\")"]);
    assert_eq!(call().ok(), "\"whole\"\n");
    let compiled = bed.home().join("compiled");
    let (mut right, mut corrupt) = (0, 0);
    for round in 0..rounds(40) {
        let whole: Vec<(PathBuf, Vec<u8>)> = files(&bed.home().join("modules"))
            .into_iter()
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect();
        let stored = round % 2 == 0;
        if stored && dice.below(4) > 0 {
            // Without the compiled code, a call must read the module.
            std::fs::remove_dir_all(&compiled).unwrap();
        }
        if !stored {
            assert_eq!(call().ok(), "\"whole\"\n", "earlier damage costs no more than a recompilation");
        }
        let all = if stored { files(&bed.home().join("modules")) } else { files(&compiled) };
        let damaged = dice.one_of(&all);
        let mut bytes = std::fs::read(damaged).unwrap();
        let at = dice.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << dice.below(8);
        overwrite(damaged, &bytes);
        let ended = call();
        match ended.status {
            Some(0) => {
                assert_eq!(ended.out(), "\"whole\"\n", "{} at {at}", damaged.display());
                right += 1;
            }
            _ => {
                ended.fails("MODULE_CORRUPT");
                corrupt += 1;
            }
        }
        whole.iter().for_each(|(path, bytes)| overwrite(path, bytes));
    }
    eprintln!("right {right} times, MODULE_CORRUPT {corrupt} times");
    assert!(right > 0 && corrupt > 0);
    assert_eq!(call().ok(), "\"whole\"\n");
}

/// Overwrites a file, even one that is read-only, and keeps its permissions.
fn overwrite(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    let permissions = std::fs::metadata(path).unwrap().permissions();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, permissions).unwrap();
}
