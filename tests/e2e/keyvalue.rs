//! Keys and values that modules keep: `--grant keyvalue`.
//!
//! In: the guest `web` as stored modules, nodes that are killed. Out: what is there afterwards. Must not know: the database.

use std::thread;

use rustix::process::Signal;

use crate::bed::{Bed, GVM};
use crate::guests;
use crate::process::{Ended, Running, wait_until};

fn bed() -> Bed {
    let bed = Bed::new();
    bed.upload("web", &guests::p2("web"));
    bed
}

fn call(bed: &Bed, call: &str) -> Ended {
    bed.run(["--grant", "keyvalue", call])
}

#[test]
fn values_last() {
    let bed = bed();
    assert_eq!(call(&bed, "web.get(\"\", \"a\")").ok(), "ok(none)\n");
    call(&bed, "web.set(\"\", \"a\", \"first\")").ok();
    assert_eq!(call(&bed, "web.get(\"\", \"a\")").ok(), "ok(some(\"first\"))\n");
    // Buckets have keys of their own.
    assert_eq!(call(&bed, "web.get(\"other\", \"a\")").ok(), "ok(none)\n");
    call(&bed, "web.delete(\"\", \"a\")").ok();
    assert_eq!(call(&bed, "web.get(\"\", \"a\")").ok(), "ok(none)\n");
    assert_eq!(call(&bed, "web.many(\"\", [\"x\", \"y\"])").ok(), "ok([none, some(\"y\")])\n");
    assert_eq!(call(&bed, "web.keys(\"\")").ok(), "ok([\"y\"])\n");
    assert_eq!(call(&bed, "web.increment(\"\", \"n\", 5)").ok(), "ok(5)\n");
    assert_eq!(call(&bed, "web.increment(\"\", \"n\", 1)").ok(), "ok(6)\n");
    assert_eq!(call(&bed, "web.increment(\"\", \"y\", 1)").ok(), "err(\"the value is not a number\")\n");
    // A new version has the values of the one before.
    let (name, file) = ("--name=web", format!("--file={}", guests::p2("web").display()));
    bed.gpmd(["wasm", "upload", name, "--version=2.0.0", &file]).ok();
    assert_eq!(call(&bed, "web@2.0.0.get(\"\", \"n\")").ok(), "ok(some(\"6\"))\n");
}

#[test]
fn a_store_is_for_the_stored_module_of_its_name() {
    let bed = bed();
    bed.upload("copy", &guests::p2("web"));
    call(&bed, "web.set(\"\", \"a\", \"mine\")").ok();
    assert_eq!(call(&bed, "copy.get(\"\", \"a\")").ok(), "ok(none)\n");
    // Without the grant.
    assert_eq!(bed.run(["web.get(\"\", \"a\")"]).ok(), "err(\"access denied\")\n");
    // A file has no name, whatever it is called.
    let file = bed.write("web.wasm", std::fs::read(guests::p2("web")).unwrap());
    let told = bed.run(["--grant", "keyvalue", "--invoke", "get(\"\", \"a\")", file.to_str().unwrap()]).ok();
    assert!(told.starts_with("err(\"only a module that is stored"), "{told}");
    // Bytes that another node sends do not have one either, and the node's stored modules do.
    let _node = bed.node_with("kept", &["--grant", "keyvalue"]);
    let sent = ["--node", "kept", "--invoke", "get(\"\", \"a\")", file.to_str().unwrap()];
    assert!(bed.run(sent).ok().starts_with("err(\"only a module that is stored"));
    assert_eq!(bed.run(["--node", "kept", "web.get(\"\", \"a\")"]).ok(), "ok(some(\"mine\"))\n");
    // The setting grants it too.
    bed.write("home/config.toml", "grant = [\"keyvalue\"]\n");
    assert_eq!(bed.run(["web.get(\"\", \"a\")"]).ok(), "ok(some(\"mine\"))\n");
}

#[test]
fn processes_share_a_store() {
    let bed = bed();
    let all: Vec<Running> = (0..4)
        .map(|_| bed.start_gvm(["run", "--grant", "keyvalue", "web.increment(\"\", \"n\", 100)"]))
        .collect();
    for one in all {
        one.finish().ok();
    }
    assert_eq!(call(&bed, "web.increment(\"\", \"n\", 0)").ok(), "ok(0)\n");
    assert_eq!(call(&bed, "web.get(\"\", \"n\")").ok(), "ok(some(\"400\"))\n");
}

#[test]
fn acknowledged_changes_survive_a_kill() {
    use std::io::{Read, Write};
    let bed = bed();
    let mut counted = 0;
    for _ in 0..3 {
        let mut command = bed.command(GVM);
        let running =
            Running::start(command.args(["serve", "--http", "127.0.0.1:0", "--grant", "keyvalue", "web"]));
        running.wait_for_out("http://");
        wait_until("the address is there", || running.out().ends_with("/\n"));
        let address = running.out().split("http://").nth(1).unwrap().trim().trim_end_matches('/').to_owned();
        let pid = running.pid();
        let killer = thread::spawn(move || {
            thread::sleep(std::time::Duration::from_millis(400));
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
        });
        // Until the server is gone.
        loop {
            let Ok(mut stream) = std::net::TcpStream::connect(&address) else { break };
            let mut told = String::new();
            let asked = stream.write_all(b"GET /increment/n HTTP/1.0\r\nhost: a\r\n\r\n");
            if asked.is_err() || stream.read_to_string(&mut told).is_err() {
                break;
            }
            match told.split_once("\r\n\r\n").and_then(|(_, body)| body.parse::<u64>().ok()) {
                Some(count) => {
                    // At most one change that was not acknowledged is there as well.
                    assert!(count == counted + 1 || count == counted + 2, "{count} after {counted}");
                    counted = count;
                }
                None => break,
            }
        }
        killer.join().unwrap();
        assert!(counted > 0);
        drop(running);
    }
    let left = call(&bed, "web.get(\"\", \"n\")").ok();
    assert!(
        [counted, counted + 1].iter().any(|count| left == format!("ok(some(\"{count}\"))\n")),
        "{left} {counted}"
    );
}

#[test]
fn a_store_is_bounded() {
    let bed = bed();
    let size = 1 << 20;
    let told = call(&bed, &format!("web.set(\"\", \"a\", \"{}\")", "v".repeat(1000))).ok();
    assert_eq!(told, "ok\n");
    let told = call(&bed, &format!("web.fill(\"\", {})", size + 1)).ok();
    assert_eq!(told, "(0, \"a value has more than 1.0 MiB\")\n");
    let told = call(&bed, &format!("web.fill(\"\", {size})")).ok();
    assert!(told.starts_with("(255, \"the store is full"), "{told}");
    let folder = bed.home().join("keyvalue");
    let bytes: u64 =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 300 << 20, "{bytes}");
    // Nobody else can read it.
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&folder).unwrap());
    assert_eq!(mode & 0o777, 0o700);
}
