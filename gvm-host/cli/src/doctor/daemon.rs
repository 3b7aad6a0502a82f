//! The layers of the daemon: that it runs, its answers, version and ports.
//!
//! In: a home that can be entered. Out: findings; the live nodes, where gpmd told them. Must not know: what
//! nodes do with each other.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::files::{Use, refused};
use super::{Findings, Found, Patient, Sick, about_gpmd, stopped, unable};
use gvm_host::Home;
use gvm_host::NodeInfo;
use gvm_host::daemon::server::Ports;
use gvm_host::gpmd::control::{Control, Status};
use gvm_host::gpmd::link;
use gvm_host::gpmd::record::{Record, holder, is_running};
use gvm_host::gpmd::route::Route;
use gvm_host::net::Address;
use gvm_host::net::listener;
use gvm_host::store;
use gvm_host::system::process;
use gvm_host::text::quote;
use gvm_host::{Code, Error, Result};

/// In their order.
pub const LAYERS: &[&str] = &["gpmd", "answer", "version", "ports", "nodes"];

/// How long a gpmd that starts may take until it listens: it reads the index and cleans up.
const STARTING: Duration = Duration::from_secs(5);

/// How often gpmd and the index are compared before they are said to differ.
const LOOKS: u32 = 4;

/// How long a gpmd that ends may hold the lock after its sockets.
const ENDING: Duration = Duration::from_secs(1);

/// How long a port may take to take a connection, or to greet.
pub const REACH: Duration = Duration::from_secs(3);

/// Looks at all of them: the live nodes, and whether a node can register. `key` is whether the home's serves.
pub fn examine(
    findings: &mut Findings,
    patient: &Patient,
    home: &Home,
    key: bool,
) -> Option<(Vec<NodeInfo>, bool)> {
    if let Some(address) = &patient.gpmd {
        return elsewhere(findings, patient, home, key, address);
    }
    let pid = findings.note("gpmd", running(home, patient))?;
    let status = findings.note("answer", answer(home, patient, pid))?;
    findings.note("version", version(&status.version, patient));
    if key {
        findings.note("ports", ports(home, &status, patient));
    }
    findings.note("nodes", nodes(home, &status.nodes));
    Some((status.nodes, key))
}

/// As [`examine`], of a gpmd that a person said the place of.
fn elsewhere(
    findings: &mut Findings,
    patient: &Patient,
    home: &Home,
    key: bool,
    address: &Address,
) -> Option<(Vec<NodeInfo>, bool)> {
    findings.note("gpmd", Ok(((), format!("is asked at {address}, as --gpmd or GPMD_ADDRESS says"))));
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
            "leave --gpmd (GPMD_ADDRESS) out for the gpmd of this home, or correct it: \
                                                    HOST[:PORT] of its port for nodes"
                .to_owned()
        }
        Code::AuthFailed => {
            "leave --gpmd (GPMD_ADDRESS) out: what listens there is not this home's gpmd".to_owned()
        }
        _ => about_gpmd(error, home, patient),
    };
    let (found, nodes) = findings.note("answer", looked.map_err(|error| Sick::of(&error, || fix(&error))))?;
    findings.note("version", version(&found, patient));
    findings.note("ports", Ok(((), format!("{address} by TLS, as just asked"))));
    findings.note("nodes", self::nodes(home, &nodes));
    Some((nodes, true))
}

/// Whether any node of this device was stopped, a live one or one that gpmd has given up for it.
fn nodes(home: &Home, live: &[NodeInfo]) -> Found<()> {
    for node in live {
        let sockets = node.addresses.iter().filter_map(|address| address.strip_prefix("unix:"));
        let pid = sockets.filter_map(|path| listener(Path::new(path)).ok().flatten()).next();
        if let Some(sick) = pid.and_then(|pid| stopped(pid, node.name.as_str())) {
            return Err(sick);
        }
    }
    match unregistered(home, live).into_iter().next() {
        Some((_, sick)) => Err(sick),
        None => Ok(((), format!("{} live, none was stopped", live.len()))),
    }
}

