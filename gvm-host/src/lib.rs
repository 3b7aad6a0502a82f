//! The Ghost Virtual Machine as a library; `ARCHITECTURE.md` draws the path of a call.

pub mod call;
pub mod doctor;
pub mod durable;
pub mod engine;
pub mod error;
pub mod gpmd;
pub mod home;
pub mod id;
pub mod imports;
pub mod json;
pub mod key;
pub mod limits;
pub mod near;
pub mod node;
pub mod peer;
pub mod process;
pub mod quote;
pub mod repl;
pub mod settings;
pub mod signal;
pub mod value;
pub mod wave;
pub mod wire;
