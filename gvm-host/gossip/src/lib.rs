//! Presence in networks of many devices, by gossip: which devices are up, and what each says of itself.
//!
//! In: the members of the network, messages of authenticated connections, the time, what this device says of itself.
//! Out: messages to other devices, and events: a device is up or down, or says something new. Must not know: sockets,
//! clocks, keys, what the payload of a device means.
//!
//! Each device keeps a few connections, whatever the size of the network. `iroh-gossip` chooses the neighbours
//! (HyParView) and carries messages to all (Plumtree). Each device signs and broadcasts two records: its neighbours, and
//! its payload. So every device has the map of all connections, and a device is up if the map has a way to it. Nobody
//! announces the death of another device: the neighbours of a dead device drop it from their own records.
//!
//! `docs/networks.md` in the repository has the costs, measured in a simulation.

mod config;
mod device;
mod frame;
mod guard;
mod links;
mod overlay;
mod presence;
mod pull;
mod reach;
mod record;
mod table;

pub use config::Config;
pub use device::{Device, Keys};
pub use presence::{Event, Malformed, Output, PayloadTooLarge, Presence, Seen, Setup};
