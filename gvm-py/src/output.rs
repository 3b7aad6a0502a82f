//! Writes the output of guests to the streams of the caller.
//!
//! In: chunks of bytes. Out: text for `sys.stdout` and `sys.stderr` (in a notebook: those of the cell that
//! made the call), or for the functions that the caller passed instead. Must not know: how calls run.

use std::cell::RefCell;
use std::sync::Arc;

use gvm_host::text::sanitize::Sanitizer;
use gvm_host::{Chunk, Stream};
use pyo3::intern;
use pyo3::prelude::*;
use uuid::Uuid;

use crate::options::Sinks;

thread_local! {
    /// The calls whose output is being written on this thread, outermost first.
    static ABOVE: RefCell<Vec<Uuid>> = const { RefCell::new(Vec::new()) };
}

/// Returns the calls around a call that is made on this thread. A function that receives output may make
/// calls. A call back to the live instance that writes would wait for itself, so it is refused.
pub fn above() -> Vec<Uuid> {
    ABOVE.with_borrow(Vec::clone)
}

struct Above;

impl Above {
    fn enter(call: Uuid) -> Above {
        ABOVE.with_borrow_mut(|above| above.push(call));
        Above
    }
}

impl Drop for Above {
    fn drop(&mut self) {
        ABOVE.with_borrow_mut(Vec::pop);
    }
}

/// Writes the output of one call.
pub struct Writer {
    call: Uuid,
    sinks: Arc<Sinks>,
    /// Where the call was made, if another thread writes.
    origin: Option<Origin>,
    stdout: Side,
    stderr: Side,
    used: bool,
}

/// The context of the code that made the call, for a writer on another thread. A notebook finds the cell with
/// it.
pub struct Origin {
    pub context: Py<PyAny>,
    pub stdout: Py<PyAny>,
    pub stderr: Py<PyAny>,
}

#[derive(Default)]
struct Side {
    /// The bytes of a character that is not complete yet.
    rest: Vec<u8>,
    sanitizer: Sanitizer,
    terminal: Option<bool>,
}

impl Writer {
    /// Makes a writer for the thread that makes the call.
    pub fn here(call: Uuid, sinks: Arc<Sinks>) -> Writer {
        Writer { call, sinks, origin: None, stdout: Side::default(), stderr: Side::default(), used: false }
    }

    /// Makes a writer that writes later or from another thread, to the streams and the context of this
    /// thread.
    ///
    /// # Errors
    /// What Python raises when it is asked for them.
    pub fn from_here(py: Python<'_>, call: Uuid, sinks: Arc<Sinks>) -> PyResult<Writer> {
        let sys = py.import(intern!(py, "sys"))?;
        let context = py.import(intern!(py, "contextvars"))?.call_method0(intern!(py, "copy_context"))?;
        let origin = Origin {
            context: context.unbind(),
            stdout: sys.getattr(intern!(py, "stdout"))?.unbind(),
            stderr: sys.getattr(intern!(py, "stderr"))?.unbind(),
        };
        Ok(Writer::from(call, sinks, origin))
    }

    /// Makes a writer that writes later or from another thread, to these streams and in this context. No other code
    /// enters the context.
    pub fn from(call: Uuid, sinks: Arc<Sinks>, origin: Origin) -> Writer {
        Writer { origin: Some(origin), ..Writer::here(call, sinks) }
    }

    /// Writes these chunks.
    ///
    /// # Errors
    /// What the function or the file raises.
    pub fn write(&mut self, py: Python<'_>, chunks: &[Chunk]) -> PyResult<()> {
        self.used = true;
        let _above = Above::enter(self.call);
        for chunk in chunks {
            self.put(py, chunk.stream, |side, terminal| side.feed(&chunk.data, terminal))?;
        }
        Ok(())
    }

    /// Writes the bytes of characters that never became complete.
    ///
    /// # Errors
    /// See [`Writer::write`].
    pub fn finish(&mut self, py: Python<'_>) -> PyResult<()> {
        if !self.used {
            return Ok(());
        }
        self.put(py, Stream::Stdout, Side::finish)?;
        self.put(py, Stream::Stderr, Side::finish)
    }

    fn put(
        &mut self,
        py: Python<'_>,
        stream: Stream,
        text: impl FnOnce(&mut Side, bool) -> String,
    ) -> PyResult<()> {
        let (side, given, name) = match stream {
            Stream::Stdout => (&mut self.stdout, &self.sinks.stdout, intern!(py, "stdout")),
            Stream::Stderr => (&mut self.stderr, &self.sinks.stderr, intern!(py, "stderr")),
        };
        let file = match (&self.origin, stream) {
            _ if given.is_some() => None,
            (Some(origin), Stream::Stdout) => Some(origin.stdout.bind(py).clone()),
            (Some(origin), Stream::Stderr) => Some(origin.stderr.bind(py).clone()),
            (None, _) => Some(py.import(intern!(py, "sys"))?.getattr(name)?),
        };
        let write = match (given, &file) {
            (Some(given), _) => given.bind(py).clone(),
            // In a process without standard output (pythonw), the stream is None.
            (None, Some(file)) if file.is_none() => return Ok(()),
            (None, Some(file)) => file.getattr(intern!(py, "write"))?,
            (None, None) => return Ok(()),
        };
        let terminal = *side.terminal.get_or_insert_with(|| file.as_ref().is_some_and(is_terminal));
        let text = text(side, terminal);
        if text.is_empty() {
            return Ok(());
        }
        match &self.origin {
            Some(origin) => origin.context.bind(py).call_method1(intern!(py, "run"), (write, text))?,
            None => write.call1((text,))?,
        };
        Ok(())
    }
}

/// Returns whether a file is a terminal. On a terminal, control sequences of guests are made harmless.
fn is_terminal(file: &Bound<'_, PyAny>) -> bool {
    let answer = file.call_method0(intern!(file.py(), "isatty"));
    answer.and_then(|answer| answer.is_truthy()).unwrap_or(false)
}

impl Side {
    fn feed(&mut self, bytes: &[u8], terminal: bool) -> String {
        if terminal {
            return self.sanitizer.feed(bytes);
        }
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let whole = match all.utf8_chunks().last() {
            // At most three bytes can be the beginning of a character.
            Some(last) if is_beginning(last.invalid()) => all.len() - last.invalid().len(),
            _ => all.len(),
        };
        self.rest = all.split_off(whole);
        String::from_utf8_lossy(&all).into_owned()
    }

    fn finish(&mut self, terminal: bool) -> String {
        match terminal {
            true => self.sanitizer.finish(),
            false => String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned(),
        }
    }
}

/// Returns whether these bytes are the beginning of a character.
fn is_beginning(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
