//! The layers between this device and one node: its name, its addresses, TLS, what it accepts and allows.
//!
//! In: a name, and what gpmd knows of it. Out: findings. A node of our own meets it, as a person's would,
//! and goes again. Must not know: gpmd's state.

use std::net::SocketAddr;
use std::time::Duration;

use super::daemon::{REACH, reachable};
use super::home::Disk;
use super::{Findings, Found, Patient, Sick, runtime, unable};
use gvm_host::Accept;
use gvm_host::Home;
use gvm_host::Reason;
use gvm_host::SessionRights;
use gvm_host::net::Tls;
use gvm_host::net::listener;
use gvm_host::net::{Address, dial, dial_words};
use gvm_host::system::process;
use gvm_host::text::near;
use gvm_host::{Code, Error, Result};
use gvm_host::{Event, Handle};
use gvm_host::{Name, NodeInfo};

/// In their order.
pub const LAYERS: &[&str] = &["name", "socket", "port", "tls", "accept", "rights"];

/// How long the node may take to say whether it accepts, where no person is asked.
const MEET: Duration = Duration::from_secs(12);

/// Looks at all of them; what stands on one that fails is left out. `able` is whether a node of our own can
/// start, to meet it.
pub fn examine(
    findings: &mut Findings,
    patient: &Patient,
    disk: &Disk,
    nodes: &[NodeInfo],
    name: &Name,
    able: bool,
) {
    let home = &disk.home;
    let Some(node) = findings.note("name", known(patient, home, nodes, name)) else { return };
    let (socket, runs) = socket(patient, &node);
    let socket = findings.note("socket", socket);
    // A process that was stopped answers nowhere.
    if !runs {
        return;
    }
    let port = findings.note("port", port(&node));
    let tls = port.filter(|_| disk.key).and_then(|at| findings.note("tls", tls(patient, home, at, &node)));
    if !able || socket.is_none() && tls.is_none() {
        return;
    }
    let rights = findings.note("accept", accept(patient, home, &node));
    if let Some(rights) = rights {
        findings.note("rights", rights);
    }
}

fn known(patient: &Patient, home: &Home, nodes: &[NodeInfo], name: &Name) -> Found<NodeInfo> {
    if let Some(node) = nodes.iter().find(|node| node.name == *name) {
        return Ok((node.clone(), format!("{name} is live, id {}", node.id)));
    }
    let near = near::suggestion(name.as_str(), nodes.iter().map(|node| node.name.as_str()));
    let live: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let live = if live.is_empty() { "none".to_owned() } else { live.join(", ") };
    let words = format!("no live node is called {name}{near}");
    let start = format!("start it with `{} --name {name}`; live now: {live}", patient.commands.gvm);
    let mut others = super::daemon::unregistered(home, nodes);
    // The one of this name rather than another.
    others.sort_by_key(|(pid, _)| !process::words(*pid).iter().any(|word| word.ends_with(name.as_str())));
    Err(match others.into_iter().next() {
        Some((pid, sick)) => Sick::new(
            format!("{words}; but {}", sick.words),
            format!("{}: it registers again by itself, if process {pid} is {name}; else {start}", sick.fix),
        ),
        None => Sick::new(words, start),
    })
}

fn addresses(node: &NodeInfo) -> impl Iterator<Item = Address> {
    node.addresses.iter().filter_map(|address| address.parse().ok())
}

/// How its program is started again, and what is lost by it.
fn again(patient: &Patient, node: &NodeInfo) -> String {
    format!(
        "end {name}, and start it again: {gvm} --name {name}",
        name = node.name,
        gvm = patient.commands.gvm
    )
}

/// The node's process neither takes nor answers.
fn stuck(patient: &Patient, node: &NodeInfo, why: &str) -> Sick {
    Sick::new(
        format!("{} does not answer: {why}", node.name),
        format!(
            "its process is stopped (Ctrl-Z, SIGSTOP) or has too much to do: `kill -CONT` it; else {}",
            again(patient, node)
        ),
    )
}

