//! Who is who: keys of devices and nodes, certificates, the roster of a network.
//!
//! In: keys, statements, certificates, what two sides have said. Out: proven identities. Must not know: sockets, sessions.
//! All of it is plain data and pure code, except the file of the device key (`device.rs`).

pub mod certificate;
pub mod device;
pub mod greeting;
pub mod identity;
pub mod key;
pub mod roster;
