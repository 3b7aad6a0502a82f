//! `gvm inspect`: shows what a module is, without running it.
//!
//! In: a path, or the name of a stored module. Out: a description as text or JSON. Must not know: how modules
//! are parsed.

use std::path::Path;

use gvm_cli::repl::describe::Description;
use gvm_cli::repl::render::Screen;
use gvm_host::{Code, ModuleFile, ModuleRef, Name, Result, store};

use super::options::{Options, usage};
use super::run::{self, is_path};

/// Shows the module: its signatures, imports, size, hash and WIT, and the grants that it may need.
pub fn inspect(options: &Options, screen: &mut Screen, target: &str) -> Result<i32> {
    let bytes = match is_path(Path::new(target)) {
        true => ModuleFile::open(Path::new(target))?.read()?,
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
    // The user may have typed `math.add` or `math.add(1, 2)`.
    let whole = |module: &str| {
        usage(format!("expected a module, found `{target}`")).with_help(format!("run `gvm inspect {module}`"))
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
            true => error.with_help(format!("to inspect the file of this name, use `./{target}`")),
            false => error,
        }
    })?;
    store::read_module(&home, found.entry.sha256).map(Into::into)
}