/// Its socket, and whether its process runs, as far as that is known.
fn socket(patient: &Patient, node: &NodeInfo) -> (Found<()>, bool) {
    let Some(Address::Unix(path)) = addresses(node).find(|address| matches!(address, Address::Unix(_)))
    else {
        return (Ok(((), "it has none: it is reached at its port".to_owned())), true);
    };
    let shown = path.display();
    match listener(&path) {
        Ok(pid) => match pid.and_then(|pid| unable(pid, node.name.as_str())) {
            Some(sick) => (Err(sick), false),
            None => {
                let by = pid.map_or_else(String::new, |pid| format!(", {}", process::called(pid)));
                (Ok(((), format!("unix:{shown}{by}"))), true)
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            (Err(stuck(patient, node, "its socket takes no connection")), true)
        }
        Err(error) => (
            Err(Sick::new(
                format!("unix:{shown}: {error}; its file is gone, or nobody listens at it"),
                format!("{}; until then its port serves, where that can be reached", again(patient, node)),
            )),
            true,
        ),
    }
}

fn port(node: &NodeInfo) -> Found<SocketAddr> {
    let port = addresses(node).find_map(|address| match address {
        Address::Tcp(at) => Some(at),
        _ => None,
    });
    let Some(at) = port else {
        return Err(Sick::new("it has no port", "start it with --listen"));
    };
    reachable(at, "let this device reach that address (--listen of the node)")?;
    Ok((at, format!("{at} takes connections")))
}

fn tls(patient: &Patient, home: &Home, at: SocketAddr, node: &NodeInfo) -> Found<()> {
    let dialled = Tls::open(home).and_then(|tls| {
        runtime(async { tokio::time::timeout(REACH, dial(&Address::Tcp(at), Some(&tls))).await })
    });
    match dialled {
        Ok(Ok(Ok(_))) => Ok(((), "both sides hold this home's key".to_owned())),
        Ok(Ok(Err(error))) => Err(Sick::new(
            format!("{at}: {}", dial_words(&error)),
            format!("the node was started with another key: {}", again(patient, node)),
        )),
        Ok(Err(_)) => Err(stuck(patient, node, &format!("{at} takes connections and says nothing"))),
        Err(error) => Err(Sick::of(&error, || "fix the layers above".into())),
    }
}

/// Whether it accepts a node of this home; what may be called there, then.
fn accept(patient: &Patient, home: &Home, node: &NodeInfo) -> Found<Found<()>> {
    let start =
        |with: &str| format!("start it again with {with}: {} --name {} …", patient.commands.gvm, node.name);
    match runtime(meet(patient, home, node)).and_then(|met| met) {
        Ok(Met::Granted(grant)) => {
            let ends = match grant.expires_ms {
                Some(_) => ", for as long as its --session-time says",
                None => "",
            };
            let rights = match grant.calls {
                None => Ok(((), format!("everything may be called there{ends}"))),
                Some(calls) if calls.is_empty() => Err(Sick::new(
                    "nothing may be called there",
                    start("an --allow-call that names what may be, or without any"),
                )),
                Some(calls) => Ok(((), format!("what may be called there: {}{ends}", calls.join(", ")))),
            };
            Ok((rights, "it accepts a node of this home".to_owned()))
        }
        Ok(Met::Asks) => Ok((
            Ok(((), "unknown until its person has answered".to_owned())),
            "it asks its person (--accept ask), who was there to be asked".to_owned(),
        )),
        Err(error) => Err(match error.code() {
            Code::ConnectionDenied if error.reason() == Some(Reason::Unanswered) => Sick::new(
                error.message().to_owned(),
                format!(
                    "{}, and answer at its prompt; or {}",
                    start("--accept ask at a terminal"),
                    start("--accept all")
                ),
            ),
            Code::ConnectionDenied => Sick::new(
                error.message().to_owned(),
                format!(
                    "{}; where it lists your node by name, ask as that: {} --name NAME doctor {}",
                    start("an --accept that lets your node in (all, or its name)"),
                    patient.commands.gvm,
                    node.name
                ),
            ),
            Code::NodeDown | Code::Overloaded | Code::Timeout => stuck(patient, node, error.message()),
            _ => Sick::of(&error, || again(patient, node)),
        }),
    }
}

enum Met {
    Granted(SessionRights),
    Asks,
}

async fn meet(patient: &Patient, home: &Home, node: &NodeInfo) -> Result<Met> {
    let config = (patient.config)(home.clone())?.accept(Accept::None);
    let own = Handle::start(config).await?;
    let met = tokio::time::timeout(MEET, greet(&own, &node.name))
        .await
        .unwrap_or_else(|_| Err(Error::new(Code::Timeout, "it takes connections and does not greet")));
    own.shut_down().await;
    met
}

async fn greet(own: &Handle, name: &Name) -> Result<Met> {
    let mut events = own.events();
    let mut connecting = std::pin::pin!(own.connect(name.clone()));
    loop {
        tokio::select! {
            biased;
            connected = &mut connecting => {
                connected?;
                let grant = own.rights(name.clone()).await?;
                own.disconnect(name.clone()).await?;
                return Ok(Met::Granted(grant));
            }
            Ok(event) = events.recv() => {
                if event == (Event::Waiting { name: name.clone() }) {
                    return Ok(Met::Asks);
                }
            }
        }
    }
}
