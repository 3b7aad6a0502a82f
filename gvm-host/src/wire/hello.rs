//! The greeting that opens every connection, to and from the wire, and the checks on it.
//!
//! In: what a peer states about itself. Out: well-formed names, ids and addresses, or the coded error that
//! refuses the peer. Must not know: what is offered after the greeting.

use uuid::Uuid;

use super::error::SAME_RELEASE;
use super::schema::hello_capnp::{PROTOCOL, hello, node_info};
use super::transport::Address;
use crate::base::device::{DeviceId, MAX_NODE_NAME, NodeName};
use crate::base::error::{Code, Error, Result};
use crate::base::home::HomeId;
use crate::base::id::{Hash, Name};
use crate::base::inert;
use crate::base::node::{Applicant, Life, NodeInfo};

/// The longest program version accepted from a peer, in bytes.
const MAX_VERSION: usize = 64;

/// The longest address: `unix:` and the longest path.
const MAX_ADDRESS: usize = 5 + 4096;

/// The most addresses read for one node: a few kinds, on a few networks each.
const MAX_ADDRESSES: u32 = 16;

/// What one side states about itself and about the side that it expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub protocol: u16,
    /// The version of the program, for people.
    pub version: String,
    pub home: HomeId,
    /// The node that speaks; none for gpmd and its commands.
    pub node: Option<NodeInfo>,
    /// The node that should answer; none for gpmd.
    pub expected: Option<Life>,
}

impl Hello {
    /// Returns the greeting of a process of this home and this version.
    pub fn of(home: HomeId) -> Hello {
        Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            home,
            node: None,
            expected: None,
        }
    }

    /// Checks that the sender of this greeting fits a process of `home`. Both sides make this check.
    ///
    /// # Errors
    /// `VERSION_MISMATCH` if the protocols differ, `AUTH_FAILED` if the homes differ.
    pub fn admit(&self, home: HomeId) -> Result<()> {
        if self.protocol != PROTOCOL {
            return Err(Error::new(
                Code::VersionMismatch,
                format!(
                    "the other side (version {}) speaks protocol {}, this side (version {}) speaks {PROTOCOL}",
                    self.version,
                    self.protocol,
                    env!("CARGO_PKG_VERSION"),
                ),
            )
            .with_help(SAME_RELEASE));
        }
        if self.home != home {
            return Err(Error::new(
                Code::AuthFailed,
                "the other side uses another home, or `home.id` changed while one side was running",
            )
            .with_help("start both sides again with the same home (`--home`, `GHOST_HOME`)"));
        }
        Ok(())
    }

    /// Checks that this greeting is meant for this life of this node.
    ///
    /// # Errors
    /// `NODE_DOWN` if it expects another: the node that was looked up is no longer here.
    pub fn meant_for(&self, life: Life) -> Result<()> {
        match self.expected {
            Some(expected) if expected != life => {
                Err(Error::new(Code::NodeDown, "another node now uses the address that was dialled")
                    .with_help("connect again, so that the name is looked up again"))
            }
            _ => Ok(()),
        }
    }
}

/// Writes a greeting.
pub fn write(from: &Hello, mut to: hello::Builder<'_>) {
    to.set_protocol(from.protocol);
    to.set_version(&from.version);
    to.set_home(&from.home.0);
    if let Some(node) = &from.node {
        write_node(node, to.reborrow().init_node());
    }
    if let Some(life) = from.expected {
        write_life(life, to.init_expected());
    }
}

/// Reads a greeting.
///
/// # Errors
/// `VERSION_MISMATCH` if the protocols differ, whatever the rest contains; `AUTH_FAILED` if the greeting is
/// malformed.
pub fn read(from: hello::Reader<'_>) -> Result<Hello> {
    let protocol = from.get_protocol();
    if protocol != PROTOCOL {
        // Another protocol may use another layout, so nothing else is read.
        let home = HomeId([0; 16]);
        let other = Hello { protocol, version: "unknown".into(), home, node: None, expected: None };
        other.admit(home)?;
    }
    let home = HomeId(sixteen(from.get_home(), "home")?);
    Ok(Hello {
        protocol,
        version: text(from.get_version(), "version", MAX_VERSION)?,
        home,
        node: if from.has_node() { Some(read_node(from.get_node().map_err(unreadable)?)?) } else { None },
        expected: if from.has_expected() {
            Some(read_life(from.get_expected().map_err(unreadable)?)?)
        } else {
            None
        },
    })
}

/// Writes a node.
pub fn write_node(from: &NodeInfo, mut to: node_info::Builder<'_>) {
    to.set_name(from.name.as_str());
    if let Some(device) = &from.device {
        to.set_device(&device.0.0);
    }
    to.set_since(from.since_ms);
    write_addresses(&from.addresses, to.reborrow());
    write_life(from.life(), to);
}

