//! Modules as files: what they contain, export and import, and where a home stores them.
//!
//! In: bytes, names, versions. Out: what a module contains, the index, the bytes of stored modules, checked.
//! Must not know: calls, how a module is run, connections.
//!
//! - `inspect`: what a module contains, with `signature`, `names` and `lookup`. `translate`, `features`,
//!   `nesting` and `sizes` find whether the engine can run it. `offered` has the imports that every node offers.
//! - `file`: modules in files outside the home.
//! - `index`: the names and versions; pure; `index_file` is its form on disk; `history`: what has changed in it.
//!   `store`: the index and the modules on disk.

mod features;
pub mod file;
pub mod history;
pub mod index;
mod index_file;
pub mod inspect;
pub(crate) mod lookup;
pub mod names;
mod nesting;
pub mod offered;
pub(crate) mod signature;
mod sizes;
pub mod store;
pub(crate) mod translate;

/// How an engine runs the functions of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Model {
    /// One function at a time, which is fast: core modules, and components without anything of the following.
    Sync,
    /// Functions that run at the same time as tasks: for components with async functions, streams or futures, and for those
    /// that import WASI 0.3. A call takes more than twice the time.
    Async,
}

/// Returns whether the bytes are a component, by the layer field of the preamble.
pub fn is_component(bytes: &[u8]) -> bool {
    bytes.get(..8).is_some_and(|head| head.starts_with(b"\0asm") && head[6] == 1)
}
