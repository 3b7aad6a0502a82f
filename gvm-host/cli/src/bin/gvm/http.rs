//! `gvm serve --http`: a module answers the requests of an HTTP server, until the process is told to end.
//!
//! In: options, an address, a module. Out: the address that serves, on standard output; what the guests write, on standard
//! error; an exit status. Must not know: HTTP.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use gvm_cli::repl::render::{self, Screen};
use gvm_host::http::{Said, Server};
use gvm_host::net::host_and_port;
use gvm_host::{
    Code, Error, Handle, ModuleBytes, ModuleFile, ModuleRef, Modules, Result, Runner, Stream, Target, limits,
    workers,
};
use tokio::sync::mpsc;

use super::memory;
use super::options::{Options, SessionRights, as_usage, parse_time, usage};
use super::run::{is_path, stored};
use super::signals::{Requests, interrupt};

/// The port of an address without one.
const PORT: u16 = 8080;

/// What to serve, and how.
pub struct Served {
    pub address: String,
    pub target: OsString,
    pub reuse: usize,
}

/// Serves the module until Ctrl-C or SIGTERM.
pub fn serve(options: &Options, screen: &mut Screen, served: &Served) -> Result<i32> {
    if options.node.is_some() {
        return Err(usage(
            "`gvm serve --http` serves a module on this device, and `--node` names another one",
        )
        .with_help("remove `--node`"));
    }
    let mut limits = options.limits()?;
    if options.timeout.as_deref().map(parse_time).transpose()? == Some(None) {
        limits.timeout = Some(Duration::ZERO);
    }
    let address = host_and_port(&served.address, PORT).map_err(as_usage)?;
    let (name, module, file) = read_target(&served.target)?;
    // Before the process is confined: then it may bind to no other port.
    let listener = listen(address)?;
    let home = options.home()?;
    let is_node = options.grants.contains(&SessionRights::Nodes);
    let home = match is_node {
        true => options.confine_node(&home, &[])?,
        false => {
            options.confine_call(&home)?;
            home
        }
    };
    let module = match file {
        Some(mut file) => ModuleRef::Bytes(ModuleBytes::from(file.read()?)),
        None => module,
    };
    let target = Target { module, interface: None, function: None };
    let requests = Requests::catch()?;
    let (said, output) = mpsc::channel(limits::HTTP_OUTPUT);
    let shown = std::thread::Builder::new().name("gvm-output".into()).spawn(move || show(output));
    shown.map_err(|error| Error::io("cannot start the thread for output", error))?;
    workers()?.block_on(async {
        let node = match is_node {
            true => Some(Handle::start(options.node_config(home.clone(), true)?).await?),
            false => None,
        };
        let runner = match &node {
            Some(node) => node.runner().clone(),
            None => {
                let engine = options.engine(&home, true)?;
                Runner::new(engine, Modules::unread(home.clone()), options.grants()?, limits)
            }
        };
        let server = Server::load(runner, target, name.clone(), limits, served.reuse, said).await?;
        memory::give_back();
        let at = listener.local_addr().map_err(|error| Error::io("cannot read the address", error))?;
        match options.json {
            true => screen.json(&serde_json::json!({
                "event": "serving", "module": name, "url": format!("http://{at}/"),
            })),
            false => screen.line(&format!("Serving {name} at http://{at}/")),
        }
        let stop = async {
            tokio::select! { () = interrupt() => {}, () = requests.asked() => {} }
        };
        let hurry = async {
            tokio::select! { () = interrupt() => {}, () = requests.again() => {} }
        };
        server.serve(listener, stop, hurry).await?;
        if let Some(node) = node {
            node.shut_down().await;
        }
        Ok(0)
    })
}

/// Returns the name of the module for people, where it is stored, and its file, if it is one.
fn read_target(target: &OsString) -> Result<(String, ModuleRef, Option<ModuleFile>)> {
    let path = Path::new(target);
    if is_path(path) {
        let name = path.file_name().unwrap_or(target).to_string_lossy().into_owned();
        return Ok((name, ModuleRef::Bytes([].into()), Some(ModuleFile::open(path)?)));
    }
    let text = target.to_str().ok_or_else(|| usage(format!("{} is not UTF-8", target.display())))?;
    let expr = stored(text)?;
    if expr.args.is_some() || expr.target.function.is_some() {
        return Err(usage(format!("expected a module, found the call `{text}`")));
    }
    Ok((expr.target.module.to_string(), expr.target.module, None))
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            Error::new(Code::PortInUse, format!("another program listens on {address}"))
                .with_help("choose another port, or 0 for a free one")
                .with_source(error)
        }
        _ => Error::io(format_args!("cannot listen on {address}"), error),
    })
}

/// Shows what guests write, each line with the number of its request.
fn show(mut output: mpsc::Receiver<Said>) {
    while let Some(Said { request, chunk }) = output.blocking_recv() {
        let stream = match chunk.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        let text = String::from_utf8_lossy(&chunk.data);
        text.lines().for_each(|line| render::note(&format!("[{request}] {stream}: {line}")));
    }
}
