//! Explains why a guest stopped.
//!
//! In: wasmtime's error, and the guest's store. Out: one coded error, with a backtrace if there is one. Must not
//! know: the caller, the module's name.

use std::fmt;

use wasmtime::component::{Resource, ResourceTableError};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};
use wasmtime_wasi::{I32Exit, WasiView as _};

use super::canonical;
use crate::base::error::{Code, Effect, Error};
use crate::base::inert;
use crate::base::limits::{self, Limits};
use crate::call::streams::OutputLimit;
use crate::imports::nodes::Denied;
use crate::imports::state::{Refused, State, out_of_memory};
use crate::modules::names::at_most;

/// The most frames that a backtrace shows.
const FRAMES: usize = 20;

/// The longest function name that a frame shows, in bytes.
const LONGEST_NAME: usize = 200;

/// Returns the coded error of a guest that wasmtime stopped.
pub(super) fn explain(error: wasmtime::Error, store: &mut Store<State>, limits: &Limits) -> Error {
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return Error::new(Code::GuestExit, format!("the guest exited with status {status}"))
            .with_exit(*status)
            .with_effect(Effect::RanAndFailed);
    }
    if let Some(limit) = error.downcast_ref::<OutputLimit>() {
        return exceeded(limit.to_string());
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Error::new(Code::Overloaded, "this process has no room for another instance").with_help(
            "try again when less runs on this node, or drop live instances; on Linux, `vm.max_map_count` \
                 limits their number",
        );
    }
    if out_of_memory(&error) {
        // A backtrace means that the guest had started.
        let effect = if error.is::<WasmBacktrace>() { Effect::RanAndFailed } else { Effect::NotStarted };
        return no_memory().with_effect(effect);
    }
    if let Some(Denied(denied)) = error.downcast_ref() {
        return denied.again().with_effect(Effect::RanAndFailed);
    }
    if let Some(fault) = error.downcast_ref::<canonical::Fault>() {
        return fault.clone().into();
    }
    let trap = error.downcast_ref::<Trap>().copied();
    let explained = match (trap, store.data().limiter.refused) {
        (Some(Trap::OutOfFuel), _) => {
            exceeded(format!("the call used all of its {} units of fuel", limits.fuel.unwrap_or_default()))
                .with_help("raise the limit with `--fuel`, here and on the node that runs the call")
        }
        (Some(Trap::StackOverflow), _) => {
            exceeded(format!("the guest needs more than {} KiB of stack", limits::WASM_STACK >> 10))
        }
        (_, Some(Refused::Memory { asked, most })) => {
            let (asked, most) = limits::beyond(asked, most);
            exceeded(format!("the guest asked for {asked} of memory, and its limit is {most}"))
                .with_help("raise the limit with `--max-memory`, here and on the node that runs the call")
        }
        (_, Some(Refused::System)) => no_memory(),
        (_, Some(Refused::Table { asked })) => exceeded(format!(
            "the guest asked for a table of {asked} elements, and the limit is {}",
            limits::TABLE_ELEMENTS
        )),
        // The largest object that wasmtime supports is larger than the limit can be.
        (Some(Trap::AllocationTooLarge), None) => exceeded(format!(
            "the guest asked for an object of more memory than its limit of {}",
            limits::bytes(limits.memory.unwrap_or(limits::MEMORY))
        ))
        .with_help("raise the limit with `--max-memory`, here and on the node that runs the call"),
        (Some(trap), None) => Error::new(Code::Trap, trap_words(trap)),
        (None, None) => untyped(&error, store),
    };
    let explained = explained.with_effect(Effect::RanAndFailed);
    match error.downcast_ref::<WasmBacktrace>().and_then(backtrace) {
        Some(lines) => explained.with_context(lines),
        None => explained,
    }
}

/// Explains an error that is neither a trap of wasm nor one of our types. Instances, memories and tables are counted
/// before a module is compiled (`room.rs`), so their limits do not appear here.
fn untyped(error: &wasmtime::Error, store: &mut Store<State>) -> Error {
    if error.chain().any(|cause| matches!(cause.downcast_ref(), Some(ResourceTableError::Full))) {
        let most = store.data_mut().ctx().table.max_capacity();
        return exceeded(format!("the guest uses more than {most} resources of its host"));
    }
    let root = error.root_cause().to_string();
    if hostcall_fuel::is_exhausted(&root) {
        let most = limits::bytes(limits::HOSTCALL_FUEL as u64);
        return exceeded(format!("the guest passed more than {most} to its host in one call"));
    }
    if let Some(asked) = random_bytes::are_too_many(&root) {
        let (asked, most) = limits::beyond(asked, limits::RANDOM_BYTES);
        return exceeded(format!(
            "the guest asked for {asked} of random numbers at once, and the limit is {most}"
        ));
    }
    if holds_all_handles(store) {
        return exceeded(format!("the guest needs more than {} resource handles", limits::HANDLES));
    }
    Error::new(Code::Trap, root)
}

