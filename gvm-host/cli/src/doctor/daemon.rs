//! Checks the layers of the daemon: that it runs and answers, its version, its ports, and the nodes of this
//! device.
//!
//! In: a home that can be used. Out: findings; the running nodes, if gpmd answers. Must not know: connections
//! between nodes.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::files::{Use, refused};
use super::{Findings, Found, Problem, Setup, about_gpmd, stopped, unable};
use gvm_host::daemon::server::Ports;
use gvm_host::gpmd::control::{Control, Status};
use gvm_host::gpmd::link;
use gvm_host::gpmd::record::{Record, holder, is_running};
use gvm_host::gpmd::route::Route;
use gvm_host::net::Address;
use gvm_host::net::listener;
use gvm_host::system::process;
use gvm_host::text::quote;
use gvm_host::{Code, Error, Home, NodeInfo, Result, store};

/// The layers in their order.
pub const LAYERS: &[&str] = &["gpmd", "answer", "version", "ports", "nodes"];

/// How long gpmd may take to start: it reads the index and removes unfinished files.
const STARTING: Duration = Duration::from_secs(5);

/// How often gpmd and the index are compared before a difference is reported.
const LOOKS: u32 = 4;

/// How long gpmd may hold the lock after it has removed its sockets.
const ENDING: Duration = Duration::from_secs(1);

/// How long a port may take to accept a connection, or to answer the TLS handshake.
pub const REACH: Duration = Duration::from_secs(3);

/// Checks the layers. Returns the running nodes, and whether a node can register. `key` is whether the home
/// has a valid key.
pub fn examine(
    findings: &mut Findings,
    setup: &Setup,
    home: &Home,
    key: bool,
) -> Option<(Vec<NodeInfo>, bool)> {
    if let Some(address) = &setup.gpmd {
        return elsewhere(findings, setup, home, key, address);
    }
    let pid = findings.note("gpmd", running(home, setup))?;
    let status = findings.note("answer", answer(home, setup, pid))?;
    findings.note("version", version(&status.version, setup));
    if key {
        findings.note("ports", ports(home, &status, setup));
    }
    findings.note("nodes", nodes(home, &status.nodes));
    Some((status.nodes, key))
}

/// Like [`examine`], for a gpmd at the address in `--gpmd`.
fn elsewhere(
    findings: &mut Findings,
    setup: &Setup,
    home: &Home,
    key: bool,
    address: &Address,
) -> Option<(Vec<NodeInfo>, bool)> {
    findings.note("gpmd", Ok(((), format!("uses {address}, from --gpmd or GPMD_ADDRESS"))));
    if !key {
        return None;
    }
    let looked = Route::at(address.clone(), home).and_then(|reach| look(home, &reach));
    let looked = looked.map(|(version, nodes)| {
        let words = format!("{} nodes, at {address}", nodes.len());
        ((version, nodes), words)
    });
    let fix = |error: &Error| match error.code() {
        Code::GpmdNotRunning | Code::Overloaded => {
            "omit --gpmd (GPMD_ADDRESS) to use the gpmd in this home, or correct it: HOST[:PORT] of its \
             port for nodes"
                .to_owned()
        }
        Code::AuthFailed => {
            "omit --gpmd (GPMD_ADDRESS): the program at this address is not this home's gpmd".to_owned()
        }
        _ => about_gpmd(error, home, setup),
    };
    let (found, nodes) =
        findings.note("answer", looked.map_err(|error| Problem::of(&error, || fix(&error))))?;
    findings.note("version", version(&found, setup));
    findings.note("ports", Ok(((), format!("{address} answers over TLS"))));
    findings.note("nodes", self::nodes(home, &nodes));
    Some((nodes, true))
}

/// Checks that no node of this device is suspended, including nodes that gpmd has removed for that reason.
fn nodes(home: &Home, live: &[NodeInfo]) -> Found<()> {
    for node in live {
        let sockets = node.addresses.iter().filter_map(|address| address.strip_prefix("unix:"));
        let pid = sockets.filter_map(|path| listener(Path::new(path)).ok().flatten()).next();
        if let Some(problem) = pid.and_then(|pid| stopped(pid, node.name.as_str())) {
            return Err(problem);
        }
    }
    match unregistered(home, live).into_iter().next() {
        Some((_, problem)) => Err(problem),
        None => Ok(((), format!("{} running, none suspended", live.len()))),
    }
}