/// Reads a node.
///
/// # Errors
/// `AUTH_FAILED` if its name, id or address is malformed.
pub fn read_node(from: node_info::Reader<'_>) -> Result<NodeInfo> {
    let name = text(from.get_name(), "name", MAX_NODE_NAME)?;
    let name = name.parse().map_err(|error: Error| malformed(error.message()))?;
    let device = match from.get_device().map_err(unreadable)? {
        [] => None,
        id => Some(DeviceId(Hash(
            id.try_into().map_err(|_| malformed("the id of its device is not 32 bytes"))?,
        ))),
    };
    let life = read_life(from)?;
    let addresses = read_addresses(from)?;
    Ok(NodeInfo {
        name,
        device,
        id: life.id,
        incarnation: life.incarnation,
        address: addresses.first().cloned().unwrap_or_default(),
        addresses,
        since_ms: from.get_since(),
    })
}

/// Writes a node of the sender's device, without its addresses.
pub fn write_present(name: &Name, life: Life, mut to: node_info::Builder<'_>) {
    to.set_name(name.as_str());
    write_life(life, to);
}

/// Reads a node of the sender's device.
///
/// # Errors
/// `AUTH_FAILED` if its name or id is malformed.
pub fn read_present(from: node_info::Reader<'_>) -> Result<(Name, Life)> {
    let name = text(from.get_name(), "name", crate::base::id::MAX_NAME)?;
    Ok((name.parse().map_err(|error: Error| malformed(error.message()))?, read_life(from)?))
}

/// Writes a node of another device.
pub fn write_far(
    name: &NodeName,
    life: Life,
    device: &DeviceId,
    addresses: &[String],
    mut to: node_info::Builder<'_>,
) {
    to.set_name(name.as_str());
    to.set_device(&device.0.0);
    write_addresses(addresses, to.reborrow());
    write_life(life, to);
}

/// Writes a node that wants to be registered.
pub fn write_applicant(from: &Applicant, mut to: node_info::Builder<'_>) {
    if let Some(name) = &from.name {
        to.set_name(name.as_str());
    }
    write_addresses(&from.addresses, to.reborrow());
    write_life(from.life, to);
}

/// Reads a node that wants to be registered, but for the names that it accepts.
///
/// # Errors
/// `AUTH_FAILED` if its name, id or address is malformed.
pub fn read_applicant(from: node_info::Reader<'_>) -> Result<Applicant> {
    let name = text(from.get_name(), "name", crate::base::id::MAX_NAME)?;
    let name = match name.as_str() {
        "" => None,
        name => Some(name.parse::<Name>().map_err(|error| malformed(error.message()))?),
    };
    let accepts = Vec::new();
    Ok(Applicant { name, life: read_life(from)?, addresses: read_addresses(from)?, accepts })
}

/// Writes the first address twice: versions that know only one address read it from the field `address`.
fn write_addresses(from: &[String], mut to: node_info::Builder<'_>) {
    if let Some(first) = from.first() {
        to.set_address(first);
    }
    let mut list = to.init_addresses(from.len() as u32);
    for (index, address) in from.iter().enumerate() {
        list.set(index as u32, address);
    }
}

