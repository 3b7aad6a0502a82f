//! What every other folder may use, and what uses none of them.
//!
//! In and out: plain values. Must not know: calls, modules, sockets, wasm, the terminal.

pub mod code;
pub mod contain;
pub mod durable;
pub mod error;
pub mod event;
pub mod home;
pub mod id;
pub mod inert;
pub mod json;
pub mod key;
pub mod limits;
pub mod near;
pub mod process;
pub mod quote;
pub mod sanitize;
pub mod threads;
pub mod value;
pub mod wave;
