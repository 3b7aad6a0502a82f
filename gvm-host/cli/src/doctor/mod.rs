//! Checks a home, its daemon and its nodes, layer by layer.
//!
//! In: the path of a home, the configuration of a node in it, the name of another node. Out: findings in the
//! order of the layers, each with what is wrong and how to fix it. A failed layer makes the layers that need
//! it skipped. Must not know: the terminal.
//!
//! The checks change nothing: they create no home and start no daemon. They start a node and end it.

mod daemon;
mod files;
mod home;
mod network;
mod own;
mod peer;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use gvm_host::daemon::server::Ports;
use gvm_host::gpmd::network::NetworkStatus;
use gvm_host::gpmd::record::{holder, is_running};
use gvm_host::net::Address;
use gvm_host::system::{confine, process};
use gvm_host::{Code, Compiler, Config, Error, Home, NodeName, Result, workers};

/// The result of checking one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The name of the layer, which never changes.
    pub layer: &'static str,
    pub state: State,
    /// What was found.
    pub message: String,
    /// How to fix it, if the check failed.
    pub fix: Option<String>,
}

/// The state of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ok,
    Failed,
    /// Not checked, because an earlier check failed.
    Skipped,
}

impl State {
    /// Returns the state as it appears in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Failed => "failed",
            State::Skipped => "skipped",
        }
    }
}

impl Finding {
    /// Returns the finding as JSON.
    pub fn json(&self) -> Json {
        json!({ "layer": self.layer, "state": self.state.as_str(), "message": self.message, "fix": self.fix })
    }
}

/// Returns the configuration of a node in a home, from the command line and the settings.
pub type MakeConfig = Box<dyn Fn(Home) -> Result<Config> + Send + Sync>;

/// What to check.
pub struct Setup {
    /// The path of the home, which may not exist.
    pub home: PathBuf,
    /// The result of reading the settings of the home.
    pub settings: Result<()>,
    /// The address of gpmd, if it is not in the home.
    pub gpmd: Option<Address>,
    /// The ports that gpmd would use if it started now.
    pub ports: Ports,
    /// Another node to connect to.
    pub node: Option<NodeName>,
    /// The configuration of the test node.
    pub config: MakeConfig,
    pub compiler: Compiler,
    /// The commands to suggest.
    pub commands: Commands,
}

/// The programs as a user calls them for this home: with `--home`, if that flag chose the home.
#[derive(Clone, Debug)]
pub struct Commands {
    pub gpmd: String,
    pub gvm: String,
}

/// Layers that can fail for a moment while gpmd starts or ends.
const CHANGING: [&str; 4] = ["answer", "ports", "nodes", "node"];

/// How long gpmd takes to end.
const CHANGE: Duration = Duration::from_millis(300);

/// Checks every layer. Takes some seconds if something does not answer. Blocks, so it must not be called on a
/// runtime.
pub fn examine(setup: &Setup) -> Vec<Finding> {
    let runs = || Home::existing(&setup.home).ok().map(|home| (is_running(&home), holder(&home)));
    let before = runs();
    let mut findings = Findings(Vec::new());
    look(&mut findings, setup);
    // If gpmd started or ended meanwhile, the findings mix both states.
    if findings.0.iter().any(|finding| finding.state == State::Failed && CHANGING.contains(&finding.layer)) {
        std::thread::sleep(CHANGE);
        if runs() != before {
            findings.0.clear();
            look(&mut findings, setup);
        }
    }
    findings.skip(&["process"]);
    findings.skip(home::LAYERS);
    findings.skip(&["confinement"]);
    findings.skip(daemon::LAYERS);
    findings.skip(network::LAYERS);
    findings.skip(own::LAYERS);
    if let Some(node) = &setup.node {
        findings.skip(if node.device().is_some() { network::FAR } else { peer::LAYERS });
    }
    findings.0
}

fn look(findings: &mut Findings, setup: &Setup) -> Option<()> {
    let enough =
        process::enough_descriptors().map(|()| ((), "the limit on open files is high enough".to_owned()));
    findings.note("process", enough.map_err(|error| Problem::of(&error, || "ulimit -n 1024".into())))?;
    let disk = home::examine(findings, setup)?;
    findings.note("confinement", confinement(&disk.home));
    let (nodes, answers) = daemon::examine(findings, setup, &disk.home, disk.key)?;
    // Commands do not reach a gpmd at an address that a person gave.
    let network = match &setup.gpmd {
        None => findings.note("devices", network::devices(setup, &disk.home)),
        Some(_) => {
            let words = "not checked: run the doctor on the device of that gpmd".to_owned();
            findings.note("devices", Ok(((), words)));
            None
        }
    };
    // A node can start even if some modules are damaged.
    let own = (answers && disk.ready).then(|| own::examine(findings, setup, &disk.home)).flatten();
    match (&setup.node, network) {
        (Some(name), Some(status)) if is_far(name, &status) => {
            network::examine(findings, setup, &disk, &status, name, own.is_some());
        }
        (Some(name), _) => {
            let here: NodeName = name.bare().parse().unwrap_or_else(|_| name.clone());
            peer::examine(findings, setup, &disk, &nodes, &here, own.is_some());
        }
        (None, _) => {}
    }
    Some(())
}

