//! Cap'n Proto code generated from `schema/`; see `bindings/codegen`. Nothing here is written by hand
//! but this list.

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
