//! What stopped a guest, in our codes.
//!
//! In: wasmtime's error and what the limiter refused. Out: one coded error with a backtrace where there
//! is one. The one place that reads wasmtime's errors. Must not know: who hears of it.

use std::fmt;

use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::canonical;
use crate::base::error::{Code, Effect, Error};
use crate::base::inert;
use crate::base::limits::{self, Limits};
use crate::call::streams::OutputLimit;
use crate::imports::nodes::Denied;
use crate::imports::state::{Refused, out_of_memory};
use crate::modules::names::at_most;

/// Frames of a backtrace that a person is shown.
const FRAMES: usize = 20;

/// The longest name of a function that a frame shows, in bytes.
const LONGEST_NAME: usize = 200;

/// The coded error of a guest that wasmtime stopped.
pub(super) fn explain(error: wasmtime::Error, refused: Option<Refused>, limits: &Limits) -> Error {
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return Error::new(Code::GuestExit, format!("the guest exited with status {status}"))
            .with_exit(*status)
            .with_effect(Effect::RanAndFailed);
    }
    if let Some(limit) = error.downcast_ref::<OutputLimit>() {
        return exceeded(limit.to_string());
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Error::new(
            Code::Overloaded,
            "this process has no room for another instance: try again later",
        );
    }
    // Code that an earlier version compiled: a module is looked at before it is.
    if error.root_cause().to_string().contains("shared memory support is disabled") {
        return Error::new(
            Code::ModuleInvalid,
            "the module cannot be run: it needs threads, which GVM does not run",
        );
    }
    if out_of_memory(&error) {
        // With a backtrace the guest had begun.
        let effect = if error.is::<WasmBacktrace>() { Effect::RanAndFailed } else { Effect::NotStarted };
        return no_memory().with_effect(effect);
    }
    if let Some(Denied(denied)) = error.downcast_ref() {
        return Error::new(denied.code(), denied.message().to_owned()).with_effect(Effect::RanAndFailed);
    }
    if let Some(fault) = error.downcast_ref::<canonical::Fault>() {
        return fault.clone().into();
    }
    let trap = error.downcast_ref::<Trap>().copied();
    let explained = match (trap, refused) {
        (Some(Trap::OutOfFuel), _) => {
            exceeded(format!("the call used up its {} units of fuel", limits.fuel.unwrap_or_default()))
        }
        (Some(Trap::StackOverflow), _) => {
            exceeded(format!("the guest's stack outgrew {} KiB", limits::WASM_STACK >> 10))
        }
        (_, Some(Refused::Memory { asked, most })) => {
            let (asked, most) = limits::beyond(asked, most);
            exceeded(format!("the guest wanted {asked} of memory and may have {most} (--max-memory)"))
        }
        (_, Some(Refused::System)) => no_memory(),
        (_, Some(Refused::Table { asked })) => exceeded(format!(
            "the guest wanted a table of {asked} elements and may have {}",
            limits::TABLE_ELEMENTS
        )),
        (Some(trap), None) => Error::new(Code::Trap, trap_words(trap)),
        (None, None) => other(&error),
    };
    let explained = explained.with_effect(Effect::RanAndFailed);
    match error.downcast_ref::<WasmBacktrace>().and_then(backtrace) {
        Some(lines) => explained.with_context(lines),
        None => explained,
    }
}

/// Limits that wasmtime tells by words alone, and what each is in ours. It has no types for them.
const LIMITS: [(&str, &str, usize); 6] = [
    ("instance count too high", "instances of core modules", limits::INSTANCES),
    ("memory count too high", "memories", limits::MEMORIES),
    ("table count too high", "tables", limits::TABLES),
    ("store handle limit exceeded", "resource handles", limits::HANDLES),
    ("cannot allocate another handle", "resource handles", limits::HANDLES),
    ("table has no free keys", "resources of its host", limits::HANDLES),
];

/// What is neither a trap of wasm's own nor one of ours, told by the words it has.
fn other(error: &wasmtime::Error) -> Error {
    let root = error.root_cause().to_string();
    if let Some((_, what, most)) = LIMITS.iter().find(|(words, ..)| root.contains(words)) {
        return exceeded(format!("the guest wanted more than {most} {what}"));
    }
    if root.contains("fuel allocated for hostcalls") {
        let most = limits::bytes(limits::HOSTCALL_FUEL as u64);
        return exceeded(format!("the guest handed more than {most} to its host in one call"));
    }
    if root.contains("table too large") || root.contains("exceeds the limit of") {
        return exceeded(root);
    }
    Error::new(Code::Trap, root)
}

fn no_memory() -> Error {
    Error::new(
        Code::Overloaded,
        "the system has no memory for the guest (see `ulimit -v`): try again when less runs here",
    )
}

fn exceeded(message: String) -> Error {
    Error::new(Code::LimitExceeded, message).with_effect(Effect::RanAndFailed)
}

fn trap_words(trap: Trap) -> String {
    let words = trap.to_string();
    words.strip_prefix("wasm trap: ").map(str::to_owned).unwrap_or(words)
}

/// The guest's frames, innermost first, with the names that the module has.
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
            // The name section of a module holds any text.
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

/// A mangled Rust name as its author wrote it; others as they are. What a name of a few bytes stands for may be
/// megabytes long, so it is written only as far as it is shown.
struct Demangled<'a>(&'a str);

impl fmt::Display for Demangled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match rustc_demangle::try_demangle(self.0) {
            Ok(name) => write!(f, "{name:#}"),
            Err(_) => f.write_str(self.0),
        }
    }
}
