//! The Ghost Virtual Machine as a library; `ARCHITECTURE.md` draws the path of a call.

pub mod engine;
pub mod error;
pub mod json;
pub mod value;
pub mod wave;
