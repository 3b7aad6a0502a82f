//! The clients of the home's gpmd.
//!
//! In: a home, and requests of nodes and commands. Out: gpmd's answers and notifications. Must not know: the
//! implementation of gpmd (`daemon/`), calls, sessions.
//!
//! - `link`: the client of a node. `control`: the client of a command; `network`: its commands about devices. `route`: the address of
//!   gpmd. `changes`: changes of an index, as they cross. `record`: the file in which a running gpmd publishes its addresses.

pub mod bytes;
pub mod changes;
pub mod control;
pub mod entry;
pub mod link;
pub mod network;
pub mod record;
pub mod route;
