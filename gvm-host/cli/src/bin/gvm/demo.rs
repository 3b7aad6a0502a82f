//! `gvm demo`: a private network in this process, to try GVM without any set-up.
//!
//! In: options. Out: a gpmd, two nodes and sample modules in a temporary folder, and a shell. Must not know:
//! what the shell does.

use std::path::Path;

use gvm_host::daemon::ahead::compile_ahead;
use gvm_host::daemon::server;
use gvm_host::daemon::server::{Server, Start};
use gvm_host::gpmd::control::Control;
use gvm_host::{Error, Handle, Home, Result, inspect, workers};

use super::options::Options;
use super::shell::{Shell, banner};
use super::signals::Requests;

/// The modules that the demo uploads.
const SAMPLES: [(&str, &str); 3] = [
    ("math", include_str!("../../../../samples/math.wat")),
    ("hello", include_str!("../../../../samples/hello.wat")),
    ("counter", include_str!("../../../../samples/counter.wat")),
];

/// Starts everything in a temporary folder, and runs the shell.
pub fn demo(options: &Options) -> Result<i32> {
    // Signals are caught first, so that the folder is removed in any case.
    let requests = Requests::catch()?;
    let folder = tempfile::Builder::new()
        .prefix("gvm-demo-")
        .tempdir()
        .map_err(|error| Error::io("cannot create a folder for the demo", error))?;
    let (_gpmd, home) = start_gpmd(options, folder.path())?;
    let control = Control::connect(&home)?;
    for (name, text) in SAMPLES {
        let bytes = inspect::to_binary(text.as_bytes())?;
        control.upload(&name.parse()?, &gvm_host::parse_version("1.0.0")?, &bytes, &mut |_| {})?;
    }
    let start = |name: Option<&String>| {
        let mut config = options.node_config(home.clone(), true)?;
        // The demo has its own gpmd, and its two nodes cannot share a port.
        config.gpmd = None;
        config.listen.set_port(0);
        config.name = name.map(|name| name.parse()).transpose()?;
        workers()?.block_on(Handle::start(config))
    };
    let other = start(None)?;
    let node = start(options.name.as_ref())?;
    let mut shell = Shell::new(options, node, requests)?;
    shell.leavings = Some(folder.path().to_owned());
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdin());
    if terminal {
        shell.evaluator.screen.line(&banner(&shell.evaluator.node));
        shell.evaluator.screen.line(&tour(other.name().as_str()));
    }
    let ended = if terminal { shell.interact(home.history()) } else { shell.script() };
    workers()?.block_on(other.shut_down());
    ended
}

fn start_gpmd(options: &Options, folder: &Path) -> Result<(Server, Home)> {
    let home = Home::open(folder.join("home"))?;
    let mut config = server::Config::new(home.clone());
    let ahead = compile_ahead(options.engine(&home, true)?, home.clone(), workers()?.handle().clone());
    config.on_stored = Some(Box::new(ahead));
    match Server::start(config)? {
        Start::Started(server) => Ok((server, home)),
        Start::Running(_) => Err(Error::internal("a gpmd already runs in the new folder of the demo")),
    }
}

/// Returns statements to try first.
fn tour(other: &str) -> String {
    format!(
        "A demo: a private gpmd, this node, a second node, and the modules counter, hello and math. Try:\n\
         \x20 math.add(1,2)\n\
         \x20 hello.greet(\"world\")\n\
         \x20 Node.discover()\n\
         \x20 Node.connect({other})\n\
         \x20 Node.run({other}, math.add(34,34))\n\
         \x20 Node.spawn({other}, counter)\n\
         \x20 i1.increment()\n\
         \x20 help"
    )
}
