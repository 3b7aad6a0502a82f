//! How a node, or a command, speaks with the home's gpmd.
//!
//! In: a home; what is asked of gpmd. Out: its answers; word of changes. Must not know: how gpmd does any of
//! it (`daemon/`), what a node does.
//!
//! - `link`, `witness`: a node's side. `control`: a command's side. `route`: the way to gpmd. `record`: what
//!   a running gpmd says of itself.

pub mod control;
pub mod entry;
pub mod link;
pub mod record;
pub mod route;
pub mod witness;
