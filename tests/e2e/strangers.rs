//! Access from outside a home: by another user, and by the same user with another home.
//!
//! In: a running home with distinctive names. Out: refusals that contain none of these names. Must not know:
//! how callers are authenticated.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bed::{Bed, GPMD, GVM};
use crate::guests;
use crate::process::Running;

/// Names that must not appear in anything that an outsider receives.
const SECRETS: [&str; 2] = ["hidden-node", "hidden-module"];

/// How long an outsider waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The user id of `nobody` on Linux.
const ANOTHER: u32 = 65534;

/// Connects to an address and sends a message in clear text. Returns the bytes received, or the error of the
/// connection.
fn knock_at(place: &str) -> Result<Vec<u8>, ErrorKind> {
    fn hear(mut at: impl Read + Write) -> Vec<u8> {
        // The first frame of a Cap'n Proto connection.
        let hello = b"\0\0\0\0\x03\0\0\0\0\0\0\0\x01\0\0\0\x08\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0";
        let mut heard = Vec::new();
        // If the connection is closed early, the bytes received until then count.
        let _ = at.write_all(hello).and_then(|()| at.read_to_end(&mut heard));
        heard
    }
    let refused = |error: std::io::Error| error.kind();
    match place.split_once(':').unwrap() {
        ("unix", path) => {
            let at = UnixStream::connect(path).map_err(refused)?;
            at.set_read_timeout(Some(PATIENCE)).unwrap();
            Ok(hear(at))
        }
        (_, at) => {
            let at = TcpStream::connect(at).map_err(refused)?;
            at.set_read_timeout(Some(PATIENCE)).unwrap();
            Ok(hear(at))
        }
    }
}

/// The environment variable with the addresses to connect to, when another user runs this test binary.
const PLACES: &str = "GVM_KNOCK_AT";

/// Connects to the addresses for [`knock`], in a separate process. In a usual test run it does nothing.
#[test]
fn knocking() {
    for place in std::env::var(PLACES).unwrap_or_default().lines() {
        match knock_at(place) {
            Ok(heard) => eprintln!("heard {} {}", heard.len(), String::from_utf8_lossy(&heard)),
            Err(kind) => eprintln!("refused {kind:?}"),
        }
    }
}

/// Returns what another user receives at these addresses.
#[track_caller]
fn knock(bed: &Bed, places: &[String]) -> Vec<String> {
    let program = copy(bed, std::env::current_exe().unwrap().to_str().unwrap());
    let mut command = Command::new(program);
    command.args(["--exact", "strangers::knocking", "--nocapture"]).current_dir("/");
    command.env(PLACES, places.join("\n")).uid(ANOTHER).gid(ANOTHER);
    let ended = Running::start(&mut command).finish();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let said = ended.err();
    assert!(SECRETS.iter().all(|secret| !said.contains(secret)), "{said}");
    let said = said.lines().filter(|line| line.starts_with("heard ") || line.starts_with("refused "));
    let said: Vec<String> = said.map(str::to_owned).collect();
    assert_eq!(said.len(), places.len(), "{said:?}");
    said
}

fn known() -> (Bed, crate::bed::Node, Vec<String>) {
    let bed = Bed::new();
    bed.upload("hidden-module", &guests::math());
    let node = bed.node("hidden-node");
    let status: serde_json::Value = serde_json::from_str(&bed.gpmd(["status", "--json"]).ok()).unwrap();
    let mut places = vec![];
    for name in ["gpmd.sock", "command.sock"] {
        places.push(format!("unix:{}", bed.home().join(name).display()));
    }
    for socket in std::fs::read_dir(bed.home().join("nodes")).unwrap().flatten() {
        places.push(format!("unix:{}", socket.path().display()));
    }
    places.extend(["address", "command_address"].map(|key| status[key].as_str().unwrap().to_owned()));
    let ports = crate::process::listening(node.pid());
    assert!(!ports.is_empty(), "a node listens on a port");
    places.extend(ports.iter().map(|port| format!("tcp:127.0.0.1:{port}")));
    (bed, node, places)
}

fn open(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn another_user_is_told_nothing() {
    if !rustix::process::getuid().is_root() {
        eprintln!("not run: becoming another user needs root");
        return;
    }
    let (bed, _node, places) = known();
    let sockets = places.iter().filter(|place| place.starts_with("unix:")).count();
    // The folder's permissions keep others out; a port only shows that it speaks TLS.
    open(bed.folder(), 0o755);
    let said = knock(&bed, &places);
    assert!(said[..sockets].iter().all(|said| said == "refused PermissionDenied"), "{said:?}");
    // At most a TLS alert.
    let little = |said: &String| {
        let heard = said.split(' ').nth(1).and_then(|count| count.parse::<usize>().ok());
        said.starts_with("heard ") && heard.is_some_and(|bytes| bytes <= 7)
    };
    assert!(said[sockets..].iter().all(little), "{said:?}");
    // When the folder's permissions are opened, the peer's user id from the kernel still keeps others out.
    let reach = |mode| {
        open(&bed.home(), mode);
        open(&bed.home().join("nodes"), mode);
    };
    reach(0o755);
    for place in &places[..sockets] {
        open(&PathBuf::from(&place[5..]), 0o777);
    }
    let said = knock(&bed, &places[..sockets]);
    assert!(said.iter().all(|said| said.trim_end() == "heard 0"), "{said:?}");
    // `gvm` and `gpmd`, run by another user, are refused as well.
    for (program, args) in [(GPMD, &["status"][..]), (GVM, &["eval", "Node.discover()"])] {
        let program = copy(&bed, program);
        let mut command = Command::new(program);
        command.args(args).env("GHOST_HOME", bed.home()).uid(ANOTHER).gid(ANOTHER);
        let ended = Running::start(&mut command).finish();
        assert_eq!(ended.status, Some(1), "{ended:?}");
        let said = ended.out() + &ended.err();
        assert!(SECRETS.iter().all(|secret| !said.contains(secret)), "{said}");
        assert!(said.starts_with("HOME_INSECURE: ") || said.starts_with("AUTH_FAILED: "), "{said}");
    }
    reach(0o700);
    assert_eq!(bed.nodes(), ["hidden-node"], "the node is still registered");
}

/// Copies a program to a place where every user can run it.
fn copy(bed: &Bed, program: &str) -> PathBuf {
    let to = bed.folder().join(Path::new(program).file_name().unwrap());
    std::fs::copy(program, &to).unwrap();
    to
}

#[test]
fn another_home_of_the_same_user_is_told_nothing() {
    let (bed, _node, places) = known();
    let other = Bed::new();
    for place in &places {
        for (program, args) in [
            (GVM, &["eval", "--gpmd", place, "Node.discover()"][..]),
            (GPMD, &["status", "--gpmd", place]),
            (GPMD, &["wasm", "remove", "hidden-module", "--gpmd", place]),
        ] {
            let ended = Running::start(other.command(program).args(args)).finish();
            assert!(matches!(ended.status, Some(1 | 2)), "{place} {args:?} {ended:?}");
            let said = ended.out() + &ended.err();
            assert!(!said.contains("hidden-node"), "{place} {args:?} {said}");
        }
    }
    assert!(bed.run(["hidden-module.add(1, 2)"]).ok().ends_with("3\n"));
    assert_eq!(bed.nodes(), ["hidden-node"]);
}
