//! The greeting that opens every connection, to and from the wire, and who may pass.
//!
//! In: what a peer said of itself. Out: names, ids and addresses known to be well formed, or the
//! coded error that turns the peer away. Must not know: what is offered behind the greeting.

use uuid::Uuid;

use super::schema::hello_capnp::{PROTOCOL, hello, node_info};
use super::transport::Address;
use crate::base::error::{Code, Error, Result};
use crate::base::home::HomeId;
use crate::base::id::{Applicant, Life, Name, NodeInfo};
use crate::base::inert;

/// The longest program version taken from a peer, in bytes.
const MAX_VERSION: usize = 64;

/// `unix:` and the longest path there is.
const MAX_ADDRESS: usize = 5 + 4096;

/// The most places of one node that are read: a few kinds, a few networks each.
const MAX_ADDRESSES: u32 = 16;

/// What one side says of itself and of whom it expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub protocol: u16,
    /// Of the program, for people.
    pub version: String,
    pub home: HomeId,
    /// Who speaks; none for gpmd and its commands.
    pub node: Option<NodeInfo>,
    /// Who should answer; none for gpmd.
    pub expected: Option<Life>,
}

impl Hello {
    /// The greeting of a process of this home and this version.
    pub fn of(home: HomeId) -> Hello {
        Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            home,
            node: None,
            expected: None,
        }
    }

    /// Whether the side that said this may go on with a process of `home`. Both sides ask.
    ///
    /// # Errors
    /// `VERSION_MISMATCH` where the protocols differ, `AUTH_FAILED` for another home.
    pub fn admit(&self, home: HomeId) -> Result<()> {
        if self.protocol != PROTOCOL {
            return Err(Error::new(
                Code::VersionMismatch,
                format!(
                    "the other side ({}) speaks protocol {}, this one ({}) speaks {PROTOCOL}: upgrade the older",
                    self.version,
                    self.protocol,
                    env!("CARGO_PKG_VERSION"),
                ),
            ));
        }
        if self.home != home {
            return Err(Error::new(
                Code::AuthFailed,
                "the other side belongs to another home, or home.id was changed while it ran: start both \
                 sides with the same home (GHOST_HOME, --home)",
            ));
        }
        Ok(())
    }

    /// Whether this greeting is meant for this life of this node.
    ///
    /// # Errors
    /// `NODE_DOWN` where it expects another: the node that was looked up is no longer here.
    pub fn meant_for(&self, life: Life) -> Result<()> {
        match self.expected {
            Some(expected) if expected != life => {
                Err(Error::new(Code::NodeDown, "another node listens there by now: look the name up again"))
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
/// `VERSION_MISMATCH` where the protocol is another, whatever else was said; `AUTH_FAILED` where
/// what was said makes no sense.
pub fn read(from: hello::Reader<'_>) -> Result<Hello> {
    let protocol = from.get_protocol();
    if protocol != PROTOCOL {
        // The rest may be laid out differently.
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
    to.set_since(from.since_ms);
    write_addresses(&from.addresses, to.reborrow());
    write_life(from.life(), to);
}

/// Reads a node.
///
/// # Errors
/// `AUTH_FAILED` where its name, id or address is malformed.
pub fn read_node(from: node_info::Reader<'_>) -> Result<NodeInfo> {
    let applicant = read_applicant(from)?;
    let Some(name) = applicant.name else {
        return Err(malformed("a node without a name"));
    };
    Ok(NodeInfo {
        name,
        id: applicant.life.id,
        incarnation: applicant.life.incarnation,
        address: applicant.addresses.first().cloned().unwrap_or_default(),
        addresses: applicant.addresses,
        since_ms: from.get_since(),
    })
}

/// Writes a node that wants to be registered.
pub fn write_applicant(from: &Applicant, mut to: node_info::Builder<'_>) {
    if let Some(name) = &from.name {
        to.set_name(name.as_str());
    }
    write_addresses(&from.addresses, to.reborrow());
    write_life(from.life, to);
}

/// Reads a node that wants to be registered.
///
/// # Errors
/// `AUTH_FAILED` where its name, id or address is malformed.
pub fn read_applicant(from: node_info::Reader<'_>) -> Result<Applicant> {
    let name = text(from.get_name(), "name", crate::base::id::MAX_NAME)?;
    let name = match name.as_str() {
        "" => None,
        name => Some(name.parse::<Name>().map_err(|error| malformed(error.message()))?),
    };
    Ok(Applicant { name, life: read_life(from)?, addresses: read_addresses(from)? })
}

/// The first stands alone too, for versions that know one.
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
    first.parse::<Address>().map_err(|error| malformed(error.message()))?;
    let mut addresses = vec![first];
    let more = from.get_addresses().map_err(unreadable)?;
    for index in 0..more.len().min(MAX_ADDRESSES) {
        let address = text(more.get(index), "address", MAX_ADDRESS)?;
        // What this version cannot dial, a later one may have said.
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
    data.try_into().map_err(|_| malformed(&format!("{} bytes as its {what} instead of 16", data.len())))
}

fn text(text: capnp::Result<capnp::text::Reader<'_>>, what: &str, most: usize) -> Result<String> {
    let text = text.map_err(unreadable)?;
    match text.to_str() {
        Ok(text) if text.len() <= most => Ok(inert::line(text).into_owned()),
        _ => Err(malformed(&format!("a {what} that is none"))),
    }
}

fn unreadable(error: capnp::Error) -> Error {
    malformed(&error.to_string()).with_source(error)
}

fn malformed(what: &str) -> Error {
    Error::new(Code::AuthFailed, format!("the other side did not introduce itself: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeInfo {
        NodeInfo {
            name: "node-1".parse().unwrap(),
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
        let applicant = Applicant { name: None, life: node().life(), addresses: vec!["unix:/x".into()] };
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
    fn strangers_are_turned_away() {
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
