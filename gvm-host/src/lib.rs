//! The Ghost Virtual Machine as a library; `ARCHITECTURE.md` draws the path of a call.

pub mod call;
pub mod engine;
pub mod durable;
pub mod error;
pub mod home;
pub mod id;
pub mod imports;
pub mod limits;
pub mod value;
pub mod wire;
