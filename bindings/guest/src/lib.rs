//! The Rust SDK for GVM modules: write a module in ten lines, and call other nodes from it.
//!
//! In: the WIT and the functions of a module. Out: a component for `gpmd wasm upload`, built with
//! `cargo build --target wasm32-wasip2`. Must not know: the host, except `wit/node.wit`.
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
//! The text in quotes is WIT. If your WIT is a folder of files, use [`wit_bindgen::generate!`] with its path
//! instead. With both, [`run`], [`spread`] and the other functions work on a node that was started with
//! `--grant nodes`.

mod imports {
    wit_bindgen::generate!({ path: "../../wit", world: "module", pub_export_macro: true });
}

pub use wit_bindgen;

/// The generated interface, as in `wit/node.wit`.
pub use imports::gvm::node::nodes;
pub use imports::gvm::node::nodes::{Effect, Error, connect, disconnect, discover, list};

/// Returns the name of the node that runs this module.
pub fn here() -> String {
    nodes::self_()
}

/// Runs `module` or `module.function(arguments)` on a connected node, or on this one ([`here`]). Arguments and
/// result are WAVE. Returns `None` if the function has no result.
///
/// # Errors
/// The coded error of the call: `NODE_NOT_CONNECTED`, `TRAP`, …
pub fn run(node: &str, call: &str) -> Result<Option<String>, Error> {
    nodes::run(node, call)
}

/// Runs calls one after the other, each on the next node: first this one, then the connected nodes, then again
/// from the beginning. Returns their results in the order of the calls.
///
/// # Errors
/// The first error of a call. The calls after it do not run.
pub fn spread<'a>(calls: impl IntoIterator<Item = &'a str>) -> Result<Vec<Option<String>>, Error> {
    let nodes: Vec<String> = std::iter::once(here()).chain(list()).collect();
    calls.into_iter().zip(nodes.iter().cycle()).map(|(call, node)| run(node, call)).collect()
}

/// Generates a module from its WIT, which is a package with one world: the trait `Guest` to implement, the
/// types of the world, and the macro `export!` for the type that implements the trait.
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
        #[allow(unused_imports, reason = "a module need not name all its types")]
        use bindings::*;
    };
}
