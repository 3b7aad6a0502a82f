//! The product met from outside: real `gpmd` and `gvm` processes, private homes, real terminals.
//!
//! In: the two programs and the guests of `tests/guests`. Out: whether they do what the README and the
//! specification say. It must not know: how the library works inside; it uses none of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what it measured"
)]

mod agree;
mod bed;
mod calls;
mod cancel;
mod deep;
mod dice;
mod docs;
mod doctor;
mod doctor_home;
mod errors;
mod exits;
mod grants;
mod guests;
mod hostile;
mod hostile_names;
mod limits;
mod live;
mod lost;
mod messenger;
mod new;
mod nodes;
mod partition;
mod process;
mod repl;
mod run;
mod sessions;
mod settings;
mod signals;
mod strangers;
mod survival;
mod taken;
mod terminal;
mod transcripts;
mod typing;
mod values;
