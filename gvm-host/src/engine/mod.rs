//! The engine; `inspect` looks into modules without running them.

pub mod inspect;
mod signature;
