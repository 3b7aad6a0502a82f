//! Answers about the nodes of the network: this device's and those of the others that are up. In a large network, a name that is
//! not known is asked for on the devices that may have it.
//!
//! In: the registry, what other devices told. Out: nodes with their full names and addresses, in the form that crosses. Must
//! not know: what a name means (`presence`), who asks.

use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use tokio::time::timeout;

use super::links::{self, Other};
use super::presence::{self, Meaning, Named, Nodes, Present};
use crate::base::device::{DeviceId, NodeName};
use crate::base::error::{Code, Error, Result};
use crate::base::id::Name;
use crate::base::node::NodeInfo;
use crate::daemon::server::State;
use crate::trust::devices::Known;
use crate::wire::schema::gpmd_capnp::{looked_up, registry};
use crate::wire::schema::hello_capnp::node_info;
use crate::wire::transport::Address;
use crate::wire::{error, hello};

/// The most nodes that are listed.
const MOST_LISTED: usize = 100_000;

/// The most bytes of nodes in one answer, far below the limit of a message.
const PAGE: usize = 2 << 20;

/// About how many bytes a node takes without its addresses, and each address without its text.
const NODE: usize = 256;
const PART: usize = 24;

/// What the address of a node has in addition to that of its gpmd: an id and an incarnation.
const OF_NODE: usize = 58;

/// How long a device may take to tell its nodes, and all devices that are asked for one name.
const TELLS: Duration = Duration::from_secs(3);
const TELL: Duration = Duration::from_secs(6);

/// The most devices that are asked for a name without a device, and those at once.
const MOST_ASKED: usize = 32;
const AT_ONCE: usize = 8;

/// A device that is up, with the name by which others call it.
struct Up {
    name: Name,
    other: Rc<Other>,
    nodes: Rc<Nodes>,
}

/// Returns the devices that are up, sorted by name.
fn up(state: &State, known: &Known) -> Vec<Up> {
    let others = state.network.others().into_iter();
    let mut up: Vec<Up> = others
        .filter_map(|other| {
            let name = known.get(&other.id)?.name.clone();
            let nodes = other.nodes()?;
            Some(Up { name, other, nodes })
        })
        .collect();
    up.sort_by(|a, b| a.name.cmp(&b.name));
    up
}

/// A node of another device, with all that its answer has.
struct Far {
    name: NodeName,
    node: Present,
    device: DeviceId,
    /// The ways to its gpmd.
    ways: Rc<[Address]>,
}

impl Far {
    /// Writes the node. It is reached through its gpmd.
    fn write(&self, mut to: node_info::Builder<'_>) {
        let life = self.node.life;
        let addresses = self.ways.iter().map(|gpmd| gpmd.clone().of_node(life).to_string());
        let addresses: Vec<String> = addresses.collect();
        hello::write_far(&self.name, life, &self.device, &addresses, to.reborrow());
        to.set_since(self.node.since_ms);
    }
}

/// Answers with the nodes of the network, as many as one message holds, from a place in their order: this device's first, then those
/// of the others, each sorted by name.
pub fn discover(state: &State, begin: u32, mut to: registry::discover_results::Builder<'_>) {
    let known = state.network.devices().now();
    let registry = state.registry.borrow();
    let own: Vec<&NodeInfo> = registry.discover().collect();
    let mut far: Vec<Far> = Vec::new();
    for up in up(state, &known) {
        let ways: Rc<[Address]> = state.network.ways(&up.other).into();
        far.extend(up.nodes.iter().map(|(name, node)| Far {
            name: NodeName::on(name, &up.name),
            node: node.clone(),
            device: up.other.id,
            ways: ways.clone(),
        }));
    }
    far.truncate(MOST_LISTED.saturating_sub(own.len()));
    far.sort_by(|a, b| a.name.cmp(&b.name));
    let all: Vec<Found<'_>> = own.into_iter().map(Found::Own).chain(far.iter().map(Found::Far)).collect();
    let begin = all.len().min(begin as usize);
    let mut room = PAGE;
    let page = all[begin..].iter().take_while(|node| {
        let is_first = room == PAGE;
        let size = node.size();
        room = room.saturating_sub(size);
        is_first || room > 0
    });
    let page: Vec<&Found<'_>> = page.collect();
    let end = begin + page.len();
    to.set_next(if end < all.len() { end as u32 } else { 0 });
    let mut list = to.init_nodes(page.len() as u32);
    for (place, node) in page.into_iter().enumerate() {
        match node {
            Found::Own(node) => hello::write_node(node, list.reborrow().get(place as u32)),
            Found::Far(far) => far.write(list.reborrow().get(place as u32)),
        }
    }
}

