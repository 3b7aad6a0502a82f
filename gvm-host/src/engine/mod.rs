//! The engine: in, compiled code and values; out, values and errors. Must not know: nodes, sockets.

pub mod canonical;
pub mod types;
