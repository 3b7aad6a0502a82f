//! What keeps a node, or two, from working, found layer by layer.
//!
//! In: a home's path, the node that would be started there, the name of another to look at. Out: findings in
//! the order of the layers, each with what is wrong and how it is fixed; what stands on a layer that fails is
//! skipped. Changes nothing: it makes no home, starts no daemon; a node of its own comes and goes. Must not
//! know: the terminal.

mod daemon;
mod files;
mod home;
mod own;
mod peer;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use gvm_host::Compiler;
use gvm_host::Home;
use gvm_host::Name;
use gvm_host::daemon::server::Ports;
use gvm_host::gpmd::record::{holder, is_running};
use gvm_host::net::Address;
use gvm_host::system::process;
use gvm_host::{Code, Error, Result};
use gvm_host::{Config, workers};

/// One layer, and how it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// A word for the layer, always the same.
    pub layer: &'static str,
    pub state: State,
    /// What was found.
    pub words: String,
    /// How it is fixed, where it has to be.
    pub fix: Option<String>,
}

/// How a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Well,
    Failing,
    /// It stands on one that fails.
    Skipped,
}

impl State {
    /// The state as `--json` gives it.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Well => "ok",
            State::Failing => "failed",
            State::Skipped => "skipped",
        }
    }
}

impl Finding {
    /// The finding for a program.
    pub fn json(&self) -> Json {
        json!({ "layer": self.layer, "state": self.state.as_str(), "message": self.words, "fix": self.fix })
    }
}

/// Makes what a node of a home is made with, as the command line and the settings say.
pub type MakeConfig = Box<dyn Fn(Home) -> Result<Config> + Send + Sync>;

/// What is looked at.
pub struct Patient {
    /// The home; it need not be there.
    pub home: PathBuf,
    /// What reading the home's settings came to.
    pub settings: Result<()>,
    /// Where gpmd is, if not in the home.
    pub gpmd: Option<Address>,
    /// The ports that a gpmd started now would take.
    pub ports: Ports,
    /// Another node, to be met.
    pub node: Option<Name>,
    /// The node that looks.
    pub config: MakeConfig,
    pub compiler: Compiler,
    /// How a person calls `gpmd` and `gvm` for this home.
    pub commands: Commands,
}

/// How a person calls the programs for this home: with `--home`, where that is how it was chosen.
#[derive(Clone, Debug)]
pub struct Commands {
    pub gpmd: String,
    pub gvm: String,
}

/// Layers that fail for a moment while gpmd ends, or has just started.
const CHANGING: [&str; 4] = ["answer", "ports", "nodes", "node"];

/// How long ending takes, where nothing holds it up.
const CHANGE: Duration = Duration::from_millis(300);

/// Looks at every layer. Takes some seconds where something does not answer. Blocks: not to be called on a
/// runtime.
pub fn examine(patient: &Patient) -> Vec<Finding> {
    let runs = || Home::existing(&patient.home).ok().map(|home| (is_running(&home), holder(&home)));
    let before = runs();
    let mut findings = Findings(Vec::new());
    look(&mut findings, patient);
    // A gpmd that came or went meanwhile has shown a face of neither state.
    if findings.0.iter().any(|finding| finding.state == State::Failing && CHANGING.contains(&finding.layer)) {
        std::thread::sleep(CHANGE);
        if runs() != before {
            findings.0.clear();
            look(&mut findings, patient);
        }
    }
    findings.skip(&["process"]);
    findings.skip(home::LAYERS);
    findings.skip(daemon::LAYERS);
    findings.skip(own::LAYERS);
    if patient.node.is_some() {
        findings.skip(peer::LAYERS);
    }
    findings.0
}

fn look(findings: &mut Findings, patient: &Patient) -> Option<()> {
    let enough = process::enough_descriptors().map(|()| ((), "may open enough files".to_owned()));
    findings.note("process", enough.map_err(|error| Sick::of(&error, || "ulimit -n 1024".into())))?;
    let disk = home::examine(findings, patient)?;
    let (nodes, answers) = daemon::examine(findings, patient, &disk.home, disk.key)?;
    // A node starts where single modules are damaged, too.
    let own = (answers && disk.ready).then(|| own::examine(findings, patient, &disk.home)).flatten();
    if let Some(name) = &patient.node {
        peer::examine(findings, patient, &disk, &nodes, name, own.is_some());
    }
    Some(())
}

