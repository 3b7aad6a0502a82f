//! Uploads that are interrupted: gpmd stops, gpmd is killed, the sender stops.
//!
//! In: a private home and its gpmd. Out: what is stored. Must not know: the internals of the daemon.

use std::fs;
use std::time::{Duration, Instant};

use gvm_host::gpmd::control::{Control, Uploaded};
use gvm_host::{Code, Home, Result};

use crate::{Bed, command, started};

/// Larger than several pieces.
const BYTES: usize = 4 << 20;

/// A large binary module.
fn module() -> Vec<u8> {
    // A custom section without content.
    let mut bytes = b"\0asm\x01\0\0\0\0".to_vec();
    let mut length = BYTES + 2;
    while length > 0x7f {
        bytes.push(length as u8 & 0x7f | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend([1, b'x']);
    bytes.resize(bytes.len() + BYTES, 0);
    bytes
}

/// Uploads a module, and calls `stop` once after the first piece.
fn upload(home: &Home, version: u64, stop: &mut dyn FnMut()) -> Result<Uploaded> {
    let control = Control::connect(home)?;
    let mut stopped = false;
    let version = semver::Version::new(1, version, 0);
    control.upload(&"large".parse().unwrap(), &version, &module(), &mut |_| {
        if !std::mem::replace(&mut stopped, true) {
            stop();
        }
    })
}

/// An upload that has begun when gpmd is asked to stop is stored completely. A new upload is refused.
#[test]
fn the_end_lets_uploads_end_whole() {
    let bed = Bed::new();
    let home = bed.home();
    let server = started(&home);
    let stopper = server.stopper();
    let (ready, go) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    let (uploaded, refused) = std::thread::scope(|scope| {
        // Another command, which has connected before gpmd was asked to stop.
        let late = scope.spawn(|| {
            let control = Control::connect(&home).unwrap();
            ready.wait();
            go.wait();
            let begun = Instant::now();
            loop {
                let version = semver::Version::new(9, 9, 9);
                match control.upload(&"late".parse().unwrap(), &version, b"(module)", &mut |_| {}) {
                    // gpmd has not received the request yet.
                    Ok(_) => assert!(begun.elapsed() < Duration::from_secs(4), "it goes on as before"),
                    Err(error) => return error,
                }
            }
        });
        ready.wait();
        let mut late = Some(late);
        let mut refused = None;
        let uploaded = upload(&home, 0, &mut || {
            stopper.stop("test");
            go.wait();
            refused = late.take().map(|late| late.join().unwrap());
        });
        (uploaded, refused.unwrap())
    });
    assert_eq!(refused.code(), Code::GpmdNotRunning);
    assert!(refused.message().contains("is being stopped"), "{refused}");
    uploaded.unwrap();
    server.wait().unwrap();
    let _server = started(&home);
    assert!(upload(&home, 0, &mut || {}).is_ok_and(|again| !again.created), "it is there already");
}

/// A sender that stops in the middle loses its place and leaves nothing behind.
#[test]
fn silent_senders_do_not_keep_their_places() {
    let bed = Bed::new();
    let home = bed.home();
    let _server = started(&home);
    let (go_on, all) = (std::sync::Barrier::new(17), std::sync::Barrier::new(17));
    std::thread::scope(|scope| {
        let stuck: Vec<_> = (0..16)
            .map(|number| {
                let (home, go_on, all) = (&home, &go_on, &all);
                scope.spawn(move || {
                    upload(home, number, &mut || {
                        all.wait();
                        // Its thread does nothing meanwhile, like a process that was stopped.
                        go_on.wait();
                    })
                })
            })
            .collect();
        all.wait();
        let refused = upload(&home, 99, &mut || {}).unwrap_err();
        assert_eq!(refused.code(), Code::Overloaded, "{refused}");
        let begun = Instant::now();
        while upload(&home, 99, &mut || {}).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "they keep their places");
            std::thread::sleep(Duration::from_millis(20));
        }
        let took = begun.elapsed();
        assert!(took > Duration::from_secs(4), "a short pause does not end an upload: {took:?}");
        go_on.wait();
        // Senders whose silence was not noticed yet continue as usual.
        let ended = stuck.into_iter().map(|stuck| stuck.join().unwrap());
        assert!(ended.filter(Result::is_err).count() > 0);
    });
    let left: Vec<_> = fs::read_dir(home.modules()).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn killed_during_uploads_keeps_what_was_acknowledged() {
    let bed = Bed::new();
    let (large, small) = (bed.module("large", 30_000_000), bed.module("small", 10));
    for round in 0..4 {
        bed.start();
        let version = format!("1.{round}.0");
        assert!(bed.upload("small", &version, &small).status.success());
        let (option, file) = (format!("--version={version}"), format!("--file={large}"));
        let upload = ["wasm", "upload", "--name=large", &option, &file];
        let upload = command(&bed.path(), &upload).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + 60 * round));
        bed.kill_hard();
        let acknowledged = upload.wait_with_output().unwrap().status.success();
        bed.start();
        let stored = |name| bed.gpmd(&["wasm", "show", name, "--version", &version]).status.success();
        assert!(stored("large") || !acknowledged);
        assert!(stored("small"));
        let files = fs::read_dir(bed.home().modules()).unwrap();
        assert!(files.map(|file| file.unwrap().path()).all(|path| path.extension().is_some()));
        bed.gpmd(&["kill"]);
    }
}

#[test]
fn uploads_at_once_all_end_whole() {
    let bed = Bed::new();
    bed.start();
    let files: Vec<String> = (0..8).map(|number| bed.module(&format!("f{number}"), 1_000_000)).collect();
    std::thread::scope(|scope| {
        for (number, file) in files.iter().enumerate() {
            let bed = &bed;
            scope.spawn(move || {
                let output = bed.upload("math", &format!("1.0.{number}"), file);
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            });
        }
    });
    assert_eq!(bed.list().len(), 8);
}
