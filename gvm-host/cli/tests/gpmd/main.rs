//! Tests of the `gpmd` program, with real processes, private homes and crashes.
//!
//! In: the built program. Out: what it prints and what `gvm_host::gpmd` reads from it. Must not know: the
//! internals of the daemon.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod strain;
mod uploads;
mod versions;

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gvm_host::daemon::server::{Config, Server, Start};
use gvm_host::gpmd::control::Control;
use gvm_host::gpmd::link::{Event, Link, Told, Us};
use gvm_host::gpmd::route::Route;
use gvm_host::index::Index;
use gvm_host::{Applicant, Code, Error, Home, Life, Name};
use tokio::sync::mpsc;

const GPMD: &str = env!("CARGO_BIN_EXE_gpmd");
const UPLOADED: &str = "Module Uploaded Successfully!\n";

/// A private home. Its gpmd is stopped when the test ends, even by a panic.
struct Bed {
    folder: tempfile::TempDir,
}

impl Bed {
    fn new() -> Bed {
        Bed { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn home(&self) -> Home {
        Home::open(self.path()).unwrap()
    }

    fn gpmd(&self, args: &[&str]) -> Output {
        gpmd(&self.path(), args)
    }

    fn start(&self) {
        assert_ok(&self.gpmd(&["start"]), "GPMD is running in the background.\n");
    }

    /// A module that exports `name`, larger by `padding` bytes of data.
    fn module(&self, name: &str, padding: usize) -> String {
        let path = self.folder.path().join(format!("{name}-{padding}.wat"));
        let data = "a".repeat(padding);
        let text =
            format!("(module (memory 1000) (data (i32.const 0) \"{data}\") (func (export \"{name}\")))");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn upload(&self, name: &str, version: &str, file: &str) -> Output {
        let (name, version) = (format!("--name={name}"), format!("--version={version}"));
        self.gpmd(&["wasm", "upload", &name, &version, &format!("--file={file}")])
    }

    fn list(&self) -> Vec<serde_json::Value> {
        serde_json::from_slice(&self.gpmd(&["wasm", "list", "--json"]).stdout).unwrap()
    }

    fn pid(&self) -> rustix::process::Pid {
        let status = Control::connect(&self.home()).unwrap().status().unwrap();
        rustix::process::Pid::from_raw(status.pid as i32).unwrap()
    }

    fn kill_hard(&self) {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::KILL).unwrap();
        wait_for(|| !gvm_host::gpmd::record::is_running(&self.home()));
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.gpmd(&["kill"]);
    }
}

fn command(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(GPMD);
    command.args(args).env("GHOST_HOME", home).env_remove("RUST_LOG");
    command.env("GPMD_PORT", "0").env("GPMD_COMMAND_PORT", "0").env("GPMD_MDNS", "off");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn gpmd(home: &Path, args: &[&str]) -> Output {
    command(home, args).output().unwrap()
}

#[track_caller]
fn assert_ok(output: &Output, stdout: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
    assert_eq!(stderr, "");
}

#[track_caller]
fn assert_fails(output: &Output, code: Code) {
    assert_left(output, code, 1);
}

/// Wrong usage: an argument on the command line cannot be read.
#[track_caller]
fn assert_misused(output: &Output, code: Code) {
    assert_left(output, code, 2);
}

#[track_caller]
fn assert_left(output: &Output, code: Code, status: i32) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert!(stderr.starts_with(&format!("{code}: ")), "{stderr}");
}

#[track_caller]
fn wait_for(mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(10), "it did not happen within 10 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn run_local<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    let output = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), future).await });
    output.expect("it ends in time")
}

fn applicant(name: &str, id: u128) -> Applicant {
    Applicant {
        name: (!name.is_empty()).then(|| name.parse().unwrap()),
        life: Life { id: uuid::Uuid::from_u128(id), incarnation: 1 },
        addresses: vec!["unix:/nowhere.sock".into()],
        accepts: Vec::new(),
    }
}

/// The index that gpmd announced last. `None` while it must be read from the home.
type Heard = Rc<RefCell<Option<Arc<Index>>>>;

async fn connect(home: &Home, applicant: Applicant) -> Result<(Link, mpsc::Receiver<Event>), Error> {
    hear(home, applicant, Heard::default()).await
}

async fn hear(
    home: &Home,
    applicant: Applicant,
    heard: Heard,
) -> Result<(Link, mpsc::Receiver<Event>), Error> {
    let announced = Box::new(move |index| *heard.borrow_mut() = index);
    let told = Told { announced, ..Told::default() };
    Link::connect(home, Route::nodes(home), Us::new(applicant)?, told).await
}

async fn names(link: &Link) -> Vec<String> {
    link.discover().await.unwrap().iter().map(|node| node.name.to_string()).collect()
}

fn started(home: &Home) -> Server {
    match Server::start(Config::new(home.clone())).unwrap() {
        Start::Started(server) => server,
        Start::Running(_) => panic!("another runs"),
    }
}

#[test]
fn starts_once_and_stops_in_order() {
    let bed = Bed::new();
    assert_fails(&bed.gpmd(&["kill"]), Code::GpmdNotRunning);
    assert_fails(&bed.gpmd(&["status"]), Code::GpmdNotRunning);
    bed.start();
    assert_ok(&bed.gpmd(&["start"]), "GPMD is already running.\n");
    assert_ok(&bed.gpmd(&["start", "-nd"]), "GPMD is already running.\n");
    assert_ok(&bed.gpmd(&["kill"]), "");
    assert!(!bed.home().gpmd_socket().exists() && !bed.home().gpmd_record().exists());
    bed.start();
    assert_ok(&bed.gpmd(&["stop"]), "");
    assert_eq!(bed.gpmd(&["dance"]).status.code(), Some(2));
}

#[test]
fn the_foreground_ends_on_a_signal() {
    let bed = Bed::new();
    let mut child = command(&bed.path(), &["start", "--foreground"]).stderr(Stdio::null()).spawn().unwrap();
    wait_for(|| Control::connect(&bed.home()).is_ok());
    rustix::process::kill_process(bed.pid(), rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!bed.home().gpmd_socket().exists());
}

#[test]
fn many_starts_at_once_make_one_daemon() {
    let bed = Bed::new();
    let starts: Vec<Child> = (0..6).map(|_| command(&bed.path(), &["start"]).spawn().unwrap()).collect();
    for start in starts {
        let output = start.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    bed.pid();
}

#[test]
fn a_crash_is_no_obstacle() {
    let bed = Bed::new();
    bed.start();
    assert_ok(&bed.upload("math", "v0.0.1", &bed.module("add", 0)), UPLOADED);
    bed.kill_hard();
    assert!(bed.home().gpmd_socket().exists() && bed.home().gpmd_record().exists());
    assert_fails(&bed.gpmd(&["status"]), Code::GpmdNotRunning);
    assert_fails(&bed.upload("math", "v0.0.2", &bed.module("add", 0)), Code::GpmdNotRunning);
    assert!(bed.gpmd(&["wasm", "show", "math"]).status.success());
    bed.start();
    assert_eq!(bed.list()[0]["version"], "0.0.1");
}

#[test]
fn a_long_path_serves_as_home() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("a".repeat(100)).join("b".repeat(100));
    assert_ok(&gpmd(&home, &["start"]), "GPMD is running in the background.\n");
    assert!(gpmd(&home, &["status"]).status.success());
    assert_ok(&gpmd(&home, &["kill"]), "");
}

#[test]
fn the_ports_in_use_are_written_and_shown() {
    let bed = Bed::new();
    bed.start();
    let status = bed.gpmd(&["status", "--json"]).stdout;
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    let record: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(bed.home().gpmd_record()).unwrap()).unwrap();
    for field in ["address", "command_address", "socket", "command_socket", "pid"] {
        assert_eq!(status[field], record[field], "{field}");
    }
    for field in ["address", "command_address"] {
        let address = status[field].as_str().unwrap();
        assert!(address.starts_with("tcp:127.0.0.1:") && !address.ends_with(":0"), "{address}");
    }
    assert_eq!(status["socket"], format!("unix:{}", bed.home().gpmd_socket().display()));
    let text = String::from_utf8(bed.gpmd(&["status"]).stdout).unwrap();
    assert!(text.contains(status["address"].as_str().unwrap()), "{text}");
}

#[test]
fn a_port_that_is_taken_is_said_with_the_way_out() {
    let (bed, other) = (Bed::new(), Bed::new());
    bed.start();
    let status = Control::connect(&bed.home()).unwrap().status().unwrap();
    for (flag, address) in [("--port", &status.address), ("--command-port", &status.command_address)] {
        let port = address.rsplit(':').next().unwrap();
        for manner in [&["start"][..], &["start", "--foreground"]] {
            let start = other.gpmd(&[&[flag, port], manner].concat());
            assert_fails(&start, Code::PortInUse);
            let stderr = String::from_utf8_lossy(&start.stderr);
            assert!(stderr.contains(port) && stderr.contains("--port 0 --command-port 0"), "{stderr}");
        }
    }
    assert!(!other.home().gpmd_record().exists());
    // The fix works, and after a crash the same port is free again.
    let port = status.address.rsplit(':').next().unwrap();
    other.start();
    bed.kill_hard();
    assert_ok(&bed.gpmd(&["start", "--port", port]), "GPMD is running in the background.\n");
    assert_eq!(Control::connect(&bed.home()).unwrap().status().unwrap().address, status.address);
}

#[test]
fn who_has_the_key_is_served_on_the_ports() {
    let (bed, other) = (Bed::new(), Bed::new());
    let server = started(&bed.home());
    let home = bed.home();
    let at = |text: &str, home: &Home| Route::at(text.parse().unwrap(), home).unwrap();
    let commands = &server.record().command_address;
    let status = Control::connect_by(&home, &at(commands, &home)).unwrap().status().unwrap();
    assert_eq!(&status.command_address, commands);
    let typed = commands.strip_prefix("tcp:").unwrap();
    assert!(bed.gpmd(&["--gpmd", typed, "status"]).status.success());
    let stranger = Control::connect_by(&other.home(), &at(commands, &other.home())).err().unwrap();
    assert_eq!(stranger.code(), Code::AuthFailed);
    assert!(!stranger.to_string().contains(&home.id().to_string()), "{stranger}");
    assert_fails(&other.gpmd(&["--gpmd", typed, "status"]), Code::AuthFailed);
    run_local(async {
        let reach = at(&server.record().address, &home);
        let (link, _events) =
            Link::connect(&home, reach.clone(), Us::new(applicant("a", 1)).unwrap(), Told::default())
                .await
                .unwrap();
        assert_eq!(names(&link).await, ["a"]);
        link.finish().await;
        let reach = at(&server.record().address, &other.home());
        let refused =
            Link::connect(&other.home(), reach, Us::new(applicant("b", 2)).unwrap(), Told::default()).await;
        assert_eq!(refused.err().unwrap().code(), Code::AuthFailed);
    });
    let gone = at(commands, &home);
    drop(server);
    assert_eq!(Control::connect_by(&home, &gone).err().unwrap().code(), Code::GpmdNotRunning);
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let bed = Bed::new();
    bed.start();
    assert_ok(&bed.gpmd(&["kill"]), "");
    let key = bed.home().device_key();
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o604)).unwrap();
    let start = bed.gpmd(&["start"]);
    assert_fails(&start, Code::HomeInsecure);
    let stderr = String::from_utf8_lossy(&start.stderr);
    assert!(stderr.contains(&format!("`chmod 600 {}`", key.display())), "{stderr}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    bed.start();
}

