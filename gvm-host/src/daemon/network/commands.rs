//! The answers to commands about the network: invitations, devices, joining, leaving.
//!
//! In: requests of commands on this device. Out: changes of the network, and what is known about it. Must not know: the command
//! line, how answers cross.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::invitations::Invitation;
use super::links::{self, Other};
use super::{join, listening, membership, presence};
use crate::base::device::DeviceId;
use crate::base::error::{Code, Error, Result};
use crate::base::id::Name;
use crate::base::inert;
use crate::base::node::Secret;
use crate::daemon::server::{State, now_ms};
use crate::trust::greeting::nonce;
use crate::trust::invitation::{ADDRESSES, Line};
use crate::trust::relay::Relay;
use crate::trust::roster::{Device, Role};
use crate::wire;
use crate::wire::schema::gpmd_capnp::{control, device_status, invitation, network_status, other_control};
use crate::wire::transport::Place;

pub use super::join::Joined;

/// The longest time for which an invitation can be open.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Creates an invitation. This device listens for others when this returns.
///
/// # Errors
/// `NOT_PERMITTED` for a guest; `BAD_ARGUMENTS` for a name that is taken or a time that is too long; `LIMIT_EXCEEDED`,
/// `PORT_IN_USE`, `STORAGE_FULL`, `INTERNAL`.
pub async fn invite(
    state: &Rc<State>,
    expires: Duration,
    role: Role,
    name: Option<Name>,
) -> Result<(Line, Invitation)> {
    let network = &state.network;
    if !network.is_member() {
        let sentence = match network.was_removed() {
            true => "this device was removed from its network",
            false => "a guest of the network cannot invite devices",
        };
        return Err(Error::new(Code::NotPermitted, sentence)
            .with_help("run `gpmd leave` to begin a network of your own"));
    }
    if expires.is_zero() || expires > LONGEST {
        return Err(Error::new(Code::BadArguments, "an invitation can be open for at most 7 days"));
    }
    if let Some(name) = &name
        && network.devices.now().all().any(|device| device.name == *name)
    {
        let sentence = format!("a device of the network has the name `{name}`");
        return Err(Error::new(Code::BadArguments, sentence).with_help("choose another name with `--name`"));
    }
    let until = SystemTime::now() + expires;
    let expires_s = until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let expires_ms = now_ms().saturating_add(i64::try_from(expires.as_millis()).unwrap_or(i64::MAX));
    let inviter = network.key().public();
    let random = nonce()?;
    let secret = Secret::read(&random[..16]).ok_or_else(|| Error::internal("a secret has 16 bytes"))?;
    let line = Line { inviter, secret, expires: expires_s, addresses: Vec::new(), relay: None };
    let invitation = Invitation::new(line.id(), line.proof_key(), role, name, expires_ms);
    network.invitations.borrow_mut().add(invitation.clone(), now_ms())?;
    let opened = async {
        join::store_invitations(state).await?;
        network.settle_invitations();
        listening::settle(state).await
    };
    if let Err(error) = opened.await {
        let _ = network.invitations.borrow_mut().revoke(&invitation.id.to_string(), now_ms());
        network.invited.notify_one();
        return Err(error);
    }
    network.invited.notify_one();
    let addresses = network.addresses().into_iter().take(ADDRESSES).collect();
    let relay = network.tunnels().and_then(|tunnels| tunnels.told());
    Ok((Line { addresses, relay, ..line }, invitation))
}

/// Returns the open invitations.
pub fn invitations(state: &State) -> Vec<Invitation> {
    state.network.invitations.borrow().open(now_ms()).cloned().collect()
}

/// Writes an invitation.
pub fn write_invitation(from: &Invitation, mut to: invitation::Builder<'_>) {
    to.set_id(from.id.to_string());
    to.set_guest(from.role == Role::Guest);
    if let Some(name) = &from.name {
        to.set_name(name.as_str());
    }
    to.set_expires(from.expires_ms);
}

/// Revokes an open invitation. Returns its id.
///
/// # Errors
/// `INVITATION_INVALID`, `STORAGE_FULL`, `INTERNAL`.
pub async fn revoke(state: &Rc<State>, begin: &str) -> Result<String> {
    let id = state.network.invitations.borrow_mut().revoke(begin, now_ms())?;
    join::store_invitations(state).await?;
    state.network.settle_invitations();
    state.network.invited.notify_one();
    listening::settle(state).await?;
    Ok(id.to_string())
}

/// Joins the network of the device that made the line.
///
/// # Errors
/// Those of [`join::join`].
pub async fn join(state: &Rc<State>, line: &str) -> Result<Joined> {
    join::join(state, &line.parse()?).await
}

/// Removes another device from the network. Returns its name.
///
/// # Errors
/// `DEVICE_NOT_FOUND`; `BAD_ARGUMENTS` for this device itself; `NOT_PERMITTED`, `STORAGE_FULL`, `INTERNAL`.
pub async fn remove(state: &Rc<State>, device: &str) -> Result<Name> {
    let found = named(state, device)?;
    if found.key == state.network.key().public() {
        return Err(Error::new(Code::BadArguments, "this device cannot remove itself")
            .with_help("run `gpmd leave` to leave the network"));
    }
    membership::remove(state, found.key).await?;
    Ok(found.name)
}

/// Leaves the network. Returns the names of the devices that were told.
///
/// # Errors
/// Those of [`membership::leave`].
pub async fn leave(state: &Rc<State>) -> Result<Vec<Name>> {
    membership::leave(state).await
}

