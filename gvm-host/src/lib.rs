//! The Ghost Virtual Machine as a library; `ARCHITECTURE.md` draws the path of a call.

pub mod durable;
pub mod engine;
pub mod error;
pub mod gpmd;
pub mod home;
pub mod id;
pub mod near;
pub mod value;
pub mod wire;
