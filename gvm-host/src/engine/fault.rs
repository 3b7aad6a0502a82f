//! What stopped a guest, in our codes.
//!
//! In: wasmtime's error and what the limiter refused. Out: one coded error with a backtrace where there
//! is one. The one place that reads wasmtime's errors. Must not know: who hears of it.

use rustix::io::Errno;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::canonical;
use super::instance::Refused;
use super::streams::OutputLimit;
use crate::error::{Code, Effect, Error};
use crate::imports::nodes::Denied;
use crate::inert;
use crate::limits::{self, Limits};

/// Frames of a backtrace that a person is shown.
const FRAMES: usize = 20;

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
        (_, Some(Refused::Memory { asked, most })) => exceeded(format!(
            "the guest wanted {} of memory and may have {} (--max-memory)",
            bytes(asked),
            bytes(most)
        )),
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

/// What is neither a trap of wasm's own nor one of ours, told by the words it has.
fn other(error: &wasmtime::Error) -> Error {
    let root = error.root_cause().to_string();
    let limits =
        ["table too large", "instance count too high", "memory count too high", "table count too high"];
    if limits.iter().any(|limit| root.contains(limit)) || root.contains("exceeds the limit of") {
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

/// Whether the system refused memory, or another mapping of it: to this process, whatever the guest asked for.
pub(super) fn out_of_memory(error: &wasmtime::Error) -> bool {
    error.is::<wasmtime::OutOfMemory>()
        || error.chain().any(|cause| {
            let errno = cause.downcast_ref::<Errno>().copied();
            let errno = errno.or_else(|| cause.downcast_ref().and_then(Errno::from_io_error));
            errno == Some(Errno::NOMEM)
        })
}

fn exceeded(message: String) -> Error {
    Error::new(Code::LimitExceeded, message).with_effect(Effect::RanAndFailed)
}

fn bytes(count: u64) -> String {
    bytesize::ByteSize(count).display().iec().to_string()
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
                Some(name) => demangled(name),
                None => format!("function {}", frame.func_index()),
            };
            // The name section of a module holds any text.
            let name = inert::line(&name);
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

/// Mangled Rust names as their authors wrote them; others as they are.
fn demangled(name: &str) -> String {
    match rustc_demangle::try_demangle(name) {
        Ok(name) => format!("{name:#}"),
        Err(_) => name.to_owned(),
    }
}
