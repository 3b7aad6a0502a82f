//! The running nodes of a home, by name.
//!
//! In: registrations, names, the time and random numbers. Out: the registered nodes, or errors. Must not
//! know: connections, capabilities, clocks. The holder of a registration's token ends it. Every request but the list takes
//! the same time however many nodes there are.

use std::collections::{BTreeMap, HashMap};

use crate::base::error::{Code, Error, Result};
use crate::base::id::Name;
use crate::base::node::{Applicant, Life, NodeInfo, Secret};

/// The digits of a default name, and how many random names are tried before a digit is added.
const DIGITS: std::ops::RangeInclusive<u32> = 4..=18;
const TRIES: u32 = 16;

/// The registry. Plain data with one owner.
#[derive(Debug, Default)]
pub struct Registry {
    nodes: BTreeMap<Name, Held>,
    lives: HashMap<Life, Name>,
    tokens: HashMap<Token, Name>,
    last: u64,
}

#[derive(Debug)]
struct Held {
    token: Token,
    node: NodeInfo,
    secret: Option<Secret>,
    /// The names in the node's accept policy.
    accepts: Vec<String>,
}

/// A registration that was made.
#[derive(Debug)]
pub struct Registered {
    pub token: Token,
    pub node: NodeInfo,
    /// The earlier registration of the same life, which this one has ended.
    pub replaced: Option<Token>,
}

/// Identifies one registration, and ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u64);

impl Registry {
    /// Registers a node. The same life of the same node may register again, with the same or another name, if
    /// it shows the same secret, because every node can discover ids and incarnations. The new registration
    /// replaces the earlier one, and the earlier token becomes invalid.
    ///
    /// `now` is in milliseconds since 1970; `chance` returns random numbers for a default name.
    ///
    /// # Errors
    /// `NODE_NAME_TAKEN` if another running node has the name; `AUTH_FAILED` if this life is registered with
    /// another secret.
    pub fn register(
        &mut self,
        applicant: Applicant,
        secret: Option<Secret>,
        now: i64,
        chance: &mut dyn FnMut() -> u64,
    ) -> Result<Registered> {
        let before = self.lives.get(&applicant.life).and_then(|name| self.nodes.get(name));
        if let Some(held) = before.filter(|held| held.secret.is_none() || held.secret != secret) {
            let name = &held.node.name;
            return Err(Error::new(
                Code::AuthFailed,
                format!("another connection has registered this node as `{name}`"),
            ));
        }
        let before = before.map(|held| (held.token, held.node.name.clone()));
        let name = match (applicant.name, &before) {
            (Some(name), _) => name,
            (None, Some((_, name))) => name.bare().parse()?,
            (None, None) => self.default_name(chance)?,
        };
        if let Some(Held { node: other, .. }) = self.nodes.get(&name)
            && other.life() != applicant.life
        {
            return Err(Error::new(
                Code::NodeNameTaken,
                format!("a running node already has the name `{name}` ({})", other.id),
            )
            .with_help("choose another name, or leave it out to get a free one"));
        }
        let replaced = before.map(|(token, _)| token);
        replaced.and_then(|token| self.remove(token));
        self.last += 1;
        let token = Token(self.last);
        let node = NodeInfo {
            name: name.clone().into(),
            device: None,
            id: applicant.life.id,
            incarnation: applicant.life.incarnation,
            address: applicant.addresses.first().cloned().unwrap_or_default(),
            addresses: applicant.addresses,
            since_ms: now,
        };
        self.lives.insert(applicant.life, name.clone());
        self.tokens.insert(token, name.clone());
        self.nodes.insert(name, Held { token, node: node.clone(), secret, accepts: applicant.accepts });
        Ok(Registered { token, node, replaced })
    }

    /// Ends a registration. Returns its node, or `None` if the registration had already ended.
    pub fn remove(&mut self, token: Token) -> Option<NodeInfo> {
        let name = self.tokens.remove(&token)?;
        let held = self.nodes.remove(&name)?;
        self.lives.remove(&held.node.life());
        Some(held.node)
    }

    /// Returns the node of this registration, or `None` if it has ended.
    pub fn get(&self, token: Token) -> Option<&NodeInfo> {
        self.nodes.get(self.tokens.get(&token)?).map(|held| &held.node)
    }

    /// Returns every running node, sorted by name.
    pub fn discover(&self) -> impl ExactSizeIterator<Item = &NodeInfo> {
        self.nodes.values().map(|held| &held.node)
    }

    /// Returns every running node with its name and the names in its accept policy, sorted by name.
    pub fn entries(&self) -> impl Iterator<Item = (&Name, &NodeInfo, &[String])> {
        self.nodes.iter().map(|(name, held)| (name, &held.node, held.accepts.as_slice()))
    }

    /// Returns the running node with this name.
    pub fn named(&self, name: &Name) -> Option<&NodeInfo> {
        self.nodes.get(name).map(|held| &held.node)
    }

