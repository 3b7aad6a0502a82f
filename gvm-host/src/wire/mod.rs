//! What crosses a socket, and how.
//!
//! In: sockets, and the types of `base` and `call`. Out: connections that speak Cap'n Proto, and the same
//! types decoded again. Must not know: the registry, the module store, the engine, how a node runs.
//!
//! - `transport`: listens and dials; yields a reader, a writer and the identity of the other end. `unix`,
//!   `tcp` and `tunnel` are the kinds; `tls` authenticates the other end where the kernel cannot. `race`: the best of several
//!   addresses. `handover`: connections that gpmd has accepted for a node; `connector`: those that it has made for one.
//! - `writer`: joins many small messages into one write. `backlog`: bounds the answers that nobody reads.
//! - `rpc`: the life of one connection; message limits; panics contained in one method. `pulse`, `watch`:
//!   whether the other side is alive. `gate`: how much may run at once.
//! - `channel`: a connection of a session that carries only calls and outcomes.
//! - `bulk`: a second connection that carries only large values; `large`: splits and rebuilds such values.
//! - `call`, `error`, `grant`, `hello`, `value`: convert our types to and from `schema/`.

mod arriving;
pub mod backlog;
pub mod bulk;
pub mod call;
pub mod channel;
pub mod connector;
pub mod error;
pub mod gate;
pub mod grant;
pub mod handover;
pub mod hello;
pub mod large;
pub mod pulse;
pub mod race;
pub mod rpc;
mod socket;
mod tcp;
pub mod tls;
pub mod transport;
pub mod tunnel;
pub mod unix;
pub mod value;
pub mod watch;
pub mod writer;

pub use gvm_wire as schema;
