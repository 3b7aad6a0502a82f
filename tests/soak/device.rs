//! The devices, and the processes on them.
//!
//! In: the built programs. Out: devices in one network, whose processes can be started, killed and stopped, and cables that can be
//! cut. Must not know: when that happens.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;

use crate::tally::Tally;
use crate::{caller, guests};

pub const GVM: &str = env!("CARGO_BIN_EXE_gvm");
pub const GPMD: &str = env!("CARGO_BIN_EXE_gpmd");

/// The devices. The last one comes and goes.
pub const NAMES: [&str; 4] = ["laptop", "pi", "tv", "shed"];
pub const STAYING: usize = 3;

/// The nodes of each device that stays, beside its caller.
const NODES: [&str; 2] = ["study", "attic"];

/// A command that takes longer hangs.
const BOUND: Duration = Duration::from_secs(45);

/// After everything runs again, the devices meet within this time.
const MEET: Duration = Duration::from_secs(60);

/// After all calls have ended, what they used is given back within this time.
const SETTLE: Duration = Duration::from_secs(4);

/// Variables of the person who runs the tests. The tested programs must not see them.
const FOREIGN: [&str; 6] =
    ["GHOST_HOME", "GPMD_PORT", "GPMD_COMMAND_PORT", "GPMD_MDNS", "RUST_LOG", "NO_COLOR"];

const LOOK: Duration = Duration::from_millis(5);

/// How a command ended.
pub struct Ended {
    pub ok: bool,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ended {
    /// Returns the code of the error.
    pub fn code(&self) -> String {
        let coded = |line: &&str| {
            line.split_once(": ").is_some_and(|(code, _)| {
                code.len() > 3 && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
            })
        };
        let line = self.err.lines().find(coded).unwrap_or("no code");
        line.split(':').next().unwrap().to_owned()
    }
}

/// One device: a home, in a network namespace if there is one.
pub struct Device {
    pub name: &'static str,
    pub home: PathBuf,
    folder: PathBuf,
    namespace: Option<String>,
}

impl Device {
    pub fn command(&self, program: &str) -> Command {
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, program]);
                command
            }
            None => Command::new(program),
        };
        for name in FOREIGN {
            command.env_remove(name);
        }
        command.env("GHOST_HOME", &self.home).env("RUST_BACKTRACE", "1").current_dir(&self.folder);
        if self.namespace.is_none() {
            command.env("GPMD_PORT", "0").env("GPMD_COMMAND_PORT", "0").env("GPMD_MDNS", "off");
        }
        command
    }

    /// Runs a command of `gpmd` or `gvm` to its end. `None` if it hangs.
    pub fn run(&self, program: &str, args: &[&str]) -> Option<Ended> {
        let mut command = self.command(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let read = |mut from: Box<dyn Read + Send>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = from.read_to_end(&mut bytes);
                bytes
            })
        };
        let out = read(Box::new(child.stdout.take().unwrap()));
        let err = read(Box::new(child.stderr.take().unwrap()));
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if began.elapsed() > BOUND {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
            std::thread::sleep(LOOK);
        };
        let err = String::from_utf8_lossy(&err.join().unwrap()).into_owned();
        Some(Ended { ok: status.success(), out: out.join().unwrap(), err })
    }

    /// Starts a program that runs until it is killed, and writes into a log.
    pub fn start(&self, program: &str, args: &[&str], log: &str) -> Child {
        let log = File::options().append(true).create(true).open(self.log(log)).unwrap();
        let mut command = self.command(program);
        command.args(args).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command.spawn().unwrap()
    }

    pub fn log(&self, what: &str) -> PathBuf {
        self.folder.join(format!("{}-{what}.log", self.name))
    }

    /// Returns the names of the devices of its network for which this holds, or `None` if gpmd does not answer.
    fn those(&self, that: impl Fn(&Json) -> bool) -> Option<Vec<String>> {
        let ended = self.run(GPMD, &["devices", "--json"]).filter(|ended| ended.ok)?;
        let devices: Json = serde_json::from_slice(&ended.out).unwrap();
        let devices = devices["devices"].as_array().into_iter().flatten().filter(|device| that(device));
        Some(devices.map(|device| device["name"].as_str().unwrap().to_owned()).collect())
    }

    /// Returns the other devices that are up.
    pub fn up(&self) -> Option<Vec<String>> {
        self.those(|device| device["up"] == true && device["own"] == false)
    }

    /// Returns all devices of its network.
    pub fn members(&self) -> Option<Vec<String>> {
        self.those(|_| true)
    }

    /// Returns the name of this device in its network.
    pub fn own_name(&self) -> Option<String> {
        self.those(|device| device["own"] == true)?.pop()
    }
}

