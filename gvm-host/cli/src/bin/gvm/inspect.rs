//! `gvm inspect`: what a module is, without running it.

use std::path::Path;

use gvm_cli::repl::describe::Description;
use gvm_cli::repl::render::Screen;
use gvm_host::ModuleRef;
use gvm_host::Name;
use gvm_host::store;
use gvm_host::{Code, Error, Result};

use super::options::{Options, usage};
use super::run::{self, is_path, read_module};

/// Shows the module: its WIT where it is a component, its signatures, imports, size and hash, and what it
/// may need to be granted.
pub fn inspect(options: &Options, screen: &mut Screen, target: &str) -> Result<i32> {
    let bytes = match is_path(Path::new(target)) {
        true => read_module(Path::new(target))?,
        false => stored(options, target)?,
    };
    let found = Description::of(&bytes)?;
    match options.json {
        true => screen.json(&found.json()),
        false => screen.quoted(&found.text()),
    }
    Ok(0)
}

fn stored(options: &Options, target: &str) -> Result<std::sync::Arc<[u8]>> {
    // `math.add` and `math.add(1, 2)` are of a module, too.
    let whole = |module: &str| {
        usage(format!("inspect takes a module, not a function or a call: gvm inspect {module}"))
    };
    let expr = run::stored(target).map_err(|error| match target.split_once('.') {
        Some((module, _)) if error.code() == Code::Syntax && module.parse::<Name>().is_ok() => whole(module),
        _ => error,
    })?;
    let ModuleRef::Stored { name, version } = expr.target.module else {
        return Err(usage("expected a module"));
    };
    if expr.args.is_some() {
        return Err(whole(name.as_str()));
    }
    let home = options.home()?;
    let index = store::read_index(&home)?;
    let found = index.resolve(name.as_str(), version.as_ref()).map_err(|error| {
        match Path::new(target).is_file() {
            true => Error::new(
                error.code(),
                format!("{}; for the file of that name: ./{target}", error.message()),
            ),
            false => error,
        }
    })?;
    store::read_module(&home, found.entry.sha256).map(Into::into)
}
