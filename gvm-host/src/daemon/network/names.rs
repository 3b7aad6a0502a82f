//! Answers about the nodes of the network: this device's and those of the others that are connected.
//!
//! In: the registry, what other devices told. Out: nodes with their full names and addresses, in the form that crosses. Must
//! not know: what a name means (`presence`), who asks.

use std::cell::Ref;
use std::rc::Rc;

use super::links::{Link, Other};
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

/// The most nodes in one answer: it is one message.
const MOST_LISTED: usize = 20_000;

/// A device that is connected, with the name by which others call it.
struct Up {
    name: Name,
    other: Rc<Other>,
    link: Rc<Link>,
}

/// Returns the devices that are connected, sorted by name.
fn up(state: &State, known: &Known) -> Vec<Up> {
    let others = state.network.others().into_iter();
    let mut up: Vec<Up> = others
        .filter_map(|other| {
            let name = known.get(&other.id)?.name.clone();
            let link = other.link()?;
            Some(Up { name, other, link })
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
    ways: Vec<Address>,
}

impl Far {
    /// Writes the node. It is reached through its gpmd.
    fn write(&self, mut to: node_info::Builder<'_>) {
        let addresses: Vec<String> = self.ways.iter().map(Address::to_string).collect();
        hello::write_far(&self.name, self.node.life, &self.device, &addresses, to.reborrow());
        to.set_since(self.node.since_ms);
    }
}

/// Answers with every node of the network: this device's first, then those of the others, each sorted by name.
pub fn discover(state: &State, mut to: registry::discover_results::Builder<'_>) {
    let known = state.network.devices().now();
    let registry = state.registry.borrow();
    let own = registry.discover();
    let mut far: Vec<Far> = Vec::new();
    for up in up(state, &known) {
        let ways = |node: &Present| state.network.ways(&up.other, Some(node.life));
        far.extend(up.link.told.nodes().iter().map(|(name, node)| Far {
            name: NodeName::on(name, &up.name),
            node: node.clone(),
            device: up.other.id,
            ways: ways(node),
        }));
    }
    far.truncate(MOST_LISTED.saturating_sub(own.len()));
    far.sort_by(|a, b| a.name.cmp(&b.name));
    let mut list = to.reborrow().init_nodes((own.len() + far.len()) as u32);
    let mut places = 0..list.len();
    for (node, place) in own.zip(&mut places) {
        hello::write_node(node, list.reborrow().get(place));
    }
    for (node, place) in far.iter().zip(places) {
        node.write(list.reborrow().get(place));
    }
}

/// Answers with the node that a name means.
pub fn look_up(state: &State, wanted: &str, to: looked_up::Builder<'_>) {
    match found(state, wanted) {
        Ok(Found::Own(node)) => hello::write_node(&node, to.init_node()),
        Ok(Found::Far(far)) => far.write(to.init_node()),
        Err(refused) => error::write(&refused, to.init_error()),
    }
}

enum Found {
    Own(NodeInfo),
    Far(Far),
}

fn found(state: &State, wanted: &str) -> Result<Found> {
    let known = state.network.devices().now();
    let others = up(state, &known);
    let tables: Vec<Ref<'_, Nodes>> = others.iter().map(|up| up.link.told.nodes()).collect();
    let is_up = |name: &Name| others.iter().any(|up| up.name == *name);
    let down = known.all().filter(|device| Some(device.key) != known.own() && !is_up(&device.name));
    let connected = others.iter().zip(&tables);
    let connected = connected.map(|(up, nodes)| Named { device: &up.name, nodes: Some(nodes) });
    let named: Vec<Named<'_>> =
        connected.chain(down.map(|device| Named { device: &device.name, nodes: None })).collect();
    let registry = state.registry.borrow();
    let is_own = |name: &Name| registry.named(name).is_some();
    let all_own = registry.entries().map(|(name, _, _)| name);
    let gone = || Error::new(Code::NodeNotFound, format!("no running node is named `{wanted}`"));
    match presence::look_up(wanted, known.own_name(), is_own, all_own, &named)? {
        Meaning::Own(name) => registry.named(&name).cloned().map(Found::Own).ok_or_else(gone),
        Meaning::Other(place, name) => {
            let (up, nodes) = others.get(place).zip(tables.get(place)).ok_or_else(gone)?;
            let node = nodes.get(&name).ok_or_else(gone)?;
            Ok(Found::Far(Far {
                name: NodeName::on(&name, &up.name),
                node: node.clone(),
                device: up.other.id,
                ways: state.network.ways(&up.other, Some(node.life)),
            }))
        }
    }
}
