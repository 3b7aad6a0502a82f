//! The devices that a process of a home trusts: its own, and the others of its network.
//!
//! In: the key of the own device, the roster. Out: for the id of a device, its key, name and role; the names of nodes as a
//! person on this device reads them. Must not know: files, connections.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::key::PublicKey;
use super::roster::{Device, Role};
use crate::base::device::{DeviceId, NodeName};
use crate::base::id::Name;

/// The devices that a process trusts. Clones share it, and see each change at once. `Send + Sync`.
#[derive(Clone, Default)]
pub struct Devices(Arc<RwLock<Arc<Known>>>);

/// The devices at one moment.
#[derive(Default)]
pub struct Known {
    own: Option<PublicKey>,
    devices: HashMap<DeviceId, Device>,
}

impl Devices {
    /// Returns the devices at this moment.
    pub fn now(&self) -> Arc<Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the devices: the key of this device, and the devices of its network, this one among them or not.
    pub fn set(&self, own: PublicKey, devices: impl IntoIterator<Item = Device>) {
        let devices = devices.into_iter().map(|device| (device.key.id(), device)).collect();
        let known = Arc::new(Known { own: Some(own), devices });
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

impl fmt::Debug for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.now().devices.keys()).finish()
    }
}

impl Known {
    /// Returns the key of this device. `None` before it is known: until then no device is trusted.
    pub fn own(&self) -> Option<PublicKey> {
        self.own
    }

    /// Returns whether this is the id of this device.
    pub fn is_own(&self, device: &DeviceId) -> bool {
        self.own.is_some_and(|own| own.id() == *device)
    }

    /// Returns the key of a device that is trusted: this one or another one of its network.
    pub fn key(&self, device: &DeviceId) -> Option<PublicKey> {
        let own = self.own?;
        match own.id() == *device {
            true => Some(own),
            false => self.devices.get(device).map(|known| known.key),
        }
    }

    /// Returns a device of the network.
    pub fn get(&self, device: &DeviceId) -> Option<&Device> {
        self.devices.get(device)
    }

    /// Returns the devices of the network, in no order.
    pub fn all(&self) -> impl ExactSizeIterator<Item = &Device> {
        self.devices.values()
    }

    /// Returns whether a device may do only what it is named for. This device is a member.
    pub fn is_guest(&self, device: &DeviceId) -> bool {
        !self.is_own(device) && self.devices.get(device).is_none_or(|known| known.role == Role::Guest)
    }

    /// Returns the name of this device in its network. `None` before it is in one.
    pub fn own_name(&self) -> Option<&Name> {
        self.devices.get(&self.own?.id()).map(|known| &known.name)
    }

    /// Returns the name of a node of this device without the device. `None` if the name has no device, or that of another one.
    pub fn own_node(&self, name: &NodeName) -> Option<NodeName> {
        let device = name.device()?;
        self.own_name().filter(|own| own.as_str() == device)?;
        name.bare().parse().ok()
    }

    /// Returns the name of a node as it is called on this device. `None` if its device is not trusted.
    pub fn node_name(&self, name: &Name, device: &DeviceId) -> Option<NodeName> {
        match self.is_own(device) {
            true => Some(name.clone().into()),
            false => self.devices.get(device).map(|known| NodeName::on(name, &known.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::key::SecretKey;
    use crate::trust::roster::Roster;

    #[test]
    fn nodes_are_called_by_their_device() {
        let [laptop, pi, other] = [(); 3].map(|()| SecretKey::generate().unwrap());
        let name = |text: &str| text.parse::<Name>().unwrap();
        let mut roster = Roster::found(&laptop, name("laptop"), 1).unwrap();
        roster.admit(&laptop, pi.public(), name("pi"), Role::Guest, 2).unwrap();
        let devices = Devices::default();
        assert_eq!(devices.now().key(&laptop.public().id()), None);
        devices.set(laptop.public(), roster.devices());
        let known = devices.clone().now();
        let called = |key: &SecretKey| known.node_name(&name("a"), &key.public().id());
        assert_eq!(called(&laptop), Some("a".parse().unwrap()));
        assert_eq!(called(&pi), Some("a@pi".parse().unwrap()));
        assert_eq!(called(&other), None);
        assert_eq!(known.key(&pi.public().id()), Some(pi.public()));
        assert_eq!(known.key(&other.public().id()), None);
        assert!(known.is_guest(&pi.public().id()) && !known.is_guest(&laptop.public().id()));
        assert_eq!(known.own_name(), Some(&name("laptop")));
        let own_node = |name: &str| known.own_node(&name.parse().unwrap()).map(|name| name.to_string());
        assert_eq!(own_node("study@laptop"), Some("study".to_owned()));
        assert_eq!(own_node("study@pi").or(own_node("study")), None);
        // A device that is in no network yet trusts itself.
        devices.set(pi.public(), []);
        assert_eq!(devices.now().key(&pi.public().id()), Some(pi.public()));
        assert_eq!(devices.now().key(&laptop.public().id()), None);
    }
}
