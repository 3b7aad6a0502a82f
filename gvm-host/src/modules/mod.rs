//! Modules as files: what they are, what they export and import, and where a home keeps them.
//!
//! In: bytes, names, versions. Out: what an inspection finds, the index, the bytes again, checked. Must not
//! know: how a module is run, who asks for it.
//!
//! - `inspect`: what a module is, with `signature`, `names`, `lookup`; `translate`, `features` and `nesting`
//!   say whether the engine takes it; `offered` says which imports every node offers.
//! - `index`: pure. `store`: the index and the modules on disk.

mod features;
pub mod index;
pub mod inspect;
pub(crate) mod lookup;
pub mod names;
mod nesting;
pub mod offered;
mod signature;
pub mod store;
pub(crate) mod translate;

/// Whether the bytes are those of a component: the layer field of the preamble says so.
pub fn is_component(bytes: &[u8]) -> bool {
    bytes.get(..8).is_some_and(|head| head.starts_with(b"\0asm") && head[6] == 1)
}
