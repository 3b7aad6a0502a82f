//! Checks the layers between this device and others: which devices are up, and the way to one node of another device.
//!
//! In: a home whose gpmd answers, the name of a node with its device. Out: findings. A device that is off is not a fault of this
//! one, unless the node that a person asked about is there. Must not know: how devices find each other.

use std::net::SocketAddr;

use super::daemon::{look, reachable};
use super::home::Disk;
use super::{Findings, Found, Problem, Setup, peer};
use gvm_host::gpmd::control::Control;
use gvm_host::gpmd::network::{DeviceStatus, NetworkStatus};
use gvm_host::gpmd::route::Route;
use gvm_host::net::Address;
use gvm_host::text::near;
use gvm_host::{Home, NodeInfo, NodeName};

/// The layers of the devices.
pub const LAYERS: &[&str] = &["devices"];

/// The layers of a node of another device, in their order.
pub const FAR: &[&str] = &["device", "name", "port", "accept", "rights"];

/// Checks whether this device is in its network, and says which devices are up.
pub fn devices(setup: &Setup, home: &Home) -> Found<NetworkStatus> {
    let asked = Control::connect(home).and_then(|control| control.devices());
    let status = asked.map_err(|error| Problem::of(&error, || format!("{} devices", setup.commands.gpmd)))?;
    if status.removed {
        return Err(Problem::new(
            "this device was removed from its network: the others refuse it",
            format!(
                "{gpmd} leave; then let another device invite this one: gpmd invite",
                gpmd = setup.commands.gpmd
            ),
        ));
    }
    let others: Vec<&DeviceStatus> = status.devices.iter().filter(|device| !device.own).collect();
    let message = match others.as_slice() {
        [] => "this device is alone in its network".to_owned(),
        others => others.iter().map(|device| about(device)).collect::<Vec<_>>().join("; "),
    };
    Ok((status, message))
}

fn about(device: &DeviceStatus) -> String {
    match (device.up, &device.problem) {
        (true, _) => format!("{} is up", device.name),
        (false, Some(problem)) => format!("{} is down ({problem})", device.name),
        (false, None) => format!("{} is down", device.name),
    }
}

/// Checks the layers of a node of another device; leaves out those that need a failed one. `able` is whether a test node can
/// start.
pub fn examine(
    findings: &mut Findings,
    setup: &Setup,
    disk: &Disk,
    status: &NetworkStatus,
    name: &NodeName,
    able: bool,
) {
    if findings.note("device", device(setup, status, name)).is_none() {
        return;
    }
    let Some(node) = findings.note("name", known(&disk.home, name)) else { return };
    if findings.note("port", port(&node)).is_none() || !able {
        return;
    }
    if let Some(rights) = findings.note("accept", peer::accept(setup, &disk.home, &node)) {
        findings.note("rights", rights);
    }
}

fn device(setup: &Setup, status: &NetworkStatus, name: &NodeName) -> Found<()> {
    let wanted = name.device().unwrap_or_default();
    let Some(device) = status.devices.iter().find(|device| device.name.as_str() == wanted) else {
        let names = status.devices.iter().map(|device| device.name.as_str());
        let near = near::suggestion(wanted, names);
        return Err(Problem::new(
            format!("no device of the network is named {wanted}{near}"),
            format!("{} devices lists the devices", setup.commands.gpmd),
        ));
    };
    if device.up {
        let at = device.address.as_deref().unwrap_or("an unknown address");
        return Ok(((), format!("{wanted} is up at {at}")));
    }
    let tried = match device.addresses.as_slice() {
        [] => "no address of it is known".to_owned(),
        addresses => format!("its addresses are {}", addresses.join(", ")),
    };
    let why = device.problem.as_deref().unwrap_or("it has not answered yet");
    Err(Problem::new(
        format!("{wanted} is not connected: {why}; {tried}"),
        format!(
            "start gpmd on {wanted}; check that both devices are in the same network, and that a firewall lets the port of its \
             gpmd pass"
        ),
    ))
}

fn known(home: &Home, name: &NodeName) -> Found<NodeInfo> {
    let looked = look(home, &Route::nodes(home));
    let (_, nodes) = looked.map_err(|error| Problem::of(&error, || "fix the layers above".into()))?;
    if let Some(node) = nodes.iter().find(|node| node.name == *name) {
        return Ok((node.clone(), format!("{name} is running, id {}", node.id)));
    }
    let near = near::suggestion(name.as_str(), nodes.iter().map(|node| node.name.as_str()));
    Err(Problem::new(
        format!("no running node is called {name}{near}"),
        format!("start it on that device: gvm --name {}", name.bare()),
    ))
}

fn port(node: &NodeInfo) -> Found<()> {
    let ports = node.addresses.iter().filter_map(|address| match address.parse() {
        Ok(Address::Node { gpmd, .. }) => Some(gpmd),
        _ => None,
    });
    let ports: Vec<SocketAddr> = ports.collect();
    let mut problem = Problem::new("its device tells no address", "check `--listen` of gpmd on that device");
    for at in ports {
        match reachable(at, "let this device connect to that address") {
            Ok(()) => return Ok(((), format!("{at}, the port of its gpmd, accepts connections"))),
            Err(found) => problem = found,
        }
    }
    Err(problem)
}