    fn default_name(&self, chance: &mut dyn FnMut() -> u64) -> Result<Name> {
        for digits in DIGITS {
            for _ in 0..TRIES {
                let number = chance() % 10_u64.pow(digits);
                let name: Name = format!("node-{number:0width$}", width = digits as usize).parse()?;
                if !self.nodes.contains_key(&name) {
                    return Ok(name);
                }
            }
        }
        Err(Error::new(Code::NodeNameTaken, "no default name is free")
            .with_help("choose a name with `--name`"))
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::base::node::Life;

    fn applicant(name: &str, id: u128, incarnation: u64) -> Applicant {
        Applicant {
            name: (!name.is_empty()).then(|| name.parse().unwrap()),
            life: Life { id: Uuid::from_u128(id), incarnation },
            addresses: vec!["unix:/x".into()],
            accepts: Vec::new(),
        }
    }

    fn register(
        registry: &mut Registry,
        name: &str,
        id: u128,
        incarnation: u64,
    ) -> Result<(Token, NodeInfo)> {
        let applicant = applicant(name, id, incarnation);
        let registered = registry.register(applicant, Secret::read(&[7; 16]), 0, &mut || 5488)?;
        Ok((registered.token, registered.node))
    }

    fn names(registry: &Registry) -> Vec<String> {
        registry.discover().map(|node| node.name.to_string()).collect()
    }

    #[test]
    fn live_names_are_unique() {
        let mut registry = Registry::default();
        let (token, _) = register(&mut registry, "b", 1, 1).unwrap();
        register(&mut registry, "a", 2, 1).unwrap();
        assert_eq!(register(&mut registry, "b", 3, 1).unwrap_err().code(), Code::NodeNameTaken);
        assert_eq!(register(&mut registry, "b", 1, 2).unwrap_err().code(), Code::NodeNameTaken);
        assert_eq!(names(&registry), ["a", "b"]);
        assert_eq!(registry.remove(token).unwrap().id, Uuid::from_u128(1));
        assert!(registry.remove(token).is_none());
        assert_eq!(register(&mut registry, "b", 1, 2).unwrap().1.incarnation, 2);
    }

    #[test]
    fn the_same_life_replaces_itself() {
        let mut registry = Registry::default();
        let (old, _) = register(&mut registry, "a", 1, 1).unwrap();
        let (new, _) = register(&mut registry, "a", 1, 1).unwrap();
        assert!(registry.remove(old).is_none());
        assert_eq!(names(&registry), ["a"]);
        register(&mut registry, "b", 1, 1).unwrap();
        assert_eq!(names(&registry), ["b"]);
        assert!(registry.remove(new).is_none());
        assert_eq!(register(&mut registry, "", 1, 1).unwrap().1.name.as_str(), "b");
    }

    #[test]
    fn a_replaced_registration_is_reported_and_leaves_nothing() {
        let mut registry = Registry::default();
        let mut again = |name| {
            let secret = Secret::read(&[7; 16]);
            registry.register(applicant(name, 1, 1), secret, 0, &mut || 1).unwrap()
        };
        let first = again("a");
        assert_eq!(first.replaced, None);
        let second = again("b");
        assert_eq!(second.replaced, Some(first.token));
        registry.remove(second.token).unwrap();
        assert!(registry.nodes.is_empty() && registry.lives.is_empty() && registry.tokens.is_empty());
    }

    #[test]
    fn a_life_belongs_to_its_secret() {
        let mut registry = Registry::default();
        let (token, _) = register(&mut registry, "study", 1, 1).unwrap();
        for secret in [None, Secret::read(&[8; 16])] {
            for name in ["study", "evil", ""] {
                let refused = registry.register(applicant(name, 1, 1), secret, 0, &mut || 1).unwrap_err();
                assert_eq!(refused.code(), Code::AuthFailed);
            }
        }
        assert_eq!(names(&registry), ["study"]);
        assert_eq!(registry.get(token).unwrap().name.as_str(), "study");
        // A node without a secret cannot register again.
        registry.register(applicant("old", 2, 1), None, 0, &mut || 1).unwrap();
        assert!(registry.register(applicant("old", 2, 1), None, 0, &mut || 1).is_err());
        let (again, _) = register(&mut registry, "study", 1, 1).unwrap();
        assert!(registry.get(token).is_none() && registry.get(again).is_some());
    }

    #[test]
    fn default_names_have_four_digits_and_more_when_taken() {
        let mut registry = Registry::default();
        let name = |registry: &mut Registry, id| register(registry, "", id, 1).unwrap().1.name.to_string();
        assert_eq!(name(&mut registry, 1), "node-5488");
        assert_eq!(name(&mut registry, 2), "node-05488");
        assert_eq!(name(&mut registry, 3), "node-005488");
    }
}
