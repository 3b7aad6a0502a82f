//! Cap'n Proto code generated from `schema/`; see `bindings/codegen`. Nothing here is written by hand
//! but this list.

#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    rust_2018_idioms,
    unused,
    rustdoc::all,
    reason = "generated code follows its generator's taste"
)]

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