/// Whether the guest holds as many resource handles as it may. wasmtime's error for one more has no type, so this
/// asks for one more itself. The store is not used again after a failure, so the handle may stay.
fn holds_all_handles(store: &mut Store<State>) -> bool {
    struct OneMore;
    let one_more = Resource::<OneMore>::new_own(0).try_into_resource_any(store);
    one_more.is_err_and(|error| !out_of_memory(&error))
}

/// With [`random_bytes`], the only place in GVM that recognises an error by its text.
///
/// A guest may hand only so many bytes to the functions of its host in one call (`Store::set_hostcall_fuel`).
/// wasmtime reads those arguments before the host function begins. Its error type, `HostcallFuelExhausted`, is
/// private (`wasmtime/src/runtime/component/func/options.rs`), it cannot be named in a downcast, no API tells how
/// much fuel is left, and a host function of WASI cannot read its own arguments. For results, which `canonical`
/// reads itself, the error has a type. The test `arguments_for_the_host_have_a_limit` in `tests/e2e/taken.rs`
/// fails when wasmtime changes the text.
mod hostcall_fuel {
    pub(super) fn is_exhausted(root_cause: &str) -> bool {
        root_cause.contains("fuel allocated for hostcalls has been exhausted")
    }
}

/// `wasmtime-wasi` bounds the random bytes of one request, and its error has no type
/// (`wasmtime-wasi/src/p2/host/random.rs`). The module `random-large-p1.wat` in `tests/hostile` fails when the text
/// changes.
mod random_bytes {
    use crate::base::limits;

    /// Returns how many bytes the guest asked for, if they were too many.
    pub(super) fn are_too_many(root_cause: &str) -> Option<u64> {
        let most = limits::RANDOM_BYTES.to_string();
        let asked = root_cause
            .strip_prefix("requested len ")?
            .strip_suffix(&most)?
            .strip_suffix(" exceeds limit ")?;
        asked.parse().ok()
    }
}

fn no_memory() -> Error {
    Error::new(Code::Overloaded, "the system has no free memory for the guest").with_help(
        "try again when less runs on this device; `ulimit -v` and `vm.max_map_count` limit a process",
    )
}

fn exceeded(message: String) -> Error {
    Error::new(Code::LimitExceeded, message).with_effect(Effect::RanAndFailed)
}

fn trap_words(trap: Trap) -> String {
    let words = trap.to_string();
    words.strip_prefix("wasm trap: ").map(str::to_owned).unwrap_or(words)
}

/// Returns the guest's frames, innermost first, with the names from the module.
fn backtrace(trace: &WasmBacktrace) -> Option<String> {
    let frames = trace.frames();
    let mut lines: Vec<String> = frames
        .iter()
        .take(FRAMES)
        .map(|frame| {
            let name = match frame.func_name() {
                Some(name) => at_most(LONGEST_NAME * 4, &Demangled(name)).unwrap_or_else(|cut| cut),
                None => format!("function {}", frame.func_index()),
            };
            // The name section of a module can contain any text.
            let name = at_most(LONGEST_NAME, &inert::line(&name)).unwrap_or_else(|cut| cut + "…");
            match frame.module_offset() {
                Some(offset) => format!("  at {name} (wasm {offset:#x})"),
                None => format!("  at {name}"),
            }
        })
        .collect();
    if frames.len() > FRAMES {
        lines.push(format!("  … and {} more", frames.len() - FRAMES));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Writes a mangled Rust name as its author wrote it, and any other name unchanged. A mangled name of a few bytes can
/// decode to megabytes, so it is decoded only as far as it is shown.
struct Demangled<'a>(&'a str);

impl fmt::Display for Demangled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match rustc_demangle::try_demangle(self.0) {
            Ok(name) => write!(f, "{name:#}"),
            Err(_) => f.write_str(self.0),
        }
    }
}