fn read_addresses(from: node_info::Reader<'_>) -> Result<Vec<String>> {
    let first = text(from.get_address(), "address", MAX_ADDRESS)?;
    if first.is_empty() && from.get_addresses().map_err(unreadable)?.is_empty() {
        return Ok(Vec::new());
    }
    first.parse::<Address>().map_err(|error| malformed(error.message()))?;
    let mut addresses = vec![first];
    let more = from.get_addresses().map_err(unreadable)?;
    for index in 0..more.len().min(MAX_ADDRESSES) {
        let address = text(more.get(index), "address", MAX_ADDRESS)?;
        // A later version may send kinds of addresses that this version cannot dial.
        if address.parse::<Address>().is_ok() && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

fn write_life(from: Life, mut to: node_info::Builder<'_>) {
    to.set_id(from.id.as_bytes());
    to.set_incarnation(from.incarnation);
}

fn read_life(from: node_info::Reader<'_>) -> Result<Life> {
    let id = Uuid::from_bytes(sixteen(from.get_id(), "id")?);
    Ok(Life { id, incarnation: from.get_incarnation() })
}

fn sixteen(data: capnp::Result<&[u8]>, what: &str) -> Result<[u8; 16]> {
    let data = data.map_err(unreadable)?;
    data.try_into().map_err(|_| malformed(&format!("its {what} has {} bytes instead of 16", data.len())))
}

fn text(text: capnp::Result<capnp::text::Reader<'_>>, what: &str, most: usize) -> Result<String> {
    let text = text.map_err(unreadable)?;
    match text.to_str() {
        Ok(text) if text.len() <= most => Ok(inert::line(text).into_owned()),
        Ok(_) => Err(malformed(&format!("its {what} is longer than {most} bytes"))),
        Err(_) => Err(malformed(&format!("its {what} is not UTF-8"))),
    }
}

fn unreadable(error: capnp::Error) -> Error {
    malformed(&error.to_string()).with_source(error)
}

fn malformed(what: &str) -> Error {
    Error::new(Code::AuthFailed, format!("the other side sent an invalid identity: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeInfo {
        NodeInfo {
            name: "node-1@laptop".parse().unwrap(),
            device: Some(DeviceId(Hash([5; 32]))),
            id: Uuid::from_u128(7),
            incarnation: 8,
            address: "unix:/tmp/x.sock".into(),
            addresses: vec!["unix:/tmp/x.sock".into(), "tcp:127.0.0.1:4000".into()],
            since_ms: 9,
        }
    }

    #[test]
    fn crosses_unchanged() {
        let hello = Hello {
            node: Some(node()),
            expected: Some(Life { id: Uuid::from_u128(1), incarnation: 2 }),
            ..Hello::of(HomeId([3; 16]))
        };
        let mut message = capnp::message::Builder::new_default();
        write(&hello, message.init_root());
        assert_eq!(read(message.get_root_as_reader().unwrap()).unwrap(), hello);
    }

    #[test]
    fn an_applicant_may_have_no_name() {
        let applicant = Applicant {
            name: None,
            life: node().life(),
            addresses: vec!["unix:/x".into()],
            accepts: Vec::new(),
        };
        let mut message = capnp::message::Builder::new_default();
        write_applicant(&applicant, message.init_root());
        let reader = message.get_root_as_reader::<node_info::Reader<'_>>().unwrap();
        assert_eq!(read_applicant(reader).unwrap(), applicant);
        assert_eq!(read_node(reader).unwrap_err().code(), Code::AuthFailed);
    }

    #[test]
    fn addresses_of_other_versions() {
        let read = |addresses: &[&str]| {
            let mut message = capnp::message::Builder::new_default();
            let mut builder = message.init_root::<node_info::Builder<'_>>();
            write_node(&node(), builder.reborrow());
            let mut list = builder.init_addresses(addresses.len() as u32);
            for (index, address) in addresses.iter().enumerate() {
                list.set(index as u32, address);
            }
            read_node(message.get_root_as_reader().unwrap()).unwrap().addresses
        };
        assert_eq!(read(&[]), ["unix:/tmp/x.sock"]);
        assert_eq!(read(&["quic:/y", "tcp:[::1]:1"]), ["unix:/tmp/x.sock", "tcp:[::1]:1"]);
    }

    #[test]
    fn malformed_bytes_are_refused() {
        let refused = |change: &dyn Fn(node_info::Builder<'_>)| {
            let mut message = capnp::message::Builder::new_default();
            write_node(&node(), message.init_root());
            change(message.get_root().unwrap());
            read_node(message.get_root_as_reader().unwrap()).unwrap_err().code()
        };
        assert_eq!(refused(&|mut node| node.set_name("Node 1")), Code::AuthFailed);
        assert_eq!(refused(&|mut node| node.set_name("exit")), Code::AuthFailed);
        assert_eq!(refused(&|mut node| node.set_id(&[1; 15])), Code::AuthFailed);
        assert_eq!(refused(&|mut node| node.set_address("tcp:x")), Code::AuthFailed);
        assert_eq!(refused(&|mut node| node.set_address("x".repeat(10_000))), Code::AuthFailed);
    }

    #[test]
    fn strangers_are_refused() {
        let ours = HomeId([1; 16]);
        assert!(Hello::of(ours).admit(ours).is_ok());
        assert_eq!(Hello::of(ours).admit(HomeId([2; 16])).unwrap_err().code(), Code::AuthFailed);
        let later = Hello { protocol: 99, ..Hello::of(ours) };
        assert_eq!(later.admit(ours).unwrap_err().code(), Code::VersionMismatch);
        let life = Life { id: Uuid::from_u128(1), incarnation: 1 };
        let meant = Hello { expected: Some(life), ..Hello::of(ours) };
        assert!(meant.meant_for(life).is_ok());
        assert_eq!(meant.meant_for(Life { incarnation: 2, ..life }).unwrap_err().code(), Code::NodeDown);
    }
}
