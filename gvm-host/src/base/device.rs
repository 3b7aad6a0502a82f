//! Devices and the names of their nodes, in the same form everywhere.
//!
//! In: text that a person typed, or that a peer sent. Out: names and ids that are known to be well formed. Must not know:
//! which devices and nodes exist, and how a device proves its id.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::BASE32_NOPAD;

use crate::base::error::{Code, Error, Result};
use crate::base::id::{Hash, MAX_NAME, Name};

/// The longest name of a node with its device, in bytes.
pub const MAX_NODE_NAME: usize = 2 * MAX_NAME + 1;

/// Between the name of a node and the name of its device.
const AT: char = '@';

/// The id of a device: the SHA-256 of its public key. Shown in base 32 (RFC 4648, lower case), in groups of four: a person
/// can compare it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub Hash);

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = BASE32_NOPAD.encode(&self.0.0).to_lowercase();
        for (place, character) in text.chars().enumerate() {
            if place > 0 && place % 4 == 0 {
                f.write_str("-")?;
            }
            write!(f, "{character}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DeviceId {
    type Err = Error;

    fn from_str(text: &str) -> Result<DeviceId> {
        let bad = || Error::new(Code::Syntax, format!("`{text}` is not the id of a device"));
        let bare: String = text.chars().filter(|character| *character != '-').collect();
        let bytes = BASE32_NOPAD.decode(bare.to_uppercase().as_bytes()).map_err(|_| bad())?;
        Ok(DeviceId(Hash(bytes.try_into().map_err(|_| bad())?)))
    }
}

impl serde::Serialize for DeviceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for DeviceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<DeviceId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| serde::de::Error::custom(error.message()))
    }
}

/// The name of a node in a network: `NAME` for a node of this device, `NAME@DEVICE` for a node of another one. It is what
/// a person types and reads, so it is relative to one device. Cheap to clone, `Send + Sync`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName {
    text: Arc<str>,
    /// The length of the name without the device.
    bare: usize,
}

impl NodeName {
    /// Returns the name of a node on the device with this name.
    pub fn on(name: &Name, device: &Name) -> NodeName {
        NodeName { text: format!("{name}{AT}{device}").into(), bare: name.as_str().len() }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the name of the node on its device, as text.
    pub fn bare(&self) -> &str {
        &self.text[..self.bare]
    }

    /// Returns the name of the device, as text. `None` for a name without a device.
    pub fn device(&self) -> Option<&str> {
        self.text.get(self.bare + AT.len_utf8()..)
    }
}

/// Nodes that a person allows: `NAME` on this device, `NAME@DEVICE`, or every node of a device, `*@DEVICE`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodePattern {
    /// `None` for every node of the device.
    name: Option<Name>,
    /// `None` for this device.
    device: Option<Name>,
}

impl NodePattern {
    /// Returns whether the pattern names this node. `own` is the name of this device.
    pub fn names(&self, node: &NodeName, own: Option<&Name>) -> bool {
        let on = node.device().or(own.map(Name::as_str));
        let device = match &self.device {
            None => node.device().is_none(),
            Some(device) => on == Some(device.as_str()),
        };
        device && self.name.as_ref().is_none_or(|name| name.as_str() == node.bare())
    }
}

impl FromStr for NodePattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<NodePattern> {
        match text.split_once(AT) {
            Some(("*", device)) => Ok(NodePattern { name: None, device: Some(device.parse()?) }),
            Some((name, device)) => {
                Ok(NodePattern { name: Some(name.parse()?), device: Some(device.parse()?) })
            }
            None => Ok(NodePattern { name: Some(text.parse()?), device: None }),
        }
    }
}

impl fmt::Display for NodePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.as_ref().map_or("*", Name::as_str))?;
        match &self.device {
            Some(device) => write!(f, "{AT}{device}"),
            None => Ok(()),
        }
    }
}

/// Returns the name of the node that a person means: the one that is written so, else the only one whose name without the
/// device is written so.
///
/// # Errors
/// `NODE_NAME_AMBIGUOUS` if nodes of several devices have the name, and none of this device has it.
pub fn meant<'a, T>(
    nodes: &'a BTreeMap<NodeName, T>,
    name: &NodeName,
) -> Result<Option<(&'a NodeName, &'a T)>> {
    if let Some(exact) = nodes.get_key_value(name) {
        return Ok(Some(exact));
    }
    if name.device().is_some() {
        return Ok(None);
    }
    // They follow the name without a device in the order of texts.
    let mut alike = nodes.range(name..).take_while(|(other, _)| other.as_str().starts_with(name.as_str()));
    let mut alike = alike.by_ref().filter(|(other, _)| other.bare() == name.as_str());
    let Some(first) = alike.next() else { return Ok(None) };
    let others: Vec<&NodeName> = alike.map(|(other, _)| other).collect();
    match others.is_empty() {
        true => Ok(Some(first)),
        false => Err(ambiguous(name, std::iter::once(first.0).chain(others))),
    }
}

