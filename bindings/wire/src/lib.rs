//! The Cap'n Proto code that `bindings/codegen` generates from `schema/`. Only this file is written by hand.

#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    rust_2018_idioms,
    unused,
    rustdoc::all,
    reason = "the generator does not follow these lints"
)]

#[rustfmt::skip]
pub mod device_capnp;
#[rustfmt::skip]
pub mod error_capnp;
#[rustfmt::skip]
pub mod gpmd_capnp;
#[rustfmt::skip]
pub mod hello_capnp;
#[rustfmt::skip]
pub mod node_capnp;
#[rustfmt::skip]
pub mod value_capnp;
