//! The commands about the network of devices, for the client of commands.
//!
//! In: the requests of a person: invite, join, list, remove, leave, and commands for another device. Out: gpmd's answers.
//! Must not know: command-line arguments, terminals, how devices prove who they are.
//!
//! Every function blocks, as those of [`Control`].

use std::time::Duration;

use super::bytes;
use super::control::{Control, answered, failed};
use crate::base::device::DeviceId;
use crate::base::error::{Code, Error, Result};
use crate::base::id::{Hash, Name};
use crate::base::inert;
use crate::base::limits;
use crate::modules::index::Index;
use crate::trust::roster::Role;
use crate::wire;
use crate::wire::schema::gpmd_capnp::{
    device_status, done, invitation, invited, joined, left, network_status, other_control,
};

/// How long gpmd may take for a request that changes the network: it writes to its disk, and tells devices.
const CHANGE: Duration = Duration::from_secs(30);

/// How long joining may take: the other device is searched for, and both write to their disks.
const JOIN: Duration = Duration::from_secs(60);

/// The largest index that is read, in bytes.
const MOST_INDEX: u64 = 64 << 20;

/// An invitation that is open.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Invitation {
    pub id: String,
    pub role: Role,
    /// The name of the device that will join; `None` if it chooses its own.
    pub name: Option<Name>,
    /// In milliseconds since 1970.
    #[serde(rename = "expires")]
    pub expires_ms: i64,
}

/// An invitation that was just made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Invited {
    /// What the other device needs, and nobody else should see.
    pub line: String,
    #[serde(flatten)]
    pub invitation: Invitation,
    /// Where other devices reach this one, in words: `port 5989 (all interfaces)`.
    pub listens: String,
}

/// What a device knows after it has joined a network.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Joined {
    pub inviter: Name,
    /// The name of this device in the network.
    pub name: Name,
    /// The number of devices in the network.
    pub devices: u32,
}

/// The devices of the network, as this device knows them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct NetworkStatus {
    /// The id of the device that founded the network.
    pub network: DeviceId,
    /// Whether this device was removed from the network.
    pub removed: bool,
    /// Sorted by name.
    pub devices: Vec<DeviceStatus>,
}

/// A device of the network.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DeviceStatus {
    pub name: Name,
    pub id: DeviceId,
    /// Whether it is this device.
    pub own: bool,
    pub role: Role,
    /// Whether it is connected.
    pub up: bool,
    /// When it came up or went down, in milliseconds since 1970.
    #[serde(rename = "since")]
    pub since_ms: i64,
    /// The address in use: `tcp:HOST:PORT`, `udp:HOST:PORT`, or the URL of the relay.
    pub address: Option<String>,
    /// `tcp`, `iroh`, or `relayed` if a relay passes the packets on.
    pub transport: Option<String>,
    /// In microseconds.
    #[serde(rename = "round_trip_us")]
    pub round_trip: Option<u64>,
    /// The number of its nodes that this device may see.
    pub nodes: u32,
    /// The number of its modules, counted by name.
    pub modules: u32,
    /// Of its gpmd.
    pub version: Option<String>,
    /// Where it can be dialled, best first.
    pub addresses: Vec<String>,
    /// Where packets in tunnels to it go: `udp:HOST:PORT`, or the URL of a relay.
    pub tunnel: Option<String>,
    /// Where it is met if it cannot be dialled.
    pub relay: Option<String>,
    /// Why it cannot be reached; for this device, why its relay cannot be used.
    pub problem: Option<String>,
    /// The name of the device that admitted it, or its id if it is no longer in the network.
    pub admitted_by: String,
    /// In milliseconds since 1970.
    #[serde(rename = "admitted")]
    pub admitted_ms: i64,
}

impl Control {
    /// Creates an invitation, good for one device.
    ///
    /// # Errors
    /// `NOT_PERMITTED` for a guest; `BAD_ARGUMENTS`, `LIMIT_EXCEEDED`, `PORT_IN_USE`, `STORAGE_FULL`, `GPMD_NOT_RUNNING`.
    pub fn invite(&self, expires: Duration, role: Role, name: Option<&Name>) -> Result<Invited> {
        let mut request = self.control.invite_request();
        let mut params = request.get();
        params.set_expires(u64::try_from(expires.as_millis()).unwrap_or(u64::MAX));
        params.set_guest(role == Role::Guest);
        if let Some(name) = name {
            params.set_name(name.as_str());
        }
        let answer = self.runtime.block_on(answered(CHANGE, request.send().promise))?;
        match answer.get().map_err(failed)?.which().map_err(|error| failed(error.into()))? {
            invited::Ok(ok) => Ok(Invited {
                line: text(ok.get_line())?,
                invitation: read_invitation(ok.get_invitation().map_err(failed)?)?,
                listens: text(ok.get_listens())?,
            }),
            invited::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
        }
    }

