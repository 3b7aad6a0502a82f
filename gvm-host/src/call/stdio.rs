//! The streams of one call, and what the guest learns about them.
//!
//! In: limits, the source of the input, whether each stream is a terminal. Out: one value that the guest and the
//! caller share while the call runs. Must not know: how either side reads and writes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::limits::{self, Limits};
use crate::base::shared::Shared;
use crate::call::streams::{Input, Output};

/// What a call waits for before it runs, as text for progress messages. Clones share the state.
#[derive(Clone, Default)]
pub struct Preparing(Shared<Mutex<Option<String>>>);

/// The call waits until this is dropped.
pub struct Waits<'a>(&'a Preparing);

impl Preparing {
    /// Sets what the call waits for, until the result is dropped.
    pub fn begin(&self, what: String) -> Waits<'_> {
        *self.lock() = Some(what);
        Waits(self)
    }

    /// Returns what the call waits for now.
    pub fn what(&self) -> Option<String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.get().lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

/// The streams of one call, and what the guest learns about them. Clones share the streams, which are allocated when
/// they are first used or cloned.
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

/// Which of the standard streams are terminals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminals {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

impl Stdio {
    /// Takes the streams, and leaves others that nobody reads.
    pub(crate) fn take(&mut self) -> Stdio {
        let none = Stdio { output: Output::new(0), preparing: Preparing::default(), input: None, ..*self };
        std::mem::replace(self, none)
    }

    /// Returns which of the streams are terminals.
    pub(crate) fn terminals(&self) -> Terminals {
        Terminals { stdin: self.stdin_terminal, stdout: self.stdout_terminal, stderr: self.stderr_terminal }
    }

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
