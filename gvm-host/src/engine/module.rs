//! A loaded module: its code, linked with what guests may import, and the functions that it exports.
//!
//! In: compiled code. Out: the function that a name means, with its signature; instances are created from it
//! (`instance.rs`). Every call that runs the module shares it. Only the record of how fast its functions ran
//! changes. Must not know: where the module came from, and the caller.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use wasmtime::component::{Component, ComponentExportIndex, Linker};
use wasmtime::{Engine, ExternType};

use super::config::Clocked;
use super::{misfit, types};
use crate::base::error::{Code as ErrorCode, Error, Result};
use crate::base::id::Hash;
use crate::base::limits;
use crate::base::value::FuncType;
use crate::imports::Linkers;
use crate::imports::state::State;
use crate::modules::lookup;

/// Compiled code of either kind.
pub(super) enum Code {
    Core(wasmtime::Module),
    Component(Component),
}

pub(super) enum Linked {
    Core(wasmtime::InstancePre<State>),
    Component(wasmtime::component::InstancePre<State>),
}

/// A module, ready to be instantiated.
pub struct Module {
    pub(super) linked: Linked,
    /// The engine that the code is for.
    pub(super) clocked: &'static Clocked,
    hash: Hash,
    functions: Vec<Function>,
    /// The functions that their name alone means, if they can be called.
    by_name: HashMap<String, usize, RandomState>,
    main: Option<Main>,
    /// The function that serves a request: `handle` of `wasi:http/incoming-handler`.
    handler: Option<ComponentExportIndex>,
}

/// One exported function.
pub struct Function {
    /// The exported interface that contains it, with its full name (`ns:pkg/iface@1.0.0`); none at the root.
    pub interface: Option<String>,
    pub name: String,
    pub ty: FuncType,
    pub(super) index: Option<ComponentExportIndex>,
    speed: Speed,
}

pub(super) enum Main {
    Start,
    Run(ComponentExportIndex),
}

type Parts = (Linked, Vec<Function>, Option<Main>, Option<ComponentExportIndex>);

/// Where a call starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Main,
    /// The index in [`Module::functions`].
    Function(usize),
}

impl Module {
    pub(super) fn link(
        clocked: &'static Clocked,
        linkers: &Linkers,
        hash: Hash,
        code: Code,
    ) -> Result<Module> {
        let (linked, functions, main, handler) = match code {
            Code::Core(module) => {
                let linker = linkers.core(&clocked.engine).map_err(unlinked)?;
                Module::link_core(linker, &module)?
            }
            Code::Component(component) => {
                let linker = linkers.component(&clocked.engine).map_err(unlinked)?;
                Module::link_component(&clocked.engine, linker, &component)?
            }
        };
        let by_name = lookup::by_name(&functions);
        Ok(Module { linked, clocked, hash, functions, by_name, main, handler })
    }

    fn link_core(linker: &wasmtime::Linker<State>, module: &wasmtime::Module) -> Result<Parts> {
        let mut functions = Vec::new();
        let mut main = None;
        for export in module.exports() {
            let ExternType::Func(ty) = export.ty() else { continue };
            match export.name() {
                "_start" => main = Some(Main::Start),
                "_initialize" => {}
                name => functions.push(Function::new(None, name, types::core_func(&ty), None)),
            }
        }
        let linked = linker.instantiate_pre(module);
        let linked = linked.map_err(|error| misfit::of_core(linker, module, error))?;
        Ok((Linked::Core(linked), functions, main, None))
    }