/// What came of looking at a layer: what the next ones need, and words; or what is wrong.
type Found<T> = std::result::Result<(T, String), Sick>;

/// What is wrong, and how it is fixed.
struct Sick {
    words: String,
    fix: String,
}

impl Sick {
    fn new(words: impl Into<String>, fix: impl Into<String>) -> Sick {
        Sick { words: words.into(), fix: fix.into() }
    }

    /// An error: fixed by the command that it names, else as `fix` says.
    fn of(error: &Error, fix: impl FnOnce() -> String) -> Sick {
        match error.command() {
            Some(command) => Sick::new(error.message(), command),
            None => Sick::new(format!("{}: {}", error.code(), error.message()), fix()),
        }
    }
}

struct Findings(Vec<Finding>);

impl Findings {
    fn note<T>(&mut self, layer: &'static str, found: Found<T>) -> Option<T> {
        let (state, words, fix, value) = match found {
            Ok((value, words)) => (State::Well, words, None, Some(value)),
            Err(sick) => (State::Failing, sick.words, Some(sick.fix), None),
        };
        self.0.push(Finding { layer, state, words, fix });
        value
    }

    /// Notes those of these layers that were not reached.
    fn skip(&mut self, layers: &[&'static str]) {
        let known: Vec<_> = self.0.iter().map(|finding| finding.layer).collect();
        let skipped = layers.iter().filter(|layer| !known.contains(layer));
        let words = "not looked at: what it stands on fails";
        self.0.extend(skipped.map(|layer| Finding {
            layer,
            state: State::Skipped,
            words: words.to_owned(),
            fix: None,
        }));
    }
}

/// Why a process cannot serve whoever comes: it was stopped, or may hold no more files open; none where it
/// can, or nothing is known of it.
fn unable(pid: u32, what: &str) -> Option<Sick> {
    stopped(pid, what).or_else(|| {
        let (open, most) = process::open_files(pid)?;
        (open + 2 > most).then(|| {
            Sick::new(
                format!(
                    "{what} takes no more connections: {} has all of the {most} files open that it may",
                    process::called(pid)
                ),
                format!(
                    "end some of what is connected with it; or prlimit --pid {pid} --nofile=4096, and `ulimit -n 4096` \
                     before its next start"
                ),
            )
        })
    })
}

/// A process that was stopped, and how it goes on; none where it runs, or nothing is known of it.
fn stopped(pid: u32, what: &str) -> Option<Sick> {
    let called = process::called(pid);
    match process::state(pid)? {
        process::State::Runs => None,
        process::State::Stopped => Some(Sick::new(
            format!("{what} is stopped (Ctrl-Z, SIGSTOP): {called} neither takes nor answers anything"),
            format!("kill -CONT {pid}"),
        )),
        process::State::Traced => Some(Sick::new(
            format!("{what} is held by a debugger: {called} neither takes nor answers anything"),
            format!("let it go on there, or end the debugger of process {pid}"),
        )),
    }
}

/// What is done about gpmd's silence.
fn about_gpmd(error: &Error, home: &Home, patient: &Patient) -> String {
    let gpmd = &patient.commands.gpmd;
    match error.code() {
        Code::GpmdNotRunning => match holder(home) {
            Some(pid) => format!("kill {pid}, then {gpmd} start"),
            None => format!("{gpmd} start"),
        },
        Code::VersionMismatch => {
            format!("install the same version of gvm and gpmd, then {gpmd} kill and {gpmd} start")
        }
        _ => format!("{gpmd} kill, then {gpmd} start; its log is {}", home.gpmd_log().display()),
    }
}

fn runtime<T>(work: impl Future<Output = T>) -> Result<T> {
    Ok(workers()?.block_on(work))
}
