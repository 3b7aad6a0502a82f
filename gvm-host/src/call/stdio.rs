//! The streams of one call, and what the guest learns about them.
//!
//! In: limits, the source of the input, whether each stream is a terminal. Out: one value that the guest and the
//! caller share while the call runs. Must not know: how either side reads and writes.

use std::sync::{Arc, Mutex, PoisonError};

use crate::base::limits::{self, Limits};
use crate::call::streams::{Input, Output};

/// What a call waits for before it runs, as text for progress messages. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Preparing(Arc<Mutex<Option<String>>>);

/// The call waits until this is dropped.
pub struct Waits<'a>(&'a Preparing);

impl Preparing {
    /// Sets what the call waits for, until the result is dropped.
    pub fn begin(&self, what: String) -> Waits<'_> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
        Waits(self)
    }

    /// Returns what the call waits for now.
    pub fn what(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The streams of one call, and what the guest learns about them. Clones share the streams.
#[derive(Clone)]
pub struct Stdio {
    pub output: Output,
    pub preparing: Preparing,
    /// `None` is an empty input.
    pub input: Option<Input>,
    pub stdin_terminal: bool,
    pub stdout_terminal: bool,
    pub stderr_terminal: bool,
}

impl Stdio {
    /// Creates streams without input and without a terminal. The limit of the output is that of `limits`.
    pub fn new(limits: &Limits) -> Stdio {
        Stdio {
            output: Output::new(limits.output.unwrap_or(limits::OUTPUT)),
            preparing: Preparing::default(),
            input: None,
            stdin_terminal: false,
            stdout_terminal: false,
            stderr_terminal: false,
        }
    }
}
