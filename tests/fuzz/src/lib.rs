//! What is fuzzed: each target takes any bytes and must neither panic, nor take long, nor take much memory.
//!
//! In: bytes. Out: nothing, or a panic that says what is wrong. A target also checks that what was read reads the same after
//! it is written. Must not know: where the bytes come from. `driver` mutates the files in `corpus` with a stable compiler;
//! `fuzz_targets` gives the same targets to libFuzzer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a target fails by panicking; this is code for tests"
)]

mod canonical;
mod files;
mod modules;
mod seeds;
mod text;
mod wire;

pub use seeds::all as seeds;

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// All targets. The name is also that of the folder in `corpus` and of the file in `fuzz_targets`.
pub const TARGETS: [(&str, Target); 16] = [
    ("call", text::call),
    ("wave", text::wave),
    ("names", text::names),
    ("lines", text::lines),
    ("hello", wire::hello),
    ("wire_call", wire::call),
    ("outcome", wire::outcome),
    ("value", wire::value),
    ("shape", wire::shape),
    ("messages", wire::messages),
    ("channel", wire::channel),
    ("canonical", canonical::target),
    ("module", modules::target),
    ("index", files::index),
    ("roster", files::roster),
    ("certificate", files::certificate),
];

/// Runs the target with this name.
#[allow(dead_code, reason = "only libFuzzer uses it")]
pub fn run(name: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    found.unwrap().1(data);
}
