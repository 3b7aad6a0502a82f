//! Who is who: keys of devices and nodes, certificates, the roster of a network.
//!
//! In: keys, statements, certificates, what two sides have said. Out: proven identities. Must not know: sockets, sessions.
//! All of it is plain data and pure code, except the files of the device key (`device.rs`) and of the roster (`roster_file.rs`).

pub mod certificate;
pub mod device;
pub mod devices;
pub mod greeting;
pub mod identity;
pub mod invitation;
pub mod key;
pub mod relay;
pub mod roster;
pub mod roster_file;
