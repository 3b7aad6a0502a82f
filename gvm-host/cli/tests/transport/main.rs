//! Tests of connections through the library's API.
//!
//! In: the library, and its programs as real processes. Out: one contract for every kind of transport; tests
//! of authentication, sessions, silent sides and exhausted capacity. Must not know: how transports
//! work.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod capacity;
mod claims;
mod contract;
mod gone;
mod nodes;
#[path = "../pair/mod.rs"]
mod pair;
mod rig;
mod security;
mod sessions;
mod silence;
mod waiting;
