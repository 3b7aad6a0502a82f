//! The port mapper daemon: the registry of a device's nodes and the keeper of its modules.
//!
//! In: nodes that register and ask for each other; commands that upload and remove modules. Out:
//! where nodes are; modules that are durable. Must not know: calls, values, wasm engines; gpmd is
//! on no call's path.

pub mod index;
pub mod registry;
pub mod store;
