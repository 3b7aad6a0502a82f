//! Connections met from outside: one contract for every kind of transport, who may pass, and what is
//! noticed of a side that falls silent.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod claims;
mod contract;
mod gone;
mod nodes;
#[path = "../pair/mod.rs"]
mod pair;
mod rig;
mod room;
mod security;
mod sessions;
mod silence;