/// Answers with the node that a name means.
pub async fn look_up(state: &Rc<State>, wanted: &str, to: looked_up::Builder<'_>) {
    if state.network.is_large() {
        let _ = timeout(TELL, ask(state, wanted)).await;
    }
    match found(state, wanted) {
        Ok(Meant::Own(node)) => hello::write_node(&node, to.init_node()),
        Ok(Meant::Far(far)) => far.write(to.init_node()),
        Err(refused) => error::write(&refused, to.init_error()),
    }
}

/// Lets the devices tell their nodes that may have the node with this name, unless it is known.
async fn ask(state: &Rc<State>, wanted: &str) {
    let Ok(wanted) = wanted.parse::<NodeName>() else { return };
    let Ok(name) = wanted.bare().parse::<Name>() else { return };
    let known = state.network.devices().now();
    let has = |other: &Rc<Other>| other.nodes().is_some_and(|nodes| nodes.contains_key(&name));
    let mut others: Vec<Rc<Other>> = match wanted.device() {
        Some(device) => {
            let device = known.all().find(|known| known.name.as_str() == device);
            device.and_then(|device| state.network.other(&device.key.id())).into_iter().collect()
        }
        None if state.registry.borrow().named(&name).is_some() => return,
        None => {
            let up = state.network.others().into_iter().filter(|other| other.is_up());
            up.filter(|other| has(other) || other.said.borrow().as_ref().is_some_and(|said| said.has_more()))
                .collect()
        }
    };
    if others.iter().any(has) {
        return;
    }
    others.retain(|other| !state.network.is_direct(&other.id) && !other.has_told_nodes());
    others.truncate(MOST_ASKED);
    stream::iter(others).for_each_concurrent(AT_ONCE, |other| hear(state, other)).await;
}

/// Connects to a device, and waits until it has told its nodes.
async fn hear(state: &Rc<State>, other: Rc<Other>) {
    let _in_use = other.begin_use();
    match links::need(state, &other).await {
        Ok(_) => drop(other.until(TELLS, || other.has_told_nodes()).await),
        Err(error) => tracing::debug!(device = %other.id, %error, "cannot ask a device for its nodes"),
    }
}

/// A node in the list of all.
enum Found<'a> {
    Own(&'a NodeInfo),
    Far(&'a Far),
}

impl Found<'_> {
    /// Returns about how many bytes the node takes in a message.
    fn size(&self) -> usize {
        let texts: usize = match self {
            Found::Own(node) => node.addresses.iter().map(|address| address.len() + PART).sum(),
            Found::Far(far) => far.ways.iter().map(|gpmd| gpmd.to_string().len() + OF_NODE + PART).sum(),
        };
        NODE + texts
    }
}

/// The node that a name means.
enum Meant {
    Own(NodeInfo),
    Far(Far),
}

fn found(state: &State, wanted: &str) -> Result<Meant> {
    let known = state.network.devices().now();
    let others = up(state, &known);
    let is_up = |name: &Name| others.iter().any(|up| up.name == *name);
    let down = known.all().filter(|device| Some(device.key) != known.own() && !is_up(&device.name));
    let connected = others.iter().map(|up| Named { device: &up.name, nodes: Some(&*up.nodes) });
    let named: Vec<Named<'_>> =
        connected.chain(down.map(|device| Named { device: &device.name, nodes: None })).collect();
    let registry = state.registry.borrow();
    let is_own = |name: &Name| registry.named(name).is_some();
    let all_own = registry.entries().map(|(name, _, _)| name);
    let gone = || Error::new(Code::NodeNotFound, format!("no running node is named `{wanted}`"));
    match presence::look_up(wanted, known.own_name(), is_own, all_own, &named)? {
        Meaning::Own(name) => registry.named(&name).cloned().map(Meant::Own).ok_or_else(gone),
        Meaning::Other(place, name) => {
            let up = others.get(place).ok_or_else(gone)?;
            let node = up.nodes.get(&name).ok_or_else(gone)?;
            Ok(Meant::Far(Far {
                name: NodeName::on(&name, &up.name),
                node: node.clone(),
                device: up.other.id,
                ways: state.network.ways(&up.other).into(),
            }))
        }
    }
}
