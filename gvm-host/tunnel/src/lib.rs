//! Connections between devices that cannot reach each other by TCP, because each of them is behind a NAT or a firewall.
//!
//! In: the key of this device, a relay, whom to accept. Out: streams to other devices, by their keys. Must not know: what is
//! sent over a stream, networks, nodes.
//!
//! It is built on iroh (QUIC): two devices meet at the relay, which passes encrypted packets on; from there they try to open a
//! direct path through their NATs, and use it as soon as it works. A device is known by its Ed25519 key, which the other side
//! has proved by TLS 1.3 (RFC 7250). `iroh` is named only in this crate.

mod endpoint;
mod pin;
#[cfg(feature = "relay")]
pub mod relay;

pub use endpoint::{Accepts, By, Opened, PURPOSE, Path, Setup, Stream, Tunnels};
pub use pin::{Pin, pin_of};

/// A server that passes packets between devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relay {
    /// The public relays of the company that develops iroh.
    Public,
    /// A server with a certificate that a web browser would accept.
    Url(String),
    /// A server that was started by `gpmd relay`.
    Own {
        /// A name or an IP address, and the port, as in a URL.
        authority: String,
        /// The port for address discovery, by UDP.
        port: u16,
        /// The certificate that the server shows.
        pin: Pin,
        /// What a device shows to the server.
        token: String,
    },
}