/// Network namespaces on a switch. Dropping it deletes them.
pub struct Switch {
    name: String,
    hosts: Vec<String>,
}

fn must(command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let ended = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(ended.status.success(), "{command}: {}", String::from_utf8_lossy(&ended.stderr));
}

impl Switch {
    fn new() -> Switch {
        let id = std::process::id();
        let name = format!("gvm-{id}-soak");
        let hosts: Vec<String> = NAMES.iter().map(|host| format!("gvm-{id}-{host}")).collect();
        must(&format!("ip netns add {name}"));
        must(&format!("ip -n {name} link add switch type bridge"));
        must(&format!("ip -n {name} link set switch up"));
        for (place, host) in hosts.iter().enumerate() {
            let place = place + 1;
            must(&format!("ip netns add {host}"));
            must(&format!("ip -n {name} link add port{place} type veth peer name cable netns {host}"));
            must(&format!("ip -n {name} link set port{place} master switch up"));
            must(&format!("ip -n {host} addr add 10.79.0.{place}/24 dev cable"));
            must(&format!("ip -n {host} link set cable up"));
            must(&format!("ip -n {host} link set lo up"));
        }
        Switch { name, hosts }
    }

    /// Pulls the cable of a device out, or puts it back.
    pub fn plug(&self, device: usize, is_in: bool) {
        let state = if is_in { "up" } else { "down" };
        must(&format!("ip -n {} link set port{} {state}", self.name, device + 1));
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for name in self.hosts.iter().chain([&self.name]) {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// A gpmd or a node, through all its lives.
pub struct Program {
    pub device: usize,
    /// `None` is the device's gpmd.
    pub node: Option<&'static str>,
    /// Whether it is stopped and cut off, but never killed: it is measured over the whole time.
    pub spared: bool,
    pub child: Option<Child>,
    pub started: Instant,
}

impl Program {
    pub fn title(&self) -> String {
        format!("{} on {}", self.node.unwrap_or("gpmd"), NAMES[self.device])
    }

    pub fn pid(&self) -> Option<Pid> {
        self.child.as_ref().map(Pid::from_child)
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills the program, so that it cannot clean up.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A caller's process.
pub struct CallerProcess {
    pub child: Child,
    pub device: usize,
    stdin: Option<ChildStdin>,
    words: Receiver<String>,
}

impl CallerProcess {
    fn tell(&mut self, word: &str) {
        let Some(stdin) = &mut self.stdin else { return };
        let _ = writeln!(stdin, "{word}").and_then(|()| stdin.flush());
    }

    /// Waits for a word. Returns whether it came in time.
    fn wait(&self, word: &str) -> bool {
        let end = Instant::now() + MEET;
        loop {
            match self.words.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(said) if said == word => return true,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}

impl Drop for CallerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything. The processes end before the namespaces and the folder.
pub struct World {
    pub tally: Arc<Mutex<Tally>>,
    pub end: AtomicBool,
    pub programs: Mutex<Vec<Program>>,
    pub callers: Mutex<Vec<CallerProcess>>,
    pub devices: Vec<Device>,
    pub switch: Option<Switch>,
    resting: AtomicBool,
    at_work: AtomicUsize,
    folder: Mutex<Option<tempfile::TempDir>>,
}

/// Ends the work of the other threads when a thread ends by a panic.
pub struct EndOnDrop<'a>(&'a World);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end.store(true, Ordering::Relaxed);
        }
    }
}

/// Commands run while this lives.
pub struct AtWork<'a>(&'a World);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::SeqCst);
    }
}

