//! The layers between this device and one node: its name, its addresses, TLS, what it accepts and allows.
//!
//! In: a name, and what gpmd knows of it. Out: findings. A node of our own meets it, as a person's would,
//! and goes again. Must not know: gpmd's state.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{Findings, Patient, Sick};
use crate::error::{Code, Error, Result};
use crate::gpmd::control::Status;
use crate::home::Home;
use crate::id::{Name, NodeInfo};
use crate::near;
use crate::node::{Config, Event, Handle, workers};
use crate::peer::accept::Accept;
use crate::wire::tls::Tls;
use crate::wire::transport::{Address, dial, dial_words};

/// In their order.
pub const LAYERS: &[&str] = &["name", "socket", "port", "tls", "accept", "rights"];

/// How long a place may take to take a connection.
const REACH: Duration = Duration::from_secs(3);

/// How long the node may take to say whether it accepts, where no person is asked.
const MEET: Duration = Duration::from_secs(12);

type Found<T> = std::result::Result<(T, String), Sick>;

/// Looks at all of them; what stands on one that fails is left out.
pub fn examine(findings: &mut Findings, patient: &Patient, home: &Home, status: &Status, name: &Name) {
    let Some(node) = findings.note("name", known(status, name)) else { return };
    let socket = findings.note("socket", socket(&node));
    let port = findings.note("port", port(&node));
    let tls = port.and_then(|at| findings.note("tls", tls(home, at)));
    if socket.is_none() && tls.is_none() {
        return;
    }
    let rights = findings.note("accept", accept(patient, home, &node));
    if let Some(rights) = rights {
        findings.note("rights", rights);
    }
}

fn known(status: &Status, name: &Name) -> Found<NodeInfo> {
    match status.nodes.iter().find(|node| node.name == *name) {
        Some(node) => Ok((node.clone(), format!("{name} is live, id {}", node.id))),
        None => {
            let near = near::suggestion(name.as_str(), status.nodes.iter().map(|node| node.name.as_str()));
            let live: Vec<&str> = status.nodes.iter().map(|node| node.name.as_str()).collect();
            let live = if live.is_empty() { "none".to_owned() } else { live.join(", ") };
            Err(Sick::new(
                format!("no live node is called {name}{near}"),
                format!("start it with `gvm --name {name}`; live now: {live}"),
            ))
        }
    }
}

fn addresses(node: &NodeInfo) -> impl Iterator<Item = Address> {
    node.addresses.iter().filter_map(|address| address.parse().ok())
}

/// The node's process neither takes nor answers.
fn stuck(node: &NodeInfo, why: &str) -> Sick {
    Sick::new(
        format!("{} does not answer: {why}", node.name),
        "its process is stopped (Ctrl-Z, SIGSTOP) or has too much to do: `kill -CONT` it, or start it again",
    )
}

fn socket(node: &NodeInfo) -> Found<()> {
    let Some(address) = addresses(node).find(|address| matches!(address, Address::Unix(_))) else {
        return Ok(((), "it has none: it is reached at its port".to_owned()));
    };
    let reached = runtime(async { tokio::time::timeout(REACH, dial(&address, None)).await });
    match reached {
        Ok(Ok(Ok(_))) => Ok(((), address.to_string())),
        Ok(Ok(Err(error))) => Err(Sick::new(
            format!("{address}: {}", dial_words(&error)),
            format!("start {} again: its socket file is gone, or nobody listens at it", node.name),
        )),
        Ok(Err(_)) => Err(stuck(node, "its socket takes no connection")),
        Err(error) => Err(Sick::of(&error, || "try again".into())),
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
    match TcpStream::connect_timeout(&at, REACH) {
        Ok(_) => Ok((at, format!("{at} takes connections"))),
        Err(error) => Err(Sick::new(
            format!("{at}: {error}"),
            "let this device reach that address: a firewall, or --listen of the node, stands between",
        )),
    }
}

fn tls(home: &Home, at: SocketAddr) -> Found<()> {
    let dialled = Tls::open(home).and_then(|tls| {
        runtime(async { tokio::time::timeout(REACH, dial(&Address::Tcp(at), Some(&tls))).await })
    });
    match dialled {
        Ok(Ok(Ok(_))) => Ok(((), "both sides hold this home's key".to_owned())),
        Ok(Ok(Err(error))) => Err(Sick::new(
            format!("{at}: {}", dial_words(&error)),
            "the node was started with another key: start it again",
        )),
        Ok(Err(_)) => Err(Sick::new(
            format!("{at} takes connections and says nothing"),
            "its process is stopped, or has too much to do: `kill -CONT` it, or start it again",
        )),
        Err(error) => Err(Sick::of(&error, || "mend the layers above".into())),
    }
}

/// Whether it accepts a node of this home; what may be called there, then.
fn accept(patient: &Patient, home: &Home, node: &NodeInfo) -> Found<Found<()>> {
    match runtime(meet(patient, home, node)).and_then(|met| met) {
        Ok(Met::Granted(calls)) => {
            let rights = match calls {
                None => Ok(((), "everything may be called there".to_owned())),
                Some(calls) if calls.is_empty() => Err(Sick::new(
                    "nothing may be called there",
                    format!("start {} with an --allow-call that names what may be", node.name),
                )),
                Some(calls) => Ok(((), format!("what may be called there: {}", calls.join(", ")))),
            };
            Ok((rights, "it accepts a node of this home".to_owned()))
        }
        Ok(Met::Asks) => Ok((
            Ok(((), "unknown until its person has answered".to_owned())),
            "it asks its person (--accept ask), who was there to be asked".to_owned(),
        )),
        Err(error) => Err(match error.code() {
            Code::ConnectionDenied => Sick::new(
                error.message().to_owned(),
                format!("start {} with an --accept that lets your node in (all, or its name)", node.name),
            ),
            Code::NodeDown | Code::Overloaded | Code::Timeout => stuck(node, error.message()),
            _ => Sick::of(&error, || format!("start {} again", node.name)),
        }),
    }
}

enum Met {
    Granted(Option<Vec<String>>),
    Asks,
}

async fn meet(patient: &Patient, home: &Home, node: &NodeInfo) -> Result<Met> {
    let engine = (patient.engine)(home)?;
    let config = Config { accept: Accept::None, ..Config::new(home.clone(), engine) };
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
                return Ok(Met::Granted(grant.calls));
            }
            Ok(event) = events.recv() => {
                if event == (Event::Waiting { name: name.clone() }) {
                    return Ok(Met::Asks);
                }
            }
        }
    }
}

fn runtime<T>(work: impl Future<Output = T>) -> Result<T> {
    Ok(workers()?.block_on(work))
}