/// Returns the device with this name, or with an id that begins like this.
///
/// # Errors
/// `DEVICE_NOT_FOUND`, with similar names.
fn named(state: &State, wanted: &str) -> Result<Device> {
    let known = state.network.devices.now();
    if let Some(device) = known.all().find(|device| device.name.as_str() == wanted) {
        return Ok(device.clone());
    }
    let bare = |text: &str| text.replace('-', "").to_ascii_lowercase();
    let begin = bare(wanted);
    let mut fits = known.all().filter(|device| bare(&device.key.id().to_string()).starts_with(&begin));
    match (fits.next(), fits.next()) {
        // Shorter beginnings are likely to be names.
        (Some(device), None) if begin.len() >= 8 => Ok(device.clone()),
        _ => Err(presence::unknown_device(wanted, known.all().map(|device| &device.name))),
    }
}

/// Returns the commands of another device.
///
/// # Errors
/// `DEVICE_NOT_FOUND`; `DEVICE_DOWN` if it is not connected; `NOT_PERMITTED` unless both devices are members.
pub async fn on(state: &Rc<State>, device: &str) -> Result<control::Client> {
    let found = named(state, device)?;
    let other = state.network.other(&found.key.id());
    let other = other.ok_or_else(|| {
        Error::new(Code::BadArguments, format!("`{}` is this device", found.name))
            .with_help("leave `--on` out")
    })?;
    let _in_use = other.begin_use();
    let link = links::need(state, &other).await.map_err(|_| down(&found.name, &other))?;
    let gone = |error| wire::error::from_capnp(error, found.name.as_str(), Code::DeviceDown);
    let answer = link.device.control_request().send().promise.await.map_err(gone)?;
    match answer.get().map_err(gone)?.which().map_err(|error| gone(error.into()))? {
        other_control::Control(control) => control.map_err(gone),
        other_control::Error(error) => Err(wire::error::read(error.map_err(gone)?)),
    }
}

fn down(name: &Name, other: &Other) -> Error {
    let why = other.problem.borrow().as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    Error::new(Code::DeviceDown, format!("the device `{name}` is not connected{why}"))
        .with_help("`gpmd devices` shows its state")
}

/// Writes the devices of the network.
pub fn write_network(state: &State, mut to: network_status::Builder<'_>) {
    let network = &state.network;
    to.set_network(&network.roster.borrow().founder().id().0.0);
    to.set_removed(network.was_removed());
    let known = network.devices.now();
    let mut devices: Vec<Device> = known.all().cloned().collect();
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    let mut list = to.init_devices(devices.len() as u32);
    for (place, device) in devices.iter().enumerate() {
        let mut to = list.reborrow().get(place as u32);
        write_device(state, device, to.reborrow());
        let by = devices.iter().find(|known| known.key == device.by);
        to.set_admitted_by(by.map_or_else(|| device.by.id().to_string(), |by| by.name.to_string()));
    }
}

fn write_device(state: &State, device: &Device, mut to: device_status::Builder<'_>) {
    let network = &state.network;
    let id: DeviceId = device.key.id();
    to.set_name(device.name.as_str());
    to.set_id(&id.0.0);
    to.set_guest(device.role == Role::Guest);
    to.set_admitted(device.at_ms);
    let Some(other) = network.other(&id) else {
        to.set_own(true);
        to.set_up(true);
        to.set_since(state.record.since_ms);
        to.set_version(env!("CARGO_PKG_VERSION"));
        to.set_nodes(state.registry.borrow().discover().len() as u32);
        to.set_modules(state.store.index().modules.len() as u32);
        if let Some(tunnels) = network.tunnels() {
            to.set_relay(tunnels.relay().map(Relay::place).unwrap_or_default());
            if !tunnels.is_online() {
                let why = tunnels.problem().unwrap_or_else(|| "it does not answer".into());
                to.set_problem(format!("the relay cannot be used: {}", inert::line(&why)));
            }
        }
        let mut list = to.init_addresses(network.addresses().len() as u32);
        for (place, at) in network.addresses().iter().enumerate() {
            list.set(place as u32, format!("tcp:{at}"));
        }
        return;
    };
    to.set_since(other.since_ms.get());
    match other.link() {
        Some(link) => {
            to.set_up(true);
            let path = network.tunnels().and_then(|tunnels| tunnels.path(&device.key));
            if let Some(path) = &path {
                to.set_tunnel(&path.at);
            }
            match (link.at, path) {
                (Place::Port(at), _) => {
                    to.set_address(format!("tcp:{at}"));
                    to.set_transport("tcp");
                }
                (Place::Tunnel, Some(path)) => {
                    to.set_transport(if path.is_relayed { "relayed" } else { "iroh" });
                    to.set_address(path.at);
                }
                (Place::Tunnel, None) => to.set_transport("iroh"),
            }
            let micros = link.round_trip.get().map_or(0, |trip| trip.as_micros());
            to.set_round_trip(u64::try_from(micros).unwrap_or(u64::MAX));
            to.set_nodes(link.told.nodes().len() as u32);
            to.set_modules(other.index().modules.len() as u32);
            to.set_version(&link.version);
        }
        None if other.is_up() => {
            to.set_up(true);
            if let Some(said) = other.said.borrow().as_ref() {
                to.set_nodes(said.count);
                to.set_version(&said.version);
            }
            to.set_modules(other.index().modules.len() as u32);
        }
        None => {
            if let Some(problem) = other.problem.borrow().as_ref() {
                to.set_problem(problem);
            }
        }
    }
    if let Some(relay) = network.known.borrow().relay(&id) {
        to.set_relay(relay.place());
    }
    let reach = network.reach(&other);
    let mut list = to.init_addresses(reach.len() as u32);
    for (place, at) in reach.iter().enumerate() {
        list.set(place as u32, format!("tcp:{at}"));
    }
}
