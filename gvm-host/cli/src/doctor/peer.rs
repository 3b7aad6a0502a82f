//! Checks the layers between this device and one node: its name, its addresses, TLS, its accept policy and
//! rights.
//!
//! In: a name, and the nodes that gpmd knows. Out: findings. A test node connects to the node and
//! disconnects. Must not know: how gpmd works.

use std::net::SocketAddr;
use std::time::Duration;

use super::daemon::{REACH, reachable};
use super::home::Disk;
use super::{Findings, Found, Problem, Setup, runtime, unable};
use gvm_host::net::Tls;
use gvm_host::net::listener;
use gvm_host::net::{Address, dial, dial_words};
use gvm_host::system::process;
use gvm_host::text::near;
use gvm_host::{
    Accept, Code, DeviceKey, Error, Event, Handle, Home, NodeInfo, NodeName, Reason, Result, SessionRights,
};

/// The layers in their order.
pub const LAYERS: &[&str] = &["name", "socket", "port", "tls", "accept", "rights"];

/// How long the node may take to accept or refuse, if it does not ask its user.
const MEET: Duration = Duration::from_secs(12);

/// Checks the layers; leaves out those that need a failed one. `able` is whether a test node can start.
pub fn examine(
    findings: &mut Findings,
    setup: &Setup,
    disk: &Disk,
    nodes: &[NodeInfo],
    name: &NodeName,
    able: bool,
) {
    let home = &disk.home;
    let Some(node) = findings.note("name", known(setup, home, nodes, name)) else { return };
    let (socket, runs) = socket(setup, &node);
    let socket = findings.note("socket", socket);
    // A suspended process answers on no address.
    if !runs {
        return;
    }
    let port = findings.note("port", port(&node));
    let tls = port.filter(|_| disk.key).and_then(|at| findings.note("tls", tls(setup, home, at, &node)));
    if !able || socket.is_none() && tls.is_none() {
        return;
    }
    let rights = findings.note("accept", accept(setup, home, &node));
    if let Some(rights) = rights {
        findings.note("rights", rights);
    }
}

fn known(setup: &Setup, home: &Home, nodes: &[NodeInfo], name: &NodeName) -> Found<NodeInfo> {
    if let Some(node) = nodes.iter().find(|node| node.name == *name) {
        return Ok((node.clone(), format!("{name} is running, id {}", node.id)));
    }
    let near = near::suggestion(name.as_str(), nodes.iter().map(|node| node.name.as_str()));
    let live: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let live = if live.is_empty() { "none".to_owned() } else { live.join(", ") };
    let words = format!("no running node is called {name}{near}");
    let start = format!("start it with `{} --name {name}` (running nodes: {live})", setup.commands.gvm);
    let mut others = super::daemon::unregistered(home, nodes);
    // A node that was started with this name comes first.
    others.sort_by_key(|(pid, _)| !process::words(*pid).iter().any(|word| word.ends_with(name.as_str())));
    Err(match others.into_iter().next() {
        Some((pid, problem)) => Problem::new(
            format!("{words}, but {}", problem.message),
            format!(
                "{}: if process {pid} is {name}, it registers again by itself; if not, {start}",
                problem.fix
            ),
        ),
        None => Problem::new(words, start),
    })
}

fn addresses(node: &NodeInfo) -> impl Iterator<Item = Address> {
    node.addresses.iter().filter_map(|address| address.parse().ok())
}

/// Returns how to restart the node.
fn again(setup: &Setup, node: &NodeInfo) -> String {
    format!(
        "end {name}, then start it again: {gvm} --name {name}",
        name = node.name,
        gvm = setup.commands.gvm
    )
}

/// Returns the problem of a node that does not respond.
fn stuck(setup: &Setup, node: &NodeInfo, why: &str) -> Problem {
    Problem::new(
        format!("{} does not answer: {why}", node.name),
        format!(
            "its process is suspended (Ctrl-Z or SIGSTOP) or overloaded: continue it with kill -CONT; if that \
             does not help, {}",
            again(setup, node)
        ),
    )
}

