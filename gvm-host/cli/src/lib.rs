//! What `gvm` and `gpmd` share: the REPL, the doctor, the settings.
//!
//! In: lines, files of settings. Out: calls of the library, and what came of them, printed. Must not know: flags and
//! the environment (`bin/` hands them over), capnp, wasmtime.

pub mod doctor;
pub mod repl;
pub mod settings;
pub mod signal;
