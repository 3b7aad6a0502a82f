//! The Ghost Virtual Machine as a library; `ARCHITECTURE.md` draws the path of a call.

pub mod error;
pub mod id;
pub mod value;
