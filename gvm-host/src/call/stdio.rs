//! The streams of one call, and what the guest is told of them.
//!
//! In: limits, the source of input, whether terminals show the output. Out: what the guest's side and the
//! caller's side share while the call runs. Must not know: who is at either side.

use std::sync::{Arc, Mutex, PoisonError};

use crate::base::limits::{self, Limits};
use crate::call::streams::{Input, Output};

/// What a call waits for before it runs, in words for whoever shows it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Preparing(Arc<Mutex<Option<String>>>);

/// It waits for as long as this lives.
pub struct Waits<'a>(&'a Preparing);

impl Preparing {
    /// Begins to wait.
    pub fn begin(&self, what: String) -> Waits<'_> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
        Waits(self)
    }

    /// What it waits for now.
    pub fn what(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The streams of one call and what the guest is told of them.
#[derive(Clone)]
pub struct Stdio {
    pub output: Output,
    pub preparing: Preparing,
    /// None is an input that is empty.
    pub input: Option<Input>,
    pub stdin_terminal: bool,
    pub stdout_terminal: bool,
    pub stderr_terminal: bool,
}

impl Stdio {
    /// Output up to a limit that no terminal shows, and no input.
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