/// The nodes of this home that gpmd has given up because their processes were stopped.
pub fn unregistered(home: &Home, live: &[NodeInfo]) -> Vec<(u32, Sick)> {
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

/// Whether a gpmd runs; its process, where the system tells.
fn running(home: &Home, patient: &Patient) -> Found<Option<u32>> {
    let begun = Instant::now();
    loop {
        let sockets = [home.command_socket(), home.gpmd_socket()];
        let listening = sockets.iter().find_map(|socket| listener(socket).ok());
        if !is_running(home) {
            return Err(match listening.flatten() {
                Some(pid) => Sick::new(
                    format!(
                        "{} listens at this home's sockets and does not hold {}: the file was removed or replaced \
                         while it ran",
                        process::called(pid),
                        home.gpmd_lock().display()
                    ),
                    format!("kill {pid}, then {} start", patient.commands.gpmd),
                ),
                None => none_runs(home, patient),
            });
        }
        let record = Record::read(home);
        let pid = holder(home).or_else(|| record.as_ref().map(|record| record.pid));
        if let Some(sick) = pid.and_then(|pid| unable(pid, "gpmd")) {
            return Err(sick);
        }
        // One that ends has left its sockets already, and its lock is free in a moment.
        let whole = sockets.iter().all(|socket| !matches!(listener(socket), Err(error) if is_nobody(&error)));
        if record.as_ref().is_some_and(|record| pid == Some(record.pid))
            && (whole || begun.elapsed() > ENDING)
        {
            let called = pid.map_or_else(String::new, |pid| format!(" as {}", process::called(pid)));
            return Ok((pid, format!("runs{called}")));
        }
        // It listens first, and writes the record then.
        if begun.elapsed() > if listening.is_some() { ENDING } else { STARTING } {
            return Err(unrecorded(home, patient, pid, listening.is_some()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_nobody(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

/// One that holds the lock and has no record, or another's.
fn unrecorded(home: &Home, patient: &Patient, pid: Option<u32>, listens: bool) -> Sick {
    let called = pid.map_or_else(|| "a process".to_owned(), process::called);
    let (record, gpmd) = (home.gpmd_record(), &patient.commands.gpmd);
    if listens {
        let words =
            format!("runs as {called}, and {} does not say so: it was removed or changed", record.display());
        return Sick::new(words, format!("{gpmd} kill, then {gpmd} start"));
    }
    let words =
        format!("{called} holds {} and listens nowhere: it hangs, or is no gpmd", home.gpmd_lock().display());
    let end = pid.map_or_else(|| "end that process".to_owned(), |pid| format!("kill {pid}"));
    Sick::new(words, format!("{end}, then {gpmd} start"))
}

/// That none runs, and what would keep one from starting.
fn none_runs(home: &Home, patient: &Patient) -> Sick {
    let words = match Record::read(home) {
        Some(record) => format!(
            "no gpmd runs in this home: the one that ran as process {} ended without a word; its log is {}",
            record.pid,
            home.gpmd_log().display()
        ),
        None => "no gpmd runs in this home".to_owned(),
    };
    let files = [home.gpmd_lock(), home.gpmd_log()];
    let obstacle = files.iter().find_map(|file| refused(file, Use::Write)).or_else(|| taken(patient));
    match obstacle {
        Some(sick) => Sick::new(format!("{words}; and none can start: {}", sick.words), sick.fix),
        None => Sick::new(words, format!("{} start", patient.commands.gpmd)),
    }
}

/// A port that a gpmd would take and cannot.
fn taken(patient: &Patient) -> Option<Sick> {
    let Ports { listen, nodes, commands } = patient.ports;
    let gpmd = &patient.commands.gpmd;
    let cannot = |port: u16| {
        let error = TcpListener::bind((listen, port)).err()?;
        Some(match error.kind() {
            ErrorKind::AddrInUse => {
                let who = process::listening_at(port)
                    .map_or_else(String::new, |pid| format!(", by {}", process::called(pid)));
                Sick::new(
                    format!("port {port} is taken{who}"),
                    format!(
                        "end that program; or take other ports: {gpmd} start --port 0 --command-port 0 takes free ones"
                    ),
                )
            }
            ErrorKind::AddrNotAvailable => Sick::new(
                format!("this device has no address {listen}"),
                format!(
                    "{gpmd} start --listen with an address of this device, or correct gpmd.listen in config.toml"
                ),
            ),
            _ => Sick::new(
                format!("port {port} cannot be taken: {error}"),
                format!("{gpmd} start --port 0 --command-port 0"),
            ),
        })
    };
    if nodes == commands && nodes != 0 {
        return Some(Sick::new(
            format!("nodes and commands cannot share port {nodes}"),
            "give gpmd two different ports: --port and --command-port, or [gpmd] in config.toml",
        ));
    }
    cannot(nodes).or_else(|| cannot(commands))
}

fn answer(home: &Home, patient: &Patient, pid: Option<u32>) -> Found<Status> {
    for (whom, socket) in [("commands", home.command_socket()), ("nodes", home.gpmd_socket())] {
        at_socket(whom, &socket, home, patient, pid)?;
    }
    let again = |error: &Error| match (error.code(), pid) {
        // gpmd does not take our word either.
        (Code::AuthFailed | Code::Overloaded, Some(pid)) => {
            format!(
                "kill {pid} (or kill -9), then {} start; and start its nodes again",
                patient.commands.gpmd
            )
        }
        _ => about_gpmd(error, home, patient),
    };
    let asked = Control::connect(home).and_then(|control| {
        let status = control.status()?;
        let differs = changed_by_hand(home, &control, &status)?;
        look(home, &Route::nodes(home)).map(|_| (status, differs))
    });
    let (status, differs) = asked.map_err(|error| Sick::of(&error, || again(&error)))?;
    // Links on the way are no difference.
    let same = |path: &Path| path.canonicalize().ok();
    if same(Path::new(&status.home)).is_none_or(|told| Some(told) != same(home.path())) {
        return Err(Sick::new(
            format!("gpmd was started for {}: the home was moved or replaced while it ran", status.home),
            format!(
                "{gpmd} kill, then {gpmd} start; start its nodes again, too",
                gpmd = patient.commands.gpmd
            ),
        ));
    }
    if differs {
        return Err(Sick::new(
            format!(
                "gpmd knows {} modules, and {} holds more or fewer: it was changed by hand while gpmd ran",
                status.modules,
                home.index().display()
            ),
            format!(
                "for the file's: {gpmd} kill, then {gpmd} start; for gpmd's: upload any module again, which writes \
                 the file anew",
                gpmd = patient.commands.gpmd
            ),
        ));
    }
    let words =
        format!("{} nodes, {} modules, at {}", status.nodes.len(), status.modules, status.command_socket);
    Ok((status, words))
}

/// Whether the index on the disk has another number of modules than gpmd, and stays so: while modules are
/// uploaded the two are looked at a moment apart. One that cannot be read is told elsewhere.
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

/// Whether gpmd listens at a socket, and nobody else.
fn at_socket(
    whom: &str,
    socket: &Path,
    home: &Home,
    patient: &Patient,
    pid: Option<u32>,
) -> std::result::Result<(), Sick> {
    let (shown, gpmd) = (socket.display(), &patient.commands.gpmd);
    let end = pid.map_or_else(|| "end its process".to_owned(), |pid| format!("kill {pid}"));
    match listener(socket) {
        Ok(Some(other)) if pid.is_some_and(|pid| pid != other) => Err(Sick::new(
            format!("{} listens at {shown}, in the place of this home's gpmd", process::called(other)),
            // Both: whoever took one may have taken the other.
            format!(
                "{end}; rm {} {}; {gpmd} start",
                quote::path(&home.command_socket()),
                quote::path(&home.gpmd_socket())
            ),
        )),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Sick::new(
            format!("it runs, and its socket for {whom} {shown} is gone"),
            format!("{end}, then {gpmd} start"),
        )),
        Err(error) => Err(Sick::new(
            format!("it runs, and nobody answers at its socket for {whom} {shown}: {error}"),
            format!("{end}, then {gpmd} start"),
        )),
    }
}

fn version(found: &str, patient: &Patient) -> Found<()> {
    let own = env!("CARGO_PKG_VERSION");
    let gpmd = &patient.commands.gpmd;
    match found == own {
        true => Ok(((), format!("gvm and gpmd are {own}"))),
        false => Err(Sick::new(
            format!("gvm is {own}, the gpmd that runs is {found}"),
            format!("install both from one release; {gpmd} kill, then {gpmd} start"),
        )),
    }
}

/// Whether gpmd's ports can be reached, and let the home's key in.
fn ports(home: &Home, status: &Status, patient: &Patient) -> Found<()> {
    for address in [&status.address, &status.command_address] {
        if let Ok(Address::Tcp(at)) = address.parse() {
            reachable(at, "let programs of this device reach it")?;
        }
    }
    let reach = |address: &str| address.parse().and_then(|address| Route::at(address, home));
    let commands = reach(&status.command_address).and_then(|reach| Control::connect_by(home, &reach));
    let greeted = commands.and_then(|_| reach(&status.address).and_then(|reach| look(home, &reach)));
    greeted.map(|_| ((), format!("{} and {} by TLS", status.address, status.command_address))).map_err(
        |error| {
            Sick::of(&error, || match error.code() {
                Code::AuthFailed => format!(
                    "the key was changed while gpmd ran: {gpmd} kill, then {gpmd} start; start its nodes again, too",
                    gpmd = patient.commands.gpmd
                ),
                _ => about_gpmd(&error, home, patient),
            })
        },
    )
}

/// Whether a port takes connections from here.
pub fn reachable(at: SocketAddr, fix: &str) -> std::result::Result<(), Sick> {
    let Err(error) = TcpStream::connect_timeout(&at, REACH) else { return Ok(()) };
    Err(match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Sick::new(
            format!("{at} takes no connection: what is sent there is lost"),
            format!("{fix}: a firewall (nft, iptables) drops it, or the network to it is down"),
        ),
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable if at.ip().is_loopback() => Sick::new(
            format!("{at}: {error}"),
            "bring the loopback interface up (as root: ip link set lo up)",
        ),
        ErrorKind::ConnectionRefused => Sick::new(
            format!("{at}: {error}"),
            format!("{fix}: a firewall rejects it, or its program lives in another network namespace"),
        ),
        _ => {
            Sick::new(format!("{at}: {error}"), format!("{fix}: a firewall, or the network, stands between"))
        }
    })
}

/// What gpmd tells nodes, asked as a node would.
fn look(home: &Home, reach: &Route) -> Result<(String, Vec<NodeInfo>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .map_err(|error| Error::io("cannot start a runtime", error))?;
    runtime.block_on(link::look(home, reach))
}
