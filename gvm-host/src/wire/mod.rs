//! What crosses a socket, and how.
//!
//! In: sockets, and our own types. Out: connections that speak Cap'n Proto, and our own types
//! again. Must not know: what a registry, a module store or a node does with them.
//!
//! - `transport`: listen and dial; a reader, a writer and who is at the other end.
//! - `writer`: one write for many small messages.
//! - `rpc`: one connection's life; limits; panics kept inside one method.
//! - `error`, `hello`: our types to and from `schema/`.

pub mod error;
pub mod hello;
pub mod rpc;
pub mod transport;
pub mod writer;

pub use gvm_wire as schema;
