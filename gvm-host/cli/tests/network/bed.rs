//! Devices for the tests: each is a home with a gpmd of its own, on this host.
//!
//! In: the built program. Out: devices that run commands, and nodes that register with them. Must not know: the tests.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use gvm_host::gpmd::control::Control;
use gvm_host::gpmd::link::{Link, Told, Us};
use gvm_host::gpmd::network::{DeviceStatus, NetworkStatus};
use gvm_host::gpmd::record;
use gvm_host::gpmd::route::Route;
use gvm_host::{Applicant, Code, Devices, Error, Home, Life};
use rustix::process::Signal;

const GPMD: &str = env!("CARGO_BIN_EXE_gpmd");

/// A device. Its gpmd is stopped when the test ends, even by a panic.
pub struct Device {
    folder: tempfile::TempDir,
    /// A network of more devices is large.
    small: &'static str,
}

impl Device {
    /// Returns a device whose gpmd does not run yet.
    pub fn off() -> Device {
        Device::off_in_networks("50")
    }

    /// Returns such a device, for which a network of more devices than `small` is large.
    pub fn off_in_networks(small: &'static str) -> Device {
        Device { folder: tempfile::tempdir().unwrap(), small }
    }

    /// Returns a device of this name.
    pub fn new(name: &str) -> Device {
        let device = Device::off();
        device.ok(&["start", "--device", name]);
        device
    }

    /// Returns a device that has joined the network of another one.
    pub fn joined(name: &str, inviter: &Device) -> Device {
        let device = Device::new(name);
        device.join(&inviter.invite());
        device
    }

    pub fn home(&self) -> Home {
        Home::open(self.folder.path().join("home")).unwrap()
    }

    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(GPMD);
        let home: PathBuf = self.folder.path().join("home");
        command.args(args).env("GHOST_HOME", home).env_remove("RUST_LOG");
        command
            .env("GPMD_PORT", "0")
            .env("GPMD_COMMAND_PORT", "0")
            .env("GPMD_MDNS", "off")
            .env("GPMD_SMALL", self.small);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn gpmd(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that succeeds, and returns what it prints.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.gpmd(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that succeeds while the nodes of this thread go on.
    pub async fn ok_beside(&self, args: &[&str]) -> String {
        let mut child = self.command(args).spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that fails with this code, and returns its message.
    #[track_caller]
    pub fn fails(&self, args: &[&str], code: Code) -> String {
        let output = self.gpmd(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
        assert!(stderr.starts_with(&format!("{code}: ")), "{args:?}: {stderr}");
        stderr
    }

    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(&[args, &["--json"]].concat())).unwrap()
    }

    /// Makes an invitation, and returns its line.
    pub fn invite(&self) -> String {
        self.json(&["invite"])["line"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn join(&self, line: &str) {
        self.ok(&["join", line]);
    }

    /// Asks gpmd, on a thread of its own: a test may be in a runtime, and the client blocks.
    fn ask<T: Send>(&self, ask: impl FnOnce(&Control) -> T + Send) -> T {
        let home = self.home();
        std::thread::scope(|scope| {
            scope.spawn(move || ask(&Control::connect(&home).unwrap())).join().unwrap()
        })
    }

    pub fn network(&self) -> NetworkStatus {
        self.ask(|control| control.devices().unwrap())
    }

    /// Returns the names of the devices of the network, sorted.
    pub fn names(&self) -> Vec<String> {
        self.network().devices.iter().map(|device| device.name.to_string()).collect()
    }

    /// Returns what this device knows about another one.
    pub fn sees(&self, name: &str) -> Option<DeviceStatus> {
        self.network().devices.into_iter().find(|device| device.name.as_str() == name)
    }

    pub fn is_up(&self, name: &str) -> bool {
        self.sees(name).is_some_and(|device| device.up)
    }

    /// Returns the port for nodes.
    pub fn port(&self) -> u16 {
        let address = self.ask(|control| control.status().unwrap().address);
        address.rsplit(':').next().unwrap().parse().unwrap()
    }

    fn pid(&self) -> rustix::process::Pid {
        let record = record::Record::read(&self.home()).unwrap();
        rustix::process::Pid::from_raw(record.pid as i32).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Ends gpmd as a loss of power does.
    pub fn kill_hard(&self) {
        self.signal(Signal::KILL);
        wait(Duration::from_secs(5), || !record::is_running(&self.home()));
    }

    pub fn stop(&self) {
        self.ok(&["kill"]);
    }

    pub fn start(&self) {
        self.ok(&["start"]);
    }

    /// Registers a node, which lives as long as the result.
    pub async fn node(&self, name: &str, accepts: &[&str]) -> Result<Link, Error> {
        self.node_with(name, accepts).await.map(|(link, _)| link)
    }

    /// Does the same, and returns the devices that the node trusts.
    pub async fn node_with(&self, name: &str, accepts: &[&str]) -> Result<(Link, Devices), Error> {
        let applicant = Applicant {
            name: Some(name.parse().unwrap()),
            life: Life { id: uuid::Uuid::new_v4(), incarnation: 1 },
            addresses: vec!["unix:/nowhere.sock".into()],
            accepts: accepts.iter().map(|pattern| (*pattern).to_owned()).collect(),
        };
        let home = self.home();
        let us = Us::new(applicant)?;
        let devices = us.devices.clone();
        let (link, _events) = Link::connect(&home, Route::nodes(&home), us, Told::default()).await?;
        Ok((link, devices))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.gpmd(&["kill"]);
    }
}

/// Waits until something is the case.
///
/// # Panics
/// If it does not happen in time.
#[track_caller]
pub fn wait(most: Duration, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < most, "it did not happen within {most:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The names of all nodes that a node discovers.
pub async fn discovered(link: &Link) -> Vec<String> {
    link.discover().await.unwrap().iter().map(|node| node.name.to_string()).collect()
}

/// Waits until a node discovers these nodes, sorted by name.
#[track_caller]
pub fn discovers<'a>(link: &'a Link, names: &'a [&str]) -> impl Future<Output = ()> + 'a {
    let place = std::panic::Location::caller();
    let mut names = names.to_vec();
    names.sort_unstable();
    async move {
        let begun = Instant::now();
        loop {
            let found = discovered(link).await;
            if found == names {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "{place}: {found:?} instead of {names:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub fn run_local<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    let output = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), future).await });
    output.expect("it ends in time")
}
