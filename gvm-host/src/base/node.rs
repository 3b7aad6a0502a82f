//! Nodes, as other processes know them.
//!
//! In: names, ids, addresses. Out: the same in one value. Must not know: which nodes exist, how a node proves who it is.

use std::fmt;

use crate::base::device::{DeviceId, NodeName};
use crate::base::id::Name;

/// One life of one node. A greeting names the life that it expects, because another node may listen at the same
/// address by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Life {
    pub id: uuid::Uuid,
    /// A process that starts again has a new one.
    pub incarnation: u64,
}

/// A secret of one node. The node proves its identity to gpmd with it; gpmd also issues secrets that a node
/// shows to other nodes. Never printed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Secret([u8; 16]);

impl Secret {
    /// Creates a secret with 122 random bits.
    pub fn random() -> Secret {
        Secret(*uuid::Uuid::new_v4().as_bytes())
    }

    /// Returns the secret with these bytes, or `None` if their number is not 16.
    pub fn read(bytes: &[u8]) -> Option<Secret> {
        bytes.try_into().ok().map(Secret)
    }

    /// Returns the bytes, for the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A node that asks gpmd to register it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applicant {
    /// `None` lets the registry choose the name.
    pub name: Option<Name>,
    pub life: Life,
    /// The addresses to dial, in the order to try them; at least one. `unix:PATH`, `tcp:HOST:PORT`.
    pub addresses: Vec<String>,
    /// The names in its accept policy: guests of the network see only nodes that name them.
    pub accepts: Vec<String>,
}

/// A running node, as the registry lists it and a greeting expects it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct NodeInfo {
    pub name: NodeName,
    /// The id of its device; `None` for this device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    pub id: uuid::Uuid,
    /// The life of the node: a process that starts again has a new incarnation.
    pub incarnation: u64,
    /// The address to dial first: `unix:PATH`, `tcp:HOST:PORT`.
    pub address: String,
    /// All addresses to dial, in the order to try them; `address` is the first.
    pub addresses: Vec<String>,
    /// When it registered, in milliseconds since 1970.
    #[serde(rename = "since")]
    pub since_ms: i64,
}

/// Which node: its device, its name there, its life. Two nodes are the same if these are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeRef {
    /// `None` for this device.
    pub device: Option<DeviceId>,
    pub name: NodeName,
    pub life: Life,
}

impl NodeInfo {
    /// Returns which node this is.
    pub fn to_ref(&self) -> NodeRef {
        NodeRef { device: self.device, name: self.name.clone(), life: self.life() }
    }

    /// Returns the node's id and incarnation.
    pub fn life(&self) -> Life {
        Life { id: self.id, incarnation: self.incarnation }
    }
}
