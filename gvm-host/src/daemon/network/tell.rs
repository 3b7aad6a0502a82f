//! What this device tells another one: the roster, its nodes, its addresses, the revision of its index, and where third devices
//! are.
//!
//! In: the state of this device. Out: messages to one other device, whenever something has changed. Must not know: what the
//! other device tells.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::Network;
use super::device::encode_statements;
use super::links::{Link, Other, Reachable};
use super::presence::{self, Change, Nodes, Present};
use crate::base::error::{Code, Error, Result};
use crate::daemon::server::State;
use crate::trust::key::PublicKey;
use crate::trust::relay::Relay;
use crate::trust::roster::Statement;
use crate::wire;
use crate::wire::hello;
use crate::wire::schema::device_capnp::device;

/// How long to wait before something is told again that the other device refused.
const AGAIN: Duration = Duration::from_secs(1);

/// The most nodes in one message, some 200 bytes each.
const BATCH: usize = 5000;

/// The largest roster in one message, in bytes: below the limit of a message.
const MOST_ROSTER: usize = 6 << 20;

/// What the other device has been told.
#[derive(Default)]
struct Sent {
    roster: Option<(PublicKey, Vec<Statement>)>,
    about: Option<(Vec<SocketAddr>, Option<Relay>, u64)>,
    others: Vec<Reachable>,
    nodes: Option<Nodes>,
}

/// Tells another device everything, then what changes. Does not end.
pub async fn follow(state: &Rc<State>, other: &Other, link: &Link) {
    let mut news = state.network.news.subscribe();
    let mut sent = Sent::default();
    loop {
        news.borrow_and_update();
        if let Err(error) = tell(state, other, link, &mut sent).await {
            tracing::warn!(device = %other.id, %error, "a device does not take what it is told");
            sleep(AGAIN).await;
            continue;
        }
        if news.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn tell(state: &Rc<State>, other: &Other, link: &Link, sent: &mut Sent) -> Result<()> {
    let network = &state.network;
    let statements = network.statements();
    if sent.roster.as_ref() != Some(&statements) {
        send_roster(&link.device, &statements.1).await?;
        sent.roster = Some(statements);
    }
    let index = if network.are_members(&other.id) { state.store.index().revision } else { 0 };
    let relay = network.tunnels().and_then(|tunnels| tunnels.told());
    let about = (network.addresses(), relay, index);
    if sent.about.as_ref() != Some(&about) {
        send_about(&link.device, &about.0, about.1.as_ref(), index).await?;
        sent.about = Some(about);
    }
    let mut others = network.reachable();
    others.retain(|third| third.device != other.id);
    if sent.others != others {
        send_others(&link.device, &others).await?;
        sent.others = others;
    }
    let nodes = visible(state, other);
    let before = sent.nodes.take();
    let (all, change) = match &before {
        Some(before) => (false, presence::difference(before, &nodes)),
        None => (true, presence::difference(&Nodes::new(), &nodes)),
    };
    if all || change != Change::default() {
        send_nodes(&link.device, all, &change).await?;
    }
    sent.nodes = Some(nodes);
    Ok(())
}

/// Returns the nodes of this device that another one may see.
fn visible(state: &State, other: &Other) -> Nodes {
    let known = state.network.devices.now();
    let Some(device) = known.get(&other.id) else { return Nodes::new() };
    let is_guest = known.is_guest(&other.id);
    let registry = state.registry.borrow();
    let seen = registry
        .entries()
        .filter(|(_, _, accepts)| !is_guest || presence::is_seen_by_guest(accepts, &device.name));
    seen.map(|(name, node, _)| (name.clone(), Present { life: node.life(), since_ms: node.since_ms }))
        .collect()
}

/// Tells a device the roster.
///
/// # Errors
/// `LIMIT_EXCEEDED` if it is too large for a message; `DEVICE_DOWN`.
pub async fn roster(network: &Network, device: &device::Client) -> Result<()> {
    let (_, statements) = network.statements();
    send_roster(device, &statements).await
}

async fn send_roster(device: &device::Client, statements: &[Statement]) -> Result<()> {
    let encoded = encode_statements(statements)?;
    let size: usize = encoded.iter().map(Vec::len).sum();
    if size > MOST_ROSTER {
        let sentence = format!("the roster has {size} bytes; a message can have {MOST_ROSTER}");
        return Err(Error::new(Code::LimitExceeded, sentence));
    }
    let mut request = device.roster_request();
    let mut list = request.get().init_statements(encoded.len() as u32);
    for (place, statement) in encoded.iter().enumerate() {
        list.set(place as u32, statement);
    }
    request.send().promise.await.map(drop).map_err(failed)
}

async fn send_about(
    device: &device::Client,
    addresses: &[SocketAddr],
    relay: Option<&Relay>,
    index: u64,
) -> Result<()> {
    let mut request = device.about_request();
    request.get().set_index(index);
    let addresses = texts(addresses, relay);
    write_addresses(&addresses, request.get().init_addresses(addresses.len() as u32));
    request.send().promise.await.map(drop).map_err(failed)
}

async fn send_others(device: &device::Client, others: &[Reachable]) -> Result<()> {
    let mut request = device.others_request();
    let mut list = request.get().init_devices(others.len() as u32);
    for (place, third) in others.iter().enumerate() {
        let mut to = list.reborrow().get(place as u32);
        to.set_device(&third.device.0.0);
        let addresses = texts(&third.addresses, third.relay.as_ref());
        write_addresses(&addresses, to.init_addresses(addresses.len() as u32));
    }
    request.send().promise.await.map(drop).map_err(failed)
}

/// Returns addresses and a relay in the form that crosses.
fn texts(addresses: &[SocketAddr], relay: Option<&Relay>) -> Vec<String> {
    let relay = relay.map(|relay| format!("relay:{relay}"));
    addresses.iter().map(|at| format!("tcp:{at}")).chain(relay).collect()
}

fn write_addresses(addresses: &[String], mut to: capnp::text_list::Builder<'_>) {
    for (place, text) in addresses.iter().enumerate() {
        to.set(place as u32, text);
    }
}

async fn send_nodes(device: &device::Client, all: bool, change: &Change) -> Result<()> {
    let mut batches: Vec<&[_]> = change.here.chunks(BATCH).collect();
    if batches.is_empty() {
        batches.push(&[]);
    }
    for (place, batch) in batches.into_iter().enumerate() {
        let mut request = device.nodes_request();
        request.get().set_all(all && place == 0);
        let mut here = request.get().init_here(batch.len() as u32);
        for (index, (name, node)) in batch.iter().enumerate() {
            let mut to = here.reborrow().get(index as u32);
            hello::write_present(name, node.life, to.reborrow());
            to.set_since(node.since_ms);
        }
        if place == 0 {
            let mut gone = request.get().init_gone(change.gone.len() as u32);
            for (index, name) in change.gone.iter().enumerate() {
                gone.set(index as u32, name.as_str());
            }
        }
        request.send().promise.await.map_err(failed)?;
    }
    Ok(())
}

fn failed(error: capnp::Error) -> Error {
    wire::error::from_capnp(error, "the other device", Code::DeviceDown)
}
