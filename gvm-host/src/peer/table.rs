//! The table of connected nodes.
//!
//! In: connections as they begin and end. Out: the connected nodes and their connections. Two nodes that dial
//! each other at the same time have two connections for a while; the peer is down when its last connection
//! has ended. A name belongs to the life that has it until its last connection has ended. Pure. Must not know: what a
//! connection is.

use std::collections::BTreeMap;

use crate::base::device::{NodeName, meant};
use crate::base::error::Result;
use crate::base::node::NodeInfo;

/// Connected peers by name, each with at least one `T`.
pub struct Table<T> {
    peers: BTreeMap<NodeName, Entry<T>>,
    next: u64,
}

struct Entry<T> {
    info: NodeInfo,
    lines: Vec<(Token, T)>,
}

/// One connection's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(u64);

/// The effect of adding a connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Added {
    pub token: Token,
    /// Whether the peer was not connected before.
    pub first: bool,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { peers: BTreeMap::new(), next: 0 }
    }
}

impl<T> Table<T> {
    /// Adds a connection to this node. `None` if another life of a node is connected with this name.
    pub fn add(&mut self, info: NodeInfo, line: T) -> Option<Added> {
        let token = Token(self.next);
        self.next += 1;
        match self.peers.get_mut(&info.name) {
            Some(entry) if entry.info.to_ref() != info.to_ref() => None,
            Some(entry) => {
                entry.lines.push((token, line));
                Some(Added { token, first: false })
            }
            None => {
                self.peers.insert(info.name.clone(), Entry { info, lines: vec![(token, line)] });
                Some(Added { token, first: true })
            }
        }
    }

    /// Returns the name of the connected node that a person means with this one.
    ///
    /// # Errors
    /// `NODE_NAME_AMBIGUOUS`.
    pub fn meant(&self, name: &NodeName) -> Result<Option<NodeName>> {
        meant(&self.peers, name).map(|found| found.map(|(name, _)| name.clone()))
    }

    /// Returns a connection to the node with this name.
    pub fn get(&self, name: &NodeName) -> Option<&T> {
        self.peers.get(name).and_then(|entry| entry.lines.first()).map(|(_, line)| line)
    }

    /// Returns all connections to the node with this name.
    pub fn all(&self, name: &NodeName) -> Vec<T>
    where
        T: Clone,
    {
        let lines = self.peers.get(name).into_iter().flat_map(|entry| &entry.lines);
        lines.map(|(_, line)| line.clone()).collect()
    }

    /// Returns the names of the peers.
    pub fn names(&self) -> impl Iterator<Item = &NodeName> {
        self.peers.keys()
    }

    /// Removes one connection. Returns whether it was the peer's last.
    pub fn remove(&mut self, name: &NodeName, token: Token) -> bool {
        let Some(entry) = self.peers.get_mut(name) else { return false };
        let before = entry.lines.len();
        entry.lines.retain(|(other, _)| *other != token);
        let gone = entry.lines.is_empty() && before > 0;
        if gone {
            self.peers.remove(name);
        }
        gone
    }

    /// Removes a peer with all its connections.
    pub fn remove_peer(&mut self, name: &NodeName) -> Vec<T> {
        let entry = self.peers.remove(name);
        entry.into_iter().flat_map(|entry| entry.lines).map(|(_, line)| line).collect()
    }

    /// Returns the connected nodes, sorted by name.
    pub fn peers(&self) -> impl Iterator<Item = &NodeInfo> {
        self.peers.values().map(|entry| &entry.info)
    }

    /// Removes all peers.
    pub fn clear(&mut self) -> Vec<T> {
        let peers = std::mem::take(&mut self.peers);
        peers.into_values().flat_map(|entry| entry.lines).map(|(_, line)| line).collect()
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::device::DeviceId;
    use crate::base::id::Hash;

    fn node(name: &str, incarnation: u64) -> NodeInfo {
        NodeInfo {
            name: name.parse().unwrap(),
            device: None,
            id: uuid::Uuid::nil(),
            incarnation,
            address: "unix:/x".into(),
            addresses: vec!["unix:/x".into()],
            since_ms: 0,
        }
    }

    #[test]
    fn a_peer_stays_until_its_last_connection_ends() {
        let mut table = Table::default();
        let name: NodeName = "b".parse().unwrap();
        let one = table.add(node("b", 1), "one").unwrap();
        let two = table.add(node("b", 1), "two").unwrap();
        assert!(one.first && !two.first);
        assert!(!table.remove(&name, one.token));
        assert_eq!(table.get(&name), Some(&"two"));
        assert!(table.remove(&name, two.token));
        assert!(!table.remove(&name, two.token));
        assert_eq!(table.peers().count(), 0);
    }

    #[test]
    fn nothing_displaces_a_connected_node() {
        let mut table = Table::default();
        let name: NodeName = "b".parse().unwrap();
        let old = table.add(node("b", 1), "old").unwrap();
        assert_eq!(table.add(node("b", 2), "new"), None);
        let of_another_device = NodeInfo { device: Some(DeviceId(Hash([1; 32]))), ..node("b", 1) };
        assert_eq!(table.add(of_another_device, "new"), None);
        assert_eq!(table.get(&name), Some(&"old"));
        assert!(table.remove(&name, old.token));
        assert!(table.add(node("b", 2), "new").unwrap().first);
        assert_eq!(table.get(&name), Some(&"new"));
    }
}