    /// Returns the open invitations.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING`, `OVERLOADED`.
    pub fn invitations(&self) -> Result<Vec<Invitation>> {
        let request = self.control.invitations_request();
        let answer = self.runtime.block_on(answered(CHANGE, request.send().promise))?;
        let list = answer.get().and_then(|answer| answer.get_invitations()).map_err(failed)?;
        list.iter().map(read_invitation).collect()
    }

    /// Revokes the open invitation whose id begins like this. Returns its id.
    ///
    /// # Errors
    /// `INVITATION_INVALID`, `STORAGE_FULL`, `GPMD_NOT_RUNNING`.
    pub fn revoke(&self, begin: &str) -> Result<String> {
        let mut request = self.control.revoke_request();
        request.get().set_invitation(begin);
        let answer = self.runtime.block_on(answered(CHANGE, request.send().promise))?;
        read_done(answer.get().map_err(failed)?)
    }

    /// Joins the network of the device that made this line.
    ///
    /// # Errors
    /// `INVITATION_INVALID`, `NETWORK_JOINED`, `DEVICE_DOWN` if the inviting device cannot be reached, `AUTH_FAILED`,
    /// `STORAGE_FULL`, `GPMD_NOT_RUNNING`.
    pub fn join(&self, line: &str) -> Result<Joined> {
        let mut request = self.control.join_request();
        request.get().set_line(line);
        let answer = self.runtime.block_on(answered(JOIN, request.send().promise))?;
        match answer.get().map_err(failed)?.which().map_err(|error| failed(error.into()))? {
            joined::Ok(ok) => Ok(Joined {
                inviter: name(ok.get_inviter())?,
                name: name(ok.get_name())?,
                devices: ok.get_devices(),
            }),
            joined::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
        }
    }

    /// Returns the devices of the network.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING`, `OVERLOADED`.
    pub fn devices(&self) -> Result<NetworkStatus> {
        let request = self.control.devices_request();
        let answer = self.runtime.block_on(answered(CHANGE, request.send().promise))?;
        read_network(answer.get().and_then(|answer| answer.get_network()).map_err(failed)?)
    }

    /// Removes another device from the network, by its name or its id. Returns its name.
    ///
    /// # Errors
    /// `DEVICE_NOT_FOUND`, `BAD_ARGUMENTS` for this device, `NOT_PERMITTED` for a guest, `STORAGE_FULL`,
    /// `GPMD_NOT_RUNNING`.
    pub fn remove_device(&self, device: &str) -> Result<String> {
        let mut request = self.control.remove_device_request();
        request.get().set_device(device);
        let answer = self.runtime.block_on(answered(CHANGE, request.send().promise))?;
        read_done(answer.get().map_err(failed)?)
    }

    /// Leaves the network. Returns the names of the devices that were told.
    ///
    /// # Errors
    /// `BAD_ARGUMENTS` if this device is alone in its network; `STORAGE_FULL`, `GPMD_NOT_RUNNING`.
    pub fn leave(&self) -> Result<Vec<String>> {
        let request = self.control.leave_request();
        let answer = self.runtime.block_on(answered(CHANGE, request.send().promise))?;
        match answer.get().map_err(failed)?.which().map_err(|error| failed(error.into()))? {
            left::Told(told) => told.map_err(failed)?.iter().map(text).collect(),
            left::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
        }
    }

    /// Returns the same client for another device of the network: status, modules and stopping.
    ///
    /// # Errors
    /// `DEVICE_NOT_FOUND`, `DEVICE_DOWN`, `NOT_PERMITTED` unless both devices are members.
    pub fn on(mut self, device: &str) -> Result<Control> {
        let mut request = self.control.on_request();
        request.get().set_device(device);
        let answer = self.runtime.block_on(answered(CHANGE, request.send().promise))?;
        match answer.get().map_err(failed)?.which().map_err(|error| failed(error.into()))? {
            other_control::Control(control) => self.control = control.map_err(failed)?,
            other_control::Error(error) => return Err(wire::error::read(error.map_err(failed)?)),
        }
        self.is_own = false;
        Ok(self)
    }

