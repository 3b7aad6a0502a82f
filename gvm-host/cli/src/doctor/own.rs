//! Checks that a node starts here and runs a call.
//!
//! In: a home with a gpmd that answers. Out: a finding, with the error that `gvm` itself would report. Must
//! not know: other nodes.

use std::time::Duration;

use super::files::{Use, refused};
use super::{Findings, Found, Problem, Setup, about_gpmd, runtime};
use gvm_host::system::durable;
use gvm_host::{
    Accept, Args, Call, Code, Config, Engine, EngineConfig, Error, Handle, Home, Limits, ModuleRef, Reason,
    Result, Stdio, Target,
};

/// The layers in their order.
pub const LAYERS: &[&str] = &["node"];

/// How long the test may take: to start a node, compile a function and run it takes a second on a busy machine.
const TRIAL: Duration = Duration::from_secs(20);

/// `(module (func (export "one") (result i32) i32.const 1))`
const ONE: &[u8] = b"\0asm\x01\0\0\0\x01\x05\x01\x60\0\x01\x7f\x03\x02\x01\0\x07\x07\x01\x03one\0\0\x0a\x06\x01\x04\0\x41\x01\x0b";

/// Checks the layer.
pub fn examine(findings: &mut Findings, setup: &Setup, home: &Home) -> Option<()> {
    findings.note("node", own(setup, home))
}

fn own(setup: &Setup, home: &Home) -> Found<()> {
    let problem = |error: Error| Problem::of(&error, || fix(&error, setup, home));
    let config = (setup.config)(home.clone()).map_err(problem)?;
    for dir in &config.grants.dirs {
        let host = std::path::absolute(&dir.host).unwrap_or_else(|_| dir.host.clone());
        let wrong = match host.is_dir() {
            true => refused(&host, Use::Folder).filter(|_| !dir.read_only),
            false => Some(Problem::new(
                format!("guests are granted {}, which is not a folder", host.display()),
                "create the folder, or correct `--dir` (`dir` in config.toml)",
            )),
        };
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
    }
    let name = config.name.clone();
    runtime(tried(config, setup, home)).and_then(|tried| tried).map_err(problem)?;
    let named = name.map_or_else(String::new, |name| format!(" as {name}"));
    Ok(((), format!("a test node started{named}, compiled and ran a function, and ended")))
}

async fn tried(config: Config, setup: &Setup, home: &Home) -> Result<()> {
    // Creates missing folders, as every start of gvm and gpmd does.
    Home::open(home.path())?;
    // The compiled code goes to a temporary folder, so that the check leaves nothing behind.
    let folder =
        tempfile::Builder::new().prefix(durable::UNFINISHED).tempdir_in(home.path()).map_err(|error| {
            Error::io(format_args!("cannot create a folder in {}", home.path().display()), error)
        })?;
    let settings = EngineConfig::new(folder.path(), setup.compiler.clone());
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
    let late =
        || Err(Error::new(Code::Timeout, format!("the test node takes longer than {} s", TRIAL.as_secs())));
    tokio::time::timeout(TRIAL, trial).await.unwrap_or_else(|_| late())
}

fn fix(error: &Error, setup: &Setup, home: &Home) -> String {
    match error.code() {
        Code::NodeNameTaken => "omit --name, or end the node that has this name".to_owned(),
        Code::PortInUse => "omit --listen, or end the program that listens there".to_owned(),
        Code::StorageFull => "free some space on the disk of the home".to_owned(),
        Code::Syntax => match error.help() {
            Some(help) => help.to_owned(),
            None => "correct the value on the command line or in config.toml".to_owned(),
        },
        Code::GpmdNotRunning => about_gpmd(error, home, setup),
        _ if error.reason() == Some(Reason::NotExecutable) => format!(
            "allow programs to run from the disk of {}, which is mounted with noexec or restricted by a \
             security policy; or choose another home with --home or GHOST_HOME",
            home.path().display()
        ),
        _ => match error.help() {
            Some(help) => help.to_owned(),
            None => format!(
                "check what the message names; for more, run {} -v eval 'Node.list()' and read {}",
                setup.commands.gvm,
                home.gpmd_log().display()
            ),
        },
    }
}
