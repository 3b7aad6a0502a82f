//! Connected nodes: dials, accepts, calls and loses them.
//!
//! In: nodes to dial and calls from this node, connections from others. Out: outcomes, events. There is one
//! file per capability; `wire/` converts their messages. Must not know: how calls run here
//! (`node/runner.rs`), who makes them.

pub mod accept;
mod answers;
pub mod bulk;
pub mod callee;
pub mod calls;
pub mod channel;
pub mod connected;
mod dialling;
pub mod handshake;
pub mod line;
mod port;
pub mod questions;
pub mod remote;
pub mod service;
mod serving;
pub mod session;
pub mod shelf;
pub mod table;
pub mod term;
pub mod tickets;
