//! The WebAssembly features that the engine runs, and the common names of those that it does not run.
//!
//! In: a test whether a module is valid with a set of features. Out: the features that it needs and the engine
//! does not run. Pure. Must not know: what a module imports or exports.

use wasmparser::WasmFeatures;

/// Returns the features of engines that run one function at a time: those that wasmtime 48 enables by default, without
/// async functions, streams and futures of components, and with maps and lists of a fixed length.
pub(super) fn of_sync() -> WasmFeatures {
    let mut features = WasmFeatures::WASM3 | WasmFeatures::COMPONENT_MODEL;
    features.set(WasmFeatures::GC_TYPES | WasmFeatures::EXCEPTIONS | WasmFeatures::THREADS, true);
    features.set(WasmFeatures::CM_MAP | WasmFeatures::CM_FIXED_LENGTH_LISTS, true);
    features.set(WasmFeatures::CM_ASYNC, false);
    features
}

/// Returns the features of engines that run async tasks, which are all features that GVM runs.
pub(super) fn ours() -> WasmFeatures {
    of_sync() | WasmFeatures::CM_ASYNC
}

/// The features that the engine does not run, with their common names.
const OFF: [(WasmFeatures, &str); 16] = [
    (WasmFeatures::CM_ASYNC_STACKFUL, "async functions of the component model that have no callback"),
    (WasmFeatures::CM_MORE_ASYNC_BUILTINS, "async built-ins of the component model beyond WASI 0.3"),
    (WasmFeatures::CM_THREADING, "threads of the component model"),
    (WasmFeatures::CM_ERROR_CONTEXT, "error contexts of the component model"),
    (WasmFeatures::CM_GC, "the garbage-collected ABI of the component model"),
    (WasmFeatures::CM64, "64-bit memories in the component model"),
    (WasmFeatures::CM_VALUES, "values as imports or exports"),
    (WasmFeatures::CM_NESTED_NAMES, "nested names of the component model"),
    (WasmFeatures::CM_IMPLEMENTS, "`implements` of the component model"),
    (WasmFeatures::SHARED_EVERYTHING_THREADS, "threads that share everything"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom page sizes"),
    (WasmFeatures::MEMORY_CONTROL, "memory control"),
    (WasmFeatures::STACK_SWITCHING, "stack switching"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide arithmetic"),
    (WasmFeatures::LEGACY_EXCEPTIONS, "legacy exceptions (the standard form is supported)"),
    (WasmFeatures::CUSTOM_DESCRIPTORS, "custom descriptors"),
];

/// Returns the names of the features that a module needs and the engine does not run; `None` if it is invalid for
/// another reason. `valid` returns whether the module is valid with these features.
pub(super) fn needed(valid: impl Fn(WasmFeatures) -> bool) -> Option<String> {
    let all = OFF.iter().fold(ours(), |all, (feature, _)| all | *feature);
    if !valid(all) {
        return None;
    }
    let mut needed: Vec<&str> =
        OFF.iter().filter(|(feature, _)| !valid(all & !*feature)).map(|(_, name)| *name).collect();
    needed.dedup();
    (!needed.is_empty()).then(|| needed.join(" and "))
}
