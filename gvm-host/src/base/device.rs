//! Devices and the names of their nodes, in the same form everywhere.
//!
//! In: text that a person typed, or that a peer sent. Out: names and ids that are known to be well formed. Must not know:
//! which devices and nodes exist, and how a device proves its id.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::BASE32_NOPAD;

use crate::base::error::{Code, Error, Result};
use crate::base::id::{Hash, Name};

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
