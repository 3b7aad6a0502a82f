//! Connected nodes: how one is dialled, accepted, called and lost.
//!
//! In: names and calls from this node, connections from others. Out: outcomes, events. One file per
//! capability; what they carry is converted in `wire/`. Must not know: how calls run here
//! (`node/runner.rs`), who asked for them.

pub mod accept;
pub mod bulk;
pub mod calls;
pub mod connected;
pub mod handshake;
pub mod questions;
pub mod remote;
pub mod service;
pub mod session;
pub mod table;
pub mod term;
