//! gpmd, the port mapper daemon: the registry of a device's nodes and the keeper of its modules.
//!
//! In: nodes that register and ask for each other; commands that upload and remove modules. Out: where nodes
//! are; modules that are durable. Must not know: calls, values; gpmd is on no call's path.
//!
//! - `registry`, `tickets`: pure. `server`: the daemon's thread. `registry_handler`, `control_handler`,
//!   `upload_handler`: one capability each. `ahead` compiles what was stored.

pub mod ahead;
mod connections;
mod control_handler;
mod registry;
mod registry_handler;
pub mod server;
mod stop;
mod tickets;
mod upload_handler;
