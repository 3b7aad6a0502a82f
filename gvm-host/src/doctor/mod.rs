//! What keeps a node, or two, from working, found layer by layer.
//!
//! In: a home's path, the name of a node to look at. Out: findings in the order of the layers, each with
//! what is wrong and how it is mended; what stands on a layer that fails is skipped. Changes nothing: it
//! makes no home, starts no daemon. Must not know: the terminal.

mod device;
mod peer;

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::home::Home;
use crate::id::Name;

/// One layer, and how it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// A word for the layer, always the same.
    pub layer: &'static str,
    pub state: State,
    /// What was found.
    pub words: String,
    /// How it is mended, where it has to be.
    pub mend: Option<String>,
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
        json!({ "layer": self.layer, "state": self.state.as_str(), "message": self.words, "mend": self.mend })
    }
}

/// Makes an engine over a home's compiled code.
pub type MakeEngine = Box<dyn Fn(&Home) -> Result<Engine> + Send>;

/// What is looked at.
pub struct Patient {
    /// The home; it need not be there.
    pub home: PathBuf,
    /// Another node, to be met.
    pub node: Option<Name>,
    /// Makes the engine of the node that meets it.
    pub engine: MakeEngine,
}

/// Looks at every layer. `settings` is what reading the home's settings came to. Takes some seconds at the
/// most where something does not answer. Blocks: not to be called on a runtime.
pub fn examine(patient: &Patient, settings: Result<()>) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    if let Some((home, status)) = device::examine(&mut findings, patient, settings)
        && let Some(name) = &patient.node
    {
        peer::examine(&mut findings, patient, &home, &status, name);
    }
    findings.skip(device::LAYERS);
    if patient.node.is_some() {
        findings.skip(peer::LAYERS);
    }
    findings.0
}

/// What is wrong, and how it is mended.
struct Sick {
    words: String,
    mend: String,
}

impl Sick {
    fn new(words: impl Into<String>, mend: impl Into<String>) -> Sick {
        Sick { words: words.into(), mend: mend.into() }
    }

    /// An error whose sentence may say the mend itself; else what its code asks for.
    fn of(error: &Error, mend: impl FnOnce() -> String) -> Sick {
        let message = error.message();
        match message.split_once(": mend it with ").or_else(|| message.split_once("; mend it with ")) {
            Some((words, mend)) => Sick::new(words, mend.trim_matches('`')),
            None => Sick::new(format!("{}: {message}", error.code()), mend()),
        }
    }
}

struct Findings(Vec<Finding>);

impl Findings {
    fn note<T>(&mut self, layer: &'static str, found: std::result::Result<(T, String), Sick>) -> Option<T> {
        let (state, words, mend, value) = match found {
            Ok((value, words)) => (State::Well, words, None, Some(value)),
            Err(sick) => (State::Failing, sick.words, Some(sick.mend), None),
        };
        self.0.push(Finding { layer, state, words, mend });
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
            mend: None,
        }));
    }
}

/// What is done about gpmd's silence.
fn about_gpmd(error: &Error, home: &Home) -> String {
    let log = home.gpmd_log();
    match error.code() {
        Code::GpmdNotRunning => "gpmd start".to_owned(),
        Code::VersionMismatch => {
            "install the same version of gvm and gpmd, then gpmd kill and gpmd start".to_owned()
        }
        Code::Overloaded => format!(
            "where it was stopped (Ctrl-Z, SIGSTOP) `kill -CONT` it; else end its process and `gpmd start`; its log is {}",
            log.display()
        ),
        _ => format!("gpmd kill, then gpmd start; its log is {}", log.display()),
    }
}
