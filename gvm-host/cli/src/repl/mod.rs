//! What a person types, and what they see: the REPL, scripts and `gvm eval`.
//!
//! In: lines. Out: statements that a node's handle carries out, and what came of them, printed. Must
//! not know: flags, the environment (`bin/` hands both over), capnp, wasmtime.

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