    fn link_component(engine: &Engine, linker: &Linker<State>, component: &Component) -> Result<Parts> {
        use wasmtime::component::types::ComponentItem;
        let mut functions = Vec::new();
        let (mut main, mut handler) = (None, None);
        for (name, item) in component.component_type().exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(ty) => {
                    let index = component.get_export_index(None, name);
                    functions.push(Function::new(None, name, types::component_func(&ty), index));
                }
                ComponentItem::ComponentInstance(instance) => {
                    let parent = component.get_export_index(None, name);
                    for (function, item) in instance.exports(engine) {
                        let ComponentItem::ComponentFunc(ty) = item.ty else { continue };
                        let index = component.get_export_index(parent.as_ref(), function);
                        if function == "run" && is_run(name) {
                            main = index.map(Main::Run);
                        }
                        if function == "handle" && is_handler(name) {
                            handler = index;
                        }
                        functions.push(Function::new(
                            Some(name),
                            function,
                            types::component_func(&ty),
                            index,
                        ));
                    }
                }
                _ => {}
            }
        }
        let linked = linker.instantiate_pre(component);
        let linked = linked.map_err(|error| misfit::of_component(linker, engine, component, error))?;
        Ok((Linked::Component(linked), functions, main, handler))
    }

    /// Returns the SHA-256 of the module's bytes.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Whether the module is a component.
    pub fn is_component(&self) -> bool {
        matches!(self.linked, Linked::Component(_))
    }

    /// Returns the exported functions.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// Returns the function of an entry; none for main.
    pub fn function(&self, entry: Entry) -> Option<&Function> {
        match entry {
            Entry::Main => None,
            Entry::Function(place) => self.functions.get(place),
        }
    }

    /// Whether the module has a main, so that it can run as a program.
    pub fn has_main(&self) -> bool {
        self.main.is_some()
    }

    /// Whether the module serves HTTP: it exports `wasi:http/incoming-handler`.
    pub fn serves_http(&self) -> bool {
        self.handler.is_some()
    }

    pub(super) fn handler(&self) -> Option<ComponentExportIndex> {
        self.handler
    }

    pub(super) fn main(&self) -> Option<&Main> {
        self.main.as_ref()
    }

    /// Finds the entry that a name means; no name means main. `noun` is the module's name in error messages.
    ///
    /// # Errors
    /// `FUNCTION_NOT_FOUND` with similar names and their signatures; `FUNCTION_AMBIGUOUS` with the qualified names;
    /// `UNSUPPORTED_TYPE` if the function has a type that cannot be passed.
    pub fn find(&self, noun: &str, interface: Option<&str>, function: Option<&str>) -> Result<Entry> {
        let Some(function) = function else {
            return match self.main {
                Some(_) => Ok(Entry::Main),
                None => Err(self.no_main(noun)),
            };
        };
        match self.by_name.get(function) {
            Some(place) if interface.is_none() => Ok(Entry::Function(*place)),
            _ => lookup::find_callable(&self.functions, noun, interface, function).map(Entry::Function),
        }
    }

    fn no_main(&self, noun: &str) -> Error {
        let mut error =
            Error::new(ErrorCode::FunctionNotFound, format!("`{noun}` has no main function; it exports:"));
        if self.functions.is_empty() {
            error = error.with_context("  nothing that can be called");
        }
        for function in self.functions.iter().take(lookup::SHOWN) {
            error = error.with_context(format!("  {}", function.signature()));
        }
        error
    }
}

fn unlinked(error: wasmtime::Error) -> Error {
    Error::internal(format!("cannot link WASI: {error:#}"))
}

impl Function {
    fn new(
        interface: Option<&str>,
        name: &str,
        ty: FuncType,
        index: Option<ComponentExportIndex>,
    ) -> Function {
        Function {
            interface: interface.map(str::to_owned),
            name: name.to_owned(),
            ty,
            index,
            speed: Speed::default(),
        }
    }

    /// Whether this is a name of the function's interface: its full name, the name without version, or its last part.
    pub fn is_of(&self, interface: &str) -> bool {
        lookup::is_interface(self.interface.as_deref(), interface)
    }

    /// Returns the function in WIT syntax, with its interface in front.
    pub fn signature(&self) -> String {
        lookup::Named::signature(self)
    }

    /// Whether its recent runs took less time than a switch to another thread.
    pub fn is_fast(&self) -> bool {
        self.speed.is_fast()
    }

    /// Whether the next run is to be measured. Reading the clock takes a tenth of the time of a small call, so only some
    /// runs of a fast function are.
    pub fn is_measured(&self) -> bool {
        !self.is_fast() || is_due()
    }

    /// Records how long a run took, including instantiation.
    pub fn ran(&self, took: Duration) {
        self.speed.ran(took);
    }
}

impl lookup::Named for Function {
    fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn ty(&self) -> &FuncType {
        &self.ty
    }
}

/// A moving average of run times, in nanoseconds; 0 before the first run. It falls faster than it rises, because the first
/// runs of a function, and runs on a busy machine, take longer than usual.
#[derive(Default)]
struct Speed(AtomicU64);

impl Speed {
    fn is_fast(&self) -> bool {
        let average = self.0.load(Ordering::Relaxed);
        average > 0 && average < limits::INLINE_BELOW.as_nanos() as u64
    }

    fn ran(&self, took: Duration) {
        let took = took.as_nanos().min(u128::from(u32::MAX)) as u64;
        let before = self.0.load(Ordering::Relaxed);
        let after = match before {
            0 => took,
            _ if took < before => (before + took) / 2,
            _ => (before * 7 + took) / 8,
        };
        // Small changes are not stored, so that processors do not wait for each other's.
        if after.abs_diff(before) > before / 32 {
            self.0.store(after.max(1), Ordering::Relaxed);
        }
    }
}

/// How many runs of fast functions pass on a thread between two that are measured.
const UNMEASURED: u32 = 7;

fn is_due() -> bool {
    thread_local! {
        static SINCE: Cell<u32> = const { Cell::new(0) };
    }
    let since = SINCE.get();
    SINCE.set(if since == UNMEASURED { 0 } else { since + 1 });
    since == UNMEASURED
}

fn is_handler(interface: &str) -> bool {
    interface == "wasi:http/incoming-handler" || interface.starts_with("wasi:http/incoming-handler@0.2.")
}

fn is_run(interface: &str) -> bool {
    interface == "wasi:cli/run" || interface.starts_with("wasi:cli/run@0.2.")
}
