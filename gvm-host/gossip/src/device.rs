//! Devices and their signatures.
//!
//! In: public keys. Out: names of devices, full and short. Must not know: how keys are kept or made.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A device: the 32 bytes of its public Ed25519 key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Device(pub [u8; 32]);

/// The first bytes of a device's key. They stand for the device where its key is known already: two admitted devices
/// have the same ones only if somebody made 2^64 keys for it, and would win nothing but confusion about these two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Short(pub [u8; 8]);

impl Device {
    pub(crate) fn short(&self) -> Short {
        let mut short = [0; 8];
        short.copy_from_slice(&self.0[..8]);
        Short(short)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.short())
    }
}

impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The key of this device, and the check of what other devices signed.
pub trait Keys {
    /// Signs bytes with the key of this device.
    fn sign(&self, text: &[u8]) -> [u8; 64];

    /// Returns whether this device signed these bytes.
    fn verifies(&self, device: &Device, text: &[u8], signature: &[u8; 64]) -> bool;
}
