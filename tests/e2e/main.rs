//! Tests of the product from outside, with real `gpmd` and `gvm` processes, private homes and real terminals.
//!
//! In: the two programs and the guests of `tests/guests`. Out: whether they do what the README and the
//! specification say. Must not know: the library; these tests do not use it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints its measurements"
)]

mod advisories;
mod agree;
mod bed;
mod calls;
mod cancel;
mod clock;
mod corpus;
mod deep;
mod dice;
mod docs;
mod doctor;
mod doctor_home;
mod errors;
mod exits;
mod faults;
mod grants;
mod guests;
mod hostile;
mod hostile_names;
mod hosts;
mod http;
mod keyvalue;
mod limits;
mod live;
mod lost;
mod messenger;
mod new;
mod nodes;
mod outgoing;
mod partition;
mod process;
#[path = "../fuzz/driver/random.rs"]
mod random;
mod repl;
mod run;
mod sessions;
mod settings;
mod signals;
mod strangers;
mod survival;
mod taken;
mod takeover;
mod terminal;
mod transcripts;
mod typing;
mod values;
