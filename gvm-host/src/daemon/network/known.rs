//! The addresses at which other devices were reached, and their relays, `ghost.addresses.json`.
//!
//! In: addresses that worked, and those that devices tell. Out: where to dial a device, best first. A hint where to dial,
//! never proof of anything: the file may be missing or damaged. Must not know: connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::base::device::DeviceId;
use crate::base::durable;
use crate::base::error::{Error, Result};
use crate::base::home::Home;
use crate::trust::relay::Relay;

/// The most addresses of one device: several networks, each with both families.
pub const MOST: usize = 16;

/// The addresses of other devices. Plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    addresses: BTreeMap<DeviceId, Vec<SocketAddr>>,
    /// The relays at which devices can be met, as text.
    #[serde(default)]
    relays: BTreeMap<DeviceId, String>,
}

impl Known {
    /// Returns the addresses of a device, best first.
    pub fn of(&self, device: &DeviceId) -> &[SocketAddr] {
        self.addresses.get(device).map_or(&[], Vec::as_slice)
    }

    /// Returns the relay of a device.
    pub fn relay(&self, device: &DeviceId) -> Option<Relay> {
        self.relays.get(device)?.parse().ok()
    }

    /// Notes the relay of a device. Returns whether anything changed.
    pub fn meets(&mut self, device: DeviceId, relay: Option<&Relay>) -> bool {
        match relay.map(Relay::to_string) {
            Some(relay) => self.relays.insert(device, relay.clone()).as_ref() != Some(&relay),
            None => self.relays.remove(&device).is_some(),
        }
    }

    /// Puts an address that worked first. Returns whether anything changed.
    pub fn worked(&mut self, device: DeviceId, at: SocketAddr) -> bool {
        let addresses = self.addresses.entry(device).or_default();
        if addresses.first() == Some(&at) {
            return false;
        }
        addresses.retain(|known| *known != at);
        addresses.insert(0, at);
        addresses.truncate(MOST);
        true
    }

    /// Notes the addresses that a device tells: they come first, except that the one that worked last stays in front.
    /// Returns whether anything changed.
    pub fn told(&mut self, device: DeviceId, told: &[SocketAddr]) -> bool {
        let addresses = self.addresses.entry(device).or_default();
        let mut all: Vec<SocketAddr> = Vec::new();
        for at in addresses.iter().take(1).chain(told).chain(addresses.iter()) {
            if !all.contains(at) {
                all.push(*at);
            }
        }
        all.truncate(MOST);
        let changed = *addresses != all;
        *addresses = all;
        changed
    }

    /// Notes addresses that a third device tells: those that are new come after the one that worked last. Returns whether
    /// anything changed.
    pub fn hinted(&mut self, device: DeviceId, hints: &[SocketAddr]) -> bool {
        let addresses = self.addresses.entry(device).or_default();
        let new: Vec<SocketAddr> = hints.iter().filter(|at| !addresses.contains(at)).copied().collect();
        if new.is_empty() {
            return false;
        }
        let after = addresses.len().min(1);
        addresses.splice(after..after, new);
        addresses.truncate(MOST);
        true
    }

    /// Forgets the devices that `keep` does not keep.
    pub fn retain(&mut self, keep: impl Fn(&DeviceId) -> bool) {
        self.addresses.retain(|device, _| keep(device));
        self.relays.retain(|device, _| keep(device));
    }

    /// Reads the addresses of a home. Returns none if they cannot be read.
    pub fn read(home: &Home) -> Known {
        let Ok(text) = durable::read_text(&home.addresses()) else { return Known::default() };
        serde_json::from_str(&text).unwrap_or_else(|error| {
            tracing::warn!(%error, "the file of addresses is damaged; it is written again");
            Known::default()
        })
    }

    /// Writes the addresses.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `INTERNAL`.
    pub fn write(&self, home: &Home) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::internal(format!("cannot write addresses: {error}")))?;
        durable::write(&home.addresses(), (text + "\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::base::id::Hash;

    #[test]
    fn the_address_that_worked_last_is_first() {
        let device = DeviceId(Hash::of(b"pi"));
        let at = |port: u16| SocketAddr::from(([192, 0, 2, 7], port));
        let mut known = Known::default();
        assert!(known.told(device, &[at(1), at(2)]));
        assert!(known.worked(device, at(2)) && !known.worked(device, at(2)));
        assert_eq!(known.of(&device), [at(2), at(1)]);
        assert!(known.told(device, &[at(3)]));
        assert_eq!(known.of(&device), [at(2), at(3), at(1)]);
        assert!(!known.told(device, &[at(3)]));
        assert!(known.hinted(device, &[at(4), at(1)]) && !known.hinted(device, &[at(4)]));
        assert_eq!(known.of(&device), [at(2), at(4), at(3), at(1)]);
        let many: Vec<_> = (100..200).map(at).collect();
        known.told(device, &many);
        assert_eq!(known.of(&device).len(), MOST);
        let relay = "https://relay.example.net".parse().unwrap();
        assert!(known.meets(device, Some(&relay)) && !known.meets(device, Some(&relay)));
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path().join("home")).unwrap();
        known.write(&home).unwrap();
        assert_eq!(Known::read(&home), known);
        assert_eq!(known.relay(&device), Some(relay));
        assert!(known.meets(device, None) && known.relay(&device).is_none());
        fs::write(home.addresses(), "{").unwrap();
        assert_eq!(Known::read(&home), Known::default());
        known.retain(|_| false);
        assert!(known.of(&device).is_empty());
    }
}