#[test]
fn a_home_that_others_may_enter_is_refused() {
    let bed = Bed::new();
    fs::create_dir(bed.path()).unwrap();
    fs::set_permissions(bed.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let start = bed.gpmd(&["start"]);
    assert_fails(&start, Code::HomeInsecure);
    assert!(String::from_utf8_lossy(&start.stderr).contains("chmod 700"));
    fs::set_permissions(bed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    bed.start();
}

#[test]
fn a_broken_index_is_said_and_kept() {
    let bed = Bed::new();
    fs::write(bed.home().index(), "{ oops").unwrap();
    assert_fails(&bed.gpmd(&["start"]), Code::ModuleCorrupt);
    assert_eq!(fs::read_to_string(bed.home().index()).unwrap(), "{ oops");
}

#[test]
fn modules_from_upload_to_removal() {
    let bed = Bed::new();
    bed.start();
    let (one, two) = (bed.module("one", 0), bed.module("two", 0));
    assert_ok(&bed.upload("math", "v1.0.0", &one), UPLOADED);
    assert_ok(&bed.upload("math", "1.0.0", &one), UPLOADED);
    assert_fails(&bed.upload("math", "1.0.0", &two), Code::ModuleExists);
    assert_misused(&bed.upload("Math", "1.0.0", &two), Code::Syntax);
    assert_misused(&bed.upload("math", "one", &two), Code::Syntax);
    assert_fails(&bed.upload("math", "3.0.0", "/dev/null"), Code::ModuleInvalid);
    assert_ok(&bed.upload("math", "2.0.0", &two), UPLOADED);
    let chosen = || {
        let list = bed.list();
        let chosen = list.iter().find(|entry| entry["chosen"] == true).unwrap();
        chosen["version"].as_str().unwrap().to_owned()
    };
    assert_eq!(chosen(), "2.0.0");
    assert_ok(&bed.gpmd(&["wasm", "pin", "math", "v1.0.0"]), "math is pinned to 1.0.0.\n");
    assert_eq!(chosen(), "1.0.0");
    assert_ok(&bed.gpmd(&["wasm", "pin", "math"]), "math is no longer pinned.\n");
    assert_eq!(chosen(), "2.0.0");
    let bytes = bed.gpmd(&["wasm", "get", "math@1.0.0", "--out", "-"]).stdout;
    assert!(bytes.starts_with(b"\0asm"));
    assert_ok(&bed.gpmd(&["wasm", "remove", "math@2.0.0"]), "Removed math 2.0.0.\n");
    assert_eq!(chosen(), "1.0.0");
    assert_ok(&bed.gpmd(&["wasm", "remove", "math"]), "Removed math 1.0.0.\n");
    assert_fails(&bed.gpmd(&["wasm", "remove", "math"]), Code::ModuleNotFound);
    assert_eq!(fs::read_dir(bed.home().modules()).unwrap().count(), 0);
}

#[test]
fn nodes_register_find_each_other_and_go() {
    let bed = Bed::new();
    let _server = started(&bed.home());
    run_local(async {
        let (a, _) = connect(&bed.home(), applicant("node-b", 1)).await.unwrap();
        let (b, _) = connect(&bed.home(), applicant("node-a", 2)).await.unwrap();
        let (c, _) = connect(&bed.home(), applicant("", 3)).await.unwrap();
        let default = c.node().name.to_string();
        assert!(default.starts_with("node-") && default.len() == 9, "{default}");
        drop(c);
        let taken = connect(&bed.home(), applicant("node-b", 4)).await.err().unwrap();
        assert_eq!(taken.code(), Code::NodeNameTaken);
        while names(&a).await.len() > 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(names(&a).await, ["node-a", "node-b"]);
        let name: Name = "node-a".parse().unwrap();
        assert_eq!(a.look_up(&name.clone().into()).await.unwrap(), b.node());
        b.finish().await;
        assert_eq!(a.look_up(&name.clone().into()).await.unwrap_err().code(), Code::NodeNotFound);
    });
}

#[test]
fn nodes_outlive_gpmd_and_register_again() {
    let bed = Bed::new();
    let home = bed.home();
    run_local(async {
        let refused = connect(&home, applicant("", 1)).await.err().unwrap();
        assert_eq!(refused.code(), Code::GpmdNotRunning);
        let server = started(&home);
        let heard = Heard::default();
        let (link, mut events) = hear(&home, applicant("", 1), heard.clone()).await.unwrap();
        assert!(heard.borrow().is_some());
        let node = link.node();
        let stopping = tokio::task::spawn_blocking(|| server.stop("resting"));
        assert_eq!(events.recv().await, Some(Event::Lost("resting".into())));
        stopping.await.unwrap().unwrap();
        assert_eq!(link.discover().await.unwrap_err().code(), Code::GpmdNotRunning);
        assert!(heard.borrow().is_none());
        let server = started(&home);
        assert_eq!(events.recv().await, Some(Event::Back));
        assert_eq!(link.discover().await.unwrap()[0].life(), node.life());
        assert_eq!(link.node().name, node.name);
        drop(link);
        tokio::task::spawn_blocking(|| drop(server)).await.unwrap();
    });
}

#[test]
fn a_change_reaches_nodes_before_it_is_acknowledged() {
    let bed = Bed::new();
    let home = bed.home();
    let _server = started(&home);
    run_local(async {
        let heard = Heard::default();
        let (_link, _events) = hear(&home, applicant("", 1), heard.clone()).await.unwrap();
        for patch in 0..5 {
            let home = home.clone();
            tokio::task::spawn_blocking(move || {
                let bytes = format!("(module (func (export \"f{patch}\")))");
                let version = semver::Version::new(1, 0, patch);
                let control = Control::connect(&home).unwrap();
                control.upload(&"math".parse().unwrap(), &version, bytes.as_bytes(), &mut |_| {}).unwrap()
            })
            .await
            .unwrap();
            let index = heard.borrow().clone().unwrap();
            assert_eq!(index.resolve("math", None).unwrap().version.patch, patch);
        }
    });
}

#[test]
fn a_stopped_node_does_not_hold_up_an_upload_for_long() {
    let bed = Bed::new();
    let home = bed.home();
    let _server = started(&home);
    let (ready, told) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let stuck = std::thread::spawn({
        let home = home.clone();
        move || {
            run_local(async {
                let link = connect(&home, applicant("stuck", 1)).await.unwrap();
                ready.send(()).unwrap();
                let _ = ended.recv();
                drop(link);
            });
        }
    });
    told.recv().unwrap();
    let control = Control::connect(&home).unwrap();
    let begun = Instant::now();
    let version = semver::Version::new(1, 0, 0);
    control.upload(&"math".parse().unwrap(), &version, b"(module)", &mut |_| {}).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    end.send(()).unwrap();
    stuck.join().unwrap();
}

#[test]
fn another_home_is_refused() {
    let (bed, other) = (Bed::new(), Bed::new());
    let _server = started(&bed.home());
    let theirs = other.home();
    for socket in [Home::gpmd_socket, Home::command_socket] {
        std::os::unix::fs::symlink(socket(&bed.home()), socket(&theirs)).unwrap();
    }
    assert_eq!(Control::connect(&theirs).err().unwrap().code(), Code::AuthFailed);
    run_local(async {
        let refused = connect(&theirs, applicant("", 1)).await.err().unwrap();
        assert_eq!(refused.code(), Code::AuthFailed);
    });
}
