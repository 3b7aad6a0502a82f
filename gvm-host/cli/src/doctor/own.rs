//! The layer of a node of one's own: that one starts here, and runs a call.
//!
//! In: a home whose gpmd answers. Out: a finding: whatever would keep `gvm` from working and has no layer of
//! its own, in the words that `gvm` would use. Must not know: other nodes.

use std::time::Duration;

use super::files::{Use, refused};
use super::{Findings, Found, Patient, Sick, about_gpmd, runtime};
use gvm_host::Accept;
use gvm_host::Home;
use gvm_host::Limits;
use gvm_host::Reason;
use gvm_host::Stdio;
use gvm_host::system::durable;
use gvm_host::{Args, Call, ModuleRef, Target};
use gvm_host::{Code, Error, Result};
use gvm_host::{Config, Handle};
use gvm_host::{Engine, EngineConfig};

/// In their order.
pub const LAYERS: &[&str] = &["node"];

/// How long starting, compiling some bytes and running them may take; a second on a busy machine.
const TRIAL: Duration = Duration::from_secs(20);

/// `(module (func (export "one") (result i32) i32.const 1))`
const ONE: &[u8] = b"\0asm\x01\0\0\0\x01\x05\x01\x60\0\x01\x7f\x03\x02\x01\0\x07\x07\x01\x03one\0\0\x0a\x06\x01\x04\0\x41\x01\x0b";

/// Looks at it.
pub fn examine(findings: &mut Findings, patient: &Patient, home: &Home) -> Option<()> {
    findings.note("node", own(patient, home))
}

fn own(patient: &Patient, home: &Home) -> Found<()> {
    let sick = |error: Error| Sick::of(&error, || fix(&error, patient, home));
    let config = (patient.config)(home.clone()).map_err(sick)?;
    for dir in &config.grants.dirs {
        let host = std::path::absolute(&dir.host).unwrap_or_else(|_| dir.host.clone());
        let wrong = match host.is_dir() {
            true => refused(&host, Use::Folder).filter(|_| !dir.read_only),
            false => Some(Sick::new(
                format!("what guests are to see, {}, is no folder that is there", host.display()),
                "make it, or correct `--dir` (`dir` in config.toml)",
            )),
        };
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
    }
    let name = config.name.clone();
    runtime(tried(config, patient, home)).and_then(|tried| tried).map_err(sick)?;
    let named = name.map_or_else(String::new, |name| format!(" as {name}"));
    Ok(((), format!("one of our own started{named}, compiled a function, ran it and ended")))
}

async fn tried(config: Config, patient: &Patient, home: &Home) -> Result<()> {
    // Folders of the home that are missing are no trouble: whatever starts makes them.
    Home::open(home.path())?;
    // Apart from the code that is kept: nothing stays of this.
    let folder =
        tempfile::Builder::new().prefix(durable::UNFINISHED).tempdir_in(home.path()).map_err(|error| {
            Error::io(format_args!("cannot make a folder in {}", home.path().display()), error)
        })?;
    let settings = EngineConfig::new(folder.path(), patient.compiler.clone());
    let mut config = config.accept(Accept::None);
    config.engine = Engine::new(settings);
    let trial = async {
        let node = Handle::start(config).await?;
        let target =
            Target { module: ModuleRef::Bytes(ONE.into()), interface: None, function: Some("one".into()) };
        let call = Call::new(target, Args::Values(Vec::new()));
        let outcome = node.run(None, call, Stdio::new(&Limits::default())).await;
        node.shut_down().await;
        outcome.result.map(drop)
    };
    let late = || Err(Error::new(Code::Timeout, format!("it took longer than {} s", TRIAL.as_secs())));
    tokio::time::timeout(TRIAL, trial).await.unwrap_or_else(|_| late())
}

fn fix(error: &Error, patient: &Patient, home: &Home) -> String {
    match error.code() {
        Code::NodeNameTaken => "leave --name out, or end the node that has it".to_owned(),
        Code::PortInUse => "leave --listen out, or end what listens there".to_owned(),
        Code::StorageFull => "free some space on the home's disk".to_owned(),
        Code::Syntax => "correct what it names, on the command line or in config.toml".to_owned(),
        Code::GpmdNotRunning => about_gpmd(error, home, patient),
        _ if error.reason() == Some(Reason::NotExecutable) => format!(
            "let programs run from the disk of {}: it is mounted with noexec, or a security policy forbids it; or \
             choose another home with --home or GHOST_HOME",
            home.path().display()
        ),
        _ => format!(
            "look at what the sentence names; {} -v eval 'Node.list()' and {} say more",
            patient.commands.gvm,
            home.gpmd_log().display()
        ),
    }
}