/// The error for a name that nodes of several devices have.
pub fn ambiguous<'a>(name: &NodeName, nodes: impl Iterator<Item = &'a NodeName>) -> Error {
    let nodes: Vec<String> = nodes.map(|node| format!("`{node}`")).collect();
    let message = format!("nodes of several devices are named `{name}`: {}", nodes.join(", "));
    Error::new(Code::NodeNameAmbiguous, message).with_help("write the name with the device")
}

impl From<Name> for NodeName {
    fn from(name: Name) -> NodeName {
        let bare = name.as_str().len();
        NodeName { text: name.into(), bare }
    }
}

impl FromStr for NodeName {
    type Err = Error;

    fn from_str(text: &str) -> Result<NodeName> {
        match text.split_once(AT) {
            Some((name, device)) => Ok(NodeName::on(&name.parse()?, &device.parse()?)),
            None => Ok(NodeName::from(text.parse::<Name>()?)),
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl AsRef<str> for NodeName {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl serde::Serialize for NodeName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> serde::Deserialize<'de> for NodeName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<NodeName, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| serde::de::Error::custom(error.message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_another_device_has_its_device_in_its_name() {
        let name: NodeName = "math-1@laptop".parse().unwrap();
        assert_eq!((name.bare(), name.device(), name.as_str()), ("math-1", Some("laptop"), "math-1@laptop"));
        let here: NodeName = "math-1".parse().unwrap();
        assert_eq!((here.bare(), here.device(), here.to_string()), ("math-1", None, "math-1".into()));
        assert_eq!(here, NodeName::from("math-1".parse::<Name>().unwrap()));
        for bad in ["", "@", "a@", "@a", "a@b@c", "a@B", "node@a", "a @b"] {
            assert_eq!(bad.parse::<NodeName>().unwrap_err().code(), Code::Syntax, "{bad}");
        }
    }

    #[test]
    fn a_name_alone_means_the_node_here_or_the_only_one() {
        let all = |names: &[&str]| {
            names.iter().map(|name| (name.parse().unwrap(), ())).collect::<BTreeMap<NodeName, ()>>()
        };
        let means = |all: &BTreeMap<NodeName, ()>, name: &str| {
            meant(all, &name.parse().unwrap()).map(|found| found.map(|(name, ())| name.to_string()))
        };
        let nodes = all(&["a", "a@pi", "b@pi", "b-c", "b1@pi", "c@laptop", "c@pi", "c-d@pi"]);
        assert_eq!(means(&nodes, "a").unwrap().as_deref(), Some("a"));
        assert_eq!(means(&nodes, "a@pi").unwrap().as_deref(), Some("a@pi"));
        assert_eq!(means(&nodes, "b").unwrap().as_deref(), Some("b@pi"));
        assert_eq!(means(&nodes, "b@laptop").unwrap(), None);
        assert_eq!(means(&nodes, "d").unwrap(), None);
        let error = means(&nodes, "c").unwrap_err();
        assert_eq!(error.code(), Code::NodeNameAmbiguous);
        assert!(error.message().ends_with("`c@laptop`, `c@pi`"), "{error}");
    }

    #[test]
    fn patterns_name_nodes_of_one_device() {
        let own: Name = "laptop".parse().unwrap();
        let names = |pattern: &str, node: &str| {
            let pattern: NodePattern = pattern.parse().unwrap();
            assert_eq!(pattern.to_string().parse::<NodePattern>().unwrap(), pattern);
            pattern.names(&node.parse().unwrap(), Some(&own))
        };
        assert!(names("a", "a") && names("a@laptop", "a") && names("*@laptop", "a"));
        assert!(names("a@pi", "a@pi") && names("*@pi", "b@pi"));
        assert!(!names("a", "a@pi"), "a name alone is that of a node of this device");
        assert!(!names("a", "b") && !names("a@pi", "a") && !names("*@pi", "a") && !names("*@pi", "a@pie"));
        for bad in ["*", "", "@pi", "*@", "*@*", "a@*", "a@b@c", "A"] {
            assert_eq!(bad.parse::<NodePattern>().unwrap_err().code(), Code::Syntax, "{bad}");
        }
    }

    #[test]
    fn an_id_parses_what_it_prints() {
        let id = DeviceId(Hash::of(b"key"));
        let shown = id.to_string();
        assert_eq!(shown.len(), 52 + 12);
        assert!(shown.split('-').all(|group| group.len() == 4), "{shown}");
        assert_eq!(shown.parse::<DeviceId>().unwrap(), id);
        assert_eq!(shown.replace('-', "").to_uppercase().parse::<DeviceId>().unwrap(), id);
        assert!("abcd".parse::<DeviceId>().is_err());
    }
}
