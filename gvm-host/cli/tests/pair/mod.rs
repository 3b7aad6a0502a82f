//! A gpmd and a node as separate processes, and a node in this process that is connected to it.
//!
//! In: a module. Out: the two nodes. Must not know: which functions are called. The processes end with the
//! pair. Shared by tests and benchmarks.
#![allow(dead_code, reason = "each user of this module needs only a part of it")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gvm_host::gpmd::control::Control;
use gvm_host::{Compiler, Config, Engine, EngineConfig, Handle, Home, inspect, workers};

/// A process that is killed when the guard is dropped.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The node `near` of this process, the node `far`, and their gpmd.
pub struct Pair {
    pub near: Handle,
    /// The process of the node `far`.
    pub far: Process,
    pub home: Home,
    _gpmd: Process,
    _folder: tempfile::TempDir,
}

impl Pair {
    /// Starts them with one module in their home, as text or binary.
    pub fn start(module: &str, text: &[u8]) -> Pair {
        let folder = tempfile::Builder::new().prefix("gvm-").tempdir().unwrap();
        let home = Home::open(folder.path().join("home")).unwrap();
        let start = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.arg("--home").arg(home.path()).args(args);
            Process(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
        };
        let ports = ["start", "--foreground", "--port", "0", "--command-port", "0"];
        let gpmd = start(env!("CARGO_BIN_EXE_gpmd"), &ports);
        let control = retry(|| Control::connect(&home).ok());
        let bytes = inspect::to_binary(text).unwrap();
        let version = semver::Version::new(1, 0, 0);
        control.upload(&module.parse().unwrap(), &version, &bytes, &mut |_| {}).unwrap();
        let far = start(env!("CARGO_BIN_EXE_gvm"), &["--name", "far"]);
        let compiler = Compiler::program(env!("CARGO_BIN_EXE_gvm")).args(["__compile"]);
        let engine = Engine::new(EngineConfig::new(home.compiled(), compiler));
        let config = Config::new(home.clone(), engine).name(name("near"));
        let workers = workers().unwrap();
        let near = workers.block_on(Handle::start(config)).unwrap();
        retry(|| workers.block_on(near.connect(name("far"))).ok());
        Pair { near, far, home, _gpmd: gpmd, _folder: folder }
    }
}

/// Returns a valid name.
pub fn name<T: std::str::FromStr<Err = gvm_host::Error>>(name: &str) -> T {
    name.parse().unwrap()
}

/// Returns the text of a guest in `tests/guests/wat`.
pub fn guest(file: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests/wat").join(file)).unwrap()
}

/// Tries again until `attempt` succeeds, for at most 30 seconds.
pub fn retry<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(Instant::now() < deadline, "nothing answered within 30 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}
