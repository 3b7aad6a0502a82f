//! What takes the place of `tunnels` in a program that was built without the feature `iroh`: there are none.

use std::convert::Infallible;

use super::meeting::{Met, Path, Start};
use crate::base::device::DeviceId;
use crate::base::error::{Code, Error, Result};
use crate::trust::key::PublicKey;
use crate::trust::relay::Relay;
use crate::wire::transport::Address;
use crate::wire::tunnel;

/// Never exists.
pub struct Tunnels(Infallible);

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

    pub fn address(&self, _: DeviceId) -> Address {
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
