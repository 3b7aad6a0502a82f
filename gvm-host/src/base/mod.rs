//! The lowest layer: every other folder may import it, and it imports none of them.
//!
//! In: plain values, files, what the system reports. Out: the same, checked or converted. Must not know: calls,
//! modules, sockets, wasmtime, the terminal.

pub mod bytes;
pub mod code;
pub mod contain;
pub mod device;
pub mod durable;
pub mod error;
pub mod event;
pub mod home;
pub mod id;
pub mod inert;
pub mod json;
pub mod limits;
pub mod near;
pub mod node;
pub mod once;
pub mod process;
pub mod quote;
pub mod sanitize;
pub mod shared;
pub mod spin;
pub mod threads;
pub mod unchanged;
pub mod value;
pub mod wave;
