//! A home with its gpmd, its nodes and the measured module.
//!
//! In: names of nodes. Out: running processes, which end with their guards. Must not know: what is measured.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gvm_host::gpmd::control::Control;
use gvm_host::net::Address;
use gvm_host::{Compiler, Config, Engine, EngineConfig, Handle, Home, NodeInfo, workers};

use super::worker::Process;

pub const GVM: &str = env!("CARGO_BIN_EXE_gvm");
pub const GPMD: &str = env!("CARGO_BIN_EXE_gpmd");

/// The name under which the measured component is stored.
pub const MODULE: &str = "sums";

/// Returns the root folder of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().into()
}

/// Returns the folder for what the benchmark builds or installs.
pub fn built() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("system")
}

/// Returns the path of the measured component.
pub fn component() -> PathBuf {
    built().join("wasm32-wasip2/release/sums.wasm")
}

/// A temporary home with a running gpmd.
pub struct Place {
    pub home: Home,
    pub gpmd: Process,
    _folder: tempfile::TempDir,
}

impl Place {
    /// Starts gpmd and uploads the component.
    pub fn start() -> Place {
        let place = Place::empty();
        let control = Control::connect(&place.home).unwrap();
        let bytes = std::fs::read(component()).unwrap();
        control.upload(&name(MODULE), &semver::Version::new(1, 0, 0), &bytes, &mut |_| {}).unwrap();
        place
    }

    /// Starts gpmd.
    pub fn empty() -> Place {
        let folder = tempfile::Builder::new().prefix("gvm-").tempdir().unwrap();
        let home = Home::open(folder.path().join("home")).unwrap();
        let ports = ["start", "--foreground", "--port", "0", "--command-port", "0"];
        let gpmd = program(GPMD, &home, &ports);
        retry(|| Control::connect(&home).ok());
        Place { home, gpmd, _folder: folder }
    }

    /// Starts a node as a process of its own, and waits until it has registered.
    pub fn node(&self, node: &str) -> Process {
        let process = program(GVM, &self.home, &["serve", "--name", node]);
        retry(|| self.info(node));
        process
    }

    /// Starts a node that others can reach only through its port. It listens at its socket too, as every node does, so
    /// the socket's file is removed.
    pub fn node_behind_tls(&self, node: &str) -> Process {
        let process = self.node(node);
        for address in self.info(node).unwrap().addresses {
            if let Ok(Address::Unix(path)) = address.parse() {
                std::fs::remove_file(path).unwrap();
            }
        }
        process
    }

    fn info(&self, node: &str) -> Option<NodeInfo> {
        let nodes = Control::connect(&self.home).ok()?.status().ok()?.nodes;
        nodes.into_iter().find(|info| info.name.as_str() == node)
    }
}

fn program(program: &str, home: &Home, args: &[&str]) -> Process {
    let mut command = Command::new(program);
    command.arg("--home").arg(home.path()).args(args);
    // What it logs stays in the folder, until the end.
    let log = std::fs::File::create(home.path().join(format!("log-{}", args.join("-")))).unwrap();
    Process(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

/// Starts a node in this process, connected to the others.
pub fn node_here(home: &Path, here: &str, others: &[&str]) -> Handle {
    let home = Home::existing(home).unwrap();
    let compiler = Compiler::program(GVM).args(["__compile"]);
    let engine = Engine::new(EngineConfig::new(home.compiled(), compiler));
    let workers = workers().unwrap();
    let node = workers.block_on(Handle::start(Config::new(home, engine).name(name(here)))).unwrap();
    for other in others {
        workers.block_on(node.connect(name(other))).unwrap();
    }
    node
}

/// Returns a valid name.
pub fn name<T: std::str::FromStr<Err = gvm_host::Error>>(name: &str) -> T {
    name.parse().unwrap()
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
