//! gpmd, the port mapper daemon: the registry of a home's nodes and the store of its modules.
//!
//! In: requests of nodes (register, discover, look up) and of commands (upload, remove, pin). Out: the
//! addresses of nodes; durable modules. Must not know: calls and their values, which never pass through gpmd.
//!
//! - `registry`: pure data. `server`: the daemon's thread. `connections`: accepted connections.
//!   `registry_handler`, `control_handler`, `upload_handler`: the requests. `network`: the other devices. `stop`: the shutdown. `ahead`:
//!   compilation of stored modules.

pub mod ahead;
mod connections;
mod control_handler;
mod network;
mod offers;
mod registry;
mod registry_handler;
pub mod server;
mod stop;
mod upload_handler;

pub use network::listening::interfaces;
#[doc(hidden)]
pub use network::{meeting, tunnels};
