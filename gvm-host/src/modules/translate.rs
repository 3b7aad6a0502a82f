//! Finds whether the engine accepts a valid module, without compiling it: it runs the first step of the compiler.
//!
//! In: the bytes of a valid module. Out: nothing, or why the engine refuses it. Must not know: which imports
//! nodes offer. `wasmtime-environ` is the part of wasmtime that contains this first step.

use wasmtime_environ::component::{ComponentTypesBuilder, Translator};
use wasmtime_environ::wasmparser::{Parser, Validator};
use wasmtime_environ::{
    Module, ModuleEnvironment, ModuleTypesBuilder, ScopeVec, StaticModuleIndex, Tunables,
};

use super::features;
use super::inspect::Kind;

/// Returns why the engine refuses the module, as a clause about "it"; `None` if the engine accepts it.
pub(super) fn refused(binary: &[u8], kind: Kind) -> Option<String> {
    let tunables = Tunables::default_host();
    let mut validator = Validator::new_with_features(features::ours());
    let checked = match kind {
        Kind::Core => {
            let mut types = ModuleTypesBuilder::new(&validator);
            let first = StaticModuleIndex::from_u32(0);
            ModuleEnvironment::new(&tunables, &mut validator, &mut types, first)
                .translate(Parser::new(0), binary)
                .map(|translated| shares(&translated.module))
        }
        Kind::Component => {
            let scope = ScopeVec::new();
            let mut types = ComponentTypesBuilder::new(&validator);
            Translator::new(&tunables, &mut validator, &mut types, &scope)
                .translate(binary)
                .map(|(_, modules)| modules.iter().any(|(_, translated)| shares(&translated.module)))
        }
    };
    match checked {
        Ok(false) => None,
        // The validator permits shared memories, and the engine refuses them only when it creates one.
        Ok(true) => Some("it needs threads, which GVM does not run (its memory is shared)".to_owned()),
        Err(error) => Some(format!("the engine refuses it: {error:#}")),
    }
}

fn shares(module: &Module) -> bool {
    module.memories.values().any(|memory| memory.shared)
}