/// Returns the nodes of this home that gpmd has removed because their processes are suspended.
pub fn unregistered(home: &Home, live: &[NodeInfo]) -> Vec<(u32, Problem)> {
    let known: Vec<&str> = live.iter().flat_map(|node| &node.addresses).map(String::as_str).collect();
    let files = fs::read_dir(home.nodes()).into_iter().flatten().flatten().map(|entry| entry.path());
    let others = files.filter(|path| !known.contains(&format!("unix:{}", path.display()).as_str()));
    let told = others.filter_map(|socket| {
        let pid = listener(&socket).ok().flatten()?;
        let words = process::words(pid).join(" ");
        let words: String = words.chars().filter(|letter| !letter.is_control()).take(200).collect();
        Some((pid, stopped(pid, &format!("a node of this home (`{words}`)"))?))
    });
    told.collect()
}

/// Checks that gpmd runs. Returns its process id, if the system tells.
fn running(home: &Home, setup: &Setup) -> Found<Option<u32>> {
    let begun = Instant::now();
    loop {
        let sockets = [home.command_socket(), home.gpmd_socket()];
        let listening = sockets.iter().find_map(|socket| listener(socket).ok());
        if !is_running(home) {
            return Err(match listening.flatten() {
                Some(pid) => Problem::new(
                    format!(
                        "{} listens on the sockets of this home, but does not hold the lock {}: the file was \
                         removed or replaced while it ran",
                        process::called(pid),
                        home.gpmd_lock().display()
                    ),
                    format!("kill {pid}, then {} start", setup.commands.gpmd),
                ),
                None => none_runs(home, setup),
            });
        }
        let record = Record::read(home);
        let pid = holder(home).or_else(|| record.as_ref().map(|record| record.pid));
        if let Some(problem) = pid.and_then(|pid| unable(pid, "gpmd")) {
            return Err(problem);
        }
        // A gpmd that ends removes its sockets first, and frees its lock a moment later.
        let whole = sockets.iter().all(|socket| !matches!(listener(socket), Err(error) if is_nobody(&error)));
        if record.as_ref().is_some_and(|record| pid == Some(record.pid))
            && (whole || begun.elapsed() > ENDING)
        {
            let called = pid.map_or_else(String::new, |pid| format!(" as {}", process::called(pid)));
            return Ok((pid, format!("runs{called}")));
        }
        // gpmd first listens, then writes its record.
        if begun.elapsed() > if listening.is_some() { ENDING } else { STARTING } {
            return Err(unrecorded(home, setup, pid, listening.is_some()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_nobody(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

/// Returns the problem of a process that holds the lock without a record of its own.
fn unrecorded(home: &Home, setup: &Setup, pid: Option<u32>, listens: bool) -> Problem {
    let called = pid.map_or_else(|| "a process".to_owned(), process::called);
    let (record, gpmd) = (home.gpmd_record(), &setup.commands.gpmd);
    if listens {
        let words = format!(
            "runs as {called}, but {} has no record of it: the file was removed or changed",
            record.display()
        );
        return Problem::new(words, format!("{gpmd} kill, then {gpmd} start"));
    }
    let words = format!(
        "{called} holds {} but listens on no socket: it hangs, or is not gpmd",
        home.gpmd_lock().display()
    );
    let end = pid.map_or_else(|| "end that process".to_owned(), |pid| format!("kill {pid}"));
    Problem::new(words, format!("{end}, then {gpmd} start"))
}

/// Returns the problem that gpmd does not run, and what would prevent a start.
fn none_runs(home: &Home, setup: &Setup) -> Problem {
    let words = match Record::read(home) {
        Some(record) => format!(
            "no gpmd runs in this home: process {} crashed or was killed; its log is {}",
            record.pid,
            home.gpmd_log().display()
        ),
        None => "no gpmd runs in this home".to_owned(),
    };
    let files = [home.gpmd_lock(), home.gpmd_log()];
    let obstacle = files.iter().find_map(|file| refused(file, Use::Write)).or_else(|| taken(setup));
    match obstacle {
        Some(problem) => {
            Problem::new(format!("{words}, and none can start: {}", problem.message), problem.fix)
        }
        None => Problem::new(words, format!("{} start", setup.commands.gpmd)),
    }
}

/// Returns the problem of a port that gpmd needs and cannot use.
fn taken(setup: &Setup) -> Option<Problem> {
    let Ports { listen, nodes, commands } = setup.ports;
    let gpmd = &setup.commands.gpmd;
    let cannot = |port: u16| {
        let error = TcpListener::bind((listen, port)).err()?;
        Some(match error.kind() {
            ErrorKind::AddrInUse => {
                let who = process::listening_at(port)
                    .map_or_else(String::new, |pid| format!(" by {}", process::called(pid)));
                Problem::new(
                    format!("port {port} is in use{who}"),
                    format!("end that program, or use free ports: {gpmd} start --port 0 --command-port 0"),
                )
            }
            ErrorKind::AddrNotAvailable => Problem::new(
                format!("this device has no address {listen}"),
                format!(
                    "{gpmd} start --listen ADDR, with an address of this device; or correct gpmd.listen in \
                     config.toml"
                ),
            ),
            _ => Problem::new(
                format!("cannot listen on port {port}: {error}"),
                format!("{gpmd} start --port 0 --command-port 0"),
            ),
        })
    };
    if nodes == commands && nodes != 0 {
        return Some(Problem::new(
            format!("nodes and commands cannot share port {nodes}"),
            "set two different ports: --port and --command-port, or [gpmd] in config.toml",
        ));
    }
    cannot(nodes).or_else(|| cannot(commands))
}

fn answer(home: &Home, setup: &Setup, pid: Option<u32>) -> Found<Status> {
    for (whom, socket) in [("commands", home.command_socket()), ("nodes", home.gpmd_socket())] {
        at_socket(whom, &socket, home, setup, pid)?;
    }
    let again = |error: &Error| match (error.code(), pid) {
        // `gpmd kill` would fail in the same way.
        (Code::AuthFailed | Code::Overloaded, Some(pid)) => {
            format!(
                "kill {pid} (or kill -9 {pid}), then {} start; restart its nodes too",
                setup.commands.gpmd
            )
        }
        _ => about_gpmd(error, home, setup),
    };
    let asked = Control::connect(home).and_then(|control| {
        let status = control.status()?;
        let differs = changed_by_hand(home, &control, &status)?;
        look(home, &Route::nodes(home)).map(|_| (status, differs))
    });
    let (status, differs) = asked.map_err(|error| Problem::of(&error, || again(&error)))?;
    // Paths through symbolic links are equal.
    let same = |path: &Path| path.canonicalize().ok();
    if same(Path::new(&status.home)).is_none_or(|told| Some(told) != same(home.path())) {
        return Err(Problem::new(
            format!("gpmd was started for {}: the home was moved or replaced since", status.home),
            format!("{gpmd} kill, then {gpmd} start; restart its nodes too", gpmd = setup.commands.gpmd),
        ));
    }
    if differs {
        return Err(Problem::new(
            format!(
                "gpmd has {} modules, but {} has another number: the file was edited while gpmd ran",
                status.modules,
                home.index().display()
            ),
            format!(
                "to keep the file: {gpmd} kill, then {gpmd} start; to keep gpmd's modules: upload any module \
                 again, which rewrites the file",
                gpmd = setup.commands.gpmd
            ),
        ));
    }
    let words =
        format!("{} nodes, {} modules, at {}", status.nodes.len(), status.modules, status.command_socket);
    Ok((status, words))
}

/// Returns whether the index on the disk has another number of modules than gpmd for some time: during an
/// upload, the two differ for a moment. An index that cannot be read is a problem of the layer `modules`.
fn changed_by_hand(home: &Home, control: &Control, status: &Status) -> Result<bool> {
    let on_disk = || store::read_index(home).ok().filter(|_| home.index().exists());
    let mut before = None;
    let mut told = status.modules;
    for _ in 0..LOOKS {
        let Some(index) = on_disk() else { return Ok(false) };
        let seen = (told, index.revision, index.modules.len() as u64);
        if seen.2 == u64::from(told) || before.is_some_and(|before| before != seen) {
            return Ok(false);
        }
        before = Some(seen);
        std::thread::sleep(Duration::from_millis(100));
        told = control.status()?.modules;
    }
    Ok(true)
}

/// Checks that gpmd, and no other process, listens on a socket.
fn at_socket(
    whom: &str,
    socket: &Path,
    home: &Home,
    setup: &Setup,
    pid: Option<u32>,
) -> std::result::Result<(), Problem> {
    let (shown, gpmd) = (socket.display(), &setup.commands.gpmd);
    let end = pid.map_or_else(|| "end its process".to_owned(), |pid| format!("kill {pid}"));
    match listener(socket) {
        Ok(Some(other)) if pid.is_some_and(|pid| pid != other) => Err(Problem::new(
            format!("{} listens on {shown} instead of the gpmd of this home", process::called(other)),
            // The process may have taken both sockets.
            format!(
                "{end}; rm {} {}; {gpmd} start",
                quote::path(&home.command_socket()),
                quote::path(&home.gpmd_socket())
            ),
        )),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Problem::new(
            format!("gpmd runs, but its socket for {whom} {shown} is gone"),
            format!("{end}, then {gpmd} start"),
        )),
        Err(error) => Err(Problem::new(
            format!("gpmd runs, but does not answer on its socket for {whom} {shown}: {error}"),
            format!("{end}, then {gpmd} start"),
        )),
    }
}

fn version(found: &str, setup: &Setup) -> Found<()> {
    let own = env!("CARGO_PKG_VERSION");
    let gpmd = &setup.commands.gpmd;
    match found == own {
        true => Ok(((), format!("gvm and gpmd have version {own}"))),
        false => Err(Problem::new(
            format!("gvm has version {own}, but the running gpmd has {found}"),
            format!("install gvm and gpmd from one release; then {gpmd} kill, and {gpmd} start"),
        )),
    }
}

/// Checks that gpmd's ports can be reached and accept the key of the home.
fn ports(home: &Home, status: &Status, setup: &Setup) -> Found<()> {
    for address in [&status.address, &status.command_address] {
        if let Ok(Address::Tcp(at)) = address.parse() {
            reachable(at, "let programs on this device connect to it")?;
        }
    }
    let reach = |address: &str| address.parse().and_then(|address| Route::at(address, home));
    let commands = reach(&status.command_address).and_then(|reach| Control::connect_by(home, &reach));
    let greeted = commands.and_then(|_| reach(&status.address).and_then(|reach| look(home, &reach)));
    greeted
        .map(|_| ((), format!("{} and {} answer over TLS", status.address, status.command_address)))
        .map_err(|error| {
            Problem::of(&error, || match error.code() {
                Code::AuthFailed => format!(
                    "the key changed while gpmd ran: {gpmd} kill, then {gpmd} start; restart its nodes too",
                    gpmd = setup.commands.gpmd
                ),
                _ => about_gpmd(&error, home, setup),
            })
        })
}

/// Checks that a port accepts connections from here.
pub fn reachable(at: SocketAddr, fix: &str) -> std::result::Result<(), Problem> {
    let Err(error) = TcpStream::connect_timeout(&at, REACH) else { return Ok(()) };
    Err(match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Problem::new(
            format!("{at} does not respond: packets to it are lost"),
            format!("{fix}: a firewall (nft, iptables) drops them, or the network is down"),
        ),
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable if at.ip().is_loopback() => Problem::new(
            format!("{at}: {error}"),
            "bring the loopback interface up (as root: ip link set lo up)",
        ),
        ErrorKind::ConnectionRefused => Problem::new(
            format!("{at}: {error}"),
            format!("{fix}: a firewall rejects it, or the program runs in another network namespace"),
        ),
        _ => Problem::new(format!("{at}: {error}"), format!("{fix}: a firewall or the network prevents it")),
    })
}

/// Asks gpmd for its version and the running nodes, like a node.
pub fn look(home: &Home, reach: &Route) -> Result<(String, Vec<NodeInfo>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .map_err(|error| Error::io("cannot start a runtime", error))?;
    runtime.block_on(link::look(home, reach))
}
