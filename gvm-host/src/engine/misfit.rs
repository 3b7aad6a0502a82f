//! Which import of a module does not fit what nodes offer.
//!
//! In: a linker, and a module that it cannot link. Out: `IMPORT_UNSATISFIED`, with the import's name and how its type
//! differs. wasmtime's errors have names and types only in their text, so each import is linked alone, with stubs
//! for all others. Must not know: what the imports do.

use std::fmt;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker as ComponentLinker};
use wasmtime::{Engine, ExternType, Linker, Module, UnknownImportError};

use crate::base::error::{Code, Error};
use crate::imports::WASI;
use crate::imports::state::State;

/// Explains why a core module does not link. Nodes offer functions only.
pub(super) fn of_core(linker: &Linker<State>, module: &Module, error: wasmtime::Error) -> Error {
    if let Some(unknown) = error.downcast_ref::<UnknownImportError>() {
        return missing(format_args!("`{}.{}`", unknown.module(), unknown.name())).with_source(error);
    }
    let imports: Vec<_> = module.imports().collect();
    let fits = |place: usize| {
        if !matches!(imports[place].ty(), ExternType::Func(_)) {
            return Err(wasmtime::Error::msg("it is not a function"));
        }
        let mut alone = linker.clone();
        alone.allow_shadowing(true);
        for (_, other) in imports.iter().enumerate().filter(|(other, _)| *other != place) {
            if let ExternType::Func(ty) = other.ty() {
                alone.func_new(other.module(), other.name(), ty, |_, _, _| Ok(()))?;
            }
        }
        alone.instantiate_pre(module).map(drop)
    };
    // The imports that are not functions first: there is no stub for them.
    let mut places: Vec<usize> = (0..imports.len()).collect();
    places.sort_by_key(|place| matches!(imports[*place].ty(), ExternType::Func(_)));
    let culprit = places.into_iter().find_map(|place| fits(place).err().map(|error| (place, error)));
    match culprit {
        Some((place, how)) => {
            let import = &imports[place];
            other_type(format_args!("`{}.{}`", import.module(), import.name()), &how)
        }
        None => other_type("something", &error),
    }
    .with_source(error)
}

/// Explains why a component does not link. Nodes offer functions in interfaces only.
pub(super) fn of_component(
    linker: &ComponentLinker<State>,
    engine: &Engine,
    component: &Component,
    error: wasmtime::Error,
) -> Error {
    let functions = functions(engine, component);
    let named = |(interface, function): &(String, String)| format!("`{function}` of `{interface}`");
    let missed = functions.iter().find(|(interface, function)| {
        // A linker refuses to define again what it has.
        let mut linker = linker.clone();
        stub(&mut linker, interface, function).is_ok()
    });
    if let Some(missed) = missed {
        return missing(named(missed)).with_source(error);
    }
    let fits = |place: usize| {
        let mut alone = linker.clone();
        alone.allow_shadowing(true);
        for (_, (interface, function)) in functions.iter().enumerate().filter(|(other, _)| *other != place) {
            stub(&mut alone, interface, function)?;
        }
        alone.instantiate_pre(component).map(drop)
    };
    // With all functions replaced, what is left is a resource, or something that is not in an interface.
    let culprit = match fits(functions.len()) {
        Ok(()) => (0..functions.len()).find_map(|place| fits(place).err().map(|how| (place, how))),
        Err(_) => None,
    };
    match culprit {
        Some((place, how)) => other_type(named(&functions[place]), &how),
        None => other_type("something", &error),
    }
    .with_source(error)
}

/// The functions that a component imports, each with its interface.
fn functions(engine: &Engine, component: &Component) -> Vec<(String, String)> {
    let mut functions = Vec::new();
    for (interface, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        for (function, item) in instance.exports(engine) {
            if matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                functions.push((interface.to_owned(), function.to_owned()));
            }
        }
    }
    functions
}

/// Defines a function that fits every type, under the version in which nodes offer the interface.
fn stub(linker: &mut ComponentLinker<State>, interface: &str, function: &str) -> wasmtime::Result<()> {
    let offered = match interface.split_once('@') {
        // Drafts have one version only.
        Some((name, version)) if name.starts_with("wasi:") && !version.contains('-') => {
            format!("{name}@{WASI}")
        }
        _ => interface.to_owned(),
    };
    linker.instance(&offered)?.func_new(function, |_, _, _, _| Ok(()))
}

fn missing(import: impl fmt::Display) -> Error {
    Error::new(Code::ImportUnsatisfied, format!("the module imports {import}, which no node offers"))
}

fn other_type(import: impl fmt::Display, how: &wasmtime::Error) -> Error {
    let how = how.root_cause();
    let message = format!("the module imports {import} with another type than nodes offer it: {how}");
    Error::new(Code::ImportUnsatisfied, message)
}
