//! What a device says of itself in a large network, in at most 1,024 bytes.
//!
//! In: its version, addresses, relay, revision of the index, nodes. Out: the same as bytes, with as many nodes as fit; and back,
//! from bytes of other members. Pure. Must not know: how it spreads. All members can read it, and no guest.

use std::net::SocketAddr;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::presence::{Nodes, Present};
use crate::base::id::Name;
use crate::base::node::Life;
use crate::trust::relay::Relay;

/// The most bytes: what the records of gossip may have.
const MOST: usize = 1024;

/// The most addresses.
const MOST_ADDRESSES: usize = 8;

/// The longest relay.
const MAX_RELAY: usize = 256;

/// The longest version, in characters.
const MAX_VERSION: usize = 64;

/// What a device says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub version: String,
    pub addresses: Vec<SocketAddr>,
    pub relay: Option<Relay>,
    /// The revision of its index of modules.
    pub index: u64,
    /// The number of its nodes.
    pub count: u32,
    /// Those that fit.
    pub nodes: Rc<Nodes>,
}

/// The form that crosses.
#[derive(Serialize, Deserialize)]
struct Form {
    version: String,
    addresses: Vec<SocketAddr>,
    relay: Option<String>,
    index: u64,
    count: u32,
    nodes: Vec<Node>,
}

#[derive(Serialize, Deserialize)]
struct Node {
    name: String,
    id: [u8; 16],
    incarnation: u64,
    since_ms: i64,
}

impl Said {
    /// Returns whether the device has nodes that are not among these.
    pub fn has_more(&self) -> bool {
        self.count as usize > self.nodes.len()
    }

    /// Returns the bytes, with as many nodes as fit.
    pub fn encode(&self) -> Vec<u8> {
        let mut form = Form {
            version: self.version.chars().take(MAX_VERSION / 4).collect(),
            addresses: self.addresses.iter().take(MOST_ADDRESSES).copied().collect(),
            relay: self.relay.as_ref().map(Relay::to_string).filter(|relay| relay.len() <= MAX_RELAY),
            index: self.index,
            count: self.count,
            nodes: Vec::new(),
        };
        let size = |form: &Form| postcard::to_allocvec(form).map_or(usize::MAX, |bytes| bytes.len());
        // The number of nodes may take one byte more.
        let mut left = MOST.saturating_sub(size(&form) + 1);
        for (name, present) in self.nodes.iter() {
            let node = Node {
                name: name.to_string(),
                id: *present.life.id.as_bytes(),
                incarnation: present.life.incarnation,
                since_ms: present.since_ms,
            };
            let needs = postcard::to_allocvec(&node).map_or(usize::MAX, |bytes| bytes.len());
            if needs > left {
                break;
            }
            left -= needs;
            form.nodes.push(node);
        }
        postcard::to_allocvec(&form).unwrap_or_default()
    }

    /// Reads bytes of another member. Returns `None` if no honest device says this.
    pub fn decode(bytes: &[u8]) -> Option<Said> {
        let form: Form = postcard::from_bytes(bytes).ok().filter(|_| bytes.len() <= MOST)?;
        let mut nodes = Nodes::new();
        for node in form.nodes {
            let life = Life { id: uuid::Uuid::from_bytes(node.id), incarnation: node.incarnation };
            nodes.insert(node.name.parse::<Name>().ok()?, Present { life, since_ms: node.since_ms });
        }
        let shown = |character: &char| !character.is_control();
        Some(Said {
            version: form.version.chars().filter(shown).take(MAX_VERSION).collect(),
            addresses: form.addresses,
            relay: form.relay.and_then(|relay| relay.parse().ok()),
            index: form.index,
            count: form.count,
            nodes: Rc::new(nodes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(nodes: usize) -> Said {
        let node = |number: usize| {
            let name: Name = format!("node-{number:05}").parse().unwrap();
            let life = Life { id: uuid::Uuid::from_u128(number as u128), incarnation: u64::MAX };
            (name, Present { life, since_ms: 1_800_000_000_000 })
        };
        Said {
            version: "0.1.0".into(),
            addresses: (0..4).map(|port| SocketAddr::from(([192, 0, 2, 7], port))).collect(),
            relay: Some("https://relay.example.net".parse().unwrap()),
            index: 7,
            count: nodes as u32,
            nodes: Rc::new((0..nodes).map(node).collect()),
        }
    }

    #[test]
    fn what_fits_crosses_and_the_rest_is_counted() {
        for few in [0, 1, 10] {
            assert_eq!(Said::decode(&said(few).encode()), Some(said(few)));
        }
        let bytes = said(5000).encode();
        assert!(bytes.len() <= MOST && bytes.len() > MOST - 60, "{}", bytes.len());
        let read = Said::decode(&bytes).unwrap();
        assert!(read.has_more() && read.count == 5000 && read.nodes.len() > 10);
        assert!(!said(10).has_more());
    }

    #[test]
    fn nonsense_is_refused() {
        let bytes = said(5).encode();
        for length in 0..bytes.len() {
            assert_eq!(Said::decode(&bytes[..length]), None);
        }
        assert_eq!(Said::decode(&[0xff; 1024]), None);
        assert_eq!(Said::decode(&[bytes, vec![0; 2000]].concat()), None);
    }
}
