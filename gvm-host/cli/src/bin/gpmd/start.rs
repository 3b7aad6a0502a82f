//! Starts the daemon: in this process, or in a process of its own.
//!
//! In: options, a home. Out: a running gpmd, or the error that prevents it. Must not know: what gpmd does.
//!
//! The process in the background is this program again. Its standard output is a pipe to the process that
//! started it. It writes one line there: `ready`, or its error as JSON. Its standard error is the log.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gvm_cli::signal::is_ignored;
use gvm_host::daemon::ahead::compile_ahead;
use gvm_host::daemon::server::{Config, SMALL, Server, Start, Stopper};
use gvm_host::gpmd::control::Control;
use gvm_host::gpmd::record::{Record, is_running};
use gvm_host::system::process;
use gvm_host::text::inert;
use gvm_host::{CODES, Code, Compiler, Engine, EngineConfig, Error, Home, Result, workers};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{Args, Switch, as_usage};
use crate::log::Rotating;
use crate::{memory, output};

const READY: &str = "ready";

/// How long the process in the background may take to start: it reads the index and removes unfinished files.
const STARTING: Duration = Duration::from_secs(30);

/// How long a process in the background may take to end.
const ENDING: Duration = Duration::from_secs(1);

/// How long a daemon that has started may have no socket: it may be shutting down.
const LOST: Duration = Duration::from_secs(2);

/// Runs gpmd in this process until it is stopped.
pub fn foreground(args: &Args, home: Home) -> Result<()> {
    output::log_to_stderr(args.verbose, true);
    let signals = Signals::catch()?;
    match start(args, home.clone())? {
        Start::Started(server) => serve(server, signals),
        Start::Running(_) => answers(&home).and_then(|_| already()),
    }
}

/// Runs gpmd in this process, which [`background`] has started.
pub fn detached(args: &Args, home: Home) -> Result<()> {
    let path = home.gpmd_log();
    let log = Rotating::open(&path)
        .map_err(|error| Error::io(format_args!("cannot write {}", path.display()), error));
    let log = log.inspect_err(report)?;
    output::log_to_file(args.verbose, log);
    // The terminal may be closed. This process does not lead a group, so the call cannot fail.
    let _ = rustix::process::setsid();
    let signals = Signals::catch()?;
    let started = start(args, home);
    match &started {
        Ok(_) => output::print(&format!("{READY}\n")),
        Err(error) => report(error),
    }
    match started? {
        Start::Started(server) => serve(server, signals),
        Start::Running(_) => Ok(()),
    }
}

/// Sends an error to [`background`].
fn report(error: &Error) {
    output::print(&format!("{}\n", inert::json(&error.to_json().to_string())));
}

/// Starts gpmd in a process of its own, and returns when it answers.
pub fn background(args: &Args, home: &Home) -> Result<()> {
    match ensure(args, home)? {
        true => output::print("GPMD is running in the background.\n"),
        false => return already(),
    }
    Ok(())
}

/// Starts gpmd in a process of its own if it is not running, and returns when it answers. Returns whether it was started.
pub fn ensure(args: &Args, home: &Home) -> Result<bool> {
    if is_running(home) && answers(home)? {
        return Ok(false);
    }
    let mut child = spawn(args, home)?;
    let answer = listen(&mut child)?;
    if answer.trim_end() == READY {
        if answers(home)? {
            return Ok(true);
        }
        let exits = || Error::internal("gpmd exits right after it starts").with_help(read_log(home));
        return Err(killed(&mut child).unwrap_or_else(exits));
    }
    Err(reported(&answer).or_else(|| killed(&mut child)).unwrap_or_else(|| {
        let detail = answer.trim_end();
        let colon = if detail.is_empty() { "" } else { ": " };
        Error::internal(format!("gpmd does not start{colon}{detail}")).with_help(read_log(home))
    }))
}

