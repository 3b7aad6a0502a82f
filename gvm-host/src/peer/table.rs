//! The table of connected nodes.
//!
//! In: connections as they begin and end. Out: the connected nodes and their connections. Two nodes that dial
//! each other at the same time have two connections for a while; the peer is down when its last connection
//! has ended. Pure. Must not know: what a connection is.

use std::collections::BTreeMap;

use crate::base::id::{Name, NodeInfo};

/// Connected peers by name, each with at least one `T`.
pub struct Table<T> {
    peers: BTreeMap<Name, Entry<T>>,
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
pub struct Added<T> {
    pub token: Token,
    /// Whether the peer was not connected before.
    pub first: bool,
    /// Connections of an earlier incarnation of that node, which were removed.
    pub ghosts: Vec<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { peers: BTreeMap::new(), next: 0 }
    }
}

impl<T> Table<T> {
    /// Adds a connection to this node.
    pub fn add(&mut self, info: NodeInfo, line: T) -> Added<T> {
        let token = Token(self.next);
        self.next += 1;
        let same = |entry: &Entry<T>| entry.info.id == info.id && entry.info.incarnation == info.incarnation;
        match self.peers.get_mut(&info.name) {
            Some(entry) if same(entry) => {
                entry.lines.push((token, line));
                Added { token, first: false, ghosts: Vec::new() }
            }
            _ => {
                let entry = Entry { info: info.clone(), lines: vec![(token, line)] };
                let old = self.peers.insert(info.name, entry);
                let ghosts = old.map(|old| old.lines.into_iter().map(|(_, line)| line).collect());
                Added { token, first: true, ghosts: ghosts.unwrap_or_default() }
            }
        }
    }

    /// Returns a connection to the node with this name.
    pub fn get(&self, name: &Name) -> Option<&T> {
        self.peers.get(name).and_then(|entry| entry.lines.first()).map(|(_, line)| line)
    }

    /// Returns the names of the peers.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.peers.keys()
    }

    /// Removes one connection. Returns whether it was the peer's last.
    pub fn remove(&mut self, name: &Name, token: Token) -> bool {
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
    pub fn remove_peer(&mut self, name: &Name) -> Vec<T> {
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
mod tests {
    use super::*;

    fn node(name: &str, incarnation: u64) -> NodeInfo {
        NodeInfo {
            name: name.parse().unwrap(),
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
        let name: Name = "b".parse().unwrap();
        let one = table.add(node("b", 1), "one");
        let two = table.add(node("b", 1), "two");
        assert!(one.first && !two.first);
        assert!(!table.remove(&name, one.token));
        assert_eq!(table.get(&name), Some(&"two"));
        assert!(table.remove(&name, two.token));
        assert!(!table.remove(&name, two.token));
        assert_eq!(table.peers().count(), 0);
    }

    #[test]
    fn a_new_incarnation_replaces_the_old() {
        let mut table = Table::default();
        let name: Name = "b".parse().unwrap();
        let old = table.add(node("b", 1), "old");
        let new = table.add(node("b", 2), "new");
        assert_eq!(new.ghosts, ["old"]);
        assert!(!table.remove(&name, old.token));
        assert_eq!(table.get(&name), Some(&"new"));
    }
}
