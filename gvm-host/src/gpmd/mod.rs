//! The port mapper daemon: the registry of a device's nodes and the keeper of its modules.
//!
//! In: nodes that register and ask for each other; commands that upload and remove modules. Out:
//! where nodes are; modules that are durable. Must not know: calls, values, wasm engines; gpmd is
//! on no call's path.
//!
//! - `registry`, `tickets`, `index`: pure. `store`: the index and the modules on disk.
//! - `server`: the daemon's thread; `registry_door`, `control_door`, `upload_door`: a capability each.
//! - `link`, `witness`: a node's side; `control`: a command's side; `reach`: the way to it. `record`: what gpmd says of itself.

mod connections;
pub mod control;
mod control_door;
pub mod index;
pub mod link;
pub mod reach;
pub mod record;
pub mod registry;
mod registry_door;
pub mod server;
mod stop;
pub mod store;
mod tickets;
mod upload_door;
pub mod witness;
