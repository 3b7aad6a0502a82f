//! A private home and the processes that use it: a daemon, nodes and commands.
//!
//! In: names and command-line arguments. Out: processes that end with the test. Must not know: what a test
//! checks.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal};

use crate::guests;
use crate::process::{Ended, Running, wait_until};

pub const GVM: &str = env!("CARGO_BIN_EXE_gvm");
pub const GPMD: &str = env!("CARGO_BIN_EXE_gpmd");

/// Environment variables of the person who runs the tests. The tested programs must not see them.
const FOREIGN: [&str; 7] =
    ["GHOST_HOME", "GPMD_PORT", "GPMD_COMMAND_PORT", "GPMD_MDNS", "RUST_LOG", "RUST_BACKTRACE", "NO_COLOR"];

/// A temporary folder that contains a home, and optionally a daemon. Dropping it ends the daemon and deletes
/// the folder.
pub struct Bed {
    // Declared before the folder, because fields drop in order: the daemon must end first.
    gpmd: Option<Running>,
    home: PathBuf,
    /// Variables of all processes that start from now on.
    variables: Vec<(&'static str, &'static str)>,
    folder: tempfile::TempDir,
}

impl Bed {
    /// Creates a bed without a daemon.
    pub fn bare() -> Bed {
        let folder = tempfile::Builder::new().prefix("gvm-").tempdir().unwrap();
        Bed { gpmd: None, home: folder.path().join("home"), variables: Vec::new(), folder }
    }

    /// Creates a bed with a running daemon.
    pub fn new() -> Bed {
        let mut bed = Bed::bare();
        bed.start_gpmd();
        bed
    }

    /// Creates a bed with a running daemon that has the modules `math` and `values`.
    pub fn stocked() -> Bed {
        let bed = Bed::new();
        bed.upload("math", &guests::math());
        bed.upload("values", &guests::values());
        bed
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn home(&self) -> PathBuf {
        self.home.clone()
    }

    /// Sets another path for the home. Later commands use it; nothing is moved on disk.
    pub fn move_home(&mut self, home: PathBuf) {
        self.home = home;
    }

    /// Sets a variable of all processes that start from now on.
    pub fn set(&mut self, name: &'static str, value: &'static str) {
        self.variables.push((name, value));
    }

    /// Returns a command that uses this home and starts in this folder.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for name in FOREIGN {
            command.env_remove(name);
        }
        command.env("GHOST_HOME", self.home()).current_dir(self.folder());
        // Many daemons run at the same time in the tests, so each takes free ports.
        command.env("GPMD_PORT", "0").env("GPMD_COMMAND_PORT", "0").env("GPMD_MDNS", "off");
        command.envs(self.variables.iter().copied());
        command
    }

    /// Runs `gvm` until it exits, without input.
    #[track_caller]
    pub fn gvm<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        self.start_gvm(args).finish()
    }

    pub fn start_gvm<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Running {
        Running::start(self.command(GVM).args(args))
    }

    /// Runs `gvm run` with these arguments until it exits.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        Running::start(self.command(GVM).arg("run").args(args)).finish()
    }

    /// Runs `gvm eval` with these arguments until it exits.
    #[track_caller]
    pub fn eval<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        Running::start(self.command(GVM).arg("eval").args(args)).finish()
    }

    #[track_caller]
    pub fn gpmd<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        Running::start(self.command(GPMD).args(args)).finish()
    }

    pub fn start_gpmd(&mut self) {
        self.gpmd = Some(Running::start(self.command(GPMD).args(["start", "--foreground"])));
        wait_until("gpmd answers", || self.gpmd(["status"]).status == Some(0));
    }

    /// Kills the daemon with SIGKILL, so that it cannot clean up.
    pub fn kill_gpmd(&mut self) {
        let gpmd = self.gpmd.take().unwrap();
        gpmd.signal(Signal::KILL);
        gpmd.end();
    }

    /// Returns what the daemon has written to standard error so far.
    pub fn gpmd_err(&self) -> String {
        self.gpmd.as_ref().unwrap().err()
    }

    pub fn gpmd_pid(&self) -> Pid {
        self.gpmd.as_ref().unwrap().pid()
    }

    #[track_caller]
    pub fn upload(&self, name: &str, file: &Path) {
        let (name, file) = (format!("--name={name}"), format!("--file={}", file.display()));
        self.gpmd(["wasm", "upload", &name, "--version=1.0.0", &file]).ok();
    }

    /// Returns the number of compiled modules in this home.
    pub fn compiled(&self) -> usize {
        let mut folders = vec![self.home().join("compiled")];
        let mut count = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                match path.is_dir() {
                    true => folders.push(path),
                    // The checksum file is written last, so it marks a complete module.
                    false => {
                        count += usize::from(path.extension().is_some_and(|extension| extension == "sum"))
                    }
                }
            }
        }
        count
    }

    /// Writes a file in this folder and returns its path.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Returns the names of the live nodes.
    pub fn nodes(&self) -> Vec<String> {
        let status: serde_json::Value = serde_json::from_str(&self.gpmd(["status", "--json"]).ok()).unwrap();
        status["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Starts a node. It runs until the returned value is dropped.
    pub fn node(&self, name: &str) -> Node {
        self.node_with(name, &[])
    }

    pub fn node_with(&self, name: &str, options: &[&str]) -> Node {
        let mut command = self.command(GVM);
        command.args(["--name", name]).args(options);
        Node::start(&mut command, name)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if self.gpmd.is_none() && self.home().join("gpmd.json").exists() {
            // A test may have started a daemon in the background.
            let mut kill = self.command(GPMD);
            let _ = kill.arg("kill").stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

/// A running node that reads statements from standard input, one per line.
pub struct Node {
    pub running: Running,
    asked: usize,
}

impl Node {
    /// Starts the command of the node with this name, and waits until it is ready.
    #[track_caller]
    pub fn start(command: &mut Command, name: &str) -> Node {
        let mut node = Node { running: Running::start(command), asked: 0 };
        // The node reads a script from standard input; its first answer shows that it is ready.
        let nodes = node.ask("Node.discover()");
        assert!(nodes.split(',').any(|node| node == name), "{nodes:?}");
        node
    }

    /// Sends a statement that prints one line, and returns that line.
    #[track_caller]
    pub fn ask(&mut self, statement: &str) -> String {
        self.tell(statement);
        let answered = self.asked + 1;
        wait_until(&format!("{statement} is answered; stderr: {}", self.running.err()), || {
            self.lines().len() >= answered
        });
        let line = self.lines().swap_remove(self.asked);
        self.asked = answered;
        line
    }

    /// Returns the next line of output, for a statement that prints several lines.
    #[track_caller]
    pub fn rest(&mut self) -> String {
        let answered = self.asked + 1;
        wait_until("the node prints another line", || self.lines().len() >= answered);
        self.asked = answered;
        self.lines().swap_remove(answered - 1)
    }

    /// Sends a statement without waiting for its output.
    pub fn tell(&mut self, statement: &str) {
        self.running.write(format!("{statement}\n").as_bytes());
    }

    pub fn pid(&self) -> Pid {
        self.running.pid()
    }

    /// Kills the node with SIGKILL, so that it cannot say goodbye to its peers.
    pub fn kill(self) {
        self.running.signal(Signal::KILL);
        self.running.end();
    }

    fn lines(&self) -> Vec<String> {
        let out = self.running.out();
        let whole = out.rfind('\n').map_or("", |end| &out[..end]);
        if whole.is_empty() { Vec::new() } else { whole.lines().map(str::to_owned).collect() }
    }
}
