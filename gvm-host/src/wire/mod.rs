//! What crosses a socket, and how.
//!
//! In: sockets, and our own types. Out: connections that speak Cap'n Proto, and our own types
//! again. Must not know: what a registry, a module store or a node does with them.
//!
//! - `transport`: listen and dial; a reader, a writer and who is at the other end. `unix`, `tcp`: the
//!   two kinds there are; `tls`: who may pass where the kernel cannot vouch for the other end.
//! - `writer`: one write for many small messages.
//! - `rpc`: one connection's life; limits; panics kept inside one method. `pulse`, `watch`: whether the
//!   other side still lives. `gate`: how much may be under way at once.
//! - `bulk`: a second connection that carries large values alone; `large`: such values taken apart and
//!   put together.
//! - `call`, `error`, `grant`, `hello`, `value`: our types to and from `schema/`.

pub mod bulk;
pub mod call;
pub mod error;
pub mod gate;
pub mod grant;
pub mod hello;
pub mod large;
pub mod pulse;
pub mod rpc;
mod tcp;
pub mod tls;
pub mod transport;
pub mod unix;
pub mod value;
pub mod watch;
pub mod writer;

pub use gvm_wire as schema;