/// Returns whether the name is that of a node of another device.
fn is_far(name: &NodeName, status: &NetworkStatus) -> bool {
    let own = status.devices.iter().find(|device| device.own);
    name.device().is_some_and(|device| own.is_none_or(|own| own.name.as_str() != device))
}

/// The result of a check: what the next checks need, and what was found; or the problem.
type Found<T> = std::result::Result<(T, String), Problem>;

/// What is wrong, and how to fix it.
struct Problem {
    message: String,
    fix: String,
}

impl Problem {
    fn new(message: impl Into<String>, fix: impl Into<String>) -> Problem {
        Problem { message: message.into(), fix: fix.into() }
    }

    /// Converts an error. The fix is the command of the error, or the result of `fix`.
    fn of(error: &Error, fix: impl FnOnce() -> String) -> Problem {
        match error.command() {
            Some(command) => Problem::new(error.message(), command),
            None => Problem::new(format!("{}: {}", error.code(), error.message()), fix()),
        }
    }
}

struct Findings(Vec<Finding>);

impl Findings {
    fn note<T>(&mut self, layer: &'static str, found: Found<T>) -> Option<T> {
        let (state, message, fix, value) = match found {
            Ok((value, message)) => (State::Ok, message, None, Some(value)),
            Err(problem) => (State::Failed, problem.message, Some(problem.fix), None),
        };
        self.0.push(Finding { layer, state, message, fix });
        value
    }

    /// Adds the layers that were not checked.
    fn skip(&mut self, layers: &[&'static str]) {
        let known: Vec<_> = self.0.iter().map(|finding| finding.layer).collect();
        let skipped = layers.iter().filter(|layer| !known.contains(layer));
        let message = "skipped: an earlier check failed";
        self.0.extend(skipped.map(|layer| Finding {
            layer,
            state: State::Skipped,
            message: message.to_owned(),
            fix: None,
        }));
    }
}

/// Returns why a process cannot serve clients: it is suspended, or has too many files open. `None` if it can,
/// or if the system does not tell.
fn unable(pid: u32, what: &str) -> Option<Problem> {
    stopped(pid, what).or_else(|| {
        let (open, most) = process::open_files(pid)?;
        (open + 2 > most).then(|| {
            Problem::new(
                format!(
                    "{what} accepts no more connections: {} has {open} files open, and its limit is {most}",
                    process::called(pid)
                ),
                format!(
                    "close some of its connections; or prlimit --pid {pid} --nofile=4096, and `ulimit -n 4096` \
                     before you start it the next time"
                ),
            )
        })
    })
}

/// Returns the problem of a process that is suspended. `None` if it runs, or if the system does not tell.
fn stopped(pid: u32, what: &str) -> Option<Problem> {
    let called = process::called(pid);
    match process::state(pid)? {
        process::State::Runs => None,
        process::State::Stopped => Some(Problem::new(
            format!("{what} is suspended (Ctrl-Z or SIGSTOP): {called} does not respond"),
            format!("kill -CONT {pid}"),
        )),
        process::State::Traced => Some(Problem::new(
            format!("{what} is paused by a debugger: {called} does not respond"),
            format!("continue process {pid} in the debugger, or end the debugger"),
        )),
    }
}

/// Returns how to fix a gpmd that does not answer.
fn about_gpmd(error: &Error, home: &Home, setup: &Setup) -> String {
    let gpmd = &setup.commands.gpmd;
    match error.code() {
        Code::GpmdNotRunning => match holder(home) {
            Some(pid) => format!("kill {pid}, then {gpmd} start"),
            None => format!("{gpmd} start"),
        },
        Code::VersionMismatch => {
            format!("install gvm and gpmd from one release, then {gpmd} kill and {gpmd} start")
        }
        _ => format!("{gpmd} kill, then {gpmd} start; the log is {}", home.gpmd_log().display()),
    }
}

/// Tries out whether the kernel confines nodes.
fn confinement(home: &Home) -> Found<()> {
    match confine::try_out(home) {
        Ok(in_force) => Ok(((), format!("the kernel confines nodes: {}", in_force.words()))),
        Err(error) => Err(Problem::of(&error, || "report this: it is an error of GVM".to_owned())),
    }
}

fn runtime<T>(work: impl Future<Output = T>) -> Result<T> {
    Ok(workers()?.block_on(work))
}
