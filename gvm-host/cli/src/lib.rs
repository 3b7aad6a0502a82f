//! The parts that `gvm` and `gpmd` share: the REPL, the doctor, the settings.
//!
//! In: lines, settings files. Out: calls of the library, and their results on the screen. Must not know:
//! command line flags and environment variables (`bin/` reads them), capnp, wasmtime.

pub mod doctor;
pub mod repl;
pub mod settings;
pub mod signal;