    /// Returns the index of the modules of the device that answers.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING`, `OVERLOADED`.
    pub fn index(&self) -> Result<Index> {
        let request = self.control.index_request();
        let bytes = self.runtime.block_on(async {
            let answer = answered(CHANGE, request.send().promise).await?;
            let found = answer.get().map_err(failed)?;
            bytes::read(found, MOST_INDEX, "gpmd", Code::GpmdNotRunning).await
        })?;
        Index::from_json(&String::from_utf8_lossy(&bytes))
    }

    /// Returns the bytes of a module of the device that answers.
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND`; `MODULE_CORRUPT` if the bytes have another hash; `GPMD_NOT_RUNNING`, `OVERLOADED`.
    pub fn module(&self, hash: Hash) -> Result<Vec<u8>> {
        let mut request = self.control.module_request();
        request.get().set_sha256(&hash.0);
        let bytes = self.runtime.block_on(async {
            let answer = answered(CHANGE, request.send().promise).await?;
            let found = answer.get().map_err(failed)?;
            bytes::read(found, limits::MODULE_BYTES, "gpmd", Code::GpmdNotRunning).await
        })?;
        match Hash::of(&bytes) == hash {
            true => Ok(bytes),
            false => Err(Error::new(Code::ModuleCorrupt, "the module has changed since it was uploaded")
                .with_help("upload the module again")),
        }
    }
}

fn text(from: capnp::Result<capnp::text::Reader<'_>>) -> Result<String> {
    from.map(|text| inert::line(&String::from_utf8_lossy(text.as_bytes())).into_owned()).map_err(failed)
}

fn name(from: capnp::Result<capnp::text::Reader<'_>>) -> Result<Name> {
    text(from)?.parse()
}

fn id(from: capnp::Result<&[u8]>) -> Result<DeviceId> {
    let bytes = from.map_err(failed)?.try_into();
    bytes.map(|bytes| DeviceId(Hash(bytes))).map_err(|_| Error::internal("gpmd sent an id that is no id"))
}

fn read_done(from: done::Reader<'_>) -> Result<String> {
    match from.which().map_err(|error| failed(error.into()))? {
        done::Name(name) => text(name),
        done::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
    }
}

fn role(guest: bool) -> Role {
    if guest { Role::Guest } else { Role::Member }
}

fn read_invitation(from: invitation::Reader<'_>) -> Result<Invitation> {
    Ok(Invitation {
        id: text(from.get_id())?,
        role: role(from.get_guest()),
        name: if from.has_name() { Some(name(from.get_name())?) } else { None },
        expires_ms: from.get_expires(),
    })
}

fn read_network(from: network_status::Reader<'_>) -> Result<NetworkStatus> {
    let devices = from.get_devices().map_err(failed)?;
    Ok(NetworkStatus {
        network: id(from.get_network())?,
        removed: from.get_removed(),
        devices: devices.iter().map(read_device).collect::<Result<_>>()?,
    })
}

fn read_device(from: device_status::Reader<'_>) -> Result<DeviceStatus> {
    let optional = |has: bool, field: capnp::Result<capnp::text::Reader<'_>>| match has {
        true => text(field).map(Some),
        false => Ok(None),
    };
    Ok(DeviceStatus {
        name: name(from.get_name())?,
        id: id(from.get_id())?,
        own: from.get_own(),
        role: role(from.get_guest()),
        up: from.get_up(),
        since_ms: from.get_since(),
        address: optional(from.has_address(), from.get_address())?,
        transport: optional(from.has_transport(), from.get_transport())?,
        round_trip: Some(from.get_round_trip()).filter(|micros| *micros != 0),
        nodes: from.get_nodes(),
        modules: from.get_modules(),
        version: optional(from.has_version(), from.get_version())?,
        addresses: from.get_addresses().map_err(failed)?.iter().map(text).collect::<Result<_>>()?,
        tunnel: optional(from.has_tunnel(), from.get_tunnel())?,
        relay: optional(from.has_relay(), from.get_relay())?,
        problem: optional(from.has_problem(), from.get_problem())?,
        admitted_by: text(from.get_admitted_by())?,
        admitted_ms: from.get_admitted(),
    })
}
