//! Reaching another device: several addresses at once, the best one first.
//!
//! In: addresses, the key of the device. Out: a connection to the owner of that key. Must not know: what is sent over it,
//! where the addresses come from.

use std::time::Duration;

use tokio::time::timeout;

use crate::base::error::{Code, Error, Result};
use crate::wire::race::{Failed, race};
use crate::wire::tls::Tls;
use crate::wire::transport::{Address, Transport, dial_words};

/// Dials the addresses and returns the first connection to the owner of the key that `tls` accepts.
///
/// # Errors
/// `DEVICE_DOWN`, with the reason of the first address, and of the tunnel; also after `within`.
pub async fn reach(addresses: &[Address], tls: &Tls, within: Duration) -> Result<(Transport, Address)> {
    let Some(first) = addresses.first() else {
        return Err(Error::new(Code::DeviceDown, "no address of the device is known"));
    };
    let mut failed = Vec::new();
    let found = timeout(within, race(addresses, tls, &mut failed)).await.ok().flatten();
    let words = |address: &Address, why: Option<&Failed>| {
        let why = why.map(|failed| dial_words(&failed.error));
        match (address, why) {
            (Address::Tunnel { .. }, None) => "no answer through the relay".to_owned(),
            (Address::Tunnel { .. }, Some(why)) => format!("cannot reach it through the relay: {why}"),
            (address, None) => format!("nothing answers at {}", at(address)),
            (address, Some(why)) => format!("cannot reach it at {}: {why}", at(address)),
        }
    };
    let why = |address: &Address| words(address, failed.iter().find(|failed| failed.address == *address));
    found.ok_or_else(|| {
        let tunnel = addresses[1..].iter().find(|address| matches!(address, Address::Tunnel { .. }));
        let tunnel = tunnel.map(|tunnel| format!("; {}", why(tunnel))).unwrap_or_default();
        Error::new(Code::DeviceDown, format!("{}{tunnel}", why(first)))
    })
}

/// Returns an address without the name of its kind.
fn at(address: &Address) -> String {
    match address {
        Address::Tcp(at) => at.to_string(),
        address => address.to_string(),
    }
}
