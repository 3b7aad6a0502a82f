//! Finds out whether the engine accepts a valid module, and what an instance of it needs, without compiling it.
//!
//! In: the bytes of a valid module. Out: the resources that an instance needs, or why the engine refuses the
//! module. It runs the first step of wasmtime's own compiler, the crate `wasmtime-environ`. Must not know: what
//! the module imports, and which limits apply.

use wasmtime_environ::component::{
    Component, ComponentTypesBuilder, Export, ExportIndex, GlobalInitializer, InstantiateModule, Translator,
    VMComponentOffsets,
};
use wasmtime_environ::wasmparser::{Parser, Validator};
use wasmtime_environ::{
    HostPtr, Module, ModuleEnvironment, ModuleTypesBuilder, ScopeVec, StaticModuleIndex, Tunables, VMOffsets,
};

use super::Model;
use super::features;
use super::inspect::Kind;

/// What an instance of a module needs before any of its code runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Core instances; those of a component include the adapters between its parts.
    pub instances: usize,
    pub memories: usize,
    pub tables: usize,
    /// Bytes of the largest memory.
    pub largest_memory: u64,
    /// Elements of the largest table.
    pub largest_table: u64,
    /// Bytes of the engine's own data about all instances, the component included.
    pub bookkeeping: u64,
}

/// The exported functions of a component that are lifted with the option `async`, as `interface#function`, or `#function`
/// at the root: their results have another form in wasm. Sorted.
pub(crate) type LiftedAsync = Vec<String>;

impl Needs {
    fn of_module(module: &Module) -> Needs {
        let mut needs = Needs::default();
        needs.add(module);
        needs
    }

    /// What a component needs. The modules that it imports are unknown; no node offers any.
    fn of_component<'a>(component: &Component, module: impl Fn(StaticModuleIndex) -> &'a Module) -> Needs {
        let size = VMComponentOffsets::new(HostPtr, component).size_of_vmctx();
        let mut needs = Needs { bookkeeping: u64::from(size), ..Needs::default() };
        for initializer in &component.initializers {
            if let GlobalInitializer::InstantiateModule(InstantiateModule::Static(index, _), _) = initializer
            {
                needs.add(module(*index));
            }
        }
        needs
    }

    fn add(&mut self, module: &Module) {
        self.instances += 1;
        self.memories += module.num_defined_memories();
        self.tables += module.num_defined_tables();
        self.bookkeeping += u64::from(VMOffsets::new(HostPtr, module).size_of_vmctx());
        let memories = module.memories.values().skip(module.num_imported_memories);
        let largest = memories.map(|memory| memory.minimum_byte_size().unwrap_or(u64::MAX)).max();
        self.largest_memory = self.largest_memory.max(largest.unwrap_or_default());
        let tables = module.tables.values().skip(module.num_imported_tables);
        let largest = tables.map(|table| table.limits.min).max();
        self.largest_table = self.largest_table.max(largest.unwrap_or_default());
    }
}

/// Returns what an instance of the module needs, and its exports that are lifted async.
///
/// # Errors
/// A sentence that says why the engine refuses the module.
pub(super) fn needs(binary: &[u8], kind: Kind, model: Model) -> Result<(Needs, LiftedAsync), String> {
    let mut tunables = Tunables::default_host();
    // As in `engine/config.rs`.
    tunables.concurrency_support = model == Model::Async;
    let mut validator = Validator::new_with_features(match model {
        Model::Sync => features::of_sync(),
        Model::Async => features::ours(),
    });
    let mut lifted = LiftedAsync::new();
    let checked = match kind {
        Kind::Core => {
            let mut types = ModuleTypesBuilder::new(&validator);
            let first = StaticModuleIndex::from_u32(0);
            ModuleEnvironment::new(&tunables, &mut validator, &mut types, first)
                .translate(Parser::new(0), binary)
                .map(|translated| (Needs::of_module(&translated.module), shares(&translated.module)))
        }
        Kind::Component => {
            let scope = ScopeVec::new();
            let mut types = ComponentTypesBuilder::new(&validator);
            Translator::new(&tunables, &mut validator, &mut types, &scope).translate(binary).map(
                |(translated, modules)| {
                    let component = &translated.component;
                    let needs = Needs::of_component(component, |index| &modules[index].module);
                    lifted = lifted_async(component);
                    (needs, modules.values().any(|translated| shares(&translated.module)))
                },
            )
        }
    };
    match checked {
        Ok((needs, false)) => Ok((needs, lifted)),
        // The validator permits shared memories, and the engine refuses them only when it creates one.
        Ok((_, true)) => Err("it needs threads, which GVM does not run (its memory is shared)".to_owned()),
        Err(error) => Err(format!("the engine refuses it: {error:#}")),
    }
}

fn lifted_async(component: &Component) -> LiftedAsync {
    let is_async = |export: &ExportIndex| match &component.export_items[*export] {
        Export::LiftedFunction { options, .. } => component.options[*options].async_,
        _ => false,
    };
    let mut lifted = LiftedAsync::new();
    for (name, (export, _)) in component.exports.raw_iter() {
        match &component.export_items[*export] {
            Export::Instance { exports, .. } => {
                let functions = exports.raw_iter().filter(|(_, (export, _))| is_async(export));
                lifted.extend(functions.map(|(function, _)| format!("{name}#{function}")));
            }
            _ if is_async(export) => lifted.push(format!("#{name}")),
            _ => {}
        }
    }
    lifted.sort();
    lifted
}

fn shares(module: &Module) -> bool {
    module.memories.values().any(|memory| memory.shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_module_needs_what_it_defines() {
        let text = r#"(module
            (import "a" "b" (memory 9)) (import "a" "c" (table 9 funcref))
            (memory 2) (memory 1) (table 7 funcref) (table 3 funcref))"#;
        let (needs, _) = needs(&wat::parse_str(text).unwrap(), Kind::Core, Model::Sync).unwrap();
        assert_eq!((needs.instances, needs.memories, needs.tables), (1, 2, 2));
        assert_eq!((needs.largest_memory, needs.largest_table), (2 << 16, 7));
        assert!(needs.bookkeeping > 0);
    }

    #[test]
    fn a_component_needs_what_its_instances_define() {
        let text = r#"(component
            (core module $a (memory 1) (table 5 funcref))
            (core module $unused (memory 4))
            (core instance (instantiate $a)) (core instance (instantiate $a))
            (component $c (core module $b (memory 3)) (core instance (instantiate $b)))
            (instance (instantiate $c)))"#;
        let (needs, _) = needs(&wat::parse_str(text).unwrap(), Kind::Component, Model::Sync).unwrap();
        assert_eq!((needs.instances, needs.memories, needs.tables), (3, 3, 2));
        assert_eq!((needs.largest_memory, needs.largest_table), (3 << 16, 5));
    }
}