impl World {
    pub fn start(tally: Arc<Mutex<Tally>>) -> World {
        let folder = tempfile::Builder::new().prefix("gvm-soak-").tempdir().unwrap();
        let root = rustix::process::getuid().is_root();
        if !root {
            eprintln!(
                "network namespaces need root: all devices are on the loopback interface, and no cable is cut"
            );
        }
        let switch = root.then(Switch::new);
        let path = folder.path().to_owned();
        for name in NAMES {
            std::fs::create_dir_all(path.join("marks").join(name)).unwrap();
        }
        let device = |place: usize, name: &'static str| Device {
            name,
            home: path.join(name),
            folder: path.clone(),
            namespace: switch.as_ref().map(|switch| switch.hosts[place].clone()),
        };
        let devices: Vec<Device> =
            NAMES.iter().enumerate().map(|(place, name)| device(place, name)).collect();
        let mut programs = Vec::new();
        for place in 0..STAYING {
            for node in std::iter::once(None).chain(NODES.map(Some)) {
                // On the last of them, gpmd and one node live on.
                let spared = place == STAYING - 1 && node != Some(NODES[1]);
                programs.push(Program { device: place, node, spared, child: None, started: Instant::now() });
            }
        }
        let world = World {
            tally,
            end: AtomicBool::new(false),
            programs: Mutex::new(programs),
            callers: Mutex::default(),
            devices,
            switch,
            resting: AtomicBool::new(false),
            at_work: AtomicUsize::new(0),
            folder: Mutex::new(Some(folder)),
        };
        world.found(&path);
        world.call(&path);
        world
    }

    fn path(&self) -> PathBuf {
        self.devices[0].folder.clone()
    }

    /// Starts everything, and makes one network of it.
    fn found(&self, folder: &Path) {
        let mut programs = self.programs.lock().unwrap();
        programs
            .iter_mut()
            .filter(|program| program.node.is_none())
            .for_each(|gpmd| self.start_program(gpmd));
        for (place, device) in self.devices.iter().enumerate().take(STAYING) {
            wait_for("gpmd answers", || device.up());
            if place > 0 {
                let made = self.devices[0].run(GPMD, &["invite", "--json"]).unwrap();
                let made: Json = serde_json::from_slice(&made.out).unwrap();
                let joined = device.run(GPMD, &["join", made["line"].as_str().unwrap()]).unwrap();
                assert!(joined.ok, "{}", joined.err);
            }
        }
        let upload = |device: &Device, name: &str, file: PathBuf| {
            let (name, file) = (format!("--name={name}"), format!("--file={}", file.display()));
            let ended = device.run(GPMD, &["wasm", "upload", &name, "--version=1.0.0", &file]).unwrap();
            assert!(ended.ok, "{}", ended.err);
        };
        for device in &self.devices[..STAYING] {
            upload(device, "soak", guests::wat("soak"));
            upload(device, "counter", guests::wat("counter"));
            upload(device, "messenger", guests::p2("messenger"));
        }
        // The others fetch it.
        upload(&self.devices[0], "values", guests::values());
        programs
            .iter_mut()
            .filter(|program| program.node.is_some())
            .for_each(|node| self.start_program(node));
        drop(programs);
        assert!(folder.is_dir());
        self.wait_until_met();
    }

    pub fn start_program(&self, program: &mut Program) {
        let device = &self.devices[program.device];
        let marks = format!("{}::/marks", self.path().join("marks").join(device.name).display());
        let child = match program.node {
            // The device that comes and goes has the name that the network gives it, each time.
            None if program.device == STAYING => device.start(GPMD, &["start", "--foreground"], "gpmd"),
            None => device.start(GPMD, &["start", "--foreground", "--device", device.name], "gpmd"),
            Some(name) => {
                let args = ["serve", "--name", name, "--json", "--grant", "nodes", "--dir", &marks];
                device.start(GVM, &args, name)
            }
        };
        (program.child, program.started) = (Some(child), Instant::now());
    }

    /// Kills the gpmd that a command has started on the device of a gpmd that could not start.
    pub fn kill_started(&self, program: &Program) {
        let record = self.devices[program.device].home.join("gpmd.json");
        let record = std::fs::read(record).ok().and_then(|text| serde_json::from_slice::<Json>(&text).ok());
        let pid = record.and_then(|record| Pid::from_raw(i32::try_from(record["pid"].as_u64()?).ok()?));
        if let (None, Some(pid)) = (program.node, pid) {
            // The record may be that of an earlier life, whose number another process has by now.
            let command = std::fs::read_to_string(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
            let home = self.devices[program.device].home.display().to_string();
            if command.is_ok_and(|command| command.contains("gpmd") && command.contains(&home)) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    /// Starts the callers.
    fn call(&self, folder: &Path) {
        let names: Vec<String> = NAMES[..STAYING]
            .iter()
            .flat_map(|device| NODES.iter().chain(&["caller"]).map(move |node| format!("{node}@{device}")))
            .collect();
        for (place, device) in self.devices.iter().enumerate().take(STAYING) {
            let program = std::env::current_exe().unwrap();
            let mut command = device.command(program.to_str().unwrap());
            let log = File::options().append(true).create(true).open(device.log("caller")).unwrap();
            command.args(["--exact", "caller", "--nocapture"]).stderr(log);
            command.env(caller::NAME, "caller").env(caller::NODES, names.join(","));
            command
                .env(caller::MARKS, folder.join("marks"))
                .env(caller::DEVICE, device.name)
                .env(caller::NUMBER, (place + 1).to_string());
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
            let (sender, words) = channel();
            let (tally, from) = (self.tally.clone(), format!("caller on {}", device.name));
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let Some(said) = line.strip_prefix(caller::MARKER) else { continue };
                    match serde_json::from_str::<Json>(said) {
                        Ok(counted) => tally.lock().unwrap().add(&from, &counted),
                        Err(_) => drop(sender.send(said.to_owned())),
                    }
                }
            });
            self.callers.lock().unwrap().push(CallerProcess { child, device: place, stdin, words });
        }
    }

    /// Writes a file beside the homes.
    pub fn scratch(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub fn end_on_drop(&self) -> EndOnDrop<'_> {
        EndOnDrop(self)
    }

    pub fn fault(&self, what: String) {
        self.tally.lock().unwrap().fault(what);
    }

    pub fn event(&self, what: &str) {
        self.tally.lock().unwrap().event(what);
    }

    /// Waits until commands may run. `None` at the end.
    pub fn begin(&self) -> Option<AtWork<'_>> {
        loop {
            if self.end.load(Ordering::Relaxed) {
                return None;
            }
            self.at_work.fetch_add(1, Ordering::SeqCst);
            let at_work = AtWork(self);
            if !self.resting.load(Ordering::SeqCst) {
                return Some(at_work);
            }
            drop(at_work);
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until every device sees all others and all nodes.
    fn wait_until_met(&self) {
        let began = Instant::now();
        let staying = &self.devices[..STAYING];
        let met = |device: &Device| {
            let up = device.up().unwrap_or_default();
            let found = device.run(GVM, &["eval", "Node.discover()"]);
            let found =
                found.filter(|found| found.ok).map(|found| String::from_utf8_lossy(&found.out).into_owned());
            let found = found.unwrap_or_default();
            let nodes =
                found.trim().split(',').filter(|name| NODES.contains(&name.split('@').next().unwrap()));
            up.iter().filter(|name| NAMES[..STAYING].contains(&name.as_str())).count() == STAYING - 1
                && nodes.count() == STAYING * NODES.len()
        };
        while !staying.iter().all(met) {
            if began.elapsed() > MEET {
                for device in staying {
                    let said = device.run(GPMD, &["devices"]).map(|ended| ended.out).unwrap_or_default();
                    eprintln!("{}: {}", device.name, String::from_utf8_lossy(&said));
                }
                return self.fault(format!("the devices and nodes do not meet within {MEET:?}"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        self.tally.lock().unwrap().call("all devices and nodes met again", began.elapsed(), "ok");
    }

    /// Stops all calls and commands, with everything running, and lets it settle.
    pub fn rest(&self) {
        self.resting.store(true, Ordering::SeqCst);
        while self.at_work.load(Ordering::SeqCst) > 0 && !self.end.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
        }
        self.wait_until_met();
        let mut callers = self.callers.lock().unwrap();
        callers.iter_mut().for_each(|caller| caller.tell("rest"));
        for caller in callers.iter() {
            if !caller.wait("rested") {
                self.fault(format!("calls of the caller on {} do not end", NAMES[caller.device]));
            }
        }
        std::thread::sleep(SETTLE);
    }

    pub fn go_on(&self) {
        self.callers.lock().unwrap().iter_mut().for_each(|caller| caller.tell("go"));
        self.resting.store(false, Ordering::SeqCst);
    }

    /// Looks for panics in the logs.
    pub fn check_logs(&self) {
        for entry in std::fs::read_dir(self.path()).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
                for line in text.lines().filter(|line| line.contains("panicked at")) {
                    self.fault(format!("{}: {line}", path.display()));
                }
            }
        }
    }

    /// Ends the callers, which check what can be checked only at the end.
    pub fn stop(&self) {
        let mut callers = self.callers.lock().unwrap();
        callers.iter_mut().for_each(|caller| caller.tell("end"));
        for caller in callers.iter_mut() {
            if !caller.wait("ended") {
                self.fault(format!("the caller on {} does not end", NAMES[caller.device]));
            }
        }
        // Their last words are counted when their output ends.
        callers.clear();
        std::thread::sleep(Duration::from_millis(200));
    }

    /// Keeps the folder, for whoever reads the logs.
    pub fn keep(&self) -> PathBuf {
        self.folder.lock().unwrap().take().map(tempfile::TempDir::keep).unwrap_or_default()
    }
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < MEET, "waited {MEET:?} until {what}");
        std::thread::sleep(LOOK);
    }
}