/// Checks its socket. Also returns false if its process is known to be suspended.
fn socket(setup: &Setup, node: &NodeInfo) -> (Found<()>, bool) {
    let Some(Address::Unix(path)) = addresses(node).find(|address| matches!(address, Address::Unix(_)))
    else {
        return (Ok(((), "no socket; other nodes use its port".to_owned())), true);
    };
    let shown = path.display();
    match listener(&path) {
        Ok(pid) => match pid.and_then(|pid| unable(pid, node.name.as_str())) {
            Some(problem) => (Err(problem), false),
            None => {
                let by = pid.map_or_else(String::new, |pid| format!(", {}", process::called(pid)));
                (Ok(((), format!("unix:{shown}{by}"))), true)
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            (Err(stuck(setup, node, "its socket accepts no connections")), true)
        }
        Err(error) => (
            Err(Problem::new(
                format!("unix:{shown}: {error}: the file was removed, or no process listens on it"),
                format!("{}; until then, nodes connect to its port", again(setup, node)),
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
        return Err(Problem::new("the node has no port", "start it with --listen"));
    };
    reachable(at, "let this device connect to that address (--listen of the node)")?;
    Ok((at, format!("{at} accepts connections")))
}

fn tls(setup: &Setup, home: &Home, at: SocketAddr, node: &NodeInfo) -> Found<()> {
    let dialled = DeviceKey::open(home).and_then(|key| Tls::to_nodes(&key)).and_then(|tls| {
        runtime(async { tokio::time::timeout(REACH, dial(&Address::Tcp(at), Some(&tls))).await })
    });
    match dialled {
        Ok(Ok(Ok(_))) => Ok(((), "both sides proved that they belong to this home".to_owned())),
        Ok(Ok(Err(error))) => Err(Problem::new(
            format!("{at}: {}", dial_words(&error)),
            format!("the node was started with another key: {}", again(setup, node)),
        )),
        Ok(Err(_)) => Err(stuck(setup, node, &format!("{at} accepts connections but does not respond"))),
        Err(error) => Err(Problem::of(&error, || "fix the layers above".into())),
    }
}

/// Checks that it accepts a node of this device. If it does, also returns the finding about the rights there.
pub fn accept(setup: &Setup, home: &Home, node: &NodeInfo) -> Found<Found<()>> {
    let start =
        |with: &str| format!("start it again with {with}: {} --name {} …", setup.commands.gvm, node.name);
    match runtime(meet(setup, home, node)).and_then(|met| met) {
        Ok(Met::Granted(grant)) => {
            let ends = match grant.expires_ms {
                Some(_) => ", until the session time ends",
                None => "",
            };
            let rights = match grant.calls {
                None => Ok(((), format!("this node may call everything there{ends}"))),
                Some(calls) if calls.is_empty() => Err(Problem::new(
                    "this node may call nothing there",
                    start("an --allow-call that matches a function, or without --allow-call"),
                )),
                Some(calls) => Ok(((), format!("this node may call there: {}{ends}", calls.join(", ")))),
            };
            Ok((rights, "it accepts a node of this device".to_owned()))
        }
        Ok(Met::Asks) => Ok((
            Ok(((), "unknown until its user answers".to_owned())),
            "it asks its user (--accept ask), who is at its prompt".to_owned(),
        )),
        Err(error) => Err(match error.code() {
            Code::ConnectionDenied if error.reason() == Some(Reason::Unanswered) => Problem::new(
                error.message().to_owned(),
                format!(
                    "{}, and answer at its prompt; or {}",
                    start("--accept ask at a terminal"),
                    start("--accept all")
                ),
            ),
            Code::ConnectionDenied => Problem::new(
                error.message().to_owned(),
                format!(
                    "{}; or, if it accepts only some names, check with one of them: {} --name NAME doctor {}",
                    start("an --accept policy that allows your node (all, or its name)"),
                    setup.commands.gvm,
                    node.name
                ),
            ),
            Code::NodeDown | Code::Overloaded | Code::Timeout => stuck(setup, node, error.message()),
            _ => Problem::of(&error, || again(setup, node)),
        }),
    }
}

enum Met {
    Granted(SessionRights),
    Asks,
}

async fn meet(setup: &Setup, home: &Home, node: &NodeInfo) -> Result<Met> {
    let config = (setup.config)(home.clone())?.accept(Accept::None);
    let own = Handle::start(config).await?;
    let met = tokio::time::timeout(MEET, greet(&own, &node.name)).await.unwrap_or_else(|_| {
        Err(Error::new(Code::Timeout, "the node accepts connections but does not greet"))
    });
    own.shut_down().await;
    met
}

async fn greet(own: &Handle, name: &NodeName) -> Result<Met> {
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
