//! What takes the place of `tunnels` in a program that was built without the feature `iroh`: there are none.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::base::device::DeviceId;
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::base::node::Life;
use crate::trust::device::DeviceKey;
use crate::trust::devices::Devices;
use crate::trust::key::PublicKey;
use crate::trust::relay::Relay;
use crate::wire::tls::Tls;
use crate::wire::transport::Address;
use crate::wire::tunnel;

/// How the packets to another device travel.
pub struct Path {
    pub is_relayed: bool,
    pub at: String,
}

/// Where a device is met.
pub struct Met {
    pub key: PublicKey,
    pub relay: Option<Relay>,
    pub direct: Vec<SocketAddr>,
}

/// Never exists.
pub struct Tunnels(Infallible);

/// What would start tunnels.
pub struct Start<'a> {
    pub home: &'a Home,
    pub key: &'a DeviceKey,
    pub relay: Option<Relay>,
    pub devices: Devices,
    pub open: Arc<AtomicBool>,
    pub tls: Tls,
}

impl Tunnels {
    /// # Errors
    /// `BAD_ARGUMENTS` always.
    pub fn start(_: Start<'_>) -> Result<(Tunnels, tunnel::Listener)> {
        Err(Error::new(Code::BadArguments, "this gpmd was built without relays (the feature `iroh`)")
            .with_help("build it with default features, or start it with `--relay off`"))
    }

    pub fn relay(&self) -> Option<&Relay> {
        match self.0 {}
    }

    pub fn told(&self) -> Option<Relay> {
        match self.0 {}
    }

    pub fn problem(&self) -> Option<String> {
        match self.0 {}
    }

    pub fn is_online(&self) -> bool {
        match self.0 {}
    }

    pub fn meets(&self, _: Met) {
        match self.0 {}
    }

    pub fn address(&self, _: DeviceId, _: Option<Life>) -> Address {
        match self.0 {}
    }

    pub fn path(&self, _: &PublicKey) -> Option<Path> {
        match self.0 {}
    }

    pub fn settle(&self) {
        match self.0 {}
    }

    pub async fn changed(&self) {
        match self.0 {}
    }
}
