//! `gvm inspect`: what a module is, without running it.

use std::path::Path;

use gvm_host::call::ModuleRef;
use gvm_host::error::Result;
use gvm_host::gpmd::store;
use gvm_host::repl::describe::Description;
use gvm_host::repl::parse;
use gvm_host::repl::render::Screen;

use super::options::{Options, usage};
use super::run::{is_path, read_module};

/// Shows the module: its WIT where it is a component, its signatures, imports, size and hash, and what it
/// may need to be granted.
pub fn inspect(options: &Options, screen: &mut Screen, target: &str) -> Result<i32> {
    let bytes = match is_path(Path::new(target)) {
        true => read_module(Path::new(target))?,
        false => stored(options, target)?,
    };
    let found = Description::of(&bytes)?;
    screen.line(&if options.json { found.json().to_string() } else { found.text() });
    Ok(0)
}

fn stored(options: &Options, target: &str) -> Result<std::sync::Arc<[u8]>> {
    let expr = parse::target(target).map_err(|error| error.with_exit(2))?;
    let (ModuleRef::Stored { name, version }, None) = (expr.target.module, expr.args) else {
        return Err(usage("inspect takes a module, not a call"));
    };
    let home = options.home()?;
    let index = store::read_index(&home)?;
    let hash = index.resolve(name.as_str(), version.as_ref())?.entry.sha256;
    store::read_module(&home, hash).map(Into::into)
}
