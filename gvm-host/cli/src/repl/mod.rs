//! The REPL, scripts and `gvm eval`: from what the user types to what the user sees.
//!
//! In: lines. Out: statements that the handle of a node runs, and their results on the screen. Must not know:
//! flags and environment variables (`bin/` reads them), capnp, wasmtime.

mod above;
pub mod assist;
pub mod describe;
pub mod eval;
pub mod events;
pub mod help;
mod keys;
pub mod lines;
pub mod listing;
pub mod point;
pub mod progress;
pub mod render;
pub mod shorten;
pub mod stdio;
pub mod terminal;
