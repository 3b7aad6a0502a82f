//! Tests of networks of devices: several homes on one host, with real processes and real sockets.
//!
//! In: the program `gpmd`. Out: what its commands print, and what nodes discover. Must not know: the internals of the
//! daemon. The intruder speaks the protocol itself (`intruder`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bed;
mod gossip;
mod guests;
mod intruder;
mod invitations;
mod names;
mod presence;
mod roster;