/// Returns the error of a process that a signal has ended.
fn killed(child: &mut std::process::Child) -> Option<Error> {
    // Its pipe is closed a moment before the process has ended.
    let waiting = Instant::now();
    let status = loop {
        match child.try_wait().ok()? {
            Some(status) => break status,
            None if waiting.elapsed() > ENDING => return None,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let signal = status.signal()?;
    let sentence = format!("signal {signal} ended gpmd while it started");
    Some(Error::new(Code::GpmdNotRunning, sentence).with_help("run `gpmd start` again"))
}

fn read_log(home: &Home) -> String {
    format!("read the log: {}", home.gpmd_log().display())
}

/// Reads the error that the process in the background reports.
fn reported(answer: &str) -> Option<Error> {
    let json: serde_json::Value = serde_json::from_str(answer).ok()?;
    let code = CODES.into_iter().find(|code| json["code"] == code.as_str())?;
    let mut error = Error::new(code, json["message"].as_str()?.to_owned());
    if let Some(context) = json["context"].as_str() {
        error = error.with_context(context);
    }
    if let Some(help) = json["help"].as_str() {
        error = error.with_help(help.to_owned());
    }
    Some(error)
}

fn start(args: &Args, home: Home) -> Result<Start> {
    let settings = EngineConfig::new(home.compiled(), Compiler::current()?).pooling(false);
    let ahead = compile_ahead(Engine::new(settings), home.clone(), workers()?.handle().clone());
    let device = args.device().map(|name| name.parse().map_err(as_usage)).transpose()?;
    Server::start(Config {
        ports: args.ports(),
        listen: args.listen.clone(),
        nearby: args.mdns != Some(Switch::Off),
        device,
        relay: args.relay.clone(),
        on_stored: Some(Box::new(ahead)),
        small: args.small.unwrap_or(SMALL),
        ..Config::new(home)
    })
}

/// Prints that gpmd is already running.
fn already() -> Result<()> {
    output::print("GPMD is already running.\n");
    Ok(())
}

/// Waits until gpmd answers, because it may still be starting. Returns false if it has exited.
fn answers(home: &Home) -> Result<bool> {
    let begun = Instant::now();
    loop {
        match Control::connect(home) {
            Err(error) if error.code() == Code::GpmdNotRunning => {
                if !is_running(home) {
                    return Ok(false);
                }
                // A daemon listens before it writes its record. With a record, its socket was removed.
                let written = Record::read(home).is_some_and(|record| process::lives(record.pid));
                if begun.elapsed() > if written { LOST } else { STARTING } {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            answer => return answer.map(|_| true),
        }
    }
}

fn serve(server: Server, signals: Signals) -> Result<()> {
    memory::give_back();
    let stopper = server.stopper();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || signals.wait_and(&stopper))
        .map_err(|error| Error::io("cannot wait for signals", error))?;
    server.wait()
}

/// The signals that stop the daemon, except those that the parent process set to be ignored. Caught before
/// the daemon starts, so that none is missed.
struct Signals {
    signals: Vec<Signal>,
    runtime: tokio::runtime::Runtime,
}

impl Signals {
    fn catch() -> Result<Signals> {
        let fail = |error| Error::io("cannot wait for signals", error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fail)?;
        let entered = runtime.enter();
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let heeded = kinds.into_iter().filter(|kind| !is_ignored(kind.as_raw_value()));
        let signals = heeded.map(signal).collect::<std::io::Result<_>>().map_err(fail)?;
        drop(entered);
        Ok(Signals { signals, runtime })
    }

    /// Waits for a signal, then stops the daemon.
    fn wait_and(mut self, stopper: &Stopper) {
        if self.signals.is_empty() {
            return;
        }
        let waits = self.signals.iter_mut().map(|signal| Box::pin(signal.recv()));
        self.runtime.block_on(futures::future::select_all(waits));
        stopper.stop("gpmd was stopped");
    }
}

fn spawn(args: &Args, home: &Home) -> Result<std::process::Child> {
    let path = home.gpmd_log();
    let fail = |error| Error::io(format_args!("cannot write {}", path.display()), error);
    let log = File::options().create(true).append(true).open(&path).map_err(fail)?;
    let own = std::env::current_exe().map_err(|error| Error::io("cannot find this program", error))?;
    let mut command = Command::new(own);
    command.arg("--home").arg(home.path());
    let ports = args.ports();
    if let Some(mdns) = args.mdns {
        command.args(["--mdns", if mdns == Switch::On { "on" } else { "off" }]);
    }
    if let Some(relay) = &args.relay {
        command.arg("--relay").arg(relay.to_string());
    }
    for listen in &args.listen {
        command.arg("--listen").arg(listen.to_string());
    }
    command.arg("--port").arg(ports.nodes.to_string());
    command.arg("--command-port").arg(ports.commands.to_string());
    command.args((0..args.verbose).map(|_| "-v")).args(["start", "--detached"]);
    if let Some(device) = args.device() {
        command.arg("--device").arg(device);
    }
    // The daemon must not keep the current folder busy, which someone may want to unmount.
    command.current_dir(home.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    command.spawn().map_err(|error| Error::io("cannot start gpmd", error))
}

/// Returns what the process in the background writes: its first line if that is `ready`, else all of it.
fn listen(child: &mut std::process::Child) -> Result<String> {
    let Some(pipe) = child.stdout.take() else {
        return Err(Error::internal("the background process has no standard output"));
    };
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut answer = String::new();
        let _ = reader.read_line(&mut answer);
        if answer.trim_end() != READY {
            let _ = reader.take(64 << 10).read_to_string(&mut answer);
        }
        let _ = tell.send(answer);
    });
    told.recv_timeout(STARTING).map_err(|_| {
        let _ = child.kill();
        let _ = child.wait();
        Error::new(Code::Overloaded, format!("gpmd does not start within {} s", STARTING.as_secs()))
    })
}
