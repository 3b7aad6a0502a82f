//! Modules for GVM in Rust: a module in ten lines, and the network of nodes from inside one.
//!
//! In: the functions that an author writes. Out: a component that `gpmd wasm upload` takes, built with
//! `cargo build --target wasm32-wasip2`. Must not know: anything of the host but `wit/node.wit`.
//!
//! ```ignore
//! gvm_guest::module!("package me:math; world math { export add: func(a: s32, b: s32) -> s32; }");
//!
//! struct Math;
//!
//! impl Guest for Math {
//!     fn add(a: i32, b: i32) -> i32 {
//!         a + b
//!     }
//! }
//!
//! export!(Math with_types_in bindings);
//! ```
//!
//! What stands between the quotes is WIT. A module whose WIT is a folder of files uses
//! [`wit_bindgen::generate!`] with its path instead. [`run`], [`spread`] and the rest work beside either,
//! wherever the node was started with `--grant nodes`.

mod imports {
    wit_bindgen::generate!({ path: "../../wit", world: "module", pub_export_macro: true });
}

pub use wit_bindgen;

/// The interface as WIT has it.
pub use imports::gvm::node::nodes;
pub use imports::gvm::node::nodes::{Effect, Error, connect, disconnect, discover, list};

/// The name of the node that runs this module.
pub fn here() -> String {
    nodes::self_()
}

/// Runs `module` or `module.function(arguments)` on a node: a connected one, or [`here`]. Arguments and
/// result are WAVE; a function without result gives none.
///
/// # Errors
/// The coded error that the call ended in, as on screen: `NODE_NOT_CONNECTED`, `TRAP`, …
pub fn run(node: &str, call: &str) -> Result<Option<String>, Error> {
    nodes::run(node, call)
}

/// Runs calls on the connected nodes and on this one, one call a node in turn, and gives their results in
/// the order of the calls.
///
/// # Errors
/// The first that a call ended in; calls after it are not made.
pub fn spread<'a>(calls: impl IntoIterator<Item = &'a str>) -> Result<Vec<Option<String>>, Error> {
    let nodes: Vec<String> = std::iter::once(here()).chain(list()).collect();
    calls.into_iter().zip(nodes.iter().cycle()).map(|(call, node)| run(node, call)).collect()
}

/// Makes a module from its WIT, which holds a package with one world: gives the trait `Guest` to be
/// implemented, the world's types, and the macro `export!` for the type that implements it.
#[macro_export]
macro_rules! module {
    ($wit:literal) => {
        mod bindings {
            $crate::wit_bindgen::generate!({
                inline: $wit,
                runtime_path: "gvm_guest::wit_bindgen::rt",
                pub_export_macro: true,
            });
        }
        #[allow(unused_imports, reason = "a module needs not name all its types")]
        use bindings::*;
    };
}
