//! What tunnels are given, and what they tell: plain data.
//!
//! In: nothing. Out: the same types for a program with tunnels and for one without. Must not know: how tunnels work.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::base::home::Home;
use crate::trust::device::DeviceKey;
use crate::trust::devices::Devices;
use crate::trust::key::PublicKey;
use crate::trust::relay::Relay;
use crate::wire::tls::Tls;

/// What starts tunnels.
pub struct Start<'a> {
    pub home: &'a Home,
    pub key: &'a DeviceKey,
    /// Without a relay, tunnels lead only to devices whose addresses for UDP are known.
    pub relay: Option<Relay>,
    pub devices: Devices,
    /// Whether strangers may come.
    pub open: Arc<AtomicBool>,
    pub tls: Tls,
}

/// Where a device is met.
#[derive(Clone, Debug)]
pub struct Met {
    pub key: PublicKey,
    pub relay: Option<Relay>,
    /// Addresses for UDP, if they are known.
    pub direct: Vec<SocketAddr>,
}

/// How the packets to another device travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    pub is_relayed: bool,
    /// The address of the other device, or the place of the relay.
    pub at: String,
}
