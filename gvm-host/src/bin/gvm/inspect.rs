//! `gvm inspect`: what a module is, without running it.

use std::path::Path;

use gvm_host::call::ModuleRef;
use gvm_host::engine::inspect::{self, Kind};
use gvm_host::error::Result;
use gvm_host::gpmd::store;
use gvm_host::id::Hash;
use gvm_host::repl::parse;
use gvm_host::repl::render::Screen;

use super::options::{Options, usage};
use super::run::{is_path, read_module};

/// Shows the module: its WIT where it is a component, its signatures, imports, size and hash.
pub fn inspect(options: &Options, screen: &mut Screen, target: &str) -> Result<i32> {
    let bytes = match is_path(Path::new(target)) {
        true => read_module(Path::new(target))?,
        false => stored(options, target)?,
    };
    let info = inspect::inspect(&bytes)?;
    let kind = match info.kind {
        Kind::Core => "core module",
        Kind::Component => "component",
    };
    let exports: Vec<String> = info
        .exports
        .iter()
        .map(|export| match &export.interface {
            Some(interface) => format!("{interface}.{}: {}", export.name, export.ty),
            None => format!("{}: {}", export.name, export.ty),
        })
        .collect();
    if options.json {
        let line = serde_json::json!({
            "kind": kind, "size": bytes.len(), "sha256": Hash::of(&bytes).to_string(), "main": info.main,
            "imports": info.imports, "exports": exports, "wit": info.wit,
        });
        screen.line(&line.to_string());
        return Ok(0);
    }
    let main = if info.main { ", can be run by itself" } else { "" };
    screen.line(&format!("{kind}{main}\nsize    {} bytes\nsha256  {}", bytes.len(), Hash::of(&bytes)));
    let mut list = |title: &str, lines: &[String]| {
        if !lines.is_empty() {
            screen.line(&format!("{title}\n  {}", lines.join("\n  ")));
        }
    };
    list("imports", &info.imports);
    list("exports", &exports);
    if let Some(wit) = &info.wit {
        list("wit", &wit.lines().map(str::to_owned).collect::<Vec<_>>());
    }
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
